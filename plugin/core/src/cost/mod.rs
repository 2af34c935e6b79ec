//! What a workspace costs a month, in dollars and in euros, line by line of the bill.
//!
//! Counted is what stands there for a whole month. Not counted is what comes with use: traffic, requests (the capacity
//! units of an AWS balancer), snapshots and backups; nor the boot disk of an AWS server, whose size its image decides.
//! No tax.
//!
//! A price is the operator's (`[prices.<provider>]` of `config.toml`), else the provider's own ([`Told`]), else that of
//! the dated file beside this module. Where there is none, the cost is none and a reason is given: a sum with a hole in
//! it is never shown as a sum.

mod billed;
mod prices;
#[cfg(test)]
mod tests;
mod what_if;

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use serde::{Deserialize, Serialize};

pub use prices::{CONFIG, Currency, HOURS_A_MONTH, NoPrice, Origin, Per, Price, Prices, Rate, Told, rate};
pub use what_if::{Change, Wrong};

use crate::{
    model::{Declared, Region, Role, Workspace},
    names::{ProviderName, RegionName},
    resource::{Kind, Live, Resource, ResourceId},
};
use billed::Line;

/// A price of more days than these is said to be old.
pub const OLD_DAYS: i32 = 180;

/// What a line of a bill is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Component {
    Server,
    /// A public IPv4 address, where it is billed by itself.
    Address,
    LoadBalancer,
    Volume,
    /// A managed one; one that the workspace runs itself is part of its servers.
    Database,
    /// Of a managed database, where it is billed by itself.
    Storage,
    DnsZone,
    /// A probe that the DNS provider sends.
    HealthCheck,
}

impl Component {
    /// As in the column `component`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Address => "address",
            Self::LoadBalancer => "load_balancer",
            Self::Volume => "volume",
            Self::Database => "database",
            Self::Storage => "storage",
            Self::DnsZone => "dns_zone",
            Self::HealthCheck => "health_check",
        }
    }
}

/// The same amount twice.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Money {
    pub usd: f64,
    pub eur: f64,
}

impl Money {
    /// As a bill has it; what is added up is what is shown.
    fn to_the_cent(self) -> Self {
        Self {
            usd: round(self.usd, 100.0),
            eur: round(self.eur, 100.0),
        }
    }
}

fn round(amount: f64, parts: f64) -> f64 {
    (amount * parts).round() / parts
}

/// One line of the bill of a month.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// None of what stands in front of all regions.
    pub region: Option<RegionName>,
    pub component: Component,
    /// The group, or the thing itself, as declared.
    pub name: String,
    pub provider: ProviderName,
    /// The provider's own word where it has one: `t3.medium`, `lb11`; else what is counted: `volume-gb`, `lb-node`.
    pub r#type: String,
    /// Servers, addresses, nodes, gigabytes.
    pub count: u64,
    /// Of one for a month, in dollars to a hundredth of a cent.
    pub unit: Option<f64>,
    /// Of all of them, to the cent.
    pub monthly: Option<Money>,
    /// Whose price it is, and how old; or why there is none.
    pub price: Result<Price, NoPrice>,
    /// The price, or the rate between the currencies, is older than [`OLD_DAYS`].
    pub stale: bool,
}

/// Everything that the workspace declares, region after region with the primary first, then what stands in front of
/// them. `now` decides only what is said to be old.
///
/// # Errors
/// As [`rate`]: without a rate there are no two currencies.
pub fn rows(workspace: &Workspace, prices: &Prices, now: Timestamp) -> Result<Vec<Row>, NoPrice> {
    let bill = Bill {
        prices,
        rate: rate()?,
        today: TimeZone::UTC.to_datetime(now).date(),
    };
    let mut out = Vec::new();
    for region in &workspace.regions {
        bill.region(region, &mut out);
    }
    bill.dns(workspace, &mut out);
    Ok(out)
}

/// What a sum of rows is, and how many of them had no price.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Total {
    pub money: Money,
    pub unpriced: usize,
}

/// The rows added up.
pub fn total(rows: &[Row]) -> Total {
    let priced = rows.iter().filter_map(|it| it.monthly);
    let money = priced.fold(Money::default(), |sum, it| Money {
        usd: sum.usd + it.usd,
        eur: sum.eur + it.eur,
    });
    Total {
        money: money.to_the_cent(),
        unpriced: rows.iter().filter(|it| it.monthly.is_none()).count(),
    }
}

/// What one wanted resource costs a month, in dollars. None when a part of it has no known price; zero for what is part
/// of a server, and for what no provider bills.
pub fn of_resource(workspace: &Workspace, resource: &Resource, prices: &Prices) -> Option<f64> {
    let size = resource.spec.get("size").and_then(|it| it.as_str());
    let fields = balancer(workspace, &resource.id).or_else(|| resource.spec.as_object());
    let lines = billed::lines(resource.id.kind, resource.provider, size, fields)?;
    let location = place(workspace, &resource.id, &resource.spec);
    sum(&lines, resource.provider, &location?, prices)
}

/// The same of one that exists: by the size that it has now.
pub fn of_live(workspace: &Workspace, live: &Live, prices: &Prices) -> Option<f64> {
    let size = live.size.as_deref();
    let size = size.or_else(|| live.spec.get("size").and_then(|it| it.as_str()));
    let lines = match (live.id.kind, balancer(workspace, &live.id)) {
        (Kind::LoadBalancer, declared) => {
            let now = billed::load_balancer_of(live.provider, size);
            now.or_else(|| Some(billed::load_balancer(live.provider, declared?)))?
        }
        (kind, _) => billed::lines(kind, live.provider, size, live.spec.as_object())?,
    };
    let location = place(workspace, &live.id, &live.spec);
    sum(&lines, live.provider, &location?, prices)
}

