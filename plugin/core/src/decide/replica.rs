//! Everybody but the leader of the present epoch.

use super::{
    action::Action,
    cycle::Cycle,
    down,
    facts::{Facts, Process},
};
use crate::{
    agreement::{Need, Term, diverged},
    report::NodeRole,
};

pub(super) fn run(cycle: &mut Cycle<'_>, term: &Term) {
    let facts = cycle.facts;
    let leader = term.leader.clone();
    let database = &facts.database;
    if !facts.settings.nodes.get(facts.me()).is_none_or(|it| it.data) {
        return down::run(cycle, term);
    }
    match (database.process, database.role) {
        (Process::Running, Some(NodeRole::Primary)) => second_primary(cycle, term),
        (Process::Running, Some(NodeRole::Replica)) => {
            replica(cycle, term);
            down::run(cycle, term);
        }
        (Process::Stopped { .. }, _) if database.need.as_ref().is_some_and(|it| it.copy) => {
            // Tried already: started as it is, it might wait for log that nobody has.
            if let Some(need) = database.need.clone() {
                rebuild(cycle, term, need);
            }
            down::run(cycle, term);
        }
        (Process::Stopped { .. }, _) => {
            if !cycle.paused("the database is stopped") {
                let why = format!("{leader} leads; what this node holds is seen when it runs without an upstream");
                cycle.act(Action::StartSealed, why);
            }
            down::run(cycle, term);
        }
        (Process::Absent, _) => {
            down::run(cycle, term);
            if reachable(cycle, term) && !cycle.paused("there is no data here") {
                cycle.act(
                    Action::Copy { from: leader.clone() },
                    format!("there is no data here, and {leader} leads"),
                );
            }
        }
        (Process::Ruined, _) => {
            let need = Need {
                copy: true,
                why: "an earlier rebuild stopped half-way, or the data was made primary outside any campaign"
                    .to_owned(),
            };
            rebuild(cycle, term, need);
            down::run(cycle, term);
        }
        (Process::Starting { .. } | Process::Running, _) => {
            if let Some(epoch) = database.permit
                && !cycle.paused("the database may be a primary that hangs")
            {
                // It was started to be primary, and would go on where it was when it comes to itself.
                let why = format!(
                    "{leader} leads epoch {}, and this database may be the primary of epoch {epoch}",
                    term.epoch
                );
                cycle.act(Action::Fence, why);
            }
            down::run(cycle, term);
        }
    }
}

fn second_primary(cycle: &mut Cycle<'_>, term: &Term) {
    let facts = cycle.facts;
    let timeline = facts.database.position.map_or(0, |it| it.timeline);
    let why = format!(
        "{} leads epoch {}, and this database is primary on timeline {timeline}",
        term.leader, term.epoch
    );
    cycle.alert("PrimaryElectionConflict", why.clone());
    // Where commits wait for nobody it acknowledges what is lost later, pause or not.
    let open = facts.database.names.as_ref().is_some_and(String::is_empty);
    if !open && cycle.paused(&why) {
        return;
    }
    if cycle.made_here(term) {
        cycle.act(Action::Fence, why);
    } else {
        cycle.act(Action::Disown, format!("{why}, which no campaign made"));
    }
}

fn replica(cycle: &mut Cycle<'_>, term: &Term) {
    let facts = cycle.facts;
    let database = &facts.database;
    let Some(position) = database.position else { return };
    let need = database
        .need
        .clone()
        .or_else(|| cycle.orphan(term).map(|why| Need { copy: true, why }))
        .or_else(|| diverged(position, term.timeline, &term.lineage).map(|why| Need { copy: false, why }));
    if let Some(need) = need {
        return rebuild(cycle, term, need);
    }
    if follows(facts, term) {
        cycle.decision.serve.replica = true;
        return;
    }
    if facts.store.pause.is_some() {
        return;
    }
    let (node, epoch) = (term.leader.clone(), term.epoch);
    let why = format!("{node} leads epoch {epoch}, and all that this node has is its log, too");
    cycle.act(Action::Follow { node, epoch }, why);
}

/// A voter waits until it is none: then one node less has to seal while it is half rebuilt. It does not wait for what
/// cannot happen: when no other voter streams from the primary, the barrier would never be reached, and nothing is
/// acknowledged before this node is back. What makes that safe: half of a rebuilt log never seals, and what it is rebuilt
/// from leads an epoch no older than this node's promise.
fn rebuild(cycle: &mut Cycle<'_>, term: &Term, need: Need) {
    let facts = cycle.facts;
    let me = facts.me();
    let others = term.voters.iter().filter(|node| *node != me && **node != term.leader);
    let others = others.filter(|node| streams(facts, term, node)).count();
    let streaming = facts.database.streaming && follows(facts, term);
    let counted = term.voters.contains(me)
        && term.voters.len() > term.acks as usize + 1
        && (others >= term.acks as usize || streaming);
    let checkpointed = facts.member(&term.leader).and_then(|it| it.checkpointed) == Some(term.timeline);
    let why = need.why.clone();
    let copy = need.copy;
    cycle.decision.need = Some(need);
    if !reachable(cycle, term) || cycle.paused(&why) {
        return;
    }
    // Told first, looked at `term` then: the leader compares this node's report when it makes it a voter again.
    if facts.member(facts.me()).is_none_or(|it| it.need.is_none()) {
        return;
    }
    if counted {
        return cycle.block(
            "ha::rejoin::voter",
            format!("{why}; it is rebuilt as soon as {} counts on it no more", term.leader),
            "it waits for another voter to have all that was acknowledged",
        );
    }
    if !copy && !checkpointed {
        return cycle.block(
            "ha::rejoin::checkpoint",
            format!(
                "{why}; it is rewound as soon as {} has a checkpoint on timeline {}",
                term.leader, term.timeline
            ),
            "it asks for one by itself",
        );
    }
    let from = term.leader.clone();
    cycle.act(Action::Rebuild { from, copy }, why);
}

/// By its own report.
fn streams(facts: &Facts, term: &Term, node: &str) -> bool {
    let seen = facts
        .store
        .members
        .get(node)
        .filter(|seen| seen.age <= down::patience(facts));
    let follows = seen.and_then(|seen| seen.member.follows.as_ref());
    follows.is_some_and(|it| it.streaming && it.epoch == term.epoch && it.node == term.leader)
}

fn follows(facts: &Facts, term: &Term) -> bool {
    let follows = facts.database.follows.as_ref();
    follows.is_some_and(|(node, epoch)| *node == term.leader && *epoch == term.epoch)
}

/// The leader reports, so there is somebody to copy.
fn reachable(cycle: &Cycle<'_>, term: &Term) -> bool {
    let facts = cycle.facts;
    let seen = facts.store.members.get(&term.leader);
    facts.store.answers
        && seen.is_some_and(|seen| seen.age <= down::patience(facts) && seen.member.role == Some(NodeRole::Primary))
}
