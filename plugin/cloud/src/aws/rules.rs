//! Rules of a firewall: as `workspace.ncl` writes them, and as AWS keeps them.
//!
//! AWS keeps a set; what was written is a list. Each source carries its place in that list as its description, so that
//! the same list can be read again, and a rule somebody added by hand has none and stands out.

use aws_sdk_ec2::types as ec2;
use ha_core::resource::Resource;
use serde_json::{Value, json};

use crate::ProviderError;

/// One permission for each source of each rule.
///
/// # Errors
///
/// A rule that AWS has no words for.
pub(super) fn wanted(want: &Resource) -> Result<Vec<ec2::IpPermission>, ProviderError> {
    let mut all: Vec<ec2::IpPermission> = Vec::new();
    let rules = want.spec.get("inbound").and_then(Value::as_array);
    for (at, rule) in rules.into_iter().flatten().enumerate() {
        let refused = |why: &str| ProviderError::Refused {
            what: format!("{}: rule {} of inbound {why}", want.id, at + 1),
            help: format!("change it at {} in workspace.ncl", want.path),
        };
        let word = |name: &str| rule.get(name).and_then(Value::as_str).unwrap_or_default();
        let (protocol, range) = (word("protocol"), word("ports"));
        let ports =
            ports(protocol, range).ok_or_else(|| refused("has ports that are neither all, nor 443, nor 8000-8100"))?;
        let sources = rule.get("sources").and_then(Value::as_array);
        let sources: Vec<&str> = sources.into_iter().flatten().filter_map(Value::as_str).collect();
        if sources.is_empty() {
            return Err(refused("lets nobody in: write sources = [\"0.0.0.0/0\"] for everybody"));
        }
        for (source_at, source) in sources.iter().enumerate() {
            let note = format!("ha {at} {source_at}");
            let permission = ec2::IpPermission::builder()
                .ip_protocol(protocol)
                .from_port(ports.0)
                .to_port(ports.1);
            let permission = if source.contains(':') {
                permission.ipv6_ranges(ec2::Ipv6Range::builder().cidr_ipv6(*source).description(note).build())
            } else {
                permission.ip_ranges(ec2::IpRange::builder().cidr_ip(*source).description(note).build())
            };
            let permission = permission.build();
            if all.iter().any(|other| lets_in(other) == lets_in(&permission)) {
                return Err(refused("repeats an earlier one, which AWS refuses"));
            }
            all.push(permission);
        }
    }
    Ok(all)
}

/// From and to; ICMP has types in their place, and -1 is all of them.
fn ports(protocol: &str, range: &str) -> Option<(i32, i32)> {
    let port = |text: &str| text.parse::<u16>().ok().map(i32::from);
    match (protocol, range) {
        ("icmp", _) => Some((-1, -1)),
        (_, "all") => Some((0, 65535)),
        (_, range) => match range.split_once('-') {
            Some((from, to)) => Some((port(from)?, port(to)?)).filter(|(from, to)| from <= to),
            None => Some((port(range)?, port(range)?)),
        },
    }
}

/// The list as it would be written, read from what AWS keeps.
pub(super) fn written(permissions: &[ec2::IpPermission]) -> Value {
    let mut known: Vec<((usize, usize), &ec2::IpPermission, String)> = Vec::new();
    let mut foreign: Vec<Value> = Vec::new();
    for permission in permissions {
        let fours = permission.ip_ranges().iter().map(|it| (it.cidr_ip(), it.description()));
        let sixes = permission
            .ipv6_ranges()
            .iter()
            .map(|it| (it.cidr_ipv6(), it.description()));
        for (source, note) in fours.chain(sixes) {
            let source = source.unwrap_or_default().to_owned();
            match note.and_then(place_of) {
                Some(at) => known.push((at, permission, source)),
                None => foreign.push(rule(permission, &[source])),
            }
        }
        let groups = permission.user_id_group_pairs().iter().filter_map(|it| it.group_id());
        let lists = permission.prefix_list_ids().iter().filter_map(|it| it.prefix_list_id());
        foreign.extend(groups.chain(lists).map(|it| rule(permission, &[it.to_owned()])));
    }
    known.sort_by_key(|it| it.0);
    let mut rules: Vec<Value> = Vec::new();
    for same in known.chunk_by(|a, b| a.0.0 == b.0.0) {
        let sources: Vec<String> = same.iter().map(|it| it.2.clone()).collect();
        rules.extend(same.first().map(|it| rule(it.1, &sources)));
    }
    rules.extend(foreign);
    Value::Array(rules)
}

fn place_of(note: &str) -> Option<(usize, usize)> {
    let (rule, source) = note.strip_prefix("ha ")?.split_once(' ')?;
    Some((rule.parse().ok()?, source.parse().ok()?))
}

fn rule(permission: &ec2::IpPermission, sources: &[String]) -> Value {
    let protocol = match permission.ip_protocol().unwrap_or("-1") {
        "-1" => "all",
        other => other,
    };
    let ports = match (permission.from_port(), permission.to_port()) {
        (Some(from), Some(to)) if from >= 0 && (from, to) != (0, 65535) => {
            if from == to {
                from.to_string()
            } else {
                format!("{from}-{to}")
            }
        }
        _ => "all".to_owned(),
    };
    json!({ "protocol": protocol, "ports": ports, "sources": sources })
}

