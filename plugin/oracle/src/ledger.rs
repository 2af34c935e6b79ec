//! The table that the clients write to, and what is in it.

use std::{sync::Arc, time::Duration};

use ha_data::{
    DataError,
    postgres::{ConnectOptions, Row, Session, Statement, ToSql, connect},
};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::{By, Found, Options, OracleError, Outcome};

/// No key: it would refuse a row that arrives a second time, and whether one does is what is asked.
const TABLE: &str = "create table if not exists ha_oracle \
    (run text not null, id bigint not null, region text not null, at timestamptz not null default clock_timestamp())";
/// The timeline is that of the log which this very transaction is written to; `pg_control_checkpoint()` may tell that
/// of an earlier promotion.
const INSERT: &str = "insert into ha_oracle (run, id, region) values ($1, $2, $3) \
    returning current_setting('cluster_name'), ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int8";
const READ: &str = "select id from ha_oracle where run = $1 and id <> 0";
const REMOVE: &str = "delete from ha_oracle where run = $1";
/// Under a lock that nobody else's insert shares, so that no row of another run goes with the table. It is waited for
/// briefly: behind whoever waits for it, every other run would.
const DROP: &str = "do $$ begin
    perform set_config('lock_timeout', '500ms', true);
    lock table ha_oracle in access exclusive mode;
    if not exists (select from ha_oracle) then drop table ha_oracle; end if;
end $$";

/// `undefined_table`
const NO_TABLE: &str = "42P01";
/// `unique_violation` and `duplicate_table`: two sessions made the same table.
const MADE_TWICE: [&str; 2] = ["23505", "42P07"];
/// `lock_not_available`
const LOCKED: &str = "55P03";
/// Of the warning that goes with a commit whose wait for replication was cut short.
const WARNING: &str = "01000";
/// Is not given to any write: the ledger's own proof that the database can be written to.
const PROOF: u64 = 0;

const AGAIN_AFTER: Duration = Duration::from_millis(50);
/// For many rows over a slow line.
const READING: Duration = Duration::from_secs(60);

/// The rows of one run, reached through any region's write listener.
#[derive(Clone, Debug)]
pub struct Ledger {
    options: Arc<Options>,
    listeners: Arc<[ConnectOptions]>,
}

impl Ledger {
    pub(crate) fn new(options: Arc<Options>) -> Result<Self, OracleError> {
        let listeners = options.listeners()?.into();
        Ok(Self { options, listeners })
    }

    pub(crate) fn listener(&self, region: usize) -> Option<&ConnectOptions> {
        self.listeners.get(region)
    }

    /// What is there, read from the primary: from a session that has just acknowledged a write. Waits up to `within`
    /// for such a session.
    ///
    /// # Errors
    /// `NotWritable` when there is none; `Data` when the rows could not be read. Asking again is harmless.
    pub async fn found(&self, within: Duration) -> Result<Found, OracleError> {
        let (open, by) = self.writable(within).await?;
        let rows = open
            .query("reading the rows of the run", READ, &[&self.options.run])
            .await?;
        let ids = rows.iter().map(id).collect::<Result<_, _>>()?;
        Ok(Found { by, ids })
    }

    /// Afterwards the run has no rows, and without rows of another run there is no table.
    ///
    /// # Errors
    /// As [`Ledger::found`]. Doing it again is harmless.
    pub async fn clear(&self, within: Duration) -> Result<(), OracleError> {
        let (open, _) = self.writable(within).await?;
        open.query("removing the rows of the run", REMOVE, &[&self.options.run])
            .await?;
        match open.query("removing the table of the run", DROP, &[]).await {
            // Another run was quicker, or still writes: then the table is its own to remove.
            Err(DataError::Refused { code, .. }) if [NO_TABLE, LOCKED].contains(&code.as_str()) => Ok(()),
            outcome => Ok(outcome.map(drop)?),
        }
    }

    /// A session with a database that acknowledges writes, and who that is. The listeners are tried in turn.
    pub(crate) async fn writable(&self, within: Duration) -> Result<(Open, By), OracleError> {
        let end = Instant::now() + within;
        let mut why = "none".to_owned();
        for place in (0..self.listeners.len()).cycle() {
            match timeout_at(end, self.prove(place)).await {
                Ok(Ok(proven)) => return Ok(proven),
                Ok(Err(reason)) => why = reason,
                Err(_) => break,
            }
            if timeout_at(end, sleep(AGAIN_AFTER)).await.is_err() {
                break;
            }
        }
        Err(OracleError::NotWritable { within, why })
    }

    async fn prove(&self, place: usize) -> Result<(Open, By), String> {
        let (Some(listener), Some(region)) = (self.listeners.get(place), self.options.regions.get(place)) else {
            return Err("no such listener".to_owned());
        };
        let options = &*self.options;
        let open = open(listener, options.connect_within)
            .await
            .map_err(|error| error.to_string())?;
        let address = open.session.address().to_owned();
        let writing = write(open, options, &region.region, PROOF);
        match timeout(options.patience, writing).await {
            Ok((Outcome::Ok(by), Some(open))) => Ok((open, by)),
            Ok((Outcome::Ok(_), None)) => Err(format!("the session with {address} ended")),
            Ok((Outcome::Failed { why } | Outcome::Unknown { why }, _)) => Err(why),
            Err(_) => Err(silent(&address, options.patience)),
        }
    }
}

fn id(row: &Row) -> Result<u64, DataError> {
    let id: i64 = row.try_get(0).map_err(unexpected)?;
    u64::try_from(id).map_err(unexpected)
}

