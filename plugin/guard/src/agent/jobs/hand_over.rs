//! A planned change of primary, on the side of the one that leaves (protocol §8).
//!
//! Until the swap everything can be undone, and the database is started again only after that was agreed. After the
//! swap there is nothing to undo: the target is chosen, and it has all that was ever acknowledged.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use ha_core::{agreement::Phase, lsn::Position};
use ha_data::postgres::{self, ClusterState, Control};
use tokio::time::sleep;

use super::Task;
use crate::agent::{Guard, agreement::Swapped, fail, http::PositionAnswer};

/// For the stop, and what comes after it: less is not begun with.
const LEAST: Duration = Duration::from_secs(1);
/// Between two questions to the target: it tells nobody when it has replayed something.
const ASK: Duration = Duration::from_millis(3);
/// For its first answer; a busy machine is no reason to undo anything.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);
/// Between two looks at a database that takes its time to stop.
const LOOK: Duration = Duration::from_millis(100);
/// A replica that does not answer holds up a stop for as long.
const STALLED: Duration = Duration::from_secs(2);

/// The database is stopped, `to` has all of it and is chosen; or all is as before.
pub(super) async fn hand_over(task: &Task<'_>, to: &str) -> anyhow::Result<()> {
    let state = &task.guard.state;
    let term = task.term()?;
    let left = task.look.view.switch_left.unwrap_or_default();
    let until = Instant::now() + left;
    let epoch = term.epoch;
    let done = match tokio::time::timeout(left, work(task, to, until)).await {
        Ok(done) => done,
        Err(_) => Err(anyhow::anyhow!("it was not over in time")),
    };
    let Err(error) = done else { return Ok(()) };
    // The swap may have happened although its answer was lost; then nothing is undone.
    let look = task.guard.agreement.look();
    let still = look.view.term.as_ref();
    if still.is_none_or(|term| term.phase != Phase::Switching || term.epoch != epoch) {
        return Err(error);
    }
    let why = format!("{error:#}");
    state.events.write("switchover", to, "undone", None, Some(why.clone()));
    match task.guard.agreement.undo_switch(&look.basis, &why).await {
        Swapped::Done => state.may_come_back(),
        // Whoever decides next sees a switchover that came to a halt, and undoes it.
        other => tracing::warn!(?other, "the switchover is not undone yet"),
    }
    if let Err(error) = sender_timeout(task, None).await {
        tracing::debug!(
            error = format!("{error:#}"),
            "wal_sender_timeout is set back by the next start"
        );
    }
    Err(error)
}

