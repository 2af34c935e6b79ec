//! One unit: a task that compares what is wanted with what runs, acts, and waits for the next thing to happen.

use std::{collections::BTreeMap, process::ExitStatus, sync::Arc, time::Duration};

use ha_core::unit::{StopSignal, Unit, UnitState, UnitStatus};
use rustix::process::Signal;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until},
};

use super::{
    files::Place,
    handle::{Act, Command, Goal, Shared, View, Wanted},
    launch::{self, Running},
    ready,
};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Whoever ran this long has earned a quick restart again.
const STEADY: Duration = Duration::from_secs(10);
/// For a process whose unit file is gone or unreadable.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// How long until a run file that could not be written is tried again.
const WRITE_AGAIN: Duration = Duration::from_millis(500);

enum Phase {
    Idle,
    Up {
        running: Running,
        since: Instant,
        ready: bool,
    },
    /// Ended by itself, or could not be started.
    Backoff {
        until: Instant,
        restart_key: String,
    },
    /// Was asked to end.
    Down {
        running: Running,
        deadline: Instant,
        killed: bool,
    },
}

pub(super) struct Task {
    wanted: watch::Receiver<Wanted>,
    commands: mpsc::Receiver<Command>,
    view: watch::Sender<View>,
    place: Place,
    /// `host/unit`, in events.
    subject: String,
    shared: Arc<Shared>,
    /// As last read.
    unit: Option<Arc<Unit>>,
    phase: Phase,
    restarts: u32,
    pause: Duration,
    /// How it ended last.
    ended: Option<String>,
    /// What does not work around it, by what it is: the log, the run file, the unit file.
    troubles: BTreeMap<&'static str, String>,
    /// The run file must still be written.
    unsaved: bool,
    /// Where this run's lines begin in the log.
    log_from: u64,
}

enum Happened {
    Wanted,
    Command(Command),
    Ended,
    Due,
    Ready,
    /// The supervisor is ending: what runs goes on without it.
    Abandoned,
}

impl Task {
    pub(super) fn new(
        place: Place,
        wanted: watch::Receiver<Wanted>,
        commands: mpsc::Receiver<Command>,
        shared: Arc<Shared>,
    ) -> (Self, watch::Receiver<View>) {
        let (view, seen) = watch::channel(View {
            turn: 0,
            status: UnitStatus {
                host: place.host.clone(),
                unit: place.unit.clone(),
                state: UnitState::Stopped,
                pid: None,
                started_at: None,
                restarts: 0,
                last_error: None,
                restart_key: String::new(),
                reload_key: String::new(),
            },
        });
        let task = Self {
            wanted,
            commands,
            view,
            subject: format!("{}/{}", place.host, place.unit),
            place,
            shared,
            unit: None,
            phase: Phase::Idle,
            restarts: 0,
            pause: FIRST_PAUSE,
            ended: None,
            troubles: BTreeMap::new(),
            unsaved: false,
            log_from: 0,
        };
        (task, seen)
    }

    /// Ends when the unit is forgotten, or with the region; in the second case what runs goes on.
    pub(super) async fn run(mut self) {
        self.adopt_by_file();
        loop {
            let Wanted { goal, turn } = self.wanted.borrow_and_update().clone();
            let forgotten = self.act(&goal);
            if self.unsaved {
                self.save();
            }
            self.publish(turn);
            if forgotten {
                return;
            }
            match self.next().await {
                Happened::Wanted | Happened::Due => {}
                Happened::Ended => self.on_end(),
                Happened::Ready => self.on_ready(),
                Happened::Command(Command { act, answer }) => {
                    let done = self.on_command(act, &goal);
                    self.publish(turn);
                    // Nobody waits any more: it was done all the same.
                    let _ = answer.send(done);
                }
                Happened::Abandoned => return,
            }
        }
    }

