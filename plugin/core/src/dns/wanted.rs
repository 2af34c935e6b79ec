//! What the names should say, from what is declared and where the balancers are.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    check::CheckSpec,
    leads::Leads,
    place::{Continent, Place},
    record::{Policy, Record, Turn},
};
use crate::{
    config::Config,
    geo,
    model::{Dns, Region, Role, Workspace},
    names::ProviderName,
    resource::{Kind, Live},
};

/// Where users of one region are to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    At(Leads),
    /// There is no such place, and why.
    Nowhere(String),
    /// Its provider did not answer.
    Silent,
}

/// All names, before anybody looked at what is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub ws: String,
    /// The field in `workspace.ncl`.
    pub path: String,
    pub zone: String,
    pub domain: String,
    ttl: u64,
    /// A health check for each region that leads somewhere; without what it asks where that is not known.
    pub(super) checks: Vec<(String, Option<CheckSpec>)>,
    pub(super) drafts: Vec<Draft>,
    /// Each region that has a name, and where that leads.
    pub leads: BTreeMap<String, Told>,
    /// The region that a person chose for the domain.
    pub pointed: Option<String>,
    pub(super) absent: Vec<Absent>,
}

/// A region that leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Absent {
    region: String,
    /// What it would be called.
    pub(super) name: String,
    pub(super) why: String,
}

/// A record without the id of its health check, which may not be there yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Draft {
    pub(super) region: String,
    pub(super) name: String,
    pub(super) set: Option<String>,
    pub(super) policy: Policy,
    pub(super) ttl: u64,
    /// None where the provider did not say.
    pub(super) leads: Option<Leads>,
    /// Not answered when the health check of its region fails.
    pub(super) checked: bool,
}

/// Why the domain cannot be pointed at a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotThere {
    Unknown { known: Vec<String> },
    Nowhere(String),
    Silent,
}

impl Absent {
    /// The record is one that it would have.
    pub(super) fn has(&self, record: &Record) -> bool {
        let of_set = |set: &str| set.split(':').next() == Some(self.region.as_str());
        record.name == self.name || record.set.as_deref().is_some_and(of_set)
    }
}

impl Draft {
    /// None where nobody knows where it should lead.
    pub(super) fn record(&self, check: Option<String>) -> Option<Record> {
        let leads = self.leads.as_ref()?;
        Some(Record {
            name: self.name.clone(),
            kind: "A".to_owned(),
            set: self.set.clone(),
            policy: self.policy.clone(),
            ttl: matches!(leads, Leads::To(_)).then_some(self.ttl),
            target: leads.target(self.set.is_some()),
            check: check.filter(|_| self.checked),
        })
    }

    pub(super) fn key(&self) -> (&str, Option<&str>) {
        ("A", self.set.as_deref())
    }
}

/// Where the balancer of each region is, as its provider told; `silent` are those who told nothing.
pub fn addresses(workspace: &Workspace, live: &[Live], silent: &[ProviderName]) -> BTreeMap<String, Told> {
    let told = |region: &Region| {
        let balancer = &region.load_balancers.first()?.declared;
        let is_it =
            |it: &&Live| it.id.kind == Kind::LoadBalancer && it.id.name == balancer.name && it.id.region == region.name;
        let provider = balancer.kind.split('.').next().and_then(ProviderName::parse);
        Some(match live.iter().find(is_it).map(|it| it.address.as_deref()) {
            Some(Some(address)) => match Leads::parse(address) {
                Ok(leads) => Told::At(leads),
                Err(why) => Told::Nowhere(why),
            },
            Some(None) => Told::Nowhere(format!("{} has no address yet", balancer.name)),
            None if silent.contains(&provider.unwrap_or(region.provider)) => Told::Silent,
            None => Told::Nowhere(format!("{} does not exist", balancer.name)),
        })
    };
    let regions = taking_part(workspace).filter_map(|region| Some((region.name.to_string(), told(region)?)));
    regions.collect()
}

/// The regions that have a name: those with a balancer.
pub(super) fn taking_part(workspace: &Workspace) -> impl Iterator<Item = &Region> {
    let regions = workspace.regions.iter();
    regions.filter(|it| it.role != Role::Witness && !it.load_balancers.is_empty())
}

