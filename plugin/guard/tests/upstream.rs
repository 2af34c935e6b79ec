//! A replica that cannot go on as it was told: its primary moved, threw away the log it needs, or it was made primary
//! by hand.

#[allow(dead_code, reason = "shared with another test, which uses all of it")]
mod agent_world;

use std::fs;

use agent_world::{World, free_port};
use ha_core::report::NodeRole;

const PRIMARY: usize = 0;
const REPLICA: usize = 1;

#[tokio::test]
async fn a_replica_follows_its_primary_to_another_port_and_is_copied_when_its_log_is_gone() {
    let mut world = World::by_hand(&["us-db-1", "eu-db-1"]).await;
    world.start(PRIMARY);
    world.start(REPLICA);
    world.until(PRIMARY, "/primary", 200).await;
    world.until(REPLICA, "/replica", 200).await;

    its_primary_moves(&mut world).await;
    its_log_is_gone(&mut world).await;
    a_replica_promoted_by_hand_is_copied_anew(&world).await;
}

async fn its_primary_moves(world: &mut World) {
    let before = world.postmaster(REPLICA);
    world.kill_guard(REPLICA);
    world.stop(PRIMARY);
    let port = free_port();
    world.nodes[PRIMARY].config.postgres.port = port;
    world.nodes[REPLICA].config.peers[0].port = port;
    for index in [PRIMARY, REPLICA] {
        world.configure(index);
        world.start(index);
    }
    world
        .until_report(REPLICA, "following", |it| {
            it.database.upstream.as_deref() == Some("us-db-1") && it.database.upstream_silence.is_some()
        })
        .await;
    assert_eq!(world.postmaster(REPLICA), before, "no restart was needed");
    let report = world.report(REPLICA).await;
    assert_eq!(report.database.detail, None);
    assert!(events(world).contains("replica.follows"), "{}", events(world));
}

async fn its_log_is_gone(world: &mut World) {
    world.stop(REPLICA);
    let admin = world.admin(PRIMARY).await;
    // Nobody is there to acknowledge.
    admin
        .batch_execute("set synchronous_commit = local")
        .await
        .expect("set");
    admin
        .batch_execute("alter system set wal_keep_size = 0")
        .await
        .expect("set");
    admin
        .batch_execute("select pg_reload_conf(); create table filler (x text)")
        .await
        .expect("reloaded");
    for _ in 0..4 {
        // The guard makes the slot again each time; what it keeps then begins later than what the replica needs.
        for statement in [
            "select pg_drop_replication_slot(slot_name) from pg_replication_slots",
            "insert into filler values ('x')",
            "select pg_switch_wal()",
            "checkpoint",
        ] {
            admin.batch_execute(statement).await.expect(statement);
        }
    }
    world.start(REPLICA);
    world
        .until_report(REPLICA, "told", |it| {
            let detail = it.database.detail.as_deref().unwrap_or_default();
            detail.contains("us-db-1 no longer has the log from 0/")
        })
        .await;
    world.until(REPLICA, "/replica", 200).await;
    assert!(events(world).contains("replica.outdated"), "{}", events(world));
    let app = world.app(PRIMARY).await;
    app.batch_execute("create table note (id int)").await.expect("written");
    let copy = world.app(REPLICA).await;
    for _ in 0..200 {
        if copy.query("select from note", &[]).await.is_ok() {
            let data = &world.nodes[REPLICA].config.postgres.data_dir;
            assert!(!data.with_file_name("postgres.outdated").exists());
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("the copy does not follow\n{}", world.logs());
}

/// Nobody chose it: what it wrote was acknowledged by nobody, and its timeline may have the number of another one.
async fn a_replica_promoted_by_hand_is_copied_anew(world: &World) {
    let admin = world.admin(REPLICA).await;
    // The guard may be faster than the answer; that it was promoted is seen by what the guard does.
    let _ = admin.batch_execute("select pg_promote(false)").await;
    drop(admin);
    let began = std::time::Instant::now();
    while !events(world).contains(r#""status":"disown""#) {
        assert!(began.elapsed().as_secs() < 60, "not disowned\n{}", world.logs());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    world
        .until_report(REPLICA, "a replica again", |it| {
            it.database.role == Some(NodeRole::Replica) && it.database.upstream_silence.is_some()
        })
        .await;
    assert_eq!(world.report(PRIMARY).await.database.role, Some(NodeRole::Primary));
    let events = events(world);
    assert_eq!(events.matches(r#""event":"rejoin.copy""#).count(), 2, "{events}");
}

fn events(world: &World) -> String {
    fs::read_to_string(&world.nodes[REPLICA].config.events).expect("events")
}
