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
