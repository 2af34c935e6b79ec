//! Forwarding rules of a workspace as services of a Hetzner load balancer, and back.
//!
//! Hetzner speaks plain HTTP or TCP to its targets, ends TLS itself, and has one threshold for both directions of a
//! health check. What it cannot do is refused in words; what it does not tell (the order of the rules, the second
//! threshold) is in labels.

use std::collections::BTreeSet;

use ha_core::{
    model::{ForwardingRule, HealthCheck},
    resource::Resource,
};
use serde_json::{Value, json};

use super::{
    api::{HttpService, LabelMap, Service},
    labels,
};
use crate::ProviderError;

/// The part of a balancer's spec that becomes services.
#[derive(Debug, PartialEq)]
pub(super) struct Rules {
    pub(super) rules: Vec<ForwardingRule>,
    pub(super) check: HealthCheck,
    pub(super) redirect: bool,
}

/// What one service is to be, in the fields that matter to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) port: u16,
    protocol: String,
    target_port: u16,
    certificates: Vec<u64>,
    redirect_http: bool,
    path: String,
    interval: u64,
    timeout: u64,
    retries: u32,
    check: Check,
    check_port: u16,
}

/// How a target is asked: Hetzner calls the second http as well, and says beside it that it is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    Http,
    Https,
    Tcp,
}

impl Rules {
    pub(super) fn read(want: &Resource) -> Result<Self, ProviderError> {
        let unreadable = |error: serde_json::Error| refused(want, format!("cannot be read: {error}"));
        Ok(Self {
            rules: serde_json::from_value(want.spec["rules"].clone()).map_err(unreadable)?,
            check: serde_json::from_value(want.spec["health_check"].clone()).map_err(unreadable)?,
            redirect: want.spec["redirect_http_to_https"] == true,
        })
    }

    /// # Errors
    ///
    /// [`ProviderError::Refused`] with the first thing that Hetzner cannot do, and what to write instead.
    pub(super) fn services(&self, want: &Resource) -> Result<Vec<Wanted>, ProviderError> {
        let check = &self.check;
        for (what, value, least, most) in [
            ("interval_seconds", check.interval_seconds, 3, 60),
            ("timeout_seconds", check.timeout_seconds, 1, 60),
            ("fall", u64::from(check.fall), 1, 5),
        ] {
            if !(least..=most).contains(&value) {
                let why = format!("has the health check's {what} = {value}, and Hetzner takes {least} to {most}");
                return Err(refused(want, why));
            }
        }
        let how = match check.protocol.as_str() {
            "http" => Check::Http,
            "https" => Check::Https,
            "tcp" => Check::Tcp,
            other => {
                let why = format!("has a health check by {other}, and Hetzner checks by http, https and tcp");
                return Err(refused(want, why));
            }
        };
        let secure = self.rules.iter().find(|it| it.entry_protocol == "https");
        if self.redirect && secure.is_none() {
            return Err(refused(want, "redirects to https and has no rule for https".into()));
        }
        let mut ports = BTreeSet::new();
        let mut out = Vec::new();
        for rule in &self.rules {
            if !ports.insert(rule.entry_port) {
                return Err(refused(want, format!("has two rules for port {}", rule.entry_port)));
            }
            if self.is_the_redirect(rule) {
                // Hetzner opens port 80 by itself for it.
                let same = secure.is_some_and(|it| it.target_port == rule.target_port);
                if !same || rule.target_protocol != "http" {
                    let why =
                        "redirects port 80 to https, so that its rule for port 80 must name the same target".into();
                    return Err(refused(want, why));
                }
                continue;
            }
            out.push(self.service(rule, how, want)?);
        }
        Ok(out)
    }

