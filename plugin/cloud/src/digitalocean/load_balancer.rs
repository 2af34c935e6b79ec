//! Load balancers. They have no tags; the tag of the Droplets behind one is its badge, which says all of its labels
//! and changes with its spec, so that what it does and what is written about it are changed in one request.

use ha_core::{
    desired::SIZE_UNIT,
    resource::{Kind, Live, Resource, ResourceId, Status, spec_hash},
};
use http::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    api::{Droplet, ForwardingRule, HealthCheck, LoadBalancer, Vpc},
    cloud::Cloud,
    errors,
    labels::{self, Owned, Tags},
    observe::{blank, cannot_become, text, texts},
    tagging::Tagged,
};
use crate::ProviderError;

/// As in the contract of `digitalocean.LoadBalancer`.
const USUAL_NODES: u64 = 1;
const ROUND_ROBIN: &str = "round_robin";

/// What is written in a workspace.
#[derive(Deserialize)]
struct Written {
    rules: Vec<WrittenRule>,
    health_check: WrittenCheck,
    redirect_http_to_https: bool,
    algorithm: String,
    #[serde(default)]
    size_unit: Option<u64>,
}

#[derive(Deserialize)]
struct WrittenRule {
    entry_protocol: String,
    entry_port: u16,
    target_protocol: String,
    target_port: u16,
    #[serde(default)]
    certificate_id: Option<String>,
}

#[derive(Deserialize)]
struct WrittenCheck {
    #[serde(default = "usual_protocol")]
    protocol: String,
    #[serde(default)]
    port: Option<u16>,
    /// Nothing is asked for by one that only connects.
    #[serde(default)]
    path: Option<String>,
    interval_seconds: u64,
    timeout_seconds: u64,
    fall: u32,
    rise: u32,
}

fn usual_protocol() -> String {
    USUAL_PROTOCOL.to_owned()
}

impl Cloud {
    pub(super) async fn ensure_load_balancer(&self, want: &Resource) -> Result<Live, ProviderError> {
        let id = &want.id;
        let location = text(want, "location")?;
        let badge = labels::badge(&self.options.workspace, want);
        labels::check(&Tags::from([badge.clone()]), id)?;
        let mut body = request(want, &badge)?;
        let needed = self.needed(want).await?;
        let targets = self.targets(want, &needed.servers)?;
        let network = needed.networks.iter().find(|it| {
            let owned = self.owns_network(it);
            owned.is_some_and(|owned| want.depends_on.contains(&owned.id))
        });
        if let Some(network) = network {
            body["vpc_uuid"] = network.id.as_str().into();
        }
        let found = self.find_load_balancer(id).await?;
        let no_sweep = self.making().await;
        // The servers first: the moment the balancer looks for the tag, it finds them all.
        self.take_in(&badge, &targets, &needed.servers, id).await?;
        let number = match found {
            None => {
                let made = self.create::<LoadBalancer>(&body).await;
                made.map_err(|error| errors::outcome(error, id))?.id
            }
            Some(now) => {
                if let Some(region) = now.region.as_ref().filter(|it| it.slug != location) {
                    return Err(cannot_become(want, "location", &region.slug, location));
                }
                let is = spec_as(&now, &self.behind(&now, &needed.servers), &want.spec_hash());
                if is != want.spec || now.tag != badge {
                    // What is not in the request goes back to its default; these are no business of ours.
                    if let Some(project) = &now.project_id {
                        body["project_id"] = project.as_str().into();
                    }
                    let path = format!("/v2/load_balancers/{}", now.id);
                    let answer = self
                        .send_when_free::<Value>(Method::PUT, &path, Some(&body), errors::is_pending)
                        .await;
                    answer.map_err(|error| errors::outcome(error, id))?;
                }
                now.id
            }
        };
        drop(no_sweep);
        let now = self.active(&number, id).await?;
        // Only now that nothing looks for the old tag any more; also one that was left when this was cut short.
        let worn = needed.servers.iter().flat_map(|it| &it.tags);
        let old: Tags = worn
            .filter(|tag| **tag != badge && self.wears(tag, id))
            .cloned()
            .collect();
        for tag in &old {
            self.forget(tag, id).await?;
        }
        let mut networks = needed.networks;
        networks.retain(|it| self.owns_network(it).is_some());
        let servers = self.droplets().await.map_err(|error| errors::outcome(error, id))?;
        self.load_balancer(&now, &servers, &networks)
            .ok_or_else(|| ProviderError::NotReady {
                id: id.clone(),
                detail: "its tag was taken away again".into(),
            })
    }

