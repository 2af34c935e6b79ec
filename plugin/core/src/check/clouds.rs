//! What the providers refuse for its form: known without asking them.
//!
//! Where the workspace is rehearsed on this machine nobody refuses it, and each of these is a warning.

use std::fmt::Display;

use serde_json::Value;

use super::{codes, network, provider};
use crate::{
    config::{Config, Target},
    finding::{Finding, Severity},
    labels,
    model::{Declared, HealthCheck, LoadBalancer, Workspace},
    names::ProviderName,
};

/// What DigitalOcean puts before a firewall's Droplets are tags, five at most, and one of them is ours.
/// Source: <https://docs.digitalocean.com/products/networking/firewalls/details/limits/>.
const MOST_GROUPS_OF_A_FIREWALL: usize = 4;

/// Of one firewall, incoming and outgoing together; two of them let everything out.
/// Source: as above.
const MOST_RULES_OF_A_FIREWALL: usize = 48;

fn found(config: &Config, code: &str, message: String) -> Finding {
    let severity = match config.target {
        Target::Cloud => Severity::Error,
        Target::Local => Severity::Warning,
    };
    Finding::new(severity, code, message)
}

/// How short and how long the prefix of a network may be.
///
/// Sources: <https://docs.aws.amazon.com/vpc/latest/userguide/vpc-cidr-blocks.html> (/16 to /28, and a network holds two
/// subnets of /28 at least), <https://docs.digitalocean.com/reference/api/reference/vpcs/> (/16 to /28),
/// <https://docs.hetzner.cloud/reference/cloud#networks> (/24 at the smallest; the largest private range is a /8).
const fn prefixes(provider: ProviderName) -> Option<(u8, u8)> {
    match provider {
        ProviderName::Aws => Some((16, 27)),
        ProviderName::Digitalocean => Some((16, 28)),
        ProviderName::Hetzner => Some((8, 24)),
        ProviderName::Local => None,
    }
}

/// The ranges of RFC 1918, which are all that DigitalOcean and Hetzner take.
const RFC_1918: [&str; 3] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"];

pub(super) fn networks_fit_their_provider(workspace: &Workspace, config: &Config) -> Vec<Finding> {
    let mut out = Vec::new();
    for region in &workspace.regions {
        for network in &region.networks {
            let provider = provider(region, &network.declared);
            let text = &network.ip_range;
            let Some(((shortest, longest), range)) = prefixes(provider).zip(network::range(text)) else {
                continue;
            };
            let (first, last, bits) = range;
            let path = network::path(network);
            if !(shortest..=longest).contains(&bits) {
                let message = format!("{text} is no network at {provider}: it takes /{shortest} to /{longest}");
                let write = text.split('/').next().unwrap_or_default();
                let near = bits.clamp(shortest, longest);
                let finding = found(config, codes::PROVIDER_RANGE, message).at(path);
                out.push(finding.help(format!(
                    "write ip_range = \"{write}/{near}\", or another of that length"
                )));
                continue;
            }
            let mut private = RFC_1918.iter().filter_map(|it| network::range(it));
            // What is not private at all is told by another rule.
            let shared = network::range("100.64.0.0/10").is_some_and(|it| it.0 <= first && last <= it.1);
            if provider != ProviderName::Aws && shared && !private.any(|it| it.0 <= first && last <= it.1) {
                let message = format!("{text} is no network at {provider}: it takes the ranges of RFC 1918 alone");
                let finding = found(config, codes::PROVIDER_RANGE, message).at(path);
                out.push(finding.help("take a part of 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16"));
            }
        }
    }
    out
}

