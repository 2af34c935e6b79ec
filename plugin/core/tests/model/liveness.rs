//! I10: once faults stop, with enough voters up, a writable primary returns.
//!
//! Anything happens first, as in the other checks. Then it is calm: at most one server stays away for good, and the
//! others take only the steps that a guard takes by itself. Every way through the calm must come to an end, and at the
//! end commits must be acknowledged.

use stateright::{Model, Property};

use crate::{
    state::{Id, Phase, Role, Rule, Set, State},
    steps::{Protocol, Step},
};

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Weather {
    pub(crate) state: State,
    /// Who is up, once it is calm.
    pub(crate) calm: Option<Set>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Event {
    Step(Step),
    Calm(Set),
}

pub(crate) struct Recovery {
    pub(crate) storm: Protocol,
    calm: Protocol,
}

pub(crate) const I10: &str = "I10 a writable primary returns";

impl Recovery {
    pub(crate) fn new(storm: Protocol) -> Self {
        let mut calm = storm;
        calm.symmetry = false;
        calm.bounds.epochs = crate::state::EPOCHS as u8;
        calm.bounds.changes = u8::MAX;
        calm.bounds.rebuilds = u8::MAX;
        Self { storm, calm }
    }

    /// R voters with a whole copy, and as many as a commit needs; also by what is on its way to the store.
    fn is_enough(state: &State, up: Set) -> bool {
        let whole = |it: &Id| up.has(*it) && state.at(*it).role != Role::Ruined;
        let quorums = [Some(state.term.quorum), state.in_flight.map(|it| it.quorum)];
        quorums.into_iter().flatten().all(|quorum| {
            quorum.voters.iter().filter(whole).count() >= quorum.seals_needed().max(usize::from(quorum.acks) + 1)
        })
    }

    /// The steps that guards take by themselves.
    fn calm_steps(&self, state: &State, up: Set) -> Vec<Step> {
        let mut all = Vec::new();
        self.calm.steps(state, &mut all);
        all.retain(|step| is_taken(state, up, *step));
        all
    }
}

fn rebuilds(state: &State, id: Id) -> bool {
    let (server, leader) = (state.at(id), state.at(state.term.leader));
    server.role == Role::Ruined || (server.role == Role::Standby && !server.log.is_on_lineage_of(leader.log))
}

fn is_writable(state: &State, up: Set) -> bool {
    let leader = state.at(state.term.leader);
    let streaming = state.streaming_from(state.term.leader);
    let acknowledging = leader.rule.of.iter().filter(|it| up.has(*it) && streaming.has(*it));
    state.term.phase == Phase::Active
        && up.has(state.term.leader)
        && leader.is_primary_of(state.term.epoch)
        && acknowledging.count() >= usize::from(leader.rule.need)
}

fn is_taken(state: &State, up: Set, step: Step) -> bool {
    let term = state.term;
    let leader = state.at(term.leader);
    let active = term.phase == Phase::Active;
    let dropped = |rule: Rule| {
        term.quorum
            .voters
            .without(term.leader)
            .iter()
            .any(|it| !rule.of.has(it) && up.has(it) && rebuilds(state, it))
    };
    let answers = |rule: Rule| rule.of.iter().all(|it| up.has(it));
    let narrows = |rule: Rule| match term.quorum.acks {
        0 => rule.of.len() < 2 && answers(rule),
        _ => dropped(rule),
    };
    // Names of somebody who is gone are given up; where commits wait for nobody, they begin anew from there.
    let widens = |published: u8| match published {
        0 => !answers(leader.rule),
        _ => !dropped(leader.rule),
    };
    match step {
        Step::Campaign => match (term.phase, term.chosen) {
            (Phase::Active, _) => !up.has(term.leader) || leader.role == Role::Standby,
            (Phase::Switching { .. }, _) => !up.has(term.leader),
            (Phase::Sealing, Some(chosen)) => !up.has(chosen) || state.at(chosen).promise > term.epoch,
            (Phase::Sealing, None) => false,
        },
        Step::Seal(id) | Step::Choose(id) | Step::Publish(id) => up.has(id),
        Step::Promote(id, epoch) => up.has(id) && epoch == term.epoch && term.chosen == Some(id),
        Step::Replicate(id) => up.has(id) && state.at(id).link.is_some_and(|it| up.has(it.source)),
        Step::Follow(id, epoch) => active && epoch == term.epoch && up.has(id) && up.has(term.leader),
        Step::Erase(id, epoch) => {
            active && epoch == term.epoch && up.has(id) && up.has(term.leader) && rebuilds(state, id)
        }
        Step::Rebuilt(id, epoch) => active && epoch == term.epoch && up.has(id) && up.has(term.leader),
        Step::UndoSwitch => up.has(term.leader),
        Step::Resume(id) | Step::Obey(id) | Step::Barrier(id) | Step::Touch(id) => up.has(id),
        Step::Narrow(id, rule) => id == term.leader && up.has(id) && narrows(rule),
        Step::Ask(id, quorum) => up.has(id) && quorum.acks == 1,
        Step::Widen(id) => up.has(id) && id == term.leader && leader.known.is_some_and(|it| widens(it.acks)),
        Step::Arrive { answered } => answered,
        _ => false,
    }
}

impl Model for Recovery {
    type State = Weather;
    type Action = Event;

    fn init_states(&self) -> Vec<Weather> {
        let state = State::first(self.storm.start);
        vec![Weather { state, calm: None }]
    }

    fn actions(&self, at: &Weather, events: &mut Vec<Event>) {
        if let Some(up) = at.calm {
            events.extend(self.calm_steps(&at.state, up).into_iter().map(Event::Step));
            return;
        }
        let mut steps = Vec::new();
        self.storm.steps(&at.state, &mut steps);
        events.extend(steps.into_iter().map(Event::Step));
        let ups = [Set::ALL, Set::ALL.without(0), Set::ALL.without(1), Set::ALL.without(2)];
        let enough = |up: &Set| Self::is_enough(&at.state, *up);
        events.extend(ups.into_iter().filter(enough).map(Event::Calm));
    }

    fn next_state(&self, at: &Weather, event: Event) -> Option<Weather> {
        let mut next = *at;
        match event {
            Event::Calm(up) => {
                next.calm = Some(up);
                next.state.used = crate::state::Used::default();
                next.state.used.writes = u8::MAX;
            }
            Event::Step(step) if at.calm.is_some() => {
                next.state = self.calm.after(&at.state, step);
                next.state.used = at.state.used;
            }
            Event::Step(step) => next.state = self.storm.after(&at.state, step),
        }
        (next != *at).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(I10, |model: &Self, at: &Weather| {
                at.calm
                    .is_none_or(|up| is_writable(&at.state, up) || !model.calm_steps(&at.state, up).is_empty())
            }),
            Property::eventually("I10 on every way", |_, at: &Weather| {
                at.calm.is_some_and(|up| is_writable(&at.state, up))
            }),
        ]
    }
}
