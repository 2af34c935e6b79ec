//! The mistakes that a check must find: each one, put into the protocol, breaks a rule within a few steps.

use std::collections::BTreeSet;

use stateright::{Checker, HasDiscoveries, Model};

use crate::{
    properties::{CONTINUITY, I1, I2, I2_COPIES, I3, I4, I5, I6},
    state::{Quorum, Set, State},
    steps::{Bounds, Protocol, Step},
};

/// One mistake each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mutant {
    /// A seal leaves the stream running.
    SealKeepsStreaming,
    /// A seal looks at `pg_stat_wal_receiver`, which is empty while a walreceiver connects.
    SealTrustsView,
    /// R = 1, whatever V and W are.
    OneSealIsEnough,
    /// A set is published as smaller once the names are, without waiting for a remaining voter.
    NoBarrier,
    /// Names are emptied, then W = 0 is published.
    DegradePublishedLate,
    /// W = 1 is published, then names are set.
    UpgradePublishedEarly,
    /// Names get a new voter, then V does.
    NamesBeforeVoters,
    CandidateByLsn,
    CandidateByTimeline,
    /// A change of V and W applies whatever became of `term` since.
    ChangeWithoutEpoch,
    /// Standbys stream under a name without an epoch.
    NamesWithoutEpoch,
    /// From empty names straight to the real ones.
    NoCanary,
    /// A voter is rewound or erased without having been dropped.
    ErasedVoter,
    /// … and what was left half-way seals. Alone that breaks nothing, as no ruined copy is a voter's.
    ErasedVoterSeals,
    /// The old leader, chosen again, goes on with its timeline (first trace of protocol §7).
    OldTimelineGoesOn,
    /// What was promoted and never published is no candidate (second trace).
    UnpublishedLeftOut,
    /// A promoted node publishes by what it read of `term` before.
    PublishWithoutCompare,
    /// A change that was not answered is taken back.
    LostAnswerIsFailure,
    /// … or is taken for failed because `term`, read again, does not show it yet.
    RereadIsEnough,
    /// The old primary of a switchover starts again after the swap.
    UndoneAfterSwap,
    /// It was stopped for a switchover without being made a sealed standby first.
    StoppedForSwitchWritable,
    /// PostgreSQL chooses the number of its timeline.
    TimelineNotReserved,
    /// Names are set after the promotion.
    NamesAfterPromote,
    /// The promise is not in a file.
    PromiseInMemory,
    /// A guard erases its copy because `term` once said that it is no voter.
    ErasedByOldTerm,
    /// A voter is added though it has begun to start over.
    AddWithoutComparingMember,
}

/// A way to break `property`, without a step that it does not need, and how many states were seen on the way to it.
fn search(protocol: Protocol, property: &'static str) -> Option<(Vec<Step>, usize)> {
    let wanted = HasDiscoveries::AllOf(BTreeSet::from([property]));
    let checker = protocol.checker().finish_when(wanted).spawn_bfs().join();
    let mut steps = checker.discovery(property)?.into_actions();
    let broken = protocol.property(property).condition;
    let breaks = |steps: &[Step]| {
        let mut state = State::first(protocol.start);
        for step in steps {
            let mut possible = Vec::new();
            protocol.steps(&state, &mut possible);
            if !possible.contains(step) {
                return false;
            }
            state = protocol.after(&state, *step);
        }
        !broken(&protocol, &state)
    };
    let mut at = 0;
    while at < steps.len() {
        let mut without = steps.clone();
        without.remove(at);
        if breaks(&without) {
            (steps, at) = (without, 0);
        } else {
            at += 1;
        }
    }
    Some((steps, checker.unique_state_count()))
}

fn caught(mutant: Mutant, property: &'static str, bounds: Bounds) {
    caught_from(Protocol::new(bounds), mutant, property);
}

fn caught_from(right: Protocol, mutant: Mutant, property: &'static str) {
    let wrong = Protocol {
        mutant: Some(mutant),
        symmetry: false,
        ..right
    };
    let found = search(wrong, property);
    let (steps, states) = found.unwrap_or_else(|| panic!("{mutant:?} breaks nothing that the check can see"));
    eprintln!(
        "{mutant:?} breaks {property}: {} steps, {states} states: {steps:?}",
        steps.len()
    );
}

const PLAIN: Bounds = Bounds {
    writes: 2,
    epochs: 3,
    changes: 0,
    rogue: 0,
    restarts: 0,
    rebuilds: 0,
    switches: 0,
};
const CHANGES: Bounds = Bounds { changes: 2, ..PLAIN };
/// W = 0 at the start: only the leader counts.
const ALONE: Quorum = Quorum {
    voters: Set::of(0),
    acks: 0,
};

#[test]
fn a_seal_that_keeps_streaming() {
    caught(Mutant::SealKeepsStreaming, I2, PLAIN);
}

#[test]
fn a_seal_that_trusts_the_view_of_walreceivers() {
    caught(Mutant::SealTrustsView, I2, PLAIN);
}