/// The numbers of a health check, in the words of `workspace.ncl`, and the least and the most of each.
///
/// Sources: <https://docs.hetzner.cloud/reference/cloud#load-balancers>,
/// <https://github.com/digitalocean/digitalocean-cloud-controller-manager/blob/master/docs/controllers/services/annotations.md>,
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_CreateTargetGroup.html>.
fn bounds(provider: ProviderName, check: &HealthCheck) -> Vec<(&'static str, u64, u64, u64)> {
    let (interval, timeout) = (check.interval_seconds, check.timeout_seconds);
    let (fall, rise) = (u64::from(check.fall), u64::from(check.rise));
    let of = |interval_at, timeout_at, fall_at, rise_at: (u64, u64)| {
        let all: [(&'static str, u64, (u64, u64)); 4] = [
            ("check_interval_seconds", interval, interval_at),
            ("response_timeout_seconds", timeout, timeout_at),
            ("unhealthy_threshold", fall, fall_at),
            ("healthy_threshold", rise, rise_at),
        ];
        all.into_iter()
            .map(|(field, value, (least, most))| (field, value, least, most))
            .collect()
    };
    match provider {
        // It has one number for both thresholds, the other is kept in a label.
        ProviderName::Hetzner => of((3, 60), (1, 60), (1, 5), (0, u64::MAX)),
        ProviderName::Digitalocean => of((3, 300), (3, 300), (2, 10), (2, 10)),
        ProviderName::Aws => of((5, 300), (2, 120), (2, 10), (2, 10)),
        ProviderName::Local => Vec::new(),
    }
}

pub(super) fn health_checks_fit_their_provider(workspace: &Workspace, config: &Config) -> Vec<Finding> {
    let mut out = Vec::new();
    for region in &workspace.regions {
        for LoadBalancer {
            declared, health_check, ..
        } in &region.load_balancers
        {
            let provider = provider(region, declared);
            for (field, value, least, most) in bounds(provider, health_check) {
                if (least..=most).contains(&value) {
                    continue;
                }
                // AWS is given the nearest that it takes; the others refuse the whole balancer.
                let given = provider == ProviderName::Aws;
                let outcome = if given { ", and is given the nearest" } else { "" };
                let message = format!("{field} = {value}: a balancer at {provider} takes {least} to {most}{outcome}");
                let finding = match given {
                    true => Finding::warning(codes::PROVIDER_HEALTH_CHECK, message),
                    false => found(config, codes::PROVIDER_HEALTH_CHECK, message),
                };
                let finding = finding.at(format!("{}.health_check.{field}", declared.path));
                out.push(finding.help(format!("write {field} = {}", value.clamp(least, most))));
            }
        }
    }
    out
}

/// Everything that is declared, with who sells it. Of a group, its last server: the one with the longest name.
fn everything(workspace: &Workspace) -> impl Iterator<Item = (ProviderName, &Declared, String)> {
    workspace.regions.iter().flat_map(|region| {
        let networks = region.networks.iter().map(|it| &it.declared);
        let balancers = region.load_balancers.iter().map(|it| &it.declared);
        let databases = region.databases.iter().map(|it| &it.declared);
        let stores = region.stores.iter().map(|it| &it.declared);
        let others = region.others.iter().map(|it| &it.declared);
        let all = networks.chain(balancers).chain(databases).chain(stores).chain(others);
        let all = all.map(|it| (it, it.name.clone()));
        let servers = region.servers.iter().map(|it| {
            let last = it.server_names().last();
            (&it.declared, last.unwrap_or_else(|| it.declared.name.clone()))
        });
        all.chain(servers)
            .map(move |(declared, name)| (provider(region, declared), declared, name))
    })
}

/// Names are written into labels, and so is what the user adds.
pub(super) fn labels_fit_their_provider(workspace: &Workspace, config: &Config) -> Vec<Finding> {
    let mut out = Vec::new();
    let misfit = |path: String, provider: ProviderName, what: &dyn Display, why: String| {
        let message = format!("{what} cannot stand in a label at {provider}: it {why}");
        let finding = found(config, codes::PROVIDER_LABEL, message).at(path);
        finding.help(
            "write it otherwise: the providers' rules differ, and letters, digits and inner dashes fit everywhere",
        )
    };
    for (provider, declared, name) in everything(workspace) {
        if let Err(why) = labels::allowed(provider, &name) {
            let path = format!("{}.name", declared.path);
            out.push(misfit(path, provider, &format_args!("\"{name}\""), why));
        }
        for (key, value) in &declared.labels {
            let path = format!("{}.labels", declared.path);
            if let Err(why) = labels::allowed_key(provider, key) {
                out.push(misfit(path.clone(), provider, &format_args!("the key \"{key}\""), why));
            }
            if let Err(why) = labels::allowed(provider, value) {
                let what = format_args!("\"{value}\" ({key})");
                out.push(misfit(path.clone(), provider, &what, why));
            }
            let capital = |text: &str| text.chars().any(|it| it.is_ascii_uppercase());
            if provider == ProviderName::Digitalocean && (capital(key) || capital(value)) {
                out.push(capitals(path, key, value));
            }
        }
    }
    out
}

/// Source: <https://docs.digitalocean.com/reference/api/reference/tags/> (the capitalization of the first use is
/// canonical).
fn capitals(path: String, key: &str, value: &str) -> Finding {
    let message = format!(
        "{key} = \"{value}\": DigitalOcean keeps a tag as whoever used it first in the account wrote it, and finds it by \
         that alone"
    );
    let finding = Finding::warning(codes::PROVIDER_LABEL, message).at(path);
    let (key, value) = (key.to_ascii_lowercase(), value.to_ascii_lowercase());
    finding.help(format!("write {key} = \"{value}\""))
}

pub(super) fn firewalls_fit_their_provider(workspace: &Workspace, config: &Config) -> Vec<Finding> {
    let mut out = Vec::new();
    let declared = workspace
        .regions
        .iter()
        .flat_map(|it| &it.others)
        .map(|it| &it.declared);
    for declared in declared.filter(|it| it.kind == "digitalocean.Firewall") {
        let count = |field: &str| {
            let list = declared.fields.get(field).and_then(Value::as_array);
            list.map_or(0, Vec::len)
        };
        let many = [
            ("targets", "groups", MOST_GROUPS_OF_A_FIREWALL),
            ("inbound", "rules", MOST_RULES_OF_A_FIREWALL),
        ];
        for (field, what, most) in many {
            let has = count(field);
            if has > most {
                let message = format!("{} has {has} {what}: at digitalocean it can have {most}", declared.name);
                let finding = found(config, codes::PROVIDER_FIREWALL, message);
                let finding = finding.at(format!("{}.{field}", declared.path));
                out.push(finding.help("declare a second firewall, and share them out between the two"));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::{check::run, fixture::workspace, model::Other};

    /// The same, where the providers are asked.
    fn at_the_clouds(change: impl FnOnce(&mut Workspace)) -> Vec<Finding> {
        let mut workspace = workspace();
        change(&mut workspace);
        let config = Config {
            target: Target::Cloud,
            ..Config::default()
        };
        run(&workspace, &config)
    }

    #[test]
    fn each_provider_s_own_rules_are_findings_before_it_is_asked() {
        type Change = fn(&mut Workspace);
        let table: [(Change, &str, &str, &str); 12] = [
            (
                |w| w.regions[2].networks[0].ip_range = "10.2.0.0/15".into(),
                "ha::check::provider_range",
                "region_asia_southeast.network.ip_range",
                "/16 to /27; write ip_range = \"10.2.0.0/16\"",
            ),
            (
                |w| w.regions[0].networks[0].ip_range = "10.0.0.0/29".into(),
                "ha::check::provider_range",
                "region_us_east.network.ip_range",
                "/16 to /28; write ip_range = \"10.0.0.0/28\"",
            ),
            (
                |w| w.regions[1].networks[0].ip_range = "10.1.0.0/25".into(),
                "ha::check::provider_range",
                "region_eu_central.network.ip_range",
                "/8 to /24; write ip_range = \"10.1.0.0/24\"",
            ),
            (
                |w| w.regions[1].networks[0].ip_range = "100.64.0.0/16".into(),
                "ha::check::provider_range",
                "region_eu_central.network.ip_range",
                "RFC 1918 alone",
            ),
            (
                |w| w.regions[1].load_balancers[0].health_check.interval_seconds = 2,
                "ha::check::provider_health_check",
                "region_eu_central.load_balancer.health_check.check_interval_seconds",
                "takes 3 to 60; write check_interval_seconds = 3",
            ),
            (
                |w| w.regions[1].load_balancers[0].health_check.fall = 6,
                "ha::check::provider_health_check",
                "region_eu_central.load_balancer.health_check.unhealthy_threshold",
                "takes 1 to 5; write unhealthy_threshold = 5",
            ),
            (
                |w| w.regions[0].load_balancers[0].health_check.rise = 1,
                "ha::check::provider_health_check",
                "region_us_east.load_balancer.health_check.healthy_threshold",
                "takes 2 to 10",
            ),
            (
                |w| w.regions[2].load_balancers[0].health_check.interval_seconds = 3,
                "ha::check::provider_health_check",
                "region_asia_southeast.load_balancer.health_check.check_interval_seconds",
                "is given the nearest",
            ),
            (
                |w| label(w, 1, "team", "a b"),
                "ha::check::provider_label",
                "region_eu_central.app_servers.labels",
                "\"a b\" (team) cannot stand in a label at hetzner: it has ` `",
            ),
            (
                |w| label(w, 2, "aws:team", "core"),
                "ha::check::provider_label",
                "region_asia_southeast.app_servers.labels",
                "AWS keeps for itself",
            ),
            (
                |w| label(w, 0, "Team", "Core"),
                "ha::check::provider_label",
                "region_us_east.app_servers.labels",
                "write team = \"core\"",
            ),
            (
                |w| w.regions[0].others.push(firewall(5)),
                "ha::check::provider_firewall",
                "region_us_east.firewall.targets",
                "has 5 groups: at digitalocean it can have 4",
            ),
        ];
        assert_eq!(at_the_clouds(|_| {}), []);
        for (change, code, path, words) in table {
            let found = at_the_clouds(change);
            assert_eq!(found.len(), 1, "{code} at {path}: {found:#?}");
            let it = &found[0];
            assert_eq!((it.code.as_str(), it.path.as_deref()), (code, Some(path)));
            let text = format!("{}; {}", it.message, it.help.as_deref().expect("says what next"));
            assert!(text.contains(words), "{words:?} is not in: {text}");
        }
        assert_eq!(at_the_clouds(|w| w.regions[0].others.push(firewall(4))), []);
    }

    #[test]
    fn what_a_provider_would_refuse_does_not_stop_the_rehearsal() {
        let mut workspace = workspace();
        workspace.regions[2].networks[0].ip_range = "10.2.0.0/15".into();
        let found = run(&workspace, &Config::default());
        let of_provider = found.iter().find(|it| it.code == "ha::check::provider_range");
        assert_eq!(of_provider.map(|it| it.severity), Some(Severity::Warning), "{found:#?}");
    }

    fn label(workspace: &mut Workspace, region: usize, key: &str, value: &str) {
        let labels = &mut workspace.regions[region].servers[0].declared.labels;
        labels.insert(key.into(), value.into());
    }

    fn firewall(groups: usize) -> Other {
        let targets: Vec<String> = (0..groups).map(|it| format!("group-{it}")).collect();
        let fields = json!({ "targets": targets, "inbound": [] });
        Other {
            declared: Declared {
                name: "us-wall".into(),
                kind: "digitalocean.Firewall".into(),
                path: "region_us_east.firewall".into(),
                protect: false,
                labels: BTreeMap::new(),
                fields: fields.as_object().cloned().unwrap_or_default(),
            },
        }
    }
}
