//! Reads and writes of the application, and what is known about a write afterwards.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use ha_core::agent::AppConfig;
use ha_data::{
    DataError,
    postgres::{ConnectOptions, Host, Session, Statement},
};
use jiff::Timestamp;
use tokio::time::timeout;

use super::pool::Pool;

/// TCP, TLS and a password take seven round trips: enough for regions 200 ms apart, one way.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
pub(super) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// For a session, the statement's preparation and the commit, each at its slowest.
const WRITE_TIMEOUT: Duration = Duration::from_secs(15);
const TABLE: &str = "create table if not exists ha_app_writes \
    (id text primary key, region text, at timestamptz default now())";
/// Trying an id again writes again: the commit then waits for replication as the first one did, and what it
/// acknowledges includes the first.
const WRITE: &str = "insert into ha_app_writes (id, region) values ($1, $2) \
    on conflict (id) do update set region = excluded.region";
const READ: &str = "select region, at::text from ha_app_writes where id = $1";

/// `undefined_table`
const NO_TABLE: &str = "42P01";
/// `unique_violation`: two sessions made the same table.
const MADE_TWICE: &str = "23505";
/// Of the warning that goes with a commit whose wait for replication was cut short.
const WARNING: &str = "01000";

/// What is known about a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Committed, and acknowledged as the database's settings demand.
    Done,
    /// Sent, and its answer was lost, late or qualified: the row may be there or not, and may be lost again.
    Unknown(String),
    /// Not written.
    Refused(String),
}

pub(super) struct Database {
    config: AppConfig,
    /// Apart from each other: a primary that holds back its commits must not keep anyone from reading, nor from
    /// asking who is primary.
    writers: Arc<Pool>,
    readers: Pool,
    askers: Pool,
    /// Makes ids of this process different from each other and from those of an earlier one.
    began: i128,
    next: AtomicU64,
}

impl Database {
    pub(super) fn new(config: AppConfig) -> anyhow::Result<Self> {
        let options = |address: &str| -> anyhow::Result<ConnectOptions> {
            let (host, port) = address
                .rsplit_once(':')
                .and_then(|(host, port)| Some((host, port.parse().ok()?)))
                .with_context(|| format!("`{address}` is not `address:port`"))?;
            Ok(ConnectOptions::new(
                Host::tcp(host, port),
                &config.user,
                &config.database,
                &config.password_file,
            )
            .ca(&config.ca)
            .timeout(CONNECT_TIMEOUT)
            .application_name(format!("ha_app {}", config.server)))
        };
        Ok(Self {
            writers: Arc::new(Pool::new(options(&config.write)?)),
            readers: Pool::new(options(&config.read)?),
            askers: Pool::new(options(&config.write)?),
            config,
            began: Timestamp::now().as_nanosecond(),
            next: AtomicU64::new(1),
        })
    }

    pub(super) fn config(&self) -> &AppConfig {
        &self.config
    }

    pub(super) fn new_id(&self) -> String {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        format!("{}-{:x}-{number}", self.config.server, self.began)
    }

    /// The node behind the write listener.
    pub(super) async fn primary(&self) -> anyhow::Result<String> {
        let question = "select current_setting('cluster_name'), pg_is_in_recovery()";
        let row = self.askers.ask(question, &[]).await?.context("no answer")?;
        let (name, in_recovery): (String, bool) = (row.try_get(0)?, row.try_get(1)?);
        anyhow::ensure!(
            !in_recovery,
            "{} leads to {name}, which is a replica",
            self.config.write
        );
        let node = self
            .config
            .databases
            .keys()
            .find(|it| ha_core::agent::stream_name(it) == name);
        Ok(node.cloned().unwrap_or(name))
    }

    /// Where and when the row was written.
    pub(super) async fn read(&self, id: &str) -> anyhow::Result<Option<(String, String)>> {
        let row = match self.readers.ask(READ, &[&id]).await {
            Err(error) if is_about_no_table(&error) => None,
            outcome => outcome?,
        };
        row.map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).transpose()
    }

    /// Writes one row and says what is known about it within the time limits.
    pub(super) async fn write(&self, id: &str) -> Outcome {
        let turn = match self.writers.turn().await {
            Ok(turn) => turn,
            Err(error) => return Outcome::Refused(error.to_string()),
        };
        let (pool, id, region) = (self.writers.clone(), id.to_owned(), self.config.region.clone());
        // On its own, because giving up a commit does not end it: its session, and with it the turn, stays in use
        // until the database answers, however many callers have left.
        let writing = tokio::spawn(async move {
            let outcome = insert(&pool, &id, &region).await;
            drop(turn);
            outcome
        });
        match timeout(WRITE_TIMEOUT, writing).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => Outcome::Unknown(format!("the write broke off: {error}")),
            Err(_) => Outcome::Unknown(format!("no answer to the commit within {} s", WRITE_TIMEOUT.as_secs())),
        }
    }
}

