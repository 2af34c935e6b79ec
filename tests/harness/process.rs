//! Processes by number *and* start time: a number alone may belong to somebody else by now.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rustix::process::{Pid, Signal, kill_process};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    /// Clock ticks since boot.
    pub start_ticks: u64,
}

impl Process {
    /// None when there is none of this number.
    pub fn of(pid: i32) -> Option<Self> {
        let (_, fields) = stat(pid)?;
        Some(Self {
            pid,
            start_ticks: fields.get(19)?.parse().ok()?,
        })
    }

    /// The same process is there; a dead one that nobody has collected yet is not.
    pub fn alive(&self) -> bool {
        Self::of(self.pid).as_ref() == Some(self) && stat(self.pid).is_some_and(|(_, fields)| fields[0] != "Z")
    }

    /// Afterwards it gets no further instruction to run. A process that is gone already is fine.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    pub fn signal(&self, signal: Signal) {
        if self.alive()
            && let Some(pid) = Pid::from_raw(self.pid)
        {
            // It may have ended since it was looked at.
            let _ = kill_process(pid, signal);
        }
    }

    pub fn children(&self) -> Vec<Self> {
        all().filter(|process| parent(process.pid) == Some(self.pid)).collect()
    }

    pub fn command(&self) -> String {
        fs::read(format!("/proc/{}/cmdline", self.pid))
            .map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " ").trim().to_owned())
            .unwrap_or_default()
    }

    pub fn name(&self) -> String {
        stat(self.pid).map(|(name, _)| name).unwrap_or_default()
    }

    /// Its working folder is `folder` or below it.
    pub fn works_in(&self, folder: &Path) -> bool {
        fs::read_link(format!("/proc/{}/cwd", self.pid)).is_ok_and(|it| it.starts_with(folder))
    }

    /// It works in `folder`, was started from it, or was told about it.
    pub fn belongs_to(&self, folder: &Path) -> bool {
        let link = |name: &str| fs::read_link(format!("/proc/{}/{name}", self.pid)).unwrap_or_else(|_| PathBuf::new());
        link("cwd").starts_with(folder)
            || link("exe").starts_with(folder)
            || self.command().contains(&*folder.to_string_lossy())
    }
}

pub fn all() -> impl Iterator<Item = Process> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Process::of(entry.file_name().to_str()?.parse().ok()?))
}

fn parent(pid: i32) -> Option<i32> {
    stat(pid)?.1.get(1)?.parse().ok()
}

/// The name, and the fields from the third on: the name may have spaces and brackets in it.
fn stat(pid: i32) -> Option<(String, Vec<String>)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (name, rest) = text.split_once('(')?.1.rsplit_once(") ")?;
    Some((name.to_owned(), rest.split_whitespace().map(str::to_owned).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_an_earlier_one_of_its_number_is_not() {
        let own = i32::try_from(std::process::id()).expect("a number");
        let this = Process::of(own).expect("this process");
        assert!(this.alive());
        assert!(all().any(|process| process == this));
        let earlier = Process {
            start_ticks: this.start_ticks - 1,
            ..this
        };
        assert!(!earlier.alive());
    }
}
