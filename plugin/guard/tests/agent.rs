//! The guard with a real PostgreSQL and a real etcd.

#[allow(dead_code, reason = "shared with other tests, which use the rest of it")]
mod agent_world;

use std::{fs, net::TcpListener, time::Duration};

use agent_world::World;
use ha_core::report::{DatabaseState, NodeRole};

const PRIMARY: usize = 0;
const REPLICA: usize = 1;

#[tokio::test]
async fn a_primary_and_its_replica_through_a_life_of_faults() {
    let mut world = World::by_hand(&["us-db-1", "eu-db-1"]).await;

    // The replica's guard comes first and waits; nobody has made anything yet.
    world.start(REPLICA);
    world.until(REPLICA, "/health", 503).await;
    world.start(PRIMARY);
    world.until(PRIMARY, "/primary", 200).await;
    world.until(REPLICA, "/replica", 200).await;
    // Guards of loopback: what is written on one is read on the other.
    let app = world.app(PRIMARY).await;
    app.batch_execute("create table note (id int primary key); insert into note values (1)")
        .await
        .expect("written");
    drop(app);
    until_note(&world, REPLICA, 1).await;

    roles_and_reports(&world).await;
    killed_postmaster(&world).await;
    killed_guard(&mut world).await;
    damaged_lock_file(&mut world).await;
    stopped_and_started(&mut world).await;
    a_lost_folder_is_copied_from_the_leader(&mut world).await;
    a_folder_of_another_cluster_is_refused(&mut world).await;
    no_secret_was_written_down(&world);
}

#[tokio::test]
async fn what_is_in_the_way_is_named_and_the_store_is_not() {
    let mut world = World::new(&["us-db-1"]).await;
    let postgres = &world.nodes[PRIMARY].config.postgres;
    let address = format!("{}:{}", postgres.address, postgres.port);
    let stranger = TcpListener::bind(&address).expect("the port is free");
    world.start(PRIMARY);
    let report = world
        .until_report(PRIMARY, "failed", |it| it.database.state == DatabaseState::Failed)
        .await;
    let detail = report.database.detail.unwrap_or_default();
    assert!(detail.starts_with(&format!("{address} is in use")), "{detail}");
    drop(stranger);
    world.until(PRIMARY, "/primary", 200).await;

    // Nobody acknowledges for it, so only its lease says that it may write: without the store that runs out.
    world.until_report(PRIMARY, "settled", |it| it.store.healthy).await;
    world.kill_store();
    world
        .until_report(PRIMARY, "without a store", |it| !it.store.healthy)
        .await;
    world.until(PRIMARY, "/primary", 503).await;
    world
        .until_report(PRIMARY, "fenced", |it| it.database.state == DatabaseState::Stopped)
        .await;
    assert!(world.processes(PRIMARY).is_empty(), "nothing of it runs");
}

