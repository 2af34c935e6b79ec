//! Everything that carries the workspace's label, all kinds side by side.

use std::collections::BTreeMap;

use futures::{future::try_join_all, try_join};
use ha_core::{
    names::ProviderName,
    resource::{Live, Resource, Status},
};
use serde_json::Value;

use super::{
    api::{Database, Firewall, LoadBalancer, Volume},
    cloud::Cloud,
    database::Managed,
    errors, hosted,
    labels::{self, Owned},
};
use crate::{ProviderError, rest::RestError};

impl Cloud {
    pub(super) async fn all(&self) -> Result<Vec<Live>, ProviderError> {
        let unfiltered = [];
        let (networks, servers, balancers, firewalls, volumes, databases) = try_join!(
            self.networks(),
            self.droplets(),
            self.list::<LoadBalancer>(&unfiltered),
            self.list::<Firewall>(&unfiltered),
            self.list::<Volume>(&unfiltered),
            self.databases(),
        )
        .map_err(errors::denied)?;
        let ws = &self.options.workspace;
        for it in &servers {
            labels::whole(ws, &it.tags, || format!("the Droplet {} ({})", it.name, it.id))?;
        }
        for it in &volumes {
            labels::whole(ws, &it.tags, || format!("the volume {} ({})", it.name, it.id))?;
        }
        for Managed { now, .. } in &databases {
            labels::whole(ws, &now.tags, || format!("the database {} ({})", now.name, now.id))?;
        }
        let sources = databases.iter().map(|it| self.trusted_sources(it));
        let sources = try_join_all(sources).await.map_err(errors::denied)?;
        let mut all = Vec::new();
        all.extend(networks.iter().filter_map(|it| self.network(it)));
        all.extend(firewalls.iter().filter_map(|it| self.firewall(it)));
        all.extend(volumes.iter().filter_map(|it| self.volume(it, &servers)));
        for it in &servers {
            all.extend(self.server(it, &networks));
            all.extend(self.hosted(hosted::STORE, it));
            all.extend(self.hosted(hosted::DATABASE, it));
        }
        for (it, sources) in databases.iter().zip(&sources) {
            all.extend(self.managed(it, sources, &databases, &networks));
        }
        all.extend(
            balancers
                .iter()
                .filter_map(|it| self.load_balancer(it, &servers, &networks)),
        );
        self.look_at_addresses(&servers, &mut all)
            .await
            .map_err(errors::denied)?;
        all.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(all)
    }

    /// The managed databases of this workspace and their replicas, the replicas after what they copy.
    pub(super) async fn databases(&self) -> Result<Vec<Managed>, RestError> {
        let tag = labels::ours(&self.options.workspace);
        self.databases_with(&[("tag_name", tag)]).await
    }

    /// Those that the filter lets through; without one, all of the account.
    pub(super) async fn databases_with(&self, filter: &[(&str, String)]) -> Result<Vec<Managed>, RestError> {
        let clusters: Vec<Database> = self.whole("/v2/databases", "databases", filter).await?;
        let replicas = try_join_all(clusters.iter().map(|it| self.replicas(it))).await?;
        let mut all: Vec<Managed> = clusters.into_iter().map(Managed::cluster).collect();
        all.extend(replicas.into_iter().flatten());
        Ok(all)
    }
}

/// Everything that the kinds have in common; the rest is filled in by each.
pub(super) fn blank(owned: &Owned, spec: Value) -> Live {
    Live {
        id: owned.id.clone(),
        provider: ProviderName::Digitalocean,
        labels: owned.labels(&spec),
        spec,
        status: Status::Running,
        detail: None,
        address: None,
        private_address: None,
        size: None,
        created_at: None,
        depends_on: Vec::new(),
        protect: owned.protect,
        role: None,
        endpoints: BTreeMap::new(),
    }
}

/// A field of a spec that has to be there.
pub(super) fn text<'a>(want: &'a Resource, field: &str) -> Result<&'a str, ProviderError> {
    want.spec
        .get(field)
        .and_then(Value::as_str)
        .ok_or_else(|| lacks(want, field))
}

pub(super) fn whole(want: &Resource, field: &str) -> Result<u64, ProviderError> {
    want.spec
        .get(field)
        .and_then(Value::as_u64)
        .ok_or_else(|| lacks(want, field))
}

/// Texts of a list; empty where there is none.
pub(super) fn texts<'a>(spec: &'a Value, field: &str) -> Vec<&'a str> {
    let list = spec.get(field).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).collect()
}

fn lacks(want: &Resource, field: &str) -> ProviderError {
    ProviderError::Refused {
        what: format!("{} has no {field}", want.id),
        help: format!("write it at {} in workspace.ncl", want.path),
    }
}

/// A change that DigitalOcean makes by a new one only.
pub(super) fn cannot_become(want: &Resource, field: &str, now: &str, wanted: &str) -> ProviderError {
    ProviderError::Refused {
        what: format!("{} has the {field} {now} and cannot become {wanted} in place", want.id),
        help: "ha plan shows its replacement".into(),
    }
}
