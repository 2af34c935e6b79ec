//! An account as a whole, and labels for what has none.
//!
//! Whatever carries no labels of ours is read as if it did: each kind has one way of being read, and this is it.

use async_trait::async_trait;
use futures::{future::try_join_all, try_join};
use ha_core::{
    desired::LABELS,
    existing::{Found, FoundKind, Idle, Owner},
    names::{ProviderName, RegionName, WorkspaceName},
    resource::{Kind, Live, Resource, ResourceId, Status},
};
use http::Method;
use serde_json::{Map, Value, json};

use super::{
    DigitalOceanProvider,
    api::{Droplet, Firewall, LoadBalancer, ReservedIp, Volume, Vpc},
    cloud::Cloud,
    database::Managed,
    errors,
    labels::{self, Tags},
    server,
    tagging::Tagged,
};
use crate::{
    ProviderError,
    survey::{Survey, as_it_is, carried_by_another, may_take, must_be_an_object},
};

/// Of the labels of what has none, where nobody reads them.
const NOBODY: &str = "nobody";
/// The room that a description of a network has.
/// <https://docs.digitalocean.com/reference/api/reference/vpcs/>
const LONGEST_DESCRIPTION: usize = 255;

#[async_trait]
impl Survey for DigitalOceanProvider {
    async fn everything(&self) -> Result<Vec<Found>, ProviderError> {
        self.cloud.everything().await
    }

    async fn adopt(&self, found: &Found, want: &Resource) -> Result<Live, ProviderError> {
        must_be_an_object(want)?;
        let number = found.number.as_str();
        match want.id.kind {
            Kind::Network => self.cloud.adopt_network(number, want).await,
            Kind::Server => self.cloud.adopt_server(number, want).await,
            Kind::Volume => self.cloud.adopt_volume(number, want).await,
            Kind::Database => self.cloud.adopt_managed(number, want).await,
            Kind::Firewall => self.cloud.adopt_firewall(number, want).await,
            Kind::LoadBalancer => self.cloud.adopt_load_balancer(number, want).await,
            Kind::Store => Err(gone(want, number)),
        }
    }
}

impl Cloud {
    async fn everything(&self) -> Result<Vec<Found>, ProviderError> {
        let unfiltered = [];
        let (networks, servers, balancers, firewalls, volumes, databases, addresses) = try_join!(
            self.list::<Vpc>(&unfiltered),
            self.list::<Droplet>(&unfiltered),
            self.list::<LoadBalancer>(&unfiltered),
            self.list::<Firewall>(&unfiltered),
            self.list::<Volume>(&unfiltered),
            self.databases_with(&unfiltered),
            self.reserved_ips(),
        )
        .map_err(errors::denied)?;
        let sources = databases.iter().map(|it| self.trusted_sources(it));
        let sources = try_join_all(sources).await.map_err(errors::denied)?;
        let near: Vec<Vpc> = networks.iter().map(|it| self.network_as_if_ours(it)).collect();
        let hosts: Vec<Droplet> = servers.iter().map(|it| self.server_as_if_ours(it)).collect();
        let mut all = Vec::new();
        for (it, now) in networks.iter().zip(&near) {
            let words = labels::from_marker(&it.description);
            let is_left = labels::is_set(&words, labels::KEPT);
            let owner = owner(&self.options.workspace, &words).filter(|_| !is_left);
            if let Some(live) = self.network(now) {
                let mut found = Found::new(live, &it.name, it.id.as_str(), owner);
                let holds = |uuid: &Option<String>| uuid.as_ref() == Some(&it.id);
                let used = servers.iter().any(|it| holds(&it.vpc_uuid))
                    || balancers.iter().any(|it| holds(&it.vpc_uuid))
                    || databases.iter().any(|it| holds(&it.now.private_network_uuid));
                found.of_the_account = it.default && !used && found.owner.is_none();
                all.push(found);
            }
        }
        for (it, now) in servers.iter().zip(&hosts) {
            let live = self.server(now, &near);
            all.extend(live.map(|live| self.found(live, &it.name, it.id.to_string(), &it.tags)));
        }
        for it in &volumes {
            let mut now = it.clone();
            self.pretend(&mut now.tags, &it.name);
            let live = self.volume(&now, &hosts);
            all.extend(live.map(|live| self.found(live, &it.name, it.id.as_str(), &it.tags)));
        }
        for (it, sources) in databases.iter().zip(&sources) {
            let mut now = it.clone();
            self.pretend(&mut now.now.tags, &it.now.name);
            let live = self.managed(&now, sources, &databases, &near);
            all.extend(live.map(|live| self.found(live, &it.now.name, it.now.id.as_str(), &it.now.tags)));
        }
        all.extend(firewalls.iter().filter_map(|it| self.found_firewall(it, &servers)));
        all.extend(
            balancers
                .iter()
                .filter_map(|it| self.found_load_balancer(it, &hosts, &near)),
        );
        all.extend(addresses.iter().filter(|it| it.droplet.is_none()).map(address));
        Ok(all)
    }