async fn work(task: &Task<'_>, to: &str, until: Instant) -> anyhow::Result<()> {
    let guard = task.guard;
    let state = &guard.state;
    let config = &state.config;
    let term = task.term()?;
    let peer = task.peer(to)?;
    let next = term.epoch + 1;
    anyhow::ensure!(term.voters.contains(to) || term.acks == 0, "{to} is no voter");
    let session = task.session().await?;
    let began = Instant::now();
    // Outside the outage: the stop has little left to write.
    postgres::checkpoint(&session, left(until)?).await?;
    sender_timeout(task, Some(STALLED)).await?;
    task.step(next, "checkpoint", began);
    fail::point("hand_over.checkpointed");
    let patience = Instant::now() + ANSWERS_WITHIN;
    // Nothing is stopped yet, so there is time to ask again.
    while let Err(error) = target(guard, &peer.guard, term.timeline).await {
        if Instant::now() >= patience {
            return Err(error.context(format!("asking {to} how far it is")));
        }
        sleep(ASK).await;
    }

    let began = Instant::now();
    let budget = left(until)?;
    let (control, ended) = stop(task, budget - budget / 4).await?;
    task.step(next, "stop", began);
    fail::point("hand_over.stopped");

    let began = Instant::now();
    let stopped_at = Position {
        timeline: control.timeline,
        lsn: control.checkpoint,
    };
    let reached = loop {
        // Where the shutdown checkpoint begins: beyond it is all of it, for a record is replayed whole.
        match target(guard, &peer.guard, term.timeline).await {
            Ok(position) if position.lsn > stopped_at.lsn => break position,
            Ok(_) => {}
            Err(error) => tracing::debug!(error = format!("{error:#}"), "the target does not answer"),
        }
        left(until).with_context(|| format!("{to} does not have all of the log"))?;
        sleep(ASK).await;
    };
    task.step(next, "catch up", began);
    fail::point("hand_over.caught_up");
    if !ended {
        // Nothing but its archiver is left, which begins again with the next start.
        guard.keeper.fence(config.failover.timing.fence_budget).await?;
    }
    // Before the swap: whoever starts it by hand after that must get no commit acknowledged. The promise comes after it,
    // or undoing this would look as if the store had gone back.
    postgres::prepare_sealed_start(&config.postgres).await?;

    let look = guard.agreement.look();
    match guard.agreement.hand_over(&look.basis, stopped_at, reached).await {
        Swapped::Done => {}
        Swapped::Changed => anyhow::bail!("the term changed meanwhile"),
        Swapped::Failed(why) => anyhow::bail!(why),
        Swapped::Unknown(why) => {
            // Nothing is started or undone before the store says what came of it.
            let mut changed = guard.agreement.changed();
            loop {
                let view = guard.agreement.view();
                if view.term.as_ref().is_some_and(|now| now.epoch > term.epoch) {
                    break;
                }
                anyhow::ensure!(Instant::now() < until, "{why}");
                tokio::select! {
                    _ = changed.changed() => {}
                    () = sleep(Duration::from_millis(50)) => {}
                }
            }
        }
    }
    fail::point("hand_over.swapped");
    guard
        .agreement
        .keep_promise(next)
        .await
        .context("writing the promise")?;
    state.events.write(
        "switchover",
        to,
        "handed_over",
        Some(format!("stopped at {stopped_at}, {to} is at {reached}")),
        None,
    );
    Ok(())
}

/// The shutdown checkpoint is written; whether all processes have ended, too. An archiver whose command takes long is
/// not waited for.
async fn stop(task: &Task<'_>, within: Duration) -> anyhow::Result<(Control, bool)> {
    let guard = task.guard;
    let config = &guard.state.config.postgres;
    let stopping = guard.keeper.stop(within);
    tokio::pin!(stopping);
    let (control, ended) = loop {
        tokio::select! {
            stopped = &mut stopping => {
                stopped?;
                break (postgres::control(config).await?, true);
            }
            () = sleep(LOOK) => {
                let control = postgres::control(config).await?;
                if control.state == ClusterState::ShutDown {
                    break (control, false);
                }
            }
        }
    };
    anyhow::ensure!(
        control.state == ClusterState::ShutDown,
        "the database did not stop cleanly within {} ms",
        within.as_millis()
    );
    Ok((control, ended))
}

fn left(until: Instant) -> anyhow::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    anyhow::ensure!(left >= LEAST, "it was not over in time");
    Ok(left)
}

async fn sender_timeout(task: &Task<'_>, limit: Option<Duration>) -> anyhow::Result<()> {
    let session = task.session().await?;
    Ok(postgres::set_sender_timeout(&session, limit).await?)
}

/// How far the target has replayed; an error when it is no replica on that timeline.
async fn target(guard: &Guard, url: &str, timeline: u32) -> anyhow::Result<Position> {
    let asked = guard.http.get(format!("{url}/position")).send().await?;
    let answer: PositionAnswer = asked.error_for_status()?.json().await?;
    anyhow::ensure!(answer.in_recovery, "it is not in recovery");
    anyhow::ensure!(
        answer.timeline == Some(timeline),
        "it is on timeline {}, not {timeline}",
        answer.timeline.unwrap_or_default()
    );
    Ok(Position {
        timeline,
        lsn: answer.replayed.context("it has replayed nothing")?,
    })
}
