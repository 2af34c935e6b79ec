//! The node that leads the present epoch.

use std::time::Duration;

use super::{
    action::Action,
    cycle::Cycle,
    down,
    facts::{Job, Process},
    voters,
};
use crate::{
    agreement::{FENCED_NAMES, Phase, Reason, Term},
    report::NodeRole,
};

pub(super) fn run(cycle: &mut Cycle<'_>, term: &Term) {
    renew(cycle);
    // Told before it is undone: observers who have seen the database stopped wait for its restart, too.
    cycle.decision.may_write = term.phase == Phase::Switching || cycle.facts.busy == Some(Job::Start);
    let database = &cycle.facts.database;
    match (database.process, database.role) {
        (Process::Running, Some(NodeRole::Primary)) => primary(cycle, term),
        (Process::Running, Some(NodeRole::Replica)) => {
            if term.phase == Phase::Switching {
                return undo(cycle, "the database runs as a replica already");
            }
            give_away(cycle, term, "the leader's own database runs as a replica");
        }
        // Whether it hangs or is only slow, the votes tell: this guard's own is among them.
        (Process::Running, None) => hung(cycle, term),
        (Process::Starting { since }, _) => {
            if since < cycle.facts.settings.policy.restart_budget {
                cycle.decision.may_write = true;
            } else {
                give_away(
                    cycle,
                    term,
                    "the database is still starting after its time to come back",
                );
            }
        }
        (Process::Stopped { since, .. }, _) => stopped(cycle, term, since),
        (Process::Absent, _) => give_away(cycle, term, "the leader's data is gone"),
        (Process::Ruined, _) => give_away(cycle, term, "the leader's data is ruined"),
    }
}

/// The lease also says "the leader's guard is there", so it is renewed whatever the database does.
fn renew(cycle: &mut Cycle<'_>) {
    let facts = cycle.facts;
    let due = facts.lease.sent.is_none_or(|sent| sent >= facts.settings.timing.renew);
    let current = facts.term().is_some_and(|term| term.epoch == facts.lease.epoch);
    if due || !current {
        cycle.act(Action::Renew, "this node leads");
    }
}

/// What is left of the right to write, and why.
struct Right {
    left: Duration,
    /// Replicas of this epoch stream: no later epoch can be active (protocol §12).
    continuity: bool,
}

fn right(cycle: &Cycle<'_>, term: &Term) -> Right {
    let facts = cycle.facts;
    let timing = &facts.settings.timing;
    let left = if facts.lease.epoch == term.epoch {
        facts.lease.left.unwrap_or_default()
    } else {
        // Nothing was renewed in this epoch yet: as if it had been when it was first seen.
        timing.hold.saturating_sub(facts.store.term_age)
    };
    let voters = facts.streaming(term.epoch);
    let voters = voters.iter().filter(|node| term.voters.contains(*node)).count();
    let waits = facts.database.names.as_ref().is_some_and(|names| !names.is_empty());
    Right {
        left,
        continuity: term.acks > 0 && waits && voters >= term.acks as usize,
    }
}

fn primary(cycle: &mut Cycle<'_>, term: &Term) {
    let facts = cycle.facts;
    let timeline = facts.database.position.map(|it| it.timeline);
    if timeline.is_some_and(|timeline| timeline != term.timeline) {
        let why = format!(
            "the database is primary on timeline {}, epoch {} is on timeline {}",
            timeline.unwrap_or_default(),
            term.epoch,
            term.timeline
        );
        cycle.alert("PrimaryElectionConflict", why.clone());
        if !cycle.paused("the database is on a timeline that was not agreed") {
            cycle.act(Action::Disown, why);
        }
        return;
    }
    if facts.database.permit.is_none() && !timeline.is_some_and(|it| term.gave(it, facts.me())) {
        cycle.alert(
            "PrimaryElectionConflict",
            "the primary was started by somebody else than its guard".to_owned(),
        );
    }
    let right = right(cycle, term);
    if right.left.is_zero() && !right.continuity {
        let strict = term.acks > 0;
        let why = "the lease has run out and no replica of this epoch streams";
        // Under pause nobody can campaign (it compares the pause), so a strict primary is safe where it is.
        if !(strict && cycle.paused(why)) {
            cycle.act(Action::Fence, why);
        }
        return;
    }
    let patience = facts.settings.timing.sender_patience();
    let allowed = if right.continuity {
        right.left.max(patience)
    } else {
        right.left
    };
    cycle.decision.allowed = Some(allowed);
    cycle.decision.serve.primary = true;
    if !facts.store.answers {
        cycle.block(
            "ha::store::silent",
            "the store does not answer: the primary goes on while replicas of its epoch stream, and nobody can take over",
            "`ha quorum` shows the members of the store",
        );
        return;
    }
    if term.phase == Phase::Switching {
        return switch(cycle, term);
    }
    if facts.store.pause.is_some() {
        return;
    }
    voters::run(cycle, term);
    if facts.database.checkpointed.is_some_and(|it| it != term.timeline) {
        cycle.act(
            Action::Checkpoint,
            "others can rewind to this primary only after its checkpoint is on the new timeline",
        );
    }
}

