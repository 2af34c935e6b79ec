//! Things that break: an error that says what and where, or a repair, and nothing lost.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use ha_tests::{Cluster, Process, eventually};
use rustix::process::Signal;

const SOON: Duration = Duration::from_secs(30);

/// Killed or interrupted at a different step each time; the next run finds what is there and does the rest.
#[test]
fn a_provision_that_was_cut_short_is_finished_by_the_next() {
    let cluster = Cluster::new("killed");
    for (steps, victim) in [
        (1, Victim::Shell),
        (4, Victim::Plugin),
        (7, Victim::CtrlC),
        (9, Victim::Shell),
        (13, Victim::CtrlC),
        (15, Victim::Plugin),
    ] {
        let mut shell = cluster.spawn("ha provision | each {|step| print ($step | to json --raw) } | ignore");
        eventually("enough resources to exist", SOON, || {
            if resources(&cluster) >= steps || shell.finished() {
                Ok(())
            } else {
                Err("not yet".into())
            }
        });
        let (process, signal) = match victim {
            Victim::Shell => (shell.process(), Signal::KILL),
            Victim::Plugin => (shell.plugin(), Signal::KILL),
            Victim::CtrlC => (shell.process(), Signal::INT),
        };
        if let Some(process) = process {
            process.signal(signal);
        }
        // Its plugin may need a moment to notice; the next command waits for that by itself.
        eventually("the shell to be gone", SOON, || {
            shell.finished().then_some(()).ok_or_else(|| "it goes on".into())
        });
    }
    cluster.provision();
    cluster.wait_healthy(Duration::from_secs(60));
    cluster.wait_streaming(Duration::from_secs(60));
    assert!(cluster.changes().is_empty(), "{:#?}", cluster.changes());
    nothing_is_doubled(&cluster);
}

#[derive(Clone, Copy)]
enum Victim {
    Shell,
    Plugin,
    /// The shell again, politely.
    CtrlC,
}

/// Label files are the resources' identity.
fn resources(cluster: &Cluster) -> usize {
    let regions = fs::read_dir(cluster.state().join("regions"))
        .into_iter()
        .flatten()
        .flatten();
    regions
        .filter_map(|region| Some(fs::read_dir(region.path().join("resources")).ok()?.count()))
        .sum()
}

fn nothing_is_doubled(cluster: &Cluster) {
    let inventory = cluster.rows("ha inventory");
    let mut names: Vec<_> = inventory
        .iter()
        .map(|row| {
            (
                row.text("region").to_owned(),
                row.text("kind").to_owned(),
                row.text("name").to_owned(),
            )
        })
        .collect();
    names.sort();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
    let running = |what: &str| {
        cluster
            .processes()
            .iter()
            .filter(|it| it.command().contains(what))
            .count()
    };
    assert_eq!(
        running("ha-guard app") + running(" app --config"),
        9,
        "nine applications"
    );
    assert_eq!(running("supervise --region-dir"), 3, "a supervisor per region");
}

/// Most faults in one cluster: each is repaired before the next.
#[test]
fn what_dies_comes_back_and_nothing_written_is_lost() {
    let cluster = Cluster::up("faults");
    let kept = cluster.write("us-east", "us-lb").expect("a write");

    a_killed_process_is_started_again(&cluster);
    a_killed_guard_leaves_its_database_running(&cluster);
    a_killed_supervisor_is_replaced_and_finds_its_processes(&cluster);
    a_killed_database_is_started_again(&cluster);
    a_lost_member_of_the_store_joins_again(&cluster);
    a_damaged_run_file_does_not_stop_anything(&cluster);
    a_stale_run_file_never_kills_a_stranger(&cluster);
    of_two_writers_one_waits_or_is_told(&cluster);

    let row = cluster.read("asia-southeast", "asia-lb", &kept);
    assert!(row.is_ok(), "{row:?}");
}

