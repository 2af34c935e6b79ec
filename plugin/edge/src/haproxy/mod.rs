//! HAProxy of one region: its configuration file, and its admin socket.

pub mod render;
pub mod socket;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod traffic_tests;
mod turn;

use std::{path::PathBuf, time::Duration};

pub use render::{render, version};
pub use socket::{Admin, AdminError, Drained, ServerCounters, ServerRow, ServerState};
pub use turn::Turned;

/// Name of the backend with the application's servers.
pub const APP: &str = "app";
/// Name of the listener that follows the primary.
pub const WRITE: &str = "pg_write";
/// The text of the file that [`DatabaseSide::hold`] names: it must be there before the configuration is read.
pub const HOLD: &str = include_str!("hold.lua");
/// Name of the listener for reads.
pub const READ: &str = "pg_read";
/// Backend of [`READ`]: nodes of the balancer's own region.
pub const READ_NEAR: &str = "pg_read_near";
/// Backend of [`READ`] when no node of the own region can be read from.
pub const READ_FAR: &str = "pg_read_far";

/// All that the configuration of one load balancer is made from. Addresses are as this balancer reaches them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HaproxyInput {
    pub workspace: String,
    pub region: String,
    /// The load balancer's name.
    pub name: String,
    /// Unix socket with full rights over this HAProxy; 107 bytes at most.
    pub admin_socket: PathBuf,
    /// Outgoing connections come from here, checks included, so that others can tell who calls.
    pub source: Option<String>,
    /// Connections at once; memory is kept for about 33 kB each.
    pub max_connections: u32,
    pub threads: u16,
    /// After a reload, connections of the old process are ended when this is over. A reload loses no request;
    /// new connections for writes wait until every guard was asked: a round trip, or a second when one is silent.
    pub drain: Duration,
    pub app: Option<AppSide>,
    pub database: Option<DatabaseSide>,
}

/// HTTP: users in front, application servers behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppSide {
    /// `address:port`; none when no rule enters by HTTP.
    pub http: Option<String>,
    pub https: Option<Https>,
    /// Sends users from HTTP to HTTPS, but for the health check; needs `https`.
    pub redirect_to_https: bool,
    pub algorithm: Algorithm,
    pub health: HealthCheck,
    pub servers: Vec<AppServer>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Https {
    /// `address:port`
    pub listen: String,
    /// Certificate, chain and key in one file: `combined.pem`.
    pub certificate: PathBuf,
    /// The port users see, for the redirect: 443, unless nothing in front maps it.
    pub public_port: u16,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    #[default]
    RoundRobin,
    LeastConnections,
}

impl Algorithm {
    /// From the words of the providers: `round_robin`, `roundrobin`, `least_connections`, `leastconn` …
    pub fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().replace(['_', '-'], "").as_str() {
            "roundrobin" => Some(Self::RoundRobin),
            "leastconnections" | "leastconn" | "leastoutstandingrequests" => Some(Self::LeastConnections),
            _ => None,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RoundRobin => "roundrobin",
            Self::LeastConnections => "leastconn",
        }
    }
}

/// When an application server is in and when it is out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// `/health`
    pub path: String,
    pub interval: Duration,
    pub timeout: Duration,
    /// Failed checks in a row until it is out.
    pub fall: u32,
    /// Passed checks in a row until it is in.
    pub rise: u32,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            path: "/health".into(),
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(3),
            fall: 3,
            rise: 2,
        }
    }
}

impl From<&ha_core::model::HealthCheck> for HealthCheck {
    /// As the workspace has it.
    fn from(declared: &ha_core::model::HealthCheck) -> Self {
        Self {
            path: declared.path.clone(),
            interval: Duration::from_secs(declared.interval_seconds),
            timeout: Duration::from_secs(declared.timeout_seconds),
            fall: declared.fall,
            rise: declared.rise,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppServer {
    pub name: String,
    /// `address:port`
    pub address: String,
}

/// TCP: one listener for writes, one for reads, every database node of the workspace behind both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseSide {
    /// `address:port`
    pub write: String,
    /// `address:port`
    pub read: String,
    /// A file with the text [`HOLD`].
    pub hold: PathBuf,
    /// A replica further behind is not read from: bytes, or a time as in `10s`.
    pub max_lag: String,
    /// All regions' nodes; names are unique.
    pub nodes: Vec<DatabaseNode>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseNode {
    pub name: String,
    pub region: String,
    /// Host part only; where it is a name, that need not be known yet.
    pub address: String,
    pub port: u16,
    /// Port of its guard, which answers `/primary` and `/replica`.
    pub guard_port: u16,
}
