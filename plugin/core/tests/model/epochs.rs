//! From one epoch to the next: campaign, seal, choose, promote, publish (protocol §7), and planned (§8).

use ha_core::lsn::{Lsn, Position};

use crate::{
    mutants::Mutant,
    properties::{ONE_ACTIVE, ONE_TIMELINE, THE_FURTHEST},
    state::{Epoch, Id, Past, Phase, Role, Rule, Seal, State},
    steps::{Protocol, Step},
};

impl Protocol {
    pub(crate) fn epoch_steps(&self, state: &State, steps: &mut Vec<Step>) {
        let term = state.term;
        if term.epoch < self.bounds.epochs {
            steps.push(Step::Campaign);
        }
        for id in State::ids() {
            let server = state.at(id);
            if server.promise < term.epoch && self.seals(state, id) {
                steps.push(Step::Seal(id));
            }
            if term.phase == Phase::Sealing && term.chosen.is_none() && self.may_be_chosen(state, id) {
                steps.push(Step::Choose(id));
            }
            if server.role == Role::Standby && !server.log.is_full() {
                let chosen = |epoch: &Epoch| state.past[*epoch as usize].chosen == Some(id);
                let own = (2..=term.epoch).filter(|it| *it >= server.promise && *it > server.epoch);
                steps.extend(own.filter(chosen).map(|epoch| Step::Promote(id, epoch)));
            }
            let sealing = term.phase == Phase::Sealing && term.chosen == Some(id) && server.is_primary_of(term.epoch);
            let stale = self.has(Mutant::PublishWithoutCompare)
                && server.role == Role::Primary
                && !state.past[server.epoch as usize].published;
            if sealing || stale {
                steps.push(Step::Publish(id));
            }
        }
    }

    /// Between the promise and the report a server does less than before the promise, so both are one step. A standby
    /// need not seal any more once one was chosen: to follow that one is a promise, too.
    fn seals(&self, state: &State, id: Id) -> bool {
        match state.at(id).role {
            Role::Standby => state.term.phase == Phase::Sealing && state.term.chosen.is_none(),
            Role::Primary | Role::Stopped | Role::StoppedWritable => true,
            Role::Ruined => self.has(Mutant::ErasedVoterSeals),
        }
    }

    pub(crate) fn seal(&self, state: &mut State, id: Id) {
        let epoch = state.term.epoch;
        let server = state.at_mut(id);
        let link = server
            .link
            .filter(|it| self.has(Mutant::SealKeepsStreaming) || (self.has(Mutant::SealTrustsView) && it.connecting));
        server.promise = epoch;
        server.shut();
        server.link = link;
        server.seal = Some(Seal {
            epoch,
            at: (server.log.timeline(), server.log.len()),
        });
    }

    pub(crate) fn campaign(&self, state: &mut State, chosen: Option<Id>) {
        if !self.has(Mutant::ChangeWithoutEpoch) {
            state.in_flight = None;
        }
        state.term.epoch += 1;
        state.term.phase = Phase::Sealing;
        state.term.chosen = chosen;
        state.past[state.term.epoch as usize] = Past {
            chosen,
            quorum: state.term.quorum,
            published: false,
        };
    }

    /// Some sealed quorum has nobody further than `id`. Which one is up to who reported in time.
    fn may_be_chosen(&self, state: &State, id: Id) -> bool {
        let compare = |position: Position| match self.mutant {
            Some(Mutant::CandidateByLsn) => Position {
                timeline: 0,
                ..position
            },
            Some(Mutant::CandidateByTimeline) => Position {
                lsn: Lsn(0),
                ..position
            },
            _ => position,
        };
        let left_out = |position: Position| {
            self.has(Mutant::UnpublishedLeftOut) && !state.past[position.timeline as usize].published
        };
        let needed = if self.has(Mutant::OneSealIsEnough) {
            1
        } else {
            state.term.quorum.seals_needed()
        };
        furthest_of_some_quorum(state, id, needed, compare, left_out)
    }

