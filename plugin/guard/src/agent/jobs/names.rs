//! Whom a commit waits for, and what is proved before that is counted on.

use std::time::Duration;

use anyhow::Context as _;
use ha_core::{agreement::FENCED_NAMES, decide::Barrier, lsn::Lsn};
use ha_data::postgres::{self, Session};
use tokio::time::{sleep, timeout};

use super::Task;
use crate::agent::observe;

/// PostgreSQL announces to nobody when it begins to obey.
const LOOK: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(10);
/// A busy primary writes out all it has.
const CHECKPOINT: Duration = Duration::from_secs(600);

/// Commits wait for `names`, those of sessions that are open included.
pub(super) async fn set(task: &Task<'_>, names: &str) -> anyhow::Result<()> {
    let session = task.session().await?;
    let row = session.query_one("select current_setting('synchronous_standby_names')", &[]);
    let row = row.await.map_err(|error| session.error(&error))?;
    let before: String = row.get(0);
    if before.is_empty() && !names.is_empty() {
        // Sessions obey a flag that the checkpointer sets when it has the time to; that it did is only known once a
        // commit waits for somebody who does not exist.
        postgres::set_names(&session, FENCED_NAMES).await?;
        let waits = wait_is_seen(task, &session);
        let seen = timeout(PATIENCE, waits).await;
        seen.context("no commit is seen waiting, so the new names are not obeyed by all")??;
    }
    Ok(postgres::set_names(&session, names).await?)
}

/// Until a commit of ours waits. It is answered once the names are others.
async fn wait_is_seen(task: &Task<'_>, session: &Session) -> anyhow::Result<()> {
    let epoch = task.term()?.epoch;
    let config = &task.guard.state.config;
    let canary = postgres::connect(&observe::admin(config)).await?;
    let row = canary.query_one("select pg_backend_pid()", &[]);
    let pid: i32 = row.await.map_err(|error| canary.error(&error))?.get(0);
    loop {
        tokio::select! {
            // One that returns was not made to wait yet.
            sent = postgres::canary(&canary, epoch, PATIENCE) => sent?,
            seen = seen_once(session, pid) => return seen,
        }
    }
}

async fn seen_once(session: &Session, pid: i32) -> anyhow::Result<()> {
    loop {
        if postgres::waiting(session).await?.contains(&pid) {
            return Ok(());
        }
        sleep(LOOK).await;
    }
}

/// The log's end while PostgreSQL goes by `names` for everybody who streams.
pub(super) async fn barrier(task: &Task<'_>, names: &str) -> anyhow::Result<()> {
    let session = task.session().await?;
    let taken = timeout(PATIENCE, in_force(&session, names)).await;
    let lsn = taken.context("not everybody who streams is counted as the names say")??;
    task.guard.state.memory.set_barrier(Some(Barrier {
        names: names.to_owned(),
        lsn,
    }));
    Ok(())
}

async fn in_force(session: &Session, names: &str) -> anyhow::Result<Lsn> {
    loop {
        // One statement: whoever streams, and the position after.
        let rows = session
            .query_typed(
                "select coalesce(application_name, ''), coalesce(sync_state, ''), pg_current_wal_lsn()::text,
                        current_setting('synchronous_standby_names')
                   from (select 1) as one
                   left join pg_stat_replication on state = 'streaming'",
                &[],
            )
            .await
            .map_err(|error| session.error(&error))?;
        let obeyed = rows.iter().all(|row| {
            let (name, state, now): (&str, &str, &str) = (row.get(0), row.get(1), row.get(3));
            let counted = matches!(state, "sync" | "quorum");
            now == names && (name.is_empty() || counted == mentions(names, name))
        });
        if let Some(row) = rows.first().filter(|_| obeyed) {
            return Ok(row.get::<_, &str>(2).parse()?);
        }
        sleep(LOOK).await;
    }
}

/// `ANY 1 (a, b)` mentions `a`.
fn mentions(names: &str, name: &str) -> bool {
    names
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .any(|word| word == name)
}

/// The last checkpoint is on the timeline that is written: others can rewind to this primary.
pub(super) async fn checkpoint(task: &Task<'_>) -> anyhow::Result<()> {
    let session = task.session().await?;
    Ok(postgres::checkpoint(&session, CHECKPOINT).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_mentioned_as_a_whole_word() {
        let names = "ANY 1 (ha_us_db_1_e3, ha_eu_db_1_e3)";
        assert!(mentions(names, "ha_us_db_1_e3"));
        assert!(!mentions(names, "ha_us_db_1_e"));
        assert!(!mentions(names, "ha_us_db_1"));
        assert!(!mentions("", "ha_us_db_1_e3"));
    }
}
