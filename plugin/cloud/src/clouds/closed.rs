//! A provider that could not be opened: whatever is asked of it, the answer is why.

use async_trait::async_trait;
use ha_core::{
    cost::Told,
    names::ProviderName,
    resource::{Live, Resource, ResourceId},
};
use jiff::civil::Date;

use crate::{Account, Provider, ProviderError, price_list::PriceList};

/// In the place of a provider without a credential, so that the others are asked all the same. Every answer is
/// [`ProviderError::NotOpened`].
pub struct Closed {
    pub name: ProviderName,
    pub what: String,
    /// `ha::credential::missing`
    pub code: &'static str,
    pub help: String,
}

impl Closed {
    fn why<T>(&self) -> Result<T, ProviderError> {
        Err(ProviderError::NotOpened {
            what: self.what.clone(),
            code: self.code,
            help: self.help.clone(),
        })
    }
}

#[async_trait]
impl Provider for Closed {
    fn name(&self) -> &'static str {
        self.name.as_str()
    }

    /// AWS, opened, tells no prices either.
    fn price_list(&self) -> Option<&dyn PriceList> {
        match self.name {
            ProviderName::Aws => None,
            _ => Some(self),
        }
    }

    async fn account(&self) -> Result<Account, ProviderError> {
        self.why()
    }

    async fn observe(&self) -> Result<Vec<Live>, ProviderError> {
        self.why()
    }

    async fn ensure(&self, _: &Resource) -> Result<Live, ProviderError> {
        self.why()
    }

    async fn remove(&self, _: &ResourceId) -> Result<(), ProviderError> {
        self.why()
    }

    async fn power(&self, _: &ResourceId, _: bool) -> Result<Live, ProviderError> {
        self.why()
    }
}

#[async_trait]
impl PriceList for Closed {
    async fn told(&self, _: Date) -> Result<Vec<Told>, ProviderError> {
        self.why()
    }
}
