//! The start permit: a primary that nobody was told to start in this epoch is a stranger.
//!
//! It names the process that it was given for, so that neither a reboot nor a start by hand can use an old one.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use ha_core::agreement::Epoch;
use serde::{Deserialize, Serialize};

use crate::procfs;

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Permit {
    boot: String,
    epoch: Epoch,
    pid: i32,
    /// Clock ticks from boot until the process began.
    started: u64,
}

fn path(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("permit.json")
}

/// The process may be primary in this epoch. Seen whole or not at all.
pub(super) fn grant(runtime_dir: &Path, pid: i32, epoch: Epoch) -> io::Result<()> {
    let process = procfs::stat(pid).ok_or_else(|| io::Error::other(format!("process {pid} is gone")))?;
    let permit = Permit {
        boot: procfs::boot_id()?,
        epoch,
        pid,
        started: process.start_ticks,
    };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(runtime_dir)?;
    let new = runtime_dir.join("permit.json.new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(&serde_json::to_vec(&permit)?)?;
    // Not synced: a permit that a crash of the machine takes along is of another boot anyway.
    fs::rename(&new, path(runtime_dir))
}

/// The epoch that this very process may be primary in. A file that cannot be read permits nothing.
pub(super) fn held_by(runtime_dir: &Path, pid: i32) -> Option<Epoch> {
    let permit: Permit = serde_json::from_slice(&fs::read(path(runtime_dir)).ok()?).ok()?;
    let same = permit.pid == pid
        && procfs::boot_id().is_ok_and(|boot| boot == permit.boot)
        && procfs::stat(pid).is_some_and(|it| it.start_ticks == permit.started && !it.is_dead());
    same.then_some(permit.epoch)
}

/// Nobody has one.
pub(super) fn revoke(runtime_dir: &Path) -> io::Result<()> {
    match fs::remove_file(path(runtime_dir)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permit_is_for_one_process_of_one_boot() {
        let folder = tempfile::tempdir().expect("a folder");
        let me = std::process::id().cast_signed();
        assert_eq!(held_by(folder.path(), me), None);
        grant(folder.path(), me, 7).expect("granted");
        assert_eq!(held_by(folder.path(), me), Some(7));
        assert_eq!(held_by(folder.path(), 1), None, "another process");
        let text = fs::read_to_string(path(folder.path())).expect("a permit");
        let mut permit: Permit = serde_json::from_str(&text).expect("readable");
        permit.started += 1;
        fs::write(path(folder.path()), serde_json::to_vec(&permit).expect("json")).expect("written");
        assert_eq!(
            held_by(folder.path(), me),
            None,
            "the number belongs to another process now"
        );
        fs::write(path(folder.path()), "{").expect("written");
        assert_eq!(held_by(folder.path(), me), None);
        revoke(folder.path()).expect("revoked");
        revoke(folder.path()).expect("again");
    }
}
