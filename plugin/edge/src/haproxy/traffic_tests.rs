//! What users see of a real HAProxy that runs a rendered configuration.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{StreamExt, stream::FuturesUnordered};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    net::TcpStream,
};

use super::{
    APP, AdminError, AppServer, AppSide, DatabaseNode, DatabaseSide, HaproxyInput, HealthCheck, READ_FAR, READ_NEAR,
    ServerState, WRITE, render,
    testing::{Line, Net, Running, Web, program},
    version,
};

type Outcome = Result<(), Box<dyn std::error::Error>>;

const BALANCER: u8 = 2;

fn input(net: &Net, socket: &std::path::Path) -> HaproxyInput {
    HaproxyInput {
        workspace: "shop".into(),
        region: "us-east".into(),
        name: "us-lb".into(),
        admin_socket: socket.into(),
        source: Some(net.host(BALANCER).to_string()),
        max_connections: 200,
        threads: 1,
        drain: Duration::from_secs(5),
        app: None,
        database: None,
    }
}

async fn three_apps(net: &Net, work_takes: Duration) -> io::Result<Vec<Web>> {
    let mut servers = Vec::new();
    for index in 1..=3 {
        servers.push(Web::start(&format!("us-app-{index}"), net.host(10 + index), 8080, work_takes).await?);
    }
    Ok(servers)
}

async fn with_apps(program: &std::path::Path, net: &Net) -> io::Result<Running> {
    let running = Running::start(program, |socket| {
        let servers = (1..=3).map(|index| AppServer {
            name: format!("us-app-{index}"),
            address: format!("{}:8080", net.host(10 + index)),
        });
        let app = AppSide {
            http: Some(format!("{}:8080", net.host(BALANCER))),
            https: None,
            redirect_to_https: false,
            algorithm: super::Algorithm::RoundRobin,
            health: HealthCheck {
                interval: Duration::from_millis(200),
                timeout: Duration::from_millis(500),
                ..HealthCheck::default()
            },
            servers: servers.collect(),
        };
        render(&HaproxyInput {
            app: Some(app),
            ..input(net, socket)
        })
    })
    .await?;
    running.until_up(APP, &["us-app-1", "us-app-2", "us-app-3"]).await;
    Ok(running)
}

/// Three databases, each with its guard: `us-db-1` is in the balancer's region.
struct Databases {
    guards: Vec<Web>,
    _lines: Vec<Line>,
}

const DATABASES: [(&str, &str); 3] = [
    ("us-east", "us-db-1"),
    ("eu-central", "eu-db-1"),
    ("asia-southeast", "asia-db-1"),
];

impl Databases {
    async fn start(net: &Net) -> io::Result<Self> {
        let (mut guards, mut lines) = (Vec::new(), Vec::new());
        for (host, (_, name)) in (21..).zip(DATABASES) {
            guards.push(Web::start(name, net.host(host), 8008, Duration::ZERO).await?);
            lines.push(Line::start(name, net.host(host), 5432).await?);
        }
        let it = Self { guards, _lines: lines };
        it.primary_is(0);
        Ok(it)
    }

    fn primary_is(&self, place: usize) {
        for (other, guard) in self.guards.iter().enumerate() {
            guard.set("/primary", if other == place { 200 } else { 503 });
            guard.set("/replica", if other == place { 503 } else { 200 });
        }
    }
}

async fn with_databases(program: &std::path::Path, net: &Net) -> io::Result<Running> {
    Running::start(program, |socket| {
        let nodes = (21..).zip(DATABASES).map(|(host, (region, name))| DatabaseNode {
            name: name.into(),
            region: region.into(),
            address: net.host(host).to_string(),
            port: 5432,
            guard_port: 8008,
        });
        let database = DatabaseSide {
            write: format!("{}:5432", net.host(BALANCER)),
            read: format!("{}:5433", net.host(BALANCER)),
            hold: socket.with_file_name("hold.lua"),
            max_lag: "10s".into(),
            nodes: nodes.collect(),
        };
        render(&HaproxyInput {
            database: Some(database),
            ..input(net, socket)
        })
    })
    .await
}