    fn service(&self, rule: &ForwardingRule, check: Check, want: &Resource) -> Result<Wanted, ProviderError> {
        let entry = rule.entry_protocol.as_str();
        let to = match entry {
            "http" | "https" => "http",
            "tcp" => "tcp",
            other => {
                let why = format!("has a rule for {other}, and Hetzner's load balancers know http, https and tcp");
                return Err(refused(want, why));
            }
        };
        if rule.target_protocol != to {
            let why = format!(
                "sends {entry} on as {}, and Hetzner sends it on as {to}: write target_protocol = \"{to}\"",
                rule.target_protocol
            );
            return Err(refused(want, why));
        }
        let certificates = match (entry, rule.certificate_id.as_deref()) {
            ("https", Some(id)) => {
                let number = id.parse().map_err(|_| {
                    refused(
                        want,
                        format!("has the certificate {id}, and at Hetzner a certificate_id is a number"),
                    )
                });
                vec![number?]
            }
            ("https", None) => return Err(refused(want, "has a rule for https without a certificate_id".into())),
            (_, Some(_)) => return Err(refused(want, format!("has a certificate on a rule for {entry}"))),
            (_, None) => Vec::new(),
        };
        Ok(Wanted {
            port: rule.entry_port,
            protocol: entry.to_owned(),
            target_port: rule.target_port,
            certificates,
            redirect_http: self.redirect && entry == "https",
            path: self.check.path.clone(),
            interval: self.check.interval_seconds,
            timeout: self.check.timeout_seconds,
            retries: self.check.fall,
            check,
            check_port: self.check.port.unwrap_or(rule.target_port),
        })
    }

    fn is_the_redirect(&self, rule: &ForwardingRule) -> bool {
        self.redirect && rule.entry_protocol == "http" && rule.entry_port == 80
    }

    /// The labels that hold what Hetzner does not tell.
    pub(super) fn labels(&self, out: &mut LabelMap) {
        let ports: Vec<String> = self.rules.iter().map(|it| it.entry_port.to_string()).collect();
        out.insert(labels::PORTS.into(), ports.join("."));
        out.insert(labels::RISE.into(), self.check.rise.to_string());
    }

    /// The rules as they are now.
    pub(super) fn live(services: &[Service], tags: &LabelMap) -> Value {
        let ports = tags.get(labels::PORTS).map(String::as_str).unwrap_or_default();
        let order: Vec<u16> = ports.split('.').filter_map(|it| it.parse().ok()).collect();
        let place = |port: u16| order.iter().position(|it| *it == port).unwrap_or(order.len());
        let redirect = services.iter().find(|it| http(it).redirect_http);
        let mut rules: Vec<ForwardingRule> = services.iter().map(rule).collect();
        let implied = redirect.filter(|_| order.contains(&80) && rules.iter().all(|it| it.entry_port != 80));
        rules.extend(implied.map(|it| ForwardingRule {
            entry_protocol: "http".into(),
            entry_port: 80,
            target_protocol: "http".into(),
            target_port: it.destination_port,
            certificate_id: None,
        }));
        rules.sort_by_key(|it| (place(it.entry_port), it.entry_port));
        let at_home = services.iter().all(|it| it.health_check.port == it.destination_port);
        let mut checks: Vec<Value> = services.iter().map(|it| check_of(it, at_home, tags)).collect();
        checks.dedup();
        // All have the same one. When somebody changed one of them, nobody can say which: then all are shown.
        let check = match checks.len() {
            1 => checks.remove(0),
            _ => json!(checks),
        };
        json!({
            "rules": rules,
            "health_check": check,
            "redirect_http_to_https": redirect.is_some(),
        })
    }
}

impl Wanted {
    pub(super) fn is(&self, now: &Service) -> bool {
        let http = http(now);
        let check = &now.health_check;
        now.listen_port == self.port
            && now.protocol == self.protocol
            && now.destination_port == self.target_port
            && http.certificates == self.certificates
            && http.redirect_http == self.redirect_http
            && check.port == self.check_port
            && check.interval == self.interval
            && check.timeout == self.timeout
            && check.retries == self.retries
            && asked(check) == self.asks()
    }

    /// The word for how, and the path.
    fn asks(&self) -> (&str, Option<&str>) {
        match self.check {
            Check::Http => ("http", Some(&self.path)),
            Check::Https => ("https", Some(&self.path)),
            Check::Tcp => ("tcp", None),
        }
    }

