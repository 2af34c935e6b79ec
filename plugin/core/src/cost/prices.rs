//! Where a price comes from: the operator's word, then the provider's, then the file that is part of the program.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::{Component, Money};
use crate::{config::Config, names::ProviderName};

/// AWS counts a year's hours over twelve months, and bills by the hour what it calls monthly.
/// Source: <https://aws.amazon.com/calculator/calculator-assumptions>, "Time period".
pub const HOURS_A_MONTH: f64 = 730.0;

/// The source of a price that the operator wrote down.
pub const CONFIG: &str = "config.toml";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Currency {
    Usd,
    Eur,
}

impl Currency {
    /// ISO 4217.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Usd => "USD",
            Self::Eur => "EUR",
        }
    }
}

/// How long a price is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Per {
    Hour,
    /// Whole, whatever its number of hours.
    Month,
}

impl Per {
    fn a_month(self, amount: f64) -> f64 {
        match self {
            Self::Hour => amount * HOURS_A_MONTH,
            Self::Month => amount,
        }
    }
}

/// One price from a provider's own catalogue.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    pub provider: ProviderName,
    pub component: Component,
    /// As in the column `type` of `ha cost`: `cpx21`, `lb11`, `ipv4`, `volume-gb`.
    pub r#type: String,
    /// The one place it is for, as the provider calls it; none when it is the same everywhere.
    pub location: Option<String>,
    /// For one, without tax.
    pub amount: f64,
    pub per: Per,
    pub currency: Currency,
    /// When it was told.
    pub on: Date,
}

/// Who said what something costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The operator, in `config.toml`.
    Written,
    /// The provider, when it was asked.
    Told,
    /// The dated file that is part of the program.
    File,
}

impl Origin {
    /// As in the column `origin`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Told => "told",
            Self::File => "file",
        }
    }
}

/// What one of something costs for a month.
#[derive(Clone, Debug, PartialEq)]
pub struct Price {
    /// In `currency`.
    pub amount: f64,
    /// In which the provider bills.
    pub currency: Currency,
    /// None of what the operator wrote.
    pub as_of: Option<Date>,
    pub origin: Origin,
    /// [`CONFIG`], the provider's name where it told it, or a link.
    pub source: String,
}

impl Price {
    /// Of so many.
    pub(super) fn of(&self, count: f64, rate: &Rate) -> Money {
        let amount = self.amount * count;
        match self.currency {
            Currency::Usd => Money {
                usd: amount,
                eur: amount / rate.usd_per_eur,
            },
            Currency::Eur => Money {
                usd: amount * rate.usd_per_eur,
                eur: amount,
            },
        }
    }
}

/// Why something has no price. Never a reason to take another one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPrice {
    #[error(
        "no price of {what}{} at {provider} is known; below [prices.{provider}] of config.toml write it in dollars a \
         month: \"{what}\" = …",
        there(location)
    )]
    Unknown {
        provider: ProviderName,
        what: String,
        /// Where it has a price elsewhere.
        location: Option<String>,
    },
    #[error("{provider} sells no {what} in {location}")]
    NotSold {
        provider: ProviderName,
        what: String,
        location: String,
    },
    #[error("the price file of this version cannot be read: {0}")]
    File(String),
}

fn there(location: &Option<String>) -> String {
    location.as_ref().map_or_else(String::new, |it| format!(" in {it}"))
}

/// Dollars for one euro.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    pub usd_per_eur: f64,
    pub as_of: Date,
    pub source: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Book {
    rate: Rate,
    list: Vec<List>,
}

/// Prices with everything but the amount in common.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct List {
    pub(super) provider: ProviderName,
    pub(super) component: Component,
    /// Everywhere when empty.
    #[serde(default)]
    pub(super) locations: Vec<String>,
    pub(super) currency: Currency,
    pub(super) per: Per,
    pub(super) as_of: Date,
    pub(super) source: String,
    #[cfg_attr(not(test), expect(dead_code, reason = "for whoever looks a price up again"))]
    pub(super) seen: Option<String>,
    pub(super) prices: BTreeMap<String, f64>,
}

