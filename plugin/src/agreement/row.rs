//! Rows of whatever moves the primary.

use std::time::Duration;

use ha_core::switch::{Milestone, PlannedStep, Refusal};
use nu_protocol::IntoValue;

use crate::nu::{Bytes, Count, MILLISECOND, to_the};

/// One step, or what was measured in the end.
#[derive(Clone, Debug, Default, IntoValue)]
pub(crate) struct Row {
    pub(crate) step: String,
    pub(crate) region: Option<String>,
    pub(crate) status: String,
    pub(crate) took: Option<Duration>,
    pub(crate) detail: Option<String>,
    pub(crate) error: Option<String>,
    /// Longest time without an acknowledged write, as a writer of this command saw it; null where it could not be seen.
    pub(crate) outage: Option<Duration>,
    /// Of the log, that the old primary is known to have written and the new one has not.
    pub(crate) lost: Option<Bytes>,
    pub(crate) epoch: Option<Count>,
    pub(crate) timeline: Option<u32>,
    pub(crate) code: Option<String>,
    pub(crate) help: Option<String>,
}

/// Columns that stay readable in a narrow terminal.
pub(crate) const COLUMNS: &[&str] = &["step", "region", "status", "took", "error"];

impl Row {
    pub(crate) fn new(step: &str, region: Option<String>, status: &str) -> Self {
        Self {
            step: step.to_owned(),
            region,
            status: status.to_owned(),
            ..Self::default()
        }
    }

    pub(crate) fn took(mut self, took: Duration) -> Self {
        self.took = Some(to_the(MILLISECOND, took));
        self
    }

    pub(crate) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    pub(crate) fn done(milestone: Milestone, region: Option<String>) -> Self {
        Self {
            detail: milestone.detail,
            ..Self::new(milestone.step, region, "done").took(milestone.took)
        }
    }

    /// What stands in the way, or should be known.
    pub(crate) fn refused(refusal: &Refusal) -> Self {
        Self {
            error: Some(refusal.why.clone()),
            code: Some(refusal.code.to_owned()),
            help: Some(refusal.help.clone()),
            ..Self::new("preflight", refusal.region.clone(), refusal.severity.as_str())
        }
    }

    pub(crate) fn planned(step: &PlannedStep) -> Self {
        let row = Self::new(step.step, step.region.clone(), "planned").took(step.predicted);
        Self {
            outage: step.outage.then(|| to_the(MILLISECOND, step.predicted)),
            detail: Some(step.detail.clone()).filter(|it| !it.is_empty()),
            ..row
        }
    }
}
