//! Keeps the processes of one region of the local target running.
//!
//! The files say what should run; a task per unit compares that with what runs. Processes are held by a handle that
//! a reused number cannot fool (`procfs::Process`), and found again after a restart of the supervisor by number,
//! start time and boot. Ending the supervisor ends none of them; only `POST /stop` does.

mod events;
mod files;
mod handle;
mod http;
mod launch;
mod ready;
mod region;
mod unit;

use std::{
    fs,
    io::{self, Read, Seek, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use ha_core::unit::RunFile;
use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use tokio::{
    net::UnixListener,
    signal::unix::{SignalKind, signal},
    task::JoinHandle,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::procfs;

/// How often the files are looked at without being told to.
const POLL: Duration = Duration::from_millis(500);
const BOUND_LOGS: Duration = Duration::from_secs(5);

/// Returns after SIGTERM or SIGINT, leaving all processes running, and after `POST /stop`, leaving none.
///
/// Fails when another supervisor has the region; then nothing was touched.
pub(crate) async fn run(region_dir: &Path, socket: &Path) -> anyhow::Result<()> {
    let region_dir = fs::canonicalize(region_dir)
        .with_context(|| format!("no region folder {}; `ha provision` makes it", region_dir.display()))?;
    let _lock = lock(&region_dir.join("supervise.lock"))?;
    let boot_id = procfs::boot_id().context("cannot read the boot's id")?;
    let run_file = region_dir.join("supervise.json");
    let pid = std::process::id() as i32;
    let me = procfs::stat(pid).context("cannot read /proc about ourselves; is it mounted?")?;
    let written = files::write_json(
        &run_file,
        &RunFile {
            pid,
            start_ticks: me.start_ticks,
            boot_id: boot_id.clone(),
            started_at: Timestamp::now(),
            restart_key: String::new(),
            reload_key: String::new(),
        },
    );
    if let Err(error) = written {
        // Full disk, say. The lock holds all the same, and keeping processes running matters more.
        tracing::error!(%error, "cannot write {}", run_file.display());
    }

    let name = region_dir
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let shared = handle::Shared {
        events: events::Events::new(&region_dir, workspace(&region_dir), name),
        boot_id,
        client: ready::client()?,
    };
    let region = Arc::new(region::Region::new(&region_dir, shared));
    // Before the first answer, so that nobody is told about units that were only not looked at yet.
    region.sync().await;

    let done = CancellationToken::new();
    let served = http::Served {
        region: region.clone(),
        done: done.clone(),
    };
    let mut server = Server::bind(socket, &served, &done)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut poll = interval(POLL);
    let mut logs = interval(BOUND_LOGS);
    for ticks in [&mut poll, &mut logs] {
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    loop {
        tokio::select! {
            _ = logs.tick() => region.bound_logs().await,
            _ = poll.tick() => {
                region.look().await;
                server.keep(&served, &done);
            }
            _ = hangup.recv() => drop(region.sync().await),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = done.cancelled() => break,
        }
    }
    done.cancel();
    server.end().await;
    for path in [run_file.as_path(), socket] {
        if let Err(error) = fs::remove_file(path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "cannot remove {}", path.display());
        }
    }
    Ok(())
}

/// One supervisor per region: held as long as the file is open, and never left behind by a crash.
fn lock(path: &Path) -> anyhow::Result<fs::File> {
    let mut file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            file.read_to_string(&mut holder)?;
            bail!(
                "another supervisor (process {}) has this region: {} is locked",
                holder.trim(),
                path.display()
            );
        }
        Err(error) => return Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
    // For people; a full disk is no reason not to run.
    let told = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| write!(file, "{}", std::process::id()));
    if let Err(error) = told {
        tracing::warn!(%error, "cannot write {}", path.display());
    }
    Ok(file)
}

/// The name in `workspace.json`, else that of the folder.
fn workspace(region_dir: &Path) -> String {
    #[derive(serde::Deserialize)]
    struct Named {
        workspace: String,
    }
    let Some(folder) = region_dir.ancestors().nth(2) else {
        return String::new();
    };
    fs::read(folder.join("workspace.json"))
        .ok()
        .and_then(|it| serde_json::from_slice::<Named>(&it).ok())
        .map(|it| it.workspace)
        .unwrap_or_else(|| folder.file_name().unwrap_or_default().to_string_lossy().into_owned())
}

/// The socket, and the task that answers on it.
struct Server {
    path: PathBuf,
    inode: u64,
    task: JoinHandle<()>,
}

impl Server {
    /// Whoever holds the region's lock may take the socket over from a supervisor that crashed.
    fn bind(path: &Path, served: &http::Served, done: &CancellationToken) -> anyhow::Result<Self> {
        let what = || format!("cannot listen on {}", path.display());
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(what)?;
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).with_context(what),
            _ => {}
        }
        let listener = UnixListener::bind(path).with_context(what)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).with_context(what)?;
        let inode = fs::metadata(path).with_context(what)?.ino();
        let router = http::router(served.clone());
        let ending = done.clone().cancelled_owned();
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(ending).await {
                tracing::error!(%error, "the socket no longer answers");
            }
        });
        Ok(Self {
            path: path.to_owned(),
            inode,
            task,
        })
    }

    /// A runtime folder may be cleared while we run, at a logout for one: then the socket is made again.
    fn keep(&mut self, served: &http::Served, done: &CancellationToken) {
        if fs::metadata(&self.path).is_ok_and(|it| it.ino() == self.inode) && !self.task.is_finished() {
            return;
        }
        match Self::bind(&self.path, served, done) {
            Ok(new) => {
                let old = std::mem::replace(self, new);
                old.task.abort();
                tracing::warn!("made {} again", self.path.display());
            }
            Err(error) => tracing::error!(error = format!("{error:#}"), "the socket is gone"),
        }
    }

    /// Lets answers that are on their way be sent.
    async fn end(self) {
        if timeout(Duration::from_secs(2), self.task).await.is_err() {
            tracing::warn!("somebody still held a connection");
        }
    }
}
