//! Finished evaluations on disk: the evaluator needs tens of milliseconds to read its own standard library.
//!
//! One entry per workspace, written in one step. An entry is used only when it is whole (its
//! checksum holds), was made by this very code and library, and every file it was made from is as it
//! was, absent ones included. Anything else is ignored and written anew; an entry is never repaired.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    Answer, library,
    map::{Bytes, SourceFile, SourceMap, Spot},
    nickel::Raw,
};

/// The code whose results are stored: an entry of another build must not be taken for one of this.
const CODE: [&str; 6] = [
    include_str!("cache.rs"),
    include_str!("diagnostics.rs"),
    include_str!("index.rs"),
    include_str!("map.rs"),
    include_str!("nickel.rs"),
    include_str!("report.rs"),
];

#[derive(Serialize, Deserialize)]
struct Entry {
    /// Every file the evaluation read or looked for, and the hash of its content; null when it was not there.
    inputs: Vec<(PathBuf, Option<String>)>,
    raw: Raw,
    /// Files of the source map, in its order; all of them are among the inputs.
    files: Vec<PathBuf>,
    spots: BTreeMap<String, Spot>,
    end: Option<Bytes>,
}

/// The place of one workspace's entry.
pub(crate) struct Slot {
    file: PathBuf,
}

impl Slot {
    pub(crate) fn of(cache: &Path, workspace: &Path) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(library::hash().as_bytes());
        for code in CODE {
            hasher.update(code.as_bytes());
        }
        hasher.update(workspace.as_os_str().as_encoded_bytes());
        let key = &hasher.finalize().to_hex()[..32];
        Self {
            file: cache.join("evaluations").join(format!("{key}.json")),
        }
    }

    /// The stored evaluation, if it is still what an evaluation would give.
    pub(crate) fn load(&self) -> Option<(Raw, SourceMap)> {
        let bytes = fs::read(&self.file).ok()?;
        let (checksum, body) = bytes.split_at_checked(65)?;
        if checksum != checksum_line(body).as_bytes() {
            return None;
        }
        let entry: Entry = serde_json::from_slice(body).ok()?;
        let mut texts = BTreeMap::new();
        for (path, hash) in &entry.inputs {
            let content = read(path).ok()?;
            if content.as_deref().map(hash_of) != *hash {
                return None;
            }
            texts.insert(path, content);
        }
        let files = entry.files.iter().map(|path| {
            let content = texts.get(path)?.as_deref()?;
            Some(SourceFile {
                path: path.clone(),
                text: String::from_utf8(content.to_vec()).ok()?.into(),
            })
        });
        let map = SourceMap {
            files: files.collect::<Option<_>>()?,
            spots: entry.spots,
            end: entry.end,
        };
        Some((entry.raw, map))
    }

    /// Stores the evaluation of `text`. A cache that cannot be written costs time, nothing else: the
    /// caller has its result already.
    pub(crate) fn store(&self, workspace: &Path, text: &str, answer: &Answer) -> io::Result<()> {
        if !answer.complete {
            return Ok(());
        }
        let mut inputs = vec![(workspace.to_owned(), Some(hash_of(text.as_bytes())))];
        for path in &answer.imports {
            inputs.push((path.clone(), read(path)?.as_deref().map(hash_of)));
        }
        let entry = Entry {
            inputs,
            raw: answer.raw.clone(),
            files: answer.map.files.iter().map(|file| file.path.clone()).collect(),
            spots: answer.map.spots.clone(),
            end: answer.map.end,
        };
        let body = serde_json::to_vec(&entry)?;
        let mut bytes = checksum_line(&body).into_bytes();
        bytes.extend(body);
        library::replace(&self.file, &bytes)
    }
}

/// Nobody asked for it for so long: an older version's, or of a workspace that is gone.
const FORGOTTEN: Duration = Duration::from_secs(30 * 24 * 3600);

/// Removes what was not used for a month. What is in use elsewhere is younger: installing a library, and storing an
/// entry, make it new.
pub(crate) fn sweep(cache: &Path) {
    let is_old = |path: &Path| {
        let modified = fs::metadata(path).and_then(|it| it.modified());
        modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > FORGOTTEN))
    };
    let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|it| it.path());
    // What cannot be removed costs a few kilobytes and nothing else.
    for entry in entries(&cache.join("evaluations")).filter(|it| is_old(it)) {
        fs::remove_file(entry).ok();
    }
    for folder in entries(cache) {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("library-") && is_old(&folder.join(library::MAIN)) {
            fs::remove_dir_all(&folder).ok();
        }
    }
}

/// The content; none when there is no such file.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn hash_of(content: &[u8]) -> String {
    blake3::hash(content).to_hex().to_string()
}

fn checksum_line(body: &[u8]) -> String {
    format!("{}\n", blake3::hash(body).to_hex())
}
