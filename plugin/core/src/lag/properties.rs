//! A primary that writes, replicas in every plight, and clocks that are all wrong: what a row says is true.

use proptest::prelude::*;

use super::{
    tests::{last, now, primary, replica, rows, view},
    *,
};
use crate::fixture;

/// Guards sample once a second.
const SAMPLED: u64 = 1000;

/// What a primary wrote: positions by the moment, in milliseconds before now, oldest first.
#[derive(Clone, Debug)]
struct History(Vec<(u64, u64)>);

impl History {
    /// Where the log was `age` ago.
    fn at(&self, age: u64) -> u64 {
        let written = self.0.iter().take_while(|(_, written)| *written >= age);
        written.last().map_or(1, |(lsn, _)| *lsn)
    }

    /// The primary as its guard reports it: a ring of `length` samples.
    fn primary(&self, length: u64) -> NodeView {
        let samples: Vec<(u64, u64)> = (0..length)
            .rev()
            .map(|at| (self.at(at * SAMPLED), at * SAMPLED))
            .collect();
        let mut view = primary("us-db-1", &samples);
        if let Ok(report) = &mut view.report {
            report.age = Duration::ZERO;
        }
        view
    }

    /// For how long there has been something that a replica at `replayed` lacks.
    fn behind(&self, replayed: u64) -> u64 {
        self.0
            .iter()
            .find(|(lsn, _)| *lsn > replayed)
            .map_or(0, |(_, age)| *age)
    }
}

prop_compose! {
    /// Bursts and silences of up to a minute, in steps that fall between samples as well as on them.
    fn history()(steps in proptest::collection::vec((1..10_000u64, 1..60_000u64), 1..20)) -> History {
        let mut age: u64 = steps.iter().map(|(_, pause)| pause).sum();
        let mut lsn = 1;
        History(steps.into_iter().map(|(more, pause)| {
            lsn += more;
            age -= pause;
            (lsn, age)
        }).collect())
    }
}

fn of(replayed: u64, change: impl FnOnce(&mut NodeReport)) -> NodeReport {
    let mut it = replica(replayed);
    it.age = Duration::ZERO;
    change(&mut it);
    it
}

fn millis(lag: Option<Duration>) -> Option<u64> {
    lag.map(|lag| lag.as_millis() as u64)
}