    /// The Droplets that it is to spread over.
    fn targets(&self, want: &Resource, servers: &[Droplet]) -> Result<Vec<u64>, ProviderError> {
        let number = |name: &str| {
            let id = ResourceId::new(&want.id.region, Kind::Server, name);
            let found = servers
                .iter()
                .find(|it| self.owns(Kind::Server, &it.tags).is_some_and(|owned| owned.id == id));
            found.map(|it| it.id).ok_or_else(|| ProviderError::Missing {
                id: want.id.clone(),
                needs: id.to_string(),
            })
        };
        texts(&want.spec, "targets").into_iter().map(number).collect()
    }

    /// Afterwards exactly these have the tag.
    async fn take_in(
        &self,
        badge: &str,
        targets: &[u64],
        servers: &[Droplet],
        id: &ResourceId,
    ) -> Result<(), ProviderError> {
        let has = |it: &&Droplet| it.tags.iter().any(|tag| tag == badge);
        let there: Vec<u64> = servers.iter().filter(has).map(|it| it.id).collect();
        let some = |of: &[u64], without: &[u64]| -> Vec<Tagged> {
            of.iter()
                .filter(|it| !without.contains(it))
                .map(|it| Tagged::Droplet(*it))
                .collect()
        };
        self.put_on(badge, &some(targets, &there), id).await?;
        self.take_off(badge, &some(&there, targets), id).await
    }

    /// # Errors
    ///
    /// [`ProviderError::Taken`] when its name belongs to one that is not ours.
    async fn find_load_balancer(&self, id: &ResourceId) -> Result<Option<LoadBalancer>, ProviderError> {
        let all = self
            .list::<LoadBalancer>(&[])
            .await
            .map_err(|error| errors::outcome(error, id))?;
        let (mut ours, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|it| self.wears(&it.tag, id));
        if let Some(other) = others.iter().find(|it| it.name == id.name) {
            return Err(ProviderError::Taken {
                what: format!("the name {}", id.name),
                by: format!(
                    "the load balancer {} at DigitalOcean, which does not have the tag of {id}",
                    other.id
                ),
            });
        }
        Ok(ours.pop())
    }

    pub(super) async fn active(&self, number: &str, id: &ResourceId) -> Result<LoadBalancer, ProviderError> {
        let mut wait = self.wait();
        let not_ready = |detail: String| ProviderError::NotReady { id: id.clone(), detail };
        loop {
            let found = self.one::<LoadBalancer>(number).await;
            let found = found.map_err(|error| errors::outcome(error, id))?;
            let now = found.ok_or_else(|| not_ready("it was removed while it was made".into()))?;
            match now.status.as_str() {
                "active" => return Ok(now),
                "errored" => return Err(not_ready("DigitalOcean calls it errored".into())),
                other if !wait.pause().await => {
                    return Err(not_ready(format!(
                        "DigitalOcean calls it {other} after {:?}",
                        wait.patience
                    )));
                }
                _ => {}
            }
        }
    }

    pub(super) async fn remove_load_balancer(&self, id: &ResourceId) -> Result<(), ProviderError> {
        let all = self
            .list::<LoadBalancer>(&[])
            .await
            .map_err(|error| errors::outcome(error, id))?;
        for now in all.iter().filter(|it| self.wears(&it.tag, id)) {
            self.delete_to_the_end(id, &format!("/v2/load_balancers/{}", now.id))
                .await?;
        }
        self.sweep(id).await
    }

    fn wears(&self, tag: &str, id: &ResourceId) -> bool {
        let owned = labels::read_badge(&self.options.workspace, id.kind, tag);
        owned.is_some_and(|owned| owned.id == *id)
    }

