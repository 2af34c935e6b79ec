//! The look at the database, again and again, and at the store.

use std::{sync::Arc, time::Duration};

use ha_core::{
    agent::{GuardConfig, stream_name},
    report::{NodeRole, StoreReport},
};
use ha_data::{
    DataError,
    postgres::{
        ADMIN_DATABASE, ADMIN_USER, ConnectOptions, Host, Observation, Observer, Session, connect, ensure_slots,
    },
};
use ha_store::{Etcd, Store};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{bootstrap::init_key, state::State};

/// Between looks at a database that has just been started and does not answer yet.
const STARTING: Duration = Duration::from_millis(100);
const STORE_INTERVAL: Duration = Duration::from_secs(2);

/// Looks until cancelled. While no process runs it waits for one.
pub(super) async fn run(state: Arc<State>, cancel: CancellationToken) {
    let mut phase = state.phase();
    loop {
        let pid = tokio::select! {
            () = cancel.cancelled() => return,
            up = phase.wait_for(|phase| phase.is_up()) => match up.map(|phase| phase.pid) {
                Ok(Some(pid)) => pid,
                Ok(None) => continue,
                // The state is gone, and so is the guard.
                Err(_) => return,
            },
        };
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = phase.wait_for(|phase| phase.pid != Some(pid)) => {}
            () = watch_process(&state, pid) => {}
        }
    }
}

/// Looks at one process until dropped.
async fn watch_process(state: &State, pid: i32) {
    let limit = (state.interval() * 2).max(Duration::from_millis(700));
    let mut ticks = interval(state.interval());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut observer = Observer::new();
    let mut session = None;
    let mut answered = false;
    loop {
        let seen = look(state, &mut observer, &mut session, limit).await;
        match seen {
            Ok(observation) => {
                answered = true;
                let missing = missing_slots(&state.config, &observation);
                state.looked(pid, observation);
                if let (false, Some(session)) = (missing.is_empty(), &session) {
                    keep_log_for(state, session, &missing, limit).await;
                }
            }
            Err(error) => {
                session = None;
                state.missed(error.to_string());
            }
        }
        if answered {
            ticks.tick().await;
        } else {
            // PostgreSQL tells nobody when it begins to answer.
            sleep(STARTING.min(state.interval())).await;
            ticks.reset();
        }
    }
}

async fn look(
    state: &State,
    observer: &mut Observer,
    session: &mut Option<Session>,
    limit: Duration,
) -> Result<Observation, DataError> {
    let open = match session {
        Some(open) if !open.is_closed() => open,
        _ => session.insert(connect(&admin(&state.config).timeout(limit)).await?),
    };
    observer.look(open, limit).await
}

/// The admin's session through the socket.
pub(super) fn admin(config: &GuardConfig) -> ConnectOptions {
    let postgres = &config.postgres;
    let host = Host::Unix {
        dir: postgres.socket_dir.clone(),
        port: postgres.port,
    };
    ConnectOptions::new(host, ADMIN_USER, ADMIN_DATABASE, &postgres.admin_password_file)
        .application_name(format!("{}_guard", stream_name(&config.node)))
}

/// Slots of the other nodes that a primary lacks: with them the log waits for whoever copies it or stays away.
fn missing_slots(config: &GuardConfig, observation: &Observation) -> Vec<String> {
    if observation.report.role != Some(NodeRole::Primary) {
        return Vec::new();
    }
    let names = config.peers.iter().map(|peer| stream_name(&peer.node));
    names
        .filter(|name| !observation.report.slots.iter().any(|slot| slot.name == *name))
        .collect()
}

async fn keep_log_for(state: &State, session: &Session, slots: &[String], limit: Duration) {
    let made = timeout(limit, ensure_slots(session, slots)).await;
    match made {
        Ok(Ok(made)) => {
            for slot in made {
                state.events.write("slot.created", &slot, "created", None, None);
            }
        }
        // It is tried again with the next look.
        Ok(Err(error)) => tracing::warn!(%error, "cannot make the slots of the other nodes"),
        Err(_) => tracing::warn!("making the slots of the other nodes takes too long"),
    }
}

/// Asks the store something that needs its quorum, until cancelled.
pub(super) async fn store(state: Arc<State>, store: Etcd, cancel: CancellationToken) {
    let key = init_key(&state.config);
    let mut ticks = interval(STORE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let answer = tokio::select! {
            () = cancel.cancelled() => return,
            answer = store.get(&key) => answer,
        };
        let detail = answer.err().map(|error| error.to_string());
        state.set_store(StoreReport {
            healthy: detail.is_none(),
            detail,
        });
    }
}
