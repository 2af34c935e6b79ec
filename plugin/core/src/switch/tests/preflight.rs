use super::*;
use crate::agreement::{Campaign, Need, Pause, Phase, Reason, Sealed, Switch};
use crate::budget::Budget;
use jiff::SignedDuration;

fn codes(refusals: &[Refusal]) -> Vec<&'static str> {
    refusals.iter().map(|it| it.code).collect()
}

/// What a switchover to eu-db-1 is told after `change`.
fn after(change: impl FnOnce(&mut World)) -> Vec<&'static str> {
    let mut world = world();
    change(&mut world);
    let refusals = switchover(&world, "eu-db-1");
    for it in &refusals {
        assert!(!it.why.ends_with('.') && !it.help.ends_with('.'), "{it:?}");
        assert!(!it.help.is_empty(), "{it:?}");
    }
    codes(&refusals)
}

fn pause(until: Option<Timestamp>) -> Pause {
    Pause {
        by: "ann".into(),
        why: "a switch is changed".into(),
        since: now(),
        until,
    }
}

fn switch_to(node: &str) -> Switch {
    Switch {
        op: "1".into(),
        to: node.into(),
        by: "bob".into(),
        started_at: now(),
        until: now(),
    }
}

fn campaign() -> Campaign {
    Campaign {
        by: "eu-db-1".into(),
        reason: Reason::PrimaryDown,
        detail: String::new(),
        automatic: true,
        started_at: now(),
        accept_loss: None,
        wanted: None,
        sealed: BTreeMap::new(),
        chosen: None,
        op: None,
    }
}

#[test]
fn whoever_commits_do_not_wait_for_may_lack_some() {
    let left_out = |world: &mut World| {
        world.term.voters.remove("eu-db-1");
        world.term.excluded.insert("eu-db-1".into());
    };
    assert_eq!(after(left_out), ["ha::switchover::no_voter"]);
    let waits_for_nobody = |world: &mut World| {
        left_out(world);
        (world.term.acks, world.term.mode) = (0, SyncMode::Async);
    };
    assert!(after(waits_for_nobody).is_empty());
}

#[test]
fn a_guards_word_is_a_proof_with_the_beat_it_was_given_in() {
    let mut world = world();
    assert_eq!(proof(&world), None);
    world.member("us-db-1").stopped = true;
    assert_eq!(proof(&world), Some(Proof::Told { beat: 1 }));
    world.node("us-db-1").report = Err("nobody listens".into());
    assert_eq!(proof(&world), None, "a report of a guard that is gone proves nothing");
}

#[test]
fn a_cluster_that_is_well_hands_over() {
    assert_eq!(after(|_| ()), [""; 0]);
}

