//! The evaluator's diagnostics, as findings in the user's own files.

use std::path::Path;

use ha_core::{
    finding::{Finding, Label, Place},
    names::nearest,
};
use nickel_lang::{Error, ErrorFormat};
use serde::Deserialize;

use crate::{library::LIBRARY, map::SourceMap};

/// What is known about the files of this evaluation.
pub(crate) struct Scene<'a> {
    pub(crate) main: &'a Path,
    pub(crate) library: &'a Path,
    pub(crate) map: &'a SourceMap,
    /// The main file can be parsed: an error before evaluation is then not one of syntax.
    pub(crate) parses: bool,
}

#[derive(Deserialize)]
struct Diagnostics {
    diagnostics: Vec<Diagnostic>,
}

#[derive(Deserialize)]
struct Diagnostic {
    severity: String,
    message: String,
    labels: Vec<Marked>,
    notes: Vec<String>,
}

#[derive(Deserialize)]
struct Marked {
    style: String,
    file_id: u32,
    range: Range,
    message: String,
}

#[derive(Deserialize)]
struct Range {
    start: usize,
    end: usize,
}

/// The findings `error` stands for; `path` is the field that was being read, empty for the whole file.
pub(crate) fn findings(error: &Error, path: &str, scene: &Scene<'_>) -> Vec<Finding> {
    let mut json = Vec::new();
    let parsed: Option<Diagnostics> = error
        .format(&mut json, ErrorFormat::Json)
        .ok()
        .and_then(|()| serde_json::from_slice(&json).ok());
    let Some(all) = parsed else {
        return vec![located(
            Finding::error("ha::workspace::evaluation", text_of(error)),
            path,
        )];
    };
    let files = FileNames::of(error, &all.diagnostics);
    all.diagnostics
        .iter()
        .filter(|diagnostic| matches!(diagnostic.severity.as_str(), "Error" | "Bug"))
        .map(|diagnostic| one(diagnostic, path, scene, &files))
        .collect()
}

fn one(diagnostic: &Diagnostic, path: &str, scene: &Scene<'_>, files: &FileNames) -> Finding {
    let (code, message) = classify(diagnostic, &name_of(path), scene, files);
    let mut finding = located(Finding::error(code, message), path);
    finding.help = match code {
        "ha::workspace::conflict" => {
            Some("write it once, or mark the value that gives way `| default = …`, the one that wins `| force = …`".to_owned())
        }
        _ => help(&diagnostic.notes, &finding.message),
    };

    // The primary labels point at what the user wrote, the others at what it was compared with.
    let mut marks: Vec<(&Marked, Place)> = diagnostic
        .labels
        .iter()
        .filter_map(|label| Some((label, files.place(label, scene)?)))
        .collect();
    marks.sort_by_key(|(label, _)| label.style != "Primary");
    if code == "ha::workspace::unknown_field" {
        finding.place = scene.map.key_place(path);
    }
    for (label, place) in marks {
        if finding.place.is_none() {
            finding.place = Some(place);
        } else if finding.place.as_ref() != Some(&place) && is_telling(&label.message) {
            finding.labels.push(Label {
                text: label.message.clone(),
                path: None,
                place: Some(place),
            });
        }
    }
    if finding.place.is_none() {
        finding.place = scene.map.place(path);
    }
    finding
}

/// `ssh_keys`, and `ssh_keys[0]` for an element of the list.
fn name_of(path: &str) -> String {
    let mut parts = path.rsplit('.');
    let last = parts.next().unwrap_or_default();
    match parts.next() {
        Some(list) if last.parse::<usize>().is_ok() => format!("{list}[{last}]"),
        _ => last.to_owned(),
    }
}

/// Labels that only repeat what the finding says are left out.
fn is_telling(text: &str) -> bool {
    !matches!(
        text,
        "" | "applied to this expression" | "evaluated to this expression" | "evaluated to this value"
    )
}

fn located(finding: Finding, path: &str) -> Finding {
    if path.is_empty() { finding } else { finding.at(path) }
}

fn classify(diagnostic: &Diagnostic, name: &str, scene: &Scene<'_>, files: &FileNames) -> (&'static str, String) {
    let mut lines = diagnostic.message.lines().map(str::trim);
    let first = lines.next().unwrap_or_default();
    let rest: Vec<&str> = lines.collect();
    if first.starts_with("contract broken") {
        let what = if rest.is_empty() {
            expected(diagnostic, files).unwrap_or_else(|| "this value breaks its contract".to_owned())
        } else {
            rest.join(" ")
        };
        if what.contains(" has no field `") {
            return ("ha::workspace::unknown_field", what);
        }
        if what == "not a resource" {
            return ("ha::workspace::not_a_resource", format!("`{name}` is not a resource"));
        }
        let message = if name.is_empty() { what.clone() } else { format!("`{name}`: {what}") };
        if what.contains(" is not one of ") {
            return ("ha::workspace::unknown_value", message);
        }
        return ("ha::workspace::wrong_value", message);
    }
    let message = diagnostic.message.replace('\n', " ");
    let code = if first.starts_with("missing field") {
        "ha::workspace::unknown_name"
    } else if first.starts_with("unbound identifier") {
        "ha::workspace::unbound"
    } else if first == "non mergeable terms" {
        let message = format!("`{name}` is given two values that cannot both hold");
        return ("ha::workspace::conflict", message);
    } else if first.starts_with("import of") || first.contains("could not find import") {
        "ha::workspace::import"
    } else if first.starts_with("missing definition") {
        "ha::workspace::missing_field"
    } else if !scene.parses {
        "ha::workspace::syntax"
    } else {
        "ha::workspace::evaluation"
    };
    (code, message)
}

