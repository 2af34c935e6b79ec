//! No more requests than are allowed, over everything that shares an account.

use std::time::Duration;

use tokio::{
    sync::Mutex,
    time::{Instant, sleep_until},
};

/// A bucket of passes: full at first, and refilled one by one. Whoever finds it empty waits; first come, first served.
#[derive(Debug)]
pub struct Pace {
    /// Between two passes in the long run.
    every: Duration,
    /// When the bucket would be full again, were nobody to take anything.
    full_at: Mutex<Option<Instant>>,
    burst: u32,
}

impl Pace {
    /// So many at once, and so many a second; each at least one.
    pub fn new(burst: u32, a_second: u32) -> Self {
        Self {
            every: Duration::from_secs(1) / a_second.max(1),
            full_at: Mutex::default(),
            burst: burst.max(1),
        }
    }

    /// Returns when one more request may be sent. Whoever stops waiting for it takes no pass.
    pub async fn pass(&self) {
        // Kept while waiting: whoever came later waits behind it.
        let mut full_at = self.full_at.lock().await;
        let (may_at, full) = self.taken(*full_at, Instant::now());
        sleep_until(may_at).await;
        *full_at = Some(full);
    }

    /// When a pass taken now may be used, and when the bucket would be full again after it.
    fn taken(&self, full_at: Option<Instant>, now: Instant) -> (Instant, Instant) {
        let full = full_at.map_or(now, |at| at.max(now)) + self.every;
        // Empty while it takes longer than all of its passes to be full again.
        (full.checked_sub(self.every * self.burst).unwrap_or(now), full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After how many milliseconds each of so many may pass that come at the same moment.
    fn passes(pace: &Pace, full_at: &mut Option<Instant>, now: Instant, count: u32) -> Vec<u128> {
        let mut all = Vec::new();
        for _ in 0..count {
            let (may_at, full) = pace.taken(*full_at, now);
            *full_at = Some(full);
            all.push(may_at.saturating_duration_since(now).as_millis());
        }
        all
    }

    #[test]
    fn a_burst_passes_at_once_and_whatever_follows_one_by_one() {
        let (pace, now) = (Pace::new(5, 5), Instant::now());
        let mut full_at = None;
        assert_eq!(passes(&pace, &mut full_at, now, 8), [0, 0, 0, 0, 0, 200, 400, 600]);
        // However long the rest, it is never more than full.
        let later = now + Duration::from_secs(60);
        assert_eq!(passes(&pace, &mut full_at, later, 7), [0, 0, 0, 0, 0, 200, 400]);
        let soon = later + Duration::from_secs(1);
        assert_eq!(passes(&pace, &mut full_at, soon, 4), [0, 0, 0, 200]);
    }

    #[tokio::test]
    async fn whoever_gives_up_waiting_takes_nothing() {
        let pace = Pace::new(1, 1);
        pace.pass().await;
        let before = *pace.full_at.lock().await;
        let gave_up = tokio::time::timeout(Duration::from_millis(1), pace.pass()).await;
        assert!(gave_up.is_err());
        assert_eq!(*pace.full_at.lock().await, before);
    }
}