/// Who answers at the listener; none when the connection is ended without a word.
async fn who(net: &Net, port: u16) -> io::Result<Option<(String, BufReader<TcpStream>)>> {
    let mut name = String::new();
    let asked = async {
        let mut stream = BufReader::new(TcpStream::connect((net.host(BALANCER), port)).await?);
        stream.read_line(&mut name).await?;
        Ok(stream)
    };
    match asked.await {
        Ok(_) if name.is_empty() => Ok(None),
        Ok(stream) => Ok(Some((name.trim().to_owned(), stream))),
        Err(error) if io::Error::kind(&error) == io::ErrorKind::ConnectionReset => Ok(None),
        Err(error) => Err(error),
    }
}

async fn name_at(net: &Net, port: u16) -> io::Result<Option<String>> {
    Ok(who(net, port).await?.map(|(name, _)| name))
}

fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .pool_max_idle_per_host(0)
        .build()
        .expect("a client without TLS can be made")
}

/// Asks for `/work` from several clients at once until told to stop; answers with (served, failed).
async fn load(net: &Net, clients: usize, stop: Arc<AtomicBool>) -> (usize, Vec<String>) {
    let url = format!("http://{}:8080/work", net.host(BALANCER));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..clients {
        let (url, stop) = (url.clone(), Arc::clone(&stop));
        tasks.spawn(async move {
            let (client, mut good, mut bad) = (client(), 0, Vec::new());
            while !stop.load(Ordering::SeqCst) {
                match client.get(&url).send().await {
                    Ok(answer) if answer.status() == 200 => good += 1,
                    Ok(answer) => bad.push(answer.status().to_string()),
                    Err(error) => bad.push(format!("{error:?}")),
                }
            }
            (good, bad)
        });
    }
    tasks
        .join_all()
        .await
        .into_iter()
        .fold((0, Vec::new()), |(good, mut bad), (more, failed)| {
            bad.extend(failed);
            (good + more, bad)
        })
}

#[tokio::test]
async fn users_do_not_notice_a_killed_server() -> Outcome {
    let Some(program) = program() else { return Ok(()) };
    let net = Net::new();
    let mut apps = three_apps(&net, Duration::from_millis(5)).await?;
    let running = with_apps(&program, &net).await?;

    let stop = Arc::new(AtomicBool::new(false));
    let (result, ()) = tokio::join!(load(&net, 6, Arc::clone(&stop)), async {
        running
            .until("all served", async || apps.iter().all(|app| app.served() > 5))
            .await;
        drop(apps.remove(1));
        running.until_up(APP, &["us-app-1", "us-app-3"]).await;
        stop.store(true, Ordering::SeqCst);
    });
    let (good, bad) = result;
    assert!(
        bad.is_empty(),
        "{} of {} requests failed: {bad:?}",
        bad.len(),
        good + bad.len()
    );

    apps.clear();
    running.until_up(APP, &[]).await;
    let answer = client()
        .get(format!("http://{}:8080/work", net.host(BALANCER)))
        .send()
        .await?;
    assert_eq!(answer.status(), 503, "with no server up the balancer itself says so");

    let _apps = three_apps(&net, Duration::ZERO).await?;
    running.until_up(APP, &["us-app-1", "us-app-2", "us-app-3"]).await;
    Ok(())
}

#[tokio::test]
async fn draining_a_server_fails_no_request() -> Outcome {
    let Some(program) = program() else { return Ok(()) };
    let net = Net::new();
    let apps = three_apps(&net, Duration::from_millis(40)).await?;
    let running = with_apps(&program, &net).await?;
    let admin = &running.admin;

    let stop = Arc::new(AtomicBool::new(false));
    let (result, worked) = tokio::join!(load(&net, 9, Arc::clone(&stop)), async {
        running
            .until("all served", async || apps.iter().all(|app| app.served() > 3))
            .await;
        let drained = admin.drain(APP, "us-app-2", Duration::from_secs(5)).await?;
        assert_eq!(drained.sessions_left, 0, "drained in {:?}", drained.took);
        admin.set_state(APP, "us-app-2", ServerState::Maint).await?;
        let rows = admin.servers().await?;
        let state = |name: &str| {
            rows.iter()
                .find(|row| row.server == name)
                .map(|row| (row.backend.clone(), row.state))
        };
        assert_eq!(state("us-app-2"), Some((APP.to_owned(), ServerState::Maint)));
        assert_eq!(state("us-app-1"), Some((APP.to_owned(), ServerState::Ready)));

        let (before, others) = (apps[1].served(), apps[0].served());
        running
            .until("the others serve on", async || apps[0].served() > others + 5)
            .await;
        assert_eq!(apps[1].served(), before, "a server in maintenance takes no request");

        admin.set_state(APP, "us-app-2", ServerState::Ready).await?;
        running
            .until("it serves again", async || apps[1].served() > before + 3)
            .await;
        stop.store(true, Ordering::SeqCst);
        Ok::<_, AdminError>(())
    });
    worked?;
    let (good, bad) = result;
    assert!(
        bad.is_empty(),
        "{} of {} requests failed: {bad:?}",
        bad.len(),
        good + bad.len()
    );
    Ok(())
}

