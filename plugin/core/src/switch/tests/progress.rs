use std::collections::BTreeSet;

use super::*;
use crate::agreement::{Campaign, History, Reason, Sealed, StepTook, Switch};

/// What lies in the store, changed step by step.
struct Store {
    term: Term,
    members: BTreeMap<String, Member>,
    history: Option<History>,
    clock: Duration,
}

impl Store {
    fn new() -> Self {
        let members = NODES
            .iter()
            .map(|(node, region)| ((*node).to_owned(), member(node, region, *node == "us-db-1")));
        Self {
            term: term(),
            members: members.collect(),
            history: None,
            clock: Duration::ZERO,
        }
    }

    fn member(&mut self, node: &str) -> &mut Member {
        self.members.get_mut(node).expect("is there")
    }

    /// A tenth of a second later.
    fn look(&mut self, progress: &mut Progress) -> Vec<(&'static str, String, u128)> {
        self.clock += Duration::from_millis(100);
        let seen = progress.look(self.snapshot());
        let told = seen.into_iter();
        told.map(|it| (it.step, it.node.unwrap_or_default(), it.took.as_millis()))
            .collect()
    }

    fn snapshot(&self) -> Snapshot<'_> {
        Snapshot {
            term: &self.term,
            members: &self.members,
            history: self.history.as_ref(),
            at: self.clock,
        }
    }

    fn waits(&self, progress: &Progress) -> String {
        progress.waits(self.snapshot()).map(|it| it.what).unwrap_or_default()
    }

    fn follow(&mut self, node: &str, leader: &str, epoch: u64) {
        self.member(node).follows = Some(Follows {
            node: leader.into(),
            epoch,
            streaming: true,
        });
    }
}

fn switch() -> Switch {
    Switch {
        op: "1".into(),
        to: "eu-db-1".into(),
        by: "ann".into(),
        started_at: now(),
        until: now(),
    }
}

fn expected(nodes: &[&str]) -> BTreeSet<String> {
    nodes.iter().map(|it| (*it).to_owned()).collect()
}

fn named(step: &'static str, node: &str, took: u128) -> (&'static str, String, u128) {
    (step, node.to_owned(), took)
}

#[test]
fn a_switchover_is_told_step_by_step_and_each_once() {
    let mut store = Store::new();
    store.term = store.term.begin_switch(switch()).expect("active");
    let mut progress = Progress::new(Kind::Switchover, "1", 7, "us-db-1", Some("eu-db-1"))
        .expecting(expected(&["us-db-1", "asia-db-1"]));
    assert_eq!(store.look(&mut progress), []);
    store.member("us-db-1").doing = Some("checkpoint".into());
    assert_eq!(store.waits(&progress), "us-db-1 is about to stop: checkpoint");

    store.member("us-db-1").stopped = true;
    assert_eq!(store.look(&mut progress), [named("stop", "us-db-1", 200)]);
    assert_eq!(store.look(&mut progress), []);
    assert!(store.waits(&progress).starts_with("eu-db-1 must have all of the log"));

    store.term = store.term.hand_over(at(END), at(END), now()).expect("switching");
    assert_eq!(store.look(&mut progress), [named("hand over", "us-db-1", 200)]);
    assert_eq!(store.waits(&progress), "eu-db-1 is being made primary");

    store.term = store.term.publish("eu-db-1", Lsn(END), 7, &[], now()).expect("chosen");
    store.history = Some(History {
        epoch: 8,
        node: "eu-db-1".into(),
        timeline: 8,
        start: Lsn(END),
        parent: Some(7),
        reason: Reason::Switchover,
        detail: String::new(),
        by: "ann".into(),
        sealed: BTreeMap::new(),
        lost_bytes: Some(0),
        accept_loss: false,
        op: Some("1".into()),
        at: now(),
        steps: vec![StepTook {
            step: "promote".into(),
            took: Duration::from_millis(41),
        }],
    });
    assert_eq!(
        store.look(&mut progress),
        [named("promote", "eu-db-1", 100), named("publish", "eu-db-1", 0)]
    );
    assert!(!progress.is_over());
    store.follow("asia-db-1", "eu-db-1", 8);
    assert_eq!(store.look(&mut progress), [named("follow", "asia-db-1", 100)]);
    assert_eq!(
        store.waits(&progress),
        "us-db-1 does not stream from eu-db-1 yet: checkpoint"
    );
    store.follow("us-db-1", "eu-db-1", 8);
    assert_eq!(store.look(&mut progress), [named("follow", "us-db-1", 200)]);
    assert!(progress.is_over());
    let ending = Ending::Active {
        epoch: 8,
        leader: "eu-db-1".into(),
        timeline: 8,
    };
    assert_eq!(progress.ending(), Some(&ending));
}

