//! A replica made from a running primary.

use std::time::Duration;

use ha_core::{
    agent::{PostgresConfig, stream_name},
    lsn::Lsn,
};

use super::{
    ADMIN_DATABASE, ADMIN_USER, REPLICATION_USER,
    cluster::{begin, finish, or_clear, write_config_in},
    connect::{ConnectOptions, Host, connect},
    follow::{self, Upstream},
    names::{PROMPT, within},
    process, program, seal,
    slots::ensure_slots,
    timeline::read_history,
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
    let asked = async {
        session
            .query_one(
                "select system_identifier::text, pg_is_in_recovery() from pg_control_system()",
                &[],
            )
            .await
            .map_err(|error| session.error(&error))
    };
    let row = within(PROMPT, &format!("asking {} what it is", session.address()), asked).await?;
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

/// The data folder is a copy of the upstream; started it is a sealed standby: it follows nobody until it is told to.
/// Needs [`prepare_upstream`].
///
/// It streams under a name that no epoch counts on, with a passfile of its own: sealing this node has nothing to do
/// with it. Dying half-way leaves nothing under the folder's name; the next call begins anew.
pub async fn copy(config: &PostgresConfig, node: &str, upstream: &Upstream) -> Result<(), DataError> {
    let new = begin(config).await?;
    seal::take_credential_away(config)?;
    let passfile = super::beside(&config.data_dir, ".copy-passfile");
    let line = follow::password_line(REPLICATION_USER, &config.replication_password_file)?;
    follow::write_private(&passfile, &line)?;
    let name = format!("{}_copy", stream_name(node));
    let args = [
        format!("--pgdata={}", new.display()),
        format!(
            "--dbname={}",
            follow::conninfo(config, upstream, REPLICATION_USER, &name, &passfile)
        ),
        format!("--slot={}", stream_name(node)),
        "--wal-method=stream".to_owned(),
        // Now rather than when the next one is due, minutes from here.
        "--checkpoint=fast".to_owned(),
        "--no-password".to_owned(),
    ];
    let copied = async {
        program::run(config, "pg_basebackup", &args, &new).await?;
        write_config_in(config, node, &new)?;
        // A copy carries the configuration of its source, `ALTER SYSTEM` included.
        let copy = PostgresConfig {
            data_dir: new.clone(),
            ..config.clone()
        };
        seal::seal_folder(&copy).await?;
        finish(config, &new)
    };
    let copied = or_clear(config, copied.await).await;
    copied.and(process::remove(&passfile))
}
