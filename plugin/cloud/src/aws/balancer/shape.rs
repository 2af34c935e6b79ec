//! A balancer as AWS keeps it: an application load balancer, its listeners and its target groups.

use std::collections::BTreeMap;

use aws_sdk_elasticloadbalancingv2::types::{self as elb, ActionTypeEnum, LoadBalancerStateEnum, ProtocolEnum};
use ha_core::{
    names::{ProviderName, WorkspaceName},
    resource::{Labels, Live, Resource, ResourceId, Status, spec_hash},
};
use serde_json::{Value, json};

use crate::{
    ProviderError,
    aws::{
        fields,
        server::shape::timestamp,
        spec,
        tags::{self, Tags},
    },
};

/// The rules as they were declared, in their order: AWS keeps listeners in none, and one that redirects has forgotten
/// its target. `80=http:8080 443=http:8080`.
pub(in crate::aws) const RULES: &str = "ha:rules";
/// The health check as it was declared, where AWS takes only something near: `5 5 3 2`, and with a port or a protocol of
/// its own `5 5 3 2 9000 https`.
pub(in crate::aws) const CHECK: &str = "ha:check";

/// The port of a health check that is the one of the requests.
const SAME_PORT: &str = "traffic-port";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::aws) struct Rule {
    pub(in crate::aws) entry: Entry,
    pub(in crate::aws) port: i32,
    pub(in crate::aws) target: Target,
    pub(in crate::aws) certificate: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::aws) enum Entry {
    Http,
    Https,
}

/// Where requests go: one target group for each of these.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::aws) struct Target {
    pub(in crate::aws) protocol: String,
    pub(in crate::aws) port: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::aws) struct Check {
    pub(in crate::aws) interval: i32,
    pub(in crate::aws) timeout: i32,
    pub(in crate::aws) fall: i32,
    pub(in crate::aws) rise: i32,
    /// Another than the one that requests go to.
    pub(in crate::aws) port: Option<i32>,
    /// Also where requests go on as http.
    pub(in crate::aws) https: bool,
}

/// What a balancer should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::aws) struct Wanted {
    pub(in crate::aws) rules: Vec<Rule>,
    /// As declared; [`Check::on`] is what AWS is told.
    pub(in crate::aws) check: Check,
    pub(in crate::aws) path: String,
    pub(in crate::aws) algorithm: String,
    pub(in crate::aws) redirect: bool,
    /// Names of servers.
    pub(in crate::aws) servers: Vec<String>,
}

impl Check {
    /// The nearest that AWS takes: 5 to 300 seconds between checks, 2 to 120 for an answer and less than between
    /// checks, 2 to 10 in a row.
    /// Source: <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/target-group-health-checks.html>.
    pub(in crate::aws) fn on(self, target: &Target) -> Self {
        let interval = self.interval.clamp(5, 300);
        Self {
            interval,
            timeout: self.timeout.clamp(2, 120).min(interval - 1),
            fall: self.fall.clamp(2, 10),
            rise: self.rise.clamp(2, 10),
            port: self.port,
            https: self.https || target.protocol == "https",
        }
    }

    /// AWS's word for the port.
    pub(in crate::aws) fn port(self) -> String {
        self.port.map_or_else(|| SAME_PORT.to_owned(), |port| port.to_string())
    }

    pub(in crate::aws) fn protocol(self) -> ProtocolEnum {
        match self.https {
            true => ProtocolEnum::Https,
            false => ProtocolEnum::Http,
        }
    }

    fn note(self) -> String {
        let mut text = format!("{} {} {} {}", self.interval, self.timeout, self.fall, self.rise);
        if let Some(port) = self.port {
            text.push_str(&format!(" {port}"));
        }
        if self.https {
            text.push_str(" https");
        }
        text
    }