static BOOK: LazyLock<Result<Book, String>> =
    LazyLock::new(|| toml::from_str(include_str!("prices.toml")).map_err(|error| error.to_string()));

fn book() -> Result<&'static Book, NoPrice> {
    BOOK.as_ref().map_err(|error| NoPrice::File(error.clone()))
}

#[cfg(test)]
pub(super) fn lists() -> &'static [List] {
    &book().expect("the file can be read").list
}

/// The rate of the price file.
///
/// # Errors
/// The file is part of the program and a test reads it; still, what cannot be read is said.
pub fn rate() -> Result<&'static Rate, NoPrice> {
    book().map(|it| &it.rate)
}

/// All prices that count for one call.
#[derive(Clone, Debug, Default)]
pub struct Prices {
    /// Dollars a month.
    written: BTreeMap<ProviderName, BTreeMap<String, f64>>,
    told: BTreeMap<(ProviderName, String), Vec<Told>>,
}

impl Prices {
    /// `told` may be empty: then the file's prices count wherever the operator wrote none.
    pub fn new(config: &Config, told: impl IntoIterator<Item = Told>) -> Self {
        let mut by_type: BTreeMap<(ProviderName, String), Vec<Told>> = BTreeMap::new();
        for it in told {
            by_type.entry((it.provider, it.r#type.clone())).or_default().push(it);
        }
        Self {
            written: config.prices.clone(),
            told: by_type,
        }
    }

    /// What one of `type` costs in `location`.
    ///
    /// # Errors
    /// It is not sold there, as the provider says, or nobody told a price. A price of another place is never taken.
    pub fn find(&self, provider: ProviderName, r#type: &str, location: &str) -> Result<Price, NoPrice> {
        if let Some(amount) = self.written.get(&provider).and_then(|it| it.get(r#type)) {
            return Ok(Price {
                amount: *amount,
                currency: Currency::Usd,
                as_of: None,
                origin: Origin::Written,
                source: CONFIG.to_owned(),
            });
        }
        if let Some(told) = self.told.get(&(provider, r#type.to_owned())) {
            let here = told
                .iter()
                .find(|it| it.location.as_deref().is_none_or(|it| it == location));
            let here = here.ok_or_else(|| NoPrice::NotSold {
                provider,
                what: r#type.to_owned(),
                location: location.to_owned(),
            })?;
            return Ok(Price {
                amount: here.per.a_month(here.amount),
                currency: here.currency,
                as_of: Some(here.on),
                origin: Origin::Told,
                source: provider.to_string(),
            });
        }
        let lists = book()?.list.iter().filter(|it| it.provider == provider);
        let mut sold = lists
            .filter_map(|list| Some((list, list.prices.get(r#type)?)))
            .peekable();
        let elsewhere = sold.peek().is_some();
        let is_here = |list: &List| list.locations.is_empty() || list.locations.iter().any(|it| it == location);
        let Some((list, amount)) = sold.find(|(list, _)| is_here(list)) else {
            return Err(NoPrice::Unknown {
                provider,
                what: r#type.to_owned(),
                location: elsewhere.then(|| location.to_owned()),
            });
        };
        Ok(Price {
            amount: list.per.a_month(*amount),
            currency: list.currency,
            as_of: Some(list.as_of),
            origin: Origin::File,
            source: list.source.clone(),
        })
    }

    /// Every type that has a price somewhere at this provider: for "did you mean". What is written in `config.toml` may
    /// be of any component.
    ///
    /// # Errors
    /// As [`rate`].
    pub fn known(&self, provider: ProviderName, component: Component) -> Result<BTreeSet<&str>, NoPrice> {
        let lists = book()?.list.iter();
        let lists = lists.filter(|it| it.provider == provider && it.component == component);
        let told = self.told.iter().filter(|((name, _), _)| *name == provider);
        let told = told.filter(|(_, told)| told.iter().any(|it| it.component == component));
        let written = self.written.get(&provider).into_iter().flat_map(BTreeMap::keys);
        Ok(lists
            .flat_map(|it| it.prices.keys())
            .chain(told.map(|((_, name), _)| name))
            .chain(written)
            .map(String::as_str)
            .collect())
    }
}