async fn until_note(world: &World, index: usize, id: i32) {
    world
        .until_report(index, "running", |report| {
            report.database.state == DatabaseState::Running
        })
        .await;
    let session = world.app(index).await;
    for _ in 0..600 {
        if session
            .query_one("select from note where id = $1", &[&id])
            .await
            .is_ok()
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!(
        "note {id} did not arrive at {}\n{}",
        world.nodes[index].name,
        world.logs()
    );
}

/// Writes through the primary and waits for the replica to have it.
async fn write_and_follow(world: &World, from: usize, to: usize, id: i32) {
    let app = world.app(from).await;
    app.execute("insert into note values ($1)", &[&id])
        .await
        .expect("written");
    until_note(world, to, id).await;
}

async fn roles_and_reports(world: &World) {
    for (index, path, status) in [
        (PRIMARY, "/primary", 200),
        (PRIMARY, "/replica", 503),
        (PRIMARY, "/health", 200),
        (REPLICA, "/primary", 503),
        (REPLICA, "/health", 200),
        (REPLICA, "/replica?max_lag=16MB", 200),
        (REPLICA, "/replica?max_lag=10s", 200),
        (REPLICA, "/replica?max_lag=soon", 400),
    ] {
        world.until(index, path, status).await;
    }
    let primary = world
        .until_report(PRIMARY, "settled", |it| {
            it.store.healthy && it.database.senders.len() == 1 && it.database.slots.iter().all(|slot| slot.active)
        })
        .await;
    let database = &primary.database;
    assert_eq!(
        (database.state, database.role),
        (DatabaseState::Running, Some(NodeRole::Primary))
    );
    assert_eq!(database.timeline, Some(1));
    assert_eq!(
        database.connections.map(|(_, most)| most),
        Some(30),
        "the workspace's own setting"
    );
    assert_eq!(database.senders[0].node, "eu-db-1");
    assert_eq!(
        database.slots.iter().map(|slot| slot.name.as_str()).collect::<Vec<_>>(),
        ["ha_eu_db_1"]
    );
    assert!(!primary.samples.is_empty());

    let replica = world.report(REPLICA).await.database;
    assert_eq!(replica.role, Some(NodeRole::Replica));
    assert_eq!(replica.upstream.as_deref(), Some("us-db-1"));
    assert_eq!(replica.timeline, Some(1));
    assert_eq!(replica.system_identifier, database.system_identifier);
    assert!(replica.upstream_silence.is_some_and(|it| it < Duration::from_secs(30)));

    let (_, metrics) = world.get(REPLICA, "/metrics").await.expect("metrics");
    assert!(
        metrics.contains("ha_database_primary{workspace=\"shop\",region=\"region-1\",node=\"eu-db-1\"} 0"),
        "{metrics}"
    );
    let events = fs::read_to_string(&world.nodes[REPLICA].config.events).expect("events");
    assert!(
        events.contains(r#""status":"creating""#) && events.contains(r#""status":"replica""#),
        "{events}"
    );

    // Silence, told by the replica: with its receiver gone there is no word from upstream, and no yes.
    let admin = world.admin(REPLICA).await;
    admin
        .batch_execute("select pg_wal_replay_pause()")
        .await
        .expect("paused");
    world
        .until_report(REPLICA, "paused", |it| it.database.replay_paused)
        .await;
    world
        .app(PRIMARY)
        .await
        .batch_execute("create table big as select generate_series(1, 50000)")
        .await
        .expect("written");
    world.until(REPLICA, "/replica?max_lag=64kB", 503).await;
    world.until(REPLICA, "/replica?max_lag=500ms", 503).await;
    world.until(REPLICA, "/replica?max_lag=1GB", 200).await;
    admin
        .batch_execute("select pg_wal_replay_resume()")
        .await
        .expect("resumed");
    world.until(REPLICA, "/replica?max_lag=64kB", 200).await;
}

async fn killed_postmaster(world: &World) {
    let before = world.postmaster(PRIMARY);
    // A backend that is busy outlives its postmaster; the next server would not start beside it.
    let busy = world.admin(PRIMARY).await;
    let loops = tokio::spawn(async move { busy.batch_execute("do $$ begin loop perform 1; end loop; end $$").await });
    world
        .until_report(PRIMARY, "busy", |it| {
            it.database.connections.is_some_and(|(used, _)| used >= 2)
        })
        .await;
    world.kill_postmaster(PRIMARY);
    world
        .until_report(PRIMARY, "another process", |it| {
            it.database.state == DatabaseState::Running && world.postmaster(PRIMARY) != before
        })
        .await;
    assert!(
        loops.await.expect("no panic").is_err(),
        "the busy session ended with its server"
    );
    let (_, metrics) = world.get(PRIMARY, "/metrics").await.expect("metrics");
    assert!(
        metrics
            .lines()
            .any(|line| line.starts_with("ha_database_restarts_total{") && line.ends_with(" 1"))
    );
    world.until(REPLICA, "/replica", 200).await;
    write_and_follow(world, PRIMARY, REPLICA, 2).await;
}

async fn killed_guard(world: &mut World) {
    let before = world.postmaster(REPLICA);
    world.kill_guard(REPLICA);
    write_and_no_guard(world).await;
    world.start(REPLICA);
    world.until(REPLICA, "/replica", 200).await;
    assert_eq!(world.postmaster(REPLICA), before, "the running database was adopted");
    let events = fs::read_to_string(&world.nodes[REPLICA].config.events).expect("events");
    assert!(events.contains("database.adopted"), "{events}");
}

async fn write_and_no_guard(world: &World) {
    let app = world.app(PRIMARY).await;
    app.batch_execute("insert into note values (3)").await.expect("written");
    let replica = world.app(REPLICA).await;
    for _ in 0..600 {
        if replica.query_one("select from note where id = 3", &[]).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the replica does not follow without its guard\n{}", world.logs());
}

/// The guard finds the server by its folder, not by what a damaged file says.
async fn damaged_lock_file(world: &mut World) {
    let lock = world.nodes[REPLICA].config.postgres.data_dir.join("postmaster.pid");
    let text = fs::read_to_string(&lock).expect("a lock file");
    let before = world.postmaster(REPLICA);
    world.kill_guard(REPLICA);
    // The number of a stranger.
    fs::write(&lock, text.replacen(&before.expect("a number").to_string(), "1", 1)).expect("damaged");
    world.start(REPLICA);
    world.until(REPLICA, "/replica", 200).await;
    fs::write(&lock, text).expect("mended");
    assert_eq!(world.postmaster(REPLICA), before);
    write_and_follow(world, PRIMARY, REPLICA, 4).await;
}

async fn stopped_and_started(world: &mut World) {
    for index in [REPLICA, PRIMARY] {
        world.stop(index);
        assert_eq!(world.postmaster(index), None, "the database ended with its guard");
    }
    for index in [PRIMARY, REPLICA] {
        world.start(index);
    }
    world.until(PRIMARY, "/primary", 200).await;
    world.until(REPLICA, "/replica", 200).await;
    write_and_follow(world, PRIMARY, REPLICA, 5).await;
}

async fn a_lost_folder_is_copied_from_the_leader(world: &mut World) {
    world.stop(REPLICA);
    let data = world.nodes[REPLICA].config.postgres.data_dir.clone();
    fs::remove_dir_all(&data).expect("lost");
    // What a crash in the middle of a copy leaves.
    let partial = data.with_file_name("postgres.partial-1");
    fs::create_dir(&partial).expect("made");
    fs::write(partial.join("PG_VERSION"), "15").expect("written");
    world.give(&partial);
    world.start(REPLICA);
    world.until(REPLICA, "/replica", 200).await;
    assert!(!partial.exists());
    write_and_follow(world, PRIMARY, REPLICA, 6).await;
    let slots = world.report(PRIMARY).await.database.slots;
    assert!(
        slots.iter().any(|slot| slot.name == "ha_eu_db_1" && slot.active),
        "{slots:?}"
    );
}

async fn a_folder_of_another_cluster_is_refused(world: &mut World) {
    world.stop(REPLICA);
    let postgres = &world.nodes[REPLICA].config.postgres;
    let control = postgres.data_dir.join("global/pg_control");
    let mut bytes = fs::read(&control).expect("a control file");
    bytes[0] ^= 1;
    // The checksum behind the control data is now wrong; pg_controldata warns and tells all the same.
    fs::write(&control, bytes).expect("changed");
    world.start(REPLICA);
    let report = world
        .until_report(REPLICA, "refused", |it| it.database.state == DatabaseState::Failed)
        .await;
    let detail = report.database.detail.unwrap_or_default();
    assert!(detail.contains("holds another cluster"), "{detail}");
    world.until(REPLICA, "/health", 503).await;
}

fn no_secret_was_written_down(world: &World) {
    for node in &world.nodes {
        let postgres = &node.config.postgres;
        for file in [&postgres.log_file, &world.guard_log(node.name), &node.config.events] {
            let text = fs::read_to_string(file).expect("a log");
            for secret in ["SCRAM-SHA-256$", "admin:'", "replication:'", "app:'"] {
                assert!(!text.contains(secret), "{secret} in {}", file.display());
            }
        }
    }
}
