//! Firewalls, put before groups of servers by the groups' tags. They have no tags of their own: their badge is one
//! more of the tags that they stand before, and no Droplet has it.

use ha_core::{
    names::{RegionName, WorkspaceName},
    resource::{Kind, Live, Resource, ResourceId, Status},
};
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    api::{Ends, Firewall, InboundRule},
    cloud::Cloud,
    errors,
    labels::{self, Owned, Tags},
    observe::{blank, texts},
};
use crate::ProviderError;

/// <https://docs.digitalocean.com/products/networking/firewalls/details/limits/>; the badge is one of them.
const MOST_TAGS: usize = 5;
const ALL_PORTS: &str = "all";
/// DigitalOcean's word for them.
const ALL_PORTS_THERE: &str = "0";
const EVERYBODY: [&str; 2] = ["0.0.0.0/0", "::/0"];

/// One rule of `inbound`, as it is written.
#[derive(Deserialize)]
struct Written {
    protocol: String,
    ports: String,
    sources: Vec<String>,
}

impl Cloud {
    pub(super) async fn ensure_firewall(&self, want: &Resource) -> Result<Live, ProviderError> {
        let id = &want.id;
        let ws = &self.options.workspace;
        let body = request(ws, want)?;
        self.needed(want).await?;
        let badge = labels::badge(ws, want);
        // It may refer only to what exists, and a group may have no server yet.
        let no_sweep = self.making().await;
        for tag in referred(&body) {
            self.tag_exists(&tag, id).await?;
        }
        let now = match self.find_firewall(id).await? {
            None => self
                .create::<Firewall>(&body)
                .await
                .map_err(|error| errors::outcome(error, id))?,
            Some(now) => {
                let owned = self.owns_firewall(&now);
                if !owned.is_some_and(|owned| spec(ws, &now, &owned) == want.spec) || !now.tags.contains(&badge) {
                    let path = format!("/v2/firewalls/{}", now.id);
                    let answer = self
                        .send_when_free::<Value>(Method::PUT, &path, Some(&body), errors::is_pending)
                        .await;
                    answer.map_err(|error| errors::outcome(error, id))?;
                }
                for old in now
                    .tags
                    .iter()
                    .filter(|tag| **tag != badge && self.is_badge_of(tag, id))
                {
                    self.forget(old, id).await?;
                }
                now
            }
        };
        drop(no_sweep);
        let now = self.applied(&now.id, id).await?;
        self.firewall(&now).ok_or_else(|| ProviderError::NotReady {
            id: id.clone(),
            detail: "its tag was taken away again".into(),
        })
    }

    /// # Errors
    ///
    /// [`ProviderError::Taken`] when its name belongs to one that is not ours.
    async fn find_firewall(&self, id: &ResourceId) -> Result<Option<Firewall>, ProviderError> {
        let all = self
            .list::<Firewall>(&[])
            .await
            .map_err(|error| errors::outcome(error, id))?;
        let is = |it: &Firewall| self.owns_firewall(it).is_some_and(|owned| owned.id == *id);
        let (mut ours, others): (Vec<_>, Vec<_>) = all.into_iter().partition(is);
        if let Some(other) = others.iter().find(|it| it.name == id.name) {
            return Err(ProviderError::Taken {
                what: format!("the name {}", id.name),
                by: format!(
                    "the firewall {} at DigitalOcean, which does not have the tag of {id}",
                    other.id
                ),
            });
        }
        Ok(ours.pop())
    }

