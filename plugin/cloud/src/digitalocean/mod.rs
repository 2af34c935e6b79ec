//! DigitalOcean, by its API. <https://docs.digitalocean.com/reference/api/reference/>
//!
//! Identity is tags (`ha:ws:shop`, `ha:region:us-east`, `ha:name:us-app-1`), and where a kind has none, words of a
//! description or the tag of the Droplets that belong to it. Names of Droplets are not unique and their tags may come
//! late: both are looked at before anything is made, so that a lost answer leaves no second one. What DigitalOcean is
//! doing is waited for by its actions; a resource that is found in the middle of one is waited for as well.

mod api;
mod catalogue;
mod cloud;
mod database;
mod domains;
mod errors;
mod firewall;
mod hosted;
mod keys;
mod labels;
mod load_balancer;
mod network;
mod observe;
mod offers;
mod price_list;
mod reserved_ip;
mod rights;
mod server;
mod survey;
mod tagging;
mod volume;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use ha_core::{
    names::WorkspaceName,
    resource::{Kind, Live, Resource, ResourceId},
};

pub(crate) use rights::{policy, rights};

pub use catalogue::{Catalogue, Location, Size};

use crate::{
    Account, Provider, ProviderError, UserDataOf, limits::Ledger, offers::Offers, price_list::PriceList,
    rights::Rights, secret::Secret, survey::Survey,
};
use cloud::Cloud;

/// The real one.
pub const ENDPOINT: &str = "https://api.digitalocean.com";

/// How an account is opened for one workspace.
#[derive(Clone)]
pub struct Options {
    /// Without `/v2`.
    pub endpoint: String,
    /// A personal access token, with the rights to read and to write.
    pub token: Secret,
    pub workspace: WorkspaceName,
    /// Uploaded under the names that servers ask for, where no key of that name exists.
    pub ssh_public_key: Option<String>,
    /// What a server is given to run at its first start; empty is nothing. At most 64 KiB, and without a secret.
    pub user_data: UserDataOf,
    /// For each wait in a call of [`Provider`]: a start, a resize, a balancer, a managed database.
    pub deadline: Duration,
    /// How long a system may take to end by itself before its power is taken away.
    pub shutdown: Duration,
    /// How long after a Droplet its tags may come. So long, one that looks as wanted and has no tags yet is waited for;
    /// after that it is somebody else's.
    pub late_tags: Duration,
    /// Between the first two looks at something under way; each further one comes later, up to five seconds.
    pub pause: Duration,
    /// Requests at the same time.
    pub concurrency: usize,
    /// For one request.
    pub timeout: Duration,
    /// Shared with whoever shows it.
    pub ledger: Arc<Ledger>,
}

impl Options {
    /// The real endpoint, no key to upload and no user data; half an hour for a wait, since a managed database takes
    /// ten minutes and more.
    pub fn new(workspace: WorkspaceName, token: Secret) -> Self {
        Self {
            endpoint: ENDPOINT.into(),
            token,
            workspace,
            ssh_public_key: None,
            user_data: Arc::new(|_| Ok(String::new())),
            deadline: Duration::from_secs(1800),
            shutdown: Duration::from_secs(60),
            late_tags: Duration::from_secs(120),
            pause: Duration::from_millis(200),
            concurrency: 16,
            timeout: Duration::from_secs(30),
            ledger: Arc::new(Ledger::new("digitalocean")),
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

/// The resources of one workspace in one account.
pub struct DigitalOceanProvider {
    cloud: Cloud,
}

/// What DigitalOcean tells about the account of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub email: String,
    pub uuid: String,
    /// `active`, `warning` or `locked`.
    pub status: String,
    /// Why it is not `active`; empty where it is.
    pub status_message: String,
    /// The most Droplets that it may have at a time. None when the token may not know.
    pub droplet_limit: Option<u64>,
}

impl DigitalOceanProvider {
    /// Asks nothing yet.
    ///
    /// # Errors
    ///
    /// [`ProviderError::Unreachable`] when the endpoint is no address or the token cannot be sent.
    pub fn new(options: Options) -> Result<Self, ProviderError> {
        let cloud = Cloud::new(options).map_err(|error| error.into_provider())?;
        Ok(Self { cloud })
    }

    /// What can be made where, and for how much; two requests and their pages.
    pub async fn catalogue(&self) -> Result<Catalogue, ProviderError> {
        self.cloud.catalogue().await.map_err(errors::denied)
    }

    /// Whose account it is, how it stands, and how many Droplets it may have.
    pub async fn owner(&self) -> Result<Owner, ProviderError> {
        let found = self.cloud.field::<api::Account>("/v2/account", "account").await;
        let told = found
            .map_err(errors::denied)?
            .ok_or_else(|| ProviderError::Unreachable {
                what: "digitalocean: GET /v2/account: there is no such path".into(),
                help: "look at the provider's `endpoint` in config.toml: it is written without /v2".into(),
            })?;
        Ok(Owner {
            email: told.email,
            uuid: told.uuid,
            status: told.status,
            status_message: told.status_message,
            droplet_limit: told.droplet_limit,
        })
    }
}

#[async_trait]
impl Provider for DigitalOceanProvider {
    fn name(&self) -> &'static str {
        "digitalocean"
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

    /// # Errors
    ///
    /// [`ProviderError::Denied`] when the token is not valid, and when the account is locked.
    async fn account(&self) -> Result<Account, ProviderError> {
        let owner = self.owner().await?;
        if owner.status == "locked" {
            return Err(ProviderError::Denied {
                what: format!(
                    "do anything: DigitalOcean has locked {} ({})",
                    owner.email, owner.status_message
                ),
            });
        }
        Ok(Account {
            who: format!("{} ({})", owner.email, owner.uuid),
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
            // A managed one runs on no server.
            Kind::Database if want.spec.get("server").is_none() => self.cloud.ensure_managed(want).await,
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
            Kind::Store => self.cloud.remove_hosted(id).await.map(drop),
            Kind::Database => match self.cloud.remove_hosted(id).await? {
                true => Ok(()),
                false => self.cloud.remove_managed(id).await,
            },
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
