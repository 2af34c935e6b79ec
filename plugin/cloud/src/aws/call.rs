//! One request to AWS: counted, bounded, repeated where that is safe, and its refusal understood.
//!
//! The SDK's own retries are off: they repeat a create whose answer was lost, and most creates of EC2 make a second
//! thing then. Here the caller says what a request may bear.

use std::{
    error::Error,
    sync::Arc,
    time::{Duration, Instant},
};

use aws_smithy_runtime_api::{
    client::{orchestrator::HttpResponse, result::SdkError},
    http::StatusCode,
};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use tokio::sync::Semaphore;

use super::fault::{Class, Fault, class_of};
use crate::{limits::Ledger, rest::Backoff};

/// What a request may bear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Twice is once: it reads, deletes, or sets something to a value.
    Freely,
    /// Twice is two: only after a refusal that proves nothing was done.
    WhenRefused,
}

/// Sends the requests of one location.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) location: String,
    /// Requests under way at AWS at once, over all locations.
    pub(crate) gate: Arc<Semaphore>,
    pub(crate) ledger: Arc<Ledger>,
    /// For whatever AWS works on: a start, a stop, a delete that waits for another.
    pub(crate) deadline: Duration,
    /// Before the second look at something that AWS works on.
    pub(crate) pause: Duration,
}

/// How often a request is sent before its failure is passed on.
pub(super) const ATTEMPTS: u32 = 5;

/// How long something just made may stay unknown to AWS's other servers. They call it seconds and recommend to go on
/// for minutes; a wrong id would then take minutes to be called wrong, so half of one has to do.
/// Source: <https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html>.
const SETTLING: Duration = Duration::from_secs(30);

/// A request that was throttled or lost waits this much longer than a look: whoever repeats it at once is throttled on.
const RETRY: u32 = 4;

impl Caller {
    /// Soon at first, since most of what AWS works on takes a moment; later seldom.
    const fn looks(&self) -> Backoff {
        Backoff::starting(self.pause)
    }

    /// Sends it, and again where `repeat` allows it.
    pub(crate) async fn call<T, E, F>(
        &self,
        action: &'static str,
        repeat: Repeat,
        send: impl Fn() -> F,
    ) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + Error + 'static,
    {
        let begun = Instant::now();
        let mut backoff = Backoff::starting(self.pause * RETRY);
        let mut left = ATTEMPTS;
        loop {
            left -= 1;
            let mut fault = match self.once(action, &send).await {
                Ok(answer) => return Ok(answer),
                Err(fault) => fault,
            };
            fault.took = begun.elapsed();
            let again = match fault.class {
                Class::Throttled | Class::Unreached => true,
                Class::Unknown => repeat == Repeat::Freely,
                _ => false,
            };
            if !again || left == 0 {
                return Err(fault);
            }
            tokio::time::sleep(backoff.pause()).await;
        }
    }