    fn noted(text: &str) -> Option<Self> {
        let mut words: Vec<&str> = text.split(' ').collect();
        let https = words.pop_if(|it| *it == "https").is_some();
        let numbers: Vec<i32> = words.into_iter().map(str::parse).collect::<Result<_, _>>().ok()?;
        let (interval, timeout, fall, rise, port) = match numbers[..] {
            [interval, timeout, fall, rise] => (interval, timeout, fall, rise, None),
            [interval, timeout, fall, rise, port] => (interval, timeout, fall, rise, Some(port)),
            _ => return None,
        };
        Some(Self {
            interval,
            timeout,
            fall,
            rise,
            port,
            https,
        })
    }
}

impl Wanted {
    /// # Errors
    ///
    /// What an application load balancer does not do.
    pub(in crate::aws) fn read(want: &Resource) -> Result<Self, ProviderError> {
        let rules = want.spec.get("rules").and_then(Value::as_array);
        let rules: Vec<Rule> = rules
            .into_iter()
            .flatten()
            .enumerate()
            .map(|(at, rule)| read_rule(rule).map_err(|why| refused(want, &format!("rule {}: {why}", at + 1))))
            .collect::<Result<_, _>>()?;
        if rules.is_empty() {
            return Err(refused(want, "it has no forwarding rule"));
        }
        for (at, rule) in rules.iter().enumerate() {
            if rules[..at].iter().any(|other| other.port == rule.port) {
                return Err(refused(want, &format!("two rules listen on port {}", rule.port)));
            }
        }
        let redirect = spec::flag(&want.spec, "redirect_http_to_https");
        if redirect && !rules.iter().any(|it| it.entry == Entry::Https) {
            return Err(refused(
                want,
                "redirect_http_to_https needs a rule with entry_protocol = \"https\" and a certificate_id",
            ));
        }
        let check = want.spec.get("health_check").cloned().unwrap_or_default();
        let number = |name: &str, default: i32| {
            let found = check.get(name).and_then(Value::as_i64);
            found.and_then(|it| i32::try_from(it).ok()).unwrap_or(default)
        };
        let by = check.get("protocol").and_then(Value::as_str).unwrap_or("http");
        if !matches!(by, "http" | "https") {
            let why = format!("its health check is by {by}, and an aws.ALB checks by http and https");
            return Err(refused(want, &why));
        }
        let port = check.get("port").and_then(Value::as_i64);
        let wanted = Self {
            check: Check {
                interval: number("interval_seconds", 5),
                timeout: number("timeout_seconds", 5),
                fall: number("fall", 3),
                rise: number("rise", 2),
                port: port.and_then(|it| i32::try_from(it).ok()),
                https: by == "https",
            },
            path: check
                .get("path")
                .and_then(Value::as_str)
                .unwrap_or("/health")
                .to_owned(),
            algorithm: spec::text(want, "algorithm")?.to_owned(),
            servers: spec::texts(&want.spec, "targets"),
            redirect,
            rules,
        };
        if wanted.note().len() > 256 {
            return Err(refused(
                want,
                "more rules than a tag of AWS can hold: split it into two balancers",
            ));
        }
        Ok(wanted)
    }

    /// Each once, in a fixed order.
    pub(in crate::aws) fn targets(&self) -> Vec<Target> {
        let mut all: Vec<Target> = self.rules.iter().map(|it| it.target.clone()).collect();
        all.sort();
        all.dedup();
        all
    }

    /// The port that redirects go to.
    pub(in crate::aws) fn https_port(&self) -> Option<i32> {
        self.rules.iter().find(|it| it.entry == Entry::Https).map(|it| it.port)
    }

    /// Ports that listen, each with its rule; port 80 of a redirect may have none.
    pub(in crate::aws) fn listeners(&self) -> Vec<(i32, Option<&Rule>)> {
        let mut all: Vec<(i32, Option<&Rule>)> = self.rules.iter().map(|it| (it.port, Some(it))).collect();
        if self.redirect && !self.rules.iter().any(|it| it.entry == Entry::Http || it.port == 80) {
            all.push((80, None));
        }
        all
    }

