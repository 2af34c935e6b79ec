//! Whether there is somebody to fail over to, and what a commit can wait for.

use super::{codes, list, regions::with_own_databases};
use crate::{
    agent,
    config::Config,
    desired,
    finding::Finding,
    model::{Role, SyncMode, Workspace},
};

/// PostgreSQL cuts longer names of clients off: two nodes could then stream under one.
const LONGEST_NAME: usize = 63;

pub(super) fn somebody_can_lead(workspace: &Workspace, _: &Config) -> Vec<Finding> {
    let holders = with_own_databases(workspace);
    let why: Vec<(&str, Option<String>)> = holders
        .iter()
        .map(|region| (region.name.as_str(), desired::forbidden(workspace, region)))
        .collect();
    let reasons: Vec<String> = why.iter().filter_map(|(_, why)| why.clone()).collect();
    let Some(first) = holders.first().filter(|_| !reasons.is_empty()) else {
        return Vec::new();
    };
    let help = "leave out can_lead = false there, or change residency";
    let able: Vec<&str> = why
        .iter()
        .filter(|(_, why)| why.is_none())
        .map(|(name, _)| *name)
        .collect();
    let Some(only) = able.first() else {
        let message = format!("no region may be made primary: {}", reasons.join("; "));
        let finding = Finding::error(codes::CANNOT_LEAD, message).at(&first.field);
        return vec![finding.help(help)];
    };
    let mut out = Vec::new();
    let declared = workspace.primary().and_then(|primary| {
        let (_, why) = why.iter().find(|(name, _)| primary.name == *name)?;
        Some((primary, why.clone()?))
    });
    if let Some((primary, why)) = declared {
        let message = format!("{} is the primary, and may not be made primary: {why}", primary.name);
        let finding = Finding::error(codes::CANNOT_LEAD, message).at(format!("{}.role", primary.field));
        out.push(finding.help(format!("give {only} role = 'Primary, or {help}")));
    }
    if able.len() == 1 && holders.len() > 1 && out.is_empty() {
        let message = format!(
            "only {only} may be made primary, so there is nowhere to fail over to: {}",
            reasons.join("; ")
        );
        let place = workspace
            .region(only)
            .map_or(first.field.as_str(), |it| it.field.as_str());
        let finding = Finding::warning(codes::CANNOT_LEAD, message).at(place);
        out.push(finding.help(help));
    }
    out
}

/// With every epoch the number at its end grows.
pub(super) fn stream_names_are_short(workspace: &Workspace, _: &Config) -> Vec<Finding> {
    let mut out = Vec::new();
    for region in with_own_databases(workspace) {
        let runs = |name: &str| region.databases.iter().any(|it| it.runs_on.as_deref() == Some(name));
        for group in region.servers.iter().filter(|group| runs(&group.declared.name)) {
            let longest = group.server_names().max_by_key(String::len);
            let Some(server) = longest else { continue };
            let name = agent::epoch_stream_name(&server, u64::from(u32::MAX));
            if name.len() <= LONGEST_NAME {
                continue;
            }
            let over = name.len() - LONGEST_NAME;
            let message = format!(
                "{server} would stream as {}…, which PostgreSQL cuts off at {LONGEST_NAME} characters once its number has grown",
                agent::stream_name(&server)
            );
            let finding = Finding::error(codes::NODE_NAME, message).at(format!("{}.name", group.declared.path));
            let most = group.declared.name.len().saturating_sub(over);
            out.push(finding.help(format!("choose a name of {most} characters or fewer for the group")));
        }
    }
    out
}

/// A witness is there for its vote, and votes lie in the store.
pub(super) fn witnesses_keep_the_store(workspace: &Workspace, _: &Config) -> Vec<Finding> {
    if with_own_databases(workspace).len() < 2 {
        return Vec::new();
    }
    let idle = workspace
        .regions
        .iter()
        .filter(|region| region.role == Role::Witness && region.stores.is_empty());
    idle.map(|region| {
        let message = format!(
            "{} is a witness without a member of the agreement store: it has nothing to vote with",
            region.name
        );
        Finding::error(codes::WITNESS_STORE, message)
            .at(format!("{}.role", region.field))
            .help("add one: store = ha.Store & { name = …, runs_on = … }")
    })
    .collect()
}

/// Any one of two copies may be the last; with a witness nothing changes for the commits, which still need both.
pub(super) fn two_data_regions(workspace: &Workspace, _: &Config) -> Vec<Finding> {
    let [first, second] = with_own_databases(workspace)[..] else {
        return Vec::new();
    };
    if workspace.sync_mode != SyncMode::Strict {
        return Vec::new();
    }
    let witness = workspace.regions.iter().any(|it| it.role == Role::Witness);
    let (message, help) = match witness {
        true => (
            format!(
                "each commit of strict mode needs both {} and {}: all writes stop when either is lost",
                first.name, second.name
            ),
            "write sync_mode = 'Degrade, or add a database to a third region",
        ),
        false => (
            "with two data regions and no witness, strict mode stops all writes when either region is lost".to_owned(),
            "write sync_mode = 'Degrade and add a third region with role = 'Witness for its vote and store member",
        ),
    };
    let finding = Finding::warning(codes::TWO_REGIONS, message).at("sync_mode");
    vec![finding.label(&second.field, "the second of two").help(help)]
}

pub(super) fn there_is_a_second_copy(workspace: &Workspace, _: &Config) -> Vec<Finding> {
    if workspace.sync_mode == SyncMode::Async {
        return Vec::new();
    }
    let alone = desired::alone(workspace);
    if alone.is_empty() {
        return Vec::new();
    }
    let message = format!(
        "sync_mode = '{} waits for a second copy, and {} has none: commits return at once, as in async",
        match workspace.sync_mode {
            SyncMode::Degrade => "Degrade",
            _ => "Strict",
        },
        list(&alone)
    );
    let finding = Finding::note(codes::ONE_COPY, message).at("sync_mode");
    vec![finding.help("add a database to another region, or write sync_mode = 'Async")]
}
