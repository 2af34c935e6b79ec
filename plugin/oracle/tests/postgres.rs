//! Runs against a real PostgreSQL: whatever happens to it, the verdict says what happened.

mod server;

use std::time::Duration;

use ha_oracle::{Burst, Notes, Options, Oracle, Running, Verdict, judge};

use server::Server;

/// Two cores may be busy with other things.
const PATIENCE: Duration = Duration::from_secs(30);

fn start(options: Options) -> Running {
    Oracle::start(options).expect("clients")
}

/// Stops, reads, judges and clears.
async fn verdict(running: Running) -> (Notes, Verdict) {
    let ledger = running.ledger();
    let notes = running.stop().await;
    let found = ledger.found(PATIENCE).await.expect("it can be asked");
    let verdict = judge(&notes, Some(&found));
    ledger.clear(PATIENCE).await.expect("it can be cleared");
    (notes, verdict)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_in_the_middle_loses_nothing_that_it_acknowledged() {
    let mut server = Server::start("").await;
    let running = start(server.options());
    for _ in 0..10 {
        running.flowing(PATIENCE).await.expect("writes flow");
    }
    let before = running.so_far();
    assert!(
        before
            .regions
            .iter()
            .all(|it| it.acknowledged > 0 && it.last_ack.is_some())
    );

    running.mark("fault");
    server.kill();
    let refused = running.flowing(Duration::from_millis(300)).await;
    let refused = refused.expect_err("nobody answers");
    assert_eq!(refused.code(), "ha::oracle::not_flowing", "{refused}");
    assert!(refused.to_string().contains("us-east, eu-central"), "{refused}");
    server.up();
    running.flowing(PATIENCE).await.expect("they flow again");

    let (notes, verdict) = verdict(running).await;
    assert!(verdict.passed(), "{verdict}");
    assert!(verdict.acknowledged > 10 && verdict.failed > 0, "{verdict:?}");
    let outage = verdict.longest_outage().expect("it was out");
    let fault = notes.mark("fault").expect("marked");
    assert!(outage.over && outage.took > Duration::from_millis(300), "{outage:?}");
    // Whatever was on its way at the mark may have been answered yet.
    assert!(
        outage.from < fault + Duration::from_millis(250),
        "{outage:?}, the fault at {fault:?}"
    );
    let reigns: Vec<_> = verdict.lineage.iter().map(|it| it.by.to_string()).collect();
    assert_eq!(reigns, ["us-db-1 on timeline 1"]);

    let admin = server.admin("app").await;
    let left = admin.query_one("select to_regclass('ha_oracle') is null", &[]).await;
    assert!(left.expect("an answer").get::<_, bool>(0), "the table is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledged_row_that_somebody_removes_is_lost_and_one_that_somebody_adds_is_unexpected() {
    let server = Server::start("").await;
    let options = Options {
        writers: 2,
        burst: Some(Burst {
            every: Duration::from_millis(100),
            writes: 20,
        }),
        ..server.options()
    };
    let run = options.run.clone();
    let (running, beside) = (start(options), start(server.options()));
    running.flowing(PATIENCE).await.expect("writes flow");
    beside.flowing(PATIENCE).await.expect("of the other run, too");
    let ledger = running.ledger();
    let notes = running.stop().await;
    let gone = notes.attempts.iter().find(|it| it.by().is_some()).expect("one").id;

    let admin = server.admin("app").await;
    let number = i64::try_from(gone).expect("small");
    admin
        .execute("delete from ha_oracle where run = $1 and id = $2", &[&run, &number])
        .await
        .expect("removed");
    admin
        .execute("insert into ha_oracle values ($1, 1000000, 'us-east')", &[&run])
        .await
        .expect("added");
    let found = ledger.found(PATIENCE).await.expect("it can be asked");
    let rows = judge(&notes, Some(&found)).rows.expect("asked");
    assert_eq!(rows.lost.iter().map(|it| it.id).collect::<Vec<_>>(), [gone]);
    assert_eq!(rows.unexpected.iter().map(|it| it.id).collect::<Vec<_>>(), [1_000_000]);

    // What is cleared is this run's alone.
    ledger.clear(PATIENCE).await.expect("cleared");
    beside.flowing(PATIENCE).await.expect("the other run goes on");
    let (_, other) = verdict(beside).await;
    assert!(other.passed() && other.failed == 0, "{other}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_wait_for_replicas_is_cancelled_is_unknown_and_one_without_an_answer_is_too() {
    let server = Server::start("").await;
    let options = Options {
        patience: Duration::from_millis(1500),
        ..server.options()
    };
    let running = start(options);
    running.flowing(PATIENCE).await.expect("writes flow");

    // From now on each commit waits for a replica that does not exist.
    let admin = server.admin("postgres").await;
    let names = |names: &str| format!("alter system set synchronous_standby_names = '{names}'");
    admin.batch_execute(&names("ANY 1 (nobody)")).await.expect("set");
    admin.batch_execute("select pg_reload_conf()").await.expect("reloaded");
    let cancel = "select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'";
    let until = tokio::time::Instant::now() + PATIENCE;
    let cancelled = |running: &Running| {
        let whys = running.so_far().regions.into_iter().filter_map(|it| it.last_why);
        whys.filter(|why| why.contains("canceling wait for synchronous replication"))
            .count()
            > 0
    };
    while !cancelled(&running) {
        assert!(tokio::time::Instant::now() < until, "{:?}", running.so_far());
        admin.query(cancel, &[]).await.expect("asked");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Nobody cancels any more: clients run out of patience, and go on.
    let silent = |running: &Running| {
        let whys = running.so_far().regions.into_iter().filter_map(|it| it.last_why);
        whys.filter(|why| why.contains("gave no answer within 1500 ms")).count() == 2
    };
    while !silent(&running) {
        assert!(tokio::time::Instant::now() < until, "{:?}", running.so_far());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let ledger = running.ledger();
    let refused = ledger
        .found(Duration::from_secs(2))
        .await
        .expect_err("no commit returns");
    assert_eq!(refused.code(), "ha::oracle::not_writable", "{refused}");
    let unreadable = running.so_far();
    assert!(unreadable.regions.iter().all(|it| it.unknown > 0), "{unreadable:?}");

    admin.batch_execute(&names("")).await.expect("set");
    admin.batch_execute("select pg_reload_conf()").await.expect("reloaded");
    running.flowing(PATIENCE).await.expect("they flow again");
    let (_, verdict) = verdict(running).await;
    assert!(verdict.passed() && verdict.unknown > 1, "{verdict:?}");
    // All of them had been written; they only waited.
    assert_eq!(verdict.rows.map(|it| it.recovered.len()), Some(verdict.unknown));
}
