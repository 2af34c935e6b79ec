//! What is done regularly on the side: the leader's canary, the slots on replicas, settings that weaken commits.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ha_core::{agent::stream_name, agreement::Epoch, report::NodeRole};
use ha_data::{
    DataError,
    postgres::{self, ConnectOptions, Session},
};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Guard, observe};

/// Keeps the time of an idle primary going, and is noticed when it does not return.
const CANARY: Duration = Duration::from_secs(1);
const SLOTS: Duration = Duration::from_secs(5);
const DEADMAN: Duration = Duration::from_secs(5);
const SETTINGS: Duration = Duration::from_secs(30);
/// A commit that waits for replicas waits as long as it takes: given up it would wait all the same, and hold a session.
const FOR_EVER: Duration = Duration::from_secs(365 * 86_400);
const PATIENCE: Duration = Duration::from_secs(10);

/// Until cancelled.
pub(super) async fn run(guard: Arc<Guard>, cancel: CancellationToken) {
    tokio::select! {
        () = cancel.cancelled() => {}
        () = canaries(&guard) => {}
        () = slots(&guard) => {}
        () = settings(&guard) => {}
        () = deadman(&guard) => {}
    }
}

/// The epoch that the database of this node leads, as the last decision had it.
fn leads(guard: &Guard) -> Option<Epoch> {
    let decided = guard.state.decided();
    let view = guard.state.view();
    let primary = view.fresh && view.report.database.role == Some(NodeRole::Primary);
    decided.epoch.filter(|_| primary && decided.decision.serve.primary)
}

/// A primary that nobody would end if this guard hung is told. One look may fall into its restart.
async fn deadman(guard: &Guard) {
    const ABOUT: &str = "deadman";
    let mut ticks = interval(DEADMAN);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut missed = 0;
    loop {
        ticks.tick().await;
        let unwatched = leads(guard).is_some() && guard.deadline.deadman().is_none();
        missed = if unwatched { missed + 1 } else { 0 };
        let why = "no deadman watches this primary: nothing ends it if its guard hangs; `ha provision` starts the unit deadman";
        guard.state.note(ABOUT, (missed > 1).then(|| why.to_owned()));
    }
}

/// A commit each second while this node leads, on a session of its own.
async fn canaries(guard: &Guard) {
    let mut ticks = interval(CANARY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut session: Option<Session> = None;
    loop {
        ticks.tick().await;
        let Some(epoch) = leads(guard) else {
            session = None;
            continue;
        };
        let sent = Instant::now();
        // Also for the session: a primary that takes none has the same trouble.
        guard.state.canary(Some(sent));
        let done = canary(guard, &mut session, epoch).await;
        guard.state.canary(None);
        if let Err(error) = done {
            session = None;
            tracing::debug!(%error, "the canary did not return");
        }
    }
}

async fn canary(guard: &Guard, session: &mut Option<Session>, epoch: Epoch) -> Result<(), DataError> {
    let open = match session {
        Some(open) if !open.is_closed() => open,
        _ => session.insert(postgres::connect(&admin(guard)).await?),
    };
    let mut phase = guard.state.phase();
    let pid = phase.borrow_and_update().pid;
    tokio::select! {
        sent = postgres::canary(open, epoch, FOR_EVER) => sent,
        // The process it was sent to is gone.
        _ = phase.wait_for(|phase| phase.pid != pid) => Err(DataError::SessionLost("the database ended".to_owned())),
    }
}

fn admin(guard: &Guard) -> ConnectOptions {
    let config = &guard.state.config;
    observe::admin(config).application_name(format!("{}_canary", stream_name(&config.node)))
}

/// On a replica the slots of all others move with it, so that they are there on the day it is made primary.
async fn slots(guard: &Guard) {
    let config = &guard.state.config;
    let slots: Vec<String> = config.peers.iter().map(|peer| stream_name(&peer.node)).collect();
    loop {
        sleep(SLOTS).await;
        let view = guard.state.view();
        if !view.fresh || view.report.database.role != Some(NodeRole::Replica) || guard.state.memory.sealed().is_some()
        {
            continue;
        }
        let work = async {
            let session = postgres::connect(&observe::admin(config)).await?;
            postgres::tend_replica_slots(&session, &slots).await
        };
        match timeout(PATIENCE, work).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "cannot move the slots of the other nodes"),
            Err(_) => tracing::debug!("moving the slots of the other nodes takes too long"),
        }
    }
}

/// Whoever sets `synchronous_commit` to less takes the promise away from their own commits.
async fn settings(guard: &Guard) {
    const ABOUT: &str = "database.weak_commits";
    loop {
        sleep(SETTINGS).await;
        if leads(guard).is_none() {
            guard.state.set_weak(Vec::new());
            guard.state.note(ABOUT, None);
            continue;
        }
        let work = async {
            let session = postgres::connect(&observe::admin(&guard.state.config)).await?;
            postgres::weak_settings(&session).await
        };
        if let Ok(Ok(weak)) = timeout(PATIENCE, work).await {
            let told = (!weak.is_empty()).then(|| {
                format!(
                    "synchronous_commit of {} lets commits return before another region has them",
                    weak.join(", ")
                )
            });
            guard.state.note(ABOUT, told);
            guard.state.set_weak(weak);
        }
    }
}