    fn found(&self, live: Live, name: &str, number: impl Into<String>, tags: &[String]) -> Found {
        let mut found = Found::new(live, name, number, owner(&self.options.workspace, tags));
        let users = tags.iter().filter(|tag| !tag.starts_with(labels::OURS));
        // A tag without a colon is no label that could be declared.
        let users = users.filter_map(|tag| tag.split_once(':'));
        found.labels = users.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        found
    }

    fn found_firewall(&self, it: &Firewall, servers: &[Droplet]) -> Option<Found> {
        let badges = Self::badges(&it.tags, Kind::Firewall);
        let owner = badges.into_iter().next();
        let mut now = it.clone();
        if owner.as_ref().is_none_or(|owner| owner.ws != self.options.workspace) {
            now.tags.push(self.badge_of_nobody(Kind::Firewall, &it.name));
        }
        let mut found = Found::new(self.firewall(&now)?, &it.name, it.id.as_str(), owner);
        if found.owner.is_none() {
            let before = |server: &&Droplet| {
                it.droplet_ids.contains(&server.id) || server.tags.iter().any(|tag| it.tags.contains(tag))
            };
            let names: Vec<&str> = servers.iter().filter(before).map(|it| it.name.as_str()).collect();
            found.spec["targets"] = json!(names);
            if let Value::Object(fields) = &mut found.spec {
                fields.remove("droplet_ids");
            }
        }
        Some(found)
    }

    fn found_load_balancer(&self, it: &LoadBalancer, servers: &[Droplet], networks: &[Vpc]) -> Option<Found> {
        let owner = Self::badges(std::slice::from_ref(&it.tag), Kind::LoadBalancer)
            .into_iter()
            .next();
        let mut now = it.clone();
        let mut servers = servers.to_vec();
        if owner.as_ref().is_none_or(|owner| owner.ws != self.options.workspace) {
            now.tag = self.badge_of_nobody(Kind::LoadBalancer, &it.name);
            for server in behind(it, &mut servers) {
                server.tags.push(now.tag.clone());
            }
        }
        let live = self.load_balancer(&now, &servers, networks)?;
        Some(Found::new(live, &it.name, it.id.as_str(), owner))
    }

    /// The owners that tags of this kind name, whichever workspaces they are of.
    fn badges(tags: &[String], kind: Kind) -> Vec<Owner> {
        let key = match kind {
            Kind::LoadBalancer => "lb",
            _ => "fw",
        };
        let named = labels::values(tags, key).filter_map(|badge| {
            let ws = WorkspaceName::new(badge.split(':').next()?);
            let owned = labels::read_badge(&ws, kind, &labels::tag(key, badge))?;
            Some(Owner {
                ws,
                region: Some(owned.id.region),
                name: Some(owned.id.name),
            })
        });
        named.collect()
    }

    fn badge_of_nobody(&self, kind: Kind, name: &str) -> String {
        // Whatever stands in a name, the badge is only read here.
        let name = name.replace(':', "-");
        labels::badge(&self.options.workspace, &nobody(kind, &name))
    }

