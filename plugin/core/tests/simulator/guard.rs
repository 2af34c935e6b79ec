//! A guard: what it remembers of the store, what it sees of its database and of the others, and its cycle.

use std::{collections::BTreeMap, rc::Rc, time::Duration};

use ha_core::{
    agreement::{Epoch, Lease, Member, Need, Pause, Phase, Sealed, Term, Verdict},
    decide::{Barrier, Blocked, Holding, Job, Promise},
    lsn::Position,
    model::Timing,
    report::DatabaseState,
};

use crate::{
    clocks::Moment,
    database::Proc,
    store::{Answer, Ask, Entries, Key, Value},
    world::{Id, MS, NAMES, NODES, SECOND, Time, World},
};

/// One key as it was last seen.
#[derive(Clone)]
pub(crate) struct Known<T> {
    pub(crate) value: T,
    pub(crate) revision: u64,
    pub(crate) since: Moment,
}

/// What a guard knows of the store.
#[derive(Clone, Default)]
pub(crate) struct View {
    pub(crate) term: Option<Known<Term>>,
    pub(crate) lease: Option<Known<Lease>>,
    pub(crate) pause: Option<Known<Pause>>,
    pub(crate) members: BTreeMap<Id, Known<Member>>,
    pub(crate) answered: Option<Moment>,
    pub(crate) answers: bool,
    pub(crate) went_back: Option<String>,
    pub(crate) active_since: Option<Moment>,
    pub(crate) sealing_since: Option<Moment>,
    pub(crate) switching_since: Option<Moment>,
    /// Read anything at all in this life.
    pub(crate) read: bool,
}

/// Looks at another node.
#[derive(Clone, Copy, Default)]
pub(crate) struct Looks {
    pub(crate) sql_failed: u32,
    pub(crate) http_failed: u32,
    pub(crate) looked: u32,
    pub(crate) sql_ok_at: Time,
}

pub(crate) struct Guard {
    pub(crate) alive: bool,
    pub(crate) frozen: bool,
    pub(crate) life: u64,
    pub(crate) timing: Timing,
    /// Survives: the file.
    pub(crate) promise: Promise,
    pub(crate) remembered: u64,
    // Everything else does not.
    pub(crate) started: Moment,
    pub(crate) view: View,
    pub(crate) endpoint: Id,
    pub(crate) holding: Option<(Epoch, Moment)>,
    pub(crate) sent: Option<Moment>,
    pub(crate) swapping: bool,
    /// No swap of `term` by an earlier life or without an answer may still arrive.
    pub(crate) affirmed: bool,
    pub(crate) looks: [Looks; NODES],
    pub(crate) votes: BTreeMap<String, Verdict>,
    pub(crate) unanswered: u32,
    pub(crate) sealed: Option<Sealed>,
    pub(crate) need: Option<Need>,
    pub(crate) told_need: Option<Need>,
    pub(crate) barrier: Option<Barrier>,
    pub(crate) waiting_since: Option<Moment>,
    pub(crate) job: Option<(Job, u64)>,
    pub(crate) jobs: u64,
    pub(crate) serves: bool,
    pub(crate) blocked: Option<Blocked>,
    pub(crate) reported: Option<Member>,
    pub(crate) reported_at: Time,
    pub(crate) beat: u64,
    pub(crate) said: String,
    /// True time at which this guard last said `Down` of a node.
    pub(crate) said_down: [Option<Time>; NODES],
    // The deadman's, in a process of its own: by BOOTTIME.
    pub(crate) deadline: Option<i64>,
}