    async fn once<T, E, F>(&self, action: &'static str, send: impl Fn() -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + Error + 'static,
    {
        // The gate is never closed; should it be, an unbounded request is still a right one.
        let _pass = self.gate.acquire().await.ok();
        self.ledger.sent();
        let begun = Instant::now();
        let answer = send().await;
        let took = begun.elapsed();
        match answer {
            Ok(answer) => {
                tracing::debug!(provider = "aws", action, location = self.location, ?took, "answered");
                Ok(answer)
            }
            Err(error) => {
                let fault = self.understand(action, &error, took);
                tracing::debug!(
                    provider = "aws",
                    action,
                    location = self.location,
                    code = fault.code,
                    ?took,
                    "refused"
                );
                Err(fault)
            }
        }
    }

    fn understand<E>(&self, action: &'static str, error: &SdkError<E, HttpResponse>, took: Duration) -> Fault
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let status = error.raw_response().map(|raw| StatusCode::as_u16(raw.status()));
        let (class, code, message) = match error {
            SdkError::ServiceError(service) => {
                let code = service.err().code().unwrap_or_default();
                let message = service.err().message().unwrap_or_default();
                if code.is_empty() && message.is_empty() {
                    garbled(status, action)
                } else {
                    (
                        class_of(code, status.unwrap_or(400)),
                        code.to_owned(),
                        message.to_owned(),
                    )
                }
            }
            SdkError::ResponseError(_) => garbled(status, action),
            SdkError::TimeoutError(_) => (Class::Unknown, String::new(), "no answer in time".to_owned()),
            SdkError::DispatchFailure(failure) => {
                let source = failure.as_connector_error().map(|it| it as &(dyn Error + 'static));
                let class = if source.is_some_and(never_sent) {
                    Class::Unreached
                } else {
                    Class::Unknown
                };
                (class, String::new(), deepest(source))
            }
            // Nothing left this machine.
            other => (Class::Refused, String::new(), deepest(Some(other))),
        };
        Fault {
            action,
            location: self.location.clone(),
            class,
            code,
            message,
            took,
        }
    }

    /// As [`Self::call`], for a request about something that was made a moment ago: that AWS does not know it yet is
    /// waited out.
    pub(super) async fn settled<T, E, F>(
        &self,
        action: &'static str,
        repeat: Repeat,
        send: impl Fn() -> F,
    ) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + Error + 'static,
    {
        let until = Instant::now() + SETTLING.min(self.deadline);
        self.while_class(Class::NotFound, until, action, repeat, send).await
    }

    /// As [`Self::call`], for a request that AWS refuses while something else is still going away.
    pub(super) async fn freed<T, E, F>(&self, action: &'static str, send: impl Fn() -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + Error + 'static,
    {
        let until = Instant::now() + self.deadline;
        self.while_class(Class::InUse, until, action, Repeat::Freely, send)
            .await
    }

    async fn while_class<T, E, F>(
        &self,
        class: Class,
        until: Instant,
        action: &'static str,
        repeat: Repeat,
        send: impl Fn() -> F,
    ) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + Error + 'static,
    {
        let mut backoff = self.looks();
        loop {
            match self.call(action, repeat, &send).await {
                Err(fault) if fault.is(class) && Instant::now() < until => {
                    tokio::time::sleep(backoff.pause()).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// Every page of a list. A token that comes twice is an error: the list would have no end.
    pub(super) async fn pages<T, P>(
        &self,
        action: &'static str,
        mut page: impl FnMut(Option<String>) -> P,
    ) -> Result<Vec<T>, Fault>
    where
        P: Future<Output = Result<(Vec<T>, Option<String>), Fault>>,
    {
        let mut all = Vec::new();
        let mut seen: Vec<String> = Vec::new();
        loop {
            let (items, next) = page(seen.last().cloned()).await?;
            all.extend(items);
            // EC2 ends with no token, other services with an empty one.
            let Some(next) = next.filter(|token| !token.is_empty()) else {
                return Ok(all);
            };
            if seen.contains(&next) {
                return Err(Fault {
                    action,
                    location: self.location.clone(),
                    class: Class::Garbled,
                    code: String::new(),
                    message: format!(
                        "the list does not end: page {} leads back to an earlier one",
                        seen.len() + 1
                    ),
                    took: Duration::ZERO,
                });
            }
            seen.push(next);
        }
    }

    /// Looks until there is an answer, or until `within` has passed; the last word on why not is then the error's.
    pub(crate) async fn until<T, E, F>(
        &self,
        within: Duration,
        look: impl Fn() -> F,
        late: impl FnOnce(String) -> E,
    ) -> Result<T, E>
    where
        F: Future<Output = Result<Result<T, String>, E>>,
    {
        let end = Instant::now() + within;
        let mut backoff = self.looks();
        loop {
            match look().await? {
                Ok(found) => return Ok(found),
                Err(why) if Instant::now() >= end => return Err(late(why)),
                Err(_) => tokio::time::sleep(backoff.pause()).await,
            }
        }
    }
}

/// An answer in another language than AWS's: a proxy's page, or something else behind the endpoint.
fn garbled(status: Option<u16>, action: &str) -> (Class, String, String) {
    let status = status.map_or_else(|| "none".to_owned(), |it| it.to_string());
    let message = format!("the answer is not AWS's (status {status})");
    // Whoever answered may have passed the request on before.
    let reads = action
        .split_once(':')
        .is_some_and(|(_, name)| ["Describe", "Get", "List"].iter().any(|verb| name.starts_with(verb)));
    let class = if reads { Class::Garbled } else { Class::Unknown };
    (class, String::new(), message)
}

/// No connection came about, so no byte of the request was sent.
fn never_sent(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            use std::io::ErrorKind::{AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkUnreachable};
            if matches!(
                io.kind(),
                ConnectionRefused | HostUnreachable | NetworkUnreachable | AddrNotAvailable
            ) {
                return true;
            }
        }
        if error
            .downcast_ref::<hyper_util::client::legacy::Error>()
            .is_some_and(|it| it.is_connect())
        {
            return true;
        }
        next = error.source();
    }
    false
}

/// The reason behind the reasons: the outer ones only say that a request failed.
fn deepest(error: Option<&(dyn Error + 'static)>) -> String {
    let Some(mut error) = error else { return String::new() };
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller() -> Caller {
        Caller {
            location: "ap-southeast-1".into(),
            gate: Arc::new(Semaphore::new(1)),
            ledger: Arc::new(Ledger::new("aws")),
            deadline: Duration::from_secs(1),
            pause: Duration::from_millis(1),
        }
    }

    /// Three pages of a list, each with the token of the next.
    async fn page(token: Option<String>, last: Option<&str>) -> Result<(Vec<u32>, Option<String>), Fault> {
        Ok(match token.as_deref() {
            None => (vec![1, 2], Some("second".to_owned())),
            Some("second") => (Vec::new(), Some("third".to_owned())),
            _ => (vec![3], last.map(str::to_owned)),
        })
    }

    #[tokio::test]
    async fn a_list_is_read_to_its_end_past_an_empty_page() {
        for last in [None, Some("")] {
            let all = caller().pages("ec2:DescribeVpcs", |token| page(token, last)).await;
            assert_eq!(all, Ok(vec![1, 2, 3]));
        }
    }

    #[tokio::test]
    async fn a_list_that_leads_back_to_itself_is_an_error() {
        let all = caller()
            .pages("ec2:DescribeVpcs", |token| page(token, Some("second")))
            .await;
        let fault = all.expect_err("it has no end");
        assert!(fault.to_string().contains("does not end"), "{fault}");
    }

    #[tokio::test]
    async fn whoever_waits_is_told_the_last_reason_when_it_is_too_late() {
        let caller = caller();
        let late = caller.until(
            Duration::ZERO,
            || async { Ok::<Result<(), String>, String>(Err("it is stopping".into())) },
            |why| why,
        );
        assert_eq!(late.await, Err("it is stopping".to_owned()));
    }
}
