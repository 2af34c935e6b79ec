//! A whole workspace, made, restarted and removed side by side, as a plan is carried out.

use std::{fs, path::Path, sync::Arc};

use ha_cloud::{ApplyOptions, Provider, StepRow, apply, local::Render};
use ha_core::{
    plan::{self, Step},
    resource::{Kind, Resource, Status},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::support::{Machine, balancer, claims, database, files_below, id, network, processes_below, server, store};

const REGIONS: [&str; 3] = ["us-east", "eu-central", "asia-southeast"];

/// Primary first, as `ha_core::desired` lists them.
fn workspace() -> Vec<Resource> {
    let places = REGIONS.map(|region| format!("{region}/db-1"));
    let founder = id(REGIONS[0], Kind::Database, "pg-1");
    let mut before = None;
    let mut all = Vec::new();
    for region in REGIONS {
        all.push(network(region));
        for index in 1..=2 {
            all.push(server(region, &format!("app-{index}"), index, &["app"]));
        }
        all.push(server(region, "db-1", 1, &["database", "store"]));
        let member = store(region, "db-1", before.as_ref());
        before = Some(member.id.clone());
        all.push(member);
        let peers: Vec<&str> = places.iter().map(String::as_str).collect();
        let peers: Vec<&str> = peers.into_iter().filter(|it| !it.starts_with(region)).collect();
        let leader = Some(&founder).filter(|_| region != REGIONS[0]);
        all.push(database(region, "db-1", &peers, leader));
        let databases: Vec<&str> = places.iter().map(String::as_str).collect();
        all.push(balancer(region, &["app-1", "app-2"], &databases));
    }
    all
}

async fn carry_out(machine: &Machine, steps: Vec<Step>) {
    let provider: Arc<dyn Provider> = Arc::new(machine.provider.clone());
    let options = ApplyOptions::default();
    let mut rows = apply(steps, provider, options, CancellationToken::new());
    while let Some(StepRow {
        region,
        kind,
        name,
        status,
        took,
        error,
        ..
    }) = rows.recv().await
    {
        let took = took.as_secs_f64();
        eprintln!("{took:>8.3} s  {kind} {name} in {region}: {status}");
        assert!(
            status.is_good(),
            "{kind} {name} in {region}: {error:?}\n{}",
            machine.logs()
        );
    }
}

async fn provision(machine: &Machine, wanted: &[Resource]) {
    let _lock = machine.provider.try_lock("ha provision").expect("free");
    let live = machine.provider.observe().await.expect("observe");
    machine.provider.reserve(wanted).expect("reserve");
    carry_out(machine, plan::plan(wanted, &live)).await;
}

/// Nothing is left of it but its declaration.
async fn destroy(machine: &Machine) {
    let lock = machine.provider.try_lock("ha destroy").expect("free");
    let live = machine.provider.observe().await.expect("observe");
    carry_out(machine, plan::destroy(&live)).await;
    drop(lock);
    assert_eq!(processes_below(machine.folder.path()), Vec::<i32>::new());
    assert_eq!(
        files_below(machine.folder.path()),
        [machine.folder.path().join("workspace.ncl")]
    );
    assert_eq!(claims(machine.folder.path()), Vec::<std::path::PathBuf>::new());
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("read")).expect("json")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_comes_up_in_declared_order_and_goes_side_by_side() {
    let machine = Machine::new();
    let wanted = workspace();
    let look = |what| machine.provider.render(what, &wanted).expect("render");
    let before: Vec<_> = [Render::Haproxy, Render::Etcd, Render::Guard].map(look).into();
    assert!(!machine.provider.folder().exists(), "a look makes nothing");
    provision(&machine, &wanted).await;

    let addresses = json(&machine.provider.folder().join("workspace.json"));
    for (region, octet) in REGIONS.into_iter().zip(1..) {
        let of_region = &addresses["addresses"][region];
        assert_eq!(of_region["octet"], octet, "{addresses}");
        let hosts = serde_json::json!({"relay": 1, "lb": 2, "app-1": 11, "app-2": 12, "db-1": 13});
        assert_eq!(of_region["hosts"], hosts, "{addresses}");
        let host = machine
            .provider
            .folder()
            .join("regions")
            .join(region)
            .join("hosts/db-1");
        // The first guard was there before two of the members, and knows them all the same.
        let guard = json(&host.join("etc/guard.json"));
        assert_eq!(guard["store"]["endpoints"].as_array().map(Vec::len), Some(3), "{guard}");
    }
    for rendered in before.into_iter().flatten() {
        let text = rendered.text.unwrap_or_else(|error| panic!("{}: {error}", rendered.id));
        assert_eq!(
            fs::read_to_string(&rendered.path).expect("written"),
            text,
            "{}",
            rendered.id
        );
    }
    let live = machine.provider.observe().await.expect("observe");
    assert!(!plan::has_changes(&plan::plan(&wanted, &live)), "{live:?}");
    destroy(&machine).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_of_the_machine_everything_comes_back_and_strangers_stay() {
    let machine = Machine::new();
    let wanted = workspace();
    provision(&machine, &wanted).await;
    // Numbers are given out anew after a restart, to processes of the same user, too.
    let mut stranger = std::process::Command::new("setsid")
        .args(["sleep", "300"])
        .current_dir("/")
        .spawn()
        .expect("stranger");
    restart(&machine, stranger.id());
    let live = machine.provider.observe().await.expect("observe");
    assert!(live.iter().all(|it| it.status == Status::Failed), "{live:?}");
    provision(&machine, &wanted).await;
    let live = machine.provider.observe().await.expect("observe");
    assert!(live.iter().all(|it| it.status == Status::Running), "{live:?}");

    // The same again: to be removed, nothing is started.
    restart(&machine, stranger.id());
    destroy(&machine).await;
    assert_eq!(stranger.try_wait().expect("wait"), None, "the stranger lives");
    stranger.kill().expect("end");
    stranger.wait().expect("reap");
}

/// What a restart of the machine leaves: the files, without processes, sockets and claims, and another boot's numbers.
fn restart(machine: &Machine, number: u32) {
    let root = machine.folder.path();
    loop {
        let running = processes_below(root);
        if running.is_empty() {
            break;
        }
        for pid in running {
            // One that ended meanwhile is what this is for.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        std::thread::yield_now();
    }
    fs::remove_dir_all(root.join("run")).expect("runtime folder");
    for claim in claims(root) {
        fs::remove_file(claim).expect("claim");
    }
    for path in files_below(root) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_run = path.parent().is_some_and(|folder| folder.ends_with("run"));
        if name == "supervise.json" || (is_run && name.ends_with(".json")) {
            let mut run = json(&path);
            run["boot_id"] = "another".into();
            run["pid"] = number.into();
            fs::write(&path, run.to_string()).expect("write");
        } else if name == "postmaster.pid" {
            let text = fs::read_to_string(&path).expect("read");
            let rest = text.split_once('\n').map_or("", |(_, rest)| rest);
            fs::write(&path, format!("{number}\n{rest}")).expect("write");
        }
    }
}
