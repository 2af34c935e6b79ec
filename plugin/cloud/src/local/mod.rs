//! The same resources on this machine: folders and processes on loopback addresses, with the real programs.

pub(crate) mod kinds;
mod links;
mod observe;
mod process;
mod render;
pub(crate) mod state;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use ha_core::resource::{Kind, Live, Resource, ResourceId};

pub use links::{LinkCounters, LinkRow};
pub use render::{Render, Rendered};
pub use state::{
    lock::{LockHolder, WriterLock},
    options::LocalOptions,
    user::RunAs,
};

use crate::{Account, Provider, ProviderError};
use kinds::{database, load_balancer, network, server, store};
use process::units::At;
use state::{
    addresses::Octets,
    files::{self, Files, PLAIN, PROGRAM, failed},
    layout::Layout,
    lock,
    secrets::Secrets,
    workspace::{WorkspaceRecord, check_names},
};

/// After this long a server that was switched on or off is said to be neither.
const POWER_WITHIN: Duration = Duration::from_secs(90);

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
    record: WorkspaceRecord,
    octets: Octets,
    secrets: Secrets,
    /// All that is wanted, as far as the caller said so: what is told once knows of what is made later.
    wanted: Mutex<Arc<[Resource]>>,
    /// By region: held while its supervisor is started, which two of its resources find missing at once.
    starting: Turns,
    /// Held while the store's members change.
    joining: tokio::sync::Mutex<()>,
    /// By region: held while servers are taken out of balancers and put back.
    rolling: Turns,
    /// Held while a file is read and written that speaks of many resources: what relays, guards and links are told.
    /// Whoever read it before another wrote it would take that back.
    telling: Mutex<()>,
    /// Held while the guard's binary is copied.
    copying: Mutex<()>,
}

/// A queue for each name: one at a time of the same, others side by side.
#[derive(Debug, Default)]
struct Turns(Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>);

impl Turns {
    async fn of(&self, name: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            turns.entry(name.to_owned()).or_default().clone()
        };
        turn.lock_owned().await
    }
}

impl LocalProvider {
    /// Looks at what is there and makes nothing.
    ///
    /// # Errors
    /// `Refused` when the workspace's folder belongs to another `workspace.ncl` or has a format of another version.
    pub fn open(options: LocalOptions) -> Result<Self, ProviderError> {
        let layout = Layout::new(&options.state_root, &options.runtime_root, options.workspace.as_str());
        let files = Files::new(options.run_as.clone());
        let name = options.workspace.as_str();
        let octets = Octets::of_this_machine();
        let record = WorkspaceRecord::new(&layout, &files, &options.source, name, octets.clone());
        record.read()?;
        Ok(Self {
            local: Arc::new(Local {
                secrets: Secrets::new(&layout, &files),
                options,
                layout,
                files,
                record,
                octets,
                wanted: Mutex::new(Arc::new([])),
                starting: Turns::default(),
                joining: tokio::sync::Mutex::new(()),
                rolling: Turns::default(),
                telling: Mutex::default(),
                copying: Mutex::default(),
            }),
        })
    }

    /// Something of this workspace exists here, be it half made, or no more than the lock of a run that was killed:
    /// whoever takes the lock then and lets it go takes that away, too.
    pub fn provisioned(&self) -> bool {
        self.local.layout.root.exists()
    }

    /// Afterwards all that is `wanted` has its addresses, in this order, whatever is made first and side by side; and
    /// what is made from now on is told at once of what will be there later. Addresses of what is neither wanted nor
    /// there can be given out again. Under the writer's lock, before the first [`Provider::ensure`] of a plan: with
    /// everything that is wanted, also when only a part of it is about to be made.
    ///
    /// # Errors
    /// `NoCapacity` when there are more hosts than addresses; `Refused` for names that no file can have.
    pub fn reserve(&self, wanted: &[Resource]) -> Result<(), ProviderError> {
        for want in wanted {
            check_names(&want.id)?;
        }
        if wanted.is_empty() {
            return Ok(());
        }
        self.local.record.reserve(wanted)?;
        *self.local.wanted.lock().unwrap_or_else(PoisonError::into_inner) = wanted.into();
        Ok(())
    }

    /// What the programs behind `wanted` run with, or would: as [`Provider::ensure`] writes it, with the addresses that
    /// are given out or would be now. Writes nothing and asks nobody. A row for each resource that has such a file;
    /// where it cannot be said, why.
    ///
    /// # Errors
    /// As of [`LocalProvider::reserve`].
    pub fn render(&self, what: Render, wanted: &[Resource]) -> Result<Vec<Rendered>, ProviderError> {
        render::all(&self.local, what, wanted)
    }

    /// What [`Provider::observe`] lists, without asking any process: where things are, and which are switched off.
    /// For whoever asks them itself and must not wait for one that is stuck; `Running` is not an observation here.
    ///
    /// # Errors
    /// As of [`Provider::observe`]: a folder that cannot be read to its end.
    pub fn known(&self) -> Result<Vec<Live>, ProviderError> {
        observe::known(&self.local)
    }

    /// Whoever changes the world holds this meanwhile; `command` is what the others are told.
    ///
    /// # Errors
    /// `Taken` names who holds it.
    pub fn try_lock(&self, command: &str) -> Result<WriterLock, ProviderError> {
        lock::try_lock(&self.local.layout, &self.local.files, &self.local.octets, command)
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
        let Local {
            layout, files, octets, ..
        } = &*self.local;
        lock::lock_wait(layout, files, octets, command, timeout, on_wait).await
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

    /// Mode 0600: the password that replicas stream with and nothing else.
    pub fn replication_password_file(&self) -> PathBuf {
        self.local.layout.secrets().join("replication")
    }

    /// The workspace's folder, for messages.
    pub fn folder(&self) -> &Path {
        &self.local.layout.root
    }
}

impl Local {
    /// Names of the regions that have a folder, sorted.
    fn regions(&self) -> Result<Vec<String>, ProviderError> {
        files::names_in(&self.layout.regions())
    }

