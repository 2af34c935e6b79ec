//! Keeps the store's leader out of the primary's region, so that losing the region does not cost an election of the
//! store as well (protocol §5).

use std::{sync::Arc, time::Duration};

use ha_store::Etcd;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::Agreement;

const LOOK: Duration = Duration::from_secs(2);
/// The store's leader has been here for so long, and the others well: a move in the middle of an election helps nobody.
const STEADY: Duration = Duration::from_secs(6);
/// Between two moves: if it comes back at once, there is a reason.
const PAUSE: Duration = Duration::from_secs(60);

/// Looks until cancelled. `told` hears of each move, and of each that did not work.
pub(crate) async fn run(
    etcd: Etcd,
    agreement: Arc<Agreement>,
    told: impl Fn(Result<String, String>),
    cancel: CancellationToken,
) {
    let endpoints = etcd.endpoints();
    // By the rule of the configuration: the own region's member comes first.
    let Some(own) = endpoints.first().filter(|_| endpoints.len() > 1) else {
        return;
    };
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut since: Option<Instant> = None;
    let mut moved: Option<Instant> = None;
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let wanted = moved.is_none_or(|at| at.elapsed() >= PAUSE) && leads(&agreement);
        let here = async { wanted && others_fit(&etcd, own).await };
        let here = tokio::select! {
            () = cancel.cancelled() => return,
            here = here => here,
        };
        if !here {
            since = None;
            continue;
        }
        if since.get_or_insert_with(Instant::now).elapsed() < STEADY {
            continue;
        }
        let outcome = tokio::select! {
            () = cancel.cancelled() => return,
            outcome = etcd.move_leader_away_from(own) => outcome,
        };
        moved = Some(Instant::now());
        since = None;
        match outcome {
            Ok(Some(it)) => told(Ok(format!(
                "the store's leader moved from {} to {}, out of the primary's region",
                it.from, it.to
            ))),
            Ok(None) => {}
            Err(error) => told(Err(format!(
                "the store's leader stays in the primary's region, because it cannot be moved: {error}"
            ))),
        }
    }
}

fn leads(agreement: &Agreement) -> bool {
    let known = agreement.known();
    known.term().is_some_and(|it| it.value.is_active(&agreement.me))
}

/// The own member leads, and another one could.
async fn others_fit(etcd: &Etcd, own: &str) -> bool {
    if !etcd.status(own).await.is_ok_and(|it| it.leader) {
        return false;
    }
    for other in etcd.endpoints().iter().filter(|it| *it != own) {
        if etcd.status(other).await.is_ok_and(|it| it.healthy) {
            return true;
        }
    }
    false
}
