//! Where each field of a workspace was written.

use ha_core::finding::{Finding, Place};

/// Places of fields by path: `region_us_east.network.ip_range`.
#[derive(Clone, Debug, Default)]
pub struct SourceMap {}

impl SourceMap {
    /// The place of the field at `path`, or of the nearest field around it that was written.
    pub fn place(&self, path: &str) -> Option<Place> {
        let _ = path;
        None
    }

    /// Fills in the places of findings and labels that have a path and no place yet.
    pub fn resolve(&self, findings: &mut [Finding]) {
        for finding in findings {
            if finding.place.is_none() {
                finding.place = finding.path.as_deref().and_then(|path| self.place(path));
            }
            for label in &mut finding.labels {
                if label.place.is_none() {
                    label.place = label.path.as_deref().and_then(|path| self.place(path));
                }
            }
        }
    }
}