    fn note(&self) -> String {
        let rule = |it: &Rule| format!("{}={}:{}", it.port, it.target.protocol, it.target.port);
        self.rules.iter().map(rule).collect::<Vec<_>>().join(" ")
    }

    /// All tags of the balancer once it is as wanted.
    pub(in crate::aws) fn tags(&self, ws: &WorkspaceName, want: &Resource) -> Tags {
        let mut all = tags::of(ws, want);
        all.insert(RULES.to_owned(), self.note());
        all.insert(CHECK.to_owned(), self.check.note());
        all.extend(fields::label_tags(&want.spec));
        all
    }
}

fn read_rule(rule: &Value) -> Result<Rule, String> {
    let word = |name: &str| rule.get(name).and_then(Value::as_str).unwrap_or_default();
    let port = |name: &str| {
        rule.get(name)
            .and_then(Value::as_i64)
            .and_then(|it| i32::try_from(it).ok())
    };
    let certificate = rule.get("certificate_id").and_then(Value::as_str).map(str::to_owned);
    let entry = match (word("entry_protocol"), &certificate) {
        ("http", None) => Entry::Http,
        ("http", Some(_)) => return Err("http has no certificate: write entry_protocol = \"https\"".into()),
        ("https", Some(arn)) if arn.starts_with("arn:") => Entry::Https,
        ("https", Some(name)) => return Err(format!("{name} is not the ARN of a certificate (arn:aws:acm:…)")),
        ("https", None) => return Err("https needs a certificate_id, the ARN of a certificate in ACM".into()),
        ("http2", _) => return Err("https speaks HTTP/2 as well: write entry_protocol = \"https\"".into()),
        (other, _) => return Err(format!("an aws.ALB speaks http and https, not {other}")),
    };
    let protocol = match word("target_protocol") {
        known @ ("http" | "https" | "http2") => known.to_owned(),
        other => return Err(format!("an aws.ALB speaks http and https to servers, not {other}")),
    };
    Ok(Rule {
        entry,
        port: port("entry_port").ok_or("it has no entry_port")?,
        target: Target {
            protocol,
            port: port("target_port").ok_or("it has no target_port")?,
        },
        certificate,
    })
}

fn refused(want: &Resource, why: &str) -> ProviderError {
    ProviderError::Refused {
        what: format!("{}: {why}", want.id),
        help: format!("change it at {} in workspace.ncl", want.path),
    }
}

/// A target group's name: unique in the account and location, at most 32 letters, digits and dashes.
pub(in crate::aws) fn group_name(ws: &WorkspaceName, id: &ResourceId, target: &Target) -> String {
    let hash = spec_hash(&json!([ws, id.region, id.name, target.protocol, target.port]));
    let name: String = id.name.chars().take(20).collect();
    format!("{}-{}", name.trim_end_matches('-'), &hash[..8])
}

/// One target group with what has to be asked for separately.
#[derive(Clone, Debug)]
pub(in crate::aws) struct Group {
    pub(in crate::aws) group: elb::TargetGroup,
    pub(in crate::aws) algorithm: Option<String>,
    /// Ids of instances.
    pub(in crate::aws) members: Vec<String>,
}

impl Group {
    pub(in crate::aws) fn arn(&self) -> &str {
        self.group.target_group_arn().unwrap_or_default()
    }

    pub(in crate::aws) fn target(&self) -> Target {
        let http2 = self.group.protocol_version() == Some("HTTP2");
        let protocol = match self.group.protocol() {
            _ if http2 => "http2".to_owned(),
            Some(protocol) => protocol.as_str().to_ascii_lowercase(),
            None => String::new(),
        };
        Target {
            protocol,
            port: self.group.port().unwrap_or_default(),
        }
    }

