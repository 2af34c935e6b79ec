//! Processes that stop in their tracks and go on later, as on a machine that hangs.

use ha_tests::Process;

use crate::{
    kills::postmaster,
    world::{Room, Scenario, Verdict, World},
};

pub(crate) const ROOM: Room = Room {
    name: "freezes",
    own: None,
    scenarios: &[
        Scenario {
            name: "the_database",
            play: |world| strict(world, "database"),
        },
        Scenario {
            name: "the_guard",
            play: |world| strict(world, "guard"),
        },
        Scenario {
            name: "database_and_guard",
            play: |world| strict(world, "database guard"),
        },
        Scenario {
            name: "guard_and_deadman",
            play: |world| strict(world, "guard deadman"),
        },
        Scenario {
            name: "the_database_when_acknowledged_means_written_here",
            play: |world| without_acknowledgements(world, "database"),
        },
        Scenario {
            name: "database_and_guard_when_acknowledged_means_written_here",
            play: |world| without_acknowledgements(world, "database guard"),
        },
    ],
};

/// Whatever stops in the primary's region: when it goes on, long after another may have taken over, nothing that it
/// does is acknowledged, and it comes back as a replica.
fn strict(world: &World, what: &str) -> String {
    let (region, epoch) = (world.leader(), world.epoch());
    let verdict = frozen(world, &region, what);
    verdict.passes();
    let failovers = world.epoch() - epoch;
    assert!(failovers <= 1, "{failovers} failovers for one fault");
    format!("{verdict}, {failovers} failovers")
}

/// Only the clocks, guard and deadman keep two from acknowledging at once here, and a failover may lose what no replica
/// had. A database that was frozen is ended before anybody else may write, by its guard or by the deadman.
fn without_acknowledgements(world: &World, what: &str) -> String {
    world.value("ha db sync-mode async | ignore; wait whole");
    let (region, epoch) = (world.leader(), world.epoch());
    let old: Process = postmaster(world, &region);
    let verdict = world.oracle(&format!(
        "fault freeze {region} {what}; wait gone {}; sleep 4sec; fault thaw {region} {what}; sleep 1sec; wait whole",
        old.pid
    ));
    let told = world.lease().number("lost").unwrap_or_default();
    let failovers = world.epoch() - epoch;
    world.value("ha db sync-mode strict | ignore; wait whole");
    verdict.ends_well().one_line();
    assert_eq!(verdict.unexpected, 0, "{}", verdict.record.0);
    let overlaps = verdict.overlaps.len();
    assert!(
        overlaps == 0,
        "{overlaps} times two acknowledged at once: {}",
        verdict.record.0
    );
    // A guard that runs may as well have started its database again.
    assert!(failovers <= 1, "{failovers} failovers for one fault");
    assert!(
        verdict.lost == 0 || told > 0,
        "{} writes lost, and the cluster says that nothing was: {}",
        verdict.lost,
        verdict.record.0
    );
    format!("{verdict} ({told} bytes told), {failovers} failovers")
}

/// Stopped until well after `take`, which is 5 s here; then it goes on.
fn frozen(world: &World, region: &str, what: &str) -> Verdict {
    world.oracle(&format!(
        "fault freeze {region} {what}; sleep 7sec; fault thaw {region} {what}; sleep 1sec; wait whole"
    ))
}
