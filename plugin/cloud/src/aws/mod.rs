//! AWS: EC2, its balancers, and RDS.
//!
//! What is there is known by tags ([`tags`]), which every thing has from the request that makes it. Requests go through
//! [`call`], which knows what may be repeated, and refusals through [`fault`]. Each kind has a room: acts in its
//! `mod.rs`, and in `shape.rs` (`parts.rs`) what AWS keeps of it against what is wanted, as pure functions.
//!
//! Absent on purpose: a state of our own (whatever an interrupted run left is found by its tags), the SDK's own retries
//! (they would repeat a create whose answer was lost), and passwords (RDS makes them and keeps them at AWS).

mod balancer;
pub(crate) mod call;
mod database;
pub(crate) mod fault;
mod fields;
mod firewall;
mod lists;
mod network;
mod observe;
mod offers;
mod options;
pub(crate) mod place;
mod rights;
mod rules;
mod server;
mod spec;
mod survey;
mod tags;
mod volume;

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::join_all;
use ha_core::resource::{Kind, Live, Resource, ResourceId};
use serde_json::Value;

pub use self::options::{Credentials, Options, SshKey, open_ports};
pub(crate) use self::rights::{policy, rights};
use self::{
    call::Repeat::Freely,
    place::Place,
    server::{
        Shared,
        shape::{SLOTS, Slot},
    },
};
use crate::{Account, Provider, ProviderError, offers::Offers, rights::Rights, survey::Survey};

/// The AWS regions of one workspace.
pub struct AwsProvider {
    options: Options,
    places: Vec<Arc<Place>>,
    shared: Shared,
}

impl AwsProvider {
    /// Ready to be asked; nothing is sent yet.
    ///
    /// # Errors
    ///
    /// Without a location there would be nobody to ask.
    pub fn open(options: Options) -> Result<Self, ProviderError> {
        let places = place::open(&options);
        if places.is_empty() {
            return Err(nowhere());
        }
        Ok(Self {
            options,
            places,
            shared: Shared::default(),
        })
    }

    fn places(&self) -> Vec<&Place> {
        self.places.iter().map(|it| &**it).collect()
    }

    /// Where a resource is wanted: its `location`, or `region` as the kinds that only AWS knows write it.
    fn place_of(&self, want: &Resource) -> Result<&Place, ProviderError> {
        let word = |name: &str| want.spec.get(name).and_then(Value::as_str);
        let location = word("location").or_else(|| word("region"));
        let found = self.places.iter().find(|it| Some(it.location.as_str()) == location);
        found.map(|it| &**it).ok_or_else(|| ProviderError::Refused {
            what: format!(
                "{} is in {}, which is no AWS region of this workspace",
                want.id,
                location.unwrap_or("no location")
            ),
            help: format!("set its region at {} in workspace.ncl: ap-southeast-1", want.path),
        })
    }

    /// What runs on a server has no place of its own: it goes where that server is.
    async fn ensure_on_server(&self, want: &Resource, slot: Slot) -> Result<Live, ProviderError> {
        let mut missing = None;
        for place in self.places() {
            match server::ensure_on(place, want, slot).await {
                Err(error @ ProviderError::Missing { .. }) => missing = Some(error),
                outcome => return outcome,
            }
        }
        Err(missing.unwrap_or_else(|| ProviderError::NotFound(want.id.clone())))
    }
}

fn nowhere() -> ProviderError {
    ProviderError::Refused {
        what: "the workspace has no AWS region to look at".into(),
        help: "add a region with aws resources to workspace.ncl".into(),
    }
}

/// Of a database: it runs on a server of ours. Else AWS runs it.
fn runs_on_a_server(want: &Resource) -> bool {
    want.spec.get("server").is_some_and(Value::is_string)
}

fn slot_of(kind: Kind) -> Option<Slot> {
    SLOTS.into_iter().find(|it| it.kind == kind)
}

#[async_trait]
impl Provider for AwsProvider {
    fn name(&self) -> &'static str {
        "aws"
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

    /// The ARN behind the credential. AWS tells no number of requests that are left.
    async fn account(&self) -> Result<Account, ProviderError> {
        let place = self.places.first().ok_or_else(nowhere)?;
        let request = place.sts.get_caller_identity();
        let answer = place
            .call("sts:GetCallerIdentity", Freely, || request.clone().send())
            .await?;
        let who = answer.arn.or(answer.account).unwrap_or_else(|| "unknown".to_owned());
        Ok(Account {
            who,
            requests_left: None,
        })
    }

    async fn observe(&self) -> Result<Vec<Live>, ProviderError> {
        Ok(observe::observe(&self.places(), &self.options.open_ports).await?)
    }

    async fn ensure(&self, want: &Resource) -> Result<Live, ProviderError> {
        if let Some(slot) = slot_of(want.id.kind).filter(|_| runs_on_a_server(want)) {
            return self.ensure_on_server(want, slot).await;
        }
        let place = self.place_of(want)?;
        match want.id.kind {
            Kind::Network => network::ensure(place, want, &self.options.open_ports).await,
            Kind::Firewall => firewall::ensure(place, want).await,
            Kind::Volume => volume::ensure(place, want).await,
            Kind::Server => server::ensure(place, want, &self.options, &self.shared).await,
            Kind::LoadBalancer => balancer::ensure(place, want).await,
            Kind::Database => {
                let others = self.places();
                let others: Vec<&Place> = others.into_iter().filter(|it| it.location != place.location).collect();
                database::ensure(place, want, &others).await
            }
            Kind::Store => Err(ProviderError::Refused {
                what: format!("{} names no server to run on", want.id),
                help: format!("set runs_on at {} in workspace.ncl", want.path),
            }),
        }
    }

    async fn remove(&self, id: &ResourceId) -> Result<(), ProviderError> {
        // An identity says no location: whichever place has it.
        let removed = self.places.iter().map(|place| async move {
            match id.kind {
                Kind::Network => network::remove(place, id).await,
                Kind::Firewall => firewall::remove(place, id).await,
                Kind::Volume => volume::remove(place, id).await,
                Kind::Server => server::remove(place, id, &self.shared).await,
                Kind::LoadBalancer => balancer::remove(place, id).await,
                Kind::Store | Kind::Database => {
                    let on_server = match slot_of(id.kind) {
                        Some(slot) => server::remove_from(place, id, slot).await?,
                        None => false,
                    };
                    if on_server || id.kind == Kind::Store {
                        return Ok(());
                    }
                    database::remove(place, id).await
                }
            }
        });
        // Each to its end, though another fails.
        join_all(removed).await.into_iter().collect()
    }

    async fn power(&self, server: &ResourceId, on: bool) -> Result<Live, ProviderError> {
        if server.kind == Kind::Server {
            for place in &self.places {
                if let Some(live) = server::power(place, server, on).await? {
                    return Ok(live);
                }
            }
        }
        Err(ProviderError::NotFound(server.clone()))
    }
}