    pub(in crate::aws) fn check(&self) -> Check {
        Check {
            interval: self.group.health_check_interval_seconds().unwrap_or_default(),
            timeout: self.group.health_check_timeout_seconds().unwrap_or_default(),
            fall: self.group.unhealthy_threshold_count().unwrap_or_default(),
            rise: self.group.healthy_threshold_count().unwrap_or_default(),
            port: self.group.health_check_port().and_then(|it| it.parse().ok()),
            https: self.group.health_check_protocol() == Some(&ProtocolEnum::Https),
        }
    }
}

/// AWS's word for ours.
pub(in crate::aws) fn algorithm_of(word: &str) -> &str {
    match word {
        "least_connections" => "least_outstanding_requests",
        other => other,
    }
}

fn algorithm_in_ours(word: &str) -> &str {
    match word {
        "least_outstanding_requests" => "least_connections",
        other => other,
    }
}

/// The pieces of one balancer.
#[derive(Clone, Debug, Default)]
pub(in crate::aws) struct Pieces {
    pub(in crate::aws) balancer: Option<elb::LoadBalancer>,
    pub(in crate::aws) tags: Tags,
    pub(in crate::aws) listeners: Vec<elb::Listener>,
    pub(in crate::aws) groups: Vec<Group>,
    /// Ids of its own security groups.
    pub(in crate::aws) security: Vec<String>,
}

/// Servers by the ids of their instances, in the order of their groups.
pub(in crate::aws) type Servers = Vec<(String, ResourceId)>;

impl Pieces {
    pub(in crate::aws) fn arn(&self) -> Option<&str> {
        self.balancer.as_ref()?.load_balancer_arn()
    }

    pub(in crate::aws) fn group(&self, target: &Target) -> Option<&Group> {
        self.groups.iter().find(|it| it.target() == *target)
    }

    fn group_of(&self, listener: &elb::Listener) -> Option<&Group> {
        let arn = forward(listener)?;
        self.groups.iter().find(|it| it.arn() == arn)
    }

    /// The spec as it is now.
    fn spec(&self, location: &str, servers: &Servers) -> Value {
        let noted: Vec<(i32, Target)> = self.tags.get(RULES).map(|it| noted_rules(it)).unwrap_or_default();
        let mut rules: Vec<(usize, i32, Value)> = Vec::new();
        for listener in &self.listeners {
            let port = listener.port().unwrap_or_default();
            let note = noted.iter().position(|it| it.0 == port);
            let target = match self.group_of(listener) {
                Some(group) => Some(group.target()),
                None => note.map(|at| noted[at].1.clone()),
            };
            // A listener that only redirects, and was never declared as a rule.
            let Some(target) = target else { continue };
            rules.push((
                note.unwrap_or(usize::MAX),
                port,
                json!({
                    "entry_protocol": listener.protocol().map(|it| it.as_str().to_ascii_lowercase()),
                    "entry_port": port,
                    "target_protocol": target.protocol,
                    "target_port": target.port,
                    "certificate_id": listener.certificates().first().and_then(|it| it.certificate_arn()),
                }),
            ));
        }
        rules.sort_by_key(|it| (it.0, it.1));
        let group = self.groups.first();
        let now = group.map(Group::check);
        let declared = self.tags.get(CHECK).and_then(|it| Check::noted(it));
        let check = match (declared, now) {
            (Some(declared), Some(now)) if group.is_some_and(|it| declared.on(&it.target()) == now) => Some(declared),
            (declared, now) => now.or(declared),
        };
        let registered = |id: &String| self.groups.iter().all(|group| group.members.contains(id));
        let mut targets: Vec<String> = servers
            .iter()
            .filter(|(id, _)| group.is_some() && registered(id))
            .map(|(_, server)| server.name.clone())
            .collect();
        // Registered by hand: shown by what AWS calls it.
        let foreign = group.map(|it| it.members.as_slice()).unwrap_or_default().iter();
        targets.extend(
            foreign
                .filter(|id| !servers.iter().any(|(known, _)| known == *id))
                .cloned(),
        );
        let mut spec = json!({
            "location": location,
            "algorithm": group.and_then(|it| it.algorithm.as_deref()).map(algorithm_in_ours),
            "targets": targets,
            "rules": rules.into_iter().map(|it| it.2).collect::<Vec<_>>(),
            "health_check": {
                "path": group.and_then(|it| it.group.health_check_path()),
                "interval_seconds": check.map(|it| it.interval),
                "timeout_seconds": check.map(|it| it.timeout),
                "fall": check.map(|it| it.fall),
                "rise": check.map(|it| it.rise),
            },
            "redirect_http_to_https": self.listeners.iter().any(redirects),
            "databases": [],
        });
        if let Some(port) = check.and_then(|it| it.port) {
            spec["health_check"]["port"] = port.into();
        }
        if check.is_some_and(|it| it.https) {
            spec["health_check"]["protocol"] = "https".into();
        }
        fields::tell(&mut spec, &self.tags);
        spec
    }

