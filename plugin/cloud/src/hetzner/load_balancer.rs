//! Load balancers. Their targets are one label selector per group, by the servers' numbers: a server that is taken
//! out of the list is out of the balancer before it is removed, and one that is made anew is in again by itself.

use std::collections::BTreeMap;

use ha_core::{
    names::ProviderName,
    resource::{Kind, Live, Resource, ResourceId, Status},
};
use serde_json::{Value, json};

use super::{
    actions::Until,
    api::{LoadBalancer, Network, Server, Target},
    cloud::Cloud,
    labels,
    observe::{blank, text},
    services::{Rules, Wanted},
};
use crate::ProviderError;

/// The smallest there is, as in the contract of `hetzner.LoadBalancer`.
const USUAL_TYPE: &str = "lb11";

/// A selector, and whether it is asked by the private network.
type Selected = (String, bool);

struct Goal {
    algorithm: String,
    services: Vec<Wanted>,
    targets: Vec<Selected>,
    network: Option<u64>,
    labels: super::api::LabelMap,
}

impl Cloud {
    pub(super) async fn ensure_load_balancer(&self, want: &Resource) -> Result<Live, ProviderError> {
        let until = self.until();
        let id = &want.id;
        let location = text(want, "location")?;
        let rules = Rules::read(want)?;
        let services = rules.services(want)?;
        let (found, needed) = futures::try_join!(self.find::<LoadBalancer>(id), self.needed(want))?;
        let network = needed.networks.iter().find(|it| {
            let name = it.labels.get(labels::NAME);
            let mine = |id: &ResourceId| id.kind == Kind::Network && Some(&id.name) == name;
            want.depends_on.iter().any(mine)
        });
        let mut labels = labels::of(&self.options.workspace, want);
        rules.labels(&mut labels);
        labels::check(&labels, id)?;
        let selectors = self.selectors(want, &needed.servers)?;
        let goal = Goal {
            algorithm: text(want, "algorithm")?.to_owned(),
            services,
            targets: selectors.into_iter().map(|it| (it, network.is_some())).collect(),
            network: network.map(|it| it.id),
            labels,
        };
        let number = match found {
            Some(now) => now.id,
            None => {
                let written = (self.options.written)(want);
                let kind = written.get("type").and_then(Value::as_str).unwrap_or(USUAL_TYPE);
                let mut body = json!({
                    "name": id.name,
                    "load_balancer_type": kind,
                    "location": location,
                    "algorithm": { "type": goal.algorithm },
                    "services": goal.services.iter().map(Wanted::body).collect::<Vec<_>>(),
                    "targets": goal.targets.iter().map(target).collect::<Vec<_>>(),
                    "labels": goal.labels,
                    "public_interface": true,
                });
                if let Some(network) = goal.network {
                    body["network"] = network.into();
                }
                self.create::<LoadBalancer>(body, id, until).await?.id
            }
        };
        let now = self.at_rest(number, id, until).await?;
        self.change_load_balancer(&now, &goal, location, id, until).await?;
        let now = self.one(number, id).await?;
        load_balancer(&now, &needed.servers, &needed.networks)
    }

    async fn change_load_balancer(
        &self,
        now: &LoadBalancer,
        goal: &Goal,
        location: &str,
        id: &ResourceId,
        until: Until,
    ) -> Result<(), ProviderError> {
        if now.location.name != location {
            return Err(ProviderError::Refused {
                what: format!("{id} is in {} and cannot move to {location}", now.location.name),
                help: "ha plan shows its replacement".into(),
            });
        }
        let run = |action: &'static str, body: Value| self.run::<LoadBalancer>(now.id, action, body, id, until);
        if let Some(network) = goal
            .network
            .filter(|it| now.private_net.iter().all(|net| net.network != *it))
        {
            run("attach_to_network", json!({ "network": network })).await?;
        }
        if now.algorithm.kind != goal.algorithm {
            run("change_algorithm", json!({ "type": goal.algorithm })).await?;
        }
        // What is no longer wanted goes first: it may hold the port that a redirect needs.
        for old in &now.services {
            if goal.services.iter().all(|it| it.port != old.listen_port) {
                run("delete_service", json!({ "listen_port": old.listen_port })).await?;
            }
        }
        for it in &goal.services {
            match now.services.iter().find(|old| old.listen_port == it.port) {
                Some(old) if it.is(old) => {}
                Some(_) => run("update_service", it.body()).await?,
                None => run("add_service", it.body()).await?,
            }
        }
        // New targets first, so that there is never a moment without any.
        let there: Vec<Option<Selected>> = now.targets.iter().map(selected).collect();
        for it in &goal.targets {
            if !there.contains(&Some(it.clone())) {
                run("add_target", target(it)).await?;
            }
        }
        for (old, is) in now.targets.iter().zip(&there) {
            if is.as_ref().is_none_or(|it| !goal.targets.contains(it)) {
                run("remove_target", reference(old)).await?;
            }
        }
        let labels = labels::merged(&now.labels, &goal.labels, &[]);
        self.relabel(now, &labels, id, until).await
    }

