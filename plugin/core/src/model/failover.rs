//! What happens by itself when a primary is lost, and what does not.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::time::millis;

/// The workspace's `failover` record: seconds there, durations here, milliseconds in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailoverPolicy {
    /// The guards act on their own; otherwise only `ha failover` does.
    pub automatic: bool,
    /// After an automatic failover, no other for so long; doubled for each further one within a day.
    #[serde(rename = "cooldown_ms", with = "millis")]
    pub cooldown: Duration,
    /// So many automatic failovers within a day, then a person must say `ha ack`; none is no limit.
    pub daily_limit: Option<u32>,
    /// A database that ended is given so long to come back before its role is given away.
    #[serde(rename = "restart_budget_ms", with = "millis")]
    pub restart_budget: Duration,
    /// `degrade`: without any voter for so long, commits no longer wait.
    #[serde(rename = "degrade_after_ms", with = "millis")]
    pub degrade_after: Duration,
    /// A primary that answers nobody while its replicas still receive counts as down after so long.
    #[serde(rename = "stall_limit_ms", with = "millis")]
    pub stall_limit: Duration,
    /// Outside strict mode: an automatic failover that is known to lose more is not done.
    pub max_loss_bytes: u64,
}

impl Default for FailoverPolicy {
    fn default() -> Self {
        Self {
            automatic: true,
            cooldown: Duration::from_secs(300),
            daily_limit: Some(3),
            restart_budget: Duration::from_secs(5),
            degrade_after: Duration::from_secs(15),
            stall_limit: Duration::from_secs(30),
            max_loss_bytes: 16 << 20,
        }
    }
}
