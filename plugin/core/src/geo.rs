//! Where on earth a region is, and under whose law.

use serde::{Deserialize, Serialize};

use crate::names::ProviderName;

/// Degrees; north and east are positive.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Coordinates {
    pub latitude: f64,
    pub longitude: f64,
}

impl Coordinates {
    /// Kilometres along the great circle (haversine on the mean radius; within 0.5 % of the ellipsoid).
    pub fn distance_km(self, other: Self) -> f64 {
        const MEAN_RADIUS_KM: f64 = 6371.0088;
        let (from, to) = (self.latitude.to_radians(), other.latitude.to_radians());
        let half = |a: f64, b: f64| ((b - a) / 2.0).sin().powi(2);
        let (west, east) = (self.longitude.to_radians(), other.longitude.to_radians());
        let chord = half(from, to) + from.cos() * to.cos() * half(west, east);
        2.0 * MEAN_RADIUS_KM * chord.clamp(0.0, 1.0).sqrt().asin()
    }

    /// No answer comes back faster: light in glass makes about 200 km in a millisecond, there and back.
    pub fn least_round_trip_ms(self, other: Self) -> f64 {
        self.distance_km(other) / 100.0
    }
}

/// A provider's location, as its slug names it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Location {
    pub provider: ProviderName,
    /// `nyc3`
    pub slug: &'static str,
    /// `New York`
    pub city: &'static str,
    /// ISO 3166 alpha-2.
    pub country: &'static str,
    pub at: Coordinates,
}

/// The location of that provider; none when the slug is not one of its own.
pub fn location(provider: ProviderName, slug: &str) -> Option<&'static Location> {
    locations(provider).find(|it| it.slug == slug)
}

/// All of one provider.
pub fn locations(provider: ProviderName) -> impl Iterator<Item = &'static Location> {
    LOCATIONS.iter().filter(move |it| it.provider == provider)
}

/// Whose location that slug is, whoever it is.
pub fn anywhere(slug: &str) -> Option<&'static Location> {
    LOCATIONS.iter().find(|it| it.slug == slug)
}

/// What `provider` calls the same place: its nearest location within 100 km.
pub fn same_place(provider: ProviderName, at: Coordinates) -> Option<&'static Location> {
    const SAME_KM: f64 = 100.0;
    locations(provider)
        .map(|it| (it.at.distance_km(at), it))
        .filter(|(distance, _)| *distance <= SAME_KM)
        .min_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, it)| it)
}

/// The European Economic Area, in which the GDPR is law: the members of the EU, Iceland, Liechtenstein and Norway.
pub fn in_eu(country: &str) -> bool {
    const MEMBERS: [&str; 30] = [
        "AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU", "IE", "IS", "IT", "LI",
        "LT", "LU", "LV", "MT", "NL", "NO", "PL", "PT", "RO", "SE", "SI", "SK",
    ];
    MEMBERS.iter().any(|member| member.eq_ignore_ascii_case(country))
}

/// `country` is one of the places allowed ("EU", or country codes); no places is no rule.
pub fn allows(places: &[String], country: &str) -> bool {
    let matches =
        |place: &String| place.eq_ignore_ascii_case(country) || (place.eq_ignore_ascii_case("EU") && in_eu(country));
    places.is_empty() || places.iter().any(matches)
}

/// The network zone of a Hetzner location.
pub fn hetzner_zone(slug: &str) -> Option<&'static str> {
    Some(match slug {
        "nbg1" | "fsn1" | "hel1" => "eu-central",
        "ash" => "us-east",
        "hil" => "us-west",
        "sin" => "ap-southeast",
        _ => return None,
    })
}

const fn at(
    provider: ProviderName,
    slug: &'static str,
    city: &'static str,
    country: &'static str,
    latitude: f64,
    longitude: f64,
) -> Location {
    Location {
        provider,
        slug,
        city,
        country,
        at: Coordinates { latitude, longitude },
    }
}

use ProviderName::{Aws, Digitalocean as Ocean, Hetzner};