fn a_killed_process_is_started_again(cluster: &Cluster) {
    for place in [
        ("us-east", "us-app-1", "app"),
        ("eu-central", "eu-lb", "haproxy"),
        ("asia-southeast", "relay", "relay"),
    ] {
        cluster.kill_and_wait(place, SOON);
    }
    cluster.wait_healthy(SOON);
    cluster.wait_streaming(SOON);
}

fn a_killed_guard_leaves_its_database_running(cluster: &Cluster) {
    let postgres = cluster.postgres("us-east", "us-db-1").expect("it runs");
    cluster.kill_and_wait(("us-east", "us-db-1", "guard"), SOON);
    cluster.wait_healthy(SOON);
    assert!(postgres.alive(), "the new guard adopted the database");
    assert_eq!(cluster.postgres("us-east", "us-db-1"), Some(postgres));
}

fn a_killed_supervisor_is_replaced_and_finds_its_processes(cluster: &Cluster) {
    let old = cluster.supervisor("eu-central").expect("it runs");
    let app = cluster.process(("eu-central", "eu-app-1", "app")).expect("it runs");
    old.kill();
    eventually("the supervisor to be gone", SOON, || {
        if old.alive() { Err("alive".into()) } else { Ok(()) }
    });
    assert!(
        cluster
            .get("eu-central", "eu-lb", "/health")
            .is_ok_and(|it| it.status == 200),
        "users notice nothing"
    );
    cluster.provision();
    let new = cluster.supervisor("eu-central").expect("a new one");
    assert_ne!(new, old);
    cluster.wait_healthy(SOON);
    assert!(app.alive(), "what ran was adopted");
    assert_eq!(cluster.process(("eu-central", "eu-app-1", "app")), Some(app));
}