/// Those of `all` that `others` do not have, source by source. A description that differs counts: it is the place.
pub(super) fn without(all: &[ec2::IpPermission], others: &[ec2::IpPermission]) -> Vec<ec2::IpPermission> {
    let others: Vec<ec2::IpPermission> = others.iter().flat_map(single).collect();
    all.iter().flat_map(single).filter(|it| !others.contains(it)).collect()
}

/// One permission for each source; AWS lists all sources of one protocol and ports together.
fn single(permission: &ec2::IpPermission) -> Vec<ec2::IpPermission> {
    let bare = || {
        ec2::IpPermission::builder()
            .set_ip_protocol(permission.ip_protocol.clone())
            .set_from_port(permission.from_port)
            .set_to_port(permission.to_port)
    };
    let mut all = Vec::new();
    all.extend(
        permission
            .ip_ranges()
            .iter()
            .map(|it| bare().ip_ranges(it.clone()).build()),
    );
    all.extend(
        permission
            .ipv6_ranges()
            .iter()
            .map(|it| bare().ipv6_ranges(it.clone()).build()),
    );
    all.extend(
        permission
            .user_id_group_pairs()
            .iter()
            .map(|it| bare().user_id_group_pairs(it.clone()).build()),
    );
    all.extend(
        permission
            .prefix_list_ids()
            .iter()
            .map(|it| bare().prefix_list_ids(it.clone()).build()),
    );
    all
}

/// What it lets in, without its place in the list.
fn lets_in(permission: &ec2::IpPermission) -> (Option<&str>, Option<i32>, Option<i32>, Vec<&str>) {
    let fours = permission.ip_ranges().iter().filter_map(|it| it.cidr_ip());
    let sixes = permission.ipv6_ranges().iter().filter_map(|it| it.cidr_ipv6());
    (
        permission.ip_protocol(),
        permission.from_port(),
        permission.to_port(),
        fours.chain(sixes).collect(),
    )
}

#[cfg(test)]
mod tests {
    use ha_core::{
        names::{ProviderName, RegionName},
        resource::{Kind, ResourceId},
    };
    use proptest::prelude::*;

    use super::*;

    fn want(inbound: Value) -> Resource {
        Resource {
            id: ResourceId::new(&RegionName::new("us-east"), Kind::Firewall, "use-access"),
            provider: ProviderName::Aws,
            spec: json!({ "inbound": inbound }),
            depends_on: Vec::new(),
            protect: false,
            path: "region_us_east.access".into(),
        }
    }

    #[test]
    fn a_rule_added_by_hand_stands_out() {
        let written_down = json!([{ "protocol": "tcp", "ports": "443", "sources": ["0.0.0.0/0"] }]);
        let mut kept = wanted(&want(written_down.clone())).expect("a right rule");
        kept.push(
            ec2::IpPermission::builder()
                .ip_protocol("tcp")
                .from_port(22)
                .to_port(22)
                .ip_ranges(ec2::IpRange::builder().cidr_ip("192.0.2.0/24").build())
                .build(),
        );
        let now = written(&kept);
        assert_eq!(now[0], written_down[0]);
        assert_eq!(
            now[1],
            json!({ "protocol": "tcp", "ports": "22", "sources": ["192.0.2.0/24"] })
        );
        assert_eq!(without(&kept, &kept[..1]).len(), 1);
    }

    #[test]
    fn what_aws_would_refuse_is_said_before() {
        for (inbound, words) in [
            (
                json!([{ "protocol": "tcp", "ports": "443", "sources": [] }]),
                "lets nobody in",
            ),
            (
                json!([{ "protocol": "tcp", "ports": "100000", "sources": ["0.0.0.0/0"] }]),
                "neither all",
            ),
            (
                json!([
                    { "protocol": "tcp", "ports": "443", "sources": ["0.0.0.0/0"] },
                    { "protocol": "tcp", "ports": "443-443", "sources": ["0.0.0.0/0"] },
                ]),
                "rule 2 of inbound repeats",
            ),
        ] {
            let error = wanted(&want(inbound)).expect_err(words);
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    proptest! {
        /// AWS groups sources by protocol and ports, in an order of its own.
        #[test]
        fn rules_come_back_as_they_went(
            rules in proptest::collection::vec(("tcp|udp", 1u16..100, 0u16..3, 1usize..4), 0..6),
        ) {
            let mut count = 0u8;
            let inbound: Vec<Value> = rules.iter().map(|(protocol, port, more, sources)| {
                let ports = if *more == 0 { port.to_string() } else { format!("{port}-{}", port + more) };
                let sources: Vec<String> = (0..*sources).map(|_| {
                    count += 1;
                    if count.is_multiple_of(3) { format!("2001:db8:{count}::/48") } else { format!("10.0.{count}.0/24") }
                }).collect();
                json!({ "protocol": protocol, "ports": ports, "sources": sources })
            }).collect();
            let inbound = Value::Array(inbound);
            let mut kept = wanted(&want(inbound.clone())).map_err(|it| TestCaseError::fail(it.to_string()))?;
            kept.reverse();
            prop_assert_eq!(written(&kept), inbound);
            prop_assert!(without(&kept, &kept).is_empty());
        }
    }
}
