//! How long a failover takes, from the settings alone (FAILOVER.md §21).

use std::time::Duration;

use crate::model::{Objectives, SyncMode, Workspace};

/// The parts of one failover whose primary region is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Until enough guards say that the primary is down; in the other modes until its lease may be taken.
    pub detect: Duration,
    /// Agreement that it is, and the campaign in the store.
    pub decide: Duration,
    pub seal: Duration,
    pub promote: Duration,
    pub route: Duration,
    /// Until the first replica of the new epoch acknowledges (strict).
    pub follow: Duration,
    /// Until outside probes have failed often enough; only users whose own region died wait for it.
    pub dns_detect: Duration,
    /// Until old answers are forgotten.
    pub dns_ttl: Duration,
}

impl Budget {
    /// For the round trip that the objectives allow. Replay of a backlog is not in it: its length is measured, not set.
    pub fn of(workspace: &Workspace) -> Self {
        let timing = workspace.timing.timing();
        let trip = round_trip(&workspace.objectives);
        let probes = timing.probe_interval * timing.probe_failures + timing.probe_timeout;
        let strict = workspace.sync_mode == SyncMode::Strict;
        let dns = workspace.dns.as_ref();
        Self {
            detect: if strict { probes } else { probes.max(timing.take) },
            decide: trip * if strict { 4 } else { 2 },
            seal: if strict {
                trip + Duration::from_millis(100)
            } else {
                Duration::ZERO
            },
            promote: Duration::from_millis(100),
            // By HAProxy's own checks: the guard's faster way by socket is not counted on.
            route: Duration::from_millis(1200),
            follow: if strict { trip * 10 } else { Duration::ZERO },
            dns_detect: dns.map_or(Duration::ZERO, |dns| {
                Duration::from_secs(dns.probe_interval_seconds) * dns.probe_failures
            }),
            dns_ttl: dns.map_or(Duration::ZERO, |dns| Duration::from_secs(dns.ttl_seconds)),
        }
    }

    /// For users of the regions that are left.
    pub fn in_region(&self) -> Duration {
        self.detect + self.decide + self.seal + self.promote + self.route + self.follow
    }

    /// For users who entered through the region that is lost, on top of that.
    pub fn dns(&self) -> Duration {
        self.dns_detect + self.dns_ttl
    }
}

fn round_trip(objectives: &Objectives) -> Duration {
    Duration::try_from_secs_f64(objectives.max_latency_ms / 1000.0).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fixture, model::TimingProfile};

    #[test]
    fn the_figures_of_the_protocol() {
        let mut workspace = fixture::workspace();
        let seconds = |workspace: &Workspace| Budget::of(workspace).in_region().as_secs_f64();
        // 3.7 detect + 0.4 decide + 0.2 seal + 0.1 promote + 1.2 route + 1 follow, at 100 ms.
        assert!((seconds(&workspace) - 6.6).abs() < 0.01);
        assert!((Budget::of(&workspace).dns().as_secs_f64() - 150.0).abs() < 0.01);
        (workspace.timing, workspace.objectives.max_latency_ms) = (TimingProfile::Near, 10.0);
        assert!((seconds(&workspace) - 3.55).abs() < 0.01);
        workspace.sync_mode = SyncMode::Async;
        assert!((seconds(&workspace) - 6.32).abs() < 0.01);
    }
}
