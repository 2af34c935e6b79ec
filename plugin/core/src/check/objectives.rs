//! Promises against the settings that are to keep them.

use std::time::Duration;

use super::{codes, list, place_of};
use crate::{
    budget::Budget,
    config::Config,
    finding::Finding,
    model::{SyncMode, Timing, TimingProfile, Workspace},
};

/// The three limits with their names.
fn limits(workspace: &Workspace) -> [(&'static str, u64); 3] {
    let objectives = &workspace.objectives;
    [
        ("lag_warn_seconds", objectives.lag_warn_seconds),
        ("lag_expected_seconds", objectives.lag_expected_seconds),
        ("lag_critical_seconds", objectives.lag_critical_seconds),
    ]
}

pub(super) fn lag_limits_are_in_order(workspace: &Workspace, _: &Config) -> Vec<Finding> {
    let limits = limits(workspace);
    let wrong = limits.windows(2).filter_map(|pair| match pair {
        [(low_name, low), (high_name, high)] if low > high => {
            let message = format!("{low_name} is {low}, above {high_name} with {high}");
            let finding = Finding::error(codes::LAG_ORDER, message).at(format!("objectives.{low_name}"));
            let finding = finding.label(format!("objectives.{high_name}"), "reached first");
            Some(finding.help("order them: warn, then expected, then critical"))
        }
        _ => None,
    });
    wrong.collect()
}

/// In strict mode no acknowledged write waits behind the lag; elsewhere whatever is behind is what would be lost.
pub(super) fn lag_limits_meet_the_rpo(workspace: &Workspace, _: &Config) -> Vec<Finding> {
    let rpo = workspace.objectives.rpo_seconds;
    if workspace.sync_mode == SyncMode::Strict || workspace.regions.len() < 2 {
        return Vec::new();
    }
    let limits = limits(workspace);
    let above: Vec<&(&str, u64)> = limits.iter().filter(|(_, limit)| *limit > rpo).collect();
    let Some((name, _)) = above.first() else {
        return Vec::new();
    };
    let words: Vec<String> = above
        .iter()
        .map(|(name, limit)| format!("{name} ({limit} s)"))
        .collect();
    let message = format!(
        "{} {} above the RPO of {rpo} s: at such a lag a failover loses more than was promised",
        list(&words),
        if words.len() == 1 { "is" } else { "are" },
    );
    let finding = Finding::warning(codes::LAG_ABOVE_RPO, message)
        .at(format!("objectives.{name}"))
        .label("objectives.rpo_seconds", "the promise")
        .help(format!(
            "lower the limits to {rpo} or less, raise rpo_seconds, or set sync_mode to strict"
        ));
    vec![finding]
}

/// Detection is never waited for once and then forgotten: probes, TTL and promotion add up.
pub(super) fn failover_meets_the_rto(workspace: &Workspace, _: &Config) -> Vec<Finding> {
    if workspace.regions.len() < 2 {
        return Vec::new();
    }
    let budget = Budget::of(workspace);
    let rto = Duration::from_secs(workspace.objectives.rto_seconds);
    let seconds = |duration: Duration| format!("{:.1} s", duration.as_secs_f64());
    let mut out = Vec::new();
    if budget.in_region() > rto {
        let message = format!(
            "a failover takes {}, and the RTO is {}: detection {}, agreement {}, promotion and routing {}",
            seconds(budget.in_region()),
            seconds(rto),
            seconds(budget.detect),
            seconds(budget.decide + budget.seal),
            seconds(budget.promote + budget.route + budget.follow),
        );
        let finding = Finding::warning(codes::RTO, message)
            .at("objectives.rto_seconds")
            .label("timing", "decides how fast");
        out.push(finding.help("choose a faster timing profile (near for regions within 20 ms), or raise rto_seconds"));
    } else if let Some(dns) = workspace.dns.as_ref().filter(|_| budget.by_dns() > rto) {
        let message = format!(
            "users of a lost region wait {}, and the RTO is {}: {} probes at {} s are {}, the TTL is {}, the database takes {}",
            seconds(budget.by_dns()),
            seconds(rto),
            dns.probe_failures,
            dns.probe_interval_seconds,
            seconds(budget.dns_detect),
            seconds(budget.dns_ttl),
            seconds(budget.in_region()),
        );
        let finding = Finding::warning(codes::RTO, message)
            .at(&dns.path)
            .label("objectives.rto_seconds", "the promise");
        out.push(finding.help("probe more often (10 s), take fewer failures or a lower TTL, or raise rto_seconds"));
    }
    out
}

/// What FAILOVER.md §5 asks of the constants; `rho` is how far clocks may run apart.
fn violations(timing: &Timing) -> Vec<&'static str> {
    const RHO: f64 = 0.01;
    let seconds = |duration: Duration| duration.as_secs_f64();
    let take = seconds(timing.take);
    let rules = [
        (
            seconds(timing.hold) * (1.0 + RHO) + seconds(timing.fence_budget) < take * (1.0 - RHO),
            "C1: a holder must have fenced itself before anyone may take its lease",
        ),
        (
            timing.renew + timing.call_timeout + timing.store_election <= timing.hold,
            "C2: an election in the store must not demote a healthy primary",
        ),
        (
            timing.hold + timing.fence_budget <= timing.watchdog && seconds(timing.watchdog) < take * (1.0 - RHO),
            "C3: the watchdog comes after the fence and before a taker",
        ),
        (
            timing.probe_interval * timing.probe_failures + timing.probe_timeout < timing.take,
            "C4: votes must be there when the lease can be taken",
        ),
    ];
    rules
        .into_iter()
        .filter(|(holds, _)| !holds)
        .map(|(_, rule)| rule)
        .collect()
}

