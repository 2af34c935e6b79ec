//! PostgreSQL 13 or newer, run by the workspace itself.

mod cluster;
mod connect;
mod copy;
mod follow;
mod observe;
mod process;
mod program;
mod roles;
mod settings;
mod tls;

use std::path::{Path, PathBuf};

pub use cluster::{DataDir, bound_log, clear_outdated, clear_partial, data_dir, init, set_aside, write_config};
pub use connect::{ConnectOptions, Host, Notice, Session, connect};
pub use copy::{Offer, ask_upstream, copy, drop_slot, ensure_slots, prepare_upstream};
pub use follow::{Upstream, follow, write_passfile};
pub use observe::{Observation, Observer};
pub use process::{Ended, Postmaster, adopt, clear_remains, start};
pub use roles::ensure_roles;
pub use settings::{pg_hba_conf, postgresql_conf};
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