#[test]
fn one_that_is_undone_says_why() {
    let mut store = Store::new();
    store.term = store.term.begin_switch(switch()).expect("active");
    let mut progress = Progress::new(Kind::Switchover, "1", 7, "us-db-1", Some("eu-db-1"));
    store.term = store
        .term
        .undo_switch("us-db-1", "eu-db-1 did not get all of it in time", now())
        .expect("switching");
    assert_eq!(store.look(&mut progress), []);
    assert!(progress.is_over());
    assert!(matches!(progress.ending(), Some(Ending::Undone { why }) if why.contains("in time")));
    assert_eq!(standing(7, &store.term, None), "us-db-1 is primary as before");
    // Another one that was undone before is not this one.
    let mut other = Progress::new(Kind::Switchover, "2", 7, "us-db-1", Some("eu-db-1"));
    store.look(&mut other);
    assert!(!other.is_over());
}

#[test]
fn a_failover_that_came_between_leaves_nothing_as_before() {
    let mut store = Store::new();
    let switching = store.term.begin_switch(switch()).expect("active");
    let mut progress = Progress::new(Kind::Switchover, "1", 7, "us-db-1", Some("eu-db-1"));
    store.term = switching.campaign(Campaign {
        by: "asia-db-1".into(),
        reason: Reason::PrimaryDown,
        detail: "2 of 3 observers say that us-db-1 is down".into(),
        automatic: true,
        started_at: now(),
        accept_loss: None,
        wanted: None,
        sealed: BTreeMap::new(),
        chosen: None,
        op: None,
    });
    store.look(&mut progress);
    assert!(matches!(progress.ending(), Some(Ending::Undone { why }) if why.contains("2 of 3 observers")));
    let told = standing(7, &store.term, None);
    assert_eq!(told, "a failover came between: nobody leads epoch 8 yet");

    let chosen = store.term.choose("asia-db-1", BTreeMap::new(), now()).expect("sealing");
    store.term = chosen.publish("asia-db-1", Lsn(END), 7, &[], now()).expect("chosen");
    assert_eq!(standing(7, &store.term, None), "asia-db-1 leads epoch 8 now");
}

#[test]
fn a_look_that_comes_late_tells_everything_in_order() {
    let mut store = Store::new();
    store.term = store.term.begin_switch(switch()).expect("active");
    let mut progress = Progress::new(Kind::Switchover, "1", 7, "us-db-1", Some("eu-db-1"));
    let done = store.term.hand_over(at(END), at(END), now()).expect("switching");
    store.term = done.publish("eu-db-1", Lsn(END), 7, &[], now()).expect("chosen");
    let steps: Vec<&str> = store.look(&mut progress).iter().map(|it| it.0).collect();
    assert_eq!(steps, ["stop", "hand over", "promote", "publish"]);
    assert!(progress.is_over(), "nobody was expected to follow");
}

#[test]
fn a_failover_tells_who_sealed_and_what_is_missing() {
    let mut store = Store::new();
    store.term = store.term.campaign(Campaign {
        by: "ann".into(),
        reason: Reason::Operator,
        detail: String::new(),
        automatic: false,
        started_at: now(),
        accept_loss: None,
        wanted: None,
        sealed: BTreeMap::new(),
        chosen: None,
        op: Some("1".into()),
    });
    let mut progress = Progress::new(Kind::Failover, "1", 7, "us-db-1", None).expecting(expected(&["asia-db-1"]));
    store.member("eu-db-1").sealed = Some(Sealed {
        epoch: 8,
        position: at(END),
    });
    assert_eq!(store.look(&mut progress), [named("seal", "eu-db-1", 100)]);
    assert_eq!(store.waits(&progress), "1 of 2 seals that are needed");
    store.member("asia-db-1").sealed = Some(Sealed {
        epoch: 8,
        position: at(END),
    });
    store.term = store
        .term
        .choose("eu-db-1", BTreeMap::from([("eu-db-1".into(), at(END))]), now())
        .expect("none chosen");
    let told = store.look(&mut progress);
    assert_eq!(told, [named("seal", "asia-db-1", 100), named("choose", "eu-db-1", 0)]);
    store.member("eu-db-1").role = Some(NodeRole::Primary);
    assert_eq!(store.look(&mut progress), [named("promote", "eu-db-1", 100)]);
    store.term = store.term.publish("eu-db-1", Lsn(END), 7, &[], now()).expect("chosen");
    assert_eq!(store.look(&mut progress), [named("publish", "eu-db-1", 100)]);
    store.follow("asia-db-1", "eu-db-1", 8);
    store.look(&mut progress);
    assert!(progress.is_over(), "the old primary is not waited for");
}
