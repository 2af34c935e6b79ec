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
    postgres::{ConnectOptions, Host, Session, connect},
};
use jiff::Timestamp;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// Sessions of one kind at once; for writes those included that still wait for a commit nobody asks about any more.
const SESSIONS: usize = 8;
/// How long a request waits for one of them.
const TURN_TIMEOUT: Duration = Duration::from_secs(2);

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
    write: ConnectOptions,
    read: ConnectOptions,
    /// Apart from each other: a primary that holds back its commits must not keep anyone from reading.
    writers: Arc<Semaphore>,
    readers: Arc<Semaphore>,
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
            .application_name(format!("ha_app {}", config.server)))
        };
        Ok(Self {
            write: options(&config.write)?,
            read: options(&config.read)?,
            config,
            writers: Arc::new(Semaphore::new(SESSIONS)),
            readers: Arc::new(Semaphore::new(SESSIONS)),
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
        let _turn = turn(&self.readers).await?;
        let row = within(async {
            let session = connect(&self.write).await?;
            session
                .query_one("select current_setting('cluster_name'), pg_is_in_recovery()", &[])
                .await
                .map_err(|error| session.error(&error))
        })
        .await?;
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
        let _turn = turn(&self.readers).await?;
        let row = within(async {
            let session = connect(&self.read).await?;
            match session
                .query_opt(READ, &[&id])
                .await
                .map_err(|error| session.error(&error))
            {
                Err(DataError::Refused { code, .. }) if code == NO_TABLE => Ok(None),
                outcome => outcome,
            }
        })
        .await?;
        row.map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).transpose()
    }

    /// Writes one row and says what is known about it within the time limits.
    pub(super) async fn write(&self, id: &str) -> Outcome {
        let turn = match turn(&self.writers).await {
            Ok(turn) => turn,
            Err(error) => return Outcome::Refused(error.to_string()),
        };
        let (options, id, region) = (self.write.clone(), id.to_owned(), self.config.region.clone());
        // On its own, because giving up a commit does not end it: its session, and with it the turn, stays in use
        // until the database answers, however many callers have left.
        let writing = tokio::spawn(async move {
            let outcome = insert(&options, &id, &region).await;
            drop(turn);
            outcome
        });
        let limit = self.write.timeout + STATEMENT_TIMEOUT;
        match timeout(limit, writing).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => Outcome::Unknown(format!("the write broke off: {error}")),
            Err(_) => Outcome::Unknown(format!("no answer to the commit within {} s", limit.as_secs())),
        }
    }
}

async fn turn(sessions: &Arc<Semaphore>) -> anyhow::Result<OwnedSemaphorePermit> {
    timeout(TURN_TIMEOUT, sessions.clone().acquire_owned())
        .await
        .with_context(|| format!("all {SESSIONS} sessions wait for the database; nothing was sent"))?
        .context("the application is ending")
}

async fn insert(options: &ConnectOptions, id: &str, region: &str) -> Outcome {
    let mut session = match connect(options).await {
        Ok(session) => session,
        Err(error) => return Outcome::Refused(error.to_string()),
    };
    // Nothing is written by preparing: whatever fails up to here leaves nothing behind.
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
    let statement = match timeout(STATEMENT_TIMEOUT, preparing).await {
        Ok(Ok(statement)) => statement,
        Ok(Err(error)) => return Outcome::Refused(error.to_string()),
        Err(_) => return Outcome::Refused(format!("{} does not answer", session.address())),
    };
    let outcome = session
        .execute(&statement, &[&id, &region])
        .await
        .map_err(|error| session.error(&error));
    let warning = session.notices().into_iter().find(|it| it.code == WARNING);
    judge(outcome.map(drop), warning.map(|it| it.message))
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

async fn within<T>(work: impl Future<Output = Result<T, DataError>>) -> anyhow::Result<T> {
    Ok(timeout(STATEMENT_TIMEOUT, work)
        .await
        .with_context(|| format!("no answer within {} s", STATEMENT_TIMEOUT.as_secs()))??)
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
