//! Labels that the user wrote, beside those of others.

use ha_cloud::Provider;
use ha_core::{
    desired::LABELS,
    resource::{Kind, Resource, spec_hash},
};
use ha_stand_ins::hetzner::StandIn;
use serde_json::{Value, json};

use crate::world::{balancer, id, network, provider, region, server};

/// One of each kind that Hetzner keeps labels of.
fn labelled(labels: &Value) -> Vec<Resource> {
    let app = server("eu-app", 1, &["app"]);
    let volume = region()
        .into_iter()
        .find(|it| it.id.kind == Kind::Volume)
        .expect("one of each");
    let all = vec![network(), volume, app.clone(), balancer(&[&app])];
    let label = |mut it: Resource| {
        it.spec[LABELS] = labels.clone();
        it
    };
    all.into_iter().map(label).collect()
}

fn theirs(labels: &std::collections::BTreeMap<String, String>) -> Vec<String> {
    let theirs = labels.iter().filter(|(key, _)| !key.starts_with("ha/"));
    theirs.map(|(key, value)| format!("{key}={value}")).collect()
}

/// The labels of each, ours left out.
fn seen(stand_in: &StandIn) -> Vec<Vec<String>> {
    stand_in.world(|world| {
        let networks = world.networks.values().map(|it| theirs(&it.labels));
        let volumes = world.volumes.values().map(|it| theirs(&it.labels));
        let servers = world.servers.values().map(|it| theirs(&it.labels));
        let balancers = world.load_balancers.values().map(|it| theirs(&it.labels));
        networks.chain(volumes).chain(servers).chain(balancers).collect()
    })
}

#[tokio::test]
async fn a_change_of_labels_is_an_update_in_place() {
    let stand_in = StandIn::start().await;
    let provider = provider(&stand_in);
    for (labels, shown) in [
        (
            json!({ "env": "prod", "example.com/tier": "1" }),
            vec!["env=prod", "example.com/tier=1"],
        ),
        (json!({ "env": "test" }), vec!["env=test"]),
    ] {
        for want in labelled(&labels) {
            let live = provider.ensure(&want).await.expect("the stand-in is willing");
            assert_eq!((&live.spec, &live.labels.spec), (&want.spec, &want.spec_hash()));
        }
        let shown: Vec<String> = shown.into_iter().map(str::to_owned).collect();
        assert_eq!(seen(&stand_in), vec![shown; 4]);
    }
    let want = server("eu-app", 1, &["app"]);
    let live = provider.ensure(&want).await.expect("no more labels");
    assert_eq!((live.spec, live.labels.spec), (want.spec.clone(), want.spec_hash()));
    assert_eq!(seen(&stand_in)[2], [""; 0]);
    assert_eq!(stand_in.world(|world| world.servers.len()), 1);
}

#[tokio::test]
async fn a_label_that_somebody_changed_is_drift_and_one_of_others_is_none() {
    let stand_in = StandIn::start().await;
    let provider = provider(&stand_in);
    let all = labelled(&json!({ "env": "prod" }));
    for want in &all {
        provider.ensure(want).await.expect("the stand-in is willing");
    }
    let tamper = |key: &str, value: &str| {
        stand_in.world(|world| {
            let label = |labels: &mut std::collections::BTreeMap<String, String>| {
                labels.insert(key.to_owned(), value.to_owned());
            };
            world.networks.values_mut().for_each(|it| label(&mut it.labels));
            world.volumes.values_mut().for_each(|it| label(&mut it.labels));
            world.servers.values_mut().for_each(|it| label(&mut it.labels));
            world.load_balancers.values_mut().for_each(|it| label(&mut it.labels));
        });
    };
    let drifted = async || {
        let all = provider.observe().await.expect("a list");
        all.iter().filter(|it| spec_hash(&it.spec) != it.labels.spec).count()
    };
    // A selector of theirs may go by it.
    tamper("backup", "daily");
    assert_eq!(drifted().await, 0);
    tamper("env", "test");
    assert_eq!(drifted().await, all.len());
    for want in &all {
        provider.ensure(want).await.expect("it is put right");
    }
    assert_eq!(drifted().await, 0);
    let shown = ["backup=daily".to_owned(), "env=prod".to_owned()];
    assert_eq!(seen(&stand_in), vec![shown.to_vec(); 4]);
    provider
        .remove(&id(Kind::Server, "eu-app-1"))
        .await
        .expect("it is removed");
}
