//! What a change of one field means, kind by kind.

use std::time::Duration;

use serde_json::Value;

use super::{Action, Risk};
use crate::resource::Kind;

/// What it takes to make one field so; the greatest of all fields decides about the resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Effect {
    InPlace,
    /// The resource stops and starts again.
    Restart,
    /// It is removed and made anew.
    Replace,
    /// No step may do this; a person does.
    Refuse(&'static str),
}

/// The effect of `field` (`settings.max_connections` for a nested one) going from `before` to `after`.
pub(super) fn effect(kind: Kind, field: &str, before: &Value, after: &Value) -> Effect {
    let (top, nested) = field
        .split_once('.')
        .map_or((field, None), |(top, rest)| (top, Some(rest)));
    match (kind, top) {
        (Kind::Network, "ip_range" | "location" | "region" | "network_zone") => Effect::Replace,
        (Kind::Server, "location" | "image" | "group") => Effect::Replace,
        (Kind::Server, "size" | "command") => Effect::Restart,
        (Kind::Store, "server") => Effect::Replace,
        (Kind::Store, "heartbeat_ms" | "election_ms") => Effect::Restart,
        (Kind::Database, "version") if major(before) != major(after) => {
            Effect::Refuse("another major version is a new database: add it beside this one and move the data")
        }
        (Kind::Database, "engine" | "cluster") => {
            Effect::Refuse("this is another database: give it another name and move the data")
        }
        (Kind::Database, "server" | "location" | "region") => Effect::Replace,
        (Kind::Database, "version" | "size" | "instance_class") => Effect::Restart,
        (Kind::Database, "settings") if nested.is_none_or(needs_restart) => Effect::Restart,
        (Kind::LoadBalancer | Kind::Volume, "location" | "region") => Effect::Replace,
        _ => Effect::InPlace,
    }
}

/// `15` of `15.20`.
fn major(version: &Value) -> Option<&str> {
    version.as_str()?.split('.').next()
}

/// PostgreSQL reads these once, at its start (context `postmaster` of `pg_settings`, versions 13 to 17).
fn needs_restart(setting: &str) -> bool {
    matches!(
        setting,
        "archive_mode"
            | "autovacuum_freeze_max_age"
            | "autovacuum_max_workers"
            | "autovacuum_multixact_freeze_max_age"
            | "bonjour"
            | "bonjour_name"
            | "cluster_name"
            | "commit_timestamp_buffers"
            | "config_file"
            | "data_directory"
            | "data_sync_retry"
            | "dynamic_shared_memory_type"
            | "event_source"
            | "external_pid_file"
            | "hba_file"
            | "hot_standby"
            | "huge_pages"
            | "huge_page_size"
            | "ident_file"
            | "ignore_invalid_pages"
            | "jit_provider"
            | "listen_addresses"
            | "logging_collector"
            | "max_connections"
            | "max_files_per_process"
            | "max_locks_per_transaction"
            | "max_logical_replication_workers"
            | "max_pred_locks_per_transaction"
            | "max_prepared_transactions"
            | "max_replication_slots"
            | "max_wal_senders"
            | "max_worker_processes"
            | "min_dynamic_shared_memory"
            | "multixact_member_buffers"
            | "multixact_offset_buffers"
            | "notify_buffers"
            | "old_snapshot_threshold"
            | "port"
            | "recovery_target"
            | "recovery_target_action"
            | "recovery_target_inclusive"
            | "recovery_target_lsn"
            | "recovery_target_name"
            | "recovery_target_time"
            | "recovery_target_timeline"
            | "recovery_target_xid"
            | "reserved_connections"
            | "serializable_buffers"
            | "shared_buffers"
            | "shared_memory_type"
            | "shared_preload_libraries"
            | "subtransaction_buffers"
            | "summarize_wal"
            | "superuser_reserved_connections"
            | "track_activity_query_size"
            | "track_commit_timestamp"
            | "transaction_buffers"
            | "unix_socket_directories"
            | "unix_socket_group"
            | "unix_socket_permissions"
            | "wal_buffers"
            | "wal_decode_buffer_size"
            | "wal_level"
            | "wal_log_hints"
    )
}

/// What can go wrong for users, before the step is taken.
pub(super) fn risk(kind: Kind, action: Action, effect: Effect) -> Risk {
    match action {
        Action::None => Risk::None,
        Action::Create => Risk::Low,
        Action::Update if effect == Effect::InPlace => Risk::Low,
        Action::Update => Risk::Medium,
        Action::Replace if kind.holds_data() || kind == Kind::Network => Risk::High,
        Action::Replace => Risk::Medium,
        Action::Delete if kind.holds_data() || matches!(kind, Kind::LoadBalancer | Kind::Network) => Risk::High,
        Action::Delete => Risk::Medium,
        Action::Conflict => Risk::High,
    }
}

/// How long users of this resource are expected to be without it. `siblings`: others of its group stay up meanwhile.
///
/// Upper estimates for a plan, not measurements: providers document a resize as a minute, a new server as two,
/// and a database has the guard's restart budget of five seconds (protocol §11). A removed resource has no
/// end of downtime, its `risk` says it.
pub(super) fn downtime(kind: Kind, action: Action, effect: Effect, siblings: bool) -> Option<Duration> {
    let seconds = match (kind, action) {
        (Kind::Server | Kind::Store, _) if siblings => return None,
        (Kind::Server, Action::Update) if effect == Effect::Restart => 60,
        (Kind::Server, Action::Replace) => 120,
        (Kind::Database, Action::Update) if effect == Effect::Restart => 5,
        (Kind::Database, Action::Replace) => 120,
        (Kind::Store, Action::Update) if effect == Effect::Restart => 2,
        (Kind::Store | Kind::LoadBalancer, Action::Replace) => 120,
        _ => return None,
    };
    Some(Duration::from_secs(seconds))
}

/// `above` lives inside `below`: whoever removes `below` removes it too.
pub(super) const fn contains(below: Kind, above: Kind) -> bool {
    match below {
        Kind::Network => !matches!(above, Kind::Network),
        Kind::Server => matches!(above, Kind::Store | Kind::Database),
        _ => false,
    }
}
