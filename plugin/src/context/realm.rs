//! What realises a workspace: this machine, or its providers. Nothing above knows which of them it is.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use ha_cloud::{
    Clouds, Provider, ProviderError, UserDataOf,
    aws::{self, AwsProvider},
    clouds::Closed,
    digitalocean::{self, DigitalOceanProvider},
    hetzner::{self, HetznerProvider},
    limits::Ledger,
    local::{LocalOptions, LocalProvider},
    offers,
    user_data::{UserData, UserDataError},
};
use ha_core::{
    config::Target,
    finding::Finding,
    model::{Declared, Workspace},
    names::ProviderName,
    plan::{Action, Step},
    resource::{Live, Resource, SSH_KEYS},
};
use nu_plugin::EngineInterface;
use serde_json::{Map, Value};

use super::{Context, credentials::Credentials};
use crate::{
    HaPlugin,
    error::{Failed, WHAT_HAPPENED},
};

/// Where the locks and acts of workspaces at the clouds lie, beside those of this machine's workspaces: the same
/// workspace may be rehearsed here while it runs there.
const CLOUDS: &str = "clouds";

/// Under way at once at each provider, for each step of a plan that is.
const REQUESTS_A_STEP: usize = 3;

/// Clones are the same.
#[derive(Clone)]
pub(crate) enum Realm {
    Local(LocalProvider),
    Clouds {
        clouds: Clouds,
        /// This machine's part: the writer's lock and the record of acts. Nothing of the workspace is kept in it.
        desk: LocalProvider,
    },
}

/// What each provider still allows, as far as it told this process; losing it costs nothing.
#[derive(Default)]
pub(crate) struct Ledgers(Mutex<BTreeMap<ProviderName, Arc<Ledger>>>);

impl Ledgers {
    pub(crate) fn of(&self, provider: ProviderName) -> Arc<Ledger> {
        // Whole entries only: a panic while it was held leaves nothing half-written.
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Ledger::new(provider.as_str()));
        all.entry(provider).or_insert_with(new).clone()
    }
}

/// A provider that did not answer, and why.
#[derive(Debug)]
pub(crate) struct Silent {
    pub(crate) provider: ProviderName,
    pub(crate) error: ProviderError,
}

/// All that a provider is opened with besides what is to be done there.
struct Account<'a> {
    credentials: &'a Credentials<'a>,
    ledger: Arc<Ledger>,
    ssh_public_key: Option<String>,
    user_data: UserDataOf,
}

impl Silent {
    /// What of the workspace is not known now; none when it is no region of it.
    pub(crate) fn regions(&self, workspace: &Workspace) -> Option<String> {
        let of_it = workspace
            .regions
            .iter()
            .filter(|region| region.provider == self.provider);
        let names: Vec<&str> = of_it.map(|region| region.name.as_str()).collect();
        (!names.is_empty()).then(|| names.join(", "))
    }

    pub(crate) fn is_of(&self, workspace: &Workspace, region: &str) -> bool {
        workspace.region(region).is_some_and(|it| it.provider == self.provider)
    }
}

impl Context {
    /// What `config.toml` says is to realise the workspace. Opening it asks nobody and makes nothing.
    pub(crate) fn realm(
        &self,
        plugin: &HaPlugin,
        engine: &EngineInterface,
        workspace: &Workspace,
    ) -> Result<Realm, Failed> {
        let mut options =
            LocalOptions::from_env(workspace.name.clone(), &self.file, |name| self.places.variable(name))?;
        match self.config.target {
            Target::Local => Ok(Realm::Local(LocalProvider::open(options)?)),
            Target::Cloud => {
                options.state_root.push(CLOUDS);
                let resources = ha_core::desired::resources(workspace, &self.config);
                let (clouds, mut closed) = self.clouds(plugin, engine, workspace, &resources)?;
                let names: BTreeSet<ProviderName> = resources.iter().map(|it| it.provider).collect();
                // With none of them open there is nobody to ask, and the first thing to do is said at once.
                if !closed.is_empty() && closed.len() == names.len() {
                    return Err(closed.swap_remove(0));
                }
                Ok(Realm::Clouds {
                    clouds,
                    desk: LocalProvider::open(options)?,
                })
            }
        }
    }

