//! How long a failover takes and what it may lose, from the settings alone (protocol §21).

use std::time::Duration;

use crate::model::{Objectives, Region, Role, SyncMode, Timing, Workspace};

/// The parts of one failover whose primary region is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Whose promises these are. While `degrade` is synchronous it keeps those of `strict`; after its fallback, those
    /// of `async`.
    pub mode: SyncMode,
    /// Until enough guards say that the primary is down; outside of strict mode until its lease may be taken.
    pub detect: Duration,
    /// The votes of the others, read from the store.
    pub decide: Duration,
    /// The next epoch, agreed on in the store.
    pub campaign: Duration,
    /// Until enough replicas have promised to acknowledge nothing more for the old primary, and the store knows.
    pub seal: Duration,
    /// The furthest of them, agreed on in the store.
    pub choose: Duration,
    /// What the candidate has received and not applied yet.
    pub replay: Duration,
    pub promote: Duration,
    /// The new primary is written to the store and read by the others.
    pub publish: Duration,
    pub route: Duration,
    /// Until the first replica of the new epoch acknowledges.
    pub follow: Duration,
    /// Until outside probes have failed often enough; only users whose own region died wait for it.
    pub dns_detect: Duration,
    /// Until old answers are forgotten.
    pub dns_ttl: Duration,
    lag: Duration,
    timing: Timing,
    trip: Duration,
    by_checks: bool,
}

/// What may be gone of acknowledged writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    Nothing,
    /// Whatever the new primary was behind: the rate of writes times the lag, which is expected to stay below this.
    UpTo(Duration),
}

/// One line of `ha budget`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// `detect`, `decide`, `campaign`, `seal`, `choose`, `replay`, `promote`, `publish`, `route`, `follow`; then the sums
    /// `writes` and, with a DNS, `dns_detect`, `dns_ttl` and `users`.
    pub step: &'static str,
    /// What is waited for, and how the figure comes about.
    pub what: String,
    pub promised: Duration,
    /// Sums only.
    pub rpo: Option<Loss>,
    /// Whether a sum keeps the objectives.
    pub kept: Option<bool>,
}

/// Promotion until the first write is possible, polled.
const PROMOTE: Duration = Duration::from_millis(100);
/// A write to the store by a guard whose own member is not the store's leader: there and back, and as long again for the
/// leader to hear from its majority.
const STORE: u32 = 2;
/// From the write of one guard until another reads it: the same, less the way back to the one who wrote.
const TOLD: u32 = 2;
/// TCP, TLS, the login by SCRAM in three steps, what the replica asks before it streams, and the first acknowledgement.
const FOLLOW: u32 = 10;
/// What a seal takes besides the way there.
const SEAL: Duration = Duration::from_millis(100);
/// A guard tells the HAProxy beside it.
const ROUTE_BY_SOCKET: Duration = Duration::from_millis(10);
/// Two failed checks, 300 ms apart after the first, and one that succeeds elsewhere.
const ROUTE_BY_CHECKS: Duration = Duration::from_millis(1200);
/// A clean stop after a checkpoint.
const STOP: Duration = Duration::from_millis(200);

impl Budget {
    /// As declared, for the round trip that the objectives allow and a candidate that has applied all it received.
    pub fn of(workspace: &Workspace) -> Self {
        Self::of_mode(
            workspace,
            workspace.sync_mode,
            allowed_round_trip(&workspace.objectives),
            Duration::ZERO,
        )
    }

    /// For the mode in force, a round trip between the regions, and what a candidate would have to `replay` first.
    pub fn of_mode(workspace: &Workspace, mode: SyncMode, round_trip: Duration, replay: Duration) -> Self {
        let timing = workspace.timing;
        let synchronous = mode != SyncMode::Async;
        let dns = workspace.dns.as_ref();
        let by_checks = workspace.regions.iter().any(is_routed_by_checks);
        let if_synchronous = |it: Duration| if synchronous { it } else { Duration::ZERO };
        Self {
            mode,
            detect: match synchronous {
                true => timing.detect(),
                false => timing.detect().max(timing.take),
            },
            decide: if_synchronous(round_trip * TOLD),
            campaign: round_trip * STORE,
            seal: if_synchronous(round_trip * (1 + TOLD) + SEAL),
            choose: round_trip * STORE,
            replay,
            promote: PROMOTE,
            publish: round_trip * TOLD,
            route: if by_checks { ROUTE_BY_CHECKS } else { ROUTE_BY_SOCKET },
            follow: if_synchronous(round_trip * FOLLOW),
            dns_detect: dns.map_or(Duration::ZERO, |dns| {
                Duration::from_secs(dns.probe_interval_seconds) * dns.probe_failures
            }),
            dns_ttl: dns.map_or(Duration::ZERO, |dns| Duration::from_secs(dns.ttl_seconds)),
            lag: Duration::from_secs(workspace.objectives.lag_expected_seconds),
            timing,
            trip: round_trip,
            by_checks,
        }
    }

