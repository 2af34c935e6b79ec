//! The agreement store loses its leader, a member, its quorum, its memory.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use ha_tests::eventually;
use rustix::process::Signal;

use crate::{
    hands::as_owner,
    world::{REGION_HOSTS, Room, Scenario, World, host_of},
};

pub(crate) const ROOM: Room = Room {
    name: "store",
    own: None,
    scenarios: &[
        Scenario {
            name: "its_leader_is_killed_and_a_member_is_paused",
            play: its_leader_is_killed_and_a_member_is_paused,
        },
        Scenario {
            name: "its_quorum_is_lost",
            play: its_quorum_is_lost,
        },
        Scenario {
            name: "the_primary_s_region_also_had_its_leader",
            play: the_primary_s_region_also_had_its_leader,
        },
        Scenario {
            name: "it_is_restored_from_an_old_copy",
            play: it_is_restored_from_an_old_copy,
        },
    ],
};

const SOON: Duration = Duration::from_secs(30);

/// A store that elects demotes nobody. The member beside the primary, paused until the others went on without it, then
/// answers from its own past: nothing is decided on that.
fn its_leader_is_killed_and_a_member_is_paused(world: &World) -> String {
    let (primary, epoch) = (world.leader(), world.epoch());
    let database = world.cluster.postgres(&primary, host_of(&primary)).expect("it runs");
    let leads = leader(world);
    let verdict = world.oracle(&format!(
        "fault kill unit {leads} etcd; sleep 3sec
         fault freeze {primary} etcd; sleep 12sec; fault thaw {primary} etcd; sleep 1sec"
    ));
    verdict.passes();
    assert_eq!(world.epoch(), epoch, "no failover");
    assert_eq!(world.leader(), primary);
    assert!(database.alive(), "the primary was never stopped");
    verdict.to_string()
}

/// Two of three members hang: the primary goes on while its voters stream (protocol §12), nobody can take over, and
/// both are said. When its database dies then, nothing can be done until a member is back; then it is done.
fn its_quorum_is_lost(world: &World) -> String {
    let (primary, epoch) = (world.leader(), world.epoch());
    let [one, two] = world.others();
    let verdict = world.oracle(&format!(
        "fault freeze {one} etcd; fault freeze {two} etcd
         sleep 6sec
         let quorum = ha quorum
         let refused = try {{ ha failover; '' }} catch {{|error| $error.details.code }}
         let events = ha events --last 40 | where event == failover.blocked
         fault thaw {one} etcd; fault thaw {two} etcd
         wait whole
         {{quorum: ($quorum | where part == store | get status), refused: $refused, said: ($events | length)}}"
    ));
    verdict.passes();
    let outage = verdict.outage().unwrap_or_default();
    assert!(
        outage < Duration::from_secs(5),
        "writes went on through the 6 s: {outage:?}"
    );
    assert_eq!((world.epoch(), world.leader()), (epoch, primary.clone()), "no failover");
    let code = verdict.answer["refused"].as_str().unwrap_or_default();
    assert!(code.starts_with("ha::store::"), "{:?}", verdict.answer);
    assert!(
        verdict.answer["quorum"].to_string().contains("failed"),
        "{:?}",
        verdict.answer
    );
    assert_ne!(verdict.answer["said"], 0, "nobody said why: {:?}", verdict.answer);

    // Now with the primary's region gone, too: not before a member is back.
    let lost = world.oracle(&format!(
        "fault freeze {one} etcd; sleep 500ms; fault kill region {primary}
         sleep 4sec
         let during = try {{ ha lease | get 0.holder }} catch {{|error| $error.details.code }}
         fault thaw {one} etcd
         wait failover {epoch}; fault restore region {primary}; wait whole
         $during"
    ));
    lost.passes();
    assert!(
        lost.answer.as_str().is_some_and(|it| it.starts_with("ha::store::")),
        "one member of three decided: {:?}",
        lost.answer
    );
    format!("{verdict}; with the primary lost, too: {lost}")
}

/// An election of the store and one of the primary, one after the other.
fn the_primary_s_region_also_had_its_leader(world: &World) -> String {
    let (primary, epoch) = (world.leader(), world.epoch());
    let leads = leader(world);
    let id = member_of(world, &primary);
    if leads != primary {
        world.etcdctl(leads, &["move-leader", &id]).expect("moved");
    }
    // Guards move it away again: it may be at most a moment before the fault.
    assert_eq!(leader(world), primary);
    let verdict = world.oracle(&format!(
        "fault kill region {primary}; wait failover {epoch}; fault restore region {primary}; wait whole"
    ));
    verdict.passes();
    verdict.to_string()
}

