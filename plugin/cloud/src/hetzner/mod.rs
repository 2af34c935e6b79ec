//! Hetzner Cloud, by its API. <https://docs.hetzner.cloud/>
//!
//! Identity is labels (`ha/ws`, `ha/region`, `ha/name`), and names, which are unique in a project: both are looked at
//! before anything is made, so that a lost answer leaves no second one. What Hetzner is doing is waited for by its
//! actions; a resource that is found in the middle of one is waited for as well.

mod actions;
mod api;
mod catalogue;
mod cloud;
mod errors;
mod firewall;
mod hosted;
mod labels;
mod load_balancer;
mod network;
mod observe;
mod offers;
mod placement;
mod price_list;
mod primary_ip;
mod rights;
mod server;
mod services;
mod survey;
#[cfg(test)]
mod tests;
mod volume;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use ha_core::{
    names::WorkspaceName,
    resource::{Kind, Live, Resource, ResourceId},
};
use serde_json::{Map, Value};

pub(crate) use rights::{policy, rights};

pub use catalogue::{Availability, Catalogue, LoadBalancerType, Location, Offer, Price, ServerType};

use crate::{
    Account, Provider, ProviderError, UserDataOf,
    limits::Ledger,
    offers::Offers,
    price_list::PriceList,
    rest::{Rest, Settings},
    rights::Rights,
    secret::Secret,
    survey::Survey,
};
use cloud::Cloud;

/// The real one.
pub const ENDPOINT: &str = "https://api.hetzner.cloud/v1";

/// The fields of a resource as they stand in `workspace.ncl`.
pub type Written = Arc<dyn Fn(&Resource) -> Map<String, Value> + Send + Sync>;

/// How a project is opened for one workspace.
#[derive(Clone)]
pub struct Options {
    pub endpoint: String,
    pub token: Secret,
    pub workspace: WorkspaceName,
    /// Uploaded under the names that servers ask for, where no key of that name exists.
    pub ssh_public_key: Option<String>,
    /// Every field of a resource as the user wrote it, in Hetzner's own words. Read when it is made, and only what its
    /// spec does not say: `ssh_keys` and `spread` of servers, `type` of load balancers.
    pub written: Written,
    /// What a server is given to run at its first start; empty is nothing. At most 32 KiB, and without a secret.
    pub user_data: UserDataOf,
    /// For one call of [`Provider`], every wait in it included.
    pub deadline: Duration,
    /// Before the second look at something that is under way; longer before each further one, up to five seconds.
    pub pause: Duration,
    /// How long a system may take to end by itself before its power is taken away.
    pub shutdown: Duration,
    /// Requests at the same time.
    pub concurrency: usize,
    /// For one request.
    pub timeout: Duration,
    /// Shared with whoever shows it.
    pub ledger: Arc<Ledger>,
}

impl Options {
    /// The real endpoint, no key to upload, nothing written and no user data; ten minutes for a call.
    pub fn new(workspace: WorkspaceName, token: Secret) -> Self {
        Self {
            endpoint: ENDPOINT.into(),
            token,
            workspace,
            ssh_public_key: None,
            written: Arc::new(|_| Map::new()),
            user_data: Arc::new(|_| Ok(String::new())),
            deadline: Duration::from_secs(600),
            pause: Duration::from_millis(200),
            shutdown: Duration::from_secs(60),
            concurrency: 16,
            timeout: Duration::from_secs(30),
            ledger: Arc::new(Ledger::new("hetzner")),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("endpoint", &self.endpoint)
            .field("workspace", &self.workspace)
            .finish_non_exhaustive()
    }
}

/// The resources of one workspace in one project.
pub struct HetznerProvider {
    cloud: Cloud,
}

impl HetznerProvider {
    /// Asks nothing yet.
    ///
    /// # Errors
    ///
    /// [`ProviderError::Unreachable`] when the endpoint is no address or the token cannot be sent.
    pub fn new(options: Options) -> Result<Self, ProviderError> {
        let settings = Settings {
            concurrency: options.concurrency,
            timeout: options.timeout,
            pause: options.pause,
            ledger: options.ledger.clone(),
            error: |body| {
                let error = body.get("error")?;
                let text = |field: &str| error.get(field).and_then(Value::as_str).map(str::to_owned);
                Some((text("code"), text("message")?))
            },
            ..Settings::new("hetzner", options.endpoint.clone(), options.token.clone())
        };
        let rest = Rest::new(settings).map_err(|error| error.into_provider())?;
        Ok(Self {
            cloud: Cloud::new(rest, options),
        })
    }

    /// What can be bought where, and for how much; four requests and their pages.
    pub async fn catalogue(&self) -> Result<Catalogue, ProviderError> {
        self.cloud.catalogue().await.map_err(observe::denied)
    }
}

#[async_trait]
impl Provider for HetznerProvider {
    fn name(&self) -> &'static str {
        "hetzner"
    }

    fn price_list(&self) -> Option<&dyn PriceList> {
        Some(self)
    }

    fn rights(&self) -> Option<&dyn Rights> {
        Some(self)
    }

    fn offers(&self) -> Option<&dyn Offers> {
        Some(self)
    }

    fn survey(&self) -> Option<&dyn Survey> {
        Some(self)
    }

    /// A token belongs to a project and not to a person, and the API does not tell the project's name.
    async fn account(&self) -> Result<Account, ProviderError> {
        let asked = self
            .cloud
            .rest
            .get::<Value>("/servers", &[("per_page", "1".into())])
            .await;
        asked.map_err(observe::denied)?;
        Ok(Account {
            who: "the Hetzner project of this token".into(),
            requests_left: self.cloud.rest.ledger().limit().left,
        })
    }

    async fn observe(&self) -> Result<Vec<Live>, ProviderError> {
        self.cloud.all().await
    }

    async fn ensure(&self, want: &Resource) -> Result<Live, ProviderError> {
        match want.id.kind {
            Kind::Network => self.cloud.ensure_network(want).await,
            Kind::Firewall => self.cloud.ensure_firewall(want).await,
            Kind::Volume => self.cloud.ensure_volume(want).await,
            Kind::Server => self.cloud.ensure_server(want).await,
            Kind::Store => self.cloud.ensure_hosted(hosted::STORE, want).await,
            Kind::Database => self.cloud.ensure_hosted(hosted::DATABASE, want).await,
            Kind::LoadBalancer => self.cloud.ensure_load_balancer(want).await,
        }
    }

    async fn remove(&self, id: &ResourceId) -> Result<(), ProviderError> {
        match id.kind {
            Kind::Network => self.cloud.remove_network(id).await,
            Kind::Firewall => self.cloud.remove_firewall(id).await,
            Kind::Volume => self.cloud.remove_volume(id).await,
            Kind::Server => self.cloud.remove_server(id).await,
            Kind::Store => self.cloud.remove_hosted(hosted::STORE, id).await,
            Kind::Database => self.cloud.remove_hosted(hosted::DATABASE, id).await,
            Kind::LoadBalancer => self.cloud.remove_load_balancer(id).await,
        }
    }

    async fn power(&self, server: &ResourceId, on: bool) -> Result<Live, ProviderError> {
        if server.kind != Kind::Server {
            return Err(ProviderError::NotFound(server.clone()));
        }
        self.cloud.power_server(server, on).await
    }
}
