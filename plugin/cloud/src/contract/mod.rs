//! What every provider must do, as a suite that any of them can be put through.
//!
//! ```text
//! #[tokio::test]
//! async fn the_local_provider_keeps_the_contract() {
//!     contract::run(async || Fixture::new(provider, workspace, resources)).await;
//! }
//! ```
//!
//! Each rule starts from a fixture of its own and leaves nothing behind. What is protected is not in here:
//! plans keep away from it, a provider removes what it is told to remove.

mod others;
mod rules;
#[cfg(test)]
mod tests;

use std::{any::Any, fmt, sync::Arc, time::Duration};

use ha_core::{
    names::WorkspaceName,
    resource::{Kind, Resource, ResourceId},
};

use crate::Provider;

/// A provider that has nothing yet, and what to make with it.
pub struct Fixture {
    pub provider: Arc<dyn Provider>,
    pub workspace: WorkspaceName,
    /// In order of dependency. Few and quick ones do; at least one must depend on another.
    pub resources: Vec<Resource>,
    /// One of `resources` with another spec that the provider applies in place; none skips that rule.
    pub changed: Option<Resource>,
    /// One of `resources` to switch off and on; none skips that rule.
    pub server: Option<ResourceId>,
    /// Makes calls fail; without it they are dropped from outside.
    pub trouble: Option<Arc<dyn Trouble>>,
    /// What others do at the provider, where a test can play them; none skips those rules.
    pub others: Option<Arc<dyn Others>>,
    pub told: Told,
    /// A rule that takes longer is broken.
    pub deadline: Duration,
    /// What must live as long as the fixture: a folder, a server. Dropped last.
    pub keep: Option<Box<dyn Any + Send>>,
}

/// Faults on demand, where a provider can be made to have them.
pub trait Trouble: Send + Sync {
    /// The next ensure of this resource does its work, and its caller is told
    /// [`OutcomeUnknown`](crate::ProviderError::OutcomeUnknown).
    fn lose_next_answer(&self, id: &ResourceId);

    /// The next ensure of this resource dies after something of it was made and before it was done.
    fn die_halfway(&self, id: &ResourceId);
}

/// How much of what was applied a provider tells again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Everything, word for word.
    Everything,
    /// What its own objects and references say: `spec` is null for stores and databases, which are labels of a server,
    /// and `depends_on` may lack what it has no reference for.
    Objects,
}

/// The world beside the provider: what others own in it, what they do, what the wire does.
///
/// Each method answers whether it could; the default is that it cannot, and the rule is skipped.
pub trait Others: Send + Sync {
    /// Puts things there that look like the fixture's and are not: another workspace's with the same names in their
    /// labels, names that only begin the same, labels that only begin the same.
    fn plant_lookalikes(&self) -> bool {
        false
    }

    /// Gives the name of this resource to something without labels.
    fn plant_namesake(&self, _id: &ResourceId) -> bool {
        false
    }

    /// Takes away what was planted.
    fn uproot(&self) {}

    /// What was planted and is no longer as it was.
    fn touched(&self) -> Vec<String> {
        Vec::new()
    }

    /// Everything at the provider that was not planted, what is no resource of ours by itself included.
    fn leftovers(&self) -> Vec<String> {
        Vec::new()
    }

    /// Changes this resource by hand, in something that its spec says.
    fn tamper(&self, _id: &ResourceId) -> bool {
        false
    }

    /// The next reading of everything meets the rate limit in the middle, and is told to wait for an hour.
    fn throttle(&self) -> bool {
        false
    }

    /// The next removal of this resource is refused a few times because of what still uses it.
    fn linger(&self, _id: &ResourceId) -> bool {
        false
    }

    /// The answer to the nth changing request from now (the first is 1) is lost; what it asked for is done.
    fn lose_answer(&self, _nth: u64) -> bool {
        false
    }

    /// Takes back a loss that has not happened yet, and says whether there was one.
    fn keep_answers(&self) -> bool {
        false
    }
}

impl Fixture {
    /// With the first server of `resources` to switch off, no change and no trouble, and two minutes per rule.
    pub fn new(provider: Arc<dyn Provider>, workspace: WorkspaceName, resources: Vec<Resource>) -> Self {
        let server = resources
            .iter()
            .find(|it| it.id.kind == Kind::Server)
            .map(|it| it.id.clone());
        Self {
            provider,
            workspace,
            resources,
            changed: None,
            server,
            trouble: None,
            others: None,
            told: Told::Everything,
            deadline: Duration::from_secs(120),
            keep: None,
        }
    }
}

/// A rule that was not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    pub rule: &'static str,
    pub why: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule.replace('_', " "), self.why)
    }
}

/// Puts a provider through all rules.
///
/// # Panics
///
/// When a rule is broken; the message has every one that is.
pub async fn run(make: impl AsyncFnMut() -> Fixture) {
    let broken = check(make).await;
    let list: Vec<String> = broken.iter().map(|it| format!("\n  {it}")).collect();
    assert!(
        broken.is_empty(),
        "{} broken rules of the contract:{}",
        broken.len(),
        list.concat()
    );
}

/// The rules that a provider does not keep. `make` is called once for each rule.
pub async fn check(mut make: impl AsyncFnMut() -> Fixture) -> Vec<Broken> {
    let mut broken = Vec::new();
    macro_rules! check {
        ($room:ident: $($rule:ident),+ $(,)?) => {$(
            let fixture = make().await;
            let rule = stringify!($rule);
            match tokio::time::timeout(fixture.deadline, $room::$rule(&fixture)).await {
                Ok(Ok(())) => {}
                Ok(Err(why)) => broken.push(Broken { rule, why }),
                Err(_) => broken.push(Broken { rule, why: format!("not done within {:?}", fixture.deadline) }),
            }
            // Also after a broken rule: the next one, and the machine, shall not inherit it.
            match tokio::time::timeout(fixture.deadline, rules::clean_up(&fixture)).await {
                Ok(Ok(())) => {}
                Ok(Err(why)) => broken.push(Broken { rule, why: format!("cleaning up afterwards: {why}") }),
                Err(_) => broken.push(Broken { rule, why: "cleaning up afterwards took too long".into() }),
            }
        )+};
    }
    check![rules:
        nothing_there_is_an_empty_list,
        ensure_makes_it_and_its_labels_say_whose_it_is,
        ensure_twice_is_one,
        a_changed_spec_is_applied_in_place,
        what_does_not_depend_on_each_other_can_be_made_at_once,
        a_lost_answer_is_made_good_by_asking_again,
        an_ensure_dropped_half_way_is_finished_by_the_next,
        a_create_that_died_is_seen_as_pending_and_finished_by_ensure,
        a_missing_dependency_is_said_and_nothing_is_made,
        remove_leaves_nothing,
        remove_twice_succeeds,
        remove_of_something_unknown_succeeds,
        what_was_removed_can_be_made_again,
        power_off_is_off_and_on_is_running,
        power_of_something_unknown_is_not_found,
        the_order_of_the_list_is_stable,
    ];
    check![others:
        every_answer_lost_in_turn_leaves_one_of_each_and_nothing_beside_it,
        a_list_cut_short_by_throttling_is_an_error,
        what_was_changed_by_hand_is_seen_and_made_good,
        a_name_that_belongs_to_somebody_else_is_left_alone,
        removal_touches_nothing_that_only_looks_alike,
        removal_outlives_what_lingers,
    ];
    broken
}
