//! What the tasks of a guard know together; `view` is what is told of it.

mod view;

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use ha_core::{
    agent::{GuardConfig, parse_epoch_stream_name, stream_name},
    agreement::Epoch,
    decide::Decision,
    lsn::Position,
    report::{DatabaseState, NodeRole},
};
use ha_data::postgres::Observation;
use jiff::Timestamp;
use tokio::sync::{Notify, watch};

pub(super) use self::view::View;
use super::{events::Events, lag::Progress, memory::Memory};

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

/// What is left where no process runs.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Rest {
    /// Not looked at yet.
    Unknown,
    Absent,
    Ruined,
    Stopped {
        clean: bool,
        standby: bool,
        /// Where a clean stop ended.
        position: Option<Position>,
    },
    /// Nothing may be done with it: another cluster's, another version's, damaged.
    Unusable(String),
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

pub(super) struct State {
    pub(super) config: GuardConfig,
    pub(super) events: Events,
    phase: watch::Sender<Phase>,
    looks: Mutex<Looks>,
    /// On a primary its own log, on a replica that of its upstream.
    progress: Mutex<Progress>,
    /// What is wrong with a database that runs, by what it is about.
    notes: Mutex<BTreeMap<&'static str, String>>,
    restarts: AtomicU64,
    /// Its end is somebody's will.
    pub(super) fencing: AtomicBool,
    started: Instant,
    started_at: Timestamp,
    pub(super) memory: Memory,
    rest: Mutex<Rest>,
    /// Since when the database does not answer as it should: it ended, or has not come up yet. Attempts to start it
    /// in between do not count.
    down_since: Mutex<Option<Instant>>,
    /// The cluster that this node is part of, once that is known.
    expected: Mutex<Option<String>>,
    permit: Mutex<Option<Epoch>>,
    decided: Mutex<Decided>,
    /// Since when a commit of our own waits.
    canary: Mutex<Option<Instant>>,
    weak: Mutex<Vec<String>>,
    /// Something that decisions rest on is not as it was.
    pub(super) wake: Notify,
    /// Somebody wants a look now.
    pub(super) look: Notify,
    /// When the last look that ended began, answered or not.
    look_began: watch::Sender<Option<Instant>>,
    /// Looks follow each other closely: much may change within milliseconds.
    pub(super) quick: watch::Sender<bool>,
}

/// The last decision, and what came of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Decided {
    pub(super) decision: Decision,
    /// None before the first.
    pub(super) at: Option<Instant>,
    pub(super) epoch: Option<Epoch>,
    /// Work on the database that is under way.
    pub(super) doing: Option<String>,
}

impl Decided {
    /// An old decision opens no door: the cycle decides at least twice within each renewal.
    pub(super) fn is_fresh(&self, patience: Duration) -> bool {
        self.at.is_some_and(|at| at.elapsed() <= patience)
    }
}

impl State {
    pub(super) fn new(config: GuardConfig) -> Self {
        let events = Events::new(&config);
        let phase = Phase::of(DatabaseState::Absent, "the guard has just started");
        let memory = Memory::open(&config.failover.promise);
        Self {
            memory,
            rest: Mutex::new(Rest::Unknown),
            down_since: Mutex::new(Some(Instant::now())),
            expected: Mutex::default(),
            permit: Mutex::default(),
            decided: Mutex::default(),
            canary: Mutex::default(),
            weak: Mutex::default(),
            wake: Notify::new(),
            look: Notify::new(),
            look_began: watch::Sender::new(None),
            quick: watch::Sender::new(false),
            config,
            events,
            phase: watch::Sender::new(phase),
            looks: Mutex::default(),
            progress: Mutex::default(),
            notes: Mutex::default(),
            restarts: AtomicU64::new(0),
            fencing: AtomicBool::new(false),
            started: Instant::now(),
            started_at: Timestamp::now(),
        }
    }

    /// Between two looks, when nothing is going on.
    pub(super) fn interval(&self) -> Duration {
        Duration::from_millis(self.config.sample_interval_ms).min(self.config.failover.timing.probe_interval)
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
            self.wake.notify_one();
        }
    }

    /// A process runs on the folder.
    pub(super) fn is_up(&self, pid: i32, permit: Option<Epoch>) {
        lock(&self.down_since).get_or_insert_with(Instant::now);
        *lock(&self.permit) = permit;
        self.set_phase(Phase::up(pid));
    }

    /// It was stopped on purpose, and that is over: the time it has to come back begins now.
    pub(super) fn may_come_back(&self) {
        if let Some(since) = lock(&self.down_since).as_mut() {
            *since = Instant::now();
        }
    }

    pub(super) fn expected(&self) -> Option<String> {
        lock(&self.expected).clone()
    }

    pub(super) fn expect(&self, system_identifier: String) {
        *lock(&self.expected) = Some(system_identifier);
    }

    pub(super) fn set_permit(&self, permit: Option<Epoch>) {
        *lock(&self.permit) = permit;
        self.wake.notify_one();
    }

    pub(super) fn rest(&self) -> Rest {
        lock(&self.rest).clone()
    }

    pub(super) fn set_rest(&self, rest: Rest) {
        lock(&self.down_since).get_or_insert_with(Instant::now);
        *lock(&self.rest) = rest;
        self.wake.notify_one();
    }

    pub(super) fn decided(&self) -> Decided {
        lock(&self.decided).clone()
    }

    pub(super) fn decide(&self, decided: Decided) {
        *lock(&self.decided) = decided;
    }

    /// A commit of our own was sent; none when it was answered, or is not waited for any more.
    pub(super) fn canary(&self, sent: Option<Instant>) {
        *lock(&self.canary) = sent;
    }

    pub(super) fn set_weak(&self, weak: Vec<String>) {
        *lock(&self.weak) = weak;
    }

    /// Settings that let commits return unreplicated, as last seen.
    pub(super) fn weak(&self) -> Vec<String> {
        lock(&self.weak).clone()
    }

    /// A look that began at `began` has ended.
    pub(super) fn look_ended(&self, began: Instant) {
        self.look_began.send_replace(Some(began));
        self.wake.notify_one();
    }

    /// Changes with each look that ends.
    pub(super) fn looks(&self) -> watch::Receiver<Option<Instant>> {
        self.look_began.subscribe()
    }

    /// Until a look that begins after now has ended: what is known then is not older than now. Not for ever: a
    /// database that does not answer is a fact, too.
    pub(super) async fn look_again(&self) {
        let now = Instant::now();
        let mut began = self.look_began.subscribe();
        let mut phase = self.phase();
        self.look.notify_one();
        let looked = began.wait_for(|began| began.is_some_and(|began| began >= now));
        tokio::select! {
            _ = looked => {}
            _ = phase.wait_for(|phase| !phase.is_up()) => {}
            () = tokio::time::sleep(Duration::from_secs(2)) => {}
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
        *lock(&self.down_since) = None;
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
            let stream = parse_epoch_stream_name(&sender.application_name)
                .map_or(sender.application_name.as_str(), |(stream, _)| stream);
            if let Some(peer) = peers.iter().find(|peer| stream_name(&peer.node) == stream) {
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
}

/// Nothing that holds one of these locks can leave half a value behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
