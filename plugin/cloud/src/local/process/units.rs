//! Handing processes to the supervisor: a unit file says what should run, the supervisor makes it so.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddrV4},
    path::PathBuf,
    time::Duration,
};

use ha_core::{
    resource::{ResourceId, spec_hash},
    unit::{Ready, StopSignal, Unit, UnitState, UnitStatus},
};
use serde_json::json;
use tokio::time::Instant;

use crate::ProviderError;
use crate::local::{
    Local,
    process::{listeners, processes},
    state::{
        files::{self, read_json},
        layout::Host,
    },
};

/// The supervisor answers at once and does not call back.
const ASK_AGAIN: Duration = Duration::from_millis(50);
/// A process that ended this often has more than a slow neighbour.
const GIVE_UP_AFTER: u32 = 4;

/// A process as a room describes it; the keys follow from what it reads.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) name: &'static str,
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) stop_signal: StopSignal,
    pub(crate) reload_signal: Option<StopSignal>,
    pub(crate) stop_timeout: Duration,
    /// Without one, running is ready.
    pub(crate) ready: Option<Ready>,
    /// What it reads at its start: another content restarts it.
    pub(crate) reads_at_start: Vec<String>,
    /// What it can read again: another content reloads it.
    pub(crate) reads_again: Vec<String>,
    /// Where it listens; nobody else may.
    pub(crate) ports: Vec<u16>,
}

impl Process {
    fn unit(&self, host: &Host) -> Unit {
        let started_from = json!([self.program, self.args, self.env, self.reads_at_start]);
        Unit {
            name: self.name.to_owned(),
            program: self.program.clone(),
            args: self.args.clone(),
            env: self.env.clone(),
            cwd: host.0.clone(),
            stop_signal: self.stop_signal,
            reload_signal: self.reload_signal,
            stop_timeout_ms: u64::try_from(self.stop_timeout.as_millis()).unwrap_or(u64::MAX),
            ready: self.ready.clone(),
            restart_key: spec_hash(&started_from),
            reload_key: spec_hash(&json!(self.reads_again)),
        }
    }
}

/// One host of one region.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At<'a> {
    pub(crate) region: &'a str,
    pub(crate) host: &'a str,
}

impl Local {
    /// Switched off on purpose: nothing of this host may run.
    pub(crate) fn is_off(&self, at: At) -> bool {
        let power = fs::read_to_string(self.layout.host(at.region, at.host).power());
        power.is_ok_and(|text| text.trim() == "off")
    }

    /// The unit as it is on disk; a damaged one is as good as none.
    pub(crate) fn unit(&self, at: At, name: &str) -> Option<Unit> {
        read_json(&self.layout.host(at.region, at.host).unit(name))
            .ok()
            .flatten()
    }

    /// Giving it to the supervisor would end the running process and start another.
    pub(crate) fn would_restart(&self, at: At, process: &Process) -> bool {
        let wanted = process.unit(&self.layout.host(at.region, at.host));
        self.unit(at, process.name)
            .is_some_and(|unit| unit.restart_key != wanted.restart_key)
    }

    /// Afterwards the supervisor has the unit in this form and has begun to make it so.
    ///
    /// # Errors
    /// `Taken` when a process that is not ours listens where this one would.
    pub(crate) async fn put(&self, at: At<'_>, direct: Ipv4Addr, process: &Process) -> Result<Unit, ProviderError> {
        let host = self.layout.host(at.region, at.host);
        let unit = process.unit(&host);
        let known = self.unit(at, process.name);
        if known.is_none() {
            let ours = &self.layout.region(at.region).0;
            for port in &process.ports {
                listeners::check_free(SocketAddrV4::new(direct, *port), ours)?;
            }
        }
        if known.as_ref() != Some(&unit) {
            self.files.write_json(&host.unit(process.name), &unit)?;
        }
        self.running(at.region)?.sync().await?;
        Ok(unit)
    }