#[test]
fn one_seal() {
    caught(Mutant::OneSealIsEnough, I2, PLAIN);
    caught(Mutant::OneSealIsEnough, I5, PLAIN);
    caught(Mutant::OneSealIsEnough, CONTINUITY, PLAIN);
}

#[test]
fn a_voter_dropped_without_the_barrier() {
    caught(Mutant::NoBarrier, I2, CHANGES);
    caught(Mutant::NoBarrier, I2_COPIES, CHANGES);
}

#[test]
fn degrade_published_late() {
    caught(Mutant::DegradePublishedLate, I2, CHANGES);
    caught(Mutant::DegradePublishedLate, I4, CHANGES);
}

#[test]
fn upgrade_published_early() {
    let alone = Protocol {
        start: ALONE,
        ..Protocol::new(CHANGES)
    };
    caught_from(alone, Mutant::UpgradePublishedEarly, I4);
    caught_from(alone, Mutant::UpgradePublishedEarly, I2);
}

#[test]
fn names_before_voters() {
    let two = Protocol {
        start: Quorum {
            voters: Set::of(0).with(1),
            acks: 1,
        },
        ..Protocol::new(CHANGES)
    };
    caught_from(two, Mutant::NamesBeforeVoters, I4);
    caught_from(two, Mutant::NamesBeforeVoters, I2);
}

#[test]
fn the_candidate_by_lsn_without_timeline() {
    caught(Mutant::CandidateByLsn, I5, PLAIN);
    caught(Mutant::CandidateByLsn, I2, Bounds { writes: 3, ..PLAIN });
}

#[test]
fn the_candidate_by_timeline_without_lsn() {
    caught(Mutant::CandidateByTimeline, I2, PLAIN);
}

#[test]
fn a_change_that_does_not_compare_the_epoch() {
    caught(Mutant::ChangeWithoutEpoch, I2, CHANGES);
}

#[test]
fn names_without_an_epoch() {
    caught(Mutant::NamesWithoutEpoch, I2, Bounds { rogue: 1, ..PLAIN });
}

#[test]
fn leaving_w0_without_the_canary() {
    let alone = Protocol {
        start: ALONE,
        ..Protocol::new(CHANGES)
    };
    caught_from(alone, Mutant::NoCanary, I4);
    caught_from(alone, Mutant::NoCanary, I2);
}

#[test]
fn a_voter_erased_without_being_dropped() {
    caught(Mutant::ErasedVoter, I2_COPIES, Bounds { rebuilds: 1, ..PLAIN });
    caught(Mutant::ErasedVoterSeals, I2, Bounds { rebuilds: 1, ..PLAIN });
}

#[test]
fn the_old_timeline_goes_on() {
    caught(Mutant::OldTimelineGoesOn, I2, Bounds { epochs: 4, ..PLAIN });
}

#[test]
fn an_unpublished_promotion_is_left_out() {
    caught(Mutant::UnpublishedLeftOut, I2, PLAIN);
}

#[test]
fn publishing_by_an_old_copy_of_term() {
    caught(Mutant::PublishWithoutCompare, I1, PLAIN);
}

#[test]
fn an_answer_that_was_lost_is_no_failure() {
    caught(Mutant::LostAnswerIsFailure, I2, CHANGES);
    caught(Mutant::LostAnswerIsFailure, I4, CHANGES);
}

#[test]
fn reading_again_does_not_tell_that_a_change_failed() {
    caught(Mutant::RereadIsEnough, I4, CHANGES);
}

#[test]
fn a_switchover_undone_after_the_swap() {
    caught(Mutant::UndoneAfterSwap, I2, Bounds { switches: 1, ..PLAIN });
}

#[test]
fn the_old_primary_of_a_switchover_started_by_hand() {
    let bounds = Bounds {
        switches: 1,
        restarts: 1,
        ..PLAIN
    };
    caught(Mutant::StoppedForSwitchWritable, I2, bounds);
}

#[test]
fn timelines_that_nobody_reserved() {
    caught(Mutant::TimelineNotReserved, I6, PLAIN);
}

#[test]
fn names_set_after_the_promotion() {
    caught(Mutant::NamesAfterPromote, I4, PLAIN);
    caught(Mutant::NamesAfterPromote, I2, PLAIN);
}

#[test]
fn a_promise_kept_in_memory() {
    caught(Mutant::PromiseInMemory, I3, Bounds { restarts: 1, ..CHANGES });
}

#[test]
fn a_copy_erased_by_an_old_copy_of_term() {
    let two = Protocol {
        start: Quorum {
            voters: Set::of(0).with(1),
            acks: 1,
        },
        ..Protocol::new(Bounds { rebuilds: 1, ..CHANGES })
    };
    caught_from(two, Mutant::ErasedByOldTerm, I2_COPIES);
}

#[test]
fn adding_a_voter_that_starts_over() {
    let bounds = Bounds { rebuilds: 1, ..CHANGES };
    caught(Mutant::AddWithoutComparingMember, I2_COPIES, bounds);
}
