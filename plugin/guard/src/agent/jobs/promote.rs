//! The chosen node becomes primary, on the timeline that its epoch was given.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use ha_core::{
    agent::stream_name,
    agreement::{Epoch, Phase},
};
use ha_data::{DataError, postgres};

use super::{Task, start};
use crate::agent::fail;

const PATIENCE: Duration = Duration::from_secs(60);

/// The database is primary on the timeline of `epoch`, and commits wait for `names` from the first one on. Nobody is
/// told yet.
pub(super) async fn promote(task: &Task<'_>, epoch: Epoch, names: &str) -> anyhow::Result<()> {
    let guard = task.guard;
    let state = &guard.state;
    let config = &state.config;
    let term = task.term()?;
    let chosen = term.phase == Phase::Sealing && term.epoch == epoch && term.chosen() == Some(&config.node);
    anyhow::ensure!(chosen, "epoch {epoch} did not choose this node");
    let pid = state.phase().borrow().pid.context("the database does not run")?;
    let began = Instant::now();
    // Both before it can be primary: a guard that comes after this one must know what it finds.
    guard
        .agreement
        .keep_promoted(epoch)
        .await
        .context("writing the promise")?;
    start::grant(state, pid, epoch)?;
    fail::point("promote.before");
    let session = task.session().await?;
    let slots: Vec<String> = config.peers.iter().map(|peer| stream_name(&peer.node)).collect();
    let timeline = term.own_timeline();
    let promoted = postgres::promote(&session, &config.postgres, timeline, names, &slots, PATIENCE).await;
    let start = match promoted {
        Err(error @ DataError::WrongTimeline { .. }) => {
            // It writes under a number that is another epoch's.
            start::disown(task)
                .await
                .context("ending a primary on a wrong timeline")?;
            return Err(error.into());
        }
        promoted => promoted?,
    };
    fail::point("promote.after");
    task.step(epoch, "promote", began);
    let detail = Some(format!("primary from {start} on"));
    state.events.write("promote", &config.node, "primary", detail, None);
    Ok(())
}
