//! What is there for nothing: forgotten, unlabelled, or billed and idle.

use std::time::Duration;

use jiff::Timestamp;

use super::{Found, FoundKind, Idle};
use crate::{
    names::{ProviderName, WorkspaceName},
    resource::{Kind, Resource},
};

/// Younger things may be of somebody who is at work right now: their labels may come late, and what they belong to next.
pub const YOUNG: Duration = Duration::from_secs(120);

/// Why it stands in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// It carries the workspace's label and not the rest: nothing can be planned before that is mended.
    LabelledInPart,
    /// It carries the workspace's labels, and the workspace does not declare it.
    Undeclared,
    /// The workspace declares one of this name, and this one carries no labels.
    Unlabelled,
    Stopped,
    Unattached,
    NoTargets,
}

impl Why {
    /// As in the column `why`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LabelledInPart => "labelled_in_part",
            Self::Undeclared => "undeclared",
            Self::Unlabelled => "unlabelled",
            Self::Stopped => "stopped",
            Self::Unattached => "unattached",
            Self::NoTargets => "no_targets",
        }
    }
}

/// One thing that somebody should look at.
#[derive(Clone, Debug, PartialEq)]
pub struct Orphan<'a> {
    pub why: Why,
    pub found: &'a Found,
    /// What to type or do next.
    pub help: String,
}

/// One for each thing that is [`Why`]; of several reasons the first in their order. What carries the label of another
/// workspace is that one's business, and what is younger than [`YOUNG`] is nobody's yet.
///
/// `desired` is everything that the workspace declares, with the providers that did not answer.
pub fn orphans<'a>(desired: &[Resource], found: &'a [Found], ws: &WorkspaceName, now: Timestamp) -> Vec<Orphan<'a>> {
    let settled = |it: &&Found| {
        let age = it.created_at.map(|then| now.duration_since(then));
        // A clock that is behind the provider's makes it younger than nothing.
        age.is_none_or(|age| Duration::try_from(age).is_ok_and(|age| age >= YOUNG))
    };
    let mut all: Vec<Orphan> = found
        .iter()
        .filter(settled)
        .filter_map(|it| judge(desired, it, ws))
        .collect();
    let place = |it: &Found| {
        (
            it.provider,
            it.kind,
            it.location.clone(),
            it.name.clone(),
            it.number.clone(),
        )
    };
    all.sort_by_cached_key(|it| (it.why, place(it.found)));
    all
}

fn judge<'a>(desired: &[Resource], found: &'a Found, ws: &WorkspaceName) -> Option<Orphan<'a>> {
    let orphan = |why: Why, help: String| Some(Orphan { why, found, help });
    let name = &found.name;
    if let Some(owner) = &found.owner {
        if owner.ws != *ws {
            return None;
        }
        if !owner.is_whole() {
            let lacks = if owner.region.is_none() { "region" } else { "name" };
            let help = format!(
                "its label for the workspace has no {lacks} beside it: take it away at {}, and if it is declared, run: ha adopt {name}",
                found.provider
            );
            return orphan(Why::LabelledInPart, help);
        }
        if found.kind != FoundKind::Address && !desired.iter().any(|want| found.is(&want.id, ws)) {
            let help =
                "ha plan shows its removal, and ha provision carries it out; to keep it, declare it in workspace.ncl";
            return orphan(Why::Undeclared, help.to_owned());
        }
    } else if let Some(want) = desired.iter().find(|want| found.could_be(want)) {
        return orphan(
            Why::Unlabelled,
            format!("give it the labels of this workspace: ha adopt {}", want.id.name),
        );
    }
    let (why, help) = match found.idle? {
        Idle::Stopped => (Why::Stopped, stopped(found)),
        Idle::Unattached => (Why::Unattached, unattached(found)),
        Idle::NoTargets => (
            Why::NoTargets,
            "nothing is behind it and it is billed: give it targets in workspace.ncl, or remove it".to_owned(),
        ),
    };
    orphan(why, help)
}

