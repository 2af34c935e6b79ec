//! Files that are whole or not there: every write goes to a neighbour first and is renamed over.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::fs::{Mode, OFlags, fchmod};
use serde::{Serialize, de::DeserializeOwned};

use crate::ProviderError;
use crate::local::state::user::RunAs;

/// Readable by its owner alone: passwords and keys.
pub(crate) const SECRET: u32 = 0o600;
/// Rendered configuration; the folder above keeps strangers out.
pub(crate) const PLAIN: u32 = 0o644;
pub(crate) const PROGRAM: u32 = 0o755;

/// Writes as the user that will read: as root everything is handed to that user before it appears.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    owner: Option<RunAs>,
}

impl Files {
    pub(crate) fn new(owner: Option<RunAs>) -> Self {
        Self { owner }
    }

    /// Afterwards the folder exists with this mode and owner, its parents too (parents keep what they have).
    pub(crate) fn folder(&self, path: &Path, mode: u32) -> Result<(), ProviderError> {
        let made = fs::DirBuilder::new().recursive(true).mode(mode).create(path);
        made.map_err(|source| failed("cannot make the folder", path, source))?;
        self.give(path)?;
        // Through a handle that follows no link: the folder above may be another user's, and root would be led away.
        let flags = OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty())
            .and_then(|folder| fchmod(folder, Mode::from_raw_mode(mode)))
            .map_err(|errno| failed("cannot set the mode of", path, errno.into()))
    }

    /// Afterwards the folder of a workspace exists, for its owner alone, and its owner can get there; the root above
    /// it lets others pass.
    ///
    /// # Errors
    /// `Refused` when the owner could not enter it.
    pub(crate) fn workspace(&self, root: &Path, folder: &Path) -> Result<(), ProviderError> {
        // Before anything is made: what is refused leaves nothing.
        if let Some(owner) = &self.owner {
            check_passage(root, owner)?;
        }
        passage(root)?;
        self.folder(folder, 0o700)
    }

    /// Afterwards the file holds exactly these bytes, on disk; at any moment it holds the old or the new ones.
    pub(crate) fn write(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<(), ProviderError> {
        let neighbour = neighbour(path);
        let written = self.write_neighbour(&neighbour, path, bytes, mode);
        if written.is_err() {
            // The error already says what went wrong; the leftover only wastes the space that may be missing.
            let _ = fs::remove_file(&neighbour);
        }
        written
    }

    fn write_neighbour(&self, neighbour: &Path, path: &Path, bytes: &[u8], mode: u32) -> Result<(), ProviderError> {
        let write = |source| failed("cannot write", path, source);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(neighbour)
            .map_err(write)?;
        file.write_all(bytes).map_err(write)?;
        file.sync_all().map_err(write)?;
        self.give(neighbour)?;
        fs::rename(neighbour, path).map_err(write)?;
        sync_folder_of(path).map_err(write)
    }

    /// As [`Files::write`], and says whether the content was another before; an equal file is left alone.
    pub(crate) fn write_if_changed(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<bool, ProviderError> {
        if fs::read(path).is_ok_and(|old| old == bytes) {
            return Ok(false);
        }
        self.write(path, bytes, mode).map(|()| true)
    }

    pub(crate) fn write_json<T: Serialize>(&self, path: &Path, value: &T) -> Result<(), ProviderError> {
        self.write(path, json_text(value)?.as_bytes(), PLAIN)
    }

    pub(crate) fn write_json_if_changed<T: Serialize>(&self, path: &Path, value: &T) -> Result<bool, ProviderError> {
        self.write_if_changed(path, json_text(value)?.as_bytes(), PLAIN)
    }

    /// Afterwards `to` is a copy of `from`; at any moment it is whole or not there.
    pub(crate) fn copy(&self, from: &Path, to: &Path, mode: u32) -> Result<(), ProviderError> {
        let neighbour = neighbour(to);
        let copied = (|| {
            fs::copy(from, &neighbour).map_err(|source| failed("cannot copy to", to, source))?;
            fs::set_permissions(&neighbour, fs::Permissions::from_mode(mode))
                .and_then(|()| File::open(&neighbour)?.sync_all())
                .map_err(|source| failed("cannot write", to, source))?;
            self.give(&neighbour)?;
            fs::rename(&neighbour, to).map_err(|source| failed("cannot write", to, source))
        })();
        if copied.is_err() {
            let _ = fs::remove_file(&neighbour);
        }
        copied
    }

    fn give(&self, path: &Path) -> Result<(), ProviderError> {
        let Some(owner) = &self.owner else { return Ok(()) };
        std::os::unix::fs::lchown(path, Some(owner.uid), Some(owner.gid))
            .map_err(|source| failed(&format!("cannot hand to user {}", owner.name), path, source))
    }
}

/// None when there is no such file.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, ReadError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(ReadError::Unreadable(error)),
    };
    serde_json::from_slice(&text).map(Some).map_err(ReadError::Damaged)
}

