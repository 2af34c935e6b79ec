//! The end of a database that must not write any more, within a time that others count on.
//!
//! Children of a postmaster have process groups of their own and outlive it: one in a loop goes on committing. So
//! every process that works in the folder is ended, whoever its parent is by now.

use std::{path::Path, time::Duration};

use rustix::process::Signal;
use tokio::time::{Instant, timeout_at};

use super::process::{Handle, Postmaster, is_child, processes, remove_locks};
use crate::DataError;

/// For a postmaster to end by itself.
const GRACE: Duration = Duration::from_millis(200);

impl Postmaster {
    /// No process of it is left: see [`fence_by_folder`]. Answers with how long that took.
    pub async fn fence(mut self, budget: Duration) -> Result<Duration, DataError> {
        let took = fence_by_folder(&self.config.data_dir, budget).await?;
        if let Some(child) = &mut self.child {
            // Dead already; this gives its number back.
            let _ = child.wait().await;
        }
        remove_locks(&self.config)?;
        Ok(took)
    }
}

/// No server process works in the folder any more; answers with how long that took. What was written but not
/// flushed is lost, as in a crash; what was acknowledged is not. Needs neither the postmaster nor its lock file.
///
/// The postmaster is told to quit, so that it makes no more children and tidies up; all the others are killed at once.
/// Without children it ends within milliseconds, unless it is stopped or hangs: then it is killed as well. When
/// processes are left at the end of the budget that is an error, and a repetition goes on.
pub async fn fence_by_folder(data_dir: &Path, budget: Duration) -> Result<Duration, DataError> {
    let began = std::time::Instant::now();
    let grace = Instant::from_std(began + GRACE.min(budget / 2));
    let end = Instant::from_std(began + budget);
    loop {
        let mut alive = Vec::new();
        let mut parents = Vec::new();
        // First, so that none of its children is replaced.
        for handle in serving(data_dir, false)? {
            let late = Instant::now() >= grace;
            handle.signal(if late { Signal::KILL } else { Signal::QUIT })?;
            parents.push(handle);
        }
        for handle in serving(data_dir, true)? {
            handle.signal(Signal::KILL)?;
            alive.push(handle);
        }
        if alive.is_empty() && parents.is_empty() {
            return Ok(began.elapsed());
        }
        for handle in alive {
            if timeout_at(end, handle.gone()).await.is_err() {
                return Err(too_slow(data_dir, budget));
            }
        }
        let until = if Instant::now() < grace { grace } else { end };
        for handle in parents {
            if timeout_at(until, handle.gone()).await.is_err() && until == end {
                return Err(too_slow(data_dir, budget));
            }
        }
        if Instant::now() >= end {
            return Err(too_slow(data_dir, budget));
        }
    }
}

/// The folder's server processes: children, or those that have children.
fn serving(data_dir: &Path, children: bool) -> Result<Vec<Handle>, DataError> {
    let mut found = Vec::new();
    for pid in processes()? {
        if is_child(pid) == children
            && let Some(handle) = Handle::of_postgres(pid, data_dir)?
        {
            found.push(handle);
        }
    }
    Ok(found)
}

fn too_slow(data_dir: &Path, budget: Duration) -> DataError {
    DataError::Timeout {
        what: format!("ending all processes of the database in {}", data_dir.display()),
        after: budget,
    }
}
