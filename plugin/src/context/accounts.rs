//! The providers' accounts by themselves, where there is no workspace yet.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use ha_cloud::{
    Clouds, Provider,
    aws::{self, AwsProvider},
    digitalocean::{self, DigitalOceanProvider},
    hetzner::{self, HetznerProvider},
};
use ha_core::{
    config::Config,
    finding::Severity,
    names::{ProviderName, RegionName, WorkspaceName},
};
use nu_plugin::EngineInterface;

use super::{credentials::Credentials, find, open::read_config};
use crate::{HaPlugin, error::Failed};

const ALL: [ProviderName; 3] = [ProviderName::Digitalocean, ProviderName::Hetzner, ProviderName::Aws];
/// Where AWS is asked which regions an account has: it answers everywhere, and every account has this one.
const ANY_OF_AWS: &str = "us-east-1";

/// What `config.toml` in a folder, and the environment, open.
pub(crate) struct Accounts {
    config: Config,
    folder: PathBuf,
}

impl Accounts {
    /// # Errors
    ///
    /// A `config.toml` that is there and wrong: a credential would be looked for in another place than was meant.
    pub(crate) fn here(folder: &Path) -> Result<Self, Failed> {
        let (config, findings) = read_config(&folder.join(find::CONFIG))?;
        match findings.into_iter().find(|it| it.severity == Severity::Error) {
            Some(wrong) => Err(Failed::BadArgument {
                what: find::CONFIG.to_owned(),
                why: wrong.message,
                help: wrong
                    .help
                    .unwrap_or_else(|| "correct it, or import in another folder".to_owned()),
            }),
            None => Ok(Self {
                config,
                folder: folder.to_owned(),
            }),
        }
    }

    /// Opens the accounts of a workspace that will be called `ws`; nobody is asked yet. `only` of them, else all that
    /// there are credentials for. `locations` of AWS, else all that its account has.
    ///
    /// # Errors
    ///
    /// [`Failed::NoCredential`] of one that was named, or where there is none at all.
    pub(crate) async fn open(
        &self,
        plugin: &HaPlugin,
        engine: &EngineInterface,
        ws: &WorkspaceName,
        only: &[ProviderName],
        locations: &[String],
    ) -> Result<Clouds, Failed> {
        let mut providers = Vec::new();
        let mut missing = None;
        for name in ALL {
            if !only.is_empty() && !only.contains(&name) {
                continue;
            }
            match self.provider(plugin, engine, ws, name, locations).await {
                Ok(provider) => providers.push((name, provider)),
                Err(error @ Failed::NoCredential { .. }) if only.is_empty() => {
                    missing.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        match missing {
            Some(error) if providers.is_empty() => Err(error),
            _ => Ok(Clouds::new(providers)),
        }
    }

    /// What `config.toml` calls the region at this location of a provider.
    pub(crate) fn region(&self, provider: ProviderName, location: &str) -> Option<RegionName> {
        let claims = &self.config.providers.get(&provider)?.regions;
        let here = claims.iter().find(|it| it.location.as_deref() == Some(location));
        // One name without a place is of the only place there is.
        let only = match claims.as_slice() {
            [only] if only.location.is_none() => Some(only),
            _ => None,
        };
        here.or(only).map(|it| it.region.clone())
    }

    async fn provider(
        &self,
        plugin: &HaPlugin,
        engine: &EngineInterface,
        ws: &WorkspaceName,
        name: ProviderName,
        locations: &[String],
    ) -> Result<Arc<dyn Provider>, Failed> {
        let credentials = Credentials {
            engine,
            config: &self.config,
            folder: &self.folder,
        };
        let ws = ws.clone();
        let endpoint = self.config.providers.get(&name).and_then(|it| it.endpoint.clone());
        let ledger = plugin.ledgers.of(name);
        Ok(match name {
            ProviderName::Digitalocean => {
                let usual = digitalocean::Options::new(ws, credentials.required(name, "token")?);
                Arc::new(DigitalOceanProvider::new(digitalocean::Options {
                    endpoint: endpoint.unwrap_or_else(|| usual.endpoint.clone()),
                    ledger,
                    ..usual
                })?)
            }
            ProviderName::Hetzner => {
                let usual = hetzner::Options::new(ws, credentials.required(name, "token")?);
                Arc::new(HetznerProvider::new(hetzner::Options {
                    endpoint: endpoint.unwrap_or_else(|| usual.endpoint.clone()),
                    ledger,
                    ..usual
                })?)
            }
            ProviderName::Aws => {
                let key = aws::Credentials {
                    access_key_id: credentials.required(name, "access_key_id")?.expose().to_owned(),
                    secret_access_key: credentials.required(name, "secret_access_key")?,
                    session_token: credentials.optional(name, "session_token")?,
                };
                let mut options = aws::Options {
                    endpoint,
                    ledger,
                    ..aws::Options::new(ws, key, vec![ANY_OF_AWS.to_owned()])
                };
                let has = AwsProvider::open(options.clone())?.locations().await?;
                let named: BTreeSet<&String> = locations.iter().filter(|it| has.contains(it)).collect();
                let here = has.iter().filter(|it| named.is_empty() || named.contains(it));
                options.locations = here.cloned().collect();
                Arc::new(AwsProvider::open(options)?)
            }
            ProviderName::Local => {
                return Err(Failed::BadArgument {
                    what: "looking at this machine".to_owned(),
                    why: "it is no account".to_owned(),
                    help: "name digitalocean, hetzner or aws".to_owned(),
                });
            }
        })
    }
}