proptest! {
    /// Never more than the truth, and less by no more than the time between two samples.
    #[test]
    fn lag_is_true_to_a_sample(history in history(), replayed_at in 0..600_000u64) {
        let replayed = history.at(replayed_at);
        let row = last(&[history.primary(1300), view(of(replayed, |_| {}))]);
        let (said, truth) = (millis(row.lag).expect("known"), history.behind(replayed));
        prop_assert!(!row.at_least);
        prop_assert!(said <= truth && truth <= said + SAMPLED, "{said} said, {truth} true");
    }

    /// Paused: all that is said grows with the clock, whatever the primary does meanwhile.
    #[test]
    fn a_pause_grows_with_the_clock(history in history(), replayed_at in 1000..600_000u64, wait in 1..100u64) {
        let replayed = history.at(replayed_at);
        let wait = wait * SAMPLED;
        let paused = |history: &History| {
            last(&[history.primary(1300), view(of(replayed, |it| it.database.replay_paused = true))])
        };
        let later = History(history.0.iter().map(|(lsn, age)| (*lsn, age + wait)).collect());
        let (before, after) = (paused(&history), paused(&later));
        prop_assert_eq!(before.state, LagState::Paused);
        let (before, after) = (millis(before.lag).expect("known"), millis(after.lag).expect("known"));
        prop_assert_eq!(after, if replayed == history.at(0) { 0 } else { before + wait });
    }

    /// Idle for any time: level is level.
    #[test]
    fn idle_never_ages(history in history(), wait in 0..100_000u64) {
        let later = History(history.0.iter().map(|(lsn, age)| (*lsn, age + wait)).collect());
        let row = last(&[later.primary(300), view(of(later.at(0), |_| {}))]);
        prop_assert_eq!((row.lag, row.lag_bytes, row.at_least), (Some(Duration::ZERO), Some(0), false));
        prop_assert_eq!((row.state, row.verdict), (LagState::Streaming, LagVerdict::Ok));
    }

    /// An old report of the replica, or of the primary, is never good news.
    #[test]
    fn old_news_is_no_good_news(history in history(), replayed in 0..100_000u64, old in 5_001..900_000u64) {
        let stale = last(&[history.primary(300), view(of(replayed, |it| it.age = Duration::from_millis(old)))]);
        prop_assert_eq!((stale.state, stale.lag, stale.verdict), (LagState::Stale, None, LagVerdict::Unknown));
        prop_assert!(stale.error.is_some());

        let mut source = history.primary(300);
        if let Ok(report) = &mut source.report {
            report.age = Duration::from_millis(old);
            report.samples.iter_mut().for_each(|it| it.age += Duration::from_millis(old));
        }
        let rows = rows(&[source, view(of(replayed, |_| {}))]);
        prop_assert_eq!((rows[0].state, rows[0].verdict), (LagState::Stale, LagVerdict::Unknown));
        prop_assert!(rows[0].error.is_some());
        prop_assert!(rows[1].verdict != LagVerdict::Ok);
        prop_assert!(rows[1].at_least && rows[1].lag.is_none_or(|lag| !lag.is_zero()));
    }

    /// A node promoted a moment ago has a short ring: who is behind it has no upper bound, and who has all of it is level.
    #[test]
    fn a_new_primary_knows_little_and_says_no_more(history in history(), replayed in 0..100_000u64, ring in 1..5u64) {
        let mut source = history.primary(ring);
        if let Ok(report) = &mut source.report {
            report.database.timeline = Some(2);
        }
        let row = last(&[source, view(of(replayed, |_| {}))]);
        if replayed >= history.at(0) {
            prop_assert_eq!(row.lag, Some(Duration::ZERO));
        } else if replayed < history.at((ring - 1) * SAMPLED) {
            prop_assert!(row.at_least);
            prop_assert!(row.verdict != LagVerdict::Ok);
        }
        // Once it follows the new line and the old one does not, nothing of the old one is compared.
        let row = last(&[history.primary(300), view(of(replayed, |it| it.database.timeline = Some(2)))]);
        prop_assert_eq!((row.lag, row.lag_bytes, row.verdict), (None, None, LagVerdict::Critical));
    }

    /// Two primaries are critical on both rows, in every order, however old one of the reports is.
    #[test]
    fn two_primaries_are_never_overlooked(history in history(), old in 0..900_000u64, first in any::<bool>()) {
        let mut second = history.primary(3);
        if let Ok(report) = &mut second.report {
            (report.region, report.node) = ("eu-central".into(), "eu-db-1".into());
            report.age = Duration::from_millis(old);
        }
        let mut nodes = vec![history.primary(300), second];
        if first {
            nodes.reverse();
        }
        for row in rows(&nodes) {
            prop_assert_eq!(row.verdict, LagVerdict::Critical);
            prop_assert!(row.error.expect("says so").starts_with("two primaries: "));
        }
    }

    /// No clock but the asker's is read, and that one only for `sampled_at`.
    #[test]
    fn clocks_do_not_matter(history in history(), replayed in 0..100_000u64, off in -1_000_000..1_000_000i64) {
        let table = |off: i64, now: Timestamp| {
            let mut nodes = [history.primary(300), view(of(replayed, |_| {}))];
            for node in &mut nodes {
                if let Ok(report) = &mut node.report {
                    report.sampled_at += jiff::SignedDuration::from_secs(off);
                }
            }
            super::table(&nodes, &fixture::workspace().objectives, now)
        };
        let later = jiff::SignedDuration::from_secs(off);
        let here = table(0, now());
        prop_assert_eq!(&here, &table(off, now()));
        let moved: Vec<LagRow> = table(0, now() + later)
            .into_iter()
            .map(|row| LagRow { sampled_at: row.sampled_at.map(|at| at - later), ..row })
            .collect();
        prop_assert_eq!(here, moved);
    }
}