impl Guard {
    pub(crate) fn new(id: Id) -> Self {
        Self {
            alive: false,
            frozen: false,
            life: 0,
            timing: ha_core::model::TimingProfile::Near.timing(),
            promise: Promise::default(),
            remembered: 0,
            started: Moment::default(),
            view: View::default(),
            endpoint: id,
            holding: None,
            sent: None,
            swapping: false,
            affirmed: false,
            looks: [Looks::default(); NODES],
            votes: BTreeMap::new(),
            unanswered: 0,
            sealed: None,
            need: None,
            told_need: None,
            barrier: None,
            waiting_since: None,
            job: None,
            jobs: 0,
            serves: false,
            blocked: None,
            reported: None,
            reported_at: 0,
            beat: 0,
            said: String::new(),
            said_down: [None; NODES],
            deadline: None,
        }
    }

    pub(crate) fn is_busy(&self, ticket: u64) -> bool {
        self.job.is_some_and(|(_, number)| number == ticket)
    }
}

pub(crate) fn micros(duration: Duration) -> Time {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl World {
    pub(crate) fn moment(&mut self, id: Id) -> Moment {
        self.machines[id].clocks.now(self.now)
    }

    /// A new life, with nothing but the file.
    pub(crate) fn start_guard(&mut self, id: Id) {
        let started = self.moment(id);
        let timing = self.setup.profile.timing();
        let old = &self.guards[id];
        let mut guard = Guard {
            alive: true,
            life: old.life + 1,
            timing,
            promise: old.promise,
            remembered: old.remembered,
            deadline: old.deadline,
            jobs: old.jobs,
            beat: old.beat,
            said_down: old.said_down,
            ..Guard::new(id)
        };
        guard.started = started;
        guard.votes = NAMES.iter().map(|it| ((*it).to_owned(), Verdict::Unknown)).collect();
        self.guards[id] = guard;
        let first = self.random.range(1, 100) * MS;
        self.guard_after(id, first, move |world| world.tick(id));
        self.guard_after(id, first, move |world| world.read(id));
        self.guard_after(id, first, move |world| world.probe(id));
    }

    pub(crate) fn crash_guard(&mut self, id: Id) {
        self.note(format_args!("{} guard dies", NAMES[id]));
        let guard = &mut self.guards[id];
        guard.alive = false;
        guard.life += 1;
        guard.serves = false;
    }

    // The store.

    fn read(&mut self, id: Id) {
        let every = micros(self.guards[id].timing.renew);
        self.guard_after(id, every, move |world| world.read(id));
        let seen = self.guards[id].remembered;
        let sent = self.moment(id);
        self.ask(id, Ask::Read, move |world, answer| match answer {
            Answer::Entries(entries, revision) => {
                world.answered(id, sent);
                world.snapshot(id, &entries, revision, seen);
            }
            _ => world.guards[id].view.answers = false,
        });
    }

    /// It had its quorum not before `sent`.
    pub(crate) fn answered(&mut self, id: Id, sent: Moment) {
        let view = &mut self.guards[id].view;
        view.answers = true;
        view.answered = Some(sent);
    }

    fn snapshot(&mut self, id: Id, entries: &Rc<Entries>, revision: u64, seen: u64) {
        if revision < seen {
            let why = format!("it is at revision {revision}, and it was at {seen} before");
            self.guards[id].view.went_back = Some(why);
            return self.think(id);
        }
        let now = self.moment(id);
        let guard = &mut self.guards[id];
        guard.remembered = guard.remembered.max(revision);
        guard.view.read = true;
        let view = &mut guard.view;
        let gone = |key: Key, known: Option<u64>| known.is_some_and(|it| it <= revision) && !entries.contains_key(&key);
        if gone(Key::Pause, view.pause.as_ref().map(|it| it.revision)) {
            view.pause = None;
        }
        for member in 0..NODES {
            if gone(Key::Member(member), view.members.get(&member).map(|it| it.revision)) {
                view.members.remove(&member);
            }
        }
        for (key, (value, revision)) in entries.iter() {
            view.learn(*key, Some(value), *revision, now);
        }
        self.think(id);
    }

    /// A watch delivered.
    pub(crate) fn seen(&mut self, id: Id, write: &[(Key, Option<Value>)], revision: u64) {
        let now = self.moment(id);
        let guard = &mut self.guards[id];
        if !guard.view.read {
            return;
        }
        guard.remembered = guard.remembered.max(revision);
        let mut matters = false;
        for (key, value) in write {
            guard.view.learn(*key, value.as_ref(), revision, now);
            matters |= !matches!(key, Key::Lease);
        }
        if matters {
            self.think(id);
        }
    }

    // The others.

    fn probe(&mut self, id: Id) {
        let every = micros(self.guards[id].timing.probe_interval);
        self.guard_after(id, every, move |world| world.probe(id));
        for other in (0..NODES).filter(|it| *it != id) {
            self.look_at(id, other);
        }
        let guard = &mut self.guards[id];
        let down = match self.databases[id].proc {
            Proc::Down { .. } => true,
            _ if self.databases[id].answers() => {
                guard.unanswered = 0;
                false
            }
            Proc::Starting { .. } => false,
            _ => {
                guard.unanswered += 1;
                guard.unanswered >= guard.timing.probe_failures
            }
        };
        let own = if down { Verdict::Down } else { Verdict::Up };
        self.vote(id, id, own);
    }

    /// Its database by SQL, and its guard: each answers in time, or not.
    fn look_at(&mut self, id: Id, other: Id) {
        use crate::network::Kind;
        let timeout = micros(self.guards[id].timing.probe_timeout);
        for kind in [Kind::Database, Kind::Guard] {
            let heard = Rc::new(std::cell::Cell::new(false));
            let late = heard.clone();
            let has_data = kind == Kind::Guard || self.setup.has_data(other);
            self.guard_after(id, timeout, move |world| {
                if has_data {
                    world.looked(id, other, kind, late.get());
                }
            });
            let life = self.guards[id].life;
            self.send(id, other, kind, move |world| {
                let answers = match kind {
                    Kind::Database => world.databases[other].answers(),
                    _ => {
                        let guard = &world.guards[other];
                        // A guard that says of its own database that it is gone knows it.
                        guard.alive && !guard.frozen && guard.votes.get(NAMES[other]) != Some(&Verdict::Down)
                    }
                };
                if answers {
                    world.send(other, id, kind, move |world| {
                        world.in_guard(id, life, move |_| heard.set(true));
                    });
                }
            });
        }
    }

    fn looked(&mut self, id: Id, other: Id, kind: crate::network::Kind, ok: bool) {
        use crate::network::Kind;
        let now = self.now;
        let has_data = self.setup.has_data(other);
        let guard = &mut self.guards[id];
        let looks = &mut guard.looks[other];
        let failed = if kind == Kind::Database {
            &mut looks.sql_failed
        } else {
            &mut looks.http_failed
        };
        *failed = if ok { 0 } else { *failed + 1 };
        if ok && kind == Kind::Database {
            looks.sql_ok_at = now;
        }
        looks.looked += 1;
        let (timing, looks) = (guard.timing, *looks);
        let many = timing.probe_failures;
        let line = self.databases[id].receiver.and_then(|it| self.lines.get(&it));
        let line = line.filter(|it| it.primary == other && it.streaming);
        let streams = line.is_some_and(|it| now - it.heard_at <= micros(timing.detect()));
        let grows = line.is_some_and(|it| now - it.grew_at <= micros(self.setup.policy.stall_limit));
        let sql = has_data && looks.sql_failed < many;
        let http = looks.http_failed < many;
        let verdict = if looks.looked < many * 2 {
            Verdict::Unknown
        } else if http && (sql || !has_data) {
            Verdict::Up
        } else if sql || http || (streams && grows) {
            Verdict::Suspect
        } else {
            Verdict::Down
        };
        self.vote(id, other, verdict);
    }

    fn vote(&mut self, id: Id, of: Id, verdict: Verdict) {
        let now = self.now;
        let guard = &mut self.guards[id];
        if verdict == Verdict::Down {
            guard.said_down[of] = Some(now);
        }
        if guard.votes.insert(NAMES[of].to_owned(), verdict) != Some(verdict) {
            self.note(format_args!(
                "{} says that {} is {}",
                NAMES[id],
                NAMES[of],
                verdict.as_str()
            ));
            self.think(id);
        }
    }

    // The cycle.

    fn tick(&mut self, id: Id) {
        let next = self.random.range(80, 120) * MS;
        self.guard_after(id, next, move |world| world.tick(id));
        self.think(id);
    }

    /// Looks, decides, does.
    pub(crate) fn think(&mut self, id: Id) {
        let guard = &self.guards[id];
        if !guard.alive || guard.frozen || self.machines[id].halted {
            return;
        }
        let facts = self.facts(id);
        let decision = (self.setup.decide)(&facts);
        let said = decision
            .acts
            .iter()
            .map(|act| format!("{:?}", act.action))
            .collect::<Vec<_>>()
            .join("; ");
        let code = decision.blocked.as_ref().map_or("", |it| it.code);
        let said = format!("{said} [{code}]");
        if said != self.guards[id].said && !said.starts_with("Renew") {
            self.note(format_args!("{} decides {said}", NAMES[id]));
            self.guards[id].said = said;
        }
        let guard = &mut self.guards[id];
        guard.serves = decision.serve.primary;
        guard.blocked = decision.blocked.clone();
        guard.told_need = decision.need.clone();
        self.arm(id, decision.allowed);
        self.report(id, &facts, &decision);
        for act in decision.acts {
            self.perform(id, act, &facts);
        }
    }

    // The deadman.

    fn arm(&mut self, id: Id, allowed: Option<Duration>) {
        let boot = self.machines[id].clocks.boot(self.now);
        let deadline = allowed.map(|it| boot + i64::try_from(it.as_micros()).unwrap_or(i64::MAX / 2));
        self.guards[id].deadline = deadline;
    }

    /// Also the write canary: both once in a while, on the machine.
    pub(crate) fn heartbeat(&mut self, id: Id) {
        self.after(50 * MS, move |world| {
            world.on_machine(id, move |world| world.heartbeat(id))
        });
        let boot = self.machines[id].clocks.boot(self.now);
        if self.guards[id].deadline.is_some_and(|it| boot >= it) && !self.setup.flaws.no_deadman {
            self.guards[id].deadline = None;
            if !matches!(self.databases[id].proc, Proc::Down { .. }) {
                self.kill(id, "the deadman's time is over");
                self.databases[id].disk.seal();
            }
        }
        let second = self.now / SECOND != (self.now - 50 * MS) / SECOND;
        if second && self.guards[id].alive && !self.guards[id].frozen && self.databases[id].answers() {
            self.write(id, 0, self.now);
        }
    }

    fn report(&mut self, id: Id, facts: &ha_core::decide::Facts, decision: &ha_core::decide::Decision) {
        let database = &facts.database;
        let state = match self.databases[id].proc {
            _ if !self.databases[id].disk.exists => DatabaseState::Absent,
            Proc::Down { .. } => DatabaseState::Stopped,
            Proc::Starting { .. } => DatabaseState::Starting,
            _ => DatabaseState::Running,
        };
        let guard = &self.guards[id];
        let mut member = Member {
            region: format!("region-{}", NAMES[id]),
            node: NAMES[id].to_owned(),
            beat: 0,
            at: jiff::Timestamp::UNIX_EPOCH,
            state,
            detail: None,
            role: database.role,
            position: database.position,
            replayed: database.replayed,
            promised: guard.promise.epoch,
            sealed: database.sealed,
            follows: None,
            checkpointed: database.checkpointed,
            need: decision.need.clone(),
            stopped: matches!(self.databases[id].proc, Proc::Down { .. }) && guard.job.is_none() && !decision.may_write,
            restarting: decision.may_write,
            votes: guard.votes.clone(),
            doing: None,
            blocked: None,
            version: String::new(),
            settings: String::new(),
        };
        // What only grows is told with the beat.
        let (position, replayed): (Option<Position>, _) = (member.position, member.replayed.take());
        member.position = None;
        let same = guard.reported.as_ref() == Some(&member);
        let due = self.now - guard.reported_at >= micros(guard.timing.renew);
        if same && !due {
            return;
        }
        let at = self.timestamp(id);
        let guard = &mut self.guards[id];
        guard.reported = Some(member.clone());
        guard.reported_at = self.now;
        guard.beat += 1;
        (member.beat, member.position, member.replayed, member.at) = (guard.beat, position, replayed, at);
        let beat = guard.beat;
        let write = vec![(Key::Member(id), Some(Value::Member(Box::new(member))))];
        let ask = Ask::Swap {
            expected: Vec::new(),
            write,
        };
        self.ask(id, ask, move |world, answer| {
            if matches!(answer, Answer::Unknown) {
                world.guards[id].reported = None;
            }
        });
        self.after(30 * SECOND, move |world| {
            if world.guards[id].beat == beat {
                world.expire(id);
            }
        });
    }

    pub(crate) fn holding(&mut self, id: Id) -> Holding {
        let now = self.moment(id);
        let guard = &self.guards[id];
        let left = guard
            .holding
            .and_then(|(_, sent)| guard.timing.hold.checked_sub(now.largest_since(sent)));
        Holding {
            epoch: guard.holding.map_or(0, |(epoch, _)| epoch),
            left,
            sent: guard.sent.map(|it| now.largest_since(it)),
        }
    }
}

impl View {
    fn learn(&mut self, key: Key, value: Option<&Value>, revision: u64, now: Moment) {
        fn newer<T>(known: Option<&Known<T>>, revision: u64) -> bool {
            known.is_none_or(|it| it.revision < revision)
        }
        fn known<T: Clone>(value: &T, revision: u64, since: Moment) -> Known<T> {
            Known {
                value: value.clone(),
                revision,
                since,
            }
        }
        match (key, value) {
            (Key::Term, Some(Value::Term(term))) if newer(self.term.as_ref(), revision) => {
                let before = self.term.as_ref().map(|it| (it.value.epoch, it.value.phase));
                if before != Some((term.epoch, term.phase)) {
                    let same_epoch = before.is_some_and(|it| it.0 == term.epoch);
                    match term.phase {
                        Phase::Active if !(same_epoch && self.active_since.is_some()) => self.active_since = Some(now),
                        Phase::Active => {}
                        Phase::Sealing => {
                            self.active_since = None;
                            if self.sealing_since.is_none() || !same_epoch {
                                self.sealing_since = Some(now);
                            }
                        }
                        Phase::Switching => {}
                    }
                    if term.phase != Phase::Sealing {
                        self.sealing_since = None;
                    }
                    self.switching_since = (term.phase == Phase::Switching).then_some(now);
                }
                self.term = Some(known(&**term, revision, now));
            }
            (Key::Lease, Some(Value::Lease(lease))) if newer(self.lease.as_ref(), revision) => {
                self.lease = Some(known(lease, revision, now));
            }
            (Key::Pause, Some(Value::Pause(pause))) if newer(self.pause.as_ref(), revision) => {
                self.pause = Some(known(pause, revision, now));
            }
            (Key::Pause, None) if newer(self.pause.as_ref(), revision) => self.pause = None,
            (Key::Member(id), Some(Value::Member(member))) if newer(self.members.get(&id), revision) => {
                self.members.insert(id, known(&**member, revision, now));
            }
            (Key::Member(id), None) if newer(self.members.get(&id), revision) => {
                self.members.remove(&id);
            }
            _ => {}
        }
    }

    /// A swap of one's own that was answered with success, before a watch tells it.
    pub(crate) fn own(&mut self, key: Key, value: &Value, revision: u64, now: Moment) {
        self.learn(key, Some(value), revision, now);
    }
}
