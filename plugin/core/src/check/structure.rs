//! Names, and what they name.

use std::collections::BTreeMap;

use super::{codes, list};
use crate::{
    agent,
    config::Config,
    desired,
    finding::Finding,
    model::{Declared, Region, Workspace},
    names,
};

/// The local target gives every region's relay this host name.
const RELAY: &str = "relay";

pub(super) fn names_are_unique(workspace: &Workspace, _: &Config) -> Vec<Finding> {
    workspace.regions.iter().flat_map(in_region).collect()
}

fn in_region<'a>(region: &'a Region) -> Vec<Finding> {
    let mut seen: BTreeMap<(&str, String), &Declared> = BTreeMap::new();
    let mut out = Vec::new();
    let mut claim = |space: &'static str, name: String, declared: &'a Declared| {
        if space == "host" && name == RELAY {
            let message = format!("\"{RELAY}\" is the name of the region's own relay");
            out.push(
                Finding::error(codes::DUPLICATE_NAME, message)
                    .at(&declared.path)
                    .help("choose another name"),
            );
        } else if let Some(first) = seen.insert((space, name.clone()), declared) {
            let message = format!("\"{name}\" is there twice in {}", region.name);
            let finding = Finding::error(codes::DUPLICATE_NAME, message)
                .at(format!("{}.name", declared.path))
                .label(format!("{}.name", first.path), "the first one")
                .help("names tell the things of a region apart: change one of them");
            out.push(finding);
        }
    };
    region
        .networks
        .iter()
        .for_each(|it| claim("network", it.declared.name.clone(), &it.declared));
    for group in &region.servers {
        claim("group", group.declared.name.clone(), &group.declared);
    }
    // Servers and balancers are hosts: on the local target they share one folder.
    for group in &region.servers {
        let twin = region
            .servers
            .iter()
            .any(|it| it.declared.name == group.declared.name && it != group);
        group
            .server_names()
            .filter(|_| !twin)
            .for_each(|name| claim("host", name, &group.declared));
    }
    region
        .load_balancers
        .iter()
        .for_each(|it| claim("host", it.declared.name.clone(), &it.declared));
    region
        .databases
        .iter()
        .for_each(|it| claim("database", it.declared.name.clone(), &it.declared));
    region
        .stores
        .iter()
        .for_each(|it| claim("store", it.declared.name.clone(), &it.declared));
    region.others.iter().for_each(|it| {
        claim(
            "other",
            format!("{} {}", it.declared.kind, it.declared.name),
            &it.declared,
        )
    });
    out
}

/// Replicas are known to their primary, and in slots, by the name of their server: it must be one of a kind
/// in the whole workspace.
pub(super) fn nodes_are_told_apart(workspace: &Workspace, _: &Config) -> Vec<Finding> {
    let mut seen: BTreeMap<String, (&Region, &Declared)> = BTreeMap::new();
    let mut out = Vec::new();
    for region in &workspace.regions {
        for group in &region.servers {
            let runs = |name: &Option<String>| name.as_deref() == Some(group.declared.name.as_str());
            if !region.databases.iter().any(|database| runs(&database.runs_on)) {
                continue;
            }
            for server in group.server_names() {
                let Some((first, declared)) = seen.insert(agent::stream_name(&server), (region, &group.declared))
                else {
                    continue;
                };
                if first.name == region.name {
                    continue;
                }
                let message = format!(
                    "database server {server} of {} is called like one of {}",
                    region.name, first.name
                );
                let finding = Finding::error(codes::DUPLICATE_NAME, message)
                    .at(format!("{}.name", group.declared.path))
                    .label(format!("{}.name", declared.path), "the other one")
                    .help("database servers need a name of their own in the whole workspace, as us-db and eu-db");
                out.push(finding);
                break;
            }
        }
    }
    out
}

pub(super) fn groups_exist(workspace: &Workspace, _: &Config) -> Vec<Finding> {
    let mut out = Vec::new();
    for region in &workspace.regions {
        for store in &region.stores {
            out.extend(group(workspace, region, &store.declared, "runs_on", &store.runs_on));
        }
        for database in region.databases.iter().filter(|it| !it.managed) {
            match &database.runs_on {
                Some(name) => out.extend(group(workspace, region, &database.declared, "runs_on", name)),
                None => {
                    let message = format!("{} does not say which servers it runs on", database.declared.name);
                    let help = format!("add runs_on = {}", own_groups(region));
                    out.push(
                        Finding::error(codes::UNKNOWN_GROUP, message)
                            .at(&database.declared.path)
                            .help(help),
                    );
                }
            }
        }
        for balancer in &region.load_balancers {
            if let Some(name) = &balancer.targets {
                out.extend(group(workspace, region, &balancer.declared, "targets", name));
            }
        }
    }
    out
}

