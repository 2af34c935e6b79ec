//! What one guard knows when it decides. Ages and what is left of deadlines, never times: whoever fills this in owns
//! the clocks.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    agreement::{Epoch, Lease, Member, Need, Node, Pause, Sealed, Term, Verdict},
    lsn::{Lsn, Position},
    model::{FailoverPolicy, SyncMode, Timing},
    report::NodeRole,
};

#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    pub settings: Settings,
    pub store: StoreView,
    pub promise: Promise,
    pub database: Database,
    pub lease: Holding,
    /// What this guard says of the leader and the others, itself included.
    pub votes: BTreeMap<Node, Verdict>,
    /// Taken after the names it belongs to were in force everywhere.
    pub barrier: Option<Barrier>,
    /// Work on the database that has not ended yet. Only what does not touch the database is decided meanwhile.
    pub busy: Option<Job>,
}

/// What does not change while the guard runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub me: Node,
    pub nodes: BTreeMap<Node, NodeSettings>,
    pub timing: Timing,
    pub policy: FailoverPolicy,
    /// As the workspace declares it: the mode of a cluster that is new.
    pub mode: SyncMode,
}

#[derive(Clone, Debug, PartialEq)]
pub struct NodeSettings {
    pub region: String,
    /// A witness has none: it votes and keeps the store.
    pub data: bool,
    /// Lower is preferred among equals.
    pub priority: u32,
    /// Why policy never makes it primary.
    pub forbidden: Option<String>,
}

/// The agreement store, as far as this guard has seen it.
#[derive(Clone, Debug, PartialEq)]
pub struct StoreView {
    /// It answered something that needs its quorum, within the time that calls may take.
    pub answers: bool,
    /// Since it last did.
    pub silence: Duration,
    /// It shows less than it has shown before: it was restored from an old copy, or is another cluster's.
    pub went_back: Option<String>,
    /// None while there is none, or nothing was read yet (see `answers`).
    pub term: Option<Term>,
    /// This guard has changed `term` since it started, and its last change was answered. Otherwise a change that it sent
    /// before may still arrive, and both what is there and what was sent count as published.
    pub affirmed: bool,
    /// How long this guard has seen `term` unchanged, by the smallest of its clocks.
    pub term_age: Duration,
    /// How long this guard knows this epoch to be active.
    pub active_for: Duration,
    /// How long it has been sealing.
    pub sealing_for: Duration,
    pub lease: Option<Lease>,
    /// How long the same revision of the lease has been there, by the smallest of this guard's clocks.
    pub lease_age: Duration,
    /// Not counting one whose end has passed.
    pub pause: Option<Pause>,
    pub members: BTreeMap<Node, Seen>,
    /// Of the automatic failovers in `term`, those within the last day.
    pub automatic_today: u32,
    /// The maker of a cluster that knows no term yet is this node.
    pub founder: bool,
    /// What is left until the switchover must be over; none outside one, zero when it is over.
    pub switch_left: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    pub member: Member,
    /// Since it changed last, by this guard's clock.
    pub age: Duration,
}

/// The small file that survives everything but the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Promise {
    /// Nothing is acknowledged for an epoch below.
    pub epoch: Epoch,
    /// The last epoch this node was promoted in.
    pub promoted: Epoch,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Database {
    pub process: Process,
    /// None while it does not answer.
    pub role: Option<NodeRole>,
    /// Running: all the log it has. Stopped: where a clean stop ended.
    pub position: Option<Position>,
    pub replayed: Option<Lsn>,
    /// Sealed for this epoch, with the position it was sealed at.
    pub sealed: Option<Sealed>,
    /// Whom it was told to follow, in which epoch.
    pub follows: Option<(Node, Epoch)>,
    /// It hears from its upstream.
    pub streaming: bool,
    /// `synchronous_standby_names`, in force.
    pub names: Option<String>,
    /// Primary: who streams from it.
    pub senders: Vec<SenderView>,
    /// Commits that wait for an acknowledgement, and for how long at least the oldest look has seen some.
    pub waiting_for: Option<Duration>,
    /// Its last checkpoint is on this timeline.
    pub checkpointed: Option<u32>,
    /// What it holds cannot be brought to the primary's any more except by rebuilding: found out by trying.
    pub need: Option<Need>,
    /// The guard started this process, or one before it did, for this epoch. Anybody else's is a stranger.
    pub permit: Option<Epoch>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    /// There is no data.
    Absent,
    /// A rebuild stopped half-way: never started again.
    Ruined,
    Stopped {
        /// For so long; since the guard found it so, if that is all it knows.
        since: Duration,
        /// Its shutdown checkpoint was written: as a primary, everything was sent.
        clean: bool,
        /// It would start as a replica.
        standby: bool,
    },
    Starting {
        since: Duration,
    },
    Running,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SenderView {
    pub node: Node,
    /// In its name; none for copies and strangers.
    pub epoch: Option<Epoch>,
    pub streaming: bool,
    /// It counts: `sync` or `quorum`.
    pub counted: bool,
    pub flushed: Option<Lsn>,
    /// Since it last answered.
    pub silence: Option<Duration>,
}

/// This guard as the holder of the lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// Of the last renewal that succeeded.
    pub epoch: Epoch,
    /// Until the deadline, by the largest of the clocks; none when it never held one or it has passed.
    pub left: Option<Duration>,
    /// Since the last renewal was sent.
    pub sent: Option<Duration>,
}

/// Everything up to `lsn` was written under `names` or before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Barrier {
    pub names: String,
    pub lsn: Lsn,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    Start,
    Stop,
    Seal,
    Promote,
    Follow,
    Rebuild,
    HandOver,
    Names,
}

impl Facts {
    pub fn me(&self) -> &str {
        &self.settings.me
    }

    pub fn term(&self) -> Option<&Term> {
        self.store.term.as_ref()
    }

    pub fn member(&self, node: &str) -> Option<&Member> {
        self.store.members.get(node).map(|seen| &seen.member)
    }

    /// Where the log ended when `names` were in force for every sender.
    pub(super) fn database_barrier(&self, names: &str) -> Option<Lsn> {
        self.barrier.as_ref().filter(|it| it.names == names).map(|it| it.lsn)
    }

    /// The nodes that have data.
    pub fn data_nodes(&self) -> BTreeSet<Node> {
        let nodes = self.settings.nodes.iter().filter(|(_, it)| it.data);
        nodes.map(|(node, _)| node.clone()).collect()
    }

    /// Replicas of this primary's epoch that stream and were heard of lately: as long as they do, no later epoch can
    /// have become active without them.
    pub fn streaming(&self, epoch: Epoch) -> BTreeSet<Node> {
        let patience = self.settings.timing.sender_patience();
        let fresh = |it: &&SenderView| it.silence.is_some_and(|silence| silence <= patience);
        let senders = self
            .database
            .senders
            .iter()
            .filter(|it| it.streaming && it.epoch == Some(epoch));
        senders.filter(fresh).map(|it| it.node.clone()).collect()
    }
}
