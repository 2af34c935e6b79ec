//! A campaign: promise, seal, choose, promote, publish. Nobody leads it: whoever is furthest goes on, and whoever finds it
//! half done finishes it.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    action::{Action, Blocked},
    cycle::Cycle,
    down,
    facts::{Facts, Process},
};
use crate::{
    agreement::{FENCED_NAMES, Need, Node, Phase, Reason, Term, furthest, is_quorum},
    lsn::Position,
    report::{DatabaseState, NodeRole},
};

pub(super) fn run(cycle: &mut Cycle<'_>, term: &Term) {
    debug_assert_eq!(term.phase, Phase::Sealing);
    let facts = cycle.facts;
    let me = facts.me().to_owned();
    let database = &facts.database;
    let primary = (database.process, database.role) == (Process::Running, Some(NodeRole::Primary));
    let mine = term.chosen() == Some(&me);
    let on_own = database.position.is_some_and(|it| it.timeline == term.own_timeline());
    if cycle.paused("a campaign is going on") {
        return;
    }
    // Over SQL it is promoted from the same seal, under names that let nobody acknowledge before it is published.
    if mine && primary && on_own && (facts.promise.promoted == term.epoch || term.is_witnessed()) {
        return cycle.act(
            Action::Publish,
            format!("{me} was chosen and is primary on timeline {}", term.own_timeline()),
        );
    }
    if !facts.settings.nodes.get(&me).is_none_or(|it| it.data) {
        return retry(cycle, term);
    }
    if primary && !cycle.made_here(term) {
        // Sealed, its timeline would be taken for the one of that number.
        let why = "this database was made primary by no campaign".to_owned();
        cycle.alert("PrimaryElectionConflict", why.clone());
        return cycle.act(Action::Disown, why);
    }
    match database.process {
        Process::Absent | Process::Ruined => return retry(cycle, term),
        _ => {}
    }
    if let (Process::Stopped { .. }, Some(need)) = (database.process, database.need.as_ref().filter(|it| it.copy)) {
        cycle.decision.need = Some(need.clone());
        return retry(cycle, term);
    }
    if let Some(why) = cycle.orphan(term) {
        cycle.decision.need = Some(Need {
            copy: true,
            why: why.clone(),
        });
        cycle.block(
            "ha::failover::orphan",
            format!("this node does not count: {why}"),
            "it is copied anew when somebody leads",
        );
        return retry(cycle, term);
    }
    let sealed_at = database
        .sealed
        .filter(|it| it.epoch == term.epoch)
        .map(|it| it.position);
    let sealed_at = match sealed_at {
        Some(position) if facts.promise.epoch >= term.epoch && !primary => position,
        _ => {
            return cycle.act(
                Action::Seal { epoch: term.epoch },
                format!("epoch {} began: {}", term.epoch, detail(term)),
            );
        }
    };
    match term.chosen() {
        Some(chosen) if *chosen == me && sealed_at.timeline >= term.own_timeline() => {
            // A timeline begins once. What was written on it before it was published is a candidate's like any other's.
            let why = format!(
                "{me} was made primary in epoch {} and stopped before that was published",
                term.epoch
            );
            again(cycle, term, why);
        }
        Some(chosen) if *chosen == me => {
            let names = if term.acks == 0 {
                // It is not agreed yet that commits need not wait in this epoch.
                FENCED_NAMES.to_owned()
            } else {
                term.names(&me)
            };
            cycle.act(
                Action::Promote {
                    epoch: term.epoch,
                    names,
                },
                format!("{me} was chosen: {}", detail(term)),
            );
        }
        Some(_) => retry(cycle, term),
        None => choose(cycle, term, sealed_at),
    }
}

fn detail(term: &Term) -> String {
    term.campaign.as_ref().map(|it| it.detail.clone()).unwrap_or_default()
}

/// Who has sealed for this epoch and counts.
fn sealed(facts: &Facts, term: &Term, mine: Position) -> BTreeMap<Node, Position> {
    let others = facts.store.members.values().map(|seen| &seen.member);
    let mut sealed: BTreeMap<Node, Position> = others
        .filter(|member| member.need.is_none() && member.node != facts.me())
        .filter(|member| facts.settings.nodes.get(&member.node).is_some_and(|it| it.data))
        .filter_map(|member| Some((member.node.clone(), member.sealed_for(term.epoch)?)))
        .collect();
    sealed.insert(facts.me().to_owned(), mine);
    sealed
}