/// Cities, not buildings: providers do not publish more, and distances are judged in hundreds of kilometres.
const LOCATIONS: &[Location] = &[
    at(Ocean, "nyc1", "New York", "US", 40.71, -74.01),
    at(Ocean, "nyc2", "New York", "US", 40.71, -74.01),
    at(Ocean, "nyc3", "New York", "US", 40.71, -74.01),
    at(Ocean, "sfo2", "San Francisco", "US", 37.77, -122.42),
    at(Ocean, "sfo3", "San Francisco", "US", 37.77, -122.42),
    at(Ocean, "atl1", "Atlanta", "US", 33.75, -84.39),
    at(Ocean, "tor1", "Toronto", "CA", 43.65, -79.38),
    at(Ocean, "ams3", "Amsterdam", "NL", 52.37, 4.90),
    at(Ocean, "fra1", "Frankfurt", "DE", 50.11, 8.68),
    at(Ocean, "lon1", "London", "GB", 51.51, -0.13),
    at(Ocean, "blr1", "Bangalore", "IN", 12.97, 77.59),
    at(Ocean, "sgp1", "Singapore", "SG", 1.35, 103.82),
    at(Ocean, "syd1", "Sydney", "AU", -33.87, 151.21),
    at(Hetzner, "nbg1", "Nuremberg", "DE", 49.45, 11.08),
    at(Hetzner, "fsn1", "Falkenstein", "DE", 50.48, 12.37),
    at(Hetzner, "hel1", "Helsinki", "FI", 60.17, 24.94),
    at(Hetzner, "ash", "Ashburn", "US", 39.04, -77.49),
    at(Hetzner, "hil", "Hillsboro", "US", 45.52, -122.99),
    at(Hetzner, "sin", "Singapore", "SG", 1.35, 103.82),
    at(Aws, "us-east-1", "Ashburn", "US", 39.04, -77.49),
    at(Aws, "us-east-2", "Columbus", "US", 39.96, -83.00),
    at(Aws, "us-west-1", "San Francisco", "US", 37.35, -121.96),
    at(Aws, "us-west-2", "Boardman", "US", 45.84, -119.70),
    at(Aws, "ca-central-1", "Montreal", "CA", 45.50, -73.57),
    at(Aws, "ca-west-1", "Calgary", "CA", 51.05, -114.07),
    at(Aws, "mx-central-1", "Queretaro", "MX", 20.59, -100.39),
    at(Aws, "sa-east-1", "Sao Paulo", "BR", -23.55, -46.63),
    at(Aws, "eu-central-1", "Frankfurt", "DE", 50.11, 8.68),
    at(Aws, "eu-central-2", "Zurich", "CH", 47.38, 8.54),
    at(Aws, "eu-west-1", "Dublin", "IE", 53.35, -6.26),
    at(Aws, "eu-west-2", "London", "GB", 51.51, -0.13),
    at(Aws, "eu-west-3", "Paris", "FR", 48.86, 2.35),
    at(Aws, "eu-north-1", "Stockholm", "SE", 59.33, 18.07),
    at(Aws, "eu-south-1", "Milan", "IT", 45.46, 9.19),
    at(Aws, "eu-south-2", "Zaragoza", "ES", 41.65, -0.88),
    at(Aws, "ap-east-1", "Hong Kong", "HK", 22.32, 114.17),
    at(Aws, "ap-east-2", "Taipei", "TW", 25.03, 121.57),
    at(Aws, "ap-northeast-1", "Tokyo", "JP", 35.68, 139.69),
    at(Aws, "ap-northeast-2", "Seoul", "KR", 37.57, 126.98),
    at(Aws, "ap-northeast-3", "Osaka", "JP", 34.69, 135.50),
    at(Aws, "ap-south-1", "Mumbai", "IN", 19.08, 72.88),
    at(Aws, "ap-south-2", "Hyderabad", "IN", 17.39, 78.49),
    at(Aws, "ap-southeast-1", "Singapore", "SG", 1.35, 103.82),
    at(Aws, "ap-southeast-2", "Sydney", "AU", -33.87, 151.21),
    at(Aws, "ap-southeast-3", "Jakarta", "ID", -6.21, 106.85),
    at(Aws, "ap-southeast-4", "Melbourne", "AU", -37.81, 144.96),
    at(Aws, "ap-southeast-5", "Kuala Lumpur", "MY", 3.13, 101.69),
    at(Aws, "ap-southeast-6", "Auckland", "NZ", -36.85, 174.76),
    at(Aws, "ap-southeast-7", "Bangkok", "TH", 13.76, 100.50),
    at(Aws, "me-central-1", "Dubai", "AE", 25.20, 55.27),
    at(Aws, "me-south-1", "Manama", "BH", 26.23, 50.59),
    at(Aws, "il-central-1", "Tel Aviv", "IL", 32.09, 34.78),
    at(Aws, "af-south-1", "Cape Town", "ZA", -33.92, 18.42),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_an_atlas() {
        let place = |provider, slug| location(provider, slug).expect("known").at;
        let (new_york, nuremberg) = (place(Ocean, "nyc3"), place(Hetzner, "nbg1"));
        let singapore = place(Aws, "ap-southeast-1");
        assert!((new_york.distance_km(nuremberg) - 6350.0).abs() < 60.0);
        assert!((new_york.distance_km(singapore) - 15_340.0).abs() < 60.0);
        assert_eq!(new_york.distance_km(new_york), 0.0);
        let (pole, other) = (
            Coordinates {
                latitude: 90.0,
                longitude: 0.0,
            },
            Coordinates {
                latitude: -90.0,
                longitude: 7.0,
            },
        );
        assert!((pole.distance_km(other) - 20_015.0).abs() < 1.0);
    }

    #[test]
    fn the_same_place_under_another_providers_name() {
        let sgp1 = anywhere("sgp1").expect("known");
        assert_eq!(same_place(Aws, sgp1.at).map(|it| it.slug), Some("ap-southeast-1"));
        assert_eq!(same_place(Hetzner, sgp1.at).map(|it| it.slug), Some("sin"));
        assert_eq!(same_place(Hetzner, anywhere("syd1").expect("known").at), None);
    }

    #[test]
    fn every_location_of_hetzner_is_in_a_zone() {
        assert!(locations(Hetzner).all(|it| hetzner_zone(it.slug).is_some()));
        assert!(
            locations(Aws)
                .chain(locations(Ocean))
                .all(|it| hetzner_zone(it.slug).is_none())
        );
    }

    #[test]
    fn slugs_are_unique_within_a_provider() {
        for it in LOCATIONS {
            assert_eq!(
                locations(it.provider).filter(|other| other.slug == it.slug).count(),
                1,
                "{}",
                it.slug
            );
        }
    }

    #[test]
    fn residency_knows_the_members() {
        let eu = ["EU".to_owned()];
        assert!(allows(&eu, "DE") && allows(&eu, "no") && !allows(&eu, "CH") && !allows(&eu, "GB"));
        assert!(allows(&[], "SG") && allows(&["sg".to_owned()], "SG"));
    }
}
