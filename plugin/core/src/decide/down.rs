//! Whether the primary is gone, and whether anybody may act on it (protocol §6).

use std::time::Duration;

use super::{
    action::{Action, Blocked},
    cycle::Cycle,
    facts::Facts,
};
use crate::agreement::{Phase, Reason, Term, Verdict, seals_needed};
use crate::lsn::Position;

/// Enough observers say that `node` is down: a majority of all that vote. Those who cannot reach the store have no vote.
pub(super) fn quorum(facts: &Facts, node: &str) -> Result<usize, (usize, usize)> {
    let observers = facts.settings.nodes.len();
    let me = facts.me();
    let mut down = 0;
    for observer in facts.settings.nodes.keys() {
        let vote = if observer == me {
            facts.votes.get(node).copied()
        } else {
            let seen = facts
                .store
                .members
                .get(observer)
                .filter(|seen| seen.age <= patience(facts));
            seen.and_then(|seen| seen.member.votes.get(node).copied())
        };
        down += usize::from(vote == Some(Verdict::Down));
    }
    let needed = observers / 2 + 1;
    if down >= needed { Ok(down) } else { Err((down, needed)) }
}

/// A report older than this is that of a guard which is gone or cut off.
pub(super) fn patience(facts: &Facts) -> Duration {
    facts.settings.timing.renew * 4 + facts.settings.timing.call_timeout
}

/// The replicas' part: campaigns when the leader is down and nothing forbids it.
pub(super) fn run(cycle: &mut Cycle<'_>, term: &Term) {
    let facts = cycle.facts;
    if facts.votes.get(&term.leader) != Some(&Verdict::Down) || !facts.store.answers {
        return;
    }
    let leader = &term.leader;
    let votes = match quorum(facts, leader) {
        Ok(votes) => votes,
        Err((votes, needed)) => {
            return cycle.block(
                "ha::failover::votes",
                format!("{leader} looks down from here, and {votes} of the {needed} observers needed say so"),
                "`ha quorum` shows every vote",
            );
        }
    };
    let observers = facts.settings.nodes.len();
    let why = format!("{votes} of {observers} observers say that {leader} is down");
    if term.phase == Phase::Switching && !abandoned(facts, term) {
        return;
    }
    // One that was down, sealed, and was chosen for having the most is down in everybody's eyes until the next look.
    if facts.store.active_for < facts.settings.timing.detect() {
        return cycle.block(
            "ha::failover::detecting",
            format!(
                "{why}, and it leads epoch {} for too short a time to say that of",
                term.epoch
            ),
            "it is over by itself",
        );
    }
    let told = facts
        .store
        .members
        .get(leader)
        .filter(|seen| seen.age <= patience(facts));
    if told.is_some_and(|seen| seen.member.restarting) {
        return cycle.block(
            "ha::failover::restarting",
            format!(
                "{why}; its own guard is bringing it back, and gives the role away after {} s",
                facts.settings.policy.restart_budget.as_secs()
            ),
            "it is over by itself",
        );
    }
    if cycle.paused(&why) {
        return;
    }
    if let Err(blocked) = limits(cycle, term).and_then(|()| enough(facts, term)) {
        return cycle.block(blocked.code, format!("{why}; {}", blocked.why), blocked.help);
    }
    let fenced = match fence_needed(facts, term) {
        Ok(fenced) => fenced,
        Err(blocked) => return cycle.block(blocked.code, format!("{why}; {}", blocked.why), blocked.help),
    };
    cycle.act(
        Action::Campaign {
            reason: Reason::PrimaryDown,
            detail: why.clone(),
            compare_lease: fenced.is_some(),
            fenced,
        },
        why,
    );
}

/// A leader in the middle of a switchover has stopped its database on purpose: its guard ends or undoes that, unless it
/// is gone itself.
fn abandoned(facts: &Facts, term: &Term) -> bool {
    let gone = facts
        .store
        .members
        .get(&term.leader)
        .is_none_or(|seen| seen.age > facts.settings.timing.hold);
    gone || facts.store.switch_left.is_none_or(|left| left.is_zero())
}

/// What forbids an automatic failover now.
pub(super) fn limits(cycle: &Cycle<'_>, term: &Term) -> Result<(), Blocked> {
    let facts = cycle.facts;
    let policy = &facts.settings.policy;
    let blocked = |code, why: String, help: &str| Blocked {
        code,
        why,
        help: help.to_owned(),
    };
    if !policy.automatic {
        return Err(blocked(
            "ha::failover::manual",
            "`failover.automatic` is false in the workspace".to_owned(),
            "`ha failover`",
        ));
    }
    let before = facts.store.automatic_today;
    if let Some(limit) = policy.daily_limit
        && before >= limit
    {
        return Err(blocked(
            "ha::failover::ack",
            format!("there were {before} automatic failovers within a day, and {limit} are allowed"),
            "find out why, then `ha ack`; or `ha failover`",
        ));
    }
    if before > 0 {
        let cooldown = policy.cooldown * 2_u32.saturating_pow((before - 1).min(16));
        if facts.store.active_for < cooldown && term.phase == Phase::Active {
            return Err(blocked(
                "ha::failover::cooldown",
                format!(
                    "the last automatic failover was {} s ago, and there is none for {} s after it",
                    facts.store.active_for.as_secs(),
                    cooldown.as_secs()
                ),
                "wait, or `ha failover`",
            ));
        }
    }
    Ok(())
}

