//! What DigitalOcean answers, as far as it is used here. <https://docs.digitalocean.com/reference/api/reference/>
//!
//! Passwords that come with a database are not read: what is not in memory is not in a message.

use std::net::Ipv4Addr;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};

/// What has an id and a list of its own.
pub(super) trait Thing: serde::de::DeserializeOwned + Send {
    /// `droplets`: the path, and the field of the answer.
    const LIST: &'static str;
    /// `droplet`: the field of an answer about one.
    const ONE: &'static str;
}

macro_rules! thing {
    ($type:ident, $list:literal, $one:literal) => {
        impl Thing for $type {
            const LIST: &'static str = $list;
            const ONE: &'static str = $one;
        }
    };
}

thing!(Vpc, "vpcs", "vpc");
thing!(Droplet, "droplets", "droplet");
thing!(LoadBalancer, "load_balancers", "load_balancer");
thing!(Firewall, "firewalls", "firewall");
thing!(Volume, "volumes", "volume");
thing!(Database, "databases", "database");
thing!(Tag, "tags", "tag");
thing!(Size, "sizes", "size");
thing!(Region, "regions", "region");
thing!(Domain, "domains", "domain");

/// Lists are null where there is nothing in them.
fn or_empty<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Slug {
    pub(super) slug: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Vpc {
    pub(super) id: String,
    pub(super) name: String,
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) description: String,
    pub(super) region: String,
    pub(super) ip_range: String,
    /// The first network of a region; nobody can remove it.
    #[serde(default)]
    pub(super) default: bool,
    pub(super) created_at: Option<Timestamp>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Member {
    pub(super) urn: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Droplet {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) status: DropletStatus,
    /// An action is running on it.
    pub(super) locked: bool,
    pub(super) created_at: Option<Timestamp>,
    pub(super) image: Image,
    pub(super) size_slug: String,
    pub(super) region: Slug,
    pub(super) networks: Networks,
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) tags: Vec<String>,
    #[serde(default)]
    pub(super) vpc_uuid: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum DropletStatus {
    New,
    Active,
    Off,
    Archive,
    #[serde(other)]
    Unknown,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Image {
    pub(super) id: u64,
    /// A newer image of the same name takes it away.
    pub(super) slug: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Networks {
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) v4: Vec<Address>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Address {
    pub(super) ip_address: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct LoadBalancer {
    pub(super) id: String,
    pub(super) name: String,
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) ip: String,
    /// The API no longer lets choose.
    pub(super) algorithm: Option<String>,
    pub(super) status: String,
    pub(super) created_at: Option<Timestamp>,
    pub(super) forwarding_rules: Vec<ForwardingRule>,
    pub(super) health_check: Option<HealthCheck>,
    pub(super) sticky_sessions: Option<Sticky>,
    pub(super) region: Option<Slug>,
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) tag: String,
    /// The Droplets that it has now, by the tag or one by one.
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) droplet_ids: Vec<u64>,
    #[serde(default)]
    pub(super) redirect_http_to_https: bool,
    pub(super) vpc_uuid: Option<String>,
    pub(super) project_id: Option<String>,
    pub(super) size_unit: Option<u64>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct ForwardingRule {
    pub(super) entry_protocol: String,
    pub(super) entry_port: u16,
    pub(super) target_protocol: String,
    pub(super) target_port: u16,
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) certificate_id: String,
    #[serde(default)]
    pub(super) tls_passthrough: bool,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct HealthCheck {
    pub(super) protocol: String,
    pub(super) port: u16,
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) path: String,
    pub(super) check_interval_seconds: u64,
    pub(super) response_timeout_seconds: u64,
    pub(super) unhealthy_threshold: u32,
    pub(super) healthy_threshold: u32,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Sticky {
    #[serde(rename = "type")]
    pub(super) kind: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Firewall {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) status: String,
    pub(super) created_at: Option<Timestamp>,
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) tags: Vec<String>,
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) droplet_ids: Vec<u64>,
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) inbound_rules: Vec<InboundRule>,
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) outbound_rules: Vec<OutboundRule>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct InboundRule {
    pub(super) protocol: String,
    pub(super) ports: String,
    pub(super) sources: Ends,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct OutboundRule {
    pub(super) protocol: String,
    pub(super) ports: String,
    pub(super) destinations: Ends,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Ends {
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) addresses: Vec<String>,
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) tags: Vec<String>,
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) droplet_ids: Vec<u64>,
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) load_balancer_uids: Vec<String>,
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) kubernetes_ids: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Volume {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) size_gigabytes: u64,
    pub(super) created_at: Option<Timestamp>,
    pub(super) region: Slug,
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) droplet_ids: Vec<u64>,
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) tags: Vec<String>,
}

/// A managed database, or a read replica of one: a replica has no engine, version and number of nodes of its own.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Database {
    /// Old replicas come without.
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) id: String,
    pub(super) name: String,
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) engine: String,
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) version: String,
    #[serde(default)]
    pub(super) num_nodes: u64,
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) size: String,
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) region: String,
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) status: String,
    pub(super) created_at: Option<Timestamp>,
    pub(super) private_network_uuid: Option<String>,
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) tags: Vec<String>,
    pub(super) connection: Option<Connection>,
    pub(super) private_connection: Option<Connection>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Connection {
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) host: String,
}

/// One of the trusted sources of a database.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Rule {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) value: String,
}

/// A public address of a region.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ReservedIp {
    pub(super) ip: Ipv4Addr,
    pub(super) region: Slug,
    pub(super) droplet: Option<Numbered>,
    /// It is on its way to a Droplet, or from one.
    #[serde(default)]
    pub(super) locked: bool,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Domain {}

/// One value of a name.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct DomainRecord {
    pub(super) id: u64,
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// Relative to the domain; `@` is the domain itself.
    pub(super) name: String,
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) data: String,
    /// Seconds.
    pub(super) ttl: Option<u64>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Numbered {
    pub(super) id: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Tag {
    pub(super) name: String,
    #[serde(default)]
    pub(super) resources: Option<TagUse>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct TagUse {
    #[serde(default)]
    pub(super) count: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct SshKey {
    pub(super) id: u64,
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) fingerprint: String,
    pub(super) name: String,
    pub(super) public_key: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Size {
    pub(super) slug: String,
    pub(super) memory: u64,
    pub(super) vcpus: u32,
    pub(super) disk: u64,
    pub(super) price_monthly: f64,
    pub(super) available: bool,
    pub(super) regions: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Region {
    pub(super) slug: String,
    pub(super) name: String,
    pub(super) available: bool,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Account {
    pub(super) email: String,
    pub(super) uuid: String,
    pub(super) status: String,
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) status_message: String,
    #[serde(default)]
    pub(super) droplet_limit: Option<u64>,
}

/// Something that DigitalOcean is doing. <https://docs.digitalocean.com/reference/api/reference/actions/>
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Action {
    pub(super) id: u64,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) status: ActionStatus,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ActionStatus {
    InProgress,
    Completed,
    Errored,
}

/// The actions that an answer refers to.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Links {
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) actions: Vec<Link>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Link {
    pub(super) id: u64,
}
