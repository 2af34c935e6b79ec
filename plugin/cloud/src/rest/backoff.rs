//! How long to wait before asking again.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// Pauses that start short and grow: a thing that is ready soon is seen soon, and one that takes minutes is not
/// asked for every moment. Each is shortened by chance, by up to a third, so that many waiters spread out.
#[derive(Clone, Debug)]
pub struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    const GROWTH: f64 = 1.5;

    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { next: first, longest }
    }

    /// 200 ms at first, 5 s at most: for whatever a provider works on.
    pub const fn usual() -> Self {
        Self::starting(Duration::from_millis(200))
    }

    /// This long at first, 5 s at most.
    pub const fn starting(first: Duration) -> Self {
        Self::new(first, Duration::from_secs(5))
    }

    /// The pause to make now; the next one is longer.
    pub fn pause(&mut self) -> Duration {
        let pause = self.next.min(self.longest);
        self.next = pause.mul_f64(Self::GROWTH).min(self.longest);
        shortened(pause)
    }
}

/// Between two thirds of `pause` and all of it.
fn shortened(pause: Duration) -> Duration {
    // Keyed by the system's randomness, anew each time.
    let chance = RandomState::new().hash_one(0u8);
    let share = (chance % 1000) as f64 / 3000.0;
    pause.mul_f64(1.0 - share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_no_further() {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(1));
        let mut whole = Duration::from_millis(200);
        for _ in 0..20 {
            let pause = backoff.pause();
            assert!(pause <= whole && pause >= whole.mul_f64(0.66), "{pause:?} of {whole:?}");
            whole = whole.mul_f64(1.5).min(Duration::from_secs(1));
        }
        assert_eq!(whole, Duration::from_secs(1));
    }
}
