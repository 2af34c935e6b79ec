//! Names, when what they lead to goes: before it does, so that no name leads to an address that is somebody else's then.

use std::sync::Arc;

use ha_cloud::{
    StepStatus,
    dns::{Dns as _, StepRow, What},
};
use ha_core::{
    config::Target,
    dns::{self, Action, Goal, Seen, Told, Wanted},
    model::Workspace,
    names::ProviderName,
    resource::Live,
};
use nu_plugin::EngineInterface;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{wanted, work::Work};
use crate::{
    HaPlugin,
    context::{Context, Realm, Silent},
    error::Failed,
    nu::{MILLISECOND, to_the},
    steps::Row,
};

/// The names, health checks and zones of a workspace that goes, or those of one region of it.
pub(in crate::commands) struct Farewell {
    work: Work,
    ws: String,
    /// Everything but the region that goes; none where all of the workspace does.
    without: Option<Wanted>,
}

impl Farewell {
    /// From one look at the providers; asks nobody else yet. None where there are no names: on this machine, and where
    /// none are declared.
    pub(in crate::commands) fn new(
        plugin: &HaPlugin,
        engine: &EngineInterface,
        (context, workspace, realm): (&Context, &Workspace, &Realm),
        (live, silent): (&[Live], &[Silent]),
        region: Option<&str>,
    ) -> Result<Option<Self>, Failed> {
        if context.config.target == Target::Local || workspace.dns.is_none() {
            return Ok(None);
        }
        let (route53, names) = context.dns(plugin, engine, workspace)?;
        let without = region.map(|region| {
            let silent: Vec<ProviderName> = silent.iter().map(|it| it.provider).collect();
            let mut leads = dns::addresses(workspace, live, &silent);
            leads.insert(region.to_owned(), Told::Nowhere("the region goes".to_owned()));
            wanted(workspace, &context.config, &leads)
        });
        Ok(Some(Self {
            ws: workspace.name.to_string(),
            without: without.transpose()?,
            work: Work {
                acts: context.acts(workspace, realm.desk()),
                dns: Arc::new(route53),
                names,
                verb: "destroy.dns",
            },
        }))
    }

    /// The rows of a dry run, numbered from `first` on.
    ///
    /// # Errors
    ///
    /// When Route 53 could not be asked.
    pub(in crate::commands) async fn planned(&self, first: u32) -> Result<Vec<Row>, Failed> {
        let seen = self.look().await?;
        let without = self.without(&seen);
        let rows = dns::plan(self.goal(without.as_ref()), &seen).rows.into_iter();
        let rows = rows.filter(|it| it.action.acts()).zip(first..);
        Ok(rows.map(|(row, step)| named(row, step, "planned")).collect())
    }

    /// Removes them, a row for each, numbered from `first` on. Answers how many things are left that should be gone, after
    /// looking again. What others made stays: a zone of ours that holds a record of theirs is left, and counted.
    ///
    /// # Errors
    ///
    /// When Route 53 could not be asked, before or after; in the first case nothing was removed. Run again, it goes on.
    pub(in crate::commands) async fn run(
        &self,
        first: u32,
        rows: &mpsc::Sender<Row>,
        cancel: &CancellationToken,
    ) -> Result<usize, Failed> {
        let seen = self.look().await?;
        let without = self.without(&seen);
        let goal = self.goal(without.as_ref());
        let mut step = first;
        let numbered = |done| {
            step += 1;
            row(step - 1, done)
        };
        self.work.carry(goal, seen, cancel, rows, numbered).await;
        let left = dns::plan(goal, &self.look().await?).rows;
        let is_left = |it: &&dns::Row| it.action.acts() || it.action == Action::Conflict;
        Ok(left.iter().filter(is_left).count())
    }

    async fn look(&self) -> Result<Seen, Failed> {
        Ok(self.work.dns.observe(Some(&self.work.names)).await?)
    }

    fn without(&self, seen: &Seen) -> Option<Wanted> {
        let names = &self.work.names;
        let pointed = seen.pointed(&names.zone, &names.domain, &self.ws);
        self.without.clone().map(|it| it.following(pointed))
    }

    fn goal<'a>(&'a self, without: Option<&'a Wanted>) -> Goal<'a> {
        without.map_or(Goal::Nothing { ws: &self.ws }, Goal::All)
    }
}

fn row(step: u32, done: StepRow) -> Row {
    let status = done.status.as_str();
    let row = match done.what {
        What::Row(row) => named(row, step, status),
        What::Spreading => Row {
            step,
            kind: Some("dns".to_owned()),
            action: "wait".to_owned(),
            status: status.to_owned(),
            ..Row::default()
        },
    };
    Row {
        took: (done.status != StepStatus::Skipped).then(|| to_the(MILLISECOND, done.took)),
        error: done.error,
        code: done.code.map(str::to_owned),
        help: done.help,
        ..row
    }
}

fn named(row: dns::Row, step: u32, status: &str) -> Row {
    let set = row.set.map(|set| format!(" {set}")).unwrap_or_default();
    Row {
        step,
        kind: Some(row.kind),
        name: Some(format!("{}{set}", row.name)),
        action: row.action.as_str().to_owned(),
        status: status.to_owned(),
        ..Row::default()
    }
}
