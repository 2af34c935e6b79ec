//! PostgreSQL 13 or newer, run by the workspace itself.

pub mod by_sql;
mod catch_up;
mod cluster;
mod connect;
mod control;
mod copy;
mod fence;
mod follow;
mod identify;
mod names;
mod observe;
mod place;
mod process;
mod program;
mod promote;
mod rewind;
mod roles;
mod seal;
mod settings;
mod slots;
mod timeline;
mod tls;

use std::path::{Path, PathBuf};

pub use cluster::{DataDir, bound_log, clear_outdated, clear_partial, data_dir, disown, init, set_aside, write_config};
pub use connect::{ConnectOptions, Host, Notice, Session, connect};
pub use control::{ClusterState, Control, control};
pub use copy::{Offer, ask_upstream, copy, prepare_upstream};
pub use fence::fence_by_folder;
pub use follow::{Upstream, follow, write_passfile};
pub use identify::{Identity, identify};
pub use names::{canary, checkpoint, set_names, set_sender_timeout, terminate_waiting, waiting, weak_settings};
pub use observe::{Live, Observation, Observer, live_position};
pub use process::{Ended, Postmaster, adopt, clear_remains, start};
pub use promote::promote;
pub use rewind::{Lost, Rewound, rewind};
pub use roles::ensure_roles;
pub use seal::{prepare_primary_start, prepare_sealed_start, seal, take_credential_away};
pub use settings::{pg_hba_conf, postgresql_conf};
pub use slots::{drop_slot, ensure_slots, tend_replica_slots};
pub use timeline::{clear_placeholders, history, reserve_timeline, restore_placeholders};
pub use tokio_postgres::{Row, Statement, types::ToSql};

/// Superuser of every cluster; the guard's and the operator's.
pub const ADMIN_USER: &str = "ha_admin";
/// Whom replicas stream as.
pub const REPLICATION_USER: &str = "ha_replication";
/// Exists in every cluster, for sessions that want no particular database.
pub const ADMIN_DATABASE: &str = "postgres";

/// `a/b` and `.new` make `a/b.new`: a sibling on the same file system.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    path.with_file_name(name)
}
