//! Locations, distances, and where data may lie.

use std::collections::BTreeSet;

use super::{codes, list, located, location_path, place_of, provider};
use crate::{
    config::Config,
    desired,
    finding::Finding,
    geo,
    model::{Declared, Region, SyncMode, Workspace},
    names::{self, ProviderName},
};

pub(super) fn locations_are_the_providers(workspace: &Workspace, _: &Config) -> Vec<Finding> {
    let mut out = Vec::new();
    for region in &workspace.regions {
        for (declared, slug) in located(region) {
            // Self-run kinds (`ha.Postgres`) are where their servers are.
            if !declared.kind.starts_with("ha.") {
                out.extend(foreign_location(provider(region, declared), declared, slug));
            }
        }
        out.extend(far_balancers(region));
    }
    out
}

fn foreign_location(provider: ProviderName, declared: &Declared, slug: &str) -> Option<Finding> {
    if provider == ProviderName::Local || geo::location(provider, slug).is_some() {
        return None;
    }
    let path = location_path(declared);
    let (message, help) = if let Some(owner) = geo::anywhere(slug) {
        let message = format!(
            "{slug} is {} at {}, not a location of {provider}",
            owner.city, owner.provider
        );
        let help = match geo::same_place(provider, owner.at) {
            Some(near) => format!("{provider} calls that place \"{}\"", near.slug),
            None => format!("{provider} is not there; its locations: {}", slugs(provider)),
        };
        (message, help)
    } else if let Some(zone) = geo::location(provider, slug.trim_end_matches(|c: char| c.is_ascii_lowercase())) {
        let message = format!("{slug} is one zone of the region {}", zone.slug);
        (message, format!("name the region: \"{}\"", zone.slug))
    } else {
        // Providers open locations faster than tables are kept: this one may exist.
        let message = format!("{provider} has no location \"{slug}\" that is known here");
        let help = match names::nearest(slug, geo::locations(provider).map(|it| it.slug)) {
            Some(near) => {
                format!("did you mean \"{near}\"? If it is new, declare location with latitude, longitude and country")
            }
            None => format!(
                "known are {}; if it is new, declare location with latitude, longitude and country",
                slugs(provider)
            ),
        };
        return Some(Finding::warning(codes::LOCATION, message).at(path).help(help));
    };
    Some(Finding::error(codes::LOCATION, message).at(path).help(help))
}

fn slugs(provider: ProviderName) -> String {
    geo::locations(provider)
        .map(|it| it.slug)
        .collect::<Vec<_>>()
        .join(", ")
}

/// A balancer and its servers are in one location; only Hetzner's reaches a whole network zone.
fn far_balancers(region: &Region) -> Vec<Finding> {
    let mut out = Vec::new();
    for balancer in &region.load_balancers {
        let Some(group) = desired::target_group(region, balancer) else {
            continue;
        };
        let seller = provider(region, &balancer.declared);
        if group.location == balancer.location || seller == ProviderName::Hetzner {
            continue;
        }
        let (name, servers) = (&balancer.declared.name, &group.declared.name);
        let message = format!(
            "{name} is in {}, its servers {servers} are in {}",
            balancer.location, group.location
        );
        let finding = Finding::error(codes::OTHER_REGION, message)
            .at(location_path(&balancer.declared))
            .label(location_path(&group.declared), "the servers")
            .help("a balancer spreads only within its own location: put both into one");
        out.push(finding);
    }
    out
}

pub(super) fn coordinates_are_known(workspace: &Workspace, _: &Config) -> Vec<Finding> {
    if workspace.regions.len() < 2 {
        return Vec::new();
    }
    let unknown = workspace.regions.iter().filter(|region| region.coordinates.is_none());
    unknown
        .map(|region| {
            let message = format!(
                "where {} lies is not known: its distance to the others cannot be judged",
                region.name
            );
            Finding::warning(codes::COORDINATES, message)
                .at(place_of(region))
                .help("add location = { latitude = 40.7, longitude = -74.0, country = \"US\" } to the region")
        })
        .collect()
}

fn pairs(workspace: &Workspace) -> impl Iterator<Item = (&Region, &Region)> {
    let regions = &workspace.regions;
    regions
        .iter()
        .enumerate()
        .flat_map(|(at, region)| regions[..at].iter().map(move |other| (other, region)))
}

pub(super) fn regions_are_far_apart(workspace: &Workspace, _: &Config) -> Vec<Finding> {
    let least = workspace.objectives.min_distance_km;
    let mut out = Vec::new();
    for (one, other) in pairs(workspace) {
        let Some((from, to)) = one.coordinates.zip(other.coordinates) else {
            continue;
        };
        let distance = from.distance_km(to);
        if distance >= least {
            continue;
        }
        let message = format!(
            "{} and {} are {distance:.0} km apart, less than {least:.0}: one disaster may take both",
            one.name, other.name
        );
        let finding = Finding::warning(codes::DISTANCE, message)
            .at(place_of(other))
            .label(place_of(one), one.name.as_str())
            .help(format!(
                "choose a location further away, or accept it: objectives.min_distance_km = {}",
                distance.floor()
            ));
        out.push(finding);
    }
    out
}

