//! Every request of ours, and every answer of the stand-in, against DigitalOcean's own description of its API, in the
//! strict form: fields that the description does not name are violations as well.
//!
//! The judge is Prism's proxy; where it or the description is absent this says that it was skipped.

use ha_cloud::{
    Provider,
    digitalocean::{DigitalOceanProvider, Options},
};
use ha_core::{
    desired::{FIXED_ADDRESS, LABELS},
    dns::{Policy, Record, Target},
    resource::{Kind, Resource},
};
use ha_stand_ins::{
    RateLimit,
    prism::{self, NoJudge, Prism},
};
use serde_json::json;

use crate::{
    changes::make,
    managed,
    world::{id, options, region, server, stand_in},
};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_said_breaks_the_description() {
    let stand_in = stand_in().await;
    // The judge's own question is one more.
    stand_in.knobs(|knobs| knobs.rate_limit = RateLimit::per_hour(1_000_000));
    let mut judge = match Prism::open(prism::Provider::DigitalOcean, &stand_in.endpoint()).await {
        Ok(judge) => judge,
        Err(skipped @ NoJudge::Skipped(_)) => {
            eprintln!("{skipped}");
            return;
        }
        Err(failed) => panic!("{failed}"),
    };
    let provider = DigitalOceanProvider::new(Options {
        endpoint: judge.endpoint(),
        ..options(&stand_in)
    })
    .expect("Prism's address");
    provider.account().await.expect("an account");
    provider.catalogue().await.expect("a catalogue");
    life_of_a_region(&provider).await;
    life_of_databases(&provider).await;
    life_of_names(&provider).await;
    let asked = stand_in.requests();
    for list in [
        "/v2/vpcs",
        "/v2/droplets",
        "/v2/load_balancers",
        "/v2/firewalls",
        "/v2/volumes",
        "/v2/databases",
        "/v2/reserved_ips",
        "/v2/domains",
        "/v2/account/keys",
        "/v2/tags",
    ] {
        let made = asked.iter().any(|it| it.method == "POST" && it.path.starts_with(list));
        assert!(made, "nothing was made at {list}");
    }
    let odd: Vec<String> = asked
        .iter()
        .filter(|it| it.status >= 500 || it.status == 400)
        .map(|it| format!("{} {} {}", it.status, it.method, it.path))
        .collect();
    assert_eq!(odd, [""; 0]);
    let found = judge.violations().await.expect("the judge is there");
    let (gaps, broken): (Vec<String>, Vec<String>) = found.into_iter().partition(|it| is_gap(it));
    assert_eq!(broken, [""; 0]);
    let tagged = asked.iter().filter(|it| {
        let kind = it.body.as_ref().map(|body| &body["resources"][0]["resource_type"]);
        kind.is_some_and(|kind| kind == "database")
    });
    assert_eq!(gaps.len(), tagged.count(), "{gaps:?}");
}

/// Where the description contradicts itself: what it says in words about tagging ("`resource_type` is expected to be the
/// string `droplet`, `database`, `image`, `volume` or `volume_snapshot`") names databases, and the list of values beside
/// it does not. <https://docs.digitalocean.com/reference/api/reference/tags/#tags_assign_resources>
fn is_gap(violation: &str) -> bool {
    violation.contains("/v2/tags/") && violation.contains("request.body.resources.0.resource_type ")
}

