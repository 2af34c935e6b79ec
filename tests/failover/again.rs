//! The same, again and again: what works once must work the fifth time.

use crate::world::{Room, Scenario, World};

pub(crate) const ROOM: Room = Room {
    name: "again",
    own: None,
    scenarios: &[Scenario {
        name: "five_times_there_and_back_with_a_crash_between",
        play: five_times_there_and_back_with_a_crash_between,
    }],
};

/// Each change of primary can be undone by the next, for ever.
fn five_times_there_and_back_with_a_crash_between(world: &World) -> String {
    let mut figures = Vec::new();
    let home = "us-east";
    for round in 1..=5 {
        let (from, epoch) = (world.leader(), world.epoch());
        let verdict = world.oracle(&format!(
            "fault kill region {from}; wait failover {epoch}; fault restore region {from}; wait whole
             {crash}
             let last = ha failback | last; wait whole; $last",
            crash = if round == 3 {
                "let now = ha lease | get 0; fault kill database $now.region; wait whole"
            } else {
                ""
            },
        ));
        verdict.passes();
        assert_eq!(world.leader(), home, "round {round}: {:?}", verdict.answer);
        figures.push(format!("{:.2}", verdict.outage().unwrap_or_default().as_secs_f64()));
    }
    world.one_lineage();
    format!("longest outages {} s", figures.join(", "))
}