/// Strict mode: each commit waits for the nearest other copy, and no answer is faster than light.
pub(super) fn commits_are_quick_enough(workspace: &Workspace, _: &Config) -> Vec<Finding> {
    let Some(primary) = workspace.primary().filter(|_| workspace.sync_mode == SyncMode::Strict) else {
        return Vec::new();
    };
    let own = |region: &&Region| region.name != primary.name && region.databases.iter().any(|it| !it.managed);
    // With one distance unknown, which copy is the nearest is unknown too.
    let trips: Option<Vec<(f64, &Region)>> = workspace
        .regions
        .iter()
        .filter(own)
        .map(|other| Some((primary.coordinates?.least_round_trip_ms(other.coordinates?), other)))
        .collect();
    let nearest = trips.and_then(|trips| trips.into_iter().min_by(|(a, _), (b, _)| a.total_cmp(b)));
    let Some((trip, other)) = nearest.filter(|(trip, _)| *trip > workspace.objectives.max_latency_ms) else {
        return Vec::new();
    };
    let message = format!(
        "every commit in {} waits for {}, the nearest copy, at least {trip:.0} ms; objectives.max_latency_ms is {:.0}",
        primary.name, other.name, workspace.objectives.max_latency_ms
    );
    let finding = Finding::warning(codes::LATENCY, message)
        .at(place_of(primary))
        .label(place_of(other), "the nearest copy")
        .help(format!(
            "choose nearer regions, write objectives.max_latency_ms = {}, or sync_mode = 'Async and accept a loss up to the lag",
            trip.ceil()
        ));
    vec![finding]
}

pub(super) fn data_stays_where_it_may(workspace: &Workspace, _: &Config) -> Vec<Finding> {
    let marked = workspace.regions.iter().filter(|region| !region.residency.is_empty());
    marked.flat_map(|region| residency(workspace, region)).collect()
}

fn residency(workspace: &Workspace, region: &Region) -> Vec<Finding> {
    let path = format!("{}.residency", region.field);
    let allowed = list(&region.residency);
    let mut out = Vec::new();
    for word in &region.residency {
        if word.len() != 2 || !word.chars().all(|c| c.is_ascii_alphabetic()) {
            let message = format!("\"{word}\" is neither EU nor the two letters of a country");
            out.push(
                Finding::error(codes::RESIDENCY, message)
                    .at(&path)
                    .help("write \"EU\", or codes as \"DE\" and \"SG\""),
            );
        }
    }
    match &region.country {
        None => {
            let message = format!(
                "data of {} must stay in {allowed}, and its country is not known",
                region.name
            );
            out.push(
                Finding::warning(codes::RESIDENCY, message)
                    .at(&path)
                    .help("add location = { …, country = \"DE\" } to the region"),
            );
        }
        Some(country) if !geo::allows(&region.residency, country) => {
            let message = format!(
                "data of {} must stay in {allowed}, and {} is in {country}",
                region.name, region.location
            );
            let finding = Finding::error(codes::RESIDENCY, message)
                .at(&path)
                .label(place_of(region), country.as_str());
            out.push(finding.help("choose a location there, or change residency"));
        }
        Some(_) => {}
    }
    let holds = |it: &Region| -> BTreeSet<String> {
        let own = it.databases.iter().filter(|database| !database.managed);
        own.map(|database| desired::cluster(database).to_owned()).collect()
    };
    let here = holds(region);
    let outside: Vec<&Region> = workspace
        .regions
        .iter()
        .filter(|other| other.name != region.name && !holds(other).is_disjoint(&here))
        .filter(|other| {
            other
                .country
                .as_deref()
                .is_none_or(|country| !geo::allows(&region.residency, country))
        })
        .collect();
    if !outside.is_empty() {
        let words: Vec<String> = outside
            .iter()
            .map(|it| format!("{} ({})", it.name, it.country.as_deref().unwrap_or("country unknown")))
            .collect();
        let message = format!(
            "data of {} must stay in {allowed}, and its database is copied to {}",
            region.name,
            list(&words)
        );
        let mut finding = Finding::warning(codes::RESIDENCY, message).at(&path).help(
            "every copy holds all rows: keep such data in a workspace of its own, with regions only where it may lie",
        );
        for other in outside {
            finding = finding.label(place_of(other), "a copy, and a place it may fail over to");
        }
        out.push(finding);
    }
    out
}
