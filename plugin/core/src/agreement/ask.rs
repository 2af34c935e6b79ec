use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Need;

/// `ask/<node>`: a person wants this node's data rebuilt. As long as it lies there its guard treats it like a need of its
/// own, so it also waits until it is no voter. Done is told by removing the key; a refusal lies in it until whoever asked
/// has read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    pub op: String,
    pub by: String,
    pub at: Timestamp,
    /// A copy of everything; otherwise `pg_rewind` is tried first.
    pub copy: bool,
    /// Why the guard does not do it.
    #[serde(default)]
    pub refused: Option<String>,
}

impl Ask {
    /// None of one that was refused.
    pub fn need(&self) -> Option<Need> {
        self.refused.is_none().then(|| Need {
            copy: self.copy,
            why: format!("asked for by {}", self.by),
        })
    }
}
