//! Guards that die, or stand still, at each numbered step of protocol §7, §8 and §10, and others that finish.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use ha_tests::Row;

use crate::world::{Room, Scenario, World, host_of};

pub(crate) const ROOM: Room = Room {
    name: "points",
    own: None,
    scenarios: &[
        Scenario {
            name: "guards_die_at_every_step_of_a_failover_and_of_a_rejoin",
            play: guards_die_at_every_step_of_a_failover_and_of_a_rejoin,
        },
        Scenario {
            name: "the_chosen_one_stands_still_before_it_is_promoted",
            play: |world| another_finishes(world, "promote.before"),
        },
        Scenario {
            name: "the_chosen_one_stands_still_promoted_and_unpublished",
            play: |world| another_finishes(world, "publish.before"),
        },
        Scenario {
            name: "the_leader_s_guard_dies_at_every_step_of_a_switchover",
            play: the_leader_s_guard_dies_at_every_step_of_a_switchover,
        },
        Scenario {
            name: "the_leader_s_guard_stands_still_with_its_database_stopped",
            play: the_leader_s_guard_stands_still_with_its_database_stopped,
        },
    ],
};

/// Of whoever takes over.
const TAKING_OVER: [&str; 8] = [
    "campaign",
    "seal.promised",
    "seal.sealed",
    "choose",
    "promote.before",
    "promote.after",
    "publish.before",
    "publish.after",
];
/// Of a replica whose primary has changed.
const FOLLOWING: [&str; 3] = ["seal.promised", "seal.sealed", "follow.before"];
/// Of the old primary, which wrote what nobody else has.
const RETURNING: [&str; 3] = ["rebuild.before", "rebuild.stopped", "rebuild.done"];
/// Of a primary that hands over.
const HANDING_OVER: [&str; 4] = [
    "hand_over.checkpointed",
    "hand_over.stopped",
    "hand_over.caught_up",
    "hand_over.swapped",
];

/// Each surviving guard dies at every step it comes to, once; the old primary's dies at every step of its rebuild.
fn guards_die_at_every_step_of_a_failover_and_of_a_rejoin(world: &World) -> String {
    let (region, epoch) = (world.leader(), world.epoch());
    for other in world.others() {
        let every: Vec<&str> = TAKING_OVER.into_iter().chain(["follow.before"]).collect();
        fail_at(world, other, &every);
    }
    fail_at(world, &region, &RETURNING);
    // Cut off for a moment it flushes what nobody acknowledges: its log is one to be rewound. Patience: two guards die
    // nine times each, and who starts them waits longer each time.
    let verdict = world.oracle(&format!(
        "ha net cut --region {region} | ignore; sleep 700ms; fault kill region {region}; ha net heal | ignore
         wait failover {epoch} --timeout 3min; let leads = ha lease | get 0.region
         sleep 500ms; fault restore region {region}; wait whole; $leads"
    ));
    verdict.passes();
    // Its guard dies after it led, too, and comes back later each time: another may lead by now, the old one included.
    let new = verdict.answer.as_str().expect("a region").to_owned();
    assert_ne!(new, region);
    let left_of_new = disarm(world, &new);
    let third = |it: &&str| *it != region && *it != new;
    let follower = ha_tests::REGIONS.into_iter().find(third).expect("a third");
    let left = disarm(world, follower);
    for step in TAKING_OVER {
        // One of the two begins an epoch, and it is not always the one that is chosen in it.
        let elsewhere = step == "campaign" && !left.iter().any(|it| it == step);
        let came = elsewhere || !left_of_new.iter().any(|it| it == step);
        assert!(came, "{new} never came to {step}");
    }
    for step in FOLLOWING {
        assert!(!left.iter().any(|it| it == step), "{follower} never came to {step}");
    }
    let left = disarm(world, &region);
    assert!(left.is_empty(), "{region} was not rebuilt: {left:?}");
    verdict.to_string()
}

