//! What there is: three database servers with their logs, the one value in the store, and what is on its way to it.
//!
//! Everything is a few bytes, because a check looks at millions of these.

use std::fmt;

use ha_core::{
    agreement::seals_needed,
    lsn::{Lsn, Position},
};

pub(crate) const NODES: usize = 3;
/// Epochs are numbered from 1; this many fit.
pub(crate) const EPOCHS: usize = 5;

pub(crate) type Id = u8;
pub(crate) type Epoch = u8;

/// A set of servers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Set(u8);

impl Set {
    pub(crate) const ALL: Self = Self(0b111);

    pub(crate) const fn of(id: Id) -> Self {
        Self(1 << id)
    }

    pub(crate) const fn has(self, id: Id) -> bool {
        self.0 & (1 << id) != 0
    }

    pub(crate) const fn with(self, id: Id) -> Self {
        Self(self.0 | 1 << id)
    }

    pub(crate) const fn without(self, id: Id) -> Self {
        Self(self.0 & !(1 << id))
    }

    pub(crate) const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    pub(crate) const fn is_within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = Id> {
        (0..NODES as Id).filter(move |id| self.has(*id))
    }

    pub(crate) fn renamed(self, to: &[Id; NODES]) -> Self {
        self.iter().fold(Self(0), |set, id| set.with(to[id as usize]))
    }
}

impl fmt::Debug for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(name)).finish()
    }
}

pub(crate) const fn name(id: Id) -> char {
    (b'A' + id) as char
}

/// A write-ahead log: up to eight records, one byte each, timeline and what was written. 0 is the record that begins a
/// timeline, the others are the writes of clients.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Log(u64);

impl Log {
    pub(crate) const fn len(self) -> u8 {
        ((64 - self.0.leading_zeros()).div_ceil(8)) as u8
    }

    const fn at(self, index: u8) -> u8 {
        (self.0 >> (8 * index)) as u8
    }

    pub(crate) const fn is_full(self) -> bool {
        self.len() == 8
    }

    /// The timeline of the last record.
    pub(crate) const fn timeline(self) -> u8 {
        if self.0 == 0 { 0 } else { self.at(self.len() - 1) >> 4 }
    }

    pub(crate) const fn and(self, timeline: u8, write: u8) -> Self {
        Self(self.0 | ((timeline << 4 | write) as u64) << (8 * self.len()))
    }

    /// Where the record of `write` ends.
    pub(crate) fn end_of(self, write: u8) -> Option<u8> {
        (0..self.len()).find(|it| self.at(*it) & 15 == write).map(|it| it + 1)
    }

    /// The write at `index`, if it is one that its present timeline began with.
    pub(crate) fn writes(self) -> impl Iterator<Item = (u8, u8)> {
        (0..self.len())
            .map(move |it| (self.at(it) >> 4, self.at(it) & 15))
            .filter(|it| it.1 != 0)
    }

    /// A server that ends here can stream from one that has `source`: its position lies on the source's lineage.
    pub(crate) fn is_on_lineage_of(self, source: Self) -> bool {
        self.0 == 0 || (self.len() <= source.len() && source.at(self.len() - 1) >> 4 == self.timeline())
    }

    /// One record more, from a source whose lineage this is on.
    pub(crate) fn streamed_from(self, source: Self) -> Self {
        Self(self.0 | u64::from(source.at(self.len())) << (8 * self.len()))
    }

    /// Where both have a record of the same timeline at the same place, everything up to it is the same.
    pub(crate) fn agrees_with(self, other: Self) -> bool {
        (0..self.len().min(other.len()))
            .rev()
            .find(|it| self.at(*it) >> 4 == other.at(*it) >> 4)
            .is_none_or(|it| (self.0 ^ other.0) << (56 - 8 * it) == 0)
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for index in 0..self.len() {
            match (self.at(index) >> 4, self.at(index) & 15) {
                (timeline, 0) => write!(f, "|{timeline}:")?,
                (_, write) => write!(f, "w{write}")?,
            }
        }
        Ok(())
    }
}

/// V and W: whose acknowledgements count, and how many of them a commit needs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub(crate) struct Quorum {
    pub(crate) voters: Set,
    pub(crate) acks: u8,
}

impl Quorum {
    pub(crate) const fn seals_needed(self) -> usize {
        seals_needed(self.voters.len(), self.acks as usize)
    }

