//! No guard is left: a person fences the old primary, says so, and the shell does over SQL what guards do.

use rustix::process::Signal;

use crate::world::{REGION_HOSTS, Room, Scenario, World, host_of};

pub(crate) const ROOM: Room = Room {
    name: "witness",
    own: None,
    scenarios: &[
        Scenario {
            name: "every_guard_is_killed_and_the_primary_with_them",
            play: every_guard_is_killed_and_the_primary_with_them,
        },
        Scenario {
            name: "guards_that_stand_still_come_back_in_the_middle",
            play: guards_that_stand_still_come_back_in_the_middle,
        },
        Scenario {
            name: "what_no_witness_may_do",
            play: what_no_witness_may_do,
        },
    ],
};

const WITNESS: &str = "--witness 'a test saw every process of it end'";

/// Guards and all who would start them are killed, so that a deadman ends the primary, too. What was acknowledged is on
/// the furthest of the others; writes come back by the shell alone, and guards that come back later find everything in
/// order: the old primary joins again, the next change of primary is theirs.
fn every_guard_is_killed_and_the_primary_with_them(world: &World) -> String {
    let (region, epoch, [to, _]) = (world.leader(), world.epoch(), world.others());
    let steps = world.cluster.folder().join("witness-steps.json");
    let verdict = world.oracle(&format!(
        "{}
         ha failover --to {to} {WITNESS} | tee {{ to json | save --force {steps:?} }} | where status == failed
         | each {{|row| error make --unspanned {{msg: ($row | to nuon)}} }}
         sleep 2sec",
        without_guards(world, &region)
    ));
    verdict.passes();
    let rows = told(&steps);
    let of = |step: &str| rows.iter().filter(|row| row["step"] == step).count();
    assert!(of("seal") >= 2 && of("promote") == 1 && of("publish") == 1, "{rows:#?}");
    assert!(of("route") == 3 && of("follow") >= 1 && of("write") == 1, "{rows:#?}");
    let last = rows.last().expect("rows");
    assert_eq!((&last["step"], &last["status"]), (&"measured".into(), &"done".into()));
    assert_eq!(last["lost"], 0, "{last:#?}");
    let lease = world.lease();
    assert_eq!(
        (lease.number("epoch"), lease.text("phase")),
        (Some(epoch + 1), "active")
    );
    assert_ne!(lease.text("region"), region);
    let new = lease.text("region").to_owned();
    // Nobody but the shell has done anything, and the third one streams already.
    let streams = "select count(*) from pg_stat_replication where state = 'streaming'";
    assert_eq!(world.sql(&new, streams).as_deref(), Ok("1"));

    // With its guard away nobody asks the balancers to change their mind; its own brings the checks back.
    restore(world);
    world.wait_whole();
    assert_eq!(world.epoch(), epoch + 1, "guards found an epoch like any other");
    let conflict = world.rows("ha events --last 200 | where event == alert and subject == PrimaryElectionConflict");
    assert!(conflict.is_empty(), "{conflict:#?}");
    let newest = world.history().pop().expect("a history");
    assert_eq!(
        (newest.text("reason"), newest.number("epoch")),
        ("witness", Some(epoch + 1))
    );

    // The next two are the guards' own: the primary that was made over SQL gives the role away, by itself and with a bang.
    let again = world.oracle(&format!(
        "let epoch = epoch; ha switchover --to {region} | ignore; wait whole
         let epoch = epoch; fault kill region {region}; wait failover $epoch; fault restore region {region}; wait whole"
    ));
    again.passes();
    format!("{verdict}; afterwards {again}")
}

/// Frozen guards go on where they were. They may do so at any row of what the shell does.
fn guards_that_stand_still_come_back_in_the_middle(world: &World) -> String {
    let mut told = Vec::new();
    for step in ["pause", "campaign", "seal", "promote"] {
        let (region, epoch) = (world.leader(), world.epoch());
        let thaw: Vec<String> = REGION_HOSTS.map(|(it, _)| format!("fault thaw {it} guard")).into();
        let freeze: Vec<String> = REGION_HOSTS.map(|(it, _)| format!("fault freeze {it} guard")).into();
        let verdict = world.oracle(&format!(
            "{}; try {{ fault kill database {region} }}
             ha failover {WITNESS} | each {{|row| if $row.step == {step} {{ {} }}; $row }} | ignore
             wait whole",
            freeze.join("; "),
            thaw.join("; "),
        ));
        verdict.passes();
        let epochs = world.epoch() - epoch;
        assert!((1..=3).contains(&epochs), "{epochs} epochs, guards back at {step}");
        told.push(format!("at {step}: {verdict}, {epochs} epochs"));
    }
    told.join("; ")
}

