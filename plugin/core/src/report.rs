//! What a guard says about its node: `GET /report` answers this, as JSON.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    agreement::{Epoch, Node, Phase, Sealed, Verdict},
    lsn::Lsn,
    model::SyncMode,
};

/// One look at one database node. Ages are measured by the node's own clock, so that clocks need not agree.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeReport {
    pub workspace: String,
    pub region: String,
    pub node: String,
    /// When the guard took the sample that `database` and `wal` come from.
    pub sampled_at: Timestamp,
    /// Age of that sample when the answer was sent; large when the database hangs.
    pub age: Duration,
    pub database: DatabaseReport,
    /// On a primary: how far the log was at which moment, newest last.
    pub samples: Vec<WalSample>,
    pub store: StoreReport,
    pub guard_version: String,
    /// Who may write, as this guard sees it; none of a guard that never read a term.
    #[serde(default)]
    pub agreement: Option<AgreementReport>,
}

/// What a guard knows of the agreement, and its own part in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgreementReport {
    pub epoch: Epoch,
    pub phase: Phase,
    pub leader: Node,
    /// In force, which is not always the declared one (`ha db sync-mode`).
    pub mode: SyncMode,
    pub voters: BTreeSet<Node>,
    /// Remote acknowledgements that a commit waits for.
    pub acks: u32,
    /// Since this guard saw the term change last.
    pub since: Duration,
    /// This node acknowledges nothing for an epoch below.
    pub promised: Epoch,
    pub sealed: Option<Sealed>,
    /// The leader: until it must have renewed the lease.
    pub lease_left: Option<Duration>,
    /// Writes may be routed here.
    pub serves_writes: bool,
    pub blocked: Option<BlockedReport>,
    /// By name (protocol §20), each with what is wrong.
    pub alerts: Vec<(String, String)>,
    /// Work on the database that is under way.
    pub doing: Option<String>,
    /// Nothing happens by itself: who said so, and why.
    pub paused: Option<String>,
    /// What this guard says of each node, from its own place.
    pub votes: BTreeMap<Node, Verdict>,
    /// What did not work in the last look at each.
    #[serde(default)]
    pub troubles: BTreeMap<Node, String>,
}

/// Something should be done and is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockedReport {
    /// `ha::failover::cooldown`
    pub code: String,
    pub why: String,
    /// What to type.
    pub help: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DatabaseState {
    /// No data folder yet.
    Absent,
    /// Being made: `initdb`, or a copy of the primary.
    Creating,
    Starting,
    Running,
    Stopped,
    /// Should run and does not, or does not answer.
    Failed,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DatabaseReport {
    pub state: DatabaseState,
    /// Why, when it is not running.
    pub detail: Option<String>,
    /// None while it does not answer.
    pub role: Option<NodeRole>,
    pub system_identifier: Option<String>,
    /// Of the last log received (replica) or written (primary).
    pub timeline: Option<u32>,
    /// Primary: `pg_current_wal_lsn()`.
    pub written: Option<Lsn>,
    /// Replica: the greater of received and replayed (the first alone falls back after a restart).
    pub received: Option<Lsn>,
    pub replayed: Option<Lsn>,
    /// Replica: since the last message of its upstream; none when nothing streams.
    pub upstream_silence: Option<Duration>,
    /// Replica: the node it was told to follow.
    pub upstream: Option<String>,
    pub replay_paused: bool,
    /// Primary: who streams from it.
    pub senders: Vec<Sender>,
    pub slots: Vec<Slot>,
    pub started_at: Option<Timestamp>,
    /// Connections in use and allowed.
    pub connections: Option<(u32, u32)>,
    /// Which replicas a commit waits for (`synchronous_standby_names`).
    #[serde(default)]
    pub names: Option<String>,
    /// Of the last checkpoint, or restart point: `pg_rewind` from here is wrong while it is below `timeline`.
    #[serde(default)]
    pub control_timeline: Option<u32>,
    /// Commits that wait for a replica now.
    #[serde(default)]
    pub waiting: u32,
    /// Roles, databases and pairs of them whose `synchronous_commit` lets commits return unreplicated.
    #[serde(default)]
    pub weak_roles: Vec<String>,
}

/// As observed, never as declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeRole {
    Primary,
    Replica,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sender {
    /// The name it streams under, without the epoch.
    pub node: String,
    /// The whole name, as `synchronous_standby_names` has it.
    #[serde(default)]
    pub application_name: String,
    /// Whose primary it believes to follow.
    #[serde(default)]
    pub epoch: Option<u64>,
    pub state: String,
    pub sync_state: String,
    /// On its disk: what an acknowledgement rests on.
    #[serde(default)]
    pub flushed: Option<Lsn>,
    pub replayed: Option<Lsn>,
    /// Since the replica last answered.
    pub silence: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slot {
    pub name: String,
    pub active: bool,
    pub retained_bytes: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalSample {
    pub lsn: Lsn,
    /// Before the answer was sent.
    pub age: Duration,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StoreReport {
    /// The store answers reads that need its quorum.
    pub healthy: bool,
    pub detail: Option<String>,
}
