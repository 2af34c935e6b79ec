//! What a provider asks for what it sells, by its own word.

use async_trait::async_trait;
use ha_core::cost::{Currency, Told};
use jiff::civil::Date;

use crate::ProviderError;

/// A provider that tells its prices. Asking changes nothing there.
#[async_trait]
pub trait PriceList: Send + Sync {
    /// Every price that it tells of what a workspace can declare, without tax, dated `on`, which is today.
    ///
    /// # Errors
    ///
    /// It did not answer to the end: never a part of the list.
    async fn told(&self, on: Date) -> Result<Vec<Told>, ProviderError>;
}

/// As the provider writes it: `EUR`.
///
/// # Errors
///
/// One that nothing here can be converted from.
pub(crate) fn currency(provider: &str, word: &str) -> Result<Currency, ProviderError> {
    [Currency::Eur, Currency::Usd]
        .into_iter()
        .find(|it| it.as_str() == word)
        .ok_or_else(|| ProviderError::Refused {
            what: format!("{provider} bills in {word}, and only EUR and USD are converted"),
            help: format!("write the prices that count below [prices.{provider}] of config.toml, in dollars a month"),
        })
}