/// A plain type says nothing but its name, and that only by a label in the library.
fn expected(diagnostic: &Diagnostic, files: &FileNames) -> Option<String> {
    let label = diagnostic
        .labels
        .iter()
        .find(|label| label.message.starts_with("expected"))?;
    let contract = files.library_text(label)?;
    Some(match contract {
        "Bool" => "expected true or false".to_owned(),
        "String" => "expected a string".to_owned(),
        "Number" => "expected a number".to_owned(),
        list if list.starts_with("Array") => "expected a list: [ … ]".to_owned(),
        _ => return None,
    })
}

/// What to write instead: the nearest of the words that are allowed, and the words.
fn help(notes: &[String], message: &str) -> Option<String> {
    let word = message.split('`').rev().nth(1).unwrap_or_default();
    let mut lines = Vec::new();
    for note in notes {
        let known = note.strip_prefix("fields: ").or_else(|| note.strip_prefix("choices: "));
        if let Some(known) = known {
            let words = known.split(", ").filter(|known| *known != "kind");
            let plain = |word: &str| word.trim_start_matches('\'').to_lowercase();
            let wanted = plain(word);
            let candidates: Vec<(String, &str)> = words.clone().map(|known| (plain(known), known)).collect();
            let near = nearest(&wanted, candidates.iter().map(|(plain, _)| plain.as_str()));
            if let Some((_, near)) = candidates.iter().find(|(plain, _)| Some(plain.as_str()) == near) {
                lines.push(format!("did you mean `{near}`?"));
            }
            let what = if note.starts_with("fields") { "its fields" } else { "it may be" };
            lines.push(format!("{what}: {}", words.collect::<Vec<_>>().join(", ")));
        } else if let Some(guess) = note.strip_prefix("Did you mean ") {
            lines.push(format!("did you mean {guess}"));
        } else {
            lines.push(note.trim().to_owned());
        }
    }
    (!lines.is_empty()).then(|| lines.join("\n"))
}

fn text_of(error: &Error) -> String {
    let mut text = Vec::new();
    match error.format(&mut text, ErrorFormat::Text) {
        Ok(()) => String::from_utf8_lossy(&text).trim().to_owned(),
        Err(_) => format!("{error:?}"),
    }
}

/// Names of the files that labels refer to by number.
///
/// The JSON form has only numbers. The text form has the names, in the order in which the labels
/// mention the files for the first time.
struct FileNames(Vec<(u32, String)>);

impl FileNames {
    fn of(error: &Error, diagnostics: &[Diagnostic]) -> Self {
        let text = text_of(error);
        let mut names = text
            .lines()
            .filter_map(|line| line.split_once("┌─ "))
            .filter_map(|(_, location)| location.rsplitn(3, ':').nth(2))
            .map(str::to_owned);
        let mut known = Vec::new();
        for diagnostic in diagnostics {
            let mut here: Vec<u32> = Vec::new();
            for label in &diagnostic.labels {
                if !here.contains(&label.file_id) {
                    here.push(label.file_id);
                    if let Some(name) = names.next() {
                        known.push((label.file_id, name));
                    }
                }
            }
        }
        Self(known)
    }

    fn name(&self, label: &Marked) -> Option<&str> {
        let (_, name) = self.0.iter().find(|(id, _)| *id == label.file_id)?;
        Some(name)
    }

    /// The label's place when it is in one of the user's files.
    fn place(&self, label: &Marked, scene: &Scene<'_>) -> Option<Place> {
        let name = Path::new(self.name(label)?);
        let file = scene.map.files.iter().position(|file| file.path == name)?;
        debug_assert!(name == scene.main || !name.starts_with(scene.library));
        scene.map.bytes_place(crate::map::Bytes {
            file,
            start: label.range.start,
            end: label.range.end,
        })
    }

    fn library_text(&self, label: &Marked) -> Option<&'static str> {
        let name = self.name(label)?;
        let (_, text) = LIBRARY.iter().find(|(file, _)| Path::new(name).ends_with(file))?;
        text.get(label.range.start..label.range.end)
    }
}
