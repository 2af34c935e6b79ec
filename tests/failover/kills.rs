//! Processes that die, alone and together.

use std::time::Duration;

use ha_tests::{Process, eventually};

use crate::world::{Room, Scenario, World, host_of};

pub(crate) const ROOM: Room = Room {
    name: "kills",
    own: None,
    scenarios: &[
        Scenario {
            name: "everything_in_the_primary_s_region",
            play: everything_in_the_primary_s_region,
        },
        Scenario {
            name: "the_postmaster_alone_with_a_looping_session",
            play: the_postmaster_alone_with_a_looping_session,
        },
        Scenario {
            name: "the_database_only",
            play: the_database_only,
        },
        Scenario {
            name: "the_guard",
            play: the_guard,
        },
        Scenario {
            name: "the_deadman",
            play: the_deadman,
        },
        Scenario {
            name: "the_balancer",
            play: the_balancer,
        },
        Scenario {
            name: "the_guard_and_who_would_start_it_again",
            play: the_guard_and_who_would_start_it_again,
        },
    ],
};

/// Database, guard, store member, balancer and supervisor at once; with the power back, they join by themselves.
fn everything_in_the_primary_s_region(world: &World) -> String {
    let (region, epoch) = (world.leader(), world.epoch());
    let verdict = world.oracle(&format!(
        "fault kill region {region}; wait failover {epoch}; sleep 1sec; fault restore region {region}; wait whole"
    ));
    verdict.passes();
    assert_eq!(world.epoch(), epoch + 1, "one failover");
    assert_ne!(world.leader(), region);
    verdict.to_string()
}

/// The children of a killed postmaster go on: a session that commits in a loop would write for ever. Its guard ends all
/// of them before anything is started in their place.
fn the_postmaster_alone_with_a_looping_session(world: &World) -> String {
    const LOOP: &str = "create table if not exists matrix_loop (n bigint); \
        create or replace procedure matrix_loop() language plpgsql as \
        $$ begin for i in 1..100000000 loop insert into matrix_loop values (i); commit; end loop; end $$";
    let (region, epoch) = (world.leader(), world.epoch());
    world.sql(&region, LOOP).expect("a procedure");
    let mut session = world.session(&region, "call matrix_loop()");
    eventually("the loop to commit", Duration::from_secs(20), || {
        let rows = world.sql(&region, "select count(*) > 10 from matrix_loop")?;
        if rows == "t" { Ok(()) } else { Err("no rows yet".into()) }
    });
    let before = world.processes(&region, "database");
    let pids: Vec<_> = before.iter().map(|it| it.pid.to_string()).collect();
    let pids = pids.join(" ");
    let verdict = world.oracle(&format!(
        "fault kill database {region} --postmaster-only; wait gone {pids}; wait whole"
    ));
    verdict.passes();
    let left: Vec<_> = before.into_iter().filter(Process::alive).collect();
    assert!(left.is_empty(), "of the old database: {left:?}");
    session.wait().expect("the session has ended with its server");
    world
        .sql(&world.leader(), "drop procedure matrix_loop; drop table matrix_loop")
        .expect("dropped");
    format!("{verdict}, {} failovers", world.epoch() - epoch)
}

/// Started again where it was, by its guard. Only when that takes longer than the others need to see that it is gone,
/// another takes over.
fn the_database_only(world: &World) -> String {
    let (region, epoch) = (world.leader(), world.epoch());
    let old = postmaster(world, &region);
    let verdict = world.oracle(&format!(
        "fault kill database {region}; wait gone {}; wait whole",
        old.pid
    ));
    verdict.passes();
    let failovers = world.epoch() - epoch;
    assert!(failovers <= 1, "{failovers} failovers for one fault");
    assert_ne!(postmaster(world, &region), old);
    format!("{verdict}, {failovers} failovers")
}

/// Its database goes on, and the next guard finds everything as it was.
fn the_guard(world: &World) -> String {
    unit_dies(world, "guard")
}

fn the_deadman(world: &World) -> String {
    unit_dies(world, "deadman")
}

/// Sessions of its own region end; writes go to the same database afterwards.
fn the_balancer(world: &World) -> String {
    unit_dies(world, "haproxy")
}

/// One unit of the primary's region is killed, another runs in its place, and the database never notices.
fn unit_dies(world: &World, unit: &str) -> String {
    let (region, epoch) = (world.leader(), world.epoch());
    let database = postmaster(world, &region);
    let old = world.processes(&region, unit);
    assert!(!old.is_empty(), "no {unit} in {region}");
    let verdict = world.oracle(&format!(
        "fault kill unit {region} {unit}; sleep 1sec; wait healthy; wait whole"
    ));
    verdict.passes();
    assert_eq!((world.leader(), world.epoch()), (region.clone(), epoch), "no failover");
    assert_eq!(postmaster(world, &region), database, "its database went on");
    let new = world.processes(&region, unit);
    assert!(
        new.len() == old.len() && new.iter().all(|it| !old.contains(it)),
        "{old:?}, then {new:?}"
    );
    verdict.to_string()
}

/// Nobody renews the lease and nobody starts a guard: the deadman ends the database at the deadline, and another region
/// takes over.
fn the_guard_and_who_would_start_it_again(world: &World) -> String {
    let (region, epoch) = (world.leader(), world.epoch());
    let old = postmaster(world, &region);
    let keeper = world.cluster.supervisor(&region).expect("a supervisor");
    let verdict = world.oracle(&format!(
        "kill --force {}; fault kill unit {region} guard; wait failover {epoch}; fault restore region {region}; \
         wait whole",
        keeper.pid
    ));
    verdict.passes();
    assert!(!old.alive(), "the deadman ended it");
    assert_eq!(world.epoch(), epoch + 1, "one failover");
    verdict.to_string()
}

pub(crate) fn postmaster(world: &World, region: &str) -> Process {
    let found = world.cluster.postgres(region, host_of(region));
    found.unwrap_or_else(|| panic!("no database runs in {region}"))
}