    /// The providers that something of the workspace is declared with, each with its credential. Whoever cannot be opened
    /// is one of them all the same, gives that as its answer to everything, and is told in the second list.
    pub(crate) fn clouds(
        &self,
        plugin: &HaPlugin,
        engine: &EngineInterface,
        workspace: &Workspace,
        resources: &[Resource],
    ) -> Result<(Clouds, Vec<Failed>), Failed> {
        let names: BTreeSet<ProviderName> = resources.iter().map(|it| it.provider).collect();
        let credentials = Credentials {
            engine,
            config: &self.config,
            folder: self.file.parent().unwrap_or(&self.file),
        };
        let ssh_public_key = self.ssh_public_key()?;
        let user_data = self.user_data(workspace, resources)?;
        let mut providers: Vec<(ProviderName, Arc<dyn Provider>)> = Vec::new();
        let mut closed = Vec::new();
        for name in names {
            let ledger = plugin.ledgers.of(name);
            let account = Account {
                credentials: &credentials,
                ledger,
                ssh_public_key: ssh_public_key.clone(),
                user_data: user_data.clone(),
            };
            match self.cloud(name, workspace, resources, account) {
                Ok(provider) => providers.push((name, provider)),
                Err(why) => {
                    providers.push((name, Arc::new(closed_by(name, &why))));
                    closed.push(why);
                }
            }
        }
        Ok((Clouds::new(providers), closed))
    }

    /// What each server runs at its first start, rendered when it is made.
    fn user_data(&self, workspace: &Workspace, resources: &[Resource]) -> Result<UserDataOf, Failed> {
        let guard = self.config.cloud.guard.clone();
        let refused = |error: UserDataError| ProviderError::Refused {
            what: error.to_string(),
            help: error.help(),
        };
        let all = UserData::new(&workspace.name, resources, guard).map_err(refused)?;
        Ok(Arc::new(move |server| all.render(server).map_err(refused)))
    }

    /// The file that `config.toml` names, without the end of its line.
    fn ssh_public_key(&self) -> Result<Option<String>, Failed> {
        let Some(path) = &self.config.cloud.ssh_public_key else {
            return Ok(None);
        };
        let path = match (path.strip_prefix("~"), self.places.variable("HOME")) {
            (Ok(rest), Some(home)) => Path::new(&home).join(rest),
            _ => self.file.with_file_name(path),
        };
        let text = fs::read_to_string(&path);
        let text = text.map_err(Failed::io(format!("cannot read {}", path.display())))?;
        Ok(Some(text.trim().to_owned()))
    }

    fn cloud(
        &self,
        name: ProviderName,
        workspace: &Workspace,
        resources: &[Resource],
        account: Account<'_>,
    ) -> Result<Arc<dyn Provider>, Failed> {
        let Account {
            credentials,
            ledger,
            ssh_public_key,
            user_data,
        } = account;
        let ws = workspace.name.clone();
        let endpoint = self.config.providers.get(&name).and_then(|it| it.endpoint.clone());
        // Whoever wants one thing at a time means requests as well; else a step looks at several things at once.
        let concurrency = match self.settings.concurrency {
            1 => 1,
            steps => steps * REQUESTS_A_STEP,
        };
        Ok(match name {
            ProviderName::Digitalocean => {
                let token = credentials.required(name, "token")?;
                let usual = digitalocean::Options::new(ws, token);
                let endpoint = endpoint.unwrap_or_else(|| usual.endpoint.clone());
                Arc::new(DigitalOceanProvider::new(digitalocean::Options {
                    endpoint,
                    concurrency,
                    ledger,
                    ssh_public_key,
                    user_data,
                    ..usual
                })?)
            }
            ProviderName::Hetzner => {
                let token = credentials.required(name, "token")?;
                let usual = hetzner::Options::new(ws, token);
                let endpoint = endpoint.unwrap_or_else(|| usual.endpoint.clone());
                Arc::new(HetznerProvider::new(hetzner::Options {
                    endpoint,
                    concurrency,
                    ledger,
                    ssh_public_key,
                    user_data,
                    written: written(workspace),
                    ..usual
                })?)
            }
            ProviderName::Aws => {
                let key = aws::Credentials {
                    access_key_id: credentials.required(name, "access_key_id")?.expose().to_owned(),
                    secret_access_key: credentials.required(name, "secret_access_key")?,
                    session_token: credentials.optional(name, "session_token")?,
                };
                let locations: BTreeSet<&str> = resources
                    .iter()
                    .filter(|it| it.provider == name)
                    .filter_map(|it| Some(workspace.region(it.id.region.as_str())?.location.as_str()))
                    .collect();
                let mut keys = resources.iter().filter(|it| it.provider == name);
                let ssh_key = keys.find_map(|it| Some(it.spec.get(SSH_KEYS)?.get(0)?.as_str()?.to_owned()));
                let ssh_key = ssh_key.map(|name| aws::SshKey {
                    name,
                    public_key: ssh_public_key,
                });
                let locations = locations.into_iter().map(str::to_owned).collect();
                Arc::new(AwsProvider::open(aws::Options {
                    endpoint,
                    concurrency,
                    ledger,
                    ssh_key,
                    user_data,
                    open_ports: aws::open_ports(resources),
                    ..aws::Options::new(ws, key, locations)
                })?)
            }
            ProviderName::Local => {
                return Err(Failed::BadArgument {
                    what: "a resource of the provider local".to_owned(),
                    why: "at the clouds each resource is declared with one of them".to_owned(),
                    help: "declare it with digitalocean, hetzner or aws".to_owned(),
                });
            }
        })
    }
}