fn stopped(found: &Found) -> String {
    let billed = match found.provider {
        // <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-lifecycle.html>
        ProviderName::Aws => "its disks and its address are billed while it is stopped",
        // <https://docs.digitalocean.com/products/droplets/details/pricing/>,
        // <https://docs.hetzner.com/cloud/billing/faq/>
        _ => "it is billed as if it ran",
    };
    match &found.owner {
        Some(_) => format!("{billed}: ha power on {}, or take it out of workspace.ncl", found.name),
        None => format!("{billed}: start it or remove it at {}", found.provider),
    }
}

fn unattached(found: &Found) -> String {
    match (found.kind, &found.owner) {
        (FoundKind::Resource(Kind::Volume), Some(_)) => {
            "no server has it: attach_to = … in workspace.ncl, or take it out there and run ha provision".to_owned()
        }
        (FoundKind::Resource(_), _) => {
            format!(
                "no server has it: look at what is on it, then remove it at {}",
                found.provider
            )
        }
        (FoundKind::Address, _) => format!("no server has it: release it at {}", found.provider),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::existing::{
        Owner,
        testing::{desired, found, now, owned, ws},
    };

    fn whys<'a>(orphans: &[Orphan<'a>]) -> Vec<(Why, &'a str)> {
        orphans.iter().map(|it| (it.why, it.found.name.as_str())).collect()
    }

    #[test]
    fn each_reason_is_told_and_others_are_left_alone() {
        let desired = desired();
        let mut stopped = owned(found(Kind::Server, "us-app-1"), "us-east", "us-app-1");
        stopped.idle = Some(Idle::Stopped);
        let mut loose = found(Kind::Volume, "old-data");
        loose.idle = Some(Idle::Unattached);
        let mut theirs = loose.clone();
        theirs.owner = Some(Owner {
            ws: WorkspaceName::new("shop2"),
            region: None,
            name: None,
        });
        let mut half = owned(found(Kind::Volume, "half"), "us-east", "half");
        half.owner.as_mut().expect("it is owned").name = None;
        let all = [
            stopped,
            found(Kind::Server, "us-app-2"),
            owned(found(Kind::Server, "us-old-1"), "us-east", "us-old-1"),
            owned(found(Kind::Network, "us-net"), "us-east", "us-net"),
            found(Kind::Server, "somebody-s"),
            loose,
            theirs,
            half,
        ];
        let orphans = orphans(&desired, &all, &ws(), now());
        assert_eq!(
            whys(&orphans),
            [
                (Why::LabelledInPart, "half"),
                (Why::Undeclared, "us-old-1"),
                (Why::Unlabelled, "us-app-2"),
                (Why::Stopped, "us-app-1"),
                (Why::Unattached, "old-data"),
            ]
        );
        assert!(orphans[2].help.contains("ha adopt us-app-2"), "{}", orphans[2].help);
    }

    #[test]
    fn what_is_younger_than_two_minutes_is_nobody_s_yet() {
        let desired = desired();
        let mut young = found(Kind::Server, "us-app-2");
        for (age, listed) in [(0, 0), (119, 0), (120, 1), (-30, 0)] {
            young.created_at = Some(now() - jiff::SignedDuration::from_secs(age));
            let all = [young.clone()];
            assert_eq!(orphans(&desired, &all, &ws(), now()).len(), listed, "{age} s old");
        }
        young.created_at = None;
        assert_eq!(orphans(&desired, &[young], &ws(), now()).len(), 1);
    }

    #[test]
    fn the_same_name_in_another_place_is_another_thing() {
        let mut elsewhere = found(Kind::Server, "us-app-2");
        elsewhere.location = Some("ams3".into());
        assert_eq!(orphans(&desired(), &[elsewhere], &ws(), now()), []);
    }
}
