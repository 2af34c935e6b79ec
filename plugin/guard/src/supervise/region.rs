//! All units of a region: reads the files, tells each unit's task what is wanted, and gathers what they see.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use ha_core::unit::{UnitState, UnitStatus};
use rustix::process::Signal;
use tokio::{
    sync::{Mutex, oneshot},
    time::{Instant, timeout, timeout_at},
};

use super::{
    files::{HostFiles, Place, Reader},
    handle::{Act, Command, Goal, Handle, Shared, Wanted},
    launch,
};

/// How long processes that outlived their unit get to end when asked.
const STRAY_TIMEOUT: Duration = Duration::from_secs(10);
/// A task acts within milliseconds; one that does not is stuck in the kernel, and the others are answered for.
const ACT_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) struct Region {
    hosts: PathBuf,
    shared: Arc<Shared>,
    closing: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    reader: Reader,
    units: BTreeMap<(String, String), (Place, Handle)>,
    turn: u64,
    /// Hosts that should be silent and were looked through for processes that outlived their units.
    silent: BTreeSet<String>,
    trouble: Option<String>,
}

/// Why a command on one unit was refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("no unit {1} on host {0}; `GET /units` lists them")]
    Unknown(String, String),
    #[error("{0}")]
    NotNow(String),
}

impl Region {
    pub(super) fn new(region_dir: &Path, shared: Shared) -> Self {
        Self {
            hosts: region_dir.join("hosts"),
            shared: Arc::new(shared),
            closing: AtomicBool::new(false),
            state: Mutex::default(),
        }
    }

    /// Reads the files and passes on what changed. Does not wait for the units to act.
    pub(super) async fn look(&self) {
        let mut state = self.state.lock().await;
        self.apply(&mut state, false);
    }

    /// As [`Self::look`]; returns when every unit has acted: started what was to start, asked to end what was to end.
    pub(super) async fn sync(&self) -> Vec<UnitStatus> {
        let mut state = self.state.lock().await;
        self.apply(&mut state, true);
        let turn = state.turn;
        let acted = state.units.values().map(|(_, handle)| {
            let mut view = handle.view.clone();
            async move {
                // The task of a unit that is gone has ended, and its last view stays readable.
                let _ = timeout(ACT_TIMEOUT, view.wait_for(|it| it.turn >= turn)).await;
            }
        });
        join_all(acted).await;
        self.statuses(&state)
    }

    /// No unit's log is larger than it may be.
    pub(super) async fn bound_logs(&self) {
        let places: Vec<Place> = {
            let state = self.state.lock().await;
            state.units.values().map(|(place, _)| place.clone()).collect()
        };
        let bounding = tokio::task::spawn_blocking(move || {
            for place in places {
                if let Err(error) = place.bound_log() {
                    tracing::warn!(%error, "cannot shorten {}", place.log_file().display());
                }
            }
        });
        // It ends early only with the supervisor.
        let _ = bounding.await;
    }

    pub(super) async fn units(&self) -> Vec<UnitStatus> {
        let state = self.state.lock().await;
        self.statuses(&state)
    }

    /// Restarts or reloads one unit; returns its row when that has begun.
    pub(super) async fn command(&self, host: &str, unit: &str, act: Act) -> Result<UnitStatus, Refused> {
        let (commands, view) = {
            let state = self.state.lock().await;
            let key = (host.to_owned(), unit.to_owned());
            let (_, handle) = state
                .units
                .get(&key)
                .ok_or_else(|| Refused::Unknown(host.to_owned(), unit.to_owned()))?;
            (handle.commands.clone(), handle.view.clone())
        };
        let ended = || Refused::NotNow(format!("{host}/{unit} is being removed"));
        let (answer, answered) = oneshot::channel();
        commands.send(Command { act, answer }).await.map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?.map_err(Refused::NotNow)?;
        let status = view.borrow().status.clone();
        Ok(status)
    }