fn closed_by(name: ProviderName, why: &Failed) -> Closed {
    Closed {
        name,
        what: why.to_string(),
        code: why.code(),
        help: why.help().unwrap_or_else(|| WHAT_HAPPENED.to_owned()),
    }
}

/// What the user wrote of each resource, in the provider's own words.
fn written(workspace: &Workspace) -> hetzner::Written {
    let mut all: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for region in &workspace.regions {
        let mut keep = |declared: &Declared| all.insert(declared.path.clone(), declared.fields.clone());
        region.networks.iter().for_each(|it| drop(keep(&it.declared)));
        region.servers.iter().for_each(|it| drop(keep(&it.declared)));
        region.load_balancers.iter().for_each(|it| drop(keep(&it.declared)));
        region.databases.iter().for_each(|it| drop(keep(&it.declared)));
        region.others.iter().for_each(|it| drop(keep(&it.declared)));
    }
    Arc::new(move |resource| all.get(&resource.path).cloned().unwrap_or_default())
}

impl Realm {
    /// Something may be there: on this machine a folder tells, at the clouds only they do.
    pub(crate) fn provisioned(&self) -> bool {
        match self {
            Self::Local(provider) => provider.provisioned(),
            Self::Clouds { .. } => true,
        }
    }

    /// Who does what is to be done.
    pub(crate) fn provider(&self) -> Arc<dyn Provider> {
        match self {
            Self::Local(provider) => Arc::new(provider.clone()),
            Self::Clouds { clouds, .. } => Arc::new(clouds.clone()),
        }
    }

    /// This machine's part: the writer's lock and the record of acts.
    pub(crate) fn desk(&self) -> &LocalProvider {
        match self {
            Self::Local(provider) => provider,
            Self::Clouds { desk, .. } => desk,
        }
    }

    /// On this machine addresses are given out for everything wanted before anything is made.
    pub(crate) fn reserve(&self, wanted: &[Resource]) -> Result<(), ProviderError> {
        match self {
            Self::Local(provider) => provider.reserve(wanted),
            Self::Clouds { .. } => Ok(()),
        }
    }

    /// What stands in the way of these steps at the providers, as far as they tell; without places. Nothing does on this
    /// machine, and where nothing is to be made nobody is asked.
    pub(crate) async fn objections(&self, ledgers: &Ledgers, steps: &[Step]) -> Vec<Finding> {
        match self {
            Self::Local(_) => Vec::new(),
            Self::Clouds { clouds, .. } => objections(clouds, ledgers, steps).await,
        }
    }

    /// What there is, and who of the providers could not say it.
    pub(crate) async fn observe(&self) -> Result<(Vec<Live>, Vec<Silent>), ProviderError> {
        match self {
            Self::Local(provider) if provider.provisioned() => Ok((provider.observe().await?, Vec::new())),
            Self::Local(_) => Ok((Vec::new(), Vec::new())),
            Self::Clouds { clouds, .. } => {
                let (mut live, mut silent) = (Vec::new(), Vec::new());
                for (provider, answer) in clouds.observe_each().await {
                    match answer {
                        Ok(of_it) => live.extend(of_it),
                        Err(error) => silent.push(Silent { provider, error }),
                    }
                }
                live.sort_by(|a, b| a.id.cmp(&b.id));
                Ok((live, silent))
            }
        }
    }
}

/// What stands in the way of these steps, as far as the providers tell; without places.
pub(crate) async fn objections(clouds: &Clouds, ledgers: &Ledgers, steps: &[Step]) -> Vec<Finding> {
    let made = |it: &&Step| matches!(it.action, Action::Create | Action::Replace);
    let made: Vec<&Resource> = steps.iter().filter(made).filter_map(|it| it.desired.as_ref()).collect();
    if made.is_empty() {
        return Vec::new();
    }
    let mut found = clouds.objections(&made).await;
    // Afterwards: what was asked for that counts, too.
    let left = made.iter().map(|it| (it.provider, ledgers.of(it.provider).limit()));
    found.extend(offers::too_many_calls(steps, &left.collect()));
    found
}
