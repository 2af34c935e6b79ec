//! The guard's cycle: looks, decides, acts. One task; nothing in it waits for anything but the next reason to look.
//!
//! Changes of the store and the one job on the database run in tasks of their own. What they changed is seen by the
//! next look, and decided on like anything else: no result is carried from here to there.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use ha_core::{
    agreement::{Epoch, Follows, Need, Node, Verdict},
    decide::{Action, Decision, Facts, Job, Process, Settings, decide},
    report::NodeRole,
};
use tokio::{
    task::{JoinHandle, JoinSet},
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::{
    Guard, acts,
    agreement::{Answer, Look, MemberDraft, Swapped, votes::Stream},
    facts::{self, Around, Snapshot},
    jobs::{self, Task},
    news::{Change, News},
    state::Decided,
};

/// After something that failed; it doubles for each time in a row.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// A change of the store that did not take effect is not tried again sooner.
const SWAP_WAIT: Duration = Duration::from_millis(100);
/// The same decision is told again after so long.
const TOLD: Duration = Duration::from_secs(60);

struct Running {
    action: Action,
    job: Job,
    began: Instant,
    task: JoinHandle<anyhow::Result<()>>,
}

/// Job failures in a row, of the same kind.
#[derive(Default)]
struct Failures {
    name: String,
    times: u32,
    not_before: Option<Instant>,
}

/// What the cycle remembers of itself: nothing that decisions rest on.
struct Cycle {
    guard: Arc<Guard>,
    settings: Settings,
    running: Option<Running>,
    failures: Failures,
    swaps: JoinSet<(Action, Swapped)>,
    /// Kinds of changes that are under way: a renewal, and one change of the term.
    under_way: HashSet<&'static str>,
    hold_off: HashMap<&'static str, Instant>,
    told: HashMap<String, Instant>,
    /// When the database was last being brought back.
    restarting: Option<Instant>,
    news: News,
}

/// Decides until cancelled. The job that runs then is dropped.
pub(super) async fn run(guard: Arc<Guard>, cancel: CancellationToken) {
    let mut agreed = guard.agreement.changed();
    let mut voted = guard.votes.changed();
    let renew = guard.state.config.failover.timing.renew;
    let mut ticks = interval(renew / 2);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut cycle = Cycle {
        settings: facts::settings(&guard.state.config),
        guard: Arc::clone(&guard),
        running: None,
        failures: Failures::default(),
        swaps: JoinSet::new(),
        under_way: HashSet::new(),
        hold_off: HashMap::new(),
        told: HashMap::new(),
        restarting: None,
        news: News::default(),
    };
    loop {
        tokio::select! {
            () = cancel.cancelled() => break,
            _ = agreed.changed() => {}
            _ = voted.changed() => {}
            () = guard.state.wake.notified() => {}
            _ = ticks.tick() => {}
            ended = ended(&mut cycle.running) => cycle.job_ended(ended),
            Some(swapped) = cycle.swaps.join_next() => if let Ok((action, swapped)) = swapped {
                cycle.swapped(&action, swapped);
            },
        }
        cycle.turn().await;
    }
    if let Some(running) = cycle.running.take() {
        running.task.abort();
        let _ = running.task.await;
    }
}

/// How the job ended; never, without one.
async fn ended(running: &mut Option<Running>) -> anyhow::Result<()> {
    match running {
        Some(running) => match (&mut running.task).await {
            Ok(done) => done,
            Err(error) if error.is_cancelled() => Ok(()),
            Err(error) => Err(anyhow::anyhow!("the job ended unexpectedly: {error}")),
        },
        None => std::future::pending().await,
    }
}

impl Cycle {
    /// Looks, decides, and has it done.
    async fn turn(&mut self) {
        let guard = Arc::clone(&self.guard);
        let state = &guard.state;
        let look = guard.agreement.look();
        let mut snapshot = state.snapshot();
        if let Some(need) = self.asked(&look) {
            snapshot.need = Some(need);
        }
        let around = Around {
            store: look.view.clone(),
            promise: guard.agreement.promise(),
            lease: guard.agreement.holding(),
            votes: guard.votes.current(),
            busy: self.running.as_ref().map(|it| it.job),
        };
        let facts = facts::assemble(&self.settings, around, &snapshot);
        let decision = facts.as_ref().map(decide).unwrap_or_default();
        if snapshot.need.is_none()
            && let Some(need) = decision.need.as_ref().filter(|it| it.copy)
        {
            // A log that no campaign made stays one, also when its timeline's number is given to another.
            state.memory.set_need(Some(need.clone()));
        }
        let doing = self.running.as_ref().map(|it| jobs::name(&it.action));
        state.decide(Decided {
            decision: decision.clone(),
            at: Some(Instant::now()),
            epoch: look.view.term.as_ref().map(|term| term.epoch),
            doing: doing.clone(),
        });
        self.limit(&decision, &snapshot);
        if let Some(facts) = &facts {
            if decision.may_write {
                self.restarting = Some(Instant::now());
            }
            // Those who saw it down need a moment to see that it is back.
            let detect = self.settings.timing.detect();
            let restarting = self.restarting.is_some_and(|at| at.elapsed() < detect);
            let told = draft(facts, &decision, &snapshot, doing);
            guard.agreement.report(MemberDraft { restarting, ..told });
            let term = facts.term();
            let quick = term.is_some_and(|term| !term.is_active(&term.leader)) || barrier_is_awaited(&decision);
            state
                .quick
                .send_if_modified(|now| std::mem::replace(now, quick) != quick);
        }
        self.vote(&snapshot);
        self.tell(&decision);
        // A folder is opened only once it is known to be this cluster's.
        let known = snapshot.pid.is_some() || state.expected().is_some() || look.view.term.is_none();
        for act in &decision.acts {
            if act.action.is_job() && !known {
                continue;
            }
            if act.action.is_job() {
                self.job(&act.action, &act.why, &look).await;
            } else {
                self.swap(&act.action, &act.why, &look);
            }
        }
    }

    /// What a person asks of this guard is a need, unless this node leads.
    fn asked(&self, look: &Look) -> Option<Need> {
        let guard = &self.guard;
        let ask = guard.agreement.asked()?;
        let node = &guard.state.config.node;
        let leads = look.view.term.as_ref().is_some_and(|term| term.is_active(node));
        if leads {
            let why = format!("{node} is the primary: the others follow it");
            guard.agreement.answer(&ask, Answer::Refused(why));
            return None;
        }
        ask.need()
    }

    /// The deadman is told how long the primary may go on without another decision.
    fn limit(&self, decision: &Decision, snapshot: &Snapshot) {
        let harmless = snapshot.pid.is_none()
            || snapshot
                .report
                .as_ref()
                .is_some_and(|it| it.role == Some(NodeRole::Replica));
        let told = match (decision.allowed, snapshot.pid) {
            (Some(allowed), Some(pid)) => self.guard.deadline.allow(allowed, pid),
            _ if harmless => self.guard.deadline.disarm(),
            // It is to be fenced, and may be a primary until that is done: the deadline stays where it was.
            _ => Ok(()),
        };
        if let Err(error) = told {
            tracing::warn!(%error, "the deadman cannot be told how long the primary may go on");
        }
    }

    /// What this guard's own eyes see of its database and of the one it follows.
    fn vote(&self, snapshot: &Snapshot) {
        let (own, stream) = eyes(&self.settings, snapshot);
        self.guard
            .own
            .send_if_modified(|now| std::mem::replace(now, own) != own);
        self.guard.stream.send_replace(stream);
    }

    fn swap(&mut self, action: &Action, why: &str, look: &Look) {
        let kind = if *action == Action::Renew { "renew" } else { "term" };
        let early = self.hold_off.get(kind).is_some_and(|until| Instant::now() < *until);
        if early || !self.under_way.insert(kind) {
            return;
        }
        if kind != "renew" {
            self.announce(action, why, look);
        }
        let (guard, action, look) = (Arc::clone(&self.guard), action.clone(), look.clone());
        let why = why.to_owned();
        self.swaps.spawn(async move {
            let swapped = acts::act(&guard, &look, &action, &why).await;
            (action, swapped)
        });
    }

    fn swapped(&mut self, action: &Action, swapped: Swapped) {
        let kind = if *action == Action::Renew { "renew" } else { "term" };
        self.under_way.remove(kind);
        let name = jobs::name(action);
        let node = &self.guard.state.config.node;
        match swapped {
            Swapped::Done if kind == "renew" => {}
            Swapped::Done => self.guard.state.events.write("term", node, "agreed", Some(name), None),
            // The next look is another one.
            Swapped::Changed => tracing::debug!(action = name, "the store had changed meanwhile"),
            Swapped::Unknown(why) | Swapped::Failed(why) => {
                tracing::debug!(action = name, why, "not agreed");
                self.hold_off.insert(kind, Instant::now() + SWAP_WAIT);
            }
        }
    }

    async fn job(&mut self, action: &Action, why: &str, look: &Look) {
        let fence = matches!(action, Action::Fence | Action::Disown);
        if let Some(running) = &self.running {
            if !fence || running.job == Job::Stop {
                return;
            }
            // Whatever it was at, the processes end now; whoever decides next sees how far it came.
            running.task.abort();
            let _ = ended(&mut self.running).await;
            self.running = None;
        }
        let name = jobs::name(action);
        let soon = self.failures.name == name && self.failures.not_before.is_some_and(|at| Instant::now() < at);
        if soon && !fence {
            return;
        }
        self.announce(action, why, look);
        let (guard, look, work) = (Arc::clone(&self.guard), look.clone(), action.clone());
        let task = tokio::spawn(async move {
            let done = Task { guard: &guard, look }.run(&work).await;
            // What is decided next rests on a look that is younger than this work.
            guard.state.look_again().await;
            done
        });
        self.running = Some(Running {
            action: action.clone(),
            job: jobs::kind(action),
            began: Instant::now(),
            task,
        });
    }

    fn job_ended(&mut self, done: anyhow::Result<()>) {
        let Some(running) = self.running.take() else { return };
        let name = jobs::name(&running.action);
        let took = running.began.elapsed();
        let (events, node) = (&self.guard.state.events, &self.guard.state.config.node);
        match done {
            Ok(()) => {
                tracing::info!(job = name, ?took, "done");
                self.failures = Failures::default();
            }
            Err(error) => {
                let why = format!("{error:#}");
                if self.failures.name != name {
                    self.failures = Failures {
                        name: name.clone(),
                        ..Failures::default()
                    };
                }
                // The same reason again and again is told as the first one was.
                if self.failures.times == 0 {
                    events.write("job", node, "failed", Some(name.clone()), Some(why.clone()));
                }
                tracing::warn!(job = name, ?took, why, "failed");
                let wait = FIRST_WAIT * 2_u32.saturating_pow(self.failures.times.min(8));
                self.failures.times += 1;
                self.failures.not_before = Some(Instant::now() + wait.min(LONGEST_WAIT));
            }
        }
    }

    /// A decision that changes something is an event, once.
    fn announce(&mut self, action: &Action, why: &str, look: &Look) {
        let name = jobs::name(action);
        let epoch = look.view.term.as_ref().map_or(0, |term| term.epoch);
        let key = format!("{epoch} {name}");
        self.told.retain(|_, at| at.elapsed() < TOLD);
        if self.told.contains_key(&key) {
            return;
        }
        self.told.insert(key, Instant::now());
        let node = &self.guard.state.config.node;
        let why = Some(why.to_owned());
        self.guard.state.events.write("cycle.decided", node, &name, why, None);
    }

    /// What stands is an event when it begins and when it ends; what passes at once is none.
    fn tell(&mut self, decision: &Decision) {
        let (events, node) = (&self.guard.state.events, &self.guard.state.config.node);
        for change in self.news.look(decision, Instant::now()) {
            match change {
                Change::Blocked { why, detail } => {
                    events.write("failover.blocked", node, "blocked", Some(detail), Some(why));
                }
                Change::Clear => events.write("failover.blocked", node, "clear", None, None),
                Change::Raised { name, why } => events.write("alert", name, "raised", None, Some(why)),
                Change::Cleared { name } => events.write("alert", name, "cleared", None, None),
            }
        }
    }
}

/// The next step waits for something that shows in looks only.
fn barrier_is_awaited(decision: &Decision) -> bool {
    decision
        .blocked
        .as_ref()
        .is_some_and(|it| it.code.starts_with("ha::sync::"))
}

fn draft(facts: &Facts, decision: &Decision, snapshot: &Snapshot, doing: Option<String>) -> MemberDraft {
    let database = &facts.database;
    MemberDraft {
        state: snapshot.report.as_ref().map_or(snapshot.state, |it| it.state),
        detail: snapshot.detail.clone(),
        role: database.role,
        position: database.sealed.map(|it| it.position).max(database.position),
        replayed: database.replayed,
        sealed: database.sealed,
        follows: follows(database.follows.clone(), database.streaming),
        checkpointed: database
            .checkpointed
            .filter(|_| database.role == Some(NodeRole::Primary)),
        need: decision.need.clone(),
        restarting: decision.may_write,
        stopped: !decision.may_write
            && matches!(
                database.process,
                Process::Stopped { .. } | Process::Absent | Process::Ruined
            ),
        votes: facts.votes.clone(),
        doing,
        blocked: decision.blocked.as_ref().map(|it| it.why.clone()),
    }
}

fn follows(follows: Option<(Node, Epoch)>, streaming: bool) -> Option<Follows> {
    follows.map(|(node, epoch)| Follows { node, epoch, streaming })
}

/// What this guard says of its own database, and what its replica hears of the primary.
fn eyes(settings: &Settings, snapshot: &Snapshot) -> (Verdict, Option<Stream>) {
    let stall = settings.policy.stall_limit;
    let waiting = snapshot.report.as_ref().is_some_and(|it| it.waiting > 0);
    // A commit that waits for a replica waits as it should.
    let stalled = snapshot.canary.is_some_and(|since| since >= stall) && !waiting;
    let own = match snapshot.process {
        None => Verdict::Unknown,
        Some(Process::Running) if snapshot.fresh && !stalled => Verdict::Up,
        Some(_) => Verdict::Down,
    };
    let stream = snapshot.follows.clone().and_then(|(node, epoch)| {
        let report = snapshot.report.as_ref().filter(|_| snapshot.fresh)?;
        let silence = report.upstream_silence.map(|silence| silence + snapshot.age);
        Some(Stream {
            node,
            epoch,
            silence,
            progressing: silence.is_some_and(|silence| silence <= settings.timing.stream_patience()),
        })
    });
    (own, stream)
}
