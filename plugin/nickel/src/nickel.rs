//! The one place that knows the evaluator.
//!
//! A workspace is read field by field instead of all at once, so that one mistake does not hide the
//! next one: a field that cannot be evaluated becomes a finding and is left out of the tree.

use std::{collections::BTreeMap, path::Path};

use ha_core::finding::Finding;
use nickel_lang::{Context, Expr};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};

use crate::{
    diagnostics::{self, Scene},
    index::Index,
    report,
};

/// What the evaluator made of a workspace; nothing of our own model is in here.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Raw {
    /// Enum tags are strings; fields with a mistake are absent. None when the file as a whole has no value.
    pub(crate) tree: Option<Value>,
    pub(crate) findings: Vec<Finding>,
}

/// Evaluates `text`, the content of `path`, with the library installed in `library`.
pub(crate) fn evaluate(path: &Path, text: &str, library: &Path, index: &Index) -> Raw {
    let context = Context::new()
        .with_added_import_paths(vec![library.as_os_str().to_owned()])
        .with_source_name(path.to_string_lossy().into_owned());
    let mut reader = Reader {
        context,
        scene: Scene { index },
        findings: Vec::new(),
        undefined: Vec::new(),
    };
    let tree = match reader.context.eval_shallow(text) {
        Ok(expr) => reader.value(expr, ""),
        Err(error) => {
            reader.findings.extend(diagnostics::findings(&error, "", &reader.scene));
            None
        }
    };
    reader.report_undefined();
    Raw {
        tree,
        findings: reader.findings,
    }
}

/// A field of a record that has a name and no value.
struct Undefined {
    /// `region_us_east.app_servers`
    record: String,
    /// The record's kind, when it is a resource.
    kind: Option<String>,
    field: String,
}

/// Fields that may be left out, of records that are not resources.
const OPTIONAL: [&str; 17] = [
    "call_timeout_ms",
    "certificate_id",
    "country",
    "failover_priority",
    "fence_budget_ms",
    "hold_ms",
    "location",
    "monthly_budget_usd",
    "port",
    "probe_failures",
    "probe_interval_ms",
    "probe_timeout_ms",
    "region_name",
    "renew_ms",
    "store_election_ms",
    "take_ms",
    "watchdog_ms",
];

/// Of the tree: whoever walks it later may do so by recursion.
const MAX_DEPTH: usize = 32;

struct Reader<'a> {
    context: Context,
    scene: Scene<'a>,
    findings: Vec<Finding>,
    undefined: Vec<Undefined>,
}

impl Reader<'_> {
    /// The value at `path` as plain data; none, and a finding, when it cannot be evaluated.
    fn value(&mut self, expr: Expr, path: &str) -> Option<Value> {
        if path.split('.').count() > MAX_DEPTH {
            let finding = Finding::error("ha::workspace::wrong_value", "data within data, without end")
                .at(path)
                .help("no field of a workspace goes deeper than a few levels");
            self.findings.push(finding);
            return None;
        }
        let expr = match self.context.eval_expr_shallow(expr) {
            Ok(expr) => expr,
            Err(error) => {
                self.findings.extend(diagnostics::findings(&error, path, &self.scene));
                return None;
            }
        };
        if expr.is_null() {
            Some(Value::Null)
        } else if let Some(flag) = expr.as_bool() {
            Some(Value::Bool(flag))
        } else if let Some(text) = expr.as_str() {
            Some(Value::String(text.to_owned()))
        } else if let Some(tag) = expr.as_enum_tag() {
            Some(Value::String(tag.to_owned()))
        } else if let Some(whole) = expr.as_i64() {
            Some(Value::Number(whole.into()))
        } else if let Some(number) = expr.as_f64() {
            Number::from_f64(number).map(Value::Number)
        } else if let Some(array) = expr.as_array() {
            // Each element reports for itself; one that failed leaves no gap that would shift the rest.
            let elements = (0..array.len()).filter_map(|position| array.get(position));
            Some(
                elements
                    .enumerate()
                    .map(|(position, element)| self.value(element, &join(path, &position.to_string())))
                    .map(|element| element.unwrap_or(Value::Null))
                    .collect(),
            )
        } else if expr.is_record() {
            Some(Value::Object(self.record(&expr, path)))
        } else {
            let finding = Finding::error("ha::workspace::wrong_value", "a function is not data")
                .at(path)
                .help("call it, or move it into a `let` in front of the workspace");
            self.findings.push(finding);
            None
        }
    }

    fn record(&mut self, expr: &Expr, path: &str) -> Map<String, Value> {
        let mut fields = Map::new();
        let mut undefined = Vec::new();
        let Some(record) = expr.as_record() else {
            return fields;
        };
        for position in 0..record.len() {
            // Not `iter`: it leaves out the contracts that wait for the field to be read.
            let Some((name, value)) = record.key_value_by_index(position) else {
                continue;
            };
            match value {
                Some(value) => {
                    if let Some(value) = self.value(value, &join(path, name)) {
                        fields.insert(name.to_owned(), value);
                    }
                }
                None => undefined.push(name.to_owned()),
            }
        }
        let kind = fields.get("kind").and_then(Value::as_str).map(str::to_owned);
        self.undefined.extend(undefined.into_iter().map(|field| Undefined {
            record: path.to_owned(),
            kind: kind.clone(),
            field,
        }));
        fields
    }

    /// A field without a value is a mistake unless it is optional, and the evaluator keeps to itself
    /// which fields are: the library is asked, once for all kinds that occur.
    fn report_undefined(&mut self) {
        let undefined = std::mem::take(&mut self.undefined);
        let kinds: Vec<&str> = undefined.iter().filter_map(|it| it.kind.as_deref()).collect();
        let required = self.required(&kinds);
        for missing in undefined {
            let (subject, is_required) = match &missing.kind {
                Some(kind) => {
                    let required = required.get(kind.as_str());
                    (kind.as_str(), required.is_some_and(|all| all.contains(&missing.field)))
                }
                None => ("this record", !OPTIONAL.contains(&missing.field.as_str())),
            };
            if is_required {
                self.findings
                    .push(report::missing_field(&missing.record, subject, &missing.field));
            }
        }
    }

    /// The fields of each kind that must be there, defaults included.
    fn required(&mut self, kinds: &[&str]) -> BTreeMap<String, Vec<String>> {
        let mut required = BTreeMap::new();
        for kind in kinds {
            if required.contains_key(*kind) {
                continue;
            }
            let question = format!(
                "let {{ schema_of, .. }} = import \"ha.ncl\" in std.record.fields (schema_of {})",
                Value::from(*kind)
            );
            // A kind the library does not know was reported when its record was read.
            let answer = self.context.eval_deep(&question).ok();
            let fields: Vec<String> = answer.and_then(|fields| fields.to_serde().ok()).unwrap_or_default();
            required.insert((*kind).to_owned(), fields);
        }
        required
    }
}

pub(crate) fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}
