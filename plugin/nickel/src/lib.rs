//! `workspace.ncl` to typed model: the contract library and its evaluation.
//!
//! [`evaluate`] reads a workspace and answers with a typed [`Workspace`] and everything that is
//! wrong with it, all at once and each finding at its place in the user's own files. Rules that
//! look across regions live in `ha_core::check`; [`SourceMap::resolve`] gives their findings places.

mod map;

use std::path::{Path, PathBuf};

use ha_core::{finding::Finding, model::Workspace};

pub use map::SourceMap;

/// What `workspace.ncl` says, and what is wrong with it.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// None when a finding of severity error leaves no complete model.
    pub workspace: Option<Workspace>,
    /// Placed, sorted, without duplicates.
    pub findings: Vec<Finding>,
    /// Where each field was written, for findings made later.
    pub map: SourceMap,
}

/// The workspace could not be looked at; what is wrong *in* it are findings.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    #[error("no workspace at {}", .0.display())]
    Missing(PathBuf),
    #[error("cannot read {}: {}", .path.display(), .source)]
    Unreadable { path: PathBuf, source: std::io::Error },
}

impl EvaluateError {
    /// Stable; scripts match on it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing(_) => "ha::workspace::missing",
            Self::Unreadable { .. } => "ha::workspace::unreadable",
        }
    }

    /// What to type next.
    pub fn help(&self) -> Option<String> {
        None
    }
}

/// Evaluates the workspace at `path`; `cache` is a folder this crate may fill.
pub fn evaluate(path: &Path, cache: &Path) -> Result<Evaluation, EvaluateError> {
    let _ = cache;
    Err(EvaluateError::Missing(path.to_owned()))
}
