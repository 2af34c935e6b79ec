//! This node's report in the store: `member/<node>`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ha_core::{
    agreement::{Follows, Member, Need, Node, Sealed, Verdict},
    lsn::{Lsn, Position},
    report::{DatabaseState, NodeRole},
};
use ha_store::{Entry, Presence, Revision, StoreError, Swap, Write};
use jiff::Timestamp;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{Agreement, RETRY};

/// The report goes away when its guard has been gone for so long. Nothing is decided by it.
const LASTS: Duration = Duration::from_secs(60);

/// What a guard says of its node; the rest of [`Member`] is filled in.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MemberDraft {
    pub(crate) state: DatabaseState,
    pub(crate) detail: Option<String>,
    pub(crate) role: Option<NodeRole>,
    pub(crate) position: Option<Position>,
    pub(crate) replayed: Option<Lsn>,
    pub(crate) sealed: Option<Sealed>,
    pub(crate) follows: Option<Follows>,
    pub(crate) checkpointed: Option<u32>,
    pub(crate) need: Option<Need>,
    pub(crate) stopped: bool,
    pub(crate) restarting: bool,
    pub(crate) votes: BTreeMap<Node, Verdict>,
    pub(crate) doing: Option<String>,
    pub(crate) blocked: Option<String>,
}

impl MemberDraft {
    /// Others may act on it. Positions grow all the time; they go with the beat.
    fn without_positions(&self) -> Self {
        Self {
            position: None,
            replayed: None,
            ..self.clone()
        }
    }
}

impl Agreement {
    /// What is to be told from now on. It is written by a task: at once when it means something else than before, and
    /// with the next beat when only positions moved.
    pub(crate) fn report(&self, draft: MemberDraft) {
        self.draft.send_if_modified(|told| {
            let news = told.as_ref() != Some(&draft);
            *told = Some(draft);
            news
        });
    }

    fn member(&self, draft: MemberDraft, beat: u64) -> Member {
        Member {
            region: self.region.clone(),
            node: self.me.clone(),
            beat,
            at: Timestamp::now(),
            state: draft.state,
            detail: draft.detail,
            role: draft.role,
            position: draft.position,
            replayed: draft.replayed,
            promised: self.promise().epoch,
            sealed: draft.sealed,
            follows: draft.follows,
            checkpointed: draft.checkpointed,
            need: draft.need,
            stopped: draft.stopped,
            restarting: draft.restarting,
            votes: draft.votes,
            doing: draft.doing,
            blocked: draft.blocked,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            settings: self.settings.clone(),
        }
    }
}

/// What is known of the own key.
#[derive(Default)]
pub(super) struct Own {
    at: Revision,
    beat: u64,
    presence: Option<Presence>,
}

/// Writes until cancelled.
pub(super) async fn keep(agreement: Arc<Agreement>, cancel: CancellationToken) {
    let mut drafts = agreement.draft.subscribe();
    let mut own = Own::default();
    // What others know, and when it is told again.
    let mut told: Option<(MemberDraft, u64)> = None;
    let mut beat = Instant::now();
    let mut alive = Instant::now();
    loop {
        let (draft, promised) = (drafts.borrow_and_update().clone(), agreement.promise().epoch);
        let news = draft.as_ref().is_some_and(|draft| {
            told.as_ref()
                .is_none_or(|(told, epoch)| *epoch != promised || told.without_positions() != draft.without_positions())
        });
        let now = Instant::now();
        if let Some(draft) = draft.filter(|_| news || now >= beat) {
            let written = tokio::select! {
                () = cancel.cancelled() => return,
                written = own.write(&agreement, draft.clone()) => written,
            };
            match written {
                Ok(()) => {
                    told = Some((draft, promised));
                    beat = now + 2 * agreement.timing.renew;
                }
                Err(error) => {
                    tracing::debug!(%error, "the report is not written");
                    told = None;
                    tokio::select! {
                        () = cancel.cancelled() => return,
                        () = sleep(RETRY) => {}
                    }
                }
            }
            continue;
        }
        if now >= alive {
            tokio::select! {
                () = cancel.cancelled() => return,
                () = own.keep_alive(&agreement) => {}
            }
            alive = Instant::now() + LASTS / 4;
            continue;
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            changed = drafts.changed() => if changed.is_err() { return },
            () = sleep_until(beat.min(alive).max(now + Duration::from_millis(20))) => {}
        }
    }
}

impl Own {
    /// The report is in the store. Only this node writes it, so that a write that was lost is simply done again.
    pub(super) async fn write(&mut self, agreement: &Agreement, draft: MemberDraft) -> Result<(), StoreError> {
        let key = agreement.cluster.keys.member(&agreement.me);
        if self.presence.is_none() {
            self.presence = Some(agreement.cluster.store.presence(LASTS).await?);
        }
        // The key may be at another revision than remembered: after a start, or when a lost write came through.
        for _ in 0..3 {
            self.beat += 1;
            let member = agreement.member(draft.clone(), self.beat);
            let value = serde_json::to_vec(&member).map_err(|error| StoreError::Malformed {
                key: key.clone(),
                reason: error.to_string(),
            })?;
            let write = Write {
                presence: self.presence.as_ref(),
                ..Write::replace(&key, value.clone(), self.at)
            };
            let sent = agreement.clocks.now();
            match agreement.cluster.store.compare_and_swap(write).await {
                Ok(Swap::Done(revision)) => {
                    self.at = revision;
                    agreement.learn(&key, Some(&Entry { value, revision }), revision, sent);
                    return Ok(());
                }
                Ok(Swap::Changed(found)) => {
                    self.at = found.as_ref().map_or(Revision::ABSENT, |it| it.revision);
                    let before = found.and_then(|it| serde_json::from_slice::<Member>(&it.value).ok());
                    self.beat = self.beat.max(before.map_or(0, |it| it.beat));
                }
                Err(error) => {
                    if matches!(error, StoreError::Refused { .. }) {
                        // The presence has ended.
                        self.presence = None;
                    }
                    return Err(error);
                }
            }
        }
        Err(StoreError::OutcomeUnknown {
            endpoint: "the store".to_owned(),
            key,
            reason: "another guard of this node seems to write it, too".to_owned(),
        })
    }

    async fn keep_alive(&mut self, agreement: &Agreement) {
        let Some(presence) = &self.presence else { return };
        match agreement.cluster.store.keep_alive(presence).await {
            Ok(true) => {}
            Ok(false) => self.presence = None,
            Err(error) => tracing::debug!(%error, "the report's presence is not kept alive"),
        }
    }
}
