//! How the leader changes V and W (protocol §4): published never stronger than enforced.
//!
//! Weaker: publish, then change PostgreSQL. Stronger: change PostgreSQL, see it obeyed, take the barrier, see a
//! remaining voter beyond it, publish. A change that was sent and not answered may still arrive, so names get weaker
//! only on the strength of an answered one.

use crate::{
    mutants::Mutant,
    state::{Id, Phase, Quorum, Role, Rule, Server, Set, State},
    steps::{Protocol, Step},
};

impl Protocol {
    pub(crate) fn change_steps(&self, state: &State, id: Id, steps: &mut Vec<Step>) {
        let server = state.at(id);
        if server.role != Role::Primary {
            return;
        }
        if server.fading.is_some() {
            steps.push(Step::Obey(id));
        }
        if self.bounds.changes == 0 {
            return;
        }
        if let (Some(known), None) = (server.known, server.asked) {
            self.local_steps(state, id, known, steps);
        }
        let term = state.term;
        if term.phase == Phase::Active && term.leader == id && term.epoch == server.epoch {
            if state.used.changes < self.bounds.changes && server.known == Some(term.quorum) && server.asked.is_none() {
                self.asking_steps(state, id, steps);
            }
            if server.known.is_none() || server.asked.is_some() {
                steps.push(Step::Touch(id));
            }
        }
        let remembers = server.known.is_some() || server.asked.is_some() || server.barrier != 0;
        if remembers && state.used.restarts < self.bounds.restarts {
            steps.push(Step::RestartGuard(id));
        }
    }

    /// What the leader does to its own database.
    fn local_steps(&self, state: &State, id: Id, known: Quorum, steps: &mut Vec<Step>) {
        let server = state.at(id);
        let published = known.rule(id);
        if server.fading.is_none() && state.used.changes < self.bounds.changes {
            if known.acks == 0 && server.rule == Rule::EMPTY && !self.has(Mutant::NoCanary) {
                steps.push(Step::Narrow(id, Rule::FENCED));
            }
            let before = if self.has(Mutant::NoCanary) {
                Rule::EMPTY
            } else {
                Rule::FENCED
            };
            if known.acks == 0 && server.rule == before {
                let first = state.streaming_from(id).iter();
                steps.extend(first.map(|it| Step::Narrow(id, Rule::any(Set::of(it)))));
            }
            if server.rule.of.len() > 1 && (known.acks == 0 || server.rule == published) {
                let dropped = server.rule.of.iter().map(|it| server.rule.of.without(it));
                steps.extend(dropped.map(|it| Step::Narrow(id, Rule::any(it))));
            }
        }
        // That walsenders obey new names can be seen; that backends do not obey after empty ones cannot.
        let seems_obeyed =
            server.fading.is_none() || (self.has(Mutant::NoCanary) && server.fading == Some(Rule::EMPTY));
        if seems_obeyed && server.barrier == 0 && server.rule != published && server.rule.of != Set::default() {
            steps.push(Step::Barrier(id));
        }
        if server.rule != published && server.rule.is_as_strong_as(published) {
            steps.push(Step::Widen(id));
        }
    }

    /// What the leader sends to the store.
    fn asking_steps(&self, state: &State, id: Id, steps: &mut Vec<Step>) {
        let (server, now) = (state.at(id), state.term.quorum);
        let mut ask = |voters: Set, acks: u8| steps.push(Step::Ask(id, Quorum { voters, acks }));
        let streaming = state.streaming_from(id);
        if now.acks == 1 {
            ask(Set::of(id), 0);
            for added in streaming.iter().filter(|it| !now.voters.has(*it)) {
                ask(now.voters.with(added), 1);
            }
        }
        let enforced = server.rule.of.with(id);
        let beyond = |it: Id| streaming.has(it) && server.barrier != 0 && state.at(it).log.len() >= server.barrier;
        let obeyed = server.fading.is_none() || self.has(Mutant::NoCanary);
        let safe = obeyed && (server.rule.of.iter().any(beyond) || self.has(Mutant::NoBarrier));
        // Of two names, the one beyond the barrier need not be the one that has the latest acknowledged write; who is no
        // voter may start over. So W = 0 is left with one name.
        let stronger = match now.acks {
            0 => server.rule.of.len() == 1,
            _ => enforced.is_within(now.voters) && enforced != now.voters,
        };
        if server.rule.of != Set::default() && stronger && safe {
            ask(enforced, 1);
        }
        if self.has(Mutant::UpgradePublishedEarly) && now.acks == 0 {
            streaming.iter().for_each(|it| ask(Set::of(id).with(it), 1));
        }
    }

    /// Steps that only exist with a mistake.
    pub(crate) fn wrong_steps(&self, state: &State, id: Id, steps: &mut Vec<Step>) {
        let server = state.at(id);
        let Some(mutant) = self.mutant else {
            return;
        };
        match mutant {
            Mutant::SealTrustsView => {
                if let (Role::Standby, Some(link)) = (server.role, server.link) {
                    steps.push(if link.connecting {
                        Step::Attach(id)
                    } else {
                        Step::Reconnect(id)
                    });
                }
            }
            Mutant::StoppedForSwitchWritable if server.role == Role::StoppedWritable => {
                steps.push(Step::StartByHand(id));
            }
            Mutant::LostAnswerIsFailure if server.asked.is_some() => steps.push(Step::GiveUp(id)),
            Mutant::RereadIsEnough if server.asked.is_some() && state.term.epoch == server.epoch => {
                steps.push(Step::Reread(id));
            }
            Mutant::DegradePublishedLate if server.role == Role::Primary && server.rule != Rule::EMPTY => {
                steps.push(Step::SetWrongNames(id, Rule::EMPTY));
            }
            Mutant::NamesBeforeVoters if server.role == Role::Primary && server.rule.need == 1 => {
                let more = state.streaming_from(id).iter().filter(|it| !server.rule.of.has(*it));
                steps.extend(more.map(|it| Step::SetWrongNames(id, Rule::any(server.rule.of.with(it)))));
            }
            _ => {}
        }
    }
}

impl Server {
    /// Stronger names: until all processes obey them, a commit may still be let through by the old ones.
    pub(crate) fn narrow(&mut self, rule: Rule) {
        self.fading = (!self.rule.is_as_strong_as(rule)).then_some(self.rule);
        self.rule = rule;
        self.barrier = 0;
    }

    /// Weaker names: whatever the old ones let through, these do.
    pub(crate) const fn widen(&mut self, rule: Rule) {
        self.fading = None;
        self.rule = rule;
        self.barrier = 0;
    }
}
