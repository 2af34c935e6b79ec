//! Hetzner tells the price of everything it sells, by location.

use async_trait::async_trait;
use ha_core::{
    cost::{Component, Currency, Per, Told},
    names::ProviderName,
};
use jiff::civil::Date;

use super::{
    HetznerProvider,
    catalogue::{Catalogue, Offer},
};
use crate::{
    ProviderError,
    price_list::{PriceList, currency},
};

#[async_trait]
impl PriceList for HetznerProvider {
    async fn told(&self, on: Date) -> Result<Vec<Told>, ProviderError> {
        let catalogue = self.catalogue().await?;
        let currency = currency(ProviderName::Hetzner.as_str(), &catalogue.currency)?;
        Ok(told(&catalogue, currency, on))
    }
}

/// By the month, which is the most that Hetzner bills, however many hours it has.
fn told(catalogue: &Catalogue, currency: Currency, on: Date) -> Vec<Told> {
    let one = |component, r#type: &str, location: Option<&str>, amount| Told {
        provider: ProviderName::Hetzner,
        component,
        r#type: r#type.to_owned(),
        location: location.map(str::to_owned),
        amount,
        per: Per::Month,
        currency,
        on,
    };
    let each = |component, r#type: &str, offers: &[Offer]| -> Vec<Told> {
        let offers = offers.iter();
        offers
            .map(|it| one(component, r#type, Some(&it.location), it.price_monthly.net))
            .collect()
    };
    let mut all = vec![one(Component::Volume, "volume-gb", None, catalogue.volume_gb.net)];
    all.extend(each(Component::Address, "ipv4", &catalogue.ipv4));
    for it in &catalogue.server_types {
        all.extend(each(Component::Server, &it.name, &it.prices));
    }
    for it in &catalogue.load_balancer_types {
        all.extend(each(Component::LoadBalancer, &it.name, &it.prices));
    }
    all
}

#[cfg(test)]
mod tests {
    use ha_core::{config::Config, cost::Prices};

    use super::*;
    use crate::hetzner::catalogue::{Price, ServerType};

    #[test]
    fn a_price_is_of_its_location_and_without_tax() {
        let price = |net: f64| Price { net, gross: net * 1.19 };
        let offer = |location: &str, net: f64| Offer {
            location: location.into(),
            price_hourly: price(net / 500.0),
            price_monthly: price(net),
        };
        let catalogue = Catalogue {
            currency: "EUR".into(),
            locations: Vec::new(),
            server_types: vec![ServerType {
                name: "cpx21".into(),
                cores: 3.0,
                memory: 4.0,
                disk: 80.0,
                architecture: "x86".into(),
                prices: vec![offer("nbg1", 7.0), offer("ash", 9.0)],
                locations: Vec::new(),
            }],
            load_balancer_types: Vec::new(),
            volume_gb: price(0.05),
            ipv4: vec![offer("nbg1", 0.5)],
        };
        let on = Date::constant(2026, 11, 20);
        let prices = Prices::new(&Config::default(), told(&catalogue, Currency::Eur, on));
        let find = |what: &str, location: &str| prices.find(ProviderName::Hetzner, what, location);
        for (what, location, amount) in [
            ("cpx21", "nbg1", 7.0),
            ("cpx21", "ash", 9.0),
            ("volume-gb", "ash", 0.05),
            ("ipv4", "nbg1", 0.5),
        ] {
            let found = find(what, location).expect("it was told");
            assert_eq!((found.amount, found.as_of), (amount, Some(on)), "{what} in {location}");
        }
        let error = find("cpx21", "hel1").expect_err("it is not sold there");
        assert!(error.to_string().contains("sells no cpx21 in hel1"), "{error}");
    }
}
