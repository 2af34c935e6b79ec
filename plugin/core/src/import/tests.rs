//! The whole text, and what is said of each thing.

use serde_json::json;

use super::*;
use crate::{
    existing::{
        Owner,
        testing::{found, owned, ws},
    },
    resource::Status,
};

fn at(kind: Kind, provider: ProviderName, location: Option<&str>, name: &str, spec: serde_json::Value) -> Found {
    Found {
        provider,
        location: location.map(str::to_owned),
        spec,
        ..found(kind, name)
    }
}

fn server(provider: ProviderName, location: &str, name: &str, size: &str, image: &str) -> Found {
    let spec = json!({ "group": null, "index": null, "image": image, "size": size, "location": location, "roles": [],
        "command": null });
    at(Kind::Server, provider, Some(location), name, spec)
}

fn balancer(provider: ProviderName, location: &str, name: &str, targets: &[&str]) -> Found {
    let spec = json!({
        "location": location, "algorithm": "round_robin", "targets": targets,
        "rules": [{ "entry_protocol": "http", "entry_port": 80, "target_protocol": "http", "target_port": 8080,
            "certificate_id": null }],
        "health_check": { "path": "/health", "interval_seconds": 5, "timeout_seconds": 5, "fall": 3, "rise": 2 },
        "redirect_http_to_https": false, "databases": [],
    });
    at(Kind::LoadBalancer, provider, Some(location), name, spec)
}

/// As the three providers tell it.
fn everything() -> Vec<Found> {
    use ProviderName::{Aws, Digitalocean, Hetzner};
    let range = |location: &str, range: &str| json!({ "location": location, "ip_range": range });
    let mut all = vec![
        at(
            Kind::Network,
            Digitalocean,
            Some("nyc3"),
            "us-net",
            range("nyc3", "10.0.0.0/16"),
        ),
        at(
            Kind::Network,
            Hetzner,
            Some("ash"),
            "eu-net",
            range("ash", "10.1.0.0/16"),
        ),
        at(
            Kind::Network,
            Aws,
            Some("ap-southeast-1"),
            "asia-net",
            range("ap-southeast-1", "10.2.0.0/16"),
        ),
    ];
    for index in 1..=3 {
        let name = format!("us-app-{index}");
        all.push(server(Digitalocean, "nyc3", &name, "s-2vcpu-4gb", "ubuntu-24-04-x64"));
    }
    all.push(server(Digitalocean, "nyc3", "bastion", "s-1vcpu-1gb", "debian-12-x64"));
    let mut labelled = server(Hetzner, "ash", "eu-app-1", "cpx21", "ubuntu-24.04");
    labelled.labels = BTreeMap::from([("cost-center".into(), "42 %{x}".into())]);
    all.push(labelled);
    all.push(server(Aws, "ap-southeast-1", "asia-app-1", "t3.medium", "ami-12c6146b"));
    all.push(server(Aws, "ap-southeast-1", "asia-app-2", "t3.medium", "ami-12c6146b"));
    all.push(balancer(
        Digitalocean,
        "nyc3",
        "us-lb",
        &["us-app-1", "us-app-2", "us-app-3"],
    ));
    all.push(balancer(Aws, "ap-southeast-1", "asia-lb", &["asia-app-1"]));
    let mut sticky = balancer(Hetzner, "ash", "eu-lb", &["eu-app-1"]);
    sticky.size = Some("lb21".into());
    sticky.spec["sticky_sessions"] = json!("cookies");
    all.push(sticky);
    all.push(at(
        Kind::Firewall,
        Digitalocean,
        None,
        "us-fw",
        json!({ "kind": "digitalocean.Firewall", "name": "us-fw", "targets": ["us-app-1", "us-app-2", "us-app-3"],
            "inbound": [{ "protocol": "tcp", "ports": "22", "sources": ["10.0.0.0/8"] }], "protect": false }),
    ));
    all.push(at(
        Kind::Firewall,
        Hetzner,
        None,
        "eu-fw",
        json!({ "kind": "hetzner.Firewall", "name": "eu-fw", "targets": ["eu-app-1"],
            "inbound": [{ "protocol": "gre", "ports": "all", "sources": [] }], "labels": {}, "protect": false }),
    ));
    all.push(at(
        Kind::Volume,
        Hetzner,
        Some("ash"),
        "eu-data",
        json!({ "kind": "hetzner.Volume", "name": "eu-data", "location": "ash", "size_gb": 40, "attach_to": "eu-app-1",
            "labels": {}, "protect": false }),
    ));
    all.push(at(
        Kind::Database,
        Digitalocean,
        Some("nyc3"),
        "us-managed",
        json!({ "kind": "digitalocean.Database", "name": "us-managed", "region": "nyc3", "engine": "pg",
            "version": "16", "size": "db-s-1vcpu-1gb", "num_nodes": 1, "trusted_sources": ["10.0.0.0/16"],
            "labels": { "env": "prod" }, "protect": false }),
    ));
    if let Some(managed) = all.last_mut() {
        managed.labels = BTreeMap::from([("env".into(), "prod".into())]);
    }
    let mut address = found(Kind::Volume, "");
    address.kind = FoundKind::Address;
    address.number = "203.0.113.7".into();
    all.push(address);
    let mut theirs = server(Hetzner, "ash", "other-1", "cpx21", "ubuntu-24.04");
    theirs.owner = Some(Owner {
        ws: WorkspaceName::new("other"),
        region: None,
        name: None,
    });
    all.push(theirs);
    let mut empty = at(
        Kind::Network,
        Aws,
        Some("eu-west-1"),
        "vpc-1",
        range("eu-west-1", "172.31.0.0/16"),
    );
    empty.of_the_account = true;
    all.push(empty);
    all
}

