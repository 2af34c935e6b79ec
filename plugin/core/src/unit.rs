//! A process that the local target keeps running: written by the provider, read by `ha-guard supervise`.
//! On a cloud server systemd does this work.

use std::{collections::BTreeMap, path::PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// `hosts/<host>/units/<name>.json`: one process that should run while its host is on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unit {
    pub name: String,
    pub program: PathBuf,
    /// Never a secret: other users read the arguments of a process.
    pub args: Vec<String>,
    /// Added to an otherwise empty environment (`PATH`, `LANG` and `HOME` are set).
    pub env: BTreeMap<String, String>,
    /// The working folder; it also tells the relay which region a process belongs to.
    pub cwd: PathBuf,
    /// Sent to ask the process to end.
    pub stop_signal: StopSignal,
    /// Sent to make it read its configuration again; restarted when there is none.
    pub reload_signal: Option<StopSignal>,
    /// After this long it is killed.
    pub stop_timeout_ms: u64,
    /// Answers when the unit can be used; without one, running is ready.
    pub ready: Option<Ready>,
    /// Changes when anything the process reads at start changes (files included): a new value restarts it.
    pub restart_key: String,
    /// Changes when a file changes that the process can read again while running: a new value reloads it.
    pub reload_key: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopSignal {
    Term,
    Int,
    Quit,
    Usr1,
    Usr2,
    Hup,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ready {
    /// `GET` answers with a status below 400.
    Http(String),
    /// Something listens at `address:port`.
    Tcp(String),
}

/// `hosts/<host>/run/<name>.json`: the process that runs a unit. The start time makes the number safe to use:
/// a number that was given to a stranger since then has another start time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFile {
    pub pid: i32,
    /// Field 22 of `/proc/<pid>/stat`: clock ticks since boot.
    pub start_ticks: u64,
    /// `/proc/sys/kernel/random/boot_id`: ticks of another boot mean nothing.
    pub boot_id: String,
    pub started_at: Timestamp,
    pub restart_key: String,
    pub reload_key: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnitState {
    /// Its host is off, or it is being removed.
    Stopped,
    Starting,
    Ready,
    /// Ended by itself; waits before the next try.
    Backoff,
    Stopping,
}

/// One row of the supervisor's `GET /units`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitStatus {
    pub host: String,
    pub unit: String,
    pub state: UnitState,
    pub pid: Option<i32>,
    pub started_at: Option<Timestamp>,
    pub restarts: u32,
    /// How it ended last, and the last lines it logged.
    pub last_error: Option<String>,
    pub restart_key: String,
    pub reload_key: String,
}

/// Delay and cuts between regions: `links.json`, written by `ha net`, read by every relay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Links {
    pub links: Vec<Link>,
}

/// One direction between two regions. Without an entry there is no delay and no cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    pub from: String,
    pub to: String,
    /// Added to each piece of data on its way.
    pub delay_ms: u64,
    /// Nothing passes, and nobody is told: connections stay open and silent, as across a dead line.
    pub cut: bool,
}

impl Links {
    pub fn get(&self, from: &str, to: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.from == from && link.to == to)
    }
}
