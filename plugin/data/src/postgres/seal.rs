//! A database that acknowledges nothing for anybody: a replica cut off for good from what it followed, and a folder
//! that starts as such a replica.

use std::time::Duration;

use ha_core::{
    agent::PostgresConfig,
    agreement::FENCED_NAMES,
    lsn::{Lsn, Position},
};
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use super::{
    Session, cluster,
    control::control,
    follow,
    names::{self, LOOK, within},
    place::Place,
    process::{self, Handle},
    settings::quoted,
    timeline,
};
use crate::DataError;

/// Longer than `wal_retrieve_retry_interval`: two looks this far apart do not see the same wait.
const ANOTHER_WAIT: Duration = Duration::from_millis(150);

/// SQLSTATE
const DISK_FULL: &str = "53100";

/// The replica behind `session` follows nobody, also after a restart, and nothing it received later than now can be
/// acknowledged to anybody; answers with where its log ends, all of it replayed.
///
/// The order matters. Once the credential is gone no walreceiver can come to stream any more; one that had read it
/// before is seen among the processes, also while it is still connecting (`pg_stat_wal_receiver` shows it only
/// later), and is ended. Only then is it worth looking at how far the log goes.
///
/// Errors leave the replica as far sealed as it came, and never less; repeat it. A primary is refused with
/// [`DataError::NotReplica`]: it seals by stopping.
pub async fn seal(session: &Session, config: &PostgresConfig, patience: Duration) -> Result<Position, DataError> {
    seal_at(session, config, patience).await
}

pub(super) async fn seal_at(session: &Session, place: &impl Place, patience: Duration) -> Result<Position, DataError> {
    let work = async {
        if !facts(session).await?.replica {
            return Err(DataError::NotReplica {
                address: session.address().to_owned(),
            });
        }
        place.take_credential_away(session).await?;
        let settings = [
            names::alter("primary_conninfo", ""),
            names::alter("restore_command", ""),
            names::alter("synchronous_standby_names", FENCED_NAMES),
        ];
        let mut statements: Vec<&str> = settings.iter().map(String::as_str).collect();
        statements.push("select pg_reload_conf()");
        match names::run(session, &statements).await {
            // Without the credential whom it was told to follow does not matter, also after a restart.
            Err(DataError::Refused { reason, code, .. }) if code == DISK_FULL => {
                tracing::warn!(reason, "sealed without a change of settings: the disk is full");
            }
            done => done?,
        }
        place.end_receivers(session).await?;
        read_to_the_end(session).await
    };
    let what = format!("sealing the replica at {}", session.address());
    let replayed = within(patience, &what, work).await?;
    let at = place.identify().await?;
    Ok(Position {
        timeline: at.position.timeline,
        lsn: replayed,
    })
}

/// No walreceiver is left, also none that is only connecting. They are no backends: `pg_terminate_backend` refuses.
pub(super) async fn end_receivers(session: &Session, config: &PostgresConfig) -> Result<(), DataError> {
    loop {
        let rows = session
            .query_typed(
                "select pid from pg_stat_activity where backend_type = 'walreceiver'",
                &[],
            )
            .await
            .map_err(|error| session.error(&error))?;
        if rows.is_empty() {
            return Ok(());
        }
        for row in rows {
            if let Some(handle) = Handle::of_postgres(row.get(0), &config.data_dir)? {
                handle.signal(Signal::TERM)?;
                handle.gone().await;
            }
        }
    }
}

/// How a database that recovers gets on.
struct Facts {
    replica: bool,
    /// The startup process has found nothing more to read, for now.
    waits: bool,
    received: Option<Lsn>,
    replayed: Option<Lsn>,
    paused: bool,
}

async fn facts(session: &Session) -> Result<Facts, DataError> {
    let row = session
        .query_one(
            "select pg_is_in_recovery(),
                    exists (select from pg_stat_activity
                             where backend_type = 'startup' and wait_event = 'RecoveryRetrieveRetryInterval'),
                    pg_last_wal_receive_lsn()::text, pg_last_wal_replay_lsn()::text,
                    case when pg_is_in_recovery() then pg_is_wal_replay_paused() else false end",
            &[],
        )
        .await
        .map_err(|error| session.error(&error))?;
    let lsn = |column: usize| -> Result<Option<Lsn>, DataError> {
        let text: Option<String> = row.get(column);
        text.map(|text| text.parse().map_err(|error| DataError::Unexpected(format!("{error}"))))
            .transpose()
    };
    Ok(Facts {
        replica: row.get(0),
        waits: row.get(1),
        received: lsn(2)?,
        replayed: lsn(3)?,
        paused: row.get(4),
    })
}

