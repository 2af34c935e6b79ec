//! Elapsed time that a single lying clock cannot spoil (protocol §5).
//!
//! MONOTONIC stands still while the machine is suspended, REALTIME is set by people and by NTP, BOOTTIME does neither
//! but is only as true as the machine. Whoever holds a lease believes the clock that ran most, whoever waits to take
//! one the clock that ran least.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustix::time::{ClockId, Timespec, clock_gettime};

/// The three clocks at one moment, each since its own beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) monotonic: Duration,
    pub(crate) boottime: Duration,
    pub(crate) realtime: Duration,
}

impl Reading {
    /// The three are read one after the other; if this process was put aside in between, they are read again.
    pub(crate) fn now() -> Self {
        let mut reading = Self::take();
        for _ in 0..3 {
            let after = read(ClockId::Monotonic);
            if after.saturating_sub(reading.monotonic) < Duration::from_micros(500) {
                break;
            }
            reading = Self::take();
        }
        reading
    }

    fn take() -> Self {
        Self {
            monotonic: read(ClockId::Monotonic),
            boottime: read(ClockId::Boottime),
            realtime: read(ClockId::Realtime),
        }
    }

    /// What passed by each clock. One that was set back says zero.
    pub(crate) fn since(self, earlier: Self) -> Elapsed {
        Elapsed([
            self.monotonic.saturating_sub(earlier.monotonic),
            self.boottime.saturating_sub(earlier.boottime),
            self.realtime.saturating_sub(earlier.realtime),
        ])
    }
}

/// BOOTTIME alone: what guard and deadman share, as it means the same in both.
pub(crate) fn boottime() -> Duration {
    read(ClockId::Boottime)
}

fn read(clock: ClockId) -> Duration {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(clock);
    Duration::new(
        u64::try_from(tv_sec).unwrap_or_default(),
        u32::try_from(tv_nsec).unwrap_or_default(),
    )
}

/// What passed, by MONOTONIC, BOOTTIME and REALTIME.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Elapsed([Duration; 3]);

impl Elapsed {
    /// For the holder: it may be this late already.
    pub(crate) fn largest(self) -> Duration {
        self.0.into_iter().max().unwrap_or_default()
    }

    /// For the taker: it may be no later than this.
    pub(crate) fn smallest(self) -> Duration {
        self.0.into_iter().min().unwrap_or_default()
    }
}

/// A moment on two scales that never go back: one runs with the clock that is fastest, one with the slowest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment {
    fast: Duration,
    slow: Duration,
}

impl Moment {
    /// At least as much as any clock says.
    pub(crate) fn largest_since(self, earlier: Self) -> Duration {
        self.fast.saturating_sub(earlier.fast)
    }

    /// At most as much as any clock says.
    pub(crate) fn smallest_since(self, earlier: Self) -> Duration {
        self.slow.saturating_sub(earlier.slow)
    }
}

/// Adds up what passes from one look to the next. A clock that is set back costs the taker no more than the time
/// between two looks, instead of an hour; it is looked at several times a second.
#[derive(Clone)]
pub(crate) struct Clocks {
    read: Arc<dyn Fn() -> Reading + Send + Sync>,
    last: Arc<Mutex<(Reading, Moment)>>,
}

impl Clocks {
    pub(crate) fn system() -> Self {
        Self::of(Reading::now)
    }

    pub(crate) fn of(read: impl Fn() -> Reading + Send + Sync + 'static) -> Self {
        let first = read();
        Self {
            read: Arc::new(read),
            last: Arc::new(Mutex::new((first, Moment::default()))),
        }
    }

    pub(crate) fn now(&self) -> Moment {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let reading = (self.read)();
        let elapsed = reading.since(last.0);
        let (fast, slow) = (last.1.fast + elapsed.largest(), last.1.slow + elapsed.smallest());
        *last = (reading, Moment { fast, slow });
        last.1
    }
}

/// Clocks that stand until they are moved.
#[cfg(test)]
#[derive(Clone)]
pub(crate) struct Hands(Arc<Mutex<Reading>>);

#[cfg(test)]
impl Hands {
    pub(crate) fn new() -> Self {
        let start = Duration::from_secs(1_000_000);
        Self(Arc::new(Mutex::new(Reading {
            monotonic: start,
            boottime: start,
            realtime: start,
        })))
    }

    pub(crate) fn clocks(&self) -> Clocks {
        let hands = self.0.clone();
        Clocks::of(move || *hands.lock().expect("no panic"))
    }

    pub(crate) fn pass(&self, time: Duration) {
        self.with(|it| {
            it.monotonic += time;
            it.boottime += time;
            it.realtime += time;
        });
    }

    pub(crate) fn with(&self, change: impl FnOnce(&mut Reading)) {
        change(&mut self.0.lock().expect("no panic"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_holder_believes_the_longest_and_the_taker_the_shortest() {
        let hands = Hands::new();
        let clocks = hands.clocks();
        let start = clocks.now();
        // Suspended for a minute: MONOTONIC does not see it.
        hands.with(|it| {
            it.monotonic += SECOND;
            it.boottime += 61 * SECOND;
            it.realtime += 61 * SECOND;
        });
        let now = clocks.now();
        assert_eq!(now.largest_since(start), 61 * SECOND);
        assert_eq!(now.smallest_since(start), SECOND);
    }

    #[test]
    fn a_clock_set_back_says_zero_and_not_less() {
        let reading = Reading {
            monotonic: 100 * SECOND,
            boottime: 100 * SECOND,
            realtime: 100 * SECOND,
        };
        let later = Reading {
            monotonic: 102 * SECOND,
            boottime: 103 * SECOND,
            realtime: SECOND,
        };
        let elapsed = later.since(reading);
        assert_eq!((elapsed.smallest(), elapsed.largest()), (Duration::ZERO, 3 * SECOND));
    }

    #[test]
    fn an_hour_back_costs_the_taker_one_look_and_no_hour() {
        let hands = Hands::new();
        let clocks = hands.clocks();
        let start = clocks.now();
        hands.with(|it| it.realtime -= 3600 * SECOND);
        for _ in 0..10 {
            hands.pass(SECOND);
            clocks.now();
        }
        let waited = clocks.now().smallest_since(start);
        assert!((9 * SECOND..=10 * SECOND).contains(&waited), "{waited:?}");
        // The holder did not gain anything by it.
        assert_eq!(clocks.now().largest_since(start), 10 * SECOND);
    }

    #[test]
    fn an_hour_forward_ends_the_holders_time_at_once_and_gives_the_taker_nothing() {
        let hands = Hands::new();
        let clocks = hands.clocks();
        let start = clocks.now();
        hands.with(|it| it.realtime += 3600 * SECOND);
        hands.pass(SECOND);
        let now = clocks.now();
        assert_eq!(now.largest_since(start), 3601 * SECOND);
        assert_eq!(now.smallest_since(start), SECOND);
    }

    #[test]
    fn the_real_clocks_run() {
        let clocks = Clocks::system();
        let start = clocks.now();
        let (beside, mut now) = (std::time::Instant::now(), clocks.now());
        // All three go on by themselves; the test ends when the slowest of them has.
        while now.smallest_since(start).is_zero() {
            now = clocks.now();
        }
        let passed = beside.elapsed();
        now = clocks.now();
        assert!(now.largest_since(start) >= passed, "another clock saw {passed:?}");
        assert!(now.largest_since(start) >= now.smallest_since(start));
        assert!(boottime() > Duration::ZERO);
    }
}
