//! Which step may start now. Pure bookkeeping: no clock, no tasks.

use std::collections::{BTreeSet, HashMap};

use ha_core::{plan::Step, resource::ResourceId};

/// Steps are known by their place in the plan.
pub(super) struct Schedule {
    waits_for: Vec<BTreeSet<usize>>,
    needed_by: Vec<Vec<usize>>,
    state: Vec<State>,
    ready: BTreeSet<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Started,
    Settled,
}

impl Schedule {
    pub(super) fn new(steps: &[Step]) -> Self {
        let mut places: HashMap<&ResourceId, Vec<usize>> = HashMap::new();
        for (place, step) in steps.iter().enumerate() {
            places.entry(&step.id).or_default().push(place);
        }
        let mut needed_by = vec![Vec::new(); steps.len()];
        let waits_for: Vec<BTreeSet<usize>> = steps
            .iter()
            .enumerate()
            .map(|(place, step)| {
                let before: BTreeSet<usize> = step
                    .after
                    .iter()
                    .flat_map(|id| places.get(id))
                    .flatten()
                    .copied()
                    .collect();
                for &other in &before {
                    needed_by[other].push(place);
                }
                before
            })
            .collect();
        let ready = (0..steps.len()).filter(|&place| waits_for[place].is_empty()).collect();
        Self {
            waits_for,
            needed_by,
            state: vec![State::Waiting; steps.len()],
            ready,
        }
    }

    /// The earliest step of the plan that may start; it counts as started.
    pub(super) fn start_next(&mut self) -> Option<usize> {
        let place = self.ready.pop_first()?;
        self.state[place] = State::Started;
        Some(place)
    }

    /// The step got done: what waited only for it may start.
    pub(super) fn done(&mut self, place: usize) {
        self.settle(place);
        for next in self.needed_by[place].clone() {
            self.waits_for[next].remove(&place);
            if self.waits_for[next].is_empty() && self.state[next] == State::Waiting {
                self.ready.insert(next);
            }
        }
    }

    /// The step did not get done: everything that waits for it, however far away, is settled too and returned
    /// in order of the plan.
    pub(super) fn not_done(&mut self, place: usize) -> Vec<usize> {
        self.settle(place);
        let mut lost = BTreeSet::new();
        let mut look = self.needed_by[place].clone();
        while let Some(next) = look.pop() {
            if self.state[next] == State::Waiting {
                self.settle(next);
                lost.insert(next);
                look.extend(&self.needed_by[next]);
            }
        }
        lost.into_iter().collect()
    }

    /// Steps that were never started; they are settled by this. When nothing runs and nothing was
    /// interrupted, these wait for each other.
    pub(super) fn give_up(&mut self) -> Vec<usize> {
        let left: Vec<usize> = (0..self.state.len())
            .filter(|&place| self.state[place] == State::Waiting)
            .collect();
        for &place in &left {
            self.settle(place);
        }
        left
    }

    fn settle(&mut self, place: usize) {
        self.state[place] = State::Settled;
        self.ready.remove(&place);
    }
}
