//! The supervisor against real processes. Every wait is for a condition, with a generous limit.

mod supervise_world;

use std::{
    fs,
    process::{Command, Stdio},
};

use ha_core::unit::{Ready, RunFile, StopSignal, UnitState, UnitStatus};
use rustix::process::Signal;
use supervise_world::{FOREVER, World, alive, gone, read_run, signal, start_ticks, wait};

#[tokio::test]
async fn what_ends_is_started_again_and_the_row_says_why() {
    let mut world = World::new();
    world.write(
        "us-app-1",
        &world.unit("us-app-1", "app", &format!("echo good day; {FOREVER}")),
    );
    world.start().await;
    let first = world.ready("us-app-1", "app").await;
    assert_eq!(read_run(&world.run_file("us-app-1", "app")).pid, first);

    signal(first, Signal::KILL);
    let again = world
        .until("us-app-1", "app", |it| {
            it.state == UnitState::Ready && it.pid != Some(first)
        })
        .await;
    assert_eq!(again.restarts, 1);
    let error = again.last_error.expect("why it ended");
    assert!(error.contains("signal: 9") && error.contains("good day"), "{error}");
    let events = world.events();
    assert!(
        events.contains("unit.exited") && events.contains(r#""workspace":"shop""#),
        "{events}"
    );
}

#[tokio::test]
async fn children_left_by_a_process_that_ended_do_not_stay() {
    let mut world = World::new();
    world.write(
        "us-app-1",
        &world.unit("us-app-1", "app", "sleep 1000 & sleep 1001 & wait"),
    );
    world.start().await;
    let first = world.ready("us-app-1", "app").await;
    let old: Vec<i32> = wait("its children", || async {
        Some(world.processes()).filter(|it| it.len() == 3)
    })
    .await;
    signal(first, Signal::KILL);
    for pid in old {
        gone(pid).await;
    }
}

#[tokio::test]
async fn what_cannot_start_waits_longer_each_time_and_starts_once_it_can() {
    let mut world = World::new();
    let mut unit = world.unit("us-app-1", "app", "echo no luck >&2; exit 7");
    world.write("us-app-1", &unit);
    world.start().await;
    let failed = world.until("us-app-1", "app", |it| it.restarts >= 2).await;
    let error = failed.last_error.expect("why");
    assert!(error.contains("exit status: 7") && error.contains("no luck"), "{error}");

    unit.program = "/no/such/program".into();
    unit.restart_key = "2".to_owned();
    world.write("us-app-1", &unit);
    let missing = |it: &UnitStatus| it.last_error.as_ref().is_some_and(|it| it.contains("/no/such/program"));
    world.until("us-app-1", "app", missing).await;

    let mut unit = world.unit("us-app-1", "app", FOREVER);
    unit.restart_key = "3".to_owned();
    world.write("us-app-1", &unit);
    world.ready("us-app-1", "app").await;
}

#[tokio::test]
async fn a_killed_supervisor_leaves_processes_running_and_the_next_one_takes_them_over() {
    let mut world = World::new();
    world.write("us-app-1", &world.unit("us-app-1", "app", FOREVER));
    world.start().await;
    let first = world.ready("us-app-1", "app").await;
    world.kill_supervisor();
    assert!(alive(first));

    world.start().await;
    assert_eq!(world.ready("us-app-1", "app").await, first);
    // An end is noticed although the process is not its child.
    signal(first, Signal::KILL);
    let again = world
        .until("us-app-1", "app", |it| {
            it.state == UnitState::Ready && it.pid != Some(first)
        })
        .await;
    assert!(world.events().contains("unit.adopted"));
    assert!(alive(again.pid.expect("a pid")));
}

/// Killed between the start of a process and the writing of its run file: it must be found all the same.
#[tokio::test]
async fn a_missing_or_damaged_run_file_leads_to_no_second_copy() {
    let mut world = World::new();
    world.write("us-app-1", &world.unit("us-app-1", "app", FOREVER));
    world.start().await;
    let first = world.ready("us-app-1", "app").await;
    let run_file = world.run_file("us-app-1", "app");

    world.kill_supervisor();
    fs::remove_file(&run_file).expect("remove");
    world.start().await;
    assert_eq!(world.ready("us-app-1", "app").await, first);

    world.kill_supervisor();
    fs::write(&run_file, "{\"pid\": 12").expect("damage");
    world.start().await;
    assert_eq!(world.ready("us-app-1", "app").await, first);
    let status = world.status("us-app-1", "app").await.expect("a row");
    let error = status.last_error.expect("that it was damaged");
    assert!(error.contains("run file"), "{error}");
    wait("the run file is whole again", || async {
        let text = fs::read(&run_file).ok()?;
        serde_json::from_slice::<RunFile>(&text)
            .ok()
            .filter(|it| it.pid == first)
    })
    .await;
}

#[tokio::test]
async fn a_run_file_that_names_a_stranger_does_the_stranger_no_harm() {
    let mut world = World::new();
    let mut stranger = Command::new("sleep").arg("1000").spawn().expect("sleep");
    let pid = stranger.id() as i32;
    world.write("us-app-1", &world.unit("us-app-1", "app", FOREVER));
    let run_file = world.run_file("us-app-1", "app");
    fs::create_dir_all(run_file.parent().expect("parent")).expect("run");
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("boot id");
    let stale = |start_ticks: u64, boot_id: &str| RunFile {
        pid,
        start_ticks,
        boot_id: boot_id.to_owned(),
        started_at: jiff::Timestamp::now(),
        restart_key: "another".to_owned(),
        reload_key: "1".to_owned(),
    };
    let ticks = start_ticks(pid);
    for file in [stale(ticks + 1, boot_id.trim()), stale(ticks, "another boot")] {
        fs::write(&run_file, serde_json::to_vec(&file).expect("json")).expect("run file");
        world.start().await;
        assert_ne!(world.ready("us-app-1", "app").await, pid);
        world.post("/stop").await;
        world.supervisor.take().expect("running").wait().expect("ends");
        assert!(stranger.try_wait().expect("wait").is_none(), "the stranger was ended");
    }
    stranger.kill().expect("kill");
    stranger.wait().expect("wait");
}

#[tokio::test]
async fn a_host_that_is_off_runs_nothing_until_it_is_on_again() {
    let mut world = World::new();
    world.write("us-app-1", &world.unit("us-app-1", "app", FOREVER));
    world.write("us-app-2", &world.unit("us-app-2", "app", FOREVER));
    world.start().await;
    let (first, other) = (
        world.ready("us-app-1", "app").await,
        world.ready("us-app-2", "app").await,
    );

    let power = world.host("us-app-1").join("power");
    fs::write(&power, "off").expect("power");
    let rows = world.sync().await;
    assert!(
        rows.iter()
            .any(|it| it.host == "us-app-1" && it.state != UnitState::Ready)
    );
    world
        .until("us-app-1", "app", |it| it.state == UnitState::Stopped)
        .await;
    gone(first).await;
    assert!(alive(other));
    let refused = world.post("/hosts/us-app-1/units/app/restart").await;
    assert_eq!(refused.status().as_u16(), 409);

    fs::write(&power, "on\n").expect("power");
    // Without being told: a lost sync does no harm.
    let again = world.ready("us-app-1", "app").await;
    assert_ne!(again, first);
    assert_eq!(world.ready("us-app-2", "app").await, other);
}

#[tokio::test]
async fn what_does_not_end_when_asked_is_killed_with_its_children() {
    let mut world = World::new();
    let script = r#"trap "" TERM; sh -c 'trap "" TERM; while :; do sleep 0.05; done' & while :; do sleep 0.05; done"#;
    let mut unit = world.unit("us-app-1", "app", script);
    unit.stop_timeout_ms = 300;
    world.write("us-app-1", &unit);
    world.start().await;
    world.ready("us-app-1", "app").await;
    wait("its children", || async {
        (world.processes().len() >= 3).then_some(())
    })
    .await;
    fs::write(world.host("us-app-1").join("power"), "off").expect("power");
    let stopped = world
        .until("us-app-1", "app", |it| it.state == UnitState::Stopped)
        .await;
    assert!(stopped.last_error.expect("that it was killed").contains("killed"));
    wait("nothing is left", || async {
        world.processes().is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_changed_key_restarts_or_reloads() {
    let mut world = World::new();
    let mut unit = world.unit(
        "us-lb",
        "haproxy",
        &format!("trap 'echo again >> reloaded' USR2; echo set; {FOREVER}"),
    );
    unit.reload_signal = Some(StopSignal::Usr2);
    world.write("us-lb", &unit);
    world.start().await;
    let first = world.ready("us-lb", "haproxy").await;
    let reloads = || {
        let text = fs::read_to_string(unit.cwd.join("reloaded")).unwrap_or_default();
        text.lines().count()
    };
    world.logged("us-lb", "haproxy", "set").await;

    let mut changed = unit.clone();
    changed.reload_key = "2".to_owned();
    world.write("us-lb", &changed);
    world.sync().await;
    wait("a reload", || async { (reloads() == 1).then_some(()) }).await;
    let status = world.status("us-lb", "haproxy").await.expect("a row");
    assert_eq!((status.pid, status.reload_key.as_str()), (Some(first), "2"));

    let asked = world.post("/hosts/us-lb/units/haproxy/reload").await;
    assert_eq!(asked.status().as_u16(), 200);
    wait("another reload", || async { (reloads() == 2).then_some(()) }).await;

    changed.restart_key = "2".to_owned();
    world.write("us-lb", &changed);
    world.sync().await;
    let second = world
        .until("us-lb", "haproxy", |it| {
            it.state == UnitState::Ready && it.pid != Some(first)
        })
        .await;
    assert_eq!((second.restarts, second.restart_key.as_str()), (0, "2"));
    assert!(!alive(first));

    let asked = world.post("/hosts/us-lb/units/haproxy/restart").await;
    assert_eq!(asked.status().as_u16(), 200);
    world
        .until("us-lb", "haproxy", |it| {
            it.state == UnitState::Ready && it.pid != second.pid
        })
        .await;
    let unknown = world.post("/hosts/us-lb/units/nginx/restart").await;
    assert_eq!(unknown.status().as_u16(), 404);
}

#[tokio::test]
async fn what_is_no_longer_wanted_ends_and_is_forgotten() {
    let mut world = World::new();
    for host in ["us-app-1", "us-app-2", "us-app-3"] {
        world.write(host, &world.unit(host, "app", FOREVER));
    }
    world.start().await;
    let mut pids = Vec::new();
    for host in ["us-app-1", "us-app-2", "us-app-3"] {
        pids.push(world.ready(host, "app").await);
    }
    fs::remove_file(world.host("us-app-1").join("units/app.json")).expect("unit");
    fs::remove_dir_all(world.host("us-app-2")).expect("host");
    gone(pids[0]).await;
    gone(pids[1]).await;
    wait("their rows go", || async {
        (world.try_get().await?.len() == 1).then_some(())
    })
    .await;
    assert!(!world.run_file("us-app-1", "app").exists());

    // Removed while nobody looked: the run file still tells.
    world.kill_supervisor();
    fs::remove_file(world.host("us-app-3").join("units/app.json")).expect("unit");
    world.start().await;
    gone(pids[2]).await;
}

#[tokio::test]
async fn a_damaged_unit_file_is_told_and_stops_nothing() {
    let mut world = World::new();
    world.write("us-app-1", &world.unit("us-app-1", "app", FOREVER));
    world.start().await;
    let first = world.ready("us-app-1", "app").await;
    let file = world.host("us-app-1").join("units/app.json");
    fs::write(&file, "{").expect("damage");
    let told = world.until("us-app-1", "app", |it| it.last_error.is_some()).await;
    assert_eq!(told.pid, Some(first));
    assert!(told.last_error.expect("why").contains("ha provision"));

    // Not even a supervisor that never saw it whole.
    world.kill_supervisor();
    world.start().await;
    let row = world.status("us-app-1", "app").await.expect("a row");
    assert_eq!(row.pid, Some(first));
    assert!(alive(first));

    world.write("us-app-1", &world.unit("us-app-1", "app", FOREVER));
    let whole = world.until("us-app-1", "app", |it| it.last_error.is_none()).await;
    assert_eq!(whole.pid, Some(first));
}

#[tokio::test]
async fn a_region_has_one_supervisor() {
    let mut world = World::new();
    world.start().await;
    let second = world.command().stderr(Stdio::piped()).output().expect("runs");
    assert!(!second.status.success());
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("another supervisor"), "{said}");
    assert!(world.try_get().await.is_some(), "the first one still answers");
}

#[tokio::test]
async fn an_upgrade_stops_nothing_and_stop_stops_all() {
    let mut world = World::new();
    for (host, unit) in [
        ("us-lb", "haproxy"),
        ("us-app-1", "app"),
        ("us-db-1", "guard"),
        ("relay", "relay"),
    ] {
        let ordered = format!(
            "trap 'echo {unit} >> {}; exit' TERM; echo set; {FOREVER}",
            world.region().join("order").display()
        );
        world.write(host, &world.unit(host, unit, &ordered));
    }
    world.start().await;
    for (host, unit) in [
        ("us-lb", "haproxy"),
        ("us-app-1", "app"),
        ("us-db-1", "guard"),
        ("relay", "relay"),
    ] {
        world.ready(host, unit).await;
        world.logged(host, unit, "set").await;
    }
    let app = world.ready("us-app-1", "app").await;

    let mut old = world.supervisor.take().expect("running");
    signal(old.id() as i32, Signal::TERM);
    assert!(old.wait().expect("ends").success());
    assert!(alive(app));
    assert!(!world.region().join("supervise.json").exists());

    world.start().await;
    assert_eq!(world.ready("us-app-1", "app").await, app);
    let rows: Vec<UnitStatus> = world.post("/stop").await.json().await.expect("rows");
    assert!(rows.iter().all(|it| it.state == UnitState::Stopped), "{rows:?}");
    assert!(
        world
            .supervisor
            .take()
            .expect("running")
            .wait()
            .expect("ends")
            .success()
    );
    let order = fs::read_to_string(world.region().join("order")).expect("order");
    assert_eq!(order, "haproxy\napp\nguard\nrelay\n");
    wait("nothing is left", || async {
        world.processes().is_empty().then_some(())
    })
    .await;
    assert!(!world.socket().exists());
}

/// A full disk looks like this to it: nothing can be written.
#[tokio::test]
async fn what_cannot_be_written_is_told_and_stops_nothing() {
    let mut world = World::new();
    fs::create_dir(world.region().join("events.jsonl")).expect("in the way");
    world.write("us-app-1", &world.unit("us-app-1", "app", FOREVER));
    fs::write(world.host("us-app-1").join("run"), "in the way").expect("in the way");
    fs::write(world.host("us-app-1").join("log"), "in the way").expect("in the way");
    world.start().await;
    let told = world.until("us-app-1", "app", |it| it.state == UnitState::Ready).await;
    let error = told.last_error.expect("what it could not write");
    for what in ["run file", "log", "events.jsonl"] {
        assert!(error.contains(what), "{what} is missing in: {error}");
    }
    fs::remove_file(world.host("us-app-1").join("run")).expect("out of the way");
    wait("the run file is written after all", || async {
        world.run_file("us-app-1", "app").exists().then_some(())
    })
    .await;
}

/// A database outlives its guard; a host that is off outlives neither.
#[tokio::test]
async fn a_host_that_is_off_keeps_no_database_without_its_guard() {
    let mut world = World::new();
    let mut unit = world.unit("us-db-1", "guard", "exit 1");
    let data = unit.cwd.join("postgres");
    fs::create_dir_all(&data).expect("data");
    // In its own group and without the unit's environment, as a guard starts it.
    unit.args[1] = format!(
        "[ -e started ] && exit 1; touch started; cd {0}; setsid -f env -i sh -c 'echo $$ > postmaster.pid; {FOREVER}'; \
         until [ -s {0}/postmaster.pid ]; do sleep 0.02; done; exit 1",
        data.display()
    );
    world.write("us-db-1", &unit);
    world.start().await;
    let pid: i32 = wait("the database", || async {
        fs::read_to_string(data.join("postmaster.pid"))
            .ok()?
            .trim()
            .parse()
            .ok()
    })
    .await;
    world.until("us-db-1", "guard", |it| it.restarts >= 1).await;
    assert!(alive(pid), "the end of a guard ended the database");
    fs::write(world.host("us-db-1").join("power"), "off").expect("power");
    gone(pid).await;
}

#[tokio::test]
async fn ready_means_that_it_answers() {
    let mut world = World::new();
    let address = format!("127.{}.1.11:8080", 1 + std::process::id() % 250);
    let config = world.folder.path().join("app.json");
    let app = serde_json::json!({
        "region": "us-east", "server": "us-app-1", "listen": address, "write": "127.0.0.1:1", "read": "127.0.0.1:1",
        "ca": "/nowhere", "user": "app", "database": "app", "password_file": "/nowhere",
    });
    let mut unit = world.unit("us-app-1", "app", "");
    unit.program = env!("CARGO_BIN_EXE_ha-guard").into();
    unit.args = vec!["app".to_owned(), "--config".to_owned(), config.display().to_string()];
    unit.ready = Some(Ready::Http(format!("http://{address}/health")));
    world.write("us-app-1", &unit);
    world.start().await;
    // No configuration yet: it ends at once, each time.
    let failed = world.until("us-app-1", "app", |it| it.restarts >= 1).await;
    assert!(failed.last_error.expect("why").contains("app.json"));
    fs::write(&config, app.to_string()).expect("app.json");
    world.ready("us-app-1", "app").await;
    assert!(world.events().contains("unit.ready"));
}