/// The same of a public address by itself; none where no price of one is known.
pub fn of_address(provider: ProviderName, location: Option<&str>, prices: &Prices) -> Option<f64> {
    let line = Line {
        component: Component::Address,
        r#type: "ipv4".to_owned(),
        units: 1,
    };
    sum(&[line], provider, location.unwrap_or_default(), prices)
}

/// Of a balancer the spec tells what it does, and the declaration what it is.
fn balancer<'a>(workspace: &'a Workspace, id: &ResourceId) -> Option<&'a serde_json::Map<String, serde_json::Value>> {
    if id.kind != Kind::LoadBalancer {
        return None;
    }
    let balancers = &workspace.region(id.region.as_str())?.load_balancers;
    let found = balancers.iter().find(|it| it.declared.name == id.name);
    found.map(|it| &it.declared.fields)
}

fn place(workspace: &Workspace, id: &ResourceId, spec: &serde_json::Value) -> Option<String> {
    let written = spec.get("location").or_else(|| spec.get("region"));
    let written = written.and_then(|it| it.as_str()).map(str::to_owned);
    written.or_else(|| Some(workspace.region(id.region.as_str())?.location.clone()))
}

fn sum(lines: &[Line], provider: ProviderName, location: &str, prices: &Prices) -> Option<f64> {
    let rate = rate().ok()?;
    let mut sum = 0.0;
    for line in lines.iter().filter(|it| it.units > 0) {
        let price = prices.find(provider, &line.r#type, location).ok()?;
        sum += price.of(line.units as f64, rate).usd;
    }
    Some(round(sum, 100.0))
}

struct Bill<'a> {
    prices: &'a Prices,
    rate: &'a Rate,
    today: Date,
}

impl Bill<'_> {
    fn region(&self, region: &Region, out: &mut Vec<Row>) {
        for group in &region.servers {
            let provider = seller(&group.declared, region.provider);
            let lines = billed::server(provider, &group.size);
            let at = (region, provider, group.location.as_str());
            self.add(at, &group.declared.name, u64::from(group.count), lines, out);
        }
        for balancer in &region.load_balancers {
            let provider = seller(&balancer.declared, region.provider);
            let lines = billed::load_balancer(provider, &balancer.declared.fields);
            let at = (region, provider, balancer.location.as_str());
            self.add(at, &balancer.declared.name, 1, lines, out);
        }
        for database in region.databases.iter().filter(|it| it.managed) {
            let provider = seller(&database.declared, region.provider);
            let lines = billed::managed_database(provider, &database.declared.fields);
            let at = (region, provider, database.location.as_str());
            self.add(at, &database.declared.name, 1, lines, out);
        }
        for other in region.others.iter().filter(|it| it.declared.kind.ends_with(".Volume")) {
            let fields = &other.declared.fields;
            let written = fields.get("location").or_else(|| fields.get("region"));
            let location = written.and_then(|it| it.as_str()).unwrap_or(&region.location);
            let at = (region, seller(&other.declared, region.provider), location);
            self.add(at, &other.declared.name, 1, billed::volume(fields), out);
        }
    }

    /// A zone, and a probe of every region that users may be sent to.
    fn dns(&self, workspace: &Workspace, out: &mut Vec<Row>) {
        let Some(dns) = &workspace.dns else { return };
        let provider = dns.kind.split('.').next().and_then(ProviderName::parse);
        let provider = provider.unwrap_or(ProviderName::Aws);
        let probed = workspace.regions.iter().filter(|it| it.role != Role::Witness).count() as u64;
        let lines = [
            (Component::DnsZone, "hosted-zone", 1),
            (Component::HealthCheck, "health-check", probed),
        ];
        for (component, word, count) in lines {
            // Names are sold everywhere for the same.
            out.push(self.row(None, component, &dns.domain, (provider, word, ""), count));
        }
    }

    fn add(
        &self,
        (region, provider, location): (&Region, ProviderName, &str),
        name: &str,
        things: u64,
        lines: Vec<Line>,
        out: &mut Vec<Row>,
    ) {
        out.extend(lines.into_iter().map(|line| {
            let sold = (provider, line.r#type.as_str(), location);
            self.row(Some(&region.name), line.component, name, sold, line.units * things)
        }));
    }

    fn row(
        &self,
        region: Option<&RegionName>,
        component: Component,
        name: &str,
        (provider, r#type, location): (ProviderName, &str, &str),
        count: u64,
    ) -> Row {
        let price = self.prices.find(provider, r#type, location);
        let of = |count: f64| price.as_ref().ok().map(|it| it.of(count, self.rate));
        let as_of = price.as_ref().ok().and_then(|it| it.as_of);
        Row {
            region: region.cloned(),
            component,
            name: name.to_owned(),
            provider,
            r#type: r#type.to_owned(),
            count,
            unit: of(1.0).map(|it| round(it.usd, 10_000.0)),
            monthly: of(count as f64).map(Money::to_the_cent),
            stale: price.is_ok() && (as_of.is_some_and(|it| self.is_old(it)) || self.is_old(self.rate.as_of)),
            price,
        }
    }

    fn is_old(&self, as_of: Date) -> bool {
        // A clock that was set back makes nothing older.
        as_of.until(self.today).is_ok_and(|age| age.get_days() > OLD_DAYS)
    }
}

/// The prefix of its kind, else the provider of its region.
fn seller(declared: &Declared, of_region: ProviderName) -> ProviderName {
    let prefix = declared.kind.split('.').next().unwrap_or_default();
    ProviderName::parse(prefix).unwrap_or(of_region)
}