    /// For users of the regions that are left.
    pub fn in_region(&self) -> Duration {
        let agreed = self.detect + self.decide + self.campaign + self.seal + self.choose;
        agreed + self.replay + self.promote + self.publish + self.route + self.follow
    }

    /// For users who entered through the region that is lost, on top of that.
    pub fn dns(&self) -> Duration {
        self.dns_detect + self.dns_ttl
    }

    pub fn loss(&self) -> Loss {
        match self.mode {
            SyncMode::Async => Loss::UpTo(self.lag),
            SyncMode::Strict | SyncMode::Degrade => Loss::Nothing,
        }
    }

    /// The outage of a planned switchover; nothing is detected, and nothing is lost in any mode.
    pub fn switchover(&self) -> Duration {
        // The stop, the way of the last of the log, the swap in the store, and from there as a failover.
        STOP + self.trip + self.trip * STORE + self.promote + self.publish + self.route + self.follow
    }

    /// A row for each step, each with its arithmetic, and the sums against the objectives.
    pub fn rows(&self, objectives: &Objectives) -> Vec<Row> {
        let step = |step, promised, what: String| Row {
            step,
            what,
            promised,
            rpo: None,
            kept: None,
        };
        let trip = text(self.trip);
        let probes = format!(
            "{} looks every {}, the last given {}",
            self.timing.probe_failures,
            text(self.timing.probe_interval),
            text(self.timing.probe_timeout)
        );
        let mut rows = vec![match self.mode {
            SyncMode::Async => step(
                "detect",
                self.detect,
                format!(
                    "until the lease may be taken, {}, and not before the votes: {probes}",
                    text(self.timing.take)
                ),
            ),
            _ => step(
                "detect",
                self.detect,
                format!("until two guards say that the primary is down: {probes}"),
            ),
        }];
        if self.mode != SyncMode::Async {
            let what = format!("the votes are read from the store: 2 round trips of {trip}");
            rows.push(step("decide", self.decide, what));
        }
        let what = format!("the next epoch is agreed on: 2 round trips of {trip}");
        rows.push(step("campaign", self.campaign, what));
        if self.mode != SyncMode::Async {
            let what = format!(
                "enough copies promise to acknowledge nothing more for the old primary, and say so: 3 round trips of {trip} \
                 + {}",
                text(SEAL)
            );
            rows.push(step("seal", self.seal, what));
        }
        let what = format!("the furthest is agreed on: 2 round trips of {trip}");
        rows.push(step("choose", self.choose, what));
        let what = "what the candidate has received and not applied yet".to_owned();
        rows.push(step("replay", self.replay, what));
        let what = "the candidate becomes primary".to_owned();
        rows.push(step("promote", self.promote, what));
        let what = format!("the others read who leads: 2 round trips of {trip}");
        rows.push(step("publish", self.publish, what));
        let what = match self.by_checks {
            false => format!(
                "guards turn the balancers beside them by socket ({} by their checks alone)",
                text(ROUTE_BY_CHECKS)
            ),
            true => "by the balancers' own checks: a region has a balancer and no guard beside it".to_owned(),
        };
        rows.push(step("route", self.route, what));
        if self.mode != SyncMode::Async {
            let what = format!("until a copy acknowledges for the new primary: 10 round trips of {trip}");
            rows.push(step("follow", self.follow, what));
        }
        let total = |step, promised, what: &str| Row {
            step,
            what: what.to_owned(),
            promised,
            rpo: Some(self.loss()),
            kept: Some(promised <= Duration::from_secs(objectives.rto_seconds) && self.keeps_the_rpo(objectives)),
        };
        let writes = match self.mode {
            SyncMode::Degrade => "writes are possible again; after a fallback as async, which loses what is behind",
            _ => "writes are possible again",
        };
        rows.push(total("writes", self.in_region(), writes));
        if self.dns() > Duration::ZERO {
            let what = "probes from outside have failed often enough".to_owned();
            rows.push(step("dns_detect", self.dns_detect, what));
            rows.push(step("dns_ttl", self.dns_ttl, "old answers are forgotten".to_owned()));
            let what = "users who entered by the lost region are served again";
            rows.push(total("users", self.in_region() + self.dns(), what));
        }
        rows
    }

    fn keeps_the_rpo(&self, objectives: &Objectives) -> bool {
        match self.loss() {
            Loss::Nothing => true,
            Loss::UpTo(lag) => lag <= Duration::from_secs(objectives.rpo_seconds),
        }
    }
}

/// The slowest way between two regions that the objectives allow.
pub fn allowed_round_trip(objectives: &Objectives) -> Duration {
    Duration::try_from_secs_f64(objectives.max_latency_ms / 1000.0).unwrap_or_default()
}

