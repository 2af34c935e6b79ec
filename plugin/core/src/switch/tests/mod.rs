//! Three regions, one database server each; us-db-1 leads epoch 7.

mod findings;
mod preflight;
mod progress;
mod witness;

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

use super::*;
use crate::{
    agreement::{Follows, Lease, Member, Term, Verdict},
    lsn::{Lsn, Position},
    model::{FailoverPolicy, SyncMode, TimingProfile},
    report::{DatabaseReport, DatabaseState, NodeReport, NodeRole, Sender, StoreReport},
};

const NODES: [(&str, &str); 3] = [
    ("us-db-1", "us-east"),
    ("eu-db-1", "eu-central"),
    ("asia-db-1", "asia-southeast"),
];
const END: u64 = 0x500_0000;

fn now() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().expect("a moment")
}

fn at(lsn: u64) -> Position {
    Position {
        timeline: 7,
        lsn: Lsn(lsn),
    }
}

fn term() -> Term {
    let data = NODES.iter().map(|(node, _)| (*node).to_owned()).collect();
    Term::first("us-db-1", 7, data, SyncMode::Strict, Vec::new(), now())
}

fn member(node: &str, region: &str, leader: bool) -> Member {
    Member {
        region: region.into(),
        node: node.into(),
        beat: 1,
        at: now(),
        state: DatabaseState::Running,
        detail: None,
        role: Some(if leader { NodeRole::Primary } else { NodeRole::Replica }),
        position: Some(at(END)),
        replayed: Some(Lsn(END)),
        promised: 7,
        sealed: None,
        follows: (!leader).then(|| Follows {
            node: "us-db-1".into(),
            epoch: 7,
            streaming: true,
        }),
        checkpointed: Some(7),
        need: None,
        stopped: false,
        restarting: false,
        votes: NODES
            .iter()
            .map(|(node, _)| ((*node).to_owned(), Verdict::Up))
            .collect(),
        doing: None,
        blocked: None,
        version: "0.1.0".into(),
        settings: "same".into(),
    }
}

fn report(node: &str, region: &str, leader: bool) -> NodeReport {
    let sender = |node: &str| Sender {
        node: node.into(),
        application_name: crate::agent::epoch_stream_name(node, 7),
        epoch: Some(7),
        state: "streaming".into(),
        sync_state: "quorum".into(),
        flushed: Some(Lsn(END)),
        replayed: Some(Lsn(END)),
        silence: Some(Duration::from_millis(100)),
    };
    NodeReport {
        workspace: "shop".into(),
        region: region.into(),
        node: node.into(),
        sampled_at: now(),
        age: Duration::from_millis(10),
        database: DatabaseReport {
            state: DatabaseState::Running,
            detail: None,
            role: Some(if leader { NodeRole::Primary } else { NodeRole::Replica }),
            system_identifier: None,
            timeline: Some(7),
            written: leader.then_some(Lsn(END)),
            received: (!leader).then_some(Lsn(END)),
            replayed: (!leader).then_some(Lsn(END)),
            upstream_silence: (!leader).then_some(Duration::from_millis(100)),
            upstream: (!leader).then(|| "us-db-1".into()),
            replay_paused: false,
            senders: if leader {
                vec![sender("eu-db-1"), sender("asia-db-1")]
            } else {
                Vec::new()
            },
            slots: Vec::new(),
            started_at: None,
            connections: None,
            names: None,
            control_timeline: None,
            waiting: 0,
            weak_roles: Vec::new(),
        },
        samples: Vec::new(),
        store: StoreReport::default(),
        guard_version: "0.1.0".into(),
        agreement: None,
    }
}

fn world() -> World {
    let nodes = NODES.iter().zip(0..).map(|((node, region), priority)| {
        let leader = *node == "us-db-1";
        let facts = NodeFacts {
            region: (*region).into(),
            data: true,
            priority,
            forbidden: None,
            member: Some(member(node, region, leader)),
            report: Ok(report(node, region, leader)),
            vitals: Ok(Vitals {
                major: 15,
                settings: BTreeMap::from([("max_connections".into(), 100)]),
                free_bytes: Some(10 << 30),
                ..Vitals::default()
            }),
            off: false,
        };
        ((*node).to_owned(), facts)
    });
    World {
        now: now(),
        term: term(),
        lease: Some(Lease {
            epoch: 7,
            node: "us-db-1".into(),
            counter: 3,
            written: Some(at(END)),
            sent_at: now(),
        }),
        pause: None,
        nodes: nodes.collect(),
        timing: TimingProfile::Near.timing(),
        policy: FailoverPolicy::default(),
        broken_timing: Vec::new(),
        last_history: 7,
    }
}

impl World {
    fn node(&mut self, node: &str) -> &mut NodeFacts {
        self.nodes.get_mut(node).expect("is there")
    }

    fn member(&mut self, node: &str) -> &mut Member {
        self.node(node).member.as_mut().expect("has one")
    }

    fn database(&mut self, node: &str) -> &mut DatabaseReport {
        &mut self.node(node).report.as_mut().expect("answers").database
    }

    fn vitals(&mut self, node: &str) -> &mut Vitals {
        self.node(node).vitals.as_mut().expect("answers")
    }

    /// The region of the primary is gone, and the others say so.
    fn lose_the_primary(&mut self) {
        self.node("us-db-1").report = Err("its guard did not answer: connection refused".into());
        for node in ["eu-db-1", "asia-db-1"] {
            self.member(node).votes.insert("us-db-1".into(), Verdict::Down);
        }
    }
}
