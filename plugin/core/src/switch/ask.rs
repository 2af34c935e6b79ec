//! What a person asks of one guard through the store. Each is one key; the guard that has answered removes it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::agreement::{Keys, Node};

/// `ask/<node>`: this node's data is to be rebuilt. Its guard treats it like a need of its own (it waits until it is
/// no voter) and removes the key once it has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    pub op: String,
    pub by: String,
    pub at: Timestamp,
    /// A copy of everything; otherwise `pg_rewind` is tried first.
    pub copy: bool,
}

/// `want/voters`: nodes that a person took out of the voters. The leader drops them with the barrier, and does not
/// add them again as long as they are in here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedVoters {
    pub excluded: BTreeMap<Node, Excluded>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Excluded {
    pub by: String,
    pub at: Timestamp,
}

pub fn ask_key(keys: &Keys, node: &str) -> String {
    format!("{}ask/{node}", keys.prefix())
}

pub fn voters_key(keys: &Keys) -> String {
    format!("{}want/voters", keys.prefix())
}
