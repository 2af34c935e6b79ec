//! Carries a plan out: steps side by side where the plan allows it, one row as each finishes.
//!
//! Nothing is remembered between two runs. Whatever was interrupted is found by the next plan, because a
//! provider's calls can be repeated and its resources say themselves how far they came.

mod attempt;
#[cfg(test)]
mod property;
mod run;
mod schedule;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use ha_core::{
    names::RegionName,
    plan::{Action, Step},
    resource::Kind,
};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::Provider;

/// How hard to try, and how much at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplyOptions {
    /// Steps under way at the same time; at least one.
    pub concurrency: usize,
    /// A step that takes longer, retries included, has failed with its outcome unknown.
    pub deadline: Duration,
    /// Calls per step before a lost answer or a rate limit is given up on; at least one.
    pub attempts: u32,
    /// Before the second call; doubled before each further one. A provider's `retry_after` wins over it.
    pub pause: Duration,
    /// After an interrupt, running steps get this long to finish by themselves.
    pub grace: Duration,
}

impl Default for ApplyOptions {
    fn default() -> Self {
        Self {
            concurrency: 8,
            // Copying a large database to a new replica is one step.
            deadline: Duration::from_secs(30 * 60),
            attempts: 5,
            pause: Duration::from_millis(250),
            grace: Duration::from_secs(2),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    Done,
    /// Somebody else had done it already: what is there now is what was there when the plan was made.
    Unchanged,
    Failed,
    /// Never started, because a step it waits for did not get done; `error` names that step.
    Skipped,
    /// Stopped by the caller, before or during; running the same command again finishes it.
    Interrupted,
    /// Changed here and by somebody else: a person has to choose.
    Conflict,
}

impl StepStatus {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Unchanged => "unchanged",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Interrupted => "interrupted",
            Self::Conflict => "conflict",
        }
    }

    /// What was asked for is there.
    pub const fn is_good(self) -> bool {
        matches!(self, Self::Done | Self::Unchanged)
    }
}

impl std::fmt::Display for StepStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// One finished step of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StepRow {
    /// Its place in the plan, counted from 1 over the steps that do something; rows come as steps finish.
    pub step: u32,
    pub region: RegionName,
    pub kind: Kind,
    pub name: String,
    pub action: Action,
    pub status: StepStatus,
    /// Zero when it was never started.
    pub took: Duration,
    pub error: Option<String>,
    /// Stable; scripts match on it.
    pub code: Option<&'static str>,
    /// What to type or change next.
    pub help: Option<String>,
}

/// Starts to carry `steps` out and answers with the rows to come, each step that does something exactly once.
///
/// A step starts when all steps named in its `after` are done; names that are not in the plan count as done.
/// Steps with [`Action::None`] have no row, so a plan with nothing to do closes the channel at once.
/// When a step does not get done, those after it are skipped and the rest goes on.
///
/// Stopping: on `cancel`, and when the receiver is dropped, no further step starts, running ones get
/// [`ApplyOptions::grace`] and are then dropped, and everything left is reported as interrupted.
/// Once the channel is closed no step is running any more.
///
/// # Panics
///
/// Outside of a tokio runtime.
pub fn apply(
    steps: Vec<Step>,
    provider: Arc<dyn Provider>,
    options: ApplyOptions,
    cancel: CancellationToken,
) -> mpsc::Receiver<StepRow> {
    // Room for every row: a reader that is slow (or is not reading yet) never holds the work up.
    let (rows, receiver) = mpsc::channel(steps.len().max(1));
    tokio::spawn(run::run(steps, provider, options, cancel, rows));
    receiver
}
