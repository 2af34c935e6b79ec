//! The suite itself: it passes who keeps the rules, and it catches who does not.

mod others;

use std::sync::Mutex;

use async_trait::async_trait;
use ha_core::{
    names::{ProviderName, RegionName},
    resource::{Live, Status},
};
use serde_json::json;

use super::*;
use crate::{
    Account, ProviderError,
    memory::{Call, Fault, MemoryProvider},
};

impl Trouble for MemoryProvider {
    fn lose_next_answer(&self, id: &ResourceId) {
        self.inject(Call::Ensure, Some(id), Fault::LoseAnswer);
    }

    fn die_halfway(&self, id: &ResourceId) {
        self.inject(Call::Ensure, Some(id), Fault::HalfDone);
    }
}

fn resource(kind: Kind, name: &str, depends_on: &[&Resource]) -> Resource {
    Resource {
        id: ResourceId::new(&RegionName::new("us-east"), kind, name),
        provider: ProviderName::Digitalocean,
        spec: json!({ "size": "s-1vcpu-1gb" }),
        depends_on: depends_on.iter().map(|it| it.id.clone()).collect(),
        protect: kind.holds_data(),
        path: format!("region_us_east.{name}"),
    }
}

fn fixture(provider: Arc<dyn Provider>, memory: &MemoryProvider) -> Fixture {
    let network = resource(Kind::Network, "us-net", &[]);
    let server = resource(Kind::Server, "us-app-1", &[&network]);
    let second = resource(Kind::Server, "us-app-2", &[&network]);
    let database = resource(Kind::Database, "us-db-1", &[&server, &second]);
    let changed = Resource {
        spec: json!({ "size": "s-2vcpu-4gb" }),
        ..server.clone()
    };
    Fixture {
        changed: Some(changed),
        trouble: Some(Arc::new(memory.clone())),
        ..Fixture::new(
            provider,
            WorkspaceName::new("shop"),
            vec![network, server, second, database],
        )
    }
}

fn memory() -> MemoryProvider {
    MemoryProvider::new(WorkspaceName::new("shop"))
}

#[tokio::test]
async fn memory_keeps_the_contract() {
    run(async || {
        let memory = memory();
        fixture(Arc::new(memory.clone()), &memory)
    })
    .await;
}

#[tokio::test]
async fn the_contract_can_be_kept_without_trouble_on_demand() {
    run(async || {
        let memory = memory();
        Fixture {
            trouble: None,
            changed: None,
            server: None,
            ..fixture(Arc::new(memory.clone()), &memory)
        }
    })
    .await;
}

/// A provider that does one thing wrong.
struct Liar {
    memory: MemoryProvider,
    lie: Lie,
    removed: Mutex<Vec<ResourceId>>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Lie {
    ListsTwice,
    ListsShort,
    ListsBackwards,
    WrongWorkspace,
    OldSpecLabel,
    IgnoresDependencies,
    RemovesOnlyOnce,
    RemovesNothing,
    NeverPending,
    StaysOn,
    ForgetsDependencies,
    MakesAnew,
    Hangs,
}

impl Liar {
    fn twist(&self, live: &mut Live) {
        match self.lie {
            Lie::WrongWorkspace => live.labels.ws = WorkspaceName::new("stage"),
            Lie::OldSpecLabel => live.labels.spec = "0".repeat(16),
            Lie::NeverPending => {
                live.status = if live.status == Status::Pending {
                    Status::Running
                } else {
                    live.status
                }
            }
            Lie::StaysOn => {
                live.status = if live.status == Status::Off {
                    Status::Running
                } else {
                    live.status
                }
            }
            Lie::ForgetsDependencies => live.depends_on.clear(),
            _ => {}
        }
    }
}

#[async_trait]
impl Provider for Liar {
    fn name(&self) -> &'static str {
        "liar"
    }

    async fn account(&self) -> Result<Account, ProviderError> {
        self.memory.account().await
    }

    async fn observe(&self) -> Result<Vec<Live>, ProviderError> {
        let mut all = self.memory.observe().await?;
        all.iter_mut().for_each(|live| self.twist(live));
        match self.lie {
            Lie::ListsTwice => all.extend(all.clone()),
            Lie::ListsShort => all.truncate(2),
            Lie::ListsBackwards => all.reverse(),
            _ => {}
        }
        Ok(all)
    }

    async fn ensure(&self, want: &Resource) -> Result<Live, ProviderError> {
        if self.lie == Lie::Hangs {
            return std::future::pending().await;
        }
        let mut want = want.clone();
        if self.lie == Lie::IgnoresDependencies {
            want.depends_on.clear();
        }
        if self.lie == Lie::MakesAnew {
            self.memory.remove(&want.id).await?;
        }
        let mut live = self.memory.ensure(&want).await?;
        self.twist(&mut live);
        Ok(live)
    }

    async fn remove(&self, id: &ResourceId) -> Result<(), ProviderError> {
        if self.lie == Lie::RemovesNothing {
            return Ok(());
        }
        if self.lie == Lie::RemovesOnlyOnce {
            let mut removed = self.removed.lock().expect("nobody panics with it");
            if removed.contains(id) {
                return Err(ProviderError::NotFound(id.clone()));
            }
            removed.push(id.clone());
        }
        self.memory.remove(id).await
    }

    async fn power(&self, server: &ResourceId, on: bool) -> Result<Live, ProviderError> {
        let mut live = self.memory.power(server, on).await?;
        self.twist(&mut live);
        Ok(live)
    }
}

#[tokio::test]
async fn who_breaks_a_rule_is_caught_by_that_rule() {
    let lies = [
        (Lie::ListsTwice, "ensure_makes_it_and_its_labels_say_whose_it_is"),
        (
            Lie::ListsShort,
            "what_does_not_depend_on_each_other_can_be_made_at_once",
        ),
        (Lie::ListsBackwards, "the_order_of_the_list_is_stable"),
        (Lie::WrongWorkspace, "ensure_makes_it_and_its_labels_say_whose_it_is"),
        (Lie::OldSpecLabel, "a_changed_spec_is_applied_in_place"),
        (
            Lie::IgnoresDependencies,
            "a_missing_dependency_is_said_and_nothing_is_made",
        ),
        (Lie::RemovesOnlyOnce, "remove_twice_succeeds"),
        (Lie::RemovesNothing, "remove_leaves_nothing"),
        (
            Lie::NeverPending,
            "a_create_that_died_is_seen_as_pending_and_finished_by_ensure",
        ),
        (Lie::StaysOn, "power_off_is_off_and_on_is_running"),
        (
            Lie::ForgetsDependencies,
            "ensure_makes_it_and_its_labels_say_whose_it_is",
        ),
        (Lie::MakesAnew, "ensure_twice_is_one"),
        (Lie::Hangs, "ensure_twice_is_one"),
    ];
    for (lie, rule) in lies {
        let broken = check(async || {
            let memory = memory();
            let liar = Liar {
                memory: memory.clone(),
                lie,
                removed: Mutex::default(),
            };
            Fixture {
                deadline: Duration::from_millis(100),
                ..fixture(Arc::new(liar), &memory)
            }
        })
        .await;
        assert!(
            broken.iter().any(|it| it.rule == rule),
            "{lie:?} should break {rule} and broke {broken:#?}"
        );
    }
}
