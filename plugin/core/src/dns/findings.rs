//! What is wrong with declared names, before anybody is asked.

use std::collections::BTreeMap;

use super::{
    place::Place,
    wanted::{domain, labels, places, taking_part, zone},
    within,
};
use crate::{
    check::codes,
    config::Config,
    finding::Finding,
    model::{Dns, Workspace},
    names,
};

/// Seconds. Whoever asked goes where it was told for as long; AWS advises no more for names that have health checks.
/// Source: <https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/best-practices-dns.html>.
const LONGEST_TTL: u64 = 60;

/// Everything, in the order of the fields; a rule of [`crate::check`], which says by itself what is wrong with the default
/// region.
pub fn findings(workspace: &Workspace, config: &Config) -> Vec<Finding> {
    let Some(dns) = &workspace.dns else { return Vec::new() };
    let mut out = Vec::new();
    zone_holds_domain(dns, config, &mut out);
    regions_exist(workspace, dns, &mut out);
    names_differ(workspace, dns, &mut out);
    if dns.ttl_seconds > LONGEST_TTL {
        let message = format!(
            "a TTL of {} s: for so long users still go to a region that is gone",
            dns.ttl_seconds
        );
        let help = format!("write ttl = {LONGEST_TTL}, or less");
        out.push(
            Finding::warning(codes::DNS_TTL, message)
                .at(format!("{}.ttl", dns.path))
                .help(help),
        );
    }
    match dns.routing.as_str() {
        "failover" => pair(workspace, dns, &mut out),
        "geolocation" => whom(workspace, dns, &mut out),
        _ => {}
    }
    out
}

/// Health checks that can never succeed: nothing listens where they ask. Needs what the balancers listen on.
pub fn unheard(workspace: &Workspace) -> Vec<Finding> {
    let Some(dns) = workspace.dns.as_ref().filter(|it| it.probes && it.routing != "simple") else {
        return Vec::new();
    };
    let balancers = taking_part(workspace).filter_map(|it| it.load_balancers.first());
    let deaf = balancers.filter(|it| it.rules.iter().all(|rule| rule.entry_port != dns.probe_port));
    let finding = |balancer: &crate::model::LoadBalancer| {
        let name = &balancer.declared.name;
        let message = format!(
            "the health check asks port {} of {name}, which does not listen there: the region is never answered",
            dns.probe_port
        );
        let help = match dns.probe_port {
            443 => format!(
                "add a rule with entry_protocol = \"https\" to {name}, or ask another port: {}.health_check = {{ protocol = \
                 \"HTTP\", port = 80 }}",
                dns.path
            ),
            port => format!("add a rule with entry_port = {port} to {name}"),
        };
        Finding::warning(codes::DNS_PORT, message)
            .at(&balancer.declared.path)
            .help(help)
    };
    deaf.map(finding).collect()
}

fn zone_holds_domain(dns: &Dns, config: &Config, out: &mut Vec<Finding>) {
    let (domain, zone) = (domain(dns, config), zone(dns, config));
    if !within(&domain, &zone) {
        let finding = Finding::error(codes::DNS_ZONE, format!("the zone {zone} cannot hold {domain}"));
        let parent = domain.split_once('.').map_or(domain.as_str(), |(_, parent)| parent);
        out.push(finding.at(format!("{}.zone", dns.path)).help(format!(
            "write zone = \"{parent}\", or leave it out for a zone of {domain} alone"
        )));
    }
}

/// Fields that are about regions are about regions that there are.
fn regions_exist(workspace: &Workspace, dns: &Dns, out: &mut Vec<Finding>) {
    let known: Vec<&str> = taking_part(workspace).map(|it| it.name.as_str()).collect();
    let fields = [
        ("locations", dns.locations.keys().collect::<Vec<_>>()),
        ("names", dns.names.keys().collect()),
        ("weights", dns.weights.keys().collect()),
    ];
    for (field, named) in fields {
        for name in named.into_iter().filter(|name| !known.contains(&name.as_str())) {
            let finding = Finding::error(
                codes::DNS_REGION,
                format!("no region with a balancer is called \"{name}\""),
            );
            let help = match names::nearest(name, known.iter().copied()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("regions are {}", known.join(", ")),
            };
            out.push(finding.at(format!("{}.{field}", dns.path)).help(help));
        }
    }
}

fn names_differ(workspace: &Workspace, dns: &Dns, out: &mut Vec<Finding>) {
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for (region, label) in labels(workspace, dns) {
        if let Some(other) = seen.insert(label.clone(), region.clone()) {
            let message = format!("{other} and {region} are both called {label}.{}", dns.domain);
            let finding = Finding::error(codes::DNS_NAME, message).at(format!("{}.names", dns.path));
            out.push(finding.help(format!("give each its own: names = {{ {region} = \"{region}\" }}")));
        }
    }
}

/// Route 53 has one that answers and one that takes its place.
fn pair(workspace: &Workspace, dns: &Dns, out: &mut Vec<Finding>) {
    if !dns.probes {
        let message = "failover without health checks: the second record is never answered";
        let finding = Finding::error(codes::DNS_PROBES, message).at(format!("{}.health_check", dns.path));
        out.push(finding.help("write health_check = { enabled = true }, or routing = \"simple\" and use ha dns point"));
    }
    let regions = taking_part(workspace).count();
    if regions != 2 {
        let finding = Finding::warning(
            codes::DNS_PAIR,
            format!("failover is between two records, and {regions} regions have a balancer"),
        );
        out.push(finding.at(format!("{}.routing", dns.path)).help(
            "the default region and the next in failover_priority make up the pair; routing = \"geolocation\" answers with \
             all of them",
        ));
    }
}

fn whom(workspace: &Workspace, dns: &Dns, out: &mut Vec<Finding>) {
    for (region, words) in &dns.locations {
        for word in words.iter().filter(|word| Place::parse(word).is_none()) {
            let finding = Finding::error(codes::DNS_PLACE, format!("\"{word}\" is no place that Route 53 knows"));
            out.push(finding.at(format!("{}.locations.{region}", dns.path)).help(
                "a continent (europe, north-america), a country (IE), or a state of the US (US-VA); the rest of the world \
                 is default_region",
            ));
        }
    }
    let mut seen: BTreeMap<Place, String> = BTreeMap::new();
    for (region, of_region) in places(workspace, dns) {
        if of_region.is_empty() && dns.default_region.as_deref() != Some(region.as_str()) {
            let message = format!("nobody is sent to {region}: another region answers its continent and its country");
            let finding = Finding::warning(codes::DNS_PLACE, message).at(&dns.path);
            out.push(finding.help(format!("say whom it answers: locations = {{ {region} = [\"US-OR\"] }}")));
        }
        for place in of_region {
            if let Some(other) = seen.insert(place.clone(), region.clone()) {
                let finding = Finding::error(codes::DNS_PLACE, format!("{other} and {region} both answer {place}"));
                let finding = finding.at(format!("{}.locations", dns.path));
                out.push(finding.help(format!("leave it to one of them: remove \"{place}\" from {other}")));
            }
        }
    }
}