    async fn next(&mut self) -> Happened {
        let (process, due, probe) = match &self.phase {
            Phase::Idle => (None, None, None),
            Phase::Backoff { until, .. } => (None, Some(*until), None),
            Phase::Down {
                running,
                deadline,
                killed,
            } => (Some(&running.process), (!killed).then_some(*deadline), None),
            Phase::Up { running, ready, .. } => {
                let probe = self.unit.as_ref().filter(|_| !ready).and_then(|it| it.ready.as_ref());
                (Some(&running.process), None, probe)
            }
        };
        let ended = async {
            match process {
                Some(process) => process.ended().await,
                None => std::future::pending().await,
            }
        };
        let due = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        let became_ready = async {
            match probe {
                Some(probe) => ready::wait(&self.shared.client, probe).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // An end comes first: whatever else happened is then about a process that is no more.
            biased;
            () = ended => Happened::Ended,
            changed = self.wanted.changed() => if changed.is_ok() { Happened::Wanted } else { Happened::Abandoned },
            Some(command) = self.commands.recv() => Happened::Command(command),
            () = due => Happened::Due,
            () = became_ready => Happened::Ready,
            () = sleep(WRITE_AGAIN), if self.unsaved => Happened::Due,
        }
    }

    /// Brings what runs one step nearer to the goal. True when there is nothing left to look after.
    fn act(&mut self, goal: &Goal) -> bool {
        match goal {
            Goal::Run(unit) => {
                self.unit = Some(unit.clone());
                self.troubles.remove("unit file");
            }
            Goal::Unreadable(why) => {
                if self.troubles.insert("unit file", why.clone()).as_ref() != Some(why) {
                    self.tell("unit.unreadable", "unchanged", None, Some(why.clone()));
                }
            }
            Goal::Off | Goal::Closing | Goal::Gone => {
                self.troubles.remove("unit file");
            }
        }
        let wanted = matches!(goal, Goal::Run(_) | Goal::Unreadable(_));
        match &mut self.phase {
            Phase::Idle if *goal == Goal::Gone => {
                self.forget();
                return true;
            }
            Phase::Idle => {
                if let Goal::Run(unit) = goal {
                    self.start(&unit.clone(), false);
                }
            }
            Phase::Up { .. } if !wanted => self.stop(match goal {
                Goal::Off => "its host was switched off",
                Goal::Closing => "its region is being stopped",
                _ => "it was removed",
            }),
            Phase::Up { running, .. } => {
                if let Goal::Run(unit) = goal {
                    if running.file.restart_key != unit.restart_key {
                        self.stop("what it reads at its start changed");
                    } else if running.file.reload_key != unit.reload_key {
                        self.reload();
                    }
                }
            }
            Phase::Backoff { .. } if !wanted => {
                self.phase = Phase::Idle;
                return self.act(goal);
            }
            Phase::Backoff { until, restart_key } => {
                if let Some(unit) = self.unit.clone() {
                    let changed = *restart_key != unit.restart_key;
                    if changed {
                        self.pause = FIRST_PAUSE;
                    }
                    if changed || *until <= Instant::now() {
                        self.start(&unit, true);
                    }
                }
            }
            Phase::Down {
                deadline,
                killed,
                running,
            } => {
                if !*killed && *deadline <= Instant::now() {
                    let outcome = running
                        .process
                        .signal(Signal::KILL)
                        .and_then(|()| running.process.kill_group());
                    *killed = true;
                    let told = "did not end when asked, and was killed".to_owned();
                    self.note("process", outcome.map(drop));
                    self.ended = Some(told.clone());
                    self.tell("unit.killed", "stopping", None, Some(told));
                }
            }
        }
        false
    }

    /// Takes over the process the run file names, as it is.
    fn adopt_by_file(&mut self) {
        let outcome = match self.place.read_run() {
            Ok(None) => return,
            Ok(Some(file)) => launch::by_file(file, &self.shared.boot_id),
            Err(error) => Err(anyhow::anyhow!("{}: {error}", self.place.run_file().display())),
        };
        match outcome {
            Ok(Some(running)) => self.adopt(running, "named by its run file"),
            // The file is of a process that ended: it is replaced at the next start.
            Ok(None) => {}
            Err(error) => {
                let error =
                    format!("the run file was of no use ({error:#}): looked for its process by folder and arguments");
                self.ended = Some(error.clone());
                self.tell("unit.run_file", "unknown", None, Some(error));
            }
        }
    }

    fn adopt(&mut self, running: Running, how: &str) {
        self.tell(
            "unit.adopted",
            "starting",
            Some(format!("process {}, {how}", running.file.pid)),
            None,
        );
        self.log_from = self.place.log_length();
        self.phase = Phase::Up {
            running,
            since: Instant::now(),
            ready: false,
        };
    }

    /// Takes over a process that runs already, or starts one.
    fn start(&mut self, unit: &Unit, again: bool) {
        match launch::by_looks(&self.place, unit, &self.shared.boot_id) {
            Ok(found) => {
                let mut found = found.into_iter();
                if let Some(running) = found.next() {
                    self.adopt(running, "found by its folder and arguments");
                    self.unsaved = true;
                    for copy in found {
                        let error = format!("process {} is a second copy, and was told to end", copy.file.pid);
                        let outcome = copy.process.signal(signal(unit.stop_signal));
                        self.note("second copy", outcome);
                        self.tell("unit.second_copy", "starting", None, Some(error));
                    }
                    return;
                }
            }
            // Not knowing whether one runs is a reason not to start another.
            Err(error) => return self.back_off(unit, format!("cannot tell whether it runs already: {error:#}")),
        }
        let log_length = self.place.log_length();
        match launch::start(&self.place, unit, &self.shared.boot_id) {
            Ok(started) => {
                self.restarts += u32::from(again);
                self.log_from = log_length;
                match started.log_trouble {
                    Some(trouble) => self.troubles.insert("log", trouble),
                    None => self.troubles.remove("log"),
                };
                let pid = started.running.file.pid;
                self.phase = Phase::Up {
                    running: started.running,
                    since: Instant::now(),
                    ready: false,
                };
                self.save();
                if self.worth_telling() {
                    self.tell("unit.started", "starting", Some(format!("process {pid}")), None);
                }
                if unit.ready.is_none() {
                    self.on_ready();
                }
            }
            Err(error) => self.back_off(unit, format!("{error:#}")),
        }
    }

    fn on_ready(&mut self) {
        if let Phase::Up { ready, .. } = &mut self.phase {
            *ready = true;
            if self.worth_telling() {
                self.tell("unit.ready", "ready", None, None);
            }
        }
    }

    fn on_end(&mut self) {
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Up { mut running, since, .. } => {
                // Before it is collected: until then its number, and so its group's, is not given away.
                let outcome = running.process.kill_group().map(drop);
                self.note("process", outcome);
                let how = describe(running.process.collect());
                if since.elapsed() >= STEADY {
                    self.pause = FIRST_PAUSE;
                }
                let why = match self.place.log_tail(self.log_from) {
                    Some(tail) => format!("ended by itself ({how}); it logged last:\n{tail}"),
                    None => format!("ended by itself ({how})"),
                };
                self.forget();
                match self.unit.clone() {
                    Some(unit) => self.back_off(&unit, why),
                    None => {
                        self.tell("unit.exited", "stopped", None, Some(why.clone()));
                        self.ended = Some(why);
                    }
                }
            }
            Phase::Down {
                mut running, killed, ..
            } => {
                let outcome = running.process.kill_group().map(drop);
                self.note("process", outcome);
                let how = describe(running.process.collect());
                if !killed {
                    self.ended = None;
                }
                self.pause = FIRST_PAUSE;
                self.forget();
                self.tell("unit.stopped", "stopped", Some(how), None);
            }
            phase => self.phase = phase,
        }
    }

