//! The steps of a failover against real servers.

mod world;

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use ha_core::{
    agreement::FENCED_NAMES,
    lsn::{Lsn, Position},
};
use ha_data::{
    DataError,
    postgres::{self, DataDir},
};
use rustix::process::{Pid, Signal, kill_process};
use world::{Node, PATIENCE, World, run};

const SHORT: Duration = Duration::from_millis(500);

async fn canary(node: &Node, epoch: u64, patience: Duration) -> Result<(), DataError> {
    postgres::canary(&node.session().await, epoch, patience).await
}

async fn seal(node: &Node) -> Position {
    let session = node.session().await;
    let began = Instant::now();
    let sealed = postgres::seal(&session, &node.config, PATIENCE).await;
    let at = sealed.unwrap_or_else(|error| panic!("{error}\n{}", node.log()));
    eprintln!("sealed {} at {at} in {:?}", node.name, began.elapsed());
    at
}

async fn written(node: &Node) -> Lsn {
    node.look().await.report.written.expect("a primary")
}

async fn names(node: &Node, names: &str) {
    postgres::set_names(&node.session().await, names).await.expect("set");
}

#[test]
fn a_sealed_replica_acknowledges_nothing_and_says_where_its_log_ends() {
    run(
        "a_sealed_replica_acknowledges_nothing_and_says_where_its_log_ends",
        async |world: &mut World| {
            let (a, _a) = world.primary("a").await;
            assert_eq!(a.look().await.report.names.as_deref(), Some(FENCED_NAMES));
            let (b, server) = world.copy("b", &a).await;
            let copied = b.look().await;
            assert_eq!((copied.follows, copied.receivers), (None, 0), "a copy is sealed");
            b.follow(&a, 1).await;
            let told = b.look().await;
            assert_eq!(
                (told.follows.expect("told").1, told.follows_epoch),
                (a.config.port, Some(1))
            );
            names(&a, &format!("ANY 1 ({})", b.streams_as(1))).await;
            canary(&a, 1, PATIENCE).await.expect("acknowledged");
            a.run("create table t (id int); insert into t select generate_series(1, 20000)")
                .await;

            let at = seal(&b).await;
            assert_eq!(
                at,
                Position {
                    timeline: 1,
                    lsn: written(&a).await
                }
            );
            let sealed = b.look().await;
            assert_eq!((sealed.follows, sealed.receivers), (None, 0));
            assert!(matches!(canary(&a, 1, SHORT).await, Err(DataError::Timeout { .. })));
            let admin = a.session().await;
            assert_eq!(postgres::waiting(&admin).await.expect("seen").len(), 1);
            assert_eq!(postgres::terminate_waiting(&admin).await.expect("ended"), 1);

            // A stray setting does not help: there is no password any more.
            b.run(&format!(
                "alter system set primary_conninfo = 'host=127.0.0.1 port={} user=ha_replication passfile={} \
                 sslmode=require application_name={}'",
                a.config.port,
                b.config.data_dir.with_file_name("data.passfile").display(),
                b.streams_as(1),
            ))
            .await;
            b.run("select pg_reload_conf()").await;
            let refused = Instant::now();
            while !b.log().contains("no password supplied") {
                assert!(refused.elapsed() < PATIENCE, "{}", b.log());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            assert_eq!(a.look().await.report.senders, []);
            assert_eq!(seal(&b).await, at, "again");

            // Connecting to a place that takes the line and says nothing; no view of receivers shows that.
            let hole = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let mut upstream = a.upstream();
            upstream.port = hole.local_addr().expect("its address").port();
            let session = b.session().await;
            postgres::follow(&session, &b.config, b.name, &upstream, 1)
                .await
                .expect("told");
            let connecting = b.until("connecting", |it| it.receivers == 1).await;
            assert_eq!(connecting.report.upstream_silence, None);
            assert_eq!(seal(&b).await, at, "while connecting");
            assert_eq!(b.look().await.receivers, 0);

            // After a restart nothing was received, and the position is the same.
            server.stop(PATIENCE).await.expect("stopped");
            postgres::prepare_sealed_start(&b.config).await.expect("prepared");
            let _server = postgres::start(&b.config).expect("started");
            assert_eq!(seal(&b).await, at, "after a restart");
            assert!(matches!(
                postgres::seal(&a.session().await, &a.config, PATIENCE).await,
                Err(DataError::NotReplica { .. })
            ));
            assert!(matches!(
                postgres::prepare_sealed_start(&b.config).await,
                Err(DataError::Running { .. })
            ));
        },
    );
}

#[test]
fn timelines_are_numbered_by_epoch_and_the_others_follow_or_are_rewound() {
    run(
        "timelines_are_numbered_by_epoch_and_the_others_follow_or_are_rewound",
        async |world: &mut World| {
            let (a, a_server) = world.primary("a").await;
            let (b, _b) = world.copy("b", &a).await;
            let (c, _c) = world.copy("c", &a).await;
            b.follow(&a, 1).await;
            c.follow(&a, 1).await;
            let slots = [a.slot(), c.slot()];
            postgres::tend_replica_slots(&b.session().await, &slots)
                .await
                .expect("made");
            names(&a, &format!("ANY 1 ({}, {})", b.streams_as(1), c.streams_as(1))).await;
            a.run("create table t (id int); insert into t values (1)").await;
            let (at_b, at_c) = (seal(&b).await, seal(&c).await);
            assert!(at_b.max(at_c).lsn >= written(&a).await);
            postgres::tend_replica_slots(&b.session().await, &slots)
                .await
                .expect("moved");

            // Only here, and acknowledged to nobody; then a crash.
            a.run("set synchronous_commit = local; insert into t select generate_series(2, 1000)")
                .await;
            let took = a_server.fence(PATIENCE).await.expect("fenced");
            eprintln!("fenced in {took:?}");

            let session = b.session().await;
            let names_of_4 = format!("ANY 1 ({}, {})", a.streams_as(4), c.streams_as(4));
            let promote = || postgres::promote(&session, &b.config, 4, &names_of_4, &slots, PATIENCE);
            let began = Instant::now();
            let start = promote().await.unwrap_or_else(|error| panic!("{error}\n{}", b.log()));
            eprintln!("promoted in {:?}", began.elapsed());
            assert_eq!(
                start,
                Position {
                    timeline: 4,
                    lsn: at_b.lsn
                }
            );
            assert_eq!(promote().await.expect("already done"), start);
            let wrong = postgres::promote(&session, &b.config, 5, &names_of_4, &slots, PATIENCE).await;
            assert!(matches!(
                wrong,
                Err(DataError::WrongTimeline {
                    found: 4,
                    wanted: 5,
                    ..
                })
            ));
            assert!(matches!(canary(&b, 4, SHORT).await, Err(DataError::Timeout { .. })));
            postgres::terminate_waiting(&session).await.expect("ended");

            c.follow(&b, 4).await;
            canary(&b, 4, PATIENCE).await.expect("acknowledged by c");
            postgres::checkpoint(&session, PATIENCE).await.expect("done");
            assert_eq!(b.look().await.report.control_timeline, Some(4));

            // The crashed one reads all it has as a replica, and then gives up what only it had.
            assert!(matches!(rewind(world, &a, &b).await, Err(DataError::BadFile { .. })));
            postgres::prepare_sealed_start(&a.config).await.expect("prepared");
            let a_server = postgres::start(&a.config).expect("started");
            let at_a = seal(&a).await;
            assert!(at_a.timeline == 1 && at_a.lsn > start.lsn);
            a_server.stop(PATIENCE).await.expect("stopped");
            let rewound = rewind(world, &a, &b)
                .await
                .unwrap_or_else(|error| panic!("{error}\n{}", b.log()));
            eprintln!("{rewound:#?}");
            assert_eq!(
                rewound.fork,
                Some(Position {
                    timeline: 1,
                    lsn: start.lsn
                })
            );
            let lost = &rewound.lost[0];
            assert!(lost.records > 999 && lost.commits == 1 && lost.relations[0].1 >= 999);
            assert!(!rewound.kept.is_empty() && rewound.kept.iter().all(|it| it.exists()));
            let a_server = postgres::start(&a.config).expect("started");
            assert_eq!(a.look().await.follows, None, "a sealed standby");
            a.follow(&b, 4).await;
            assert_eq!(a.number("select count(*) from t").await, 1);
            a_server.stop(PATIENCE).await.expect("stopped");
            let nothing = rewind(world, &a, &b).await.expect("nothing to do");
            assert_eq!((nothing.fork, nothing.lost.len()), (None, 0));

            // Half-way it is no database. (It has to have something to be rewound again.)
            let alone = postgres::start(&a.config).expect("started");
            a.until("a replica", |it| it.report.received.is_some()).await;
            a.run("select pg_promote()").await;
            names(&a, "").await;
            a.run("insert into t values (-1)").await;
            alone.stop(PATIENCE).await.expect("stopped");
            let mark = a.config.data_dir.with_file_name("data.rewinding");
            tokio::select! {
                done = rewind(world, &a, &b) => panic!("it ended first: {done:?}"),
                () = async { while !mark.exists() { tokio::task::yield_now().await } } => {}
            }
            assert_eq!(postgres::data_dir(&a.config).await.expect("seen"), DataDir::Ruined);
            assert!(matches!(
                postgres::prepare_sealed_start(&a.config).await,
                Err(DataError::Ruined { .. })
            ));
            postgres::set_aside(&a.config).await.expect("aside");
            let _a = a.copy(&b).await;
            assert!(matches!(
                postgres::data_dir(&a.config).await.expect("seen"),
                DataDir::Present { standby: true, .. }
            ));

            // A copy lacks the numbers that were never used; c, which follows it, asks for all of them.
            a.follow(&b, 4).await;
            seal(&c).await;
            seal(&a).await;
            let slots = [b.slot(), c.slot()];
            let names_of_7 = format!("ANY 1 ({})", c.streams_as(7));
            let session = a.session().await;
            postgres::promote(&session, &a.config, 7, &names_of_7, &slots, PATIENCE)
                .await
                .expect("promoted");
            c.follow(&a, 7).await;
            canary(&a, 7, PATIENCE).await.expect("acknowledged");
            let history = postgres::history(&c.config, 7).expect("fetched");
            assert_eq!(
                history.iter().map(|(timeline, _)| *timeline).collect::<Vec<_>>(),
                [1, 4]
            );
            assert_eq!(postgres::restore_placeholders(&c.config, 7).expect("looked"), 0);
        },
    );
}

/// Nothing but the admin's login is used; what is left behind is what guards leave.
#[test]
fn where_no_guard_runs_it_is_done_over_sql() {
    run("where_no_guard_runs_it_is_done_over_sql", async |world: &mut World| {
        let (a, a_server) = world.primary("a").await;
        let (b, _b) = world.copy("b", &a).await;
        let (c, _c) = world.copy("c", &a).await;
        b.follow(&a, 1).await;
        c.follow(&a, 1).await;
        names(&a, &format!("ANY 1 ({}, {})", b.streams_as(1), c.streams_as(1))).await;
        a.run("create table t (id int); insert into t values (1)").await;
        let end = written(&a).await;

        let (over_b, over_c) = (b.by_sql().await, c.by_sql().await);
        assert!(matches!(
            a.by_sql().await.seal(PATIENCE).await,
            Err(DataError::NotReplica { .. })
        ));
        // While the primary lives and streams: it acknowledges nothing from then on.
        let at_b = over_b
            .seal(PATIENCE)
            .await
            .unwrap_or_else(|error| panic!("{error}\n{}", b.log()));
        let at_c = over_c.seal(PATIENCE).await.expect("sealed");
        assert!(at_b.max(at_c).lsn >= end && at_b.timeline == 1);
        assert_eq!(seal(&b).await, at_b, "a guard finds the same");
        let passfile = |node: &Node| node.config.data_dir.with_file_name("data.passfile");
        for node in [&b, &c] {
            let sealed = node.look().await;
            assert_eq!((sealed.follows, sealed.receivers), (None, 0));
            assert_eq!(sealed.report.names.as_deref(), Some(FENCED_NAMES));
            assert!(!passfile(node).exists());
        }
        assert!(matches!(canary(&a, 1, SHORT).await, Err(DataError::Timeout { .. })));
        let identity = postgres::identify(&b.config, PATIENCE).await.expect("told");
        assert_eq!(over_b.identify().await.expect("told"), identity);
        a_server.fence(PATIENCE).await.expect("fenced");

        let names_of_4 = format!("ANY 1 ({}, {})", a.streams_as(4), c.streams_as(4));
        let slots = [a.slot(), c.slot()];
        for _ in 0..2 {
            // Again: the same.
            let came_from = over_b.promote(4, &names_of_4, &slots, PATIENCE).await;
            let came_from = came_from.unwrap_or_else(|error| panic!("{error}\n{}", b.log()));
            assert_eq!(came_from, [(1, at_b.lsn)]);
        }
        assert_eq!(over_b.history(4).await.expect("read"), [(1, at_b.lsn)]);
        assert!(matches!(
            over_b.promote(5, &names_of_4, &slots, PATIENCE).await,
            Err(DataError::WrongTimeline {
                found: 4,
                wanted: 5,
                ..
            })
        ));
        assert_eq!(postgres::history(&b.config, 4).expect("read"), [(1, at_b.lsn)]);
        assert_eq!(postgres::restore_placeholders(&b.config, 4).expect("looked"), 0);
        assert!(matches!(canary(&b, 4, SHORT).await, Err(DataError::Timeout { .. })));
        postgres::terminate_waiting(over_b.session()).await.expect("ended");

        over_c.follow(c.name, &b.upstream(), 4).await.expect("told");
        canary(&b, 4, PATIENCE)
            .await
            .unwrap_or_else(|error| panic!("{error}\n{}", c.log()));
        let mode = std::fs::metadata(passfile(&c)).expect("there").permissions();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600);
        let shown = "select count(*) from pg_stat_activity where query like '%replication' || ':%'";
        assert_eq!(
            (c.number(shown).await, c.log().contains("replication:")),
            (0, false),
            "no password"
        );

        // Numbers that lie between are taken, and a number that is taken is not given twice.
        let at_c = over_c.seal(PATIENCE).await.expect("sealed");
        assert_eq!(at_c.timeline, 4);
        let names_of_9 = format!("ANY 1 ({})", b.streams_as(9));
        let came_from = over_c
            .promote(9, &names_of_9, &[b.slot()], PATIENCE)
            .await
            .expect("promoted");
        assert_eq!(came_from, [(1, at_b.lsn), (4, at_c.lsn)]);
        assert_eq!(postgres::restore_placeholders(&c.config, 9).expect("looked"), 0);
    });
}

