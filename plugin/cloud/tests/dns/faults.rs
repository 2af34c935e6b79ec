//! What goes wrong on the way: lost answers, refusals, limits, and others who write at the same time.

use ha_cloud::{
    StepStatus,
    dns::{Dns as _, StepRow, What},
};
use ha_core::dns::{Action, Goal, Seen, plan};
use tokio_util::sync::CancellationToken;

use crate::{
    emulator::Emulator,
    proxy::invalid_batch,
    world::{DOMAIN, WS, World, names, want},
};

fn with_status(rows: &[StepRow], status: StepStatus) -> usize {
    rows.iter().filter(|it| it.status == status).count()
}

/// Zones and checks in the account, and records of one name: what a repeated request would have made twice.
async fn counts(world: &World) -> (usize, usize, usize) {
    let seen = world.look().await;
    (seen.zones.len(), seen.checks.len(), world.records(DOMAIN).await.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_answer_lost_in_turn_leaves_no_duplicate_with_references_that_ministack_forgets() {
    let ministack = Emulator::ministack();
    let wanted = want(|_| {});
    let mut lost = 0;
    loop {
        lost += 1;
        let world = World::new(&ministack).await;
        world.proxy.faults().lose = Some(lost);
        // One run is enough: it looks again by itself.
        world.apply(&wanted).await;
        if world.proxy.faults().lose.is_some() {
            break;
        }
        assert_eq!(counts(&world).await, (1, 3, 4), "answer {lost} was lost");
    }
    // A zone and its tags, three checks and theirs, and one batch.
    assert_eq!(lost, 1 + 2 + 6 + 1);

    let mut lost = 0;
    loop {
        lost += 1;
        let world = World::new(&ministack).await;
        world.apply(&wanted).await;
        world.proxy.faults().lose = Some(lost);
        world.destroy().await;
        assert_eq!(world.look().await, Seen::default(), "answer {lost} was lost");
        if world.proxy.faults().lose.is_some() {
            break;
        }
    }
    assert_eq!(lost, 1 + 1 + 3 + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn references_of_what_was_deleted_are_used_up_though_ministack_gives_them_again() {
    let ministack = Emulator::ministack();
    let world = World::new(&ministack).await;
    for generation in 1..4 {
        world.apply(&want(|_| {})).await;
        let seen = world.look().await;
        let end = format!("/{generation}");
        assert!(seen.zones[0].reference.ends_with(&end), "{}", seen.zones[0].reference);
        assert!(
            seen.checks.iter().all(|it| it.reference.ends_with(&end)),
            "{:?}",
            seen.checks
        );
        world.destroy().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn throttling_and_a_busy_zone_are_waited_out_that_no_emulator_has() {
    let ministack = Emulator::ministack();
    let world = World::new(&ministack).await;
    for action in [
        "ListHostedZones",
        "CreateHostedZone",
        "CreateHealthCheck",
        "ChangeTagsForResource",
    ] {
        world.proxy.refuse(action, "Throttling", "Rate exceeded", 2);
    }
    let busy = "The request was rejected because Route 53 was still processing a prior request.";
    world
        .proxy
        .refuse("ChangeResourceRecordSets", "PriorRequestNotComplete", busy, 7);
    world.apply(&want(|_| {})).await;
    assert_eq!(world.proxy.count("ChangeResourceRecordSets"), 8);
    assert_eq!(counts(&world).await, (1, 3, 4));

    // A limit that does not end is told as one.
    world
        .proxy
        .refuse("ListHealthChecks", "Throttling", "Rate exceeded", 100);
    let error = world
        .dns
        .observe(Some(&names()))
        .await
        .expect_err("a list cut short is no list");
    assert_eq!(error.code(), "ha::provider::rate_limited");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_waited_for_until_every_server_has_it() {
    let ministack = Emulator::ministack();
    let world = World::new(&ministack).await;
    world.proxy.faults().pending = 4;
    world.apply(&want(|_| {})).await;
    assert_eq!(world.proxy.count("GetChange"), 5);
    // Nothing that a record named goes before.
    world.proxy.faults().seen.clear();
    world.apply(&want(|dns| dns.probes = false)).await;
    let seen = world.proxy.faults().seen.clone();
    let at = |action: &str| seen.iter().position(|it| *it == action).expect(action);
    let last = seen.iter().rposition(|it| *it == "GetChange").expect("it was asked");
    assert!(
        at("ChangeResourceRecordSets") < last && last < at("DeleteHealthCheck"),
        "{seen:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_an_invalid_batch_are_told_in_the_form_that_no_emulator_has() {
    let ministack = Emulator::ministack();
    let world = World::new(&ministack).await;
    let said = ["Tried to create &apos;us.api.example.com&apos;", "It already exists."];
    let body = invalid_batch(&said);
    world
        .proxy
        .faults()
        .refuse
        .insert("ChangeResourceRecordSets", (400, body, 100));
    let (rows, outcome) = world.carry(Goal::All(&want(|_| {}))).await;
    assert!(!outcome.good);
    let failed: Vec<_> = rows.iter().filter(|it| it.status == StepStatus::Failed).collect();
    let error = failed[0].error.as_deref().unwrap_or_default();
    assert!(
        error.ends_with("Tried to create 'us.api.example.com'; It already exists"),
        "{error}"
    );
    assert_eq!(failed[0].code, Some("ha::provider::refused"));
    assert!(failed[0].help.as_deref().is_some_and(|it| it.contains("ha dns plan")));
    // The batch is one: all of its records failed, and none is there.
    assert_eq!(failed.len(), 11, "{failed:#?}");
    assert!(world.records(DOMAIN).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_right_stops_the_run_and_is_called_by_its_name() {
    let ministack = Emulator::ministack();
    let world = World::new(&ministack).await;
    world
        .proxy
        .refuse("CreateHealthCheck", "AccessDenied", "User is not authorized", 1);
    let (rows, outcome) = world.carry(Goal::All(&want(|_| {}))).await;
    assert!(!outcome.good);
    let failed = rows
        .iter()
        .find(|it| it.status == StepStatus::Failed)
        .expect("one failed");
    assert_eq!(failed.code, Some("ha::provider::denied"));
    assert!(
        failed
            .error
            .as_deref()
            .is_some_and(|it| it.contains("route53:CreateHealthCheck")),
        "{failed:?}"
    );
    // Two checks and eleven records were never tried.
    assert_eq!(with_status(&rows, StepStatus::Skipped), 2 + 11, "{rows:#?}");
    assert_eq!(counts(&world).await, (1, 0, 0));
    world.apply(&want(|_| {})).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_made_from_an_old_look_overwrites_nothing() {
    let ministack = Emulator::ministack();
    let world = World::new(&ministack).await;
    world.apply(&want(|_| {})).await;
    let old = world.look().await;
    // Meanwhile somebody writes into one of the records that are to change.
    world.plant(&old.zones[0].id, "us.api.example.com", &[]).await;
    let wanted = want(|dns| dns.ttl_seconds = 30);
    let (rows, outcome) = world
        .carry_from(Goal::All(&wanted), old, &CancellationToken::new())
        .await;
    // Looked at again: that one is a conflict now, and the others are changed.
    assert!(outcome.good, "{rows:#?}");
    assert_eq!(world.records("us.api.example.com").await[0].values(), ["203.0.113.9"]);
    assert_eq!(world.records("eu.api.example.com").await[0].ttl, Some(30));
    let now = plan(Goal::All(&wanted), &world.look().await);
    let conflict = now
        .rows
        .iter()
        .find(|it| it.action == Action::Conflict)
        .expect("a conflict");
    assert_eq!(conflict.name, "us.api.example.com");

    // A check as well.
    let old = world.look().await;
    let id = old.checks[0].id.clone();
    let changed = world
        .owner
        .update_health_check()
        .health_check_id(&id)
        .failure_threshold(9)
        .send()
        .await;
    changed.expect("it is changed");
    let wanted = want(|dns| (dns.ttl_seconds, dns.probe_failures) = (30, 5));
    let stale = world.dns.perform(&plan(Goal::All(&wanted), &old).steps[0].act).await;
    // ministack pays no heed to the version that the request names, so it may go either way there.
    assert!(stale.is_ok() || stale.is_err_and(|it| it.code() == "ha::provider::refused"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_are_read_to_their_end_past_many_sets_of_one_name() {
    let ministack = Emulator::ministack();
    let world = World::new(&ministack).await;
    let zone = world.plant_zone(DOMAIN, "console-1").await;
    let sets: Vec<String> = (0..650).map(|it| format!("s{it}")).collect();
    let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
    world.plant(&zone, "many.api.example.com", &sets).await;
    assert_eq!(world.records("many.api.example.com").await.len(), 650);
    world.apply(&want(|_| {})).await;
    // Zones of others are read at and below the domain, and no further.
    let parent = world.plant_zone("example.org", "console-2").await;
    for name in [
        "a.example.org",
        "i.example.org",
        "us.i.example.org",
        "ai.example.org",
        "i-2.example.org",
    ] {
        world.plant(&parent, name, &[]).await;
    }
    let names = ha_cloud::dns::Names {
        zone: "example.org".into(),
        domain: "i.example.org".into(),
    };
    let seen = world.dns.observe(Some(&names)).await.expect("a look");
    let mut read: Vec<&str> = seen.zones[0].records.iter().map(|it| it.name.as_str()).collect();
    read.sort_unstable();
    assert_eq!(read, ["i.example.org", "us.i.example.org"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_leads_back_to_itself_as_moto_s_does_is_an_error() {
    let moto = Emulator::moto();
    let world = World::new(&moto).await;
    let zone = world.plant_zone(DOMAIN, "console-1").await;
    let sets: Vec<String> = (0..301).map(|it| format!("s{it}")).collect();
    let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
    world.plant(&zone, "many.api.example.com", &sets).await;
    let error = world.dns.observe(Some(&names())).await.expect_err("it has no end");
    assert!(error.to_string().contains("does not end"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_stops_finds_the_rest_undone_and_the_next_run_does_it() {
    let ministack = Emulator::ministack();
    let world = World::new(&ministack).await;
    let cancel = CancellationToken::new();
    cancel.cancel();
    let (rows, outcome) = world
        .carry_from(Goal::All(&want(|_| {})), Seen::default(), &cancel)
        .await;
    assert!(!outcome.good);
    // A zone, three checks, seven records and four lines about them.
    assert_eq!(with_status(&rows, StepStatus::Interrupted), 15, "{rows:#?}");
    assert_eq!(world.look().await, Seen::default());
    let rows = world.apply(&want(|_| {})).await;
    assert_eq!(with_status(&rows, StepStatus::Done), 15 + 1);
    assert!(matches!(rows.last(), Some(it) if it.what == What::Spreading));
    let again = world.apply(&want(|_| {})).await;
    assert_eq!(again, []);
    assert_eq!(plan(Goal::Nothing { ws: WS }, &world.look().await).rows.len(), 15);
}
