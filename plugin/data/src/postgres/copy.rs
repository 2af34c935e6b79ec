//! A replica made from a running primary, and the slots that keep what replicas still need.

use std::path::Path;

use ha_core::agent::{PostgresConfig, stream_name};

use super::{
    ADMIN_DATABASE, REPLICATION_USER,
    cluster::{begin, finish, or_clear, write_config_in},
    connect::{ConnectOptions, Host, Session, connect},
    follow::{self, Upstream},
    program,
};
use crate::DataError;

/// The upstream is a primary of this cluster and keeps its log for `node` from now on.
///
/// Done before a copy begins, so that neither a copy of the wrong cluster nor one that cannot catch up is made.
pub async fn prepare_upstream(
    config: &PostgresConfig,
    node: &str,
    upstream: &Upstream,
    system_identifier: &str,
) -> Result<(), DataError> {
    let host = Host::tcp(&upstream.address, upstream.port);
    let options = ConnectOptions::new(
        host,
        REPLICATION_USER,
        ADMIN_DATABASE,
        &config.replication_password_file,
    )
    .ca(&config.tls.ca)
    .application_name(format!("{}_copy", stream_name(node)));
    let session = connect(&options).await?;
    let row = session
        .query_one(
            "select system_identifier::text, pg_is_in_recovery() from pg_control_system()",
            &[],
        )
        .await
        .map_err(|error| session.error(&error))?;
    let (found, replica): (String, bool) = (row.get(0), row.get(1));
    if found != system_identifier {
        return Err(DataError::Unexpected(format!(
            "{upstream} has system identifier {found}, the store says {system_identifier}",
            upstream = session.address()
        )));
    }
    if replica {
        return Err(DataError::Unexpected(format!(
            "{} is a replica itself",
            session.address()
        )));
    }
    // A slot that was invalidated (the replica stayed away for too long) keeps nothing any more.
    let slot = stream_name(node);
    session
        .execute(
            "select pg_drop_replication_slot(slot_name) from pg_replication_slots
              where slot_name = $1::text::name and wal_status = 'lost' and not active",
            &[&slot],
        )
        .await
        .map_err(|error| session.error(&error))?;
    ensure_slots(&session, &[slot]).await.map(drop)
}

/// Each of these physical slots exists and holds the log back. Answers with those that were made now.
pub async fn ensure_slots(session: &Session, slots: &[String]) -> Result<Vec<String>, DataError> {
    let mut made = Vec::new();
    for slot in slots {
        let created = session
            .execute(
                "select pg_create_physical_replication_slot($1::text::name, true)
                  where not exists (select from pg_replication_slots where slot_name = $1::text::name)",
                &[slot],
            )
            .await;
        match created.map_err(|error| session.error(&error)) {
            Ok(0) => {}
            Ok(_) => made.push(slot.clone()),
            // Made by somebody else in the same moment.
            Err(DataError::Refused { code, .. }) if code == "42710" => {}
            Err(error) => return Err(error),
        }
    }
    Ok(made)
}

/// This slot is gone, unless somebody streams from it. Answers whether it was removed now.
pub async fn drop_slot(session: &Session, slot: &str) -> Result<bool, DataError> {
    let dropped = session
        .execute(
            "select pg_drop_replication_slot(slot_name) from pg_replication_slots
              where slot_name = $1::text::name and not active",
            &[&slot],
        )
        .await;
    dropped.map(|rows| rows > 0).map_err(|error| session.error(&error))
}

/// The data folder is a copy of the upstream and will follow it. Needs [`prepare_upstream`].
///
/// Dying half-way leaves nothing under the folder's name; the next call begins anew.
pub async fn copy(config: &PostgresConfig, node: &str, upstream: &Upstream) -> Result<(), DataError> {
    let new = begin(config).await?;
    follow::write_passfile(config)?;
    let args = [
        format!("--pgdata={}", new.display()),
        format!("--dbname={}", follow::conninfo(config, node, upstream)),
        format!("--slot={}", stream_name(node)),
        "--wal-method=stream".to_owned(),
        // Now rather than when the next one is due, minutes from here.
        "--checkpoint=fast".to_owned(),
        "--no-password".to_owned(),
    ];
    let copied = async {
        program::run(config, "pg_basebackup", &args, &new).await?;
        become_replica(config, node, upstream, &new)?;
        finish(config, &new)
    };
    or_clear(config, copied.await).await
}

/// A copy carries the configuration of its source, `ALTER SYSTEM` included.
fn become_replica(config: &PostgresConfig, node: &str, upstream: &Upstream, dir: &Path) -> Result<(), DataError> {
    write_config_in(config, node, dir)?;
    follow::write_private(
        &dir.join("postgresql.auto.conf"),
        &follow::auto_conf(config, node, upstream),
    )?;
    follow::write_private(&dir.join("standby.signal"), "")
}
