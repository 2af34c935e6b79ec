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

    /// Every process whose working folder is `folder` or below.
    pub(crate) fn below(folder: &Path) -> Vec<Self> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let held = pids.filter(|pid| works_below(*pid, folder)).filter_map(Self::open);
        // Looked at again when held: the number may have changed hands in between.
        held.filter(|process| works_below(process.pid, folder)).collect()
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

/// Field 22 of the kernel's line; none for one that has ended and only waits for its parent.
fn start_ticks(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in brackets and may hold any character, brackets too.
    let fields: Vec<&str> = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace().collect();
    if matches!(*fields.first()?, "Z" | "X") {
        return None;
    }
    fields.get(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_is_found_by_its_folder_and_ends_when_asked() {
        let dir = tempfile::tempdir().expect("temp");
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .current_dir(dir.path())
            .spawn()
            .expect("sleep");
        let found = Process::below(dir.path());
        assert_eq!(
            found.iter().map(|it| it.pid.unsigned_abs()).collect::<Vec<_>>(),
            [child.id()]
        );
        assert!(!found[0].ended(Duration::ZERO).await.expect("wait"));
        found[0].end(Signal::TERM, Duration::from_secs(5)).await.expect("end");
        child.wait().expect("reap");
        assert!(Process::below(dir.path()).is_empty());
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
