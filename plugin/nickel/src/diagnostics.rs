//! The evaluator's diagnostics, as findings in the user's own files.

use std::path::Path;

use ha_core::{
    finding::{Finding, Label, Place},
    names::nearest,
};
use nickel_lang::{Error, ErrorFormat};
use serde::Deserialize;

use crate::{index::Index, library::LIBRARY, map::SourceMap};

/// What is known about the files of this evaluation.
pub(crate) struct Scene<'a> {
    pub(crate) index: &'a Index,
}

impl Scene<'_> {
    fn map(&self) -> &SourceMap {
        &self.index.map
    }

    /// The place is in a file that does not even parse.
    fn is_unparsed(&self, place: &Place) -> bool {
        let file = self
            .map()
            .files
            .iter()
            .position(|file| file.path.to_string_lossy() == place.file);
        file.is_some_and(|file| self.index.unparsed.contains(&file))
    }
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
    // The primary labels point at what the user wrote, the others at what it was compared with.
    let mut marks: Vec<(&Marked, Place)> = diagnostic
        .labels
        .iter()
        .filter_map(|label| Some((label, files.place(label, scene)?)))
        .collect();
    marks.sort_by_key(|(label, _)| label.style != "Primary");
    let first = marks.first().map(|(_, place)| place.clone());

    let Class { code, message, help } = classify(diagnostic, path, first.as_ref(), scene, files);
    let mut finding = located(Finding::error(code, message), path);
    finding.help = help;
    let excerpt = first.as_ref().and_then(|place| scene.map().excerpt(place));
    finding.place = if code == "ha::workspace::unknown_field" {
        scene.map().key_place(path)
    } else if !path.is_empty() && excerpt.is_none_or(|text| text.contains('\n')) {
        // A field's name is easier to find than a record underlined over many lines.
        scene.map().place(path)
    } else {
        None
    }
    .or(first);
    for (label, place) in marks {
        if finding.place.as_ref() != Some(&place) && is_telling(&label.message) {
            finding.labels.push(Label {
                text: label.message.clone(),
                path: None,
                place: Some(place),
            });
        }
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

struct Class {
    code: &'static str,
    message: String,
    help: Option<String>,
}

impl Class {
    fn new(code: &'static str, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            help: Some(help.into()),
        }
    }
}

fn classify(diagnostic: &Diagnostic, path: &str, place: Option<&Place>, scene: &Scene<'_>, files: &FileNames) -> Class {
    let text = diagnostic.message.as_str();
    let excerpt = place.and_then(|place| scene.map().excerpt(place)).unwrap_or_default();
    if text.starts_with("contract broken") {
        return broken_contract(diagnostic, &name_of(path), files);
    }
    if place.is_some_and(|place| scene.is_unparsed(place)) {
        return syntax(text, excerpt);
    }
    let notes = help(&diagnostic.notes, "");
    if text.starts_with("missing field") {
        let message = if excerpt.is_empty() || excerpt.contains('\n') {
            text.to_owned()
        } else {
            format!("there is no `{excerpt}`")
        };
        return Class {
            code: "ha::workspace::unknown_name",
            message,
            help: notes,
        };
    }
    if text.starts_with("unbound identifier") {
        return unbound(excerpt);
    }
    if text == "non mergeable terms" {
        return Class::new(
            "ha::workspace::conflict",
            format!("`{}` is given two values that cannot both hold", name_of(path)),
            "write it once, or mark the value that gives way `| default = …`, or the one that wins `| force = …`",
        );
    }
    if let Some(import) = text.strip_prefix("import of ") {
        let file = import.split(" failed").next().unwrap_or(import);
        return Class::new(
            "ha::workspace::import",
            format!("cannot import {file}"),
            "write its path relative to this file; the contract library is \"ha.ncl\"",
        );
    }
    Class {
        code: if text.starts_with("missing definition") {
            "ha::workspace::missing_field"
        } else {
            "ha::workspace::evaluation"
        },
        message: text.replace('\n', " "),
        help: notes,
    }
}

fn broken_contract(diagnostic: &Diagnostic, name: &str, files: &FileNames) -> Class {
    let said = diagnostic
        .message
        .lines()
        .skip(1)
        .map(str::trim)
        .collect::<Vec<_>>()
        .join(" ");
    let what = if said.is_empty() {
        expected(diagnostic, files).unwrap_or_else(|| "this value breaks its contract".to_owned())
    } else {
        said
    };
    let help = help(&diagnostic.notes, &what);
    let named = |what: &str| {
        if name.is_empty() {
            what.to_owned()
        } else {
            format!("`{name}`: {what}")
        }
    };
    let (code, message) = if what.contains(" has no field `") {
        ("ha::workspace::unknown_field", what)
    } else if what == "not a resource" {
        ("ha::workspace::not_a_resource", format!("`{name}` is not a resource"))
    } else if what.contains(" is not one of ") {
        ("ha::workspace::unknown_value", named(&what))
    } else {
        ("ha::workspace::wrong_value", named(&what))
    };
    Class { code, message, help }
}

fn syntax(text: &str, excerpt: &str) -> Class {
    const CODE: &str = "ha::workspace::syntax";
    if text.starts_with("unexpected end of file") {
        return Class::new(
            CODE,
            "the file ends too early",
            "a bracket or a quote further up is never closed",
        );
    }
    if text == "unexpected token" && !excerpt.is_empty() {
        return Class::new(
            CODE,
            format!("`{excerpt}` is not expected here"),
            "look just before it: a comma, a `&` or a closing bracket may be missing",
        );
    }
    Class {
        code: CODE,
        message: text.replace('\n', " "),
        help: None,
    }
}

/// The names the library offers to `let { … } = import "ha.ncl"`.
const OFFERED: [&str; 5] = ["digitalocean", "hetzner", "aws", "ha", "Workspace"];

fn unbound(name: &str) -> Class {
    let help = if OFFERED.contains(&name) {
        format!("take it from the library: let {{ {name}, .. }} = import \"ha.ncl\" in")
    } else if let Some(near) = nearest(name, OFFERED) {
        format!("did you mean `{near}`?")
    } else {
        format!("define it in front of the workspace: let {name} = … in")
    };
    Class::new("ha::workspace::unbound", format!("nothing is called `{name}`"), help)
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
            let mut longer = candidates
                .iter()
                .filter(|(plain, _)| is_without_its_unit(&wanted, plain));
            // `hold` for `hold_ms`: far by letters, and meant all the same.
            let longer = longer.next().filter(|_| longer.next().is_none());
            let near = candidates
                .iter()
                .find(|(plain, _)| Some(plain.as_str()) == near)
                .or(longer);
            if let Some((_, near)) = near {
                lines.push(format!("did you mean `{near}`?"));
            }
            let what = if note.starts_with("fields") {
                "its fields"
            } else {
                "it may be"
            };
            lines.push(format!("{what}: {}", words.collect::<Vec<_>>().join(", ")));
        } else if let Some(guess) = note.strip_prefix("Did you mean ") {
            lines.push(format!("did you mean {guess}"));
        } else {
            lines.push(note.trim().to_owned());
        }
    }
    (!lines.is_empty()).then(|| lines.join("\n"))
}

fn is_without_its_unit(word: &str, known: &str) -> bool {
    known
        .strip_prefix(word)
        .is_some_and(|rest| !word.is_empty() && rest.starts_with('_'))
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
        let file = scene.map().files.iter().position(|file| file.path == name)?;
        scene.map().bytes_place(crate::map::Bytes {
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
