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

use futures::{FutureExt as _, StreamExt as _, future::LocalBoxFuture, stream};
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
    all_kept(&check(make).await);
}

/// As [`run`], with so many rules at a time, each with a fixture of its own that knows nothing of the others: for a
/// provider whose answers take most of the time.
///
/// # Panics
///
/// As [`run`].
pub async fn run_side_by_side(at_once: usize, make: impl AsyncFn() -> Fixture) {
    all_kept(&check_side_by_side(at_once, make).await);
}

fn all_kept(broken: &[Broken]) {
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
    for rule in all_rules(1) {
        broken.extend(rule.check(&make().await).await);
    }
    broken
}

/// As [`check`], with so many rules at a time.
pub async fn check_side_by_side(at_once: usize, make: impl AsyncFn() -> Fixture) -> Vec<Broken> {
    let checks = all_rules(at_once)
        .into_iter()
        .map(async |rule| rule.check(&make().await).await);
    let broken: Vec<Vec<Broken>> = stream::iter(checks).buffer_unordered(at_once.max(1)).collect().await;
    broken.concat()
}

/// A rule, or a share of one.
struct Rule {
    name: &'static str,
    kept: for<'f> fn(&'f Fixture, Share) -> LocalBoxFuture<'f, rules::Kept>,
    share: Share,
}

/// Of the rounds of a rule that has many, every `step`th from `first` on, which is 1 or more.
#[derive(Clone, Copy)]
struct Share {
    first: usize,
    step: usize,
}

impl Rule {
    async fn check(&self, fixture: &Fixture) -> Vec<Broken> {
        let mut broken = Vec::new();
        let mut told = |outcome, late: String, of: &str| {
            let why = match outcome {
                Ok(Ok(())) => return,
                Ok(Err(why)) => format!("{of}{why}"),
                Err(_elapsed) => late,
            };
            broken.push(Broken { rule: self.name, why });
        };
        let kept = tokio::time::timeout(fixture.deadline, (self.kept)(fixture, self.share)).await;
        told(kept, format!("not done within {:?}", fixture.deadline), "");
        // Also after a broken rule: the next one, and the machine, shall not inherit it.
        let clean = tokio::time::timeout(fixture.deadline, rules::clean_up(fixture)).await;
        told(
            clean,
            "cleaning up afterwards took too long".into(),
            "cleaning up afterwards: ",
        );
        broken
    }
}

/// All of them; what has a round for each request comes in so many shares, and first, since it takes longest.
fn all_rules(shares: usize) -> Vec<Rule> {
    let shares = shares.max(1);
    let mut all: Vec<Rule> = (1..=shares)
        .map(|first| Rule {
            name: "every_answer_lost_in_turn_leaves_one_of_each_and_nothing_beside_it",
            kept: |fixture, share| {
                let nth = (share.first..).step_by(share.step);
                others::every_answer_lost_in_turn_leaves_one_of_each_and_nothing_beside_it(fixture, nth).boxed_local()
            },
            share: Share { first, step: shares },
        })
        .collect();
    macro_rules! add {
        ($room:ident: $($rule:ident),+ $(,)?) => {$(
            all.push(Rule {
                name: stringify!($rule),
                kept: |fixture, _whole| $room::$rule(fixture).boxed_local(),
                share: Share { first: 1, step: 1 },
            });
        )+};
    }
    add![rules:
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
    add![others:
        a_list_cut_short_by_throttling_is_an_error,
        what_was_changed_by_hand_is_seen_and_made_good,
        a_name_that_belongs_to_somebody_else_is_left_alone,
        removal_touches_nothing_that_only_looks_alike,
        removal_outlives_what_lingers,
    ];
    all
}
