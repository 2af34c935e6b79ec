//! Fields of a wanted spec, read with words for what is wrong.

use ha_core::resource::{Kind, Resource, ResourceId};
use serde_json::Value;

use crate::ProviderError;

/// A field that holds text; an error that names it otherwise.
pub(super) fn text<'a>(want: &'a Resource, field: &str) -> Result<&'a str, ProviderError> {
    want.spec
        .get(field)
        .and_then(Value::as_str)
        .ok_or_else(|| lacks(want, field, "a text"))
}

/// A field that holds a whole number within the range that AWS's own type has.
pub(super) fn whole(want: &Resource, field: &str) -> Result<i32, ProviderError> {
    let number = want.spec.get(field).and_then(Value::as_i64);
    number
        .and_then(|it| i32::try_from(it).ok())
        .ok_or_else(|| lacks(want, field, "a whole number"))
}

pub(super) fn flag(spec: &Value, field: &str) -> bool {
    spec.get(field).and_then(Value::as_bool).unwrap_or_default()
}

/// Texts of a list; empty where there is none.
pub(super) fn texts(spec: &Value, field: &str) -> Vec<String> {
    let list = spec.get(field).and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

/// The network that something is in: at AWS nothing is without one.
pub(super) fn network(want: &Resource) -> Result<&ResourceId, ProviderError> {
    let found = want.depends_on.iter().find(|id| id.kind == Kind::Network);
    found.ok_or_else(|| ProviderError::Refused {
        what: format!("{} has no network", want.id),
        help: format!("add one to the region of {}: network = aws.VPC & {{ … }}", want.path),
    })
}

/// A change that AWS can only make by a new one.
pub(super) fn cannot_change(want: &Resource, field: &str, now: &str, wanted: &str) -> ProviderError {
    ProviderError::Refused {
        what: format!("{} cannot change {field} from {now} to {wanted} in place", want.id),
        help: "run: ha plan, which replaces it".into(),
    }
}

fn lacks(want: &Resource, field: &str, what: &str) -> ProviderError {
    ProviderError::Refused {
        what: format!("{} needs {what} as {field}", want.id),
        help: format!("set it at {} in workspace.ncl", want.path),
    }
}
