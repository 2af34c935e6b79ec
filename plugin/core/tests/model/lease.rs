//! I8, asynchronous mode: the holder of the lease is fenced before a taker is active. By clocks, so with clocks here.
//!
//! Time goes in ticks; a clock counts 4, 5 or 6 units in one (ρ = 0.2, which no real clock has, but few steps show what
//! many would). MONOTONIC may stand still, REALTIME may jump either way. Requests and answers arrive at any time or
//! never. A guard, or the deadman for it, gets to run within the fence budget after the deadline: nothing in software
//! helps a machine that is stopped as a whole longer than that (protocol §5), so it is not in here.

use stateright::{Checker, Model, Property};

/// One tick, by a true clock.
const TICK: i8 = 5;
const HOLD: i8 = 4 * TICK;
/// C1: hold · (1 + ρ) + fence budget < take · (1 − ρ), in ticks 4.8 + 1 < 6.4.
const TAKE: i8 = 8 * TICK;
const FENCE_TICKS: u8 = 1;
/// Beyond both of them nothing changes any more.
const LONG: i8 = 50;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mutant {
    TakerUsesLargest,
    HolderUsesSmallest,
    MonotonicAlone,
    HoldFromTheAnswer,
    TakeIsHold,
    RevisionNotCompared,
}

/// What MONOTONIC, BOOTTIME and REALTIME say has passed since some event.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Elapsed([i8; 3]);

impl Elapsed {
    fn tick(&mut self, rate: i8, stands_still: bool) {
        for (clock, passed) in self.0.iter_mut().enumerate() {
            if clock > 0 || !stands_still {
                *passed = (*passed + rate).min(LONG);
            }
        }
    }

    fn jump(&mut self, by: i8) {
        self.0[2] = self.0[2].saturating_add(by).clamp(-LONG, LONG);
    }

    fn largest(self) -> i8 {
        self.0.into_iter().max().unwrap_or_default()
    }