    /// Stops all units, those that others stand on last; afterwards nothing of the region runs, and nothing starts.
    pub(super) async fn stop(&self) -> Vec<UnitStatus> {
        self.closing.store(true, Ordering::SeqCst);
        for rank in 0..=LAST_RANK {
            let ended = {
                let state = self.state.lock().await;
                state
                    .units
                    .values()
                    .filter(|(place, _)| stop_rank(&place.unit) == rank)
                    .map(|(_, handle)| {
                        handle.wanted.send_modify(|it| {
                            it.goal = Goal::Closing;
                            it.turn += 1;
                        });
                        let turn = handle.wanted.borrow().turn;
                        let mut view = handle.view.clone();
                        async move {
                            let stopped =
                                |it: &super::handle::View| it.turn >= turn && it.status.state == UnitState::Stopped;
                            // An error: the task ended, as it does when its unit is gone.
                            let _ = view.wait_for(stopped).await;
                        }
                    })
                    .collect::<Vec<_>>()
            };
            join_all(ended).await;
        }
        let hosts: BTreeSet<PathBuf> = {
            let state = self.state.lock().await;
            state.units.values().map(|(place, _)| place.folder.clone()).collect()
        };
        join_all(hosts.into_iter().map(|it| sweep(it, self.shared.clone()))).await;
        self.units().await
    }

    fn apply(&self, state: &mut State, acknowledge: bool) {
        if self.closing.load(Ordering::SeqCst) {
            return;
        }
        let mut found = BTreeMap::new();
        let mut unknown = BTreeMap::new();
        match state.reader.read(&self.hosts) {
            Ok(hosts) => {
                for (host, files) in hosts {
                    match files {
                        Ok(files) => drop(found.insert(host, files)),
                        Err(error) => drop(unknown.insert(host, error)),
                    }
                }
                state.trouble = None;
            }
            Err(error) => {
                // Not knowing what is wanted is no reason to stop anything.
                state.trouble = Some(format!("{}: {error}", self.hosts.display()));
                return;
            }
        }
        if let Some((host, error)) = unknown.first_key_value() {
            state.trouble = Some(format!("{}: {error}", self.hosts.join(host).display()));
        }
        let mut goals = self.goals(&found);
        // A task that ended has no unit file any more, or one that came back in the meantime.
        state.units.retain(|_, (_, handle)| !handle.wanted.is_closed());
        for (key, (place, _)) in &state.units {
            if !goals
                .iter()
                .any(|(place, _)| (&place.host, &place.unit) == (&key.0, &key.1))
            {
                goals.push((place.clone(), Goal::Gone));
            }
        }
        if acknowledge {
            state.turn += 1;
        }
        let turn = state.turn;
        for (place, goal) in goals {
            let key = (place.host.clone(), place.unit.clone());
            match state.units.get(&key) {
                Some((_, handle)) => {
                    handle.wanted.send_if_modified(|it| {
                        let changed = acknowledge || it.goal != goal;
                        if changed {
                            it.goal = goal;
                            it.turn = turn;
                        }
                        changed
                    });
                }
                None => {
                    let handle = Handle::spawn(place.clone(), Wanted { goal, turn }, self.shared.clone());
                    state.units.insert(key, (place, handle));
                }
            }
        }
        // Nothing new is known about these, and nobody should wait for them.
        for (_, handle) in state.units.values() {
            handle.wanted.send_if_modified(|it| {
                let behind = acknowledge && it.turn != turn;
                it.turn = if behind { turn } else { it.turn };
                behind
            });
        }
        self.silence(state, &found, &unknown);
    }