    /// What PostgreSQL on `leader` is to enforce for it.
    pub(crate) const fn rule(self, leader: Id) -> Rule {
        if self.acks == 0 {
            Rule::EMPTY
        } else {
            Rule::any(self.voters.without(leader))
        }
    }
}

/// `synchronous_standby_names`: a commit waits for `need` of `of`. Names carry the epoch of the primary.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub(crate) struct Rule {
    pub(crate) need: u8,
    pub(crate) of: Set,
}

impl Rule {
    pub(crate) const EMPTY: Self = Self { need: 0, of: Set(0) };
    /// `ANY 1 (ha_fenced)`: nobody has that name.
    pub(crate) const FENCED: Self = Self { need: 1, of: Set(0) };

    pub(crate) const fn any(of: Set) -> Self {
        Self { need: 1, of }
    }

    /// Whatever satisfies this satisfies `other`.
    pub(crate) const fn is_as_strong_as(self, other: Self) -> bool {
        other.need == 0 || (self.need == 1 && self.of.is_within(other.of))
    }

    fn renamed(self, to: &[Id; NODES]) -> Self {
        Self {
            of: self.of.renamed(to),
            ..self
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub(crate) enum Role {
    #[default]
    Standby,
    Primary,
    /// Stopped for a switchover, and it would come up as a sealed standby.
    Stopped,
    /// Stopped, and whoever starts it by hand gets a primary with the names it had (mutants only).
    StoppedWritable,
    /// A rewind or a clone is under way, or was left half-way.
    Ruined,
}

/// Whom a standby streams from, and the epoch in the name it gives there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Link {
    pub(crate) source: Id,
    pub(crate) epoch: Epoch,
    /// The walreceiver has not attached yet (mutants only: otherwise it is a link over which nothing came so far).
    pub(crate) connecting: bool,
}

/// What a guard reported in `member/<node>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Seal {
    pub(crate) epoch: Epoch,
    pub(crate) at: (u8, u8),
}

impl Seal {
    pub(crate) fn position(self) -> Position {
        Position {
            timeline: u32::from(self.at.0),
            lsn: Lsn(u64::from(self.at.1)),
        }
    }
}

/// A database server with the guard beside it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub(crate) struct Server {
    pub(crate) log: Log,
    pub(crate) role: Role,
    /// The last epoch it was promoted in; a primary writes in it. In the guard's file.
    pub(crate) epoch: Epoch,
    /// No acknowledgement is given to an earlier epoch. In the guard's file.
    pub(crate) promise: Epoch,
    pub(crate) seal: Option<Seal>,
    pub(crate) link: Option<Link>,
    /// A primary: the configured names …
    pub(crate) rule: Rule,
    /// … and those that some of its processes still obey.
    pub(crate) fading: Option<Rule>,
    /// The LSN that a remaining voter must have flushed; 0 is none. In memory.
    pub(crate) barrier: u8,
    /// What this leader knows to be published. In memory.
    pub(crate) known: Option<Quorum>,
    /// What it asked to be published, without an answer so far. In memory.
    pub(crate) asked: Option<Quorum>,
    /// `term` once said that it is no voter (mutants only).
    pub(crate) was_dropped: bool,
}

impl Server {
    /// A sealed standby: nothing comes in, nothing is acknowledged, nor would it be after a start by hand.
    pub(crate) const fn shut(&mut self) {
        self.role = Role::Standby;
        self.link = None;
        self.rule = Rule::FENCED;
        self.fading = None;
        self.forget();
    }

    /// The guard was started again.
    pub(crate) const fn forget(&mut self) {
        self.barrier = 0;
        self.known = None;
        self.asked = None;
    }

    pub(crate) fn is_primary_of(&self, epoch: Epoch) -> bool {
        self.role == Role::Primary && self.epoch == epoch
    }

    /// Every rule that some process of this primary obeys now.
    pub(crate) fn obeyed(&self) -> impl Iterator<Item = Rule> {
        [Some(self.rule), self.fading].into_iter().flatten()
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Phase {
    Active,
    Sealing,
    Switching { to: Id },
}

/// The value in the store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Term {
    pub(crate) epoch: Epoch,
    pub(crate) phase: Phase,
    pub(crate) leader: Id,
    pub(crate) quorum: Quorum,
    pub(crate) chosen: Option<Id>,
}

/// What `term` said about an epoch at some time. A guard that acts on an old copy acts on one of these.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub(crate) struct Past {
    pub(crate) chosen: Option<Id>,
    pub(crate) quorum: Quorum,
    pub(crate) published: bool,
}

