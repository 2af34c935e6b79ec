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

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    /// Answers every connection with these bytes, after a while.
    async fn server(answer: &'static str, after: Duration) -> io::Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut request = [0; 1024];
                    let _ = stream.read(&mut request).await;
                    tokio::time::sleep(after).await;
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        Ok(address)
    }

    /// An address where nothing listens: it was free a moment ago.
    async fn nobody() -> io::Result<String> {
        Ok(TcpListener::bind("127.0.0.1:0").await?.local_addr()?.to_string())
    }

    const GOOD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n";
    const SICK: &str = "HTTP/1.1 503 Sorry\r\ncontent-length: 8\r\n\r\nno space";
    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn each_way_to_fail_has_its_status() -> Outcome {
        let (good, sick) = (server(GOOD, Duration::ZERO).await?, server(SICK, Duration::ZERO).await?);
        let silent = server(GOOD, Duration::from_secs(60)).await?;
        let broken = server("", Duration::ZERO).await?;
        let gone = nobody().await?;
        let prober = HttpProber::new(None)?;
        let get = |address: &str, expect| {
            prober.get(
                "us-east",
                "us-app-1",
                "http",
                format!("http://{address}/health"),
                expect,
            )
        };
        let tcp = |address: &str| Probe::tcp("us-east", "us-db-1", "port", address, None);
        let probes = [
            get(&good, Expect::SUCCESS),
            get(&sick, Expect::SUCCESS),
            get(&sick, Expect::status(503)),
            get(&good, Expect::containing("ready")),
            get(&silent, Expect::SUCCESS),
            get(&broken, Expect::SUCCESS),
            get(&gone, Expect::SUCCESS),
            tcp(&good),
            tcp(&gone),
        ];
        let rows = probe_all(probes, SECOND).await;
        let statuses: Vec<_> = rows.iter().map(|row| row.status).collect();
        use ProbeStatus::{Failed, Ok as Good, Refused, Timeout, Unreachable};
        let wanted = [Good, Failed, Good, Failed, Timeout, Unreachable, Refused, Good, Refused];
        assert_eq!(statuses, wanted, "{rows:#?}");
        for row in &rows {
            let answered = matches!(row.status, Good | Failed);
            assert_eq!(row.latency.is_some(), answered, "{row:?}");
            assert_eq!(row.error.is_none(), row.status == Good, "{row:?}");
        }
        assert_eq!(rows[0].detail.as_deref(), Some("ok"));
        assert_eq!(rows[1].error.as_deref(), Some("HTTP status 503: no space"));
        Ok(())
    }

    #[tokio::test]
    async fn all_are_asked_at_once_and_none_later_than_the_limit() -> Outcome {
        let slow = server(GOOD, Duration::from_millis(200)).await?;
        let silent = server(GOOD, Duration::from_secs(60)).await?;
        let prober = HttpProber::new(None)?;
        let get = |address: &str| prober.get("r", "t", "http", format!("http://{address}/"), Expect::SUCCESS);

        let start = Instant::now();
        let rows = probe_all((0..40).map(|_| get(&slow)), SECOND * 5).await;
        assert!(rows.iter().all(|row| row.status == ProbeStatus::Ok), "{rows:#?}");
        assert!(
            start.elapsed() < SECOND * 2,
            "40 probes of 0.2 s took {:?}",
            start.elapsed()
        );

        let start = Instant::now();
        let rows = probe_all([get(&silent), get(&slow)], Duration::from_millis(400)).await;
        assert_eq!(
            [rows[0].status, rows[1].status],
            [ProbeStatus::Timeout, ProbeStatus::Ok]
        );
        assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
        Ok(())
    }

    #[tokio::test]
    async fn a_stream_gives_rows_as_answers_come() -> Outcome {
        let wait = |millis| async move {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            Ok(Some(millis.to_string()))
        };
        let probes = [200, 10, 100].map(|millis| Probe::new("r", "t", "own", wait(millis)));
        let order: Vec<_> = probe_stream(probes, SECOND)
            .filter_map(async |row| row.detail)
            .collect()
            .await;
        assert_eq!(order, ["10", "100", "200"]);
        Ok(())
    }

    #[tokio::test]
    async fn a_check_that_panics_is_one_bad_row() {
        let probes = [
            Probe::new("r", "bad", "own", async { panic!("a bug") }),
            Probe::new("r", "good", "own", async { Ok(None) }),
        ];
        let rows = probe_all(probes, SECOND).await;
        assert_eq!([rows[0].status, rows[1].status], [ProbeStatus::Failed, ProbeStatus::Ok]);
    }

    #[tokio::test]
    async fn the_source_address_is_what_the_other_side_sees() -> Outcome {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let source: IpAddr = [127, 7, 7, 7].into();
        let probe = Probe::tcp("r", "t", "port", address.as_str(), Some(source));
        let (rows, seen) = tokio::join!(probe_all([probe], SECOND), listener.accept());
        assert_eq!(rows[0].status, ProbeStatus::Ok);
        assert_eq!(seen?.1.ip(), source);

        let prober = HttpProber::new(Some(source))?;
        let probe = prober.get("r", "t", "http", format!("http://{address}/"), Expect::SUCCESS);
        let (_, seen) = tokio::join!(probe_all([probe], Duration::from_millis(200)), listener.accept());
        assert_eq!(seen?.1.ip(), source);
        Ok(())
    }
}
