//! One look at a database: its own position, whom it follows, who follows it.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use ha_core::{
    agent::parse_epoch_stream_name,
    lsn::Lsn,
    report::{DatabaseReport, DatabaseState, NodeRole, Sender, Slot},
};
use jiff::Timestamp;
use tokio_postgres::Row;

use super::{
    Session, follow,
    names::{PROMPT, within},
};
use crate::DataError;

/// What was seen, and what only a guard needs of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    pub report: DatabaseReport,
    /// Replica: where the upstream's log ended when its last message was sent.
    pub upstream_end: Option<Lsn>,
    /// Replica: address and port it was told to follow; none when it is sealed.
    pub follows: Option<(String, u16)>,
    /// Replica: as the primary of which epoch.
    pub follows_epoch: Option<u64>,
    /// Walreceivers that live, connecting ones included; none may be left of a sealed replica.
    pub receivers: u32,
}

/// Looks at one database again and again, and remembers what it needs to measure silence with one clock.
#[derive(Debug, Default)]
pub struct Observer {
    /// By process: what its replica last said of its time, and since when we know that.
    replies: HashMap<i32, (Option<String>, Instant)>,
}

/// Roles decide which functions may be called at all, hence the `case`s.
///
/// * The timeline of a replica is that of what it receives, or of its newest log file. `pg_control_checkpoint()`
///   names that of the last restart point, which can be many promotions ago.
/// * `pg_last_wal_receive_lsn()` alone falls back to the start of a segment after a restart, hence `greatest`.
/// * A walreceiver sets both of its times to "now" when it starts, and shows `streaming` between attempts that
///   fail; they differ only once a message came in. So only then is there an age.
const NODE: &str = "
with here as materialized (select pg_is_in_recovery() as replica),
     receiver as materialized (select * from pg_stat_wal_receiver limit 1)
select here.replica,
       (select system_identifier::text from pg_control_system()) as system_identifier,
       extract(epoch from pg_postmaster_start_time())::float8 as started_at,
       (select count(*) from pg_stat_activity where backend_type = 'client backend')::int4 as connections,
       current_setting('max_connections')::int4 as max_connections,
       case when here.replica
            then coalesce((select received_tli from receiver),
                          (select max(('x' || substr(name, 1, 8))::bit(32)::int4)
                             from pg_ls_waldir() where name ~ '^[0-9A-F]{24}$'))
            else ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int4
       end as timeline,
       case when not here.replica then pg_current_wal_lsn()::text end as written,
       case when here.replica then greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())::text end as received,
       case when here.replica then pg_last_wal_replay_lsn()::text end as replayed,
       case when here.replica then pg_is_wal_replay_paused() else false end as replay_paused,
       case when here.replica then current_setting('primary_conninfo') end as conninfo,
       current_setting('synchronous_standby_names') as names,
       (select timeline_id from pg_control_checkpoint()) as control_timeline,
       (select count(*) from pg_stat_activity where wait_event = 'SyncRep')::int4 as waiting,
       (select count(*) from pg_stat_activity where backend_type = 'walreceiver')::int4 as receivers,
       (select extract(epoch from clock_timestamp() - last_msg_receipt_time)::float8
          from receiver where last_msg_send_time is distinct from last_msg_receipt_time) as upstream_silence,
       (select latest_end_lsn::text
          from receiver where last_msg_send_time is distinct from last_msg_receipt_time) as upstream_end
  from here";

/// Copies that are being made are not replicas yet. `reply_time` is told by the *replica's* clock.
const SENDERS: &str = "
select pid, application_name, state, sync_state, flush_lsn::text as flushed, replay_lsn::text as replayed, reply_time::text as reply_time,
       extract(epoch from clock_timestamp() - reply_time)::float8 as estimate
  from pg_stat_replication
 where state <> 'backup' and application_name <> 'pg_basebackup' and application_name !~ '^ha_.*_copy$'
 order by application_name, pid";

/// A slot of ours that lost its log keeps nothing and serves nobody: it is as good as missing, and made anew.
const SLOTS: &str = "
select slot_name::text as name, active,
       pg_wal_lsn_diff(case when pg_is_in_recovery()
                            then greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
                            else pg_current_wal_lsn() end, restart_lsn)::int8 as retained
  from pg_replication_slots
 where active or wal_status is distinct from 'lost' or not starts_with(slot_name::text, 'ha_')
 order by 1";

impl Observer {
    pub fn new() -> Self {
        Self::default()
    }

    /// What the database says now. Ends with [`DataError::Timeout`] rather than hang; make a new session then.
    pub async fn look(&mut self, session: &Session, timeout: Duration) -> Result<Observation, DataError> {
        // Sent together and answered in order: one round trip.
        let answers = async {
            tokio::try_join!(
                session.query_typed(NODE, &[]),
                session.query_typed(SENDERS, &[]),
                session.query_typed(SLOTS, &[]),
            )
        };
        let (node, senders, slots) = match tokio::time::timeout(timeout, answers).await {
            Ok(answers) => answers.map_err(|error| session.error(&error))?,
            Err(_) => {
                return Err(DataError::Timeout {
                    what: format!("looking at the database at {}", session.address()),
                    after: timeout,
                });
            }
        };
        let node = node
            .first()
            .ok_or_else(|| DataError::Unexpected("no row about itself".to_owned()))?;
        let mut observation = read_node(node)?;
        observation.report.senders = self.read_senders(&senders)?;
        observation.report.slots = slots.iter().map(read_slot).collect::<Result<_, _>>()?;
        Ok(observation)
    }

