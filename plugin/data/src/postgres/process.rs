//! The postmaster: started, found again, stopped, and what it leaves behind when it is killed.
//!
//! A process is known by a pidfd, never by a number that may belong to a stranger by now: the handle is opened
//! first, then `/proc` is read, and while the handle lives the number cannot have been given away.

use std::{
    fs, io,
    io::{Read as _, Seek as _},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use ha_core::agent::PostgresConfig;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::{
    io::unix::AsyncFd,
    process::Child,
    time::{Instant, timeout, timeout_at},
};

use super::{beside, cluster, program};
use crate::DataError;

/// How much of the log is read to find out why the server ended.
const LOG_TAIL: u64 = 16 << 10;
/// After SIGQUIT the postmaster kills its children itself, within five seconds.
const QUIT: Duration = Duration::from_secs(6);
const KILL: Duration = Duration::from_secs(5);

/// A running postmaster. Dropping it leaves the server running.
pub struct Postmaster {
    pub(super) handle: Handle,
    /// Ours to reap; none for one that was found running.
    pub(super) child: Option<Child>,
    pub(super) config: PostgresConfig,
    log_from: u64,
}

/// How a postmaster ended.
#[derive(Debug)]
pub struct Ended {
    /// `exit status: 1`, `signal: 9 (SIGKILL)`; none for one that was not our child.
    pub status: Option<std::process::ExitStatus>,
    /// The outcome behind it, when its log tells one.
    pub error: Option<DataError>,
    /// The last complaints in its log.
    pub words: Option<String>,
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(error) = &self.error {
            return write!(f, "{error}");
        }
        match &self.status {
            Some(status) => write!(f, "ended with {status}")?,
            None => f.write_str("ended")?,
        }
        match &self.words {
            Some(words) => write!(f, ": {words}"),
            None => Ok(()),
        }
    }
}

impl Postmaster {
    pub fn pid(&self) -> i32 {
        self.handle.pid.as_raw_nonzero().get()
    }

    /// It reads its configuration again.
    pub fn reload(&self) -> Result<(), DataError> {
        self.handle.signal(Signal::HUP)
    }

    /// It ends at once, as in a crash; when it has is not waited for.
    pub(super) fn quit(&self) -> Result<(), DataError> {
        self.handle.signal(Signal::QUIT)
    }

    /// Until it has ended, by whatever cause. Can be dropped and called again.
    pub async fn wait(&mut self) -> Ended {
        let status = match &mut self.child {
            Some(child) => child.wait().await.ok(),
            None => {
                self.handle.gone().await;
                None
            }
        };
        let said = self.log();
        Ended {
            status,
            error: program::complaint(&said, &self.config, &self.config.data_dir),
            words: program::last_words(&said),
        }
    }

