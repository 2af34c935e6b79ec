//! Whose acknowledgements count. Published is never stronger than enforced: weaker is published first and enforced then,
//! stronger is enforced, then a barrier, then published (protocol §4). One step a cycle, each safe to stop after.

use std::collections::BTreeSet;

use super::{
    action::Action,
    cycle::Cycle,
    facts::{Facts, Job},
};
use crate::{
    agreement::{Node, Term, names_of},
    model::SyncMode,
};

/// One step on the way to what the mode demands of those who stream.
struct Step {
    voters: BTreeSet<Node>,
    acks: u32,
    joins: Option<Node>,
    why: String,
}

pub(super) fn run(cycle: &mut Cycle<'_>, term: &Term) {
    let facts = cycle.facts;
    let me = facts.me().to_owned();
    let Some(in_force) = facts.database.names.clone() else {
        return;
    };
    if facts.busy == Some(Job::Names) {
        // Which names are in force is about to change.
        return;
    }
    tell(cycle, term);
    let Some(step) = next(facts, term) else {
        let names = term.names(&me);
        if in_force != names {
            set_names(
                cycle,
                term,
                names,
                "the names in force are not those of the published voters".to_owned(),
            );
        }
        return;
    };
    let Step {
        voters,
        acks,
        joins,
        why,
    } = step;
    let weaker = acks < term.acks || (acks == term.acks && voters.is_superset(&term.voters));
    if weaker {
        return cycle.act(Action::SetVoters { voters, acks, joins }, why);
    }
    let names = names_of(&voters, acks, &me, term.epoch);
    if in_force != names {
        return set_names(cycle, term, names, why);
    }
    let barrier = facts.database_barrier(&names);
    let Some(lsn) = barrier else {
        return cycle.act(
            Action::TakeBarrier { names },
            format!("{why}; what was acknowledged before must be on those that are left"),
        );
    };
    let reached = facts
        .database
        .senders
        .iter()
        .filter(|it| it.epoch == Some(term.epoch) && it.node != me && voters.contains(&it.node))
        .filter(|it| it.flushed.is_some_and(|flushed| flushed >= lsn))
        .count();
    if reached < acks as usize {
        return cycle.block(
            "ha::sync::barrier",
            format!("{why}; waiting for a voter that is left to have the log up to {lsn}"),
            "`ha lag` shows how far each replica is",
        );
    }
    cycle.act(Action::SetVoters { voters, acks, joins }, why);
}

/// Other names only after the last change of `term` was answered: one that was not may still arrive, and reading does not
/// prevent it. Writing the same again does.
fn set_names(cycle: &mut Cycle<'_>, term: &Term, names: String, why: String) {
    if cycle.facts.store.affirmed {
        return cycle.act(Action::SetNames { names }, why);
    }
    let same = Action::SetVoters {
        voters: term.voters.clone(),
        acks: term.acks,
        joins: None,
    };
    cycle.act(
        same,
        format!("{why}; first nothing else may be on its way to the store"),
    );
}

/// What people should know of commits that wait, or that no longer do.
fn tell(cycle: &mut Cycle<'_>, term: &Term) {
    let facts = cycle.facts;
    let streaming = facts.streaming(term.epoch);
    let voters = streaming.iter().filter(|node| term.voters.contains(*node)).count();
    if term.acks > 0 && voters < term.acks as usize {
        let why = "commits wait: no voter streams from the primary".to_owned();
        cycle.alert("SyncDegraded", why.clone());
        cycle.block(
            "ha::sync::no_voter",
            why,
            "`ha lag` shows the replicas; `ha db sync-mode` the price of not waiting",
        );
    }
    if term.acks == 0 && term.mode != SyncMode::Async && facts.data_nodes().len() > 1 {
        let why = format!(
            "commits do not wait for another region, although the mode is {}",
            term.mode.as_str()
        );
        cycle.alert("SyncDegraded", why);
    }
}

fn next(facts: &Facts, term: &Term) -> Option<Step> {
    let me = facts.me();
    let alone = || BTreeSet::from([me.to_owned()]);
    let data = facts.data_nodes();
    let usable = |node: &Node| {
        data.contains(node) && !term.excluded.contains(node) && facts.member(node).is_some_and(|it| it.need.is_none())
    };
    let streaming: BTreeSet<Node> = facts
        .streaming(term.epoch)
        .into_iter()
        .filter(|node| node != me && usable(node))
        .collect();
    let weakest = |why: String| {
        let step = Step {
            voters: alone(),
            acks: 0,
            joins: None,
            why,
        };
        (term.acks > 0 || term.voters != step.voters).then_some(step)
    };
    if term.mode == SyncMode::Async {
        return weakest("the mode is async: commits wait for nobody".to_owned());
    }
    if data.len() < 2 {
        return weakest("there is no other node to wait for".to_owned());
    }
    if term.acks == 0 {
        // Exactly one: with two, the barrier could be met by the one while what was acknowledged last is only on the other,
        // which is no voter yet and may be starting over.
        let node = streaming.into_iter().next()?;
        return Some(Step {
            voters: BTreeSet::from([me.to_owned(), node.clone()]),
            acks: 1,
            why: format!("the mode is {} and {node} streams", term.mode.as_str()),
            joins: Some(node),
        });
    }
    let waited = facts.database.waiting_for.unwrap_or_default();
    let deaf = streaming.iter().all(|node| !term.voters.contains(node));
    if term.mode == SyncMode::Degrade && deaf && waited >= facts.settings.policy.degrade_after {
        return weakest(format!(
            "no voter has acknowledged for {} s, and the mode allows to go on without",
            waited.as_secs()
        ));
    }
    if let Some(step) = dropped(facts, term, &data) {
        return Some(step);
    }
    let node = streaming.into_iter().find(|node| !term.voters.contains(node))?;
    let mut voters = term.voters.clone();
    voters.insert(node.clone());
    Some(Step {
        voters,
        acks: term.acks,
        why: format!("{node} streams again"),
        joins: Some(node),
    })
}

/// Whoever is to be rebuilt, was left out by an operator, or is no node any more; one at a time, and never so many that
/// nobody is left to wait for.
fn dropped(facts: &Facts, term: &Term, data: &BTreeSet<Node>) -> Option<Step> {
    if term.voters.len() <= term.acks as usize + 1 {
        return None;
    }
    let others = term.voters.iter().filter(|node| *node != facts.me());
    let (node, why) = others
        .filter_map(|node| {
            let why = if !data.contains(node) {
                "is no node of the workspace any more".to_owned()
            } else if term.excluded.contains(node) {
                "was left out by an operator".to_owned()
            } else {
                format!("must be rebuilt: {}", facts.member(node)?.need.as_ref()?.why)
            };
            Some((node.clone(), why))
        })
        .next()?;
    let mut voters = term.voters.clone();
    voters.remove(&node);
    Some(Step {
        voters,
        acks: term.acks,
        joins: None,
        why: format!("{node} {why}"),
    })
}
