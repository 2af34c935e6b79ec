//! Two specs against each other, in words.

use std::collections::BTreeSet;

use serde_json::Value;

use super::rules::{self, Effect};
use crate::resource::{BOOTSTRAP_FIELDS, Kind};

/// One field that differs.
pub(super) struct Difference {
    /// `size cx1 → cx2`
    pub(super) words: String,
    pub(super) effect: Effect,
}

/// Everything in which `wanted` differs from `found`, by field name.
pub(super) fn differences(kind: Kind, found: &Value, wanted: &Value) -> Vec<Difference> {
    let mut out = Vec::new();
    collect(kind, "", found, wanted, &mut out);
    out
}

fn collect(kind: Kind, prefix: &str, found: &Value, wanted: &Value, out: &mut Vec<Difference>) {
    if found == wanted {
        return;
    }
    let (Value::Object(before), Value::Object(after)) = (found, wanted) else {
        out.push(Difference {
            words: words(prefix, found, wanted),
            effect: rules::effect(kind, prefix, found, wanted),
        });
        return;
    };
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for name in names {
        if prefix.is_empty() && BOOTSTRAP_FIELDS.contains(&name.as_str()) {
            continue;
        }
        let path = match prefix {
            "" => name.clone(),
            _ => format!("{prefix}.{name}"),
        };
        let value = |fields: &serde_json::Map<String, Value>| fields.get(name).cloned().unwrap_or_default();
        collect(kind, &path, &value(before), &value(after), out);
    }
}

/// The first few differences; a row is read, not studied.
pub(super) fn sentence(differences: &[Difference]) -> String {
    const SHOWN: usize = 3;
    let mut parts: Vec<&str> = differences.iter().take(SHOWN).map(|it| it.words.as_str()).collect();
    let more = differences.len().saturating_sub(SHOWN);
    let more = format!("{more} more");
    if differences.len() > SHOWN {
        parts.push(&more);
    }
    parts.join(", ")
}

fn words(field: &str, before: &Value, after: &Value) -> String {
    match (before, after) {
        (Value::Array(old), Value::Array(new)) if field != "command" => list(field, old, new),
        (Value::Object(_), _) | (_, Value::Object(_)) => format!("{field} changed"),
        _ => format!("{field} {} → {}", scalar(before), scalar(after)),
    }
}

/// `targets 3 → 5 (+us-app-4 +us-app-5)`
fn list(field: &str, old: &[Value], new: &[Value]) -> String {
    const SHOWN: usize = 4;
    let plain = |values: &[Value]| values.iter().all(Value::is_string);
    if !plain(old) || !plain(new) {
        return if old.len() == new.len() {
            format!("{field} changed")
        } else {
            format!("{field} {} → {}", old.len(), new.len())
        };
    }
    let texts = |values: &[Value]| -> BTreeSet<String> { values.iter().map(scalar).collect() };
    let (before, after) = (texts(old), texts(new));
    let gone = before.difference(&after).map(|it| format!("-{it}"));
    let added = after.difference(&before).map(|it| format!("+{it}"));
    let mut changes: Vec<String> = gone.chain(added).collect();
    if changes.is_empty() {
        return format!("{field} in another order");
    }
    if changes.len() > SHOWN {
        let more = changes.len() - SHOWN;
        changes.truncate(SHOWN);
        changes.push(format!("{more} more"));
    }
    let changes = changes.join(" ");
    if old.len() == new.len() {
        format!("{field} {changes}")
    } else {
        format!("{field} {} → {} ({changes})", old.len(), new.len())
    }
}

fn scalar(value: &Value) -> String {
    const LONGEST: usize = 60;
    let text = match value {
        Value::Null => "unset".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(words) => words.iter().map(scalar).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    };
    if text.chars().count() <= LONGEST {
        return text;
    }
    let short: String = text.chars().take(LONGEST - 1).collect();
    format!("{short}…")
}
