//! Who has which address in a workspace: regions and hosts, in the order they were given one.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    path::PathBuf,
};

use ha_core::resource::{Kind, Resource, ResourceId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{ProviderError, local::state::layout::RELAY};

/// Regions are 127.W.R.H, and R + 100 is where others reach them.
const REGIONS: std::ops::RangeInclusive<u8> = 1..=99;
const FRONT: u8 = 100;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WorkspaceFile {
    pub(crate) format: u32,
    pub(crate) workspace: String,
    /// The `workspace.ncl` it was made from.
    pub(crate) source: PathBuf,
    /// W in 127.W.R.H.
    pub(crate) octet: u8,
    pub(crate) addresses: BTreeMap<String, RegionAddresses>,
    pub(crate) created_at: Timestamp,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RegionAddresses {
    pub(crate) octet: u8,
    pub(crate) hosts: BTreeMap<String, u8>,
}

/// What a host is decides which part of the region's addresses it gets one from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostKind {
    Relay,
    Balancer,
    Server,
}

impl HostKind {
    pub(crate) const FIRST_BALANCER: u8 = 2;

    fn range(self) -> std::ops::RangeInclusive<u8> {
        match self {
            Self::Relay => 1..=1,
            Self::Balancer => Self::FIRST_BALANCER..=10,
            Self::Server => 11..=254,
        }
    }

    pub(crate) fn of(octet: u8) -> Self {
        [Self::Relay, Self::Balancer]
            .into_iter()
            .find(|kind| kind.range().contains(&octet))
            .unwrap_or(Self::Server)
    }
}

/// Where one host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Addresses {
    /// From its own region, and from the operator.
    pub(crate) direct: Ipv4Addr,
    /// From other regions: the relay's side.
    pub(crate) front: Ipv4Addr,
}

impl Addresses {
    /// The one that a caller in region `from` uses for a host of region `of`.
    pub(crate) fn seen_from(self, from: &str, of: &str) -> Ipv4Addr {
        if from == of { self.direct } else { self.front }
    }
}

impl WorkspaceFile {
    pub(crate) fn address(&self, region: &str, host: &str) -> Option<Addresses> {
        let of_region = self.addresses.get(region)?;
        let host = *of_region.hosts.get(host)?;
        Some(Addresses {
            direct: Ipv4Addr::new(127, self.octet, of_region.octet, host),
            front: Ipv4Addr::new(127, self.octet, of_region.octet + FRONT, host),
        })
    }

    pub(crate) fn region_octet(&self, region: &str) -> Option<u8> {
        self.addresses.get(region).map(|of_region| of_region.octet)
    }

    /// Gives out what the wanted hosts lack, in their order.
    pub(super) fn give(&mut self, wanted: &[Resource]) -> Result<(), ProviderError> {
        for (id, kind) in hosts(wanted) {
            let host = if kind == HostKind::Relay { RELAY } else { &id.name };
            self.allocate(id.region.as_str(), host, kind)?;
        }
        Ok(())
    }

    /// Takes back what belongs to hosts that are neither wanted nor `there`.
    pub(super) fn keep(&mut self, wanted: &[Resource], there: impl Fn(&str, &str) -> bool) {
        let wanted: BTreeSet<(&str, &str)> = hosts(wanted)
            .map(|(id, kind)| match kind {
                HostKind::Relay => (id.region.as_str(), RELAY),
                HostKind::Balancer | HostKind::Server => (id.region.as_str(), id.name.as_str()),
            })
            .collect();
        for (region, of_region) in &mut self.addresses {
            of_region
                .hosts
                .retain(|host, _| wanted.contains(&(region, host)) || there(region, host));
        }
        self.addresses.retain(|_, of_region| !of_region.hosts.is_empty());
    }

    /// True when something was given out that was not before.
    pub(super) fn allocate(&mut self, region: &str, host: &str, kind: HostKind) -> Result<bool, ProviderError> {
        let mut changed = false;
        if !self.addresses.contains_key(region) {
            let taken: Vec<u8> = self.addresses.values().map(|known| known.octet).collect();
            let octet = lowest_free(REGIONS, &taken).ok_or_else(|| ProviderError::NoCapacity {
                what: format!(
                    "region {region}: all {} regions of 127.{}.0.0 are in use",
                    taken.len(),
                    self.octet
                ),
            })?;
            let hosts = BTreeMap::new();
            self.addresses
                .insert(region.to_owned(), RegionAddresses { octet, hosts });
            changed = true;
        }
        let Some(of_region) = self.addresses.get_mut(region) else {
            return Ok(changed);
        };
        if !of_region.hosts.contains_key(host) {
            let taken: Vec<u8> = of_region.hosts.values().copied().collect();
            let octet = lowest_free(kind.range(), &taken).ok_or_else(|| ProviderError::NoCapacity {
                what: format!("{host} in {region}: every address of its kind is in use"),
            })?;
            of_region.hosts.insert(host.to_owned(), octet);
            changed = true;
        }
        Ok(changed)
    }
}

/// Those of the resources that have addresses of their own, in order; a network stands for its region's relay.
fn hosts(resources: &[Resource]) -> impl Iterator<Item = (&ResourceId, HostKind)> {
    resources.iter().filter_map(|it| {
        let kind = match it.id.kind {
            Kind::Network => HostKind::Relay,
            Kind::Server => HostKind::Server,
            Kind::LoadBalancer => HostKind::Balancer,
            Kind::Firewall | Kind::Volume | Kind::Store | Kind::Database => return None,
        };
        Some((&it.id, kind))
    })
}

fn lowest_free(mut range: std::ops::RangeInclusive<u8>, taken: &[u8]) -> Option<u8> {
    range.find(|octet| !taken.contains(octet))
}
