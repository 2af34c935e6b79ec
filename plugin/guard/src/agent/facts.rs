//! What a decision rests on, put together from what each task knows. Pure: nobody is asked here.

use std::{collections::BTreeMap, time::Duration};

use ha_core::{
    agent::GuardConfig,
    agreement::{Epoch, Need, Node, Sealed, Verdict},
    decide::{Barrier, Database, Facts, Holding, Job, NodeSettings, Process, Promise, SenderView, Settings, StoreView},
    lsn::Position,
    report::{DatabaseReport, DatabaseState, NodeRole, Sender},
};

/// The database of this node, as it was in one moment.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    /// None while nothing may be decided: not looked at yet, or nothing to be touched.
    pub(super) process: Option<Process>,
    pub(super) pid: Option<i32>,
    /// What the process that runs now said last, and whether that was just now.
    pub(super) report: Option<DatabaseReport>,
    pub(super) fresh: bool,
    pub(super) age: Duration,
    pub(super) follows: Option<(Node, Epoch)>,
    /// Stopped: where that ended.
    pub(super) at_rest: Option<Position>,
    pub(super) sealed: Option<Sealed>,
    pub(super) need: Option<Need>,
    pub(super) barrier: Option<Barrier>,
    pub(super) permit: Option<Epoch>,
    /// Since a commit of our own was sent that was not answered.
    pub(super) canary: Option<Duration>,
    pub(super) state: DatabaseState,
    pub(super) detail: Option<String>,
}

/// What does not change while the guard runs.
pub(super) fn settings(config: &GuardConfig) -> Settings {
    let nodes = config.failover.nodes.iter().map(|it| {
        let settings = NodeSettings {
            region: it.region.clone(),
            data: it.data,
            priority: it.priority,
            forbidden: it.forbidden.clone(),
        };
        (it.node.clone(), settings)
    });
    Settings {
        me: config.node.clone(),
        nodes: nodes.collect(),
        timing: config.failover.timing,
        policy: config.failover.policy,
        mode: config.failover.sync_mode,
    }
}

/// What this guard knows beside its database.
pub(super) struct Around {
    pub(super) store: StoreView,
    pub(super) promise: Promise,
    pub(super) lease: Holding,
    pub(super) votes: BTreeMap<Node, Verdict>,
    pub(super) busy: Option<Job>,
}

/// None while nothing may be decided.
pub(super) fn assemble(settings: &Settings, around: Around, snapshot: &Snapshot) -> Option<Facts> {
    let process = snapshot.process?;
    Some(Facts {
        settings: settings.clone(),
        store: around.store,
        promise: around.promise,
        database: database(settings, process, snapshot),
        lease: around.lease,
        votes: around.votes,
        barrier: snapshot.barrier.clone(),
        busy: around.busy,
    })
}

fn database(settings: &Settings, process: Process, snapshot: &Snapshot) -> Database {
    let report = snapshot.report.as_ref().filter(|_| process == Process::Running);
    // Of what it was nothing holds now; how far its log goes holds for good.
    let now = report.filter(|_| snapshot.fresh);
    let role = now.and_then(|it| it.role);
    let position = match report {
        Some(report) => position(report),
        None => snapshot.at_rest,
    };
    let patience = settings.timing.sender_patience();
    let age = snapshot.age;
    let waiting = now.is_some_and(|it| it.waiting > 0);
    Database {
        process,
        role,
        position,
        replayed: report.and_then(|it| it.replayed),
        sealed: snapshot.sealed,
        follows: snapshot.follows.clone().filter(|_| role == Some(NodeRole::Replica)),
        streaming: now.is_some_and(|it| it.upstream_silence.is_some_and(|silence| silence + age <= patience)),
        names: now.and_then(|it| it.names.clone()),
        senders: now.map_or_else(Vec::new, |it| it.senders.iter().map(|it| sender(it, age)).collect()),
        waiting_for: snapshot.canary.filter(|_| waiting),
        checkpointed: report.and_then(|it| it.control_timeline),
        need: snapshot.need.clone(),
        permit: snapshot.permit.filter(|_| snapshot.pid.is_some()),
    }
}

/// All the log that it has.
pub(super) fn position(report: &DatabaseReport) -> Option<Position> {
    let lsn = match report.role? {
        NodeRole::Primary => report.written?,
        NodeRole::Replica => report.received?,
    };
    Some(Position {
        timeline: report.timeline?,
        lsn,
    })
}

fn sender(sender: &Sender, age: Duration) -> SenderView {
    SenderView {
        node: sender.node.clone(),
        epoch: sender.epoch,
        streaming: sender.state == "streaming",
        counted: matches!(sender.sync_state.as_str(), "sync" | "quorum"),
        flushed: sender.flushed,
        silence: sender.silence.map(|silence| silence + age),
    }
}