#[tokio::test]
async fn a_drain_that_takes_too_long_says_how_many_are_left() -> Outcome {
    let Some(program) = program() else { return Ok(()) };
    let net = Net::new();
    let _databases = Databases::start(&net).await?;
    let running = with_databases(&program, &net).await?;
    running.until_up(WRITE, &["us-db-1"]).await;
    let (_, mut session) = who(&net, 5432).await?.ok_or("nobody answered")?;

    let drained = running
        .admin
        .drain(WRITE, "us-db-1", Duration::from_millis(200))
        .await?;
    assert_eq!(drained.sessions_left, 1);
    running.admin.shutdown_sessions(WRITE, "us-db-1").await?;
    let mut rest = Vec::new();
    tokio::time::timeout(Duration::from_secs(2), session.read_to_end(&mut rest))
        .await?
        .ok();
    assert_eq!(
        running
            .admin
            .wait_idle(WRITE, "us-db-1", Duration::from_secs(2))
            .await?,
        0
    );
    Ok(())
}

#[tokio::test]
async fn writes_follow_the_primary_and_sessions_with_the_old_one_end() -> Outcome {
    let Some(program) = program() else { return Ok(()) };
    let net = Net::new();
    let databases = Databases::start(&net).await?;
    let running = with_databases(&program, &net).await?;

    // From its first moment on: one that has not been asked yet is not taken for the primary.
    let first = Instant::now();
    running
        .until("somebody takes writes", async || match name_at(&net, 5432).await {
            Ok(Some(name)) => {
                assert_eq!(name, "us-db-1", "a replica was given a write");
                true
            }
            _ => false,
        })
        .await;
    let first = first.elapsed();

    let (_, mut session) = who(&net, 5432).await?.ok_or("nobody answered")?;
    databases.primary_is(1);
    let moved = Instant::now();
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(5), session.read_to_end(&mut rest)).await;
    assert!(
        ended.is_ok(),
        "the session with the old primary goes on\n{}",
        running.log()
    );
    let freed = moved.elapsed();
    running
        .until(
            "the new primary is found",
            async || matches!(name_at(&net, 5432).await, Ok(Some(name)) if name == "eu-db-1"),
        )
        .await;
    eprintln!(
        "first write after {first:?}; old session ended after {freed:?}; new primary after {:?}",
        moved.elapsed()
    );

    databases.guards[2].set("/primary", 200);
    running.until_up(WRITE, &["eu-db-1", "asia-db-1"]).await;
    assert_eq!(
        name_at(&net, 5432).await?,
        None,
        "two say that they are primary: nobody may write"
    );
    databases.guards[2].set("/primary", 503);
    running.until_up(WRITE, &["eu-db-1"]).await;
    assert_eq!(name_at(&net, 5432).await?.as_deref(), Some("eu-db-1"));
    Ok(())
}

#[tokio::test]
async fn who_comes_to_write_between_two_primaries_waits_for_the_next() -> Outcome {
    let Some(program) = program() else { return Ok(()) };
    let net = Net::new();
    let databases = Databases::start(&net).await?;
    let running = with_databases(&program, &net).await?;
    running.until_up(WRITE, &["us-db-1"]).await;

    // As a guard does it: out of every balancer before the database is stopped.
    running.admin.set_state(WRITE, "us-db-1", ServerState::Maint).await?;
    running.until_up(WRITE, &[]).await;
    let mut held = BufReader::new(TcpStream::connect((net.host(BALANCER), 5432)).await?);
    databases.primary_is(2);
    let mut name = String::new();
    held.read_line(&mut name).await?;
    assert_eq!(name.trim(), "asia-db-1", "{}", running.log());

    // With nobody to wait for, the answer is no, and not silence.
    databases.guards[2].set("/primary", 503);
    running.until_up(WRITE, &[]).await;
    assert_eq!(name_at(&net, 5432).await?, None);
    Ok(())
}