    fn back_off(&mut self, unit: &Unit, why: String) {
        if self.worth_telling() {
            let detail = format!("starts again in {} ms", self.pause.as_millis());
            self.tell("unit.exited", "backoff", Some(detail), Some(why.clone()));
        }
        self.ended = Some(why);
        self.phase = Phase::Backoff {
            until: Instant::now() + self.pause,
            restart_key: unit.restart_key.clone(),
        };
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    /// A unit that fails every few seconds for days must not fill the disk with saying so.
    fn worth_telling(&self) -> bool {
        self.pause < LONGEST_PAUSE || self.restarts.is_power_of_two()
    }

    fn stop(&mut self, why: &str) {
        let (asked_by, limit) = match &self.unit {
            Some(unit) => (signal(unit.stop_signal), Duration::from_millis(unit.stop_timeout_ms)),
            None => (Signal::TERM, STOP_TIMEOUT),
        };
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Up { running, .. } => {
                let outcome = running.process.signal(asked_by);
                self.note("process", outcome);
                self.phase = Phase::Down {
                    running,
                    deadline: Instant::now() + limit,
                    killed: false,
                };
                self.tell("unit.stopping", "stopping", Some(why.to_owned()), None);
            }
            phase => self.phase = phase,
        }
    }

    fn reload(&mut self) {
        let Some(unit) = self.unit.clone() else {
            return;
        };
        let Some(by) = unit.reload_signal else {
            return self.stop("what it reads changed, and it cannot read it again while it runs");
        };
        if let Phase::Up { running, .. } = &mut self.phase {
            running.file.reload_key.clone_from(&unit.reload_key);
            let outcome = running.process.signal(signal(by));
            self.note("process", outcome);
            self.save();
            self.tell("unit.reloaded", "ready", None, None);
        }
    }