/// Enough voters report to seal, and one of them may lead: otherwise a campaign would only stop what still runs.
pub(super) fn enough(facts: &Facts, term: &Term) -> Result<(), Blocked> {
    let able: Vec<_> = facts
        .settings
        .nodes
        .iter()
        .filter(|(node, it)| it.data && (term.acks == 0 || term.voters.contains(*node)))
        .filter(|(node, _)| able(facts, node))
        .collect();
    let needed = if term.acks == 0 {
        1
    } else {
        seals_needed(term.voters.len(), term.acks as usize)
    };
    if able.len() < needed {
        return Err(Blocked {
            code: "ha::failover::seals",
            why: format!(
                "{needed} of the voters {} must seal to be sure of every acknowledged write, and {} can",
                words(term.voters.iter()),
                if able.is_empty() {
                    "none".to_owned()
                } else {
                    format!("only {}", words(able.iter().map(|(node, _)| *node)))
                },
            ),
            help: "bring one of them back; `ha failover --accept-loss` does without, at a price it shows".to_owned(),
        });
    }
    let others: Vec<_> = able.iter().filter(|(node, _)| **node != term.leader).collect();
    if others.iter().all(|(_, it)| it.forbidden.is_some()) {
        let why = match others
            .iter()
            .find_map(|(node, it)| Some((node, it.forbidden.as_ref()?)))
        {
            Some((node, why)) => format!("no other node may lead: {node}: {why}"),
            None => "no other node can lead".to_owned(),
        };
        return Err(Blocked {
            code: "ha::failover::candidates",
            why,
            help: "`ha failover --explain` shows every node".to_owned(),
        });
    }
    Ok(())
}

/// It reports, has data that need not be rebuilt, and so can seal.
fn able(facts: &Facts, node: &str) -> bool {
    if node == facts.me() {
        use super::facts::Process::{Absent, Ruined};
        return facts.database.need.is_none() && !matches!(facts.database.process, Absent | Ruined);
    }
    let seen = facts.store.members.get(node).filter(|seen| seen.age <= patience(facts));
    seen.is_some_and(|seen| {
        let member = &seen.member;
        member.need.is_none() && member.position.is_some()
    })
}

/// Where commits wait for nobody, only a lease that was not renewed tells that the old primary writes no more: a report
/// that it was stopped is not proof, for its guard may start it in the same moment. Answers with how it is known; none where the seals are proof enough.
fn fence_needed(facts: &Facts, term: &Term) -> Result<Option<String>, Blocked> {
    if term.acks > 0 {
        return Ok(None);
    }
    let (age, take) = (facts.store.lease_age, facts.settings.timing.take);
    if age < take {
        return Err(Blocked {
            code: "ha::failover::lease",
            why: format!(
                "its lease may still be held: unrenewed for {:.1} s of {:.1} s",
                age.as_secs_f64(),
                take.as_secs_f64()
            ),
            help: "it is taken then".to_owned(),
        });
    }
    let others = facts
        .store
        .members
        .values()
        .filter(|seen| seen.member.node != term.leader);
    let best = others
        .filter_map(|seen| seen.member.position)
        .chain(facts.database.position)
        .max();
    if let Some(blocked) = best.and_then(|best| loss(facts, best)) {
        return Err(blocked);
    }
    Ok(Some(format!(
        "its lease was not renewed for {:.1} s",
        age.as_secs_f64()
    )))
}

/// What is known to be lost if the log goes on from `best`, when that is more than policy allows.
pub(super) fn loss(facts: &Facts, best: Position) -> Option<Blocked> {
    let written = facts.store.lease.as_ref()?.written?;
    let lost = written.lsn.bytes_since(best.lsn);
    let most = facts.settings.policy.max_loss_bytes;
    (lost > most).then(|| Blocked {
        code: "ha::failover::loss",
        why: format!(
            "at least {lost} bytes of the log would be lost, and {most} are allowed by failover.max_loss_bytes"
        ),
        help: "bring the old primary back, or `ha failover --accept-loss`".to_owned(),
    })
}

fn words<'a>(nodes: impl Iterator<Item = &'a String>) -> String {
    nodes.map(String::as_str).collect::<Vec<_>>().join(", ")
}