    fn pretend(&self, tags: &mut Vec<String>, name: &str) {
        let ours = labels::ours(&self.options.workspace);
        if !tags.contains(&ours) {
            tags.push(ours);
        }
        for (key, value) in [(labels::REGION, NOBODY), (labels::NAME, name)] {
            if labels::value(tags, key).is_none() {
                tags.push(labels::tag(key, value));
            }
        }
    }

    fn server_as_if_ours(&self, it: &Droplet) -> Droplet {
        let mut now = it.clone();
        self.pretend(&mut now.tags, &it.name);
        now
    }

    fn network_as_if_ours(&self, it: &Vpc) -> Vpc {
        let mut words = labels::from_marker(&it.description);
        words.retain(|word| *word != labels::flag(labels::KEPT));
        self.pretend(&mut words, &it.name);
        Vpc {
            description: labels::marker("", &words.into_iter().collect()),
            ..it.clone()
        }
    }

    async fn adopt_network(&self, number: &str, want: &Resource) -> Result<Live, ProviderError> {
        let id = &want.id;
        let all = self
            .list::<Vpc>(&[])
            .await
            .map_err(|error| errors::outcome(error, id))?;
        let is = |it: &&Vpc| self.owns_network(it).is_some_and(|owned| owned.id == *id);
        let now = this(want, &all, number, |it| &it.id, is)?;
        let words = labels::from_marker(&now.description);
        let kept = labels::is_set(&words, labels::KEPT);
        let whose = owner(&self.options.workspace, &words).filter(|_| !kept);
        let what = || format!("the VPC {} at DigitalOcean", now.id);
        may_take(whose.as_ref(), &self.options.workspace, id, what)?;
        if !is(&now) {
            let is = self
                .network(&self.network_as_if_ours(now))
                .ok_or_else(|| gone(want, number))?;
            let tags = labels::identity(&self.options.workspace, &as_it_is(want, is.spec));
            let said = now
                .description
                .split_whitespace()
                .filter(|word| !word.starts_with(labels::OURS));
            let said: Vec<&str> = said.collect();
            let mut description = labels::marker(&said.join(" "), &tags);
            if description.len() > LONGEST_DESCRIPTION {
                description = labels::marker("", &tags);
            }
            let body = json!({ "name": now.name, "description": description.trim() });
            let path = format!("/v2/vpcs/{}", now.id);
            let answer = self.send::<Value>(Method::PUT, &path, Some(&body)).await;
            answer.map_err(|error| errors::outcome(error, id))?;
        }
        let now = self
            .one::<Vpc>(number)
            .await
            .map_err(|error| errors::outcome(error, id))?;
        now.and_then(|now| self.network(&now)).ok_or_else(|| gone(want, number))
    }

    async fn adopt_server(&self, number: &str, want: &Resource) -> Result<Live, ProviderError> {
        let id = &want.id;
        let (all, networks) =
            try_join!(self.list::<Droplet>(&[]), self.networks()).map_err(|error| errors::outcome(error, id))?;
        let is = |it: &&Droplet| self.carries_tags_of(&it.tags, id);
        let numbers: Vec<String> = all.iter().map(|it| it.id.to_string()).collect();
        let numbered: Vec<(&String, &Droplet)> = numbers.iter().zip(&all).collect();
        let (_, now) = this(want, &numbered, number, |it| it.0, |it| is(&it.1))?;
        let read = |tags: Vec<String>| {
            let now = Droplet { tags, ..(*now).clone() };
            self.server(&now, &networks)
        };
        let tags = |it: &Resource| server::tags(&self.options.workspace, it);
        self.adopt_tagged(Tagged::Droplet(now.id), &now.tags, want, read, tags)
            .await?;
        let now = self
            .one::<Droplet>(number)
            .await
            .map_err(|error| errors::outcome(error, id))?;
        now.and_then(|now| self.server(&now, &networks))
            .ok_or_else(|| gone(want, number))
    }

