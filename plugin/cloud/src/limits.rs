//! What each provider still allows: read from the headers of every answer, shown by `ha limits`.

use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

/// The account of one provider; clones of an `Arc` of it are the same account.
#[derive(Debug)]
pub struct Ledger {
    provider: &'static str,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    allowed: Option<u64>,
    left: Option<u64>,
    resets: Option<Timestamp>,
    used: u64,
}

/// One row of the ledger. What the provider never told is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    pub provider: &'static str,
    /// Requests in one window (an hour, at Hetzner and DigitalOcean).
    pub allowed: Option<u64>,
    /// Requests left in it, as of the last answer.
    pub left: Option<u64>,
    /// When all of them are there again.
    pub resets: Option<Timestamp>,
    /// Requests sent since the ledger was opened, those without an answer included.
    pub used: u64,
}

/// How a provider names its headers, in lower case.
#[derive(Clone, Copy, Debug)]
pub struct LimitHeaders {
    pub allowed: &'static str,
    pub left: &'static str,
    /// Its value is a Unix time in seconds.
    pub resets: &'static str,
}

impl LimitHeaders {
    /// Hetzner's and DigitalOcean's, which differ in case alone.
    /// Sources: <https://docs.hetzner.cloud/#rate-limiting>,
    /// <https://docs.digitalocean.com/reference/api/reference/#rate-limit>.
    pub const USUAL: Self = Self {
        allowed: "ratelimit-limit",
        left: "ratelimit-remaining",
        resets: "ratelimit-reset",
    };
}

impl Ledger {
    pub fn new(provider: &'static str) -> Self {
        Self {
            provider,
            state: Mutex::default(),
        }
    }

    /// One more request was sent.
    pub fn sent(&self) {
        self.lock().used += 1;
    }

    /// Takes in the headers of an answer; those that are missing or unreadable leave the entry as it was.
    pub fn told<'a>(&self, names: &LimitHeaders, header: impl Fn(&str) -> Option<&'a str>) {
        let number = |name| header(name).and_then(|text| text.trim().parse::<u64>().ok());
        let mut state = self.lock();
        state.allowed = number(names.allowed).or(state.allowed);
        state.left = number(names.left).or(state.left);
        state.resets = number(names.resets)
            .and_then(|seconds| Timestamp::from_second(i64::try_from(seconds).ok()?).ok())
            .or(state.resets);
    }

    pub fn limit(&self) -> Limit {
        let state = self.lock();
        Limit {
            provider: self.provider,
            allowed: state.allowed,
            left: state.left,
            resets: state.resets,
            used: state.used,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Whole values are written under it; a panic in between leaves nothing half.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_answer_tells_is_kept_and_what_it_does_not_tell_stays() {
        let ledger = Ledger::new("hetzner");
        ledger.sent();
        ledger.told(&LimitHeaders::USUAL, |name| match name {
            "ratelimit-limit" => Some("3600"),
            "ratelimit-remaining" => Some("3599"),
            "ratelimit-reset" => Some("1700000000"),
            _ => None,
        });
        ledger.sent();
        ledger.told(&LimitHeaders::USUAL, |name| {
            (name == "ratelimit-remaining").then_some("not a number")
        });
        let expected = Limit {
            provider: "hetzner",
            allowed: Some(3600),
            left: Some(3599),
            resets: Timestamp::from_second(1_700_000_000).ok(),
            used: 2,
        };
        assert_eq!(ledger.limit(), expected);
    }
}
