//! The table of protocol §11, row by row: one cluster of three, seen by one of its guards.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;

use super::*;
use crate::{
    agreement::{
        AcceptLoss, Campaign, FENCED_NAMES, Lease, Member, Need, Pause, Phase, Reason, Sealed, Switch, Term, Verdict,
    },
    lsn::{Lsn, Position},
    model::{FailoverPolicy, SyncMode, TimingProfile},
    report::{DatabaseState, NodeRole},
};

mod campaign;
mod rejoin;
mod voters;

const SECOND: Duration = Duration::from_secs(1);

fn at(timeline: u32, lsn: u64) -> Position {
    Position {
        timeline,
        lsn: Lsn(lsn),
    }
}

fn nodes(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|it| (*it).to_owned()).collect()
}

/// Epoch 1, `a` leads, all stream, strict.
fn term() -> Term {
    Term::first(
        "a",
        1,
        nodes(&["a", "b", "c"]),
        SyncMode::Strict,
        Vec::new(),
        Timestamp::UNIX_EPOCH,
    )
}

fn sealing(chosen: Option<&str>) -> Term {
    let campaign = Campaign {
        by: "b".into(),
        reason: Reason::PrimaryDown,
        detail: "2 of 3 observers say that a is down".into(),
        automatic: true,
        started_at: Timestamp::UNIX_EPOCH,
        accept_loss: None,
        wanted: None,
        sealed: BTreeMap::new(),
        chosen: chosen.map(str::to_owned),
        op: None,
    };
    term().campaign(campaign)
}

fn member(node: &str) -> Seen {
    Seen {
        member: Member {
            region: format!("region-{node}"),
            node: node.into(),
            beat: 1,
            at: Timestamp::UNIX_EPOCH,
            state: DatabaseState::Running,
            detail: None,
            role: Some(if node == "a" {
                NodeRole::Primary
            } else {
                NodeRole::Replica
            }),
            position: Some(at(1, 100)),
            replayed: None,
            promised: 1,
            sealed: None,
            follows: None,
            checkpointed: Some(1),
            need: None,
            stopped: false,
            restarting: false,
            votes: BTreeMap::new(),
            doing: None,
            blocked: None,
            version: String::new(),
            settings: String::new(),
        },
        age: Duration::ZERO,
    }
}

fn sender(node: &str, epoch: u64) -> SenderView {
    SenderView {
        node: node.into(),
        epoch: Some(epoch),
        streaming: true,
        counted: true,
        flushed: Some(Lsn(100)),
        silence: Some(Duration::ZERO),
    }
}

/// All is well, and `me` looks.
fn facts(me: &str) -> Facts {
    let node = |name: &str, priority| {
        let it = NodeSettings {
            region: format!("region-{name}"),
            data: true,
            priority,
            forbidden: None,
        };
        (name.to_owned(), it)
    };
    let primary = me == "a";
    Facts {
        settings: Settings {
            me: me.into(),
            nodes: BTreeMap::from([node("a", 0), node("b", 10), node("c", 20)]),
            timing: TimingProfile::Near.timing(),
            policy: FailoverPolicy::default(),
            mode: SyncMode::Strict,
        },
        store: StoreView {
            answers: true,
            silence: Duration::ZERO,
            went_back: None,
            term: Some(term()),
            affirmed: true,
            term_age: 60 * SECOND,
            active_for: 60 * SECOND,
            sealing_for: Duration::ZERO,
            lease: Some(Lease {
                epoch: 1,
                node: "a".into(),
                counter: 7,
                written: Some(at(1, 100)),
                sent_at: Timestamp::UNIX_EPOCH,
            }),
            lease_age: Duration::ZERO,
            pause: None,
            members: ["a", "b", "c"].map(|it| (it.to_owned(), member(it))).into(),
            automatic_today: 0,
            founder: false,
            switch_left: None,
        },
        promise: Promise {
            epoch: 1,
            promoted: u64::from(primary),
        },
        database: Database {
            process: Process::Running,
            role: Some(if primary { NodeRole::Primary } else { NodeRole::Replica }),
            position: Some(at(1, 100)),
            replayed: Some(Lsn(100)),
            sealed: None,
            follows: (!primary).then(|| ("a".to_owned(), 1)),
            streaming: !primary,
            names: Some(if primary {
                term().names("a")
            } else {
                FENCED_NAMES.to_owned()
            }),
            senders: if primary {
                vec![sender("b", 1), sender("c", 1)]
            } else {
                Vec::new()
            },
            waiting_for: None,
            checkpointed: Some(1),
            need: None,
            permit: Some(1),
        },
        lease: if primary {
            Holding {
                epoch: 1,
                left: Some(2 * SECOND),
                sent: Some(Duration::from_millis(100)),
            }
        } else {
            Holding::default()
        },
        votes: ["a", "b", "c"].map(|it| (it.to_owned(), Verdict::Up)).into(),
        barrier: None,
        busy: None,
    }
}

