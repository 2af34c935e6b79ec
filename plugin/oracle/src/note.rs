//! What the clients remember, and what was there in the end.

use std::{fmt, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Whoever acknowledged a write, as it says of itself in the same statement.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct By {
    pub timeline: u32,
    pub node: String,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on timeline {}", self.node, self.timeline)
    }
}

/// What is known about a write from its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// The commit was acknowledged, without a warning: it must be there for ever.
    Ok(By),
    /// Certainly not committed: no session, or an error that PostgreSQL raises before it commits.
    Failed { why: String },
    /// Sent, and its answer was lost, late or qualified: it may be there or not.
    Unknown { why: String },
}

/// One write, once. Moments are counted from the start of the run by one monotonic clock for all clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Unique in the run.
    pub id: u64,
    /// Index into [`Notes::regions`].
    pub region: usize,
    /// Before the first byte was sent.
    pub began: Duration,
    /// When its answer was there, or was given up.
    pub ended: Duration,
    #[serde(flatten)]
    pub outcome: Outcome,
}

impl Attempt {
    /// Who acknowledged it; none when nobody did.
    pub fn by(&self) -> Option<&By> {
        match &self.outcome {
            Outcome::Ok(by) => Some(by),
            Outcome::Failed { .. } | Outcome::Unknown { .. } => None,
        }
    }

    pub fn took(&self) -> Duration {
        self.ended.saturating_sub(self.began)
    }
}

/// A moment of the run that has a name: "fault", "undo".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    pub name: String,
    pub at: Duration,
}

/// All that the clients of one run remember.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notes {
    /// Key of the run's rows.
    pub run: String,
    pub began: Timestamp,
    /// Length of the run: no attempt ended later.
    pub took: Duration,
    pub regions: Vec<String>,
    /// In the order in which they ended.
    pub attempts: Vec<Attempt>,
    pub marks: Vec<Mark>,
    /// Clients that ended before they were told to, and why: their last write may have no note.
    pub broken: Vec<String>,
}

impl Notes {
    /// The moment of a name; the first if there are several.
    pub fn mark(&self, name: &str) -> Option<Duration> {
        self.marks.iter().find(|mark| mark.name == name).map(|mark| mark.at)
    }
}

/// The rows of one run on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Who was asked, after it had acknowledged a write of the one who asked.
    pub by: By,
    /// As read: an id that is there twice is in here twice.
    pub ids: Vec<u64>,
}
