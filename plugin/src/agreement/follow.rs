//! A wish that the guards carry out, watched until it is done: each step a row as it ends, what is waited for in
//! between, and what was measured last.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use ha_core::switch::{Ending, Kind, Progress, Snapshot, Waits, standing};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Agreement, Look, Row, Writer};
use crate::{
    acts::{Act, Acts},
    error::Failed,
    nu::{Bytes, Count, MILLISECOND, to_the},
};

/// Without any step for so long, what is waited for is said.
const SAY_AFTER: Duration = Duration::from_secs(1);
/// A primary is there, and the others still do not stream: that is no part of the change any more.
const FOLLOW_WITHIN: Duration = Duration::from_secs(60);
/// For the writer to see the new primary.
const ROUTED_WITHIN: Duration = Duration::from_secs(15);
/// Between two attempts at a store that does not answer: it may be electing.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// What was swapped into `term`.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) kind: Kind,
    pub(crate) id: String,
    /// The epoch that ends, and its primary.
    pub(crate) epoch: u64,
    pub(crate) from: String,
    pub(crate) to: Option<String>,
    /// Nodes that should stream from the new primary when it is over.
    pub(crate) expected: BTreeSet<String>,
    /// Nothing more is expected of the guards then.
    pub(crate) within: Duration,
}

/// An operation under way.
pub(crate) struct Follow {
    pub(crate) agreement: Arc<Agreement>,
    pub(crate) operation: Operation,
    pub(crate) rows: mpsc::Sender<Row>,
    pub(crate) writer: Option<Writer>,
    pub(crate) cancel: CancellationToken,
    pub(crate) acts: Acts,
    /// `ha switchover`
    pub(crate) command: &'static str,
    /// Before the swap.
    pub(crate) started: Instant,
}

/// How it went, for whoever goes on from here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Active {
        leader: String,
    },
    Undone,
    /// Ctrl-C, or nothing happened for too long.
    Left,
}

impl Follow {
    /// Until it is over. A reader that is gone stops nothing: the guards go on.
    pub(crate) async fn run(mut self) -> Outcome {
        let operation = self.operation.clone();
        let to = operation.to.as_deref();
        let mut progress = Progress::new(operation.kind, &operation.id, operation.epoch, &operation.from, to)
            .expecting(operation.expected.clone());
        let mut said = Said::new(self.started);
        let mut routed = false;
        loop {
            let look = match self.look(&mut said).await {
                Some(look) => look,
                None => return self.left(&progress, None).await,
            };
            let snapshot = Snapshot {
                term: &look.term,
                members: &look.members,
                history: look.newest(),
                at: self.started.elapsed(),
            };
            let active_before = matches!(progress.ending(), Some(Ending::Active { .. }));
            for milestone in progress.look(snapshot) {
                let region = milestone.node.as_deref().and_then(|it| self.agreement.region_of(it));
                let follow = milestone.step == "follow";
                // Writes arrive before replicas follow, except where a commit waits for the first of them.
                if follow && !routed {
                    routed = true;
                    self.route(progress.ending()).await;
                }
                self.send(Row::done(milestone, region)).await;
                said.step();
            }
            if progress.is_over() {
                if !routed {
                    self.route(progress.ending()).await;
                }
                return self.end(&progress, &look).await;
            }
            if let Some(waits) = progress.waits(snapshot) {
                self.say(&mut said, waits).await;
            }
            let active = matches!(progress.ending(), Some(Ending::Active { .. }));
            if active && !active_before {
                said.active = Some(Instant::now());
            }
            let limit = match said.active {
                Some(since) => since + FOLLOW_WITHIN,
                None => self.started + operation.within,
            };
            if Instant::now() >= limit {
                return self.left(&progress, Some(&look)).await;
            }
            if !self.wait(&look).await {
                return self.left(&progress, None).await;
            }
        }
    }

