//! Three guards, three databases, one store: who is primary changes, and nothing that was acknowledged is lost.

#[allow(dead_code, reason = "shared with other tests, which use the rest of it")]
mod agent_world;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use agent_world::World;
use ha_core::{agreement::Switch, report::NodeRole};

const NODES: [&str; 3] = ["us-db-1", "eu-db-1", "asia-db-1"];

/// Inserts one id after the other through whoever takes it, and notes when which was acknowledged.
struct Writer {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<Vec<(i32, Instant)>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Writer {
    /// `at` says which node is written to.
    fn start(world: &World, at: Arc<AtomicUsize>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(Mutex::new(Vec::new()));
        let options: Vec<_> = (0..world.nodes.len()).map(|index| world.app_options(index)).collect();
        let (stopped, noted) = (Arc::clone(&stop), Arc::clone(&acknowledged));
        let task = tokio::spawn(async move {
            let mut id = 0;
            while !stopped.load(Ordering::SeqCst) {
                let place = at.load(Ordering::SeqCst);
                let Ok(mut session) = ha_data::postgres::connect(&options[place]).await else {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    continue;
                };
                while !stopped.load(Ordering::SeqCst) && at.load(Ordering::SeqCst) == place {
                    id += 1;
                    let statement = format!("insert into note values ({id})");
                    let sent = tokio::time::timeout(Duration::from_secs(2), session.batch_execute(&statement)).await;
                    // A commit that was cancelled says COMMIT, and a warning: that is no acknowledgement.
                    let warned = session.notices().iter().any(|it| it.code == "01000");
                    match sent {
                        Ok(Ok(())) if !warned => noted.lock().expect("whole").push((id, Instant::now())),
                        _ => break,
                    }
                }
            }
        });
        Self {
            stop,
            acknowledged,
            task,
        }
    }

    fn count(&self) -> usize {
        self.acknowledged.lock().expect("whole").len()
    }

