//! A rate limit that refills as time passes.

use std::time::{Duration, Instant};

/// `limit` requests in `window`; what was used comes back evenly over the window.
#[derive(Clone, Debug)]
pub struct RateLimit {
    pub limit: u32,
    pub window: Duration,
    left: f64,
    looked: Option<Instant>,
}

impl RateLimit {
    pub fn new(limit: u32, window: Duration) -> Self {
        Self {
            limit,
            window,
            left: f64::from(limit),
            looked: None,
        }
    }

    pub fn per_hour(limit: u32) -> Self {
        Self::new(limit, Duration::from_secs(3600))
    }

    /// As if all but this many had been used just now.
    pub fn leaving(mut self, left: u32) -> Self {
        self.left = f64::from(left);
        self
    }

    /// Whole requests left.
    pub fn left(&self) -> u32 {
        // Between 0 and `limit`: the cast loses the fraction only.
        self.left as u32
    }

    /// One request more; the time until the next is allowed when it does not fit.
    pub(crate) fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let per_second = f64::from(self.limit) / self.window.as_secs_f64();
        if let Some(before) = self.looked {
            let back = now.saturating_duration_since(before).as_secs_f64() * per_second;
            self.left = (self.left + back).min(f64::from(self.limit));
        }
        self.looked = Some(now);
        if self.left < 1.0 {
            return Err(Duration::try_from_secs_f64((1.0 - self.left) / per_second).unwrap_or(self.window));
        }
        self.left -= 1.0;
        Ok(())
    }

    /// Until all of it is back.
    pub(crate) fn full_in(&self) -> Duration {
        let share = 1.0 - self.left / f64::from(self.limit.max(1));
        self.window.mul_f64(share.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_comes_back_evenly() {
        let mut rate = RateLimit::new(2, Duration::from_secs(2));
        let start = Instant::now();
        assert_eq!((rate.take(start), rate.take(start)), (Ok(()), Ok(())));
        assert_eq!(rate.take(start), Err(Duration::from_secs(1)));
        assert_eq!(rate.take(start + Duration::from_secs(1)), Ok(()));
        assert_eq!(rate.left(), 0);
    }
}
