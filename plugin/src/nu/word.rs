//! Names of states, as they are written everywhere.

use serde::Serialize;

/// The serialised name of a unit enum: `catching_up`.
pub(crate) fn word(state: impl Serialize) -> Option<String> {
    match serde_json::to_value(state) {
        Ok(serde_json::Value::String(word)) => Some(word),
        _ => None,
    }
}
