//! The process that keeps a region's processes running: starting it so that it outlives us, and talking to it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use ha_core::unit::{RunFile, UnitStatus};
use rustix::process::Signal;
use tokio::time::Instant;

use crate::ProviderError;
use crate::local::{
    Local,
    process::{http, processes::Process, programs},
    state::files::{failed, read_json},
};

const STARTS_WITHIN: Duration = Duration::from_secs(15);
/// Whoever is asked for something that takes longer answers before it is done.
const STOPS_WITHIN: Duration = Duration::from_secs(120);
/// The socket appears when it appears: the file system tells nobody who does not watch the folder.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// The supervisor of one region, running or not.
#[derive(Debug)]
pub(crate) struct Supervisor<'a> {
    local: &'a Local,
    region: &'a str,
    socket: PathBuf,
}

impl Local {
    /// None while the region has no address, and so nothing else.
    pub(crate) fn supervisor<'a>(&'a self, region: &'a str) -> Result<Option<Supervisor<'a>>, ProviderError> {
        let file = self.record.read()?;
        let octet = file
            .filter(|file| file.region_octet(region).is_some())
            .map(|file| file.octet);
        Ok(octet.map(|octet| Supervisor {
            local: self,
            region,
            socket: self.layout.supervisor_socket(octet, region),
        }))
    }

    /// The same, where the region must be there.
    pub(crate) fn running<'a>(&'a self, region: &'a str) -> Result<Supervisor<'a>, ProviderError> {
        self.supervisor(region)?.ok_or_else(|| ProviderError::Refused {
            what: format!("region {region} has no addresses on this machine"),
            help: "run: ha provision".into(),
        })
    }
}