    pub(super) async fn remove_load_balancer(&self, id: &ResourceId) -> Result<(), ProviderError> {
        match self.labelled::<LoadBalancer>(id).await? {
            Some(now) => self.delete::<LoadBalancer>(now.id, id, self.until()).await,
            None => Ok(()),
        }
    }

    /// One selector for each group among the targets: `…,ha/group==eu-app,ha/index in (1,2,3)`.
    fn selectors(&self, want: &Resource, servers: &[Server]) -> Result<Vec<String>, ProviderError> {
        let id = &want.id;
        let names = want.spec["targets"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut groups: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for name in names.iter().filter_map(Value::as_str) {
            let found = servers
                .iter()
                .find(|it| it.labels.get(labels::NAME).is_some_and(|it| it == name));
            let placed = found.and_then(|it| Some((it.labels.get(labels::GROUP)?, it.labels.get(labels::INDEX)?)));
            let place = placed.and_then(|(group, index)| Some((group.as_str(), index.parse().ok()?)));
            let (group, index) = place.ok_or_else(|| ProviderError::Missing {
                id: id.clone(),
                needs: format!("server {name} in {}", id.region),
            })?;
            groups.entry(group).or_default().push(index);
        }
        let region = labels::of_region(&self.options.workspace, &id.region);
        let selector = |(group, mut indexes): (&str, Vec<u64>)| {
            indexes.sort_unstable();
            let indexes: Vec<String> = indexes.iter().map(u64::to_string).collect();
            format!(
                "{region},{}=={group},{} in ({})",
                labels::GROUP,
                labels::INDEX,
                indexes.join(",")
            )
        };
        Ok(groups.into_iter().map(selector).collect())
    }
}

fn target((selector, private): &Selected) -> Value {
    json!({
        "type": "label_selector",
        "label_selector": { "selector": selector },
        "use_private_ip": private,
    })
}

fn selected(target: &Target) -> Option<Selected> {
    let selector = target.label_selector.as_ref()?;
    Some((selector.selector.clone(), target.use_private_ip))
}

/// What names a target when it is taken away.
fn reference(target: &Target) -> Value {
    let mut out = json!({ "type": target.kind });
    if let Some(it) = &target.label_selector {
        out["label_selector"] = json!({ "selector": it.selector });
    }
    if let Some(it) = &target.server {
        out["server"] = json!({ "id": it.id });
    }
    if let Some(it) = &target.ip {
        out["ip"] = json!({ "ip": it.ip });
    }
    out
}

/// Group and numbers of a selector of ours; none of another's.
fn read_selector<'a>(selector: &'a str, region: &str) -> Option<(&'a str, Vec<u64>)> {
    let rest = selector.strip_prefix(region)?.strip_prefix(',')?;
    let rest = rest.strip_prefix(labels::GROUP)?.strip_prefix("==")?;
    let (group, rest) = rest.split_once(',')?;
    let list = rest
        .strip_prefix(labels::INDEX)?
        .strip_prefix(" in (")?
        .strip_suffix(')')?;
    let numbers: Result<Vec<u64>, _> = list.split(',').map(str::parse).collect();
    Some((group, numbers.ok()?))
}

