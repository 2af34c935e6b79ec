//! What is declared and cannot be had: a size that is not sold there, an image that does not exist, no room, a limit.
//!
//! Asked before anything is made, so that it is a finding at its line of `workspace.ncl` and not a failure in the middle
//! of a plan. What a provider does not tell is a note, and stops nothing.

use std::collections::BTreeMap;

use async_trait::async_trait;
use ha_core::{
    check::codes,
    finding::Finding,
    names::{self, ProviderName},
    plan::{Action, Step},
    resource::{Kind, Resource},
};
use serde_json::Value;

use crate::{ProviderError, limits::Limit};

/// A provider that can be asked what it has. Asking changes nothing there.
#[async_trait]
pub trait Offers: Send + Sync {
    /// What of these resources, none of which exists yet, cannot be had now: errors; and what nobody tells: notes. With
    /// paths, and without places.
    async fn objections(&self, wanted: &[&Resource]) -> Result<Vec<Finding>, ProviderError>;
}

/// Servers alike, as they were declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group<'a> {
    /// `region_us_east.app_servers`
    pub(crate) path: &'a str,
    /// `us-app`
    pub(crate) name: &'a str,
    pub(crate) size: &'a str,
    pub(crate) image: &'a str,
    pub(crate) location: &'a str,
    /// How many of them do not exist yet.
    pub(crate) count: u64,
}

/// The groups of the servers among these resources, in their order.
pub(crate) fn groups<'a>(wanted: &[&'a Resource]) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    for want in wanted.iter().filter(|it| it.id.kind == Kind::Server) {
        let text = |field: &str| want.spec.get(field).and_then(Value::as_str).unwrap_or_default();
        match groups.iter_mut().find(|it| it.path == want.path) {
            Some(group) => group.count += 1,
            None => groups.push(Group {
                path: &want.path,
                name: text("group"),
                size: text("size"),
                image: text("image"),
                location: text("location"),
                count: 1,
            }),
        }
    }
    groups
}

/// Where a resource that is no server is wanted, by its own field.
pub(crate) fn location(want: &Resource) -> Option<(&str, &'static str)> {
    ["location", "region"]
        .into_iter()
        .find_map(|field| Some((want.spec.get(field)?.as_str()?, field)))
}

/// What there is instead, for the end of a sentence: the one that was meant, or some of those that are offered.
pub(crate) fn instead<'a>(field: &str, word: &str, offered: impl Iterator<Item = &'a str> + Clone) -> String {
    const SOME: usize = 8;
    if let Some(near) = names::nearest(word, offered.clone()) {
        return format!("did you mean {field} = \"{near}\"?");
    }
    let mut some: Vec<&str> = offered.clone().take(SOME).collect();
    if some.is_empty() {
        return "there is none at all now: choose another location, or try again later".to_owned();
    }
    if offered.count() > SOME {
        some.push("…");
    }
    format!("{field} is one of {}", some.join(", "))
}

/// The least that a step takes: what is made is looked for by its labels and by its name first, what goes is seen to be
/// gone. Whatever has to be waited for takes more.
pub const fn calls_at_least(action: Action) -> u64 {
    match action {
        Action::Create => 3,
        Action::Replace => 5,
        Action::Update | Action::Delete => 2,
        Action::None | Action::Conflict => 0,
    }
}

/// The plan needs more requests of a provider than it allows until its limit begins anew.
///
/// `left` has the providers that tell how many are left. What runs on servers is counted with them.
pub fn too_many_calls(steps: &[Step], left: &BTreeMap<ProviderName, Limit>) -> Vec<Finding> {
    let mut needed: BTreeMap<ProviderName, u64> = BTreeMap::new();
    for step in steps {
        let provider = step.desired.as_ref().map(|it| it.provider);
        let provider = provider.or_else(|| step.live.as_ref().map(|it| it.provider));
        if let Some(provider) = provider {
            *needed.entry(provider).or_default() += calls_at_least(step.action);
        }
    }
    let mut out = Vec::new();
    for (provider, needed) in needed {
        let Some((limit, rest)) = left.get(&provider).and_then(|it| Some((it, it.left?))) else {
            continue;
        };
        if needed <= rest {
            continue;
        }
        let message = format!("the plan needs {needed} requests to {provider} or more, and it allows {rest} now");
        let when = limit.resets.map_or_else(
            || "wait until there are more (ha limits)".to_owned(),
            |at| format!("wait until {at} (ha limits)"),
        );
        let finding = Finding::error(codes::OFFER_CALLS, message);
        out.push(finding.help(format!("{when}, or do a part of it: ha plan | first 5 | ha provision")));
    }
    out
}

/// That a provider could not say what it has; the creates will.
pub fn unknown(provider: ProviderName, error: &ProviderError) -> Finding {
    let message = format!("{provider} did not say what it has: {error}");
    let finding = Finding::warning(codes::OFFER_UNKNOWN, message);
    finding.help(error.help().unwrap_or_else(|| "run: ha check --credentials".to_owned()))
}

#[cfg(test)]
mod tests {
    use ha_core::{
        names::RegionName,
        plan,
        resource::{Live, ResourceId},
    };
    use serde_json::json;

    use super::*;

    fn server(group: &str, index: u32) -> Resource {
        Resource {
            id: ResourceId::new(&RegionName::new("eu-central"), Kind::Server, format!("{group}-{index}")),
            provider: ProviderName::Hetzner,
            spec: json!({ "group": group, "size": "cpx21", "image": "ubuntu-24.04", "location": "nbg1" }),
            depends_on: Vec::new(),
            protect: false,
            path: format!("region_eu_central.{group}"),
        }
    }

    fn limit(left: u64) -> BTreeMap<ProviderName, Limit> {
        let limit = Limit {
            provider: "hetzner",
            allowed: Some(3600),
            left: Some(left),
            resets: None,
            used: 0,
        };
        BTreeMap::from([(ProviderName::Hetzner, limit)])
    }

    #[test]
    fn servers_of_a_group_are_asked_for_once() {
        let all = [server("app", 1), server("db", 1), server("app", 2)];
        let all: Vec<&Resource> = all.iter().collect();
        let groups = groups(&all);
        let counts: Vec<(&str, u64)> = groups.iter().map(|it| (it.name, it.count)).collect();
        assert_eq!(counts, [("app", 2), ("db", 1)]);
    }

    #[test]
    fn the_near_name_is_offered_else_some_of_them() {
        let offered = ["cpx21", "cpx31", "cax11"];
        let instead = |word| instead("server_type", word, offered.into_iter());
        assert_eq!(instead("cpx22"), "did you mean server_type = \"cpx21\"?");
        assert_eq!(instead("t3.medium"), "server_type is one of cpx21, cpx31, cax11");
    }

    #[test]
    fn a_plan_that_does_not_fit_into_the_limit_says_so() {
        let wanted = [server("app", 1), server("app", 2)];
        let steps = plan::plan(&wanted, &Vec::<Live>::new());
        assert_eq!(too_many_calls(&steps, &limit(6)), []);
        let found = too_many_calls(&steps, &limit(5));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].message.contains("6 requests to hetzner or more"), "{found:?}");
        assert_eq!(too_many_calls(&steps, &BTreeMap::new()), [], "nobody tells");
    }
}
