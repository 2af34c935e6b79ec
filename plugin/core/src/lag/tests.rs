use proptest::prelude::*;

use super::*;
use crate::{fixture, report::DatabaseReport, report::StoreReport};

const MS: fn(u64) -> Duration = Duration::from_millis;

pub(super) fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).expect("in range")
}

fn report(region: &str, node: &str, role: NodeRole) -> NodeReport {
    NodeReport {
        workspace: "shop".into(),
        region: region.into(),
        node: node.into(),
        // A clock that is far off: nothing may depend on it.
        sampled_at: Timestamp::from_second(5).expect("in range"),
        age: MS(200),
        database: DatabaseReport {
            state: DatabaseState::Running,
            detail: None,
            role: Some(role),
            system_identifier: Some("7000000000000000001".into()),
            timeline: Some(1),
            written: None,
            received: None,
            replayed: None,
            upstream_silence: None,
            upstream: None,
            replay_paused: false,
            senders: Vec::new(),
            slots: Vec::new(),
            started_at: None,
            connections: None,
            names: None,
            control_timeline: None,
            waiting: 0,
            weak_roles: Vec::new(),
        },
        samples: Vec::new(),
        store: StoreReport::default(),
        guard_version: "0".into(),
        agreement: None,
    }
}

pub(super) fn primary(node: &str, samples: &[(u64, u64)]) -> NodeView {
    let mut it = report("us-east", node, NodeRole::Primary);
    it.samples = samples
        .iter()
        .map(|(lsn, age)| WalSample {
            lsn: Lsn(*lsn),
            age: MS(*age),
        })
        .collect();
    it.database.written = samples.last().map(|(lsn, _)| Lsn(*lsn));
    view(it)
}

pub(super) fn replica(replayed: u64) -> NodeReport {
    let mut it = report("eu-central", "eu-db-1", NodeRole::Replica);
    it.database.replayed = Some(Lsn(replayed));
    it.database.received = Some(Lsn(replayed));
    it.database.upstream = Some("us-db-1".into());
    it.database.upstream_silence = Some(MS(300));
    it
}

pub(super) fn view(report: NodeReport) -> NodeView {
    NodeView {
        region: RegionName::new(report.region.clone()),
        node: report.node.clone(),
        report: Ok(report),
    }
}

pub(super) fn rows(nodes: &[NodeView]) -> Vec<LagRow> {
    table(nodes, &fixture::workspace().objectives, now())
}

/// The row of the last node.
pub(super) fn last(nodes: &[NodeView]) -> LagRow {
    rows(nodes).pop().expect("a row per node")
}

/// A minute of samples, a thousand bytes each second, until 100 ms ago.
fn busy() -> NodeView {
    let samples: Vec<(u64, u64)> = (0..60).map(|at| (10_000 + at * 1000, (59 - at) * 1000 + 300)).collect();
    primary("us-db-1", &samples)
}

#[test]
fn idle_is_zero_however_long_it_lasts() {
    let idle = primary("us-db-1", &[(500, 90_000), (500, 60_000), (500, 300)]);
    let row = last(&[idle, view(replica(500))]);
    assert_eq!(
        (row.lag, row.lag_bytes, row.at_least),
        (Some(Duration::ZERO), Some(0), false)
    );
    assert_eq!((row.state, row.verdict), (LagState::Streaming, LagVerdict::Ok));
    assert_eq!(
        row.sampled_at,
        Some(now() - jiff::SignedDuration::from_millis(200)),
        "by the asker's clock"
    );
}

#[test]
fn a_replica_looked_at_before_the_latest_write_is_not_behind() {
    // Written 300 ms ago; the replica was looked at 900 ms ago and had everything then.
    let mut it = replica(68_000);
    it.age = MS(900);
    let row = last(&[busy(), view(it)]);
    assert_eq!(row.lag, Some(Duration::ZERO));
    assert_eq!(
        row.lag_bytes,
        Some(1000),
        "bytes are against the primary's last known position"
    );
}

#[test]
fn the_time_behind_is_since_the_primary_went_beyond() {
    // 49 000 was replayed; 50 000 was sampled 19.3 s ago.
    let row = last(&[busy(), view(replica(49_000))]);
    assert_eq!(row.lag, Some(MS(19_300 - 200)));
    assert_eq!((row.lag_bytes, row.at_least), (Some(20_000), false));
    assert_eq!((row.state, row.verdict), (LagState::CatchingUp, LagVerdict::Ok));
}

