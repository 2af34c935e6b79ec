//! From the votes to the new primary.

use super::*;

#[test]
fn a_failover_needs_the_votes_of_a_majority() {
    let mut facts = facts("b");
    assert_eq!(actions(&down(facts.clone())).len(), 1);
    facts.votes.insert("a".into(), Verdict::Down);
    assert_eq!(blocked(&facts), "ha::failover::votes");
    assert_eq!(actions(&facts), []);
    // The other vote is old.
    let mut old = down(facts.clone());
    for node in ["a", "c"] {
        old.store.members.get_mut(node).expect("there").age = 10 * SECOND;
    }
    assert_eq!((actions(&old), blocked(&old)), (vec![], "ha::failover::votes"));
    // Without the store there is no vote.
    let mut away = down(facts);
    away.store.answers = false;
    assert_eq!(actions(&away), []);
}

#[test]
fn what_forbids_a_failover_is_told() {
    type Change = fn(&mut Facts);
    let cases: [(&str, Change); 8] = [
        // It was down before it was chosen.
        ("ha::failover::detecting", |it| it.store.active_for = SECOND),
        ("ha::failover::paused", |it| it.store.pause = Some(pause())),
        ("ha::failover::restarting", |it| {
            it.store.members.get_mut("a").expect("there").member.restarting = true;
        }),
        ("ha::failover::manual", |it| it.settings.policy.automatic = false),
        ("ha::failover::ack", |it| it.store.automatic_today = 3),
        ("ha::failover::cooldown", |it| it.store.automatic_today = 1),
        ("ha::failover::seals", |it| {
            it.store.members.get_mut("c").expect("there").age = 10 * SECOND;
            it.store
                .members
                .get_mut("a")
                .expect("there")
                .member
                .votes
                .insert("a".into(), Verdict::Down);
            it.store.members.get_mut("a").expect("there").member.position = None;
        }),
        ("ha::failover::candidates", |it| {
            for node in it.settings.nodes.values_mut() {
                node.forbidden = Some("no".into());
            }
        }),
    ];
    for (code, change) in cases {
        let mut facts = down(facts("b"));
        change(&mut facts);
        assert_eq!((blocked(&facts), actions(&facts)), (code, vec![]));
    }
    let mut doubled = down(facts("b"));
    (doubled.store.automatic_today, doubled.store.active_for) = (2, 400 * SECOND);
    assert_eq!(blocked(&doubled), "ha::failover::cooldown");
    doubled.store.active_for = 601 * SECOND;
    assert_eq!(actions(&doubled).len(), 1);
}

#[test]
fn without_acknowledgements_a_failover_waits_for_the_lease_or_a_fence() {
    let mut term = term();
    (term.acks, term.voters, term.mode) = (0, nodes(&["a"]), SyncMode::Async);
    let mut facts = with_term(down(facts("b")), term);
    facts.store.lease_age = 4 * SECOND;
    assert_eq!(blocked(&facts), "ha::failover::lease");
    facts.store.lease_age = 5 * SECOND;
    assert!(matches!(
        actions(&facts)[..],
        [Action::Campaign {
            compare_lease: true,
            fenced: Some(_),
            ..
        }]
    ));
    facts.store.lease.as_mut().expect("there").written = Some(at(1, 1 << 30));
    assert_eq!(blocked(&facts), "ha::failover::loss");
}

#[test]
fn in_a_campaign_everybody_seals_first_the_old_primary_too() {
    for node in ["a", "b"] {
        let facts = with_term(facts(node), sealing(None));
        assert_eq!(actions(&facts), [Action::Seal { epoch: 2 }], "{node}");
        assert!(!decide(&facts).serve.primary && decide(&facts).allowed.is_none());
    }
}

fn sealed(node: &str, seals: &[(&str, Position)], chosen: Option<&str>) -> Facts {
    let mut facts = with_term(facts(node), sealing(chosen));
    facts.promise.epoch = 2;
    facts.store.term_age = Duration::ZERO;
    for (name, position) in seals {
        let sealed = Some(Sealed {
            epoch: 2,
            position: *position,
        });
        if *name == node {
            facts.database.sealed = sealed;
            facts.database.position = Some(*position);
            facts.database.role = Some(NodeRole::Replica);
        } else {
            facts.store.members.get_mut(*name).expect("there").member.sealed = sealed;
        }
    }
    facts
}