/// All local log is replayed; answers with where it ended. Only for a replica that receives nothing any more.
///
/// The startup process waits between two readings of all there is. It may also wait *before* it has read what the
/// last walreceiver left, so one look is enough only when nothing received is left to replay; otherwise two that lie
/// further apart than a wait lasts are. (They are needed: the last thing received may be half a record, which is never
/// replayed, was never acknowledged, and is no part of the position.)
pub(super) async fn read_to_the_end(session: &Session) -> Result<Lsn, DataError> {
    let mut waited_at: Option<Instant> = None;
    loop {
        let asked = Instant::now();
        let now = facts(session).await?;
        if !now.replica {
            return Err(DataError::NotReplica {
                address: session.address().to_owned(),
            });
        }
        if now.paused {
            names::run(session, &["select pg_wal_replay_resume()"]).await?;
        }
        if now.waits
            && let Some(replayed) = now.replayed
        {
            if now.received <= Some(replayed) || waited_at.is_some_and(|at| asked - at > ANOTHER_WAIT) {
                return Ok(replayed);
            }
            waited_at.get_or_insert_with(Instant::now);
        }
        sleep(LOOK).await;
    }
}

/// No walreceiver of this node can log in anywhere from now on, until the node is told to follow. A file less, so that
/// it works on a full disk, too.
pub fn take_credential_away(config: &PostgresConfig) -> Result<(), DataError> {
    let path = follow::passfile(config);
    process::remove(&path)?;
    path.parent().map_or(Ok(()), |parent| match parent.exists() {
        true => timeline::sync(parent),
        false => Ok(()),
    })
}

/// The stopped folder starts as a standby that follows nobody, whoever starts it; made primary by hand it acknowledges
/// nothing. Repeating it is harmless, and so is dying in the middle.
///
/// `postgresql.auto.conf` is written whole: what anybody had set by `ALTER SYSTEM` is gone.
pub async fn prepare_sealed_start(config: &PostgresConfig) -> Result<(), DataError> {
    at_rest(config)?;
    seal_folder(config).await
}

pub(super) async fn seal_folder(config: &PostgresConfig) -> Result<(), DataError> {
    let dir = &config.data_dir;
    take_credential_away(config)?;
    write_auto_conf(dir, FENCED_NAMES)?;
    process::remove(&dir.join("recovery.signal"))?;
    follow::write_private(&dir.join("standby.signal"), "")?;
    timeline::sync(dir)?;
    timeline::tidy(dir, &control(config).await?).map(drop)
}

/// The stopped folder of the present leader starts as the primary it is, its commits waiting for `names` from the
/// first one on; also when a fence had prepared it for a sealed start that did not come. Only for the leader: nobody
/// but the agreement knows who that is.
pub async fn prepare_primary_start(config: &PostgresConfig, names: &str) -> Result<(), DataError> {
    at_rest(config)?;
    let dir = &config.data_dir;
    process::remove(&dir.join("standby.signal"))?;
    take_credential_away(config)?;
    write_auto_conf(dir, names)?;
    timeline::sync(dir)?;
    timeline::tidy(dir, &control(config).await?).map(drop)
}

/// What `ALTER SYSTEM` changes later, all of it.
pub(super) fn write_auto_conf(dir: &std::path::Path, names: &str) -> Result<(), DataError> {
    let text = format!(
        "# Written by ha-guard; ALTER SYSTEM changes it.\n\
         primary_conninfo = ''\nrestore_command = ''\nsynchronous_standby_names = {}\n",
        quoted(names)
    );
    follow::write_private(&dir.join("postgresql.auto.conf"), &text)
}

/// No server runs on the folder, and what it holds is one database.
pub(super) fn at_rest(config: &PostgresConfig) -> Result<(), DataError> {
    let path = config.data_dir.clone();
    if let Some(why) = cluster::ruined(config)? {
        return Err(DataError::Ruined { path, why });
    }
    match process::adopt(config)? {
        Some(_) => Err(DataError::Running { path }),
        None => Ok(()),
    }
}
