//! The failure matrix of protocol §18, one by one, each with the same oracle as the random schedules.

use ha_core::{
    decide::decide,
    model::{FailoverPolicy, SyncMode, TimingProfile},
};

use crate::{
    database::Proc,
    network::Kind,
    simulate_quietly,
    world::{Flaws, Id, MS, NODES, SECOND, Setup, World},
};

const SEEDS: usize = 8;

/// A whole cluster that node 0 leads in its first epoch; none where the first start took so long that the role was given
/// away meanwhile, which is another scenario.
fn begun(mode: SyncMode, seed: u64) -> Option<World> {
    let mut world = World::new(Setup {
        seed,
        mode,
        profile: if seed.is_multiple_of(2) {
            TimingProfile::Near
        } else {
            TimingProfile::Default
        },
        witness: false,
        young: false,
        policy: FailoverPolicy::default(),
        decide,
        flaws: Flaws::default(),
        print: std::env::var_os("HA_PRINT").is_some(),
    });
    assert!(
        world.run_while(60 * SECOND, |world| world.not_whole().is_none()),
        "seed {seed} never began"
    );
    world.run_for(5 * SECOND);
    (epoch(&world) == 1).then_some(world)
}

/// The cluster is whole, then it happens; then it is whole again within the time, and nothing was lost.
fn each(mode: SyncMode, limit: u64, happens: impl Fn(&mut World)) -> Vec<World> {
    let worlds = (0..4 * SEEDS as u64).filter_map(|seed| Some((seed, begun(mode, seed)?)));
    let judged = worlds.take(SEEDS).map(|(seed, mut world)| {
        happens(&mut world);
        let broken = simulate_quietly(&mut world, limit);
        assert_eq!(broken, None, "seed {seed}\n{}", world.last(60));
        world
    });
    let worlds: Vec<World> = judged.collect();
    assert_eq!(worlds.len(), SEEDS, "too many worlds begin slowly");
    worlds
}

fn epoch(world: &World) -> u64 {
    world.store.term().map_or(0, |it| it.epoch)
}

fn leader(world: &World) -> Id {
    world.leader().expect("a leader")
}

/// Until a term with a higher epoch is active.
fn until_active(world: &mut World, epoch: u64, limit: u64) -> bool {
    world.run_while(limit, |world| {
        world.oracle.published.keys().next_back().is_some_and(|it| *it >= epoch)
    })
}

#[test]
fn a_region_is_lost_and_comes_back() {
    let worlds = each(SyncMode::Strict, 120 * SECOND, |world| {
        world.region_cut(0, 40 * SECOND);
        assert!(
            until_active(world, 2, 30 * SECOND),
            "nobody took over\n{}",
            world.last(40)
        );
    });
    assert!(worlds.iter().all(|it| epoch(it) == 2 && leader(it) != 0));
}

#[test]
fn a_database_freezes() {
    let worlds = each(SyncMode::Strict, 120 * SECOND, |world| {
        world.freeze_database(0, 60 * SECOND);
        assert!(
            until_active(world, 2, 55 * SECOND),
            "nobody took over\n{}",
            world.last(40)
        );
    });
    assert!(worlds.iter().all(|it| leader(it) != 0));
}

#[test]
fn a_guard_freezes_with_its_database_and_both_go_on_after_they_were_replaced() {
    each(SyncMode::Strict, 120 * SECOND, |world| {
        world.freeze_database(0, 30 * SECOND);
        world.freeze_guard(0, 30 * SECOND);
        assert!(
            until_active(world, 2, 30 * SECOND),
            "nobody took over\n{}",
            world.last(40)
        );
    });
}

#[test]
fn a_guard_freezes_alone_and_nothing_fails_over() {
    for mode in [SyncMode::Strict, SyncMode::Async] {
        each(mode, 120 * SECOND, |world| world.freeze_guard(0, 20 * SECOND));
    }
}

#[test]
fn one_way_of_a_line_is_cut_and_nobody_fails_over() {
    let worlds = each(SyncMode::Strict, 120 * SECOND, |world| {
        world.cut(0, 1, None, 30 * SECOND);
        world.run_for(30 * SECOND);
    });
    assert!(worlds.iter().all(|it| epoch(it) == 1));
}

#[test]
fn a_replica_loses_the_store_only() {
    let worlds = each(SyncMode::Strict, 120 * SECOND, |world| {
        for member in [0, 2] {
            world.cut_both(1, member, Some(Kind::Store), 30 * SECOND);
        }
        world.store_member_down(1, 30 * SECOND);
        world.run_for(30 * SECOND);
    });
    assert!(worlds.iter().all(|it| epoch(it) == 1));
}

