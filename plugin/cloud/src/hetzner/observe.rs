//! Everything that carries the workspace's label, all kinds side by side.

use std::collections::BTreeMap;

use futures::try_join;
use ha_core::{
    names::ProviderName,
    resource::{Kind, Labels, Live, Resource, ResourceId, Status, lasting},
};
use serde_json::Value;

use super::{
    api::{Firewall, LabelMap, LoadBalancer, Network, Server, Thing, Volume},
    cloud::Cloud,
    firewall, hosted, labels, load_balancer, network, server, volume,
};
use crate::{ProviderError, rest::RestError};

impl Cloud {
    pub(super) async fn all(&self) -> Result<Vec<Live>, ProviderError> {
        let selector = || labels::of_workspace(&self.options.workspace);
        let (networks, servers, balancers, firewalls, volumes) = try_join!(
            self.selected::<Network>(selector()),
            self.selected::<Server>(selector()),
            self.selected::<LoadBalancer>(selector()),
            self.selected::<Firewall>(selector()),
            self.selected::<Volume>(selector()),
        )
        .map_err(denied)?;
        let mut all = Vec::new();
        for it in &networks {
            all.push(network::network(it)?);
        }
        for it in &firewalls {
            all.push(firewall::firewall(it, &servers)?);
        }
        for it in &volumes {
            all.push(volume::volume(it, &servers)?);
        }
        for it in &servers {
            all.push(server::server(it, &networks)?);
            all.extend(hosted::hosted(it, hosted::STORE)?);
            all.extend(hosted::hosted(it, hosted::DATABASE)?);
        }
        for it in &balancers {
            all.push(load_balancer::load_balancer(it, &servers, &networks)?);
        }
        self.look_at_addresses(&servers, &mut all).await.map_err(denied)?;
        all.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(all)
    }
}

/// The outcome of a list, which is about no resource in particular.
pub(super) fn denied(error: RestError) -> ProviderError {
    match error.code() {
        Some("unauthorized" | "forbidden") => ProviderError::Denied {
            what: format!("look at what there is ({error})"),
        },
        _ => error.into_provider(),
    }
}

/// Everything that the kinds have in common; the rest is filled in by each.
pub(super) fn blank(id: ResourceId, provider: ProviderName, tags: Labels, all: &LabelMap) -> Live {
    Live {
        id,
        provider,
        labels: tags,
        spec: Value::Null,
        status: Status::Running,
        detail: None,
        address: None,
        private_address: None,
        size: None,
        created_at: None,
        depends_on: Vec::new(),
        protect: labels::protects(all),
        role: None,
        endpoints: BTreeMap::new(),
    }
}

/// Nothing is to be done: it is as wanted in everything that `live` tells, in its labels, and in the networks it is in.
pub(super) fn is_as_wanted<T: Thing>(now: &T, live: &Live, want: &Resource, wanted: &LabelMap) -> bool {
    let labelled = wanted.iter().all(|(key, value)| now.labels().get(key) == Some(value));
    let in_networks = matches!(want.id.kind, Kind::Server | Kind::LoadBalancer);
    let mut networks = want
        .depends_on
        .iter()
        .filter(|it| it.kind == Kind::Network && in_networks);
    labelled
        && live.spec == lasting(&want.spec)
        && live.protect == want.protect
        && now.name() == want.id.name
        && matches!(live.status, Status::Running | Status::Off)
        && networks.all(|it| live.depends_on.contains(it))
}

/// A field of a spec that has to be there.
pub(super) fn text<'a>(want: &'a Resource, field: &str) -> Result<&'a str, ProviderError> {
    want.spec
        .get(field)
        .and_then(Value::as_str)
        .ok_or_else(|| ProviderError::Refused {
            what: format!("{} has no {field}", want.id),
            help: format!("write it at {} in workspace.ncl", want.path),
        })
}
