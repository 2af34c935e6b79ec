//! DigitalOcean tells the prices of Droplets alone.

use async_trait::async_trait;
use ha_core::{
    cost::{Component, Currency, Per, Told},
    names::ProviderName,
};
use jiff::civil::Date;

use super::{DigitalOceanProvider, catalogue::Size};
use crate::{ProviderError, price_list::PriceList};

#[async_trait]
impl PriceList for DigitalOceanProvider {
    async fn told(&self, on: Date) -> Result<Vec<Told>, ProviderError> {
        let catalogue = self.catalogue().await?;
        Ok(catalogue.sizes.iter().map(|it| told(it, on)).collect())
    }
}

/// The same in all locations, and in those that sell no more of it to those who have it.
fn told(size: &Size, on: Date) -> Told {
    Told {
        provider: ProviderName::Digitalocean,
        component: Component::Server,
        r#type: size.name.clone(),
        location: None,
        amount: size.price_monthly,
        per: Per::Month,
        currency: Currency::Usd,
        on,
    }
}

#[cfg(test)]
mod tests {
    use ha_core::{config::Config, cost::Prices};

    use super::*;

    #[test]
    fn a_size_costs_the_same_wherever_it_is() {
        let size = Size {
            name: "s-2vcpu-4gb".into(),
            cores: 2,
            memory: 4096,
            disk: 80,
            price_monthly: 25.5,
            available: true,
            locations: vec!["nyc3".into()],
        };
        let prices = Prices::new(&Config::default(), [told(&size, Date::constant(2026, 11, 20))]);
        for location in ["nyc3", "sfo1"] {
            let found = prices.find(ProviderName::Digitalocean, "s-2vcpu-4gb", location);
            assert_eq!(found.map(|it| it.amount), Ok(25.5));
        }
    }
}
