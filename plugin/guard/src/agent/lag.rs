//! How far a log had come at which moment, and limits to compare that with. Pure but for the moments it is given.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use ha_core::{lsn::Lsn, report::NodeRole};

/// When there are more, every second one of the older half goes: the newest minutes are exact, and what is older
/// is as exact as its age.
const MOST: usize = 512;

/// Positions of one log with the moment each was first seen.
#[derive(Debug, Default)]
pub(super) struct Progress {
    of: Option<NodeRole>,
    seen: VecDeque<(Lsn, Instant)>,
}

impl Progress {
    /// The log had come to `position` at `now`. What was noted of another log is forgotten: that of another role,
    /// or one that is behind where we have been (a rewind, a restored copy).
    pub(super) fn reached(&mut self, of: Option<NodeRole>, position: Option<Lsn>, now: Instant) {
        let Some(position) = position else { return };
        let newest = self.seen.back().map(|(lsn, _)| *lsn);
        if self.of != of || newest.is_some_and(|newest| position < newest) {
            self.seen.clear();
            self.of = of;
        }
        if self.seen.back().is_none_or(|(lsn, _)| *lsn < position) {
            self.seen.push_back((position, now));
        }
        if self.seen.len() > MOST {
            let mut index = 0;
            self.seen.retain(|_| {
                index += 1;
                index > MOST / 2 || index % 2 == 0
            });
        }
    }

    /// How long ago the log passed `replayed`: zero when it has not.
    pub(super) fn behind(&self, replayed: Lsn, now: Instant) -> Option<Duration> {
        self.seen.back()?;
        let beyond = self.seen.partition_point(|(lsn, _)| *lsn <= replayed);
        Some(
            self.seen
                .get(beyond)
                .map_or(Duration::ZERO, |(_, at)| now.saturating_duration_since(*at)),
        )
    }

    /// With their ages, newest last.
    pub(super) fn samples(&self, now: Instant) -> Vec<(Lsn, Duration)> {
        self.seen
            .iter()
            .map(|(lsn, at)| (*lsn, now.saturating_duration_since(*at)))
            .collect()
    }
}

/// `?max_lag=`: bytes (`16MB`, a plain number) or time (`10s`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    Bytes(u64),
    Time(Duration),
}

impl std::str::FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let bad = || format!("\"{text}\" is no limit; expected bytes (16MB, 1048576) or a time (10s, 500ms, 2min)");
        let number: u64 = number.parse().map_err(|_| bad())?;
        let bytes = |shift: u32| number.checked_mul(1 << shift).map(Self::Bytes).ok_or_else(bad);
        let millis = |each: u64| {
            number
                .checked_mul(each)
                .map(|ms| Self::Time(Duration::from_millis(ms)))
                .ok_or_else(bad)
        };
        match unit.trim() {
            "" | "B" => bytes(0),
            "kB" | "KB" | "kb" | "KiB" => bytes(10),
            "MB" | "mb" | "MiB" => bytes(20),
            "GB" | "gb" | "GiB" => bytes(30),
            "ms" => millis(1),
            "s" | "sec" => millis(1000),
            "min" => millis(60_000),
            "h" | "hr" => millis(3_600_000),
            _ => Err(bad()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const PRIMARY: Option<NodeRole> = Some(NodeRole::Primary);

    #[test]
    fn lag_is_the_age_of_the_first_position_not_replayed() {
        let start = Instant::now();
        let mut progress = Progress::default();
        assert_eq!(progress.behind(Lsn(0), start), None);
        for second in 0..10 {
            progress.reached(PRIMARY, Some(Lsn(u64::from(second) * 100)), start + SECOND * second);
        }
        let now = start + SECOND * 10;
        assert_eq!(progress.behind(Lsn(900), now), Some(Duration::ZERO));
        assert_eq!(progress.behind(Lsn(899), now), Some(SECOND));
        assert_eq!(progress.behind(Lsn(350), now), Some(SECOND * 6));
    }

    #[test]
    fn an_idle_log_makes_no_lag_and_a_paused_replica_does() {
        let start = Instant::now();
        let mut progress = Progress::default();
        for second in 0..60 {
            progress.reached(PRIMARY, Some(Lsn(500)), start + SECOND * second);
        }
        let now = start + SECOND * 60;
        assert_eq!(progress.behind(Lsn(500), now), Some(Duration::ZERO));
        assert_eq!(progress.behind(Lsn(499), now), Some(SECOND * 60));
    }

    #[test]
    fn the_number_of_samples_is_bounded_and_old_ones_grow_coarse() {
        let start = Instant::now();
        let mut progress = Progress::default();
        for second in 0..20_000_u32 {
            progress.reached(PRIMARY, Some(Lsn(u64::from(second))), start + SECOND * second);
        }
        let now = start + SECOND * 20_000;
        assert!(progress.samples(now).len() <= MOST);
        assert_eq!(progress.behind(Lsn(19_900), now), Some(SECOND * 99));
        let old = progress
            .behind(Lsn(19_000), now)
            .expect("there are samples")
            .as_secs_f64();
        assert!((900.0..=1000.0).contains(&old), "{old}");
    }

    #[test]
    fn another_role_or_a_log_that_went_back_starts_anew() {
        let start = Instant::now();
        let mut progress = Progress::default();
        progress.reached(PRIMARY, Some(Lsn(900)), start);
        progress.reached(PRIMARY, Some(Lsn(100)), start + SECOND);
        assert_eq!(progress.samples(start + SECOND), [(Lsn(100), Duration::ZERO)]);
        progress.reached(Some(NodeRole::Replica), Some(Lsn(200)), start + SECOND);
        assert_eq!(progress.samples(start + SECOND).len(), 1);
    }

    #[test]
    fn limits_are_bytes_or_times() {
        assert_eq!("16MB".parse(), Ok(Limit::Bytes(16 << 20)));
        assert_eq!("1048576".parse(), Ok(Limit::Bytes(1 << 20)));
        assert_eq!("10s".parse(), Ok(Limit::Time(SECOND * 10)));
        assert_eq!("500ms".parse(), Ok(Limit::Time(SECOND / 2)));
        assert_eq!("2min".parse(), Ok(Limit::Time(SECOND * 120)));
        for bad in [
            "",
            "s",
            "-1",
            "10 parsecs",
            "99999999999999999999",
            "18446744073709551615GB",
        ] {
            assert!(bad.parse::<Limit>().is_err(), "{bad}");
        }
    }
}
