//! What every provider can do: see everything, make one thing so, take one thing away.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use ha_core::resource::{Live, Resource, ResourceId};

use crate::{offers::Offers, price_list::PriceList, rights::Rights, survey::Survey};

/// One provider, bound to one workspace.
///
/// Each method is one idempotent request with an identity that the caller chose. A call that ended in an
/// error may still have acted ([`ProviderError::OutcomeUnknown`] says so); calling again is always right.
/// So is dropping a call before it ends: what it left is seen as pending, and the next call finishes it.
/// Calls about different resources may run side by side; two about the same one are never made at once.
///
/// [`crate::contract`] has these rules as a suite.
#[async_trait]
pub trait Provider: Send + Sync {
    /// For rows and messages: `local`, `hetzner`.
    fn name(&self) -> &'static str;

    /// What its credential may do; none where there is no credential.
    fn rights(&self) -> Option<&dyn Rights> {
        None
    }

    /// What of a plan can be had; none where everything can.
    fn offers(&self) -> Option<&dyn Offers> {
        None
    }

    /// Who the credential belongs to and what it may do.
    async fn account(&self) -> Result<Account, ProviderError>;

    /// Everything that carries this workspace's label, to the last page, in order of identity.
    /// A list that could not be read to its end is an error, never a shorter truth.
    async fn observe(&self) -> Result<Vec<Live>, ProviderError>;

    /// Afterwards the resource exists with the wanted spec, carries its labels, and is usable
    /// (a server answers, a replica streams). Called again: nothing more happens.
    ///
    /// What it depends on must exist; [`ProviderError::Missing`] otherwise, and nothing is made.
    async fn ensure(&self, want: &Resource) -> Result<Live, ProviderError>;

    /// Afterwards nothing of it is left, data included. Succeeds when it was not there.
    /// Protected resources are removed as well: keeping away from them is the plan's part.
    async fn remove(&self, id: &ResourceId) -> Result<(), ProviderError>;

    /// Afterwards the server runs, or is off and stays off. Succeeds when it already was;
    /// [`ProviderError::NotFound`] when there is no such server.
    async fn power(&self, server: &ResourceId, on: bool) -> Result<Live, ProviderError>;

    /// What it asks for what it sells; none where it does not say.
    fn price_list(&self) -> Option<&dyn PriceList> {
        None
    }

    /// To look at the whole account; none where everything carries labels anyway.
    fn survey(&self) -> Option<&dyn Survey> {
        None
    }
}

/// What a server is given to run at its first start, as text and without a secret; empty is nothing. An error keeps the
/// server from being made.
pub type UserDataOf = Arc<dyn Fn(&Resource) -> Result<String, ProviderError> + Send + Sync>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub who: String,
    /// Requests left in the current window; none where the provider does not limit.
    pub requests_left: Option<u64>,
}

/// Variants are outcomes that a caller can act on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProviderError {
    #[error("{0} does not exist")]
    NotFound(ResourceId),
    #[error("{id} needs {needs}, which does not exist")]
    Missing { id: ResourceId, needs: String },
    /// The name or address is taken by something that is not ours.
    #[error("{what} is in use by {by}")]
    Taken { what: String, by: String },
    #[error("{id} is protected")]
    Protected { id: ResourceId },
    #[error("{program} is not installed")]
    NotInstalled { program: String, package: String },
    /// There is no credential for it, or none that can be used; nobody was asked.
    #[error("{what}")]
    NotOpened {
        what: String,
        /// `ha::credential::missing`
        code: &'static str,
        help: String,
    },
    #[error("this credential may not {what}")]
    Denied { what: String },
    #[error("no capacity for {what}")]
    NoCapacity { what: String },
    /// The account's own limit on how many of them it may have; asking again changes nothing.
    #[error("the account's limit is reached: {what}")]
    Quota { what: String },
    /// It could not be asked, or what answered was not the provider; nothing was changed.
    #[error("{what}")]
    Unreachable { what: String, help: String },
    #[error("rate limit reached")]
    RateLimited { retry_after: Option<Duration> },
    /// It may or may not have happened: look again before acting.
    #[error("{what}: no answer within {after:?}, outcome unknown")]
    OutcomeUnknown { what: String, after: Duration },
    /// It was started and did not become usable.
    #[error("{id} did not become ready: {detail}")]
    NotReady { id: ResourceId, detail: String },
    /// Waiting or working was ended by the caller; nothing is half-written that a retry cannot finish.
    #[error("interrupted")]
    Interrupted,
    /// What was found cannot be used, and going on would destroy something.
    #[error("{what}")]
    Refused { what: String, help: String },
    #[error("{what}: {source}")]
    Io {
        what: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{what}")]
    Other { what: String },
}

impl ProviderError {
    /// Stable; scripts match on it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "ha::provider::not_found",
            Self::Missing { .. } => "ha::provider::missing",
            Self::Taken { .. } => "ha::provider::taken",
            Self::Protected { .. } => "ha::provider::protected",
            Self::NotInstalled { .. } => "ha::provider::not_installed",
            Self::NotOpened { code, .. } => code,
            Self::Denied { .. } => "ha::provider::denied",
            Self::NoCapacity { .. } => "ha::provider::no_capacity",
            Self::Quota { .. } => "ha::provider::quota",
            Self::Unreachable { .. } => "ha::provider::unreachable",
            Self::RateLimited { .. } => "ha::provider::rate_limited",
            Self::OutcomeUnknown { .. } => "ha::provider::outcome_unknown",
            Self::NotReady { .. } => "ha::provider::not_ready",
            Self::Interrupted => "ha::provider::interrupted",
            Self::Refused { .. } => "ha::provider::refused",
            Self::Io { .. } => "ha::provider::io",
            Self::Other { .. } => "ha::provider::failed",
        }
    }

    /// What to type or change next.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::NotInstalled { package, .. } => Some(format!(
                "install it: ./scripts/start.sh does, or: apt-get install {package}"
            )),
            Self::Refused { help, .. } | Self::Unreachable { help, .. } | Self::NotOpened { help, .. } => {
                Some(help.clone())
            }
            Self::Quota { .. } => {
                Some("ask the provider for a higher limit, or remove what is not needed: ha orphans shows it".into())
            }
            Self::Missing { .. } => Some("run: ha plan, then ha provision without a filter".into()),
            Self::Protected { .. } => Some("set protect = false in workspace.ncl first".into()),
            Self::OutcomeUnknown { .. } | Self::NotReady { .. } => {
                Some("run the same command again: it finishes what is there".into())
            }
            Self::RateLimited { .. } => Some("wait and run the same command again".into()),
            Self::NotFound(_) => Some("see what there is: ha inventory".into()),
            Self::Taken { by, .. } => Some(format!("free it by ending {by}, or choose another in workspace.ncl")),
            Self::Denied { .. } => {
                Some("give the credential that config.toml names this right, then run it again".into())
            }
            Self::NoCapacity { .. } => Some("choose another size or location in workspace.ncl, or try later".into()),
            Self::Interrupted => Some("run the same command again: it finishes what is there".into()),
            Self::Io { .. } | Self::Other { .. } => None,
        }
    }
}
