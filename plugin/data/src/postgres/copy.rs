//! A replica made from a running primary, and the slots that keep what replicas still need.

use std::{path::Path, time::Duration};

use ha_core::{
    agent::{PostgresConfig, stream_name},
    lsn::Lsn,
};

use super::{
    ADMIN_DATABASE, ADMIN_USER, REPLICATION_USER,
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
    ensure_slots(&session, &[stream_name(node)]).await.map(drop)
}

/// Each of these physical slots exists and holds the log back. Answers with those that were made now.
pub async fn ensure_slots(session: &Session, slots: &[String]) -> Result<Vec<String>, DataError> {
    let mut made = Vec::new();
    for slot in slots {
        // One that was invalidated (its node stayed away for too long) keeps nothing any more.
        session
            .execute(
                "select pg_drop_replication_slot(slot_name) from pg_replication_slots
                  where slot_name = $1::text::name and wal_status = 'lost' and not active",
                &[slot],
            )
            .await
            .map_err(|error| session.error(&error))?;
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

/// What an upstream says about following it from a position on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    pub system_identifier: String,
    pub replica: bool,
    pub timeline: u32,
    /// Where its log ends.
    pub written: Lsn,
    /// Where each earlier timeline ended on the way to its own.
    pub history: Vec<(u32, Lsn)>,
    /// It still has the log file that the position is in.
    pub has_log: bool,
}

/// Asks `upstream` whether it has its log from `position` on. Changes nothing.
pub async fn ask_upstream(
    config: &PostgresConfig,
    node: &str,
    upstream: &Upstream,
    position: Lsn,
) -> Result<Offer, DataError> {
    // Log files are not for the replication user to list.
    let host = Host::tcp(&upstream.address, upstream.port);
    let options = ConnectOptions::new(host, ADMIN_USER, ADMIN_DATABASE, &config.admin_password_file)
        .ca(&config.tls.ca)
        .timeout(Duration::from_secs(5))
        .application_name(format!("{}_asks", stream_name(node)));
    let session = connect(&options).await?;
    // A position at the end of a file is the beginning of the next.
    let next = Lsn(position.0 + 1).to_string();
    let row = session
        .query_one(
            "with here as materialized (
               select pg_is_in_recovery() as replica,
                      case when pg_is_in_recovery() then 'FFFFFFFF'
                           else substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) end as timeline)
             select (select system_identifier::text from pg_control_system()),
                    replica,
                    case when replica then 0 else ('x' || timeline)::bit(32)::int4 end,
                    case when replica then '0/0' else pg_current_wal_lsn()::text end,
                    coalesce(pg_read_file('pg_wal/' || timeline || '.history', 0, 1000000, true), ''),
                    not replica and exists (
                      select from pg_ls_waldir()
                       where substr(name, 9) = substr(pg_walfile_name($1::text::pg_lsn), 9))
               from here",
            &[&next],
        )
        .await
        .map_err(|error| session.error(&error))?;
    let bad = |error: &dyn std::fmt::Display| DataError::Unexpected(error.to_string());
    let (written, history): (String, String) = (row.get(3), row.get(4));
    Ok(Offer {
        system_identifier: row.get(0),
        replica: row.get(1),
        timeline: row.get::<_, i32>(2).cast_unsigned(),
        written: written.parse().map_err(|error| bad(&error))?,
        history: read_history(&history).ok_or_else(|| bad(&"a history of timelines that cannot be read"))?,
        has_log: row.get(5),
    })
}

/// `1\t0/3000000\treason` a line; comments and empty lines may be between.
fn read_history(text: &str) -> Option<Vec<(u32, Lsn)>> {
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
        })
        .collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_names_where_each_timeline_ended() {
        let text = "1\t0/3000148\tno recovery target specified\n\n# by hand\n2\t0/5000000\tbefore 2026-01-01\n";
        assert_eq!(
            read_history(text),
            Some(vec![(1, Lsn(0x300_0148)), (2, Lsn(0x500_0000))])
        );
        assert_eq!(read_history(""), Some(Vec::new()));
        assert_eq!(read_history("one\t0/3000148"), None);
    }
}
