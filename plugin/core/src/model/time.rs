//! Timing profiles of the failover protocol (FAILOVER.md §5).

use std::time::Duration;

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimingProfile {
    /// The figures of the architecture documents: detection 90 s, lease 30 s.
    Documents,
    /// Regions up to 200 ms apart.
    Default,
    /// Regions up to 20 ms apart.
    Near,
}

/// The constants of one profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    pub renew: Duration,
    pub call_timeout: Duration,
    pub store_election: Duration,
    pub hold: Duration,
    pub fence_budget: Duration,
    pub watchdog: Duration,
    pub take: Duration,
    pub probe_interval: Duration,
    pub probe_failures: u32,
    pub probe_timeout: Duration,
}

impl TimingProfile {
    pub const fn timing(self) -> Timing {
        const fn ms(millis: u64) -> Duration {
            Duration::from_millis(millis)
        }
        match self {
            Self::Documents => Timing {
                renew: ms(5000),
                call_timeout: ms(3000),
                store_election: ms(2000),
                hold: ms(20_000),
                fence_budget: ms(5000),
                watchdog: ms(26_000),
                take: ms(30_000),
                probe_interval: ms(2000),
                probe_failures: 3,
                probe_timeout: ms(2000),
            },
            Self::Default => Timing {
                renew: ms(1000),
                call_timeout: ms(1000),
                store_election: ms(2000),
                hold: ms(6500),
                fence_budget: ms(1000),
                watchdog: ms(8000),
                take: ms(10_000),
                probe_interval: ms(1000),
                probe_failures: 3,
                probe_timeout: ms(700),
            },
            Self::Near => Timing {
                renew: ms(500),
                call_timeout: ms(500),
                store_election: ms(1000),
                hold: ms(3200),
                fence_budget: ms(500),
                watchdog: ms(4000),
                take: ms(5000),
                probe_interval: ms(500),
                probe_failures: 3,
                probe_timeout: ms(500),
            },
        }
    }
}
