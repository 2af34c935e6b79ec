//! I9: no campaign that nobody asked for without a quorum of votes, or under pause.
//!
//! Votes travel in member records, so an observer that cannot reach the store has none: what it said before goes away
//! with its lease, and whoever counts votes has read them before, perhaps long before. The pause, though, is compared in
//! the swap itself.

use stateright::{Checker, Model, Property};

use crate::state::{Id, NODES, Set};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mutant {
    PauseReadBefore,
    VoteWithoutStore,
    OneVote,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct State {
    /// Who finds the primary down, and who cannot reach the store.
    down: Set,
    cut: Set,
    /// The member records.
    votes: Set,
    paused: bool,
    /// What some guard read: votes, and that there is no pause.
    read: Option<Set>,
    /// The votes were a quorum in the store when it read them.
    was_quorum: bool,
    campaign: Option<bool>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Observe(Id),
    Cut(Id),
    Vote(Id),
    VoteGone(Id),
    Pause,
    Read(Id),
    Campaign,
}

struct Admission(Option<Mutant>);

impl Model for Admission {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State::default()]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        if state.campaign.is_some() {
            return;
        }
        steps.push(Step::Pause);
        for id in 0..NODES as Id {
            steps.extend([Step::Observe(id), Step::Cut(id)]);
            if !state.cut.has(id) {
                steps.push(Step::Vote(id));
            } else if state.votes.has(id) {
                steps.push(Step::VoteGone(id));
            }
            if !state.paused && (!state.cut.has(id) || self.0 == Some(Mutant::VoteWithoutStore)) {
                steps.push(Step::Read(id));
            }
        }
        let needed = if self.0 == Some(Mutant::OneVote) { 1 } else { 2 };
        let compared = !state.paused || self.0 == Some(Mutant::PauseReadBefore);
        if compared && state.read.is_some_and(|votes| votes.len() >= needed) {
            steps.push(Step::Campaign);
        }
    }

    fn next_state(&self, before: &State, step: Step) -> Option<State> {
        let flip = |set: Set, id: Id| if set.has(id) { set.without(id) } else { set.with(id) };
        let mut state = *before;
        match step {
            Step::Observe(id) => state.down = flip(state.down, id),
            Step::Cut(id) => state.cut = flip(state.cut, id),
            Step::Vote(id) if state.down.has(id) => state.votes = state.votes.with(id),
            Step::Vote(id) | Step::VoteGone(id) => state.votes = state.votes.without(id),
            Step::Pause => state.paused = !state.paused,
            Step::Read(id) => {
                let own = self.0 == Some(Mutant::VoteWithoutStore) && state.down.has(id);
                state.read = Some(if own { state.votes.with(id) } else { state.votes });
                state.was_quorum = state.votes.len() >= 2;
            }
            Step::Campaign => state.campaign = Some(state.was_quorum && !state.paused),
        }
        (state != *before).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(I9, |_, it: &State| it.campaign != Some(false)),
            Property::sometimes("somebody campaigns", |_, it: &State| it.campaign.is_some()),
        ]
    }
}

const I9: &str = "I9 no campaign without a quorum of votes or under pause";

#[test]
fn nobody_campaigns_without_votes_or_under_pause() {
    Admission(None).checker().spawn_bfs().join().assert_properties();
}

#[test]
fn mistakes_with_votes() {
    for mutant in [Mutant::PauseReadBefore, Mutant::VoteWithoutStore, Mutant::OneVote] {
        let checker = Admission(Some(mutant)).checker().spawn_bfs().join();
        let steps = checker.assert_any_discovery(I9).into_actions();
        eprintln!("{mutant:?} breaks {I9}: {} steps: {steps:?}", steps.len());
    }
}