/// The regions that are to have a health check.
pub fn checked(workspace: &Workspace) -> Vec<String> {
    let probed = workspace.dns.as_ref().is_some_and(probes);
    let regions = taking_part(workspace).filter(|_| probed);
    regions.map(|it| it.name.to_string()).collect()
}

/// A single answer is given whatever a check says, so nothing is asked for it.
fn probes(dns: &Dns) -> bool {
    dns.probes && dns.routing != "simple"
}

/// The domain, from `config.toml` where it says one.
pub fn domain(dns: &Dns, config: &Config) -> String {
    super::plain(config.dns_domain.as_deref().unwrap_or(&dns.domain))
}

/// The zone that holds the names: as declared, else of the domain itself.
pub fn zone(dns: &Dns, config: &Config) -> String {
    dns.zone.as_deref().map_or_else(|| domain(dns, config), super::plain)
}

/// The names of the regions below the domain: as declared, else the first part of the region's name where no other
/// region has it, else all of it.
pub(super) fn labels(workspace: &Workspace, dns: &Dns) -> BTreeMap<String, String> {
    let first = |name: &str| name.split('-').next().unwrap_or(name).to_owned();
    let names: Vec<&str> = taking_part(workspace).map(|it| it.name.as_str()).collect();
    let label = |name: &str| match dns.names.get(name) {
        Some(label) => label.clone(),
        None if names.iter().filter(|it| first(it) == first(name)).count() > 1 => name.to_owned(),
        None => first(name),
    };
    names.iter().map(|name| ((*name).to_owned(), label(name))).collect()
}

/// Whom each region answers, besides the rest of the world: as declared, else its continent where it is the first
/// region there, else its country where it is the first in that.
pub(super) fn places(workspace: &Workspace, dns: &Dns) -> BTreeMap<String, Vec<Place>> {
    let mut taken: BTreeSet<Place> = dns
        .locations
        .values()
        .flatten()
        .filter_map(|it| Place::parse(it))
        .collect();
    let mut out = BTreeMap::new();
    for region in taking_part(workspace) {
        let declared = dns.locations.get(region.name.as_str());
        let places = match declared {
            Some(words) => words.iter().filter_map(|it| Place::parse(it)).collect(),
            None => {
                let country = region.country.as_ref().map(|it| it.to_ascii_uppercase());
                let continent = country.as_deref().and_then(Continent::of_country).map(Place::Continent);
                let free = [continent, country.map(Place::Country)].into_iter().flatten();
                let place = free.into_iter().find(|place| !taken.contains(place));
                taken.extend(place.clone());
                place.into_iter().collect()
            }
        };
        out.insert(region.name.to_string(), places);
    }
    out
}

/// The location of AWS that a region answers for when the quickest is to answer.
fn nearest_aws(region: &Region) -> Option<&'static str> {
    let at = region.coordinates?;
    let near = geo::locations(ProviderName::Aws).min_by(|a, b| at.distance_km(a.at).total_cmp(&at.distance_km(b.at)));
    near.map(|it| it.slug)
}