fn choose(cycle: &mut Cycle<'_>, term: &Term, mine: Position) {
    let facts = cycle.facts;
    let me = facts.me().to_owned();
    let sealed = sealed(facts, term, mine);
    let lossy = term.campaign.as_ref().is_some_and(|it| it.accept_loss.is_some());
    if !lossy && !is_quorum(&term.voters, term.acks, &sealed) {
        let have: Vec<&str> = sealed
            .keys()
            .filter(|it| term.voters.contains(*it))
            .map(String::as_str)
            .collect();
        cycle.block(
            "ha::failover::seals",
            format!(
                "{} of the voters {} must seal, and so far {} did",
                term.seals_needed(),
                term.voters.iter().map(String::as_str).collect::<Vec<_>>().join(", "),
                if have.is_empty() {
                    "none".to_owned()
                } else {
                    have.join(", ")
                }
            ),
            "bring another of them back, the old primary included; `ha failover --accept-loss` does without",
        );
        return retry(cycle, term);
    }
    // With a quorum nobody else is needed; without one everybody who may still come makes the loss smaller.
    if lossy && !is_quorum(&term.voters, term.acks, &sealed) && somebody_may_come(facts, &sealed) {
        return;
    }
    let counted: BTreeSet<Node> = if lossy {
        sealed.keys().cloned().collect()
    } else {
        term.voters.clone()
    };
    let most = furthest(&counted, &sealed);
    let wanted = term.campaign.as_ref().and_then(|it| it.wanted.clone());
    let best = most
        .iter()
        .filter_map(|node| Some((*node, facts.settings.nodes.get(*node)?)))
        .filter(|(_, it)| it.forbidden.is_none())
        // What made it be given up may be there still.
        .min_by_key(|(node, it)| {
            (
                wanted.as_ref() != Some(*node),
                given_up(term, node),
                it.priority,
                (*node).clone(),
            )
        })
        .map(|(node, _)| node.clone());
    match best {
        Some(best) if best == me => {
            if let Some(blocked) = too_much(facts, term, mine) {
                return cycle.block(blocked.code, blocked.why, blocked.help);
            }
            let seals = sealed.len();
            cycle.act(
                Action::Choose { sealed },
                format!("of {seals} sealed nodes none has more than {me} ({mine})"),
            );
        }
        Some(_) => retry(cycle, term),
        None => {
            let names = most.iter().map(|node| node.as_str()).collect::<Vec<_>>().join(", ");
            cycle.block(
                "ha::failover::candidates",
                format!("{names} has the furthest log, and policy never makes it primary"),
                "allow it in the workspace and `ha provision`, or `ha failover --accept-loss`",
            );
        }
    }
}

/// This campaign is there because it was down.
fn given_up(term: &Term, node: &Node) -> bool {
    let reason = term.campaign.as_ref().map(|it| it.reason);
    *node == term.leader && matches!(reason, Some(Reason::PrimaryDown | Reason::DatabaseGone))
}

/// What nobody asked for must not lose more than is allowed. The old primary, back and sealed, ends it, too.
fn too_much(facts: &Facts, term: &Term, mine: Position) -> Option<Blocked> {
    let automatic = term
        .campaign
        .as_ref()
        .is_some_and(|it| it.automatic && it.accept_loss.is_some());
    automatic.then(|| down::loss(facts, mine)).flatten()
}

/// A guard that reports and whose database is not sealed yet, within the time a database has to come back.
fn somebody_may_come(facts: &Facts, sealed: &BTreeMap<Node, Position>) -> bool {
    facts.store.sealing_for < facts.settings.policy.restart_budget
        && facts.store.members.values().any(|seen| {
            let member = &seen.member;
            seen.age <= down::patience(facts)
                && member.need.is_none()
                // One that is starting, or hangs, may have more than all the others.
                && !matches!(member.state, DatabaseState::Absent | DatabaseState::Creating)
                && !sealed.contains_key(&member.node)
        })
}

/// The chosen one, or the whole campaign, does not come to an end: the next epoch chooses anew. Harmless and never
/// hurried, for nothing is lost by waiting.
fn retry(cycle: &mut Cycle<'_>, term: &Term) {
    let facts = cycle.facts;
    let timing = &facts.settings.timing;
    let Some(chosen) = term.chosen() else { return };
    if chosen == facts.me() || !facts.store.answers {
        return;
    }
    let gone = facts
        .store
        .members
        .get(chosen)
        .is_none_or(|seen| seen.age > down::patience(facts));
    let voted = down::quorum(facts, chosen).is_ok();
    let stuck = facts.store.term_age >= timing.take.max(facts.settings.policy.restart_budget) * 2;
    let why = match (gone, voted, stuck) {
        (true, true, _) => format!("{chosen} was chosen and is gone"),
        (_, _, true) => format!(
            "{chosen} was chosen and is not primary after {} s",
            facts.store.term_age.as_secs()
        ),
        _ => return,
    };
    again(cycle, term, why);
}

fn again(cycle: &mut Cycle<'_>, term: &Term, why: String) {
    let campaign = term.campaign.as_ref();
    cycle.act(
        Action::Campaign {
            reason: Reason::Retry,
            detail: why.clone(),
            compare_lease: false,
            fenced: campaign.and_then(|it| Some(it.accept_loss.as_ref()?.fenced.clone())),
        },
        why,
    );
}
