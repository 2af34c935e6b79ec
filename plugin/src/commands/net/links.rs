//! Which links a command is about.

use ha_cloud::local::LocalProvider;
use ha_core::names::RegionName;
use nu_plugin::EvaluatedCall;
use nu_protocol::{LabeledError, Spanned};

use crate::{context::Context, error::Failed, nu::label};

/// Which links are meant; none names every region.
#[derive(Debug, Default)]
pub(super) struct Links {
    pub(super) from: Option<String>,
    pub(super) to: Option<String>,
    /// Both ways.
    pub(super) region: Option<String>,
}

impl Links {
    /// Of --from, --to and --region, checked.
    pub(super) fn named(context: &Context, call: &EvaluatedCall) -> Result<Self, LabeledError> {
        let named = |flag| -> Result<Option<String>, LabeledError> {
            let region = call.get_flag::<Spanned<String>>(flag)?;
            region.map(|region| context.known_region(region)).transpose()
        };
        let links = Self {
            from: named("from")?,
            to: named("to")?,
            region: named("region")?,
        };
        let refused = |flag, failed| Err(label(failed, call.get_flag_span(flag).unwrap_or(call.head)));
        if links.region.is_some() && (links.from.is_some() || links.to.is_some()) {
            let why = "--region means both ways";
            return refused("region", bad("--region with --from or --to", why, "leave one out"));
        }
        if links.from.is_some() && links.from == links.to {
            let why = "a region has no link to itself";
            return refused(
                "to",
                bad("--to the same region", why, "name two regions, or --region alone"),
            );
        }
        Ok(links)
    }

    pub(super) fn have(&self, from: &str, to: &str) -> bool {
        let is = |wanted: &Option<String>, name| wanted.as_deref().is_none_or(|wanted| wanted == name);
        from != to && is(&self.from, from) && is(&self.to, to) && (is(&self.region, from) || is(&self.region, to))
    }

    /// Afterwards none of them has a delay or a cut.
    pub(super) fn heal(&self, provider: &LocalProvider) -> Result<(), Failed> {
        match self.region.as_deref() {
            None => provider.heal_links(self.from.as_deref(), self.to.as_deref())?,
            Some(region) => {
                provider.heal_links(Some(region), None)?;
                provider.heal_links(None, Some(region))?;
            }
        }
        Ok(())
    }
}

impl std::fmt::Display for Links {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let any = |name: &Option<String>| name.clone().unwrap_or_else(|| "every region".to_owned());
        match &self.region {
            Some(region) => write!(f, "from and to {region}"),
            None => write!(f, "{} to {}", any(&self.from), any(&self.to)),
        }
    }
}

pub(super) fn bad(what: &str, why: &str, help: &str) -> Failed {
    Failed::BadArgument {
        what: what.to_owned(),
        why: why.to_owned(),
        help: help.to_owned(),
    }
}

/// Every ordered pair; a region has no link to itself.
pub(super) fn pairs<'a>(regions: impl Iterator<Item = &'a RegionName> + Clone) -> Vec<(&'a str, &'a str)> {
    let pairs = regions
        .clone()
        .flat_map(|from| regions.clone().map(move |to| (from.as_str(), to.as_str())));
    pairs.filter(|(from, to)| from != to).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn which(from: Option<&str>, to: Option<&str>, region: Option<&str>) -> Vec<String> {
        let links = Links {
            from: from.map(str::to_owned),
            to: to.map(str::to_owned),
            region: region.map(str::to_owned),
        };
        let regions = ["a", "b", "c"].map(RegionName::new);
        let pairs = pairs(regions.iter());
        let pairs = pairs.iter().filter(|(from, to)| links.have(from, to));
        pairs.map(|(from, to)| format!("{from}{to}")).collect()
    }

    #[test]
    fn a_link_is_an_ordered_pair_of_two_regions() {
        assert_eq!(which(None, None, None).len(), 6);
        assert_eq!(which(Some("a"), None, None), ["ab", "ac"]);
        assert_eq!(which(Some("a"), Some("c"), None), ["ac"]);
        assert_eq!(which(None, None, Some("b")), ["ab", "ba", "bc", "cb"]);
        assert_eq!(which(Some("a"), Some("a"), None), [""; 0]);
    }
}