    async fn adopt_volume(&self, number: &str, want: &Resource) -> Result<Live, ProviderError> {
        let id = &want.id;
        let (all, servers) =
            try_join!(self.list::<Volume>(&[]), self.droplets()).map_err(|error| errors::outcome(error, id))?;
        let now = this(want, &all, number, |it| &it.id, |it| self.carries_tags_of(&it.tags, id))?;
        let read = |tags: Vec<String>| {
            let now = Volume { tags, ..now.clone() };
            self.volume(&now, &servers)
        };
        let tags = |it: &Resource| {
            let mut tags = labels::identity(&self.options.workspace, it);
            tags.extend(labels::from_labels(it)?);
            let host = it.spec.get("attach_to").and_then(Value::as_str);
            tags.extend(host.map(|name| labels::tag(labels::ATTACH_TO, name)));
            Ok(tags)
        };
        self.adopt_tagged(Tagged::Volume(now.id.clone()), &now.tags, want, read, tags)
            .await?;
        let now = self
            .one::<Volume>(number)
            .await
            .map_err(|error| errors::outcome(error, id))?;
        now.and_then(|now| self.volume(&now, &servers))
            .ok_or_else(|| gone(want, number))
    }

    async fn adopt_managed(&self, number: &str, want: &Resource) -> Result<Live, ProviderError> {
        let id = &want.id;
        let failed = |error| errors::outcome(error, id);
        let (all, networks) = try_join!(self.databases_with(&[]), self.networks()).map_err(failed)?;
        let now = this(
            want,
            &all,
            number,
            |it| &it.now.id,
            |it| self.carries_tags_of(&it.now.tags, id),
        )?;
        let sources = self.trusted_sources(now).await.map_err(failed)?;
        let read = |tags: Vec<String>| {
            let mut now: Managed = now.clone();
            now.now.tags = tags;
            self.managed(&now, &sources, &all, &networks)
        };
        let tags = |it: &Resource| {
            let mut tags = labels::identity(&self.options.workspace, it);
            tags.extend(labels::from_labels(it)?);
            Ok(tags)
        };
        self.adopt_tagged(Tagged::Database(now.now.id.clone()), &now.now.tags, want, read, tags)
            .await?;
        let all = self.databases().await.map_err(failed)?;
        let now = all.iter().find(|it| it.now.id == number);
        now.and_then(|now| self.managed(now, &sources, &all, &networks))
            .ok_or_else(|| gone(want, number))
    }

    async fn adopt_firewall(&self, number: &str, want: &Resource) -> Result<Live, ProviderError> {
        let id = &want.id;
        let all = self
            .list::<Firewall>(&[])
            .await
            .map_err(|error| errors::outcome(error, id))?;
        let is = |it: &Owner| {
            it.ws == self.options.workspace
                && it.region.as_ref() == Some(&id.region)
                && it.name.as_ref() == Some(&id.name)
        };
        let worn = |it: &&Firewall| Self::badges(&it.tags, Kind::Firewall).iter().any(is);
        let now = this(want, &all, number, |it| &it.id, worn)?;
        let whose = Self::badges(&now.tags, Kind::Firewall).into_iter().next();
        let what = || format!("the firewall {} at DigitalOcean", now.id);
        may_take(whose.as_ref(), &self.options.workspace, id, what)?;
        if whose.is_none() {
            let mut as_if = now.clone();
            as_if.tags.push(labels::badge(&self.options.workspace, want));
            let live = self.firewall(&as_if).ok_or_else(|| gone(want, number))?;
            let badge = labels::badge(&self.options.workspace, &as_it_is(want, live.spec));
            labels::check(&Tags::from([badge.clone()]), id)?;
            let _no_sweep = self.making().await;
            self.tag_exists(&badge, id).await?;
            let body = json!({ "tags": [badge] });
            let path = format!("/v2/firewalls/{}/tags", now.id);
            let answer = self
                .send_when_free::<Value>(Method::POST, &path, Some(&body), errors::is_pending)
                .await;
            answer.map_err(|error| errors::outcome(error, id))?;
        }
        let now = self
            .one::<Firewall>(number)
            .await
            .map_err(|error| errors::outcome(error, id))?;
        now.and_then(|now| self.firewall(&now))
            .ok_or_else(|| gone(want, number))
    }