pub(super) fn timing_is_sound(workspace: &Workspace, _: &Config) -> Vec<Finding> {
    let mut out: Vec<Finding> = violations(&workspace.timing.timing())
        .into_iter()
        .map(|rule| {
            Finding::error(codes::TIMING, rule)
                .at("timing")
                .help("choose another timing profile")
        })
        .collect();
    let (profile, most) = match workspace.timing {
        TimingProfile::Near => ("near", 20.0),
        TimingProfile::Default => ("default", 200.0),
        TimingProfile::Documents => return out,
    };
    let regions = &workspace.regions;
    let pairs = regions
        .iter()
        .enumerate()
        .flat_map(|(at, one)| regions[..at].iter().map(move |other| (other, one)));
    let furthest = pairs
        .filter_map(|(one, other)| Some((one.coordinates?.least_round_trip_ms(other.coordinates?), one, other)))
        .max_by(|(a, ..), (b, ..)| a.total_cmp(b));
    if let Some((trip, one, other)) = furthest.filter(|(trip, ..)| *trip > most) {
        let message = format!(
            "the profile {profile} is for regions up to {most:.0} ms apart; {} and {} are at least {trip:.0} ms",
            one.name, other.name
        );
        let slower = if profile == "near" { "default" } else { "documents" };
        let finding = Finding::warning(codes::TIMING, message).at("timing");
        let finding = finding
            .label(place_of(one), one.name.as_str())
            .label(place_of(other), other.name.as_str());
        out.push(finding.help(format!(
            "set timing to {slower}: a slow answer would be taken for a dead region"
        )));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_keeps_the_constraints() {
        for profile in [TimingProfile::Documents, TimingProfile::Default, TimingProfile::Near] {
            assert_eq!(violations(&profile.timing()), [""; 0], "{profile:?}");
        }
    }

    #[test]
    fn each_constraint_is_seen() {
        let sound = TimingProfile::Default.timing();
        let broken = [
            Timing {
                hold: sound.take,
                watchdog: sound.take,
                ..sound
            },
            Timing {
                renew: sound.hold,
                ..sound
            },
            Timing {
                watchdog: Duration::from_secs(1),
                ..sound
            },
            Timing {
                probe_failures: 20,
                ..sound
            },
        ];
        for (timing, rule) in broken.iter().zip(["C1", "C2", "C3", "C4"]) {
            assert!(violations(timing).iter().any(|it| it.starts_with(rule)), "{rule}");
        }
    }
}
