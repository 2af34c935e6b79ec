//! `workspace.ncl` to typed model: the contract library and its evaluation.
//!
//! [`evaluate`] reads a workspace and answers with a typed [`Workspace`] and everything that is
//! wrong with it, all at once and each finding at its place in the user's own files. Rules that
//! look across regions live in `ha_core::check`; [`SourceMap::resolve`] gives their findings places.

mod cache;
mod child;
mod diagnostics;
mod index;
mod library;
mod map;
mod nickel;
mod report;
mod typed;

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use ha_core::{
    finding::{self, Finding, Severity},
    model::Workspace,
};
use serde::{Deserialize, Serialize};

pub use child::evaluates;
pub use library::{EXAMPLE, EXAMPLE_CONFIG, LIBRARY, example, write_into as write_library};
pub use map::SourceMap;

/// What an evaluation found, apart from our own model: the part that is worth keeping.
#[derive(Serialize, Deserialize)]
pub(crate) struct Answer {
    raw: nickel::Raw,
    map: SourceMap,
    /// Imported files, and files that would be imported if they existed.
    imports: BTreeSet<PathBuf>,
    /// False when something was imported that cannot be watched for changes.
    complete: bool,
}

impl Answer {
    /// Evaluates `text`, the content of `path`, here and now.
    fn to(path: &Path, text: &str, library: &Path) -> Self {
        let index = index::index(path, text, library);
        Self {
            raw: nickel::evaluate(path, text, library, &index),
            map: index.map,
            imports: index.imports,
            complete: index.complete,
        }
    }
}

/// What `workspace.ncl` says, and what is wrong with it.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// Some exactly when no finding is an error.
    pub workspace: Option<Workspace>,
    /// What could be read in spite of errors, when enough is there for rules across regions: so
    /// `ha check` reports those at once too. Nothing may be planned from it.
    pub draft: Option<Workspace>,
    /// Placed, sorted, without duplicates.
    pub findings: Vec<Finding>,
    /// Where each field was written, for findings made later.
    pub map: SourceMap,
}

impl Evaluation {
    /// The workspace for rules that only look: whole, or as much of it as can be judged.
    pub fn to_check(&self) -> Option<&Workspace> {
        self.workspace.as_ref().or(self.draft.as_ref())
    }
}

/// The workspace could not be looked at; what is wrong *in* it are findings.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    #[error("there is no workspace at {}", .0.display())]
    Missing(PathBuf),
    #[error("cannot read {}: {source}", .path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("cannot write the contract library to {} or to a temporary folder: {source}", .path.display())]
    Library { path: PathBuf, source: io::Error },
    /// Given up after ten seconds, or a gigabyte.
    #[error("evaluating {} does not come to an end", .0.display())]
    Endless(PathBuf),
    #[error("the evaluator broke down over {}", .0.display())]
    Broken(PathBuf),
}

impl EvaluateError {
    /// Stable; scripts match on it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing(_) => "ha::workspace::missing",
            Self::Unreadable { .. } => "ha::workspace::unreadable",
            Self::Library { .. } => "ha::workspace::library",
            Self::Endless(_) => "ha::workspace::endless",
            Self::Broken(_) => "ha::workspace::evaluator",
        }
    }

    /// What to type or change next.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::Missing(_) => {
                "`ha init` writes an example workspace into an empty folder; --workspace names another file".to_owned()
            }
            Self::Unreadable { path, source } if source.kind() == io::ErrorKind::IsADirectory => {
                format!(
                    "name the file in it: --workspace {}",
                    path.join("workspace.ncl").display()
                )
            }
            Self::Unreadable { source, .. } if source.kind() == io::ErrorKind::InvalidData => {
                "save the file as UTF-8 text".to_owned()
            }
            Self::Unreadable { path, .. } => format!("`ls -l {}` shows who may read it", path.display()),
            Self::Library { path, .. } => format!("make {} writable", path.display()),
            Self::Endless(_) => "look for a function or a field that is defined by itself".to_owned(),
            Self::Broken(_) => "undo the last change of the file; what broke it is worth a report".to_owned(),
        })
    }
}

/// Evaluates the workspace at `path`; `cache` is a folder this crate fills, and may be deleted any time.
///
/// Nothing is remembered but in `cache`: the same files give the same answer, from whichever process.
pub fn evaluate(path: &Path, cache: &Path) -> Result<Evaluation, EvaluateError> {
    let path = std::path::absolute(path).map_err(|source| unreadable(path, source))?;
    let slot = cache::Slot::of(cache, &path);
    if let Some((raw, map)) = slot.load() {
        return Ok(conclude(&raw, map));
    }
    let text = fs::read_to_string(&path).map_err(|source| unreadable(&path, source))?;
    let (library, _guard) = library_folder(cache)?;
    let answer = child::evaluate(&path, &text, &library)?;
    // A cache that cannot be written makes the next run slower and this one no less right.
    slot.store(&path, &text, &answer).ok();
    cache::sweep(cache);
    Ok(conclude(&answer.raw, answer.map))
}

fn unreadable(path: &Path, source: io::Error) -> EvaluateError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound => EvaluateError::Missing(path),
        _ => EvaluateError::Unreadable { path, source },
    }
}

/// A cache folder that cannot be written must not keep anybody from checking a workspace.
fn library_folder(cache: &Path) -> Result<(PathBuf, Option<tempfile::TempDir>), EvaluateError> {
    if let Ok(folder) = library::install(cache) {
        return Ok((folder, None));
    }
    let failed = |source| EvaluateError::Library {
        path: cache.to_owned(),
        source,
    };
    let temporary = tempfile::tempdir().map_err(failed)?;
    let folder = library::install(temporary.path()).map_err(failed)?;
    Ok((folder, Some(temporary)))
}

fn conclude(raw: &nickel::Raw, map: SourceMap) -> Evaluation {
    let typed = typed::typed(raw);
    let mut findings: Vec<Finding> = raw.findings.iter().cloned().chain(typed.findings).collect();
    map.resolve(&mut findings);
    // The empty path stood for the file as a whole.
    for finding in &mut findings {
        finding.path.take_if(|path| path.is_empty());
    }
    finding::sort(&mut findings);
    // One mistake in a shared `let` shows up in every region that uses it.
    let mut seen = BTreeSet::new();
    findings.retain(|finding| {
        let place = finding.place.clone();
        place.is_none() || seen.insert((finding.code.clone(), place, finding.message.clone()))
    });
    let wrong = findings.iter().any(|finding| finding.severity == Severity::Error);
    let (workspace, draft) = match typed.workspace {
        Some(workspace) if wrong => (None, Some(workspace)),
        workspace => (workspace, None),
    };
    Evaluation {
        workspace,
        draft,
        findings,
        map,
    }
}