/// An old copy of the store knows nothing of the epochs since. Every guard sees that and stands still: the primary goes
/// on, nobody takes over. Then a person decides that this store is the one from now on.
fn it_is_restored_from_an_old_copy(world: &World) -> String {
    let copy = world.cluster.state_home().join("store.copy");
    let path = copy.display().to_string();
    world.etcdctl("us-east", &["snapshot", "save", &path]).expect("a copy");
    // Two epochs that the copy does not know.
    world.value("ha switchover | ignore; wait whole; ha switchover | ignore; wait whole");
    let (primary, epoch) = (world.leader(), world.epoch());
    let database = world.cluster.postgres(&primary, host_of(&primary)).expect("it runs");
    let kept = world.cluster.write("us-east", "us-lb").expect("a write");

    restore(world, &copy);
    world.value(
        "wait until 'every guard to stand still' {
             ha status | where code != 'ha::store::went_back' | each {|row| $'($row.region) says ($row.reason)' }
         } --timeout 1min",
    );
    let refused = world.refused("ha switchover");
    assert_eq!(refused.code, "ha::agreement::went_back", "{refused}");
    // Longer than any lease: the primary is where it was, and writes arrive.
    let mut written = Vec::new();
    let began = std::time::Instant::now();
    while began.elapsed() < Duration::from_secs(6) {
        written.extend(world.cluster.write("eu-central", "eu-lb").ok());
    }
    assert!(written.len() > 10, "writes go on: {}", written.len());
    assert!(database.alive(), "nobody stopped the primary");

    // What the refusal says is what is typed.
    assert!(refused.help.contains("ha quorum adopt"), "{refused}");
    let verdict = world.oracle("ha quorum adopt --why 'restored from the copy of last night'; wait whole");
    verdict.passes();
    assert!(world.epoch() > epoch, "beyond every epoch that was promised");
    for id in written.iter().chain([&kept]) {
        let row = world.cluster.read("us-east", "us-lb", id);
        assert!(row.is_ok(), "{id} is gone: {row:?}");
    }
    let _ = fs::remove_file(&copy);
    format!("{} writes while the guards stood still; then {verdict}", written.len())
}

fn leader(world: &World) -> &'static str {
    let mut found = None;
    eventually("a leader of the store", SOON, || {
        found = world.store_leader();
        found.map(|_| ()).ok_or_else(|| "none".into())
    });
    found.expect("waited for it")
}

/// The number of a region's member, as `etcdctl move-leader` takes it.
fn member_of(world: &World, region: &str) -> String {
    let list = world.etcdctl(region, &["member", "list"]).expect("members");
    let line = list.lines().find(|line| line.contains(&format!(" {region}.")));
    let line = line.unwrap_or_else(|| panic!("{region} has no member: {list}"));
    line.split(',').next().expect("a number").trim().to_owned()
}

/// As a person does it: every member is stopped, gets the copy, and is started again.
fn restore(world: &World, copy: &std::path::Path) {
    let regions = REGION_HOSTS.map(|(region, _)| region);
    // What would start them again waits.
    for region in regions {
        world.cluster.supervisor(region).expect("it runs").signal(Signal::STOP);
    }
    for region in regions {
        for member in world.signal(region, "etcd", Signal::KILL) {
            eventually("the member to be gone", SOON, || {
                (!member.alive()).then_some(()).ok_or_else(|| "alive".into())
            });
        }
    }
    for region in regions {
        let host = world.cluster.host(region, host_of(region));
        let config: serde_json::Value =
            serde_json::from_slice(&fs::read(host.join("etc/etcd.json")).expect("etcd.json")).expect("JSON");
        let text = |key: &str| {
            config[key]
                .as_str()
                .unwrap_or_else(|| panic!("no {key} in {config}"))
                .to_owned()
        };
        let data = PathBuf::from(text("data-dir"));
        let new = data.with_extension("restored");
        let restored = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["snapshot", "restore"])
            .arg(copy)
            .args(["--name", &text("name"), "--initial-cluster", &initial_cluster(world)])
            .args(["--initial-cluster-token", "restored"])
            .args(["--initial-advertise-peer-urls", &text("initial-advertise-peer-urls")])
            .arg("--data-dir")
            .arg(&new)
            .output()
            .expect("etcdctl");
        assert!(
            restored.status.success(),
            "{}",
            String::from_utf8_lossy(&restored.stderr)
        );
        let owner = fs::metadata(&data).expect("the old data");
        use std::os::unix::fs::MetadataExt as _;
        let owner = format!("{}:{}", owner.uid(), owner.gid());
        fs::rename(&data, data.with_extension("old")).expect("moved aside");
        fs::rename(&new, &data).expect("moved in");
        let given = Command::new("chown")
            .args(["-R", &owner])
            .arg(&data)
            .status()
            .expect("chown");
        assert!(given.success());
        // The member reads it as its own user.
        let read = as_owner(&data, "ls")
            .arg(data.join("member/snap"))
            .output()
            .expect("ls");
        assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
        fs::remove_dir_all(data.with_extension("old")).expect("removed");
    }
    for region in regions {
        world
            .cluster
            .supervisor(region)
            .expect("it is stopped, and there")
            .signal(Signal::CONT);
    }
    eventually("the restored store", SOON, || {
        world.etcdctl("us-east", &["endpoint", "health"]).map(drop)
    });
}

/// `name=url` of each member, as the first one's configuration has them.
fn initial_cluster(world: &World) -> String {
    let members = REGION_HOSTS.map(|(region, host)| {
        let file = world.cluster.host(region, host).join("etc/etcd.json");
        let config: serde_json::Value = serde_json::from_slice(&fs::read(file).expect("etcd.json")).expect("JSON");
        let text = |key: &str| config[key].as_str().unwrap_or_default().to_owned();
        format!("{}={}", text("name"), text("initial-advertise-peer-urls"))
    });
    members.join(",")
}
