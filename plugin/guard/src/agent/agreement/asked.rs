//! What a person asks of this guard (`ask/<node>`), and the answer.

use std::sync::Arc;

use ha_core::agreement::Ask;
use ha_store::{Revision, StoreError, Swap, Write};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{Agreement, lock};

/// How a wish came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Done,
    Refused(String),
}

/// Given, and not read in the store yet.
#[derive(Clone, Debug)]
pub(super) struct Answered {
    op: String,
    answer: Answer,
}

impl Agreement {
    /// What is asked for and was not answered yet.
    pub(crate) fn asked(&self) -> Option<Ask> {
        let ask = self.known().ask().map(|it| it.value.clone())?;
        let answered = lock(&self.answered).as_ref().is_some_and(|it| it.op == ask.op);
        (!answered && ask.refused.is_none()).then_some(ask)
    }

    /// It is asked for no more, from this moment on; whoever asked reads so in the store as soon as that answers.
    pub(crate) fn answer(&self, ask: &Ask, answer: Answer) {
        *lock(&self.answered) = Some(Answered {
            op: ask.op.clone(),
            answer,
        });
        self.news(true);
    }

    /// The answer is in the store, or nobody waits for it.
    async fn write_answer(&self) -> Result<(), StoreError> {
        let Some(answered) = lock(&self.answered).clone() else {
            return Ok(());
        };
        let (ask, revision) = {
            let known = self.known();
            match known.ask().filter(|it| it.value.op == answered.op) {
                Some(kept) if kept.value.refused.is_none() => (kept.value.clone(), kept.revision),
                _ => return Ok(()),
            }
        };
        let key = self.cluster.keys.ask(&self.me);
        let swapped = self.put_answer(&key, &ask, revision, answered.answer).await?;
        if let Swap::Changed(_) = swapped {
            // Taken back, or asked anew.
            self.read_again();
        }
        Ok(())
    }

    async fn put_answer(&self, key: &str, ask: &Ask, seen: Revision, answer: Answer) -> Result<Swap, StoreError> {
        let store = &self.cluster.store;
        match answer {
            Answer::Done => store.remove(key, seen).await,
            Answer::Refused(why) => {
                let told = Ask {
                    refused: Some(why),
                    ..ask.clone()
                };
                let value = serde_json::to_vec(&told).map_err(|error| StoreError::Malformed {
                    key: key.to_owned(),
                    reason: error.to_string(),
                })?;
                store.compare_and_swap(Write::replace(key, value, seen)).await
            }
        }
    }
}

/// Writes answers until cancelled. One that does not arrive is sent again: it compares what was seen.
pub(super) async fn keep(agreement: Arc<Agreement>, cancel: CancellationToken) {
    let mut changed = agreement.changed();
    let mut ticks = interval(agreement.timing.renew);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = changed.changed() => {}
            _ = ticks.tick() => {}
        }
        let written = tokio::select! {
            () = cancel.cancelled() => return,
            written = agreement.write_answer() => written,
        };
        if let Err(error) = written {
            tracing::debug!(%error, "the answer to whoever asked is not written yet");
            tokio::select! {
                () = cancel.cancelled() => return,
                _ = ticks.tick() => {}
            }
        }
    }
}
