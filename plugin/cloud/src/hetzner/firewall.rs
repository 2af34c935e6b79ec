//! Firewalls, put before groups of servers by their labels.

use ha_core::{
    names::ProviderName,
    resource::{Kind, Live, Resource, ResourceId},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    api::{AppliedTo, Firewall, Rule, Server},
    cloud::Cloud,
    labels,
    observe::{blank, is_as_wanted},
};
use crate::ProviderError;

const ALL_PORTS: &str = "1-65535";
const EVERYBODY: [&str; 2] = ["0.0.0.0/0", "::/0"];
/// Written beside a rule without sources, which is not the same as one that names everybody.
const NO_SOURCES: &str = "from everybody";

/// One rule of `inbound`, as it is written.
#[derive(Deserialize)]
struct Written {
    protocol: String,
    ports: String,
    sources: Vec<String>,
}

impl Cloud {
    pub(super) async fn ensure_firewall(&self, want: &Resource) -> Result<Live, ProviderError> {
        let until = self.until();
        let id = &want.id;
        let rules = rules(want)?;
        let groups = want.spec["targets"].as_array().map(Vec::as_slice).unwrap_or_default();
        let groups = groups.iter().filter_map(Value::as_str);
        let wanted: Vec<String> = groups.map(|group| self.group_selector(id, group)).collect();
        let labels = labels::of(&self.options.workspace, want);
        labels::check(&labels, id)?;
        let (found, _) = futures::try_join!(self.find::<Firewall>(id), self.needed(want))?;
        let number = match found {
            None => {
                let body = json!({
                    "name": id.name,
                    "labels": labels,
                    "rules": rules,
                    "apply_to": selectors(&wanted),
                });
                self.create::<Firewall>(body, id, until).await?.id
            }
            Some(found) => {
                let live = firewall(&found, &[])?;
                if is_as_wanted(&found, &live, want, &labels) {
                    return Ok(live);
                }
                let now: Firewall = self.at_rest(found.id, id, until).await?;
                if live_rules(&now) != written_rules(want) {
                    self.run::<Firewall>(now.id, "set_rules", json!({ "rules": rules }), id, until)
                        .await?;
                }
                let there = applied_selectors(&now.applied_to);
                let added: Vec<String> = wanted.iter().filter(|it| !there.contains(it)).cloned().collect();
                let gone: Vec<String> = there.iter().filter(|it| !wanted.contains(it)).cloned().collect();
                if !added.is_empty() {
                    let body = json!({ "apply_to": selectors(&added) });
                    self.run::<Firewall>(now.id, "apply_to_resources", body, id, until)
                        .await?;
                }
                // It stands before groups, and before nothing that somebody named one by one.
                let mut gone = selectors(&gone);
                gone.extend(applied_servers(&now.applied_to));
                if !gone.is_empty() {
                    let body = json!({ "remove_from": gone });
                    self.run::<Firewall>(now.id, "remove_from_resources", body, id, until)
                        .await?;
                }
                let labels = labels::merged(&now.labels, &labels, &[]);
                self.relabel(&now, &labels, id, until).await?;
                now.id
            }
        };
        firewall(&self.one(number, id).await?, &[])
    }

    pub(super) async fn remove_firewall(&self, id: &ResourceId) -> Result<(), ProviderError> {
        let until = self.until();
        let Some(found) = self.labelled::<Firewall>(id).await? else {
            return Ok(());
        };
        let now: Firewall = self.at_rest(found.id, id, until).await?;
        let mut from = selectors(&applied_selectors(&now.applied_to));
        from.extend(applied_servers(&now.applied_to));
        if !from.is_empty() {
            let body = json!({ "remove_from": from });
            self.run::<Firewall>(now.id, "remove_from_resources", body, id, until)
                .await?;
        }
        self.delete::<Firewall>(now.id, id, until).await
    }

    fn group_selector(&self, id: &ResourceId, group: &str) -> String {
        labels::of_one(&self.options.workspace, &id.region, labels::GROUP, group)
    }
}