    /// A balancer is known by the tag that it looks for, so the Droplets behind it are given that tag first. It finds the
    /// same ones afterwards, and no others later because they wear a tag of somebody's.
    async fn adopt_load_balancer(&self, number: &str, want: &Resource) -> Result<Live, ProviderError> {
        let id = &want.id;
        let failed = |error| errors::outcome(error, id);
        let (all, every, networks) = try_join!(
            self.list::<LoadBalancer>(&[]),
            self.list::<Droplet>(&[]),
            self.networks()
        )
        .map_err(failed)?;
        let of = |it: &LoadBalancer| {
            Self::badges(std::slice::from_ref(&it.tag), Kind::LoadBalancer)
                .into_iter()
                .next()
        };
        let is = |it: &Owner| {
            it.ws == self.options.workspace
                && it.region.as_ref() == Some(&id.region)
                && it.name.as_ref() == Some(&id.name)
        };
        let now = this(
            want,
            &all,
            number,
            |it| &it.id,
            |it| of(it).is_some_and(|owner| is(&owner)),
        )?;
        let whose = of(now);
        let what = || format!("the load balancer {} at DigitalOcean", now.id);
        may_take(whose.as_ref(), &self.options.workspace, id, what)?;
        if whose.is_none() {
            let mut servers = every;
            let mut as_if = now.clone();
            as_if.tag = labels::badge(&self.options.workspace, want);
            let mut members = Vec::new();
            for server in behind(now, &mut servers) {
                server.tags.push(as_if.tag.clone());
                members.push(Tagged::Droplet(server.id));
            }
            let live = self
                .load_balancer(&as_if, &servers, &networks)
                .ok_or_else(|| gone(want, number))?;
            let badge = labels::badge(&self.options.workspace, &as_it_is(want, live.spec));
            labels::check(&Tags::from([badge.clone()]), id)?;
            let path = format!("/v2/load_balancers/{}", now.id);
            let told: Value = self
                .field(&path, "load_balancer")
                .await
                .map_err(failed)?
                .unwrap_or_default();
            let _no_sweep = self.making().await;
            self.put_on(&badge, &members, id).await?;
            let answer = self
                .send_when_free::<Value>(Method::PUT, &path, Some(&as_it_was(told, &badge)), errors::is_pending)
                .await;
            answer.map_err(failed)?;
        }
        let now = self.active(number, id).await?;
        let servers = self.droplets().await.map_err(failed)?;
        self.load_balancer(&now, &servers, &networks)
            .ok_or_else(|| gone(want, number))
    }

    fn carries_tags_of(&self, tags: &[String], id: &ResourceId) -> bool {
        self.owns(id.kind, tags).is_some_and(|owned| owned.id == *id)
    }

    /// Afterwards `thing`, which has the tags `has`, has those that `tags_of` says for what `read` makes of it.
    async fn adopt_tagged(
        &self,
        thing: Tagged,
        has: &[String],
        want: &Resource,
        read: impl Fn(Vec<String>) -> Option<Live>,
        tags_of: impl Fn(&Resource) -> Result<Tags, ProviderError>,
    ) -> Result<(), ProviderError> {
        let id = &want.id;
        let ws = &self.options.workspace;
        let whose = owner(ws, has);
        may_take(whose.as_ref(), ws, id, || {
            format!("the {} {} at DigitalOcean", id.kind, thing.number())
        })?;
        if whose.is_some_and(|it| it.is_whole()) && labels::value(has, labels::SPEC).is_some() {
            return Ok(());
        }
        let mut as_if: Tags = tags_of(&with_labels_of(want, has))?;
        // Where DigitalOcean has forgotten the name of an image, what is declared is believed: nothing else could tell.
        as_if.extend(has.iter().cloned());
        let live = read(as_if.into_iter().collect()).ok_or_else(|| gone(want, id.name.as_str()))?;
        let wanted = tags_of(&as_it_is(want, live.spec))?;
        labels::check(&wanted, id)?;
        // What a run that died had written of another spec.
        let stale = |tag: &str| {
            labels::IDENTITY
                .iter()
                .any(|key| tag.starts_with(&labels::tag(key, "")))
        };
        self.bring(thing, has, &wanted, stale, id).await
    }
}