#[test]
fn paused_replay_is_seen_and_grows() {
    let mut it = replica(30_000);
    it.database.replay_paused = true;
    it.database.received = Some(Lsn(69_000));
    let row = last(&[busy(), view(it)]);
    assert_eq!((row.state, row.verdict), (LagState::Paused, LagVerdict::Warn));
    assert_eq!(row.lag, Some(MS(38_300 - 200)));
}

#[test]
fn cut_off_shows_no_small_number() {
    let mut it = replica(69_000);
    it.database.upstream_silence = Some(MS(20_000));
    let row = last(&[busy(), view(it.clone())]);
    assert_eq!(
        (row.state, row.lag, row.verdict),
        (LagState::Stale, None, LagVerdict::Warn)
    );
    assert!(row.error.expect("says why").contains("20.2 s"));

    it.database.replayed = Some(Lsn(49_000));
    let row = last(&[busy(), view(it.clone())]);
    assert_eq!(row.lag, Some(MS(19_100)), "known from the primary's own samples");

    it.database.upstream_silence = Some(MS(700_000));
    assert_eq!(last(&[busy(), view(it.clone())]).verdict, LagVerdict::Critical);

    it.database.upstream_silence = None;
    let row = last(&[busy(), view(it)]);
    assert_eq!((row.state, row.verdict), (LagState::Disconnected, LagVerdict::Warn));
}

#[test]
fn an_old_report_says_nothing() {
    let mut it = replica(69_000);
    it.age = MS(30_000);
    let row = last(&[busy(), view(it)]);
    assert_eq!((row.state, row.lag, row.lag_bytes), (LagState::Stale, None, None));
    assert_eq!(row.verdict, LagVerdict::Unknown);
}

#[test]
fn older_than_the_ring_is_at_least() {
    let row = last(&[busy(), view(replica(1))]);
    assert!(row.at_least);
    assert_eq!((row.lag, row.verdict), (Some(MS(59_100)), LagVerdict::Warn));
    // A ring of a moment: whoever is behind it may be behind by hours.
    let young = primary("us-db-1", &[(9000, 300)]);
    let row = last(&[young, view(replica(1))]);
    assert_eq!((row.at_least, row.verdict), (true, LagVerdict::Unknown));
}

#[test]
fn without_a_primary_the_best_position_known_counts() {
    let mut other = replica(70_000);
    (other.region, other.node) = ("asia-southeast".into(), "asia-db-1".into());
    let gone = NodeView {
        region: RegionName::new("us-east"),
        node: "us-db-1".into(),
        report: Err("connection refused".into()),
    };
    let rows = rows(&[gone, view(other), view(replica(65_000))]);
    assert_eq!(
        (rows[0].state, rows[0].verdict),
        (LagState::Unknown, LagVerdict::Unknown)
    );
    assert_eq!(rows[0].error.as_deref(), Some("connection refused"));
    assert_eq!(
        (rows[2].lag_bytes, rows[2].at_least, rows[2].lag),
        (Some(5000), true, None)
    );
    assert_eq!(
        rows[1].verdict,
        LagVerdict::Unknown,
        "level with the best known is not level"
    );

    // Its guard lives and knows where it was.
    let mut down = busy();
    if let Ok(report) = &mut down.report {
        report.database.role = None;
        report.database.state = DatabaseState::Failed;
        report.database.written = None;
    }
    let rows = super::table(&[down, view(replica(49_000))], &fixture::workspace().objectives, now());
    assert_eq!((rows[0].state, rows[0].verdict), (LagState::Down, LagVerdict::Critical));
    assert_eq!((rows[1].lag, rows[1].at_least), (Some(MS(19_100)), true));
}

#[test]
fn two_primaries_say_so_on_both_rows() {
    let mut second = busy();
    if let Ok(report) = &mut second.report {
        (report.region, report.node) = ("eu-central".into(), "eu-db-1".into());
    }
    for row in rows(&[busy(), second]) {
        assert_eq!(row.verdict, LagVerdict::Critical);
        assert!(row.error.expect("both").starts_with("two primaries"));
    }
}

#[test]
fn a_copy_of_something_else_is_not_compared() {
    let mut it = replica(69_000);
    it.database.system_identifier = Some("1".into());
    let row = last(&[busy(), view(it)]);
    assert_eq!(
        (row.lag, row.lag_bytes, row.verdict),
        (None, None, LagVerdict::Critical)
    );
    let mut it = replica(69_000);
    it.database.timeline = Some(2);
    assert_eq!(last(&[busy(), view(it)]).verdict, LagVerdict::Critical);
}

