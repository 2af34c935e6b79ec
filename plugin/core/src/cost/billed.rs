//! What of a declared thing appears on the bill, in its provider's own units.
//!
//! Networks, firewalls and security groups are on none of the three bills:
//! <https://docs.aws.amazon.com/vpc/latest/userguide/what-is-amazon-vpc.html> (Pricing for Amazon VPC),
//! <https://docs.digitalocean.com/products/networking/firewalls/how-to/create/>, and `GET /pricing` of Hetzner, which
//! lists all it bills. Databases and store members that the workspace runs itself are part of their servers.

use serde_json::{Map, Value};

use super::Component;
use crate::{names::ProviderName, resource::Kind};

/// One line of a bill.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    pub(super) component: Component,
    pub(super) r#type: String,
    /// Of these for one of the declared things.
    pub(super) units: u64,
}

impl Line {
    fn new(component: Component, r#type: impl Into<String>, units: u64) -> Self {
        Self {
            component,
            r#type: r#type.into(),
            units,
        }
    }
}

/// An application load balancer has an address in each of its subnets, and AWS bills each public IPv4 address in use;
/// the provider makes two subnets.
const ADDRESSES_OF_AN_ALB: u64 = 2;

pub(super) fn server(provider: ProviderName, size: &str) -> Vec<Line> {
    let mut lines = vec![Line::new(Component::Server, size, 1)];
    // A Droplet's address is part of it.
    if matches!(provider, ProviderName::Hetzner | ProviderName::Aws) {
        lines.push(Line::new(Component::Address, "ipv4", 1));
    }
    lines
}

/// `fields` as written in `workspace.ncl`, with the defaults of its contracts where they are left out.
pub(super) fn load_balancer(provider: ProviderName, fields: &Map<String, Value>) -> Vec<Line> {
    match provider {
        ProviderName::Digitalocean => {
            let nodes = whole(fields, "size_unit").unwrap_or(1);
            vec![Line::new(Component::LoadBalancer, "lb-node", nodes)]
        }
        ProviderName::Hetzner => {
            let size = text(fields, "type").unwrap_or("lb11");
            vec![Line::new(Component::LoadBalancer, size, 1)]
        }
        ProviderName::Aws => vec![
            Line::new(Component::LoadBalancer, "alb", 1),
            Line::new(Component::Address, "ipv4", ADDRESSES_OF_AN_ALB),
        ],
        ProviderName::Local => Vec::new(),
    }
}

/// Of one that exists, by the size that its provider tells of it; none where that is not told.
pub(super) fn load_balancer_of(provider: ProviderName, size: Option<&str>) -> Option<Vec<Line>> {
    let (word, nodes) = match provider {
        ProviderName::Digitalocean => ("lb-node", size?.parse().ok()?),
        ProviderName::Hetzner => (size?, 1),
        // They grow by themselves.
        ProviderName::Aws => return Some(load_balancer(provider, &Map::new())),
        ProviderName::Local => return None,
    };
    Some(vec![Line::new(Component::LoadBalancer, word, nodes)])
}

pub(super) fn volume(fields: &Map<String, Value>) -> Vec<Line> {
    let gigabytes = whole(fields, "size_gb").unwrap_or_default();
    vec![Line::new(Component::Volume, "volume-gb", gigabytes)]
}

pub(super) fn managed_database(provider: ProviderName, fields: &Map<String, Value>) -> Vec<Line> {
    if provider != ProviderName::Aws {
        let nodes = whole(fields, "num_nodes").unwrap_or(1);
        return vec![Line::new(
            Component::Database,
            text(fields, "size").unwrap_or_default(),
            nodes,
        )];
    }
    let class = text(fields, "instance_class").unwrap_or_default();
    let engine = text(fields, "engine").unwrap_or("postgres");
    let twice = match fields.get("multi_az").and_then(Value::as_bool) {
        Some(true) => " multi-az",
        _ => "",
    };
    let gigabytes = whole(fields, "allocated_storage_gb").unwrap_or_default();
    vec![
        Line::new(Component::Database, format!("{class} {engine}{twice}"), 1),
        Line::new(Component::Storage, format!("rds-gb{twice}"), gigabytes),
    ]
}

/// Of whatever a spec or a declaration says of one thing. None when it does not say enough.
pub(super) fn lines(
    kind: Kind,
    provider: ProviderName,
    size: Option<&str>,
    fields: Option<&Map<String, Value>>,
) -> Option<Vec<Line>> {
    Some(match kind {
        Kind::Network | Kind::Firewall | Kind::Store => Vec::new(),
        Kind::Server => server(provider, size?),
        Kind::LoadBalancer => load_balancer(provider, fields?),
        Kind::Volume => volume(fields?),
        // What runs on a server says which; at the clouds nobody tells the spec of what runs there.
        Kind::Database => match fields {
            None => Vec::new(),
            Some(fields) if fields.contains_key("server") => Vec::new(),
            Some(fields) => managed_database(provider, fields),
        },
    })
}

fn whole(fields: &Map<String, Value>, name: &str) -> Option<u64> {
    let value = fields.get(name)?;
    // Numbers of Nickel may be written with a fraction of nothing.
    value.as_u64().or_else(|| {
        let number = value.as_f64()?;
        (number >= 0.0 && number.fract() == 0.0).then_some(number as u64)
    })
}

fn text<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    fields.get(name).and_then(Value::as_str)
}
