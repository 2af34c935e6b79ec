//! Virtual time: one queue of events, three machines, nothing real.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    fmt::Display,
};

use ha_core::{
    decide::{Decision, Facts},
    model::{FailoverPolicy, SyncMode, TimingProfile},
};

use crate::{
    clocks::Clocks,
    database::{Database, Disk},
    guard::Guard,
    network::{Kind, Network},
    oracle::Oracle,
    random::Random,
    replication::Line,
    store::Store,
};

/// Microseconds since the beginning.
pub(crate) type Time = u64;
pub(crate) const MS: Time = 1000;
pub(crate) const SECOND: Time = 1_000_000;

pub(crate) type Id = usize;
pub(crate) const NODES: usize = 3;
pub(crate) const NAMES: [&str; NODES] = ["a", "b", "c"];

pub(crate) fn id_of(name: &str) -> Option<Id> {
    NAMES.iter().position(|it| *it == name)
}

pub(crate) type Then = Box<dyn FnOnce(&mut World)>;

/// What is simulated.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) seed: u64,
    pub(crate) mode: SyncMode,
    pub(crate) profile: TimingProfile,
    /// The third node has no data.
    pub(crate) witness: bool,
    /// Only one node has data, and no term is there yet.
    pub(crate) young: bool,
    pub(crate) policy: FailoverPolicy,
    pub(crate) decide: fn(&Facts) -> Decision,
    pub(crate) flaws: Flaws,
    pub(crate) print: bool,
}

/// Ways in which those who carry out what was decided could get it wrong.
#[derive(Clone, Copy, Default)]
pub(crate) struct Flaws {
    /// The seal looks only at walreceivers that stream already.
    pub(crate) seal_sees_streaming_only: bool,
    /// The seal does not promise before.
    pub(crate) seal_without_promise: bool,
    /// From empty names straight to the real ones.
    pub(crate) no_canary: bool,
    /// The campaign does not compare.
    pub(crate) blind_swaps: bool,
    /// The deadman is not there.
    pub(crate) no_deadman: bool,
}