    pub(in crate::aws) fn live(
        &self,
        ws: &WorkspaceName,
        id: &ResourceId,
        location: &str,
        servers: &Servers,
        network: Option<&ResourceId>,
    ) -> Live {
        let spec = self.spec(location, servers);
        let owned = tags::read(ws, &self.tags).filter(|it| !it.unfinished);
        let state = self.balancer.as_ref().and_then(|it| it.state());
        let code = state.and_then(elb::LoadBalancerState::code);
        let reason = state.and_then(elb::LoadBalancerState::reason).map(str::to_owned);
        let (status, detail) = match code {
            Some(LoadBalancerStateEnum::Failed) => (Status::Failed, reason),
            _ if owned.is_none() => (Status::Pending, Some("it was not finished".to_owned())),
            Some(LoadBalancerStateEnum::Active) => (Status::Running, None),
            Some(LoadBalancerStateEnum::ActiveImpaired) => (Status::Running, reason),
            _ => (Status::Pending, reason),
        };
        let mut depends_on: Vec<ResourceId> = network.cloned().into_iter().collect();
        let registered = |instance: &String| self.groups.iter().any(|group| group.members.contains(instance));
        depends_on.extend(
            servers
                .iter()
                .filter(|(it, _)| registered(it))
                .map(|(_, server)| server.clone()),
        );
        Live {
            id: id.clone(),
            provider: ProviderName::Aws,
            labels: Labels {
                ws: ws.clone(),
                region: id.region.clone(),
                name: id.name.clone(),
                spec: owned
                    .as_ref()
                    .map_or_else(|| spec_hash(&spec), |it| it.labels.spec.clone()),
            },
            spec,
            status,
            detail,
            address: self.balancer.as_ref().and_then(|it| it.dns_name()).map(str::to_owned),
            private_address: None,
            size: None,
            created_at: self
                .balancer
                .as_ref()
                .and_then(|it| it.created_time())
                .and_then(timestamp),
            depends_on,
            protect: owned.is_some_and(|it| it.protect),
            role: None,
            endpoints: BTreeMap::new(),
        }
    }
}

pub(in crate::aws) fn forward(listener: &elb::Listener) -> Option<&str> {
    let mut actions = listener.default_actions().iter();
    actions
        .find(|it| it.r#type() == Some(&ActionTypeEnum::Forward))?
        .target_group_arn()
}

pub(in crate::aws) fn redirects(listener: &elb::Listener) -> bool {
    listener.protocol() == Some(&ProtocolEnum::Http)
        && listener
            .default_actions()
            .iter()
            .any(|it| it.r#type() == Some(&ActionTypeEnum::Redirect))
}

fn noted_rules(text: &str) -> Vec<(i32, Target)> {
    let rule = |text: &str| {
        let (port, target) = text.split_once('=')?;
        let (protocol, to) = target.split_once(':')?;
        let target = Target {
            protocol: protocol.to_owned(),
            port: to.parse().ok()?,
        };
        Some((port.parse().ok()?, target))
    };
    text.split(' ').filter_map(rule).collect()
}

#[cfg(test)]
mod tests;
