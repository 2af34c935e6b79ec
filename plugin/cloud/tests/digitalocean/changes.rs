//! What is asked of DigitalOcean for each change, and that a change that was cut short is finished.

use std::time::Duration;

use ha_cloud::{
    Provider,
    digitalocean::{DigitalOceanProvider, Options},
};
use ha_core::resource::{Kind, Live, Resource, ResourceId, Status, spec_hash};
use ha_stand_ins::{Fault, When, digitalocean::StandIn};
use serde_json::json;

use crate::world::{
    PUBLIC_KEY, USER_DATA, app, balancer, bigger, firewall, id, network, options, provider, region, server, stand_in,
    volume,
};

pub(crate) async fn make(provider: &DigitalOceanProvider, all: &[Resource]) {
    for want in all {
        provider.ensure(want).await.expect("the stand-in is willing");
    }
}

pub(crate) async fn seen(provider: &DigitalOceanProvider, id: &ResourceId) -> Live {
    let all = provider.observe().await.expect("a list");
    all.into_iter().find(|it| it.id == *id).expect("it is there")
}

/// Paths of all requests that were meant to change something, without the numbers and tags in them.
fn writes(stand_in: &StandIn) -> Vec<String> {
    let is_number = |part: &str| part.parse::<u64>().is_ok() || part.contains("-5ca1-") || part.contains("ha%3A");
    let plain = |path: &str| {
        let parts: Vec<&str> = path
            .trim_start_matches("/v2")
            .split('/')
            .filter(|it| !is_number(it))
            .collect();
        parts.join("/")
    };
    let all = stand_in.requests().into_iter().filter(|it| it.method != "GET");
    all.map(|it| format!("{} {}", it.method, plain(&it.path))).collect()
}

#[tokio::test]
async fn a_server_comes_with_everything_in_one_call() {
    let stand_in = stand_in().await;
    let provider = provider(&stand_in);
    make(&provider, &[network()]).await;
    stand_in.forget_requests();
    let mut want = server("us-app", 1, &["app", "store"]);
    let hash = want.spec_hash();
    want.spec["ssh_keys"] = json!(["provisioning-key"]);
    let live = provider.ensure(&want).await.expect("a server");
    assert_eq!(writes(&stand_in), ["POST /account/keys", "POST /droplets"]);
    stand_in.world(|world| {
        let droplet = world.droplets.values().next().expect("it was made");
        let key = world.ssh_keys.get(&droplet.ssh_keys[0]).expect("it was uploaded");
        assert_eq!(
            (key.name.as_str(), key.public_key.as_str()),
            ("provisioning-key", PUBLIC_KEY)
        );
        assert_eq!(droplet.user_data.as_deref(), Some(USER_DATA));
        assert_eq!(droplet.region, "nyc3");
        let wanted = [
            "ha:group:shop:us-east:us-app",
            "ha:image:ubuntu-24-04-x64",
            "ha:index:1",
            "ha:name:us-app-1",
            "ha:region:us-east",
            "ha:role:app",
            "ha:role:store",
        ];
        assert_eq!(droplet.tags[..7], wanted);
        assert!(droplet.tags[7].starts_with("ha:spec:"), "{:?}", droplet.tags);
        assert_eq!(droplet.tags[8..], ["ha:ws:shop"]);
    });
    let private = live.private_address.expect("it is in the network");
    assert!(private.starts_with("10.0."), "{private}");
    assert!(live.address.is_some());
    assert_eq!(spec_hash(&live.spec), hash, "keys are no part of what a server is");
}

#[tokio::test]
async fn the_list_of_keys_is_asked_for_once() {
    let stand_in = stand_in().await;
    let provider = provider(&stand_in);
    make(&provider, &[network()]).await;
    for index in 1..=3 {
        let mut want = server("us-app", index, &["app"]);
        want.spec["ssh_keys"] = json!(["provisioning-key"]);
        make(&provider, &[want]).await;
    }
    let asked = stand_in
        .requests()
        .into_iter()
        .filter(|it| it.path == "/v2/account/keys");
    let asked: Vec<String> = asked.map(|it| it.method).collect();
    assert_eq!(asked, ["GET", "POST"], "ten a minute are all there are");
}

