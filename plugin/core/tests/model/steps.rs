//! What can happen next. Any of it may also never happen, which is how pauses, crashes and partitions get in.

use ha_core::lsn::Position;

use crate::{
    mutants::Mutant,
    properties::{ONE_ACTIVE, ONE_TIMELINE, PROMISES_STAY, THE_FURTHEST},
    state::{Epoch, Id, InFlight, Link, Past, Phase, Quorum, Role, Rule, Seal, Set, State},
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
            if server.log.is_on_lineage_of(state.at(source).log) {
                if server.link.is_none_or(|it| (it.source, it.epoch) != (source, epoch)) {
                    steps.push(Step::Follow(id, epoch));
                }
            }
            let dropped = !state.term.quorum.voters.has(id)
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

// Epochs.
impl Protocol {
    fn epoch_steps(&self, state: &State, steps: &mut Vec<Step>) {
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

    fn seal(&self, state: &mut State, id: Id) {
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

    fn campaign(&self, state: &mut State, chosen: Option<Id>) {
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
                lsn: ha_core::lsn::Lsn(0),
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

    fn choose(&self, state: &mut State, id: Id) {
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

    fn promote(&self, state: &mut State, id: Id, epoch: Epoch) {
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

    fn publish(&self, state: &mut State, id: Id) {
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

// A planned switchover.
impl Protocol {
    fn switch_steps(&self, state: &State, steps: &mut Vec<Step>) {
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
