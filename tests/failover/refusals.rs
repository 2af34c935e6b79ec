//! What is refused: with a code, a reason and the next command, and nothing is changed by it.

use ha_tests::Refused;
use rustix::process::Signal;

use crate::{
    points,
    world::{REGION_HOSTS, Room, Scenario, World, host_of},
};

pub(crate) const ROOM: Room = Room {
    name: "refusals",
    own: None,
    scenarios: &[
        Scenario {
            name: "a_wrong_target",
            play: a_wrong_target,
        },
        Scenario {
            name: "a_target_that_is_not_ready",
            play: a_target_that_is_not_ready,
        },
        Scenario {
            name: "a_pause_and_a_running_switchover",
            play: a_pause_and_a_running_switchover,
        },
        Scenario {
            name: "no_guards_and_no_store",
            play: no_guards_and_no_store,
        },
        Scenario {
            name: "another_workspace_in_the_same_store",
            play: another_workspace_in_the_same_store,
        },
    ],
};

fn a_wrong_target(world: &World) -> String {
    let leader = world.leader();
    let node = host_of(&leader);
    let near: String = leader.chars().rev().collect();
    for command in ["ha switchover", "ha failover"] {
        refuses(world, &format!("{command} --to {near}"), "ha::region::unknown");
    }
    for name in [leader.as_str(), node] {
        refuses(
            world,
            &format!("ha switchover --to {name}"),
            "ha::switchover::is_primary",
        );
        // The present primary lives: that comes first, and the rest is told with it.
        refuses(world, &format!("ha failover --to {name}"), "ha::failover::primary_up");
    }
    refuses(world, "ha failover", "ha::failover::primary_up");
    refuses(world, "ha failover --accept-loss", "ha::failover::primary_up");
    refuses(world, "ha failover --fenced seen", "ha::argument::invalid");
    // A region that may not lead: the file says so, before it is provisioned.
    let other = world.others()[0];
    let field = format!("region_{} = {{\n", other.replace('-', "_"));
    edited(world, &field, &format!("{field}    can_lead = false,\n"), || {
        refuses(
            world,
            &format!("ha switchover --to {other}"),
            "ha::switchover::forbidden",
        );
        let said = world.rows("ha switchover --explain");
        let row = said.iter().find(|row| row.is("region", other)).expect("a row each");
        assert!(row.text("reason").contains("can_lead"), "{row:?}");
    });
    broken_timing(world);
    "each with code, reason and next command".into()
}

/// While `look` looks, the workspace says something else than what was provisioned.
fn edited(world: &World, from: &str, to: &str, look: impl FnOnce()) {
    world.cluster.edit(from, to);
    look();
    world.cluster.edit(to, from);
}

/// Each rule of protocol §5 is a finding of its own, and no primary is moved under such constants.
fn broken_timing(world: &World) {
    for (rule, constants) in [
        ("C1", "take_ms = 3300"),
        ("C2", "hold_ms = 1500"),
        ("C4", "probe_failures = 30"),
    ] {
        let to = format!("timing = {{ profile = 'Near, {constants} }}");
        edited(world, "timing = 'Near", &to, || {
            let found = world.rows("ha check");
            let told = found.iter().any(|row| row.0.to_string().contains(rule));
            assert!(told, "{constants} breaks {rule}, and ha check says only: {found:#?}");
            let refused = unchanged(world, "ha switchover");
            assert!(
                ["ha::agreement::timing", "ha::workspace::invalid"].contains(&refused.code.as_str()),
                "{refused}"
            );
        });
    }
}

/// Paused, frozen, or in need of a new copy.
fn a_target_that_is_not_ready(world: &World) -> String {
    let [one, _] = world.others();
    let node = host_of(one);

    // It receives and does not replay.
    world.sql(one, "select pg_wal_replay_pause()").expect("paused");
    until_refused(
        world,
        &format!("ha switchover --to {node}"),
        "ha::switchover::replay_paused",
    );
    world.sql(one, "select pg_wal_replay_resume()").expect("resumed");

    // It does not answer.
    world.signal(one, "database", Signal::STOP);
    world.signal(one, "guard", Signal::STOP);
    refuses(
        world,
        &format!("ha switchover --to {one}"),
        "ha::switchover::unreachable",
    );
    world.signal(one, "guard", Signal::CONT);
    until_refused(
        world,
        &format!("ha switchover --to {one}"),
        "ha::switchover::not_streaming",
    );
    world.signal(one, "database", Signal::CONT);
    world.wait_whole();
    "replay paused, unreachable, not streaming".into()
}

