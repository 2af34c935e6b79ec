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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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

impl Timing {
    /// A replica reports to its primary each second; one that is silent for three times as long is not counted on.
    pub const fn sender_patience(&self) -> Duration {
        Duration::from_secs(3)
    }

    /// Until an observer that hears nothing at all says so.
    pub fn detect(&self) -> Duration {
        self.probe_interval * self.probe_failures + self.probe_timeout
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// How far clocks may run apart.
    const RHO: f64 = 0.01;

    /// The constraints of FAILOVER.md §5 that `timing` breaks, for regions `round_trip` apart.
    fn violations(timing: &Timing, round_trip: Duration) -> Vec<&'static str> {
        let seconds = |duration: Duration| duration.as_secs_f64();
        let take = seconds(timing.take) * (1.0 - RHO);
        let detect = timing.probe_interval * timing.probe_failures + timing.probe_timeout;
        let rules = [
            // Whoever held the lease has fenced itself before anybody may take it.
            (
                "C1",
                seconds(timing.hold) * (1.0 + RHO) + seconds(timing.fence_budget) < take,
            ),
            // An election in the store, which takes up to twice its timeout, demotes no healthy primary.
            (
                "C2",
                timing.renew + timing.call_timeout + timing.store_election * 2 <= timing.hold,
            ),
            // The watchdog comes after the fence and before a taker.
            (
                "C3",
                timing.hold + timing.fence_budget <= timing.watchdog && seconds(timing.watchdog) < take,
            ),
            // Votes are there when the lease can be taken.
            ("C4", detect < timing.take),
            // PostgreSQL's own timeouts, which are five seconds in every profile.
            ("C5", Duration::from_secs(5) <= timing.take),
            // A store over that distance elects no new leader for a slow answer; its heartbeat is a tenth.
            ("C6", timing.store_election >= round_trip * 10),
        ];
        rules
            .into_iter()
            .filter(|(_, holds)| !holds)
            .map(|(rule, _)| rule)
            .collect()
    }

    #[test]
    fn every_profile_keeps_the_constraints() {
        for (profile, round_trip) in [
            (TimingProfile::Documents, 200),
            (TimingProfile::Default, 200),
            (TimingProfile::Near, 20),
        ] {
            let broken = violations(&profile.timing(), Duration::from_millis(round_trip));
            assert_eq!(broken, [""; 0], "{profile:?}");
        }
    }

    #[test]
    fn each_constraint_is_seen() {
        let sound = TimingProfile::Default.timing();
        let second = Duration::from_secs(1);
        for (rule, timing) in [
            (
                "C1",
                Timing {
                    hold: second * 9,
                    ..sound
                },
            ),
            (
                "C2",
                Timing {
                    renew: second * 2,
                    ..sound
                },
            ),
            (
                "C3",
                Timing {
                    watchdog: second * 7,
                    ..sound
                },
            ),
            (
                "C4",
                Timing {
                    probe_failures: 10,
                    ..sound
                },
            ),
            (
                "C5",
                Timing {
                    take: second * 4,
                    ..sound
                },
            ),
            (
                "C6",
                Timing {
                    store_election: second,
                    ..sound
                },
            ),
        ] {
            let broken = violations(&timing, Duration::from_millis(200));
            assert!(broken.contains(&rule), "{rule} is not in {broken:?}");
        }
    }
}
