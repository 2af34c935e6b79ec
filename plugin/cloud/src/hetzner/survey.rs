//! A project as a whole, and labels for what has none.
//!
//! Whatever carries no labels of ours is read as if it did: each kind has one way of being read, and this is it.

use async_trait::async_trait;
use futures::try_join;
use ha_core::{
    desired::LABELS,
    existing::{Found, FoundKind, Idle, Owner},
    names::{ProviderName, RegionName, WorkspaceName},
    resource::{Kind, Live, Resource, Status},
};
use http::Method;
use serde_json::{Map, Value, json};

use super::{
    HetznerProvider,
    api::{AppliedTo, Firewall, LabelMap, LoadBalancer, Network, PrimaryIp, Server, Thing, Volume},
    cloud::Cloud,
    errors, firewall, labels, load_balancer, network,
    observe::{denied, text},
    server,
    services::Rules,
    volume,
};
use crate::{
    ProviderError,
    survey::{Survey, as_it_is, carried_by_another, may_take, must_be_an_object},
};

/// Of the labels of what has none, where nobody reads them.
const NOBODY: &str = "nobody";

#[async_trait]
impl Survey for HetznerProvider {
    async fn everything(&self) -> Result<Vec<Found>, ProviderError> {
        self.cloud.everything().await
    }

    async fn adopt(&self, found: &Found, want: &Resource) -> Result<Live, ProviderError> {
        must_be_an_object(want)?;
        let cloud = &self.cloud;
        let ws = &cloud.options.workspace;
        let plain = |it: &Resource| Ok(labels::of(ws, it));
        match want.id.kind {
            Kind::Network => {
                // Hetzner tells no more of a network than its zone.
                let location = text(want, "location")?.to_owned();
                let zone = cloud.zone(&location, &want.id).await?;
                let labels = |it: &Resource| {
                    let mut all = labels::of(ws, it);
                    all.insert(labels::LOCATION.into(), location.clone());
                    all.insert(labels::ZONE.into(), zone.clone());
                    Ok(all)
                };
                cloud
                    .adopt::<Network>(found, want, |it, _| network::network(it), labels)
                    .await
            }
            Kind::Server => {
                let labels = |it: &Resource| Ok(server::Wanted::read(cloud, it)?.labels);
                let read = |it: &Server, near: &Near| server::server(it, &near.networks);
                cloud.adopt::<Server>(found, want, read, labels).await
            }
            Kind::Volume => {
                let labels = |it: &Resource| {
                    let mut all = labels::of(ws, it);
                    if let Some(server) = it.spec.get("attach_to").and_then(Value::as_str) {
                        all.insert(labels::ATTACH_TO.into(), server.to_owned());
                    }
                    Ok(all)
                };
                let read = |it: &Volume, near: &Near| volume::volume(it, &near.servers);
                cloud.adopt::<Volume>(found, want, read, labels).await
            }
            Kind::Firewall => {
                let read = |it: &Firewall, near: &Near| firewall::firewall(it, &near.servers);
                cloud.adopt::<Firewall>(found, want, read, plain).await
            }
            Kind::LoadBalancer => {
                let labels = |it: &Resource| {
                    let mut all = labels::of(ws, it);
                    // One that checks its services in several ways has no order of rules that could be kept.
                    if it.spec["health_check"].is_object() {
                        Rules::read(it)?.labels(&mut all);
                    }
                    Ok(all)
                };
                let read =
                    |it: &LoadBalancer, near: &Near| load_balancer::load_balancer(it, &near.servers, &near.networks);
                cloud.adopt::<LoadBalancer>(found, want, read, labels).await
            }
            Kind::Store | Kind::Database => Err(ProviderError::Refused {
                what: format!("{}: Hetzner sells no managed databases", want.id),
                help: "write ha.Postgres & { runs_on = … } in workspace.ncl: it runs on servers".into(),
            }),
        }
    }
}

/// What carries the labels of the workspace: what others are described by.
struct Near {
    networks: Vec<Network>,
    servers: Vec<Server>,
}

impl Cloud {
    async fn everything(&self) -> Result<Vec<Found>, ProviderError> {
        let (networks, servers, balancers, firewalls, volumes, addresses, locations) = try_join!(
            self.list::<Network>(Network::LIST, None),
            self.list::<Server>(Server::LIST, None),
            self.list::<LoadBalancer>(LoadBalancer::LIST, None),
            self.list::<Firewall>(Firewall::LIST, None),
            self.list::<Volume>(Volume::LIST, None),
            self.list::<PrimaryIp>(PrimaryIp::LIST, None),
            self.locations(),
        )
        .map_err(denied)?;
        let near = Near {
            networks: networks
                .iter()
                .map(|it| {
                    let zone = it.subnets.first().map(|subnet| subnet.network_zone.clone());
                    let inside = servers
                        .iter()
                        .find(|server| server.private_net.iter().any(|net| net.network == it.id));
                    let first = locations
                        .iter()
                        .find(|location| Some(&location.network_zone) == zone.as_ref());
                    let location = inside.map(|server| server.location.name.clone());
                    let location = location.or_else(|| first.map(|location| location.name.clone()));
                    let mut it = as_if_ours(it);
                    let mut say = |key: &str, value: Option<String>| {
                        if let Some(value) = value {
                            it.labels.entry(key.into()).or_insert(value);
                        }
                    };
                    say(labels::LOCATION, location);
                    say(labels::ZONE, zone);
                    it
                })
                .collect(),
            servers: servers.iter().map(as_if_ours).collect(),
        };
        let mut all = Vec::new();
        for (it, now) in networks.iter().zip(&near.networks) {
            all.push(found(it, network::network(now)?));
        }
        for (it, now) in servers.iter().zip(&near.servers) {
            all.push(found(it, server::server(now, &near.networks)?));
        }
        for it in &balancers {
            let mut now = as_if_ours(it);
            if owner(&it.labels).is_none() {
                now.targets = it
                    .targets
                    .iter()
                    .flat_map(|target| match target.label_selector {
                        Some(_) => target.targets.clone(),
                        None => vec![target.clone()],
                    })
                    .collect();
            }
            all.push(found(
                it,
                load_balancer::load_balancer(&now, &near.servers, &near.networks)?,
            ));
        }
        for it in &firewalls {
            let mut now = as_if_ours(it);
            if owner(&it.labels).is_none() {
                now.applied_to = it.applied_to.iter().flat_map(servers_before).collect();
            }
            all.push(found(it, firewall::firewall(&now, &near.servers)?));
        }
        for it in &volumes {
            all.push(found(it, volume::volume(&as_if_ours(it), &near.servers)?));
        }
        all.extend(addresses.iter().filter(|it| it.assignee_id.is_none()).map(address));
        Ok(all)
    }

