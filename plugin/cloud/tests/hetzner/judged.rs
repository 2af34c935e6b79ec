//! Every request of ours, and every answer of the stand-in, against Hetzner's own description of its API.
//!
//! The judge is Prism's proxy; where it or the description is absent this says that it was skipped.

use ha_cloud::{
    Provider,
    hetzner::{HetznerProvider, Options},
};
use ha_core::{
    desired::{FIXED_ADDRESS, LABELS},
    resource::{Kind, Resource},
};
use ha_stand_ins::{
    hetzner::StandIn,
    prism::{self, NoJudge, Prism},
};
use serde_json::json;

use crate::world::{id, options, region, server};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_said_breaks_the_description() {
    let stand_in = StandIn::start().await;
    let mut judge = match Prism::open(prism::Provider::Hetzner, &stand_in.endpoint()).await {
        Ok(judge) => judge,
        Err(skipped @ NoJudge::Skipped(_)) => {
            eprintln!("{skipped}");
            return;
        }
        Err(failed) => panic!("{failed}"),
    };
    let provider = HetznerProvider::new(Options {
        endpoint: judge.endpoint(),
        ..options(&stand_in)
    })
    .expect("Prism's address");
    life_of_a_region(&provider).await;
    let asked = stand_in.requests();
    for (method, path) in [
        ("POST", "/v1/servers"),
        ("POST", "/v1/networks"),
        ("POST", "/v1/load_balancers"),
        ("POST", "/v1/firewalls"),
        ("POST", "/v1/volumes"),
        ("POST", "/v1/placement_groups"),
        ("POST", "/v1/ssh_keys"),
        ("PUT", "/v1/primary_ips/"),
        ("DELETE", "/v1/primary_ips/"),
    ] {
        let said = asked.iter().any(|it| it.method == method && it.path.starts_with(path));
        assert!(said, "nothing was said as {method} {path}");
    }
    assert!(asked.iter().all(|it| it.status < 500 && it.status != 400));
    assert_eq!(judge.violations().await.expect("the judge is there"), [""; 0]);
}

/// Everything is made, looked at, changed, switched off and on, and removed.
async fn life_of_a_region(provider: &HetznerProvider) {
    let mut all = region();
    for it in &mut all {
        if matches!(it.id.kind, Kind::Network | Kind::Server | Kind::LoadBalancer) {
            it.spec[LABELS] = json!({ "team": "platform", "example.com/tier": "1" });
        }
        if it.id.name == "eu-app-1" {
            it.spec[FIXED_ADDRESS] = true.into();
        }
    }
    let make = async |all: &[Resource]| {
        for want in all {
            provider
                .ensure(want)
                .await
                .unwrap_or_else(|error| panic!("{}: {error}", want.id));
        }
    };
    provider.account().await.expect("an account");
    provider.catalogue().await.expect("a catalogue");
    make(&all).await;
    make(&all).await;
    assert_eq!(provider.observe().await.expect("a list").len(), all.len());
    let mut changed = all.clone();
    for it in &mut changed {
        match it.id.kind {
            Kind::Firewall => {
                it.spec["inbound"][0]["ports"] = "8080-8090".into();
                it.spec["targets"] = json!(["eu-db"]);
            }
            Kind::Volume => it.spec["size_gb"] = 30.into(),
            Kind::Server => it.spec["size"] = "cpx31".into(),
            Kind::LoadBalancer => {
                it.spec["algorithm"] = "least_connections".into();
                it.spec["targets"] = json!(["eu-app-2"]);
                it.spec[LABELS] = json!({ "team": "shop" });
                it.spec["health_check"]["protocol"] = "https".into();
                it.spec["health_check"]["port"] = 9091.into();
                it.spec["rules"][0]["target_port"] = 9090.into();
                it.spec["rules"][1]["entry_port"] = 5433.into();
            }
            Kind::Network | Kind::Store | Kind::Database => {}
        }
    }
    make(&changed).await;
    make(&[server("eu-app", 3, &["app"])]).await;
    for on in [false, true] {
        provider.power(&id(Kind::Server, "eu-app-1"), on).await.expect("power");
    }
    provider
        .remove(&id(Kind::Server, "eu-app-3"))
        .await
        .expect("it is removed");
    for gone in all.iter().rev() {
        provider
            .remove(&gone.id)
            .await
            .unwrap_or_else(|error| panic!("{}: {error}", gone.id));
    }
    assert_eq!(provider.observe().await.expect("a list").len(), 0);
}