#[test]
fn the_store_changes_its_leader_and_nobody_is_demoted() {
    let worlds = each(SyncMode::Async, 60 * SECOND, |world| {
        world.store_leader_down(12 * SECOND);
        world.run_for(12 * SECOND);
    });
    let first = worlds.iter().filter(|it| epoch(it) == 1).count();
    assert_eq!(first, worlds.len());
}

#[test]
fn a_strict_primary_goes_on_writing_while_the_store_has_no_quorum() {
    let worlds = each(SyncMode::Strict, 120 * SECOND, |world| {
        world.store_member_down(1, 60 * SECOND);
        world.store_member_down(2, 60 * SECOND);
        world.run_for(20 * SECOND);
        let before = world.oracle.acked.len();
        world.run_for(20 * SECOND);
        assert!(
            world.oracle.acked.len() > before + 100,
            "it stopped\n{}",
            world.last(40)
        );
        world.run_for(20 * SECOND);
    });
    assert!(worlds.iter().all(|it| epoch(it) == 1));
}

#[test]
fn an_async_primary_without_the_store_fences_itself() {
    each(SyncMode::Async, 120 * SECOND, |world| {
        world.store_member_down(1, 40 * SECOND);
        world.store_member_down(2, 40 * SECOND);
        let hold = world.guards[0].timing.hold + world.guards[0].timing.fence_budget;
        world.run_for(crate::guard::micros(hold) + 2 * SECOND);
        assert_ne!(world.databases[0].proc, Proc::Primary, "{}", world.last(40));
        world.run_for(30 * SECOND);
    });
}

#[test]
fn both_replicas_lag_and_the_last_commit_is_on_one() {
    let worlds = each(SyncMode::Strict, 120 * SECOND, |world| {
        world.cut_both(0, 1, Some(Kind::Database), 30 * SECOND);
        world.run_for(2 * SECOND);
        world.machine_crashes(0, 20 * SECOND);
        assert!(
            until_active(world, 2, 30 * SECOND),
            "nobody took over\n{}",
            world.last(40)
        );
    });
    assert!(worlds.iter().all(|it| leader(it) == 2));
}

#[test]
fn a_replica_promoted_by_hand_twice_is_copied_anew_and_nobody_follows_it() {
    let worlds = each(SyncMode::Strict, 180 * SECOND, |world| {
        world.promote_by_hand(1);
        world.run_for(20 * SECOND);
        world.promote_by_hand(2);
        world.run_for(SECOND);
        world.database_crashes(0);
        world.run_for(20 * SECOND);
    });
    assert!(worlds.iter().all(|it| epoch(it) <= 2));
}

/// The number that PostgreSQL takes by itself is then that of the campaign.
#[test]
fn a_replica_promoted_by_hand_in_the_middle_of_a_campaign_is_copied_anew() {
    each(SyncMode::Strict, 180 * SECOND, |world| {
        world.machine_crashes(0, 20 * SECOND);
        world.freeze_guard(2, 12 * SECOND);
        world.run_for(SECOND);
        world.promote_by_hand(2);
        world.run_for(30 * SECOND);
    });
}

/// The campaign runs until then, and the candidate dies.
fn candidate_dies(when: impl Fn(&World) -> bool + Copy) {
    each(SyncMode::Strict, 180 * SECOND, |world| {
        world.machine_crashes(0, 25 * SECOND);
        let mut victim = None;
        let reached = world.run_while(60 * SECOND, |world| {
            victim = world
                .store
                .term()
                .and_then(|it| it.chosen().cloned())
                .and_then(|it| crate::world::id_of(&it));
            when(world)
        });
        let victim = victim.or(world.leader()).unwrap_or(1);
        if reached {
            world.machine_crashes(victim, 15 * SECOND);
        }
        world.run_for(40 * SECOND);
    });
}

#[test]
fn the_candidate_dies_after_it_sealed() {
    candidate_dies(|world| world.guards[1].sealed.is_some());
}

#[test]
fn the_candidate_dies_after_it_was_chosen() {
    candidate_dies(|world| world.store.term().is_some_and(|it| it.chosen().is_some()));
}

#[test]
fn the_candidate_dies_after_it_was_promoted() {
    candidate_dies(|world| (1..NODES).any(|id| world.databases[id].proc == Proc::Primary));
}

#[test]
fn a_switchover_is_done_in_every_mode_and_loses_nothing() {
    for mode in [SyncMode::Strict, SyncMode::Degrade, SyncMode::Async] {
        let worlds = each(mode, 90 * SECOND, |world| {
            world.switchover(1);
        });
        assert!(worlds.iter().all(|it| leader(it) == 1 && epoch(it) == 2), "{mode:?}");
    }
}