#[test]
fn what_is_not_there_has_a_state_and_no_number() {
    for (state, expected) in [
        (DatabaseState::Absent, LagState::Absent),
        (DatabaseState::Creating, LagState::Starting),
        (DatabaseState::Stopped, LagState::Down),
    ] {
        let mut it = replica(0);
        (it.database.state, it.database.role) = (state, None);
        let row = last(&[busy(), view(it)]);
        assert_eq!((row.state, row.lag), (expected, None));
    }
}

prop_compose! {
    /// Positions and ages of a primary's ring, oldest first; the newest is of this moment.
    fn samples()(steps in proptest::collection::vec((0..1000u64, 1..2000u64), 1..50)) -> Vec<(u64, u64)> {
        let total: u64 = steps.iter().map(|(_, age)| age).sum();
        let (mut lsn, mut age) = (1, total);
        steps.iter().map(|(more, less)| {
            lsn += more;
            age -= less;
            (lsn, age)
        }).collect()
    }
}

proptest! {
    #[test]
    fn who_replayed_everything_is_never_behind(samples in samples(), age in 0..4000u64) {
        let newest = samples.last().expect("at least one").0;
        let mut it = replica(newest);
        it.age = MS(age);
        let row = last(&[primary("us-db-1", &samples), view(it)]);
        prop_assert_eq!(row.lag_bytes, Some(0));
        prop_assert!(row.lag.is_none_or(|lag| lag.is_zero()));
    }

    #[test]
    fn who_replayed_less_is_never_nearer(samples in samples(), a in 0..60_000u64, b in 0..60_000u64) {
        let (less, more) = (a.min(b), a.max(b));
        let row = |replayed| {
            let mut it = replica(replayed);
            it.age = Duration::ZERO;
            last(&[primary("us-db-1", &samples), view(it)])
        };
        prop_assert!(row(less).lag >= row(more).lag);
        prop_assert!(row(less).lag_bytes >= row(more).lag_bytes);
    }

    #[test]
    fn silence_never_shows_a_small_number(samples in samples(), replayed in 0..60_000u64, silence in 5_001..900_000u64) {
        let mut it = replica(replayed);
        it.database.upstream_silence = Some(MS(silence));
        let row = last(&[primary("us-db-1", &samples), view(it)]);
        prop_assert!(row.lag.is_none_or(|lag| lag > FRESH));
        prop_assert!(!matches!(row.state, LagState::Streaming | LagState::CatchingUp));
        prop_assert!(row.verdict != LagVerdict::Ok);
    }

    #[test]
    fn waiting_makes_a_cut_off_replica_older(samples in samples(), replayed in 0..60_000u64, wait in 1..100_000u64) {
        let row = |wait: u64| {
            let later: Vec<(u64, u64)> = samples.iter().map(|(lsn, age)| (*lsn, age + wait)).collect();
            let mut it = replica(replayed);
            it.age = Duration::ZERO;
            it.database.upstream_silence = Some(MS(6000 + wait));
            last(&[primary("us-db-1", &later), view(it)])
        };
        prop_assert!(row(wait).lag >= row(0).lag);
    }
}

#[test]
fn a_replica_that_has_just_begun_is_vouched_for_by_its_primary() {
    let mut new = replica(500);
    new.database.upstream_silence = None;
    let primary_that = |state: &str, silence: Option<Duration>| {
        let mut view = primary("us-db-1", &[(500, 300)]);
        if let Ok(report) = &mut view.report {
            report.database.senders.push(Sender {
                node: "ha_eu_db_1".into(),
                application_name: "ha_eu_db_1_e1".into(),
                epoch: Some(1),
                flushed: Some(Lsn(500)),
                state: state.into(),
                sync_state: "async".into(),
                replayed: Some(Lsn(500)),
                silence,
            });
        }
        view
    };
    let state = |primary: NodeView| last(&[primary, view(new.clone())]).state;
    assert_eq!(state(primary_that("streaming", Some(MS(300)))), LagState::Streaming);
    assert_eq!(state(primary_that("catchup", Some(MS(300)))), LagState::Disconnected);
    assert_eq!(state(primary_that("streaming", None)), LagState::Disconnected);
    // A line that was cut leaves its sender behind for a while.
    assert_eq!(state(primary_that("streaming", Some(MS(3000)))), LagState::Disconnected);
    assert_eq!(state(primary("us-db-1", &[(500, 300)])), LagState::Disconnected);
}