#[tokio::test]
async fn what_is_as_wanted_is_not_written_again() {
    let stand_in = stand_in().await;
    let provider = provider(&stand_in);
    make(&provider, &region()).await;
    stand_in.forget_requests();
    make(&provider, &region()).await;
    // A tag is only asked to exist.
    let changed: Vec<String> = writes(&stand_in).into_iter().filter(|it| it != "POST /tags").collect();
    assert_eq!(changed, [""; 0]);
}

#[tokio::test]
async fn nothing_is_asked_twice_to_see_everything() {
    let stand_in = stand_in().await;
    let provider = provider(&stand_in);
    make(&provider, &region()).await;
    stand_in.forget_requests();
    let all = provider.observe().await.expect("a list");
    assert_eq!(all.len(), region().len());
    for live in all.iter().filter(|it| !it.spec.is_null()) {
        assert_eq!(spec_hash(&live.spec), live.labels.spec, "{}", live.id);
    }
    let mut asked: Vec<String> = stand_in.requests().into_iter().map(|it| it.path).collect();
    asked.sort();
    let lists = [
        "databases",
        "droplets",
        "firewalls",
        "load_balancers",
        "volumes",
        "vpcs",
    ];
    assert_eq!(asked, lists.map(|list| format!("/v2/{list}")));
}

#[tokio::test]
async fn nothing_is_left_not_even_a_tag() {
    let stand_in = stand_in().await;
    let provider = provider(&stand_in);
    stand_in.world(|world| world.tags.extend(["theirs".to_owned(), "ha:ws:other".to_owned()]));
    make(&provider, &region()).await;
    for want in region().iter().rev() {
        provider.remove(&want.id).await.expect("it is removed");
    }
    let left: Vec<String> = stand_in.world(|world| world.tags.iter().cloned().collect());
    assert_eq!(left, ["ha:ws:other", "theirs"], "and none of anybody else is gone");
}

#[tokio::test]
async fn a_tag_that_a_firewall_stands_before_outlives_the_last_server_of_its_group() {
    let stand_in = stand_in().await;
    let provider = provider(&stand_in);
    make(&provider, &[network(), firewall(), app()]).await;
    provider.remove(&app().id).await.expect("it is removed");
    stand_in.world(|world| {
        assert!(world.tags.contains("ha:group:shop:us-east:us-app"));
        assert!(!world.tags.contains("ha:name:us-app-1"));
    });
    assert_eq!(seen(&provider, &firewall().id).await.spec, firewall().spec);
}

#[tokio::test]
async fn a_balancer_is_changed_in_one_request_with_its_servers_ready() {
    let stand_in = stand_in().await;
    let provider = provider(&stand_in);
    let servers = [server("us-app", 1, &["app"]), server("us-app", 2, &["app"])];
    make(&provider, &[network()]).await;
    make(&provider, &servers).await;
    make(&provider, &[balancer(&[&servers[0], &servers[1]])]).await;
    stand_in.forget_requests();
    let fewer = balancer(&[&servers[0]]);
    let live = provider.ensure(&fewer).await.expect("one target less");
    assert_eq!(live.spec, fewer.spec);
    assert_eq!(
        writes(&stand_in),
        [
            "POST /tags",
            "POST /tags/resources",
            "PUT /load_balancers",
            // The old tag, once nothing looks for it.
            "DELETE /tags",
        ]
    );
    let names: Vec<&str> = live.depends_on.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["us-net", "us-app-1"]);
}

#[tokio::test]
async fn a_server_that_is_made_anew_is_missed_by_its_balancer_until_it_is_put_back() {
    let stand_in = stand_in().await;
    let provider = provider(&stand_in);
    let want = balancer(&[&app()]);
    make(&provider, &[network(), app(), want.clone()]).await;
    provider.remove(&app().id).await.expect("it is removed");
    make(&provider, &[app()]).await;
    assert_eq!(seen(&provider, &want.id).await.spec["targets"], json!([]));
    let live = provider.ensure(&want).await.expect("it is put back");
    assert_eq!(live.spec, want.spec);
}