    /// The next look; a store that does not answer is asked again. None when nobody waits for it any more.
    async fn look(&self, said: &mut Said) -> Option<Look> {
        loop {
            let look = tokio::select! {
                () = self.cancel.cancelled() => return None,
                look = self.agreement.look() => look,
            };
            match look {
                Ok(look) => return Some(look),
                Err(failed) => {
                    let waits = Waits {
                        step: "store",
                        node: None,
                        what: format!("the store does not answer, the guards go on as far as they can: {failed}"),
                    };
                    self.say(said, waits).await;
                    tokio::select! {
                        () = self.cancel.cancelled() => return None,
                        () = tokio::time::sleep(ASK_AGAIN) => {}
                    }
                }
            }
        }
    }

    /// Something changed, or it is time to say what is waited for. False when nobody waits for it any more.
    async fn wait(&self, look: &Look) -> bool {
        let changed = async {
            let mut watch = self.agreement.cluster.watch(look.revision).await?;
            watch.next().await
        };
        tokio::select! {
            () = self.cancel.cancelled() => false,
            changed = tokio::time::timeout(SAY_AFTER, changed) => {
                // A watch that ended is begun anew after the next look.
                if let Ok(Err(_)) = changed {
                    tokio::time::sleep(ASK_AGAIN).await;
                }
                true
            }
        }
    }

    async fn say(&self, said: &mut Said, waits: Waits) {
        if said.last.elapsed() < SAY_AFTER || said.waits.as_ref() == Some(&waits) {
            return;
        }
        let region = waits.node.as_deref().and_then(|it| self.agreement.region_of(it));
        let row = Row::new(waits.step, region, "waiting").detail(waits.what.clone());
        said.waits = Some(waits);
        self.send(row).await;
    }

    /// Writes arrive at the new primary, as the writer sees it.
    async fn route(&mut self, ending: Option<&Ending>) {
        let Some(Ending::Active { leader, .. }) = ending else {
            return;
        };
        let region = self.agreement.region_of(leader);
        let Some(writer) = &mut self.writer else { return };
        let asked = Instant::now();
        let mut returned = writer.after(asked, SAY_AFTER).await;
        if returned.is_none() {
            let what = "the first write through the balancer; in strict mode it waits for another voter, too";
            let row = Row::new("route", region.clone(), "waiting").detail(what);
            let _ = self.rows.send(row).await;
            returned = tokio::select! {
                () = self.cancel.cancelled() => return,
                returned = writer.after(asked, ROUTED_WITHIN) => returned,
            };
        }
        let row = match returned {
            Some(at) => Row::new("route", region, "done")
                .took(at.duration_since(asked))
                .detail("a write through the balancer returned"),
            None => Row {
                error: Some(format!("no write has returned for {} s", asked.elapsed().as_secs())),
                code: Some("ha::agreement::no_writes".into()),
                help: Some(
                    "see whether a voter streams (ha db voters) and who does not answer (ha health); if no voter comes \
                     back, say what may be lost: ha db sync-mode degrade"
                        .into(),
                ),
                ..Row::new("route", region, "failed")
            },
        };
        self.send(row).await;
    }

    async fn end(self, progress: &Progress, look: &Look) -> Outcome {
        let outcome = match progress.ending() {
            Some(Ending::Active { leader, .. }) => Outcome::Active { leader: leader.clone() },
            _ => Outcome::Undone,
        };
        let row = self.measured(progress, look);
        self.acts.record(Act {
            region: row.region.clone(),
            event: format!("{}.{}", self.command.trim_start_matches("ha "), row.status),
            subject: format!("database {}", look.term.leader),
            status: row.status.clone(),
            detail: row.detail.clone(),
            error: row.error.clone(),
        });
        self.send(row).await;
        outcome
    }

