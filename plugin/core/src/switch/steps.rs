//! What will happen, in which order, and how long it should take (protocol §7, §8, §21).

use std::time::Duration;

use super::World;
use crate::{budget::Budget, model::SyncMode};

/// One row of `--dry-run`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedStep {
    pub step: &'static str,
    pub region: Option<String>,
    pub predicted: Duration,
    /// Nobody can write meanwhile.
    pub outage: bool,
    pub detail: String,
}

/// Nobody can write for so long, if all goes as predicted.
pub fn outage(steps: &[PlannedStep]) -> Duration {
    steps.iter().filter(|it| it.outage).map(|it| it.predicted).sum()
}

/// A switchover to `to`, for regions `trip` apart. What nobody can write meanwhile is what `budget` promises.
pub fn switchover_steps(world: &World, to: &str, trip: Duration, budget: &Budget) -> Vec<PlannedStep> {
    let from = &world.term.leader;
    let (here, there) = (world.region_of(from), world.region_of(to));
    let strict = world.term.mode != SyncMode::Async;
    let step = |step, region: &str, predicted, outage, detail: String| PlannedStep {
        step,
        region: Some(region.to_owned()),
        predicted,
        outage,
        detail,
    };
    let others: Vec<&String> = world
        .nodes
        .iter()
        .filter(|(node, it)| it.data && *node != to)
        .map(|(node, _)| node)
        .collect();
    let next = world.term.epoch + 1;
    // The last of the log is on its way meanwhile, too.
    let stop = budget
        .switchover()
        .saturating_sub(trip * 2 + budget.promote + budget.route + budget.follow);
    let mut out = vec![
        step(
            "agree",
            here,
            trip * 2,
            false,
            format!("the store says that {from} hands over to {to}"),
        ),
        step(
            "checkpoint",
            here,
            Duration::from_secs(1),
            false,
            "so that the stop is short; writes go on".to_owned(),
        ),
        step(
            "stop",
            here,
            stop,
            true,
            format!("{from} stops cleanly and sends all it has"),
        ),
        step(
            "hand over",
            here,
            trip * 2,
            true,
            format!("once {to} has all of it; until then everything is undone"),
        ),
        step(
            "promote",
            there,
            budget.promote,
            true,
            format!("{to} on timeline {next}, published as epoch {next}"),
        ),
        step(
            "route",
            there,
            budget.route,
            true,
            "the balancers are told by their sockets".to_owned(),
        ),
    ];
    for node in others {
        let detail = if node == from {
            "without a rewind".to_owned()
        } else {
            String::new()
        };
        out.push(step("follow", world.region_of(node), budget.follow, false, detail));
    }
    if strict {
        // The first commit returns when one of them acknowledges.
        if let Some(first) = out.iter_mut().find(|it| it.step == "follow") {
            first.outage = true;
        }
    }
    out
}

/// A failover by `budget`; its detection is over when a person asks.
pub fn failover_steps(world: &World, to: Option<&str>, budget: &Budget) -> Vec<PlannedStep> {
    let there = to.map(|to| world.region_of(to).to_owned());
    let step = |step, region: Option<String>, predicted, detail: String| PlannedStep {
        step,
        region,
        predicted,
        outage: true,
        detail,
    };
    let needed = world.term.seals_needed();
    let who = to.unwrap_or("whoever has most");
    vec![
        step(
            "campaign",
            None,
            budget.campaign,
            format!("epoch {}, in which nobody may write yet", world.term.epoch + 1),
        ),
        step(
            "seal",
            None,
            budget.seal,
            format!(
                "{needed} of {} voters stop acknowledging for {}",
                world.term.voters.len(),
                world.term.leader
            ),
        ),
        step(
            "promote",
            there.clone(),
            budget.replay + budget.promote,
            format!("{who} on timeline {}", world.term.epoch + 1),
        ),
        step(
            "route",
            there.clone(),
            budget.route,
            "the balancers turn writes".to_owned(),
        ),
        step(
            "follow",
            there,
            budget.follow,
            "until the first replica acknowledges".to_owned(),
        ),
    ]
}
