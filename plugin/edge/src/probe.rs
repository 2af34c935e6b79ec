//! Probes: is it there, does it answer, how long did that take. All side by side.
//!
//! What to ask is up to the caller: HTTP and TCP are here, anything else is a future ([`Probe::new`]).

use std::{fmt, io, net::IpAddr, panic::AssertUnwindSafe, time::Duration};

use futures::{FutureExt, Stream, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use serde::Serialize;
use tokio::{
    net::{TcpSocket, lookup_host},
    time::{Instant, timeout},
};

/// One question to one endpoint; asked when it is given to [`probe_all`] or [`probe_stream`], not before.
pub struct Probe {
    pub region: String,
    /// What is asked: `us-app-1`, `us-lb`.
    pub target: String,
    /// What is asked of it: `http`, `write listener`, `store`.
    pub check: String,
    look: BoxFuture<'static, Result<Option<String>, ProbeFailure>>,
}

/// Why a probe did not get the answer it wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeFailure {
    pub status: ProbeStatus,
    pub error: String,
}

/// One row per probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProbeRow {
    pub region: String,
    pub target: String,
    pub check: String,
    pub status: ProbeStatus,
    /// Until the whole answer was there, also when it was the wrong one; none when there was no answer.
    pub latency: Option<Duration>,
    /// What the answer said, where a check has something to say.
    pub detail: Option<String>,
    pub error: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeStatus {
    Ok,
    /// It answered, and not with what was expected.
    Failed,
    /// Nothing listens there.
    Refused,
    /// No route, no such name, or the connection broke.
    Unreachable,
    /// No answer in time.
    Timeout,
}

impl ProbeStatus {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
        }
    }
}

impl fmt::Display for ProbeStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl ProbeFailure {
    pub fn new(status: ProbeStatus, error: impl Into<String>) -> Self {
        Self {
            status,
            error: error.into(),
        }
    }

    /// It answered, and not with what was expected.
    pub fn failed(error: impl Into<String>) -> Self {
        Self::new(ProbeStatus::Failed, error)
    }

    /// Sorts any error by what caused it first: refused, timed out, or no way there.
    pub fn from_error(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut text = error.to_string();
        let mut status = ProbeStatus::Unreachable;
        let mut cause = error.source();
        if let Some(error) = error.downcast_ref::<io::Error>() {
            status = status_of(error.kind());
        }
        while let Some(inner) = cause {
            if let Some(error) = inner.downcast_ref::<io::Error>() {
                status = status_of(error.kind());
            }
            text = inner.to_string();
            cause = inner.source();
        }
        Self::new(status, text)
    }
}

fn status_of(kind: io::ErrorKind) -> ProbeStatus {
    match kind {
        io::ErrorKind::ConnectionRefused => ProbeStatus::Refused,
        io::ErrorKind::TimedOut => ProbeStatus::Timeout,
        _ => ProbeStatus::Unreachable,
    }
}

/// The answer that counts as healthy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expect {
    /// Exactly this status; none accepts 200 to 299.
    pub status: Option<u16>,
    /// The body has this in it.
    pub contains: Option<String>,
}

impl Expect {
    /// Any status from 200 to 299.
    pub const SUCCESS: Self = Self {
        status: None,
        contains: None,
    };

    pub fn containing(text: impl Into<String>) -> Self {
        Self {
            status: None,
            contains: Some(text.into()),
        }
    }

    pub const fn status(status: u16) -> Self {
        Self {
            status: Some(status),
            contains: None,
        }
    }

    fn check(&self, status: u16, body: &str) -> Result<(), ProbeFailure> {
        let good = self
            .status
            .map_or((200..300).contains(&status), |wanted| wanted == status);
        if !good {
            let said = body.lines().next().unwrap_or_default().trim();
            let said = if said.is_empty() {
                String::new()
            } else {
                format!(": {}", shortened(said))
            };
            return Err(ProbeFailure::failed(format!("HTTP status {status}{said}")));
        }
        match &self.contains {
            Some(text) if !body.contains(text.as_str()) => Err(ProbeFailure::failed(format!(
                "the answer does not contain \"{text}\": \"{}\"",
                shortened(body.trim())
            ))),
            _ => Ok(()),
        }
    }
}

