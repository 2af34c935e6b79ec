//! The pieces that AWS keeps of one network, and what they add up to.

use std::collections::BTreeMap;

use aws_sdk_ec2::types as ec2;
use ha_core::{
    names::{ProviderName, WorkspaceName},
    resource::{Kind, Labels, Live, ResourceId, Status, spec_hash},
};
use serde_json::json;

use crate::aws::{
    fields,
    tags::{self, PART, Tags},
};

pub(in crate::aws) const VPC: &str = "vpc";
pub(in crate::aws) const SUBNETS: [&str; 2] = ["subnet-1", "subnet-2"];
pub(in crate::aws) const GATEWAY: &str = "gateway";
pub(in crate::aws) const ROUTES: &str = "routes";
/// The security group that every server of the network is in.
pub(in crate::aws) const MEMBERS: &str = "members";

pub(in crate::aws) const EVERYWHERE: &str = "0.0.0.0/0";

/// As AWS lists them.
#[derive(Clone, Debug, Default)]
pub(in crate::aws) struct Parts {
    pub(in crate::aws) vpcs: Vec<ec2::Vpc>,
    pub(in crate::aws) subnets: Vec<ec2::Subnet>,
    pub(in crate::aws) gateways: Vec<ec2::InternetGateway>,
    pub(in crate::aws) tables: Vec<ec2::RouteTable>,
    pub(in crate::aws) groups: Vec<ec2::SecurityGroup>,
}

/// What has tags and may lie in a VPC.
pub(in crate::aws) trait Piece {
    fn tag_list(&self) -> Tags;
    fn vpc(&self) -> Option<&str>;

    fn part(&self) -> Option<String> {
        self.tag_list().remove(PART)
    }
}

macro_rules! pieces {
    ($($piece:ty),+) => {$(
        impl Piece for $piece {
            fn tag_list(&self) -> Tags {
                tags::from_ec2(self.tags())
            }

            fn vpc(&self) -> Option<&str> {
                self.vpc_id()
            }
        }
    )+};
}

pieces!(ec2::Vpc, ec2::Subnet, ec2::RouteTable, ec2::SecurityGroup);

impl Piece for ec2::InternetGateway {
    fn tag_list(&self) -> Tags {
        tags::from_ec2(self.tags())
    }

    fn vpc(&self) -> Option<&str> {
        self.attachments()
            .first()
            .and_then(ec2::InternetGatewayAttachment::vpc_id)
    }
}

impl Parts {
    pub(in crate::aws) fn is_empty(&self) -> bool {
        self.vpcs.is_empty()
            && self.subnets.is_empty()
            && self.gateways.is_empty()
            && self.tables.is_empty()
            && self.groups.is_empty()
    }

    /// The one that counts. An answer that was lost may have left a second: the one with more in it wins, then the
    /// lesser id, so that everybody chooses the same.
    pub(in crate::aws) fn vpc(&self) -> Option<&ec2::Vpc> {
        let inside = |vpc: &ec2::Vpc| {
            let subnets = self.subnets.iter().filter(|it| it.vpc_id() == vpc.vpc_id()).count();
            let groups = self.groups.iter().filter(|it| it.vpc_id() == vpc.vpc_id()).count();
            subnets + groups
        };
        self.vpcs
            .iter()
            .min_by_key(|vpc| (usize::MAX - inside(vpc), vpc.vpc_id()))
    }

    /// What lies in another VPC than the one that counts, or in none though that one has its own.
    pub(in crate::aws) fn spare(&self) -> Self {
        let keep = self.vpc().and_then(ec2::Vpc::vpc_id);
        let attached = self.gateway().is_some_and(|it| it.vpc() == keep);
        let mut spare = self.clone();
        spare.vpcs.retain(|it| it.vpc_id() != keep);
        spare.subnets.retain(|it| it.vpc() != keep);
        spare.tables.retain(|it| it.vpc() != keep);
        spare.groups.retain(|it| it.vpc() != keep);
        spare.gateways.retain(|it| match it.vpc() {
            Some(vpc) => Some(vpc) != keep,
            None => attached,
        });
        spare
    }

