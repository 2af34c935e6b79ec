//! Processes that die, alone and together.

use crate::world::{Room, Scenario, World};

pub(crate) const ROOM: Room = Room {
    name: "kills",
    own: None,
    scenarios: &[Scenario {
        name: "everything_in_the_primary_s_region",
        play: everything_in_the_primary_s_region,
    }],
};

/// Database, guard, store member, balancer and supervisor at once; what comes back with the power joins by itself.
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
