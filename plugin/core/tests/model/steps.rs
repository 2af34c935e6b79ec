//! What can happen next. Any of it may also never happen, which is how pauses, crashes and partitions get in.

use crate::{
    mutants::Mutant,
    properties::PROMISES_STAY,
    state::{Epoch, Id, InFlight, Link, Phase, Quorum, Role, Rule, Set, State},
};

/// How much of everything a search looks at.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bounds {
    pub(crate) writes: u8,
    pub(crate) epochs: u8,
    /// Changes of V and W that were sent to the store.
    pub(crate) changes: u8,
    /// Standbys that attach to an old primary in spite of their promise.
    pub(crate) rogue: u8,
    /// Guards started again, databases started by hand.
    pub(crate) restarts: u8,
    /// Copies erased, for whatever reason.
    pub(crate) rebuilds: u8,
    pub(crate) switches: u8,
}

/// The protocol, or the protocol with one mistake in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Protocol {
    pub(crate) bounds: Bounds,
    pub(crate) mutant: Option<Mutant>,
    pub(crate) start: Quorum,
    /// Standbys may attach to the chosen before it is published.
    pub(crate) early_followers: bool,
    /// A voter whose log left the leader's lineage is rebuilt without being dropped.
    pub(crate) diverged_voters_rebuild: bool,
    /// Count states that differ in names alone as one. Names in a trace then change from step to step.
    pub(crate) symmetry: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// A client writes on a database that runs as a primary, whoever leads.
    Write(Id),
    /// One record reaches a standby and is flushed there.
    Replicate(Id),
    /// The client of this write sees a commit.
    Acknowledge(Id, u8),

    /// `term`: next epoch, phase sealing. By any guard.
    Campaign,
    /// Promise, stop what writes and what streams, report.
    Seal(Id),
    /// `term`: this one is made primary. One swap.
    Choose(Id),
    /// The chosen of an epoch becomes its primary, maybe long after.
    Promote(Id, Epoch),
    /// `term`: active.
    Publish(Id),

    /// Stream from the leader of an epoch, which may be an old one to a guard that has not read `term` lately.
    Follow(Id, Epoch),
    /// Attach to an old primary in spite of a promise, under the name of the promised epoch.
    FollowRogue(Id, Id),
    /// First half of a rewind or clone: the copy is ruined.
    Erase(Id, Epoch),
    /// Second half: it has what its source has.
    Rebuilt(Id, Epoch),

    /// The leader changes names to stronger ones: some processes still obey the old ones.
    Narrow(Id, Rule),
    /// All processes obey the new names; after empty ones a canary is the proof.
    Obey(Id),
    /// The leader notes how far its log goes.
    Barrier(Id),
    /// The leader sends a change of V and W.
    Ask(Id, Quorum),
    /// It arrives, and the answer does or does not.
    Arrive {
        answered: bool,
    },
    /// The leader changes names to the published ones, weaker than before.
    Widen(Id),
    /// `term`: the same again, answered. What was under way before will not arrive any more.
    Touch(Id),
    /// The guard is started again and has only its file.
    RestartGuard(Id),

    BeginSwitch(Id),
    StopForSwitch,
    HandOver,
    UndoSwitch,
    /// The leader starts its database again after a switchover was undone.
    Resume(Id),

    /// Only with the mistakes of the same names.
    Reconnect(Id),
    Attach(Id),
    SetWrongNames(Id, Rule),
    GiveUp(Id),
    Reread(Id),
    StartByHand(Id),
}

