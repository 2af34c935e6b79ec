//! The agreement store: one register map with revisions, behind members that may not be reached.

use std::{cell::Cell, collections::BTreeMap, rc::Rc};

use ha_core::{
    agreement::{History, Lease, Member, Pause, Term},
    lsn::Lsn,
};

use crate::{
    network::Kind,
    world::{Id, MS, NAMES, NODES, SECOND, Time, World},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Term,
    Lease,
    Pause,
    Member(Id),
    History(u64),
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Term(Box<Term>),
    Lease(Lease),
    Pause(Pause),
    Member(Box<Member>),
    #[expect(dead_code, reason = "written, and read by nobody here")]
    History(Box<History>),
}

pub(crate) type Entries = BTreeMap<Key, (Value, u64)>;

/// What a guard asks of the store.
#[derive(Clone)]
pub(crate) enum Ask {
    /// Everything, at one revision that no earlier answer was past.
    Read,
    /// All `expected` are as they were (zero: absent); then the keys are written.
    Swap {
        expected: Vec<(Key, u64)>,
        write: Vec<(Key, Option<Value>)>,
    },
}

#[derive(Clone)]
pub(crate) enum Answer {
    Entries(Rc<Entries>, u64),
    Done(u64),
    Changed,
    /// Nothing came back in time: it may have happened, or still happen.
    Unknown,
}

/// What is done with an answer.
type Callback = Box<dyn FnOnce(&mut World, Answer)>;

pub(crate) struct Store {
    pub(crate) entries: Entries,
    pub(crate) revision: u64,
    pub(crate) down: [bool; NODES],
    pub(crate) leader: Option<Id>,
    electing: bool,
    /// Watches deliver late by up to this much.
    pub(crate) late: Time,
    /// An answer is lost after it took effect, in so many of a hundred.
    pub(crate) forgets: u64,
    shown: [Time; NODES],
}

impl Store {
    pub(crate) fn new() -> Self {
        Self {
            entries: BTreeMap::new(),
            revision: 0,
            down: [false; NODES],
            leader: Some(NODES - 1),
            electing: false,
            late: 0,
            forgets: 0,
            shown: [0; NODES],
        }
    }

    pub(crate) fn term(&self) -> Option<&Term> {
        match self.entries.get(&Key::Term)? {
            (Value::Term(term), _) => Some(term),
            _ => None,
        }
    }
}

impl World {
    pub(crate) fn start_store(&mut self) {
        self.after(100 * MS, Self::watch_over_store);
    }

    /// The first term, as it is once the cluster was made.
    pub(crate) fn found_term(&mut self, data: usize) {
        let at = self.timestamp(0);
        let nodes = NAMES[..data].iter().map(|it| (*it).to_owned()).collect();
        let term = Term::first(NAMES[0], 1, nodes, self.setup.mode, Vec::new(), at);
        let history = History {
            epoch: 1,
            node: NAMES[0].to_owned(),
            timeline: 1,
            start: Lsn(0),
            parent: None,
            reason: ha_core::agreement::Reason::First,
            detail: String::new(),
            by: NAMES[0].to_owned(),
            sealed: BTreeMap::new(),
            lost_bytes: None,
            accept_loss: false,
            op: None,
            at,
            steps: Vec::new(),
        };
        self.apply(vec![
            (Key::Term, Some(Value::Term(Box::new(term)))),
            (Key::History(1), Some(Value::History(Box::new(history)))),
        ]);
    }

    fn member_up(&self, id: Id) -> bool {
        !self.store.down[id] && !self.machines[id].halted
    }

    /// The member sees a majority, itself included, both ways.
    fn has_majority(&self, id: Id) -> bool {
        let seen = (0..NODES)
            .filter(|other| self.member_up(*other) && self.network.both(id, *other, Kind::Store))
            .count();
        self.member_up(id) && seen > NODES / 2
    }

    fn watch_over_store(&mut self) {
        if let Some(leader) = self.store.leader
            && !self.has_majority(leader)
        {
            self.note(format_args!("store: {} leads no more", NAMES[leader]));
            self.store.leader = None;
        }
        if self.store.leader.is_none() && !self.store.electing {
            self.store.electing = true;
            let election = u64::try_from(self.guards[0].timing.store_election.as_micros()).unwrap_or(SECOND);
            let delay = self.random.range(election, election * 2);
            self.after(delay, |world| {
                world.store.electing = false;
                let able: Vec<Id> = (0..NODES).filter(|id| world.has_majority(*id)).collect();
                if !able.is_empty() {
                    let chosen = able[world.random.below(able.len())];
                    world.note(format_args!("store: {} leads", NAMES[chosen]));
                    world.store.leader = Some(chosen);
                }
            });
        }
        self.after(100 * MS, Self::watch_over_store);
    }

