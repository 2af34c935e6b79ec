//! The promise never to acknowledge for an earlier epoch again, and how far the log goes that it is made with.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use ha_core::{
    agreement::{Epoch, Sealed},
    report::NodeRole,
};
use ha_data::postgres;

use super::{Task, start};
use crate::agent::fail;

/// A query on the replica holds up its replay for a second at most; everything else takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// This node acknowledges nothing for an epoch below `epoch`, also after a restart; how far its log goes is known and
/// kept.
pub(super) async fn seal(task: &Task<'_>, epoch: Epoch) -> anyhow::Result<()> {
    let guard = task.guard;
    let state = &guard.state;
    let began = Instant::now();
    guard
        .agreement
        .keep_promise(epoch)
        .await
        .context("writing the promise")?;
    fail::point("seal.promised");
    let up = state.phase().borrow().is_up();
    let role = state.view().report.database.role;
    let position = match (up, role) {
        (true, Some(NodeRole::Replica)) => {
            let session = task.session().await?;
            postgres::seal(&session, &state.config.postgres, PATIENCE).await?
        }
        // A primary seals by stopping, and one that starts or hangs may be one.
        (true, _) => {
            start::fence(task).await?;
            start::bring_up_sealed(task).await?
        }
        (false, _) => start::bring_up_sealed(task).await?,
    };
    state
        .memory
        .keep_sealed(Sealed { epoch, position })
        .context("writing down the seal")?;
    fail::point("seal.sealed");
    task.step(epoch, "seal", began);
    state.events.write(
        "seal",
        &state.config.node,
        "sealed",
        Some(format!("for epoch {epoch}, at {position}")),
        None,
    );
    Ok(())
}
