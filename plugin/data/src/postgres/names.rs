//! Whom a commit waits for, and what is done to commits that wait.

use std::time::Duration;

use ha_core::agreement::Epoch;
use tokio::time::{sleep, timeout};

use super::Session;
use crate::DataError;

/// For what the server does at once, unless something is wrong.
pub(super) const PROMPT: Duration = Duration::from_secs(5);
/// Between two looks at something that PostgreSQL announces to nobody.
pub(super) const LOOK: Duration = Duration::from_millis(2);

/// Done within `patience`, or the outcome is unknown.
pub(super) async fn within<T>(
    patience: Duration,
    what: &str,
    work: impl Future<Output = Result<T, DataError>>,
) -> Result<T, DataError> {
    timeout(patience, work).await.unwrap_or_else(|_| {
        Err(DataError::Timeout {
            what: what.to_owned(),
            after: patience,
        })
    })
}

/// Statements without parameters, one after the other: `ALTER SYSTEM` allows no others beside it.
pub(super) async fn run(session: &Session, statements: &[&str]) -> Result<(), DataError> {
    for statement in statements {
        session
            .batch_execute(statement)
            .await
            .map_err(|error| session.error(&error))?;
    }
    Ok(())
}

/// `alter system set name = value`; what a setting is set to cannot be a parameter.
pub(super) fn alter(name: &str, value: &str) -> String {
    let escape = if value.contains('\\') { "E" } else { "" };
    let value = value.replace('\\', "\\\\").replace('\'', "''");
    format!("alter system set {name} = {escape}'{value}'")
}

/// The setting is `value`, also after a restart, and a new statement sees it. Repeating it is harmless.
pub(super) async fn set(session: &Session, name: &str, value: &str) -> Result<(), DataError> {
    run(session, &[&alter(name, value), "select pg_reload_conf()"]).await?;
    loop {
        let row = session
            .query_one("select current_setting($1)", &[&name])
            .await
            .map_err(|error| session.error(&error))?;
        if row.get::<_, &str>(0) == value {
            return Ok(());
        }
        sleep(LOOK).await;
    }
}

/// `synchronous_standby_names` is `names`, also after a restart, and new statements see it. Who streams shows when
/// PostgreSQL goes by it (`sync_state`): a barrier waits for that. Allowed on replicas, too.
///
/// From empty names a change is not safe by itself: see protocol §4 for the order.
pub async fn set_names(session: &Session, names: &str) -> Result<(), DataError> {
    let what = format!("setting synchronous_standby_names at {}", session.address());
    within(PROMPT, &what, set(session, "synchronous_standby_names", names)).await
}

/// How long a stalled replica may hold up a fast stop; none is what the configuration says.
pub async fn set_sender_timeout(session: &Session, limit: Option<Duration>) -> Result<(), DataError> {
    let statement = match limit {
        Some(limit) => alter("wal_sender_timeout", &format!("{}ms", limit.as_millis())),
        None => "alter system reset wal_sender_timeout".to_owned(),
    };
    let statements = [statement.as_str(), "select pg_reload_conf()"];
    let what = format!("setting wal_sender_timeout at {}", session.address());
    within(PROMPT, &what, run(session, &statements)).await
}

/// All that was written is on disk, and the control file is on the timeline that is written.
pub async fn checkpoint(session: &Session, patience: Duration) -> Result<(), DataError> {
    let what = format!("a checkpoint at {}", session.address());
    within(patience, &what, run(session, &["checkpoint"])).await
}

/// A commit of this epoch was acknowledged like any other, by as many replicas as the names say.
///
/// On a session of its own: after a [`DataError::Timeout`] the session still waits and is of no more use, and its
/// backend is one of those that [`waiting`] names.
pub async fn canary(session: &Session, epoch: Epoch, patience: Duration) -> Result<(), DataError> {
    let statement = format!("select pg_logical_emit_message(true, 'ha', '{epoch}')");
    let what = format!("a commit at {}", session.address());
    within(patience, &what, run(session, &[&statement])).await
}

/// Backends whose commit waits for replicas.
pub async fn waiting(session: &Session) -> Result<Vec<i32>, DataError> {
    let work = async {
        let rows = session
            .query_typed("select pid from pg_stat_activity where wait_event = 'SyncRep'", &[])
            .await
            .map_err(|error| session.error(&error))?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    };
    within(
        PROMPT,
        &format!("looking for waiting commits at {}", session.address()),
        work,
    )
    .await
}

/// Ends the backends whose commit waits; answers with how many. Their clients see a lost connection, which leaves the
/// outcome open, as it is: a backend that is *cancelled* would tell them that it committed.
pub async fn terminate_waiting(session: &Session) -> Result<usize, DataError> {
    let work = async {
        let rows = session
            .query_typed(
                // Found first, then ended: as conditions they could be looked at in any order.
                "with waiting as materialized (select pid from pg_stat_activity where wait_event = 'SyncRep')
                 select pid, pg_terminate_backend(pid) from waiting",
                &[],
            )
            .await
            .map_err(|error| session.error(&error))?;
        Ok(rows.len())
    };
    within(
        PROMPT,
        &format!("ending waiting commits at {}", session.address()),
        work,
    )
    .await
}

/// Roles and databases, and pairs of both, for whom commits return before they are replicated: `app`,
/// `database shop`, `app in shop`. Not cheap enough for every look.
pub async fn weak_settings(session: &Session) -> Result<Vec<String>, DataError> {
    const WEAK: &str = "
select concat_ws(' in ', r.rolname::text, case when r.oid is null then 'database ' || d.datname else d.datname::text end) as who
  from pg_db_role_setting s
  left join pg_roles r on r.oid = s.setrole
  left join pg_database d on d.oid = s.setdatabase
 where exists (select from unnest(s.setconfig) as it
                where lower(it) ~ '^synchronous_commit=(off|local|false|no|0|f|n)')
 order by 1";
    let work = async {
        let rows = session
            .query_typed(WEAK, &[])
            .await
            .map_err(|error| session.error(&error))?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    };
    within(
        PROMPT,
        &format!("looking for weak settings at {}", session.address()),
        work,
    )
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_cannot_leave_their_quotes() {
        assert_eq!(alter("a", "it's"), "alter system set a = 'it''s'");
        assert_eq!(alter("a", r"x\'y"), r"alter system set a = E'x\\''y'");
    }
}
