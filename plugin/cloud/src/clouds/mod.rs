//! Several providers as one: each resource goes to whom it was declared with, and all are asked side by side.

mod closed;
mod survey;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

pub use closed::Closed;

use async_trait::async_trait;
use futures::future::join_all;
use ha_core::{
    cost::Told,
    finding::Finding,
    names::ProviderName,
    resource::{Live, Resource, ResourceId},
};
use jiff::civil::Date;

use crate::{
    Account, Provider, ProviderError, offers,
    rights::{Door, Report, Use},
};

/// The providers of one workspace. Clones are the same.
#[derive(Clone)]
pub struct Clouds {
    providers: Arc<BTreeMap<ProviderName, Arc<dyn Provider>>>,
    /// Who has what, as far as it was seen since this was opened: an identity alone does not say it.
    seen: Arc<Mutex<BTreeMap<ResourceId, ProviderName>>>,
}

impl Clouds {
    /// Asks nobody anything yet.
    pub fn new(providers: impl IntoIterator<Item = (ProviderName, Arc<dyn Provider>)>) -> Self {
        Self {
            providers: Arc::new(providers.into_iter().collect()),
            seen: Arc::default(),
        }
    }

    /// What each provider says by itself, in the order of their names: one that does not answer hides no other.
    pub async fn observe_each(&self) -> Vec<(ProviderName, Result<Vec<Live>, ProviderError>)> {
        let asked = self.providers.iter().map(|(name, provider)| async move {
            let answer = provider.observe().await;
            (*name, answer)
        });
        let answers = join_all(asked).await;
        let mut seen = self.seen();
        for (name, answer) in &answers {
            if let Ok(live) = answer {
                seen.retain(|_, of| of != name);
                seen.extend(live.iter().map(|it| (it.id.clone(), *name)));
            }
        }
        drop(seen);
        answers
    }

    /// Whose credential each provider was given, and what is left of its limits.
    pub async fn account_each(&self) -> Vec<(ProviderName, Result<Account, ProviderError>)> {
        let asked = self
            .providers
            .iter()
            .map(|(name, provider)| async move { (*name, provider.account().await) });
        join_all(asked).await
    }

    /// What each of the providers that tell their prices asks for what it sells.
    pub async fn price_each(&self, on: Date) -> Vec<(ProviderName, Result<Vec<Told>, ProviderError>)> {
        let lists = self.providers.iter();
        let asked = lists.filter_map(|(name, provider)| Some((*name, provider.price_list()?)));
        join_all(asked.map(|(name, list)| async move { (name, list.told(on).await) })).await
    }

    /// Whose credential each provider was given, and what of `uses` it may do.
    pub async fn rights_each(&self, uses: impl Fn(ProviderName) -> BTreeSet<Use>) -> Vec<(ProviderName, Report)> {
        let asked = self.providers.iter().map(|(name, provider)| {
            let uses = uses(*name);
            async move {
                let report = match provider.rights() {
                    Some(rights) => rights.report(&uses).await,
                    None => Report {
                        doors: vec![Door {
                            location: None,
                            who: provider.account().await.map(|it| it.who),
                        }],
                        rights: Vec::new(),
                    },
                };
                (*name, report)
            }
        });
        join_all(asked).await
    }

    /// What of `wanted` cannot be had now. A provider that does not say it is a warning, and keeps no other from it.
    pub async fn objections(&self, wanted: &[&Resource]) -> Vec<Finding> {
        let asked = self.providers.iter().map(|(name, provider)| async move {
            let own: Vec<&Resource> = wanted.iter().copied().filter(|it| it.provider == *name).collect();
            match provider.offers().filter(|_| !own.is_empty()) {
                Some(offers) => match offers.objections(&own).await {
                    Ok(found) => found,
                    Err(error) => vec![offers::unknown(*name, &error)],
                },
                None => Vec::new(),
            }
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    fn of(&self, name: ProviderName) -> Result<&Arc<dyn Provider>, ProviderError> {
        self.providers.get(&name).ok_or_else(|| ProviderError::Refused {
            what: format!("no credential for {name} was given"),
            help: format!("name it in config.toml below [providers.{name}], or set the provider's own variable"),
        })
    }

    /// Who has it, as last seen; all of them where nobody was seen with it.
    fn holders(&self, id: &ResourceId) -> Vec<&Arc<dyn Provider>> {
        let seen = self.seen().get(id).copied();
        match seen.and_then(|name| self.providers.get(&name)) {
            Some(one) => vec![one],
            None => self.providers.values().collect(),
        }
    }

    fn seen(&self) -> MutexGuard<'_, BTreeMap<ResourceId, ProviderName>> {
        // Whole entries only: a panic while it was held leaves nothing half-written.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Provider for Clouds {
    fn name(&self) -> &'static str {
        "clouds"
    }

    /// Of all: who they are in one line, and what the scarcest has left.
    async fn account(&self) -> Result<Account, ProviderError> {
        let mut who = Vec::new();
        let mut requests_left: Option<u64> = None;
        for (name, account) in self.account_each().await {
            let account = account?;
            who.push(format!("{name}: {}", account.who));
            requests_left = match (requests_left, account.requests_left) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
        Ok(Account {
            who: who.join(", "),
            requests_left,
        })
    }

    async fn observe(&self) -> Result<Vec<Live>, ProviderError> {
        let mut all = Vec::new();
        for (_, answer) in self.observe_each().await {
            all.extend(answer?);
        }
        all.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(all)
    }

    async fn ensure(&self, want: &Resource) -> Result<Live, ProviderError> {
        let provider = self.of(want.provider)?;
        // What another provider holds is no business of this one; that it is there was seen, or is not so.
        let (own, missing) = {
            let seen = self.seen();
            let is_elsewhere = |id: &ResourceId| match seen.get(id) {
                Some(name) => *name != want.provider,
                None => id.region != want.id.region,
            };
            let mut own = Vec::new();
            let mut missing = Vec::new();
            for id in &want.depends_on {
                match is_elsewhere(id) {
                    false => own.push(id.clone()),
                    true if seen.contains_key(id) => {}
                    true => missing.push(id.clone()),
                }
            }
            (own, missing)
        };
        if let Some(id) = missing.first() {
            return Err(ProviderError::Missing {
                id: want.id.clone(),
                needs: id.to_string(),
            });
        }
        let narrowed = Resource {
            depends_on: own,
            ..want.clone()
        };
        let live = provider.ensure(&narrowed).await?;
        self.seen().insert(want.id.clone(), want.provider);
        Ok(live)
    }

    async fn remove(&self, id: &ResourceId) -> Result<(), ProviderError> {
        // One that refuses keeps no other from taking its own away.
        let asked = self.holders(id).into_iter().map(|provider| provider.remove(id));
        join_all(asked).await.into_iter().collect::<Result<(), _>>()?;
        self.seen().remove(id);
        Ok(())
    }

    async fn power(&self, server: &ResourceId, on: bool) -> Result<Live, ProviderError> {
        for provider in self.holders(server) {
            match provider.power(server, on).await {
                Err(ProviderError::NotFound(_)) => {}
                answer => return answer,
            }
        }
        Err(ProviderError::NotFound(server.clone()))
    }
}