fn a_killed_database_is_started_again(cluster: &Cluster) {
    for (region, host) in [("eu-central", "eu-db-1"), ("us-east", "us-db-1")] {
        let old = cluster.postgres(region, host).expect("it runs");
        old.kill();
        eventually(&format!("another database on {host}"), SOON, || {
            match cluster.postgres(region, host) {
                Some(new) if new != old && new.alive() => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
        cluster.provision();
        cluster.wait_healthy(SOON);
        cluster.wait_streaming(SOON);
    }
    cluster.write("us-east", "us-lb").expect("a write");
}

fn a_lost_member_of_the_store_joins_again(cluster: &Cluster) {
    cluster.kill_and_wait(("asia-southeast", "asia-db-1", "etcd"), SOON);
    cluster.wait_healthy(SOON);
}

fn a_damaged_run_file_does_not_stop_anything(cluster: &Cluster) {
    let place = ("us-east", "us-app-2", "app");
    let file = cluster.host("us-east", "us-app-2").join("run/app.json");
    let process = cluster.process(place).expect("it runs");
    fs::write(&file, "{ half of a fi").expect("the run file");
    cluster.provision();
    cluster.wait_healthy(SOON);
    // The supervisor knows its process without the file; a new supervisor has to find another way or start anew.
    cluster.supervisor("us-east").expect("it runs").kill();
    cluster.provision();
    cluster.wait_healthy(SOON);
    let now = cluster.process(place).expect("a good run file again");
    assert!(now.alive());
    let apps = cluster
        .processes()
        .into_iter()
        .filter(|it| it.belongs_to(&cluster.host("us-east", "us-app-2")))
        .count();
    assert_eq!(apps, 1, "{process:?} and {now:?}");
}

fn a_stale_run_file_never_kills_a_stranger(cluster: &Cluster) {
    let mut stranger = Command::new("sleep")
        .arg("600")
        .stdin(Stdio::null())
        .spawn()
        .expect("sleep");
    let process = Process::of(i32::try_from(stranger.id()).expect("a number")).expect("it runs");
    let file = cluster.host("us-east", "us-app-1").join("run/app.json");
    cluster.supervisor("us-east").expect("it runs").kill();
    let app = cluster.process(("us-east", "us-app-1", "app")).expect("it runs");
    // The number of the stranger with the start time of what once had that number.
    let text = fs::read_to_string(&file).expect("the run file");
    fs::write(&file, text.replacen(&app.pid.to_string(), &process.pid.to_string(), 1)).expect("the run file");
    app.kill();
    cluster.provision();
    cluster.wait_healthy(SOON);
    cluster.rows("ha power off us-app-1");
    cluster.rows("ha power on us-app-1");
    cluster.wait_healthy(SOON);
    assert!(process.alive(), "the stranger was left alone");
    stranger.kill().expect("ours to end");
    stranger.wait().expect("its end");
}

fn of_two_writers_one_waits_or_is_told(cluster: &Cluster) {
    // asia-app: the third group of three; the others are looked at by nobody here.
    cluster.edit(
        "name = \"asia-app\",\n      region = \"ap-southeast-1\",\n      count = 3",
        "name = \"asia-app\",\n      region = \"ap-southeast-1\",\n      count = 5",
    );
    let shells: Vec<_> = (0..2).map(|_| cluster.spawn("ha provision | to json --raw")).collect();
    let outputs: Vec<_> = shells.into_iter().map(ha_tests::Shell::output).collect();
    let done = outputs.iter().filter(|it| it.status.success()).count();
    assert!(done >= 1, "{outputs:#?}");
    for output in outputs.iter().filter(|it| !it.status.success()) {
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains("ha::"), "refused with a code: {stderr}");
        assert!(
            stderr.contains("pid") || stderr.contains("process"),
            "says who holds the lock: {stderr}"
        );
    }
    cluster.wait_healthy(SOON);
    assert!(cluster.changes().is_empty(), "{:#?}", cluster.changes());
    assert_eq!(cluster.rows("ha inventory server | where name =~ asia-app").len(), 5);
}

#[test]
fn a_port_in_use_names_the_process_that_has_it() {
    let cluster = Cluster::new("port");
    // The address is known after the first server was made; then its port is taken from it.
    cluster.rows("ha plan | where region == us-east | ha provision");
    let address = cluster.socket("us-east", "us-app-1", 8080);
    cluster.rows("ha power off us-app-1");
    let taken = TcpListener::bind(address).expect("the port is free while the server is off");
    let steps = cluster.nu("ha power on us-app-1; ha provision");
    let said = match steps {
        Ok(rows) => {
            rows.to_string()
                + &cluster
                    .nu("ha health; ha inventory")
                    .map_or_else(|it| it.to_string(), |it| it.to_string())
        }
        Err(refused) => refused.to_string(),
    };
    assert!(
        said.contains(&address.to_string()) || said.contains("8080"),
        "which port: {said}"
    );
    assert!(said.contains(&std::process::id().to_string()), "which process: {said}");
    drop(taken);
    cluster.provision();
    cluster.wait_healthy(SOON);
}

#[test]
fn the_folder_of_another_workspace_is_not_touched() {
    let cluster = Cluster::new("foreign");
    fs::create_dir_all(cluster.state()).expect("a folder");
    let file = cluster.state().join("workspace.json");
    let theirs = r#"{"format":1,"workspace":"somebody-else","source":"/elsewhere/workspace.ncl","octet":9,"addresses":{},"created_at":"2026-01-01T00:00:00Z"}"#;
    fs::write(&file, theirs).expect("a file");
    let refused = cluster.refused("ha provision");
    assert!(refused.code.starts_with("ha::"), "{refused}");
    assert!(refused.rendered.contains("somebody-else"), "{refused}");
    assert_eq!(fs::read_to_string(&file).expect("it is there"), theirs);
    // It was the test that made it.
    fs::remove_dir_all(cluster.state()).expect("removed");
}

#[test]
fn a_data_folder_that_is_not_ours_is_not_overwritten() {
    let cluster = Cluster::new("stray");
    cluster.rows("ha plan | where region == us-east and kind in [network server] | ha provision");
    let data = cluster.host("us-east", "us-db-1").join("data/postgres");
    fs::create_dir_all(&data).expect("a folder");
    fs::write(data.join("precious"), "data").expect("a file");
    let said = match cluster.nu("ha provision") {
        Ok(rows) => rows.to_string(),
        Err(refused) => refused.to_string(),
    };
    assert!(
        said.contains("data/postgres") || said.contains("us-db-1"),
        "the place is named: {said}"
    );
    assert_eq!(
        fs::read_to_string(data.join("precious")).expect("it is still there"),
        "data"
    );
}

/// A file system of its own needs root; without, this says that it tested nothing.
#[test]
fn a_full_disk_is_named_and_nothing_is_lost() {
    // Before the cluster, so that it goes after it: what runs on a disk has to end first.
    let mut disk = Disk::default();
    let cluster = Cluster::new("full");
    let state = cluster.state_home();
    fs::create_dir_all(&state).expect("a folder");
    if !disk.mount(&state, "48m") {
        eprintln!("SKIPPED: a full disk: mounting a small tmpfs is not possible here");
        return;
    }
    let said = match cluster.nu("ha provision") {
        Ok(rows) => {
            let failed = rows
                .as_array()
                .is_some_and(|rows| rows.iter().any(|row| !row["error"].is_null()));
            assert!(failed, "48 MB cannot be enough: {rows}");
            rows.to_string()
        }
        Err(refused) => refused.to_string(),
    };
    assert!(said.to_lowercase().contains("no space left"), "{said}");
    assert!(mount(&["-o", "remount,size=2g"], &state), "a larger disk");
    cluster.provision();
    cluster.wait_healthy(Duration::from_secs(60));
    cluster.write("us-east", "us-lb").expect("a write");
}

/// A small file system; taken away when dropped.
#[derive(Default)]
struct Disk(Option<PathBuf>);

impl Disk {
    fn mount(&mut self, at: &Path, size: &str) -> bool {
        let mounted = mount(&["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"], at);
        self.0 = mounted.then(|| at.to_owned());
        mounted
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let Some(at) = &self.0 else { return };
        // Lazily: whatever still has a file open here must not keep the folder.
        let gone = Command::new("umount").arg("-l").arg(at).status();
        if !gone.is_ok_and(|it| it.success()) {
            eprintln!("left behind: a tmpfs at {}", at.display());
        }
        // The cluster's own folder could not go while the disk was in it.
        if let Some(home) = at.parent().filter(|it| it.exists())
            && let Err(error) = fs::remove_dir_all(home)
        {
            eprintln!("left behind: {}: {error}", home.display());
        }
    }
}

fn mount(args: &[&str], at: &Path) -> bool {
    let done = Command::new("mount").args(args).arg(at).stderr(Stdio::null()).status();
    done.is_ok_and(|it| it.success())
}

#[test]
fn ctrl_c_stops_between_two_steps_and_the_next_run_goes_on() {
    let cluster = Cluster::new("ctrlc");
    let mut shell = cluster.spawn("ha provision | to json --raw");
    eventually("a few resources", SOON, || {
        if resources(&cluster) >= 3 {
            Ok(())
        } else {
            Err("not yet".into())
        }
    });
    shell.process().expect("it runs").signal(rustix::process::Signal::INT);
    eventually("the shell to end", SOON, || {
        if shell.finished() {
            Ok(())
        } else {
            Err("it runs".into())
        }
    });
    let there = resources(&cluster);
    assert!(there < 24, "it was stopped in the middle, with {there} resources");
    cluster.provision();
    cluster.wait_healthy(Duration::from_secs(60));
    assert!(cluster.changes().is_empty(), "{:#?}", cluster.changes());
}