    /// The names of the servers behind it, in the order in which they count.
    fn behind(&self, now: &LoadBalancer, servers: &[Droplet]) -> Vec<String> {
        let there = servers.iter().filter(|it| it.tags.contains(&now.tag));
        let mut names: Vec<String> = there
            .filter_map(|it| Some(self.owns(Kind::Server, &it.tags)?.id.name))
            .collect();
        names.sort_by_cached_key(|name| numbered(name));
        names
    }

    /// `servers` and `networks` are those of this workspace.
    pub(super) fn load_balancer(&self, now: &LoadBalancer, servers: &[Droplet], networks: &[Vpc]) -> Option<Live> {
        let owned: Owned = labels::read_badge(&self.options.workspace, Kind::LoadBalancer, &now.tag)?;
        let targets = self.behind(now, servers);
        let within = networks.iter().filter(|it| Some(&it.id) == now.vpc_uuid.as_ref());
        let mut depends_on: Vec<ResourceId> = within.filter_map(|it| self.owns_network(it)).map(|it| it.id).collect();
        let region = &owned.id.region;
        depends_on.extend(
            targets
                .iter()
                .map(|name| ResourceId::new(region, Kind::Server, name.clone())),
        );
        let (status, detail) = match now.status.as_str() {
            "active" => (Status::Running, None),
            "errored" => (Status::Failed, Some("DigitalOcean calls it errored".to_owned())),
            _ => (Status::Pending, Some("being made".to_owned())),
        };
        Some(Live {
            status,
            detail,
            address: Some(now.ip.clone()).filter(|ip| !ip.is_empty()),
            size: now.size_unit.map(|nodes| format!("{nodes} nodes")),
            created_at: now.created_at,
            depends_on,
            ..blank(&owned, spec_as(now, &targets, owned.applied()))
        })
    }
}

/// `us-app-2` before `us-app-10`.
fn numbered(name: &str) -> (String, u64) {
    let found = name
        .rsplit_once('-')
        .and_then(|(group, index)| Some((group.to_owned(), index.parse().ok()?)));
    found.unwrap_or_else(|| (name.to_owned(), 0))
}

/// Everything that can be set, as wanted. A request leaves nothing out that a person could have changed.
fn request(want: &Resource, badge: &str) -> Result<Value, ProviderError> {
    let written = Written::deserialize(&want.spec).map_err(|error| ProviderError::Refused {
        what: format!("{}: {error}", want.id),
        help: format!("correct it at {} in workspace.ncl", want.path),
    })?;
    let check = &written.health_check;
    for (what, value, least, most) in [
        ("check_interval_seconds", check.interval_seconds, 3, 300),
        ("response_timeout_seconds", check.timeout_seconds, 3, 300),
        ("unhealthy_threshold", check.fall.into(), 2, 10),
        ("healthy_threshold", check.rise.into(), 2, 10),
    ] {
        // <https://docs.digitalocean.com/reference/api/reference/load-balancers/#loadBalancers_create>
        if !(least..=most).contains(&value) {
            return Err(ProviderError::Refused {
                what: format!(
                    "{} has the health check's {what} = {value}, and DigitalOcean takes {least} to {most}",
                    want.id
                ),
                help: format!("correct it at {} in workspace.ncl", want.path),
            });
        }
    }
    let port = check
        .port
        .or_else(|| written.rules.first().map(|rule| rule.target_port));
    Ok(json!({
        "name": want.id.name,
        "region": want.spec["location"],
        "size_unit": written.size_unit.unwrap_or(USUAL_NODES),
        "algorithm": written.algorithm,
        "forwarding_rules": written.rules.iter().map(rule_request).collect::<Vec<_>>(),
        "health_check": {
            "protocol": check.protocol,
            "port": port,
            "path": check.path.as_deref().unwrap_or("/"),
            "check_interval_seconds": check.interval_seconds,
            "response_timeout_seconds": check.timeout_seconds,
            "unhealthy_threshold": check.fall,
            "healthy_threshold": check.rise,
        },
        "sticky_sessions": { "type": "none" },
        "redirect_http_to_https": written.redirect_http_to_https,
        "tag": badge,
    }))
}