fn with_term(mut facts: Facts, term: Term) -> Facts {
    facts.store.term = Some(term);
    facts
}

fn actions(facts: &Facts) -> Vec<Action> {
    decide(facts).acts.into_iter().map(|act| act.action).collect()
}

fn blocked(facts: &Facts) -> &'static str {
    decide(facts).blocked.map_or("", |it| it.code)
}

fn stopped(since: Duration) -> Process {
    Process::Stopped {
        since,
        clean: false,
        standby: false,
    }
}

/// `b` and its member say that `a` is down.
fn down(mut facts: Facts) -> Facts {
    facts.votes.insert("a".into(), Verdict::Down);
    for seen in facts.store.members.values_mut() {
        seen.member.votes.insert("a".into(), Verdict::Down);
    }
    facts
}

#[test]
fn when_all_is_well_nothing_is_done() {
    for node in ["a", "b", "c"] {
        let decision = decide(&facts(node));
        assert_eq!(decision.acts, [], "{node}");
        assert_eq!(decision.blocked, None, "{node}");
        assert_eq!(decision.serve.primary, node == "a");
        assert_eq!(decision.serve.replica, node != "a");
        assert_eq!(decision.allowed.is_some(), node == "a");
    }
}

#[test]
fn the_lease_is_renewed_when_it_is_time_also_in_a_new_epoch() {
    let mut facts = facts("a");
    facts.lease.sent = Some(SECOND);
    assert_eq!(actions(&facts), [Action::Renew]);
    facts.lease.sent = Some(Duration::ZERO);
    facts.lease.epoch = 0;
    assert_eq!(actions(&facts), [Action::Renew]);
}

#[test]
fn a_store_that_went_back_freezes_everything_but_a_primary_whose_replicas_stream() {
    let mut facts = down(facts("a"));
    facts.promise = Promise { epoch: 5, promoted: 5 };
    let decision = decide(&facts);
    assert_eq!(
        decision.blocked.as_ref().map(|it| it.code),
        Some("ha::store::went_back")
    );
    assert_eq!(decision.alerts.first().map(|it| it.0), Some("StoreWentBack"));
    facts.database.senders = vec![sender("b", 5)];
    assert!(decide(&facts).serve.primary);
    let mut replica = down(super::tests::facts("b"));
    replica.store.went_back = Some("revision 3 after revision 9".into());
    assert_eq!(actions(&replica), []);
}

#[test]
fn a_second_primary_is_fenced_and_one_that_no_campaign_made_is_disowned() {
    let mut facts = facts("b");
    facts.database.role = Some(NodeRole::Primary);
    facts.database.position = Some(at(2, 200));
    assert_eq!(actions(&facts), [Action::Disown]);
    facts.promise.promoted = 2;
    facts.promise.epoch = 1;
    assert_eq!(actions(&facts), [Action::Fence]);
    assert!(!decide(&facts).serve.primary);
    facts.store.pause = Some(pause());
    assert_eq!(actions(&facts), []);
    facts.database.names = Some(String::new());
    assert_eq!(actions(&facts), [Action::Fence]);
    assert_eq!(
        decide(&facts).alerts.first().map(|it| it.0),
        Some("PrimaryElectionConflict")
    );
}

fn pause() -> Pause {
    Pause {
        by: "ops".into(),
        why: "maintenance".into(),
        since: Timestamp::UNIX_EPOCH,
        until: None,
    }
}

#[test]
fn a_primary_without_lease_goes_on_while_replicas_of_its_epoch_stream_and_is_fenced_otherwise() {
    let mut facts = facts("a");
    facts.lease.left = None;
    facts.store.answers = false;
    assert!(decide(&facts).serve.primary);
    assert!(!actions(&facts).contains(&Action::Fence));
    facts.database.senders = vec![sender("b", 0)];
    assert!(actions(&facts).contains(&Action::Fence));
    assert!(!decide(&facts).serve.primary);
    // A replica that says nothing any more proves nothing.
    facts.database.senders = vec![SenderView {
        silence: Some(4 * SECOND),
        ..sender("b", 1)
    }];
    assert!(actions(&facts).contains(&Action::Fence));
    // Under pause nobody can campaign, so a strict primary is left alone.
    facts.store.pause = Some(pause());
    assert!(!actions(&facts).contains(&Action::Fence));
}

