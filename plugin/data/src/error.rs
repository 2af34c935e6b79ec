//! Outcomes of work on a database that a caller can act on.

use std::{io, path::PathBuf, time::Duration};

#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// Nothing listens, the line is dead, or TLS failed before a session began.
    #[error("cannot reach the database at {address}: {reason}")]
    Unreachable { address: String, reason: String },
    /// It answered, and the answer was no: a password, a missing database, an SQL error.
    #[error("the database at {address} refused: {reason} (SQLSTATE {code})")]
    Refused {
        address: String,
        reason: String,
        code: String,
    },
    /// Too slow. A statement that was sent may still take effect: its outcome is unknown.
    #[error("{what} was not done within {} ms", .after.as_millis())]
    Timeout { what: String, after: Duration },
    /// The session ended while something was under way: its outcome is unknown.
    #[error("the session with the database ended: {0}")]
    SessionLost(String),
    /// An answer that does not mean what it should.
    #[error("the database answered something unexpected: {0}")]
    Unexpected(String),
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("{path}: {reason}")]
    BadFile { path: PathBuf, reason: String },
    /// A program of the engine is not there.
    #[error("{program} is not installed; install the package `postgresql`, or name its folder with `bin_dir`")]
    NotInstalled { program: PathBuf },
    /// A program of the engine ended with an error that is none of those below.
    #[error("{program} failed: {reason}")]
    Program { program: String, reason: String },
    #[error("no space left for {path}; free some and it is tried again")]
    DiskFull { path: PathBuf },
    #[error("{address} is in use{}; stop that process or choose another address", .holder.as_ref().map(|it| format!(" by {it}")).unwrap_or_default())]
    PortInUse { address: String, holder: Option<String> },
    /// PostgreSQL refuses folders of other users, and to run as root.
    #[error("{path}: {reason}; PostgreSQL runs as the owner of its folder, with mode 0700, and never as root")]
    WrongOwner { path: PathBuf, reason: String },
    #[error(
        "{path} holds another cluster: its system identifier is {found}, this workspace's is {expected}; move the folder away and it is copied from the primary"
    )]
    OtherCluster {
        path: PathBuf,
        found: String,
        expected: String,
    },
    #[error("{path} was made by PostgreSQL {found}, {program} is version {installed}; install version {found}")]
    OtherVersion {
        path: PathBuf,
        found: String,
        program: PathBuf,
        installed: String,
    },
    /// Settings that the guard decides; a user may not.
    #[error("the settings {} belong to the guard; remove them from `settings`", .0.join(", "))]
    GuardOwned(Vec<String>),
    #[error("the setting {name} cannot be used: {reason}")]
    BadSetting { name: String, reason: String },
    /// What was asked is for replicas only.
    #[error("the database at {address} is a primary; stop it first")]
    NotReplica { address: String },
    /// What was asked is for folders at rest only.
    #[error("a server runs on {path}; stop it first")]
    Running { path: PathBuf },
    /// It holds parts of two databases, or a history that nobody agreed to.
    #[error("{path} is not to be started any more: {why}; it must be copied anew")]
    Ruined { path: PathBuf, why: String },
    /// PostgreSQL would take another number than the one that was given out.
    #[error("{path} exists, so that timeline {wanted} cannot be given to this database; begin a later epoch")]
    TimelineTaken { path: PathBuf, wanted: u32 },
    /// It writes, and not on the timeline that was given out: stop it at once.
    #[error("the database at {address} is primary on timeline {found}, not {wanted}; it must be copied anew")]
    WrongTimeline { address: String, found: u32, wanted: u32 },
    /// `pg_rewind` would find a wrong fork.
    #[error(
        "the last checkpoint of {address} is on timeline {control}, it writes on {timeline}; run CHECKPOINT there and try again"
    )]
    NoCheckpoint {
        address: String,
        control: u32,
        timeline: u32,
    },
    /// Nothing was changed; only a copy helps.
    #[error("{path} cannot be rewound: {reason}; copy it anew")]
    CannotRewind { path: PathBuf, reason: String },
}

impl DataError {
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path },
            _ => Self::File { path, source },
        }
    }
}