/// What is asked by where nothing else is written.
const USUAL_PROTOCOL: &str = "http";

fn rule_request(rule: &WrittenRule) -> Value {
    let passes = passes_through(
        &rule.entry_protocol,
        &rule.target_protocol,
        rule.certificate_id.is_some(),
    );
    let mut out = json!({
        "entry_protocol": rule.entry_protocol,
        "entry_port": rule.entry_port,
        "target_protocol": rule.target_protocol,
        "target_port": rule.target_port,
        "tls_passthrough": passes,
    });
    if let Some(certificate) = &rule.certificate_id {
        out["certificate_id"] = certificate.as_str().into();
    }
    out
}

/// Without a certificate TLS can only be passed on, to servers that speak it.
fn passes_through(entry: &str, target: &str, has_certificate: bool) -> bool {
    let tls = |protocol: &str| matches!(protocol, "https" | "http2");
    tls(entry) && tls(target) && !has_certificate
}

/// The spec, said as in the one that was applied: whether the port of the first rule was written as that of the check as
/// well cannot be seen.
fn spec_as(now: &LoadBalancer, targets: &[String], applied: &str) -> Value {
    let told = spec(now, targets, true);
    match spec_hash(&told) == applied {
        true => told,
        false => spec(now, targets, false),
    }
}

/// As it would be written in a workspace. What cannot be written there appears where it is not as we make it, so that
/// a change by hand is seen. `port`: that of the health check is written also where it is the usual one.
fn spec(now: &LoadBalancer, targets: &[String], port: bool) -> Value {
    let mut spec = json!({
        "location": now.region.as_ref().map(|it| it.slug.as_str()),
        "algorithm": now.algorithm.as_deref().unwrap_or(ROUND_ROBIN),
        "targets": targets,
        "rules": now.forwarding_rules.iter().map(rule_spec).collect::<Vec<_>>(),
        "health_check": check_spec(now, port),
        "redirect_http_to_https": now.redirect_http_to_https,
        "databases": [],
    });
    if let Some(nodes) = now.size_unit.filter(|nodes| *nodes != USUAL_NODES) {
        spec[SIZE_UNIT] = nodes.into();
    }
    if let Some(sticky) = now.sticky_sessions.as_ref().filter(|it| it.kind != "none") {
        spec["sticky_sessions"] = sticky.kind.as_str().into();
    }
    spec
}

fn rule_spec(rule: &ForwardingRule) -> Value {
    let certificate = Some(&rule.certificate_id).filter(|it| !it.is_empty());
    let mut out = json!({
        "entry_protocol": rule.entry_protocol,
        "entry_port": rule.entry_port,
        "target_protocol": rule.target_protocol,
        "target_port": rule.target_port,
        "certificate_id": certificate,
    });
    if rule.tls_passthrough != passes_through(&rule.entry_protocol, &rule.target_protocol, certificate.is_some()) {
        out["tls_passthrough"] = rule.tls_passthrough.into();
    }
    out
}

