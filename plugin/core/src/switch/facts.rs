//! What the shell has seen before it asks for another primary.

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};

use crate::{
    agreement::{Lease, Member, Node, Pause, Term, Verdict, diverged},
    lsn::{Lsn, Position},
    model::{FailoverPolicy, Timing},
    report::{DatabaseState, NodeReport, NodeRole},
};

/// One look at a cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct World {
    /// By the clock of whoever looked.
    pub now: Timestamp,
    pub term: Term,
    pub lease: Option<Lease>,
    pub pause: Option<Pause>,
    pub nodes: BTreeMap<Node, NodeFacts>,
    pub timing: Timing,
    pub policy: FailoverPolicy,
    /// Rules between the timing constants that do not hold, each a sentence.
    pub broken_timing: Vec<String>,
    /// The highest epoch that `history` knows.
    pub last_history: u64,
}

/// What is known of one node.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeFacts {
    pub region: String,
    /// A witness has none.
    pub data: bool,
    /// Lower is preferred among equals.
    pub priority: u32,
    /// Why policy never makes it primary.
    pub forbidden: Option<String>,
    /// As it lies in the store.
    pub member: Option<Member>,
    /// What its guard answered, or why it did not.
    pub report: Result<NodeReport, String>,
    /// What its database answered, or why it did not.
    pub vitals: Result<Vitals, String>,
    /// Its server is switched off: nothing of it runs.
    pub off: bool,
}

/// What only the database itself can tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vitals {
    pub major: u32,
    /// Those that a replica must not have lower than its primary.
    pub settings: BTreeMap<String, i64>,
    pub prepared: u32,
    pub logical_slots: Vec<String>,
    /// Files of the log that wait to be archived; none when nothing is archived.
    pub unarchived: Option<u64>,
    /// Its clock less the shell's, as far as the round trip allows to tell.
    pub clock: SignedDuration,
    /// Half of the round trip: how wrong `clock` may be.
    pub clock_error: Duration,
    pub free_bytes: Option<u64>,
}

impl World {
    pub fn leader(&self) -> Option<&NodeFacts> {
        self.nodes.get(&self.term.leader)
    }

    pub fn region_of<'a>(&'a self, node: &'a str) -> &'a str {
        self.nodes.get(node).map_or(node, |it| it.region.as_str())
    }

    /// The pause, unless its end has passed.
    pub fn paused(&self) -> Option<&Pause> {
        let over = |pause: &Pause| pause.until.is_some_and(|until| until <= self.now);
        self.pause.as_ref().filter(|it| !over(it))
    }

    /// Where the primary's log ends, as far as anybody knows.
    pub fn written(&self) -> Option<Position> {
        let told = self.leader().and_then(NodeFacts::position);
        let leased = self.lease.as_ref().and_then(|it| it.written);
        told.max(leased)
    }

    /// Its log is a part of the present primary's.
    pub fn diverged(&self, position: Position) -> Option<String> {
        diverged(position, self.term.timeline, &self.term.lineage)
    }
}

impl NodeFacts {
    /// Its guard runs and answers.
    pub const fn answers(&self) -> bool {
        self.report.is_ok()
    }

    /// Of the log it has, the newest word first.
    pub fn position(&self) -> Option<Position> {
        let told = self.report.as_ref().ok().and_then(|it| {
            let database = &it.database;
            let lsn = database.written.or(database.received).max(database.replayed)?;
            Some(Position {
                timeline: database.timeline?,
                lsn,
            })
        });
        told.or_else(|| self.member.as_ref()?.position)
    }

    pub fn role(&self) -> Option<NodeRole> {
        match &self.report {
            Ok(report) => report.database.role,
            Err(_) => None,
        }
    }

    pub fn is_running_primary(&self) -> bool {
        let runs = |it: &NodeReport| it.database.state == DatabaseState::Running;
        self.role() == Some(NodeRole::Primary) && self.report.as_ref().is_ok_and(runs)
    }

    pub fn lag_bytes(&self, written: Option<Lsn>) -> Option<u64> {
        Some(written?.bytes_since(self.position()?.lsn))
    }

    /// What its guard says of `node`; nothing when it does not answer any more, or has no data and never voted.
    pub fn verdict(&self, node: &str) -> Option<Verdict> {
        self.member
            .as_ref()
            .filter(|_| self.answers())?
            .votes
            .get(node)
            .copied()
    }
}