fn shortened(text: &str) -> String {
    const LONGEST: usize = 80;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Asks over HTTP: one client for many probes, so that making a probe costs nothing.
#[derive(Clone, Debug)]
pub struct HttpProber {
    client: reqwest::Client,
}

impl HttpProber {
    /// With `source`, connections come from that address.
    ///
    /// # Errors
    ///
    /// When no client can be made on this system.
    pub fn new(source: Option<IpAddr>) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .local_address(source)
            // A probe measures this path: no proxy of the environment, no other host, no connection from before.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(0)
            .build()?;
        Ok(Self { client })
    }

    /// `GET url` answers as expected. The body's first line is the row's `detail`.
    pub fn get(
        &self,
        region: impl Into<String>,
        target: impl Into<String>,
        check: impl Into<String>,
        url: impl Into<String>,
        expect: Expect,
    ) -> Probe {
        let (client, url) = (self.client.clone(), url.into());
        Probe::new(region, target, check, async move {
            let answer = client
                .get(url)
                .send()
                .await
                .map_err(|error| ProbeFailure::from_error(&error))?;
            let status = answer.status().as_u16();
            let body = answer.text().await.map_err(|error| ProbeFailure::from_error(&error))?;
            expect.check(status, &body)?;
            let line = body.lines().next().unwrap_or_default().trim();
            Ok((!line.is_empty()).then(|| shortened(line)))
        })
    }
}

impl Probe {
    /// Any question. `look` answers with a detail for the row, or none.
    pub fn new(
        region: impl Into<String>,
        target: impl Into<String>,
        check: impl Into<String>,
        look: impl Future<Output = Result<Option<String>, ProbeFailure>> + Send + 'static,
    ) -> Self {
        Self {
            region: region.into(),
            target: target.into(),
            check: check.into(),
            look: look.boxed(),
        }
    }

    /// Something accepts connections at `address` (`host:port`). With `source`, the connection comes from there.
    pub fn tcp(
        region: impl Into<String>,
        target: impl Into<String>,
        check: impl Into<String>,
        address: impl Into<String>,
        source: Option<IpAddr>,
    ) -> Self {
        let address = address.into();
        Self::new(region, target, check, async move {
            connect(&address, source)
                .await
                .map_err(|error| ProbeFailure::from_error(&error))?;
            Ok(None)
        })
    }

    async fn row(self, within: Duration) -> ProbeRow {
        let start = Instant::now();
        // A check that panics is one bad row; the others still have their say.
        let outcome = timeout(within, AssertUnwindSafe(self.look).catch_unwind()).await;
        let took = start.elapsed();
        let (status, latency, detail, error) = match outcome {
            Ok(Ok(Ok(detail))) => (ProbeStatus::Ok, Some(took), detail, None),
            Ok(Ok(Err(failure))) => {
                let answered = failure.status == ProbeStatus::Failed;
                (failure.status, answered.then_some(took), None, Some(failure.error))
            }
            Ok(Err(_)) => (
                ProbeStatus::Failed,
                None,
                None,
                Some("the check itself panicked".into()),
            ),
            Err(_) => (
                ProbeStatus::Timeout,
                None,
                None,
                Some(format!("no answer within {within:?}")),
            ),
        };
        ProbeRow {
            region: self.region,
            target: self.target,
            check: self.check,
            status,
            latency,
            detail,
            error,
        }
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe")
            .field("region", &self.region)
            .field("target", &self.target)
            .field("check", &self.check)
            .finish_non_exhaustive()
    }
}

async fn connect(address: &str, source: Option<IpAddr>) -> io::Result<()> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{address} has no address"));
    for target in lookup_host(address).await? {
        let socket = if target.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        if let Some(source) = source {
            socket.bind((source, 0).into())?;
        }
        match socket.connect(target).await {
            Ok(_) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Asks all at once; rows come as answers do. The last row is never later than `within`.
pub fn probe_stream(probes: impl IntoIterator<Item = Probe>, within: Duration) -> impl Stream<Item = ProbeRow> + Send {
    probes
        .into_iter()
        .map(|probe| probe.row(within))
        .collect::<FuturesUnordered<_>>()
}

/// Asks all at once and waits for every answer: as long as the slowest, `within` at most. Rows in the given order.
pub async fn probe_all(probes: impl IntoIterator<Item = Probe>, within: Duration) -> Vec<ProbeRow> {
    let asked = probes
        .into_iter()
        .enumerate()
        .map(|(place, probe)| async move { (place, probe.row(within).await) });
    let mut rows: Vec<_> = asked.collect::<FuturesUnordered<_>>().collect().await;
    rows.sort_by_key(|(place, _)| *place);
    rows.into_iter().map(|(_, row)| row).collect()
}
