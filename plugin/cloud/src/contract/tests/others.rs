//! The rules about others, kept by a provider that lives among them and broken by those that do one thing wrong.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard},
};

use ha_core::resource::spec_hash;
use serde_json::Value;

use super::*;

/// A provider over memory in a town with strangers, a wire that loses answers, and a list that can be throttled.
struct Town {
    memory: MemoryProvider,
    lie: Option<Lie>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Names of strangers' things; those that look alike are names of no resource of ours.
    strangers: BTreeSet<String>,
    planted: BTreeSet<String>,
    /// What was made beside the resources themselves.
    beside: BTreeSet<String>,
    lose: Option<u64>,
    lingers: u32,
    wanted: BTreeMap<ResourceId, Value>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Lie {
    SwallowsThrottling,
    HidesChanges,
    WritesTheLabelAnew,
    TakesNamesOver,
    RemovesByName,
    RemovesByPrefix,
    LeavesSomethingBeside,
    MakesAnotherAfterALoss,
    GivesUpOnWhatLingers,
}

impl Town {
    fn new(lie: Option<Lie>) -> Arc<Self> {
        Arc::new(Self {
            memory: memory(),
            lie,
            state: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it")
    }

    fn lies(&self, lie: Lie) -> bool {
        self.lie == Some(lie)
    }

    /// Whether the answer to this changing request is the one that gets lost.
    fn lost(&self) -> bool {
        let lose = &mut self.state().lose;
        match *lose {
            Some(1) => {
                *lose = None;
                true
            }
            Some(more) => {
                *lose = Some(more - 1);
                false
            }
            None => false,
        }
    }

    fn answer<T>(&self, value: T) -> Result<T, ProviderError> {
        if self.lost() {
            return Err(ProviderError::OutcomeUnknown {
                what: "town".into(),
                after: Duration::ZERO,
            });
        }
        Ok(value)
    }
}

#[async_trait]
impl Provider for Town {
    fn name(&self) -> &'static str {
        "town"
    }

    async fn account(&self) -> Result<Account, ProviderError> {
        self.memory.account().await
    }

    async fn observe(&self) -> Result<Vec<Live>, ProviderError> {
        let mut all = match self.memory.observe().await {
            Err(ProviderError::RateLimited { .. }) if self.lies(Lie::SwallowsThrottling) => Vec::new(),
            other => other?,
        };
        for live in &mut all {
            if self.lies(Lie::HidesChanges) {
                live.spec = self.state().wanted.get(&live.id).cloned().unwrap_or_default();
            }
            if self.lies(Lie::WritesTheLabelAnew) {
                live.labels.spec = spec_hash(&live.spec);
            }
        }
        Ok(all)
    }

    async fn ensure(&self, want: &Resource) -> Result<Live, ProviderError> {
        if self.state().strangers.contains(&want.id.name) {
            if !self.lies(Lie::TakesNamesOver) {
                return Err(ProviderError::Taken {
                    what: want.id.name.clone(),
                    by: "a stranger".into(),
                });
            }
            self.state().strangers.remove(&want.id.name);
        }
        self.state().wanted.insert(want.id.clone(), want.spec.clone());
        let live = self.memory.ensure(want).await?;
        if self.lies(Lie::LeavesSomethingBeside) {
            self.state().beside.insert(want.id.name.clone());
        }
        let answer = self.answer(live);
        if answer.is_err() && self.lies(Lie::MakesAnotherAfterALoss) {
            self.state().beside.insert(want.id.name.clone());
        }
        answer
    }

    async fn remove(&self, id: &ResourceId) -> Result<(), ProviderError> {
        if self.lies(Lie::RemovesByName) {
            self.state().strangers.remove(&id.name);
        }
        if self.lies(Lie::RemovesByPrefix) {
            self.state().strangers.retain(|name| !name.starts_with(&id.name));
        }
        while self.state().lingers > 0 {
            if self.lies(Lie::GivesUpOnWhatLingers) {
                return Err(ProviderError::NotReady {
                    id: id.clone(),
                    detail: "still in use".into(),
                });
            }
            self.state().lingers -= 1;
        }
        self.memory.remove(id).await?;
        self.answer(())
    }

    async fn power(&self, server: &ResourceId, on: bool) -> Result<Live, ProviderError> {
        self.memory.power(server, on).await
    }
}

impl Others for Town {
    fn plant_lookalikes(&self) -> bool {
        let mut state = self.state();
        state.planted.insert("us-app-10".into());
        state.strangers = state.planted.clone();
        true
    }

