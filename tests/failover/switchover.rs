//! Planned changes of primary under bad conditions: bounded, then done or undone, and never two stopped nodes.

use std::{path::PathBuf, process::Command, time::Duration};

use ha_tests::{Cluster, Row};
use rustix::process::Signal;

use crate::world::{Room, Scenario, World};

pub(crate) const ROOM: Room = Room {
    name: "switchover",
    own: Some(with_an_archive),
    scenarios: &[
        Scenario {
            name: "a_replica_stalls",
            play: a_replica_stalls,
        },
        Scenario {
            name: "the_archive_is_slow",
            play: the_archive_is_slow,
        },
        Scenario {
            name: "transactions_are_open",
            play: transactions_are_open,
        },
        Scenario {
            name: "the_target_s_disk_is_full",
            play: the_target_s_disk_is_full,
        },
    ],
};

/// Archives at once, until a file says that it is to take its time.
fn with_an_archive(cluster: &Cluster) {
    let slow = slow(cluster);
    let command = format!("if [ -e {0} ]; then sleep 20; fi", slow.display());
    cluster.edit(
        "settings = { max_connections = 100 }",
        &format!(
            "settings = {{ max_connections = 100, archive_mode = \"on\", archive_command = \"{command}\", \
             max_prepared_transactions = 10 }}"
        ),
    );
}

fn slow(cluster: &Cluster) -> PathBuf {
    cluster.folder().join("slow")
}

/// The one that takes over does not receive: it is refused, or undone within its time. Then the other one stalls, which
/// must not hold the stop for long.
fn a_replica_stalls(world: &World) -> String {
    let [one, two] = world.others();
    let mut figures = Vec::new();
    for (stalled, to) in [(one, one), (two, one)] {
        let receivers: Vec<_> = world.processes(stalled, "database");
        let receivers: Vec<_> = receivers
            .into_iter()
            .filter(|it| it.command().contains("walreceiver"))
            .collect();
        receivers.iter().for_each(|it| it.signal(Signal::STOP));
        let (before, epoch) = (world.leader(), world.epoch());
        let verdict = std::thread::scope(|scope| {
            // Longer than a switchover may take before it is undone.
            scope.spawn(|| {
                std::thread::sleep(Duration::from_secs(14));
                receivers.iter().for_each(|it| it.signal(Signal::CONT));
            });
            world.oracle(&format!(
                "let last = try {{ ha switchover --to {to} | last }} catch {{|error| {{status: refused code: $error.details.code}} }}
                 wait whole
                 $last"
            ))
        });
        verdict.passes();
        figures.push(ended(world, &verdict.answer, &before, epoch, &verdict.to_string()));
    }
    figures.join("; ")
}

/// Whatever waits to be archived does not hold the stop: the checkpoint says that it is over (protocol §8).
fn the_archive_is_slow(world: &World) -> String {
    let (before, epoch) = (world.leader(), world.epoch());
    let slow = slow(&world.cluster);
    std::fs::write(&slow, "").expect("a file");
    let verdict = world.oracle("let last = ha switchover | last; wait whole; $last");
    std::fs::remove_file(&slow).expect("removed");
    verdict.passes();
    ended(world, &verdict.answer, &before, epoch, &verdict.to_string())
}

/// A transaction that goes on is ended by the stop; a prepared one stays, with its locks, and is told before.
fn transactions_are_open(world: &World) -> String {
    let (before, epoch) = (world.leader(), world.epoch());
    world
        .sql(&before, "create table if not exists ha_test_open (id int)")
        .expect("a table");
    let mut long = world.session(
        &before,
        "begin; insert into ha_test_open values (1); select pg_sleep(600)",
    );
    let prepared = world.sql(
        &before,
        "begin; insert into ha_test_open values (2); prepare transaction 'ha_test_prepared'",
    );
    prepared.expect("prepared");
    let told = world.rows("ha switchover --dry-run");
    assert!(
        told.iter().any(|row| row.is("code", "ha::switchover::prepared")),
        "prepared transactions are told: {told:#?}"
    );
    let verdict = world.oracle("let last = ha switchover | last; wait whole; $last");
    verdict.passes();
    assert!(!long.wait().expect("its end").success(), "the long one was ended");
    let leader = world.leader();
    let open = world.sql(&leader, "select gid from pg_prepared_xacts");
    assert_eq!(open.as_deref(), Ok("ha_test_prepared"));
    world
        .sql(&leader, "commit prepared 'ha_test_prepared'")
        .expect("committed on the new primary");
    let rows = world.sql(&leader, "select string_agg(id::text, ',') from ha_test_open");
    assert_eq!(
        rows.as_deref(),
        Ok("2"),
        "the prepared one, and not the one that was ended"
    );
    world.sql(&leader, "drop table ha_test_open").expect("dropped");
    ended(world, &verdict.answer, &before, epoch, &verdict.to_string())
}