#[test]
fn each_thing_in_the_way_has_its_code() {
    let mb = 1 << 20;
    type Change = Box<dyn FnOnce(&mut World)>;
    let table: Vec<(&str, Change)> = vec![
        ("ha::agreement::paused", Box::new(|it| it.pause = Some(pause(None)))),
        (
            "ha::agreement::went_back",
            Box::new(|it| it.member("asia-db-1").promised = 9),
        ),
        ("ha::agreement::went_back", Box::new(|it| it.last_history = 8)),
        (
            "ha::agreement::timing",
            Box::new(|it| it.broken_timing.push("C1: hold is too long".into())),
        ),
        (
            "ha::switchover::running",
            Box::new(|it| {
                it.term = it.term.begin_switch(switch_to("asia-db-1")).expect("active");
            }),
        ),
        (
            "ha::switchover::no_primary",
            Box::new(|it| it.term = it.term.campaign(campaign())),
        ),
        (
            "ha::switchover::primary_gone",
            Box::new(|it| it.node("us-db-1").report = Err("refused".into())),
        ),
        (
            "ha::switchover::primary_gone",
            Box::new(|it| {
                it.database("us-db-1").state = DatabaseState::Failed;
            }),
        ),
        (
            "ha::switchover::stalled",
            Box::new(|it| {
                it.database("us-db-1").senders[1].silence = Some(Duration::from_secs(4));
            }),
        ),
        (
            "ha::switchover::archive",
            Box::new(|it| it.vitals("us-db-1").unarchived = Some(40)),
        ),
        (
            "ha::switchover::forbidden",
            Box::new(|it| {
                it.node("eu-db-1").forbidden = Some("its data must stay in the EU".into());
            }),
        ),
        (
            "ha::switchover::witness",
            Box::new(|it| it.node("eu-db-1").data = false),
        ),
        (
            "ha::switchover::unreachable",
            Box::new(|it| it.node("eu-db-1").report = Err("refused".into())),
        ),
        (
            "ha::switchover::sealed_out",
            Box::new(|it| {
                it.member("eu-db-1").need = Some(Need {
                    copy: true,
                    why: "a rewind failed".into(),
                });
            }),
        ),
        (
            "ha::switchover::sealed_out",
            Box::new(|it| it.database("eu-db-1").timeline = Some(5)),
        ),
        (
            "ha::switchover::sealed_out",
            Box::new(|it| {
                it.member("eu-db-1").follows = None;
                it.member("eu-db-1").sealed = Some(Sealed {
                    epoch: 7,
                    position: at(END),
                });
            }),
        ),
        (
            "ha::switchover::not_streaming",
            Box::new(|it| it.database("eu-db-1").upstream_silence = None),
        ),
        (
            "ha::switchover::not_streaming",
            Box::new(|it| {
                it.database("eu-db-1").upstream_silence = Some(Duration::from_secs(3));
            }),
        ),
        (
            "ha::switchover::not_streaming",
            Box::new(|it| {
                it.member("eu-db-1").follows.as_mut().expect("follows").epoch = 6;
            }),
        ),
        (
            "ha::switchover::not_streaming",
            Box::new(|it| {
                it.database("eu-db-1").state = DatabaseState::Starting;
            }),
        ),
        (
            "ha::switchover::replay_paused",
            Box::new(|it| it.database("eu-db-1").replay_paused = true),
        ),
        (
            "ha::switchover::lagging",
            Box::new(move |it| {
                it.database("eu-db-1").replayed = Some(Lsn(END - 20 * mb));
            }),
        ),
        (
            "ha::switchover::disk",
            Box::new(move |it| it.vitals("eu-db-1").free_bytes = Some(mb)),
        ),
        (
            "ha::switchover::clocks",
            Box::new(|it| {
                it.vitals("eu-db-1").clock = SignedDuration::from_secs(-3600);
            }),
        ),
        (
            "ha::switchover::version",
            Box::new(|it| it.vitals("eu-db-1").major = 14),
        ),
        (
            "ha::switchover::settings",
            Box::new(|it| {
                it.vitals("eu-db-1").settings.insert("max_connections".into(), 50);
            }),
        ),
    ];
    for (code, change) in table {
        assert_eq!(after(change), [code]);
    }
}

#[test]
fn without_any_guard_nothing_can_be_done_and_that_comes_first() {
    let codes = after(|it| {
        for (node, _) in NODES {
            it.node(node).report = Err("refused".into());
        }
    });
    assert_eq!(
        codes,
        [
            "ha::agreement::no_guards",
            "ha::switchover::primary_gone",
            "ha::switchover::unreachable"
        ]
    );
}

#[test]
fn everything_is_said_at_once() {
    let codes = after(|it| {
        it.pause = Some(pause(None));
        it.database("eu-db-1").replay_paused = true;
        it.vitals("eu-db-1").settings.insert("max_connections".into(), 50);
        it.vitals("us-db-1").unarchived = Some(99);
    });
    assert_eq!(
        codes,
        [
            "ha::agreement::paused",
            "ha::switchover::archive",
            "ha::switchover::replay_paused",
            "ha::switchover::settings"
        ]
    );
}

#[test]
fn what_only_should_be_known_stops_nothing() {
    let mut world = world();
    world.vitals("us-db-1").prepared = 2;
    world.vitals("us-db-1").logical_slots = vec!["warehouse".into()];
    let refusals = switchover(&world, "eu-db-1");
    assert_eq!(
        codes(&refusals),
        ["ha::switchover::prepared", "ha::switchover::logical_slots"]
    );
    assert!(refusals.iter().all(|it| it.severity == Severity::Warning));
    assert!(refusals[1].why.contains("warehouse"), "{refusals:?}");
}

