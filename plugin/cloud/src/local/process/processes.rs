//! Processes of this workspace, by where they work; held by a pidfd, so that a reused number fools nobody.

use std::{fs, io, os::fd::OwnedFd, path::Path, time::Duration};

use ha_core::unit::RunFile;
use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use tokio::io::{Interest, unix::AsyncFd};

/// One running process, held: its number cannot be given to another while this exists unnoticed.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    fd: OwnedFd,
}

impl Process {
    /// The process that a run file speaks of, if it still is that one.
    pub(crate) fn of(run: &RunFile) -> Option<Self> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        if boot.trim() != run.boot_id {
            return None;
        }
        let process = Self::open(run.pid)?;
        (start_ticks(run.pid)? == run.start_ticks).then_some(process)
    }

    /// Every process of the user whose working folder is `folder` or below, and that no terminal holds: a shell in
    /// which somebody looks at the logs is not ours to end.
    pub(crate) fn below(folder: &Path, user: u32) -> Vec<Self> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let ours = |pid: i32| works_below(pid, folder) && belongs_to(pid, user) && !has_terminal(pid);
        let held = pids.filter(|pid| ours(*pid)).filter_map(Self::open);
        // Looked at again when held: the number may have changed hands in between.
        held.filter(|process| ours(process.pid)).collect()
    }

    fn open(pid: i32) -> Option<Self> {
        let fd = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::NONBLOCK).ok()?;
        Some(Self { pid, fd })
    }

    /// One that has ended meanwhile is no error.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.fd, signal) {
            Err(Errno::SRCH) | Ok(()) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// True when it ended within `patience`.
    pub(crate) async fn ended(&self, patience: Duration) -> io::Result<bool> {
        let fd = self.fd.try_clone()?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe to call, for handles that nobody owns; this one is owned"
        )]
        let fd = AsyncFd::with_interest(fd, Interest::READABLE)?;
        match tokio::time::timeout(patience, fd.readable()).await {
            Ok(ready) => ready.map(|_| true),
            Err(_) => Ok(false),
        }
    }

    /// Afterwards it has ended: asked with `signal` first, killed after `patience`.
    pub(crate) async fn end(&self, signal: Signal, patience: Duration) -> io::Result<()> {
        self.signal(signal)?;
        if self.ended(patience).await? {
            return Ok(());
        }
        self.signal(Signal::KILL)?;
        if self.ended(Duration::from_secs(10)).await? {
            return Ok(());
        }
        Err(io::Error::other(format!(
            "pid {} does not end, not even killed",
            self.pid
        )))
    }
}

fn works_below(pid: i32, folder: &Path) -> bool {
    fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(folder))
}

fn belongs_to(pid: i32, user: u32) -> bool {
    // Not by the folder's owner, which is root for a process that hides its memory.
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    ids.and_then(|ids| ids.split_ascii_whitespace().next()?.parse().ok()) == Some(user)
}

fn has_terminal(pid: i32) -> bool {
    stat(pid, 7).is_some_and(|number| number != 0)
}

/// None for one that has ended and only waits for its parent.
fn start_ticks(pid: i32) -> Option<u64> {
    stat(pid, 22)?.try_into().ok()
}

/// A field of the kernel's line, as proc(5) counts them; none for one that has ended.
fn stat(pid: i32, field: usize) -> Option<i64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in brackets and may hold any character, brackets too.
    let fields: Vec<&str> = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace().collect();
    if matches!(*fields.first()?, "Z" | "X") {
        return None;
    }
    // The first one after the name is the third.
    fields.get(field.checked_sub(3)?)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_is_found_by_its_folder_and_ends_when_asked() {
        let dir = tempfile::tempdir().expect("temp");
        // As units are started: without a terminal, which a test may have.
        let mut child = std::process::Command::new("setsid")
            .args(["sleep", "60"])
            .current_dir(dir.path())
            .spawn()
            .expect("sleep");
        let user = nix::unistd::Uid::effective().as_raw();
        assert!(Process::below(dir.path(), user + 1).is_empty(), "another user's");
        let found = loop {
            let found = Process::below(dir.path(), user);
            if !found.is_empty() {
                break found;
            }
            tokio::task::yield_now().await;
        };
        assert_eq!(
            found.iter().map(|it| it.pid.unsigned_abs()).collect::<Vec<_>>(),
            [child.id()]
        );
        assert!(!found[0].ended(Duration::ZERO).await.expect("wait"));
        found[0].end(Signal::TERM, Duration::from_secs(5)).await.expect("end");
        child.wait().expect("reap");
        assert!(Process::below(dir.path(), user).is_empty());
    }

    #[test]
    fn a_number_that_is_a_stranger_now_is_not_ours() {
        let run = |start_ticks| RunFile {
            pid: i32::try_from(std::process::id()).expect("pid"),
            start_ticks,
            boot_id: fs::read_to_string("/proc/sys/kernel/random/boot_id")
                .expect("boot")
                .trim()
                .into(),
            started_at: jiff::Timestamp::now(),
            restart_key: String::new(),
            reload_key: String::new(),
        };
        let ours = start_ticks(run(0).pid).expect("ticks");
        assert!(Process::of(&run(ours)).is_some());
        assert!(Process::of(&run(ours + 1)).is_none());
        assert!(
            Process::of(&RunFile {
                boot_id: "other".into(),
                ..run(ours)
            })
            .is_none()
        );
    }
}
