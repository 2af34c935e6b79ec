//! Decisions that are wrong in one place each: the simulator has to notice all of them.

use ha_core::{
    agreement::Phase,
    decide::{Act, Action, Decision, Facts, decide},
    model::SyncMode,
};

use crate::{
    network::Kind,
    setup, simulate,
    world::{Flaws, MS, SECOND, Setup, World},
};

/// One observer is enough.
fn one_vote_is_enough(facts: &Facts) -> Decision {
    let mut facts = facts.clone();
    let votes = facts.votes.clone();
    for seen in facts.store.members.values_mut() {
        seen.member.votes.clone_from(&votes);
    }
    decide(&facts)
}

/// Voters are dropped as soon as the names are in force.
fn no_barrier(facts: &Facts) -> Decision {
    let mut facts = facts.clone();
    for sender in &mut facts.database.senders {
        sender.flushed = Some(ha_core::lsn::Lsn(u64::MAX));
    }
    decide(&facts)
}

/// What a node holds is not compared with where its timeline was left.
fn follows_without_compare(facts: &Facts) -> Decision {
    let mut facts = facts.clone();
    let me = facts.settings.me.clone();
    if let Some(term) = facts.store.term.as_mut()
        && term.leader != me
        && let Some(position) = facts.database.position
    {
        for left in &mut term.lineage {
            if left.timeline == position.timeline {
                left.ended = ha_core::lsn::Lsn(u64::MAX);
            }
        }
    }
    decide(&facts)
}

/// The lease never runs out.
fn serves_without_lease(facts: &Facts) -> Decision {
    let mut facts = facts.clone();
    facts.lease.left = Some(facts.settings.timing.hold);
    facts.lease.epoch = facts.store.term.as_ref().map_or(0, |it| it.epoch);
    decide(&facts)
}

/// The lease may be taken at once.
fn takes_at_once(facts: &Facts) -> Decision {
    let mut facts = facts.clone();
    facts.store.lease_age = facts.settings.timing.take * 2;
    facts.store.active_for = facts.store.active_for.max(facts.settings.timing.take * 2);
    let mut decision = decide(&facts);
    for act in &mut decision.acts {
        if let Action::Campaign { compare_lease, .. } = &mut act.action {
            *compare_lease = false;
        }
    }
    decision
}

/// Any sealed member chooses itself.
fn chooses_itself(facts: &Facts) -> Decision {
    let mut facts = facts.clone();
    if let Some(mine) = facts.database.sealed {
        for seen in facts.store.members.values_mut() {
            if let Some(sealed) = seen.member.sealed.as_mut() {
                sealed.position = sealed.position.min(mine.position);
            }
        }
        for (node, settings) in &mut facts.settings.nodes {
            settings.priority = u32::from(*node != facts.settings.me);
        }
    }
    decide(&facts)
}

/// One seal is a quorum.
fn one_seal_is_enough(facts: &Facts) -> Decision {
    let mut facts = facts.clone();
    if let Some(campaign) = facts.store.term.as_mut().and_then(|it| it.campaign.as_mut()) {
        campaign.accept_loss = Some(ha_core::agreement::AcceptLoss {
            by: String::new(),
            fenced: String::new(),
        });
        facts.store.sealing_for = facts.settings.policy.restart_budget * 2;
    }
    decide(&facts)
}

/// Whoever was the leader starts its database as a primary, also when the store says nothing.
fn starts_without_asking(facts: &Facts) -> Decision {
    let mut decision = decide(facts);
    let led = facts
        .store
        .term
        .as_ref()
        .is_some_and(|it| it.leader == facts.settings.me && it.phase != Phase::Sealing);
    let stopped = matches!(facts.database.process, ha_core::decide::Process::Stopped { .. });
    if led && stopped && !facts.store.answers && facts.busy.is_none() && decision.acts.is_empty() {
        decision.acts.push(Act {
            action: Action::StartPrimary { names: String::new() },
            why: String::new(),
        });
    }
    decision
}

/// Rebuilt while the leader still counts on it.
fn rebuilt_as_a_voter(facts: &Facts) -> Decision {
    let mut facts = facts.clone();
    let me = facts.settings.me.clone();
    if let Some(term) = facts.store.term.as_mut()
        && term.leader != me
    {
        term.voters.remove(&me);
    }
    decide(&facts)
}

/// Promoted for nobody to wait for.
fn promotes_without_names(facts: &Facts) -> Decision {
    let mut decision = decide(facts);
    for act in &mut decision.acts {
        if let Action::Promote { names, .. } = &mut act.action {
            names.clear();
        }
    }
    decision
}

/// Fallen back before it is published.
fn degrades_before_publishing(facts: &Facts) -> Decision {
    let mut decision = decide(facts);
    for act in &mut decision.acts {
        if let Action::SetVoters { acks: 0, .. } = act.action
            && facts.database.names.as_deref() != Some("")
        {
            act.action = Action::SetNames { names: String::new() };
        }
    }
    decision
}