#[test]
fn the_furthest_of_a_sealed_quorum_is_chosen_and_nobody_before() {
    assert_eq!(blocked(&sealed("b", &[("b", at(1, 100))], None)), "ha::failover::seals");
    let both = [("b", at(1, 100)), ("c", at(1, 101))];
    assert_eq!(actions(&sealed("b", &both, None)), []);
    assert!(matches!(
        actions(&sealed("c", &both, None))[..],
        [Action::Choose { .. }]
    ));
    // Among equals policy has the word, then the name.
    let equal = [("b", at(1, 100)), ("c", at(1, 100))];
    assert_eq!(actions(&sealed("c", &equal, None)), []);
    // What made the old primary be given up may be there still; of less log it is never made up by that.
    let with_old = [("a", at(1, 100)), ("b", at(1, 100))];
    assert_eq!(actions(&sealed("a", &with_old, None)), []);
    assert!(matches!(
        actions(&sealed("b", &with_old, None))[..],
        [Action::Choose { .. }]
    ));
    let behind = [("a", at(1, 101)), ("b", at(1, 100))];
    assert!(matches!(
        actions(&sealed("a", &behind, None))[..],
        [Action::Choose { .. }]
    ));
    let mut facts = sealed("c", &equal, None);
    facts.settings.nodes.get_mut("b").expect("there").forbidden = Some("no".into());
    assert!(matches!(actions(&facts)[..], [Action::Choose { .. }]));
    let mut facts = sealed("c", &equal, None);
    let campaign = facts
        .store
        .term
        .as_mut()
        .expect("there")
        .campaign
        .as_mut()
        .expect("there");
    campaign.wanted = Some("c".into());
    assert!(matches!(actions(&facts)[..], [Action::Choose { .. }]));
}

#[test]
fn a_log_that_no_campaign_made_counts_for_nothing() {
    let facts = sealed("c", &[("b", at(1, 100)), ("c", at(7, 101))], None);
    let decision = decide(&facts);
    assert_eq!(decision.acts, []);
    assert!(decision.need.is_some_and(|need| need.copy));
    let mut other = sealed("b", &[("b", at(1, 100)), ("c", at(1, 101))], None);
    other.store.members.get_mut("c").expect("there").member.need = Some(Need {
        copy: false,
        why: "diverged".into(),
    });
    assert_eq!(blocked(&other), "ha::failover::seals");
}

#[test]
fn with_accepted_loss_everybody_who_may_still_come_is_waited_for_a_while() {
    let mut facts = sealed("b", &[("b", at(1, 100))], None);
    let campaign = facts
        .store
        .term
        .as_mut()
        .expect("there")
        .campaign
        .as_mut()
        .expect("there");
    campaign.accept_loss = Some(AcceptLoss {
        by: "ops".into(),
        fenced: "powered off".into(),
    });
    assert_eq!(actions(&facts), []);
    facts.store.sealing_for = 5 * SECOND;
    assert!(matches!(actions(&facts)[..], [Action::Choose { .. }]));
    // An operator may accept any loss, an automatic failover may not.
    facts.store.lease.as_mut().expect("there").written = Some(at(1, 1 << 30));
    assert_eq!(blocked(&facts), "ha::failover::loss");
    let campaign = facts.store.term.as_mut().expect("there").campaign.as_mut();
    campaign.expect("there").automatic = false;
    assert!(matches!(actions(&facts)[..], [Action::Choose { .. }]));
    facts.store.sealing_for = Duration::ZERO;
    for node in ["a", "c"] {
        facts.store.members.get_mut(node).expect("there").age = 10 * SECOND;
    }
    assert!(matches!(actions(&facts)[..], [Action::Choose { .. }]));
}

#[test]
fn the_chosen_promotes_publishes_and_only_then_serves() {
    let mut facts = sealed("b", &[("b", at(1, 100)), ("c", at(1, 100))], Some("b"));
    let names = "ANY 1 (ha_a_e2, ha_c_e2)".to_owned();
    assert_eq!(actions(&facts), [Action::Promote { epoch: 2, names }]);
    facts.database.role = Some(NodeRole::Primary);
    facts.database.position = Some(at(2, 200));
    facts.promise.promoted = 2;
    assert_eq!(actions(&facts), [Action::Publish]);
    assert!(!decide(&facts).serve.primary);
    // Another campaign came between: the unpublished primary is sealed like any other.
    let term = facts.store.term.clone().expect("there");
    let campaign = term.campaign.clone().expect("there");
    let later = with_term(
        facts,
        term.campaign(Campaign {
            chosen: None,
            ..campaign
        }),
    );
    assert_eq!(actions(&later), [Action::Seal { epoch: 3 }]);
}

