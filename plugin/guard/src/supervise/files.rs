//! The files of a region's folder: what should run, whether its host is on, and which process runs it.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use ha_core::unit::{RunFile, Unit};
use serde::Serialize;

/// A log larger than this is set aside, in place of the last such.
const LOG_LIMIT: u64 = 10 << 20;

/// One unit of one host, and where its files are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) host: String,
    pub(super) unit: String,
    /// `…/hosts/<host>`
    pub(super) folder: PathBuf,
}

impl Place {
    pub(super) fn unit_file(&self) -> PathBuf {
        self.folder.join("units").join(format!("{}.json", self.unit))
    }

    pub(super) fn run_file(&self) -> PathBuf {
        self.folder.join("run").join(format!("{}.json", self.unit))
    }

    pub(super) fn log_file(&self) -> PathBuf {
        self.folder.join("log").join(format!("{}.log", self.unit))
    }

    /// What every process of this unit carries in its environment, its children too unless they drop it.
    pub(super) fn mark(&self) -> String {
        format!("{}/{}", self.folder.display(), self.unit)
    }

    /// None when there is none; an error when there is one that cannot be trusted.
    pub(super) fn read_run(&self) -> io::Result<Option<RunFile>> {
        match fs::read(self.run_file()) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn write_run(&self, run: &RunFile) -> io::Result<()> {
        write_json(&self.run_file(), run)
    }

    /// Gone afterwards, also when it was not there.
    pub(super) fn remove_run(&self) -> io::Result<()> {
        match fs::remove_file(self.run_file()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The log to append to; a large one was set aside as `<unit>.log.1`.
    pub(super) fn open_log(&self) -> io::Result<fs::File> {
        let path = self.log_file();
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        if fs::metadata(&path).is_ok_and(|it| it.len() > LOG_LIMIT) {
            fs::rename(&path, path.with_extension("log.1"))?;
        }
        fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path)
    }

    /// A log that a running process adds to is no larger than it may be: a balancer in front of a database that is
    /// gone writes a line for each connection. The process goes on at the file's new end; lines it writes in this
    /// moment may be lost.
    pub(super) fn bound_log(&self) -> io::Result<()> {
        let path = self.log_file();
        if fs::metadata(&path).is_ok_and(|it| it.len() > LOG_LIMIT) {
            fs::copy(&path, path.with_extension("log.1"))?;
            fs::OpenOptions::new().write(true).open(path)?.set_len(0)?;
        }
        Ok(())
    }

    /// The last few lines of the log after byte `from`; None when there are none.
    pub(super) fn log_tail(&self, from: u64) -> Option<String> {
        const WINDOW: u64 = 4096;
        const LINES: usize = 5;
        let mut file = fs::File::open(self.log_file()).ok()?;
        let length = file.metadata().ok()?.len();
        // A log that became shorter was truncated: all of it is new.
        let from = if from > length { 0 } else { from };
        file.seek(SeekFrom::Start(from.max(length.saturating_sub(WINDOW))))
            .ok()?;
        let mut bytes = Vec::new();
        file.take(WINDOW).read_to_end(&mut bytes).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|it| !it.is_empty()).collect();
        let last = lines[lines.len().saturating_sub(LINES)..].join("\n");
        (!last.is_empty()).then_some(last)
    }

    pub(super) fn log_length(&self) -> u64 {
        fs::metadata(self.log_file()).map_or(0, |it| it.len())
    }
}

/// The whole file or the old one, never half of it, whatever happens in between.
pub(super) fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = folder.join(format!(".{name}.new"));
    let written = (|| {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(&serde_json::to_vec_pretty(value)?)?;
        file.sync_all()?;
        fs::rename(&new, path)
    })();
    if written.is_err() {
        // Best effort: the error that matters is the one above, and the next try overwrites what is left.
        let _ = fs::remove_file(&new);
    }
    written
}

