//! Rules across the whole workspace: every finding of every rule, in one run.
//!
//! One function per rule, pure, and total: a workspace that breaks one rule is still judged by the others.

mod clouds;
pub mod codes;
mod databases;
mod failover;
mod geography;
mod network;
mod objectives;
mod operator;
mod regions;
mod structure;
#[cfg(test)]
mod tests;
mod timing;

use crate::{
    config::Config,
    finding::{self, Finding},
    model::{Declared, Region, Workspace},
    names::ProviderName,
};

pub(crate) use network::{is_private as private_network, range as network_range};

type Rule = fn(&Workspace, &Config) -> Vec<Finding>;

const RULES: &[Rule] = &[
    regions::exactly_one_primary,
    regions::a_witness_holds_no_data,
    failover::two_data_regions,
    regions::store_members,
    regions::the_store_outlives_a_region,
    regions::dns_answers_everybody,
    crate::dns::findings::findings,
    structure::names_are_unique,
    structure::nodes_are_told_apart,
    structure::groups_exist,
    structure::groups_are_not_shared,
    structure::balancers_have_targets,
    network::ranges_are_private,
    network::ranges_do_not_overlap,
    network::zones_hold_their_servers,
    geography::locations_are_the_providers,
    geography::coordinates_are_known,
    geography::regions_are_far_apart,
    geography::commits_are_quick_enough,
    geography::data_stays_where_it_may,
    databases::copies_are_possible,
    databases::regions_could_take_over,
    databases::clusters_are_alike,
    databases::clusters_have_a_founder,
    databases::managed_ones_are_not_rehearsed,
    objectives::lag_limits_are_in_order,
    objectives::lag_limits_meet_the_rpo,
    objectives::failover_meets_the_rto,
    objectives::timing_is_sound,
    objectives::the_budget_holds,
    timing::constants_keep_the_rules,
    timing::lines_end_before_the_lease,
    failover::somebody_can_lead,
    failover::stream_names_are_short,
    failover::witnesses_keep_the_store,
    failover::there_is_a_second_copy,
    operator::region_names_agree,
    clouds::networks_fit_their_provider,
    clouds::health_checks_fit_their_provider,
    clouds::labels_fit_their_provider,
    clouds::firewalls_fit_their_provider,
];

/// Everything that is wrong or worth knowing, sorted. Paths are filled; places in `workspace.ncl` are not.
pub fn run(workspace: &Workspace, config: &Config) -> Vec<Finding> {
    let mut findings: Vec<Finding> = RULES.iter().flat_map(|rule| rule(workspace, config)).collect();
    finding::sort(&mut findings);
    findings
}

/// Who sells it: the prefix of its kind, else the region's provider.
fn provider(region: &Region, declared: &Declared) -> ProviderName {
    let prefix = declared.kind.split('.').next().unwrap_or_default();
    ProviderName::parse(prefix).unwrap_or(region.provider)
}

/// The field that holds a resource's location, in its provider's word.
fn location_path(declared: &Declared) -> String {
    match declared.fields.contains_key("location") {
        true => format!("{}.location", declared.path),
        false if declared.fields.contains_key("region") => format!("{}.region", declared.path),
        false => declared.path.clone(),
    }
}

/// Everything of a region that has a location, with it.
fn located(region: &Region) -> impl Iterator<Item = (&Declared, &str)> {
    let groups = region.servers.iter().map(|it| (&it.declared, it.location.as_str()));
    let balancers = region
        .load_balancers
        .iter()
        .map(|it| (&it.declared, it.location.as_str()));
    let databases = region.databases.iter().map(|it| (&it.declared, it.location.as_str()));
    let networks = region.networks.iter().map(|it| &it.declared);
    let written = networks.chain(region.others.iter().map(|it| &it.declared));
    let written = written.filter_map(|it| {
        let word = it.fields.get("location").or_else(|| it.fields.get("region"))?;
        Some((it, word.as_str()?))
    });
    groups.chain(balancers).chain(databases).chain(written)
}

/// Where a reader of the workspace sees the region's location.
fn place_of(region: &Region) -> String {
    let field = located(region).find(|(_, location)| *location == region.location);
    field.map_or_else(|| region.field.clone(), |(declared, _)| location_path(declared))
}

/// `a, b and c`
fn list(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [head @ .., last] => format!("{} and {last}", head.join(", ")),
    }
}
