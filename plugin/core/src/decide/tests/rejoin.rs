//! Who follows a new primary, and who must be rebuilt first.

use super::*;

fn epoch_two(node: &str, position: Position) -> Facts {
    let term = sealing(Some("b"))
        .publish("b", Lsn(100), 1, &[], Timestamp::UNIX_EPOCH)
        .expect("chosen");
    let mut facts = with_term(facts(node), term);
    let leader = &mut facts.store.members.get_mut("b").expect("there").member;
    (leader.role, leader.checkpointed) = (Some(NodeRole::Primary), Some(2));
    facts.database.role = Some(NodeRole::Replica);
    facts.database.position = Some(position);
    facts.database.follows = None;
    facts
}

#[test]
fn a_replica_follows_the_new_primary_only_if_all_it_has_is_its_log_too() {
    let follow = Action::Follow {
        node: "b".into(),
        epoch: 2,
    };
    assert_eq!(actions(&epoch_two("c", at(1, 100))), std::slice::from_ref(&follow));
    let facts = epoch_two("c", at(1, 101));
    // Others must have been told before anything is thrown away.
    assert_eq!((actions(&facts), blocked(&facts)), (vec![], ""));
    let mut facts = facts;
    facts.store.members.get_mut("c").expect("there").member.need = decide(&facts).need;
    // Nobody else streams, so it would never be dropped: nothing is acknowledged before it is back.
    assert_eq!(actions(&facts).len(), 1);
    facts.store.members.get_mut("a").expect("there").member.follows = Some(crate::agreement::Follows {
        node: "b".into(),
        epoch: 2,
        streaming: true,
    });
    assert_eq!((actions(&facts), blocked(&facts)), (vec![], "ha::rejoin::voter"));
    assert!(decide(&facts).need.is_some_and(|need| !need.copy));
    let mut dropped = facts;
    dropped.store.term.as_mut().expect("there").voters.remove("c");
    let rebuild = |copy| Action::Rebuild { from: "b".into(), copy };
    assert_eq!(actions(&dropped), [rebuild(false)]);
    dropped.store.members.get_mut("b").expect("there").member.checkpointed = Some(1);
    assert_eq!(blocked(&dropped), "ha::rejoin::checkpoint");
    dropped.database.need = Some(Need {
        copy: true,
        why: "rewind failed".into(),
    });
    assert_eq!(actions(&dropped), [rebuild(true)]);
    dropped.database.process = Process::Ruined;
    assert_eq!(actions(&dropped), [rebuild(true)]);
}

#[test]
fn an_old_primary_comes_back_sealed_and_an_empty_node_as_a_copy() {
    let mut facts = epoch_two("a", at(1, 100));
    facts.database.process = stopped(SECOND);
    facts.database.role = None;
    assert_eq!(actions(&facts), [Action::StartSealed]);
    facts.database.process = Process::Absent;
    assert_eq!(actions(&facts), [Action::Copy { from: "b".into() }]);
    facts.store.members.get_mut("b").expect("there").age = 10 * SECOND;
    assert_eq!(actions(&facts), []);
}

#[test]
fn what_may_be_a_primary_that_hangs_is_fenced_once_somebody_else_leads() {
    let mut facts = epoch_two("a", at(1, 100));
    facts.database.role = None;
    facts.database.permit = Some(1);
    assert_eq!(actions(&facts), [Action::Fence]);
    facts.database.permit = None;
    assert_eq!(actions(&facts), []);
}

#[test]
fn what_can_only_be_copied_is_not_started_before() {
    let mut facts = epoch_two("a", at(1, 100));
    facts.database.process = stopped(SECOND);
    facts.database.role = None;
    let need = Need {
        copy: true,
        why: "it cannot be rewound".into(),
    };
    facts.database.need = Some(need.clone());
    facts.store.members.get_mut("a").expect("there").member.need = Some(need);
    let rebuild = Action::Rebuild {
        from: "b".into(),
        copy: true,
    };
    assert_eq!(actions(&facts), [rebuild]);
    let mut sealing = with_term(facts, sealing(None));
    sealing.store.term_age = Duration::ZERO;
    assert_eq!(actions(&sealing), []);
    assert!(decide(&sealing).need.is_some());
}
