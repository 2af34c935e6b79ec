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
use ha_core::report::NodeRole;

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
