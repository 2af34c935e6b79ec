//! What must hold in every state (protocol §17).

use stateright::{Model, Property};

use crate::{
    state::{Id, Phase, Role, State},
    steps::{Protocol, Step},
};

/// Bits of [`State::flaws`]: what a step broke, where the state after it no longer shows it.
pub(crate) const ONE_ACTIVE: u8 = 1;
pub(crate) const PROMISES_STAY: u8 = 2;
pub(crate) const THE_FURTHEST: u8 = 4;
pub(crate) const ONE_TIMELINE: u8 = 8;

pub(crate) const I1: &str = "I1 at most one active epoch";
pub(crate) const I2: &str = "I2 every acknowledged write is on the active primary";
pub(crate) const I2_COPIES: &str = "I2 every acknowledged write is on as many voters as were to acknowledge it";
pub(crate) const I3: &str = "I3 promises never go down";
pub(crate) const I4: &str = "I4 published never stronger than enforced";
pub(crate) const I5: &str = "I5 the chosen is the furthest of a sealed quorum";
pub(crate) const I6: &str = "I6 one timeline number, one epoch";
pub(crate) const CONTINUITY: &str = "§12 a leader that may go on without the store is the only one";

impl Model for Protocol {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State::first(self.start)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Step>) {
        self.steps(state, actions);
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        Some(self.after(state, step)).filter(|it| it != state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(I1, |_, it: &State| it.flaws & ONE_ACTIVE == 0),
            Property::always(I2, |_, it: &State| nothing_is_lost(it)),
            Property::always(I2_COPIES, |protocol: &Self, it: &State| {
                protocol.diverged_voters_rebuild || nothing_is_on_too_few(it)
            }),
            Property::always(I3, |_, it: &State| it.flaws & PROMISES_STAY == 0),
            Property::always(I4, |_, it: &State| published_is_enforced(it)),
            Property::always(I5, |_, it: &State| it.flaws & THE_FURTHEST == 0),
            Property::always(I6, |_, it: &State| it.flaws & ONE_TIMELINE == 0 && logs_agree(it)),
            Property::always(CONTINUITY, |_, it: &State| {
                State::ids().all(|id| goes_on_rightly(it, id))
            }),
            // Without these the others would hold for want of anything happening.
            Property::sometimes("two databases write", |_, it: &State| {
                it.servers.iter().filter(|it| it.role == Role::Primary).count() > 1
            }),
            Property::sometimes("the second epoch acknowledges", |_, it: &State| {
                let leader = it.at(it.term.leader);
                it.term.phase == Phase::Active
                    && it.term.epoch > 1
                    && leader
                        .log
                        .writes()
                        .any(|(timeline, write)| timeline == it.term.epoch && it.acknowledged & 1 << write != 0)
            }),
        ]
    }
}

fn is_led(state: &State) -> bool {
    state.term.phase != Phase::Sealing
}

fn acknowledged(state: &State) -> impl Iterator<Item = u8> {
    (0..8).filter(|write| state.acknowledged & 1 << write != 0)
}

fn has(state: &State, id: Id, write: u8) -> bool {
    state.at(id).role != Role::Ruined && state.at(id).log.end_of(write).is_some()
}

fn nothing_is_lost(state: &State) -> bool {
    !is_led(state) || acknowledged(state).all(|write| has(state, state.term.leader, write))
}

/// One region more can be lost: the leader and `acks` more voters have it.
fn nothing_is_on_too_few(state: &State) -> bool {
    let quorum = state.term.quorum;
    !is_led(state)
        || acknowledged(state).all(|write| {
            let copies = quorum.voters.iter().filter(|id| has(state, *id, write)).count();
            copies > usize::from(quorum.acks)
        })
}

/// No process of the leader lets a commit through that fewer voters have than `term` says.
fn published_is_enforced(state: &State) -> bool {
    let leader = state.at(state.term.leader);
    let published = state.term.quorum.rule(state.term.leader);
    leader.role != Role::Primary || leader.obeyed().all(|it| it.is_as_strong_as(published))
}

fn logs_agree(state: &State) -> bool {
    let log = |id: usize| state.servers[id].log;
    log(0).agrees_with(log(1)) && log(1).agrees_with(log(2)) && log(0).agrees_with(log(2))
}

/// A primary that cannot reach the store goes on while more than |V| − R voters, itself included, stream under its own
/// epoch, by V and W as it last knew them and as it asked for them without an answer.
fn goes_on_rightly(state: &State, id: Id) -> bool {
    let server = state.at(id);
    let Some(known) = server.known.filter(|_| server.role == Role::Primary) else {
        return true;
    };
    let streaming = state.streaming_from(id).with(id);
    let enough = [Some(known), server.asked].into_iter().flatten().all(|it| {
        let unsealed = it.voters.iter().filter(|voter| streaming.has(*voter)).count();
        unsealed > it.voters.len() - it.seals_needed()
    });
    !(enough && is_led(state) && state.term.epoch > server.epoch)
}

/// The check counts seals and compares positions with sets of a few bits; what the guards call says the same.
#[test]
fn the_quorum_counted_here_is_the_one_of_the_guards() {
    use std::collections::{BTreeMap, BTreeSet};

    use ha_core::{
        agreement::{furthest, is_quorum},
        lsn::{Lsn, Position},
    };

    use crate::state::{Quorum, Set};

    let node = |id: Id| format!("n{id}");
    let positions = [(1, 1), (1, 3), (2, 2)];
    let places = positions.map(|(timeline, lsn)| Position {
        timeline,
        lsn: Lsn(lsn),
    });
    for (voters, acks) in [(Set::ALL, 1), (Set::of(0).with(2), 1), (Set::of(1), 0)] {
        let quorum = Quorum { voters, acks };
        let names: BTreeSet<String> = voters.iter().map(node).collect();
        for sealed in (0..8u8).map(|bits| State::ids().filter(move |id| bits & 1 << id != 0)) {
            let sealed: Vec<Id> = sealed.collect();
            for at in 0..27 {
                let place = |id: Id| places[at / 3usize.pow(u32::from(id)) % 3];
                let reported: BTreeMap<String, Position> = sealed.iter().map(|id| (node(*id), place(*id))).collect();
                let counted: Vec<Id> = sealed.iter().copied().filter(|id| voters.has(*id)).collect();
                assert_eq!(
                    is_quorum(&names, acks.into(), &reported),
                    counted.len() >= quorum.seals_needed()
                );
                let most = |id: &&Id| counted.iter().all(|other| place(*other) <= place(**id));
                let here: Vec<String> = counted.iter().filter(most).map(|id| node(*id)).collect();
                let theirs: Vec<String> = furthest(&names, &reported).into_iter().cloned().collect();
                assert_eq!(here, theirs);
            }
        }
    }
}
