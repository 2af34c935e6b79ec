//! Where whoever asks is, as a geolocation record says it.
//!
//! Continents are written as words: their codes are those of countries as well (`AS` is Asia and American Samoa).
//! Source: <https://docs.aws.amazon.com/Route53/latest/APIReference/API_GeoLocation.html>.

use std::fmt;

/// `default`, `europe`, `IE`, `US-VA`
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// Everywhere that no other record is about.
    Default,
    Continent(Continent),
    /// ISO 3166 alpha-2, in capitals.
    Country(String),
    /// A state of the United States, or an oblast of Ukraine: Route 53 knows no others.
    Part(String, String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Continent {
    Africa,
    Antarctica,
    Asia,
    Europe,
    NorthAmerica,
    Oceania,
    SouthAmerica,
}

impl Continent {
    pub const ALL: [Self; 7] = [
        Self::Africa,
        Self::Antarctica,
        Self::Asia,
        Self::Europe,
        Self::NorthAmerica,
        Self::Oceania,
        Self::SouthAmerica,
    ];

    pub const fn word(self) -> &'static str {
        match self {
            Self::Africa => "africa",
            Self::Antarctica => "antarctica",
            Self::Asia => "asia",
            Self::Europe => "europe",
            Self::NorthAmerica => "north-america",
            Self::Oceania => "oceania",
            Self::SouthAmerica => "south-america",
        }
    }

    /// As Route 53 writes it.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Africa => "AF",
            Self::Antarctica => "AN",
            Self::Asia => "AS",
            Self::Europe => "EU",
            Self::NorthAmerica => "NA",
            Self::Oceania => "OC",
            Self::SouthAmerica => "SA",
        }
    }

    pub fn of_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.code() == code)
    }

    /// The continent of a country in which a provider has a location; none of other countries.
    pub fn of_country(country: &str) -> Option<Self> {
        Some(match country {
            "US" | "CA" | "MX" => Self::NorthAmerica,
            "BR" => Self::SouthAmerica,
            "AT" | "BE" | "CH" | "CZ" | "DE" | "DK" | "ES" | "FI" | "FR" | "GB" | "IE" | "IT" | "NL" | "NO" | "PL"
            | "PT" | "SE" => Self::Europe,
            "AE" | "BH" | "HK" | "ID" | "IL" | "IN" | "JP" | "KR" | "MY" | "SG" | "TH" | "TW" => Self::Asia,
            "AU" | "NZ" => Self::Oceania,
            "ZA" => Self::Africa,
            _ => return None,
        })
    }
}

impl Place {
    /// As it is written in `workspace.ncl`; none when it names no place. `default` is declared elsewhere.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(continent) = Continent::ALL.into_iter().find(|it| it.word() == text) {
            return Some(Self::Continent(continent));
        }
        let capitals = |text: &str, longest: usize| {
            (1..=longest).contains(&text.len()) && text.bytes().all(|it| it.is_ascii_uppercase() || it.is_ascii_digit())
        };
        match text.split_once('-') {
            None if text.len() == 2 && capitals(text, 2) => Some(Self::Country(text.to_owned())),
            Some((country @ ("US" | "UA"), part)) if capitals(part, 3) => {
                Some(Self::Part(country.to_owned(), part.to_owned()))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Continent(continent) => f.write_str(continent.word()),
            Self::Country(country) => f.write_str(country),
            Self::Part(country, part) => write!(f, "{country}-{part}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{geo, names::ProviderName};

    #[test]
    fn what_is_written_is_read_again_and_other_words_are_no_places() {
        for text in ["europe", "south-america", "IE", "US-VA", "UA-30"] {
            assert_eq!(Place::parse(text).map(|it| it.to_string()).as_deref(), Some(text));
        }
        for text in ["EUROPE", "ie", "IRL", "DE-BY", "US-", "US-virginia", "", "default"] {
            assert_eq!(Place::parse(text), None, "{text}");
        }
    }

    #[test]
    fn every_location_of_every_provider_is_on_a_continent() {
        for provider in [ProviderName::Digitalocean, ProviderName::Hetzner, ProviderName::Aws] {
            for location in geo::locations(provider) {
                assert!(
                    Continent::of_country(location.country).is_some(),
                    "{}",
                    location.country
                );
            }
        }
    }
}