#[tokio::test]
async fn a_process_says_which_version_of_its_file_it_has_read() -> Outcome {
    let Some(program) = program() else { return Ok(()) };
    let net = Net::new();
    let running = Running::start(&program, |socket| render(&input(&net, socket))).await?;
    let file = running.folder.path().join("haproxy.cfg");
    let first = std::fs::read_to_string(&file)?;
    let second = render(&HaproxyInput {
        max_connections: 77,
        ..input(&net, running.admin.path())
    });
    assert!(version(&first).is_some() && version(&first) != version(&second));
    assert_eq!(running.admin.version().await?.as_deref(), version(&first));
    std::fs::write(&file, &second)?;
    assert_eq!(running.admin.version().await?.as_deref(), version(&first));
    running.reload().await?;
    assert_eq!(running.admin.version().await?.as_deref(), version(&second));
    Ok(())
}

#[tokio::test]
async fn a_reload_refuses_no_write() -> Outcome {
    let Some(program) = program() else { return Ok(()) };
    let net = Net::new();
    let _databases = Databases::start(&net).await?;
    let running = with_databases(&program, &net).await?;
    running.until_up(WRITE, &["us-db-1"]).await;

    let mut reloading = std::pin::pin!(async {
        for _ in 0..4 {
            running.reload().await?;
            running.until_up(WRITE, &["us-db-1"]).await;
        }
        Ok::<(), io::Error>(())
    });
    let mut writes = FuturesUnordered::new();
    let (mut reloaded, mut written) = (None, 0);
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    while reloaded.is_none() || !writes.is_empty() {
        tokio::select! {
            done = &mut reloading, if reloaded.is_none() => reloaded = Some(done),
            _ = ticks.tick(), if reloaded.is_none() => writes.push(name_at(&net, 5432)),
            Some(answer) = writes.next() => {
                let name: Option<String> = answer?;
                assert_eq!(name.as_deref(), Some("us-db-1"), "write {written}\n{}", running.log());
                written += 1;
            }
        }
    }
    reloaded.ok_or("it was not reloaded")??;
    eprintln!("{written} writes through four reloads");
    assert!(written > 20);
    Ok(())
}

#[tokio::test]
async fn the_socket_moves_writes_faster_than_the_checks() -> Outcome {
    let Some(program) = program() else { return Ok(()) };
    let net = Net::new();
    let databases = Databases::start(&net).await?;
    let running = with_databases(&program, &net).await?;
    running.until_up(WRITE, &["us-db-1"]).await;

    let (_, mut session) = who(&net, 5432).await?.ok_or("nobody answers")?;
    databases.primary_is(1);
    let moved = Instant::now();
    let turned = running.admin.turn_writes(Some("eu-db-1"), true).await?;
    assert_eq!(
        (turned.up.as_deref(), turned.down.as_slice()),
        (Some("eu-db-1"), &["us-db-1".to_owned()][..])
    );
    assert_eq!(
        name_at(&net, 5432).await?.as_deref(),
        Some("eu-db-1"),
        "{}",
        running.log()
    );
    eprintln!("moved in {:?}", moved.elapsed());
    assert_eq!(
        session.read_to_end(&mut Vec::new()).await?,
        0,
        "the old session was ended"
    );
    assert!(running.admin.turn_writes(Some("eu-db-1"), true).await?.is_nothing());

    // Nobody may write; the checks, which still say otherwise, take it back.
    running.admin.turn_writes(None, true).await?;
    running.until_up(WRITE, &["eu-db-1"]).await;

    // Nothing that was said at the socket keeps the next primary out, whether or not anybody speaks there again.
    databases.primary_is(0);
    running.until_up(WRITE, &["us-db-1"]).await;
    databases.guards[0].set("/primary", 503);
    running.until_up(WRITE, &[]).await;
    assert!(running.admin.turn_writes(Some("us-db-1"), false).await?.is_nothing());
    Ok(())
}

