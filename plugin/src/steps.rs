//! Carrying a plan out for a shell that watches: the lock, the rows, the record of acts.

use std::{sync::Arc, time::Duration};

use ha_cloud::{
    ApplyOptions, Provider, ProviderError, StepRow, StepStatus, apply,
    local::{LocalProvider, LockHolder, WriterLock},
};
use ha_core::{
    model::Workspace,
    plan::{Action, Step},
    resource::ResourceId,
};
use nu_protocol::IntoValue;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    acts::{Act, Acts},
    context::{Settings, Silent},
    error::{Failed, WHAT_HAPPENED},
    nu::{MILLISECOND, to_the},
};

/// One row of whatever acts: `ha provision`, `ha destroy`.
#[derive(Clone, Debug, Default, IntoValue)]
pub(crate) struct Row {
    pub(crate) region: Option<String>,
    pub(crate) kind: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) action: String,
    pub(crate) status: String,
    /// Before what is nice to know: a narrow terminal cuts tables on the right.
    pub(crate) error: Option<String>,
    pub(crate) took: Option<Duration>,
    pub(crate) code: Option<String>,
    pub(crate) help: Option<String>,
    /// In the order of the plan, counted from 1; rows come as steps finish.
    pub(crate) step: u32,
}

/// Columns that stay readable in a narrow terminal.
pub(crate) const PRIORITY: &[&str] = &["region", "name", "status", "error"];

impl Row {
    fn done(row: StepRow) -> Self {
        Self {
            step: row.step,
            region: Some(row.region.to_string()),
            kind: Some(row.kind.to_string()),
            name: Some(row.name),
            action: row.action.as_str().to_owned(),
            status: row.status.as_str().to_owned(),
            took: Some(to_the(MILLISECOND, row.took)),
            help: row
                .help
                .or_else(|| row.error.as_ref().map(|_| WHAT_HAPPENED.to_owned())),
            error: row.error,
            code: row.code.map(str::to_owned),
        }
    }

    /// What `--dry-run` shows of a step.
    pub(crate) fn planned(step: u32, planned: &Step) -> Self {
        Self {
            step,
            region: Some(planned.id.region.to_string()),
            kind: Some(planned.id.kind.to_string()),
            name: Some(planned.id.name.clone()),
            action: planned.action.as_str().to_owned(),
            status: "planned".into(),
            ..Self::default()
        }
    }

    /// Of a provider that did not answer: what it holds is neither known nor touched.
    pub(crate) fn silent(silent: &Silent, workspace: &Workspace) -> Self {
        Self {
            region: silent.regions(workspace),
            name: Some(silent.provider.to_string()),
            action: "ask".into(),
            status: "failed".into(),
            error: Some(silent.error.to_string()),
            code: Some(silent.error.code().to_owned()),
            help: silent.error.help().or_else(|| Some(WHAT_HAPPENED.to_owned())),
            ..Self::default()
        }
    }

    /// The one row of a plan with nothing to do.
    pub(crate) fn nothing_to_do() -> Self {
        Self {
            action: "none".into(),
            status: "unchanged".into(),
            ..Self::default()
        }
    }
}

/// The dry run of a plan.
pub(crate) fn planned(steps: &[Step]) -> Vec<Row> {
    let changes = steps.iter().filter(|step| step.action != Action::None);
    let rows: Vec<Row> = changes
        .zip(1..)
        .map(|(step, number)| Row::planned(number, step))
        .collect();
    if rows.is_empty() {
        vec![Row::nothing_to_do()]
    } else {
        rows
    }
}

/// How long the plugin of a shell that was killed may need to notice, and to end the step under way.
const LETTING_GO: Duration = Duration::from_secs(5);

/// Waits for the writer's lock up to `wait` and tells the operator whom for. Without `wait` it gives a holder
/// that is just ending the time to do so: "run it again" after a kill must not answer "busy".
pub(crate) async fn lock(desk: &LocalProvider, command: &str, wait: Option<Duration>) -> Result<WriterLock, Failed> {
    let say = |holder: &LockHolder| eprintln!("ha: waiting for {holder}");
    let held = desk.lock_wait(command, wait.unwrap_or(LETTING_GO), say).await;
    held.map_err(|error| match error {
        ProviderError::Taken { by, .. } => Failed::Busy(by),
        other => other.into(),
    })
}

/// A plan under way.
pub(crate) struct Work {
    pub(crate) provider: Arc<dyn Provider>,
    pub(crate) acts: Acts,
    pub(crate) settings: Settings,
    /// Held until the last step has ended.
    #[expect(dead_code, reason = "held, not read")]
    pub(crate) lock: WriterLock,
    /// First part of the events' names.
    pub(crate) verb: &'static str,
}

impl Work {
    /// Carries `steps` out and sends a row as each finishes. Answers with the number of the last step.
    /// A reader that is gone stops nothing that has begun, and keeps nothing from being remembered.
    pub(crate) async fn run(&self, steps: Vec<Step>, rows: &mpsc::Sender<Row>, cancel: CancellationToken) -> u32 {
        let options = ApplyOptions {
            concurrency: self.settings.concurrency,
            ..ApplyOptions::default()
        };
        let mut finished = apply(steps, self.provider.clone(), options, cancel);
        let (mut last, mut stopped) = (0, 0_u32);
        while let Some(row) = finished.recv().await {
            last = last.max(row.step);
            stopped += u32::from(row.status == StepStatus::Interrupted);
            self.acts.record(Act {
                region: Some(row.region.to_string()),
                event: format!("{}.{}", self.verb, row.action.as_str()),
                subject: format!("{} {}", row.kind, row.name),
                status: row.status.as_str().to_owned(),
                error: row.error.clone(),
                ..Act::default()
            });
            // The reader may be gone; what is under way still ends properly.
            let _ = rows.send(Row::done(row)).await;
        }
        if stopped > 0 {
            // Whoever pressed Ctrl-C or piped into `first` reads no rows any more.
            eprintln!(
                "ha {}: stopped, {stopped} of {last} steps were not done; the same command does the rest",
                self.verb
            );
        }
        last
    }
}

/// The steps that were named, in the plan's own order, and what stands in their way.
pub(crate) fn select(
    steps: Vec<Step>,
    live: &[ha_core::resource::Live],
    wanted: impl Fn(&ResourceId) -> bool,
) -> Result<Vec<Step>, Failed> {
    let selected: Vec<Step> = steps.into_iter().filter(|step| wanted(&step.id)).collect();
    match ha_core::plan::blocked_by(&selected, live).into_iter().next() {
        None => Ok(selected),
        Some(blocked) => {
            let goes = selected
                .iter()
                .any(|step| step.id == blocked.step && step.action == Action::Delete);
            let step = blocked.step.to_string();
            let needs: Vec<String> = blocked.needs.iter().map(ToString::to_string).collect();
            Err(if goes {
                Failed::StillUsed { step, by: needs }
            } else {
                Failed::Blocked { step, needs }
            })
        }
    }
}