    fn read_senders(&mut self, rows: &[Row]) -> Result<Vec<Sender>, DataError> {
        let now = Instant::now();
        let mut seen = HashMap::new();
        let mut senders = Vec::with_capacity(rows.len());
        for row in rows {
            let pid: i32 = get(row, "pid")?;
            let reply: Option<String> = get(row, "reply_time")?;
            // Two clocks take part in the first estimate only; from then on our own one measures.
            let since = match self.replies.get(&pid) {
                Some((before, since)) if *before == reply => *since,
                Some(_) => now,
                None => age(get(row, "estimate")?)
                    .and_then(|age| now.checked_sub(age))
                    .unwrap_or(now),
            };
            let application_name: String = get(row, "application_name")?;
            let (node, epoch) = match parse_epoch_stream_name(&application_name) {
                Some((stream, epoch)) => (stream.to_owned(), Some(epoch)),
                None => (application_name.clone(), None),
            };
            senders.push(Sender {
                node,
                application_name,
                epoch,
                state: get(row, "state")?,
                sync_state: get(row, "sync_state")?,
                flushed: lsn(get(row, "flushed")?)?,
                replayed: lsn(get(row, "replayed")?)?,
                silence: reply.as_ref().map(|_| now.duration_since(since)),
            });
            seen.insert(pid, (reply, since));
        }
        self.replies = seen;
        Ok(senders)
    }
}

/// How far a database is, as cheaply as it can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Live {
    pub replica: bool,
    /// Of the log that is written or received; of a replica that receives nothing, that of its newest log file.
    pub timeline: Option<u32>,
    /// Written, or received (or replayed, where that is further).
    pub written: Option<Lsn>,
    pub replayed: Option<Lsn>,
    /// Of the last checkpoint or restart point.
    pub control_timeline: u32,
}

/// Where the database is now, a primary or a replica. The exact timeline of a replica's last log is known to
/// [`super::identify()`] only.
pub async fn live_position(session: &Session) -> Result<Live, DataError> {
    let work = async {
        let rows = session
            .query_typed(NODE, &[])
            .await
            .map_err(|error| session.error(&error))?;
        let row = rows
            .first()
            .ok_or_else(|| DataError::Unexpected("no row about itself".to_owned()))?;
        let report = read_node(row)?.report;
        Ok(Live {
            replica: report.role == Some(NodeRole::Replica),
            timeline: report.timeline,
            written: report.written.or(report.received),
            replayed: report.replayed,
            control_timeline: report.control_timeline.unwrap_or_default(),
        })
    };
    within(PROMPT, &format!("asking {} where it is", session.address()), work).await
}

fn read_node(row: &Row) -> Result<Observation, DataError> {
    let replica: bool = get(row, "replica")?;
    let number = |column: &str| -> Result<u32, DataError> {
        let value: i32 = get(row, column)?;
        u32::try_from(value).map_err(|_| DataError::Unexpected(format!("{column} is {value}")))
    };
    let timeline: Option<i32> = get(row, "timeline")?;
    let started_at: f64 = get(row, "started_at")?;
    let conninfo: Option<String> = get(row, "conninfo")?;
    let follows = conninfo.as_deref().and_then(follow::upstream_of);
    let report = DatabaseReport {
        state: DatabaseState::Running,
        detail: None,
        role: Some(if replica { NodeRole::Replica } else { NodeRole::Primary }),
        system_identifier: get(row, "system_identifier")?,
        timeline: timeline.and_then(|it| u32::try_from(it).ok()),
        written: lsn(get(row, "written")?)?,
        received: lsn(get(row, "received")?)?,
        replayed: lsn(get(row, "replayed")?)?,
        upstream_silence: age(get(row, "upstream_silence")?),
        upstream: None,
        replay_paused: get(row, "replay_paused")?,
        senders: Vec::new(),
        slots: Vec::new(),
        started_at: Timestamp::from_microsecond((started_at * 1e6) as i64).ok(),
        connections: Some((number("connections")?, number("max_connections")?)),
        names: get(row, "names")?,
        control_timeline: Some(number("control_timeline")?),
        waiting: number("waiting")?,
        weak_roles: Vec::new(),
    };
    Ok(Observation {
        report,
        upstream_end: lsn(get(row, "upstream_end")?)?,
        follows_epoch: follows.as_ref().and_then(|it| it.epoch),
        follows: follows.map(|it| (it.address, it.port)),
        receivers: number("receivers")?,
    })
}

fn read_slot(row: &Row) -> Result<Slot, DataError> {
    let retained: Option<i64> = get(row, "retained")?;
    Ok(Slot {
        name: get(row, "name")?,
        active: get(row, "active")?,
        retained_bytes: retained.map(|bytes| u64::try_from(bytes).unwrap_or(0)),
    })
}

fn get<'a, T: tokio_postgres::types::FromSql<'a>>(row: &'a Row, column: &str) -> Result<T, DataError> {
    row.try_get(column)
        .map_err(|error| DataError::Unexpected(format!("{column}: {error}")))
}

fn lsn(text: Option<String>) -> Result<Option<Lsn>, DataError> {
    text.map(|text| text.parse().map_err(|error| DataError::Unexpected(format!("{error}"))))
        .transpose()
}

/// Clocks that were set back make negative ages; those are zero.
fn age(seconds: Option<f64>) -> Option<Duration> {
    seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).ok())
}
