//! Roles, witnesses, the store and the DNS: what the regions are to each other.

use super::{codes, list};
use crate::{
    config::Config,
    finding::Finding,
    model::{Region, Role, Workspace},
    names,
};

pub(super) fn exactly_one_primary(workspace: &Workspace, _: &Config) -> Vec<Finding> {
    if workspace.regions.is_empty() {
        let help = "add one: region_us_east = { role = 'Primary, … }; ha init writes a whole example";
        return vec![Finding::error(codes::NO_REGION, "the workspace has no region").help(help)];
    }
    let primaries: Vec<&Region> = workspace.regions.iter().filter(|it| it.role == Role::Primary).collect();
    match &primaries[..] {
        [_] => Vec::new(),
        [] => {
            let first = &workspace.regions[0];
            let finding = Finding::error(codes::PRIMARY, "no region is the primary")
                .at(format!("{}.role", first.field))
                .help("give exactly one region role = 'Primary: its database is the one that takes writes at first");
            vec![finding]
        }
        [first, more @ ..] => more
            .iter()
            .map(|region| {
                Finding::error(codes::PRIMARY, format!("{} is a second primary", region.name))
                    .at(format!("{}.role", region.field))
                    .label(format!("{}.role", first.field), "the first one")
                    .help("exactly one region takes writes at first; make this one 'Secondary or 'Tertiary")
            })
            .collect(),
    }
}

pub(super) fn a_witness_holds_no_data(workspace: &Workspace, _: &Config) -> Vec<Finding> {
    let witnesses = workspace.regions.iter().filter(|region| region.role == Role::Witness);
    witnesses
        .flat_map(|region| region.databases.iter().map(move |database| (region, database)))
        .map(|(region, database)| {
            let message = format!(
                "{} is a witness and holds the database {}",
                region.name, database.declared.name
            );
            Finding::error(codes::WITNESS_DATA, message)
                .at(&database.declared.path)
                .label(format!("{}.role", region.field), "votes only")
                .help("remove the database, or give the region another role")
        })
        .collect()
}

pub(super) fn with_own_databases(workspace: &Workspace) -> Vec<&Region> {
    let own = |region: &&Region| region.databases.iter().any(|database| !database.managed);
    workspace.regions.iter().filter(own).collect()
}

pub(super) fn store_members(workspace: &Workspace, _: &Config) -> Vec<Finding> {
    let holders: Vec<&Region> = workspace
        .regions
        .iter()
        .filter(|region| !region.stores.is_empty())
        .collect();
    let members: usize = holders.iter().map(|region| region.stores.len()).sum();
    let Some(first) = with_own_databases(workspace).first().copied() else {
        return Vec::new();
    };
    if members == 0 {
        let message = "no region has a member of the agreement store: no database can be made, because nothing decides who is primary";
        let help = format!(
            "add one per region: store = ha.Store & {{ runs_on = … }}, first in {}",
            first.name
        );
        return vec![
            Finding::error(codes::STORE_MISSING, message)
                .at(&first.field)
                .help(help),
        ];
    }
    if members % 2 == 1 {
        return Vec::new();
    }
    let (survives, less) = (members / 2 - 1, members - 1);
    let message = format!(
        "{members} store members survive the loss of {survives}, no more than {less} would: the last one only adds what can fail"
    );
    let last = holders.last().and_then(|region| region.stores.last());
    let path = last.map_or_else(|| first.field.clone(), |store| store.declared.path.clone());
    let help = "have an odd number: add a region with role = 'Witness and a store member, or take one away";
    vec![Finding::warning(codes::STORE_EVEN, message).at(path).help(help)]
}

/// Odd is not enough: with all members in the region that is lost, nobody can agree on another primary.
pub(super) fn the_store_outlives_a_region(workspace: &Workspace, _: &Config) -> Vec<Finding> {
    let members = workspace
        .regions
        .iter()
        .map(|region| region.stores.len())
        .sum::<usize>();
    // An even number is judged by [`store_members`]; a single data region has nothing to fail over to.
    if members % 2 == 0 || with_own_databases(workspace).len() < 2 {
        return Vec::new();
    }
    let heavy = workspace
        .regions
        .iter()
        .find(|region| region.stores.len() > members / 2);
    let Some((region, store)) = heavy.and_then(|region| Some((region, region.stores.last()?))) else {
        return Vec::new();
    };
    let held = match (region.stores.len(), members) {
        (1, 1) => "the only member".to_owned(),
        (held, members) => format!("{held} of the {members} members"),
    };
    let message = format!(
        "{} holds {held} of the agreement store: when it is lost, no other region can take over",
        region.name
    );
    let without = workspace.regions.iter().find(|region| region.stores.is_empty());
    let finding = Finding::warning(codes::STORE_MAJORITY, message).at(&store.declared.path);
    let finding = match without {
        Some(without) => finding.label(&without.field, "has no member"),
        None => finding,
    };
    vec![finding.help("have one in each of three regions: store = ha.Store & { name = …, runs_on = … }")]
}

pub(super) fn dns_answers_everybody(workspace: &Workspace, _: &Config) -> Vec<Finding> {
    let Some(dns) = &workspace.dns else {
        return Vec::new();
    };
    let known: Vec<&str> = workspace.regions.iter().map(|region| region.name.as_str()).collect();
    let path = format!("{}.default_region", dns.path);
    match &dns.default_region {
        Some(name) if !known.contains(&name.as_str()) => {
            let help = match names::nearest(name, known.iter().copied()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!(
                    "regions are {}",
                    list(&known.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>())
                ),
            };
            vec![
                Finding::error(codes::DNS_REGION, format!("no region is called \"{name}\""))
                    .at(path)
                    .help(help),
            ]
        }
        None if dns.routing.starts_with("geo") => {
            let message = format!(
                "{} records for {} have no default: users elsewhere get no answer",
                dns.routing, dns.domain
            );
            let primary = workspace.primary().or(workspace.regions.first());
            let name = primary.map_or("…", |region| region.name.as_str());
            let help = format!("add default_region = \"{name}\"");
            vec![Finding::error(codes::DNS_DEFAULT, message).at(&dns.path).help(help)]
        }
        _ => Vec::new(),
    }
}