fn switch(cycle: &mut Cycle<'_>, term: &Term) {
    let Some(to) = term.switch.as_ref().map(|it| it.to.clone()) else {
        return undo(cycle, "it names no target");
    };
    if cycle.facts.busy == Some(Job::HandOver) {
        return;
    }
    if cycle.facts.store.switch_left.is_none_or(|left| left.is_zero()) {
        return undo(cycle, "it was not over in time");
    }
    if cycle.facts.store.pause.is_some() {
        return undo(cycle, "the guards were paused");
    }
    let why = format!("a switchover to {to} was asked for");
    cycle.act(Action::HandOver { to }, why);
}

fn undo(cycle: &mut Cycle<'_>, why: &str) {
    if cycle.facts.busy != Some(Job::HandOver) {
        cycle.act(Action::UndoSwitch, why);
    }
}

fn stopped(cycle: &mut Cycle<'_>, term: &Term, since: Duration) {
    if cycle.facts.busy.is_some() {
        return;
    }
    if term.phase == Phase::Switching {
        // Before the swap back it would be a second writer; after it the rule below starts it.
        return undo(cycle, "it came to a halt with the database stopped");
    }
    if cycle.paused("the leader's database is stopped") {
        return;
    }
    let store = &cycle.facts.store;
    if !store.answers {
        return cycle.block(
            "ha::store::silent",
            "the leader's database is stopped and the store does not say whether it still leads",
            "`ha quorum` shows the members of the store",
        );
    }
    if since >= cycle.facts.settings.policy.restart_budget && may_give_away(cycle, term) {
        return give_away(cycle, term, "the database did not come back within its time");
    }
    // Told first: whoever reads that nothing of it runs may act on that.
    cycle.decision.may_write = true;
    if cycle.facts.member(cycle.facts.me()).is_some_and(|it| it.stopped) {
        return;
    }
    // Nothing is acknowledged before the lease is held, and before it is sure which voters are published: a change that
    // this guard sent before it was restarted may still arrive.
    let names = if term.acks == 0 || !cycle.facts.store.affirmed {
        FENCED_NAMES.to_owned()
    } else {
        term.names(cycle.facts.me())
    };
    cycle.act(
        Action::StartPrimary { names },
        "this node leads and its database is stopped",
    );
}

/// The leader's guard knows that its database answers nobody: with the votes of the others it steps down, too.
fn hung(cycle: &mut Cycle<'_>, term: &Term) {
    let right = right(cycle, term);
    cycle.decision.allowed = Some(right.left.max(Duration::from_millis(1)));
    // A database that is being stopped for a switchover answers nobody either: that ends, or is undone, in its own time.
    let stopping = term.phase == Phase::Switching && cycle.facts.store.switch_left.is_some_and(|left| !left.is_zero());
    if !stopping && down::quorum(cycle.facts, &term.leader).is_ok() {
        give_away(
            cycle,
            term,
            "enough observers say that the database is down, its own guard among them",
        );
    }
}

fn may_give_away(cycle: &mut Cycle<'_>, term: &Term) -> bool {
    down::limits(cycle, term).is_ok() && down::enough(cycle.facts, term).is_ok()
}

/// Steps down by a campaign; nothing happens while nobody could take over.
fn give_away(cycle: &mut Cycle<'_>, term: &Term, why: &str) {
    if !cycle.facts.store.answers || cycle.paused(why) {
        return;
    }
    if let Err(blocked) = down::limits(cycle, term).and_then(|()| down::enough(cycle.facts, term)) {
        return cycle.block(blocked.code, format!("{why}; {}", blocked.why), blocked.help);
    }
    let database = &cycle.facts.database;
    let silent = !matches!(database.process, Process::Running | Process::Starting { .. });
    if term.acks == 0 && !silent && database.role != Some(NodeRole::Replica) {
        // Here nothing but the fence keeps it from acknowledging when it comes to itself.
        return cycle.act(
            Action::Fence,
            format!("{why}; it is ended before its role is given away"),
        );
    }
    cycle.act(
        Action::Campaign {
            reason: Reason::DatabaseGone,
            detail: why.to_owned(),
            compare_lease: false,
            fenced: (term.acks == 0).then(|| "its own guard has ended it and gives its role away".to_owned()),
        },
        why,
    );
}