#[tokio::test]
async fn a_resize_stops_the_system_and_starts_it_again() {
    let stand_in = stand_in().await;
    let provider = provider(&stand_in);
    make(&provider, &[network(), app()]).await;
    let disk = stand_in.world(|world| world.droplets.values().next().map(|it| it.disk));
    stand_in.forget_requests();
    let live = provider.ensure(&bigger()).await.expect("a bigger one");
    assert_eq!(
        (live.status, live.size.as_deref()),
        (Status::Running, Some("s-4vcpu-8gb"))
    );
    let asked: Vec<String> = stand_in
        .requests()
        .into_iter()
        .filter(|it| it.path.ends_with("/actions"))
        .filter_map(|it| Some(it.body?["type"].as_str()?.to_owned()))
        .collect();
    assert_eq!(asked, ["shutdown", "resize", "power_on"]);
    stand_in.world(|world| {
        let droplet = world.droplets.values().next().expect("it is there");
        assert_eq!(Some(droplet.disk), disk, "the way back to the smaller size stays open");
        assert!(!world.tags.contains("ha:resume:true"));
    });
}

#[tokio::test]
async fn a_system_that_does_not_end_by_itself_loses_its_power() {
    let stand_in = stand_in().await;
    let provider = DigitalOceanProvider::new(Options {
        shutdown: Duration::from_millis(50),
        ..options(&stand_in)
    })
    .expect("the stand-in's address");
    make(&provider, &[network(), app()]).await;
    stand_in.knobs(|knobs| knobs.shutdown_ignored = true);
    let live = provider.power(&app().id, false).await.expect("it is off");
    assert_eq!(live.status, Status::Off);
}

#[tokio::test]
async fn a_resize_cut_short_after_any_request_is_seen_and_finished() {
    for nth in 1.. {
        let stand_in = stand_in().await;
        let provider = provider(&stand_in);
        make(&provider, &[network(), app()]).await;
        stand_in.faults().inject(When::writes().nth(nth), Fault::LoseAnswer);
        match provider.ensure(&bigger()).await {
            Ok(_) => {
                assert!(
                    nth > 5 && stand_in.faults().waiting() == 1,
                    "every request was lost once"
                );
                return;
            }
            Err(error) => assert_eq!(error.code(), "ha::provider::outcome_unknown"),
        }
        assert_ne!(
            seen(&provider, &app().id).await.status,
            Status::Off,
            "nobody switched it off on purpose (request {nth})"
        );
        let live = provider.ensure(&bigger()).await.expect("the second time");
        assert_eq!(
            (live.status, live.size.as_deref()),
            (Status::Running, Some("s-4vcpu-8gb")),
            "request {nth}"
        );
        assert_eq!(live.labels.spec, bigger().spec_hash());
    }
}

#[tokio::test]
async fn what_is_switched_off_stays_off_when_it_is_changed() {
    let stand_in = stand_in().await;
    let provider = provider(&stand_in);
    make(&provider, &[network(), app()]).await;
    provider.power(&app().id, false).await.expect("it is off");
    let live = provider.ensure(&bigger()).await.expect("it is as wanted");
    assert_eq!((live.status, live.size.as_deref()), (Status::Off, Some("s-4vcpu-8gb")));
}

#[tokio::test]
async fn a_size_that_cannot_be_had_is_found_out_before_the_server_is_switched_off() {
    let stand_in = stand_in().await;
    let provider = provider(&stand_in);
    make(&provider, &[network(), app()]).await;
    let mut odd = app();
    odd.spec["size"] = "s-99vcpu-1gb".into();
    stand_in.forget_requests();
    let error = provider.ensure(&odd).await.expect_err("nobody sells it");
    assert_eq!(error.code(), "ha::provider::no_capacity");
    assert_eq!(writes(&stand_in), [""; 0]);
}

