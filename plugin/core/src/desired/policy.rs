//! Who may be made primary, and who is preferred: what the workspace says, for those who decide while it runs.

use std::collections::BTreeMap;

use super::cluster;
use crate::{
    geo,
    model::{Region, SyncMode, Workspace},
};

/// Why the copies of this region are never made primary, as a sentence; none when they may be.
///
/// A region may refuse by itself (`can_lead = false`), lie outside of where its own data may be, or outside of where
/// the primary region's may.
pub fn forbidden(workspace: &Workspace, region: &Region) -> Option<String> {
    if !region.can_lead {
        return Some(format!("{} says can_lead = false", region.name));
    }
    let primary = workspace.primary();
    let home = primary.filter(|primary| primary.name != region.name);
    [Some(region), home].into_iter().flatten().find_map(|of| {
        if of.residency.is_empty() {
            return None;
        }
        let places = of.residency.join(", ");
        match region.country.as_deref() {
            Some(country) if geo::allows(&of.residency, country) => None,
            Some(country) => Some(format!(
                "data of {} must stay in {places}, and {} is in {country}",
                of.name, region.name
            )),
            None => Some(format!(
                "data of {} must stay in {places}, and the country of {} is not known",
                of.name, region.name
            )),
        }
    })
}

/// The nodes of databases of which there is only one: no commit can wait for a second copy.
pub fn alone(workspace: &Workspace) -> Vec<String> {
    let mut nodes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for region in &workspace.regions {
        for database in region.databases.iter().filter(|it| !it.managed) {
            let Some(group) = database.runs_on.as_deref().and_then(|it| super::group(region, it)) else {
                continue;
            };
            let own = (0..group.count).map(|_| database.declared.name.as_str());
            nodes.entry(cluster(database)).or_default().extend(own);
        }
    }
    let single = nodes.into_values().filter(|nodes| nodes.len() == 1);
    single.flatten().map(str::to_owned).collect()
}

/// What holds for a database of so many nodes: with one alone, a commit that waited would wait for ever.
pub(super) fn mode(workspace: &Workspace, nodes: usize) -> SyncMode {
    match nodes {
        0 | 1 => SyncMode::Async,
        _ => workspace.sync_mode,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::workspace;

    #[test]
    fn a_region_may_refuse() {
        let mut workspace = workspace();
        workspace.regions[1].can_lead = false;
        let why: Vec<_> = workspace.regions.iter().map(|it| forbidden(&workspace, it)).collect();
        assert_eq!(why, [None, Some("eu-central says can_lead = false".into()), None]);
    }

    #[test]
    fn data_is_not_led_from_where_it_must_not_be() {
        let mut workspace = workspace();
        workspace.regions[0].residency = vec!["US".into(), "EU".into()];
        let why: Vec<_> = workspace.regions.iter().map(|it| forbidden(&workspace, it)).collect();
        assert_eq!(why[..2], [None, None]);
        assert_eq!(
            why[2].as_deref(),
            Some("data of us-east must stay in US, EU, and asia-southeast is in SG")
        );
        workspace.regions[1].country = None;
        let why = forbidden(&workspace, &workspace.regions[1]);
        assert!(why.is_some_and(|why| why.contains("not known")));
        // Of another region than the primary only what it says of itself.
        workspace.regions[0].residency.clear();
        workspace.regions[2].residency = vec!["EU".into()];
        assert!(forbidden(&workspace, &workspace.regions[2]).is_some());
        assert_eq!(forbidden(&workspace, &workspace.regions[0]), None);
    }

    #[test]
    fn one_node_has_nobody_to_wait_for() {
        let mut workspace = workspace();
        assert!(alone(&workspace).is_empty());
        workspace.regions.truncate(1);
        assert_eq!(alone(&workspace), ["us-pg"]);
        assert_eq!(mode(&workspace, 1), SyncMode::Async);
        workspace.regions[0].servers[1].count = 2;
        assert!(alone(&workspace).is_empty());
        assert_eq!(mode(&workspace, 2), SyncMode::Strict);
    }
}