/// A disk of its own needs root; without, this says that it tested nothing. The preflight sees it.
fn the_target_s_disk_is_full(world: &World) -> String {
    let target = world.others()[0];
    let Some(disk) = SmallDisk::under(world, target) else {
        return "SKIPPED: mounting a small tmpfs is not possible here".into();
    };
    let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        disk.fill();
        let verdict = world.oracle(&format!(
            "try {{ ha switchover --to {target} | last }} catch {{|error| {{status: refused code: $error.details.code}} }}"
        ));
        verdict.loses_nothing();
        verdict.to_string()
    }));
    disk.relieve();
    world.mend();
    disk.take_away();
    looked.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// A file system of its own for the log of one database: what fills it fills nothing else.
struct SmallDisk<'a> {
    world: &'a World,
    region: &'static str,
    wal: PathBuf,
}

impl<'a> SmallDisk<'a> {
    /// The database streams again, with its log on the small disk; none where this machine mounts nothing.
    fn under(world: &'a World, region: &'static str) -> Option<Self> {
        let wal = world.data_folder(region).join("pg_wal");
        let disk = Self { world, region, wal };
        disk.while_off(|| {
            let kept = disk.kept();
            disk.run("cp", &["-a", &disk.path(), &kept]);
            let mounted = Command::new("mount")
                .args(["-t", "tmpfs", "-o", "size=256m,mode=0700", "tmpfs"])
                .arg(&disk.wal)
                .stderr(std::process::Stdio::null())
                .status()
                .is_ok_and(|it| it.success());
            if mounted {
                disk.run("chown", &[&format!("--reference={kept}"), &disk.path()]);
                disk.run("cp", &["-a", &format!("{kept}/."), &disk.path()]);
            }
            disk.run("rm", &["-rf", &kept]);
            mounted
        })
        .then_some(disk)
    }

    /// Not a byte is left.
    fn fill(&self) {
        let filler = std::fs::File::create(self.filler()).expect("a file on the small disk");
        let zeros = vec![0; 1 << 20];
        while std::io::Write::write_all(&mut &filler, &zeros).is_ok() {}
    }

    fn relieve(&self) {
        std::fs::remove_file(self.filler()).expect("the filler was there");
    }

    /// The database streams again, with its log where it was before.
    fn take_away(self) {
        self.while_off(|| {
            let kept = self.kept();
            self.run("cp", &["-a", &self.path(), &kept]);
            self.run("umount", &[&self.path()]);
            self.run("rm", &["-rf", &self.path()]);
            self.run("mv", &[&kept, &self.path()]);
        });
    }

    fn while_off<T>(&self, act: impl FnOnce() -> T) -> T {
        let (region, server) = (self.region, crate::world::host_of(self.region));
        self.world.value(&format!(
            "if (ha lease | get 0.region) == {region} {{ ha switchover | where error != null }}
             ha power off {server} | ignore"
        ));
        let done = act();
        self.world.value(&format!("ha power on {server} | ignore"));
        self.world.wait_whole();
        done
    }

    fn run(&self, program: &str, args: &[&str]) {
        let status = Command::new(program).args(args).status();
        assert!(status.is_ok_and(|it| it.success()), "{program} {args:?}");
    }

    fn path(&self) -> String {
        self.wal.display().to_string()
    }

    /// Beside the database's folder, which is to hold nothing strange.
    fn kept(&self) -> String {
        format!("{}.wal", self.world.data_folder(self.region).display())
    }

    fn filler(&self) -> PathBuf {
        self.wal.join("filler")
    }
}

/// Refused or undone: as before. Done: once.
fn ended(world: &World, answer: &serde_json::Value, before: &str, epoch: i64, figures: &str) -> String {
    let last = Row(answer.clone());
    let status = last.text("status").to_owned();
    let moved = world.leader() != before;
    match status.as_str() {
        "done" => assert_eq!((moved, world.epoch()), (true, epoch + 1), "{last:?}"),
        "undone" | "refused" => assert_eq!((moved, world.epoch()), (false, epoch), "{last:?}"),
        _ => panic!("neither done, undone nor refused: {last:?}"),
    }
    format!("{status}: {figures}")
}
