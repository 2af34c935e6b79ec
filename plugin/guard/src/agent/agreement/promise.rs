//! The small file that survives everything but the disk (protocol §3).

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use ha_core::{agreement::Epoch, decide::Promise};
use serde::{Deserialize, Serialize};

#[derive(Debug, thiserror::Error)]
pub(crate) enum PromiseError {
    #[error("cannot {what} the promise file {}: {error}", .path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        error: io::Error,
    },
    /// Without it nobody knows what this node has promised; zero would be a guess that loses writes.
    #[error(
        "the promise file {} cannot be read: {reason}; if the disk lost it, take this node's data folder and that file away \
         together, so that the node is copied anew",
        .path.display()
    )]
    Damaged { path: PathBuf, reason: String },
    #[error(
        "the promise file {} is of {found}, and this guard is of {expected}; take it away only together with the node's \
         data folder",
        .path.display()
    )]
    Another {
        path: PathBuf,
        found: String,
        expected: String,
    },
    /// I3: promises never go down.
    #[error("this node has promised epoch {promised}; epoch {asked} is over for it")]
    GoesDown { promised: Epoch, asked: Epoch },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    /// `<workspace>/<cluster>/<node>`
    of: String,
    epoch: Epoch,
    promised_at: Option<jiff::Timestamp>,
    promoted: Epoch,
    /// Of the database; none before it was seen.
    system_identifier: Option<String>,
    store: Remembered,
}

/// What the store has shown: it never shows less, unless it was restored from a copy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Remembered {
    /// Its identity; none before it was seen.
    pub(crate) cluster: Option<String>,
    pub(crate) revision: i64,
}

/// Every change is on the disk when it is answered with success; after an error the file holds the old content or the
/// new one, and what is remembered here is the old one.
#[derive(Debug)]
pub(crate) struct PromiseFile {
    path: PathBuf,
    stored: Mutex<Stored>,
}

