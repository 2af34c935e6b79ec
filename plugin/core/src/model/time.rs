//! Timing profiles of failover (protocol §5).

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How far two clocks may run apart: ρ of protocol §5.
pub const CLOCK_DRIFT: f64 = 0.01;

/// After so long PostgreSQL gives up a line that is silent (`wal_sender_timeout`, `wal_receiver_timeout`,
/// `tcp_user_timeout`), in every profile: guards set them.
pub const REPLICATION_TIMEOUT: Duration = Duration::from_secs(5);

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

/// The constants of one workspace. Written in milliseconds wherever they are written: `{ "renew_ms": 1000, … }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timing {
    /// The holder renews its lease this often.
    #[serde(rename = "renew_ms", with = "millis")]
    pub renew: Duration,
    /// A call to the store is given so long.
    #[serde(rename = "call_timeout_ms", with = "millis")]
    pub call_timeout: Duration,
    /// etcd's election timeout; an election takes up to twice as long.
    #[serde(rename = "store_election_ms", with = "millis")]
    pub store_election: Duration,
    /// After the last renewal the holder counts as one for so long, then it fences itself.
    #[serde(rename = "hold_ms", with = "millis")]
    pub hold: Duration,
    /// Fencing is over within.
    #[serde(rename = "fence_budget_ms", with = "millis")]
    pub fence_budget: Duration,
    /// The machine is reset so long after the last renewal.
    #[serde(rename = "watchdog_ms", with = "millis")]
    pub watchdog: Duration,
    /// An unchanged lease may be taken after.
    #[serde(rename = "take_ms", with = "millis")]
    pub take: Duration,
    /// Guards look at each other this often.
    #[serde(rename = "probe_interval_ms", with = "millis")]
    pub probe_interval: Duration,
    /// So many looks in a row must fail.
    pub probe_failures: u32,
    /// One look is given so long.
    #[serde(rename = "probe_timeout_ms", with = "millis")]
    pub probe_timeout: Duration,
}

impl Timing {
    /// A replica reports to its primary each second; one that is silent for three times as long is not counted on.
    pub const fn sender_patience(&self) -> Duration {
        Duration::from_secs(3)
    }

    /// The rules of protocol §5 that it breaks, each by its name and as a sentence with the figures, for regions whose
    /// messages travel `round_trip`, there and back.
    pub fn violations(&self, round_trip: Duration) -> Vec<(&'static str, String)> {
        let slowest = seconds(self.take) * (1.0 - CLOCK_DRIFT);
        let fenced = seconds(self.hold) * (1.0 + CLOCK_DRIFT) + seconds(self.fence_budget);
        let store = self.renew + self.call_timeout + self.store_election * 2;
        let fence = self.hold + self.fence_budget;
        let detect = self.detect();
        let rules = [
            (
                "C1",
                fenced < slowest,
                format!(
                    "the lease may be taken after {slowest:.2} s by the fastest clock, and its holder is fenced only after \
                     {fenced:.2} s by the slowest: hold {} + fence_budget {}, take {}",
                    text(self.hold),
                    text(self.fence_budget),
                    text(self.take)
                ),
            ),
            (
                "C2",
                store <= self.hold,
                format!(
                    "an election in the store demotes a healthy primary: renew {} + call_timeout {} + an election of up \
                     to {} are more than hold {}",
                    text(self.renew),
                    text(self.call_timeout),
                    text(self.store_election * 2),
                    text(self.hold)
                ),
            ),
            (
                "C3",
                fence <= self.watchdog && seconds(self.watchdog) < slowest,
                format!(
                    "the watchdog must come after the fence, at {}, and before the lease may be taken, at {slowest:.2} s; \
                     it comes at {}",
                    text(fence),
                    text(self.watchdog)
                ),
            ),
            (
                "C4",
                detect < self.take,
                format!(
                    "the lease may be taken after {}, and the votes are there only after {}: {} probes every {}, and {} \
                     for the last",
                    text(self.take),
                    text(detect),
                    self.probe_failures,
                    text(self.probe_interval),
                    text(self.probe_timeout)
                ),
            ),
            (
                "C5",
                REPLICATION_TIMEOUT <= self.take,
                format!(
                    "PostgreSQL gives up a silent line after {}, and the lease may be taken before, after {}",
                    text(REPLICATION_TIMEOUT),
                    text(self.take)
                ),
            ),
            (
                "C6",
                self.store_election >= round_trip * 10,
                format!(
                    "the store would elect a new leader for an answer that is only slow: its election timeout is {}, and \
                     a round trip takes up to {}",
                    text(self.store_election),
                    text(round_trip)
                ),
            ),
        ];
        let broken = rules.into_iter().filter(|(_, holds, _)| !holds);
        broken.map(|(rule, _, says)| (rule, says)).collect()
    }

    /// A primary that lives writes something each second, so a replica that has heard nothing for longer hears nothing.
    pub fn stream_patience(&self) -> Duration {
        Duration::from_secs(1) + self.probe_timeout
    }

    /// Until an observer that hears nothing at all says so.
    pub fn detect(&self) -> Duration {
        self.probe_interval * self.probe_failures + self.probe_timeout
    }
}

impl TimingProfile {
    pub const ALL: [Self; 3] = [Self::Documents, Self::Default, Self::Near];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Documents => "documents",
            Self::Default => "default",
            Self::Near => "near",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str().eq_ignore_ascii_case(text))
    }

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

/// Whole milliseconds.
pub(super) mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(in crate::model) fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }

    pub(in crate::model) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_millis)
    }
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

/// `500 ms`, `6.5 s`
fn text(duration: Duration) -> String {
    match duration.as_millis() {
        millis if millis < 1000 => format!("{millis} ms"),
        millis => format!("{} s", millis as f64 / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violations(timing: &Timing, round_trip: Duration) -> Vec<&'static str> {
        let broken = timing.violations(round_trip);
        broken.into_iter().map(|(rule, _)| rule).collect()
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

    #[test]
    fn a_sentence_has_the_figures() {
        let timing = Timing {
            hold: Duration::from_secs(9),
            ..TimingProfile::Default.timing()
        };
        let broken = timing.violations(Duration::from_millis(200));
        assert_eq!(broken.len(), 2, "{broken:?}");
        for part in ["hold 9 s", "fence_budget 1 s", "take 10 s", "9.90 s", "10.09 s"] {
            assert!(broken[0].1.contains(part), "{part} is not in {}", broken[0].1);
        }
    }

    #[test]
    fn written_and_read_again_it_is_the_same() {
        let near = TimingProfile::Near.timing();
        let json = serde_json::to_value(near).expect("JSON");
        assert_eq!((&json["hold_ms"], &json["probe_failures"]), (&3200.into(), &3.into()));
        assert_eq!(serde_json::from_value::<Timing>(json).expect("the same"), near);
    }
}