fn named(provider: ProviderName, _: &str) -> Option<RegionName> {
    match provider {
        ProviderName::Digitalocean => Some(RegionName::new("us-east")),
        ProviderName::Aws => Some(RegionName::new("asia-southeast")),
        _ => None,
    }
}

#[test]
fn the_text_is_what_a_person_would_write() {
    let all = everything();
    let import = import(&ws(), &all, named);
    assert_eq!(import.text, include_str!("golden.ncl"), "{}", import.text);
}

#[test]
fn each_thing_has_a_row_and_what_is_not_said_a_reason() {
    let all = everything();
    let import = import(&ws(), &all, named);
    // The network that the account has by itself is nobody's.
    assert_eq!(import.told.len(), all.len() - 1);
    let of = |outcome: Outcome| -> Vec<(&str, &str)> {
        let told = import.told.iter().filter(|it| it.outcome == outcome);
        told.map(|it| (it.found.name.as_str(), it.note.as_deref().unwrap_or_default()))
            .collect()
    };
    assert_eq!(of(Outcome::Written).len(), 13, "{:?}", of(Outcome::Written));
    assert!(of(Outcome::Written).iter().all(|(_, note)| note.is_empty()));
    let partly = of(Outcome::Partly);
    assert!(
        matches!(partly[..], [("eu-lb", note)] if note.contains("sticky_sessions")),
        "{partly:?}"
    );
    let out: BTreeMap<&str, &str> = of(Outcome::LeftOut).into_iter().collect();
    assert_eq!(
        out.keys().copied().collect::<Vec<_>>(),
        ["", "asia-lb", "bastion", "eu-fw", "other-1"]
    );
    assert!(out["asia-lb"].contains("not the servers of one group"), "{out:?}");
    assert!(out["other-1"].contains("workspace other"), "{out:?}");
    assert!(out["eu-fw"].contains("gre"), "{out:?}");
}

#[test]
fn labels_of_this_workspace_say_which_region_it_is() {
    let ours = owned(
        server(ProviderName::Hetzner, "nbg1", "eu-app-1", "cpx21", "ubuntu-24.04"),
        "eu-central",
        "eu-app-1",
    );
    let beside = server(ProviderName::Hetzner, "nbg1", "eu-db-1", "cpx21", "ubuntu-24.04");
    let all = [ours, beside];
    let import = import(&ws(), &all, |_, _| None);
    let regions: Vec<_> = import
        .told
        .iter()
        .map(|it| it.region.as_ref().map(RegionName::as_str))
        .collect();
    assert_eq!(regions, [Some("eu-central"), Some("eu-central")]);
    assert!(import.text.contains("region_eu_central"), "{}", import.text);
}

#[test]
fn an_empty_account_is_an_empty_workspace_that_says_so() {
    let import = import(&ws(), &[], |_, _| None);
    assert!(import.text.contains("# Nothing was found"), "{}", import.text);
    assert_eq!(import.told, []);
}

#[test]
fn networks_that_share_addresses_are_not_both_declared() {
    let net = |name: &str, location: &str, range: &str| {
        let spec = json!({ "location": location, "ip_range": range });
        at(Kind::Network, ProviderName::Aws, Some(location), name, spec)
    };
    let all = [
        net("one", "eu-west-1", "10.0.0.0/8"),
        net("two", "us-east-1", "10.9.0.0/16"),
        net("three", "us-east-1", "8.8.8.0/24"),
    ];
    let import = import(&ws(), &all, |_, _| None);
    let left: Vec<&str> = import
        .told
        .iter()
        .filter(|it| it.outcome == Outcome::LeftOut)
        .map(|it| it.found.name.as_str())
        .collect();
    assert_eq!(left, ["three", "two"], "{}", import.text);
}

#[test]
fn a_stopped_server_is_declared_like_any_other() {
    let mut off = server(ProviderName::Hetzner, "nbg1", "eu-app-1", "cpx21", "ubuntu-24.04");
    off.status = Status::Off;
    let all = [off];
    assert_eq!(import(&ws(), &all, |_, _| None).told[0].outcome, Outcome::Written);
}
