//! The three clocks of a machine, and how they lie (protocol §5).

use std::time::Duration;

use crate::{
    random::Random,
    world::{SECOND, Time},
};

/// MONOTONIC, BOOTTIME, REALTIME, each since its own beginning, in microseconds.
type Reading = [i64; 3];

/// A moment on two scales that never go back: one runs with the clock that ran most since the last look, one with the
/// one that ran least. As the guard's own clocks do.
#[derive(Clone, Copy, Default)]
pub(crate) struct Moment {
    fast: i64,
    slow: i64,
}

impl Moment {
    pub(crate) fn largest_since(self, earlier: Self) -> Duration {
        duration(self.fast - earlier.fast)
    }

    pub(crate) fn smallest_since(self, earlier: Self) -> Duration {
        duration(self.slow - earlier.slow)
    }
}

fn duration(micros: i64) -> Duration {
    Duration::from_micros(micros.max(0).cast_unsigned())
}

pub(crate) struct Clocks {
    /// Millionths by which each runs fast or slow.
    drift: [i64; 3],
    /// What jumps added.
    reading: Reading,
    at: Time,
    /// What still moves.
    runs: [bool; 3],
    last: Reading,
    moment: Moment,
}

impl Clocks {
    /// Within ρ of true time: two machines are then within twice that of each other at most, as a bound of one per cent
    /// between them leaves half for each.
    pub(crate) fn new(random: &mut Random) -> Self {
        let mut drift = || i64::try_from(random.range(0, 9001)).unwrap_or_default() - 4500;
        let real = 1_700_000_000_i64 * 1_000_000;
        let reading = [1_000_000_000, 1_000_000_000, real];
        Self {
            drift: [drift(), drift(), drift()],
            reading,
            at: 0,
            runs: [true; 3],
            last: reading,
            moment: Moment::default(),
        }
    }

    fn advance(&mut self, now: Time) {
        let passed = i64::try_from(now - self.at).unwrap_or(i64::MAX);
        self.at = now;
        for (index, reading) in self.reading.iter_mut().enumerate() {
            if self.runs[index] {
                *reading += passed + passed * self.drift[index] / 1_000_000;
            }
        }
    }

    pub(crate) fn now(&mut self, now: Time) -> Moment {
        self.advance(now);
        let elapsed = [0, 1, 2].map(|index| (self.reading[index] - self.last[index]).max(0));
        self.last = self.reading;
        self.moment.fast += elapsed.into_iter().max().unwrap_or_default();
        self.moment.slow += elapsed.into_iter().min().unwrap_or_default();
        self.moment
    }

    pub(crate) fn boot(&mut self, now: Time) -> i64 {
        self.advance(now);
        self.reading[1]
    }

    pub(crate) fn real(&mut self, now: Time) -> i64 {
        self.advance(now);
        self.reading[2]
    }

    pub(crate) fn jump(&mut self, now: Time, by: i64) {
        self.advance(now);
        self.reading[2] += by * i64::try_from(SECOND).unwrap_or_default();
    }

    /// The machine sleeps: MONOTONIC stands. With `hypervisor`, nothing moves.
    pub(crate) fn sleep(&mut self, now: Time, hypervisor: bool) {
        self.advance(now);
        self.runs = if hypervisor { [false; 3] } else { [false, true, true] };
    }

    pub(crate) fn wake(&mut self, now: Time) {
        self.advance(now);
        self.runs = [true; 3];
    }
}
