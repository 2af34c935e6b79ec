//! The order in which voters and names change.

use super::*;

#[test]
fn a_voter_to_be_rebuilt_is_dropped_behind_a_barrier_and_added_again_when_it_streams() {
    let mut facts = facts("a");
    facts.store.members.get_mut("c").expect("there").member.need = Some(Need {
        copy: false,
        why: "diverged".into(),
    });
    facts.database.senders.pop();
    let without = "ANY 1 (ha_b_e1)".to_owned();
    assert_eq!(actions(&facts), [Action::SetNames { names: without.clone() }]);
    facts.database.names = Some(without.clone());
    assert_eq!(actions(&facts), [Action::TakeBarrier { names: without.clone() }]);
    facts.barrier = Some(Barrier {
        names: without.clone(),
        lsn: Lsn(101),
    });
    assert_eq!((actions(&facts), blocked(&facts)), (vec![], "ha::sync::barrier"));
    facts.database.senders[0].flushed = Some(Lsn(101));
    let set = |names: &[&str], acks, joins: Option<&str>| Action::SetVoters {
        voters: nodes(names),
        acks,
        joins: joins.map(str::to_owned),
    };
    assert_eq!(actions(&facts), [set(&["a", "b"], 1, None)]);
    facts.store.term.as_mut().expect("there").voters = nodes(&["a", "b"]);
    assert_eq!(actions(&facts), []);
    facts.store.members.get_mut("c").expect("there").member.need = None;
    facts.database.senders.push(sender("c", 1));
    assert_eq!(actions(&facts), [set(&["a", "b", "c"], 1, Some("c"))]);
    facts.store.term.as_mut().expect("there").voters = nodes(&["a", "b", "c"]);
    assert_eq!(
        actions(&facts),
        [Action::SetNames {
            names: term().names("a")
        }]
    );
}

#[test]
fn falling_back_is_published_before_it_is_done_and_coming_back_after() {
    let mut facts = facts("a");
    facts.store.term.as_mut().expect("there").mode = SyncMode::Degrade;
    facts.database.senders.clear();
    facts.lease.left = Some(2 * SECOND);
    facts.database.waiting_for = Some(14 * SECOND);
    assert_eq!(actions(&facts), []);
    facts.database.waiting_for = Some(15 * SECOND);
    let alone = Action::SetVoters {
        voters: nodes(&["a"]),
        acks: 0,
        joins: None,
    };
    assert_eq!(actions(&facts), [alone]);
    let term = facts.store.term.as_mut().expect("there");
    (term.voters, term.acks) = (nodes(&["a"]), 0);
    assert_eq!(actions(&facts), [Action::SetNames { names: String::new() }]);
    facts.database.names = Some(String::new());
    assert_eq!(actions(&facts), []);
    assert_eq!(decide(&facts).alerts.first().map(|it| it.0), Some("SyncDegraded"));
    facts.database.senders = vec![sender("b", 1)];
    let names = "ANY 1 (ha_b_e1)".to_owned();
    assert_eq!(actions(&facts), [Action::SetNames { names: names.clone() }]);
    facts.database.names = Some(names.clone());
    assert_eq!(actions(&facts), [Action::TakeBarrier { names: names.clone() }]);
    facts.barrier = Some(Barrier { names, lsn: Lsn(100) });
    let both = Action::SetVoters {
        voters: nodes(&["a", "b"]),
        acks: 1,
        joins: Some("b".into()),
    };
    assert_eq!(actions(&facts), [both]);
}

#[test]
fn names_are_changed_only_when_nothing_is_on_its_way_to_the_store() {
    let mut facts = facts("a");
    facts.store.affirmed = false;
    facts.database.names = Some("ANY 1 (ha_b_e1)".into());
    let again = Action::SetVoters {
        voters: nodes(&["a", "b", "c"]),
        acks: 1,
        joins: None,
    };
    assert_eq!(actions(&facts), [again]);
    facts.store.affirmed = true;
    assert_eq!(
        actions(&facts),
        [Action::SetNames {
            names: term().names("a")
        }]
    );
}

#[test]
fn whoever_leaves_the_mode_without_acknowledgements_waits_for_one_replica_first() {
    let mut facts = facts("a");
    let term = facts.store.term.as_mut().expect("there");
    (term.voters, term.acks) = (nodes(&["a"]), 0);
    facts.database.names = Some(String::new());
    let names = "ANY 1 (ha_b_e1)".to_owned();
    assert_eq!(actions(&facts), [Action::SetNames { names }]);
}
