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
    let set = |names: &[&str], acks| Action::SetVoters {
        voters: nodes(names),
        acks,
    };
    assert_eq!(actions(&facts), [set(&["a", "b"], 1)]);
    facts.store.term.as_mut().expect("there").voters = nodes(&["a", "b"]);
    assert_eq!(actions(&facts), []);
    facts.store.members.get_mut("c").expect("there").member.need = None;
    facts.database.senders.push(sender("c", 1));
    assert_eq!(actions(&facts), [set(&["a", "b", "c"], 1)]);
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
    };
    assert_eq!(actions(&facts), [both]);
}
