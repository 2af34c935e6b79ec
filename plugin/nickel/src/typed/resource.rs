//! The resources of one region, each provider's words turned into ours.

use std::collections::{BTreeMap, BTreeSet};

use ha_core::{
    finding::Finding,
    model::{Database, Declared, ForwardingRule, HealthCheck, LoadBalancer, Network, Other, ServerGroup, Store},
    names::ProviderName,
};
use serde_json::{Map, Value};

use super::text;
use crate::{nickel::join, report};

/// Findings so far, and which fields need no second one.
pub(super) struct Reading {
    pub(super) findings: Vec<Finding>,
    /// Nothing is missing that rules across regions would stumble over.
    pub(super) complete: bool,
    faulty: BTreeSet<String>,
}

impl Reading {
    /// `faulty` are the paths of fields that have a finding already.
    pub(super) fn new(faulty: BTreeSet<String>) -> Self {
        Self {
            findings: Vec::new(),
            complete: true,
            faulty,
        }
    }

    /// The field, something above it, or something in it has a finding.
    pub(super) fn is_faulty(&self, path: &str) -> bool {
        self.faulty.iter().any(|faulty| {
            let (short, long) = if faulty.len() < path.len() {
                (faulty.as_str(), path)
            } else {
                (path, faulty.as_str())
            };
            long.strip_prefix(short)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    }

    /// A field that must be there.
    pub(super) fn string(
        &mut self,
        fields: &Map<String, Value>,
        record: &str,
        name: &str,
        subject: &str,
    ) -> Option<String> {
        let found = text(fields, name).map(str::to_owned);
        if found.is_none() {
            self.complete = false;
            if !self.is_faulty(&join(record, name)) {
                self.findings.push(report::missing_field(record, subject, name));
            }
        }
        found
    }
}

/// A resource that says by its kind who sells it, and maybe where.
pub(super) struct Sold {
    pub(super) path: String,
    pub(super) provider: ProviderName,
    pub(super) location: Option<String>,
    pub(super) location_field: &'static str,
    is_server: bool,
}

#[derive(Default)]
pub(super) struct Members {
    pub(super) networks: Vec<Network>,
    pub(super) servers: Vec<ServerGroup>,
    pub(super) load_balancers: Vec<LoadBalancer>,
    pub(super) databases: Vec<Database>,
    pub(super) stores: Vec<Store>,
    pub(super) others: Vec<Other>,
    /// Servers first.
    pub(super) sold: Vec<Sold>,
    /// No resource was left out for a mistake of its own.
    pub(super) intact: bool,
}

impl Members {
    pub(super) fn read(region: &str, fields: &Map<String, Value>, reading: &mut Reading) -> Self {
        let mut members = Self {
            intact: !reading.is_faulty(region),
            ..Self::default()
        };
        for (name, value) in fields {
            let Value::Object(fields) = value else { continue };
            let Some(kind) = text(fields, "kind") else { continue };
            let path = join(region, name);
            if members.resource(&path, kind, fields, reading).is_none() {
                // The finding exists; a rule that looks for the resource would only repeat it.
                reading.complete = false;
                members.intact = false;
            }
        }
        members.sold.sort_by_key(|sold| !sold.is_server);
        members
    }

    fn resource(&mut self, path: &str, kind: &str, fields: &Map<String, Value>, reading: &mut Reading) -> Option<()> {
        if kind == "aws.Route53" {
            reading.findings.push(
                Finding::error(
                    "ha::workspace::misplaced",
                    "DNS stands in front of all regions, not inside one",
                )
                .at(path)
                .help("move it out of the region: dns = aws.Route53 & { … }"),
            );
            return Some(());
        }
        let name = reading.string(fields, path, "name", kind)?;
        let declared = declared(name, kind, path, fields);
        let module = kind.split('.').next().unwrap_or_default();
        let location_field = match kind {
            _ if module == "ha" || kind == "hetzner.Network" || kind.ends_with(".Firewall") => None,
            _ if module == "hetzner" => Some("location"),
            _ => Some("region"),
        };
        let location = match location_field {
            Some(field) => Some(reading.string(fields, path, field, kind)?),
            None => None,
        };
        let own = |field: &str| text(fields, field).unwrap_or_default().to_owned();
        if let Some(provider) = ProviderName::parse(module) {
            self.sold.push(Sold {
                path: path.to_owned(),
                provider,
                location: location.clone(),
                location_field: location_field.unwrap_or("kind"),
                is_server: matches!(kind, "digitalocean.Droplet" | "hetzner.Server" | "aws.EC2"),
            });
        }
        let place = location.unwrap_or_default();
        match kind {
            "digitalocean.Droplet" => self.servers(declared, place, own("size"), own("image")),
            "hetzner.Server" => self.servers(declared, place, own("server_type"), own("image")),
            "aws.EC2" => self.servers(declared, place, own("instance_type"), own("image_id")),
            "digitalocean.VPC" | "aws.VPC" | "hetzner.Network" => self.networks.push(Network {
                ip_range: reading.string(fields, path, "ip_range", kind)?,
                declared,
            }),
            "digitalocean.LoadBalancer" | "hetzner.LoadBalancer" | "aws.ALB" => {
                let rules = rules(fields);
                self.load_balancers.push(LoadBalancer {
                    targets: text(fields, "targets").map(str::to_owned),
                    location: place,
                    algorithm: own("algorithm"),
                    health_check: health_check(fields, &rules),
                    rules,
                    redirect_http_to_https: flag(fields, "redirect_http_to_https"),
                    declared,
                });
            }
            "digitalocean.Database" | "aws.RDS" => self.databases.push(Database {
                managed: true,
                engine: match text(fields, "engine") {
                    Some("pg") => "postgres".to_owned(),
                    other => other.unwrap_or("postgres").to_owned(),
                },
                version: own("version"),
                runs_on: None,
                replicate_from: text(fields, "replicate_from").map(str::to_owned),
                settings: BTreeMap::new(),
                location: place,
                declared,
            }),
            "ha.Postgres" => self.databases.push(Database {
                managed: false,
                engine: "postgres".to_owned(),
                version: own("version"),
                runs_on: Some(reading.string(fields, path, "runs_on", kind)?),
                replicate_from: text(fields, "replicate_from").map(str::to_owned),
                settings: settings(fields),
                location: place,
                declared,
            }),
            "ha.Store" => self.stores.push(Store {
                runs_on: reading.string(fields, path, "runs_on", kind)?,
                declared,
            }),
            _ => self.others.push(Other { declared }),
        }
        Some(())
    }

    fn servers(&mut self, declared: Declared, location: String, size: String, image: String) {
        let count = declared.fields.get("count").and_then(Value::as_u64);
        self.servers.push(ServerGroup {
            count: count.and_then(|it| u32::try_from(it).ok()).unwrap_or(1),
            size,
            image,
            location,
            declared,
        });
    }
}

fn declared(name: String, kind: &str, path: &str, fields: &Map<String, Value>) -> Declared {
    Declared {
        name,
        kind: kind.to_owned(),
        path: path.to_owned(),
        protect: flag(fields, "protect"),
        labels: fields
            .get("labels")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect(),
        fields: fields.clone(),
    }
}

fn flag(fields: &Map<String, Value>, name: &str) -> bool {
    fields.get(name).and_then(Value::as_bool).unwrap_or_default()
}

fn rules(fields: &Map<String, Value>) -> Vec<ForwardingRule> {
    let port = |rule: &Value, name: &str, default: u16| {
        let found = rule.get(name).and_then(Value::as_u64);
        found.and_then(|it| u16::try_from(it).ok()).unwrap_or(default)
    };
    let word = |rule: &Value, name: &str| rule.get(name).and_then(Value::as_str).unwrap_or("http").to_owned();
    fields
        .get("forwarding_rules")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|rule| ForwardingRule {
            entry_protocol: word(rule, "entry_protocol"),
            entry_port: port(rule, "entry_port", 80),
            target_protocol: word(rule, "target_protocol"),
            target_port: port(rule, "target_port", 8080),
            certificate_id: rule.get("certificate_id").and_then(Value::as_str).map(str::to_owned),
        })
        .collect()
}

fn health_check(fields: &Map<String, Value>, rules: &[ForwardingRule]) -> HealthCheck {
    let check = fields.get("health_check");
    let whole = |name: &str| check.and_then(|it| it.get(name)).and_then(Value::as_u64);
    let count = |name: &str, default: u32| whole(name).and_then(|it| u32::try_from(it).ok()).unwrap_or(default);
    let protocol = check.and_then(|it| it.get("protocol")).and_then(Value::as_str);
    let port = whole("port").and_then(|it| u16::try_from(it).ok());
    HealthCheck {
        protocol: protocol.unwrap_or("http").to_owned(),
        // One that every rule sends to anyway says nothing.
        port: port.filter(|port| rules.iter().any(|rule| rule.target_port != *port)),
        path: check
            .and_then(|it| it.get("path"))
            .and_then(Value::as_str)
            .unwrap_or("/health")
            .to_owned(),
        interval_seconds: whole("check_interval_seconds").unwrap_or(5),
        timeout_seconds: whole("response_timeout_seconds").unwrap_or(5),
        fall: count("unhealthy_threshold", 3),
        rise: count("healthy_threshold", 2),
    }
}

/// As PostgreSQL writes them: `on`, `100`, `128MB`.
fn settings(fields: &Map<String, Value>) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    for (name, value) in fields.get("settings").and_then(Value::as_object).into_iter().flatten() {
        let value = match value {
            Value::Bool(true) => "on".to_owned(),
            Value::Bool(false) => "off".to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        settings.insert(name.clone(), value);
    }
    settings
}
