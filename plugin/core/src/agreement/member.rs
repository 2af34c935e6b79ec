//! What guards report, and the two small keys beside `term`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Epoch, Node};
use crate::{
    lsn::{Lsn, Position},
    report::{DatabaseState, NodeRole},
};

/// `lease`: the leader is there. Only its change counts, never its time: holder and taker each use their own clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub epoch: Epoch,
    pub node: Node,
    pub counter: u64,
    /// Where the leader's log ended: the yardstick of lag when the leader is away.
    pub written: Option<Position>,
    pub sent_at: Timestamp,
}

/// `pause`: nothing happens by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    pub by: String,
    pub why: String,
    pub since: Timestamp,
    /// Over by itself then; none lasts until `ha resume`.
    pub until: Option<Timestamp>,
}

/// What an observer says of a node, from its own place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Up,
    /// Something fails and something else still works: overload, a cut line.
    Suspect,
    Down,
    /// Not looked at for long enough.
    Unknown,
}

impl Verdict {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Suspect => "suspect",
            Self::Down => "down",
            Self::Unknown => "unknown",
        }
    }
}

/// A promise kept: this node acknowledges nothing for any epoch below `epoch`, also after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    pub epoch: Epoch,
    /// All of its log, read to the end.
    pub position: Position,
}

/// Whom a replica was told to follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Follows {
    pub node: Node,
    pub epoch: Epoch,
    /// The line is up and was heard of lately.
    pub streaming: bool,
}

/// The data of this node must be rebuilt. It waits until it is no voter: an erased copy must not be counted on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Need {
    /// Otherwise `pg_rewind` is tried first.
    pub copy: bool,
    pub why: String,
}

/// `member/<node>`: written by that node's guard only. It goes away when the guard is gone for long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub region: String,
    pub node: Node,
    /// Grows with each report: a report that does not change is an old one.
    pub beat: u64,
    pub at: Timestamp,
    pub state: DatabaseState,
    pub detail: Option<String>,
    pub role: Option<NodeRole>,
    /// Of the log it has: received, or written.
    pub position: Option<Position>,
    pub replayed: Option<Lsn>,
    /// Highest epoch whose campaign this node supports.
    pub promised: Epoch,
    pub sealed: Option<Sealed>,
    pub follows: Option<Follows>,
    /// Primary: its last checkpoint is on this timeline. `pg_rewind` from it is wrong before.
    pub checkpointed: Option<u32>,
    pub need: Option<Need>,
    /// No process of its database runs: nothing of it writes.
    pub stopped: bool,
    /// The leader's guard is bringing its database back, and gives the role away by itself when that takes too long.
    #[serde(default)]
    pub restarting: bool,
    /// What this observer says of the others (and of itself).
    pub votes: BTreeMap<Node, Verdict>,
    /// The long work it is at.
    pub doing: Option<String>,
    /// Why it does nothing although something should be done.
    pub blocked: Option<String>,
    pub version: String,
    /// Of the settings its guard was started with: all guards should have been told the same.
    pub settings: String,
}

impl Member {
    pub fn sealed_for(&self, epoch: Epoch) -> Option<Position> {
        self.sealed.filter(|it| it.epoch == epoch).map(|it| it.position)
    }
}
