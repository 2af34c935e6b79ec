//! Route 53 against ministack and moto, with a proxy in between for what they lack.
//!
//! A test that works around something in which an emulator differs from Route 53 says so in its name.

mod emulator;
mod faults;
mod proxy;
mod world;

use std::collections::BTreeSet;

use ha_cloud::{
    StepStatus,
    dns::{Dns as _, What},
};
use ha_core::dns::{Goal, Policy, Record, Seen, Target, check::Health, marker, place::Place, plan};

use emulator::Emulator;
use world::{DOMAIN, WS, World, want};

const ROUTINGS: [&str; 5] = ["geolocation", "failover", "weighted", "latency", "simple"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_made_seen_changed_and_removed() {
    let ministack = Emulator::ministack();
    let world = World::new(&ministack).await;
    // From one routing to the next, each in place of the one before.
    for routing in ROUTINGS {
        let wanted = want(|dns| dns.routing = routing.into());
        let rows = world.apply(&wanted).await;
        assert!(rows.iter().all(|it| it.status == StepStatus::Done), "{rows:#?}");
        assert_eq!(
            rows.iter().filter(|it| it.what == What::Spreading).count(),
            1,
            "{rows:#?}"
        );
        let apex = world.records(DOMAIN).await;
        assert!(apex.iter().all(|it| it.policy.word() == routing), "{apex:#?}");
    }
    world.apply(&want(|_| {})).await;
    let apex = world.records(DOMAIN).await;
    let default = apex.iter().find(|it| it.policy == Policy::Geolocation(Place::Default));
    let default = default.expect("whoever is nowhere else is answered");
    assert_eq!(
        (default.values(), default.ttl),
        (vec!["192.0.2.1".to_owned()], Some(60))
    );
    let asia = world.records("asia.api.example.com").await;
    let alias = Target::Alias {
        zone: "Z1LMS91P8CMLE5".into(),
        name: "asia-lb-1.ap-southeast-1.elb.amazonaws.com".into(),
        evaluate: false,
    };
    assert_eq!(asia[0].target, alias);
    let seen = world.look().await;
    assert_eq!(seen.checks.len(), 3);
    assert!(
        seen.checks
            .iter()
            .all(|it| it.tags.get("ha:ws").map(String::as_str) == Some(WS))
    );
    assert_eq!(seen.zones[0].name_servers.len(), 4);

    let rows = world.destroy().await;
    // What others stand on goes last.
    let kinds: Vec<&str> = rows
        .iter()
        .filter_map(|it| match &it.what {
            What::Row(row) if row.kind == "A" || row.kind == "TXT" => Some("record"),
            What::Row(row) => Some(row.kind.as_str()),
            What::Spreading => None,
        })
        .collect();
    let mut order = kinds.clone();
    order.dedup();
    assert_eq!(order, ["record", "check", "zone"], "{kinds:?}");
    assert_eq!(world.look().await, Seen::default());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moto_sees_the_same_names_and_tells_the_state_of_checks() {
    let moto = Emulator::moto();
    let world = World::new(&moto).await;
    world.apply(&want(|_| {})).await;
    let pointed = want(|_| {}).point_at("eu-central").expect("it leads somewhere");
    let (rows, outcome) = world.carry(Goal::Apex(&pointed)).await;
    assert!(outcome.good, "{rows:#?}");
    assert_eq!(world.records(DOMAIN).await[0].values(), ["192.0.2.2"]);
    let seen = world.look().await;
    for check in &seen.checks {
        let asked = world.dns.ask(check).await.expect("a state");
        assert_eq!((asked.health, asked.checkers, asked.well), (Health::Healthy, 1, 1));
        assert!(asked.checked_at.is_some());
    }
    world.destroy().await;
    assert_eq!(world.look().await, Seen::default());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_is_well_when_more_than_18_percent_say_so_with_reports_that_ministack_lacks() {
    let ministack = Emulator::ministack();
    let world = World::new(&ministack).await;
    world.apply(&want(|_| {})).await;
    let seen = world.look().await;
    let (well, ill) = ("Success: HTTP Status Code 200, OK", "Failure: Connection timed out");
    for (reports, health) in [
        (vec![well, ill, ill, ill, ill], Health::Healthy),
        (vec![well, ill, ill, ill, ill, ill], Health::Unhealthy),
    ] {
        world.proxy.faults().reports = reports;
        let asked = world.dns.ask(&seen.checks[0]).await.expect("a state");
        assert_eq!((asked.health, asked.well), (health, 1));
        assert_eq!(asked.failure.as_deref(), Some(ill));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_own_is_never_touched() {
    let ministack = Emulator::ministack();
    let world = World::new(&ministack).await;
    // The zone is theirs, one of our names as well, and another workspace is like ours but for its name.
    let zone = world.plant_zone(DOMAIN, "console-1").await;
    let other = world
        .plant_zone("other.example.com", "ha/shop2/zone.other.example.com/1")
        .await;
    for name in ["us.api.example.com", "mail.api.example.com"] {
        world.plant(&zone, name, &[]).await;
    }
    world.plant(&zone, "_ha.mail.api.example.com", &[]).await;
    let before = world.look().await;
    let (rows, outcome) = world.carry(Goal::All(&want(|_| {}))).await;
    assert!(outcome.good, "{rows:#?}");
    let seen = world.look().await;
    let conflicts: Vec<_> = plan(Goal::All(&want(|_| {})), &seen).rows;
    let conflicts: Vec<_> = conflicts.iter().filter(|it| it.action.as_str() == "conflict").collect();
    assert_eq!(conflicts.len(), 1, "{conflicts:#?}");
    assert_eq!(conflicts[0].name, "us.api.example.com");
    assert_eq!(world.records("us.api.example.com").await[0].ttl, Some(3600));
    assert_eq!(world.records(DOMAIN).await.len(), 4);

    world.destroy().await;
    let sorted = |seen: &Seen| {
        let mut all: Vec<String> = seen.zones[0].records.iter().map(Record::to_string).collect();
        all.sort();
        all
    };
    let after = world.look().await;
    assert_eq!(sorted(&after), sorted(&before));
    assert_eq!(after.checks, []);
    let left = world.owner.list_hosted_zones().send().await.expect("a list");
    let left: BTreeSet<&str> = left.hosted_zones().iter().map(|it| it.id()).collect();
    assert_eq!(left, BTreeSet::from([zone.as_str(), other.as_str()]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_zone_with_a_record_of_somebody_else_stays_and_says_why() {
    let ministack = Emulator::ministack();
    let world = World::new(&ministack).await;
    world.apply(&want(|_| {})).await;
    let zone = world.look().await.zones[0].id.clone();
    world.plant(&zone, "mail.api.example.com", &[]).await;
    let (_, outcome) = world.carry(Goal::Nothing { ws: WS }).await;
    let left = world.look().await;
    assert!(outcome.good && left.checks.is_empty());
    let left = plan(Goal::Nothing { ws: WS }, &left);
    assert_eq!(left.rows.len(), 1, "{left:#?}");
    assert!(left.rows[0].reason.contains("mail.api.example.com"), "{left:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_zones_with_one_name_none_is_guessed() {
    let ministack = Emulator::ministack();
    let world = World::new(&ministack).await;
    for reference in ["console-1", "console-2"] {
        world.plant_zone(DOMAIN, reference).await;
    }
    let error = world.dns.observe(Some(&world::names())).await.expect_err("which one?");
    assert_eq!(error.code(), "ha::provider::refused");
    assert!(
        error
            .to_string()
            .starts_with("2 public zones are called api.example.com: "),
        "{error}"
    );
    // Ours is known among others.
    world.plant_zone(DOMAIN, "ha/shop/zone.api.example.com/1").await;
    world.apply(&want(|_| {})).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_interval_is_a_new_check_and_the_old_one_is_gone() {
    let ministack = Emulator::ministack();
    let world = World::new(&ministack).await;
    world.apply(&want(|_| {})).await;
    let before: BTreeSet<String> = world.look().await.checks.into_iter().map(|it| it.id).collect();
    world.apply(&want(|dns| dns.probe_interval_seconds = 10)).await;
    let seen = world.look().await;
    assert_eq!(seen.checks.len(), 3);
    assert!(
        seen.checks
            .iter()
            .all(|it| it.spec.interval == 10 && !before.contains(&it.id))
    );
    // What can be changed is changed in place.
    world
        .apply(&want(|dns| (dns.probe_interval_seconds, dns.probe_failures) = (10, 5)))
        .await;
    let again = world.look().await;
    assert!(again.checks.iter().all(|it| it.spec.failures == 5));
    let ids = |seen: &Seen| seen.checks.iter().map(|it| it.id.clone()).collect::<BTreeSet<_>>();
    assert_eq!(ids(&again), ids(&seen));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_line_beside_a_record_says_whose_it_is() {
    let ministack = Emulator::ministack();
    let world = World::new(&ministack).await;
    world.apply(&want(|dns| dns.routing = "simple".into())).await;
    let seen = world.look().await;
    let text: Vec<String> = seen.zones[0]
        .called(&marker::name_of(DOMAIN))
        .flat_map(Record::values)
        .collect();
    let hash = world.records(DOMAIN).await[0].hash();
    assert_eq!(text, [format!("\"ha ws=shop type=A spec={hash}\"")]);
}