async fn rewind(world: &World, node: &Node, to: &Node) -> Result<postgres::Rewound, DataError> {
    let keep = world.file("kept");
    postgres::rewind(&node.config, node.name, &to.upstream(), &keep, PATIENCE).await
}

#[test]
fn nothing_of_a_fenced_database_is_acknowledged() {
    run(
        "nothing_of_a_fenced_database_is_acknowledged",
        async |world: &mut World| {
            let (a, server) = world.primary("a").await;
            // From no names to some: a canary must be seen waiting before the real ones are set.
            names(&a, "").await;
            canary(&a, 1, PATIENCE).await.expect("nobody is waited for");
            names(&a, FENCED_NAMES).await;
            assert!(matches!(canary(&a, 1, SHORT).await, Err(DataError::Timeout { .. })));
            let report = a.look().await.report;
            assert_eq!((report.waiting, report.names.as_deref()), (1, Some(FENCED_NAMES)));
            postgres::terminate_waiting(&a.session().await).await.expect("ended");
            names(&a, "").await;

            a.run("create role lax; alter role lax set synchronous_commit = off")
                .await;
            a.run("alter database shop set synchronous_commit = 'local'").await;
            assert_eq!(
                postgres::weak_settings(&a.session().await).await.expect("seen"),
                ["database shop", "lax"]
            );

            // A backend in a loop outlives its postmaster.
            a.run("create table t (id int)").await;
            a.run(
                "create procedure forever() language plpgsql as
             $$ begin loop insert into t values (1); commit; end loop; end $$",
            )
            .await;
            let looping = a.session().await;
            let call = tokio::spawn(async move { looping.batch_execute("call forever()").await });
            a.until("looping", |it| it.report.connections.is_some_and(|(used, _)| used >= 2))
                .await;
            kill_process(Pid::from_raw(server.pid()).expect("a number"), Signal::KILL).expect("killed");
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert!(!call.is_finished(), "it goes on");
            let took = postgres::fence_by_folder(&a.config.data_dir, PATIENCE)
                .await
                .expect("fenced");
            eprintln!("fenced what was left in {took:?}");
            assert!(call.await.expect("joined").is_err());
            assert!(postgres::adopt(&a.config).expect("looked").is_none());
            drop(server);
            postgres::clear_remains(&a.config).await.expect("cleared");

            // Whoever starts it by hand, and even makes it a primary, gets no acknowledgement.
            postgres::prepare_sealed_start(&a.config).await.expect("prepared");
            let server = postgres::start(&a.config).expect("started");
            a.until("a replica", |it| it.report.received.is_some()).await;
            a.run("select pg_promote()").await;
            assert!(matches!(canary(&a, 1, SHORT).await, Err(DataError::Timeout { .. })));

            // A stopped postmaster cannot quit; it is ended nevertheless, and so are its children.
            let pid = Pid::from_raw(server.pid()).expect("a number");
            kill_process(pid, Signal::STOP).expect("stopped");
            let took = server.fence(Duration::from_secs(2)).await.expect("fenced");
            eprintln!("fenced a stopped one in {took:?}");
            postgres::prepare_primary_start(&a.config, "").await.expect("prepared");
            let server = postgres::start(&a.config).expect("started");
            canary(&a, 2, PATIENCE).await.expect("names as they were given");
            assert!(matches!(postgres::disown(&a.config), Err(DataError::Running { .. })));
            server.fence(PATIENCE).await.expect("fenced");
            postgres::disown(&a.config).expect("stopped");
            assert_eq!(postgres::data_dir(&a.config).await.expect("seen"), DataDir::Ruined);
            let refused = postgres::prepare_primary_start(&a.config, "").await;
            assert!(refused.is_err_and(|error| error.to_string().contains("without being chosen")));
        },
    );
}

