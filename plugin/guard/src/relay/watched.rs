//! Files that others replace.

use std::{
    fs,
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::unix::AsyncFd;

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

/// Says that something happened in the folders of such files: a nudge to look at them. A system that has no watches
/// left to give says nothing, so whoever waits for this looks now and then all the same.
pub(super) struct Folders(Option<AsyncFd<OwnedFd>>);

impl Folders {
    pub(super) fn new() -> Self {
        #[expect(
            deprecated,
            reason = "its successor is unsafe for the sake of types that lie about their descriptor; OwnedFd does not"
        )]
        let opened = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .map_err(std::io::Error::from)
            .and_then(|fd| AsyncFd::with_interest(fd, tokio::io::Interest::READABLE));
        Self(
            opened
                .inspect_err(|error| tracing::warn!(%error, "changes of files are seen a second late"))
                .ok(),
        )
    }

    /// The folder of `file` is watched. Said again it costs nothing, and finds one that was made anew.
    pub(super) fn watch(&self, file: &Path) {
        let (Some(watches), Some(folder)) = (&self.0, file.parent()) else {
            return;
        };
        let what = WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO | WatchFlags::MOVED_FROM | WatchFlags::DELETE;
        if let Err(error) = inotify::add_watch(watches.get_ref(), folder, what) {
            tracing::debug!(%error, "cannot watch {}", folder.display());
        }
    }

    /// Returns when something happened since the last time.
    pub(super) async fn stirred(&self) {
        let Some(watches) = &self.0 else {
            return std::future::pending().await;
        };
        let Ok(mut ready) = watches.readable().await else {
            // The runtime is ending.
            return std::future::pending().await;
        };
        // What happened is seen by looking at the files; the kernel only has to be rid of the news.
        let mut news = [MaybeUninit::<u8>::uninit(); 4096];
        while rustix::io::read(ready.get_inner(), &mut news).is_ok() {}
        ready.clear_ready();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_file_that_is_replaced_or_written_or_removed_is_news() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("links.json");
        let folders = Folders::new();
        folders.watch(&file);
        folders.watch(&file);
        let mut watched = Watched::new(file.clone());
        assert!(watched.changed() && !watched.changed());
        for step in 0..3 {
            match step {
                0 => fs::write(&file, "a").expect("written"),
                1 => {
                    fs::write(folder.path().join("new"), "bc").expect("written");
                    fs::rename(folder.path().join("new"), &file).expect("replaced");
                }
                _ => fs::remove_file(&file).expect("removed"),
            }
            timeout(Duration::from_secs(5), folders.stirred())
                .await
                .expect("a nudge");
            assert!(watched.changed(), "step {step}");
        }
    }
}