/// No guard speaks for anybody: what a person said stays, until the guard of that node is there again.
#[tokio::test]
async fn without_guards_writes_stay_where_they_were_put() -> Outcome {
    let Some(program) = program() else { return Ok(()) };
    let net = Net::new();
    let databases = Databases::start(&net).await?;
    let running = with_databases(&program, &net).await?;
    databases.guards[0].set("/primary", 503);
    running.until_up(WRITE, &[]).await;

    running.admin.keep_writes("eu-db-1").await?;
    // The checks of another are seen to go on: they would have taken this one out, too.
    running.admin.set_health(WRITE, "us-db-1", true).await?;
    stays(&running, "eu-db-1").await;
    assert_eq!(name_at(&net, 5432).await?.as_deref(), Some("eu-db-1"));

    // A guard elsewhere is back first, and leaves it in; said twice, nothing more happens.
    let turned = running.admin.turn_writes(Some("eu-db-1"), false).await?;
    assert_eq!(turned.unchecked.as_deref(), Some("eu-db-1"));
    running.admin.keep_writes("eu-db-1").await?;
    stays(&running, "eu-db-1").await;

    // Its own guard speaks for it, so the checks are believed again.
    databases.primary_is(1);
    let turned = running.admin.turn_writes(Some("eu-db-1"), false).await?;
    assert_eq!(turned.unchecked, None);
    databases.guards[1].set("/primary", 503);
    running.until_up(WRITE, &[]).await;

    // The next primary that guards agree on needs no word of the one before.
    running.admin.keep_writes("eu-db-1").await?;
    running.admin.turn_writes(Some("asia-db-1"), true).await?;
    databases.primary_is(2);
    running.until_up(WRITE, &["asia-db-1"]).await;
    assert!(running.admin.servers().await?.iter().all(|row| row.checked));
    Ok(())
}

/// Not by the counters: there one that is not checked is not `UP`.
async fn stays(running: &Running, server: &str) {
    running
        .until(&format!("{server} alone takes writes"), async || {
            running.admin.servers().await.is_ok_and(|rows| {
                let up = rows.iter().filter(|row| row.backend == WRITE && row.up);
                up.map(|row| row.server.as_str()).eq([server])
            })
        })
        .await;
}

#[tokio::test]
async fn reads_stay_near_while_they_can() -> Outcome {
    let Some(program) = program() else { return Ok(()) };
    let net = Net::new();
    let databases = Databases::start(&net).await?;
    databases.primary_is(2);
    let running = with_databases(&program, &net).await?;

    running.until_up(READ_NEAR, &["us-db-1"]).await;
    running.until_up(READ_FAR, &["eu-db-1", "asia-db-1-as-primary"]).await;
    assert_eq!(
        name_at(&net, 5433).await?.as_deref(),
        Some("us-db-1"),
        "the replica of the region"
    );

    databases.guards[0].set("/replica", 503);
    running.until_up(READ_NEAR, &[]).await;
    assert_eq!(
        name_at(&net, 5433).await?.as_deref(),
        Some("eu-db-1"),
        "too far behind: a replica elsewhere"
    );

    databases.guards[1].set("/replica", 503);
    running.until_up(READ_FAR, &["asia-db-1-as-primary"]).await;
    assert_eq!(
        name_at(&net, 5433).await?.as_deref(),
        Some("asia-db-1"),
        "no replica left: the primary"
    );

    databases.primary_is(0);
    running.until_up(READ_NEAR, &["us-db-1-as-primary"]).await;
    assert_eq!(
        name_at(&net, 5433).await?.as_deref(),
        Some("us-db-1"),
        "the primary is here: nearer than any replica"
    );
    Ok(())
}

#[tokio::test]
async fn what_the_socket_cannot_do_is_said() -> Outcome {
    let Some(program) = program() else { return Ok(()) };
    let net = Net::new();
    let running = with_apps_absent(&program, &net).await?;
    let unknown = running.admin.set_state(APP, "nobody", ServerState::Drain).await;
    assert!(
        matches!(&unknown, Err(AdminError::Refused { answer, .. }) if answer.contains("No such server")),
        "{unknown:?}"
    );

    let gone = super::Admin::new(running.folder.path().join("gone.sock"));
    assert!(matches!(gone.servers().await, Err(AdminError::Unreachable { .. })));
    Ok(())
}

/// The balancer with servers that do not run.
async fn with_apps_absent(program: &std::path::Path, net: &Net) -> io::Result<Running> {
    let address = format!("{}:8080", net.host(11));
    Running::start(program, |socket| {
        let app = AppSide {
            http: Some(format!("{}:8080", net.host(BALANCER))),
            https: None,
            redirect_to_https: false,
            algorithm: super::Algorithm::RoundRobin,
            health: HealthCheck::default(),
            servers: vec![AppServer {
                name: "us-app-1".into(),
                address,
            }],
        };
        render(&HaproxyInput {
            app: Some(app),
            ..input(net, socket)
        })
    })
    .await
}