    fn smallest(self) -> i8 {
        self.0.into_iter().min().unwrap_or_default()
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Renewal {
    since_sent: Elapsed,
    /// The store has taken it.
    arrived: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct State {
    holder_rate: i8,
    taker_rate: i8,
    /// Since the request of the last answered renewal was sent.
    held: Elapsed,
    renewal: Option<Renewal>,
    /// Clients are answered.
    serving: bool,
    fence_left: Option<u8>,
    /// Since the taker first saw the lease's revision …
    watched: Elapsed,
    /// … which still is the revision in the store.
    unchanged: bool,
    taken: bool,
    jumps: u8,
    stops: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Tick { holder_stands: bool, taker_stands: bool },
    HolderJumps(i8),
    TakerJumps(i8),
    Send,
    Arrive,
    Answer,
    BeginFence,
    Fenced,
    Look,
    Take,
}

struct Lease(Option<Mutant>);

impl Lease {
    fn holder_measures(&self, elapsed: Elapsed) -> i8 {
        match self.0 {
            Some(Mutant::HolderUsesSmallest) => elapsed.smallest(),
            Some(Mutant::MonotonicAlone) => elapsed.0[0],
            _ => elapsed.largest(),
        }
    }

    fn taker_measures(&self, elapsed: Elapsed) -> i8 {
        match self.0 {
            Some(Mutant::TakerUsesLargest) => elapsed.largest(),
            _ => elapsed.smallest(),
        }
    }

    fn is_overdue(&self, state: &State) -> bool {
        state.serving && self.holder_measures(state.held) >= HOLD
    }
}

impl Model for Lease {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let rates = [TICK - 1, TICK, TICK + 1];
        let pairs = rates.into_iter().flat_map(|holder| rates.map(|taker| (holder, taker)));
        pairs
            .map(|(holder_rate, taker_rate)| State {
                holder_rate,
                taker_rate,
                held: Elapsed::default(),
                renewal: None,
                serving: true,
                fence_left: None,
                watched: Elapsed::default(),
                unchanged: true,
                taken: false,
                jumps: 0,
                stops: 0,
            })
            .collect()
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        if state.taken {
            return;
        }
        // Time does not pass over a deadline that somebody is bound to act on.
        let due =
            state.serving && (state.fence_left == Some(0) || (self.is_overdue(state) && state.fence_left.is_none()));
        if !due {
            let stands = |holder_stands, taker_stands| Step::Tick {
                holder_stands,
                taker_stands,
            };
            steps.push(stands(false, false));
            if state.stops < 3 {
                steps.extend([stands(true, false), stands(false, true)]);
            }
        }
        if state.jumps < 1 {
            steps.extend([Step::HolderJumps(LONG), Step::HolderJumps(-LONG)]);
            steps.extend([Step::TakerJumps(LONG), Step::TakerJumps(-LONG)]);
        }
        match state.renewal {
            None if state.serving && state.fence_left.is_none() => steps.push(Step::Send),
            Some(Renewal { arrived: false, .. }) => steps.push(Step::Arrive),
            Some(Renewal { arrived: true, .. }) if state.fence_left.is_none() => steps.push(Step::Answer),
            _ => {}
        }
        if self.is_overdue(state) && state.fence_left.is_none() {
            steps.push(Step::BeginFence);
        }
        if state.serving && state.fence_left.is_some() {
            steps.push(Step::Fenced);
        }
        if !state.unchanged {
            steps.push(Step::Look);
        }
        let take = if self.0 == Some(Mutant::TakeIsHold) { HOLD } else { TAKE };
        let compared = state.unchanged || self.0 == Some(Mutant::RevisionNotCompared);
        if self.taker_measures(state.watched) >= take && compared {
            steps.push(Step::Take);
        }
    }

    fn next_state(&self, before: &State, step: Step) -> Option<State> {
        let mut state = *before;
        match step {
            Step::Tick {
                holder_stands,
                taker_stands,
            } => {
                state.stops += u8::from(holder_stands || taker_stands);
                state.held.tick(state.holder_rate, holder_stands);
                if let Some(renewal) = &mut state.renewal {
                    renewal.since_sent.tick(state.holder_rate, holder_stands);
                }
                state.watched.tick(state.taker_rate, taker_stands);
                state.fence_left = state.fence_left.map(|it| it.saturating_sub(1));
            }
            Step::HolderJumps(by) => {
                state.jumps += 1;
                state.held.jump(by);
                if let Some(renewal) = &mut state.renewal {
                    renewal.since_sent.jump(by);
                }
            }
            Step::TakerJumps(by) => {
                state.jumps += 1;
                state.watched.jump(by);
            }
            Step::Send => {
                state.renewal = Some(Renewal {
                    since_sent: Elapsed::default(),
                    arrived: false,
                });
            }
            Step::Arrive => {
                state.renewal.as_mut()?.arrived = true;
                state.unchanged = false;
            }
            Step::Answer => {
                state.held = state.renewal.take()?.since_sent;
                if self.0 == Some(Mutant::HoldFromTheAnswer) {
                    state.held = Elapsed::default();
                }
            }
            Step::BeginFence => state.fence_left = Some(FENCE_TICKS),
            Step::Fenced => state.serving = false,
            Step::Look => {
                state.watched = Elapsed::default();
                state.unchanged = true;
            }
            Step::Take => state.taken = true,
        }
        (state != *before).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(I8, |_, it: &State| !(it.taken && it.serving)),
            Property::sometimes("somebody takes it", |_, it: &State| it.taken),
        ]
    }
}

const I8: &str = "I8 the holder is fenced before a taker is active";

#[test]
fn the_holder_is_fenced_before_a_taker_is_active() {
    let checker = Lease(None).checker().threads(2).spawn_bfs().join();
    eprintln!(
        "lease: {} states, depth {}",
        checker.unique_state_count(),
        checker.max_depth()
    );
    checker.assert_properties();
}

#[test]
fn mistakes_with_clocks() {
    for mutant in [
        Mutant::TakerUsesLargest,
        Mutant::HolderUsesSmallest,
        Mutant::MonotonicAlone,
        Mutant::HoldFromTheAnswer,
        Mutant::TakeIsHold,
        Mutant::RevisionNotCompared,
    ] {
        let checker = Lease(Some(mutant)).checker().spawn_bfs().join();
        let steps = checker.assert_any_discovery(I8).into_actions();
        eprintln!("{mutant:?} breaks {I8}: {} steps: {steps:?}", steps.len());
    }
}
