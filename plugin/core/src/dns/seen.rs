//! What is there: zones with their records, and health checks.

use std::collections::BTreeMap;

use super::{
    check::Check,
    marker::{self, Marker},
    plain,
    record::{Policy, Record},
    reference,
};

/// One look at an account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// All that are ours, and the one that names are wanted in.
    pub zones: Vec<Zone>,
    /// Those of the workspace.
    pub checks: Vec<Check>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    pub id: String,
    /// [`plain`].
    pub name: String,
    pub reference: String,
    /// What the domain above has to delegate to; empty where it was not looked at.
    pub name_servers: Vec<String>,
    /// Of a zone that is ours all of them; of others those at and below the wanted domain.
    pub records: Vec<Record>,
    /// Of a zone that is ours.
    pub tags: BTreeMap<String, String>,
}

impl Seen {
    pub fn zone(&self, name: &str) -> Option<&Zone> {
        self.zones.iter().find(|it| it.name == name)
    }

    /// The region that a person pointed `domain` at.
    pub fn pointed(&self, zone: &str, domain: &str, ws: &str) -> Option<String> {
        let markers = self.zone(zone)?.markers(domain, ws);
        markers.into_iter().find_map(|it| it.pointed)
    }
}

impl Zone {
    pub fn is_of(&self, ws: &str) -> bool {
        reference::is_of(ws, &self.reference)
    }

    /// All records that are called so, of any kind.
    pub fn called<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Record> {
        self.records.iter().filter(move |it| it.name == name)
    }

    pub(super) fn marker_record(&self, name: &str) -> Option<&Record> {
        let marker = marker::name_of(name);
        self.records.iter().find(|it| it.name == marker && it.kind == "TXT")
    }

    /// The lines of this workspace about `name`.
    pub fn markers(&self, name: &str, ws: &str) -> Vec<Marker> {
        let values = self.marker_record(name).map(Record::values).unwrap_or_default();
        let markers = values.iter().filter_map(|it| Marker::parse(it));
        markers.filter(|it| it.ws == ws).collect()
    }

    /// Every name that a line of this workspace is about.
    pub(super) fn marked(&self, ws: &str) -> Vec<String> {
        let names = self.records.iter().filter(|it| it.kind == "TXT");
        let names = names.filter_map(|it| marker::about(&it.name));
        names
            .filter(|name| !self.markers(name, ws).is_empty())
            .map(str::to_owned)
            .collect()
    }
}

/// Why a zone's records cannot be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ambiguous {
    pub name: String,
    pub ids: Vec<String>,
}

/// The zone of that name among `(id, name, reference)` of all public ones: ours, else the only one there is.
pub fn pick<'a>(
    zones: &'a [(String, String, String)],
    name: &str,
    ws: &str,
) -> Result<Option<&'a (String, String, String)>, Ambiguous> {
    let named: Vec<_> = zones.iter().filter(|it| plain(&it.1) == name).collect();
    let ours = named
        .iter()
        .filter(|it| reference::is_of(ws, &it.2))
        .min_by_key(|it| &it.2);
    match (ours, named.as_slice()) {
        (Some(zone), _) => Ok(Some(zone)),
        (None, []) => Ok(None),
        (None, [zone]) => Ok(Some(zone)),
        (None, several) => Err(Ambiguous {
            name: name.to_owned(),
            ids: several.iter().map(|it| it.0.clone()).collect(),
        }),
    }
}

/// Whether a record has a place under a name where an address of ours is wanted: another address, or a CNAME, which
/// bears nothing beside itself.
pub(super) fn is_in_the_way(record: &Record) -> bool {
    record.kind == "A" || record.kind == "CNAME"
}

/// What makes up a zone by itself, and goes with it.
pub(super) fn belongs_to_the_zone(record: &Record, zone: &str) -> bool {
    record.name == zone && matches!(record.kind.as_str(), "NS" | "SOA") && record.policy == Policy::Simple
}
