//! Names in front of the regions, at whoever keeps them. What they should say is decided in [`ha_core::dns`].

mod carry;
pub mod pace;
pub mod route53;

use async_trait::async_trait;
use ha_core::dns::{Act, Check, Made, Seen, check::Health};
use jiff::Timestamp;

pub use carry::{Outcome, StepRow, What, carry_out};
pub use route53::Route53;

use crate::ProviderError;

/// Where names are wanted. Outside of it only what this workspace made is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// `example.com`
    pub zone: String,
    /// In the zone: `api.example.com`.
    pub domain: String,
}

/// Who answers for the names of one workspace.
///
/// Each method can be called again after any error. What belongs to others is never changed: acts come from
/// [`ha_core::dns::plan`], which knows them.
#[async_trait]
pub trait Dns: Send + Sync {
    /// All zones and health checks of the workspace, and the zone that `names` are in, whoever made it; each list to
    /// its end, or an error.
    ///
    /// # Errors
    ///
    /// Also when two zones have that name and none of them is ours.
    async fn observe(&self, names: Option<&Names>) -> Result<Seen, ProviderError>;

    /// Afterwards the act is done, or nothing of it. [`ProviderError::OutcomeUnknown`]: look again before it is repeated.
    /// [`ProviderError::Refused`]: what was seen may be no more.
    async fn perform(&self, act: &Act) -> Result<Done, ProviderError>;

    /// Afterwards every server answers as that change says.
    ///
    /// # Errors
    ///
    /// [`ProviderError::OutcomeUnknown`] when that takes too long; it goes on by itself.
    async fn in_sync(&self, change: &str) -> Result<(), ProviderError>;

    /// What the checkers said last.
    async fn ask(&self, check: &Check) -> Result<Asked, ProviderError>;
}

/// An act that is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    pub made: Made,
    /// For [`Dns::in_sync`]: on its way to the servers that answer.
    pub change: Option<String>,
}

/// What the checkers say of one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub health: Health,
    /// Checkers that said anything.
    pub checkers: usize,
    /// Those that say that it is well.
    pub well: usize,
    pub checked_at: Option<Timestamp>,
    /// Of one that says that it is not.
    pub failure: Option<String>,
}