#[test]
fn a_chosen_one_that_is_gone_is_given_up() {
    let mut facts = sealed("c", &[("b", at(1, 100)), ("c", at(1, 100))], Some("b"));
    assert_eq!(actions(&facts), []);
    let mut stuck = facts.clone();
    stuck.store.term_age = 60 * SECOND;
    assert_eq!(actions(&stuck).len(), 1);
    facts.store.members.get_mut("b").expect("there").age = 10 * SECOND;
    facts.votes.insert("b".into(), Verdict::Down);
    facts
        .store
        .members
        .get_mut("a")
        .expect("there")
        .member
        .votes
        .insert("b".into(), Verdict::Down);
    assert!(matches!(
        actions(&facts)[..],
        [Action::Campaign {
            reason: Reason::Retry,
            ..
        }]
    ));
}

#[test]
fn without_acknowledgements_a_role_is_given_away_only_after_the_database_was_ended() {
    let mut term = term();
    (term.acks, term.voters, term.mode) = (0, nodes(&["a"]), SyncMode::Async);
    let mut facts = with_term(down(facts("a")), term);
    facts.database.role = None;
    assert_eq!(actions(&facts), [Action::Fence]);
    facts.database.process = stopped(6 * SECOND);
    assert!(matches!(
        actions(&facts)[..],
        [Action::Campaign { fenced: Some(_), .. }]
    ));
}

#[test]
fn a_primary_that_nobody_agreed_on_acknowledges_nothing() {
    let mut facts = sealed("b", &[("b", at(1, 100))], Some("b"));
    let term = facts.store.term.as_mut().expect("there");
    (term.acks, term.voters, term.mode) = (0, nodes(&["a"]), SyncMode::Async);
    assert_eq!(
        actions(&facts),
        [Action::Promote {
            epoch: 2,
            names: FENCED_NAMES.into(),
        }]
    );
}

#[test]
fn a_timeline_begins_once() {
    // Promoted in this epoch, stopped before it was published, and sealed again.
    let mut facts = sealed("b", &[("b", at(2, 200)), ("c", at(1, 100))], Some("b"));
    facts.promise.promoted = 2;
    assert!(matches!(
        actions(&facts)[..],
        [Action::Campaign {
            reason: Reason::Retry,
            ..
        }]
    ));
}

#[test]
fn a_primary_that_no_campaign_made_is_not_sealed_but_disowned() {
    let mut facts = with_term(facts("b"), sealing(None));
    facts.database.role = Some(NodeRole::Primary);
    facts.database.position = Some(at(2, 200));
    assert_eq!(actions(&facts), [Action::Disown]);
    facts.promise.promoted = 2;
    assert_eq!(actions(&facts), [Action::Seal { epoch: 2 }]);
}

/// A person was the witness, and no guard wrote down that this node was promoted: the store did.
#[test]
fn a_primary_that_was_made_over_sql_is_one_like_any_other() {
    let chosen = |reason| {
        let campaign = Campaign {
            reason,
            ..sealing(None).campaign.expect("one")
        };
        let term = term().campaign(campaign);
        term.choose("b", BTreeMap::new(), Timestamp::UNIX_EPOCH)
            .expect("chosen")
    };
    let as_primary = |term: Term| {
        let mut facts = with_term(facts("b"), term);
        facts.database.role = Some(NodeRole::Primary);
        facts.database.position = Some(at(2, 120));
        facts.database.follows = None;
        facts.database.permit = None;
        // Its guard has just come back.
        facts.store.term_age = Duration::ZERO;
        facts
    };
    // The shell died before it could publish.
    assert_eq!(actions(&as_primary(chosen(Reason::Witness))), [Action::Publish]);
    assert_eq!(actions(&as_primary(chosen(Reason::Operator))), [Action::Disown]);

    let published = chosen(Reason::Witness)
        .publish("b", Lsn(100), 1, &[], Timestamp::UNIX_EPOCH)
        .expect("published");
    let leads = decide(&as_primary(published.clone()));
    let conflict = leads
        .alerts
        .iter()
        .any(|(alert, _)| *alert == "PrimaryElectionConflict");
    assert!(leads.serve.primary && !conflict, "{leads:#?}");
    // In later epochs it seals, and is fenced; it is not thrown away.
    let next = published.campaign(sealing(None).campaign.expect("one"));
    assert_eq!(actions(&as_primary(next.clone())), [Action::Seal { epoch: 3 }]);
    let mut led = next
        .choose("c", BTreeMap::new(), Timestamp::UNIX_EPOCH)
        .expect("chosen");
    led = led
        .publish("c", Lsn(140), 2, &[], Timestamp::UNIX_EPOCH)
        .expect("published");
    assert!(actions(&as_primary(led)).contains(&Action::Fence));
}