/// What the files of one host ask for.
#[derive(Debug, Default)]
pub(super) struct HostFiles {
    /// Its `power` file says `off`.
    pub(super) off: bool,
    /// A unit, or why its file cannot be used.
    pub(super) units: BTreeMap<String, Result<Arc<Unit>, String>>,
    /// Units that have a run file and no unit file: removed while nobody looked.
    pub(super) left: Vec<String>,
}

/// Reads unit files, each again only when it changed.
#[derive(Debug, Default)]
pub(super) struct Reader {
    seen: BTreeMap<PathBuf, (Identity, Result<Arc<Unit>, String>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    inode: u64,
    length: u64,
    modified: Option<SystemTime>,
}

impl Reader {
    /// What every host's files ask for; an error where they cannot be listed, which says nothing about what should
    /// run. A folder that is not there asks for nothing.
    pub(super) fn read(&mut self, hosts: &Path) -> io::Result<BTreeMap<String, io::Result<HostFiles>>> {
        let mut found = BTreeMap::new();
        for host in names(hosts)? {
            let folder = hosts.join(&host);
            if folder.is_dir() {
                let files = self.host(&folder);
                found.insert(host, files);
            }
        }
        Ok(found)
    }

    fn host(&mut self, folder: &Path) -> io::Result<HostFiles> {
        let off = match fs::read_to_string(folder.join("power")) {
            Ok(text) => text.trim() == "off",
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        let mut files = HostFiles {
            off,
            ..HostFiles::default()
        };
        for unit in json_names(&folder.join("units"))? {
            let read = self.unit(&folder.join("units").join(format!("{unit}.json")), &unit);
            files.units.insert(unit, read);
        }
        // Each unit reads its own run file and tells what is wrong with it; here it only matters what else is there.
        files.left = json_names(&folder.join("run")).unwrap_or_default();
        files.left.retain(|it| !files.units.contains_key(it));
        Ok(files)
    }

    fn unit(&mut self, path: &Path, name: &str) -> Result<Arc<Unit>, String> {
        let identity = fs::metadata(path)
            .map(|it| Identity {
                inode: it.ino(),
                length: it.len(),
                modified: it.modified().ok(),
            })
            .map_err(|error| format!("{}: {error}", path.display()))?;
        if let Some((seen, unit)) = self.seen.get(path)
            && *seen == identity
        {
            return unit.clone();
        }
        let unit = fs::read(path)
            .map_err(|error| error.to_string())
            .and_then(|bytes| serde_json::from_slice::<Unit>(&bytes).map_err(|error| error.to_string()))
            .and_then(|unit| {
                if unit.name == name {
                    Ok(Arc::new(unit))
                } else {
                    Err(format!("the file is named `{name}` and the unit in it `{}`", unit.name))
                }
            })
            .map_err(|error| format!("{}: {error}; `ha provision` writes the file again", path.display()));
        self.seen.insert(path.to_owned(), (identity, unit.clone()));
        unit
    }
}

/// Names in a folder; none when there is no folder.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        if let Ok(name) = entry?.file_name().into_string()
            && !name.starts_with('.')
        {
            names.push(name);
        }
    }
    Ok(names)
}

fn json_names(folder: &Path) -> io::Result<Vec<String>> {
    Ok(names(folder)?
        .into_iter()
        .filter_map(|it| it.strip_suffix(".json").map(str::to_owned))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_is_written_to_is_put_aside_and_goes_on_from_its_beginning() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = Place {
            host: "us-lb".into(),
            unit: "haproxy".into(),
            folder: folder.path().to_owned(),
        };
        let mut log = place.open_log().expect("a log");
        log.write_all(&vec![b'x'; LOG_LIMIT as usize + 1]).expect("written");
        place.bound_log().expect("bounded");
        log.write_all(b"and on\n").expect("written");
        assert_eq!(place.log_length(), 7);
        assert_eq!(place.log_tail(LOG_LIMIT).as_deref(), Some("and on"));
        assert!(fs::metadata(folder.path().join("log/haproxy.log.1")).is_ok_and(|it| it.len() > LOG_LIMIT));
    }
}
