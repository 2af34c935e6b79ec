//! Starting the database as what it is to be, and ending it.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use ha_core::{agreement::Epoch, report::NodeRole};
use ha_data::postgres;

use super::Task;
use crate::agent::{permit, state::State};

/// A server that recovers from a crash says nothing for long; whoever decides sees it starting meanwhile.
const RECOVERY: Duration = Duration::from_secs(3600);

/// The database runs as a sealed standby that has read all of its own log; it acknowledges nothing.
pub(super) async fn sealed(task: &Task<'_>) -> anyhow::Result<()> {
    bring_up_sealed(task).await.map(drop)
}

/// As [`sealed`]; answers with where its log ends.
pub(super) async fn bring_up_sealed(task: &Task<'_>) -> anyhow::Result<ha_core::lsn::Position> {
    let guard = task.guard;
    let config = &guard.state.config;
    if !guard.state.phase().borrow().is_up() {
        revoke(&guard.state)?;
        postgres::prepare_sealed_start(&config.postgres).await?;
        guard.keeper.start().await?;
    }
    answers(&guard.state, NodeRole::Replica).await?;
    let session = task.session().await?;
    // All of its log is read when this returns; what it shows before is no position to judge by.
    let position = postgres::seal(&session, &config.postgres, RECOVERY).await?;
    postgres::clear_outdated(&config.postgres).await?;
    Ok(position)
}

/// The present leader's own database, as the primary that it is.
pub(super) async fn primary(task: &Task<'_>, names: &str) -> anyhow::Result<()> {
    let guard = task.guard;
    let config = &guard.state.config;
    // A cluster that was just made has no term: its timeline says which epoch it will be.
    let epoch = match &task.look.view.term {
        Some(term) => term.epoch,
        None => Epoch::from(postgres::control(&config.postgres).await?.timeline),
    };
    guard.state.memory.forget_sealed().context("forgetting the seal")?;
    if !guard.state.phase().borrow().is_up() {
        still_leads(task).await?;
        postgres::prepare_primary_start(&config.postgres, names).await?;
        let pid = guard.keeper.start().await?;
        grant(&guard.state, pid, epoch)?;
    }
    answers(&guard.state, NodeRole::Primary).await
}

/// The term is, after this node's report says that something of it may run, still the one that was decided on. Whoever
/// campaigned because nothing of it ran compared that report: either that campaign failed, or it is seen here.
async fn still_leads(task: &Task<'_>) -> anyhow::Result<()> {
    let now = task
        .guard
        .agreement
        .term_now()
        .await
        .context("asking the store who leads")?;
    anyhow::ensure!(now == task.look.view.term, "the term changed meanwhile");
    Ok(())
}

/// The process may be primary in this epoch.
pub(super) fn grant(state: &State, pid: i32, epoch: Epoch) -> anyhow::Result<()> {
    permit::grant(&state.config.failover.runtime_dir, pid, epoch).context("writing the start permit")?;
    state.set_permit(Some(epoch));
    Ok(())
}

pub(super) fn revoke(state: &State) -> anyhow::Result<()> {
    permit::revoke(&state.config.failover.runtime_dir).context("removing the start permit")?;
    state.set_permit(None);
    Ok(())
}

/// Until the process that was just started answers as `role`; an error when it ends instead.
pub(super) async fn answers(state: &State, role: NodeRole) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut phase = state.phase();
    let mut looks = state.looks();
    loop {
        if !phase.borrow_and_update().is_up() {
            let detail = phase.borrow().detail.clone().unwrap_or_default();
            anyhow::bail!("it ended: {detail}");
        }
        match state.view().report.database.role {
            Some(found) if found == role => return Ok(()),
            Some(found) => anyhow::bail!("it runs as {found:?}, and should as {role:?}"),
            None => {}
        }
        anyhow::ensure!(began.elapsed() < RECOVERY, "it does not answer");
        tokio::select! {
            _ = phase.changed() => {}
            _ = looks.changed() => {}
        }
    }
}

/// No process of the database is left, and whoever starts it by hand gets no commit acknowledged.
pub(super) async fn fence(task: &Task<'_>) -> anyhow::Result<()> {
    let guard = task.guard;
    let config = &guard.state.config;
    let ended = guard.keeper.fence(config.failover.timing.fence_budget).await;
    let took = ended.inspect_err(|error| {
        let why = Some(error.to_string());
        guard.state.events.write("fence", &config.node, "failed", None, why);
    })?;
    let detail = Some(format!("all of its processes ended within {} ms", took.as_millis()));
    guard.state.events.write("fence", &config.node, "fenced", detail, None);
    revoke(&guard.state)?;
    postgres::prepare_sealed_start(&config.postgres).await?;
    Ok(guard.keeper.look().await?)
}

/// As [`fence`], and what it holds is never started again.
pub(super) async fn disown(task: &Task<'_>) -> anyhow::Result<()> {
    fence(task).await?;
    let config = &task.guard.state.config;
    postgres::disown(&config.postgres)?;
    Ok(task.guard.keeper.look().await?)
}