#[test]
fn what_was_acknowledged_before_a_seal_is_on_the_sealed_replica() {
    run(
        "what_was_acknowledged_before_a_seal_is_on_the_sealed_replica",
        async |world: &mut World| {
            let (a, _a) = world.primary("a").await;
            let (b, _b) = world.copy("b", &a).await;
            names(&a, "").await;
            a.run("create table t (id int, text text)").await;
            b.follow(&a, 1).await;
            names(&a, &format!("ANY 1 ({})", b.streams_as(1))).await;
            for round in 0..5 {
                let acknowledged = Arc::new(AtomicI64::new(0));
                let mut writers = Vec::new();
                for _ in 0..4 {
                    let (session, acknowledged) = (a.session().await, Arc::clone(&acknowledged));
                    writers.push(tokio::spawn(async move {
                        let insert = format!("insert into t values ({round}, repeat('x', 3000))");
                        while session.batch_execute(&insert).await.is_ok() {
                            acknowledged.fetch_add(1, Ordering::SeqCst);
                        }
                    }));
                }
                tokio::time::sleep(Duration::from_millis(300)).await;
                seal(&b).await;
                let count = format!("select count(*) from t where id = {round}");
                let (seen, told) = (b.number(&count).await, acknowledged.load(Ordering::SeqCst));
                assert!(told > 0 && seen >= told, "{told} acknowledged, {seen} there");
                let admin = a.session().await;
                while !writers.iter().all(|writer| writer.is_finished()) {
                    postgres::terminate_waiting(&admin).await.expect("ended");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                assert_eq!(acknowledged.load(Ordering::SeqCst), told, "none after the seal");
                b.follow(&a, 1).await;
            }
        },
    );
}
