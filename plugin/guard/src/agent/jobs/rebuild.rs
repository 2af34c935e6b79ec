//! Data that went its own way, or is not there, is brought to what the primary has.

use std::time::Instant;

use anyhow::Context as _;
use ha_core::{agreement::Need, report::DatabaseState};
use ha_data::{
    DataError,
    postgres::{self, DataDir, Rewound, Upstream},
};

use super::{HOURS, Task};
use crate::agent::{STOP_PATIENCE, agreement::Answer, fail, memory::Copies, state::Phase};

/// A rewind reads the log since the fork and copies what changed: minutes, or a copy is faster.
const REWIND: std::time::Duration = std::time::Duration::from_secs(1800);

/// The data is a part of what `from` has, and starts as a sealed standby. Without `copy` by `pg_rewind`; where that
/// cannot be done, the need for a copy is known afterwards.
pub(super) async fn rebuild(task: &Task<'_>, from: &str, copy: bool) -> anyhow::Result<()> {
    let guard = task.guard;
    let state = &guard.state;
    let config = &state.config;
    fail::point("rebuild.before");
    let upstream = task.upstream(from)?;
    // Not sealed any more: half of a rebuilt log is not to be counted on.
    state.memory.forget_sealed().context("forgetting the seal")?;
    guard.keeper.stop(STOP_PATIENCE).await?;
    fail::point("rebuild.stopped");
    if copy {
        copy_again(task, from, &upstream).await?;
    } else {
        state.set_phase(Phase::of(DatabaseState::Creating, format!("rewinding to {from}")));
        let keep = config.postgres.data_dir.with_extension("diverged");
        let began = Instant::now();
        match postgres::rewind(&config.postgres, &config.node, &upstream, &keep, REWIND).await {
            Ok(rewound) => tell(task, from, &rewound),
            Err(error) => {
                guard.keeper.look().await?;
                let why = format!("it cannot be rewound to {from}: {error}");
                state
                    .events
                    .write("rejoin.rewind", &config.node, "failed", None, Some(why.clone()));
                if for_good(&error) {
                    state.memory.set_need(Some(Need { copy: true, why }));
                }
                return Err(error.into());
            }
        }
        tracing::info!(took = ?began.elapsed(), from, "rewound");
    }
    fail::point("rebuild.done");
    answer(task, copy, Answer::Done);
    state.memory.set_need(None);
    Ok(guard.keeper.look().await?)
}

/// Trying again would end the same.
fn for_good(error: &DataError) -> bool {
    matches!(
        error,
        DataError::CannotRewind { .. } | DataError::Ruined { .. } | DataError::Program { .. }
    )
}

fn tell(task: &Task<'_>, from: &str, rewound: &Rewound) {
    let state = &task.guard.state;
    let node = &state.config.node;
    let how = match rewound.fork {
        Some(fork) => format!("to {from}, from the fork at {fork}, in {} ms", rewound.took.as_millis()),
        None => format!("{from} has all that was here; nothing had to be done"),
    };
    state.events.write("rejoin.rewind", node, "rewound", Some(how), None);
    for lost in &rewound.lost {
        let about: Vec<String> = lost
            .relations
            .iter()
            .take(5)
            .map(|(relation, records)| format!("{relation} ({records})"))
            .collect();
        let what = format!(
            "{} bytes of timeline {} from {} to {}: {} transactions, {} records{}{}",
            lost.bytes,
            lost.timeline,
            lost.from,
            lost.to,
            lost.commits,
            lost.records,
            if about.is_empty() { "" } else { ", about " },
            about.join(", "),
        );
        state
            .events
            .write("rejoin.discarded", node, "discarded", Some(what), None);
    }
    if let Some(first) = rewound.kept.first() {
        let part = if rewound.kept_in_part { ", not all of it" } else { "" };
        let what = format!("{} files beside {}{part}", rewound.kept.len(), first.display());
        state.events.write("rejoin.kept", node, "kept", Some(what), None);
    }
}

/// What was here is kept aside until the copy is complete and started.
async fn copy_again(task: &Task<'_>, from: &str, upstream: &Upstream) -> anyhow::Result<()> {
    let state = &task.guard.state;
    let config = &state.config;
    if !state.memory.may_copy() {
        let why = format!(
            "it was copied {} times within an hour; see `ha events` for what makes each copy useless",
            Copies::MOST
        );
        state
            .events
            .write("rejoin.copy", &config.node, "bounded", None, Some(why.clone()));
        answer(task, true, Answer::Refused(why.clone()));
        anyhow::bail!(why);
    }
    let there = postgres::data_dir(&config.postgres).await?;
    let work = async {
        let id = expected(task)?;
        postgres::prepare_upstream(&config.postgres, &config.node, upstream, &id).await?;
        state.set_phase(Phase::of(DatabaseState::Creating, format!("copying {from}")));
        if there != DataDir::Absent {
            postgres::set_aside(&config.postgres).await?;
        }
        tokio::time::timeout(HOURS, postgres::copy(&config.postgres, &config.node, upstream))
            .await
            .context("the copy takes too long")??;
        anyhow::Ok(())
    };
    let began = Instant::now();
    let copied = work.await.with_context(|| format!("copying {from}"));
    let (status, detail, error) = match &copied {
        Ok(()) => (
            "copied",
            Some(format!("from {from} in {} ms", began.elapsed().as_millis())),
            None,
        ),
        Err(error) => ("failed", None, Some(format!("{error:#}"))),
    };
    state.events.write("rejoin.copy", &config.node, status, detail, error);
    task.guard.keeper.look().await?;
    copied
}

/// Whoever asked for it is told; a copy is more than was asked for.
fn answer(task: &Task<'_>, copied: bool, answer: Answer) {
    let agreement = &task.guard.agreement;
    if let Some(ask) = agreement.asked().filter(|ask| copied || !ask.copy) {
        agreement.answer(&ask, answer);
    }
}

/// A first copy, into nothing.
pub(super) async fn copy_first(task: &Task<'_>, from: &str) -> anyhow::Result<()> {
    let state = &task.guard.state;
    let config = &state.config;
    state.memory.forget_sealed().context("forgetting the seal")?;
    let upstream = task.upstream(from)?;
    let id = expected(task)?;
    let waits = format!("copying {from}");
    postgres::prepare_upstream(&config.postgres, &config.node, &upstream, &id)
        .await
        .inspect_err(|error| {
            state.set_phase(Phase::of(DatabaseState::Absent, format!("{waits}: {error}")));
        })
        .context(waits.clone())?;
    state.set_phase(Phase::of(DatabaseState::Creating, waits.clone()));
    let copied = tokio::time::timeout(HOURS, postgres::copy(&config.postgres, &config.node, &upstream))
        .await
        .context("the copy takes too long")?;
    task.guard.keeper.look().await?;
    copied.context(waits)?;
    answer(task, true, Answer::Done);
    Ok(())
}

fn expected(task: &Task<'_>) -> anyhow::Result<String> {
    task.guard
        .state
        .expected()
        .context("the store does not say yet which cluster this is")
}
