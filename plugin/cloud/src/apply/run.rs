//! Starts steps, waits for them, and reports each once.

use std::{
    any::Any,
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use ha_core::plan::{Action, Step};
use tokio::{
    sync::mpsc,
    task::{Id, JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;

use super::{ApplyOptions, StepRow, StepStatus, attempt, schedule::Schedule};
use crate::{Provider, ProviderError};

const AGAIN: &str = "run the same command again: it finishes what is there";

pub(super) async fn run(
    steps: Vec<Step>,
    provider: Arc<dyn Provider>,
    options: ApplyOptions,
    cancel: CancellationToken,
    rows: mpsc::Sender<StepRow>,
) {
    let listener = rows.clone();
    // A child: that nobody listens any more ends this plan, not everything else under the caller's token.
    let stop = cancel.child_token();
    let mut run = Run::new(steps, provider, options, stop.clone(), rows);
    run.report_conflicts();
    let mut grace_ends = None;
    loop {
        if !stop.is_cancelled() {
            run.start_steps();
        }
        if run.tasks.is_empty() {
            break;
        }
        tokio::select! {
            Some(ended) = run.tasks.join_next_with_id() => run.ended(ended),
            () = stop.cancelled(), if grace_ends.is_none() => {
                grace_ends = Some(tokio::time::Instant::now() + run.options.grace);
            }
            () = listener.closed(), if !stop.is_cancelled() => stop.cancel(),
            () = until(grace_ends) => {
                run.tasks.abort_all();
                // Dropping takes effect where a step waits next; the rows follow from `ended`.
                while let Some(ended) = run.tasks.join_next_with_id().await {
                    run.ended(ended);
                }
            }
        }
    }
    run.report_rest(stop.is_cancelled());
}

async fn until(moment: Option<tokio::time::Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

struct Run {
    steps: Vec<Arc<Step>>,
    /// `step` column; none for steps that do nothing.
    numbers: Vec<Option<u32>>,
    schedule: Schedule,
    provider: Arc<dyn Provider>,
    options: ApplyOptions,
    stop: CancellationToken,
    tasks: JoinSet<Result<StepStatus, ProviderError>>,
    started: HashMap<Id, (usize, Instant)>,
    rows: mpsc::Sender<StepRow>,
}

/// Everything a row adds to its step.
struct Ending {
    status: StepStatus,
    took: Duration,
    error: Option<String>,
    code: Option<&'static str>,
    help: Option<String>,
}

impl Run {
    fn new(
        steps: Vec<Step>,
        provider: Arc<dyn Provider>,
        options: ApplyOptions,
        stop: CancellationToken,
        rows: mpsc::Sender<StepRow>,
    ) -> Self {
        let schedule = Schedule::new(&steps);
        let mut number = 0;
        let numbers = steps
            .iter()
            .map(|step| {
                (step.action != Action::None).then(|| {
                    number += 1;
                    number
                })
            })
            .collect();
        Self {
            steps: steps.into_iter().map(Arc::new).collect(),
            numbers,
            schedule,
            provider,
            options,
            stop,
            tasks: JoinSet::new(),
            started: HashMap::new(),
            rows,
        }
    }

    /// Conflicts are known before anything is done, and said first.
    fn report_conflicts(&mut self) {
        for place in 0..self.steps.len() {
            if self.steps[place].action == Action::Conflict {
                self.report(
                    place,
                    Ending {
                        status: StepStatus::Conflict,
                        took: Duration::ZERO,
                        error: Some(self.steps[place].reason.clone()),
                        code: Some("ha::apply::conflict"),
                        help: Some(
                            "it was changed both in workspace.ncl and by hand: make the two agree, then run: ha plan"
                                .into(),
                        ),
                    },
                );
                self.settle_failed(place);
            }
        }
    }

    fn start_steps(&mut self) {
        while self.tasks.len() < self.options.concurrency.max(1) {
            let Some(place) = self.schedule.start_next() else {
                return;
            };
            let step = Arc::clone(&self.steps[place]);
            if step.action == Action::None {
                self.schedule.done(place);
                continue;
            }
            let (provider, options, stop) = (Arc::clone(&self.provider), self.options.clone(), self.stop.clone());
            let task = self
                .tasks
                .spawn(async move { attempt::carry_out(&step, &*provider, &options, &stop).await });
            self.started.insert(task.id(), (place, Instant::now()));
        }
    }

    fn ended(&mut self, ended: Result<(Id, Result<StepStatus, ProviderError>), JoinError>) {
        let id = match &ended {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        let Some((place, since)) = self.started.remove(&id) else {
            return;
        };
        let took = since.elapsed();
        let ending = match ended {
            Ok((_, Ok(status))) => Ending {
                status,
                took,
                error: None,
                code: None,
                help: None,
            },
            Ok((_, Err(ProviderError::Interrupted))) => interrupted(took),
            Ok((_, Err(error))) => Ending {
                status: StepStatus::Failed,
                took,
                error: Some(error.to_string()),
                code: Some(error.code()),
                help: error.help(),
            },
            Err(error) => match error.try_into_panic() {
                Ok(panic) => Ending {
                    status: StepStatus::Failed,
                    took,
                    error: Some(format!("{} panicked: {}", self.provider.name(), panic_text(&*panic))),
                    code: Some("ha::apply::panicked"),
                    help: Some(format!("this is a fault of ha, please report it; {AGAIN}")),
                },
                Err(_) => interrupted(took),
            },
        };
        let status = ending.status;
        self.report(place, ending);
        match status {
            StepStatus::Done | StepStatus::Unchanged => self.schedule.done(place),
            // Those after it are left to `report_rest`: they were interrupted as well, not skipped.
            StepStatus::Interrupted if self.stop.is_cancelled() => {}
            _ => self.settle_failed(place),
        }
    }

    /// Reports everything that can no longer be done without the step at `place`.
    fn settle_failed(&mut self, place: usize) {
        let cause = format!("not started: {} was not done", self.steps[place].id);
        for lost in self.schedule.not_done(place) {
            // A conflict has its row already or gets it as one.
            if self.steps[lost].action == Action::Conflict {
                continue;
            }
            self.report(
                lost,
                Ending {
                    status: StepStatus::Skipped,
                    took: Duration::ZERO,
                    error: Some(cause.clone()),
                    code: Some("ha::apply::skipped"),
                    help: Some("mend that first, then run the same command again".into()),
                },
            );
        }
    }

    fn report_rest(&mut self, was_stopped: bool) {
        for place in self.schedule.give_up() {
            let ending = if was_stopped {
                interrupted(Duration::ZERO)
            } else {
                Ending {
                    status: StepStatus::Failed,
                    took: Duration::ZERO,
                    error: Some("not started: steps of this plan wait for each other".into()),
                    code: Some("ha::apply::cycle"),
                    help: Some("look for a circle among depends_on in: ha plan".into()),
                }
            };
            self.report(place, ending);
        }
    }

    fn report(&self, place: usize, ending: Ending) {
        let (step, Some(number)) = (&self.steps[place], self.numbers[place]) else {
            return;
        };
        let row = StepRow {
            step: number,
            region: step.id.region.clone(),
            kind: step.id.kind,
            name: step.id.name.clone(),
            action: step.action,
            status: ending.status,
            took: ending.took,
            error: ending.error,
            code: ending.code,
            help: ending.help,
        };
        // There is room for all rows; the one thing that can fail is that nobody reads them, which stops the run.
        if self.rows.try_send(row).is_err() {
            self.stop.cancel();
        }
    }
}

fn interrupted(took: Duration) -> Ending {
    Ending {
        status: StepStatus::Interrupted,
        took,
        error: Some("interrupted".into()),
        code: Some("ha::apply::interrupted"),
        help: Some(AGAIN.into()),
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&'static str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
