//! What the tasks of a guard know together, and the report that is made of it.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use ha_core::{
    agent::{GuardConfig, stream_name},
    report::{DatabaseReport, DatabaseState, NodeReport, NodeRole, StoreReport, WalSample},
};
use ha_data::postgres::Observation;
use jiff::Timestamp;
use tokio::sync::watch;

use super::{events::Events, lag::Progress};

/// What the guard is doing with the database process, whatever the database says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Phase {
    pub(super) state: DatabaseState,
    pub(super) detail: Option<String>,
    /// Of the process that runs now.
    pub(super) pid: Option<i32>,
}

impl Phase {
    pub(super) fn of(state: DatabaseState, detail: impl Into<String>) -> Self {
        Self {
            state,
            detail: Some(detail.into()),
            pid: None,
        }
    }

    /// There is a process; whether it can be used is seen by looking.
    pub(super) fn up(pid: i32) -> Self {
        Self {
            state: DatabaseState::Running,
            detail: None,
            pid: Some(pid),
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.pid.is_some()
    }
}

/// The last look that was answered, and what went wrong since.
#[derive(Debug, Default)]
struct Looks {
    good: Option<Good>,
    error: Option<String>,
}

#[derive(Clone, Debug)]
struct Good {
    at: Instant,
    sampled_at: Timestamp,
    /// The process that answered: what another one said before it does not count any more.
    pid: i32,
    observation: Observation,
}

/// Everything an answer is made of; taken in one moment.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) report: NodeReport,
    /// How far the replica is behind what its upstream last said, in bytes and in time.
    pub(super) behind_bytes: Option<u64>,
    pub(super) behind: Option<Duration>,
    /// The look is recent enough to act on.
    pub(super) fresh: bool,
}

pub(super) struct State {
    pub(super) config: GuardConfig,
    pub(super) events: Events,
    phase: watch::Sender<Phase>,
    looks: Mutex<Looks>,
    /// On a primary its own log, on a replica that of its upstream.
    progress: Mutex<Progress>,
    store: Mutex<StoreReport>,
    /// What is wrong with a database that runs, by what it is about.
    notes: Mutex<BTreeMap<&'static str, String>>,
    restarts: AtomicU64,
    started: Instant,
    started_at: Timestamp,
}

impl State {
    pub(super) fn new(config: GuardConfig) -> Self {
        let events = Events::new(&config);
        let phase = Phase::of(DatabaseState::Absent, "the guard has just started");
        let not_asked = StoreReport {
            healthy: false,
            detail: Some("not asked yet".to_owned()),
        };
        Self {
            config,
            events,
            phase: watch::Sender::new(phase),
            looks: Mutex::default(),
            progress: Mutex::default(),
            store: Mutex::new(not_asked),
            notes: Mutex::default(),
            restarts: AtomicU64::new(0),
            started: Instant::now(),
            started_at: Timestamp::now(),
        }
    }

    pub(super) fn interval(&self) -> Duration {
        Duration::from_millis(self.config.sample_interval_ms)
    }

    /// A last look older than this is nothing to act on.
    fn patience(&self) -> Duration {
        (self.interval() * 3).max(Duration::from_secs(1))
    }

    pub(super) fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    pub(super) fn set_phase(&self, phase: Phase) {
        let changed = self.phase.send_if_modified(|now| {
            let changed = *now != phase;
            if changed {
                *now = phase;
            }
            changed
        });
        if changed {
            self.tell();
        }
    }

