//! Findings that are made in more than one place.

use ha_core::finding::Finding;

/// `record` (of the kind `subject`) has no `field`, and must.
pub(crate) fn missing_field(record: &str, subject: &str, field: &str) -> Finding {
    Finding::error(
        "ha::workspace::missing_field",
        format!("{subject} needs the field `{field}`"),
    )
    .at(record)
    .help(format!("add `{field} = …`"))
}
