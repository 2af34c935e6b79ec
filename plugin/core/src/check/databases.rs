//! Which database can copy which.

use std::collections::BTreeMap;

use super::{codes, provider};
use crate::{
    config::{Config, Target},
    desired,
    finding::Finding,
    model::{Database, Region, Workspace},
    names::{self, ProviderName},
};

fn databases(workspace: &Workspace) -> impl Iterator<Item = (&Region, &Database)> {
    let regions = workspace.regions.iter();
    regions.flat_map(|region| region.databases.iter().map(move |database| (region, database)))
}

/// `15` of `15.20`.
fn major(version: &str) -> &str {
    version.split('.').next().unwrap_or(version)
}

fn same_engine(one: &str, other: &str) -> bool {
    let plain = |name: &str| {
        if matches!(name, "pg" | "postgresql") {
            "postgres".to_owned()
        } else {
            name.to_owned()
        }
    };
    plain(one) == plain(other)
}

pub(super) fn copies_are_possible(workspace: &Workspace, _: &Config) -> Vec<Finding> {
    let mut out = Vec::new();
    for (region, copy) in databases(workspace) {
        let Some(name) = &copy.replicate_from else { continue };
        let path = format!("{}.replicate_from", copy.declared.path);
        let source = databases(workspace).find(|(_, it)| it.declared.name == *name);
        let Some((source_region, source)) = source else {
            let known: Vec<&str> = databases(workspace).map(|(_, it)| it.declared.name.as_str()).collect();
            let help = match names::nearest(name, known.iter().copied().filter(|it| *it != copy.declared.name)) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("databases are {}", known.join(", ")),
            };
            let message = format!("{} copies \"{name}\", which does not exist", copy.declared.name);
            out.push(Finding::error(codes::UNKNOWN_DATABASE, message).at(path).help(help));
            continue;
        };
        if source.declared.path == copy.declared.path {
            let message = format!("{} copies itself", copy.declared.name);
            out.push(
                Finding::error(codes::REPLICATION, message)
                    .at(path)
                    .help("name the database of another region"),
            );
            continue;
        }
        let seller = |region, it: &Database| it.managed.then(|| provider(region, &it.declared));
        let from = seller(source_region, source);
        let to = seller(region, copy);
        if let Some((why, help)) = impossible(from, to) {
            let message = format!("{} cannot copy {name}: {why}", copy.declared.name);
            let finding = Finding::error(codes::REPLICATION, message).at(path);
            out.push(finding.label(&source.declared.path, "the source").help(help));
        } else if !same_engine(&source.engine, &copy.engine) || major(&source.version) != major(&copy.version) {
            let message = format!(
                "{} is {} {}, and {name} is {} {}: a copy has the engine and the major version of its source",
                copy.declared.name, copy.engine, copy.version, source.engine, source.version
            );
            let finding = Finding::error(codes::ENGINE, message).at(format!("{}.version", copy.declared.path));
            let help = format!("set engine and version as in {name}, or copy logically (publication and subscription)");
            out.push(finding.label(&source.declared.path, "the source").help(help));
        }
    }
    out
}

/// Nobody said who copies whom, and the region could not take over: its database cannot become a copy.
pub(super) fn regions_could_take_over(workspace: &Workspace, _: &Config) -> Vec<Finding> {
    let Some(primary) = workspace.primary() else {
        return Vec::new();
    };
    let mut out = Vec::new();
    for region in workspace.regions.iter().filter(|it| it.name != primary.name) {
        // Several databases have their own reasons; one is meant to be the copy.
        let ([source], [copy]) = (&primary.databases[..], &region.databases[..]) else {
            continue;
        };
        let said = copy.replicate_from.is_some() || source.replicate_from.is_some();
        if said || !same_engine(&source.engine, &copy.engine) {
            continue;
        }
        let seller = |region, it: &Database| it.managed.then(|| provider(region, &it.declared));
        if let Some((why, help)) = impossible(seller(primary, source), seller(region, copy)) {
            let (name, from) = (&copy.declared.name, &source.declared.name);
            let message = format!("{name} cannot take over from {from}: {why}");
            let finding = Finding::warning(codes::REPLICATION, message)
                .at(&copy.declared.path)
                .label(&source.declared.path, "the primary region's");
            out.push(finding.help(help));
        }
    }
    out
}

