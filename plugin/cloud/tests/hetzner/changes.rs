//! What is asked of Hetzner for each change, and that a change that was cut short is finished.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use ha_cloud::{
    Provider, ProviderError,
    hetzner::{HetznerProvider, Options},
};
use ha_core::{
    names::RegionName,
    resource::{Kind, Resource, ResourceId, Status, spec_hash},
};
use ha_stand_ins::{
    Fault, When,
    hetzner::{StandIn, TargetOf},
};
use serde_json::{Value, json};

use crate::world::{PUBLIC_KEY, USER_DATA, balancer, id, network, options, provider, region, server};

async fn make(provider: &HetznerProvider, all: &[Resource]) {
    for want in all {
        provider.ensure(want).await.expect("the stand-in is willing");
    }
}

/// Paths of all requests that were meant to change something, without the numbers in them.
fn writes(stand_in: &StandIn) -> Vec<String> {
    let plain = |path: &str| {
        let parts = path.trim_start_matches("/v1").split('/');
        let parts: Vec<&str> = parts.filter(|it| it.parse::<u64>().is_err()).collect();
        parts.join("/")
    };
    let all = stand_in.requests().into_iter().filter(|it| it.method != "GET");
    all.map(|it| format!("{} {}", it.method, plain(&it.path))).collect()
}

#[tokio::test]
async fn a_server_comes_with_everything_in_one_call() {
    let stand_in = StandIn::start().await;
    let provider = provider(&stand_in);
    make(&provider, &[network()]).await;
    stand_in.forget_requests();
    let live = provider
        .ensure(&server("eu-app", 1, &["app", "store"]))
        .await
        .expect("a server");
    assert_eq!(
        writes(&stand_in),
        ["POST /ssh_keys", "POST /placement_groups", "POST /servers"]
    );
    let body = stand_in
        .requests()
        .into_iter()
        .rfind(|it| it.method == "POST")
        .and_then(|it| it.body);
    let labels = &body.expect("a body")["labels"];
    assert_eq!(
        *labels,
        json!({
            "ha/ws": "shop", "ha/region": "eu-central", "ha/name": "eu-app-1", "ha/spec": live.labels.spec,
            "ha/group": "eu-app", "ha/index": "1", "ha/roles": "app.store", "ha/image": "ubuntu-24.04",
        })
    );
    stand_in.world(|world| {
        let server = world.servers.values().next().expect("it was made");
        let key = world.ssh_keys.get(&server.ssh_keys[0]).expect("it was uploaded");
        assert_eq!(
            (key.name.as_str(), key.public_key.as_str()),
            ("provisioning-key", PUBLIC_KEY)
        );
        let group = world
            .placement_groups
            .get(&server.placement_group.expect("it has one"))
            .expect("it is there");
        assert_eq!(group.name, "eu-app");
        assert_eq!(server.user_data.as_deref(), Some(USER_DATA));
        assert_eq!(server.location, "nbg1");
        assert_eq!(server.private.len(), 1);
    });
    let private = live.private_address.expect("it is in the network");
    assert!(private.starts_with("10.1."), "{private}");
    assert!(live.address.is_some());
}

#[tokio::test]
async fn what_is_as_wanted_is_not_written_again() {
    let stand_in = StandIn::start().await;
    let provider = provider(&stand_in);
    make(&provider, &region()).await;
    stand_in.forget_requests();
    make(&provider, &region()).await;
    assert_eq!(writes(&stand_in), [""; 0]);
}

#[tokio::test]
async fn nothing_is_asked_twice_to_see_everything() {
    let stand_in = StandIn::start().await;
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
    let lists = ["firewalls", "load_balancers", "networks", "servers", "volumes"];
    assert_eq!(asked, lists.map(|list| format!("/v1/{list}")));
}

