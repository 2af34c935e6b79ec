//! Acts, and the world after them.

use std::collections::BTreeMap;

use crate::dns::{
    check::{Check, CheckSpec},
    record::Record,
    reference::Reference,
    seen::{Seen, Zone},
};

/// One request, or one and its tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    MakeZone {
        name: String,
        reference: Reference,
        /// The first to try; those before it are used up.
        generation: u32,
        tags: BTreeMap<String, String>,
    },
    TagZone {
        id: String,
        tags: BTreeMap<String, String>,
    },
    MakeCheck {
        region: String,
        spec: CheckSpec,
        reference: Reference,
        generation: u32,
        tags: BTreeMap<String, String>,
    },
    ChangeCheck {
        id: String,
        /// As it was seen: whoever changed it since is not overwritten.
        version: i64,
        spec: CheckSpec,
    },
    TagCheck {
        id: String,
        tags: BTreeMap<String, String>,
    },
    /// Whole or not at all. A record is changed by deleting it as it was seen and creating it as it is wanted, not by
    /// an UPSERT: what somebody else wrote in between makes Route 53 refuse the batch, instead of being overwritten.
    ChangeRecords {
        /// The id of the zone.
        zone: String,
        changes: Vec<Change>,
    },
    RemoveCheck {
        id: String,
    },
    RemoveZone {
        id: String,
        name: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Delete(Record),
    Create(Record),
}

/// What an act brought into being, or what it changed, as Route 53 answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Made {
    Zone(Zone),
    Check(Check),
    Nothing,
}

impl Change {
    pub const fn record(&self) -> &Record {
        match self {
            Self::Delete(record) | Self::Create(record) => record,
        }
    }
}

impl Seen {
    /// What there is after an act that succeeded.
    pub fn after(&mut self, act: &Act, made: Made) {
        match made {
            Made::Zone(zone) => {
                self.zones.retain(|it| it.id != zone.id);
                self.zones.push(zone);
            }
            Made::Check(mut check) => {
                // A change is answered without the tags, and does not touch them.
                if let Some(at) = self.checks.iter().position(|it| it.id == check.id) {
                    let before = self.checks.remove(at);
                    check.tags = before.tags.into_iter().chain(check.tags).collect();
                }
                self.checks.push(check);
            }
            Made::Nothing => {}
        }
        match act {
            Act::MakeZone { .. } | Act::MakeCheck { .. } | Act::ChangeCheck { .. } => {}
            Act::TagZone { id, tags } => {
                let zone = self.zones.iter_mut().find(|it| it.id == *id);
                zone.into_iter().for_each(|it| it.tags.extend(tags.clone()));
            }
            Act::TagCheck { id, tags } => {
                let check = self.checks.iter_mut().find(|it| it.id == *id);
                check.into_iter().for_each(|it| it.tags.extend(tags.clone()));
            }
            Act::ChangeRecords { zone, changes } => {
                for zone in self.zones.iter_mut().filter(|it| it.id == *zone) {
                    for change in changes {
                        match change {
                            Change::Delete(record) => zone.records.retain(|it| it != record),
                            Change::Create(record) => zone.records.push(record.clone()),
                        }
                    }
                }
            }
            Act::RemoveCheck { id } => self.checks.retain(|it| it.id != *id),
            Act::RemoveZone { id, .. } => self.zones.retain(|it| it.id != *id),
        }
    }
}
