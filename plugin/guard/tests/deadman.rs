//! A primary whose guard hangs is ended when its time is over, and not before.

use std::{
    fs,
    os::unix::{fs::chown, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

const BIN: &str = "/usr/lib/postgresql/15/bin";

struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// PostgreSQL refuses root; then its own user runs everything.
fn user() -> Option<(u32, u32)> {
    let passwd = fs::read_to_string("/etc/passwd").expect("users");
    let ids = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let ids = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        (name == "postgres").then_some(ids)
    });
    rustix::process::geteuid()
        .is_root()
        .then(|| ids.expect("a user for PostgreSQL"))
}

fn command(program: impl AsRef<std::ffi::OsStr>, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).stdout(Stdio::null()).stderr(Stdio::null());
    if let Some((uid, gid)) = user() {
        command.uid(uid).gid(gid);
    }
    command
}

/// As the guard writes it: magic, checksum, deadline by BOOTTIME, postmaster.
fn allow(file: &Path, time: Option<Duration>) {
    let now = clock_gettime(ClockId::Boottime);
    let until = time.map_or(0, |time| {
        now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64 + time.as_nanos() as u64
    });
    let mut bytes = [0_u8; 24];
    bytes[..4].copy_from_slice(&0x6861_0001_u32.to_le_bytes());
    bytes[8..16].copy_from_slice(&until.to_le_bytes());
    let counted = bytes.iter().enumerate().filter(|(at, _)| !(4..8).contains(at));
    let sum = counted.fold(0x811c_9dc5_u32, |sum, (_, byte)| {
        (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    });
    bytes[4..8].copy_from_slice(&sum.to_le_bytes());
    let mut whole = fs::read(file).unwrap_or_else(|_| vec![0; 32]);
    whole[..24].copy_from_slice(&bytes);
    // In place: the deadman has the file open.
    let open = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(file);
    std::os::unix::fs::FileExt::write_all_at(&open.expect("opened"), &whole, 0).expect("written");
    if let Some((uid, gid)) = user() {
        chown(file, Some(uid), Some(gid)).expect("given");
    }
}

fn config(folder: &Path) -> PathBuf {
    let tls = serde_json::json!({"ca": "ca.pem", "cert": "cert.pem", "key": "key.pem"});
    let timing = ha_core::model::TimingProfile::Near.timing();
    let config = serde_json::json!({
        "workspace": "shop", "cluster": "orders", "region": "a", "node": "a", "declared_primary": true,
        "listen": "127.0.0.1:1", "source_address": null,
        "postgres": {
            "bin_dir": BIN, "data_dir": folder.join("data"), "log_file": folder.join("log"), "address": "127.0.0.1",
            "public_address": "127.0.0.1", "port": 1, "socket_dir": folder, "settings": {}, "allow": [], "tls": tls,
            "admin_password_file": "x", "replication_password_file": "x", "app_password_file": "x", "app_user": "app",
            "app_database": "app",
        },
        "store": {"endpoints": [], "tls": tls}, "peers": [], "sample_interval_ms": 100,
        "events": folder.join("events.jsonl"),
        "failover": {
            "sync_mode": "async", "timing": timing, "policy": ha_core::model::FailoverPolicy::default(), "nodes": [],
            "balancers": [], "promise": folder.join("promise.json"), "runtime_dir": folder.join("run"),
        },
    });
    let path = folder.join("guard.json");
    fs::write(&path, config.to_string()).expect("written");
    path
}

#[test]
fn a_primary_is_ended_when_its_time_is_over_and_not_before() {
    let folder = tempfile::Builder::new()
        .prefix("ha-deadman-")
        .tempdir()
        .expect("a folder");
    let root = folder.path();
    let config = config(root);
    fs::create_dir(root.join("run")).expect("made");
    // A program in a folder that its user may not enter cannot be started.
    fs::copy(env!("CARGO_BIN_EXE_ha-guard"), root.join("ha-guard")).expect("copied");
    if let Some((uid, gid)) = user() {
        for path in [root.to_owned(), root.join("run"), config.clone(), root.join("ha-guard")] {
            chown(path, Some(uid), Some(gid)).expect("given");
        }
    }
    let data = root.join("data");
    let made = command(format!("{BIN}/initdb"), root)
        .args(["--no-sync", "--no-instructions", "-A", "trust", "-D"])
        .arg(&data)
        .status();
    assert!(made.expect("initdb is installed").success());
    let mut postgres = Ends(
        command(format!("{BIN}/postgres"), root)
            .arg("-D")
            .arg(&data)
            .args(["-c", "listen_addresses="])
            .arg("-k")
            .arg(root)
            .spawn()
            .expect("started"),
    );
    let ready = || fs::read_to_string(data.join("postmaster.pid")).is_ok_and(|it| it.contains("ready"));
    let began = Instant::now();
    while !ready() {
        assert!(began.elapsed() < Duration::from_secs(60), "it does not start");
        std::thread::sleep(Duration::from_millis(50));
    }
    // Without any file, and with one that allows nothing, it waits.
    let deadman = Ends(
        command(root.join("ha-guard"), root)
            .args(["deadman", "--config"])
            .arg(&config)
            .spawn()
            .expect("started"),
    );
    let mut runs_for = |time: Duration| {
        let began = Instant::now();
        while began.elapsed() < time {
            assert!(postgres.0.try_wait().expect("a child").is_none(), "ended too early");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let file = root.join("run/deadline");
    runs_for(Duration::from_millis(400));
    allow(&file, None);
    runs_for(Duration::from_millis(400));
    // It is extended in time, as a guard does that lives.
    for _ in 0..3 {
        allow(&file, Some(Duration::from_millis(600)));
        runs_for(Duration::from_millis(300));
    }
    let status = fs::read_to_string(format!("/proc/{}/status", deadman.0.id())).expect("it runs");
    let memory = status.lines().find(|it| it.starts_with("RssAnon")).unwrap_or_default();
    allow(&file, Some(Duration::from_millis(500)));
    let began = Instant::now();
    postgres.0.wait().expect("ended");
    let took = began.elapsed();
    eprintln!("ended {took:?} after 500 ms were allowed; {memory}");
    assert!(
        took >= Duration::from_millis(490) && took < Duration::from_secs(3),
        "{took:?}"
    );
    let events = root.join("events.jsonl");
    let began = Instant::now();
    while !events.exists() {
        assert!(began.elapsed() < Duration::from_secs(10), "no event");
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(300));
    let events = fs::read_to_string(events).expect("read");
    assert_eq!(events.lines().count(), 1, "once: {events}");
    assert!(events.contains("database.fenced"), "{events}");
}