    async fn end(self) -> Vec<(i32, Instant)> {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.expect("no panic");
        Arc::try_unwrap(self.acknowledged)
            .map(|it| it.into_inner().expect("whole"))
            .unwrap_or_default()
    }
}

/// The longest time without an acknowledgement.
fn gap(acknowledged: &[(i32, Instant)]) -> Duration {
    let pairs = acknowledged.windows(2);
    pairs.map(|pair| pair[1].1 - pair[0].1).max().unwrap_or_default()
}

async fn ready(world: &mut World) {
    for index in 0..NODES.len() {
        world.start(index);
    }
    world.until(0, "/primary", 200).await;
    for index in 1..NODES.len() {
        world.until(index, "/replica", 200).await;
    }
    whole(world, 0).await;
    world
        .app(0)
        .await
        .batch_execute("create table note (id int)")
        .await
        .expect("made");
}

/// Both others stream from `primary` and count.
async fn whole(world: &World, primary: usize) {
    world
        .until_report(primary, "whole", |it| {
            let epoch = it.agreement.as_ref().map(|it| it.epoch);
            let counted = it.database.senders.iter().filter(|it| it.epoch == epoch);
            let voters = it.agreement.as_ref().map_or(0, |it| it.voters.len());
            counted.filter(|it| it.sync_state == "quorum").count() == 2 && voters == 3
        })
        .await;
}

/// Which of `among` says that it may be written to.
async fn primary(world: &World, among: &[usize]) -> usize {
    let began = Instant::now();
    loop {
        for index in among {
            if world.get(*index, "/primary").await.is_ok_and(|(code, _)| code == 200) {
                return *index;
            }
        }
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "nobody leads\n{}",
            world.logs()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn nothing_is_lost(world: &World, at: usize, acknowledged: &[(i32, Instant)]) {
    let session = world.app(at).await;
    let rows = session.query("select id from note", &[]).await.expect("read");
    let there: std::collections::BTreeSet<i32> = rows.iter().map(|row| row.get(0)).collect();
    let lost: Vec<i32> = acknowledged
        .iter()
        .map(|(id, _)| *id)
        .filter(|id| !there.contains(id))
        .collect();
    assert!(
        lost.is_empty(),
        "lost {lost:?} of {}\n{}",
        acknowledged.len(),
        world.logs()
    );
}

#[tokio::test]
async fn a_lost_primary_is_replaced_and_returns_as_a_replica() {
    let mut world = World::new(&NODES).await;
    ready(&mut world).await;
    let at = Arc::new(AtomicUsize::new(0));
    let writer = Writer::start(&world, Arc::clone(&at));
    while writer.count() < 50 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    world.kill_node(0);
    let killed = Instant::now();
    let next = primary(&world, &[1, 2]).await;
    let routed = killed.elapsed();
    at.store(next, Ordering::SeqCst);
    let before = writer.count();
    while writer.count() < before + 50 {
        assert!(
            killed.elapsed() < Duration::from_secs(60),
            "no commit returns\n{}",
            world.logs()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.start(0);
    world.until(0, "/replica", 200).await;
    let rejoined = killed.elapsed();
    whole(&world, next).await;
    let acknowledged = writer.end().await;
    eprintln!(
        "killed: /primary elsewhere after {routed:?}, longest gap {:?}, back as a replica after {rejoined:?}, {} acknowledged",
        gap(&acknowledged),
        acknowledged.len()
    );
    nothing_is_lost(&world, next, &acknowledged).await;
    let report = world.report(next).await;
    let agreement = report.agreement.expect("a term");
    assert_eq!(agreement.epoch, 2);
    assert_eq!(
        report.database.timeline,
        Some(2),
        "the epoch's number is the timeline's"
    );
    assert_eq!(world.report(0).await.database.role, Some(NodeRole::Replica));
}

/// A switchover as the shell asks for it: the term says so, and the guards do it.
async fn ask_for_switchover(world: &World, to: usize) {
    let cluster = world.cluster().await;
    let (term, seen) = cluster.term().await.expect("the store answers").expect("a term");
    let now = jiff::Timestamp::now();
    let switch = Switch {
        op: format!("test-{}", term.epoch),
        to: NODES[to].to_owned(),
        by: "test".to_owned(),
        started_at: now,
        until: now + Duration::from_secs(10),
    };
    let next = term.begin_switch(switch).expect("an active term");
    let swapped = cluster.swap_term(&next, seen, &[]).await.expect("the store answers");
    assert!(matches!(swapped, ha_store::Swap::Done(_)), "{swapped:?}");
}

#[tokio::test]
async fn a_switchover_and_back_loses_nothing_and_needs_no_rewind() {
    let mut world = World::new(&NODES).await;
    ready(&mut world).await;
    let at = Arc::new(AtomicUsize::new(0));
    let writer = Writer::start(&world, Arc::clone(&at));
    for (round, (from, to)) in [(0, 1), (1, 0)].into_iter().enumerate() {
        let before = writer.count();
        while writer.count() < before + 50 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let asked = Instant::now();
        ask_for_switchover(&world, to).await;
        let next = primary(&world, &[to]).await;
        at.store(next, Ordering::SeqCst);
        eprintln!("round {round}: /primary at {} after {:?}", NODES[to], asked.elapsed());
        world.until(from, "/replica", 200).await;
        whole(&world, to).await;
    }
    let acknowledged = writer.end().await;
    eprintln!(
        "switched over: longest gap {:?}, {} acknowledged",
        gap(&acknowledged),
        acknowledged.len()
    );
    nothing_is_lost(&world, 0, &acknowledged).await;
    assert_eq!(world.report(0).await.agreement.expect("a term").epoch, 3);
    for index in 0..NODES.len() {
        let events = std::fs::read_to_string(&world.nodes[index].config.events).expect("events");
        assert!(!events.contains("rejoin."), "nobody had to be rebuilt\n{events}");
    }
}

#[tokio::test]
async fn a_guard_that_is_killed_finds_its_primary_again_and_a_stranger_is_fenced() {
    let mut world = World::new(&NODES).await;
    ready(&mut world).await;
    let before = world.postmaster(0);
    world.kill_guard(0);
    world.start(0);
    world.until(0, "/primary", 200).await;
    assert_eq!(world.postmaster(0), before, "the running primary was adopted");
    assert_eq!(world.report(0).await.agreement.expect("a term").epoch, 1);

    // The machine is gone for a while; then somebody starts the database by hand before its guard is there.
    world.kill_node(0);
    let next = primary(&world, &[1, 2]).await;
    whole_without(&world, next, 0).await;
    world.start_by_hand(0).await;
    let stranger = world.app(0).await;
    let sent = tokio::time::timeout(
        Duration::from_secs(3),
        stranger.batch_execute("insert into note values (-1)"),
    );
    assert!(sent.await.is_err(), "a database without a permit acknowledged a commit");
    world.start(0);
    world.until(0, "/replica", 200).await;
    whole(&world, next).await;
    let events = std::fs::read_to_string(&world.nodes[0].config.events).expect("events");
    assert!(events.contains(r#""event":"fence""#), "{events}");
    let rows = world.app(next).await.query("select from note where id = -1", &[]).await;
    assert!(rows.expect("read").is_empty());
}

/// A commit returns at `primary`, although `away` is not there.
async fn whole_without(world: &World, primary: usize, away: usize) {
    let session = world.app(primary).await;
    let sent = session.execute("insert into note values (0)", &[]);
    tokio::time::timeout(Duration::from_secs(30), sent)
        .await
        .unwrap_or_else(|_| panic!("no commit without {}\n{}", NODES[away], world.logs()))
        .expect("acknowledged");
}

#[tokio::test]
async fn a_frozen_primary_is_replaced_and_acknowledges_nothing_when_it_goes_on() {
    let mut world = World::new(&NODES).await;
    ready(&mut world).await;
    let at = Arc::new(AtomicUsize::new(0));
    let writer = Writer::start(&world, Arc::clone(&at));
    while writer.count() < 50 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.freeze_node(0, true);
    let frozen = Instant::now();
    let next = primary(&world, &[1, 2]).await;
    eprintln!("frozen: /primary elsewhere after {:?}", frozen.elapsed());
    whole_without(&world, next, 0).await;
    // The writer still hangs on the old one.
    let before = writer.count();
    world.freeze_node(0, false);
    world.until(0, "/replica", 200).await;
    assert_eq!(writer.count(), before, "the old primary acknowledged a commit");
    at.store(next, Ordering::SeqCst);
    whole(&world, next).await;
    while writer.count() < before + 20 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let acknowledged = writer.end().await;
    nothing_is_lost(&world, next, &acknowledged).await;
}
