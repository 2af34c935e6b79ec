//! Processes as the kernel shows them, and a hold on one of them that a reused number cannot fool.

use std::{
    collections::BTreeSet,
    fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{ffi::OsStringExt, fs::MetadataExt},
    },
    path::PathBuf,
    process::{Child, ExitStatus},
    time::{Duration, SystemTime},
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::unix::AsyncFd;

/// Ticks per second in `/proc`: fixed by the kernel's interface, whatever it counts in inside.
const USER_HZ: u64 = 100;

/// The fields of `/proc/<pid>/stat` that tell who a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) pid: i32,
    pub(crate) state: char,
    pub(crate) parent: i32,
    pub(crate) group: i32,
    pub(crate) session: i32,
    /// Clock ticks since boot.
    pub(crate) start_ticks: u64,
}

impl Stat {
    /// The name in brackets is the process's own choice and may hold brackets and spaces: what follows the last
    /// closing one is the kernel's.
    fn parse(pid: i32, text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace().collect();
        Some(Self {
            pid,
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            group: fields.get(2)?.parse().ok()?,
            session: fields.get(3)?.parse().ok()?,
            start_ticks: fields.get(19)?.parse().ok()?,
        })
    }

    /// Ended, and only waits for its parent to notice.
    pub(crate) fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }

    /// By the wall clock of now; None when the kernel does not say how long it has been up.
    pub(crate) fn started_at(&self) -> Option<SystemTime> {
        let uptime: f64 = fs::read_to_string("/proc/uptime")
            .ok()?
            .split_ascii_whitespace()
            .next()?
            .parse()
            .ok()?;
        let age = uptime - self.start_ticks as f64 / USER_HZ as f64;
        SystemTime::now().checked_sub(Duration::try_from_secs_f64(age.max(0.0)).ok()?)
    }
}

/// None when there is no such process.
pub(crate) fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    Stat::parse(pid, &String::from_utf8_lossy(&text))
}

/// Start ticks of another boot mean nothing.
pub(crate) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Living processes of our own user.
pub(crate) fn ours() -> Vec<Stat> {
    let me = rustix::process::geteuid().as_raw();
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            (entry.metadata().ok()?.uid() == me).then_some(pid)
        })
        .filter_map(stat)
        .filter(|it| !it.is_dead())
        .collect()
}

/// The working folder; a removed one ends in ` (deleted)`.
pub(crate) fn cwd(pid: i32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/cwd")).ok()
}

pub(crate) fn arguments(pid: i32) -> Option<Vec<std::ffi::OsString>> {
    list(pid, "cmdline")
}

pub(crate) fn environment(pid: i32) -> Option<Vec<std::ffi::OsString>> {
    list(pid, "environ")
}

fn list(pid: i32, name: &str) -> Option<Vec<std::ffi::OsString>> {
    let mut bytes = fs::read(format!("/proc/{pid}/{name}")).ok()?;
    if bytes.last() == Some(&0) {
        bytes.pop();
    }
    Some(
        bytes
            .split(|it| *it == 0)
            .map(|it| std::ffi::OsString::from_vec(it.to_vec()))
            .collect(),
    )
}

/// A hold on one process. Signals reach that process or nobody, even after its number went to another.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) start_ticks: u64,
    handle: AsyncFd<OwnedFd>,
    /// Some when we are its parent and must collect it.
    child: Option<Child>,
}

impl Process {
    /// Holds a child just started. On an error the child was killed: nobody would watch it.
    pub(crate) fn of_child(mut child: Child) -> io::Result<Self> {
        let pid = child.id() as i32;
        // Not collected yet, so the number is still the child's even if it ended already.
        let held = handle(pid).and_then(|handle| {
            let stat = stat(pid).ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat cannot be read")))?;
            Ok((handle, stat.start_ticks))
        });
        match held {
            Ok((handle, start_ticks)) => Ok(Self {
                pid,
                start_ticks,
                handle,
                child: Some(child),
            }),
            Err(error) => {
                child.kill()?;
                child.wait()?;
                Err(error)
            }
        }
    }

    /// Holds a process that somebody else started; None when it ended, or when its number is another's by now.
    pub(crate) fn pin(pid: i32, start_ticks: u64) -> io::Result<Option<Self>> {
        let handle = match handle(pid) {
            Ok(handle) => handle,
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => return Ok(None),
            // A number that is a thread's by now, not a process's.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Ok(None),
            Err(error) => return Err(error),
        };
        // Asked after the handle exists: what is read here is about the process the handle holds,
        // or the held one ended in between and its start time no longer matches.
        match stat(pid) {
            Some(stat) if stat.start_ticks == start_ticks && !stat.is_dead() => Ok(Some(Self {
                pid,
                start_ticks,
                handle,
                child: None,
            })),
            _ => Ok(None),
        }
    }

    /// Returns once it has ended.
    pub(crate) async fn ended(&self) {
        // An error here means that the runtime is shutting down; then nobody waits for the answer.
        if self.handle.readable().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// A process that ended already is no error: what was wanted holds.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(self.handle.get_ref().as_fd(), signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// How it ended; None when it was not our child. Call it after [`Self::ended`]: then it does not wait.
    pub(crate) fn collect(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().and_then(|child| child.wait().ok())
    }

    /// Kills what is left of its process group, and tells how many that were.
    ///
    /// The number of a group is not given away while it has members, and until [`Self::collect`] a child keeps it too.
    /// For a process that was not our child, a group led by a younger process is another's.
    pub(crate) fn kill_group(&self) -> io::Result<usize> {
        let mut killed = BTreeSet::new();
        // Members may fork while we look; each round leaves fewer.
        for _ in 0..8 {
            if stat(self.pid).is_some_and(|leader| leader.start_ticks != self.start_ticks) {
                break;
            }
            let members: Vec<Stat> = ours()
                .into_iter()
                .filter(|it| it.group == self.pid && it.pid != self.pid && it.start_ticks >= self.start_ticks)
                .collect();
            if members.is_empty() {
                break;
            }
            for member in members {
                if let Some(process) = Self::pin(member.pid, member.start_ticks)? {
                    process.signal(Signal::KILL)?;
                    killed.insert(member.pid);
                }
            }
        }
        Ok(killed.len())
    }
}

#[expect(
    deprecated,
    reason = "the replacement is unsafe; what it must promise holds here: the descriptor is owned and never swapped"
)]
fn handle(pid: i32) -> io::Result<AsyncFd<OwnedFd>> {
    let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
    AsyncFd::new(pidfd_open(pid, PidfdFlags::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_shift_the_fields() {
        let line = "77 (a) R 1 (b) S 5 77 70 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 1000 1";
        assert_eq!(
            Stat::parse(77, line),
            Some(Stat {
                pid: 77,
                state: 'S',
                parent: 5,
                group: 77,
                session: 70,
                start_ticks: 4242,
            })
        );
    }

    #[test]
    fn a_line_cut_short_is_no_process() {
        assert_eq!(Stat::parse(1, "1 (x) S 1 1"), None);
        assert_eq!(Stat::parse(1, ""), None);
    }

    #[tokio::test]
    async fn another_start_time_is_another_process() {
        let me = stat(std::process::id() as i32).expect("own stat");
        assert!(Process::pin(me.pid, me.start_ticks).expect("pin").is_some());
        assert!(Process::pin(me.pid, me.start_ticks + 1).expect("pin").is_none());
    }
}
