//! One writer at a time: a lock that the kernel frees when its holder dies.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use serde::{Deserialize, Serialize};

use crate::ProviderError;
use crate::local::state::{
    addresses::Octets,
    files::{Files, failed, is_leftover, read_json, sweep, vanish},
    layout::{Layout, RESOURCES},
    workspace::erase,
};

/// Who holds the lock; only as good as the moment it was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockHolder {
    pub pid: u32,
    /// As typed: `ha provision`.
    pub command: String,
    pub since: Timestamp,
}

impl std::fmt::Display for LockHolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "pid {}: {}, since {:.0}", self.pid, self.command, self.since)
    }
}

/// Held until dropped, or until this process ends in whatever way.
#[derive(Debug)]
pub struct WriterLock {
    file: File,
    layout: Layout,
    octets: Octets,
}

impl Drop for WriterLock {
    /// A workspace that was never made, or was just destroyed, leaves no folder for the sake of a lock.
    fn drop(&mut self) {
        if !names(&self.layout.lock(), &self.file) {
            // The workspace was destroyed, and the lock's file with it; what has its name now is somebody else's.
            let _ = fs::remove_dir(&self.layout.state_root);
        } else if let Err(error) = self.leave() {
            tracing::warn!(%error, "something is left of a workspace that holds nothing");
        }
    }
}

impl WriterLock {
    fn leave(&self) -> Result<(), ProviderError> {
        if !is_bare(&self.layout)? {
            // An old name in a free lock would mislead; the next holder writes its own anyway.
            let _ = self.file.set_len(0);
            return Ok(());
        }
        // Whoever waits on this file sees that its name is gone, and begins anew.
        match read_json(&self.layout.workspace_file()) {
            Ok(Some(Claim { octet })) => erase(&self.layout, &self.octets, octet)?,
            _ => vanish(&self.layout.root, &self.layout.state_root)?,
        }
        // Other workspaces may be in it.
        let _ = fs::remove_dir(&self.layout.state_root);
        Ok(())
    }
}

#[derive(Deserialize)]
struct Claim {
    octet: u8,
}

