//! Desired against live: what to do, in which order, and what it will cost the users.

mod differ;
mod draft;
mod order;
mod rules;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::resource::{Kind, Live, Resource, ResourceId, Status};
use draft::{Draft, Index};
use rules::Effect;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    Create,
    Update,
    Replace,
    Delete,
    None,
    /// Changed by us and by somebody else: nothing is done until a person chose.
    Conflict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Risk {
    None,
    Low,
    Medium,
    High,
}

/// One row of `ha plan`, with what `ha provision` needs to carry it out.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub action: Action,
    pub id: ResourceId,
    /// What differs, in words: `count of targets 3 → 5`.
    pub reason: String,
    pub risk: Risk,
    /// How long users of this very resource are without it; none when they are not.
    pub downtime: Option<Duration>,
    /// Steps of the same plan that must be finished before.
    pub after: Vec<ResourceId>,
    pub desired: Option<Resource>,
    pub live: Option<Live>,
}

impl Action {
    /// As in the column `action`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Replace => "replace",
            Self::Delete => "delete",
            Self::None => "none",
            Self::Conflict => "conflict",
        }
    }

    /// Something would be done.
    pub const fn acts(self) -> bool {
        !matches!(self, Self::None | Self::Conflict)
    }
}

impl Risk {
    /// As in the column `risk`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// One step per resource, wanted or live, in an order in which they can be carried out.
///
/// Linear in the number of resources. The same input gives the same rows in the same order, and a plan made after
/// all its steps were carried out has nothing but `none` and `conflict`.
pub fn plan(desired: &[Resource], live: &[Live]) -> Vec<Step> {
    let (mut drafts, counts) = draft::drafts(desired, live);
    let ids: Vec<&ResourceId> = drafts.iter().map(|draft| draft.id).collect();
    let index: Index = ids.into_iter().zip(0..).collect();
    draft::hold_what_is_needed(&mut drafts, &index);
    let before = order::edges(&drafts, &index);
    let members = live.iter().filter(|it| it.id.kind == Kind::Store).count();
    in_order(&drafts, before, |draft| {
        let spec = draft.live.map(|live| &live.spec);
        let group = spec.and_then(|spec| draft::group(draft.id, spec));
        let in_group = group.and_then(|group| counts.get(&group)).map_or(0, |(live, _)| *live);
        in_group > 1 || (draft.id.kind == Kind::Store && members > 2)
    })
}

/// The removal of everything, protected things included: whoever calls it has asked for the workspace's name.
pub fn destroy(live: &[Live]) -> Vec<Step> {
    let (mut drafts, _) = draft::drafts(&[], live);
    for draft in &mut drafts {
        draft.action = Action::Delete;
        let protected = draft.live.is_some_and(|live| live.protect);
        draft.reason = match (draft.id.kind.holds_data(), protected) {
            (true, true) => "destroy, with its data, though protected",
            (true, false) => "destroy, with its data",
            (false, true) => "destroy, though protected",
            (false, false) => "destroy",
        }
        .to_owned();
    }
    let ids: Vec<&ResourceId> = drafts.iter().map(|draft| draft.id).collect();
    let index: Index = ids.into_iter().zip(0..).collect();
    let before = order::edges(&drafts, &index);
    in_order(&drafts, before, |_| false)
}

fn in_order(drafts: &[Draft], mut before: Vec<Vec<usize>>, siblings: impl Fn(&Draft) -> bool) -> Vec<Step> {
    let sorted = order::sort(&mut before);
    let step = |at: usize| {
        let draft = &drafts[at];
        let effect = if draft.action == Action::None {
            Effect::InPlace
        } else {
            draft.effect
        };
        Step {
            action: draft.action,
            id: draft.id.clone(),
            reason: draft.reason.clone(),
            risk: rules::risk(draft.id.kind, draft.action, effect),
            downtime: rules::downtime(draft.id.kind, draft.action, effect, siblings(draft)),
            after: before[at].iter().map(|below| drafts[*below].id.clone()).collect(),
            desired: draft.desired.cloned(),
            live: draft.live.cloned(),
        }
    };
    sorted.into_iter().map(step).collect()
}

/// Only the steps of one region.
pub fn in_region(steps: Vec<Step>, region: &str) -> Vec<Step> {
    steps.into_iter().filter(|step| step.id.region == region).collect()
}

/// Something would be done.
pub fn has_changes(steps: &[Step]) -> bool {
    steps.iter().any(|step| step.action.acts())
}

/// What a step of a selection waits for that neither exists nor is part of the selection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    pub step: ResourceId,
    pub needs: Vec<ResourceId>,
}

/// Steps of `selected` (rows that a user kept with `where`) that cannot be carried out by themselves: something
/// they need is neither live nor selected, or something that uses what they remove was left out.
pub fn blocked_by(selected: &[Step], live: &[Live]) -> Vec<Blocked> {
    let chosen: HashMap<&ResourceId, Action> = selected.iter().map(|step| (&step.id, step.action)).collect();
    let present = live.iter().filter(|it| it.status != Status::Absent).map(|it| &it.id);
    let present: HashSet<&ResourceId> = present.collect();
    let will_be = |id: &ResourceId| match chosen.get(id) {
        Some(Action::Delete) => false,
        Some(Action::Create | Action::Replace | Action::Update) => true,
        Some(Action::None | Action::Conflict) | None => present.contains(id),
    };
    let mut out = Vec::new();
    for step in selected.iter().filter(|step| step.action.acts()) {
        let mut needs: Vec<ResourceId> = match (&step.desired, step.action) {
            (Some(desired), Action::Create | Action::Update | Action::Replace) => {
                desired.depends_on.iter().filter(|id| !will_be(id)).cloned().collect()
            }
            _ => step
                .after
                .iter()
                .filter(|id| !chosen.contains_key(id) && present.contains(id))
                .cloned()
                .collect(),
        };
        needs.sort();
        needs.dedup();
        if !needs.is_empty() {
            out.push(Blocked {
                step: step.id.clone(),
                needs,
            });
        }
    }
    out
}