    fn plant_namesake(&self, id: &ResourceId) -> bool {
        let mut state = self.state();
        state.planted.insert(id.name.clone());
        state.strangers = state.planted.clone();
        true
    }

    fn uproot(&self) {
        let mut state = self.state();
        state.planted.clear();
        state.strangers.clear();
    }

    fn touched(&self) -> Vec<String> {
        let state = self.state();
        state.planted.difference(&state.strangers).cloned().collect()
    }

    fn leftovers(&self) -> Vec<String> {
        self.state().beside.iter().cloned().collect()
    }

    fn tamper(&self, id: &ResourceId) -> bool {
        self.memory.tamper(id, |live| live.spec = json!({ "size": "by hand" }));
        true
    }

    fn throttle(&self) -> bool {
        let refuse = ProviderError::RateLimited {
            retry_after: Some(Duration::from_secs(3600)),
        };
        self.memory.inject(Call::Observe, None, Fault::Refuse(refuse));
        true
    }

    fn linger(&self, _id: &ResourceId) -> bool {
        self.state().lingers = 2;
        true
    }

    fn lose_answer(&self, nth: u64) -> bool {
        self.state().lose = Some(nth);
        true
    }

    fn keep_answers(&self) -> bool {
        self.state().lose.take().is_some()
    }
}

async fn broken_by(lie: Option<Lie>) -> Vec<Broken> {
    check(async || {
        let town = Town::new(lie);
        Fixture {
            others: Some(town.clone()),
            trouble: None,
            ..fixture(town.clone(), &town.memory)
        }
    })
    .await
}

#[tokio::test]
async fn who_lives_well_among_others_breaks_no_rule() {
    assert_eq!(broken_by(None).await, []);
}

#[tokio::test]
async fn who_harms_others_or_is_harmed_is_caught_by_that_rule() {
    for (lie, rule) in [
        (Lie::SwallowsThrottling, "a_list_cut_short_by_throttling_is_an_error"),
        (Lie::HidesChanges, "what_was_changed_by_hand_is_seen_and_made_good"),
        (
            Lie::WritesTheLabelAnew,
            "what_was_changed_by_hand_is_seen_and_made_good",
        ),
        (
            Lie::TakesNamesOver,
            "a_name_that_belongs_to_somebody_else_is_left_alone",
        ),
        (Lie::RemovesByName, "a_name_that_belongs_to_somebody_else_is_left_alone"),
        (Lie::RemovesByPrefix, "removal_touches_nothing_that_only_looks_alike"),
        (
            Lie::LeavesSomethingBeside,
            "removal_touches_nothing_that_only_looks_alike",
        ),
        (
            Lie::MakesAnotherAfterALoss,
            "every_answer_lost_in_turn_leaves_one_of_each_and_nothing_beside_it",
        ),
        (Lie::GivesUpOnWhatLingers, "removal_outlives_what_lingers"),
    ] {
        let broken = broken_by(Some(lie)).await;
        assert!(
            broken.iter().any(|it| it.rule == rule),
            "{lie:?} should break {rule} and broke {broken:#?}"
        );
    }
}

#[tokio::test]
async fn side_by_side_the_rules_are_the_same_and_each_share_of_a_rule_counts() {
    let broken_by = async |lie: Option<Lie>| {
        check_side_by_side(3, async || {
            let town = Town::new(lie);
            Fixture {
                others: Some(town.clone()),
                trouble: None,
                ..fixture(town.clone(), &town.memory)
            }
        })
        .await
    };
    assert_eq!(broken_by(None).await, []);
    let broken = broken_by(Some(Lie::MakesAnotherAfterALoss)).await;
    let lost = "every_answer_lost_in_turn_leaves_one_of_each_and_nothing_beside_it";
    // There are more answers to lose than shares.
    assert_eq!(broken.iter().filter(|it| it.rule == lost).count(), 3, "{broken:#?}");
}
