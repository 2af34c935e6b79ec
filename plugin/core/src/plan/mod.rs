//! Desired against live: what to do, in which order, and what it will cost the users.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::resource::{Live, Resource, ResourceId};

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
pub fn plan(desired: &[Resource], live: &[Live]) -> Vec<Step> {
    let _ = (desired, live);
    Vec::new()
}

/// The removal of everything, protected things included: whoever calls it has asked for the workspace's name.
pub fn destroy(live: &[Live]) -> Vec<Step> {
    let _ = live;
    Vec::new()
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

/// Steps of `selected` that could not be carried out, since something they need is neither live nor selected.
pub fn blocked_by(selected: &[Step], live: &[Live]) -> Vec<Blocked> {
    let _ = (selected, live);
    Vec::new()
}