    fn here<'a, P: Piece>(&self, pieces: &'a [P], part: &str) -> Option<&'a P> {
        let vpc = self.vpc()?.vpc_id();
        pieces
            .iter()
            .find(|it| it.vpc() == vpc && it.part().as_deref() == Some(part))
    }

    pub(in crate::aws) fn subnet(&self, index: usize) -> Option<&ec2::Subnet> {
        self.here(&self.subnets, SUBNETS[index % SUBNETS.len()])
    }

    pub(in crate::aws) fn table(&self) -> Option<&ec2::RouteTable> {
        self.here(&self.tables, ROUTES)
    }

    pub(in crate::aws) fn members(&self) -> Option<&ec2::SecurityGroup> {
        self.here(&self.groups, MEMBERS)
    }

    /// The attached one, else one that could be.
    pub(in crate::aws) fn gateway(&self) -> Option<&ec2::InternetGateway> {
        let vpc = self.vpc().and_then(ec2::Vpc::vpc_id);
        let attached = self.gateways.iter().find(|it| it.vpc().is_some() && it.vpc() == vpc);
        attached.or_else(|| self.gateways.iter().find(|it| it.vpc().is_none()))
    }

    pub(in crate::aws) fn is_attached(&self) -> bool {
        let vpc = self.vpc().and_then(ec2::Vpc::vpc_id);
        self.gateways.iter().any(|it| it.vpc().is_some() && it.vpc() == vpc)
    }

    pub(in crate::aws) fn has_route(&self) -> bool {
        let gateway = self.gateway().and_then(ec2::InternetGateway::internet_gateway_id);
        self.table().is_some_and(|table| {
            let mut routes = table.routes().iter();
            routes.any(|it| it.destination_cidr_block() == Some(EVERYWHERE) && it.gateway_id() == gateway)
        })
    }

    pub(in crate::aws) fn is_associated(&self, subnet: &str) -> bool {
        let mut links = self.table().into_iter().flat_map(ec2::RouteTable::associations);
        links.any(|it| it.subnet_id() == Some(subnet))
    }

    /// Rules of the members' group that are not there yet.
    pub(in crate::aws) fn missing_rules(&self, open: &[u16]) -> Vec<ec2::IpPermission> {
        let Some(range) = self.vpc().and_then(ec2::Vpc::cidr_block) else {
            return Vec::new();
        };
        let found = self
            .members()
            .map(ec2::SecurityGroup::ip_permissions)
            .unwrap_or_default();
        let wanted = std::iter::once(rule("-1", None, range)).chain(open.iter().map(|port| {
            let port = i32::from(*port);
            rule("tcp", Some((port, port)), EVERYWHERE)
        }));
        wanted.filter(|rule| !found.iter().any(|it| allows(it, rule))).collect()
    }

    /// What is not there of all that a network needs, in words.
    pub(in crate::aws) fn lacking(&self, open: &[u16]) -> Vec<&'static str> {
        let mut lacking = Vec::new();
        let subnets: Vec<&str> = (0..2).filter_map(|at| self.subnet(at)?.subnet_id()).collect();
        if self.vpc().is_none() {
            lacking.push("its VPC");
        }
        if subnets.len() < 2 {
            lacking.push("a subnet");
        }
        if !self.is_attached() {
            lacking.push("its internet gateway");
        }
        if !self.has_route() || !subnets.iter().all(|it| self.is_associated(it)) {
            lacking.push("a route");
        }
        if self.members().is_none() || !self.missing_rules(open).is_empty() {
            lacking.push("a rule of its security group");
        }
        lacking
    }

    /// All pieces together as the one network they are.
    pub(in crate::aws) fn live(&self, ws: &WorkspaceName, id: &ResourceId, location: &str, open: &[u16]) -> Live {
        let vpc = self.vpc();
        let owned = vpc.and_then(|it| tags::read(ws, &it.tag_list()));
        let mut spec = json!({ "ip_range": vpc.and_then(ec2::Vpc::cidr_block), "location": location });
        fields::tell(&mut spec, &vpc.map(|it| it.tag_list()).unwrap_or_default());
        let mut lacking = self.lacking(open);
        if !self.spare().is_empty() {
            lacking.push("an end to a second copy of itself");
        }
        let pending = vpc.is_none_or(|it| it.state() == Some(&ec2::VpcState::Pending));
        Live {
            id: id.clone(),
            provider: ProviderName::Aws,
            labels: Labels {
                ws: ws.clone(),
                region: id.region.clone(),
                name: id.name.clone(),
                spec: owned
                    .as_ref()
                    .filter(|it| !it.unfinished)
                    .map_or_else(|| spec_hash(&spec), |it| it.labels.spec.clone()),
            },
            spec,
            status: if lacking.is_empty() && !pending {
                Status::Running
            } else {
                Status::Pending
            },
            detail: (!lacking.is_empty()).then(|| format!("lacks {}", lacking.join(", "))),
            address: None,
            private_address: None,
            size: None,
            created_at: None,
            depends_on: Vec::new(),
            protect: owned.is_some_and(|it| it.protect),
            role: None,
            endpoints: BTreeMap::new(),
        }
    }

    /// The pieces of each network among those of a whole workspace.
    pub(in crate::aws) fn by_network(self, ws: &WorkspaceName) -> BTreeMap<ResourceId, Self> {
        let mut out: BTreeMap<ResourceId, Self> = BTreeMap::new();
        macro_rules! sort {
            ($($field:ident),+) => {$(
                for piece in self.$field {
                    let owned = tags::read(ws, &piece.tag_list()).filter(|it| it.id.kind == Kind::Network);
                    if let Some(owned) = owned {
                        out.entry(owned.id).or_default().$field.push(piece);
                    }
                }
            )+};
        }
        sort!(vpcs, subnets, gateways, tables, groups);
        out
    }
}

pub(in crate::aws) fn rule(protocol: &str, ports: Option<(i32, i32)>, from: &str) -> ec2::IpPermission {
    ec2::IpPermission::builder()
        .ip_protocol(protocol)
        .set_from_port(ports.map(|it| it.0))
        .set_to_port(ports.map(|it| it.1))
        .ip_ranges(ec2::IpRange::builder().cidr_ip(from).build())
        .build()
}

/// `found` lets in what `wanted` would; AWS lists all sources of one protocol and port together.
fn allows(found: &ec2::IpPermission, wanted: &ec2::IpPermission) -> bool {
    let same = found.ip_protocol() == wanted.ip_protocol()
        && (found.ip_protocol() == Some("-1")
            || (found.from_port() == wanted.from_port() && found.to_port() == wanted.to_port()));
    let has = |source: &ec2::IpRange| found.ip_ranges().iter().any(|it| it.cidr_ip() == source.cidr_ip());
    same && wanted.ip_ranges().iter().all(has)
}

#[cfg(test)]
mod tests;