impl PromiseFile {
    /// A file that is not there is that of a node that never promised anything; it is made with the first promise.
    pub(crate) fn open(path: &Path, of: &str) -> Result<Self, PromiseError> {
        let stored = match fs::read(path) {
            Ok(text) => serde_json::from_slice::<Stored>(&text).map_err(|error| PromiseError::Damaged {
                path: path.to_owned(),
                reason: error.to_string(),
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Stored {
                of: of.to_owned(),
                epoch: 0,
                promised_at: None,
                promoted: 0,
                system_identifier: None,
                store: Remembered::default(),
            },
            Err(error) => {
                return Err(PromiseError::Io {
                    what: "read",
                    path: path.to_owned(),
                    error,
                });
            }
        };
        if stored.of != of {
            return Err(PromiseError::Another {
                path: path.to_owned(),
                found: stored.of,
                expected: of.to_owned(),
            });
        }
        Ok(Self {
            path: path.to_owned(),
            stored: Mutex::new(stored),
        })
    }

    pub(crate) fn promise(&self) -> Promise {
        let stored = self.lock();
        Promise {
            epoch: stored.epoch,
            promoted: stored.promoted,
        }
    }

    pub(crate) fn remembered(&self) -> Remembered {
        self.lock().store.clone()
    }

    /// Nothing is acknowledged for an epoch below `epoch`. Repeating it is nothing; a lower one is refused.
    pub(crate) fn keep_promise(&self, epoch: Epoch) -> Result<(), PromiseError> {
        self.change(|stored| {
            refuse_below(stored.epoch, epoch)?;
            if epoch > stored.epoch {
                stored.epoch = epoch;
                stored.promised_at = Some(jiff::Timestamp::now());
            }
            Ok(())
        })
    }

    /// This node is about to be the primary of `epoch`, which promises it, too.
    pub(crate) fn keep_promoted(&self, epoch: Epoch) -> Result<(), PromiseError> {
        self.change(|stored| {
            refuse_below(stored.epoch.max(stored.promoted), epoch)?;
            stored.epoch = epoch;
            stored.promoted = epoch;
            Ok(())
        })
    }

    /// The promises are those of this database. One with another identifier is refused from then on.
    pub(crate) fn belongs_to(&self, system_identifier: &str) -> Result<(), PromiseError> {
        let path = self.path.clone();
        self.change(|stored| match &stored.system_identifier {
            Some(found) if found != system_identifier => Err(PromiseError::Another {
                path,
                found: format!("the database with system identifier {found}"),
                expected: format!("the one with {system_identifier}"),
            }),
            _ => {
                stored.system_identifier = Some(system_identifier.to_owned());
                Ok(())
            }
        })
    }

    /// For the next life of this guard. A lower revision or another store is not taken over.
    pub(crate) fn remember(&self, cluster: &str, revision: i64) -> Result<(), PromiseError> {
        self.change(|stored| {
            if stored.store.cluster.as_ref().is_none_or(|it| it == cluster) && revision > stored.store.revision {
                stored.store = Remembered {
                    cluster: Some(cluster.to_owned()),
                    revision,
                };
            }
            Ok(())
        })
    }

    /// Another store, or an older state of it, is the one to compare with from now on: a person decided that. What this
    /// node has promised stays.
    pub(crate) fn adopt(&self, cluster: &str, revision: i64) -> Result<(), PromiseError> {
        self.change(|stored| {
            stored.store = Remembered {
                cluster: Some(cluster.to_owned()),
                revision,
            };
            Ok(())
        })
    }

    /// Held over the write: two changes cannot overtake each other on their way to the disk.
    fn change(&self, change: impl FnOnce(&mut Stored) -> Result<(), PromiseError>) -> Result<(), PromiseError> {
        let mut stored = self.lock();
        let mut next = stored.clone();
        change(&mut next)?;
        if next != *stored {
            write(&self.path, &next).map_err(|error| PromiseError::Io {
                what: "write",
                path: self.path.clone(),
                error,
            })?;
            *stored = next;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Stored> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refuse_below(promised: Epoch, asked: Epoch) -> Result<(), PromiseError> {
    if asked < promised {
        return Err(PromiseError::GoesDown { promised, asked });
    }
    Ok(())
}

/// Whole or not at all, and there after a power cut.
fn write(path: &Path, stored: &Stored) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(&serde_json::to_vec_pretty(stored)?)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &Path) -> Result<PromiseFile, PromiseError> {
        PromiseFile::open(&folder.join("state/promise.json"), "shop/orders/us-db-1")
    }

    #[test]
    fn a_promise_is_there_in_the_next_life() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = open(folder.path()).expect("none yet");
        assert_eq!(file.promise(), Promise::default());
        file.keep_promise(7).expect("kept");
        file.keep_promoted(8).expect("kept");
        file.belongs_to("7123").expect("kept");
        file.remember("abc", 40).expect("kept");
        let again = open(folder.path()).expect("read");
        assert_eq!(again.promise(), Promise { epoch: 8, promoted: 8 });
        assert_eq!(again.remembered().revision, 40);
        assert!(again.belongs_to("7123").is_ok());
        assert!(!folder.path().join("state/promise.json.new").exists());
    }

    #[test]
    fn it_never_goes_down() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = open(folder.path()).expect("none yet");
        file.keep_promise(7).expect("kept");
        file.keep_promise(7).expect("the same again is nothing");
        assert!(matches!(
            file.keep_promise(6),
            Err(PromiseError::GoesDown { promised: 7, asked: 6 })
        ));
        assert!(file.keep_promoted(6).is_err());
        file.remember("abc", 40).expect("kept");
        file.remember("abc", 30).expect("not taken over");
        file.remember("xyz", 50).expect("not taken over");
        assert_eq!(open(folder.path()).expect("read").promise().epoch, 7);
        assert_eq!(file.remembered().revision, 40);
    }

    #[test]
    fn another_clusters_file_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = open(folder.path()).expect("none yet");
        file.keep_promise(1).expect("kept");
        file.belongs_to("1").expect("kept");
        assert!(matches!(file.belongs_to("2"), Err(PromiseError::Another { .. })));
        let other = PromiseFile::open(&folder.path().join("state/promise.json"), "shop/orders/eu-db-1");
        assert!(matches!(other, Err(PromiseError::Another { .. })), "{other:?}");
    }

    #[test]
    fn a_damaged_file_is_never_zero() {
        let folder = tempfile::tempdir().expect("a folder");
        open(folder.path()).expect("none yet").keep_promise(3).expect("kept");
        let path = folder.path().join("state/promise.json");
        let whole = fs::read(&path).expect("read");
        for damaged in [b"".as_slice(), b"{}", &whole[..whole.len() / 2], b"\0\0\0\0"] {
            fs::write(&path, damaged).expect("written");
            let error = open(folder.path()).expect_err("damaged").to_string();
            assert!(error.contains("take this node's data folder"), "{error}");
        }
    }

    #[test]
    fn a_promise_that_cannot_be_written_is_not_made() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("state"), "a file where the folder should be").expect("written");
        let Err(PromiseError::Io { .. }) = open(folder.path()) else {
            panic!("there is no such folder");
        };
        fs::remove_file(folder.path().join("state")).expect("removed");
        let file = open(folder.path()).expect("none yet");
        fs::write(folder.path().join("state"), "again").expect("written");
        assert!(file.keep_promise(9).is_err());
        assert_eq!(file.promise().epoch, 0);
    }
}