fn a_pause_and_a_running_switchover(world: &World) -> String {
    world.value("ha pause --why 'a test of refusals' --for 5min | ignore");
    for command in ["ha switchover", "ha failover", "ha failback"] {
        let refused = unchanged(world, command);
        // Where the primary is at home there is nothing to go back to.
        let at_home = command == "ha failback" && refused.code.is_empty();
        assert!(
            at_home || refused.code == "ha::agreement::paused",
            "{command}: {refused}"
        );
    }
    world.value("ha resume | ignore");

    // A switchover in the middle of which the leader's guard stands still.
    let leader = world.leader();
    let [one, two] = world.others();
    points::fail_at(world, &leader, &["hand_over.checkpointed stop"]);
    let running = world.spawn(&format!("ha switchover --to {one} | last | to json --raw"));
    world.value(
        "wait until 'the switchover to begin' {
             if (ha lease | get 0.phase) == switching { [] } else { [no] }
         } --every 50ms --timeout 30sec",
    );
    let refused = world.refused(&format!("ha switchover --to {two}"));
    assert_eq!(refused.code, "ha::switchover::running", "{refused}");
    assert!(refused.help.contains("ha switchover --to"), "{refused}");
    world.signal(&leader, "guard", Signal::CONT);
    let output = running.output();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("done"), "it is done or undone: {said}");
    world.wait_whole();
    "paused, running".into()
}

/// With every guard frozen nobody could carry it out; without the store's quorum nobody could agree to it.
fn no_guards_and_no_store(world: &World) -> String {
    for (region, _) in REGION_HOSTS {
        world.signal(region, "guard", Signal::STOP);
    }
    let refused = world.refused("ha switchover");
    assert_eq!(refused.code, "ha::agreement::no_guards", "{refused}");
    told(&refused);
    for (region, _) in REGION_HOSTS {
        world.signal(region, "guard", Signal::CONT);
    }
    world.wait_whole();

    let epoch = world.epoch();
    for (region, _) in &REGION_HOSTS[..2] {
        world.signal(region, "etcd", Signal::STOP);
    }
    for command in ["ha switchover", "ha failover", "ha pause --why test"] {
        let refused = world.refused(command);
        assert!(refused.code.starts_with("ha::store::"), "{command}: {refused}");
        told(&refused);
    }
    for (region, _) in &REGION_HOSTS[..2] {
        world.signal(region, "etcd", Signal::CONT);
    }
    world.wait_whole();
    assert_eq!(world.epoch(), epoch, "nothing was changed");
    "no guards, no store".into()
}

/// Keys of a workspace of another name, and a term of theirs, concern nobody here.
fn another_workspace_in_the_same_store(world: &World) -> String {
    let before = world.epoch();
    let own = format!("/ha/{}/", world.cluster.name);
    let theirs = format!("/ha/{}2/", world.cluster.name);
    let copied: Vec<_> = world.stored(&own);
    assert!(copied.iter().any(|(key, _)| key.ends_with("/term")), "{copied:?}");
    for (key, value) in &copied {
        let mut value = value.clone();
        if let Some(epoch) = value.get_mut("epoch") {
            *epoch = serde_json::json!(before + 40);
        }
        let key = key.replacen(&own, &theirs, 1);
        world
            .etcdctl("us-east", &["put", &key, &value.to_string()])
            .expect("written");
    }
    let verdict = world.oracle("sleep 2sec");
    verdict.passes();
    assert_eq!(world.epoch(), before);
    world
        .etcdctl("us-east", &["del", "--prefix", &theirs])
        .expect("removed");
    verdict.to_string()
}

/// It is refused with this code, says what and what next, and the term is as it was.
fn refuses(world: &World, command: &str, code: &str) {
    let refused = unchanged(world, command);
    // All that stands in the way is told at once; which comes first is not the point.
    assert!(
        refused.rendered.contains(code),
        "{command} does not say {code}: {refused}"
    );
    told(&refused);
}

fn told(refused: &Refused) {
    assert!(!refused.message.is_empty() && !refused.help.is_empty(), "{refused}");
}

fn unchanged(world: &World, command: &str) -> Refused {
    let before = term(world);
    let refused = match world.nu(command) {
        Err(refused) => refused,
        // An answer of rows is one that changed nothing, or it failed the comparison below.
        Ok(rows) => Refused {
            message: rows.to_string(),
            code: String::new(),
            help: String::new(),
            rendered: rows.to_string(),
        },
    };
    assert_eq!(term(world), before, "{command} changed something");
    refused
}

/// Guards need a moment to see it.
fn until_refused(world: &World, command: &str, code: &str) {
    ha_tests::eventually(command, std::time::Duration::from_secs(15), || {
        match world.nu(&format!("{command} --dry-run | where status == refused | get code")) {
            Ok(codes) if codes.to_string().contains(code) => Ok(()),
            Ok(codes) => Err(codes.to_string()),
            Err(refused) => Err(refused.to_string()),
        }
    });
    refuses(world, command, code);
}

fn term(world: &World) -> serde_json::Value {
    let key = format!("/ha/{}/", world.cluster.name);
    let all = world.stored(&key);
    let term = all.into_iter().find(|(key, _)| key.ends_with("/term"));
    term.expect("a term").1
}