/// A change of V and W that was sent to the store. It applies only if `term` is still what its sender had read, so any
/// other change of `term` takes it away; until then it may arrive at any time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct InFlight {
    pub(crate) by: Id,
    pub(crate) quorum: Quorum,
}

/// How often something happened that is limited to keep the search finite.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub(crate) struct Used {
    pub(crate) writes: u8,
    pub(crate) changes: u8,
    pub(crate) rogue: u8,
    pub(crate) restarts: u8,
    pub(crate) rebuilds: u8,
    pub(crate) switches: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct State {
    pub(crate) servers: [Server; NODES],
    pub(crate) term: Term,
    pub(crate) past: [Past; EPOCHS + 1],
    pub(crate) in_flight: Option<InFlight>,
    /// Writes whose clients saw a commit.
    pub(crate) acknowledged: u8,
    pub(crate) used: Used,
    /// Rules that the last step broke; see [`crate::properties`].
    pub(crate) flaws: u8,
}

impl State {
    /// Epoch 1 is what initdb made: A leads, B and C stream from it.
    pub(crate) fn first(quorum: Quorum) -> Self {
        let standby = Server {
            log: Log::default().and(1, 0),
            promise: 1,
            rule: Rule::FENCED,
            link: Some(Link {
                source: 0,
                epoch: 1,
                connecting: false,
            }),
            ..Server::default()
        };
        let primary = Server {
            role: Role::Primary,
            epoch: 1,
            link: None,
            rule: quorum.rule(0),
            known: Some(quorum),
            ..standby
        };
        let mut past = [Past::default(); EPOCHS + 1];
        past[1] = Past {
            chosen: Some(0),
            quorum,
            published: true,
        };
        Self {
            servers: [primary, standby, standby],
            term: Term {
                epoch: 1,
                phase: Phase::Active,
                leader: 0,
                quorum,
                chosen: None,
            },
            past,
            in_flight: None,
            acknowledged: 0,
            used: Used::default(),
            flaws: 0,
        }
    }

    pub(crate) const fn at(&self, id: Id) -> &Server {
        &self.servers[id as usize]
    }

    pub(crate) const fn at_mut(&mut self, id: Id) -> &mut Server {
        &mut self.servers[id as usize]
    }

    pub(crate) fn ids() -> impl Iterator<Item = Id> {
        0..NODES as Id
    }

    /// The standbys that stream from `source` under its epoch, and so can acknowledge for it.
    pub(crate) fn streaming_from(&self, source: Id) -> Set {
        Self::ids()
            .filter(|id| self.counts_for(*id, source, true))
            .fold(Set::default(), Set::with)
    }

    pub(crate) fn counts_for(&self, id: Id, source: Id, by_epoch: bool) -> bool {
        let server = self.at(id);
        server.role == Role::Standby
            && server.link.is_some_and(|it| {
                it.source == source && !it.connecting && (!by_epoch || it.epoch == self.at(source).epoch)
            })
    }

    /// Nothing here depends on what a server is called, so states that differ only in that are one.
    pub(crate) fn canonical(self) -> Self {
        const ORDERS: [[Id; NODES]; 5] = [[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
        ORDERS.iter().map(|to| self.renamed(to)).fold(self, Ord::min)
    }

    fn renamed(&self, to: &[Id; NODES]) -> Self {
        let id = |it: Id| to[it as usize];
        let quorum = |it: Quorum| Quorum {
            voters: it.voters.renamed(to),
            ..it
        };
        let mut next = *self;
        for (from, server) in self.servers.iter().enumerate() {
            let moved = &mut next.servers[to[from] as usize];
            *moved = *server;
            moved.rule = server.rule.renamed(to);
            moved.fading = server.fading.map(|it| it.renamed(to));
            moved.link = server.link.map(|it| Link {
                source: id(it.source),
                ..it
            });
            moved.known = server.known.map(quorum);
            moved.asked = server.asked.map(quorum);
        }
        next.term.leader = id(self.term.leader);
        next.term.quorum = quorum(self.term.quorum);
        next.term.chosen = self.term.chosen.map(id);
        if let Phase::Switching { to } = self.term.phase {
            next.term.phase = Phase::Switching { to: id(to) };
        }
        for past in &mut next.past {
            past.chosen = past.chosen.map(id);
            past.quorum = quorum(past.quorum);
        }
        next.in_flight = self.in_flight.map(|it| InFlight {
            by: id(it.by),
            quorum: quorum(it.quorum),
        });
        next
    }
}
