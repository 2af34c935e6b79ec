//! Faults on demand: which request, and what goes wrong with it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

/// What goes wrong with one request.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// The request is carried out; the connection is closed without an answer.
    LoseAnswer,
    /// The connection is closed without carrying anything out.
    Close,
    /// Answered with this, nothing carried out.
    Status {
        code: u16,
        headers: Vec<(String, String)>,
        body: Value,
    },
    /// 429 in the provider's own shape with `Retry-After` in whole seconds, nothing carried out.
    TooMany { retry_after: Duration },
    /// Carried out and answered, this much later.
    Slow(Duration),
    /// 200 with a page of HTML, as a captive portal or a proxy answers; nothing carried out.
    Html,
}

impl Fault {
    /// Answered with this status and an empty JSON object.
    pub fn status(code: u16) -> Self {
        Self::Status {
            code,
            headers: Vec::new(),
            body: Value::Object(serde_json::Map::new()),
        }
    }

    /// Answered with this status and body.
    pub fn answer(code: u16, body: Value) -> Self {
        Self::Status {
            code,
            headers: Vec::new(),
            body,
        }
    }
}

#[derive(Clone, Debug)]
enum Path {
    Any,
    Part(String),
    Whole(String),
}

/// Which request a fault is for. Requests are counted from the moment of [`Faults::inject`].
#[derive(Clone, Debug)]
pub struct When {
    method: Option<String>,
    only_writes: bool,
    path: Path,
    nth: u64,
    times: u64,
}

impl When {
    /// Requests with this method whose path contains this text. The path is as it was asked for, without the query.
    pub fn new(method: &str, path_part: &str) -> Self {
        Self {
            method: Some(method.to_ascii_uppercase()),
            path: Path::Part(path_part.to_owned()),
            ..Self::any()
        }
    }

    /// Requests with this method whose path ends with this text: `/servers` is not `/servers/1`.
    pub fn exactly(method: &str, path_end: &str) -> Self {
        Self {
            method: Some(method.to_ascii_uppercase()),
            path: Path::Whole(path_end.to_owned()),
            ..Self::any()
        }
    }

    pub fn any() -> Self {
        Self {
            method: None,
            only_writes: false,
            path: Path::Any,
            nth: 1,
            times: 1,
        }
    }

    /// Every request that is not a GET.
    pub fn writes() -> Self {
        Self {
            only_writes: true,
            ..Self::any()
        }
    }

    /// The nth matching request (the first is 1) instead of the first.
    pub fn nth(self, n: u64) -> Self {
        Self { nth: n.max(1), ..self }
    }

    /// This many matching requests in a row instead of one.
    pub fn times(self, n: u64) -> Self {
        Self { times: n, ..self }
    }

    fn matches(&self, method: &str, path: &str) -> bool {
        self.method.as_deref().is_none_or(|wanted| wanted == method)
            && !(self.only_writes && method == "GET")
            && match &self.path {
                Path::Any => true,
                Path::Part(part) => path.contains(part.as_str()),
                Path::Whole(end) => path.ends_with(end.as_str()),
            }
    }
}

#[derive(Debug)]
struct Armed {
    when: When,
    fault: Fault,
    seen: u64,
}

impl Armed {
    fn is_used_up(&self) -> bool {
        self.seen >= self.when.nth - 1 + self.when.times
    }
}

/// The faults that wait for their request. Each is used up by it.
///
/// Where several wait for the same request, the one injected first is taken; the others have counted it all the same.
#[derive(Debug, Default)]
pub struct Faults {
    armed: Mutex<Vec<Armed>>,
}

impl Faults {
    pub fn inject(&self, when: When, fault: Fault) {
        self.lock().push(Armed { when, fault, seen: 0 });
    }

    /// How many faults still wait. A test that injects one and ends with more than zero has not tested it.
    pub fn waiting(&self) -> usize {
        self.lock().len()
    }

    pub fn clear(&self) {
        self.lock().clear();
    }

    pub(crate) fn take(&self, method: &str, path: &str) -> Option<Fault> {
        let mut armed = self.lock();
        let mut taken = None;
        for one in armed.iter_mut().filter(|one| one.when.matches(method, path)) {
            one.seen += 1;
            if one.seen >= one.when.nth && taken.is_none() {
                taken = Some(one.fault.clone());
            }
        }
        armed.retain(|one| !one.is_used_up());
        taken
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Armed>> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_used_up_by_the_request_it_waits_for() {
        let faults = Faults::default();
        faults.inject(When::new("post", "/servers").nth(2), Fault::Close);
        assert_eq!(faults.take("GET", "/v1/servers"), None);
        assert_eq!(faults.take("POST", "/v1/servers"), None);
        assert_eq!(faults.waiting(), 1);
        assert_eq!(faults.take("POST", "/v1/servers/1/actions/poweron"), Some(Fault::Close));
        assert_eq!(faults.take("POST", "/v1/servers"), None);
        assert_eq!(faults.waiting(), 0);
    }

    #[test]
    fn times_hits_that_many_in_a_row() {
        let faults = Faults::default();
        faults.inject(When::writes().nth(2).times(2), Fault::Html);
        let hits: Vec<bool> = (0..5).map(|_| faults.take("PUT", "/x").is_some()).collect();
        assert_eq!(hits, [false, true, true, false, false]);
        assert_eq!(faults.take("GET", "/x"), None);
    }

    #[test]
    fn an_exact_path_is_not_a_part_of_one() {
        let faults = Faults::default();
        faults.inject(When::exactly("GET", "/servers"), Fault::LoseAnswer);
        assert_eq!(faults.take("GET", "/v1/servers/7"), None);
        assert_eq!(faults.take("GET", "/v1/servers"), Some(Fault::LoseAnswer));
    }
}
