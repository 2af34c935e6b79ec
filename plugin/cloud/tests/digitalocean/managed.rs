//! Managed databases: clusters, replicas, and what becomes of them.

use ha_cloud::{Provider, ProviderError};
use ha_core::resource::{Kind, Resource, Status, spec_hash};
use ha_stand_ins::digitalocean::StandIn;
use serde_json::{Value, json};

use crate::{
    changes::{make, seen},
    world::{network, provider, resource, stand_in},
};

pub(crate) fn database(name: &str, change: impl FnOnce(&mut Value)) -> Resource {
    let mut spec = json!({
        "kind": "digitalocean.Database", "name": name, "region": "nyc3", "engine": "pg", "version": "16",
        "size": "db-s-2vcpu-4gb", "num_nodes": 1, "trusted_sources": [], "labels": { "env": "prod" }, "protect": true,
    });
    change(&mut spec);
    resource(Kind::Database, name, spec, &[&network()])
}

fn main_one() -> Resource {
    database("us-main", |_| ())
}

pub(crate) fn copy() -> Resource {
    database("us-copy", |spec| spec["replicate_from"] = "us-main".into())
}

#[tokio::test]
async fn a_cluster_is_made_resized_and_removed() {
    let stand_in = stand_in().await;
    let provider = provider(&stand_in);
    make(&provider, &[network(), main_one()]).await;
    let live = seen(&provider, &main_one().id).await;
    assert_eq!((live.spec, live.labels.spec), (main_one().spec, main_one().spec_hash()));
    assert!(live.protect && live.status == Status::Running);
    assert!(live.address.is_some_and(|host| !host.contains("stand-in")));
    let more = database("us-main", |spec| spec["num_nodes"] = 3.into());
    let live = provider.ensure(&more).await.expect("it is resized");
    assert_eq!((live.spec, live.labels.spec), (more.spec.clone(), more.spec_hash()));
    provider.remove(&more.id).await.expect("it is removed");
    assert_eq!(stand_in.world(|world| world.databases.len()), 0);
}

#[tokio::test]
async fn a_replica_waits_until_its_cluster_can_be_copied_and_is_promoted() {
    let stand_in = stand_in().await;
    let provider = provider(&stand_in);
    stand_in.knobs(|knobs| knobs.replica_refusals = 2);
    make(&provider, &[network()]).await;
    let error = provider.ensure(&copy()).await.expect_err("there is nothing to copy");
    assert!(matches!(error, ProviderError::Missing { .. }), "{error}");
    make(&provider, &[main_one(), copy()]).await;
    let live = seen(&provider, &copy().id).await;
    assert_eq!(live.spec, copy().spec);
    let names: Vec<&str> = live.depends_on.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["us-net", "us-main"]);
    let alone = database("us-copy", |_| ());
    let live = provider.ensure(&alone).await.expect("it is promoted");
    assert_eq!((live.spec, live.labels.spec), (alone.spec.clone(), alone.spec_hash()));
    let error = provider.ensure(&copy()).await.expect_err("there is no way back");
    assert!(matches!(error, ProviderError::Refused { .. }), "{error}");
}

#[tokio::test]
async fn who_may_connect_is_kept_and_changed() {
    let stand_in = stand_in().await;
    let provider = provider(&stand_in);
    let trusts = |sources: Value| database("us-main", |spec| spec["trusted_sources"] = sources);
    let both = trusts(json!(["us-app", "192.0.2.0/24"]));
    make(&provider, &[network(), both.clone()]).await;
    assert_eq!(seen(&provider, &both.id).await.spec, both.spec);
    let told = |stand_in: &StandIn| {
        stand_in.world(|world| {
            let database = world.databases.values().next().expect("it was made");
            let sources = database.sources.iter();
            sources
                .map(|it| format!("{} {}", it.kind, it.value))
                .collect::<Vec<_>>()
        })
    };
    assert_eq!(
        told(&stand_in),
        ["tag ha:group:shop:us-east:us-app", "ip_addr 192.0.2.0/24"]
    );
    let fewer = trusts(json!(["192.0.2.0/24"]));
    let live = provider.ensure(&fewer).await.expect("it is changed");
    assert_eq!((live.spec, live.labels.spec), (fewer.spec.clone(), fewer.spec_hash()));
    assert_eq!(told(&stand_in), ["ip_addr 192.0.2.0/24"]);
    stand_in.world(|world| world.databases.values_mut().for_each(|it| it.sources.clear()));
    let open = seen(&provider, &fewer.id).await;
    assert_ne!(
        spec_hash(&open.spec),
        open.labels.spec,
        "somebody opened it to everybody"
    );
}

#[tokio::test]
async fn a_newer_version_is_an_upgrade_in_place() {
    let stand_in = stand_in().await;
    let provider = provider(&stand_in);
    make(&provider, &[network(), main_one()]).await;
    let newer = database("us-main", |spec| spec["version"] = "17".into());
    let live = provider.ensure(&newer).await.expect("it is upgraded");
    assert_eq!((live.spec, live.labels.spec), (newer.spec.clone(), newer.spec_hash()));
    assert_eq!(stand_in.world(|world| world.databases.len()), 1);
}
