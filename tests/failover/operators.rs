//! People, and what they use: two at once, one who goes away in the middle, a pause, a balancer that takes no orders.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use ha_tests::{Shell, eventually};

use crate::world::{Room, Scenario, World};

pub(crate) const ROOM: Room = Room {
    name: "operators",
    own: None,
    scenarios: &[
        Scenario {
            name: "two_switch_over_to_different_regions",
            play: two_switch_over_to_different_regions,
        },
        Scenario {
            name: "two_fail_over_at_once",
            play: two_fail_over_at_once,
        },
        Scenario {
            name: "the_shell_is_killed_in_the_middle_of_a_switchover",
            play: the_shell_is_killed_in_the_middle_of_a_switchover,
        },
        Scenario {
            name: "a_pause_keeps_everybody_still",
            play: a_pause_keeps_everybody_still,
        },
        Scenario {
            name: "balancers_that_take_no_orders",
            play: balancers_that_take_no_orders,
        },
    ],
};

/// One wins, and the other is told; both only when the second came after the first had ended.
fn two_switch_over_to_different_regions(world: &World) -> String {
    let epoch = world.epoch();
    let shells = world
        .others()
        .map(|to| world.spawn(&telling(&format!("ha switchover --to {to}"))));
    let done = of_two(shells.map(Told::of));
    world.wait_whole();
    assert_eq!(world.epoch(), epoch + done, "each that is done is one epoch");
    format!("{done} of 2 done")
}

/// Beside the guards, who fail over by themselves: whoever is first, it is done once, and the others are told.
fn two_fail_over_at_once(world: &World) -> String {
    let (region, epoch, others) = (world.leader(), world.epoch(), world.others());
    let gone = world.cluster.folder().join("region-is-gone");
    let (verdict, told) = thread::scope(|scope| {
        let judged = scope.spawn(|| {
            world.oracle(&format!(
                "fault kill region {region}; touch {gone:?}
                 wait failover {epoch}; fault restore region {region}; wait whole"
            ))
        });
        eventually("the region to be gone", Duration::from_secs(60), || {
            if gone.exists() || judged.is_finished() {
                Ok(())
            } else {
                Err("it is there".into())
            }
        });
        let shells = others.map(|to| world.spawn(&telling(&format!("ha failover --to {to}"))));
        let told = shells.map(Told::of);
        (judged.join(), told)
    });
    let verdict = verdict.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    verdict.passes();
    for it in &told {
        assert!(it.done || it.refused(), "neither done nor told why: {it:?}");
    }
    let epochs = world.epoch() - epoch;
    assert!(
        (1..=3).contains(&epochs),
        "{epochs} epochs for one lost region and two people: {told:#?}"
    );
    format!(
        "{verdict}, {epochs} epochs, {} done",
        told.iter().filter(|it| it.done).count()
    )
}