#[test]
fn a_pause_that_is_over_and_a_clock_within_its_error_stop_nothing() {
    assert_eq!(after(|it| it.pause = Some(pause(Some(now())))), [""; 0]);
    let within = |it: &mut World| {
        it.vitals("eu-db-1").clock = SignedDuration::from_millis(2500);
        it.vitals("eu-db-1").clock_error = Duration::from_millis(600);
    };
    assert_eq!(after(within), [""; 0]);
}

#[test]
fn the_same_wish_joins_and_a_name_that_is_none_is_told_what_there_is() {
    let join = |it: &mut World| it.term = it.term.begin_switch(switch_to("eu-db-1")).expect("active");
    assert_eq!(after(join), [""; 0]);
    let refusals = switchover(&world(), "eu-db-9");
    assert_eq!(codes(&refusals), ["ha::switchover::unknown"]);
    assert!(refusals[0].help.contains("asia-db-1"), "{refusals:?}");
    assert_eq!(codes(&switchover(&world(), "us-db-1")), ["ha::switchover::is_primary"]);
}

#[test]
fn of_equally_near_replicas_the_order_of_the_workspace_decides() {
    let mut world = world();
    world.database("eu-db-1").received = Some(Lsn(END - 4096));
    world.database("eu-db-1").replayed = Some(Lsn(END - 4096));
    let rows = explain_switchover(&world, None);
    let seen: Vec<_> = rows
        .iter()
        .map(|it| (it.node.as_str(), it.chosen, it.eligible, it.lag_bytes))
        .collect();
    assert_eq!(
        seen,
        [
            ("eu-db-1", true, true, Some(4096)),
            ("asia-db-1", false, true, Some(0)),
            ("us-db-1", false, false, None)
        ]
    );
    assert_eq!(rows[2].reason, "us-db-1 is the primary already");
    // A megabyte is no longer equal.
    world.database("eu-db-1").received = Some(Lsn(END - (2 << 20)));
    world.database("eu-db-1").replayed = Some(Lsn(END - (2 << 20)));
    assert_eq!(explain_switchover(&world, None)[0].node, "asia-db-1");
    assert_eq!(explain_switchover(&world, Some("eu-db-1"))[0].node, "eu-db-1");
    // Nobody is chosen instead of whoever was named.
    world.node("eu-db-1").forbidden = Some("its data must stay in the EU".into());
    assert!(explain_switchover(&world, Some("eu-db-1")).iter().all(|it| !it.chosen));
}

#[test]
fn a_failover_is_refused_while_the_primary_is_there() {
    let refusals = failover(&world(), Some("eu-db-1"), false, None);
    assert_eq!(codes(&refusals), ["ha::failover::primary_up"]);
    assert!(refusals[0].help.contains("ha switchover --to eu-db-1"), "{refusals:?}");
    // Whoever types may not see what the observers do not see either.
    let mut world = world();
    for node in ["eu-db-1", "asia-db-1"] {
        world.member(node).votes.insert("us-db-1".into(), Verdict::Down);
    }
    assert!(matches!(primary_state(&world), PrimaryState::Gone(why) if why.contains("2 of 3")));
    assert_eq!(codes(&failover(&world, None, false, None)), [""; 0]);
}

#[test]
fn a_vote_of_a_guard_that_is_gone_does_not_count() {
    let mut world = world();
    for node in ["eu-db-1", "asia-db-1"] {
        world.member(node).votes.insert("us-db-1".into(), Verdict::Down);
    }
    world.node("eu-db-1").report = Err("refused".into());
    assert!(matches!(primary_state(&world), PrimaryState::Up(_)));
}

#[test]
fn the_furthest_of_those_that_can_seal_is_chosen_whatever_is_preferred() {
    let mut world = world();
    world.lose_the_primary();
    world.database("eu-db-1").received = Some(Lsn(END - 8192));
    world.database("eu-db-1").replayed = Some(Lsn(END - 8192));
    let rows = explain_failover(&world, Some("eu-db-1"), false);
    assert_eq!((rows[0].node.as_str(), rows[0].chosen), ("asia-db-1", true));
    let eu = rows.iter().find(|it| it.node == "eu-db-1").expect("a row");
    assert!(eu.reason.contains("8192 bytes more"), "{}", eu.reason);
    // It is no reason to refuse: the furthest comes first and then hands over.
    assert_eq!(codes(&failover(&world, Some("eu-db-1"), false, None)), [""; 0]);
}

