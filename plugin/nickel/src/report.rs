//! Findings that are made in more than one place.

use ha_core::finding::Finding;

/// `record` (of the kind `subject`) has no `field`, and must.
pub(crate) fn missing_field(record: &str, subject: &str, field: &str) -> Finding {
    let finding = Finding::error(
        "ha::workspace::missing_field",
        format!("{subject} needs the field `{field}`"),
    )
    .help(format!("add `{field} = …`"));
    if record.is_empty() { finding } else { finding.at(record) }
}
