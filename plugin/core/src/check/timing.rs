//! The constants of failover against each other, and against PostgreSQL's and the network's own (protocol §5).

use std::time::Duration;

use super::codes;
use crate::{
    budget,
    config::Config,
    finding::Finding,
    model::{CLOCK_DRIFT, Timing, Workspace},
};

/// One finding for each rule that is broken. A profile keeps all of them; what is overridden may not.
pub(super) fn constants_keep_the_rules(workspace: &Workspace, _: &Config) -> Vec<Finding> {
    let round_trip = budget::allowed_round_trip(&workspace.objectives);
    let broken = workspace.timing.violations(round_trip);
    broken
        .into_iter()
        .map(|(rule, says)| violation(workspace, round_trip, rule, &says))
        .collect()
}

fn violation(workspace: &Workspace, round_trip: Duration, rule: &str, says: &str) -> Finding {
    let timing = &workspace.timing;
    let message = format!("{rule}: {says}");
    let take = least_take(timing);
    let hold = timing.renew + timing.call_timeout + timing.store_election * 2;
    let fence = timing.hold + timing.fence_budget;
    let (code, field, help) = match rule {
        "C1" => (
            codes::TIMING_TAKE,
            "take_ms",
            format!("write timing.take_ms = {take} or more, or shorten hold_ms or fence_budget_ms"),
        ),
        "C2" => (
            codes::TIMING_HOLD,
            "hold_ms",
            format!(
                "write timing.hold_ms = {} or more, or shorten store_election_ms",
                millis(hold)
            ),
        ),
        "C3" => {
            let lowest = millis(fence);
            let highest = (millis(timing.take) as f64 * (1.0 - CLOCK_DRIFT)).ceil() as u64 - 1;
            let help = match lowest <= highest {
                true => format!("write timing.watchdog_ms = {lowest}, or up to {highest}"),
                false => format!(
                    "write timing.watchdog_ms = {lowest} and timing.take_ms = {} or more",
                    take.max(above(fence))
                ),
            };
            (codes::TIMING_WATCHDOG, "watchdog_ms", help)
        }
        "C4" => (
            codes::TIMING_PROBES,
            "probe_failures",
            format!(
                "write timing.take_ms = {} or more, or look more often (probe_interval_ms) or fewer times (probe_failures)",
                millis(timing.detect()) + 1
            ),
        ),
        "C5" => (
            codes::TIMING_REPLICATION,
            "take_ms",
            format!(
                "write timing.take_ms = {} or more",
                millis(crate::model::REPLICATION_TIMEOUT)
            ),
        ),
        _ => {
            let finding = Finding::warning(codes::TIMING_STORE, message)
                .at("timing.store_election_ms")
                .label("objectives.max_latency_ms", "how far regions may be apart");
            return finding.help(format!(
                "write timing.store_election_ms = {} or more, with hold_ms to match, or lower objectives.max_latency_ms \
                 to {} where the regions are that near",
                millis(round_trip * 10),
                timing.store_election.as_millis() / 10
            ));
        }
    };
    let finding = Finding::error(code, message).at(format!("timing.{field}"));
    let profile = workspace.profile.as_str();
    finding.help(format!("{help}; the profile {profile} by itself keeps all rules"))
}

/// The shortest `take` that C1 and C3 allow, in milliseconds.
fn least_take(timing: &Timing) -> u64 {
    let fenced = timing.hold.as_secs_f64() * (1.0 + CLOCK_DRIFT) + timing.fence_budget.as_secs_f64();
    above(Duration::from_secs_f64(fenced))
}

/// Milliseconds that are more than `duration` by every clock.
fn above(duration: Duration) -> u64 {
    (duration.as_secs_f64() * 1000.0 / (1.0 - CLOCK_DRIFT)).floor() as u64 + 1
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The one of PostgreSQL's timeouts that a workspace may set: a dead line that is kept longer than the lease holds back
/// what C5 counts on.
pub(super) fn lines_end_before_the_lease(workspace: &Workspace, _: &Config) -> Vec<Finding> {
    const SETTING: &str = "tcp_user_timeout";
    let databases = workspace.regions.iter().flat_map(|region| &region.databases);
    databases
        .filter_map(|database| {
            let written = database.settings.get(SETTING)?;
            let timeout = postgres_duration(written)?;
            // Zero leaves it to the kernel: a quarter of an hour.
            if !timeout.is_zero() && timeout <= workspace.timing.take {
                return None;
            }
            let message = format!(
                "C5: {SETTING} is {written}, longer than the {} ms after which the lease may be taken",
                millis(workspace.timing.take)
            );
            let finding = Finding::warning(codes::TIMING_REPLICATION, message)
                .at(format!("{}.settings.{SETTING}", database.declared.path))
                .label("timing", "decides when");
            Some(finding.help(format!("leave it out ({SETTING} is then 5s), or write a shorter one")))
        })
        .collect()
}

/// As PostgreSQL reads a time whose unit is milliseconds: `5000`, `5s`, `1 min`. None for what it would refuse.
fn postgres_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: f64 = number.parse().ok()?;
    let seconds = match unit.trim() {
        "" | "ms" => number / 1000.0,
        "us" => number / 1e6,
        "s" => number,
        "min" => number * 60.0,
        "h" => number * 3600.0,
        "d" => number * 86_400.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fixture, model::TimingProfile};

    #[test]
    fn what_a_remedy_says_is_enough() {
        let broken = Timing {
            hold: Duration::from_secs(9),
            ..TimingProfile::Default.timing()
        };
        let take = least_take(&broken);
        assert_eq!(take, 10_192);
        let with = |take: u64| Timing {
            take: Duration::from_millis(take),
            watchdog: Duration::from_secs(10),
            ..broken
        };
        let rules = |timing: Timing| timing.violations(Duration::ZERO).len();
        assert_eq!((rules(with(take)), rules(with(take - 1))), (0, 1));
    }

    #[test]
    fn every_rule_has_a_code_of_its_own() {
        let mut workspace = fixture::workspace();
        workspace.timing = Timing {
            renew: Duration::from_secs(60),
            hold: Duration::from_secs(60),
            take: Duration::from_secs(4),
            probe_failures: 9,
            ..workspace.timing
        };
        workspace.objectives.max_latency_ms = 201.0;
        let found = constants_keep_the_rules(&workspace, &Config::default());
        let mut codes: Vec<&str> = found.iter().map(|it| it.code.as_str()).collect();
        assert_eq!(codes.len(), 6, "{found:#?}");
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), 6);
    }

    #[test]
    fn times_are_read_as_postgresql_reads_them() {
        let read = |text| postgres_duration(text).map(|it| it.as_millis());
        assert_eq!(read("5000"), Some(5000));
        assert_eq!(read("5s"), Some(5000));
        assert_eq!(read(" 1 min "), Some(60_000));
        assert_eq!(read("1.5s"), Some(1500));
        assert_eq!(read("five"), None);
        assert_eq!(read("5 parsecs"), None);
    }
}