    /// What it logged since it was started or found.
    fn log(&self) -> String {
        let read = || -> io::Result<String> {
            let mut file = fs::File::open(&self.config.log_file)?;
            let end = file.metadata()?.len();
            // One that became shorter was put aside meanwhile: all of it is new.
            let from = if self.log_from > end { 0 } else { self.log_from };
            file.seek(io::SeekFrom::Start(from.max(end.saturating_sub(LOG_TAIL))))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        read().unwrap_or_default()
    }

    /// It has ended, and so has every process of it: sessions are ended and all is written out; after `patience`
    /// it stops as in a crash, and what is left then is killed.
    pub async fn stop(mut self, patience: Duration) -> Result<(), DataError> {
        for (signal, wait) in [(Signal::INT, patience), (Signal::QUIT, QUIT)] {
            self.handle.signal(signal)?;
            if timeout(wait, self.wait()).await.is_ok() {
                return clear_remains(&self.config).await.map(drop);
            }
            tracing::warn!(pid = self.pid(), ?signal, "the database did not stop in time");
        }
        self.handle.signal(Signal::KILL)?;
        if timeout(KILL, self.wait()).await.is_err() {
            return Err(DataError::Timeout {
                what: "killing the postmaster".to_owned(),
                after: KILL,
            });
        }
        clear_remains(&self.config).await.map(drop)
    }
}

/// Starts the server on its folder; whether it gets ready is seen by looking at it. The folder must not be in use:
/// see [`adopt`] and [`clear_remains`].
pub fn start(config: &PostgresConfig) -> Result<Postmaster, DataError> {
    cluster::private_dir(&config.socket_dir)?;
    let log = cluster::open_log(&config.log_file)?;
    let log_from = log.metadata().map_err(DataError::file(&config.log_file))?.len();
    let errors = log.try_clone().map_err(DataError::file(&config.log_file))?;
    // A group of its own (see `command`): what ends the guard does not end the database.
    let child = program::command(config, "postgres")
        .arg("-D")
        .arg(&config.data_dir)
        .stdout(Stdio::from(log))
        .stderr(Stdio::from(errors))
        .spawn()
        .map_err(|error| program::not_started(&config.bin_dir.join("postgres"), error))?;
    // A child keeps its number until it is waited for.
    let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
    let pid = pid.ok_or_else(|| DataError::Unexpected("the server that was just started has no number".to_owned()))?;
    Ok(Postmaster {
        handle: Handle::open(pid)?,
        child: Some(child),
        config: config.clone(),
        log_from,
    })
}

/// The postmaster that runs on this folder, if there is one: whoever started it, and also when its lock file is
/// damaged or lost (PostgreSQL notices that within a minute and stops by itself).
pub fn adopt(config: &PostgresConfig) -> Result<Option<Postmaster>, DataError> {
    let noted = first_line(&config.data_dir.join("postmaster.pid"));
    for pid in noted.into_iter().chain(processes()?) {
        if is_child(pid) {
            continue;
        }
        let Some(handle) = Handle::of_postgres(pid, &config.data_dir)? else {
            continue;
        };
        let log_from = fs::metadata(&config.log_file).map_or(0, |it| it.len());
        let config = config.clone();
        return Ok(Some(Postmaster {
            handle,
            child: None,
            config,
            log_from,
        }));
    }
    Ok(None)
}

/// Children call themselves `postgres: walwriter`, the postmaster keeps the words it was started with.
pub(super) fn is_child(pid: i32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|words| words.starts_with(b"postgres:"))
}

pub(super) fn processes() -> Result<Vec<i32>, DataError> {
    let entries = fs::read_dir("/proc").map_err(DataError::file("/proc"))?;
    Ok(entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect())
}

/// No process of the folder's server is left, and no lock file in its name. Only for when [`adopt`] found nothing:
/// a postmaster that was killed leaves children behind, and one in a loop goes on committing; the next server
/// would refuse to start beside them. Answers with how many were killed.
pub async fn clear_remains(config: &PostgresConfig) -> Result<usize, DataError> {
    let deadline = Instant::now() + KILL;
    let mut killed = 0;
    for pid in processes()? {
        let Some(handle) = Handle::of_postgres(pid, &config.data_dir)? else {
            continue;
        };
        handle.signal(Signal::KILL)?;
        if timeout_at(deadline, handle.gone()).await.is_err() {
            return Err(DataError::Timeout {
                what: format!(
                    "killing process {pid}, left over from the database in {}",
                    config.data_dir.display()
                ),
                after: KILL,
            });
        }
        killed += 1;
    }
    remove_locks(config)?;
    Ok(killed)
}

/// No lock file names a server that is gone.
pub(super) fn remove_locks(config: &PostgresConfig) -> Result<(), DataError> {
    // PostgreSQL removes stale ones itself, unless a stranger has the number by now.
    remove(&config.data_dir.join("postmaster.pid"))?;
    let socket = config.socket_dir.join(format!(".s.PGSQL.{}", config.port));
    let lock = beside(&socket, ".lock");
    let ours = fs::read_to_string(&lock)
        .is_ok_and(|text| text.lines().nth(1).is_some_and(|dir| Path::new(dir) == config.data_dir));
    if ours {
        remove(&lock)?;
        remove(&socket)?;
    }
    Ok(())
}