/// Writes through a session of the pool, which it gives back only if what it was asked for was answered.
async fn insert(pool: &Pool, id: &str, region: &str) -> Outcome {
    let (mut session, statement) = match prepared(pool).await {
        Ok(ready) => ready,
        Err(why) => return Outcome::Refused(why),
    };
    // What was said earlier is not about this write.
    drop(session.notices());
    let outcome = session
        .execute(&statement, &[&id, &region])
        .await
        .map_err(|error| session.error(&error));
    let warning = session.notices().into_iter().find(|it| it.code == WARNING);
    let outcome = judge(outcome.map(drop), warning.map(|it| it.message));
    if outcome == Outcome::Done {
        pool.give_back(session);
    }
    outcome
}

/// A session that has answered, and the statement. Nothing is written by preparing: whatever fails here leaves
/// nothing behind, so that a session that was kept and went stale costs no more than a new one.
async fn prepared(pool: &Pool) -> Result<(Session, Statement), String> {
    loop {
        let (session, kept) = pool.session().await.map_err(|error| error.to_string())?;
        let preparing = async {
            let prepare = || async { session.prepare(WRITE).await.map_err(|error| session.error(&error)) };
            match prepare().await {
                Err(DataError::Refused { code, .. }) if code == NO_TABLE => {
                    make_table(&session).await?;
                    prepare().await
                }
                outcome => outcome,
            }
        };
        match timeout(STATEMENT_TIMEOUT, preparing).await {
            Ok(Ok(statement)) => return Ok((session, statement)),
            Ok(Err(_)) if kept => pool.forget(),
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => {
                pool.forget();
                return Err(format!("{} does not answer", session.address()));
            }
        }
    }
}

fn is_about_no_table(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(DataError::Refused { code, .. }) if code == NO_TABLE)
}

/// The table is there.
async fn make_table(session: &Session) -> Result<(), DataError> {
    match session
        .batch_execute(TABLE)
        .await
        .map_err(|error| session.error(&error))
    {
        Err(DataError::Refused { code, .. }) if code == MADE_TWICE => Ok(()),
        outcome => outcome,
    }
}

/// An error that PostgreSQL reports about a statement means that it was rolled back, unless it is about the end of
/// the session (classes 08 and 57) or the server itself (58, XX): those can come after the commit.
fn judge(outcome: Result<(), DataError>, warning: Option<String>) -> Outcome {
    match (outcome, warning) {
        (Ok(()), None) => Outcome::Done,
        (_, Some(warning)) => Outcome::Unknown(warning),
        (Err(DataError::Refused { reason, code, .. }), None)
            if !["08", "57", "58", "XX"].iter().any(|class| code.starts_with(class)) =>
        {
            Outcome::Refused(format!("{reason} (SQLSTATE {code})"))
        }
        (Err(error), None) => Outcome::Unknown(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: &str) -> Result<(), DataError> {
        Err(DataError::Refused {
            address: "127.0.0.1:5432".to_owned(),
            reason: "no".to_owned(),
            code: code.to_owned(),
        })
    }

    #[test]
    fn a_commit_without_a_warning_is_done() {
        assert_eq!(judge(Ok(()), None), Outcome::Done);
    }

    #[test]
    fn a_commit_whose_wait_was_cancelled_is_unknown() {
        let outcome = judge(Ok(()), Some("canceling wait for synchronous replication".to_owned()));
        assert!(matches!(outcome, Outcome::Unknown(_)));
    }

    #[test]
    fn a_lost_session_is_unknown_and_never_failed() {
        let outcome = judge(Err(DataError::SessionLost("reset".to_owned())), None);
        assert!(matches!(outcome, Outcome::Unknown(_)));
        assert!(matches!(judge(refused("57P01"), None), Outcome::Unknown(_)));
    }

    #[test]
    fn an_error_of_the_statement_is_a_refusal() {
        // A replica: cannot execute in a read-only transaction.
        assert!(matches!(judge(refused("25006"), None), Outcome::Refused(_)));
    }
}
