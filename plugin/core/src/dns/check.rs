//! Health checks: what Route 53 asks an endpoint, from all over the world.

use std::{collections::BTreeMap, net::Ipv4Addr};

use super::{leads::Leads, reference::Reference};
use crate::model::Dns;

/// Route 53 calls an endpoint well when more than this share of its checkers does.
/// Source: <https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/dns-failover-determining-health-of-endpoints.html>.
const SHARE: f64 = 0.18;

/// What is asked, where, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckSpec {
    /// `HTTP`, `HTTPS`, `TCP`
    pub protocol: String,
    /// Asked there; none asks whatever `host` resolves to.
    pub ip: Option<Ipv4Addr>,
    /// The name in the request.
    pub host: Option<String>,
    pub port: u16,
    /// None of a TCP check.
    pub path: Option<String>,
    /// Seconds between two questions of one checker.
    pub interval: u64,
    /// So many answers in a row change its mind.
    pub failures: u32,
    /// The name is sent before the certificate comes.
    pub sni: bool,
    /// Asks nothing, and everything is well.
    pub disabled: bool,
    /// Well is not well.
    pub inverted: bool,
}

/// One that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub id: String,
    /// The caller reference, which says whose it is.
    pub reference: String,
    /// Grows with each change; a change names the one that it was made from.
    pub version: i64,
    pub spec: CheckSpec,
    pub tags: BTreeMap<String, String>,
}

impl CheckSpec {
    /// As declared, of a region that is reached there.
    ///
    /// An address is asked with the domain as the name of the host, so that the region answers as it does to users. A
    /// balancer of AWS is asked by its own name: its addresses change.
    pub fn of(dns: &Dns, domain: &str, leads: &Leads) -> Self {
        let protocol = dns.probe_protocol.clone();
        let tcp = protocol == "TCP";
        let (ip, host) = match leads {
            // A TCP check of an address has no name.
            Leads::To(address) => (Some(*address), (!tcp).then(|| domain.to_owned())),
            Leads::Alias { name, .. } => (None, Some(name.clone())),
        };
        Self {
            sni: protocol == "HTTPS",
            path: (!tcp).then(|| dns.probe_path.clone()),
            protocol,
            ip,
            host,
            port: dns.probe_port,
            interval: dns.probe_interval_seconds,
            failures: dns.probe_failures,
            disabled: false,
            inverted: false,
        }
    }

    /// One check can become the other. Its kind, its interval, and whether it has an address, are for ever.
    /// Source: <https://docs.aws.amazon.com/Route53/latest/APIReference/API_UpdateHealthCheck.html>.
    pub fn becomes(&self, other: &Self) -> bool {
        self.protocol == other.protocol && self.interval == other.interval && self.ip.is_some() == other.ip.is_some()
    }

    /// `https://192.0.2.1:443/health`
    pub fn endpoint(&self) -> String {
        let host = match (&self.ip, &self.host) {
            (Some(ip), _) => ip.to_string(),
            (None, host) => host.clone().unwrap_or_default(),
        };
        let (protocol, port) = (self.protocol.to_ascii_lowercase(), self.port);
        format!("{protocol}://{host}:{port}{}", self.path.as_deref().unwrap_or_default())
    }

    /// In what `wanted` differs.
    pub(super) fn difference(&self, wanted: &Self) -> String {
        let mut words = Vec::new();
        let mut differs = |what: &str, before: String, after: String| {
            if before != after {
                words.push(format!("{what} {before} → {after}"));
            }
        };
        differs("endpoint", self.endpoint(), wanted.endpoint());
        let host = |it: &Self| it.host.clone().unwrap_or_else(|| "none".to_owned());
        differs("host", host(self), host(wanted));
        differs("interval", self.interval.to_string(), wanted.interval.to_string());
        differs("failures", self.failures.to_string(), wanted.failures.to_string());
        differs("SNI", self.sni.to_string(), wanted.sni.to_string());
        differs("disabled", self.disabled.to_string(), wanted.disabled.to_string());
        differs("inverted", self.inverted.to_string(), wanted.inverted.to_string());
        words.join(", ")
    }
}

/// The tags of a check or a zone, for people and for bills.
pub fn tags(ws: &str, region: Option<&str>, name: &str) -> BTreeMap<String, String> {
    let mut tags = BTreeMap::from([
        ("ha:ws".to_owned(), ws.to_owned()),
        // What AWS's console shows as the name.
        ("Name".to_owned(), name.to_owned()),
    ]);
    if let Some(region) = region {
        tags.insert("ha:region".to_owned(), region.to_owned());
    }
    tags
}

/// The check that answers for a region: the latest of those that could be as wanted.
pub fn current<'a>(checks: &'a [Check], reference: &Reference, wanted: &CheckSpec) -> Option<&'a Check> {
    let ours = checks
        .iter()
        .filter_map(|it| Some((reference.generation(&it.reference)?, it)));
    ours.filter(|(_, it)| it.spec.becomes(wanted))
        .max_by_key(|(generation, _)| *generation)
        .map(|(_, it)| it)
}

/// What the checkers say, taken together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    Healthy,
    Unhealthy,
    /// No checker has said anything yet; Route 53 counts that as well.
    Unknown,
}

/// Of `asked` checkers, `well` say that it is well.
pub fn health(asked: usize, well: usize) -> Health {
    if asked == 0 {
        return Health::Unknown;
    }
    // Some dozens at most.
    #[expect(clippy::cast_precision_loss, reason = "some dozens at most")]
    match well as f64 > SHARE * asked as f64 {
        true => Health::Healthy,
        false => Health::Unhealthy,
    }
}

impl Health {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Unknown => "unknown",
        }
    }
}