/// No program runs any more that was told to make a data folder under a name that begins with `prefix`. Ours have
/// been waited for or killed; these are of a guard that was killed itself. Answers with how many were ended.
pub(super) async fn end_makers(prefix: &Path) -> Result<usize, DataError> {
    let wanted = format!("--pgdata={}", prefix.display());
    let makes = |pid: Pid| {
        fs::read(proc(pid).join("cmdline")).is_ok_and(|line| {
            line.split(|byte| *byte == 0)
                .any(|word| word.starts_with(wanted.as_bytes()))
        })
    };
    let deadline = Instant::now() + KILL;
    let mut ended = 0;
    for pid in processes()?.into_iter().filter_map(Pid::from_raw) {
        if !makes(pid) {
            continue;
        }
        let Some(handle) = Handle::try_open(pid)? else { continue };
        // Again, now that the number cannot change hands unseen.
        if !makes(pid) {
            continue;
        }
        handle.signal(Signal::KILL)?;
        if timeout_at(deadline, handle.gone()).await.is_err() {
            return Err(DataError::Timeout {
                what: format!("killing process {pid:?}, which makes {}", prefix.display()),
                after: KILL,
            });
        }
        ended += 1;
    }
    Ok(ended)
}

pub(super) fn remove(path: &Path) -> Result<(), DataError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(DataError::file(path)(error)),
        _ => Ok(()),
    }
}

/// The number in the first line of a lock file; a corrupted one has none.
fn first_line(path: &Path) -> Option<i32> {
    fs::read_to_string(path)
        .ok()?
        .lines()
        .next()?
        .trim()
        .parse()
        .ok()
        .filter(|pid| *pid > 1)
}

/// One process, not whoever has its number later.
pub(super) struct Handle {
    pub(super) pid: Pid,
    fd: AsyncFd<OwnedFd>,
}

impl Handle {
    fn open(pid: Pid) -> Result<Self, DataError> {
        Self::try_open(pid)?.ok_or_else(|| DataError::Unexpected(format!("process {pid:?} is gone")))
    }

    fn try_open(pid: Pid) -> Result<Option<Self>, DataError> {
        let fd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) => fd,
            // Gone, or a thread.
            Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => return Ok(None),
            Err(error) => return Err(DataError::file(proc(pid))(error.into())),
        };
        #[expect(
            deprecated,
            reason = "its successor is unsafe for the sake of types that lie about their descriptor; OwnedFd does not"
        )]
        let fd = AsyncFd::with_interest(fd, tokio::io::Interest::READABLE).map_err(DataError::file(proc(pid)))?;
        Ok(Some(Self { pid, fd }))
    }

    /// A handle on `pid` if it is a server process that works in `data_dir`: all of them, and nothing else named
    /// `postgres`, have it as their working folder.
    pub(super) fn of_postgres(pid: i32, data_dir: &Path) -> Result<Option<Self>, DataError> {
        let Some(pid) = Pid::from_raw(pid) else { return Ok(None) };
        let Ok(data_dir) = fs::canonicalize(data_dir) else {
            return Ok(None);
        };
        // Cheap look first: most processes are not ours, many are not readable.
        if !works_in(pid, &data_dir) {
            return Ok(None);
        }
        let Some(handle) = Self::try_open(pid)? else {
            return Ok(None);
        };
        // Again, now that the number cannot change hands unseen: a process that is gone has no folder.
        Ok(works_in(pid, &data_dir).then_some(handle))
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<(), DataError> {
        match pidfd_send_signal(self.fd.get_ref(), signal) {
            // Gone is what most signals are meant to achieve.
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(DataError::file(proc(self.pid))(error.into())),
        }
    }

    pub(super) async fn gone(&self) {
        // A pidfd becomes readable when its process has ended; there is no other event and nothing to read.
        let _ = self.fd.readable().await;
    }
}

fn proc(pid: Pid) -> PathBuf {
    PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()))
}

fn works_in(pid: Pid, data_dir: &Path) -> bool {
    let at = |name: &str| fs::read_link(proc(pid).join(name));
    // `postgres (deleted)` after an upgrade of the package.
    let is_server = at("exe").is_ok_and(|exe| {
        exe.file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"postgres"))
    });
    is_server && at("cwd").is_ok_and(|cwd| cwd == data_dir)
}
