//! A file that others replace.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Tells when the file at a path is another one, or was written to, or is gone.
pub(super) struct Watched {
    path: PathBuf,
    /// Inode, length, and the moment of the last change in seconds and nanoseconds.
    seen: Option<Option<(u64, u64, i64, i64)>>,
}

impl Watched {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, seen: None }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// True the first time, and whenever it differs from the last look.
    pub(super) fn changed(&mut self) -> bool {
        let now = fs::metadata(&self.path)
            .ok()
            .map(|it| (it.ino(), it.len(), it.mtime(), it.mtime_nsec()));
        let changed = self.seen != Some(now);
        self.seen = Some(now);
        changed
    }
}