#[test]
fn the_target_of_a_switchover_dies_at_any_moment() {
    for wait in [10, 200, 400, 600, 800, 1000, 1500, 2500] {
        each(SyncMode::Strict, 180 * SECOND, |world| {
            world.switchover(1);
            world.run_for(wait * MS);
            world.machine_crashes(1, 20 * SECOND);
            world.run_for(20 * SECOND);
        });
    }
}

#[test]
fn the_leader_of_a_switchover_dies_at_any_moment() {
    for wait in [10, 200, 400, 600, 800, 1000, 1500, 2500] {
        for mode in [SyncMode::Strict, SyncMode::Async] {
            each(mode, 180 * SECOND, |world| {
                world.switchover(1);
                world.run_for(wait * MS);
                world.database_and_guard_crash(0, 15 * SECOND);
                world.run_for(20 * SECOND);
            });
        }
    }
}

#[test]
fn a_switchover_that_nobody_carries_out_is_undone() {
    let worlds = each(SyncMode::Strict, 120 * SECOND, |world| {
        world.guard_crashes(0, 4 * SECOND);
        world.cut_both(0, 1, Some(Kind::Database), 30 * SECOND);
        world.switchover(1);
        world.run_for(30 * SECOND);
    });
    assert!(
        worlds
            .iter()
            .all(|it| it.store.term().is_some_and(|term| term.switch.is_none()))
    );
}

#[test]
fn a_flapping_link_leads_to_at_most_one_failover() {
    let worlds = each(SyncMode::Strict, 120 * SECOND, |world| {
        for _ in 0..12 {
            world.region_cut(0, 10 * SECOND);
            world.run_for(20 * SECOND);
        }
    });
    assert!(worlds.iter().all(|it| epoch(it) <= 2));
}

#[test]
fn a_replica_that_lost_its_disk_is_copied_and_votes_again() {
    let worlds = each(SyncMode::Strict, 120 * SECOND, |world| {
        world.wipe(2);
        world.run_for(SECOND);
    });
    assert!(worlds.iter().all(|it| epoch(it) == 1));
}

#[test]
fn a_primary_that_lost_its_disk_is_replaced_and_copied() {
    let worlds = each(SyncMode::Strict, 180 * SECOND, |world| {
        world.database_crashes(0);
        world.erase(0);
        assert!(
            until_active(world, 2, 40 * SECOND),
            "nobody took over\n{}",
            world.last(40)
        );
    });
    assert!(worlds.iter().all(|it| leader(it) != 0));
}

#[test]
fn to_and_fro_five_times() {
    let worlds = each(SyncMode::Strict, 120 * SECOND, |world| {
        for round in 0..10 {
            let to = (world.leader().expect("a leader") + 1) % 2;
            assert!(world.switchover(to), "round {round}");
            assert!(
                world.run_while(90 * SECOND, |world| world.not_whole().is_none()
                    && world.leader() == Some(to)),
                "round {round}\n{}",
                world.last(60)
            );
            world.run_for(2 * SECOND);
        }
    });
    assert!(worlds.iter().all(|it| epoch(it) == 11));
}

/// Nobody writes the store any more: each guard remembers more than it shows.
#[test]
fn a_store_restored_from_an_old_copy_freezes_everything() {
    let worlds = (0..4 * SEEDS as u64).filter_map(|seed| begun(SyncMode::Strict, seed));
    for mut world in worlds.take(SEEDS) {
        let (entries, revision) = (world.store.entries.clone(), world.store.revision);
        world.switchover(1);
        assert!(world.run_while(60 * SECOND, |world| world.leader() == Some(1)
            && world.not_whole().is_none()));
        world.run_for(2 * SECOND);
        world.restore_store(entries, revision);
        world.run_for(5 * SECOND);
        let before = world.oracle.acked.len();
        world.run_for(20 * SECOND);
        assert_eq!(world.oracle.broken, None, "{}", world.last(40));
        assert!(
            world.oracle.acked.len() > before + 100,
            "the primary whose replicas stream goes on\n{}",
            world.last(40)
        );
        assert_eq!(epoch(&world), 1, "nobody may act on it");
        assert_eq!(world.databases[0].proc, Proc::Replica);
    }
}

#[test]
fn the_same_seed_is_the_same_world() {
    let run = |seed| {
        let (mut world, _) = crate::simulate(crate::setup(seed));
        (world.fingerprint(), world.trace)
    };
    for seed in [1, 2, 3, 11] {
        let (one, two) = (run(seed), run(seed));
        assert_eq!(one.1, two.1, "seed {seed}");
        assert_eq!(one.0, two.0, "seed {seed}");
    }
    assert_ne!(run(1).0, run(2).0);
}
