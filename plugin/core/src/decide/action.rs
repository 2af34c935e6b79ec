//! What a guard is to do, each with the sentence that says why.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    agreement::{Epoch, Need, Node, Reason},
    lsn::Position,
};

/// One thing to do. All of them can be repeated; whoever does it looks again at what it was decided on: every change of
/// the store compares what was seen.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    // The store: one compare-and-swap each, on what was seen.
    /// The first term of a cluster, under this node.
    Found,
    /// Lease, comparing term and lease.
    Renew,
    /// Next epoch, phase `sealing`, comparing term, no pause, and in some cases the lease.
    Campaign {
        reason: Reason,
        detail: String,
        /// The lease must not have been renewed since it was seen.
        compare_lease: bool,
        /// Fewer seals than a quorum will do, because the old primary is known to write no more: how that is known.
        fenced: Option<String>,
    },
    /// This node is made primary, of these seals.
    Choose {
        sealed: BTreeMap<Node, Position>,
    },
    /// This node is primary on the epoch's timeline.
    Publish,
    /// Voters and acknowledgements; in the order of protocol §4. The same ones again make sure that an earlier swap
    /// whose answer was lost can no longer take effect.
    SetVoters {
        voters: BTreeSet<Node>,
        acks: u32,
        /// Who becomes a voter: its report must not have changed since it was looked at, or it may be starting over.
        joins: Option<Node>,
    },
    /// Same epoch, same leader.
    UndoSwitch,

    // The database.
    /// Promise this epoch first (a file, synced), then whatever it takes: a primary is stopped, a stopped database is
    /// started as a sealed standby, a replica loses its upstream. Ends with a position.
    Seal {
        epoch: Epoch,
    },
    /// The database runs as a sealed standby; it acknowledges nothing.
    StartSealed,
    /// The present leader's own database, as the primary that it is; also when a fence had left it sealed.
    StartPrimary {
        names: String,
    },
    /// No process of the database is left, fast: level 2 of protocol §9; what is left on disk acknowledges nothing.
    Fence,
    /// As [`Action::Fence`], and the data is marked as ruined: it was made primary outside any campaign, so its timeline
    /// may bear the number of another one. Only copied anew.
    Disown,
    /// To the primary of this epoch, on the timeline of the epoch.
    Promote {
        epoch: Epoch,
        names: String,
    },
    /// `synchronous_standby_names`, seen in force. From empty names by way of the fenced ones and a commit that is seen
    /// waiting: only then does every session obey.
    SetNames {
        names: String,
    },
    /// The log's end, taken while `names` is in force for every sender.
    TakeBarrier {
        names: String,
    },
    /// The checkpoint is on the present timeline afterwards.
    Checkpoint,
    Follow {
        node: Node,
        epoch: Epoch,
    },
    /// Brought to the primary's log: `pg_rewind`, or a copy. Ends as a sealed standby.
    Rebuild {
        from: Node,
        copy: bool,
    },
    /// A first copy, into nothing.
    Copy {
        from: Node,
    },
    /// Checkpoint, stop, wait until the target has all, hand over in one swap; undone when it does not work out.
    HandOver {
        to: Node,
    },
}

impl Action {
    /// It works on the database, one at a time.
    pub const fn is_job(&self) -> bool {
        !matches!(
            self,
            Self::Found
                | Self::Renew
                | Self::Campaign { .. }
                | Self::Choose { .. }
                | Self::Publish
                | Self::SetVoters { .. }
                | Self::UndoSwitch
        )
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Act {
    pub action: Action,
    pub why: String,
}

/// Why nothing is done although something should be: people trip over a block that they cannot see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// `ha::failover::cooldown`
    pub code: &'static str,
    pub why: String,
    /// What to type.
    pub help: String,
}

/// What the endpoints may say until the next decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Serve {
    /// `/primary` says 200: writes are routed here.
    pub primary: bool,
    /// `/replica` may say 200, if the lag allows it.
    pub replica: bool,
}

/// The outcome of one cycle.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    pub acts: Vec<Act>,
    pub serve: Serve,
    pub blocked: Option<Blocked>,
    /// The database may go on as primary for so long without another decision; none when it is no primary. What the
    /// deadman process is told.
    pub allowed: Option<Duration>,
    /// The leader's database is being brought back and may be writing at any moment from now: the report must not say that
    /// nothing of it runs, and others wait.
    pub may_write: bool,
    /// Its data must be rebuilt before it can follow; told to the leader, who drops it from the voters first. A node in
    /// need does not count as sealed.
    pub need: Option<Need>,
    /// Things a person should know, by alert name (protocol §20).
    pub alerts: Vec<(&'static str, String)>,
}