/// The two need different next steps: rights, or writing it anew.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    #[error("is damaged: {0}")]
    Damaged(serde_json::Error),
}

/// Names in a folder, sorted, without those of half-written files; empty when there is no such folder.
pub(crate) fn names_in(folder: &Path) -> Result<Vec<String>, ProviderError> {
    let wrong = |source| failed("cannot list", folder, source);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(wrong(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(wrong)?.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Afterwards nothing is at `path`; a folder goes with everything in it.
pub(crate) fn remove_all(path: &Path) -> Result<(), ProviderError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("cannot remove", path, error)),
        _ => Ok(()),
    }
}

/// Afterwards the folder is gone, or somebody has something in it.
pub(crate) fn remove_if_empty(folder: &Path) -> Result<(), ProviderError> {
    use io::ErrorKind::{DirectoryNotEmpty, NotFound};
    match fs::remove_dir(folder) {
        Err(error) if !matches!(error.kind(), DirectoryNotEmpty | NotFound) => {
            Err(failed("cannot remove", folder, error))
        }
        _ => Ok(()),
    }
}

/// Afterwards the folder exists; those that are made here let others pass, whatever the caller's mask is: the
/// database's user has a folder of its own below.
pub(crate) fn passage(path: &Path) -> Result<(), ProviderError> {
    let mut missing: Vec<&Path> = path.ancestors().take_while(|it| !it.is_dir()).collect();
    while let Some(folder) = missing.pop() {
        match fs::create_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => continue,
            made => made.map_err(|source| failed("cannot make the folder", folder, source))?,
        }
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
            .map_err(|source| failed("cannot set the mode of", folder, source))?;
    }
    Ok(())
}

/// # Errors
/// `Refused` names the folder on the way to `path` that `user` cannot enter.
pub(crate) fn check_passage(path: &Path, user: &RunAs) -> Result<(), ProviderError> {
    let enters = |meta: &fs::Metadata| {
        let (mode, own, group) = (meta.mode(), meta.uid() == user.uid, meta.gid() == user.gid);
        let bit = match (own, group) {
            (true, _) => 0o100,
            (false, true) => 0o010,
            (false, false) => 0o001,
        };
        mode & bit != 0
    };
    for folder in path.ancestors() {
        if let Ok(meta) = fs::metadata(folder)
            && !enters(&meta)
        {
            return Err(ProviderError::Refused {
                what: format!(
                    "user {}, who runs the processes when you are root, cannot enter {} (mode {:o})",
                    user.name,
                    folder.display(),
                    meta.mode() & 0o7777
                ),
                help: "set HA_STATE_HOME and HA_RUNTIME_DIR to folders that everybody can pass to: /var/lib/ha and \
                       /run/ha, for example"
                    .into(),
            });
        }
    }
    Ok(())
}

/// What [`vanish`] is about to remove has a name that starts so.
const LEAVING: &str = ".removed-";

/// Afterwards nothing is at `path`. For whoever looks it goes in one step: it first becomes a hidden neighbour in
/// `beside`, which [`sweep`] removes, should this process end half-way.
pub(crate) fn vanish(path: &Path, beside: &Path) -> Result<(), ProviderError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let leaving = beside.join(format!("{LEAVING}{name}.{}", std::process::id()));
    remove_all(&leaving)?;
    match fs::rename(path, &leaving) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("cannot remove", path, error)),
        Ok(()) => remove_all(&leaving),
    }
}

/// Afterwards nothing is left in `beside` of a [`vanish`] that was cut short; `name` limits it to one path.
pub(crate) fn sweep(beside: &Path, name: Option<&str>) -> Result<(), ProviderError> {
    let prefix = name.map_or_else(|| LEAVING.to_owned(), |name| format!("{LEAVING}{name}."));
    let entries = fs::read_dir(beside).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix)) {
        remove_all(&entry.path())?;
    }
    Ok(())
}

/// Whether the last that a program logged names a full disk, in the words of `strerror(ENOSPC)`.
/// An unreadable log tells nothing.
pub(crate) fn tells_of_a_full_disk(log: &Path) -> bool {
    const TAIL: u64 = 64 << 10;
    let tail = || -> io::Result<String> {
        let mut file = File::open(log)?;
        let start = file.metadata()?.len().saturating_sub(TAIL);
        file.seek(io::SeekFrom::Start(start))?;
        let mut tail = Vec::new();
        file.take(TAIL).read_to_end(&mut tail)?;
        Ok(String::from_utf8_lossy(&tail).to_lowercase())
    };
    tail().is_ok_and(|tail| tail.contains("no space left on device"))
}

