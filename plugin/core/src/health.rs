//! Rows of `ha health`: what was asked of each part, and what it said.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::names::RegionName;

/// What a probe asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// The region as its users see it: through the balancer.
    Endpoint,
    LoadBalancer,
    Server,
    Database,
    Store,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    Ok,
    /// Answered wrongly, or not at all.
    Failed,
    /// Switched off on purpose.
    Off,
    /// Declared, and not there: nothing was asked.
    Absent,
}

#[derive(Clone, Debug, PartialEq)]
pub struct HealthRow {
    pub region: RegionName,
    /// The resource's name, or the endpoint's address.
    pub target: String,
    pub check: Check,
    pub status: Health,
    pub latency: Option<Duration>,
    pub error: Option<String>,
}
