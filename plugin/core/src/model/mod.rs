//! A workspace as it was written: typed, complete, and with nothing observed in it.

mod failover;
mod time;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use failover::FailoverPolicy;
pub use time::{CLOCK_DRIFT, REPLICATION_TIMEOUT, Timing, TimingProfile};

use crate::{
    geo::Coordinates,
    names::{ProviderName, RegionName, WorkspaceName},
};

/// `workspace.ncl` after evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Workspace {
    pub name: WorkspaceName,
    pub objectives: Objectives,
    /// Whose constants `timing` begins with; what is overridden is in `timing` alone.
    pub profile: TimingProfile,
    pub timing: Timing,
    pub sync_mode: SyncMode,
    pub failover: FailoverPolicy,
    pub dns: Option<Dns>,
    /// In the order primary, secondary, tertiary, witness; by name within a role.
    pub regions: Vec<Region>,
}

impl Workspace {
    pub fn region(&self, name: &str) -> Option<&Region> {
        self.regions.iter().find(|region| region.name == name)
    }

    /// The declared primary; none when the workspace is wrong (`ha check` says so).
    pub fn primary(&self) -> Option<&Region> {
        self.regions.iter().find(|region| region.role == Role::Primary)
    }
}

/// As declared. Which database is primary now is observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Primary,
    Secondary,
    Tertiary,
    /// Votes and a store member, no data.
    Witness,
}

impl Role {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Secondary => "secondary",
            Self::Tertiary => "tertiary",
            Self::Witness => "witness",
        }
    }

    /// Of its regions, where they do not say one of their own.
    pub const fn failover_priority(self) -> u32 {
        match self {
            Self::Primary => 0,
            Self::Secondary => 10,
            Self::Tertiary | Self::Witness => 20,
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        [Self::Primary, Self::Secondary, Self::Tertiary, Self::Witness]
            .into_iter()
            .find(|role| role.as_str() == text)
    }
}

/// What a commit waits for, and so what a failover can lose (protocol §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SyncMode {
    Strict,
    Degrade,
    Async,
}

impl SyncMode {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Degrade => "degrade",
            Self::Async => "async",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Strict, Self::Degrade, Self::Async]
            .into_iter()
            .find(|it| it.as_str().eq_ignore_ascii_case(text))
    }
}

/// Seconds as written; `0` is never "unlimited".
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Objectives {
    pub rto_seconds: u64,
    pub rpo_seconds: u64,
    pub lag_warn_seconds: u64,
    pub lag_expected_seconds: u64,
    pub lag_critical_seconds: u64,
    pub min_distance_km: f64,
    pub max_latency_ms: f64,
    pub monthly_budget_usd: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Region {
    pub name: RegionName,
    /// The field in `workspace.ncl`: `region_us_east`.
    pub field: String,
    pub role: Role,
    pub provider: ProviderName,
    /// The provider's slug: nyc3.
    pub location: String,
    /// Declared, or known from the slug.
    pub coordinates: Option<Coordinates>,
    /// ISO 3166 alpha-2, declared or known from the slug.
    pub country: Option<String>,
    /// Places the data may be in: "EU" or country codes; empty is no rule.
    pub residency: Vec<String>,
    /// Of copies that are equally far, the one with the lower number is made primary.
    pub failover_priority: u32,
    /// Otherwise the region holds copies and votes, and is never made primary.
    pub can_lead: bool,
    pub networks: Vec<Network>,
    pub servers: Vec<ServerGroup>,
    pub load_balancers: Vec<LoadBalancer>,
    pub databases: Vec<Database>,
    pub stores: Vec<Store>,
    /// Declared kinds without local meaning (firewalls, volumes), carried for the clouds.
    pub others: Vec<Other>,
}

/// What every declared resource has in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Declared {
    pub name: String,
    /// `digitalocean.Droplet`
    pub kind: String,
    /// `region_us_east.app_servers`
    pub path: String,
    pub protect: bool,
    pub labels: BTreeMap<String, String>,
    /// Every field as written, in the provider's own words.
    pub fields: Map<String, Value>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Network {
    #[serde(flatten)]
    pub declared: Declared,
    /// `10.0.0.0/16`
    pub ip_range: String,
}

/// `count` servers alike, named `<name>-1` … `<name>-<count>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerGroup {
    #[serde(flatten)]
    pub declared: Declared,
    pub count: u32,
    /// The provider's size or type slug.
    pub size: String,
    pub image: String,
    /// The provider's location slug.
    pub location: String,
}

impl ServerGroup {
    pub fn server_names(&self) -> impl Iterator<Item = String> {
        let name = self.declared.name.clone();
        (1..=self.count).map(move |index| format!("{name}-{index}"))
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadBalancer {
    #[serde(flatten)]
    pub declared: Declared,
    /// The group it spreads over.
    pub targets: Option<String>,
    pub location: String,
    pub algorithm: String,
    pub rules: Vec<ForwardingRule>,
    pub health_check: HealthCheck,
    pub redirect_http_to_https: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardingRule {
    pub entry_protocol: String,
    pub entry_port: u16,
    pub target_protocol: String,
    pub target_port: u16,
    pub certificate_id: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// `http`, `https` or `tcp`.
    #[serde(default = "http", skip_serializing_if = "is_http")]
    pub protocol: String,
    /// The port that is asked; without one, each rule's own target port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Asked for by `http` and `https`; `tcp` connects and no more.
    #[serde(default = "health")]
    pub path: String,
    pub interval_seconds: u64,
    pub timeout_seconds: u64,
    pub fall: u32,
    pub rise: u32,
}

fn http() -> String {
    "http".to_owned()
}

fn is_http(protocol: &str) -> bool {
    protocol == "http"
}

fn health() -> String {
    "/health".to_owned()
}

/// A database node the workspace runs itself (`ha.Postgres`), or a managed one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Database {
    #[serde(flatten)]
    pub declared: Declared,
    pub managed: bool,
    /// `postgres`, `mysql`, `valkey`
    pub engine: String,
    pub version: String,
    /// The group whose servers hold it; self-run only.
    pub runs_on: Option<String>,
    /// The database it copies, by name; self-run ones follow whoever is primary.
    pub replicate_from: Option<String>,
    /// PostgreSQL settings as written.
    pub settings: BTreeMap<String, String>,
    pub location: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Store {
    #[serde(flatten)]
    pub declared: Declared,
    pub runs_on: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Other {
    #[serde(flatten)]
    pub declared: Declared,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dns {
    /// `aws.Route53`
    pub kind: String,
    /// `dns`
    pub path: String,
    pub domain: String,
    /// The hosted zone that holds the names; none is one of the domain's own.
    pub zone: Option<String>,
    pub ttl_seconds: u64,
    /// simple, failover, latency, geolocation, weighted
    pub routing: String,
    /// The region that answers where no other rule does.
    pub default_region: Option<String>,
    /// Whom a region answers, by its name: `europe`, `IE`, `US-VA`.
    pub locations: BTreeMap<String, Vec<String>>,
    /// What a region is called below the domain, by its name: `us`.
    pub names: BTreeMap<String, String>,
    /// How much a region gets, by its name; 1 where it is not said.
    pub weights: BTreeMap<String, u64>,
    /// Regions are asked whether they are well; otherwise they are answered though they are not.
    pub probes: bool,
    /// HTTP, HTTPS, TCP
    pub probe_protocol: String,
    pub probe_port: u16,
    pub probe_path: String,
    pub probe_interval_seconds: u64,
    pub probe_failures: u32,
}
