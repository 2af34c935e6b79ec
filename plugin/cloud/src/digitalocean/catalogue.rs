//! What DigitalOcean sells where, and for how much: for the look before a plan starts, and for `ha cost`.

use futures::try_join;

use super::{
    api::{Region as ToldRegion, Size as ToldSize},
    cloud::Cloud,
};
use crate::rest::RestError;

/// Everything that is for sale to the owner of the token. DigitalOcean tells prices of Droplets alone, the same in all
/// locations.
#[derive(Clone, Debug, PartialEq)]
pub struct Catalogue {
    pub locations: Vec<Location>,
    pub sizes: Vec<Size>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// `nyc3`
    pub name: String,
    /// `New York 3`
    pub title: String,
    /// Whether anything can be made there now.
    pub available: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Size {
    /// `s-2vcpu-4gb`
    pub name: String,
    pub cores: u32,
    /// In MB.
    pub memory: u64,
    /// In GB.
    pub disk: u64,
    /// In USD, without tax: the most that one month costs, however many hours it has.
    pub price_monthly: f64,
    /// Whether one can be made anywhere now.
    pub available: bool,
    /// Names of the locations that have it.
    pub locations: Vec<String>,
}

impl Catalogue {
    pub fn size(&self, name: &str) -> Option<&Size> {
        self.sizes.iter().find(|it| it.name == name)
    }

    /// # Errors
    ///
    /// Why no server of this size can be made in this location now, in words for a finding or an error.
    pub fn offers(&self, size: &str, location: &str) -> Result<(), String> {
        let place = self.locations.iter().find(|it| it.name == location);
        let place = place.ok_or_else(|| format!("{size}: DigitalOcean has no location {location}"))?;
        let found = self
            .size(size)
            .ok_or_else(|| format!("DigitalOcean has no size {size}"))?;
        if !place.available {
            return Err(format!("{size}: nothing can be made in {location} now"));
        }
        if !found.available {
            return Err(format!("{size}: none can be made anywhere now"));
        }
        if !found.locations.iter().any(|it| it == location) {
            return Err(format!(
                "{size} in {location}: it is made in {}",
                found.locations.join(", ")
            ));
        }
        Ok(())
    }
}

impl Cloud {
    pub(super) async fn catalogue(&self) -> Result<Catalogue, RestError> {
        let unfiltered = [];
        let (sizes, regions) = try_join!(self.list::<ToldSize>(&unfiltered), self.list::<ToldRegion>(&unfiltered))?;
        Ok(Catalogue {
            locations: regions.into_iter().map(Location::from).collect(),
            sizes: sizes.into_iter().map(Size::from).collect(),
        })
    }
}

impl From<ToldRegion> for Location {
    fn from(told: ToldRegion) -> Self {
        Self {
            name: told.slug,
            title: told.name,
            available: told.available,
        }
    }
}

impl From<ToldSize> for Size {
    fn from(told: ToldSize) -> Self {
        Self {
            name: told.slug,
            cores: told.vcpus,
            memory: told.memory,
            disk: told.disk,
            price_monthly: told.price_monthly,
            available: told.available,
            locations: told.regions,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_had_says_why() {
        let place = |name: &str, available| Location {
            name: name.into(),
            title: name.to_uppercase(),
            available,
        };
        let size = |name: &str, available| Size {
            name: name.into(),
            cores: 2,
            memory: 4096,
            disk: 80,
            price_monthly: 24.0,
            available,
            locations: vec!["nyc3".into(), "sfo1".into()],
        };
        let catalogue = Catalogue {
            locations: vec![place("nyc3", true), place("sfo1", false), place("ams3", true)],
            sizes: vec![size("s-2vcpu-4gb", true), size("gone", false)],
        };
        let why = |size, location| catalogue.offers(size, location).expect_err("it cannot be had");
        assert_eq!(catalogue.offers("s-2vcpu-4gb", "nyc3"), Ok(()));
        assert_eq!(
            why("s-2vcpu-4gb", "sfo1"),
            "s-2vcpu-4gb: nothing can be made in sfo1 now"
        );
        assert_eq!(
            why("s-2vcpu-4gb", "ams3"),
            "s-2vcpu-4gb in ams3: it is made in nyc3, sfo1"
        );
        assert_eq!(why("gone", "nyc3"), "gone: none can be made anywhere now");
        assert_eq!(why("s-2vcpu", "nyc3"), "DigitalOcean has no size s-2vcpu");
        assert_eq!(why("gone", "mars1"), "gone: DigitalOcean has no location mars1");
    }
}
