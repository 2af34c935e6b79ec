//! What is wanted beside what is there.

use ha_cloud::local::{LocalOptions, LocalProvider};
use ha_core::{
    model::Workspace,
    names::{ProviderName, RegionName},
    resource::{Kind, Live, Resource, Status},
};
use nu_plugin::EngineInterface;
use nu_protocol::{LabeledError, Spanned};

use super::{Context, Realm, Silent};
use crate::{
    HaPlugin,
    acts::Acts,
    error::{Failed, What},
    nu::{At, Wanted},
};

/// One look at everything of a workspace.
pub(crate) struct World {
    /// Of providers that are silent nothing is wanted: it is not known what is there.
    pub(crate) desired: Vec<Resource>,
    pub(crate) live: Vec<Live>,
    /// Who did not answer; always empty on this machine.
    pub(crate) silent: Vec<Silent>,
}

/// A resource that is wanted, there, or both.
pub(crate) struct Thing<'a> {
    pub(crate) desired: Option<&'a Resource>,
    pub(crate) live: Option<&'a Live>,
}

impl Context {
    /// This machine's provider, for what asks the guards; opening it makes nothing.
    pub(crate) fn provider(&self, workspace: &Workspace) -> Result<LocalProvider, Failed> {
        self.local()?;
        let options = LocalOptions::from_env(workspace.name.clone(), &self.file, |name| self.places.variable(name))?;
        Ok(LocalProvider::open(options)?)
    }

    /// For whatever needs something that runs.
    pub(crate) fn provisioned(&self, workspace: &Workspace) -> Result<LocalProvider, Failed> {
        let provider = self.provider(workspace)?;
        if provider.provisioned() {
            Ok(provider)
        } else {
            Err(Failed::NotProvisioned(workspace.name.to_string()))
        }
    }

    /// One look at everything; a provider that does not answer keeps no other from being looked at.
    pub(crate) async fn look(&self, workspace: &Workspace, realm: &Realm) -> Result<World, Failed> {
        let (live, silent) = realm.observe().await?;
        let mut desired = ha_core::desired::resources(workspace, &self.config);
        if !silent.is_empty() {
            let is_silent = |name: ProviderName| silent.iter().any(|it| it.provider == name);
            let (hidden, told): (Vec<_>, Vec<_>) = desired.into_iter().partition(|it| is_silent(it.provider));
            desired = told;
            for want in &mut desired {
                // Not missing, as far as anybody knows; whoever is asked to make it will say.
                want.depends_on.retain(|id| hidden.iter().all(|it| it.id != *id));
            }
        }
        Ok(World { desired, live, silent })
    }

    /// The same by the provider's own notes, for a command that asks the parts itself: nothing that is stuck
    /// keeps it from asking the others.
    pub(crate) fn known(&self, workspace: &Workspace, provider: &LocalProvider) -> Result<World, Failed> {
        let live = if provider.provisioned() {
            provider.known()?
        } else {
            Vec::new()
        };
        let desired = ha_core::desired::resources(workspace, &self.config);
        let silent = Vec::new();
        Ok(World { desired, live, silent })
    }

    /// A look for a command that only shows: what is not there yet is shown as absent.
    pub(crate) fn world(&self, plugin: &HaPlugin, engine: &EngineInterface) -> Result<World, LabeledError> {
        let workspace = self.workspace()?;
        let realm = self.realm(plugin, engine, workspace).at(self.span())?;
        let runtime = plugin.runtime().at(self.span())?;
        let wanted = Wanted::new(engine, runtime)?;
        wanted.block_on(runtime, self.look(workspace, &realm)).at(self.span())
    }

    /// Where acts are remembered; `desk` is this machine's part of the realm.
    pub(crate) fn acts(&self, workspace: &Workspace, desk: &LocalProvider) -> Acts {
        Acts {
            file: desk.acts_file(),
            workspace: workspace.name.to_string(),
            who: self.places.user(),
        }
    }
}

impl World {
    /// Everything wanted in its order, then what is there and no longer wanted.
    pub(crate) fn things(&self) -> Vec<Thing<'_>> {
        let wanted = self.desired.iter().map(|desired| Thing {
            desired: Some(desired),
            live: self.live.iter().find(|it| it.id == desired.id),
        });
        let left = self
            .live
            .iter()
            .filter(|it| self.desired.iter().all(|desired| desired.id != it.id));
        wanted
            .chain(left.map(|live| Thing {
                desired: None,
                live: Some(live),
            }))
            .collect()
    }

    pub(crate) fn keep_region(&mut self, region: &str) {
        self.desired.retain(|it| it.id.region == region);
        self.live.retain(|it| it.id.region == region);
    }

    /// The one server of this name, in `region` if that is given.
    pub(crate) fn server(&self, name: &Spanned<String>, region: Option<&str>) -> Result<&Live, Failed> {
        let servers = || {
            let of_region = move |it: &&Live| region.is_none_or(|region| it.id.region == region);
            self.live
                .iter()
                .filter(|it| it.id.kind == Kind::Server)
                .filter(of_region)
        };
        let mut found = servers().filter(|it| it.id.name == name.item);
        match (found.next(), found.next()) {
            (Some(one), None) => Ok(one),
            (Some(one), Some(other)) => Err(Failed::BadArgument {
                what: format!("server {}", name.item),
                why: format!("it is in {} and in {}", one.id.region, other.id.region),
                help: format!("say which: --region {}", one.id.region),
            }),
            (None, _) => {
                let known = servers().map(|it| it.id.name.clone()).collect();
                Err(Failed::unknown(What::Server, &name.item, "what exists", known))
            }
        }
    }
}

impl Thing<'_> {
    pub(crate) fn region(&self) -> Option<&RegionName> {
        self.desired
            .map(|it| &it.id.region)
            .or(self.live.map(|it| &it.id.region))
    }

    pub(crate) fn kind(&self) -> Option<Kind> {
        self.desired.map(|it| it.id.kind).or(self.live.map(|it| it.id.kind))
    }

    pub(crate) fn name(&self) -> String {
        let id = self.desired.map(|it| &it.id).or(self.live.map(|it| &it.id));
        id.map(|id| id.name.clone()).unwrap_or_default()
    }

    /// As declared when it was made, or as declared now.
    pub(crate) fn provider(&self) -> Option<ProviderName> {
        self.live.map(|it| it.provider).or(self.desired.map(|it| it.provider))
    }

    pub(crate) fn status(&self) -> Status {
        self.live.map_or(Status::Absent, |live| live.status)
    }

    /// A text field of the spec: what is there wins over what is wanted.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        let of = |spec: &serde_json::Value| spec.get(name).and_then(|it| it.as_str()).map(str::to_owned);
        self.live
            .and_then(|it| of(&it.spec))
            .or_else(|| self.desired.and_then(|it| of(&it.spec)))
    }
}