/// It has a balancer, and no guard that could turn it.
fn is_routed_by_checks(region: &Region) -> bool {
    let guards = region.databases.iter().any(|it| !it.managed) || region.role == Role::Witness;
    !region.load_balancers.is_empty() && !guards
}

fn text(duration: Duration) -> String {
    match duration.as_millis() {
        millis if millis < 1000 => format!("{millis} ms"),
        millis => format!("{} s", millis as f64 / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fixture, model::TimingProfile};

    fn profile(workspace: &mut Workspace, profile: TimingProfile) {
        (workspace.profile, workspace.timing) = (profile, profile.timing());
    }

    fn seconds(workspace: &Workspace) -> f64 {
        Budget::of(workspace).in_region().as_secs_f64()
    }

    #[test]
    fn the_figures_of_the_protocol() {
        let mut workspace = fixture::workspace();
        // 3.7 detect + 0.2 decide + 0.2 campaign + 0.4 seal + 0.2 choose + 0.1 promote + 0.2 publish + 0.01 route + 1 follow,
        // at 100 ms.
        assert!((seconds(&workspace) - 6.01).abs() < 0.001);
        assert!((Budget::of(&workspace).dns().as_secs_f64() - 150.0).abs() < 0.001);
        profile(&mut workspace, TimingProfile::Near);
        workspace.objectives.max_latency_ms = 10.0;
        assert!((seconds(&workspace) - 2.42).abs() < 0.001);
        workspace.sync_mode = SyncMode::Degrade;
        assert!(
            (seconds(&workspace) - 2.42).abs() < 0.001,
            "while it is synchronous it is strict"
        );
        workspace.sync_mode = SyncMode::Async;
        assert!((seconds(&workspace) - 5.17).abs() < 0.001);
        profile(&mut workspace, TimingProfile::Documents);
        assert!((seconds(&workspace) - 30.17).abs() < 0.001);
    }

    #[test]
    fn a_balancer_without_a_guard_beside_it_is_turned_by_its_checks() {
        let mut workspace = fixture::workspace();
        workspace.regions[2].databases.clear();
        let budget = Budget::of(&workspace);
        assert_eq!(budget.route, ROUTE_BY_CHECKS);
        let rows = budget.rows(&workspace.objectives);
        assert!(
            rows.iter()
                .any(|row| row.step == "route" && row.what.contains("no guard"))
        );
    }

    #[test]
    fn the_rows_add_up() {
        let mut workspace = fixture::workspace();
        for mode in [SyncMode::Strict, SyncMode::Degrade, SyncMode::Async] {
            workspace.sync_mode = mode;
            let budget = Budget::of(&workspace);
            let rows = budget.rows(&workspace.objectives);
            let steps: Duration = rows.iter().filter(|it| it.rpo.is_none()).map(|it| it.promised).sum();
            let users = rows.iter().find(|it| it.step == "users").expect("there is a DNS");
            assert_eq!(users.promised, steps, "{mode:?}");
            let writes = rows.iter().find(|it| it.step == "writes").expect("always");
            assert_eq!(writes.promised, budget.in_region());
        }
    }

    #[test]
    fn what_may_be_lost_follows_from_the_mode() {
        let mut workspace = fixture::workspace();
        let kept = |workspace: &Workspace| {
            let rows = Budget::of(workspace).rows(&workspace.objectives);
            let sums: Vec<_> = rows.into_iter().filter_map(|row| Some((row.rpo?, row.kept?))).collect();
            sums[0]
        };
        assert_eq!(kept(&workspace), (Loss::Nothing, true));
        workspace.sync_mode = SyncMode::Async;
        let behind = Loss::UpTo(Duration::from_secs(300));
        assert_eq!(kept(&workspace), (behind, false), "300 s of lag against an RPO of 60 s");
        workspace.objectives.rpo_seconds = 300;
        assert_eq!(kept(&workspace), (behind, true));
        workspace.objectives.rto_seconds = 5;
        assert_eq!(kept(&workspace), (behind, false));
    }

    #[test]
    fn the_mode_in_force_and_what_was_measured_count() {
        let workspace = fixture::workspace();
        let replay = Duration::from_secs(2);
        let trip = Duration::from_millis(160);
        let budget = Budget::of_mode(&workspace, SyncMode::Strict, trip, replay);
        // 3.7 + 0.32 + 0.32 + 0.58 + 0.32 + 2 + 0.1 + 0.32 + 0.01 + 1.6
        assert!((budget.in_region().as_secs_f64() - 9.27).abs() < 0.001);
        let near = Budget::of_mode(&workspace, SyncMode::Strict, Duration::from_millis(1), Duration::ZERO);
        assert!(
            near.switchover() < Duration::from_millis(700),
            "{:?}",
            near.switchover()
        );
    }
}