/// Why a database sold by `to` (none: run by the workspace itself) cannot follow one sold by `from`.
fn impossible(from: Option<ProviderName>, to: Option<ProviderName>) -> Option<(String, String)> {
    const OWN: &str = "run PostgreSQL on your own servers in every region: ha.Postgres & { runs_on = … }";
    const LOGICAL: &str = "or copy logically, with a publication there and a subscription here: \
                           that carries rows, not sequences or changes of tables";
    if from == to {
        return None;
    }
    let sold = |name: ProviderName| match name {
        ProviderName::Aws => "RDS".to_owned(),
        ProviderName::Digitalocean => "a managed database of DigitalOcean".to_owned(),
        other => format!("a managed database of {other}"),
    };
    let why = match (from, to) {
        (Some(from), _) => format!("{} sends its log to nobody outside of its provider", sold(from)),
        (None, Some(to)) => format!("{} follows only its own kind", sold(to)),
        (None, None) => return None,
    };
    Some((why, format!("{OWN}; {LOGICAL}")))
}

pub(super) fn clusters_are_alike(workspace: &Workspace, _: &Config) -> Vec<Finding> {
    let mut first: BTreeMap<&str, (&Region, &Database)> = BTreeMap::new();
    let mut out = Vec::new();
    for (region, database) in databases(workspace).filter(|(_, database)| !database.managed) {
        let (home, model) = *first.entry(desired::cluster(database)).or_insert((region, database));
        if same_engine(&model.engine, &database.engine) && major(&model.version) == major(&database.version) {
            continue;
        }
        let message = format!(
            "{} in {} is {} {}, and {} in {} is {} {}: one cluster has one engine and one major version",
            database.declared.name,
            region.name,
            database.engine,
            database.version, //
            model.declared.name,
            home.name,
            model.engine,
            model.version,
        );
        let finding = Finding::error(codes::ENGINE, message)
            .at(format!("{}.version", database.declared.path))
            .label(&model.declared.path, "differs from this one")
            .help(format!("set version = \"{}\"", model.version));
        out.push(finding);
    }
    out
}

/// The declared primary makes a database that does not exist yet; without a node there, another region would.
pub(super) fn clusters_have_a_founder(workspace: &Workspace, _: &Config) -> Vec<Finding> {
    let Some(primary) = workspace.primary() else {
        return Vec::new();
    };
    let mut seen: BTreeMap<&str, (&Region, &Database)> = BTreeMap::new();
    for (region, database) in databases(workspace).filter(|(_, database)| !database.managed) {
        seen.entry(desired::cluster(database)).or_insert((region, database));
    }
    let elsewhere = seen.into_values().filter(|(region, _)| region.name != primary.name);
    elsewhere
        .map(|(region, database)| {
            let message = format!(
                "the primary region {} has no node of {}: {} will take its writes at first",
                primary.name, database.declared.name, region.name
            );
            Finding::warning(codes::FOUNDER, message)
                .at(&database.declared.path)
                .label(format!("{}.role", primary.field), "declared primary")
                .help(format!(
                    "add a database to {}, or make {} the primary",
                    primary.name, region.name
                ))
        })
        .collect()
}

pub(super) fn managed_ones_are_not_rehearsed(workspace: &Workspace, config: &Config) -> Vec<Finding> {
    if config.target != Target::Local {
        return Vec::new();
    }
    let managed = databases(workspace).filter(|(_, database)| database.managed);
    managed
        .map(|(region, database)| {
            let message = format!(
                "{} in {} is managed: the local target leaves it out",
                database.declared.name, region.name
            );
            Finding::note(codes::MANAGED_LOCAL, message)
                .at(&database.declared.path)
                .help("ha.Postgres & { runs_on = … } comes up locally and at every provider")
        })
        .collect()
}