    fn on_command(&mut self, act: Act, goal: &Goal) -> Result<(), String> {
        if let Goal::Unreadable(why) = goal
            && act == Act::Restart
        {
            return Err(why.clone());
        }
        match (&mut self.phase, act) {
            (Phase::Up { .. }, Act::Restart) => self.stop("a restart was asked for"),
            (Phase::Up { .. }, Act::Reload) => self.reload(),
            (Phase::Backoff { until, .. }, Act::Restart) => {
                *until = Instant::now();
                self.pause = FIRST_PAUSE;
            }
            (Phase::Backoff { .. } | Phase::Down { .. }, Act::Reload) => {
                return Err(format!(
                    "{} does not run, and reads everything when it starts",
                    self.subject
                ));
            }
            (Phase::Down { .. }, Act::Restart) => {}
            (Phase::Idle, _) => {
                return Err(match goal {
                    Goal::Off => format!("host {0} is off; `ha power on {0}` starts it", self.place.host),
                    _ => format!("{} is being stopped", self.subject),
                });
            }
        }
        Ok(())
    }

    /// Writes the run file. What could not be written is tried again.
    fn save(&mut self) {
        if let Phase::Up { running, .. } | Phase::Down { running, .. } = &self.phase {
            let outcome = self.place.write_run(&running.file);
            self.unsaved = outcome.is_err();
            self.note("run file", outcome);
        } else {
            self.unsaved = false;
        }
    }

    fn forget(&mut self) {
        self.unsaved = false;
        let outcome = self.place.remove_run();
        self.note("run file", outcome);
    }

    fn note(&mut self, what: &'static str, outcome: std::io::Result<()>) {
        match outcome {
            Ok(()) => drop(self.troubles.remove(what)),
            Err(error) => {
                let trouble = error.to_string();
                if self.troubles.insert(what, trouble.clone()).as_ref() != Some(&trouble) {
                    self.tell("unit.trouble", "unchanged", Some(what.to_owned()), Some(trouble));
                }
            }
        }
    }

    fn tell(&self, event: &str, status: &str, detail: Option<String>, error: Option<String>) {
        self.shared.events.tell(event, &self.subject, status, detail, error);
    }

    fn publish(&self, turn: u64) {
        self.view.send_replace(View {
            turn,
            status: self.status(),
        });
    }

    fn status(&self) -> UnitStatus {
        let (state, running) = match &self.phase {
            Phase::Idle => (UnitState::Stopped, None),
            Phase::Up { running, ready, .. } => {
                let state = if *ready || self.unit.as_ref().is_none_or(|it| it.ready.is_none()) {
                    UnitState::Ready
                } else {
                    UnitState::Starting
                };
                (state, Some(&running.file))
            }
            Phase::Backoff { .. } => (UnitState::Backoff, None),
            Phase::Down { running, .. } => (UnitState::Stopping, Some(&running.file)),
        };
        let troubles = self.troubles.iter().map(|(what, why)| format!("{what}: {why}"));
        let errors: Vec<String> = self.ended.iter().cloned().chain(troubles).collect();
        let key = |of_file: fn(&ha_core::unit::RunFile) -> &String, of_unit: fn(&Unit) -> &String| {
            running
                .map(of_file)
                .or(self.unit.as_deref().map(of_unit))
                .cloned()
                .unwrap_or_default()
        };
        UnitStatus {
            host: self.place.host.clone(),
            unit: self.place.unit.clone(),
            state,
            pid: running.map(|it| it.pid),
            started_at: running.map(|it| it.started_at),
            restarts: self.restarts,
            last_error: (!errors.is_empty()).then(|| errors.join("\n")),
            restart_key: key(|it| &it.restart_key, |it| &it.restart_key),
            reload_key: key(|it| &it.reload_key, |it| &it.reload_key),
        }
    }
}

fn describe(ended: Option<ExitStatus>) -> String {
    match ended {
        Some(status) => status.to_string(),
        None => "exit status not known, as an earlier supervisor started it".to_owned(),
    }
}

fn signal(signal: StopSignal) -> Signal {
    match signal {
        StopSignal::Term => Signal::TERM,
        StopSignal::Int => Signal::INT,
        StopSignal::Quit => Signal::QUIT,
        StopSignal::Usr1 => Signal::USR1,
        StopSignal::Usr2 => Signal::USR2,
        StopSignal::Hup => Signal::HUP,
    }
}