    /// One call. `then` runs in the guard that asked, exactly once while it lives: with the answer, or with
    /// [`Answer::Unknown`] when none came in time.
    pub(crate) fn ask(&mut self, id: Id, ask: Ask, then: impl FnOnce(&mut Self, Answer) + 'static) {
        let answered = Rc::new(Cell::new(false));
        let then: Rc<Cell<Option<Callback>>> = Rc::new(Cell::new(Some(Box::new(then))));
        let life = self.guards[id].life;
        let timeout = u64::try_from(self.guards[id].timing.call_timeout.as_micros()).unwrap_or(SECOND);
        let member = self.guards[id].endpoint;
        let (late, callback) = (answered.clone(), then.clone());
        self.after(timeout, move |world| {
            world.in_guard(id, life, move |world| {
                if late.replace(true) {
                    return;
                }
                let guard = &mut world.guards[id];
                guard.endpoint = (guard.endpoint + 1) % NODES;
                if let Some(then) = callback.take() {
                    then(world, Answer::Unknown);
                }
            });
        });
        self.send(id, member, Kind::Store, move |world| {
            let reply = move |world: &mut World, answer: Answer| {
                if world.store.forgets > 0 && world.random.percent(world.store.forgets) {
                    return;
                }
                world.send(member, id, Kind::Store, move |world| {
                    world.in_guard(id, life, move |world| {
                        if !answered.replace(true)
                            && let Some(then) = then.take()
                        {
                            then(world, answer);
                        }
                    });
                });
            };
            world.propose(member, ask, 0, Box::new(reply));
        });
    }

    /// At a member: by way of the leader, when there is one; otherwise later.
    fn propose(&mut self, member: Id, ask: Ask, tries: u32, reply: Callback) {
        if !self.member_up(member) || tries > 50 {
            return;
        }
        let leader = self
            .store
            .leader
            .filter(|it| self.has_majority(*it) && self.network.both(member, *it, Kind::Store));
        let Some(leader) = leader else {
            return self.after(100 * MS, move |world| world.propose(member, ask, tries + 1, reply));
        };
        let other =
            (0..NODES).find(|it| *it != leader && self.member_up(*it) && self.network.both(leader, *it, Kind::Store));
        let there = self.network.delay(member, leader, &mut self.random);
        let round = other.map_or(0, |other| {
            self.network.delay(leader, other, &mut self.random) + self.network.delay(other, leader, &mut self.random)
        });
        self.after(there + round, move |world| {
            if world.store.leader != Some(leader) || !world.has_majority(leader) {
                return;
            }
            let answer = world.take_effect(ask);
            if !world.network.open(leader, member, Kind::Store) {
                return;
            }
            let back = world.network.delay(leader, member, &mut world.random);
            world.after(back, move |world| {
                if world.member_up(member) {
                    reply(world, answer);
                }
            });
        });
    }

    fn take_effect(&mut self, ask: Ask) -> Answer {
        match ask {
            Ask::Read => Answer::Entries(Rc::new(self.store.entries.clone()), self.store.revision),
            Ask::Swap { expected, write } => {
                let current = |key: &Key| self.store.entries.get(key).map_or(0, |(_, revision)| *revision);
                if !self.setup.flaws.blind_swaps && expected.iter().any(|(key, revision)| current(key) != *revision) {
                    return Answer::Changed;
                }
                Answer::Done(self.apply(write))
            }
        }
    }

    /// It happens; all who can be reached are told, in order.
    pub(crate) fn apply(&mut self, write: Vec<(Key, Option<Value>)>) -> u64 {
        self.store.revision += 1;
        let revision = self.store.revision;
        for (key, value) in &write {
            if let (Key::Term, Some(Value::Term(next))) = (key, value) {
                let before = self.store.term().cloned();
                self.term_changed(before.as_ref(), next);
            }
            match value {
                Some(value) => self.store.entries.insert(*key, (value.clone(), revision)),
                None => self.store.entries.remove(key),
            };
        }
        let write = Rc::new(write);
        for id in 0..NODES {
            let member = self.guards[id].endpoint;
            let path = self.store.leader.is_some_and(|leader| {
                self.network.open(leader, member, Kind::Store) && self.network.open(member, id, Kind::Store)
            });
            if !path || !self.member_up(member) {
                continue;
            }
            let delay = self.network.delay(member, id, &mut self.random) + self.random.range(0, self.store.late + 1);
            let at = (self.now + delay).max(self.store.shown[id] + 1);
            self.store.shown[id] = at;
            let write = write.clone();
            self.guard_after(id, at - self.now, move |world| world.seen(id, &write, revision));
        }
        revision
    }

    /// Members whose guards have been silent for long go away.
    pub(crate) fn expire(&mut self, id: Id) {
        if self.store.entries.contains_key(&Key::Member(id)) {
            self.note(format_args!("store: member {} expires", NAMES[id]));
            self.apply(vec![(Key::Member(id), None)]);
        }
    }
}