fn selectors(all: &[String]) -> Vec<Value> {
    let one = |it| json!({ "type": "label_selector", "label_selector": { "selector": it } });
    all.iter().map(one).collect()
}

fn applied_servers(all: &[AppliedTo]) -> impl Iterator<Item = Value> {
    let servers = all.iter().filter_map(|it| it.server.as_ref());
    servers.map(|it| json!({ "type": "server", "server": { "id": it.id } }))
}

fn applied_selectors(all: &[AppliedTo]) -> Vec<String> {
    let selectors = all.iter().filter_map(|it| it.label_selector.as_ref());
    selectors.map(|it| it.selector.clone()).collect()
}

/// The rules as Hetzner takes them.
fn rules(want: &Resource) -> Result<Vec<Value>, ProviderError> {
    let refuse = |what: String| ProviderError::Refused {
        what: format!("{}: {what}", want.id),
        help: format!("correct it at {} in workspace.ncl", want.path),
    };
    let written: Vec<Written> = serde_json::from_value(want.spec["inbound"].clone())
        .map_err(|error| refuse(format!("its rules cannot be read: {error}")))?;
    let rule = |it: Written| {
        let port = match (it.protocol.as_str(), it.ports.as_str()) {
            ("icmp", "all") => None,
            ("icmp", ports) => return Err(refuse(format!("icmp has no ports, and the rule says {ports}"))),
            (_, "all") => Some(ALL_PORTS.to_owned()),
            (_, ports) => Some(ports.to_owned()),
        };
        let open = it.sources.is_empty();
        let sources: Vec<String> = if open {
            EVERYBODY.map(str::to_owned).to_vec()
        } else {
            it.sources
        };
        let mut rule = json!({ "direction": "in", "protocol": it.protocol, "source_ips": sources });
        if let Some(port) = port {
            rule["port"] = port.into();
        }
        if open {
            rule["description"] = NO_SOURCES.into();
        }
        Ok(rule)
    };
    written.into_iter().map(rule).collect()
}

fn written_rules(want: &Resource) -> Value {
    want.spec["inbound"].clone()
}

/// The rules as a workspace has them; whatever it cannot say stands in them in Hetzner's words, and is seen.
fn live_rules(now: &Firewall) -> Value {
    now.rules.iter().map(live_rule).collect()
}

fn live_rule(rule: &Rule) -> Value {
    let open = rule.description.as_deref() == Some(NO_SOURCES) && rule.source_ips == EVERYBODY;
    let sources: &[String] = if open { &[] } else { &rule.source_ips };
    let ports = match rule.port.as_deref() {
        None | Some(ALL_PORTS) => "all",
        Some(port) => port,
    };
    let mut out = json!({ "protocol": rule.protocol, "ports": ports, "sources": sources });
    if rule.direction != "in" {
        out["direction"] = rule.direction.clone().into();
    }
    out
}

/// `servers` are those of this workspace, to name the ones it was put before by hand.
pub(super) fn firewall(now: &Firewall, servers: &[Server]) -> Result<Live, ProviderError> {
    let (id, tags) = labels::identity(now, Kind::Firewall)?;
    let protect = labels::protects(&now.labels);
    let prefix = format!("{},{}==", labels::of_region(&tags.ws, &tags.region), labels::GROUP);
    let targets = now.applied_to.iter().map(|it| match (&it.label_selector, &it.server) {
        (Some(it), _) => it.selector.strip_prefix(&prefix).unwrap_or(&it.selector).to_owned(),
        (None, Some(number)) => {
            let found = servers.iter().find(|it| it.id == number.id);
            found.map_or_else(|| format!("server {}", number.id), |it| it.name.clone())
        }
        (None, None) => "something that ha does not know".to_owned(),
    });
    Ok(Live {
        spec: json!({
            "kind": "hetzner.Firewall",
            "name": id.name,
            "targets": targets.collect::<Vec<_>>(),
            "inbound": live_rules(now),
            "labels": labels::users(&now.labels),
            "protect": protect,
        }),
        created_at: Some(now.created),
        ..blank(id, ProviderName::Hetzner, tags, &now.labels)
    })
}
