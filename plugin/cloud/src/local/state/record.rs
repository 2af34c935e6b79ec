//! The label file of a resource: written before anything of it exists, complete once all of it does.

use std::fs;

use ha_core::{
    names::{ProviderName, RegionName, WorkspaceName},
    resource::{Kind, Labels, Resource, ResourceId, spec_hash},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::ProviderError;
use crate::local::{
    Local,
    state::files::{self, read_json},
};

/// `resources/<kind>.<name>.json`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) labels: Labels,
    pub(crate) provider: ProviderName,
    /// What was applied last; while `complete` is false, the old one of an update or the new one of a creation.
    pub(crate) spec: Value,
    pub(crate) depends_on: Vec<ResourceId>,
    pub(crate) protect: bool,
    pub(crate) created_at: Timestamp,
    /// All of it was made and was seen to work.
    pub(crate) complete: bool,
}

/// One that exists; why, when its file cannot be understood.
pub(crate) type Found = (ResourceId, Result<Record, String>);

impl Record {
    pub(crate) fn new(workspace: &WorkspaceName, want: &Resource, created_at: Timestamp) -> Self {
        Self {
            labels: Labels {
                ws: workspace.clone(),
                region: want.id.region.clone(),
                name: want.id.name.clone(),
                spec: want.spec_hash(),
            },
            provider: want.provider,
            spec: want.spec.clone(),
            depends_on: want.depends_on.clone(),
            protect: want.protect,
            created_at,
            complete: false,
        }
    }

    /// The fields of the spec that a room needs.
    pub(crate) fn spec<T: DeserializeOwned>(&self, id: &ResourceId) -> Result<T, ProviderError> {
        fields(id, &self.spec)
    }
}

pub(crate) fn fields<T: DeserializeOwned>(id: &ResourceId, spec: &Value) -> Result<T, ProviderError> {
    T::deserialize(spec).map_err(|error| ProviderError::Other {
        what: format!("the spec of {id} cannot be used: {error}"),
    })
}

impl Local {
    /// None when there is no such resource.
    pub(crate) fn record(&self, id: &ResourceId) -> Option<Result<Record, String>> {
        match read_json(&self.layout.resource(id)) {
            Ok(record) => record.map(Ok),
            Err(error) => Some(Err(error.to_string())),
        }
    }

    pub(crate) fn exists(&self, id: &ResourceId) -> bool {
        self.layout.resource(id).exists()
    }

    /// Afterwards the resource is known to be ours, and not known to be whole. A repair that has nothing to
    /// change leaves a complete file as it is.
    pub(crate) fn begin(&self, want: &Resource) -> Result<(), ProviderError> {
        let path = self.layout.resource(&want.id);
        let record = match self.record(&want.id) {
            Some(Ok(record)) if unchanged(&record, want) || !record.complete => return Ok(()),
            Some(Ok(record)) => Record {
                complete: false,
                ..record
            },
            Some(Err(_)) | None => Record::new(&self.options.workspace, want, self.first_seen(&want.id)),
        };
        let folder = self.layout.region(want.id.region.as_str()).resources();
        self.files.folder(&folder, 0o700)?;
        self.files.write_json(&path, &record)
    }

    /// Afterwards the label says that this spec holds.
    pub(crate) fn finish(&self, want: &Resource) -> Result<(), ProviderError> {
        let created_at = match self.record(&want.id) {
            Some(Ok(record)) if record.complete && unchanged(&record, want) => return Ok(()),
            Some(Ok(record)) => record.created_at,
            Some(Err(_)) | None => self.first_seen(&want.id),
        };
        let record = Record {
            complete: true,
            ..Record::new(&self.options.workspace, want, created_at)
        };
        self.files.write_json(&self.layout.resource(&want.id), &record)
    }

    /// The last step of a removal.
    pub(crate) fn forget(&self, id: &ResourceId) -> Result<(), ProviderError> {
        files::remove_all(&self.layout.resource(id))
    }

    /// Of a damaged file, when it was written; else now.
    fn first_seen(&self, id: &ResourceId) -> Timestamp {
        let modified = fs::metadata(self.layout.resource(id)).and_then(|meta| meta.modified());
        modified
            .ok()
            .and_then(|time| Timestamp::try_from(time).ok())
            .unwrap_or_else(Timestamp::now)
    }

    /// Every resource of the workspace, in order of identity.
    pub(crate) fn records(&self) -> Result<Vec<Found>, ProviderError> {
        let mut found = Vec::new();
        for region in self.regions()? {
            found.extend(self.records_of(&region)?);
        }
        found.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(found)
    }

    /// Every resource of one region.
    pub(crate) fn records_of(&self, region: &str) -> Result<Vec<Found>, ProviderError> {
        let ids = self.ids_of(region)?.into_iter();
        Ok(ids.filter_map(|id| Some((id.clone(), self.record(&id)?))).collect())
    }

    fn ids_of(&self, region: &str) -> Result<Vec<ResourceId>, ProviderError> {
        let folder = self.layout.region(region).resources();
        let region = RegionName::new(region);
        let names = files::names_in(&folder)?;
        let ids = names.iter().filter_map(|name| {
            let (kind, name) = name.strip_suffix(".json")?.split_once('.')?;
            Some(ResourceId::new(&region, Kind::parse(kind)?, name))
        });
        Ok(ids.collect())
    }

    /// Those of one kind whose files can be understood.
    pub(crate) fn known(&self, region: &str, kind: Kind) -> Result<Vec<(ResourceId, Record)>, ProviderError> {
        // Before they are read: whoever asks for balancers in a region of a hundred servers asks a hundred times.
        let ids = self.ids_of(region)?.into_iter().filter(|id| id.kind == kind);
        Ok(ids
            .filter_map(|id| Some((id.clone(), self.record(&id)?.ok()?)))
            .collect())
    }

    /// # Errors
    /// `Missing` names what `id` needs.
    pub(crate) fn needs(&self, id: &ResourceId, needed: &ResourceId) -> Result<(), ProviderError> {
        if self.exists(needed) {
            return Ok(());
        }
        Err(ProviderError::Missing {
            id: id.clone(),
            needs: needed.to_string(),
        })
    }

    /// All that the caller said it depends on, and the region itself.
    pub(crate) fn needs_all(&self, want: &Resource) -> Result<(), ProviderError> {
        for needed in &want.depends_on {
            self.needs(&want.id, needed)?;
        }
        if want.id.kind != Kind::Network && self.known(want.id.region.as_str(), Kind::Network)?.is_empty() {
            return Err(ProviderError::Missing {
                id: want.id.clone(),
                needs: format!("the network of {}", want.id.region),
            });
        }
        Ok(())
    }
}

fn unchanged(record: &Record, want: &Resource) -> bool {
    record.labels.spec == want.spec_hash()
        && record.labels.spec == spec_hash(&record.spec)
        && record.depends_on == want.depends_on
        && record.protect == want.protect
        && record.provider == want.provider
}