#[tokio::test]
async fn a_resize_that_fails_leaves_the_server_running() {
    let stand_in = stand_in().await;
    let provider = provider(&stand_in);
    make(&provider, &[network(), app()]).await;
    stand_in.knobs(|knobs| knobs.fail_next.push("resize".into()));
    let error = provider.ensure(&bigger()).await.expect_err("it ended in an error");
    assert!(error.to_string().contains("(resize) ended in an error"), "{error}");
    assert_eq!(
        stand_in.world(|world| world.droplets.values().next().map(|it| it.status)),
        Some("active")
    );
    provider.ensure(&bigger()).await.expect("the second time");
}

#[tokio::test]
async fn a_volume_grows_and_follows_its_server() {
    let stand_in = stand_in().await;
    let provider = provider(&stand_in);
    make(&provider, &[network(), volume()]).await;
    assert_eq!(
        seen(&provider, &volume().id).await.spec,
        volume().spec,
        "it waits, and that is no drift"
    );
    make(&provider, &[server("us-db", 1, &["database"])]).await;
    stand_in.world(|world| {
        let host = world.droplets.keys().next().copied();
        assert_eq!(
            world.volumes.values().next().map(|it| it.droplet),
            Some(host),
            "taken along"
        );
    });
    let mut more = volume();
    more.spec["size_gb"] = 40.into();
    let live = provider.ensure(&more).await.expect("it grows");
    assert_eq!((live.spec, live.labels.spec), (more.spec.clone(), more.spec_hash()));
    let error = provider.ensure(&volume()).await.expect_err("it does not shrink");
    assert!(error.to_string().contains("volumes only grow"), "{error}");
}

#[tokio::test]
async fn the_first_network_of_a_location_is_given_back_and_taken_again() {
    let stand_in = StandIn::start().await;
    let provider = provider(&stand_in);
    make(&provider, &[network()]).await;
    assert!(stand_in.world(|world| world.vpcs.values().all(|it| it.default)));
    provider.remove(&network().id).await.expect("it is no longer ours");
    assert_eq!(provider.observe().await.expect("a list"), []);
    assert_eq!(stand_in.world(|world| world.vpcs.len()), 1, "nobody can delete it");
    // Another one is made beside it, under the same name.
    let mut other = network();
    other.spec["ip_range"] = "10.7.0.0/16".into();
    make(&provider, &[other.clone()]).await;
    provider.remove(&other.id).await.expect("this one can go");
    let live = provider.ensure(&network()).await.expect("it is ours again");
    assert_eq!(live.spec, network().spec);
    assert_eq!(stand_in.world(|world| world.vpcs.len()), 1);
}

#[tokio::test]
async fn members_that_are_gone_and_still_counted_are_waited_for() {
    let stand_in = stand_in().await;
    let provider = provider(&stand_in);
    make(&provider, &[network(), app()]).await;
    stand_in.knobs(|knobs| knobs.members_linger = Duration::from_millis(100));
    for want in [app(), network()] {
        provider.remove(&want.id).await.expect("in the end");
    }
    assert_eq!(stand_in.world(|world| world.vpcs.len()), 1);
}

#[tokio::test]
async fn two_databases_of_one_server_are_told_apart() {
    let stand_in = stand_in().await;
    let provider = provider(&stand_in);
    let db = server("us-db", 1, &["database"]);
    let one = |name: &str| {
        let spec = json!({ "server": "us-db-1", "engine": name });
        crate::world::resource(Kind::Database, name, spec, &[&db])
    };
    make(&provider, &[network(), db.clone(), one("us-pg-1"), one("us-mysql-1")]).await;
    provider
        .remove(&id(Kind::Database, "us-pg-1"))
        .await
        .expect("it is removed");
    let all = provider.observe().await.expect("a list");
    let names: Vec<&str> = all
        .iter()
        .filter(|it| it.id.kind == Kind::Database)
        .map(|it| it.id.name.as_str())
        .collect();
    assert_eq!(names, ["us-mysql-1"]);
}
