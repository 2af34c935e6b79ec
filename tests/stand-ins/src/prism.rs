//! An outside judge between a client and a stand-in: Prism's proxy, which holds every request and every answer
//! against the provider's own API description.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

/// Whose description is the measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    Hetzner,
    DigitalOcean,
}

impl Provider {
    fn description(self) -> &'static str {
        match self {
            Self::Hetzner => "hetzner.cloud.v1.openapi31.json",
            Self::DigitalOcean => "digitalocean.v2.strict.openapi.json",
        }
    }
}

/// The path that is asked for at the end: when its line is in the log, all that came before is.
const LAST: &str = "/ha-judge-is-done";

/// Why there is no judge.
#[derive(Debug)]
pub enum NoJudge {
    /// `HA_PRISM` is not set, or it or the description is not there: say loudly that it was skipped.
    Skipped(String),
    /// It was asked for and did not start.
    Failed(io::Error),
}

impl fmt::Display for NoJudge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Skipped(why) => write!(f, "SKIPPED, nothing was held against the provider's description: {why}"),
            Self::Failed(error) => write!(f, "Prism did not start: {error}"),
        }
    }
}

impl std::error::Error for NoJudge {}

impl From<io::Error> for NoJudge {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

/// A running proxy. It is ended when this is dropped.
pub struct Prism {
    child: Child,
    address: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
}

impl Prism {
    /// In front of `upstream` (a stand-in's `endpoint()`), with the program that `HA_PRISM` names and the descriptions
    /// in the folder that `HA_SPECS` names, by default `../shared/specs` beside the checkout. Afterwards it listens,
    /// within a minute.
    ///
    /// # Errors
    /// [`NoJudge::Skipped`] where one of the two is not there.
    pub async fn open(provider: Provider, upstream: &str) -> Result<Self, NoJudge> {
        let named = |name: &str| std::env::var_os(name).map(PathBuf::from);
        let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/specs");
        let program = named("HA_PRISM").ok_or_else(|| NoJudge::Skipped("HA_PRISM is not set".into()))?;
        let description = named("HA_SPECS").unwrap_or_else(beside).join(provider.description());
        for needed in [&program, &description] {
            if !needed.is_file() {
                return Err(NoJudge::Skipped(format!("there is no {}", needed.display())));
            }
        }
        // Freed before Prism takes it; nothing else on this machine is given the same port so soon.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?.local_addr()?.port();
        let mut child = Command::new(program)
            .args(["proxy", "--host", "127.0.0.1", "--port", &port.to_string()])
            .arg(description)
            .arg(upstream)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()?;
        let log = Arc::new(Mutex::new(Vec::new()));
        if let Some(out) = child.stdout.take() {
            let log = Arc::clone(&log);
            tokio::spawn(async move {
                let mut lines = BufReader::new(out).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    lock(&log).push(line);
                }
            });
        }
        let mut prism = Self {
            child,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            log,
        };
        prism.wait_for(0, "Prism is listening").await?;
        Ok(prism)
    }

    /// Takes the place of the stand-in's `endpoint()`. The base path of a description is not repeated:
    /// paths at Hetzner begin without `/v1`, at DigitalOcean with `/v2`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What was found wrong so far, by requests and by answers, in the judge's own words.
    /// It asks for one path that no description has, which the stand-in sees as well.
    ///
    /// # Errors
    /// The judge is gone: nothing can be said.
    pub async fn violations(&mut self) -> io::Result<Vec<String>> {
        let before = lock(&self.log).len();
        let mut stream = TcpStream::connect(self.address).await?;
        let request = format!(
            "GET {LAST} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.address
        );
        stream.write_all(request.as_bytes()).await?;
        stream.read_to_end(&mut Vec::new()).await?;
        self.wait_for(before, LAST).await?;
        let log = lock(&self.log);
        let mut found = Vec::new();
        let mut request = String::new();
        for line in log.iter() {
            if let Some((_, asked)) = line.split_once("[HTTP SERVER] ") {
                request = asked.split(" \u{2139}").next().unwrap_or(asked).trim().to_owned();
            }
            if let Some((_, what)) = line.split_once("Violation: ").filter(|_| !request.contains(LAST)) {
                found.push(format!("{request}: {what}"));
            }
        }
        Ok(found)
    }

    async fn wait_for(&mut self, from: usize, text: &str) -> io::Result<()> {
        let until = Instant::now() + Duration::from_secs(60);
        while Instant::now() < until {
            if lock(&self.log).iter().skip(from).any(|line| line.contains(text)) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                let said = lock(&self.log).join("\n");
                return Err(io::Error::other(format!("Prism ended with {status}: {said}")));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("Prism did not say {text:?} within a minute"),
        ))
    }
}

fn lock(log: &Mutex<Vec<String>>) -> MutexGuard<'_, Vec<String>> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}
