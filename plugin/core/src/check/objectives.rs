//! Promises against the settings that are to keep them.

use std::time::Duration;

use jiff::Timestamp;

use super::{codes, list, place_of};
use crate::{
    budget::Budget,
    config::Config,
    cost::{self, Prices},
    finding::Finding,
    model::{Region, SyncMode, TimingProfile, Workspace},
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
    if workspace.sync_mode == SyncMode::Strict || !is_replicated(workspace) {
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
            "lower {} to {rpo} or less, as in objectives.{name} = {rpo}; or raise rpo_seconds; \
             or write sync_mode = 'Strict: then no acknowledged write waits behind the lag",
            if above.len() == 1 { "it" } else { "them" },
        ));
    vec![finding]
}

/// Detection is never waited for once and then forgotten: probes, TTL and promotion add up.
pub(super) fn failover_meets_the_rto(workspace: &Workspace, _: &Config) -> Vec<Finding> {
    if workspace.regions.len() < 2 {
        return Vec::new();
    }
    let budget = Budget::of(workspace);
    // Managed databases fail over by other means, and no database not at all.
    let database = if is_replicated(workspace) {
        budget.in_region()
    } else {
        Duration::ZERO
    };
    let rto = Duration::from_secs(workspace.objectives.rto_seconds);
    let seconds = |duration: Duration| format!("{:.1} s", duration.as_secs_f64());
    let mut out = Vec::new();
    if database > rto {
        let message = format!(
            "a failover takes {}, and the RTO is {}: detection {}, agreement {}, promotion and routing {}",
            seconds(database),
            seconds(rto),
            seconds(budget.detect),
            seconds(budget.decide + budget.campaign + budget.seal + budget.choose),
            seconds(budget.promote + budget.publish + budget.route + budget.follow),
        );
        let finding = Finding::warning(codes::RTO, message)
            .at("objectives.rto_seconds")
            .label("timing", "decides how fast");
        out.push(finding.help(format!(
            "write objectives.rto_seconds = {} or more{}",
            whole_seconds(database),
            faster(workspace.profile),
        )));
    } else if let Some(dns) = workspace.dns.as_ref().filter(|_| database + budget.dns() > rto) {
        let message = format!(
            "users of a lost region wait {}, and the RTO is {}: {} probes at {} s are {}, the TTL is {}, the database takes {}",
            seconds(database + budget.dns()),
            seconds(rto),
            dns.probe_failures,
            dns.probe_interval_seconds,
            seconds(budget.dns_detect),
            seconds(budget.dns_ttl),
            seconds(database),
        );
        let finding = Finding::warning(codes::RTO, message)
            .at(&dns.path)
            .label("objectives.rto_seconds", "the promise");
        out.push(finding.help(format!(
            "probe more often: {dns}.health_check.request_interval = 10, with fewer failures \
             ({dns}.health_check.failure_threshold) or a lower {dns}.ttl; or write objectives.rto_seconds = {}",
            whole_seconds(database + budget.dns()),
            dns = dns.path,
        )));
    }
    out
}

/// Two regions or more hold nodes of a database that this workspace runs itself.
fn is_replicated(workspace: &Workspace) -> bool {
    let own = |region: &&Region| region.databases.iter().any(|database| !database.managed);
    workspace.regions.iter().filter(own).nth(1).is_some()
}

/// What else to do about a slow failover, where there is something else.
fn faster(timing: TimingProfile) -> &'static str {
    match timing {
        TimingProfile::Documents => ", or timing = 'Default",
        TimingProfile::Default => ", or, where all regions are within 20 ms, timing = 'Near",
        TimingProfile::Near => "",
    }
}

/// A number that keeps the promise.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// Whether the regions are near enough for the profile; whether its constants fit each other is another rule's.
pub(super) fn timing_is_sound(workspace: &Workspace, _: &Config) -> Vec<Finding> {
    let (profile, most, slower) = match workspace.profile {
        TimingProfile::Near => ("near", 20.0, "'Default"),
        TimingProfile::Default => ("default", 200.0, "'Documents"),
        TimingProfile::Documents => return Vec::new(),
    };
    let regions = &workspace.regions;
    let pairs = regions
        .iter()
        .enumerate()
        .flat_map(|(at, one)| regions[..at].iter().map(move |other| (other, one)));
    let furthest = pairs
        .filter_map(|(one, other)| Some((one.coordinates?.least_round_trip_ms(other.coordinates?), one, other)))
        .max_by(|(a, ..), (b, ..)| a.total_cmp(b));
    let Some((trip, one, other)) = furthest.filter(|(trip, ..)| *trip > most) else {
        return Vec::new();
    };
    let message = format!(
        "the profile {profile} is for regions up to {most:.0} ms apart; {} and {} are at least {trip:.0} ms",
        one.name, other.name
    );
    let finding = Finding::warning(codes::TIMING, message)
        .at("timing")
        .label(place_of(one), one.name.as_str())
        .label(place_of(other), other.name.as_str())
        .help(format!(
            "write timing = {slower}: a slow answer would be taken for a dead region"
        ));
    vec![finding]
}

/// By the operator's prices and those of the price file; `ha cost` says how old each is.
pub(super) fn the_budget_holds(workspace: &Workspace, config: &Config) -> Vec<Finding> {
    let Some(budget) = workspace.objectives.monthly_budget_usd else {
        return Vec::new();
    };
    // What is old is not asked here, so any time will do.
    let rows = match cost::rows(workspace, &Prices::new(config, []), Timestamp::UNIX_EPOCH) {
        Ok(rows) => rows,
        Err(error) => {
            let message = format!("whether the budget holds is not known: {error}");
            let finding = Finding::warning(codes::BUDGET, message).at("objectives.monthly_budget_usd");
            return vec![finding.help("this is a mistake in the program")];
        }
    };
    let total = cost::total(&rows);
    if total.money.usd <= budget {
        return Vec::new();
    }
    let (least, unpriced) = match total.unpriced {
        0 => ("", String::new()),
        1 => ("at least ", ", and one line of the bill has no known price".to_owned()),
        some => (
            "at least ",
            format!(", and {some} lines of the bill have no known price"),
        ),
    };
    let message = format!(
        "what is declared costs {least}${:.2} a month, ${:.2} above the budget of ${budget}{unpriced}",
        total.money.usd,
        total.money.usd - budget,
    );
    let finding = Finding::warning(codes::BUDGET, message)
        .at("objectives.monthly_budget_usd")
        .help(format!(
            "see for what: ha cost | sort-by --reverse monthly_cost; try less: ha cost --what-if count=2; or write \
             objectives.monthly_budget_usd = {}",
            total.money.usd.ceil(),
        ));
    vec![finding]
}
