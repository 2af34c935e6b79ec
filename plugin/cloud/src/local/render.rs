//! What programs run with, before or after they do: for review.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
};

use ha_core::resource::{Kind, Resource, ResourceId};

use super::{
    Local, Turns,
    kinds::{database, load_balancer, store},
    state::{secrets::Secrets, workspace::check_names},
};
use crate::ProviderError;

/// Whose configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Render {
    /// `haproxy.cfg` of each balancer.
    Haproxy,
    /// `guard.json` of each database node; what PostgreSQL is told follows from it.
    Guard,
    /// `etcd.json` of each member of the store, as it is after the member's first start.
    Etcd,
}

impl Render {
    fn kind(self) -> Kind {
        match self {
            Self::Haproxy => Kind::LoadBalancer,
            Self::Guard => Kind::Database,
            Self::Etcd => Kind::Store,
        }
    }
}

/// A file as it is written for one resource.
#[derive(Debug)]
pub struct Rendered {
    pub id: ResourceId,
    /// Where it is, or will be.
    pub path: PathBuf,
    /// Holds no secret: passwords and keys are in files of their own, which it names.
    pub text: Result<String, ProviderError>,
}

pub(super) fn all(local: &Local, what: Render, wanted: &[Resource]) -> Result<Vec<Rendered>, ProviderError> {
    for want in wanted {
        check_names(&want.id)?;
    }
    let local = local.preview(wanted)?;
    let of_kind = wanted.iter().filter(|want| want.id.kind == what.kind());
    Ok(of_kind.map(|want| rendered(&local, what, want)).collect())
}

fn rendered(local: &Local, what: Render, want: &Resource) -> Rendered {
    let host = super::observe::host_of(&want.id, &want.spec);
    let host = local.layout.host(want.id.region.as_str(), &host);
    let (file, text) = match what {
        Render::Haproxy => (load_balancer::CONFIG, load_balancer::render(local, want)),
        Render::Guard => (database::CONFIG, database::render(local, want)),
        Render::Etcd => (store::CONFIG, store::render(local, want)),
    };
    Rendered {
        id: want.id.clone(),
        path: host.etc(file),
        text,
    }
}

impl Local {
    /// The same workspace with everything that is wanted in it, in memory.
    fn preview(&self, wanted: &[Resource]) -> Result<Self, ProviderError> {
        Ok(Self {
            options: self.options.clone(),
            layout: self.layout.clone(),
            files: self.files.clone(),
            record: self.record.preview(wanted)?,
            octets: self.octets.clone(),
            secrets: Secrets::new(&self.layout, &self.files),
            wanted: Mutex::new(Arc::from(wanted)),
            starting: Turns::default(),
            joining: tokio::sync::Mutex::new(()),
            rolling: Turns::default(),
            telling: Mutex::default(),
            copying: Mutex::default(),
        })
    }
}