#[tokio::test]
async fn a_server_leaves_the_balancer_before_it_is_removed_and_the_balancer_says_so() {
    let stand_in = StandIn::start().await;
    let provider = provider(&stand_in);
    let servers = [server("eu-app", 1, &["app"]), server("eu-app", 2, &["app"])];
    make(&provider, &[network()]).await;
    make(&provider, &servers).await;
    provider
        .ensure(&balancer(&[&servers[0], &servers[1]]))
        .await
        .expect("a balancer");
    stand_in.forget_requests();
    let fewer = balancer(&[&servers[0]]);
    let live = provider.ensure(&fewer).await.expect("one target less");
    assert_eq!(live.spec["targets"], json!(["eu-app-1"]));
    assert_eq!(
        writes(&stand_in),
        [
            // Never a moment without a target.
            "POST /load_balancers/actions/add_target",
            "POST /load_balancers/actions/remove_target",
            "PUT /load_balancers",
        ]
    );
    stand_in.world(|world| {
        let balancer = world.load_balancers.values().next().expect("it was made");
        let of: Vec<&TargetOf> = balancer.targets.iter().map(|it| &it.of).collect();
        let selector = "ha/ws==shop,ha/region==eu-central,ha/group==eu-app,ha/index in (1)";
        assert_eq!(of, [&TargetOf::Selector(selector.into())]);
    });
    assert_eq!(
        live.depends_on.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(),
        ["eu-net", "eu-app-1"]
    );
}

#[tokio::test]
async fn a_balancer_is_changed_service_by_service() {
    let stand_in = StandIn::start().await;
    let provider = provider(&stand_in);
    let app = server("eu-app", 1, &["app"]);
    make(&provider, &[network(), app.clone(), balancer(&[&app])]).await;
    let mut other = balancer(&[&app]);
    other.spec["algorithm"] = "least_connections".into();
    other.spec["rules"][0]["target_port"] = 9090.into();
    other.spec["rules"][1]["entry_port"] = 5433.into();
    stand_in.forget_requests();
    let live = provider.ensure(&other).await.expect("a change in place");
    assert_eq!(live.spec, other.spec);
    assert_eq!(
        writes(&stand_in),
        [
            "POST /load_balancers/actions/change_algorithm",
            "POST /load_balancers/actions/delete_service",
            "POST /load_balancers/actions/update_service",
            "POST /load_balancers/actions/add_service",
            "PUT /load_balancers",
        ]
    );
}

fn bigger() -> Resource {
    let mut bigger = server("eu-app", 1, &["app"]);
    bigger.spec["size"] = "cpx31".into();
    bigger
}

#[tokio::test]
async fn a_resize_stops_the_system_and_starts_it_again() {
    let stand_in = StandIn::start().await;
    let provider = provider(&stand_in);
    make(&provider, &[network(), server("eu-app", 1, &["app"])]).await;
    stand_in.forget_requests();
    let live = provider.ensure(&bigger()).await.expect("a bigger one");
    assert_eq!((live.status, live.size.as_deref()), (Status::Running, Some("cpx31")));
    let asked = writes(&stand_in);
    assert_eq!(
        asked[..3],
        [
            "PUT /servers",
            "POST /servers/actions/shutdown",
            "POST /servers/actions/change_type"
        ]
    );
    assert!(
        !asked.contains(&"POST /servers/actions/poweroff".to_owned()),
        "{asked:?}"
    );
    stand_in.world(|world| {
        let server = world.servers.values().next().expect("it is there");
        assert_eq!(server.disk, 80, "the way back to the smaller type stays open");
        assert!(!server.labels.contains_key("ha/resume"));
    });
}

#[tokio::test]
async fn a_system_that_does_not_end_by_itself_loses_its_power() {
    let stand_in = StandIn::start().await;
    let provider = HetznerProvider::new(Options {
        shutdown: Duration::from_millis(50),
        ..options(&stand_in)
    })
    .expect("the stand-in's address");
    make(&provider, &[network(), server("eu-app", 1, &["app"])]).await;
    stand_in.knobs(|knobs| knobs.shutdown_ignored = true);
    let live = provider
        .power(&id(Kind::Server, "eu-app-1"), false)
        .await
        .expect("it is off");
    assert_eq!(live.status, Status::Off);
    assert!(writes(&stand_in).contains(&"POST /servers/actions/poweroff".to_owned()));
}

