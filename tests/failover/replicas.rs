//! Replicas that lag, that were promoted by hand, and an old primary that somebody starts.

use ha_tests::eventually;
use rustix::process::Signal;
use std::time::Duration;

use crate::world::{Room, Scenario, World, host_of};

pub(crate) const ROOM: Room = Room {
    name: "replicas",
    own: None,
    scenarios: &[
        Scenario {
            name: "the_last_commit_is_on_one_of_two_that_lag",
            play: the_last_commit_is_on_one_of_two_that_lag,
        },
        Scenario {
            name: "the_last_commit_is_on_one_that_is_gone",
            play: the_last_commit_is_on_one_that_is_gone,
        },
        Scenario {
            name: "a_replica_is_promoted_by_hand_twice",
            play: a_replica_is_promoted_by_hand_twice,
        },
        Scenario {
            name: "the_old_primary_is_started_by_hand",
            play: the_old_primary_is_started_by_hand,
        },
    ],
};

const SOON: Duration = Duration::from_secs(60);
const PLAIN: &str = "set synchronous_commit = on; ";

/// Neither the nearer nor the preferred one: whoever has the last acknowledged commit.
fn the_last_commit_is_on_one_of_two_that_lag(world: &World) -> String {
    let (primary, [one, two]) = (world.leader(), world.others());
    let table = "ha_test_last";
    world
        .sql(&primary, &format!("create table if not exists {table} (id int)"))
        .expect("a table");
    // First one of them stands still, then the other, so that each lacks something of the end but one has the very end.
    receivers(world, one).iter().for_each(|it| it.signal(Signal::STOP));
    world
        .sql(&primary, &format!("{PLAIN}insert into {table} values (1)"))
        .expect("acknowledged by the other");
    // The other one, still: what is written now is acknowledged by nobody.
    receivers(world, two).iter().for_each(|it| it.signal(Signal::STOP));
    let mut waiting = world.session(&primary, &format!("{PLAIN}insert into {table} values (2)"));
    eventually("a commit that waits", SOON, || {
        let count = world.sql(
            &primary,
            "select count(*) from pg_stat_activity where wait_event = 'SyncRep'",
        )?;
        (count != "0").then_some(()).ok_or(count)
    });
    let epoch = world.epoch();
    world.value(&format!("fault kill region {primary} | ignore"));
    // What lies in the lines' buffers for the one that is behind dies with its receiver; the other one wakes up.
    receivers(world, one).iter().for_each(|it| it.signal(Signal::KILL));
    receivers(world, two).iter().for_each(|it| it.signal(Signal::CONT));
    world.value(&format!("wait failover {epoch}"));
    assert_eq!(world.leader(), two, "only {two} had the last acknowledged commit");
    let rows = world.sql(
        two,
        &format!("select string_agg(id::text, ',' order by id) from {table}"),
    );
    assert!(rows.as_deref().is_ok_and(|it| it.starts_with('1')), "{rows:?}");
    let _ = waiting.kill();
    let _ = waiting.wait();
    world.value(&format!("fault restore region {primary}; wait whole"));
    world
        .sql(&world.leader(), &format!("drop table {table}"))
        .expect("dropped");
    format!("{two} won, as the only one with the last commit")
}

