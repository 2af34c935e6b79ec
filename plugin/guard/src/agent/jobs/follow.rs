//! A replica is told whom to follow.

use std::time::Instant;

use anyhow::Context as _;
use ha_core::agreement::{Epoch, Phase};
use ha_data::postgres;

use super::Task;
use crate::agent::fail;

/// The replica follows the leader of `epoch` under that epoch's name. Its slot was made there before the leader was
/// promoted, or is by the leader's next look.
pub(super) async fn follow(task: &Task<'_>, node: &str, epoch: Epoch) -> anyhow::Result<()> {
    let guard = task.guard;
    let state = &guard.state;
    let config = &state.config;
    let term = task.term()?;
    anyhow::ensure!(
        term.phase != Phase::Sealing && term.epoch == epoch && term.leader == node,
        "{node} does not lead epoch {epoch}"
    );
    let promised = guard.agreement.promise().epoch;
    anyhow::ensure!(promised <= epoch, "this node promised itself to epoch {promised}");
    fail::point("follow.before");
    let began = Instant::now();
    let upstream = task.upstream(node)?;
    let session = task.session().await?;
    // Before: a guard that dies in between finds a sealed replica that it takes for one that follows, and seals it.
    state.memory.forget_sealed().context("forgetting the seal")?;
    postgres::follow(&session, &config.postgres, &config.node, &upstream, epoch).await?;
    task.step(epoch, "follow", began);
    let detail = Some(format!("in epoch {epoch}, at {}:{}", upstream.address, upstream.port));
    state.events.write("replica.follows", &config.node, node, detail, None);
    Ok(())
}
