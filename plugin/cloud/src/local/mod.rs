//! The same resources on this machine: folders and processes on loopback addresses, with the real programs.

mod files;
mod http;
mod layout;
mod links;
mod lock;
mod options;
mod user;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use ha_core::resource::{Live, Resource, ResourceId};

pub use links::{LinkCounters, LinkRow};
pub use lock::{LockHolder, WriterLock};
pub use options::LocalOptions;
pub use user::RunAs;

use crate::{Account, Provider, ProviderError};
use files::Files;
use layout::Layout;

/// The local target of one workspace. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LocalProvider {
    local: Arc<Local>,
}

/// What every room of this provider needs.
#[derive(Debug)]
pub(crate) struct Local {
    options: LocalOptions,
    layout: Layout,
    files: Files,
}

impl LocalProvider {
    /// Looks at what is there and makes nothing.
    ///
    /// # Errors
    /// `Refused` when the workspace's folder belongs to another `workspace.ncl` or has a format of another version.
    pub fn open(options: LocalOptions) -> Result<Self, ProviderError> {
        let layout = Layout::new(&options.state_root, &options.runtime_root, options.workspace.as_str());
        let files = Files::new(options.run_as.clone());
        Ok(Self {
            local: Arc::new(Local { options, layout, files }),
        })
    }

    /// Something of this workspace exists here, be it half made.
    pub fn provisioned(&self) -> bool {
        self.local.layout.regions().exists()
    }

    /// Whoever changes the world holds this meanwhile; `command` is what the others are told.
    ///
    /// # Errors
    /// `Taken` names who holds it.
    pub fn try_lock(&self, command: &str) -> Result<WriterLock, ProviderError> {
        lock::try_lock(&self.local.layout, &self.local.files, command)
    }

    /// As [`Self::try_lock`], and waits up to `timeout`; `on_wait` hears who has it, once for each holder.
    ///
    /// # Errors
    /// `Taken` names who still holds it at the end.
    pub async fn lock_wait(
        &self,
        command: &str,
        timeout: Duration,
        on_wait: impl FnMut(&LockHolder) + Send,
    ) -> Result<WriterLock, ProviderError> {
        lock::lock_wait(&self.local.layout, &self.local.files, command, timeout, on_wait).await
    }

    /// Who holds the writer's lock at this moment.
    pub fn lock_holder(&self) -> Option<LockHolder> {
        lock::holder(&self.local.layout)
    }

    /// Every ordered pair of regions: what is set, and what the relays counted.
    pub async fn links(&self) -> Result<Vec<LinkRow>, ProviderError> {
        links::rows(&self.local).await
    }

    /// Afterwards the direction has this delay and cut; what is none stays as it was.
    ///
    /// # Errors
    /// `Refused` when a region does not exist.
    pub fn set_link(
        &self,
        from: &str,
        to: &str,
        delay: Option<Duration>,
        cut: Option<bool>,
    ) -> Result<(), ProviderError> {
        links::set(&self.local, from, to, delay, cut)
    }

    /// Afterwards no matching direction has a delay or a cut; none matches every region.
    pub fn heal_links(&self, from: Option<&str>, to: Option<&str>) -> Result<(), ProviderError> {
        links::heal(&self.local, from, to)
    }

    /// Where acts of the shell are appended; its folder may have to be made. Kept after destroy.
    pub fn acts_file(&self) -> PathBuf {
        self.local.layout.acts()
    }

    /// The events files there are: acts of the shell, then one per region.
    pub fn event_files(&self) -> Vec<PathBuf> {
        let regions = self.local.regions().unwrap_or_default();
        let of_regions = regions.iter().map(|region| self.local.layout.region(region).events());
        std::iter::once(self.acts_file())
            .chain(of_regions)
            .filter(|path| path.exists())
            .collect()
    }

    /// The certificate authority that every process of the workspace trusts, as PEM.
    pub fn ca_file(&self) -> PathBuf {
        self.local.layout.secrets().join("ca.pem")
    }

    /// Mode 0600: the password of the database's administrator and nothing else.
    pub fn admin_password_file(&self) -> PathBuf {
        self.local.layout.secrets().join("admin")
    }

    /// The workspace's folder, for messages.
    pub fn folder(&self) -> &Path {
        &self.local.layout.root
    }
}

impl Local {
    /// Names of the regions that have a folder, sorted.
    fn regions(&self) -> Result<Vec<String>, ProviderError> {
        let path = self.layout.regions();
        files::names_in(&path)
    }
}

#[async_trait]
impl Provider for LocalProvider {
    fn name(&self) -> &'static str {
        "local"
    }

    async fn account(&self) -> Result<Account, ProviderError> {
        Err(ProviderError::Other {
            what: "not written yet".into(),
        })
    }

    async fn observe(&self) -> Result<Vec<Live>, ProviderError> {
        Err(ProviderError::Other {
            what: "not written yet".into(),
        })
    }

    async fn ensure(&self, _want: &Resource) -> Result<Live, ProviderError> {
        Err(ProviderError::Other {
            what: "not written yet".into(),
        })
    }

    async fn remove(&self, _id: &ResourceId) -> Result<(), ProviderError> {
        Err(ProviderError::Other {
            what: "not written yet".into(),
        })
    }

    async fn power(&self, _server: &ResourceId, _on: bool) -> Result<Live, ProviderError> {
        Err(ProviderError::Other {
            what: "not written yet".into(),
        })
    }
}
