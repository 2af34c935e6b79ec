//! Names under way: the rows, and the record of acts.

use std::{sync::Arc, time::Duration};

use ha_cloud::{
    StepStatus,
    dns::{Names, Outcome, Route53, StepRow, What, carry_out},
};
use ha_core::dns::{self, Action, Goal, Seen, Wanted};
use nu_protocol::IntoValue;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    acts::{Act, Acts},
    context::Silent,
    error::WHAT_HAPPENED,
    nu::{MILLISECOND, channel, to_the},
};

/// One row of `ha dns apply` and `ha dns point`.
#[derive(Clone, Debug, Default, IntoValue)]
pub(super) struct Row {
    name: Option<String>,
    r#type: Option<String>,
    set_id: Option<String>,
    action: String,
    status: String,
    error: Option<String>,
    took: Option<Duration>,
    value: Option<String>,
    reason: Option<String>,
    code: Option<String>,
    help: Option<String>,
}

/// Columns that stay readable in a narrow terminal.
pub(super) const PRIORITY: &[&str] = &["name", "action", "status", "error"];

/// Between two looks at a name of somebody else, or of a provider that is silent, nothing is done about it.
const LEFT: &str = "see what stands there: ha dns plan";

impl Row {
    fn of(row: dns::Row) -> Self {
        Self {
            name: Some(row.name),
            r#type: Some(row.kind),
            set_id: row.set,
            action: row.action.as_str().to_owned(),
            value: value(&row.value),
            reason: Some(row.reason).filter(|it| !it.is_empty()),
            ..Self::default()
        }
    }

    fn done(step: StepRow) -> Self {
        let row = match step.what {
            What::Row(row) => Self::of(row),
            What::Spreading => Self {
                action: "wait".into(),
                reason: Some("until every server of Route 53 answers so".into()),
                ..Self::default()
            },
        };
        Self {
            status: step.status.as_str().to_owned(),
            took: Some(to_the(MILLISECOND, step.took)),
            help: step
                .help
                .or_else(|| step.error.as_ref().map(|_| WHAT_HAPPENED.to_owned())),
            error: step.error,
            code: step.code.map(str::to_owned),
            ..row
        }
    }

    /// What is left as it is, and why.
    fn left(row: dns::Row) -> Self {
        let (status, code) = match row.action {
            Action::Unknown => ("unknown", "ha::dns::silent"),
            _ => ("conflict", "ha::dns::conflict"),
        };
        Self {
            status: status.to_owned(),
            code: Some(code.to_owned()),
            error: Some(row.reason.clone()),
            help: Some(LEFT.to_owned()),
            ..Self::of(row)
        }
    }

    /// Of a provider that did not answer: where its regions are is not known.
    pub(super) fn silent(silent: &Silent) -> Self {
        Self {
            name: Some(silent.provider.to_string()),
            r#type: Some("provider".to_owned()),
            action: "ask".into(),
            status: "failed".into(),
            error: Some(silent.error.to_string()),
            code: Some(silent.error.code().to_owned()),
            help: silent.error.help().or_else(|| Some(WHAT_HAPPENED.to_owned())),
            ..Self::default()
        }
    }

    fn nothing_to_do() -> Self {
        Self {
            action: "none".into(),
            status: "unchanged".into(),
            ..Self::default()
        }
    }
}

/// As one text: a table shows a list as its length, and hardly any record has more than one value.
pub(super) fn value(values: &[String]) -> Option<String> {
    (!values.is_empty()).then(|| values.join(" "))
}

/// The dry run of a plan.
pub(super) fn planned(plan: dns::Plan) -> Vec<Row> {
    let rows = plan.rows.into_iter().filter(|it| it.action != Action::None);
    let rows: Vec<Row> = rows
        .map(|row| match row.action.acts() {
            true => Row {
                status: "planned".into(),
                ..Row::of(row)
            },
            false => Row::left(row),
        })
        .collect();
    if rows.is_empty() {
        vec![Row::nothing_to_do()]
    } else {
        rows
    }
}

/// What one run is about.
pub(super) enum Wish {
    All(Wanted),
    Apex(Wanted),
}

impl Wish {
    pub(super) fn goal(&self) -> Goal<'_> {
        match self {
            Self::All(wanted) => Goal::All(wanted),
            Self::Apex(wanted) => Goal::Apex(wanted),
        }
    }
}

/// A run, and what it needs to remember what it did.
pub(super) struct Work {
    pub(super) dns: Arc<Route53>,
    pub(super) names: Names,
    pub(super) acts: Acts,
    /// First part of the events' names.
    pub(super) verb: &'static str,
}

impl Work {
    /// Carries `goal` out from what was seen, and sends a row for each thing, then one for each that was left.
    pub(super) async fn run(&self, wish: &Wish, seen: Seen, rows: &mpsc::Sender<Row>, cancel: &CancellationToken) {
        let nothing = dns::plan(wish.goal(), &seen).is_done();
        let outcome = self.carry(wish.goal(), seen, cancel, rows, Row::done).await;
        let rest = dns::plan(wish.goal(), &outcome.seen).rows;
        let left: Vec<dns::Row> = rest
            .into_iter()
            .filter(|it| matches!(it.action, Action::Conflict | Action::Unknown))
            .collect();
        if nothing && left.is_empty() {
            // The reader may be gone; there is nothing left to be done.
            let _ = rows.send(Row::nothing_to_do()).await;
        }
        for row in left {
            let _ = rows.send(Row::left(row)).await;
        }
    }

    /// As [`carry_out`], remembering each act, and with rows of the caller's own. A reader that is gone stops nothing.
    pub(super) async fn carry<R>(
        &self,
        goal: Goal<'_>,
        seen: Seen,
        cancel: &CancellationToken,
        rows: &mpsc::Sender<R>,
        mut row: impl FnMut(StepRow) -> R,
    ) -> Outcome {
        let (steps, mut finished) = channel();
        let work = async move { carry_out(&*self.dns, goal, Some(&self.names), seen, &steps, cancel).await };
        let told = async {
            while let Some(step) = finished.recv().await {
                self.remember(&step);
                let _ = rows.send(row(step)).await;
            }
        };
        // The sender goes with the work, and the rows end with it.
        let (outcome, ()) = tokio::join!(work, told);
        outcome
    }

    fn remember(&self, step: &StepRow) {
        let What::Row(row) = &step.what else { return };
        if step.status == StepStatus::Skipped {
            return;
        }
        let set = row.set.as_deref().map(|set| format!(" {set}")).unwrap_or_default();
        self.acts.record(Act {
            event: format!("{}.{}", self.verb, row.action.as_str()),
            subject: format!("{} {}{set}", row.kind, row.name),
            status: step.status.as_str().to_owned(),
            error: step.error.clone(),
            ..Act::default()
        });
    }
}