/// A seed at which it is noticed, of so many.
fn caught(what: &str, modes: &[SyncMode], seeds: u64, change: impl Fn(&mut Setup)) {
    let mut by = Vec::new();
    for seed in 0..seeds {
        for mode in modes {
            let mut one = Setup {
                mode: *mode,
                ..setup(seed)
            };
            let sound = one.clone();
            change(&mut one);
            // What breaks without the change says nothing of it.
            if let (_, Some(broken)) = simulate(one)
                && simulate(sound).1.is_none()
            {
                by.push(format!("seed {seed}, {}: {broken}", mode.as_str()));
                break;
            }
        }
        if !by.is_empty() {
            break;
        }
    }
    assert!(!by.is_empty(), "{what} was not noticed in {seeds} seeds");
    eprintln!("{what}: {}", by[0]);
}

const STRICT: &[SyncMode] = &[SyncMode::Strict];
const ASYNC: &[SyncMode] = &[SyncMode::Async];
const DEGRADE: &[SyncMode] = &[SyncMode::Degrade];

mod decisions {
    use super::*;
    macro_rules! mutant {
        ($($test:ident: $change:path, $modes:expr, $seeds:expr;)*) => {
            $(#[test]
            fn $test() {
                caught(stringify!($test), $modes, $seeds, |setup| setup.decide = $change);
            })*
        };
    }

    mutant! {
        a_campaign_on_one_vote: one_vote_is_enough, STRICT, 200;
        following_without_comparing_logs: follows_without_compare, STRICT, 200;
        serving_after_the_lease: serves_without_lease, ASYNC, 200;
        taking_a_lease_at_once: takes_at_once, ASYNC, 200;
        choosing_not_the_furthest: chooses_itself, STRICT, 200;
        choosing_without_a_quorum: one_seal_is_enough, STRICT, 200;
        starting_without_the_store: starts_without_asking, ASYNC, 200;
        rebuilding_a_voter: rebuilt_as_a_voter, STRICT, 400;
        promoting_with_empty_names: promotes_without_names, STRICT, 200;
        degrading_before_it_is_published: degrades_before_publishing, DEGRADE, 200;
    }
}

/// Three nodes, all well, and nothing that goes wrong by itself.
fn calm(seed: u64, mode: SyncMode, flaws: Flaws) -> World {
    let mut world = World::new(Setup {
        mode,
        profile: ha_core::model::TimingProfile::Near,
        witness: false,
        young: false,
        flaws,
        ..setup(seed)
    });
    world.run_while(60 * SECOND, |world| world.not_whole().is_none());
    world
}

/// One replica is far behind, and the one that is not is left out of the voters.
fn drops_the_only_one_that_has_it_all(change: fn(&Facts) -> Decision) -> Option<String> {
    (0..10).find_map(|seed| {
        let mut world = calm(seed, SyncMode::Strict, Flaws::default());
        world.setup.decide = change;
        world.network.spoil(0, 1, 2 * SECOND, 0);
        world.run_for(5 * SECOND);
        world.left_out(2, 20 * SECOND);
        world.run_for(20 * SECOND);
        world.oracle.broken
    })
}

#[test]
fn voters_dropped_without_barrier() {
    assert_eq!(drops_the_only_one_that_has_it_all(decide), None);
    let broken =
        drops_the_only_one_that_has_it_all(no_barrier).expect("voters dropped without a barrier were not noticed");
    assert!(broken.starts_with("I2"), "{broken}");
}

mod doing {
    use super::*;

    /// A replica whose line was down connects again while it seals; the old primary's guard stands still, and so does
    /// nothing else.
    fn connects_while_it_seals(flaws: Flaws) -> Option<String> {
        (0..150).find_map(|seed| {
            let mut world = calm(seed, SyncMode::Strict, flaws);
            world.cut_both(0, 2, Some(Kind::Database), 7 * SECOND);
            world.cut_both(0, 1, Some(Kind::Database), 60 * SECOND);
            world.run_for(7 * SECOND);
            world.freeze_guard(0, 20 * SECOND);
            let wait = world.random.range(0, 900);
            world.run_for(wait * MS);
            world.operator_campaign();
            world.run_for(15 * SECOND);
            world.oracle.broken
        })
    }

    #[test]
    fn a_seal_that_sees_only_who_streams() {
        assert_eq!(connects_while_it_seals(Flaws::default()), None);
        let flaws = Flaws {
            seal_sees_streaming_only: true,
            ..Flaws::default()
        };
        connects_while_it_seals(flaws).expect("a walreceiver that attached after the seal was not noticed");
    }

    #[test]
    fn leaving_no_acknowledgements_without_a_canary() {
        caught("no canary", DEGRADE, 400, |setup| {
            setup.flaws = Flaws {
                no_canary: true,
                ..Flaws::default()
            };
        });
    }

    #[test]
    fn swaps_that_compare_nothing() {
        caught("blind swaps", STRICT, 200, |setup| {
            setup.flaws = Flaws {
                blind_swaps: true,
                ..Flaws::default()
            };
        });
    }

    /// The guard stands still, its region is cut off, and somebody takes the lease.
    fn guard_stands_still(flaws: Flaws) -> Option<String> {
        (0..5).find_map(|seed| {
            let mut world = calm(seed, SyncMode::Async, flaws);
            world.freeze_guard(0, 60 * SECOND);
            world.region_cut(0, 60 * SECOND);
            world.run_for(60 * SECOND);
            world.oracle.broken
        })
    }

    #[test]
    fn a_machine_without_deadman() {
        assert_eq!(guard_stands_still(Flaws::default()), None);
        let flaws = Flaws {
            no_deadman: true,
            ..Flaws::default()
        };
        guard_stands_still(flaws).expect("a machine without deadman was not noticed");
    }
}