#[test]
fn where_commits_wait_for_nobody_the_lease_alone_counts() {
    let mut facts = facts("a");
    let mut term = term();
    (term.acks, term.voters, term.mode) = (0, nodes(&["a"]), SyncMode::Async);
    facts.database.names = Some(String::new());
    let mut facts = with_term(facts, term);
    facts.lease.left = None;
    assert!(actions(&facts).contains(&Action::Fence));
    facts.store.pause = Some(pause());
    assert!(actions(&facts).contains(&Action::Fence), "also under pause");
}

#[test]
fn a_leader_whose_database_ended_restarts_it_and_steps_down_when_that_takes_too_long() {
    let mut facts = facts("a");
    facts.database.process = stopped(SECOND);
    facts.database.role = None;
    let names = term().names("a");
    // Others are told before it starts, or they could take it for stopped.
    facts.store.members.get_mut("a").expect("there").member.stopped = true;
    assert!(actions(&facts).is_empty() && decide(&facts).may_write);
    facts.store.members.get_mut("a").expect("there").member.stopped = false;
    assert_eq!(actions(&facts), [Action::StartPrimary { names: names.clone() }]);
    // What this guard sent before it was restarted may still arrive.
    facts.store.affirmed = false;
    let fenced = Action::StartPrimary {
        names: FENCED_NAMES.to_owned(),
    };
    assert_eq!(actions(&facts), [fenced]);
    facts.store.affirmed = true;
    facts.database.process = stopped(6 * SECOND);
    assert!(matches!(
        actions(&facts)[..],
        [Action::Campaign {
            reason: Reason::DatabaseGone,
            ..
        }]
    ));
    // Nobody else is there: going on trying is all that is left.
    facts.store.members.retain(|node, _| node == "a");
    assert_eq!(actions(&facts), [Action::StartPrimary { names }]);
    facts.store.answers = false;
    assert_eq!(blocked(&facts), "ha::store::silent");
}

#[test]
fn busy_with_the_database_only_the_store_is_spoken_to_and_a_fence_does_not_wait() {
    let mut facts = facts("a");
    facts.busy = Some(Job::Names);
    facts.lease.sent = Some(SECOND);
    facts.database.names = Some(FENCED_NAMES.into());
    assert_eq!(actions(&facts), [Action::Renew]);
    facts.lease.left = None;
    facts.database.senders.clear();
    assert_eq!(actions(&facts), [Action::Renew, Action::Fence]);
}

#[test]
fn a_switchover_is_handed_over_by_the_leader_or_undone_and_nobody_else_hurries() {
    let switch = Switch {
        op: "1".into(),
        to: "b".into(),
        by: "ops".into(),
        started_at: Timestamp::UNIX_EPOCH,
        until: Timestamp::UNIX_EPOCH,
    };
    let term = term().begin_switch(switch).expect("active");
    assert_eq!(term.phase, Phase::Switching);
    let mut facts = with_term(facts("a"), term.clone());
    facts.store.switch_left = Some(5 * SECOND);
    assert_eq!(actions(&facts), [Action::HandOver { to: "b".into() }]);
    facts.store.switch_left = Some(Duration::ZERO);
    assert_eq!(actions(&facts), [Action::UndoSwitch]);
    facts.database.process = stopped(SECOND);
    facts.database.role = None;
    assert_eq!(actions(&facts), [Action::UndoSwitch]);
    facts.busy = Some(Job::HandOver);
    assert_eq!(actions(&facts), []);
    assert!(decide(&facts).may_write, "whoever sees it stopped waits");
    let mut other = with_term(down(super::tests::facts("b")), term);
    other.store.switch_left = Some(5 * SECOND);
    assert_eq!(actions(&other), []);
    other.store.members.get_mut("a").expect("there").age = 10 * SECOND;
    assert_eq!(actions(&other).len(), 1);
}

#[test]
fn a_new_cluster_gets_its_first_term_from_its_maker() {
    let mut facts = facts("a");
    facts.store.term = None;
    assert_eq!(actions(&facts), []);
    facts.store.founder = true;
    assert_eq!(actions(&facts), [Action::Found]);
    facts.database.process = stopped(SECOND);
    facts.database.role = None;
    let names = FENCED_NAMES.to_owned();
    assert_eq!(actions(&facts), [Action::StartPrimary { names }]);
}