/// At different rows of what it shows: finished or undone by the guards, one writable primary in either case.
fn the_shell_is_killed_in_the_middle_of_a_switchover(world: &World) -> String {
    let mut outcomes = Vec::new();
    for rows in [0, 1, 3, 5] {
        let (region, epoch, [target, _]) = (world.leader(), world.epoch(), world.others());
        let seen = world.cluster.folder().join(format!("rows-{rows}"));
        let mut shell = world.spawn(&format!(
            "'' | save --force {seen:?}
             ha switchover --to {target} | each {{|row| $\"($row | to json --raw)\\n\" | save --append {seen:?} }} | ignore"
        ));
        eventually("enough rows of a switchover", Duration::from_secs(60), || {
            let count = fs::read_to_string(&seen).map(|text| text.lines().count());
            match count {
                Ok(count) if count >= rows => Ok(()),
                _ if shell.finished() => Ok(()),
                other => Err(format!("{other:?} of {rows}")),
            }
        });
        // Both: the plugin alone would go on with what it was asked.
        for process in [shell.plugin(), shell.process()].into_iter().flatten() {
            process.kill();
        }
        eventually("the shell to be gone", Duration::from_secs(30), || {
            if shell.finished() {
                Ok(())
            } else {
                Err("it runs".into())
            }
        });
        let verdict = world.oracle("wait whole");
        verdict.passes();
        let done = world.epoch() - epoch;
        match done {
            0 => assert_eq!(world.leader(), region, "undone after row {rows}"),
            1 => assert_eq!(world.leader(), target, "finished after row {rows}"),
            more => panic!("{more} epochs for one switchover that was left alone after row {rows}"),
        }
        outcomes.push(format!("{rows}: {}", if done == 0 { "undone" } else { "finished" }));
    }
    outcomes.join(", ")
}

/// A dead primary stays dead, nobody takes over, and `ha status` says that it is paused; then it goes on.
fn a_pause_keeps_everybody_still(world: &World) -> String {
    let (region, epoch) = (world.leader(), world.epoch());
    let verdict = world.oracle(&format!(
        "ha pause --why 'changing the switch' | ignore; sleep 1sec; fault kill database {region}; sleep 7sec
         let still = {{ lease: (ha lease | get 0), blocked: (ha status | get blocked | compact) }}
         ha resume | ignore; wait whole; $still"
    ));
    verdict.passes();
    let still = &verdict.answer;
    assert_eq!(still["lease"]["epoch"], epoch, "somebody acted: {still}");
    assert_eq!(still["lease"]["region"], region.as_str(), "somebody acted: {still}");
    assert!(
        still["lease"]["paused"]
            .as_str()
            .is_some_and(|it| it.contains("changing the switch")),
        "{still}"
    );
    assert!(
        verdict.outage().is_some_and(|it| it > Duration::from_secs(5)),
        "nobody restarted it either: {}",
        verdict.record.0
    );
    format!("{verdict}, {} failovers after it", world.epoch() - epoch)
}

/// Their admin sockets are not there: the databases change over all the same, writes find the new primary by the checks,
/// and the guards say so.
fn balancers_that_take_no_orders(world: &World) -> String {
    let (region, epoch) = (world.leader(), world.epoch());
    let sockets = admin_sockets(&world.cluster.runtime_home());
    assert!(sockets.len() >= 3, "{sockets:?}");
    let away = |socket: &Path| socket.with_file_name("admin.away");
    for socket in &sockets {
        fs::rename(socket, away(socket)).expect("a socket");
    }
    let verdict = world.oracle(&format!("fault freeze {region} database; wait failover {epoch}"));
    for socket in &sockets {
        fs::rename(away(socket), socket).expect("a socket");
    }
    world.value(&format!("fault thaw {region} database; wait whole"));
    verdict.passes();
    assert_eq!(world.epoch(), epoch + 1, "one failover");
    let told = world.rows("ha events --last 200 | where event == routing.balancer and status == trouble");
    assert!(!told.is_empty(), "no event says that writes are turned by checks only");
    verdict.to_string()
}

fn admin_sockets(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(admin_sockets(&path));
        } else if path.ends_with("admin.sock") {
            found.push(path);
        }
    }
    found
}

/// What a command that ran beside others came to.
#[derive(Debug)]
struct Told {
    done: bool,
    text: String,
}

/// Prints the rows, or the error with its code.
fn telling(command: &str) -> String {
    format!("try {{ {command} | to json --raw | print }} catch {{|err| print $err.rendered; exit 1 }}")
}

impl Told {
    fn of(shell: Shell) -> Self {
        let output = shell.output();
        let text = [output.stdout, output.stderr]
            .map(|it| String::from_utf8_lossy(&it).into_owned())
            .concat();
        let rows: Vec<serde_json::Value> = serde_json::from_str(text.trim()).unwrap_or_default();
        let measured = rows
            .iter()
            .any(|row| row["step"] == "measured" && row["status"] == "done");
        Self {
            done: output.status.success() && measured,
            text,
        }
    }

    fn refused(&self) -> bool {
        self.text.contains("ha::") || self.text.contains("\"error\":\"")
    }
}

/// How many of them did it; each other was told why not.
fn of_two(told: [Told; 2]) -> i64 {
    let done = told.iter().filter(|it| it.done).count();
    assert!(done >= 1, "nobody: {told:#?}");
    for it in told.iter().filter(|it| !it.done) {
        assert!(it.refused(), "neither done nor told why: {it:?}");
    }
    i64::try_from(done).expect("two at most")
}