#[test]
fn without_a_quorum_the_price_is_said_and_only_a_fence_allows_to_pay_it() {
    let mut world = world();
    world.lose_the_primary();
    world.node("asia-db-1").report = Err("refused".into());
    world.node("asia-db-1").off = false;
    world.database("eu-db-1").received = Some(Lsn(END - 4096));
    world.database("eu-db-1").replayed = Some(Lsn(END - 4096));
    assert_eq!(estimate(&world), Loss { bytes: Some(4096) });
    let refusals = failover(&world, None, false, None);
    assert_eq!(codes(&refusals), ["ha::failover::no_quorum"]);
    assert!(refusals[0].why.contains("at least 4096 bytes"), "{refusals:?}");
    assert!(refusals[0].help.contains("--accept-loss"), "{refusals:?}");
    assert_eq!(codes(&failover(&world, None, true, None)), ["ha::failover::not_fenced"]);
    assert_eq!(codes(&failover(&world, None, true, Some("seen in the rack"))), [""; 0]);
    world.node("us-db-1").off = true;
    assert_eq!(proof(&world), Some(Proof::Off));
    assert_eq!(codes(&failover(&world, None, true, None)), [""; 0]);
}

#[test]
fn who_cannot_take_over_is_refused_by_name() {
    let mut world = world();
    world.lose_the_primary();
    let told = |world: &World, node| codes(&failover(world, Some(node), false, None));
    assert_eq!(told(&world, "us-db-1"), ["ha::failover::is_primary"]);
    assert_eq!(told(&world, "eu-db-9"), ["ha::failover::unknown"]);
    world.node("asia-db-1").forbidden = Some("residency".into());
    assert_eq!(told(&world, "asia-db-1"), ["ha::failover::forbidden"]);
    world.node("asia-db-1").forbidden = None;
    world.member("asia-db-1").need = Some(Need {
        copy: false,
        why: "it wrote more".into(),
    });
    // One voter less is no quorum either, and both are said.
    assert_eq!(
        told(&world, "asia-db-1"),
        ["ha::failover::not_eligible", "ha::failover::no_quorum"]
    );
}

#[test]
fn while_it_is_decided_only_seals_of_this_epoch_count() {
    let mut world = world();
    world.lose_the_primary();
    world.term = world.term.campaign(campaign());
    assert_eq!(world.term.phase, Phase::Sealing);
    for node in ["eu-db-1", "us-db-1"] {
        world.member(node).sealed = Some(Sealed {
            epoch: 8,
            position: at(END + 100),
        });
    }
    // Its guard is gone: who knows what it has done since.
    let us = |world: &World| {
        explain_failover(world, None, false)
            .into_iter()
            .find(|it| it.node == "us-db-1")
    };
    assert!(us(&world).is_some_and(|it| !it.eligible));
    world.node("us-db-1").report = Ok(report("us-db-1", "us-east", true));
    let us = us(&world).expect("a row");
    assert!(
        us.eligible,
        "an old primary that sealed itself is a candidate like any other: {us:?}"
    );
}

#[test]
fn the_outage_of_the_plan_is_a_part_of_its_time() {
    let world = world();
    let trip = Duration::from_millis(10);
    let workspace = crate::fixture::workspace();
    let budget = Budget::of_mode(&workspace, SyncMode::Strict, trip, Duration::ZERO);
    let steps = switchover_steps(&world, "eu-db-1", trip, &budget);
    let all: Duration = steps.iter().map(|it| it.predicted).sum();
    assert_eq!(outage(&steps), budget.switchover(), "one promise, told twice");
    assert!(
        outage(&steps) < all && outage(&steps) < Duration::from_millis(700),
        "{steps:?}"
    );
    assert_eq!(steps[0].region.as_deref(), Some("us-east"));
    assert_eq!(steps.iter().filter(|it| it.step == "follow").count(), 2);
}