    fn goals(&self, found: &BTreeMap<String, HostFiles>) -> Vec<(Place, Goal)> {
        let mut goals = Vec::new();
        for (host, files) in found {
            let place = |unit: &str| Place {
                host: host.clone(),
                unit: unit.to_owned(),
                folder: self.hosts.join(host),
            };
            for (unit, read) in &files.units {
                let goal = match read {
                    _ if files.off => Goal::Off,
                    Ok(unit) => Goal::Run(unit.clone()),
                    Err(why) => Goal::Unreadable(why.clone()),
                };
                goals.push((place(unit), goal));
            }
            goals.extend(files.left.iter().map(|unit| (place(unit), Goal::Gone)));
        }
        goals
    }

    /// On a host where nothing should run, ends what outlived its unit: a database whose guard was killed, say.
    fn silence(&self, state: &mut State, found: &BTreeMap<String, HostFiles>, unknown: &BTreeMap<String, io::Error>) {
        let on: BTreeSet<&String> = found.iter().filter(|(_, it)| !it.off).map(|(host, _)| host).collect();
        let known = found.keys().chain(state.units.keys().map(|(host, _)| host));
        let off: BTreeSet<String> = known
            .filter(|it| !on.contains(it) && !unknown.contains_key(*it))
            .cloned()
            .collect();
        state.silent.retain(|it| off.contains(it));
        for host in off {
            let stopped = state
                .units
                .range((host.clone(), String::new())..)
                .take_while(|((it, _), _)| *it == host)
                .all(|(_, (_, handle))| handle.view.borrow().status.state == UnitState::Stopped);
            if stopped && state.silent.insert(host.clone()) {
                tokio::spawn(sweep(self.hosts.join(host), self.shared.clone()));
            }
        }
    }

    fn statuses(&self, state: &State) -> Vec<UnitStatus> {
        let troubles: Vec<String> = state
            .trouble
            .iter()
            .cloned()
            .chain(self.shared.events.trouble())
            .collect();
        state
            .units
            .values()
            .map(|(_, handle)| handle.view.borrow().status.clone())
            .map(|mut status| {
                if !troubles.is_empty() {
                    let own = status.last_error.take();
                    let all: Vec<String> = own.into_iter().chain(troubles.iter().cloned()).collect();
                    status.last_error = Some(all.join("\n"));
                }
                status
            })
            .collect()
    }
}

const LAST_RANK: usize = 4;

/// Traffic ends before what serves it, the database before the store it asks, and the way between regions last.
fn stop_rank(unit: &str) -> usize {
    match unit {
        "haproxy" => 0,
        "guard" => 2,
        "etcd" => 3,
        "relay" => LAST_RANK,
        _ => 1,
    }
}

/// Ends what outlived the units of a host. Only those processes there are now: what starts later was wanted again.
async fn sweep(host: PathBuf, shared: Arc<Shared>) {
    let subject = host.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let failed = |error: String| {
        shared
            .events
            .tell("host.strays", &subject, "unknown", None, Some(error))
    };
    let strays = match launch::left_behind(&host) {
        Ok(strays) if strays.is_empty() => return,
        Ok(strays) => strays,
        Err(error) => return failed(format!("cannot look for processes that outlived their unit: {error:#}")),
    };
    let pids: Vec<String> = strays.iter().map(|it| it.pid.to_string()).collect();
    let detail = format!(
        "told to end, as they outlived their unit: processes {}",
        pids.join(", ")
    );
    shared
        .events
        .tell("host.strays", &subject, "stopping", Some(detail), None);
    let deadline = Instant::now() + STRAY_TIMEOUT;
    let end = strays.iter().map(|it| async move {
        // PostgreSQL ends its sessions at INT and waits for them at TERM; to most programs they are the same.
        it.signal(Signal::INT)?;
        if timeout_at(deadline, it.ended()).await.is_err() {
            it.signal(Signal::KILL)?;
            it.ended().await;
        }
        io::Result::Ok(())
    });
    for (outcome, pid) in join_all(end).await.into_iter().zip(pids) {
        if let Err(error) = outcome {
            failed(format!("process {pid} cannot be ended: {error}"));
        }
    }
}