    /// Gives `found` the labels that `labels_of` says for what `read` makes of it.
    async fn adopt<T: Thing + Clone>(
        &self,
        found: &Found,
        want: &Resource,
        read: impl Fn(&T, &Near) -> Result<Live, ProviderError>,
        labels_of: impl Fn(&Resource) -> Result<LabelMap, ProviderError>,
    ) -> Result<Live, ProviderError> {
        let id = &want.id;
        let until = self.until();
        let number: u64 = found.number.parse().map_err(|_| ProviderError::Refused {
            what: format!("{} is no number of a {} at Hetzner", found.number, T::ONE),
            help: format!("see the numbers: ha adopt {} --dry-run", id.name),
        })?;
        let near = async {
            let selector = || labels::of_workspace(&self.options.workspace);
            let near = try_join!(self.selected(selector()), self.selected(selector()));
            near.map_err(|error| errors::outcome(error, id))
        };
        let (now, ours, (networks, servers)) = try_join!(self.one::<T>(number, id), self.labelled::<T>(id), near)?;
        let near = Near { networks, servers };
        if let Some(other) = ours.filter(|it| it.id() != number) {
            return Err(carried_by_another(
                id,
                &format!("{} {} at Hetzner (number {})", T::ONE, other.name(), other.id()),
            ));
        }
        let whose = owner(now.labels());
        may_take(whose.as_ref(), &self.options.workspace, id, || {
            format!("{} {} at Hetzner (number {number})", T::ONE, now.name())
        })?;
        // An answer that was lost; whatever was declared or changed since then is no business of this.
        if whose.is_some_and(|it| it.is_whole()) && now.labels().contains_key(labels::SPEC) {
            return read(&now, &near);
        }
        let mut as_if = now.clone();
        *as_if.labels_mut() = labels::merged(now.labels(), &labels_of(&with_labels_of(want, &now))?, &[]);
        let is = as_it_is(want, read(&as_if, &near)?.spec);
        let wanted = labels_of(&is)?;
        labels::check(&wanted, id)?;
        let body = json!({ "labels": labels::merged(now.labels(), &wanted, &[]) });
        self.act(Method::PUT, &format!("/{}/{number}", T::LIST), Some(body), id, until)
            .await?;
        read(&self.one(number, id).await?, &near)
    }
}

/// Labels that are declared count from now on where the thing has them as well.
fn with_labels_of<T: Thing>(want: &Resource, now: &T) -> Resource {
    let mut out = want.clone();
    if let Some(Value::Object(declared)) = out.spec.get_mut(LABELS) {
        declared.retain(|key, value| now.labels().get(key).is_some_and(|is| value == is));
    }
    out
}

fn owner(labels: &LabelMap) -> Option<Owner> {
    let word = |key: &str| labels.get(key).filter(|it| !it.is_empty()).cloned();
    Some(Owner {
        ws: WorkspaceName::new(word(labels::WS)?),
        region: word(labels::REGION).map(RegionName::new),
        name: word(labels::NAME),
    })
}

fn as_if_ours<T: Thing + Clone>(thing: &T) -> T {
    let mut out = thing.clone();
    let name = match thing.name() {
        "" => NOBODY,
        name => name,
    };
    for (key, value) in [(labels::WS, NOBODY), (labels::REGION, NOBODY), (labels::NAME, name)] {
        let label = out.labels_mut().entry(key.into()).or_default();
        if label.is_empty() {
            *label = value.to_owned();
        }
    }
    out
}

/// One entry for each server, whichever way it is put before them.
fn servers_before(to: &AppliedTo) -> Vec<AppliedTo> {
    match to.label_selector {
        Some(_) => to.applied_to_resources.clone(),
        None => vec![to.clone()],
    }
}

fn found<T: Thing>(thing: &T, live: Live) -> Found {
    let mut found = Found::new(live, thing.name(), thing.id().to_string(), owner(thing.labels()));
    let users = thing.labels().iter().filter(|(key, _)| !key.starts_with(labels::OURS));
    found.labels = users.map(|(key, value)| (key.clone(), value.clone())).collect();
    found
}

fn address(it: &PrimaryIp) -> Found {
    Found {
        kind: FoundKind::Address,
        provider: ProviderName::Hetzner,
        name: it.name.clone(),
        location: Some(it.location.name.clone()),
        number: it.id.to_string(),
        owner: owner(&it.labels),
        labels: LabelMap::new(),
        spec: Value::Object(Map::new()),
        status: Status::Running,
        detail: None,
        address: Some(it.ip.clone()),
        size: Some(it.kind.clone()),
        created_at: Some(it.created),
        idle: Some(Idle::Unattached),
        of_the_account: false,
    }
}
