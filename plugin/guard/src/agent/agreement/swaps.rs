//! Changes of the term, each one compare-and-swap on what was looked at.

use std::collections::{BTreeMap, BTreeSet};

use ha_core::{
    agreement::{Ancestor, Campaign, History, Node, Term},
    lsn::{Lsn, Position},
};
use ha_store::{Entry, Revision, StoreError, Swap, Write};
use jiff::Timestamp;

use super::{Agreement, Basis, lock};

/// How a change of the store came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Swapped {
    /// It is in the store, and in the next look.
    Done,
    /// Something it was decided on is no longer so; nothing was changed. Look again.
    Changed,
    /// It may have happened, or may yet. Look again: until something else succeeds, the look is not `affirmed`.
    Unknown(String),
    /// Nothing was changed.
    Failed(String),
}

/// The terms that this guard sent.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// Not answered; each can take effect as long as the term is still at the revision it compares.
    open: Vec<(Revision, Term)>,
    /// One was answered with success. Whatever an earlier life of this guard had sent compares an older revision.
    done: bool,
}

impl Sent {
    pub(super) fn affirmed(&self, at: Revision) -> bool {
        self.done && self.open.iter().all(|(seen, _)| *seen != at)
    }

    /// Before anything leaves: should nobody wait for the answer any more, it stays open.
    fn begin(&mut self, seen: Revision, term: &Term) {
        self.open.retain(|(before, _)| *before == seen);
        self.open.push((seen, term.clone()));
    }

    /// The last one was not carried out, and will not be.
    fn refused(&mut self) {
        self.open.pop();
    }

    fn succeeded(&mut self) {
        self.open.clear();
        self.done = true;
    }
}

impl Agreement {
    /// The first term of a cluster that has none, and its history.
    pub(crate) async fn found(&self, basis: &Basis, first: Term, history: History) -> Swapped {
        if basis.term != Revision::ABSENT {
            return Swapped::Changed;
        }
        *lock(&self.history) = Some(history);
        let swapped = self.swap(basis, &first, &[]).await;
        self.write_history().await;
        swapped
    }

    /// The next epoch, in which nobody may write. Only without a pause in force, and if nobody pauses meanwhile; with
    /// `compare_lease`, only if the lease is still as it was looked at.
    pub(crate) async fn campaign(&self, basis: &Basis, campaign: Campaign, compare_lease: bool) -> Swapped {
        if self.known().paused(Timestamp::now()).is_some() {
            return Swapped::Changed;
        }
        let (pause, lease) = (self.cluster.keys.pause(), self.cluster.keys.lease());
        let mut unchanged = vec![(pause.as_str(), basis.pause)];
        if compare_lease {
            unchanged.push((lease.as_str(), basis.lease));
        }
        self.step(basis, &unchanged, |term| Some(term.campaign(campaign))).await
    }

    /// This node is to be the primary, of these seals.
    pub(crate) async fn choose(&self, basis: &Basis, sealed: BTreeMap<Node, Position>) -> Swapped {
        self.step(basis, &[], |term| term.choose(&self.me, sealed, Timestamp::now()))
            .await
    }

    /// This node is primary, on the epoch's timeline, which left timeline `from` at `start`. The history follows; if
    /// that fails, it is written later.
    pub(crate) async fn publish(
        &self,
        basis: &Basis,
        start: Lsn,
        from: u32,
        lineage_before: &[Ancestor],
        history: History,
    ) -> Swapped {
        *lock(&self.history) = Some(history);
        let swapped = self
            .step(basis, &[], |term| {
                term.publish(&self.me, start, from, lineage_before, Timestamp::now())
            })
            .await;
        self.write_history().await;
        swapped
    }

    /// In the order of protocol §4: stronger after it is enforced, weaker before. While a look is not
    /// `affirmed`, a term that was sent before counts as much as the one in the store. Who `joins` has not reported anything new since it was looked at.
    pub(crate) async fn set_voters(
        &self,
        basis: &Basis,
        voters: BTreeSet<Node>,
        acks: u32,
        joins: Option<&Node>,
    ) -> Swapped {
        let joins = joins.map(|node| {
            let seen = basis.members.get(node).copied().unwrap_or(Revision::ABSENT);
            (self.cluster.keys.member(node), seen)
        });
        let unchanged: Vec<(&str, Revision)> = joins.iter().map(|(key, seen)| (key.as_str(), *seen)).collect();
        self.step(basis, &unchanged, |term| {
            Some(term.with_voters(voters, acks, &self.me, Timestamp::now()))
        })
        .await
    }