fn nobody(kind: Kind, name: &str) -> Resource {
    Resource {
        id: ResourceId::new(&RegionName::new(NOBODY), kind, name),
        provider: ProviderName::Digitalocean,
        spec: Value::Null,
        depends_on: Vec::new(),
        protect: false,
        path: String::new(),
    }
}

/// The one of that number.
///
/// # Errors
///
/// It is gone, or another one carries the labels of `want`.
fn this<'a, T>(
    want: &Resource,
    all: &'a [T],
    number: &str,
    number_of: impl Fn(&T) -> &String,
    is: impl Fn(&&T) -> bool,
) -> Result<&'a T, ProviderError> {
    if let Some(other) = all.iter().find(|it| is(it) && number_of(it) != number) {
        let other = format!("the {} {} at DigitalOcean", want.id.kind, number_of(other));
        return Err(carried_by_another(&want.id, &other));
    }
    all.iter()
        .find(|it| number_of(it) == number)
        .ok_or_else(|| gone(want, number))
}

fn gone(want: &Resource, number: &str) -> ProviderError {
    ProviderError::NotReady {
        id: want.id.clone(),
        detail: format!("DigitalOcean no longer knows {number}, or its labels were taken away again"),
    }
}

/// Labels that are declared count from now on where the thing has them as well.
fn with_labels_of(want: &Resource, has: &[String]) -> Resource {
    let mut out = want.clone();
    if let Some(Value::Object(declared)) = out.spec.get_mut(LABELS) {
        declared.retain(|key, value| has.contains(&format!("{key}:{}", value.as_str().unwrap_or_default())));
    }
    out
}

/// Of several workspaces ours is named.
fn owner(ws: &WorkspaceName, tags: &[String]) -> Option<Owner> {
    let named = || labels::values(tags, labels::WS);
    let ws = named().find(|it| *ws == **it).or_else(|| named().next())?;
    Some(Owner {
        ws: WorkspaceName::new(ws),
        region: labels::value(tags, labels::REGION).map(RegionName::new),
        name: labels::value(tags, labels::NAME).map(str::to_owned),
    })
}

/// The Droplets that a balancer spreads over now.
fn behind<'a>(balancer: &'a LoadBalancer, servers: &'a mut [Droplet]) -> impl Iterator<Item = &'a mut Droplet> {
    let is = |server: &Droplet| {
        let tagged = !balancer.tag.is_empty() && server.tags.contains(&balancer.tag);
        tagged || balancer.droplet_ids.contains(&server.id)
    };
    servers.iter_mut().filter(move |server| is(server))
}

/// Everything of a balancer that a request can set, as it is, with this tag instead of whatever it looked for: what a
/// request leaves out goes back to its default.
/// <https://docs.digitalocean.com/reference/api/reference/load-balancers/#loadBalancers_update>
fn as_it_was(told: Value, tag: &str) -> Value {
    const ONLY_TOLD: [&str; 6] = ["id", "ip", "ipv6", "status", "created_at", "droplet_ids"];
    let Value::Object(mut body) = told else {
        return Value::Null;
    };
    body.retain(|key, value| !ONLY_TOLD.contains(&key.as_str()) && !value.is_null());
    if let Some(slug) = body.get("region").and_then(|it| it.get("slug")).cloned() {
        body.insert("region".into(), slug);
    }
    // Two words for one thing, of which a request has one.
    if body.contains_key("size_unit") {
        body.remove("size");
    }
    for rule in body
        .get_mut("forwarding_rules")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if let Value::Object(rule) = rule {
            rule.retain(|_, value| value != "");
        }
    }
    body.insert("tag".into(), tag.into());
    body.into()
}

fn address(it: &ReservedIp) -> Found {
    let ip = it.ip.to_string();
    Found {
        kind: FoundKind::Address,
        provider: ProviderName::Digitalocean,
        name: String::new(),
        location: Some(it.region.slug.clone()),
        number: ip.clone(),
        owner: None,
        labels: Default::default(),
        spec: Value::Object(Map::new()),
        status: Status::Running,
        detail: None,
        address: Some(ip),
        size: Some("ipv4".into()),
        created_at: None,
        idle: Some(Idle::Unattached),
        of_the_account: false,
    }
}
