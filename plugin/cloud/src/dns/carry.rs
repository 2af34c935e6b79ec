//! Carries a plan for names out: stage by stage, a row for each thing that is done, until nothing is left to do.

use std::time::{Duration, Instant};

use ha_core::dns::{Act, Goal, Plan, Row, Seen, Step, plan};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Dns, Names};
use crate::{ProviderError, StepStatus};

/// How often the world may turn out to be another than was seen, before somebody has to see why.
const LOOKS: u32 = 5;

/// One thing that is done, or is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepRow {
    pub what: What,
    pub status: StepStatus,
    pub took: Duration,
    pub error: Option<String>,
    /// Stable; scripts match on it.
    pub code: Option<&'static str>,
    /// What to type or change next.
    pub help: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Row(Row),
    /// Until every server answers as was written.
    Spreading,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What there is now, as far as it is known.
    pub seen: Seen,
    /// Nothing failed, was skipped or interrupted.
    pub good: bool,
}

/// Does what `goal` needs, from `seen` on, and sends a row for each thing. A receiver that is gone stops nothing.
///
/// Records are there for every server, as far as that can be known, before a health check goes that they named. An
/// answer that was lost, and a world that changed meanwhile, are looked into and gone on from. After any other failure
/// nothing further is tried. On `cancel` no further request is sent; the same call finishes the work another time.
pub async fn carry_out(
    dns: &dyn Dns,
    goal: Goal<'_>,
    names: Option<&Names>,
    seen: Seen,
    rows: &mpsc::Sender<StepRow>,
    cancel: &CancellationToken,
) -> Outcome {
    let mut work = Work {
        dns,
        goal,
        names,
        seen,
        rows,
        looks: LOOKS,
        on_their_way: Vec::new(),
    };
    let good = work.run(cancel).await;
    Outcome { seen: work.seen, good }
}

struct Work<'a> {
    dns: &'a dyn Dns,
    goal: Goal<'a>,
    names: Option<&'a Names>,
    seen: Seen,
    rows: &'a mpsc::Sender<StepRow>,
    looks: u32,
    /// Changes that not every server knows yet.
    on_their_way: Vec<String>,
}

impl Work<'_> {
    async fn run(&mut self, cancel: &CancellationToken) -> bool {
        loop {
            let now = plan(self.goal, &self.seen);
            let records = now.steps.iter().any(|it| matches!(it.act, Act::ChangeRecords { .. }));
            if !records && !self.spread(cancel).await {
                return false;
            }
            if now.is_done() {
                return true;
            }
            for (at, step) in now.steps.iter().enumerate() {
                if cancel.is_cancelled() {
                    self.undone(&now, at, StepStatus::Interrupted).await;
                    return false;
                }
                let begun = Instant::now();
                match self.dns.perform(&step.act).await {
                    Ok(done) => {
                        self.seen.after(&step.act, done.made);
                        self.on_their_way.extend(done.change);
                        self.done(&step.rows, begun.elapsed()).await;
                    }
                    Err(error) => match self.look_into(step, error).await {
                        Ok(()) => break,
                        Err(error) => {
                            self.failed(step, &error, begun.elapsed()).await;
                            self.undone(&now, at + 1, StepStatus::Skipped).await;
                            return false;
                        }
                    },
                }
            }
        }
    }

    /// Whether the work can go on: the act was done after all, was not begun, or something else came in between.
    async fn look_into(&mut self, step: &Step, error: ProviderError) -> Result<(), ProviderError> {
        let lost = matches!(error, ProviderError::OutcomeUnknown { .. });
        let refused = matches!(error, ProviderError::Refused { .. });
        if self.looks == 0 || !(lost || refused) {
            return Err(error);
        }
        self.looks -= 1;
        let before = plan(self.goal, &self.seen);
        self.seen = self.dns.observe(self.names).await?;
        let after = plan(self.goal, &self.seen);
        if refused && before == after {
            return Err(error);
        }
        let is_left = |row: &&Row| !after.rows.iter().any(|it| it.action.acts() && same(it, row));
        let done: Vec<Row> = step.rows.iter().filter(is_left).cloned().collect();
        self.done(&done, Duration::ZERO).await;
        Ok(())
    }

    /// Waits for what is on its way; false when that was stopped, or did not come to an end.
    async fn spread(&mut self, cancel: &CancellationToken) -> bool {
        let changes = std::mem::take(&mut self.on_their_way);
        if changes.is_empty() {
            return true;
        }
        let begun = Instant::now();
        let waited = async {
            for change in &changes {
                self.dns.in_sync(change).await?;
            }
            Ok::<(), ProviderError>(())
        };
        let ended = tokio::select! {
            ended = waited => Some(ended),
            () = cancel.cancelled() => None,
        };
        let (status, error) = match ended {
            Some(Ok(())) => (StepStatus::Done, None),
            Some(Err(error)) => (StepStatus::Failed, Some(error)),
            None => (StepStatus::Interrupted, None),
        };
        self.send(What::Spreading, status, begun.elapsed(), error.as_ref())
            .await;
        status == StepStatus::Done
    }

    async fn done(&self, rows: &[Row], took: Duration) {
        for row in rows {
            self.send(What::Row(row.clone()), StepStatus::Done, took, None).await;
        }
    }

    async fn failed(&self, step: &Step, error: &ProviderError, took: Duration) {
        for row in &step.rows {
            self.send(What::Row(row.clone()), StepStatus::Failed, took, Some(error))
                .await;
        }
    }

    /// Rows of everything that the plan has from that step on.
    async fn undone(&self, plan: &Plan, from: usize, status: StepStatus) {
        let before: Vec<&Row> = plan.steps.iter().take(from).flat_map(|it| &it.rows).collect();
        for row in plan
            .rows
            .iter()
            .filter(|row| row.action.acts() && !before.contains(row))
        {
            self.send(What::Row(row.clone()), status, Duration::ZERO, None).await;
        }
    }

    async fn send(&self, what: What, status: StepStatus, took: Duration, error: Option<&ProviderError>) {
        let row = StepRow {
            what,
            status,
            took,
            error: error.map(ToString::to_string),
            code: error.map(ProviderError::code),
            help: error.and_then(ProviderError::help),
        };
        // The reader may be gone; what has begun is finished all the same.
        let _ = self.rows.send(row).await;
    }
}

/// The same thing, whatever is said of it.
fn same(a: &Row, b: &Row) -> bool {
    (&a.kind, &a.name, &a.set) == (&b.kind, &b.name, &b.set)
}