/// Every database listens on the same port of its servers, and so does every member of the store.
pub(super) fn groups_are_not_shared(workspace: &Workspace, _: &Config) -> Vec<Finding> {
    let mut out = Vec::new();
    for region in &workspace.regions {
        let own = region.databases.iter().filter(|it| !it.managed);
        let databases = own.filter_map(|it| Some((it.runs_on.as_deref()?, &it.declared)));
        out.extend(shared(databases, "database"));
        let stores = region.stores.iter().map(|it| (it.runs_on.as_str(), &it.declared));
        out.extend(shared(stores, "store member"));
    }
    out
}

fn shared<'a>(users: impl Iterator<Item = (&'a str, &'a Declared)>, what: &str) -> Vec<Finding> {
    let mut first: BTreeMap<&str, &Declared> = BTreeMap::new();
    let mut out = Vec::new();
    for (group, user) in users {
        let Some(other) = first.insert(group, user) else {
            continue;
        };
        let message = format!(
            "{} and {} both run on {group}: a server holds one {what}",
            other.name, user.name
        );
        let finding = Finding::error(codes::SHARED_GROUP, message)
            .at(format!("{}.runs_on", user.path))
            .label(format!("{}.runs_on", other.path), "the first one")
            .help("give it a group of its own, or leave one of the two out");
        out.push(finding);
    }
    out
}

fn own_groups(region: &Region) -> String {
    let groups: Vec<String> = region
        .servers
        .iter()
        .map(|it| format!("\"{}\"", it.declared.name))
        .collect();
    groups.join(" or ")
}

/// What is wrong with the group that `user` names in its field `field`.
fn group(workspace: &Workspace, region: &Region, user: &Declared, field: &str, name: &str) -> Option<Finding> {
    let path = format!("{}.{field}", user.path);
    let named = |it: &&crate::model::ServerGroup| it.declared.name == name;
    if let Some(group) = region.servers.iter().find(named) {
        if group.count > 0 {
            return None;
        }
        let message = format!("{} uses the group {name}, which has no servers", user.name);
        let finding = Finding::error(codes::EMPTY_GROUP, message).at(path);
        return Some(
            finding
                .label(format!("{}.count", group.declared.path), "none")
                .help("set count to 1 or more"),
        );
    }
    let elsewhere = workspace
        .regions
        .iter()
        .find_map(|other| Some((other, other.servers.iter().find(named)?)));
    if let Some((other, group)) = elsewhere {
        let message = format!("{} names the group {name}, which lives in {}", user.name, other.name);
        let help = match region.servers.is_empty() {
            true => format!("{} has no servers: add a group to it", region.name),
            false => format!(
                "within {} there is {}; nothing spreads over or runs in another region",
                region.name,
                own_groups(region)
            ),
        };
        let finding = Finding::error(codes::OTHER_REGION, message).at(path);
        return Some(finding.label(&group.declared.path, "lives here").help(help));
    }
    let groups = region.servers.iter().map(|it| it.declared.name.as_str());
    let help = match names::nearest(name, groups) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None if region.servers.is_empty() => format!("{} has no servers: add a group to it", region.name),
        None => format!("{} has {}", region.name, own_groups(region)),
    };
    let message = format!("{} names the group \"{name}\", which does not exist", user.name);
    Some(Finding::error(codes::UNKNOWN_GROUP, message).at(path).help(help))
}

pub(super) fn balancers_have_targets(workspace: &Workspace, _: &Config) -> Vec<Finding> {
    let mut out = Vec::new();
    for region in &workspace.regions {
        for balancer in region.load_balancers.iter().filter(|it| it.targets.is_none()) {
            if desired::target_group(region, balancer).is_some() {
                continue;
            }
            let groups: Vec<String> = region.servers.iter().map(|it| it.declared.name.clone()).collect();
            let name = &balancer.declared.name;
            let (code, message, help) = if groups.is_empty() {
                let message = format!("{name} has nothing to spread over: {} has no servers", region.name);
                (
                    codes::EMPTY_GROUP,
                    message,
                    "add a group of servers to the region".to_owned(),
                )
            } else {
                let message = format!("{name} could spread over {}", list(&groups));
                (
                    codes::AMBIGUOUS_TARGETS,
                    message,
                    format!("say which: targets = {}", own_groups(region)),
                )
            };
            out.push(Finding::error(code, message).at(&balancer.declared.path).help(help));
        }
    }
    out
}
