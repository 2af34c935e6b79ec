//! One small client for the JSON APIs of providers.
//!
//! It knows what all of them have in common: a token, a bound on requests at once, limits told in headers, answers
//! that get lost, and lists in pages. What an error *means* is each provider's own knowledge.

mod backoff;
mod error;
mod paging;
#[cfg(test)]
mod tests;
mod transport;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderMap, Method, Request, Uri, header};
use http_body_util::Full;
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Semaphore;

pub use backoff::Backoff;
pub use error::{Fault, RestError};
pub use paging::{Listing, Page};

use crate::{
    limits::{Ledger, LimitHeaders},
    secret::Secret,
};
use transport::{Answer, Transport};

/// Reads a provider's own word (where it has one) and its message out of the body of an error.
pub type ErrorWords = fn(&Value) -> Option<(Option<String>, String)>;

/// What a provider's API looks like, and how hard to try.
#[derive(Clone, Debug)]
pub struct Settings {
    /// For messages and logs: `hetzner`.
    pub provider: &'static str,
    /// `https://api.hetzner.cloud/v1`; paths are appended to it.
    pub endpoint: String,
    /// Sent as `Authorization: Bearer`.
    pub token: Secret,
    /// Requests at the same time.
    pub concurrency: usize,
    /// For one request, from the connection to the last byte of the answer.
    pub timeout: Duration,
    /// How often one request is sent, at most; at least once.
    pub attempts: u32,
    /// Before the second attempt; longer before each further one.
    pub pause: Duration,
    /// A `Retry-After` beyond this is not waited for: the caller is told.
    pub longest_wait: Duration,
    pub headers: LimitHeaders,
    pub error: ErrorWords,
    pub ledger: Arc<Ledger>,
}

impl Settings {
    /// Sixteen requests at a time, half a minute for each of up to four attempts, half a minute of `Retry-After`.
    pub fn new(provider: &'static str, endpoint: impl Into<String>, token: Secret) -> Self {
        Self {
            provider,
            endpoint: endpoint.into(),
            token,
            concurrency: 16,
            timeout: Duration::from_secs(30),
            attempts: 4,
            pause: Duration::from_millis(200),
            longest_wait: Duration::from_secs(30),
            headers: LimitHeaders::USUAL,
            error: |_| None,
            ledger: Arc::new(Ledger::new(provider)),
        }
    }
}

/// A client; clones share its connections, its bound and its ledger.
#[derive(Clone, Debug)]
pub struct Rest {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: Settings,
    transport: Transport,
    /// Of requests at the same time.
    room: Semaphore,
}

