//! Labels that the user wrote, as tags beside those of others.

use ha_cloud::Provider;
use ha_core::{
    desired::LABELS,
    resource::{Resource, spec_hash},
};
use ha_stand_ins::digitalocean::StandIn;
use serde_json::{Value, json};

use crate::{
    changes::{make, seen},
    world::{app, network, provider, stand_in, volume},
};

fn labelled(mut want: Resource, labels: Value) -> Resource {
    want.spec[LABELS] = labels;
    want
}

fn tags(stand_in: &StandIn) -> Vec<String> {
    let all = stand_in.world(|world| world.droplets.values().next().map(|it| it.tags.clone()));
    let mut theirs = all.expect("a server");
    theirs.retain(|tag| !tag.starts_with("ha:"));
    theirs.sort();
    theirs
}

#[tokio::test]
async fn a_change_of_labels_is_an_update_in_place() {
    let stand_in = stand_in().await;
    let provider = provider(&stand_in);
    let first = labelled(app(), json!({ "env": "prod", "team": "shop" }));
    make(&provider, &[network(), first.clone()]).await;
    assert_eq!(tags(&stand_in), ["env:prod", "team:shop"]);
    let before = stand_in.world(|world| world.droplets.keys().copied().collect::<Vec<_>>());
    let second = labelled(app(), json!({ "env": "test" }));
    for want in [&first, &second, &app()] {
        let live = provider.ensure(want).await.expect("it is as wanted");
        assert_eq!((&live.spec, live.labels.spec), (&want.spec, want.spec_hash()));
    }
    assert_eq!(tags(&stand_in), [""; 0]);
    let after = stand_in.world(|world| world.droplets.keys().copied().collect::<Vec<_>>());
    assert_eq!(after, before);
    let left = stand_in.world(|world| world.tags.iter().any(|tag| tag.contains("env") || tag.contains("team")));
    assert!(!left, "nothing has them any more, so they are gone");
}

#[tokio::test]
async fn a_label_taken_off_is_drift_and_a_tag_of_others_is_none() {
    let stand_in = stand_in().await;
    let provider = provider(&stand_in);
    let want = labelled(app(), json!({ "env": "prod" }));
    make(&provider, &[network(), want.clone()]).await;
    let tamper = |change: fn(&mut Vec<String>)| {
        stand_in.world(|world| world.droplets.values_mut().for_each(|it| change(&mut it.tags)));
    };
    // A firewall of theirs may go by it.
    tamper(|tags| tags.push("web".into()));
    let live = seen(&provider, &want.id).await;
    assert_eq!(spec_hash(&live.spec), live.labels.spec);
    tamper(|tags| tags.retain(|tag| tag != "env:prod"));
    let live = seen(&provider, &want.id).await;
    assert_ne!(spec_hash(&live.spec), live.labels.spec);
    assert_eq!(live.labels.spec, want.spec_hash(), "ours did not change");
    provider.ensure(&want).await.expect("it is put back");
    assert_eq!(tags(&stand_in), ["env:prod", "web"]);
    provider.ensure(&app()).await.expect("no more labels");
    assert_eq!(tags(&stand_in), ["web"]);
}

#[tokio::test]
async fn what_another_still_has_outlives_the_one_that_is_removed() {
    let stand_in = stand_in().await;
    let provider = provider(&stand_in);
    let labels = json!({ "env": "prod" });
    let data = labelled(volume(), labels.clone());
    make(&provider, &[network(), data.clone(), labelled(app(), labels)]).await;
    provider.remove(&app().id).await.expect("it is removed");
    assert!(stand_in.world(|world| world.tags.contains("env:prod")));
    assert_eq!(seen(&provider, &data.id).await.spec, data.spec);
    provider.remove(&data.id).await.expect("it is removed");
    assert!(stand_in.world(|world| !world.tags.contains("env:prod")));
}