    /// As Hetzner takes it.
    pub(super) fn body(&self) -> Value {
        let mut check = json!({
            "protocol": if self.check == Check::Tcp { "tcp" } else { "http" },
            "port": self.check_port,
            "interval": self.interval,
            "timeout": self.timeout,
            "retries": self.retries,
        });
        match self.check {
            Check::Tcp => {}
            http => check["http"] = json!({ "domain": null, "path": self.path, "tls": http == Check::Https }),
        }
        let mut out = json!({
            "protocol": self.protocol,
            "listen_port": self.port,
            "destination_port": self.target_port,
            "proxyprotocol": false,
            "health_check": check,
        });
        // The rest are Hetzner's own defaults, written out because it asks for them.
        let mut http = json!({
            "cookie_name": "HCLBSTICKY",
            "cookie_lifetime": 300,
            "timeout_idle": 50,
            "sticky_sessions": false,
        });
        match self.protocol.as_str() {
            "https" => {
                http["certificates"] = json!(self.certificates);
                http["redirect_http"] = self.redirect_http.into();
                out["http"] = http;
            }
            "http" => out["http"] = http,
            _ => {}
        }
        out
    }
}

fn http(service: &Service) -> HttpService {
    service.http.clone().unwrap_or_default()
}

fn rule(service: &Service) -> ForwardingRule {
    let certificates: Vec<String> = http(service).certificates.iter().map(u64::to_string).collect();
    let to = if service.protocol == "tcp" { "tcp" } else { "http" };
    ForwardingRule {
        entry_protocol: service.protocol.clone(),
        entry_port: service.listen_port,
        target_protocol: to.into(),
        target_port: service.destination_port,
        certificate_id: Some(certificates.join(",")).filter(|it| !it.is_empty()),
    }
}

/// How targets are asked, and for what.
fn asked(now: &super::api::HealthCheck) -> (&str, Option<&str>) {
    match &now.http {
        _ if now.protocol == "tcp" => ("tcp", None),
        Some(http) if http.tls => ("https", Some(&http.path)),
        Some(http) => (&now.protocol, Some(&http.path)),
        None => (&now.protocol, None),
    }
}

/// `at_home`: all services are asked at the port that they send to.
fn check_of(service: &Service, at_home: bool, tags: &LabelMap) -> Value {
    let now = &service.health_check;
    let (protocol, path) = asked(now);
    let rise = tags.get(labels::RISE).and_then(|it| it.parse().ok());
    let check = HealthCheck {
        protocol: protocol.to_owned(),
        port: Some(now.port).filter(|_| !at_home),
        path: path.unwrap_or_default().to_owned(),
        interval_seconds: now.interval,
        timeout_seconds: now.timeout,
        fall: now.retries,
        rise: rise.unwrap_or(now.retries),
    };
    let mut check = json!(check);
    if let (None, Value::Object(fields)) = (path, &mut check) {
        fields.remove("path");
    }
    check
}

fn refused(want: &Resource, why: String) -> ProviderError {
    ProviderError::Refused {
        what: format!("{} {why}", want.id),
        help: format!("correct it at {} in workspace.ncl", want.path),
    }
}

#[cfg(test)]
mod tests {
    use ha_core::{
        names::{ProviderName, RegionName},
        resource::{Kind, ResourceId},
    };

    use super::*;

    fn resource(rules: Value, redirect: bool) -> Resource {
        Resource {
            id: ResourceId::new(&RegionName::new("eu-central"), Kind::LoadBalancer, "eu-lb"),
            provider: ProviderName::Hetzner,
            spec: json!({
                "rules": rules,
                "health_check": {
                    "path": "/health", "interval_seconds": 5, "timeout_seconds": 5, "fall": 3, "rise": 2
                },
                "redirect_http_to_https": redirect,
            }),
            depends_on: Vec::new(),
            protect: false,
            path: "region_eu_central.load_balancer".into(),
        }
    }

    fn rule(entry: &str, port: u16, to: &str, certificate: Option<&str>) -> Value {
        json!({
            "entry_protocol": entry, "entry_port": port,
            "target_protocol": to, "target_port": 8080, "certificate_id": certificate,
        })
    }

    /// As Hetzner would answer after having been told.
    fn answered(wanted: &[Wanted]) -> Vec<Service> {
        let services = wanted.iter().map(|it| serde_json::from_value(it.body()));
        services.collect::<Result<_, _>>().expect("what is sent can be read")
    }

