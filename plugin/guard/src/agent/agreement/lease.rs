//! The lease, renewed by the leader (protocol §5). No clock but this guard's own is in it.

use std::time::Duration;

use ha_core::{
    agreement::{Epoch, Lease, Phase},
    decide::Holding,
    lsn::Position,
};
use ha_store::{Entry, Revision, StoreError, Swap, Write};
use jiff::Timestamp;

use super::{Agreement, Basis, Swapped, clocks::Moment, lock};

/// This guard as the holder.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// The last renewal that is known to have taken effect, and when it was sent.
    renewed: Option<(Epoch, Moment)>,
    sent: Option<Moment>,
    /// Sent, and not answered.
    doubt: Option<Unanswered>,
    counter: u64,
}

#[derive(Debug)]
struct Unanswered {
    value: Vec<u8>,
    epoch: Epoch,
    sent: Moment,
}

impl Held {
    pub(super) fn holding(&self, hold: Duration, now: Moment) -> Holding {
        Holding {
            epoch: self.renewed.map_or(0, |(epoch, _)| epoch),
            left: self
                .renewed
                .and_then(|(_, sent)| hold.checked_sub(now.largest_since(sent)))
                .filter(|left| !left.is_zero()),
            sent: self.sent.map(|sent| now.largest_since(sent)),
        }
    }

    /// It took effect; whoever waits for the lease counts from a moment that is not before `sent`.
    fn renewed(&mut self, epoch: Epoch, sent: Moment) {
        if self.renewed.is_none_or(|(_, before)| before < sent) {
            self.renewed = Some((epoch, sent));
        }
        self.doubt = None;
    }

    /// What lies in the store is the renewal that nobody answered.
    fn confirm(&mut self, found: &Entry) -> bool {
        match self.doubt.take_if(|it| it.value == found.value) {
            Some(it) => {
                self.renewed(it.epoch, it.sent);
                true
            }
            None => false,
        }
    }
}

impl Agreement {
    /// The lease is renewed, under the term that was looked at: until `hold` after now this node may act as the leader.
    ///
    /// An answer that was lost is neither success nor failure; the next renewal reads what came of it. Only one is under
    /// way at any time.
    pub(crate) async fn renew(&self, basis: &Basis, written: Option<Position>) -> Swapped {
        let Ok(_one) = self.renewing.try_lock() else {
            return Swapped::Failed("the renewal before is still under way".to_owned());
        };
        if let Some(why) = self.known().went_back() {
            return Swapped::Failed(why.to_owned());
        }
        let key = self.cluster.keys.lease();
        if lock(&self.held).doubt.is_some()
            && let Err(why) = self.look_at_lease(&key).await
        {
            return Swapped::Unknown(why);
        }
        let (epoch, expected, counter) = {
            let known = self.known();
            let Some(term) = known.term().filter(|it| it.revision == basis.term) else {
                return Swapped::Changed;
            };
            if term.value.leader != self.me || term.value.phase == Phase::Sealing {
                return Swapped::Changed;
            }
            let lease = known.lease();
            let expected = lease.map_or(Revision::ABSENT, |it| it.revision);
            (term.value.epoch, expected, lease.map_or(0, |it| it.value.counter))
        };
        let value = {
            let mut held = lock(&self.held);
            held.counter = held.counter.max(counter) + 1;
            let lease = Lease {
                epoch,
                node: self.me.clone(),
                counter: held.counter,
                written,
                sent_at: Timestamp::now(),
            };
            match serde_json::to_vec(&lease) {
                Ok(value) => value,
                Err(error) => return Swapped::Failed(error.to_string()),
            }
        };
        let term_key = self.cluster.keys.term();
        let write = Write {
            unchanged: &[(term_key.as_str(), basis.term)],
            ..Write::replace(&key, value.clone(), expected)
        };
        // Taken before anything leaves: whatever happens to it on its way only makes the deadline earlier.
        let sent = self.clocks.now();
        lock(&self.held).sent = Some(sent);
        let outcome = self.cluster.store.compare_and_swap(write).await;
        match outcome {
            Ok(Swap::Done(revision)) => {
                lock(&self.held).renewed(epoch, sent);
                self.feed();
                self.learn(&key, Some(&Entry { value, revision }), revision, sent);
                Swapped::Done
            }
            Ok(Swap::Changed(found)) => {
                if let Some(found) = &found {
                    lock(&self.held).confirm(found);
                    self.learn(&key, Some(found), found.revision, sent);
                }
                // The term may be what changed, or the key is gone: only a listing tells.
                self.read_again();
                Swapped::Changed
            }
            Err(StoreError::OutcomeUnknown { reason, .. }) => {
                lock(&self.held).doubt = Some(Unanswered { value, epoch, sent });
                Swapped::Unknown(reason)
            }
            Err(error) => Swapped::Failed(error.to_string()),
        }
    }

    /// What came of the renewal that was not answered. It may still come later; then the next one finds it.
    async fn look_at_lease(&self, key: &str) -> Result<(), String> {
        let sent = self.clocks.now();
        let found = self.cluster.store.get(key).await.map_err(|error| error.to_string())?;
        if let Some(found) = found {
            if lock(&self.held).confirm(&found) {
                self.feed();
            }
            self.learn(key, Some(&found), found.revision, sent);
        }
        Ok(())
    }

    /// Armed with the first renewal, fed with each; never by anything else.
    fn feed(&self) {
        if let Some(watchdog) = lock(&self.watchdog).as_mut()
            && let Err(error) = watchdog.feed()
        {
            tracing::error!(%error, "the watchdog cannot be fed");
        }
    }

    /// The store answered with this, asked at `sent`.
    pub(super) fn learn(&self, key: &str, entry: Option<&Entry>, as_of: Revision, sent: Moment) {
        let now = self.clocks.now();
        let news = {
            let mut known = self.known();
            known.answered(sent);
            known.put(key, entry, as_of, now)
        };
        self.news(news);
    }
}