impl Supervisor<'_> {
    /// What runs, by its own account. None when nobody answers; then everything may still be running.
    pub(crate) async fn units(&self) -> Option<Vec<UnitStatus>> {
        self.ask(reqwest::Method::GET, "/units").await.ok()
    }

    /// Afterwards it has read the units again and has begun to make them so.
    pub(crate) async fn sync(&self) -> Result<Vec<UnitStatus>, ProviderError> {
        match self.ask(reqwest::Method::POST, "/sync").await {
            Ok(units) => Ok(units),
            Err(_) => {
                self.ensure().await?;
                self.ask(reqwest::Method::POST, "/sync")
                    .await
                    .map_err(|error| ProviderError::Other {
                        what: format!("the supervisor of {} does not answer: {error}", self.region),
                    })
            }
        }
    }

    /// Afterwards it runs and answers. It survives the end of this process, and of the shell.
    pub(crate) async fn ensure(&self) -> Result<(), ProviderError> {
        let _starting = self.local.starting.of(self.region).await;
        if self.units().await.is_some() {
            return Ok(());
        }
        if let Some(stuck) = self.process() {
            // One that is only just starting is given time; its units are not touched by its end.
            if self.answers_within(STARTS_WITHIN / 3).await {
                return Ok(());
            }
            tracing::warn!(
                region = self.region,
                pid = stuck.pid,
                "the supervisor does not answer: starting another"
            );
            self.end(&stuck).await?;
        }
        self.start().await
    }

    /// Afterwards the unit is ending, to be started again.
    pub(crate) async fn restart(&self, host: &str, unit: &str) -> Result<(), ProviderError> {
        self.tell(host, unit, "restart").await
    }

    /// Afterwards the unit was told to read its configuration again.
    pub(crate) async fn reload(&self, host: &str, unit: &str) -> Result<(), ProviderError> {
        self.tell(host, unit, "reload").await
    }

    async fn tell(&self, host: &str, unit: &str, verb: &str) -> Result<(), ProviderError> {
        let path = format!("/hosts/{host}/units/{unit}/{verb}");
        let asked = self.request(reqwest::Method::POST, &path, Duration::from_secs(5)).await;
        asked.map(drop).map_err(|error| ProviderError::Other {
            what: format!(
                "the supervisor of {} does not {verb} {unit} on {host}: {error}",
                self.region
            ),
        })
    }

    /// It does not run, as far as its run file says; if it does all the same, it answers.
    pub(crate) async fn is_gone(&self) -> bool {
        self.process().is_none() && self.units().await.is_none()
    }

    /// Afterwards no unit of the region runs, and neither does the supervisor.
    pub(crate) async fn stop(&self) -> Result<(), ProviderError> {
        let Some(process) = self.process() else { return Ok(()) };
        let asked: Result<(), String> = self
            .request(reqwest::Method::POST, "/stop", STOPS_WITHIN)
            .await
            .map(drop);
        if let Err(error) = asked {
            tracing::warn!(
                region = self.region,
                error,
                "the supervisor could not be asked to stop everything"
            );
            return self.end(&process).await;
        }
        let ended = process.ended(STOPS_WITHIN).await;
        match ended {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => self.end(&process).await,
        }
    }

    /// The running one, if it is the one that its run file speaks of.
    pub(crate) fn process(&self) -> Option<Process> {
        let path = self.local.layout.region(self.region).supervisor_run();
        let run: RunFile = read_json(&path).ok().flatten()?;
        Process::of(&run)
    }

    /// The binary it runs, as the kernel knows it.
    pub(crate) fn program(&self) -> Option<PathBuf> {
        fs::read_link(format!("/proc/{}/exe", self.process()?.pid)).ok()
    }

    /// Afterwards it does not run; its units do.
    pub(crate) async fn end(&self, process: &Process) -> Result<(), ProviderError> {
        process
            .end(Signal::TERM, Duration::from_secs(3))
            .await
            .map_err(|source| ProviderError::Io {
                what: format!("cannot end the supervisor of {} (pid {})", self.region, process.pid),
                source,
            })
    }

    async fn start(&self) -> Result<(), ProviderError> {
        let folder = self.local.layout.region(self.region);
        let program = self.local.guard_program()?;
        let path = folder.supervisor_log();
        let log = fs::OpenOptions::new().create(true).append(true).open(&path);
        let log = log.map_err(|source| failed("cannot write", &path, source))?;
        let before = log.metadata().map_or(0, |meta| meta.len());
        let output = |log: &fs::File| log.try_clone().map_err(|source| failed("cannot write", &path, source));
        // A session of its own: neither the terminal's Ctrl-C nor its end reaches it.
        let mut command = tokio::process::Command::new(programs::setsid(&self.local.options.path)?);
        command
            .arg(&program)
            .arg("supervise")
            .arg("--region-dir")
            .arg(&folder.0)
            .arg("--socket")
            .arg(&self.socket)
            .current_dir(&folder.0)
            .env_clear()
            .env("PATH", &self.local.options.path)
            .env("LANG", "C.UTF-8")
            .stdin(Stdio::null())
            .stdout(output(&log)?)
            .stderr(output(&log)?);
        if let Some(user) = &self.local.options.run_as {
            command.uid(user.uid).gid(user.gid);
        }
        let mut child = command.spawn().map_err(|source| ProviderError::Io {
            what: format!("cannot start {}", program.display()),
            source,
        })?;
        let why = tokio::select! {
            answers = self.answers_within(STARTS_WITHIN) => match answers {
                true => return Ok(()),
                false => format!("does not answer within {STARTS_WITHIN:?}"),
            },
            ended = child.wait() => match ended {
                Ok(status) => format!("ended at once: {status}"),
                Err(error) => format!("cannot be watched: {error}"),
            },
        };
        Err(ProviderError::Other {
            what: format!("the supervisor of {} {why}; {}", self.region, tail(&path, before)),
        })
    }

    async fn answers_within(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while self.units().await.is_none() {
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
        true
    }

    async fn ask(&self, method: reqwest::Method, path: &str) -> Result<Vec<UnitStatus>, String> {
        let answer = self.request(method, path, Duration::from_secs(5)).await?;
        answer.json().await.map_err(|error| http::said(path, &error))
    }

    async fn request(
        &self,
        method: reqwest::Method,
        path: &str,
        within: Duration,
    ) -> Result<reqwest::Response, String> {
        let client = http::client(Some(&self.socket)).map_err(|error| error.to_string())?;
        let url = format!("http://supervisor{path}");
        let answer = client.request(method, &url).timeout(within).send().await;
        let answer = answer.map_err(|error| http::said(&self.socket.display().to_string(), &error))?;
        answer.error_for_status().map_err(|error| error.to_string())
    }
}

/// The last lines written after `from`, for an error.
pub(crate) fn tail(log: &Path, from: u64) -> String {
    const LINES: usize = 5;
    let bytes = fs::read(log).unwrap_or_default();
    let new = bytes
        .get(usize::try_from(from).unwrap_or(usize::MAX)..)
        .unwrap_or_default();
    let text = String::from_utf8_lossy(new);
    let lines: Vec<&str> = text.lines().rev().take(LINES).collect();
    if lines.is_empty() {
        return format!("{} says nothing", log.display());
    }
    let lines: Vec<&str> = lines.into_iter().rev().collect();
    format!("{}: {}", log.display(), lines.join(" | "))
}
