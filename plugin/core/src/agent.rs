//! The file a guard starts from: `guard.json`. The provider writes it; on a cloud server user data does.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::{FailoverPolicy, SyncMode, Timing};

/// Everything a guard must be told; what it can observe is not in here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuardConfig {
    pub workspace: String,
    /// Name of the database as a whole; the store's keys live under `/ha/<workspace>/<cluster>/`.
    pub cluster: String,
    pub region: String,
    /// This node; the name of its server.
    pub node: String,
    /// Makes the cluster when none exists. Read once, at the first start: afterwards the role is observed.
    pub declared_primary: bool,
    /// `address:port` for the HTTP endpoints.
    pub listen: String,
    /// Binds outgoing connections here, so that relays and others see who calls.
    pub source_address: Option<String>,
    pub postgres: PostgresConfig,
    pub store: StoreConfig,
    /// The other nodes of the cluster.
    pub peers: Vec<Peer>,
    /// How often the database is looked at.
    pub sample_interval_ms: u64,
    /// Status changes are appended here, one JSON object a line.
    pub events: PathBuf,
    pub failover: FailoverConfig,
}

/// What the guard needs to agree with the others on who is primary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailoverConfig {
    /// As declared; the mode in force lies in the store (`ha db sync-mode`).
    pub sync_mode: SyncMode,
    pub timing: Timing,
    pub policy: FailoverPolicy,
    /// All nodes that vote, this one included.
    pub nodes: Vec<NodePolicy>,
    /// Admin sockets of the region's HAProxy processes: writes are turned by them at once.
    pub balancers: Vec<PathBuf>,
    /// Fsynced: the highest epoch promised, the last epoch this node was promoted in.
    pub promise: PathBuf,
    /// Gone after a reboot: the start permit and the deadman's deadline.
    pub runtime_dir: PathBuf,
    /// `/dev/watchdog`: armed with the first renewal of the lease, fed with each. The device's own time must be no more
    /// than `timing.watchdog`.
    #[serde(default)]
    pub watchdog: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodePolicy {
    pub node: String,
    pub region: String,
    /// A witness has no data: it votes and keeps the store.
    pub data: bool,
    /// Lower is preferred among equals.
    pub priority: u32,
    /// Why it is never made primary: a whole sentence.
    pub forbidden: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostgresConfig {
    /// Folder with `initdb`, `postgres`, `pg_basebackup`.
    pub bin_dir: PathBuf,
    pub data_dir: PathBuf,
    pub log_file: PathBuf,
    /// Where clients reach it.
    pub address: String,
    /// Where other regions reach it (the relay's side on the local target).
    pub public_address: String,
    pub port: u16,
    /// Short: 107 bytes is the limit of a socket's path.
    pub socket_dir: PathBuf,
    /// Own settings of the workspace (`max_connections` …), written after the guard's own.
    pub settings: BTreeMap<String, String>,
    /// Addresses that may connect, for `pg_hba.conf`; all of them need TLS and a password.
    pub allow: Vec<String>,
    pub tls: TlsFiles,
    /// Files of mode 0600, one password each.
    pub admin_password_file: PathBuf,
    pub replication_password_file: PathBuf,
    pub app_password_file: PathBuf,
    pub app_user: String,
    pub app_database: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    pub ca: PathBuf,
    pub cert: PathBuf,
    pub key: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    /// `https://address:2379`; the own region's member first.
    pub endpoints: Vec<String>,
    pub tls: TlsFiles,
}

/// Another node, as this region reaches it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    pub region: String,
    pub node: String,
    pub address: String,
    pub port: u16,
    /// `http://address:8008`
    pub guard: String,
}

/// The name a node streams under, and its slot: letters, digits and underscores only
/// (slots allow nothing else, and `synchronous_standby_names` would need quotes).
pub fn stream_name(node: &str) -> String {
    let plain: String = node
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '_'
            }
        })
        .collect();
    format!("ha_{plain}")
}

/// The name a node streams under in one epoch. `synchronous_standby_names` lists only names of its own epoch, so that
/// PostgreSQL itself checks the fencing token on every commit.
pub fn epoch_stream_name(node: &str, epoch: u64) -> String {
    format!("{}_e{epoch}", stream_name(node))
}

/// The stream name without its epoch, and the epoch; none for a name that has none.
pub fn parse_epoch_stream_name(name: &str) -> Option<(&str, u64)> {
    let (stream, epoch) = name.rsplit_once("_e")?;
    Some((stream, epoch.parse().ok()?))
}

/// `relay.json`: what the relay of one region listens on, and how it knows who calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelayConfig {
    /// The region whose servers stand behind the fronts.
    pub region: String,
    /// `address:port` that answers `GET /links` and `GET /connections`.
    pub status: String,
    pub fronts: Vec<Front>,
    /// Third octet of a caller's address, as text, to the region that owns it: `{"2": "eu-central"}`.
    pub regions: BTreeMap<String, String>,
    /// The workspace's folder: a process whose working folder is below `regions/<region>/` is of that region.
    pub workspace_dir: PathBuf,
    /// `links.json`; a missing file means no delay and no cut.
    pub links: PathBuf,
}

/// An address other regions use, and the one it stands for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Front {
    /// `127.W.(R+100).H:port`
    pub listen: String,
    /// `127.W.R.H:port`
    pub target: String,
}

/// `app.json`: what the reference application is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppConfig {
    pub region: String,
    /// The server it runs on.
    pub server: String,
    /// `address:port` for its HTTP endpoints.
    pub listen: String,
    /// `address:port` of the load balancer's listener that leads to the primary.
    pub write: String,
    /// The one that leads to a replica near by.
    pub read: String,
    /// The certificate authority of the workspace, as PEM.
    pub ca: PathBuf,
    pub user: String,
    pub database: String,
    /// Mode 0600: the password and nothing else.
    pub password_file: PathBuf,
    /// Database node (`us-db-1`) to its region, so that `/status` can say where the primary is.
    #[serde(default)]
    pub databases: BTreeMap<String, String>,
}