/// Something that happens then, and is kept until the one it happens to can run again.
struct Event {
    at: Time,
    number: u64,
    then: Then,
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}
impl Eq for Event {}
impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Event {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// A machine: what stands still with it.
pub(crate) struct Machine {
    pub(crate) clocks: Clocks,
    pub(crate) halted: bool,
    backlog: Vec<Then>,
}

pub(crate) struct World {
    pub(crate) now: Time,
    queue: BinaryHeap<Reverse<Event>>,
    number: u64,
    pub(crate) setup: Setup,
    pub(crate) random: Random,
    pub(crate) network: Network,
    pub(crate) machines: Vec<Machine>,
    pub(crate) guards: Vec<Guard>,
    guard_backlog: [Vec<Then>; NODES],
    pub(crate) databases: Vec<Database>,
    database_backlog: [Vec<Then>; NODES],
    pub(crate) lines: BTreeMap<u64, Line>,
    pub(crate) next_line: u64,
    pub(crate) store: Store,
    pub(crate) oracle: Oracle,
    hash: u64,
    pub(crate) trace: Vec<String>,
    pub(crate) quiet: bool,
}

impl World {
    pub(crate) fn new(setup: Setup) -> Self {
        let mut random = Random::new(setup.seed);
        let latency = match setup.profile {
            TimingProfile::Near => random.range(1, 10) * MS,
            _ => random.range(10, 90) * MS,
        };
        let machines = (0..NODES)
            .map(|_| Machine {
                clocks: Clocks::new(&mut random),
                halted: false,
                backlog: Vec::new(),
            })
            .collect();
        let mut world = Self {
            now: 0,
            queue: BinaryHeap::new(),
            number: 0,
            random,
            network: Network::new(latency),
            machines,
            guards: (0..NODES).map(Guard::new).collect(),
            guard_backlog: Default::default(),
            databases: (0..NODES).map(|_| Database::new(Disk::absent())).collect(),
            database_backlog: Default::default(),
            lines: BTreeMap::new(),
            next_line: 0,
            store: Store::new(),
            oracle: Oracle::default(),
            hash: 0xCBF2_9CE4_8422_2325,
            trace: Vec::new(),
            quiet: false,
            setup,
        };
        world.found();
        world
    }

    /// As a cluster is after `ha provision`, all streaming soon.
    fn found(&mut self) {
        let data = if self.setup.witness { 2 } else { 3 };
        for id in 0..data {
            if id > 0 && self.setup.young {
                continue;
            }
            let mut disk = Disk::made();
            if id > 0 {
                disk.seal();
            } else {
                disk.names = ha_core::agreement::FENCED_NAMES.to_owned();
            }
            self.databases[id].disk = disk;
        }
        if !self.setup.young {
            self.found_term(data);
        }
        for id in 0..NODES {
            self.start_guard(id);
            self.after(SECOND, move |world| world.heartbeat(id));
        }
        self.start_clients();
        self.start_store();
    }

    // Time.

    pub(crate) fn after(&mut self, delay: Time, then: impl FnOnce(&mut Self) + 'static) {
        self.number += 1;
        let event = Event {
            at: self.now + delay,
            number: self.number,
            then: Box::new(then),
        };
        self.queue.push(Reverse(event));
    }

    /// Runs everything up to then, or until a rule is broken.
    pub(crate) fn run_until(&mut self, end: Time) {
        while self.oracle.broken.is_none() {
            let due = self.queue.peek().is_some_and(|Reverse(event)| event.at <= end);
            if !due {
                break;
            }
            let Some(Reverse(event)) = self.queue.pop() else { break };
            self.now = event.at;
            (event.then)(self);
        }
        self.now = self.now.max(end);
    }

    pub(crate) fn run_for(&mut self, time: Time) {
        self.run_until(self.now + time);
    }

    /// True as soon as `done` holds; looked at ten times a second.
    pub(crate) fn run_while(&mut self, limit: Time, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.now + limit;
        while self.now < end && self.oracle.broken.is_none() {
            if done(self) {
                return true;
            }
            self.run_for(100 * MS);
        }
        done(self)
    }

    // Who can run.

    /// In the guard's process of this life; later if the guard or its machine stands still.
    pub(crate) fn in_guard(&mut self, id: Id, life: u64, then: impl FnOnce(&mut Self) + 'static) {
        let guard = &self.guards[id];
        if guard.life != life || !guard.alive {
            return;
        }
        if guard.frozen || self.machines[id].halted {
            let then: Then = Box::new(move |world| world.in_guard(id, life, then));
            self.guard_backlog[id].push(then);
            return;
        }
        then(self);
    }

    pub(crate) fn guard_after(&mut self, id: Id, delay: Time, then: impl FnOnce(&mut Self) + 'static) {
        let life = self.guards[id].life;
        self.after(delay, move |world| world.in_guard(id, life, then));
    }

    pub(crate) fn in_database(&mut self, id: Id, life: u64, then: impl FnOnce(&mut Self) + 'static) {
        let database = &self.databases[id];
        if database.life != life {
            return;
        }
        if database.frozen || self.machines[id].halted {
            let then: Then = Box::new(move |world| world.in_database(id, life, then));
            self.database_backlog[id].push(then);
            return;
        }
        then(self);
    }

    pub(crate) fn database_after(&mut self, id: Id, delay: Time, then: impl FnOnce(&mut Self) + 'static) {
        let life = self.databases[id].life;
        self.after(delay, move |world| world.in_database(id, life, then));
    }

    /// On the machine, whatever processes are there.
    pub(crate) fn on_machine(&mut self, id: Id, then: impl FnOnce(&mut Self) + 'static) {
        if self.machines[id].halted {
            let then: Then = Box::new(move |world| world.on_machine(id, then));
            self.machines[id].backlog.push(then);
            return;
        }
        then(self);
    }

    /// Everything that waited for it goes on, in its order; the deadman first, as it has nothing else to do.
    pub(crate) fn resume(&mut self, id: Id) {
        let mut backlog: Vec<Then> = Vec::new();
        if !self.machines[id].halted {
            backlog.append(&mut self.machines[id].backlog);
            if !self.databases[id].frozen {
                backlog.append(&mut self.database_backlog[id]);
            }
            if !self.guards[id].frozen {
                backlog.append(&mut self.guard_backlog[id]);
            }
        }
        for (index, then) in backlog.into_iter().enumerate() {
            self.after(index as Time, then);
        }
    }

    /// Arrives there, or not.
    pub(crate) fn send(&mut self, from: Id, to: Id, kind: Kind, then: impl FnOnce(&mut Self) + 'static) {
        if !self.network.open(from, to, kind) || self.network.lost(from, to, &mut self.random) {
            return;
        }
        let delay = self.network.delay(from, to, &mut self.random);
        self.after(delay, move |world| {
            if !world.machines[to].halted {
                then(world);
            }
        });
    }

    // What can be read afterwards.

    pub(crate) fn note(&mut self, text: impl Display) {
        let line = format!("{:>10.3} {text}", self.now as f64 / SECOND as f64);
        for byte in line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        }
        if self.setup.print {
            eprintln!("{line}");
        }
        self.trace.push(line);
    }

    pub(crate) fn last(&self, lines: usize) -> String {
        self.trace[self.trace.len().saturating_sub(lines)..].join("\n")
    }

    /// The same for the same seed.
    pub(crate) fn fingerprint(&mut self) -> u64 {
        self.hash ^ self.random.next() ^ self.number
    }

    /// The time of day that a machine believes.
    pub(crate) fn timestamp(&mut self, id: Id) -> jiff::Timestamp {
        let real = self.machines[id].clocks.real(self.now);
        jiff::Timestamp::from_microsecond(real).unwrap_or_default()
    }
}