impl Protocol {
    pub(crate) const fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            mutant: None,
            start: Quorum {
                voters: Set::ALL,
                acks: 1,
            },
            early_followers: false,
            diverged_voters_rebuild: false,
            symmetry: true,
        }
    }

    pub(crate) fn has(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    pub(crate) fn steps(&self, state: &State, steps: &mut Vec<Step>) {
        self.epoch_steps(state, steps);
        self.switch_steps(state, steps);
        for id in State::ids() {
            self.client_steps(state, id, steps);
            self.standby_steps(state, id, steps);
            self.change_steps(state, id, steps);
            self.wrong_steps(state, id, steps);
        }
        if state.in_flight.is_some() {
            steps.extend([Step::Arrive { answered: true }, Step::Arrive { answered: false }]);
        }
    }

    /// The state after `step`; `step` is one of [`Self::steps`].
    pub(crate) fn after(&self, state: &State, step: Step) -> State {
        let mut next = *state;
        next.flaws = 0;
        self.take(&mut next, step);
        if self.has(Mutant::ErasedByOldTerm) {
            for id in State::ids() {
                next.at_mut(id).was_dropped |= !next.term.quorum.voters.has(id);
            }
        }
        for (before, after) in state.servers.iter().zip(&next.servers) {
            if after.promise < before.promise {
                next.flaws |= PROMISES_STAY;
            }
        }
        if self.symmetry { next.canonical() } else { next }
    }

    fn take(&self, state: &mut State, step: Step) {
        match step {
            Step::Write(id) => {
                state.used.writes += 1;
                let (write, server) = (state.used.writes, state.at_mut(id));
                server.log = server.log.and(server.log.timeline(), write);
            }
            Step::Replicate(id) => {
                if let Some(link) = state.at(id).link {
                    let source = state.at(link.source).log;
                    let server = state.at_mut(id);
                    server.log = server.log.streamed_from(source);
                }
            }
            Step::Acknowledge(_, write) => state.acknowledged |= 1 << write,

            Step::Campaign => self.campaign(state, None),
            Step::Seal(id) => self.seal(state, id),
            Step::Choose(id) => self.choose(state, id),
            Step::Promote(id, epoch) => self.promote(state, id, epoch),
            Step::Publish(id) => self.publish(state, id),

            Step::Follow(id, epoch) => self.follow(state, id, epoch),
            Step::FollowRogue(id, source) => {
                state.used.rogue += 1;
                let server = state.at_mut(id);
                server.link = Some(Link {
                    source,
                    epoch: server.promise,
                    connecting: false,
                });
            }
            Step::Erase(id, _) => self.erase(state, id),
            Step::Rebuilt(id, epoch) => {
                if let Some(source) = state.past[epoch as usize].chosen {
                    state.at_mut(id).log = state.at(source).log;
                    state.at_mut(id).role = Role::Standby;
                    self.follow(state, id, epoch);
                }
            }

            Step::Narrow(id, rule) => state.at_mut(id).narrow(rule),
            Step::Obey(id) => state.at_mut(id).fading = None,
            Step::Barrier(id) => state.at_mut(id).barrier = state.at(id).log.len(),
            Step::Ask(id, quorum) => {
                state.used.changes += 1;
                state.in_flight = Some(InFlight { by: id, quorum });
                state.at_mut(id).asked = Some(quorum);
            }
            Step::Arrive { answered } => arrive(state, answered),
            Step::Widen(id) | Step::SetWrongNames(id, Rule::EMPTY) => {
                let published = state.at(id).known.map_or(Rule::EMPTY, |it| it.rule(id));
                let rule = if step == Step::Widen(id) {
                    published
                } else {
                    Rule::EMPTY
                };
                state.at_mut(id).widen(rule);
            }
            Step::SetWrongNames(id, rule) => state.at_mut(id).widen(rule),
            Step::Touch(id) => {
                state.in_flight = None;
                let quorum = state.term.quorum;
                let server = state.at_mut(id);
                server.known = Some(quorum);
                server.asked = None;
            }
            Step::RestartGuard(id) => {
                state.used.restarts += 1;
                let server = state.at_mut(id);
                server.forget();
                if self.has(Mutant::PromiseInMemory) {
                    server.promise = 0;
                }
            }

            Step::BeginSwitch(to) => {
                state.used.switches += 1;
                state.in_flight = None;
                state.term.phase = Phase::Switching { to };
            }
            Step::StopForSwitch => {
                let leader = state.at_mut(state.term.leader);
                leader.forget();
                leader.fading = None;
                leader.role = Role::Stopped;
                if self.has(Mutant::StoppedForSwitchWritable) {
                    leader.role = Role::StoppedWritable;
                }
            }
            Step::HandOver => {
                if let Phase::Switching { to } = state.term.phase {
                    self.campaign(state, Some(to));
                }
            }
            Step::UndoSwitch => {
                state.in_flight = None;
                state.term.phase = Phase::Active;
            }
            Step::Resume(id) => {
                let rule = state.term.quorum.rule(id);
                let server = state.at_mut(id);
                server.role = Role::Primary;
                server.rule = rule;
            }

            Step::Reconnect(id) | Step::Attach(id) => {
                if let Some(link) = &mut state.at_mut(id).link {
                    link.connecting = matches!(step, Step::Reconnect(_));
                }
            }
            Step::GiveUp(id) => state.at_mut(id).asked = None,
            Step::Reread(id) => {
                let quorum = state.term.quorum;
                let server = state.at_mut(id);
                server.known = Some(quorum);
                server.asked = None;
            }
            Step::StartByHand(id) => {
                state.used.restarts += 1;
                state.at_mut(id).role = Role::Primary;
            }
        }
    }
}

