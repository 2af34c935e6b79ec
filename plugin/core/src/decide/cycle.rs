//! Who has the word: the first of these that applies.

use super::{
    Facts, Process,
    action::{Act, Action, Blocked, Decision},
    facts::Job,
    leader, replica, sealing,
};
use crate::{
    agreement::{Phase, Term},
    report::NodeRole,
};

/// What this guard does now.
pub fn decide(facts: &Facts) -> Decision {
    let mut cycle = Cycle::new(facts);
    cycle.run();
    cycle.decision
}

pub(super) struct Cycle<'a> {
    pub(super) facts: &'a Facts,
    pub(super) decision: Decision,
}

impl<'a> Cycle<'a> {
    fn new(facts: &'a Facts) -> Self {
        Self {
            facts,
            decision: Decision::default(),
        }
    }

    fn run(&mut self) {
        let store = &self.facts.store;
        let promise = self.facts.promise;
        if let Some(why) = &store.went_back {
            return self.freeze(why);
        }
        let Some(term) = self.facts.term() else {
            return self.without_term();
        };
        if term.epoch < promise.epoch {
            let why = format!(
                "the store says epoch {}, and this node promised itself to {}",
                term.epoch, promise.epoch
            );
            return self.freeze(&why);
        }
        match term.phase {
            Phase::Sealing => sealing::run(self, term),
            Phase::Active | Phase::Switching if term.leader == self.facts.me() => leader::run(self, term),
            Phase::Active | Phase::Switching => replica::run(self, term),
        }
    }

    /// The store was restored from an old copy, or is another one: whatever it says of who leads is not to be acted on.
    /// A primary whose replicas still stream goes on (their streaming proves that no later epoch is active).
    fn freeze(&mut self, why: &str) {
        self.alert("StoreWentBack", why.to_owned());
        self.block(
            "ha::store::went_back",
            format!("nothing is done: {why}"),
            "restore the store from a newer copy, or see the README on a store that was lost; `ha quorum` shows what each guard remembers",
        );
        self.without_store();
    }

    fn without_term(&mut self) {
        let (store, database) = (&self.facts.store, &self.facts.database);
        if !store.answers {
            return self.without_store();
        }
        let me = self.facts.me().to_owned();
        match (database.process, database.role) {
            (Process::Running, Some(NodeRole::Primary)) if store.founder => {
                self.act(Action::Found, format!("{me} made the cluster and nobody leads it yet"));
            }
            (Process::Stopped { .. }, _) if store.founder => {
                let names = crate::agreement::FENCED_NAMES.to_owned();
                let why = "the cluster was made here and nobody leads it yet".to_owned();
                self.act(Action::StartPrimary { names }, why);
            }
            _ => {}
        }
    }

    /// Nothing is known of the present term. What runs goes on while it can be seen to be safe.
    fn without_store(&mut self) {
        let database = &self.facts.database;
        if (database.process, database.role) != (Process::Running, Some(NodeRole::Primary)) {
            self.decision.serve.replica = database.streaming;
            return;
        }
        let epoch = self.facts.promise.promoted;
        let strict = database.names.as_ref().is_some_and(|names| !names.is_empty());
        let patience = self.facts.settings.timing.sender_patience();
        if strict && !self.facts.streaming(epoch).is_empty() {
            self.decision.serve.primary = true;
            self.decision.allowed = Some(patience);
            return;
        }
        let left = self.facts.lease.left.filter(|_| self.facts.lease.epoch == epoch);
        match left {
            Some(left) if !left.is_zero() => {
                self.decision.serve.primary = true;
                self.decision.allowed = Some(left);
            }
            // A guard that has just started knows nothing yet; the deadman still knows the old deadline.
            _ if self.facts.store.silence < self.facts.settings.timing.hold => {
                self.decision.allowed = Some(self.facts.settings.timing.hold - self.facts.store.silence);
            }
            _ => self.act(
                Action::Fence,
                "the store has not answered since this guard started, and no replica streams".to_owned(),
            ),
        }
    }

    /// Adds an action, unless the database is busy with another one. A fence does not wait.
    pub(super) fn act(&mut self, action: Action, why: impl Into<String>) {
        let fence = matches!(action, Action::Fence | Action::Disown);
        if action.is_job() {
            let another = self.decision.acts.iter().any(|act| act.action.is_job());
            if another || (self.facts.busy.is_some() && !(fence && self.facts.busy != Some(Job::Stop))) {
                return;
            }
        }
        self.decision.acts.push(Act {
            action,
            why: why.into(),
        });
    }

    pub(super) fn block(&mut self, code: &'static str, why: impl Into<String>, help: impl Into<String>) {
        // The first reason is the deepest.
        if self.decision.blocked.is_none() {
            self.decision.blocked = Some(Blocked {
                code,
                why: why.into(),
                help: help.into(),
            });
        }
    }

    pub(super) fn alert(&mut self, name: &'static str, text: String) {
        self.decision.alerts.push((name, text));
    }

    /// An operator said that nothing is to happen by itself. Says so where something would have.
    pub(super) fn paused(&mut self, what: &str) -> bool {
        let Some(pause) = &self.facts.store.pause else {
            return false;
        };
        let why = format!("{what}, and {} paused the guards: {}", pause.by, pause.why);
        self.block("ha::failover::paused", why, "`ha resume` lets them act");
        true
    }

    /// The primary that runs here was promoted by a campaign, which its guard wrote down before (the store, where a person
    /// was the witness), or made with the cluster.
    pub(super) fn made_here(&self, term: &Term) -> bool {
        let timeline = self.facts.database.position.map_or(0, |it| it.timeline);
        let first = term.lineage.first().map_or(term.timeline, |it| it.timeline);
        timeline <= first
            || crate::agreement::Epoch::from(timeline) == self.facts.promise.promoted
            || term.gave(timeline, self.facts.me())
    }

    /// This node holds a log that no campaign made.
    pub(super) fn orphan(&self, term: &Term) -> Option<String> {
        let position = self
            .facts
            .database
            .sealed
            .map(|it| it.position)
            .or(self.facts.database.position)?;
        let timeline = position.timeline;
        let known = timeline == term.timeline
            || term.lineage.iter().any(|it| it.timeline == timeline)
            || crate::agreement::Epoch::from(timeline) == self.facts.promise.promoted
            || term.gave(timeline, self.facts.me());
        (!known).then(|| format!("it is on timeline {timeline}, which no campaign made"))
    }
}
