//! `config.toml` against the workspace: it may repeat the names of regions, never change them.

use super::{codes, place_of};
use crate::{
    config::{Config, RegionClaim},
    finding::Finding,
    model::Workspace,
    names::{self, ProviderName},
};

pub(super) fn region_names_agree(workspace: &Workspace, config: &Config) -> Vec<Finding> {
    let providers = config.providers.iter();
    let claims = providers.flat_map(|(name, provider)| provider.regions.iter().map(move |claim| (*name, claim)));
    claims
        .filter_map(|(provider, claim)| contradiction(workspace, provider, claim))
        .collect()
}

fn contradiction(workspace: &Workspace, provider: ProviderName, claim: &RegionClaim) -> Option<Finding> {
    let placed = |message: String| {
        let mut finding = Finding::error(codes::CONFIG_REGION, message).at(format!("providers.{provider}.region_name"));
        finding.place.clone_from(&claim.place);
        finding
    };
    let at_provider = || workspace.regions.iter().filter(|region| region.provider == provider);
    let Some(region) = workspace.region(claim.region.as_str()) else {
        let names = workspace.regions.iter().map(|region| region.name.as_str());
        let own: Vec<&str> = at_provider().map(|region| region.name.as_str()).collect();
        let help = match (names::nearest(claim.region.as_str(), names), &own[..]) {
            (Some(near), _) => format!("did you mean \"{near}\"?"),
            (None, []) => format!("no region of the workspace is at {provider}: leave the line out"),
            (None, _) => format!(
                "at {provider} there is {}; the name comes from workspace.ncl",
                own.join(" and ")
            ),
        };
        return Some(placed(format!("no region is called \"{}\"", claim.region)).help(help));
    };
    if region.provider != provider {
        let finding = placed(format!("{} is at {}, not at {provider}", region.name, region.provider));
        let finding = finding.label(place_of(region), "declared here");
        return Some(finding.help("the workspace decides: correct region_name, or leave it out"));
    }
    let location = claim
        .location
        .as_ref()
        .filter(|location| **location != region.location)?;
    let finding = placed(format!("{} is in {}, not in {location}", region.name, region.location));
    Some(
        finding
            .label(place_of(region), "declared here")
            .help(format!("write {} = \"{}\"", region.location, region.name)),
    )
}