/// The one place where an error of the file system becomes a provider's.
pub(crate) fn failed(what: &str, path: &Path, source: io::Error) -> ProviderError {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            let folder = if path.is_dir() {
                path
            } else {
                path.parent().unwrap_or(path)
            };
            ProviderError::Refused {
                what: format!("no space left in {} ({what} {})", folder.display(), path.display()),
                help: "free some space there, then run the same command again: it finishes what is there".into(),
            }
        }
        io::ErrorKind::PermissionDenied => ProviderError::Refused {
            what: format!("{what} {}: {source}", path.display()),
            help: "run as the user that provisioned it, or set HA_STATE_HOME to a folder of yours".into(),
        },
        _ => ProviderError::Io {
            what: format!("{what} {}", path.display()),
            source,
        },
    }
}

/// As files of JSON are written here.
pub(crate) fn json_text<T: Serialize>(value: &T) -> Result<String, ProviderError> {
    let mut text = serde_json::to_string_pretty(value).map_err(|error| ProviderError::Other {
        what: format!("cannot be written as JSON: {error}"),
    })?;
    text.push('\n');
    Ok(text)
}

/// Afterwards nothing is left in `folder` of writes that were cut short. Nobody may be writing there.
pub(crate) fn sweep_neighbours(folder: &Path) -> Result<(), ProviderError> {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if is_neighbour(&entry.file_name().to_string_lossy()) {
            remove_all(&entry.path())?;
        }
    }
    Ok(())
}

/// Of a write or a removal that was cut short.
pub(crate) fn is_leftover(name: &str) -> bool {
    name.starts_with(LEAVING) || is_neighbour(name)
}

fn is_neighbour(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(NEW)
}

const NEW: &str = ".new";

/// A name no other writer uses: writers of the same file may be side by side in this process.
fn neighbour(path: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}-{number}{NEW}", std::process::id()));
    path.with_file_name(name)
}

/// A rename is on disk once its folder is.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_content_and_no_leftover() {
        let dir = tempfile::tempdir().expect("temp");
        let files = Files::new(None);
        let path = dir.path().join("a.json");
        files.write(&path, b"old", PLAIN).expect("write");
        assert!(!files.write_if_changed(&path, b"old", PLAIN).expect("same"));
        assert!(files.write_if_changed(&path, b"new", PLAIN).expect("other"));
        assert!(files.write(&dir.path().join("no/such/file"), b"", PLAIN).is_err());
        assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 1);
    }

    #[test]
    fn a_full_disk_names_the_folder_and_says_what_to_do() {
        let error = failed(
            "cannot write",
            Path::new("/state/shop/workspace.json"),
            io::ErrorKind::StorageFull.into(),
        );
        assert_eq!(error.code(), "ha::provider::refused");
        assert!(error.to_string().contains("/state/shop"), "{error}");
        assert!(error.help().is_some_and(|help| help.contains("again")));
    }

    #[test]
    fn a_folder_is_never_made_through_a_link() {
        let dir = tempfile::tempdir().expect("temp");
        let elsewhere = dir.path().join("elsewhere");
        fs::create_dir(&elsewhere).expect("folder");
        fs::set_permissions(&elsewhere, fs::Permissions::from_mode(0o750)).expect("mode");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&elsewhere, &link).expect("link");
        assert!(Files::new(None).folder(&link, 0o700).is_err());
        let mode = fs::metadata(&elsewhere).expect("meta").permissions().mode();
        assert_eq!(mode & 0o777, 0o750, "what the link leads to is as it was");
    }

    #[test]
    fn a_folder_that_the_processes_cannot_enter_is_named() {
        let dir = tempfile::tempdir().expect("temp");
        let closed = dir.path().join("closed");
        passage(&closed.join("state")).expect("made");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("mode");
        let nobody = RunAs {
            name: "nobody".into(),
            uid: 65534,
            gid: 65534,
        };
        check_passage(&closed.join("state/shop"), &nobody).expect("open");
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).expect("mode");
        let error = check_passage(&closed.join("state/shop"), &nobody).expect_err("closed");
        assert!(
            error.to_string().contains(&format!("{} (mode 700)", closed.display())),
            "{error}"
        );
    }

    #[test]
    fn a_full_disk_is_found_under_what_was_logged_after_it() {
        let dir = tempfile::tempdir().expect("temp");
        let log = dir.path().join("etcd.log");
        assert!(!tells_of_a_full_disk(&log));
        fs::write(
            &log,
            format!(
                "{}panic: write: no space left on device\n{}",
                "a".repeat(1 << 20),
                "goroutine 7\n".repeat(500)
            ),
        )
        .expect("write");
        assert!(tells_of_a_full_disk(&log));
        fs::write(
            &log,
            "no space left on device\n".to_owned() + &"all is well\n".repeat(1 << 14),
        )
        .expect("write");
        assert!(!tells_of_a_full_disk(&log), "long ago");
    }
}