/// Everything is made, looked at, changed, switched off and on, and removed.
async fn life_of_a_region(provider: &DigitalOceanProvider) {
    let all: Vec<Resource> = region()
        .into_iter()
        .map(|mut it| {
            if it.id.kind == Kind::Server {
                it.spec["ssh_keys"] = json!(["provisioning-key"]);
                it.spec[LABELS] = json!({ "env": "prod" });
                it.spec[FIXED_ADDRESS] = true.into();
            }
            it
        })
        .collect();
    make(provider, &all).await;
    make(provider, &all).await;
    assert_eq!(provider.observe().await.expect("a list").len(), all.len());
    let mut changed = all.clone();
    for it in &mut changed {
        match it.id.kind {
            Kind::Firewall => {
                it.spec["inbound"][0]["ports"] = "8080-8090".into();
                it.spec["targets"] = json!(["us-db"]);
            }
            Kind::Volume => {
                it.spec["size_gb"] = 30.into();
                it.spec[LABELS] = json!({ "env": "test" });
            }
            Kind::Server => {
                it.spec["size"] = "s-4vcpu-8gb".into();
                it.spec[LABELS] = json!({ "env": "test", "team": "platform" });
                it.spec.as_object_mut().expect("a spec").remove(FIXED_ADDRESS);
            }
            Kind::LoadBalancer => {
                it.spec["algorithm"] = "least_connections".into();
                it.spec["targets"] = json!(["us-app-2"]);
                it.spec["rules"][0]["target_port"] = 9090.into();
                it.spec["size_unit"] = 3.into();
                it.spec["health_check"] = json!({ "protocol": "tcp", "port": 9090, "interval_seconds": 10, "timeout_seconds": 5, "fall": 3,
                        "rise": 2 });
            }
            Kind::Network | Kind::Store | Kind::Database => {}
        }
    }
    make(provider, &changed).await;
    make(provider, &[server("us-app", 3, &["app"])]).await;
    for on in [false, true] {
        provider.power(&id(Kind::Server, "us-app-1"), on).await.expect("power");
    }
    provider
        .remove(&id(Kind::Server, "us-app-3"))
        .await
        .expect("it is removed");
    // A server whose address is its own when it goes.
    make(provider, &all[3..4]).await;
    remove(provider, &changed).await;
}

/// A cluster grows, is copied, and its copy stands by itself in the end.
async fn life_of_databases(provider: &DigitalOceanProvider) {
    let network = crate::world::network();
    let trusted = |spec: &mut serde_json::Value| spec["trusted_sources"] = json!(["10.0.0.0/16", "us-app"]);
    let main = managed::database("us-main", trusted);
    make(provider, &[network.clone(), main.clone(), managed::copy()]).await;
    let more = managed::database("us-main", |spec| {
        spec["num_nodes"] = 3.into();
        spec["version"] = "17".into();
        spec["trusted_sources"] = json!(["192.0.2.1"]);
    });
    make(provider, std::slice::from_ref(&more)).await;
    assert_eq!(provider.observe().await.expect("a list").len(), 3);
    // A copy is of the version of what it copies.
    let alone = managed::database("us-copy", |spec| spec["version"] = "17".into());
    make(provider, std::slice::from_ref(&alone)).await;
    remove(provider, &[network, more, alone]).await;
}

async fn life_of_names(provider: &DigitalOceanProvider) {
    let domain = "example.com";
    let mut record = Record {
        name: "us.example.com".into(),
        kind: "A".into(),
        set: None,
        policy: Policy::Simple,
        ttl: Some(60),
        target: Target::Values(vec!["192.0.2.1".into()]),
        check: None,
    };
    provider.ensure_domain(domain).await.expect("a domain");
    provider.ensure_record(domain, &record).await.expect("a record");
    record.target = Target::Values(vec!["192.0.2.2".into(), "192.0.2.3".into()]);
    record.ttl = Some(30);
    provider.ensure_record(domain, &record).await.expect("two");
    provider.records(domain).await.expect("a list");
    provider
        .remove_record(domain, &record.name, "A")
        .await
        .expect("it is removed");
    assert!(provider.remove_domain(domain).await.expect("it is removed"));
}

async fn remove(provider: &DigitalOceanProvider, all: &[Resource]) {
    for gone in all.iter().rev() {
        provider
            .remove(&gone.id)
            .await
            .unwrap_or_else(|error| panic!("{}: {error}", gone.id));
    }
    assert_eq!(provider.observe().await.expect("a list").len(), 0);
}