/// No resource was made, or none is left: addresses were given out at most, and there are folders of regions that
/// never got one. Without any resource nobody needs programs and passwords.
fn is_bare(layout: &Layout) -> Result<bool, ProviderError> {
    let mut known = vec![layout.lock(), layout.workspace_file(), layout.regions()];
    known.extend([layout.bin(), layout.secrets(), layout.links()]);
    let is_known = |path: &Path| known.iter().any(|known| known == path);
    for path in entries(&layout.root)? {
        if !is_known(&path) {
            return Ok(false);
        }
    }
    for region in entries(&layout.regions())? {
        for inside in entries(&region)? {
            if inside.file_name() != Some(RESOURCES.as_ref()) || !entries(&inside)?.is_empty() {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Without what a write or a removal that was cut short left behind.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, ProviderError> {
    let wrong = |source| failed("cannot list", folder, source);
    let listed = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(wrong)?,
    };
    let mut found = Vec::new();
    for entry in listed {
        let entry = entry.map_err(wrong)?;
        if !is_leftover(&entry.file_name().to_string_lossy()) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// What a single try found.
enum Tried {
    Held(WriterLock),
    By(Option<LockHolder>),
}

/// Takes the lock, or says who has it.
///
/// # Errors
/// `Taken` names the holder.
pub(crate) fn try_lock(
    layout: &Layout,
    files: &Files,
    octets: &Octets,
    command: &str,
) -> Result<WriterLock, ProviderError> {
    match attempt(layout, files, octets, command)? {
        Tried::Held(lock) => Ok(lock),
        Tried::By(holder) => Err(taken(layout, holder)),
    }
}

/// Takes the lock as soon as it is free; `on_wait` hears who has it, once for each holder.
///
/// # Errors
/// `Taken` names the holder at the end of `timeout`.
pub(crate) async fn lock_wait(
    layout: &Layout,
    files: &Files,
    octets: &Octets,
    command: &str,
    timeout: Duration,
    mut on_wait: impl FnMut(&LockHolder),
) -> Result<WriterLock, ProviderError> {
    // A thread blocked in flock could not be called off when the operator presses Ctrl-C, so this asks.
    const ASK_EVERY: Duration = Duration::from_millis(100);
    let deadline = tokio::time::Instant::now() + timeout;
    let mut told: Option<LockHolder> = None;
    loop {
        let holder = match attempt(layout, files, octets, command)? {
            Tried::Held(lock) => return Ok(lock),
            Tried::By(holder) => holder,
        };
        if let Some(holder) = &holder
            && told.as_ref() != Some(holder)
        {
            on_wait(holder);
            told = Some(holder.clone());
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(taken(layout, holder.or(told)));
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// Who holds it at this moment; none when nobody does.
pub(crate) fn holder(layout: &Layout) -> Option<LockHolder> {
    let mut file = OpenOptions::new().read(true).open(layout.lock()).ok()?;
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => None,
        Err(_) => read_holder(&mut file),
    }
}

fn attempt(layout: &Layout, files: &Files, octets: &Octets, command: &str) -> Result<Tried, ProviderError> {
    let path = layout.lock();
    let wrong = |source| failed("cannot take the lock", &path, source);
    loop {
        prepare(layout, files)?;
        let mut file = match open(&path) {
            // Removed between the two calls by whoever destroyed the workspace.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.map_err(wrong)?,
        };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(Tried::By(read_holder(&mut file))),
            Err(errno) => return Err(wrong(errno.into())),
        }
        if !names(&path, &file) {
            continue;
        }
        let holder = LockHolder {
            pid: std::process::id(),
            command: command.to_owned(),
            since: Timestamp::now(),
        };
        if let Err(error) = write_holder(&mut file, &holder) {
            // A full disk must not keep anybody from destroying what fills it; the others are told "another command".
            tracing::warn!(%error, path = %path.display(), "cannot write who holds the lock");
        }
        let lock = WriterLock {
            file,
            layout: layout.clone(),
            octets: octets.clone(),
        };
        // What a removal left behind that was killed half-way: nobody else looks there.
        sweep(&layout.root, None)?;
        sweep(
            &layout.state_root,
            layout.root.file_name().and_then(|name| name.to_str()),
        )?;
        return Ok(Tried::Held(lock));
    }
}

/// The folder of a workspace is for its owner alone; the root above lets the database's user pass.
fn prepare(layout: &Layout, files: &Files) -> Result<(), ProviderError> {
    if !layout.root.is_dir() {
        files.workspace(&layout.state_root, &layout.root)?;
    }
    Ok(())
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

/// The name still belongs to the locked file.
fn names(path: &Path, file: &File) -> bool {
    let (Ok(at), Ok(held)) = (fs::metadata(path), file.metadata()) else {
        return false;
    };
    (at.dev(), at.ino()) == (held.dev(), held.ino())
}

fn write_holder(file: &mut File, holder: &LockHolder) -> std::io::Result<()> {
    let text = serde_json::to_vec(holder)?;
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&text)
}

/// None while the holder has not written its name yet.
fn read_holder(file: &mut File) -> Option<LockHolder> {
    let mut text = String::new();
    file.seek(SeekFrom::Start(0)).ok()?;
    file.read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

fn taken(layout: &Layout, holder: Option<LockHolder>) -> ProviderError {
    ProviderError::Taken {
        what: format!("workspace {}", folder_name(&layout.root).display()),
        by: holder.map_or_else(|| "another command".into(), |holder| holder.to_string()),
    }
}

fn folder_name(path: &Path) -> PathBuf {
    path.file_name().map_or_else(|| path.to_owned(), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::state::workspace::WorkspaceRecord;

    fn layout(dir: &tempfile::TempDir) -> (Layout, Files, Octets) {
        let layout = Layout::new(&dir.path().join("state"), &dir.path().join("run"), "shop");
        (layout, Files::new(None), Octets::in_folder(dir.path().join("octets")))
    }

    #[test]
    fn a_workspace_that_was_claimed_and_never_made_goes_with_the_lock() {
        let dir = tempfile::tempdir().expect("temp");
        let (layout, files, octets) = layout(&dir);
        let record = WorkspaceRecord::new(&layout, &files, &dir.path().join("a.ncl"), "shop", octets.clone());
        let resources = layout.region("us-east").resources();
        let begin = || {
            let lock = try_lock(&layout, &files, &octets, "ha provision").expect("free");
            record.claim().expect("claimed");
            fs::create_dir_all(&resources).expect("folders");
            fs::create_dir_all(layout.secrets()).expect("folders");
            fs::write(resources.join(".network.net.json.1-0.new"), "{").expect("cut short");
            lock
        };
        let lock = begin();
        fs::write(resources.join("network.net.json"), "{}").expect("made");
        drop(lock);
        assert!(resources.exists(), "a resource stays");
        let lock = begin();
        fs::remove_file(resources.join("network.net.json")).expect("remove");
        drop(lock);
        let left: Vec<_> = fs::read_dir(dir.path()).expect("list").flatten().collect();
        assert!(left.is_empty(), "{left:?}");
    }

    #[test]
    fn the_second_is_told_who_holds_it_and_nothing_is_left_afterwards() {
        let dir = tempfile::tempdir().expect("temp");
        let (layout, files, octets) = layout(&dir);
        let first = try_lock(&layout, &files, &octets, "ha provision").expect("free");
        let error = try_lock(&layout, &files, &octets, "ha destroy").expect_err("held");
        assert_eq!(error.code(), "ha::provider::taken");
        let me = format!("pid {}: ha provision, since", std::process::id());
        assert!(error.to_string().contains(&me), "{error}");
        assert_eq!(
            holder(&layout).map(|holder| holder.command).as_deref(),
            Some("ha provision")
        );
        drop(first);
        assert_eq!(holder(&layout), None);
        assert!(!layout.state_root.exists());
    }

    #[tokio::test]
    async fn waiting_ends_when_the_holder_does() {
        let dir = tempfile::tempdir().expect("temp");
        let (layout, files, octets) = layout(&dir);
        let first = try_lock(&layout, &files, &octets, "ha provision").expect("free");
        let mut seen = Vec::new();
        let late = lock_wait(
            &layout,
            &files,
            &octets,
            "ha destroy",
            Duration::from_millis(150),
            |holder| {
                seen.push(holder.command.clone());
            },
        );
        assert!(late.await.is_err());
        assert_eq!(seen, ["ha provision"]);
        let (waited, ()) = tokio::join!(
            lock_wait(&layout, &files, &octets, "ha destroy", Duration::from_secs(10), |_| {}),
            async { drop(first) },
        );
        assert!(waited.is_ok());
    }
}
