//! The look at the database, again and again: when it is due, when somebody asks, and closely while the primary changes.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use ha_core::{
    agent::{GuardConfig, stream_name},
    report::{NodeRole, Slot},
};
use ha_data::{
    DataError,
    postgres::{
        ADMIN_DATABASE, ADMIN_USER, ConnectOptions, Host, Observation, Observer, Session, connect, drop_slot,
        ensure_slots,
    },
};
use tokio::time::{MissedTickBehavior, interval, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::{bootstrap, state::State};

/// Between looks at a database that has just been started and does not answer yet: PostgreSQL tells nobody when it
/// begins to.
const STARTING: Duration = Duration::from_millis(20);
/// While a primary is being changed, and whatever else is over within milliseconds.
const QUICK: Duration = Duration::from_millis(25);
/// A slot of ours that belongs to no node of the configuration is kept for this long: log piles up behind it, but a
/// node that was left out by mistake would have to be copied again.
const SLOT_GRACE: Duration = Duration::from_secs(300);
/// A session that is open says nothing about whether others can come in: a postmaster that hangs, or has no room left,
/// is found by coming in anew.
const KNOCK_INTERVAL: Duration = Duration::from_secs(5);

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
            () = knock(&state) => {}
        }
    }
}

/// Looks at one process until dropped.
async fn watch_process(state: &State, pid: i32) {
    let limit = (state.interval() * 2).max(Duration::from_millis(700));
    let mut observer = Observer::new();
    let mut session = None;
    let mut orphans = HashMap::new();
    let mut quick = state.quick.subscribe();
    let mut answered = false;
    let mut complete = false;
    loop {
        let began = Instant::now();
        let mut seen = look(state, &mut observer, &mut session, limit)
            .await
            .map_err(anyhow::Error::from);
        if let Ok(observation) = &seen
            && observation.report.role == Some(NodeRole::Primary)
            && !complete
            && let Some(session) = &session
        {
            // Nobody is sent to a primary that would not know them.
            match bootstrap::complete(&state.config, session).await {
                Ok(()) => complete = true,
                Err(error) => seen = Err(error),
            }
        }
        match seen {
            Ok(observation) => {
                answered = true;
                let missing = missing_slots(&state.config, &observation);
                let ownerless = ownerless_slots(&state.config, &observation, &mut orphans, Instant::now());
                state.looked(pid, observation);
                state.look_ended(began);
                if let Some(session) = &session {
                    tend_slots(state, session, &missing, &ownerless, limit).await;
                }
            }
            Err(error) => {
                session = None;
                state.missed(format!("{error:#}"));
                state.look_ended(began);
            }
        }
        let pause = match (answered, *quick.borrow_and_update()) {
            (false, _) => STARTING.min(state.interval()),
            (true, true) => QUICK,
            (true, false) => state.interval(),
        };
        tokio::select! {
            () = sleep_until((began + pause).into()) => {}
            () = state.look.notified() => {}
            _ = quick.wait_for(|quick| *quick), if answered && pause > QUICK => {}
        }
    }
}

/// Opens a new session now and then, until dropped.
async fn knock(state: &State) {
    const ABOUT: &str = "database.sessions";
    // What was noted of a process that is gone does not hold for this one.
    state.note(ABOUT, None);
    let options = admin(&state.config);
    let mut ticks = interval(KNOCK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        bound_log(state).await;
        // One that is starting is told by the looks.
        if !state.view().fresh {
            continue;
        }
        let trouble = connect(&options).await.err();
        state.note(
            ABOUT,
            trouble.map(|error| format!("no new session can be opened: {error}")),
        );
    }
}

async fn bound_log(state: &State) {
    let config = state.config.postgres.clone();
    let bounded = tokio::task::spawn_blocking(move || ha_data::postgres::bound_log(&config)).await;
    if let Ok(Err(error)) = bounded {
        tracing::warn!(%error, "cannot shorten the database's log");
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

/// Slots of ours that have belonged to no other node, and been unused, for all of [`SLOT_GRACE`].
fn ownerless_slots(
    config: &GuardConfig,
    observation: &Observation,
    orphans: &mut HashMap<String, Instant>,
    now: Instant,
) -> Vec<String> {
    let owned = |name: &str| config.peers.iter().any(|peer| stream_name(&peer.node) == name);
    let orphan = |slot: &&Slot| slot.name.starts_with("ha_") && !slot.active && !owned(&slot.name);
    let primary = observation.report.role == Some(NodeRole::Primary);
    let slots = observation.report.slots.iter().filter(orphan).filter(|_| primary);
    let seen: HashMap<String, Instant> = slots
        .map(|slot| (slot.name.clone(), orphans.get(&slot.name).copied().unwrap_or(now)))
        .collect();
    *orphans = seen;
    let old = orphans
        .iter()
        .filter(|(_, since)| now.duration_since(**since) >= SLOT_GRACE);
    old.map(|(name, _)| name.clone()).collect()
}

async fn tend_slots(state: &State, session: &Session, missing: &[String], ownerless: &[String], limit: Duration) {
    if missing.is_empty() && ownerless.is_empty() {
        return;
    }
    let work = async {
        for slot in ensure_slots(session, missing).await? {
            state.events.write("slot.created", &slot, "created", None, None);
        }
        for slot in ownerless {
            if drop_slot(session, slot).await? {
                let why = "no node of the configuration uses it".to_owned();
                state.events.write("slot.dropped", slot, "absent", Some(why), None);
            }
        }
        Ok::<(), DataError>(())
    };
    // It is tried again with the next look.
    match timeout(limit, work).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "cannot tend the slots of the other nodes"),
        Err(_) => tracing::warn!("tending the slots of the other nodes takes too long"),
    }
}

#[cfg(test)]
mod tests {
    use ha_core::agent::Peer;

    use super::*;
    use crate::agent::{bootstrap::tests::config, http::tests::view};

    #[test]
    fn a_slot_without_a_node_is_dropped_only_after_a_while_of_disuse() {
        let mut config = config(true);
        let peer = |node: &str| Peer {
            region: "eu-central".into(),
            node: node.into(),
            address: "127.0.0.1".into(),
            port: 1,
            guard: String::new(),
        };
        config.peers = vec![peer("eu-db-1")];
        let slot = |name: &str, active| Slot {
            name: name.into(),
            active,
            retained_bytes: None,
        };
        let mut report = view(NodeRole::Primary).report.database;
        report.slots = vec![
            slot("ha_eu_db_1", false),
            slot("ha_old", false),
            slot("ha_busy", true),
            slot("theirs", false),
        ];
        let observation = Observation {
            report,
            upstream_end: None,
            follows: None,
            follows_epoch: None,
            receivers: 0,
        };
        let start = Instant::now();
        let mut orphans = HashMap::new();
        assert!(ownerless_slots(&config, &observation, &mut orphans, start).is_empty());
        assert!(ownerless_slots(&config, &observation, &mut orphans, start + SLOT_GRACE / 2).is_empty());
        assert_eq!(
            ownerless_slots(&config, &observation, &mut orphans, start + SLOT_GRACE),
            ["ha_old"]
        );
    }
}
