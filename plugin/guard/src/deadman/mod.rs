//! The face `deadman`: ends the database of a primary whose time is over, when its guard does not (protocol §9,
//! level 3).
//!
//! The guard may be stopped, hang, or be gone; the deadline it wrote stays. This process knows nothing else: no store,
//! no network. It looks at 32 bytes a few times a second and has one thing it can do.

use std::{path::Path, time::Duration};

use anyhow::Context as _;
use ha_core::{agent::GuardConfig, event::Event};
use ha_data::postgres::fence_by_folder;
use jiff::Timestamp;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{MissedTickBehavior, interval},
};

use crate::agent::agreement::{
    boottime,
    deadline::{Allowed, Watched},
};

const LOOK: Duration = Duration::from_millis(50);

/// What to do about what was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Wait,
    /// The time of this permission is over.
    Fence(Duration),
}

/// Pure. `done` is the permission whose end was carried out already.
fn judge(allowed: Option<Allowed>, done: Option<Duration>, now: Duration) -> Verdict {
    match allowed.and_then(|it| it.until) {
        Some(until) if now >= until && done != Some(until) => Verdict::Fence(until),
        _ => Verdict::Wait,
    }
}

/// Watches until SIGTERM or SIGINT.
pub(crate) async fn run(path: &Path) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let config: GuardConfig =
        serde_json::from_str(&text).with_context(|| format!("{} is no guard.json", path.display()))?;
    let mut term = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut int = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    tracing::info!(node = config.node, "the deadman watches");
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
        () = watch(&config) => {}
    }
    Ok(())
}

async fn watch(config: &GuardConfig) {
    let runtime_dir = &config.failover.runtime_dir;
    let pid = std::process::id();
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watched: Option<Watched> = None;
    let mut done = None;
    let mut trouble = None;
    loop {
        ticks.tick().await;
        if !watched.as_ref().is_some_and(|it| it.is_current(runtime_dir)) {
            // No file: no guard has allowed anything, and there is nothing to end.
            watched = note(&mut trouble, Watched::open(runtime_dir), "cannot open the deadline").flatten();
        }
        let Some(open) = &watched else { continue };
        note(&mut trouble, open.looked(pid), "cannot write to the deadline");
        if let Verdict::Fence(until) = judge(open.read(), done, boottime()) {
            let late = boottime().saturating_sub(until);
            match fence_by_folder(&config.postgres.data_dir, config.failover.timing.fence_budget).await {
                Ok(took) => {
                    done = Some(until);
                    // A guard that lived through this must not find an old permission.
                    let detail = format!(
                        "the guard did not extend the primary's time, which was over {} ms ago; its processes were ended \
                         in {} ms",
                        late.as_millis(),
                        took.as_millis()
                    );
                    tell(config, "done", Some(detail), None);
                }
                // With the next look it is tried again: processes that survive may still write.
                Err(error) => {
                    if note(&mut trouble, Err::<(), _>(&error), "cannot end the database").is_none() {
                        tell(config, "failed", None, Some(error.to_string()));
                    }
                }
            }
        }
    }
}

/// Each trouble is logged once, not twenty times a second.
fn note<T, E: std::fmt::Display>(trouble: &mut Option<String>, outcome: Result<T, E>, what: &str) -> Option<T> {
    match outcome {
        Ok(value) => Some(value),
        Err(error) => {
            let now = format!("{what}: {error}");
            if trouble.as_ref() != Some(&now) {
                tracing::error!("{now}");
                *trouble = Some(now);
            }
            None
        }
    }
}

fn tell(config: &GuardConfig, status: &str, detail: Option<String>, error: Option<String>) {
    use std::io::Write as _;
    let event = Event {
        at: Timestamp::now(),
        workspace: config.workspace.clone(),
        region: Some(config.region.clone()),
        source: "deadman".to_owned(),
        event: "database.fenced".to_owned(),
        subject: config.node.clone(),
        status: status.to_owned(),
        detail,
        error,
        who: None,
    };
    tracing::warn!(event = event.event, status, detail = event.detail, error = event.error);
    let written = serde_json::to_string(&event)
        .map_err(std::io::Error::from)
        .and_then(|line| {
            let mut file = std::fs::OpenOptions::new()
                .append(true)
                .create(true)
                .open(&config.events)?;
            file.write_all(format!("{line}\n").as_bytes())
        });
    if let Err(error) = written {
        tracing::warn!(%error, path = %config.events.display(), "cannot write an event");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_acts_once_and_only_on_a_permission_that_has_run_out() {
        let second = Duration::from_secs(1);
        let until = |until| Some(Allowed { until, postmaster: 7 });
        let over = until(Some(5 * second));
        assert_eq!(judge(None, None, 9 * second), Verdict::Wait);
        assert_eq!(judge(until(None), None, 9 * second), Verdict::Wait);
        assert_eq!(judge(over, None, 4 * second), Verdict::Wait);
        assert_eq!(judge(over, None, 5 * second), Verdict::Fence(5 * second));
        assert_eq!(judge(over, Some(5 * second), 9 * second), Verdict::Wait);
        // A permission given since is another one.
        assert_eq!(
            judge(until(Some(8 * second)), Some(5 * second), 9 * second),
            Verdict::Fence(8 * second)
        );
    }
}