/// Parameters of a request, encoded when it is sent.
pub type Query<'a> = &'a [(&'a str, String)];

/// RFC 3986: everything but the unreserved characters.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// `segment` so that it is one segment of a path, whatever is in it.
pub fn segment(segment: &str) -> String {
    utf8_percent_encode(segment, ENCODED).to_string()
}

impl Rest {
    /// Opens no connection yet.
    ///
    /// # Errors
    ///
    /// The endpoint is no address, the token cannot stand in a header, or this machine has no certificates to trust.
    pub fn new(mut settings: Settings) -> Result<Self, RestError> {
        while settings.endpoint.ends_with('/') {
            settings.endpoint.pop();
        }
        let refuse = |why: String| RestError {
            at: settings.provider.to_owned(),
            reads: true,
            took: Duration::ZERO,
            fault: Fault::Unreachable {
                host: settings.endpoint.clone(),
                why,
            },
        };
        let base: Uri = settings
            .endpoint
            .parse()
            .map_err(|why: http::uri::InvalidUri| refuse(why.to_string()))?;
        if !matches!(base.scheme_str(), Some("http" | "https")) || base.authority().is_none() {
            return Err(refuse("an endpoint is written https://host/path".into()));
        }
        if bearer(&settings.token).is_none() {
            return Err(refuse(
                "the token has characters that no header can carry; was a line break read with it?".into(),
            ));
        }
        let transport = Transport::new(&base, settings.timeout.min(Duration::from_secs(10)))
            .map_err(|why| refuse(why.to_string()))?;
        let room = Semaphore::new(settings.concurrency.max(1));
        let inner = Arc::new(Inner {
            settings,
            transport,
            room,
        });
        Ok(Self { inner })
    }

    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.inner.settings.ledger
    }

    /// Reads; tried again after a lost connection, a missing answer, a 5xx and a 429.
    pub async fn get<T: DeserializeOwned>(&self, path: &str, query: Query<'_>) -> Result<T, RestError> {
        let (value, took) = self.call(&Method::GET, path, query, None).await?;
        self.parse(&Method::GET, path, took, value)
    }

    /// Acts; tried again only where it is certain that nothing was done: 429, and no connection.
    /// An empty answer is `null`.
    pub async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<T, RestError> {
        let (value, took) = self.call(&method, path, &[], body).await?;
        self.parse(&method, path, took, value)
    }

    fn parse<T: DeserializeOwned>(
        &self,
        method: &Method,
        path: &str,
        took: Duration,
        value: Value,
    ) -> Result<T, RestError> {
        serde_json::from_value(value).map_err(|error| {
            let why = self.inner.settings.token.redact(&error.to_string());
            self.error(method, path, took, Fault::Shape { why })
        })
    }

    async fn call(
        &self,
        method: &Method,
        path: &str,
        query: Query<'_>,
        body: Option<&Value>,
    ) -> Result<(Value, Duration), RestError> {
        let settings = &self.inner.settings;
        let started = Instant::now();
        let mut backoff = Backoff::starting(settings.pause);
        let mut left = settings.attempts.max(1);
        loop {
            left -= 1;
            let fault = match self.once(method, path, query, body).await {
                Ok(value) => return Ok((value, started.elapsed())),
                Err(fault) => fault,
            };
            let error = self.error(method, path, started.elapsed(), fault);
            let pause = match &error.fault {
                Fault::RateLimited { retry_after } => {
                    let wait = retry_after.unwrap_or_else(|| backoff.pause());
                    (wait <= settings.longest_wait).then_some(wait)
                }
                _ if error.passes() && !error.may_have_acted() => Some(backoff.pause()),
                _ => None,
            };
            let Some(pause) = pause.filter(|_| left > 0) else {
                return Err(error);
            };
            tracing::debug!(%error, ?pause, "again");
            tokio::time::sleep(pause).await;
        }
    }

    /// One attempt. The place in the bound is held for as long as the request is out, and not in the pauses.
    async fn once(&self, method: &Method, path: &str, query: Query<'_>, body: Option<&Value>) -> Result<Value, Fault> {
        let Inner {
            settings,
            transport,
            room,
        } = &*self.inner;
        let request = self.request(method, path, query, body)?;
        // Never closed; without a place the bound is not kept, and that is all.
        let _place = room.acquire().await.ok();
        settings.ledger.sent();
        let started = Instant::now();
        let outcome = transport.exchange(request, settings.timeout).await;
        let took = started.elapsed();
        let status = outcome.as_ref().map(|answer| answer.status).ok();
        tracing::debug!(provider = settings.provider, %method, path, status, ?took, "request");
        let answer = outcome?;
        settings
            .ledger
            .told(&settings.headers, |name| text(&answer.headers, name));
        self.read(&answer)
    }

    fn request(
        &self,
        method: &Method,
        path: &str,
        query: Query<'_>,
        body: Option<&Value>,
    ) -> Result<Request<Full<bytes::Bytes>>, Fault> {
        let settings = &self.inner.settings;
        let mut uri = format!("{}{path}", settings.endpoint);
        for (index, (name, value)) in query.iter().enumerate() {
            uri.push(if index == 0 { '?' } else { '&' });
            uri.extend(utf8_percent_encode(name, ENCODED));
            uri.push('=');
            uri.extend(utf8_percent_encode(value, ENCODED));
        }
        let mut request = Request::builder()
            .method(method.clone())
            .uri(uri)
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, concat!("ha/", env!("CARGO_PKG_VERSION")));
        if let Some(bearer) = bearer(&settings.token) {
            request = request.header(header::AUTHORIZATION, bearer);
        }
        let content = match body {
            Some(value) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                value.to_string()
            }
            None => String::new(),
        };
        request
            .body(Full::new(content.into()))
            .map_err(|error| Fault::Unreachable {
                host: settings.endpoint.clone(),
                why: error.to_string(),
            })
    }

    fn read(&self, answer: &Answer) -> Result<Value, Fault> {
        let Answer { status, headers, body } = answer;
        let status = *status;
        if status == 429 {
            let now = Timestamp::now();
            let retry_after = text(headers, "retry-after").and_then(|text| wait_until(text, now));
            return Err(Fault::RateLimited { retry_after });
        }
        let success = (200..300).contains(&status);
        if body.iter().all(u8::is_ascii_whitespace) {
            return if success {
                Ok(Value::Null)
            } else {
                Err(Fault::Answered {
                    status,
                    code: None,
                    message: "an empty answer".into(),
                })
            };
        }
        let Ok(value) = serde_json::from_slice::<Value>(body) else {
            let typed = text(headers, "content-type").is_some_and(|text| text.contains("html"));
            let html = typed || body.trim_ascii_start().starts_with(b"<");
            return Err(Fault::NotJson { status, html });
        };
        if success {
            return Ok(value);
        }
        let settings = &self.inner.settings;
        let (code, message) = (settings.error)(&value).unwrap_or_else(|| (None, "no reason given".into()));
        Err(Fault::Answered {
            status,
            code,
            message: shortened(&settings.token.redact(&message)),
        })
    }

    fn error(&self, method: &Method, path: &str, took: Duration, fault: Fault) -> RestError {
        RestError {
            at: format!("{}: {method} {path}", self.inner.settings.provider),
            reads: *method == Method::GET,
            took,
            fault,
        }
    }
}

fn bearer(token: &Secret) -> Option<header::HeaderValue> {
    let mut value = header::HeaderValue::try_from(format!("Bearer {}", token.expose())).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// `Retry-After` in either of its forms, seconds or a date (RFC 9110, 10.2.3).
fn wait_until(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let then = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Some(Duration::try_from(then.duration_since(now)).unwrap_or(Duration::ZERO))
}

/// A message is read, not studied.
fn shortened(text: &str) -> String {
    const LONGEST: usize = 300;
    let text = text.trim();
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    let start: String = text.chars().take(LONGEST).collect();
    format!("{start}…")
}