/// The one that was chosen hangs, and its machine does not: the old primary comes back, and the next epoch is decided
/// without the one that hangs. When that goes on it finds that its time is over.
fn another_finishes(world: &World, step: &str) -> String {
    let (region, epoch) = (world.leader(), world.epoch());
    let others = world.others();
    for other in others {
        fail_at(world, other, &[&format!("{step} stop")]);
    }
    let [one, two] = others.map(|it| file(world, it).display().to_string());
    let verdict = world.oracle(&format!(
        "fault kill region {region}
         wait until 'the chosen one to stand still' {{
             if ([{one:?} {two:?}] | all {{|it| $it | path exists }}) {{ ['nobody does'] }} else {{ [] }}
         }} --every 50ms
         rm --force {one:?} {two:?}
         fault restore region {region}
         wait failover {epoch}
         let leads = ha lease | get 0
         fault repair
         wait whole
         $leads"
    ));
    verdict.passes();
    let leads = Row(verdict.answer.clone());
    assert!(
        leads.number("epoch") > Some(epoch + 1),
        "the epoch of the one that stood still came to nothing: {leads:?}"
    );
    verdict.to_string()
}

/// Whatever the step, the switchover is done or undone, and says so.
fn the_leader_s_guard_dies_at_every_step_of_a_switchover(world: &World) -> String {
    let mut figures = Vec::new();
    for step in HANDING_OVER {
        let (region, epoch) = (world.leader(), world.epoch());
        fail_at(world, &region, &[step]);
        let verdict = world.oracle("let last = ha switchover | last; wait whole; $last");
        verdict.passes();
        let left = disarm(world, &region);
        assert!(left.is_empty(), "the guard of {region} never came to {step}");
        let last = Row(verdict.answer.clone());
        let moved = world.leader() != region;
        match last.text("status") {
            // Its guard is away for a moment, and its database is stopped: the others may have seen that as what it is.
            "undone" => {
                let failed_over = world.epoch() == epoch + 1;
                // Told by the time it was undone: with the failover that came between, or before it.
                let told = last.number("epoch");
                assert!(
                    told == Some(epoch) || (failed_over && told == Some(epoch + 1)),
                    "{last:?}"
                );
                assert!(failed_over || (!moved && world.epoch() == epoch), "{last:?}");
            }
            "done" => assert_eq!((moved, world.epoch()), (true, epoch + 1), "done is done once: {last:?}"),
            _ => panic!("{step}: neither done nor undone: {last:?}"),
        }
        let outage = verdict.outage().unwrap_or_default();
        figures.push(format!("{step} {} {:.2} s", last.text("status"), outage.as_secs_f64()));
    }
    figures.join(", ")
}

/// Nobody can undo it for a guard that hangs: the others see that the switchover comes to nothing and take over.
fn the_leader_s_guard_stands_still_with_its_database_stopped(world: &World) -> String {
    let (region, epoch) = (world.leader(), world.epoch());
    fail_at(world, &region, &["hand_over.stopped stop"]);
    let verdict = world.oracle(&format!(
        "let last = ha switchover | last
         wait failover {epoch}; fault thaw {region} guard; wait whole
         $last"
    ));
    verdict.passes();
    let left = disarm(world, &region);
    assert!(left.is_empty(), "the guard of {region} never stopped its database");
    assert_ne!(world.leader(), region, "{:?}", verdict.answer);
    verdict.to_string()
}

fn file(world: &World, region: &str) -> PathBuf {
    let config = world.cluster.host(region, host_of(region)).join("etc/guard.json");
    let text = fs::read(&config).expect("guard.json");
    let config: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    let folder = config["failover"]["runtime_dir"].as_str().expect("its runtime folder");
    PathBuf::from(folder).join("fail_at")
}

/// The region's guard fails at each of these steps, once.
pub(crate) fn fail_at(world: &World, region: &str, steps: &[&str]) {
    let file = file(world, region);
    fs::write(&file, steps.join("\n")).expect("the file of fail points");
    // The guard, another user, strikes off what it has come to.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).expect("a mode");
}

/// What it has not come to.
fn disarm(world: &World, region: &str) -> Vec<String> {
    let file = file(world, region);
    let left = fs::read_to_string(&file).unwrap_or_default();
    // Nothing is left to remove where every step was reached.
    let _ = fs::remove_file(&file);
    left.lines().map(str::to_owned).collect()
}
