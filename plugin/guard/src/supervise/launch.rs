//! Starts a unit's process, and finds one that runs already.

use std::{
    fs,
    os::unix::{ffi::OsStrExt, process::CommandExt},
    path::Path,
    process::{Command, Stdio},
    time::SystemTime,
};

use anyhow::Context;
use ha_core::unit::{RunFile, Unit};
use jiff::Timestamp;

use super::files::Place;
use crate::procfs::{self, Process, Stat};

/// The variable that tells which unit a process belongs to.
pub(super) const MARK: &str = "HA_UNIT";

const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A process and what it was started from.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) process: Process,
    pub(super) file: RunFile,
}

pub(super) struct Started {
    pub(super) running: Running,
    /// Its output goes nowhere, because of this.
    pub(super) log_trouble: Option<String>,
}

/// Starts it in its own process group, with nothing of our environment and no open file of ours.
///
/// After an error nothing runs.
pub(super) fn start(place: &Place, unit: &Unit, boot_id: &str) -> anyhow::Result<Started> {
    let mut log_trouble = None;
    let mut output = || match place.open_log() {
        Ok(file) => Stdio::from(file),
        Err(error) => {
            log_trouble = Some(format!("{}: {error}", place.log_file().display()));
            Stdio::null()
        }
    };
    let (stdout, stderr) = (output(), output());
    let child = Command::new(&unit.program)
        .args(&unit.args)
        .current_dir(&unit.cwd)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_else(|| USUAL_PATH.into()))
        .env("LANG", "C.UTF-8")
        .env("HOME", &unit.cwd)
        .env(MARK, place.mark())
        .envs(&unit.env)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .with_context(|| why_not(unit))?;
    let process = Process::of_child(child).context("started, but cannot be watched, so it was killed")?;
    Ok(Started {
        running: Running {
            file: RunFile {
                pid: process.pid,
                start_ticks: process.start_ticks,
                boot_id: boot_id.to_owned(),
                started_at: Timestamp::now(),
                restart_key: unit.restart_key.clone(),
                reload_key: unit.reload_key.clone(),
            },
            process,
        },
        log_trouble,
    })
}

/// The kernel says "No such file" for a missing program and a missing folder alike.
fn why_not(unit: &Unit) -> String {
    if unit.cwd.is_dir() {
        format!("cannot start {}", unit.program.display())
    } else {
        format!(
            "cannot start {}: no folder {}",
            unit.program.display(),
            unit.cwd.display()
        )
    }
}

/// The process a run file names, if it is still that one.
pub(super) fn by_file(file: RunFile, boot_id: &str) -> anyhow::Result<Option<Running>> {
    if file.boot_id != boot_id {
        return Ok(None);
    }
    Ok(Process::pin(file.pid, file.start_ticks)?.map(|process| Running { process, file }))
}

/// Processes that this unit was started as and that no run file names: the supervisor was killed between the start
/// and the writing of the file, or the file was damaged. The oldest first.
///
/// Found by all of: our user, leader of its own process group, the unit's working folder, the unit's arguments, and
/// no parent in its session, as it is for one whose supervisor is gone and not for one a person started in a shell.
pub(super) fn by_looks(place: &Place, unit: &Unit, boot_id: &str) -> anyhow::Result<Vec<Running>> {
    let cwd = fs::canonicalize(&unit.cwd).unwrap_or_else(|_| unit.cwd.clone());
    let mut found: Vec<Stat> = procfs::ours()
        .into_iter()
        .filter(|it| it.group == it.pid)
        .filter(|it| procfs::cwd(it.pid).is_some_and(|it| it == cwd))
        .filter(|it| runs(unit, &procfs::arguments(it.pid).unwrap_or_default()))
        .filter(is_orphan)
        .collect();
    found.sort_by_key(|it| (it.start_ticks, it.pid));
    let changed = fs::metadata(place.unit_file()).and_then(|it| it.modified()).ok();
    let mut running = Vec::new();
    for stat in found {
        let Some(process) = Process::pin(stat.pid, stat.start_ticks)? else {
            continue;
        };
        let started = stat.started_at();
        // It read the files as they were when it started: the keys of now are its keys only if nothing changed since.
        let current = matches!((started, changed), (Some(started), Some(changed)) if started >= changed);
        let key = |key: &str| if current { key.to_owned() } else { String::new() };
        running.push(Running {
            file: RunFile {
                pid: process.pid,
                start_ticks: process.start_ticks,
                boot_id: boot_id.to_owned(),
                started_at: started.and_then(timestamp).unwrap_or_else(Timestamp::now),
                restart_key: key(&unit.restart_key),
                reload_key: key(&unit.reload_key),
            },
            process,
        });
    }
    Ok(running)
}

/// A script shows its interpreter first, and HAProxy adds arguments when it reloads: the unit's own must be there
/// in one piece, at the start or after the interpreter.
fn runs(unit: &Unit, arguments: &[std::ffi::OsString]) -> bool {
    let wanted: Vec<&[u8]> = std::iter::once(unit.program.as_os_str().as_bytes())
        .chain(unit.args.iter().map(String::as_bytes))
        .collect();
    let shown: Vec<&[u8]> = arguments.iter().map(|it| it.as_bytes()).collect();
    shown.starts_with(&wanted) || shown.get(1..).is_some_and(|it| it.starts_with(&wanted))
}

fn is_orphan(stat: &Stat) -> bool {
    stat.parent <= 1 || procfs::stat(stat.parent).is_none_or(|parent| parent.session != stat.session)
}

fn timestamp(time: SystemTime) -> Option<Timestamp> {
    Timestamp::try_from(time).ok()
}

/// Processes of a host's units that outlived them: those that carry the mark of one, and a database whose guard
/// was killed (it carries none: its environment is its own).
pub(super) fn left_behind(host: &Path) -> anyhow::Result<Vec<Process>> {
    let mark = format!("{MARK}={}/", host.display());
    let mut found = Vec::new();
    for stat in procfs::ours() {
        let marked = procfs::environment(stat.pid)
            .is_some_and(|it| it.iter().any(|it| it.as_bytes().starts_with(mark.as_bytes())));
        if (marked || is_database(host, &stat))
            && let Some(process) = Process::pin(stat.pid, stat.start_ticks)?
        {
            found.push(process);
        }
    }
    Ok(found)
}

/// Named by the `postmaster.pid` of the folder below `data/` that it works in.
fn is_database(host: &Path, stat: &Stat) -> bool {
    procfs::cwd(stat.pid)
        .filter(|it| it.starts_with(host.join("data")))
        .and_then(|it| fs::read_to_string(it.join("postmaster.pid")).ok())
        .and_then(|it| it.lines().next()?.trim().parse::<i32>().ok())
        == Some(stat.pid)
}