    /// Afterwards the process runs in the form of `unit` and answers.
    ///
    /// # Errors
    /// `NotReady` with what it logged last, when it keeps ending or the time is up.
    pub(crate) async fn ready(
        &self,
        id: &ResourceId,
        at: At<'_>,
        unit: &Unit,
        within: Duration,
    ) -> Result<(), ProviderError> {
        let supervisor = self.running(at.region)?;
        let deadline = Instant::now() + within;
        let mut before = None;
        loop {
            let units = match supervisor.units().await {
                Some(units) => units,
                None => supervisor.sync().await?,
            };
            let status = units
                .into_iter()
                .find(|status| status.host == at.host && status.unit == unit.name);
            let detail = match &status {
                Some(status) if runs(status, unit) => return Ok(()),
                Some(status) => self.why_not(at, status),
                None => format!("{} on {} is not known to the supervisor", unit.name, at.host),
            };
            let restarts = status.as_ref().map_or(0, |status| status.restarts);
            let keeps_ending = restarts.saturating_sub(*before.get_or_insert(restarts)) >= GIVE_UP_AFTER;
            if keeps_ending || Instant::now() >= deadline {
                return Err(ProviderError::NotReady { id: id.clone(), detail });
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// Afterwards the unit is gone and so is its process.
    pub(crate) async fn take(&self, at: At<'_>, name: &str) -> Result<(), ProviderError> {
        let host = self.layout.host(at.region, at.host);
        if !host.unit(name).exists() && !host.run().join(format!("{name}.json")).exists() {
            return Ok(());
        }
        let patience = self.unit(at, name).map_or(60_000, |unit| unit.stop_timeout_ms) + 20_000;
        files::remove_all(&host.unit(name))?;
        self.stopped(at, Some(name), Duration::from_millis(patience)).await
    }

    /// Afterwards nothing of the host runs (or not that one unit).
    pub(crate) async fn stopped(&self, at: At<'_>, name: Option<&str>, within: Duration) -> Result<(), ProviderError> {
        let supervisor = self.running(at.region)?;
        let folder = self.layout.host(at.region, at.host).0;
        if supervisor.is_gone().await && processes::Process::below(&folder, self.uid()).is_empty() {
            // After a restart of the machine, say: a supervisor would first start all the rest of the region again.
            return Ok(());
        }
        let deadline = Instant::now() + within;
        let mut units = supervisor.sync().await?;
        loop {
            let still = units.iter().find(|status| {
                status.host == at.host
                    && name.is_none_or(|name| status.unit == name)
                    && (status.pid.is_some() || status.state != UnitState::Stopped)
            });
            let Some(still) = still else { return Ok(()) };
            if Instant::now() >= deadline {
                return Err(ProviderError::OutcomeUnknown {
                    what: format!("ending {} on {} ({})", still.unit, at.host, self.why_not(at, still)),
                    after: within,
                });
            }
            tokio::time::sleep(ASK_AGAIN).await;
            units = match supervisor.units().await {
                Some(units) => units,
                None => supervisor.sync().await?,
            };
        }
    }

    /// In words: what state it is in, and what it said last.
    pub(crate) fn why_not(&self, at: At, status: &UnitStatus) -> String {
        let state = match status.state {
            UnitState::Stopped => "is stopped",
            UnitState::Starting => "is starting",
            UnitState::Ready => "runs in its old form",
            UnitState::Backoff => "keeps ending",
            UnitState::Stopping => "is ending",
        };
        let log = self.layout.host(at.region, at.host).log(&status.unit);
        // What a program says of a full disk drowns in what it says while it dies of it.
        if status.state != UnitState::Ready && files::tells_of_a_full_disk(&log) {
            let folder = self.layout.root.display();
            let (unit, log) = (&status.unit, log.display());
            return format!("no space left in {folder}: {unit} {state}; free some and run it again (log: {log})");
        }
        match &status.last_error {
            Some(error) => format!("{} {state}: {error} (log: {})", status.unit, log.display()),
            None => format!("{} {state} (log: {})", status.unit, log.display()),
        }
    }
}

fn runs(status: &UnitStatus, unit: &Unit) -> bool {
    status.state == UnitState::Ready && status.restart_key == unit.restart_key && status.reload_key == unit.reload_key
}