/// What is wanted; none when no names are declared. What is wrong with it says [`super::findings`].
pub fn wanted(workspace: &Workspace, config: &Config, leads: &BTreeMap<String, Told>) -> Option<Wanted> {
    let dns = workspace.dns.as_ref()?;
    let (domain, zone) = (domain(dns, config), zone(dns, config));
    let regions: Vec<&Region> = taking_part(workspace).collect();
    let labels = labels(workspace, dns);
    let told = |region: &Region| leads.get(region.name.as_str());
    let leading = |region: &Region| !matches!(told(region), None | Some(Told::Nowhere(_)));
    let draft = |region: &Region, set: Option<String>, policy: Policy| Draft {
        region: region.name.to_string(),
        name: domain.clone(),
        checked: set.is_some() && dns.probes,
        set,
        policy,
        ttl: dns.ttl_seconds,
        leads: match told(region) {
            Some(Told::At(leads)) => Some(leads.clone()),
            _ => None,
        },
    };
    let (mut drafts, mut absent) = (Vec::new(), Vec::new());
    for region in &regions {
        let label = labels
            .get(region.name.as_str())
            .map_or(region.name.as_str(), String::as_str);
        let name = format!("{label}.{domain}");
        match told(region) {
            Some(Told::Nowhere(why)) => absent.push(Absent {
                region: region.name.to_string(),
                name,
                why: why.clone(),
            }),
            None => {}
            Some(_) => drafts.push(Draft {
                name,
                ..draft(region, None, Policy::Simple)
            }),
        }
    }

    // Whoever is first of those that lead somewhere answers where only one can.
    let first_choice = dns.default_region.as_deref();
    let mut order = regions.clone();
    order.sort_by_key(|it| (Some(it.name.as_str()) != first_choice, it.failover_priority));
    order.retain(|it| leading(it));
    let name = |region: &Region| region.name.to_string();
    match dns.routing.as_str() {
        "simple" => drafts.extend(order.first().map(|region| draft(region, None, Policy::Simple))),
        "failover" => {
            for (region, turn) in order.iter().zip([Turn::Primary, Turn::Secondary]) {
                drafts.push(draft(region, Some(name(region)), Policy::Failover(turn)));
            }
        }
        "weighted" => {
            for region in regions.iter().filter(|it| leading(it)) {
                let weight = dns.weights.get(region.name.as_str()).copied().unwrap_or(1);
                drafts.push(draft(region, Some(name(region)), Policy::Weighted(weight)));
            }
        }
        "latency" => {
            for region in regions.iter().filter(|it| leading(it)) {
                let near = nearest_aws(region).map(|near| Policy::Latency(near.to_owned()));
                drafts.extend(near.map(|policy| draft(region, Some(name(region)), policy)));
            }
        }
        _ => {
            let places = places(workspace, dns);
            let mut place = |region: &Region, place: Place| {
                let set = format!("{}:{place}", region.name);
                drafts.push(draft(region, Some(set), Policy::Geolocation(place)));
            };
            for region in regions.iter().filter(|it| leading(it)) {
                let of_region = places.get(region.name.as_str()).cloned().unwrap_or_default();
                of_region.into_iter().for_each(|it| place(region, it));
            }
            if first_choice.is_some()
                && let Some(region) = order.first()
            {
                place(region, Place::Default);
            }
        }
    }

    let checks = regions.iter().filter(|it| probes(dns) && leading(it));
    let checks = checks.map(|region| {
        let spec = match told(region) {
            Some(Told::At(leads)) => Some(CheckSpec::of(dns, &domain, leads)),
            _ => None,
        };
        (name(region), spec)
    });
    Some(Wanted {
        ws: workspace.name.to_string(),
        path: dns.path.clone(),
        checks: checks.collect(),
        zone,
        ttl: dns.ttl_seconds,
        drafts,
        leads: leads.clone(),
        pointed: None,
        absent,
        domain,
    })
}

impl Wanted {
    /// The same with the domain at one region, whatever is declared.
    pub fn point_at(mut self, region: &str) -> Result<Self, NotThere> {
        let leads = match self.leads.get(region) {
            None => {
                let known = self.leads.keys().cloned().collect();
                return Err(NotThere::Unknown { known });
            }
            Some(Told::Nowhere(why)) => return Err(NotThere::Nowhere(why.clone())),
            Some(Told::Silent) => return Err(NotThere::Silent),
            Some(Told::At(leads)) => leads.clone(),
        };
        self.point(region, Some(leads));
        Ok(self)
    }

    /// The same with the domain where a person pointed it before. A region that is gone, or leads nowhere, is not
    /// followed: its address may be somebody else's by now.
    #[must_use]
    pub fn following(mut self, pointed: Option<String>) -> Self {
        let Some(region) = pointed else { return self };
        match self.leads.get(&region) {
            Some(Told::At(leads)) => {
                let leads = leads.clone();
                self.point(&region, Some(leads));
            }
            Some(Told::Silent) => self.point(&region, None),
            Some(Told::Nowhere(_)) | None => {}
        }
        self
    }

    fn point(&mut self, region: &str, leads: Option<Leads>) {
        self.drafts.retain(|it| it.name != self.domain);
        self.drafts.push(Draft {
            region: region.to_owned(),
            name: self.domain.clone(),
            set: None,
            policy: Policy::Simple,
            ttl: self.ttl,
            leads,
            checked: false,
        });
        self.pointed = Some(region.to_owned());
    }
}