fn check_spec(now: &LoadBalancer, told: bool) -> Value {
    let Some(check) = &now.health_check else {
        return Value::Null;
    };
    let HealthCheck { protocol, port, .. } = check;
    let mut out = Map::new();
    if protocol != "tcp" {
        out.insert("path".into(), check.path.as_str().into());
    }
    out.insert("interval_seconds".into(), check.check_interval_seconds.into());
    out.insert("timeout_seconds".into(), check.response_timeout_seconds.into());
    out.insert("fall".into(), check.unhealthy_threshold.into());
    out.insert("rise".into(), check.healthy_threshold.into());
    if protocol != USUAL_PROTOCOL {
        out.insert("protocol".into(), protocol.as_str().into());
    }
    let usual = now.forwarding_rules.first().map(|rule| rule.target_port);
    if told || usual.is_some_and(|usual| usual != *port) {
        out.insert("port".into(), (*port).into());
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use ha_core::names::{ProviderName, RegionName};
    use proptest::prelude::*;

    use super::*;

    fn want(rules: Value, nodes: u64) -> Resource {
        let mut spec = json!({
            "location": "nyc3",
            "algorithm": "round_robin",
            "targets": ["us-app-1", "us-app-2", "us-app-10"],
            "rules": rules,
            "health_check": { "path": "/health", "interval_seconds": 5, "timeout_seconds": 5, "fall": 3, "rise": 2 },
            "redirect_http_to_https": true,
            "databases": [],
        });
        if nodes != USUAL_NODES {
            spec["size_unit"] = nodes.into();
        }
        Resource {
            id: ResourceId::new(&RegionName::new("us-east"), Kind::LoadBalancer, "us-lb"),
            provider: ProviderName::Digitalocean,
            spec,
            depends_on: Vec::new(),
            protect: false,
            path: "region_us_east.load_balancer".into(),
        }
    }

    /// What DigitalOcean makes of a request.
    fn answer(request: &Value) -> Value {
        let mut answer = request.clone();
        answer["id"] = "4de7ac8b-495b-4884-9a69-1050c6793cd6".into();
        answer["ip"] = "104.131.186.241".into();
        answer["status"] = "active".into();
        answer["created_at"] = "2017-02-01T22:22:58Z".into();
        answer["region"] = json!({ "slug": request["region"] });
        for rule in answer["forwarding_rules"].as_array_mut().expect("the rules") {
            if rule.get("certificate_id").is_none() {
                rule["certificate_id"] = "".into();
            }
        }
        answer
    }

    fn targets() -> Vec<String> {
        ["us-app-1", "us-app-2", "us-app-10"].map(str::to_owned).to_vec()
    }

    #[test]
    fn servers_are_in_the_order_of_their_numbers() {
        let mut names = ["us-app-10", "us-app-2", "us-app-1", "other"];
        names.sort_by_cached_key(|name| numbered(name));
        assert_eq!(names, ["other", "us-app-1", "us-app-2", "us-app-10"]);
    }

    #[test]
    fn a_change_by_hand_is_seen_also_where_no_field_says_it() {
        let want = want(
            json!([{ "entry_protocol": "http", "entry_port": 80, "target_protocol": "http",
            "target_port": 8080, "certificate_id": null }]),
            1,
        );
        let made = answer(&request(&want, "ha:lb:shop").expect("it is whole"));
        let change = |field: &str, value: Value| {
            let mut answer = made.clone();
            *answer.pointer_mut(field).expect("the field is there") = value;
            spec_as(
                &serde_json::from_value(answer).expect("a balancer"),
                &targets(),
                &want.spec_hash(),
            ) != want.spec
        };
        assert!(!change("/name", "other".into()), "no more than a name");
        for (field, value) in [
            ("/sticky_sessions/type", json!("cookies")),
            ("/size_unit", json!(3)),
            ("/algorithm", json!("least_connections")),
            ("/redirect_http_to_https", json!(false)),
            ("/health_check/protocol", json!("tcp")),
            ("/health_check/port", json!(9090)),
            ("/health_check/path", json!("/")),
            ("/forwarding_rules/0/tls_passthrough", json!(true)),
            ("/forwarding_rules/0/certificate_id", json!("892071a0")),
        ] {
            assert!(change(field, value), "{field}");
        }
    }

    prop_compose! {
        fn rule()(
            entry in prop::sample::select(&["http", "https", "http2", "tcp", "udp"][..]),
            entry_port: u16,
            target in prop::sample::select(&["http", "https", "http2", "tcp", "udp"][..]),
            target_port: u16,
            certificate in prop::option::of("[0-9a-f]{8}"),
        ) -> Value {
            json!({ "entry_protocol": entry, "entry_port": entry_port, "target_protocol": target,
                "target_port": target_port, "certificate_id": certificate })
        }
    }

    proptest! {
        #[test]
        fn what_is_asked_for_is_what_is_read(rules in prop::collection::vec(rule(), 1..4), nodes in 1u64..4) {
            let want = want(rules.into(), nodes);
            let request = request(&want, "ha:lb:shop").expect("it is whole");
            let now: LoadBalancer = serde_json::from_value(answer(&request)).expect("a balancer");
            prop_assert_eq!(spec_as(&now, &targets(), &want.spec_hash()), want.spec);
        }
    }
}