    async fn applied(&self, number: &str, id: &ResourceId) -> Result<Firewall, ProviderError> {
        let mut wait = self.wait();
        let not_ready = |detail: String| ProviderError::NotReady { id: id.clone(), detail };
        loop {
            let found = self.one::<Firewall>(number).await;
            let found = found.map_err(|error| errors::outcome(error, id))?;
            let now = found.ok_or_else(|| not_ready("it was removed while it was made".into()))?;
            match now.status.as_str() {
                "succeeded" => return Ok(now),
                "failed" => return Err(not_ready("DigitalOcean could not apply it to its Droplets".into())),
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

    pub(super) async fn remove_firewall(&self, id: &ResourceId) -> Result<(), ProviderError> {
        let all = self
            .list::<Firewall>(&[])
            .await
            .map_err(|error| errors::outcome(error, id))?;
        let is = |it: &&Firewall| self.owns_firewall(it).is_some_and(|owned| owned.id == *id);
        for now in all.iter().filter(is) {
            self.delete_to_the_end(id, &format!("/v2/firewalls/{}", now.id)).await?;
        }
        // Its badge, and the tags of groups without a server that were there for its sake.
        self.sweep(id).await
    }

    fn is_badge_of(&self, tag: &str, id: &ResourceId) -> bool {
        let owned = labels::read_badge(&self.options.workspace, Kind::Firewall, tag);
        owned.is_some_and(|owned| owned.id == *id)
    }

    fn owns_firewall(&self, now: &Firewall) -> Option<Owned> {
        labels::read_badges(&self.options.workspace, Kind::Firewall, &now.tags).next()
    }

    pub(super) fn firewall(&self, now: &Firewall) -> Option<Live> {
        let owned = self.owns_firewall(now)?;
        let (status, detail) = match now.status.as_str() {
            "succeeded" => (Status::Running, None),
            "failed" => (
                Status::Failed,
                Some("DigitalOcean could not apply it to its Droplets".to_owned()),
            ),
            _ => (Status::Pending, Some("being applied".to_owned())),
        };
        Some(Live {
            status,
            detail,
            created_at: now.created_at,
            ..blank(&owned, spec(&self.options.workspace, now, &owned))
        })
    }
}

/// All of it: what a request leaves out goes back to its default.
fn request(ws: &WorkspaceName, want: &Resource) -> Result<Value, ProviderError> {
    let badge = labels::badge(ws, want);
    let inbound = want.spec.get("inbound").cloned().unwrap_or_else(|| json!([]));
    let written: Vec<Written> = serde_json::from_value(inbound).map_err(|error| ProviderError::Refused {
        what: format!("{}: {error}", want.id),
        help: format!("correct it at {} in workspace.ncl", want.path),
    })?;
    let region = &want.id.region;
    let groups = texts(&want.spec, "targets")
        .into_iter()
        .map(|group| labels::group(ws, region, group));
    let tags: Vec<String> = [badge.clone()].into_iter().chain(groups).collect();
    if tags.len() > MOST_TAGS {
        return Err(ProviderError::Refused {
            what: format!(
                "{} stands before {} groups, and DigitalOcean lets it before 4",
                want.id,
                tags.len() - 1
            ),
            help: format!("split it at {} in workspace.ncl", want.path),
        });
    }
    let everywhere = json!({ "addresses": EVERYBODY });
    let rules: Vec<Value> = written
        .iter()
        .map(|rule| rule_request(ws, region, rule, &badge))
        .collect();
    let body = json!({
        "name": want.id.name,
        "tags": tags,
        "inbound_rules": rules,
        // What goes out is not written in a workspace; without these nothing could.
        "outbound_rules": [
            { "protocol": "tcp", "ports": ALL_PORTS_THERE, "destinations": everywhere },
            { "protocol": "udp", "ports": ALL_PORTS_THERE, "destinations": everywhere },
            { "protocol": "icmp", "ports": ALL_PORTS_THERE, "destinations": everywhere },
        ],
    });
    labels::check(&referred(&body), &want.id)?;
    Ok(body)
}

/// Sources are ranges, or names of groups; none lets in everybody. The badge beside them says that none was written,
/// and lets in nobody, since no Droplet has it.
fn rule_request(ws: &WorkspaceName, region: &RegionName, rule: &Written, badge: &str) -> Value {
    let (ranges, groups): (Vec<&String>, Vec<&String>) = rule.sources.iter().partition(|it| is_range(it));
    let sources = if rule.sources.is_empty() {
        json!({ "addresses": EVERYBODY, "tags": [badge] })
    } else {
        let mut sources = json!({});
        if !ranges.is_empty() {
            sources["addresses"] = json!(ranges);
        }
        if !groups.is_empty() {
            sources["tags"] = groups
                .into_iter()
                .map(|group| labels::group(ws, region, group))
                .collect();
        }
        sources
    };
    let all = rule.ports == ALL_PORTS || rule.protocol == "icmp";
    json!({
        "protocol": rule.protocol,
        "ports": if all { ALL_PORTS_THERE } else { &rule.ports },
        "sources": sources,
    })
}

fn is_range(source: &str) -> bool {
    source.contains(['.', ':', '/'])
}

/// The tags that a request refers to.
fn referred(body: &Value) -> Tags {
    let mut tags: Tags = texts(body, "tags").into_iter().map(str::to_owned).collect();
    for rule in body["inbound_rules"].as_array().into_iter().flatten() {
        tags.extend(texts(&rule["sources"], "tags").into_iter().map(str::to_owned));
    }
    tags
}

/// As it is written in a workspace, ranges before groups. What cannot be written there appears where it is not as we
/// make it, so that a change by hand is seen.
fn spec(ws: &WorkspaceName, now: &Firewall, owned: &Owned) -> Value {
    let region = &owned.id.region;
    let others = now
        .tags
        .iter()
        .filter(|tag| labels::read_badge(ws, Kind::Firewall, tag).is_none());
    let targets: Vec<&str> = others
        .map(|tag| labels::read_group(ws, region, tag).unwrap_or(tag))
        .collect();
    let mut spec = json!({
        "kind": "digitalocean.Firewall",
        "name": now.name,
        "targets": targets,
        "inbound": now.inbound_rules.iter().map(|rule| rule_spec(ws, region, rule)).collect::<Vec<_>>(),
        "protect": owned.protect,
    });
    if !now.droplet_ids.is_empty() {
        spec["droplet_ids"] = json!(now.droplet_ids);
    }
    if !lets_everything_out(now) {
        let rules = now.outbound_rules.iter();
        spec["outbound"] = rules
            .map(|it| json!([it.protocol, it.ports, it.destinations.addresses]))
            .collect();
    }
    spec
}

fn lets_everything_out(now: &Firewall) -> bool {
    ["tcp", "udp", "icmp"].iter().all(|protocol| {
        let lets = |addresses: &[String]| EVERYBODY.iter().all(|it| addresses.iter().any(|address| address == it));
        now.outbound_rules.iter().any(|rule| {
            let whole = rule.protocol == *protocol && [ALL_PORTS_THERE, ALL_PORTS].contains(&rule.ports.as_str());
            whole && lets(&rule.destinations.addresses)
        })
    })
}

fn rule_spec(ws: &WorkspaceName, region: &RegionName, rule: &InboundRule) -> Value {
    let Ends {
        addresses,
        tags,
        droplet_ids,
        load_balancer_uids,
        kubernetes_ids,
    } = &rule.sources;
    let is_badge = |tag: &String| labels::read_badge(ws, Kind::Firewall, tag).is_some();
    let everybody = addresses.iter().all(|it| EVERYBODY.contains(&it.as_str()));
    let mut sources: Vec<String> = match tags.as_slice() {
        [badge] if is_badge(badge) && everybody => Vec::new(),
        _ => {
            let groups = tags.iter().filter(|tag| !is_badge(tag));
            let groups = groups.map(|tag| labels::read_group(ws, region, tag).unwrap_or(tag).to_owned());
            addresses.iter().cloned().chain(groups).collect()
        }
    };
    sources.extend(droplet_ids.iter().map(|it| format!("droplet:{it}")));
    sources.extend(load_balancer_uids.iter().map(|it| format!("load_balancer:{it}")));
    sources.extend(kubernetes_ids.iter().map(|it| format!("kubernetes:{it}")));
    let ports = if rule.ports == ALL_PORTS_THERE {
        ALL_PORTS
    } else {
        &rule.ports
    };
    json!({ "protocol": rule.protocol, "ports": ports, "sources": sources })
}

#[cfg(test)]
mod tests {
    use ha_core::names::ProviderName;
    use proptest::prelude::*;

    use super::*;

    fn want(targets: Value, inbound: Value) -> Resource {
        Resource {
            id: ResourceId::new(&RegionName::new("us-east"), Kind::Firewall, "us-fw"),
            provider: ProviderName::Digitalocean,
            spec: json!({ "kind": "digitalocean.Firewall", "name": "us-fw", "targets": targets, "inbound": inbound,
                "protect": false }),
            depends_on: Vec::new(),
            protect: false,
            path: "region_us_east.firewall".into(),
        }
    }

    /// What DigitalOcean makes of a request.
    fn answer(request: &Value) -> Value {
        let mut answer = request.clone();
        answer["id"] = "bb4b2611-3d72-467b-8602-280330ecd65c".into();
        answer["status"] = "succeeded".into();
        answer["created_at"] = "2017-05-23T21:24:00Z".into();
        answer["droplet_ids"] = json!([]);
        answer
    }

    fn read(answer: Value) -> Value {
        let ws = WorkspaceName::new("shop");
        let now: Firewall = serde_json::from_value(answer).expect("a firewall");
        let owned = labels::read_badges(&ws, Kind::Firewall, &now.tags)
            .next()
            .expect("it is ours");
        spec(&ws, &now, &owned)
    }

    #[test]
    fn more_groups_than_digitalocean_takes_are_refused_before_anything_is_asked() {
        let want = want(json!(["a", "b", "c", "d", "e"]), json!([]));
        let error = request(&WorkspaceName::new("shop"), &want).expect_err("there are five");
        assert_eq!(error.code(), "ha::provider::refused");
    }

    #[test]
    fn a_change_by_hand_is_seen_also_where_no_field_says_it() {
        let want = want(
            json!(["us-app"]),
            json!([{ "protocol": "tcp", "ports": "22", "sources": [] }]),
        );
        let made = answer(&request(&WorkspaceName::new("shop"), &want).expect("it is whole"));
        assert_eq!(read(made.clone()), want.spec);
        for (field, value) in [
            ("/droplet_ids", json!([7])),
            ("/outbound_rules", json!([])),
            ("/outbound_rules/0/ports", json!("443")),
            ("/inbound_rules/0/sources", json!({ "addresses": ["10.0.0.0/8"] })),
            ("/inbound_rules/0/sources", json!({ "addresses": EVERYBODY })),
            ("/inbound_rules/0/ports", json!("0")),
        ] {
            let mut changed = made.clone();
            *changed.pointer_mut(field).expect("the field is there") = value;
            assert_ne!(read(changed), want.spec, "{field}");
        }
    }

    prop_compose! {
        fn rule()(
            protocol in prop::sample::select(&["tcp", "udp"][..]),
            ports in prop::sample::select(&["all", "22", "8000-9000"][..]),
            ranges in prop::collection::vec(prop::sample::select(&["10.0.0.0/8", "::/0", "1.2.3.4"][..]), 0..3),
            groups in prop::collection::vec("[a-z][a-z0-9]{0,8}", 0..3),
        ) -> Value {
            let sources: Vec<String> = ranges.into_iter().map(str::to_owned).chain(groups).collect();
            json!({ "protocol": protocol, "ports": ports, "sources": sources })
        }
    }

    proptest! {
        #[test]
        fn what_is_asked_for_is_what_is_read(
            targets in prop::collection::vec("[a-z][a-z0-9-]{0,8}", 0..5),
            inbound in prop::collection::vec(rule(), 0..4),
        ) {
            let want = want(json!(targets), inbound.into());
            let request = request(&WorkspaceName::new("shop"), &want).expect("it is whole");
            prop_assert_eq!(read(answer(&request)), want.spec);
        }
    }
}
