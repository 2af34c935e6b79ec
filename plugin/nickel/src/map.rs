//! Where each field of a workspace was written.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use ha_core::finding::{Finding, Place};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Places of fields by path: `region_us_east.network.ip_range`, `forwarding_rules.0.entry_port` within lists.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SourceMap {
    pub(crate) files: Vec<SourceFile>,
    pub(crate) spots: BTreeMap<String, Spot>,
    /// The last character of the workspace: its closing brace.
    pub(crate) end: Option<Bytes>,
}

/// One of the user's files, as it was when the workspace was evaluated.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SourceFile {
    pub(crate) path: PathBuf,
    #[serde(serialize_with = "write_text", deserialize_with = "read_text")]
    pub(crate) text: Arc<str>,
}

/// Bytes of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bytes {
    pub(crate) file: usize,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// Where one field was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Spot {
    pub(crate) key: Bytes,
    /// None for records, which are better pointed at by their name than underlined over many lines.
    pub(crate) value: Option<Bytes>,
}

fn write_text<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

fn read_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<str>, D::Error> {
    String::deserialize(deserializer).map(Arc::from)
}

impl SourceMap {
    /// The place of the value of the field at `path` (of its name, when the value is a record or takes
    /// several lines), or of the nearest field around it that was written. The empty path is the
    /// closing brace of the workspace.
    pub fn place(&self, path: &str) -> Option<Place> {
        if path.is_empty() {
            return self.bytes_place(self.end?);
        }
        let spot = self.nearest(path)?;
        let value = spot.value.filter(|value| self.is_one_line(*value));
        self.bytes_place(value.unwrap_or(spot.key))
    }

    /// The place of the field's name, or of the name of the nearest field around it.
    pub fn key_place(&self, path: &str) -> Option<Place> {
        self.bytes_place(self.nearest(path)?.key)
    }

    /// Fills in the places of findings and labels that have none yet. A finding about a field that was not written,
    /// and stands in no record that was (`objectives`, all of it left out), is at the name of the workspace; a label
    /// like that has no place, because it would mark a line that says something else.
    pub fn resolve(&self, findings: &mut [Finding]) {
        for finding in findings {
            if finding.place.is_none() {
                let place = finding.path.as_deref().and_then(|path| self.place(path));
                finding.place = place.or_else(|| self.place("workspace"));
            }
            for label in &mut finding.labels {
                if label.place.is_none() {
                    label.place = label.path.as_deref().and_then(|path| self.place(path));
                }
            }
        }
    }

    /// The text of a file a [`Place`] points into, as it was when it was evaluated.
    pub fn text(&self, file: &str) -> Option<&str> {
        let found = self.files.iter().find(|it| it.path.to_string_lossy() == file)?;
        Some(&found.text)
    }

    /// The text at a place; none when the place is in none of these files.
    pub(crate) fn excerpt(&self, place: &Place) -> Option<&str> {
        self.text(&place.file)?.get(place.start..place.end)
    }

    pub(crate) fn bytes_place(&self, bytes: Bytes) -> Option<Place> {
        let file = self.files.get(bytes.file)?;
        let before = file.text.get(..bytes.start)?;
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Some(Place {
            file: file.path.to_string_lossy().into_owned(),
            start: bytes.start,
            end: bytes.end,
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        })
    }

    fn nearest(&self, path: &str) -> Option<&Spot> {
        // `forwarding_rules[0]` and `forwarding_rules.0` are the same place.
        let path = path.replace('[', ".").replace(']', "");
        let mut prefix = path.as_str();
        loop {
            if let Some(spot) = self.spots.get(prefix) {
                return Some(spot);
            }
            prefix = prefix.rsplit_once('.')?.0;
        }
    }

    fn is_one_line(&self, bytes: Bytes) -> bool {
        self.files
            .get(bytes.file)
            .and_then(|file| file.text.get(bytes.start..bytes.end))
            .is_some_and(|text| !text.contains('\n'))
    }
}
