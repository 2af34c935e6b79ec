//! What `ha check` says: one finding, one row.

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
    Note,
}

/// Bytes `start..end` of one of the user's files.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// Absolute path of the file.
    pub file: String,
    pub start: usize,
    pub end: usize,
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
}

impl Place {
    /// Bytes `span` of `text`, which is what `file` holds. A span outside of it, or inside of a character, is moved to fit.
    pub fn of(file: &str, text: &str, span: std::ops::Range<usize>) -> Self {
        let start = text.floor_char_boundary(span.start);
        let before = &text[..start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Self {
            file: file.to_owned(),
            start,
            end: text.ceil_char_boundary(span.end.max(start)),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

/// Words drawn under a piece of the file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Label {
    pub text: String,
    /// The field this is about (`region_us_east.network.ip_range`); resolved to `place` by whoever read the file.
    pub path: Option<String>,
    pub place: Option<Place>,
}

/// One thing that is wrong, or worth knowing, about a workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub severity: Severity,
    /// Stable; scripts match on it: `ha::check::overlap`.
    pub code: String,
    pub message: String,
    /// The field it is about, as written: `region_us_east.network.ip_range`.
    pub path: Option<String>,
    pub place: Option<Place>,
    /// What to type or change next.
    pub help: Option<String>,
    /// Further places, besides `place`.
    pub labels: Vec<Label>,
}

impl Finding {
    pub fn error(code: &str, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, message)
    }

    pub fn warning(code: &str, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, message)
    }

    pub fn note(code: &str, message: impl Into<String>) -> Self {
        Self::new(Severity::Note, code, message)
    }

    pub fn new(severity: Severity, code: &str, message: impl Into<String>) -> Self {
        Self {
            severity,
            code: code.to_owned(),
            message: message.into(),
            path: None,
            place: None,
            help: None,
            labels: Vec::new(),
        }
    }

    pub fn at(mut self, path: impl Into<String>) -> Self {
        self.path = Some(path.into());
        self
    }

    pub fn placed(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub fn label(mut self, path: impl Into<String>, text: impl Into<String>) -> Self {
        self.labels.push(Label {
            text: text.into(),
            path: Some(path.into()),
            place: None,
        });
        self
    }
}

/// Errors first, then by place, then by code: the order is the same in every run.
pub fn sort(findings: &mut [Finding]) {
    findings.sort_by(|a, b| {
        (a.severity, &a.place, &a.path, &a.code, &a.message).cmp(&(b.severity, &b.place, &b.path, &b.code, &b.message))
    });
}
