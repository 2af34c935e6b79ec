//! Lines between regions that are cut: all of a region's, one direction, a single one, and again and again.

use crate::world::{Room, Scenario, World};

pub(crate) const ROOM: Room = Room {
    name: "lines",
    own: None,
    scenarios: &[
        Scenario {
            name: "the_region_is_cut_off_with_clients_inside",
            play: |world| region_cut(world, "ha net cut --region {region}"),
        },
        Scenario {
            name: "nothing_leaves_the_region",
            play: |world| region_cut(world, "ha net cut --from {region}"),
        },
        Scenario {
            name: "nothing_reaches_the_region",
            play: |world| region_cut(world, "ha net cut --to {region}"),
        },
        Scenario {
            name: "the_primary_and_one_replica",
            play: |world| link_cut(world, "cut link {region} {other}"),
        },
        Scenario {
            name: "the_primary_and_one_replica_one_way",
            play: |world| link_cut(world, "ha net cut --from {region} --to {other}"),
        },
        Scenario {
            name: "one_replica_and_the_primary_one_way",
            play: |world| link_cut(world, "ha net cut --from {other} --to {region}"),
        },
        Scenario {
            name: "the_two_replicas",
            play: |world| link_cut(world, "cut link {other} {third}"),
        },
        Scenario {
            name: "a_replica_s_region_is_cut_off",
            play: |world| link_cut(world, "ha net cut --region {other}"),
        },
        Scenario {
            name: "a_flapping_line_is_taken_for_one_failure",
            play: a_flapping_line_is_taken_for_one_failure,
        },
    ],
};

/// Another region takes over, the one that is cut off acknowledges nothing more, and follows when the line is back.
fn region_cut(world: &World, cut: &str) -> String {
    let (region, epoch, others) = (world.leader(), world.epoch(), world.others());
    let cut = cut.replace("{region}", &region);
    let verdict = world.oracle(&format!(
        "{cut} | ignore; wait failover {epoch}; sleep 2sec; ha net heal | ignore; sleep 1sec; wait whole"
    ));
    verdict.passes();
    assert_eq!(world.epoch(), epoch + 1, "one failover");
    assert_ne!(world.leader(), region);
    let outside = others.map(|it| verdict.outage_of(it)).into_iter().flatten().max();
    format!("{verdict}, {} outside", seconds(outside))
}

/// Two of three still see the primary: it stays, and writes go on in its region.
fn link_cut(world: &World, cut: &str) -> String {
    let (region, epoch, [other, third]) = (world.leader(), world.epoch(), world.others());
    let cut = cut
        .replace("{region}", &region)
        .replace("{other}", other)
        .replace("{third}", third);
    let verdict = world.oracle(&format!(
        "let before = date now; {cut} | ignore; sleep 4sec; ha net heal | ignore; let cut = (date now) - $before
         sleep 1sec; wait whole; $cut"
    ));
    verdict.passes();
    assert_eq!((world.leader(), world.epoch()), (region.clone(), epoch), "no failover");
    let cut = verdict
        .answer
        .as_u64()
        .map(std::time::Duration::from_nanos)
        .expect("a duration");
    assert!(
        verdict.outage_of(&region).is_none_or(|outage| outage < cut),
        "nobody wrote while the line was cut: {}",
        verdict.record.0
    );
    format!("{verdict}, {} at the primary", seconds(verdict.outage_of(&region)))
}

/// With a cooldown, one failover at most, and then `ha status` says why there is none.
fn a_flapping_line_is_taken_for_one_failure(world: &World) -> String {
    const WITHOUT: &str = "cooldown_seconds = 0";
    const WITH: &str = "cooldown_seconds = 300";
    world.cluster.edit(WITHOUT, WITH);
    world.cluster.provision();
    // Failovers of other scenarios are not this line's.
    world.value("wait whole; ha ack | ignore");
    let epoch = world.epoch();
    let verdict = world.oracle(&format!(
        "ha net cut --region (primary) | ignore; wait failover {epoch}; ha net heal | ignore; wait whole
         ha net cut --region (primary) | ignore
         wait until 'the reason why nobody takes over' {{
             if (ha status | get blocked | compact | any {{|it| $it has 'last automatic failover' }}) {{ [] }} else {{ ['no reason'] }}
         }} --timeout 30sec
         let said = ha status | get blocked
         ha net heal | ignore
         sleep 1sec
         wait whole
         $said | compact"
    ));
    let after = world.epoch();
    world.cluster.edit(WITH, WITHOUT);
    world.cluster.provision();
    world.wait_whole();
    verdict.passes();
    assert_eq!(after, epoch + 1, "one failover, however often the line fails");
    let said = verdict.answer.to_string();
    assert!(
        said.contains("the last automatic failover was"),
        "nobody says why: {said}"
    );
    verdict.to_string()
}

fn seconds(time: Option<std::time::Duration>) -> String {
    time.map_or_else(|| "no outage".to_owned(), |time| format!("{:.2} s", time.as_secs_f64()))
}