#[tokio::test]
async fn a_resize_cut_short_after_any_request_is_seen_and_finished() {
    for nth in 1.. {
        let stand_in = StandIn::start().await;
        let provider = provider(&stand_in);
        make(&provider, &[network(), server("eu-app", 1, &["app"])]).await;
        stand_in.faults().inject(When::writes().nth(nth), Fault::LoseAnswer);
        match provider.ensure(&bigger()).await {
            Ok(_) => {
                assert!(
                    nth > 3 && stand_in.faults().waiting() == 1,
                    "every request was lost once"
                );
                return;
            }
            Err(error) => assert_eq!(error.code(), "ha::provider::outcome_unknown"),
        }
        let all = provider.observe().await.expect("a list");
        let seen = all.iter().find(|it| it.id.kind == Kind::Server).expect("it is there");
        assert_ne!(
            seen.status,
            Status::Off,
            "nobody switched it off on purpose (request {nth})"
        );
        let live = provider.ensure(&bigger()).await.expect("the second time");
        assert_eq!(
            (live.status, live.size.as_deref()),
            (Status::Running, Some("cpx31")),
            "request {nth}"
        );
        assert_eq!(live.labels.spec, bigger().spec_hash());
    }
}

#[tokio::test]
async fn what_is_switched_off_stays_off_when_it_is_changed() {
    let stand_in = StandIn::start().await;
    let provider = provider(&stand_in);
    make(&provider, &[network(), server("eu-app", 1, &["app"])]).await;
    provider
        .power(&id(Kind::Server, "eu-app-1"), false)
        .await
        .expect("it is off");
    let live = provider
        .ensure(&server("eu-app", 1, &["app"]))
        .await
        .expect("it is as wanted");
    assert_eq!(live.status, Status::Off);
}