    /// The last row.
    fn measured(&self, progress: &Progress, look: &Look) -> Row {
        let term = &look.term;
        let seen = self.writer.as_ref().map(Writer::seen);
        // Nothing that ended before the wish was made is of its making.
        let outage = seen
            .filter(|it| it.ended.is_some_and(|at| at >= self.started))
            .map(|it| it.longest);
        let history = look.histories.iter().find(|it| it.epoch == term.epoch);
        let row = Row {
            outage: outage.map(|it| to_the(MILLISECOND, it)),
            epoch: Some(Count(term.epoch)),
            timeline: Some(term.timeline),
            ..Row::new("measured", self.agreement.region_of(&term.leader), "done").took(self.started.elapsed())
        };
        match progress.ending() {
            Some(Ending::Undone { why }) => {
                let as_before = term.epoch == self.operation.epoch;
                let help = if as_before {
                    "nothing has changed; see what stands in the way: ha switchover --explain"
                } else {
                    "see who leads, and what was done: ha lease, ha events"
                };
                Row {
                    status: "undone".into(),
                    lost: match as_before {
                        true => Some(Bytes(0)),
                        false => history.and_then(|it| it.lost_bytes).map(Bytes),
                    },
                    detail: Some(standing(self.operation.epoch, term, history)),
                    error: Some(why.clone()),
                    code: Some("ha::switchover::undone".into()),
                    help: Some(help.into()),
                    ..row
                }
            }
            _ => Row {
                lost: history.and_then(|it| it.lost_bytes).map(Bytes),
                detail: Some(
                    match seen
                        .and_then(|it| it.first)
                        .filter(|_| self.operation.kind == Kind::Failover)
                    {
                        Some(first) => format!(
                            "{} after {}; a write returned {} ms after it was asked for",
                            term.leader,
                            self.operation.from,
                            first.duration_since(self.started).as_millis()
                        ),
                        None => format!("{} after {}", term.leader, self.operation.from),
                    },
                ),
                ..row
            },
        }
    }

    /// Ctrl-C, or the guards did not get on: either way it is theirs.
    async fn left(self, progress: &Progress, look: Option<&Look>) -> Outcome {
        let command = self.command;
        let Some(look) = look else {
            eprintln!(
                "{command}: you stopped watching; the guards finish it, or undo it by themselves. ha lease shows where it \
                 is, ha events what was done; the same command joins it again"
            );
            return Outcome::Left;
        };
        let waits = progress.waits(Snapshot {
            term: &look.term,
            members: &look.members,
            history: look.newest(),
            at: self.started.elapsed(),
        });
        let active = matches!(progress.ending(), Some(Ending::Active { .. }));
        if let Some(waits) = waits {
            let region = waits.node.as_deref().and_then(|it| self.agreement.region_of(it));
            let help = match (&waits.node, active) {
                (Some(node), true) => format!("see why: ha lag; if it does not come back by itself: ha rejoin {node}"),
                _ => format!("see who does not answer: ha quorum, ha health; the same command goes on: {command}"),
            };
            self.send(Row {
                error: Some(waits.what),
                code: Some("ha::agreement::unfinished".into()),
                help: Some(help),
                ..Row::new(waits.step, region, "unfinished")
            })
            .await;
        }
        if active {
            return self.end(progress, look).await;
        }
        Outcome::Left
    }

    async fn send(&self, row: Row) {
        // The reader may be gone; what the guards do goes on.
        let _ = self.rows.send(row).await;
    }
}

/// What the reader knows.
struct Said {
    last: Instant,
    waits: Option<Waits>,
    active: Option<Instant>,
}

impl Said {
    fn new(at: Instant) -> Self {
        Self {
            last: at,
            waits: None,
            active: None,
        }
    }

    fn step(&mut self) {
        self.last = Instant::now();
        self.waits = None;
    }
}

/// A term was swapped; what lies there now, otherwise. The outcome of a lost answer is found out by looking.
///
/// # Errors
/// The store did not take it and says nothing more.
pub(crate) async fn swap(
    agreement: &Agreement,
    look: &Look,
    next: &ha_core::agreement::Term,
    unchanged: &[(&str, ha_store::Revision)],
) -> Result<bool, Failed> {
    use ha_store::{StoreError, Swap};
    match agreement.cluster.swap_term(next, look.seen, unchanged).await {
        Ok(Swap::Done(_)) => Ok(true),
        Ok(Swap::Changed(_)) => Ok(false),
        Err(StoreError::OutcomeUnknown { .. }) => {
            let (term, _) = agreement
                .cluster
                .term()
                .await?
                .unwrap_or_else(|| (look.term.clone(), look.seen));
            Ok(term == *next)
        }
        Err(error) => Err(error.into()),
    }
}