// Clients and streams.
impl Protocol {
    fn client_steps(&self, state: &State, id: Id, steps: &mut Vec<Step>) {
        let server = state.at(id);
        if server.role != Role::Primary {
            return;
        }
        if state.used.writes < self.bounds.writes && !server.log.is_full() {
            steps.push(Step::Write(id));
        }
        for (timeline, write) in server.log.writes() {
            if timeline == server.log.timeline()
                && state.acknowledged & 1 << write == 0
                && server.obeyed().any(|rule| self.is_satisfied(state, id, rule, write))
            {
                steps.push(Step::Acknowledge(id, write));
            }
        }
    }

    /// PostgreSQL: enough of the listed names have flushed it.
    fn is_satisfied(&self, state: &State, primary: Id, rule: Rule, write: u8) -> bool {
        let by_epoch = !self.has(Mutant::NamesWithoutEpoch);
        let flushed = rule
            .of
            .iter()
            .filter(|id| state.counts_for(*id, primary, by_epoch) && state.at(*id).log.end_of(write).is_some());
        flushed.count() >= usize::from(rule.need)
    }

    fn standby_steps(&self, state: &State, id: Id, steps: &mut Vec<Step>) {
        let server = state.at(id);
        match server.role {
            Role::Standby => {}
            Role::Ruined => {
                steps.extend(self.leaders_known_to(state, id).map(|epoch| Step::Rebuilt(id, epoch)));
                return;
            }
            Role::Primary | Role::Stopped | Role::StoppedWritable => return,
        }
        if let Some(link) = server.link.filter(|it| !it.connecting) {
            let source = state.at(link.source);
            if source.role == Role::Primary
                && server.log.len() < source.log.len()
                && server.log.is_on_lineage_of(source.log)
            {
                steps.push(Step::Replicate(id));
            }
        }
        for epoch in self.leaders_known_to(state, id) {
            let source = state.past[epoch as usize].chosen.unwrap_or(id);
            let elsewhere = server.link.is_none_or(|it| (it.source, it.epoch) != (source, epoch));
            if elsewhere && server.log.is_on_lineage_of(state.at(source).log) {
                steps.push(Step::Follow(id, epoch));
            }
            let dropped = !state.term.quorum.voters.has(id)
                || (self.diverged_voters_rebuild && !server.log.is_on_lineage_of(state.at(source).log))
                || self.has(Mutant::ErasedVoter)
                || self.has(Mutant::ErasedVoterSeals)
                || (self.has(Mutant::ErasedByOldTerm) && server.was_dropped);
            if state.used.rebuilds < self.bounds.rebuilds && dropped {
                steps.push(Step::Erase(id, epoch));
            }
        }
        if state.used.rogue < self.bounds.rogue {
            let old = State::ids().filter(|it| {
                let source = state.at(*it);
                *it != id
                    && source.role == Role::Primary
                    && source.epoch < server.promise
                    && server.log.is_on_lineage_of(source.log)
            });
            steps.extend(old.map(|it| Step::FollowRogue(id, it)));
        }
    }

    /// The epochs whose leader this guard may believe in, and finds there: all that were ever published, as it may have
    /// read `term` at any time, except those it promised to leave.
    fn leaders_known_to(&self, state: &State, id: Id) -> impl Iterator<Item = Epoch> {
        let promise = state.at(id).promise;
        (1..=state.term.epoch).filter(move |epoch| {
            let past = state.past[*epoch as usize];
            *epoch >= promise
                && (past.published || self.early_followers)
                && past
                    .chosen
                    .is_some_and(|it| it != id && state.at(it).is_primary_of(*epoch))
        })
    }

    fn follow(&self, state: &mut State, id: Id, epoch: Epoch) {
        let Some(source) = state.past[epoch as usize].chosen else {
            return;
        };
        let server = state.at_mut(id);
        server.link = Some(Link {
            source,
            epoch,
            connecting: false,
        });
        // Whoever streams for an epoch has left the earlier ones: a later rewind by an old copy of `term` would take
        // away what was acknowledged.
        server.promise = epoch;
    }

    /// It stops streaming first, reads `term` after that, and says in its member record that it starts over; who adds
    /// it as a voter compares that record.
    fn erase(&self, state: &mut State, id: Id) {
        state.used.rebuilds += 1;
        let server = state.at_mut(id);
        server.role = Role::Ruined;
        server.link = None;
        server.seal = None;
        server.log = crate::state::Log::default();
        if !self.has(Mutant::AddWithoutComparingMember) {
            state.in_flight = state.in_flight.filter(|it| !it.quorum.voters.has(id));
        }
    }
}

fn arrive(state: &mut State, answered: bool) {
    let Some(InFlight { by, quorum }) = state.in_flight.take() else {
        return;
    };
    state.term.quorum = quorum;
    let sender = state.at_mut(by);
    if answered && sender.asked == Some(quorum) {
        sender.known = Some(quorum);
        sender.asked = None;
    }
}