    #[test]
    fn what_was_sent_reads_back_as_what_was_written() {
        for (rules, redirect) in [
            (json!([rule("http", 80, "http", None)]), false),
            (
                json!([rule("tcp", 5432, "tcp", None), rule("http", 80, "http", None)]),
                false,
            ),
            (
                json!([rule("https", 443, "http", Some("17")), rule("http", 80, "http", None)]),
                true,
            ),
            (json!([rule("https", 443, "http", Some("17"))]), true),
            (
                json!([rule("http", 80, "http", None), rule("https", 443, "http", Some("17"))]),
                false,
            ),
        ] {
            let want = resource(rules, redirect);
            let read = Rules::read(&want).expect("it is well-formed");
            let wanted = read.services(&want).expect("Hetzner can do it");
            let mut tags = LabelMap::new();
            read.labels(&mut tags);
            let mut services = answered(&wanted);
            // In whichever order they come.
            services.reverse();
            assert!(wanted.iter().all(|it| services.iter().any(|now| it.is(now))));
            let live = Rules::live(&services, &tags);
            assert_eq!(live, want.spec);
        }
    }

    #[test]
    fn every_kind_of_check_reads_back_as_it_was_written() {
        let rules = json!([rule("http", 80, "http", None), rule("tcp", 5432, "tcp", None)]);
        for (protocol, port) in [
            ("https", None),
            ("tcp", None),
            ("tcp", Some(9000)),
            ("http", Some(9000)),
        ] {
            let mut want = resource(rules.clone(), false);
            want.spec["rules"][1]["target_port"] = 5432.into();
            let check = want.spec["health_check"].as_object_mut().expect("a check");
            if protocol != "http" {
                check.insert("protocol".into(), protocol.into());
            }
            if protocol == "tcp" {
                check.remove("path");
            }
            if let Some(port) = port {
                check.insert("port".into(), port.into());
            }
            let read = Rules::read(&want).expect("it is well-formed");
            let wanted = read.services(&want).expect("Hetzner can do it");
            let mut tags = LabelMap::new();
            read.labels(&mut tags);
            let mut services = answered(&wanted);
            assert!(wanted.iter().zip(&services).all(|(it, now)| it.is(now)));
            assert_eq!(Rules::live(&services, &tags), want.spec, "{protocol} {port:?}");
            services[0].health_check.port = 1;
            assert!(!wanted[0].is(&services[0]));
            assert_ne!(Rules::live(&services, &tags), want.spec, "{protocol} {port:?}");
        }
    }

    #[test]
    fn a_check_changed_by_hand_is_seen_whichever_it_was() {
        let want = resource(
            json!([rule("http", 80, "http", None), rule("http", 81, "http", None)]),
            false,
        );
        let read = Rules::read(&want).expect("it is well-formed");
        let wanted = read.services(&want).expect("Hetzner can do it");
        let mut tags = LabelMap::new();
        read.labels(&mut tags);
        for changed in 0..2 {
            let mut services = answered(&wanted);
            services[changed].health_check.interval = 60;
            assert_ne!(Rules::live(&services, &tags), want.spec, "service {changed}");
            assert!(!wanted[changed].is(&services[changed]));
        }
    }

    #[test]
    fn what_hetzner_cannot_do_is_said_before_anything_is_asked() {
        let mut slow = resource(json!([rule("http", 80, "http", None)]), false);
        slow.spec["health_check"]["interval_seconds"] = 600.into();
        for (want, words) in [
            (
                resource(json!([rule("udp", 53, "udp", None)]), false),
                "know http, https and tcp",
            ),
            (
                resource(json!([rule("tcp", 80, "http", None)]), false),
                "target_protocol = \"tcp\"",
            ),
            (
                resource(json!([rule("https", 443, "http", None)]), false),
                "without a certificate_id",
            ),
            (
                resource(json!([rule("https", 443, "http", Some("mine"))]), false),
                "is a number",
            ),
            (
                resource(json!([rule("http", 80, "http", None)]), true),
                "no rule for https",
            ),
            (
                resource(
                    json!([rule("http", 80, "http", None), rule("tcp", 80, "tcp", None)]),
                    false,
                ),
                "two rules for port 80",
            ),
            (slow, "Hetzner takes 3 to 60"),
        ] {
            let read = Rules::read(&want).expect("it is well-formed");
            let error = read.services(&want).expect_err(words);
            assert!(error.to_string().contains(words), "{error}");
            assert_eq!(error.code(), "ha::provider::refused");
        }
    }
}