/// Each refusal names its reason and what to type; the term is as it was.
fn what_no_witness_may_do(world: &World) -> String {
    // Of a primary that a witness made the same command is a repetition, which finishes what is left to do.
    let moved = world.rows("ha switchover");
    assert!(moved.last().is_some_and(|row| row.is("status", "done")), "{moved:?}");
    world.wait_whole();
    let (region, epoch, [other, _]) = (world.leader(), world.epoch(), world.others());
    let refuses = |command: &str, code: &str| {
        let refused = world.refused(command);
        assert!(
            refused.rendered.contains(code),
            "{command} does not say {code}: {refused}"
        );
        assert!(!refused.message.is_empty() && !refused.help.is_empty(), "{refused}");
    };
    refuses(&format!("ha failover {WITNESS}"), "ha::failover::guards_answer");
    refuses("ha failover --witness ' '", "ha::argument::invalid");

    // Deadmen would end the primary: they stand still, too.
    for (it, _) in REGION_HOSTS {
        world.signal(it, "deadman", Signal::STOP);
        world.signal(it, "guard", Signal::STOP);
    }
    refuses("ha failover", "ha::agreement::no_guards");
    refuses("ha failover", "--witness");
    // It answers, whatever anybody says.
    refuses(&format!("ha failover {WITNESS}"), "ha::failover::primary_up");
    // It answers others, though not this machine.
    world.signal(&region, "database", Signal::STOP);
    let rows = world.rows(&format!("ha failover --explain {WITNESS}"));
    let leads = rows.iter().find(|row| row.is("region", &region)).expect("a row each");
    assert!(*leads.get("eligible") == serde_json::json!(false), "{leads:?}");
    let dry = world.rows(&format!("ha failover --dry-run --to {other} {WITNESS}"));
    let steps: Vec<_> = dry.iter().map(|row| row.text("step")).collect();
    assert!(steps.contains(&"watch") && steps.contains(&"promote"), "{dry:#?}");
    refuses(
        &format!("ha failover --to {} {WITNESS}", host_of(&region)),
        "ha::failover::is_primary",
    );

    // Only one database is left: fewer than must seal.
    world.signal(other, "database", Signal::STOP);
    refuses(&format!("ha failover {WITNESS}"), "ha::failover::no_quorum");
    world.signal(other, "database", Signal::CONT);

    // Neither guards nor store.
    for (it, _) in &REGION_HOSTS[..2] {
        world.signal(it, "etcd", Signal::STOP);
    }
    refuses(&format!("ha failover {WITNESS}"), "ha::store::no_witness");
    for (it, _) in &REGION_HOSTS[..2] {
        world.signal(it, "etcd", Signal::CONT);
    }

    // One guard is at work where this machine cannot see it: it has no answer, and writes to the store.
    world.signal(&region, "database", Signal::CONT);
    for (it, _) in REGION_HOSTS {
        world.signal(it, "guard", Signal::CONT);
        world.signal(it, "deadman", Signal::CONT);
    }
    world.wait_whole();
    format!("{} epochs meanwhile, by guards", world.epoch() - epoch)
}

/// Supervisors, guards; then the primary's deadman has ended it, or it is killed.
fn without_guards(world: &World, primary: &str) -> String {
    let mut code = Vec::new();
    for (region, _) in REGION_HOSTS {
        let keeper = world.cluster.supervisor(region).expect("a supervisor");
        code.push(format!("kill --force {}", keeper.pid));
    }
    for (region, _) in REGION_HOSTS {
        code.push(format!("fault kill unit {region} guard"));
    }
    code.push(format!("try {{ fault kill database {primary} }}"));
    format!("{}; sleep 1sec", code.join("; "))
}

/// Whoever starts guards runs again, and starts them.
fn restore(world: &World) {
    for (region, _) in REGION_HOSTS {
        world.value(&format!("fault restore region {region}"));
    }
}

fn told(path: &std::path::Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(path).expect("the rows of the failover");
    serde_json::from_str(&text).expect("rows")
}
