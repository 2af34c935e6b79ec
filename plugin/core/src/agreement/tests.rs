use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::{
    lsn::{Lsn, Position},
    model::SyncMode,
};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn nodes(names: &[&str]) -> BTreeSet<Node> {
    names.iter().map(|it| (*it).to_owned()).collect()
}

fn at(timeline: u32, lsn: u64) -> Position {
    Position {
        timeline,
        lsn: Lsn(lsn),
    }
}

fn term() -> Term {
    Term::first("a", 1, nodes(&["a", "b", "c"]), SyncMode::Strict, Vec::new(), NOW)
}

fn campaign(reason: Reason) -> Campaign {
    Campaign {
        by: "b".into(),
        reason,
        detail: String::new(),
        automatic: reason == Reason::PrimaryDown,
        started_at: NOW,
        accept_loss: None,
        wanted: None,
        sealed: BTreeMap::new(),
        chosen: None,
        op: None,
    }
}

fn switch(to: &str) -> Switch {
    Switch {
        op: "1".into(),
        to: to.into(),
        by: "ops".into(),
        started_at: NOW,
        until: NOW,
    }
}

#[test]
fn an_epoch_is_chosen_once_published_once_and_by_the_chosen_alone() {
    let sealing = term().campaign(campaign(Reason::PrimaryDown));
    assert_eq!(
        (sealing.epoch, sealing.phase, sealing.automatic.len()),
        (2, Phase::Sealing, 1)
    );
    assert_eq!(sealing.publish("b", Lsn(9), 1, &[], NOW), None, "nobody was chosen");
    let chosen = sealing
        .choose("b", BTreeMap::from([("b".into(), at(1, 9))]), NOW)
        .expect("nobody was");
    assert_eq!(chosen.choose("c", BTreeMap::new(), NOW), None, "somebody was chosen");
    assert_eq!(
        chosen.publish("c", Lsn(9), 1, &[], NOW),
        None,
        "somebody else was chosen"
    );
    let active = chosen.publish("b", Lsn(9), 1, &[], NOW).expect("it was chosen");
    assert!(active.is_active("b") && active.timeline == 2 && active.campaign.is_none());
    assert_eq!(
        active.lineage,
        [Ancestor {
            timeline: 1,
            ended: Lsn(9)
        }]
    );
    assert_eq!(active.names("b"), "ANY 1 (ha_a_e2, ha_c_e2)");
}

#[test]
fn a_switchover_ends_done_or_undone_and_says_so() {
    assert_eq!(term().begin_switch(switch("a")), None, "it leads already");
    let begun = term().begin_switch(switch("b")).expect("active");
    assert_eq!(begun.begin_switch(switch("c")), None, "one at a time");
    let undone = begun.undo_switch("a", "b is behind", NOW).expect("it was begun");
    assert_eq!((undone.epoch, undone.phase), (1, Phase::Active));
    assert_eq!(undone.last_switch.map(|it| it.outcome), Some(SwitchOutcome::Undone));
    let handed = begun.hand_over(at(1, 9), at(1, 9), NOW).expect("it was begun");
    assert_eq!((handed.epoch, handed.chosen().map(String::as_str)), (2, Some("b")));
    let done = handed.publish("b", Lsn(9), 1, &[], NOW).expect("it was chosen");
    assert_eq!(done.last_switch.map(|it| it.outcome), Some(SwitchOutcome::Done));
    let came_between = begun.campaign(campaign(Reason::PrimaryDown));
    assert_eq!(
        came_between.last_switch.map(|it| it.outcome),
        Some(SwitchOutcome::Undone)
    );
    assert!(came_between.automatic.len() == 1 && handed.automatic.is_empty());
}

#[test]
fn a_leader_is_one_of_its_voters() {
    let two = term().with_voters(nodes(&["a", "b"]), 1, "a", NOW);
    let handed = two
        .begin_switch(switch("c"))
        .and_then(|it| it.hand_over(at(1, 9), at(1, 9), NOW));
    let active = handed
        .and_then(|it| it.publish("c", Lsn(9), 1, &[], NOW))
        .expect("handed over");
    assert_eq!((active.voters, active.acks), (nodes(&["a", "b", "c"]), 1));
    let alone = term().with_voters(nodes(&["a"]), 0, "a", NOW);
    let handed = alone
        .begin_switch(switch("b"))
        .and_then(|it| it.hand_over(at(1, 9), at(1, 9), NOW));
    let active = handed
        .and_then(|it| it.publish("b", Lsn(9), 1, &[], NOW))
        .expect("handed over");
    assert_eq!((active.voters, active.acks), (nodes(&["b"]), 0));
}

#[test]
fn who_wrote_beyond_the_fork_cannot_follow() {
    let lineage = [
        Ancestor {
            timeline: 1,
            ended: Lsn(100),
        },
        Ancestor {
            timeline: 3,
            ended: Lsn(200),
        },
    ];
    assert_eq!(diverged(at(5, 900), 5, &lineage), None);
    assert_eq!(diverged(at(1, 100), 5, &lineage), None);
    assert_eq!(diverged(at(3, 150), 5, &lineage), None);
    assert!(diverged(at(1, 101), 5, &lineage).is_some());
    // The second timeline was another's, although it has less.
    assert!(diverged(at(2, 50), 5, &lineage).is_some());
}

#[test]
fn a_term_survives_being_written_down() {
    let term = term()
        .begin_switch(switch("b"))
        .and_then(|it| it.hand_over(at(1, 9), at(1, 9), NOW))
        .expect("handed over");
    let text = serde_json::to_string(&term).expect("plain data");
    assert_eq!(serde_json::from_str::<Term>(&text).expect("the same"), term);
}

/// Each acknowledged commit is on `acks + 1` voters, so whoever seals `seals_needed` of them meets it.
#[test]
fn every_sealed_quorum_meets_every_acknowledged_commit() {
    for voters in 1..=6 {
        for acks in 0..voters {
            let sets = || 0u32..1 << voters;
            let with = |least: usize| sets().filter(move |set| set.count_ones() as usize >= least);
            for has in with(acks + 1) {
                assert!(with(seals_needed(voters, acks)).all(|sealed| has & sealed != 0));
            }
        }
    }
}

proptest! {
    #[test]
    fn the_furthest_is_a_voter_that_nobody_is_ahead_of(positions in proptest::collection::vec((1u32..4, 0u64..4), 1..6), voters in any::<u8>()) {
        let sealed: BTreeMap<Node, Position> = positions.iter().enumerate().map(|(i, (t, l))| (i.to_string(), at(*t, *l))).collect();
        let voters: BTreeSet<Node> = (0..positions.len()).filter(|i| voters & (1 << i) != 0).map(|i| i.to_string()).collect();
        let best = furthest(&voters, &sealed);
        prop_assert_eq!(best.is_empty(), voters.is_empty());
        for node in best {
            prop_assert!(voters.contains(node));
            prop_assert!(voters.iter().all(|other| sealed[other] <= sealed[node]));
        }
    }
}