    /// All that is wanted, as far as it was said; empty when it was not.
    fn wanted(&self) -> Arc<[Resource]> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the lock protects is on disk and whole at any moment, so a panic elsewhere spoils nothing.
    fn telling(&self) -> MutexGuard<'_, ()> {
        self.telling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who processes run as.
    fn uid(&self) -> u32 {
        let other = self.options.run_as.as_ref().map(|user| user.uid);
        other.unwrap_or_else(|| nix::unistd::Uid::effective().as_raw())
    }

    /// The workspace's own copy of `ha-guard`: a build may replace the original while it runs, and the database's
    /// user may not be able to read it. Another build is another copy, so that what runs is known by its path.
    fn guard_program(&self) -> Result<PathBuf, ProviderError> {
        let original = &self.options.guard_binary;
        let meta = fs::metadata(original).map_err(|source| failed("cannot read", original, source))?;
        let name = format!("ha-guard-{:x}-{:x}-{:x}", meta.mtime(), meta.mtime_nsec(), meta.len());
        let copy = self.layout.bin().join(name);
        let _copying = self.copying.lock().unwrap_or_else(PoisonError::into_inner);
        if !copy.exists() {
            self.files.folder(&self.layout.bin(), 0o755)?;
            self.files.copy(original, &copy, PROGRAM)?;
        }
        Ok(copy)
    }

    /// Afterwards the workspace keeps no copy of `ha-guard` that neither runs nor is to run.
    fn remove_old_guards(&self) -> Result<(), ProviderError> {
        let mut kept = vec![self.guard_program()?];
        for region in self.regions()? {
            kept.extend(self.supervisor(&region)?.and_then(|supervisor| supervisor.program()));
            for host in files::names_in(&self.layout.region(&region).hosts())? {
                let at = At {
                    region: &region,
                    host: &host,
                };
                for unit in files::names_in(&self.layout.host(&region, &host).units())? {
                    kept.extend(self.unit(at, unit.trim_end_matches(".json")).map(|unit| unit.program));
                }
            }
        }
        let _copying = self.copying.lock().unwrap_or_else(PoisonError::into_inner);
        files::sweep_neighbours(&self.layout.bin())?;
        for name in files::names_in(&self.layout.bin())? {
            let copy = self.layout.bin().join(name);
            if !kept.contains(&copy) {
                files::remove_all(&copy)?;
            }
        }
        Ok(())
    }

    async fn power(&self, id: &ResourceId, on: bool) -> Result<(), ProviderError> {
        let at = At {
            region: id.region.as_str(),
            host: &id.name,
        };
        if !matches!(id.kind, Kind::Server | Kind::LoadBalancer) || !self.exists(id) {
            return Err(ProviderError::NotFound(id.clone()));
        }
        let power = self.layout.host(at.region, at.host).power();
        let text = if on { "on" } else { "off" };
        self.files.write_if_changed(&power, text.as_bytes(), PLAIN)?;
        if !on {
            return self.stopped(at, None, POWER_WITHIN).await;
        }
        self.running(at.region)?.sync().await?;
        for file in files::names_in(&self.layout.host(at.region, at.host).units())? {
            if let Some(unit) = self.unit(at, file.trim_end_matches(".json")) {
                self.ready(id, at, &unit, POWER_WITHIN).await?;
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Provider for LocalProvider {
    fn name(&self) -> &'static str {
        "local"
    }

    async fn account(&self) -> Result<Account, ProviderError> {
        let who = match &self.local.options.run_as {
            Some(user) => format!("root, processes as {}", user.name),
            None => {
                let uid = nix::unistd::Uid::effective();
                let user = nix::unistd::User::from_uid(uid).ok().flatten();
                user.map_or_else(|| uid.to_string(), |user| user.name)
            }
        };
        Ok(Account {
            who,
            requests_left: None,
        })
    }

    async fn observe(&self) -> Result<Vec<Live>, ProviderError> {
        observe::all(&self.local).await
    }

    async fn ensure(&self, want: &Resource) -> Result<Live, ProviderError> {
        let local = &*self.local;
        check_names(&want.id)?;
        match want.id.kind {
            Kind::Network => network::ensure(local, want).await?,
            Kind::Server => server::ensure(local, want).await?,
            Kind::Store => store::ensure(local, want).await?,
            Kind::Database => database::ensure(local, want).await?,
            Kind::LoadBalancer => load_balancer::ensure(local, want).await?,
            Kind::Firewall | Kind::Volume => {
                return Err(ProviderError::Refused {
                    what: format!("{}: there is nothing like it on this machine", want.id),
                    help: "only the target cloud has it; this is a mistake of ha, please report it".into(),
                });
            }
        }
        observe::one(local, &want.id).await
    }

    async fn remove(&self, id: &ResourceId) -> Result<(), ProviderError> {
        let local = &*self.local;
        check_names(id)?;
        if !local.exists(id) {
            return Ok(());
        }
        match id.kind {
            Kind::Network => network::remove(local, id).await,
            Kind::Server => server::remove(local, id).await,
            Kind::Store => store::remove(local, id).await,
            Kind::Database => database::remove(local, id).await,
            Kind::LoadBalancer => load_balancer::remove(local, id).await,
            Kind::Firewall | Kind::Volume => local.forget(id),
        }
    }

    async fn power(&self, server: &ResourceId, on: bool) -> Result<Live, ProviderError> {
        self.local.power(server, on).await?;
        observe::one(&self.local, server).await
    }
}
