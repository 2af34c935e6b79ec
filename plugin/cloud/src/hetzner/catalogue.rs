//! What Hetzner sells where, and for how much: for the look before a plan starts, and for `ha cost`.

use futures::try_join;
use serde::{Deserialize, Deserializer};

use super::cloud::Cloud;
use crate::rest::RestError;

/// Everything that is for sale to the owner of the token.
#[derive(Clone, Debug, PartialEq)]
pub struct Catalogue {
    /// `EUR`; of every price here.
    pub currency: String,
    pub locations: Vec<Location>,
    pub server_types: Vec<ServerType>,
    pub load_balancer_types: Vec<LoadBalancerType>,
    /// For one GB of a volume and a month.
    pub volume_gb: Price,
    /// For one public IPv4 address of a server; by location.
    pub ipv4: Vec<Offer>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Location {
    /// `nbg1`
    pub name: String,
    /// `DE`
    pub country: String,
    pub city: String,
    pub latitude: f64,
    pub longitude: f64,
    /// A network's subnet is in one zone, and reaches all locations of it: `eu-central`.
    pub network_zone: String,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ServerType {
    /// `cpx21`
    pub name: String,
    pub cores: f64,
    /// In GB.
    pub memory: f64,
    /// In GB.
    pub disk: f64,
    /// `x86` or `arm`; an image exists for one of them.
    pub architecture: String,
    pub prices: Vec<Offer>,
    pub locations: Vec<Availability>,
}

impl ServerType {
    /// Whether one can be ordered there now. None where it is not sold at all.
    pub fn available_in(&self, location: &str) -> Option<bool> {
        let found = self.locations.iter().find(|it| it.name == location);
        found.map(|it| it.available)
    }
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct LoadBalancerType {
    /// `lb11`
    pub name: String,
    pub max_services: u64,
    pub max_targets: u64,
    pub prices: Vec<Offer>,
}

/// Whether a type can be ordered in a location at this moment.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Availability {
    pub name: String,
    pub available: bool,
}

/// What something costs in one location.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Offer {
    pub location: String,
    pub price_hourly: Price,
    /// The most that one month costs, however many hours it has.
    pub price_monthly: Price,
}

/// In the catalogue's currency.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub struct Price {
    /// Without tax.
    #[serde(deserialize_with = "decimal")]
    pub net: f64,
    /// With the tax of the project's owner.
    #[serde(deserialize_with = "decimal")]
    pub gross: f64,
}

/// Hetzner writes prices as text with ten decimals.
fn decimal<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}

#[derive(Deserialize)]
struct Answer {
    pricing: Pricing,
}

#[derive(Deserialize)]
struct Pricing {
    currency: String,
    volume: VolumePrice,
    primary_ips: Vec<IpPrice>,
}

#[derive(Deserialize)]
struct VolumePrice {
    price_per_gb_month: Price,
}

#[derive(Deserialize)]
struct IpPrice {
    #[serde(rename = "type")]
    kind: String,
    prices: Vec<Offer>,
}

impl Cloud {
    pub(super) async fn catalogue(&self) -> Result<Catalogue, RestError> {
        let (locations, server_types, load_balancer_types, answer) = try_join!(
            self.locations(),
            self.list::<ServerType>("server_types", None),
            self.list::<LoadBalancerType>("load_balancer_types", None),
            self.rest.get::<Answer>("/pricing", &[]),
        )?;
        let pricing = answer.pricing;
        let ipv4 = pricing.primary_ips.into_iter().filter(|it| it.kind == "ipv4");
        Ok(Catalogue {
            currency: pricing.currency,
            locations: locations.to_vec(),
            server_types,
            load_balancer_types,
            volume_gb: pricing.volume.price_per_gb_month,
            ipv4: ipv4.flat_map(|it| it.prices).collect(),
        })
    }

    /// Asked once: new ones are years apart.
    pub(super) async fn locations(&self) -> Result<&[Location], RestError> {
        let all = self.locations.get_or_try_init(|| self.list("locations", None)).await?;
        Ok(all)
    }
}