#[tokio::test]
async fn a_group_of_more_than_ten_is_spread_in_tens_and_leaves_no_placement_group() {
    let stand_in = StandIn::start().await;
    let provider = provider(&stand_in);
    make(&provider, &[network()]).await;
    let servers: Vec<Resource> = (1..=11).map(|index| server("eu-app", index, &["app"])).collect();
    let made = join_all(servers.iter().map(|it| provider.ensure(it))).await;
    assert!(made.iter().all(Result::is_ok), "{made:?}");
    let names = || {
        stand_in.world(|world| {
            let mut names: Vec<String> = world.placement_groups.values().map(|it| it.name.clone()).collect();
            names.sort();
            names
        })
    };
    assert_eq!(names(), ["eu-app", "eu-app.2"]);
    assert_eq!(
        stand_in.world(|world| world.ssh_keys.len()),
        1,
        "uploaded once, whoever was first"
    );
    let gone = join_all(servers.iter().map(|it| provider.remove(&it.id))).await;
    assert!(gone.iter().all(Result::is_ok), "{gone:?}");
    assert_eq!(names(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_question_asks_about_all_that_is_under_way() {
    let stand_in = Arc::new(StandIn::start().await);
    let provider = HetznerProvider::new(Options {
        deadline: Duration::from_secs(3600),
        ..options(&stand_in)
    });
    let provider = Arc::new(provider.expect("the stand-in's address"));
    make(&provider, &[network()]).await;
    // It ends when the test says so.
    stand_in.knobs(|knobs| knobs.action_time = Duration::from_secs(3600));
    let work: Vec<_> = (1..=6)
        .map(|index| {
            let provider = provider.clone();
            tokio::spawn(async move { provider.ensure(&server("eu-app", index, &["app"])).await })
        })
        .collect();
    let several = |it: &ha_stand_ins::hetzner::Action| it.command == "create_server";
    let all_asked_about = || {
        let begun = stand_in.world(|world| world.actions.values().filter(|it| several(it)).count());
        let asked = stand_in
            .requests()
            .into_iter()
            .filter(|it| it.path.ends_with("/actions"));
        begun == 6 && asked.map(|it| it.query.matches("id=").count()).max() >= Some(6)
    };
    while !all_asked_about() {
        assert!(
            !work.iter().any(|it| it.is_finished()),
            "one of them ended before its action"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stand_in.knobs(|knobs| knobs.action_time = Duration::from_millis(1));
    stand_in.finish();
    for it in work {
        it.await.expect("no panic").expect("a server");
    }
}

#[tokio::test]
async fn what_is_made_between_two_looks_is_ours_and_not_a_strangers() {
    let stand_in = StandIn::start().await;
    let provider = provider(&stand_in);
    make(&provider, &[network()]).await;
    let labels = [("ha/ws", "shop"), ("ha/region", "eu-central"), ("ha/name", "eu-app")];
    let number = stand_in.world(|world| world.plant_placement_group("eu-app", &labels));
    // One of the two lists was answered before it came. Of which, the order of arrival decides; either must do.
    let nothing = json!({
        "placement_groups": [],
        "meta": { "pagination": {
            "page": 1, "per_page": 50, "previous_page": null, "next_page": null, "last_page": 1, "total_entries": 0,
        } },
    });
    for (index, nth) in [(1, 1), (2, 2)] {
        let fault = Fault::answer(200, nothing.clone());
        stand_in
            .faults()
            .inject(When::exactly("GET", "/placement_groups").nth(nth), fault);
        provider
            .ensure(&server("eu-app", index, &["app"]))
            .await
            .expect("a server");
    }
    assert_eq!(stand_in.faults().waiting(), 0);
    let groups = stand_in.world(|world| world.servers.values().map(|it| it.placement_group).collect::<Vec<_>>());
    assert_eq!(groups, [Some(number); 2]);
}

#[tokio::test]
async fn an_address_that_carries_the_labels_is_unassigned_and_removed_with_its_server() {
    let stand_in = StandIn::start().await;
    let provider = provider(&stand_in);
    make(&provider, &[network(), server("eu-app", 1, &["app"])]).await;
    stand_in.world(|world| {
        for it in world.primary_ips.values_mut() {
            it.auto_delete = false;
            for (key, value) in [("ha/ws", "shop"), ("ha/region", "eu-central"), ("ha/name", "eu-app-1")] {
                it.labels.insert(key.into(), value.into());
            }
        }
    });
    provider
        .remove(&id(Kind::Server, "eu-app-1"))
        .await
        .expect("it is removed");
    assert_eq!(
        stand_in.world(|world| (world.servers.len(), world.primary_ips.len())),
        (0, 0)
    );
}

#[tokio::test]
async fn two_databases_write_on_one_server_at_the_same_time_and_both_are_there() {
    let stand_in = StandIn::start().await;
    let provider = provider(&stand_in);
    let all = region();
    let hosted = |it: &&Resource| matches!(it.id.kind, Kind::Store | Kind::Database);
    let db = all
        .iter()
        .find(|it| it.id.name == "eu-db-1")
        .expect("it is in the region");
    make(&provider, &[network(), db.clone()]).await;
    let mut hosted: Vec<Resource> = all.iter().filter(hosted).cloned().collect();
    for it in &mut hosted {
        it.depends_on.retain(|id| id.kind == Kind::Server);
        // Its founder is elsewhere, and no business of this provider.
        it.depends_on
            .push(ResourceId::new(&RegionName::new("us-east"), Kind::Database, "us-pg-1"));
    }
    let made = join_all(hosted.iter().map(|it| provider.ensure(it))).await;
    assert!(made.iter().all(Result::is_ok), "{made:?}");
    let seen = provider.observe().await.expect("a list");
    let seen: Vec<(&str, &Value)> = seen.iter().map(|it| (it.id.name.as_str(), &it.spec)).collect();
    assert!(
        seen.contains(&("eu-store", &Value::Null)) && seen.contains(&("eu-pg-1", &Value::Null)),
        "{seen:?}"
    );
    // Another one of the same kind has no place there.
    let mut second = hosted.pop().expect("there are two");
    second.id.name = "eu-pg-2".into();
    let error = provider.ensure(&second).await.expect_err("the place is taken");
    assert!(matches!(error, ProviderError::Taken { .. }), "{error}");
}

/// Since 5 October 2026, as hcloud-python 2.27 says:
/// <https://github.com/hetznercloud/hcloud-python/releases/tag/v2.27.0>.
#[tokio::test]
async fn a_balancer_whose_removal_is_an_action_is_waited_for_as_well() {
    let stand_in = StandIn::start().await;
    let provider = provider(&stand_in);
    let app = server("eu-app", 1, &["app"]);
    let want = balancer(&[&app]);
    make(&provider, &[network(), app, want.clone()]).await;
    stand_in.knobs(|knobs| {
        knobs.balancers_end_by_action = true;
        knobs.action_time = Duration::from_millis(100);
    });
    provider.remove(&want.id).await.expect("it is removed");
    assert_eq!(stand_in.world(|world| world.load_balancers.len()), 0);
}