    pub(crate) fn choose(&self, state: &mut State, id: Id) {
        let needed = state.term.quorum.seals_needed();
        if !furthest_of_some_quorum(state, id, needed, |it| it, |_| false) {
            state.flaws |= THE_FURTHEST;
        }
        if !self.has(Mutant::ChangeWithoutEpoch) {
            state.in_flight = None;
        }
        state.term.chosen = Some(id);
        state.past[state.term.epoch as usize].chosen = Some(id);
    }

    pub(crate) fn promote(&self, state: &mut State, id: Id, epoch: Epoch) {
        let quorum = state.past[epoch as usize].quorum;
        let again = self.has(Mutant::OldTimelineGoesOn) && state.term.leader == id;
        if State::ids().any(|it| it != id && state.at(it).epoch == epoch) {
            state.flaws |= ONE_TIMELINE;
        }
        let server = state.at_mut(id);
        let timeline = if self.has(Mutant::TimelineNotReserved) {
            server.log.timeline() + 1
        } else {
            epoch
        };
        if !again {
            server.log = server.log.and(timeline, 0);
        }
        server.shut();
        server.role = Role::Primary;
        server.epoch = epoch;
        server.promise = epoch;
        server.rule = quorum.rule(id);
        if self.has(Mutant::NamesAfterPromote) {
            server.rule = Rule::EMPTY;
            server.narrow(quorum.rule(id));
        }
    }

    pub(crate) fn publish(&self, state: &mut State, id: Id) {
        let epoch = state.at(id).epoch;
        let quorum = state.past[epoch as usize].quorum;
        if (epoch..).zip(&state.past[epoch as usize..]).any(|(_, it)| it.published) || epoch < state.term.epoch {
            state.flaws |= ONE_ACTIVE;
        }
        if !self.has(Mutant::ChangeWithoutEpoch) {
            state.in_flight = None;
        }
        state.past[epoch as usize].published = true;
        state.term.epoch = epoch;
        state.term.phase = Phase::Active;
        state.term.leader = id;
        state.term.chosen = None;
        if self.has(Mutant::PublishWithoutCompare) {
            state.term.quorum = quorum;
        }
        state.at_mut(id).known = Some(state.term.quorum);
    }
}

fn furthest_of_some_quorum(
    state: &State,
    id: Id,
    needed: usize,
    compare: impl Fn(Position) -> Position,
    left_out: impl Fn(Position) -> bool,
) -> bool {
    let sealed_at = |id: Id| {
        state
            .at(id)
            .seal
            .filter(|it| it.epoch == state.term.epoch)
            .map(Seal::position)
    };
    let Some(own) = sealed_at(id).filter(|it| !left_out(*it)) else {
        return false;
    };
    let voters = state.term.quorum.voters;
    let no_further = |it: &Id| sealed_at(*it).is_some_and(|it| left_out(it) || compare(it) <= compare(own));
    voters.has(id) && voters.iter().filter(no_further).count() >= needed
}

/// A planned switchover.
impl Protocol {
    pub(crate) fn switch_steps(&self, state: &State, steps: &mut Vec<Step>) {
        let term = state.term;
        let leader = state.at(term.leader);
        match term.phase {
            Phase::Active if state.used.switches < self.bounds.switches => {
                steps.extend(State::ids().filter(|it| *it != term.leader).map(Step::BeginSwitch));
            }
            Phase::Switching { to } => {
                steps.push(Step::UndoSwitch);
                if leader.is_primary_of(term.epoch) {
                    steps.push(Step::StopForSwitch);
                }
                let target = state.at(to);
                if matches!(leader.role, Role::Stopped | Role::StoppedWritable)
                    && target.role == Role::Standby
                    && target.log == leader.log
                    && term.quorum.voters.has(to)
                    && term.epoch < self.bounds.epochs
                {
                    steps.push(Step::HandOver);
                }
            }
            Phase::Active | Phase::Sealing => {}
        }
        let late = self.has(Mutant::UndoneAfterSwap) && term.phase == Phase::Sealing && term.epoch == leader.epoch + 1;
        let undone = term.phase == Phase::Active && term.epoch == leader.epoch;
        if matches!(leader.role, Role::Stopped | Role::StoppedWritable) && (undone || late) {
            steps.push(Step::Resume(term.leader));
        }
    }
}
