//! Private ranges of the regions.

use std::net::Ipv4Addr;

use serde_json::Value;

use super::{codes, place_of};
use crate::{
    config::Config,
    finding::Finding,
    geo,
    model::{Network, Region, Workspace},
};

/// First and last address of `10.0.0.0/16`; the address may lie anywhere inside.
pub(crate) fn range(text: &str) -> Option<(u32, u32, u8)> {
    let (address, bits) = text.split_once('/')?;
    let address: Ipv4Addr = address.parse().ok()?;
    let bits: u8 = bits.parse().ok().filter(|bits| *bits <= 32)?;
    let hosts = u32::MAX.checked_shr(bits.into()).unwrap_or(0);
    let address = u32::from(address);
    Some((address & !hosts, address | hosts, bits))
}

/// It is inside of what nobody has on the internet.
pub(crate) fn is_private(text: &str) -> bool {
    /// RFC 1918, and RFC 6598 for those who ran out of it.
    const PRIVATE: [&str; 4] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"];
    let Some((first, last, _)) = range(text) else {
        return false;
    };
    let inside = |(low, high, _): (u32, u32, u8)| low <= first && last <= high;
    PRIVATE.iter().filter_map(|text| range(text)).any(inside)
}

fn networks(workspace: &Workspace) -> impl Iterator<Item = (&Region, &Network)> {
    let regions = workspace.regions.iter();
    regions.flat_map(|region| region.networks.iter().map(move |network| (region, network)))
}

pub(super) fn path(network: &Network) -> String {
    format!("{}.ip_range", network.declared.path)
}

pub(super) fn ranges_are_private(workspace: &Workspace, _: &Config) -> Vec<Finding> {
    networks(workspace)
        .filter_map(|(_, network)| private(network))
        .collect()
}

fn private(network: &Network) -> Option<Finding> {
    let text = &network.ip_range;
    let Some((first, _, bits)) = range(text) else {
        let message = format!("\"{text}\" is not a range of addresses");
        let finding = Finding::error(codes::RANGE, message).at(path(network));
        return Some(finding.help("write the first address and the length of the prefix: \"10.0.0.0/16\""));
    };
    if !is_private(text) {
        let message = format!("{text} is not private: it would hide addresses that belong to others");
        let finding = Finding::error(codes::RANGE, message).at(path(network));
        return Some(finding.help("take a part of 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16"));
    }
    let proper = format!("{}/{bits}", Ipv4Addr::from(first));
    if proper != *text {
        let message = format!("{text} does not begin at its first address");
        let finding = Finding::warning(codes::RANGE, message).at(path(network));
        return Some(finding.help(format!("write \"{proper}\": providers refuse the other form")));
    }
    None
}

pub(super) fn ranges_do_not_overlap(workspace: &Workspace, _: &Config) -> Vec<Finding> {
    let all: Vec<_> = networks(workspace)
        .filter_map(|(region, network)| Some((region, network, range(&network.ip_range)?)))
        .collect();
    let mut out = Vec::new();
    for (at, (region, network, (first, last, _))) in all.iter().enumerate() {
        for (other_region, other, (other_first, other_last, _)) in &all[..at] {
            if first > other_last || other_first > last {
                continue;
            }
            let message = format!(
                "{} of {} and {} of {} share addresses",
                network.ip_range, region.name, other.ip_range, other_region.name
            );
            let finding = Finding::error(codes::OVERLAP, message)
                .at(path(network))
                .label(path(other), format!("taken by {}", other.declared.name))
                .help(free(&all.iter().map(|(.., range)| *range).collect::<Vec<_>>()));
            out.push(finding);
        }
    }
    out
}

/// A Hetzner network spans one zone; servers elsewhere cannot be attached to it.
pub(super) fn zones_hold_their_servers(workspace: &Workspace, _: &Config) -> Vec<Finding> {
    let mut out = Vec::new();
    for (region, network) in networks(workspace) {
        let zone = network.declared.fields.get("network_zone").and_then(Value::as_str);
        let Some((zone, needed)) = zone.zip(geo::hetzner_zone(&region.location)) else {
            continue;
        };
        if zone == needed {
            continue;
        }
        let message = format!(
            "{} is in the zone {zone}, and {} is in {needed}: no server of {} could be attached to it",
            network.declared.name, region.location, region.name
        );
        let finding = Finding::error(codes::LOCATION, message)
            .at(format!("{}.network_zone", network.declared.path))
            .label(place_of(region), "the servers")
            .help(format!("write network_zone = \"{needed}\""));
        out.push(finding);
    }
    out
}

fn free(taken: &[(u32, u32, u8)]) -> String {
    let candidates = (0..=255u8).map(|second| format!("10.{second}.0.0/16"));
    let unused = candidates.into_iter().find(|text| {
        range(text).is_some_and(|(first, last, _)| taken.iter().all(|(low, high, _)| last < *low || *high < first))
    });
    match unused {
        Some(text) => format!("every network needs a range of its own; free is ip_range = \"{text}\""),
        None => "every network needs a range of its own".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_ends() {
        assert_eq!(range("10.0.0.0/16"), Some((0x0A00_0000, 0x0A00_FFFF, 16)));
        assert_eq!(range("0.0.0.0/0"), Some((0, u32::MAX, 0)));
        assert_eq!(range("10.1.2.3/32"), Some((0x0A01_0203, 0x0A01_0203, 32)));
        for bad in [
            "10.0.0.0",
            "10.0.0.0/33",
            "10.0.0/8",
            "10.0.0.256/8",
            "",
            "a/b",
            "10.0.0.0/",
        ] {
            assert_eq!(range(bad), None, "{bad}");
        }
    }
}
