//! Managed databases: clusters, replicas, and what becomes of them.

use ha_cloud::{Provider, ProviderError};
use ha_core::resource::{Kind, Resource, Status};
use ha_stand_ins::{Fault, When, digitalocean::StandIn};
use serde_json::{Value, json};

use crate::{
    changes::{make, seen},
    world::{network, provider, resource, stand_in},
};

fn database(name: &str, change: impl FnOnce(&mut Value)) -> Resource {
    let mut spec = json!({
        "kind": "digitalocean.Database", "name": name, "region": "nyc3", "engine": "pg", "version": "16",
        "size": "db-s-2vcpu-4gb", "num_nodes": 1, "trusted_sources": [], "labels": { "env": "prod" }, "protect": true,
    });
    change(&mut spec);
    resource(Kind::Database, name, spec, &[&network()])
}

/// The stand-in knows no trusted sources: everybody may connect.
async fn open_stand_in() -> StandIn {
    let stand_in = stand_in().await;
    let nobody = Fault::answer(200, json!({ "rules": [] }));
    stand_in
        .faults()
        .inject(When::exactly("GET", "/firewall").times(1000), nobody);
    stand_in
}

fn main_one() -> Resource {
    database("us-main", |_| ())
}

fn copy() -> Resource {
    database("us-copy", |spec| spec["replicate_from"] = "us-main".into())
}

#[tokio::test]
async fn a_cluster_is_made_resized_and_removed() {
    let stand_in = open_stand_in().await;
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
    let stand_in = open_stand_in().await;
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