/// `eu-app-2` before `eu-app-10`.
fn numbered(name: &str) -> (String, u64) {
    let found = name
        .rsplit_once('-')
        .and_then(|(group, index)| Some((group.to_owned(), index.parse().ok()?)));
    found.unwrap_or_else(|| (name.to_owned(), 0))
}

/// `servers` and `networks` are those of this workspace.
pub(super) fn load_balancer(
    now: &LoadBalancer,
    servers: &[Server],
    networks: &[Network],
) -> Result<Live, ProviderError> {
    let (id, tags) = labels::identity(now, Kind::LoadBalancer)?;
    let region = labels::of_region(&tags.ws, &tags.region);
    // As it is configured and not as it is filled: a server that somebody removed is that server's difference.
    let mut targets: Vec<String> = Vec::new();
    let mut behind: Vec<ResourceId> = Vec::new();
    for target in &now.targets {
        let ours = target
            .label_selector
            .as_ref()
            .map(|it| (it, read_selector(&it.selector, &region)));
        match (ours, &target.server, &target.ip) {
            (Some((_, Some((group, numbers)))), _, _) => targets.extend(numbers.into_iter().map(|number| {
                let is = |it: &&Server, key: &str, value: &str| it.labels.get(key).is_some_and(|it| it == value);
                let number = number.to_string();
                let mut members = servers.iter().filter(|it| {
                    is(it, labels::REGION, tags.region.as_str())
                        && is(it, labels::GROUP, group)
                        && is(it, labels::INDEX, &number)
                });
                let name = members.next().and_then(|it| it.labels.get(labels::NAME).cloned());
                name.unwrap_or_else(|| format!("{group}-{number}"))
            })),
            (Some((other, None)), _, _) => targets.push(other.selector.clone()),
            (None, Some(server), _) => {
                let found = servers.iter().find(|it| it.id == server.id);
                targets.push(found.map_or_else(|| format!("server {}", server.id), |it| it.name.clone()));
            }
            (None, None, Some(ip)) => targets.push(ip.ip.clone()),
            (None, None, None) => targets.push(format!("something of the type {}", target.kind)),
        }
        let resolved = target.targets.iter().filter_map(|it| it.server.as_ref());
        for server in resolved.chain(&target.server) {
            if let Some(server) = servers.iter().find(|it| it.id == server.id) {
                behind.push(labels::identity(server, Kind::Server)?.0);
            }
        }
    }
    // One by one they have no order that means anything; a workspace has that of their numbers.
    if now.targets.iter().all(|it| it.server.is_some()) {
        targets.sort_by_cached_key(|name| numbered(name));
    }
    behind.sort();
    behind.dedup();
    let attached = networks
        .iter()
        .filter(|it| now.private_net.iter().any(|net| net.network == it.id));
    let mut depends_on = Vec::new();
    for it in attached {
        depends_on.push(labels::identity(it, Kind::Network)?.0);
    }
    depends_on.extend(behind);
    let mut spec = Rules::live(&now.services, &now.labels);
    spec["location"] = now.location.name.clone().into();
    spec["algorithm"] = now.algorithm.kind.clone().into();
    spec["targets"] = json!(targets);
    spec["databases"] = json!([]);
    labels::tell(&mut spec, &now.labels);
    let address = now.public_net.ipv4.as_ref().and_then(|it| it.ip.clone());
    let ready = address.is_some();
    Ok(Live {
        spec,
        status: if ready { Status::Running } else { Status::Pending },
        detail: (!ready).then(|| "it has no address yet".to_owned()),
        address,
        private_address: now.private_net.first().map(|it| it.ip.clone()),
        size: Some(now.load_balancer_type.name.clone()),
        created_at: Some(now.created),
        depends_on,
        ..blank(id, ProviderName::Hetzner, tags, &now.labels)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_of_ours_is_read_and_another_is_not() {
        let region = "ha/ws==shop,ha/region==eu-central";
        let ours = format!("{region},ha/group==eu-app,ha/index in (1,2,10)");
        assert_eq!(read_selector(&ours, region), Some(("eu-app", vec![1, 2, 10])));
        for other in ["env==prod", region, &format!("{region},ha/group==eu-app")] {
            assert_eq!(read_selector(other, region), None);
        }
        assert_eq!(read_selector(&ours, "ha/ws==shop,ha/region==us-east"), None);
    }
}
