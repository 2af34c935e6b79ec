use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Epoch, Node, Reason};
use crate::lsn::{Lsn, Position};

/// `history/<epoch>`: how the epoch's primary came to be. Created once, never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    pub epoch: Epoch,
    pub node: Node,
    pub timeline: u32,
    /// Where its timeline begins.
    pub start: Lsn,
    /// The one it began from; none for the first.
    pub parent: Option<u32>,
    pub reason: Reason,
    pub detail: String,
    pub by: String,
    pub sealed: BTreeMap<Node, Position>,
    /// Log that the old primary is known to have written and that nobody sealed had; zero in strict mode.
    pub lost_bytes: Option<u64>,
    pub accept_loss: bool,
    /// Command that asked for it, if one did.
    pub op: Option<String>,
    pub at: Timestamp,
    pub steps: Vec<StepTook>,
}

/// One step of a change of primary and how long it took, by the clock of the guard that did it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepTook {
    pub step: String,
    pub took: Duration,
}