    /// The same epoch goes on; only after this is done may the database be started again.
    pub(crate) async fn undo_switch(&self, basis: &Basis, why: &str) -> Swapped {
        self.step(basis, &[], |term| term.undo_switch(&self.me, why, Timestamp::now()))
            .await
    }

    /// The next epoch, with the target of the switchover chosen.
    pub(crate) async fn hand_over(&self, basis: &Basis, stopped_at: Position, target: Position) -> Swapped {
        self.step(basis, &[], |term| term.hand_over(stopped_at, target, Timestamp::now()))
            .await
    }

    /// A term of this guard's making that was not answered and may yet take effect.
    #[cfg(test)]
    pub(super) fn in_doubt(&self) -> Option<Term> {
        let at = self.known().term_revision();
        let sent = lock(&self.sent);
        sent.open.iter().rfind(|(seen, _)| *seen == at).map(|it| it.1.clone())
    }

    async fn step(
        &self,
        basis: &Basis,
        unchanged: &[(&str, Revision)],
        next: impl FnOnce(&Term) -> Option<Term>,
    ) -> Swapped {
        let next = {
            let known = self.known();
            let Some(term) = known.term().filter(|it| it.revision == basis.term) else {
                return Swapped::Changed;
            };
            next(&term.value)
        };
        match next {
            Some(next) => self.swap(basis, &next, unchanged).await,
            // What it was decided on does not allow it.
            None => Swapped::Changed,
        }
    }

    pub(super) async fn swap(&self, basis: &Basis, next: &Term, unchanged: &[(&str, Revision)]) -> Swapped {
        let _one = self.turn.lock().await;
        {
            let known = self.known();
            if let Some(why) = known.went_back() {
                return Swapped::Failed(why.to_owned());
            }
            if known.term_revision() != basis.term {
                return Swapped::Changed;
            }
        }
        let key = self.cluster.keys.term();
        let value = match serde_json::to_vec(next) {
            Ok(value) => value,
            Err(error) => return Swapped::Failed(error.to_string()),
        };
        let write = Write {
            unchanged,
            ..Write::replace(&key, value.clone(), basis.term)
        };
        let sent = self.clocks.now();
        lock(&self.sent).begin(basis.term, next);
        match self.cluster.store.compare_and_swap(write).await {
            Ok(Swap::Done(revision)) => {
                lock(&self.sent).succeeded();
                self.learn(&key, Some(&Entry { value, revision }), revision, sent);
                Swapped::Done
            }
            Ok(Swap::Changed(found)) => {
                lock(&self.sent).refused();
                if let Some(found) = &found {
                    self.learn(&key, Some(found), found.revision, sent);
                }
                // What else was compared, or a term that is gone, only a listing tells.
                self.read_again();
                Swapped::Changed
            }
            Err(StoreError::OutcomeUnknown { reason, .. }) => self.resolve(&key, &value, basis.term, reason).await,
            Err(error) => {
                lock(&self.sent).refused();
                Swapped::Failed(error.to_string())
            }
        }
    }

    /// Reads what came of a term that was not answered.
    async fn resolve(&self, key: &str, value: &[u8], seen: Revision, reason: String) -> Swapped {
        let sent = self.clocks.now();
        match self.cluster.store.get(key).await {
            Ok(Some(found)) => {
                self.learn(key, Some(&found), found.revision, sent);
                if found.value == value {
                    lock(&self.sent).succeeded();
                    Swapped::Done
                } else if found.revision != seen {
                    // It can no longer happen; that it did and was followed by another is the same from here on.
                    Swapped::Changed
                } else {
                    Swapped::Unknown(reason)
                }
            }
            Ok(None) => Swapped::Unknown(reason),
            Err(error) => Swapped::Unknown(format!("{reason}; {error}")),
        }
    }

    /// The history of the epoch that this guard published, if that epoch is the store's and its history is not there.
    /// What does not work is tried again with the next cycle.
    pub(super) async fn write_history(&self) {
        let Some(history) = lock(&self.history).clone() else {
            return;
        };
        {
            let known = self.known();
            let ours = known.term().is_some_and(|term| {
                let term = &term.value;
                term.epoch == history.epoch && term.leader == history.node && term.campaign.is_none()
            });
            if !ours {
                return;
            }
        }
        match self.cluster.add_history(&history).await {
            // Changed: it was there.
            Ok(Swap::Done(_) | Swap::Changed(_)) => {
                lock(&self.history).take_if(|it| it.epoch == history.epoch);
                self.known().histories.insert(history.epoch);
            }
            Err(error) => tracing::warn!(%error, epoch = history.epoch, "the epoch's history is not written yet"),
        }
    }
}
