//! What only a database itself can say, asked as the operator.

use std::{collections::BTreeMap, time::Instant};

use ha_core::switch::Vitals;
use ha_data::postgres::connect;
use jiff::{SignedDuration, Timestamp};

use super::{Agreement, Node};

/// A standby refuses to start with less of these than its primary had.
const NOT_LESS: &str = "'max_connections', 'max_worker_processes', 'max_wal_senders', 'max_prepared_transactions', \
                        'max_locks_per_transaction'";

/// Why not, otherwise.
pub(super) async fn of(agreement: &Agreement, node: &Node) -> Result<Vitals, String> {
    let address = node.postgres.as_deref().filter(|_| !node.off && node.data);
    let options = address.and_then(|it| agreement.session(it, "ha preflight"));
    let options = options.ok_or("it has no address, or is switched off")?;
    let asked = ask(&options);
    let mut vitals = tokio::time::timeout(agreement.timeout, asked).await.map_err(|_| {
        format!(
            "its database did not answer within {} ms",
            agreement.timeout.as_millis()
        )
    })??;
    vitals.free_bytes = rustix::fs::statvfs(node.folder.as_path())
        .ok()
        .map(|it| it.f_bavail.saturating_mul(it.f_frsize));
    Ok(vitals)
}

async fn ask(options: &ha_data::postgres::ConnectOptions) -> Result<Vitals, String> {
    let session = connect(options).await.map_err(|error| error.to_string())?;
    let settings = session
        .query(
            &format!("select name, setting::bigint from pg_settings where name in ({NOT_LESS})"),
            &[],
        )
        .await
        .map_err(|error| session.error(&error).to_string())?;
    let asked_at = Instant::now();
    let before = Timestamp::now();
    let row = session
        .query_one(
            "select current_setting('server_version_num')::int / 10000,
                    (select count(*)::int from pg_prepared_xacts),
                    (select coalesce(array_agg(slot_name::text), '{}') from pg_replication_slots where slot_type = 'logical'),
                    (extract(epoch from clock_timestamp()) * 1000)::bigint,
                    case when current_setting('archive_mode') <> 'off' and not pg_is_in_recovery()
                         then (select count(*) from pg_ls_archive_statusdir() where name like '%.ready') end",
            &[],
        )
        .await
        .map_err(|error| session.error(&error).to_string())?;
    let took = asked_at.elapsed();
    let half = SignedDuration::try_from(took / 2).unwrap_or_default();
    let there = SignedDuration::from_millis(row.get::<_, i64>(3));
    let here = SignedDuration::from_millis(before.as_millisecond()) + half;
    let settings: BTreeMap<String, i64> = settings.iter().map(|row| (row.get(0), row.get(1))).collect();
    Ok(Vitals {
        major: u32::try_from(row.get::<_, i32>(0)).unwrap_or_default(),
        settings,
        prepared: u32::try_from(row.get::<_, i32>(1)).unwrap_or_default(),
        logical_slots: row.get(2),
        unarchived: row
            .get::<_, Option<i64>>(4)
            .map(|it| u64::try_from(it).unwrap_or_default()),
        clock: there - here,
        clock_error: took / 2,
        free_bytes: None,
    })
}