fn unexpected(error: impl std::fmt::Display) -> DataError {
    DataError::Unexpected(error.to_string())
}

pub(crate) fn silent(address: &str, patience: Duration) -> String {
    format!("{address} gave no answer within {} ms", patience.as_millis())
}

/// A session that can write at once.
pub(crate) struct Open {
    pub(crate) session: Session,
    insert: Statement,
}

impl Open {
    async fn query(&self, what: &str, statement: &str, about: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, DataError> {
        match timeout(READING, self.session.query(statement, about)).await {
            Ok(rows) => rows.map_err(|error| self.session.error(&error)),
            Err(_) => Err(DataError::Timeout {
                what: what.to_owned(),
                after: READING,
            }),
        }
    }
}

/// Connects, makes the table if it is not there, and prepares the statement: all within `within`. Nothing of a run is
/// written by it.
pub(crate) async fn open(listener: &ConnectOptions, within: Duration) -> Result<Open, DataError> {
    let opening = async {
        let session = connect(listener).await?;
        let prepare = || async { session.prepare(INSERT).await.map_err(|error| session.error(&error)) };
        let insert = match prepare().await {
            Err(DataError::Refused { code, .. }) if code == NO_TABLE => {
                make(&session).await?;
                prepare().await?
            }
            outcome => outcome?,
        };
        Ok(Open { session, insert })
    };
    match timeout(within, opening).await {
        Ok(opened) => opened,
        Err(_) => Err(DataError::Timeout {
            what: format!("opening a session with {}", listener.host),
            after: within,
        }),
    }
}

async fn make(session: &Session) -> Result<(), DataError> {
    let made = session.batch_execute(TABLE).await;
    match made.map_err(|error| session.error(&error)) {
        Err(DataError::Refused { code, .. }) if MADE_TWICE.contains(&code.as_str()) => Ok(()),
        outcome => outcome,
    }
}

/// Writes one id, and gives the session back if it can be used again. Never gives up: a caller who does must not
/// drop this, but let it run.
pub(crate) async fn write(mut open: Open, options: &Options, region: &str, id: u64) -> (Outcome, Option<Open>) {
    let Ok(number) = i64::try_from(id) else {
        let why = format!("{id} is beyond the table's numbers");
        return (Outcome::Failed { why }, Some(open));
    };
    // What was said earlier is not about this write.
    drop(open.session.notices());
    let answer = open
        .session
        .query(&open.insert, &[&options.run, &number, &region])
        .await
        .map_err(|error| open.session.error(&error))
        .and_then(|rows| by(&rows));
    let warning = open.session.notices().into_iter().find(|it| it.code == WARNING);
    let outcome = told(answer, warning.map(|it| it.message));
    match outcome {
        Outcome::Ok(by) => {
            let node = options.nodes.get(&by.node).cloned().unwrap_or(by.node);
            (Outcome::Ok(By { node, ..by }), Some(open))
        }
        // The listener may lead elsewhere by now.
        outcome => (outcome, None),
    }
}

fn by(rows: &[Row]) -> Result<By, DataError> {
    let row = rows.first().ok_or_else(|| unexpected("no row for the one written"))?;
    let timeline: i64 = row.try_get(1).map_err(unexpected)?;
    Ok(By {
        node: row.try_get(0).map_err(unexpected)?,
        timeline: u32::try_from(timeline).map_err(unexpected)?,
    })
}

/// An error that PostgreSQL reports about a statement means that it was rolled back, unless it is about the end of
/// the session (classes 08 and 57) or the server itself (58, XX), or says itself that nobody knows (40003): those can
/// come after the commit.
fn told(answer: Result<By, DataError>, warning: Option<String>) -> Outcome {
    const UNCERTAIN: [&str; 5] = ["08", "57", "58", "XX", "40003"];
    match (answer, warning) {
        (Ok(by), None) => Outcome::Ok(by),
        (_, Some(why)) => Outcome::Unknown { why },
        (Err(error), None) => {
            let why = error.to_string();
            match error {
                DataError::Refused { code, .. } if !UNCERTAIN.iter().any(|it| code.starts_with(it)) => {
                    Outcome::Failed { why }
                }
                _ => Outcome::Unknown { why },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: &str) -> Result<By, DataError> {
        Err(DataError::Refused {
            address: "127.0.0.1:5432".to_owned(),
            reason: "no".to_owned(),
            code: code.to_owned(),
        })
    }

    fn done() -> Result<By, DataError> {
        Ok(By {
            node: "us-db-1".to_owned(),
            timeline: 1,
        })
    }

    #[test]
    fn only_a_commit_without_a_warning_is_acknowledged() {
        assert!(matches!(told(done(), None), Outcome::Ok(_)));
        let warning = Some("canceling wait for synchronous replication due to user request".to_owned());
        assert!(matches!(told(done(), warning), Outcome::Unknown { .. }));
    }

    #[test]
    fn an_error_before_the_commit_is_a_failure_and_an_end_of_the_session_is_not() {
        for code in ["25006", "42P01", "53100", "40001"] {
            assert!(matches!(told(refused(code), None), Outcome::Failed { .. }), "{code}");
        }
        for code in ["57P01", "08006", "XX000", "58030", "40003"] {
            assert!(matches!(told(refused(code), None), Outcome::Unknown { .. }), "{code}");
        }
        let lost = Err(DataError::SessionLost("reset".to_owned()));
        assert!(matches!(told(lost, None), Outcome::Unknown { .. }));
    }
}
