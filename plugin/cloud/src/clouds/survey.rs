//! Several accounts looked at as a whole, side by side.

use futures::future::join_all;
use ha_core::{
    existing::Found,
    names::ProviderName,
    resource::{Live, Resource},
};

use super::Clouds;
use crate::{ProviderError, survey::cannot};

impl Clouds {
    /// What is in each account, in the order of the providers' names: one that does not answer hides no other.
    pub async fn survey_each(&self) -> Vec<(ProviderName, Result<Vec<Found>, ProviderError>)> {
        let asked = self.providers.iter().map(|(name, provider)| async move {
            let answer = match provider.survey() {
                Some(survey) => survey.everything().await,
                // One that was not opened says why, whatever it is asked.
                None => provider.observe().await.and_then(|_| Err(cannot(provider.as_ref()))),
            };
            (*name, answer)
        });
        join_all(asked).await
    }

    /// [`crate::survey::Survey::adopt`] at the provider of `want`.
    pub async fn adopt(&self, found: &Found, want: &Resource) -> Result<Live, ProviderError> {
        let provider = self.of(want.provider)?;
        let survey = provider.survey().ok_or_else(|| cannot(provider.as_ref()))?;
        let live = survey.adopt(found, want).await?;
        self.seen().insert(want.id.clone(), want.provider);
        Ok(live)
    }
}