    pub(super) fn restarted(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    /// What is wrong with a database that runs all the same; none when nothing is, any more.
    pub(super) fn note(&self, about: &'static str, what: Option<String>) {
        let before = {
            let mut notes = lock(&self.notes);
            match what.clone() {
                Some(what) => notes.insert(about, what),
                None => notes.remove(about),
            }
        };
        // The reason may be worded anew each time; that there is one is news once.
        if before.is_some() != what.is_some() {
            let status = if what.is_some() { "trouble" } else { "well" };
            self.events.write(about, &self.config.node, status, None, what);
        }
    }

    /// Address and port that the replica was told to follow, as last seen.
    pub(super) fn follows(&self) -> Option<(String, u16)> {
        lock(&self.looks).good.as_ref()?.observation.follows.clone()
    }

    pub(super) fn set_store(&self, report: StoreReport) {
        let before = std::mem::replace(&mut *lock(&self.store), report.clone());
        if before.healthy != report.healthy {
            let status = if report.healthy { "healthy" } else { "unhealthy" };
            self.events.write("store.status", "store", status, None, report.detail);
        }
    }

    /// A look that process `pid` answered.
    pub(super) fn looked(&self, pid: i32, mut observation: Observation) {
        let now = Instant::now();
        self.name_nodes(&mut observation);
        let role = observation.report.role;
        let position = match role {
            Some(NodeRole::Primary) => observation.report.written,
            _ => observation.upstream_end,
        };
        lock(&self.progress).reached(role, position, now);
        let good = Good {
            at: now,
            sampled_at: Timestamp::now(),
            pid,
            observation,
        };
        *lock(&self.looks) = Looks {
            good: Some(good),
            error: None,
        };
        self.tell();
    }

    /// A look that was not answered.
    pub(super) fn missed(&self, error: String) {
        lock(&self.looks).error = Some(error);
        self.tell();
    }

    /// Names of nodes where PostgreSQL knows names of streams and addresses.
    fn name_nodes(&self, observation: &mut Observation) {
        let peers = &self.config.peers;
        for sender in &mut observation.report.senders {
            if let Some(peer) = peers.iter().find(|peer| stream_name(&peer.node) == sender.node) {
                sender.node.clone_from(&peer.node);
            }
        }
        observation.report.upstream = observation.follows.as_ref().map(|(address, port)| {
            let peer = peers.iter().find(|peer| peer.address == *address && peer.port == *port);
            peer.map_or_else(|| format!("{address}:{port}"), |peer| peer.node.clone())
        });
    }

    /// Writes an event if the status changed since the last one.
    fn tell(&self) {
        let database = self.view().report.database;
        self.events.database(&database);
    }

    pub(super) fn view(&self) -> View {
        let now = Instant::now();
        let phase = self.phase.borrow().clone();
        let (good, error) = {
            let looks = lock(&self.looks);
            (looks.good.clone(), looks.error.clone())
        };
        let (at, sampled_at) = good
            .as_ref()
            .map_or((self.started, self.started_at), |it| (it.at, it.sampled_at));
        let age = now.duration_since(at);
        let stale = age > self.patience();
        let mut database = database(&phase, good.as_ref(), error, stale);
        let running = database.state == DatabaseState::Running;
        if running {
            let notes = lock(&self.notes).values().cloned().collect::<Vec<_>>();
            let told = database.detail.take().into_iter().chain(notes).collect::<Vec<_>>();
            database.detail = (!told.is_empty()).then(|| told.join("; "));
        }
        let (samples, behind) = {
            let progress = lock(&self.progress);
            let samples = match database.role {
                Some(NodeRole::Primary) => progress.samples(now),
                _ => Vec::new(),
            };
            (
                samples,
                database.replayed.and_then(|replayed| progress.behind(replayed, now)),
            )
        };
        let upstream_end = good.and_then(|it| it.observation.upstream_end);
        let behind_bytes = upstream_end
            .zip(database.replayed)
            .map(|(end, replayed)| end.bytes_since(replayed));
        let report = NodeReport {
            workspace: self.config.workspace.clone(),
            region: self.config.region.clone(),
            node: self.config.node.clone(),
            sampled_at,
            age,
            database,
            samples: samples.into_iter().map(|(lsn, age)| WalSample { lsn, age }).collect(),
            store: lock(&self.store).clone(),
            guard_version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        View {
            report,
            behind_bytes,
            behind,
            fresh: running && !stale,
        }
    }
}

/// What holds for the database: the process first, then what it said. One look that failed proves nothing; none
/// for a while does.
fn database(phase: &Phase, good: Option<&Good>, error: Option<String>, stale: bool) -> DatabaseReport {
    let mut report = good.map_or_else(unknown, |good| good.observation.report.clone());
    let answered = good.is_some_and(|good| phase.pid == Some(good.pid));
    (report.state, report.detail) = match (phase.pid, answered, error) {
        (None, ..) => (phase.state, phase.detail.clone()),
        (Some(_), true, error) if !stale => {
            report.detail = error;
            return report;
        }
        (Some(_), true, error) => {
            let why = error.map(|it| format!(": {it}")).unwrap_or_default();
            (DatabaseState::Failed, Some(format!("does not answer{why}")))
        }
        (Some(_), false, error) => (DatabaseState::Starting, error),
    };
    // Positions may be told although they are old, with their age. Who it was is not.
    DatabaseReport {
        role: None,
        upstream_silence: None,
        senders: Vec::new(),
        slots: Vec::new(),
        connections: None,
        ..report
    }
}

fn unknown() -> DatabaseReport {
    DatabaseReport {
        state: DatabaseState::Absent,
        detail: None,
        role: None,
        system_identifier: None,
        timeline: None,
        written: None,
        received: None,
        replayed: None,
        upstream_silence: None,
        upstream: None,
        replay_paused: false,
        senders: Vec::new(),
        slots: Vec::new(),
        started_at: None,
        connections: None,
        names: None,
        control_timeline: None,
        waiting: 0,
        weak_roles: Vec::new(),
    }
}

/// Nothing that holds one of these locks can leave half a value behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(pid: i32, role: NodeRole) -> Good {
        let report = DatabaseReport {
            state: DatabaseState::Running,
            role: Some(role),
            timeline: Some(3),
            ..unknown()
        };
        Good {
            at: Instant::now(),
            sampled_at: Timestamp::UNIX_EPOCH,
            pid,
            observation: Observation {
                report,
                upstream_end: None,
                follows: None,
            },
        }
    }

    #[test]
    fn a_role_is_only_told_by_the_process_that_runs_now() {
        let look = good(7, NodeRole::Primary);
        assert_eq!(
            database(&Phase::up(7), Some(&look), None, false).role,
            Some(NodeRole::Primary)
        );
        let next = database(&Phase::up(8), Some(&look), None, false);
        assert_eq!((next.state, next.role), (DatabaseState::Starting, None));
        let down = database(&Phase::of(DatabaseState::Failed, "killed"), Some(&look), None, true);
        assert_eq!(
            (down.state, down.role, down.timeline),
            (DatabaseState::Failed, None, Some(3))
        );
    }

    #[test]
    fn a_database_that_stops_answering_has_failed_and_one_that_never_did_is_starting() {
        let look = good(7, NodeRole::Replica);
        let hung = database(&Phase::up(7), Some(&look), Some("timed out".into()), true);
        assert_eq!((hung.state, hung.role), (DatabaseState::Failed, None));
        let slow = database(&Phase::up(7), Some(&look), Some("timed out".into()), false);
        assert_eq!(
            (slow.state, slow.role),
            (DatabaseState::Running, Some(NodeRole::Replica))
        );
        let starting = database(&Phase::up(7), None, Some("starting up".into()), true);
        assert_eq!(
            (starting.state, starting.detail.as_deref()),
            (DatabaseState::Starting, Some("starting up"))
        );
    }
}
