//! Things that happen later: states that take time, without a task that would have to be waited for.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

type Happening<W> = Box<dyn FnOnce(&mut W) + Send>;

/// What is due, in order. Carried out when somebody looks, as if it had happened at its time: a step that
/// follows another is timed from when that one was due, not from when it was looked at.
pub(crate) struct Agenda<W> {
    began: (Instant, Timestamp),
    now: Instant,
    count: u64,
    due: BTreeMap<(Instant, u64), Happening<W>>,
}

impl<W> Agenda<W> {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self {
            began: (now, Timestamp::now()),
            now,
            count: 0,
            due: BTreeMap::new(),
        }
    }

    pub(crate) fn later(&mut self, after: Duration, act: impl FnOnce(&mut W) + Send + 'static) {
        self.count += 1;
        self.due.insert((self.now + after, self.count), Box::new(act));
    }

    /// The next happening that is due at `until`; time stands at its moment afterwards.
    pub(crate) fn next(&mut self, until: Instant) -> Option<Happening<W>> {
        let entry = self.due.first_entry()?;
        if entry.key().0 > until {
            return None;
        }
        self.now = self.now.max(entry.key().0);
        Some(entry.remove())
    }

    /// The next happening, however far away.
    pub(crate) fn next_at_all(&mut self) -> Option<Happening<W>> {
        let ((at, _), act) = self.due.pop_first()?;
        self.now = self.now.max(at);
        Some(act)
    }

    pub(crate) fn set_now(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    pub(crate) fn timestamp(&self) -> Timestamp {
        let passed = SignedDuration::try_from(self.now - self.began.0).unwrap_or(SignedDuration::ZERO);
        self.began.1.saturating_add(passed).unwrap_or(self.began.1)
    }
}