/// With the primary and the only one that had the last commit gone, the third alone is not enough: nothing happens, and
/// it is said why. Whoever accepts the loss must know that the primary is fenced; what is known to be lost is counted.
fn the_last_commit_is_on_one_that_is_gone(world: &World) -> String {
    let (primary, epoch) = (world.leader(), world.epoch());
    let [behind, ahead] = world.others();
    let table = "ha_test_gone";
    world
        .sql(&primary, &format!("create table if not exists {table} (id int)"))
        .expect("a table");
    for process in receivers(world, behind) {
        process.signal(Signal::STOP);
    }
    let padding = "select i, repeat('x', 200) from generate_series(1, 2000) i";
    world
        .sql(&primary, &format!("{PLAIN}create table {table}_pad as {padding}"))
        .expect("acknowledged by the other");
    world
        .sql(&primary, &format!("{PLAIN}insert into {table} values (1)"))
        .expect("acknowledged by the other");
    // The lease tells how far the primary was: one renewal later everybody knows.
    world.value("sleep 1500ms");
    // Both databases and their guards; the store keeps its quorum, or nobody could agree on anything.
    for region in [primary.as_str(), ahead] {
        world.cluster.supervisor(region).expect("it runs").signal(Signal::STOP);
        world.signal(region, "guard", Signal::KILL);
        world.signal(region, "database", Signal::KILL);
    }
    // Not what waits for it in the line's buffers.
    receivers(world, behind).iter().for_each(|it| it.signal(Signal::KILL));
    world.value("sleep 6sec");
    let lease = world.lease();
    assert_ne!(lease.text("region"), behind, "one of three decided: {lease:?}");
    let refused = world.refused("ha failover");
    assert_eq!(refused.code, "ha::failover::no_quorum", "{refused}");
    assert!(refused.help.contains("--accept-loss"), "{refused}");
    let refused = world.refused("ha failover --accept-loss");
    assert_eq!(refused.code, "ha::failover::not_fenced", "{refused}");
    assert!(world.epoch() <= epoch + 1);

    let rows = world.rows("ha failover --accept-loss --fenced 'its processes were killed by this test'");
    let last = rows.last().expect("rows").clone();
    let measured = rows.iter().find(|row| row.is("step", "measured"));
    let history = world.history();
    let newest = history.last().expect("an epoch").clone();
    assert!(
        measured.is_some() || newest.number("epoch") > Some(epoch),
        "it went on: {rows:#?}"
    );
    assert_eq!(world.leader(), behind, "{last:?}");
    assert_eq!(newest.get("accept_loss"), true, "{newest:?}");
    let lost = newest.number("lost_bytes").unwrap_or_default();
    assert!(lost > 0, "what is known to be lost is counted: {newest:?}");
    for region in [primary.as_str(), ahead] {
        world
            .cluster
            .supervisor(region)
            .expect("it is stopped, and there")
            .signal(Signal::CONT);
    }
    world.wait_whole();
    let left = world.sql(
        behind,
        &format!("select count(*) from pg_tables where tablename = '{table}_pad'"),
    );
    assert_eq!(left.as_deref(), Ok("0"), "what was given up stays given up");
    world.sql(behind, &format!("drop table {table}")).expect("dropped");
    format!("{lost} bytes of the log given up, as told")
}

/// Outside of any agreement: it is fenced, never counted, never chosen, and copied anew. Twice, since the second time it
/// takes the same timeline number.
fn a_replica_is_promoted_by_hand_twice(world: &World) -> String {
    let (primary, epoch) = (world.leader(), world.epoch());
    let orphan = world.others()[1];
    let verdict = world.oracle("sleep 100ms");
    verdict.passes();
    let mut figures = Vec::new();
    for time in 1..=2 {
        let before = copies(world);
        world.pg_ctl(orphan, &["promote", "-W"]).expect("promoted by hand");
        eventually("a copy of the orphan", SOON, || {
            let now = copies(world);
            (now > before).then_some(()).ok_or_else(|| format!("{now} copies"))
        });
        world.wait_whole();
        assert_eq!(
            (world.leader(), world.epoch()),
            (primary.clone(), epoch),
            "nobody took it for a failover"
        );
        let history = world.history();
        let newest = history.last().expect("an epoch");
        assert_eq!(newest.number("epoch"), Some(epoch), "{newest:?}");
        figures.push(format!("copied after promotion {time}"));
    }
    figures.join(", ")
}

fn copies(world: &World) -> usize {
    let rows = world.rows("ha events --last 400 | where event == rejoin.copy and status == copied");
    rows.len()
}

/// Somebody who knows nothing of guards starts the database of a region that was lost: it acknowledges nothing, and its
/// guard fences it as soon as it is back.
fn the_old_primary_is_started_by_hand(world: &World) -> String {
    let (old, epoch) = (world.leader(), world.epoch());
    world.value(&format!("fault kill region {old} | ignore; wait failover {epoch}"));
    world
        .pg_ctl(&old, &["start", "-W", "-o", "-c logging_collector=off"])
        .expect("started by hand");
    let answers = |statement: &str| world.sql(&old, statement);
    eventually("the database that was started by hand", SOON, || {
        answers("select 1").map(drop)
    });
    let mut session = world.session(&old, "create table ha_test_by_hand (id int)");
    world.value("sleep 3sec");
    let acknowledged = session.try_wait().expect("its state");
    assert!(
        acknowledged.is_none_or(|status| !status.success()),
        "a commit returned on a database that nobody agreed on"
    );
    let by_hand = world.cluster.postgres(&old, host_of(&old)).expect("it runs");
    world.value(&format!("fault restore region {old}; wait whole"));
    assert!(!by_hand.alive(), "its guard ended what nobody agreed on");
    let _ = session.kill();
    let _ = session.wait();
    let there = world.sql(
        &world.leader(),
        "select count(*) from pg_tables where tablename = 'ha_test_by_hand'",
    );
    assert_eq!(there.as_deref(), Ok("0"));
    assert_ne!(world.leader(), old);
    format!("nothing acknowledged by hand, and {} leads", world.leader())
}

fn receivers(world: &World, region: &str) -> Vec<ha_tests::Process> {
    let processes = world.processes(region, "database").into_iter();
    processes.filter(|it| it.command().contains("walreceiver")).collect()
}
