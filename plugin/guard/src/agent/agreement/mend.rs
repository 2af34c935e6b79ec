//! A guard that dies between publishing an epoch and writing its history leaves a gap. Whoever leads closes it.

use std::{sync::Arc, time::Duration};

use ha_core::agreement::{Campaign, History, Phase, Reason, SwitchOutcome, Term};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{Agreement, lock};

/// The one who published comes first, as it knows most; then whoever saw the campaign; then the leader, by what is
/// left to read from the term.
const OTHERS: Duration = Duration::from_secs(3);
const ANYHOW: Duration = Duration::from_secs(10);

pub(super) async fn keep(agreement: Arc<Agreement>, cancel: CancellationToken) {
    let mut ticks = interval(agreement.timing.renew);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = ticks.tick() => {}
        }
        agreement.find_gap();
        tokio::select! {
            () = cancel.cancelled() => return,
            () = agreement.write_history() => {}
        }
    }
}

impl Agreement {
    /// The history that is to be written, if the active epoch has none and this guard is to close the gap.
    pub(super) fn find_gap(&self) {
        let now = self.clocks.now();
        let known = self.known();
        let Some(term) = known.term().map(|it| &it.value) else {
            return;
        };
        let mut history = lock(&self.history);
        let pending = history.as_ref().is_some_and(|it| it.epoch == term.epoch);
        if term.phase == Phase::Sealing || known.histories.contains(&term.epoch) || pending {
            return;
        }
        let campaign = known.campaign_of(term.epoch);
        let since = known.active_for(now);
        let wait = if campaign.is_some() { OTHERS } else { ANYHOW };
        if since >= wait && (campaign.is_some() || term.leader == self.me) {
            *history = Some(put_together(term, campaign));
        }
    }
}

/// By what the term still says.
fn put_together(term: &Term, campaign: Option<&Campaign>) -> History {
    let left = term.lineage.last();
    let switched = term
        .last_switch
        .as_ref()
        .filter(|it| it.outcome == SwitchOutcome::Done && it.to == term.leader);
    let reason = match (campaign, left, switched) {
        (Some(campaign), ..) => campaign.reason,
        (None, None, _) => Reason::First,
        (None, Some(_), Some(_)) => Reason::Switchover,
        (None, Some(_), None) => Reason::PrimaryDown,
    };
    let detail = match campaign {
        Some(campaign) => campaign.detail.clone(),
        None => {
            "put together from what the term says: whoever published the epoch ended before it wrote more".to_owned()
        }
    };
    History {
        epoch: term.epoch,
        node: term.leader.clone(),
        timeline: term.timeline,
        start: left.map_or_else(Default::default, |it| it.ended),
        parent: left.map(|it| it.timeline),
        reason,
        detail,
        by: campaign.map_or_else(|| term.leader.clone(), |it| it.by.clone()),
        sealed: campaign.map(|it| it.sealed.clone()).unwrap_or_default(),
        lost_bytes: None,
        accept_loss: campaign.is_some_and(|it| it.accept_loss.is_some()),
        op: campaign
            .and_then(|it| it.op.clone())
            .or_else(|| switched.map(|it| it.op.clone())),
        at: term.changed_at,
        steps: Vec::new(),
    }
}
