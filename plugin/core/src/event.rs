//! What happened: acts of a command and changes of status, one line each, only ever appended.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One line of an events file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub at: Timestamp,
    pub workspace: String,
    /// None when it concerns the whole workspace.
    pub region: Option<String>,
    /// Who noticed or did it: `shell`, `guard`, `supervisor`.
    pub source: String,
    /// `provision.create`, `unit.exited`, `database.status`; dotted, stable.
    pub event: String,
    /// What it is about: `server us-app-1`, `us-db-1`.
    pub subject: String,
    /// The status that holds afterwards.
    pub status: String,
    pub detail: Option<String>,
    pub error: Option<String>,
    /// The user who typed the command.
    pub who: Option<String>,
}
