//! The local provider with the real programs.

mod support;
mod whole;

use std::{fs, net::TcpListener, sync::Arc, time::Duration};

use ha_cloud::{
    Provider,
    contract::{self, Fixture},
};
use ha_core::{
    names::WorkspaceName,
    resource::{Kind, Resource, Status},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use support::{Machine, balancer, database, id, network, open, processes_below, server, store, until};

fn apps(region: &str, count: u32) -> (Vec<Resource>, Vec<String>) {
    let names: Vec<String> = (1..=count).map(|index| format!("app-{index}")).collect();
    let servers = names
        .iter()
        .zip(1..)
        .map(|(name, index)| server(region, name, index, &["app"]))
        .collect();
    (servers, names)
}

fn names(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_keeps_the_contract_of_providers() {
    contract::run(async || {
        let machine = Machine::new();
        let provider = machine.provider.clone();
        let (servers, targets) = apps("us-east", 1);
        let mut resources = vec![network("us-east")];
        resources.extend(servers);
        resources.push(balancer("us-east", &names(&targets), &[]));
        let mut fixture = Fixture::new(Arc::new(provider), WorkspaceName::new("shop"), resources);
        let mut changed = balancer("us-east", &names(&targets), &[]);
        changed.spec["algorithm"] = "least_connections".into();
        fixture.changed = Some(changed);
        fixture.keep = Some(Box::new(machine));
        fixture
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_region_comes_up_heals_and_goes() {
    let machine = Machine::new();
    let (servers, targets) = apps("us-east", 2);
    let mut resources = vec![network("us-east")];
    resources.extend(servers);
    resources.push(server("us-east", "db-1", 1, &["database", "store"]));
    resources.push(store("us-east", "db-1", None));
    resources.push(database("us-east", "db-1", &[], None));
    resources.push(balancer("us-east", &names(&targets), &["us-east/db-1"]));
    machine.make(&resources).await;

    let lb = machine.live(&id("us-east", Kind::LoadBalancer, "lb")).await;
    let http = &lb.endpoints["http"];
    let health = reqwest::get(format!("{http}/health")).await.expect("health");
    assert!(health.status().is_success());
    until("a write through the balancer", Duration::from_secs(20), async || {
        let answer = reqwest::Client::new().post(format!("{http}/write")).send().await.ok()?;
        answer.status().is_success().then_some(())
    })
    .await;
    let status: serde_json::Value = reqwest::get(format!("{http}/status"))
        .await
        .expect("status")
        .json()
        .await
        .expect("json");
    assert_eq!(
        (&status["primary"], &status["node"]),
        (&"us-east".into(), &"db-1".into()),
        "{status}"
    );

    // The supervisor goes: everything else runs on, and the next one takes it over as it is.
    let region = machine.provider.folder().join("regions/us-east");
    let before = runs(&region);
    let supervisor = pid_in(&region.join("supervise.json"));
    kill(Pid::from_raw(supervisor), Signal::SIGKILL).expect("kill");
    until("the supervisor's end", Duration::from_secs(5), async || {
        (!processes_below(&region).contains(&supervisor)).then_some(())
    })
    .await;
    assert_eq!(machine.live(&resources[0].id).await.status, Status::Failed);
    let other = machine.reopened();
    for want in &resources {
        other
            .ensure(want)
            .await
            .unwrap_or_else(|error| panic!("{}: {error}", want.id));
    }
    assert_eq!(runs(&region), before, "nothing was started twice");
    assert_ne!(pid_in(&region.join("supervise.json")), supervisor);

    // Every unit and the database itself are killed at once, and come back.
    let mut killed: Vec<i32> = runs(&region).into_iter().map(|(_, pid)| pid).collect();
    killed.push(postmaster(&region));
    for pid in &killed {
        kill(Pid::from_raw(*pid), Signal::SIGKILL).expect("kill");
    }
    // One that is about to die still answers, and what it says is true for that moment only.
    until("the end of what was killed", Duration::from_secs(5), async || {
        let left = processes_below(&region);
        killed.iter().all(|pid| !left.contains(pid)).then_some(())
    })
    .await;
    machine.make(&resources).await;
    until("a write after the fall", Duration::from_secs(20), async || {
        let answer = reqwest::Client::new().post(format!("{http}/write")).send().await.ok()?;
        answer.status().is_success().then_some(())
    })
    .await;

    // A setting that can be read again leaves the database running; another one restarts it.
    let node = resources
        .iter_mut()
        .find(|it| it.id.kind == Kind::Database)
        .expect("declared");
    let before = postmaster(&region);
    node.spec["settings"]["work_mem"] = "9MB".into();
    let changed = node.clone();
    machine.make(std::slice::from_ref(&changed)).await;
    let mut wrong = changed.clone();
    wrong.spec["settings"]["work_mem"] = "a lot".into();
    wrong.spec["settings"]["max_connections"] = "70".into();
    let error = machine.provider.ensure(&wrong).await.expect_err("refused");
    assert!(error.to_string().contains("the value of work_mem and"), "{error}");
    assert_eq!(machine.live(&wrong.id).await.status, Status::Pending);
    machine.make(&[changed]).await;
    assert_eq!(postmaster(&region), before, "{}", machine.logs());
    let node = resources
        .iter_mut()
        .find(|it| it.id.kind == Kind::Database)
        .expect("declared");
    node.spec["settings"]["max_connections"] = "60".into();
    let changed = node.clone();
    machine.make(&[changed]).await;
    assert_ne!(postmaster(&region), before);
    machine.destroy(&resources).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_regions_replicate_through_their_relays() {
    let machine = Machine::new();
    let mut resources = Vec::new();
    for region in ["us-east", "eu-central"] {
        resources.push(network(region));
        resources.push(server(region, "db-1", 1, &["database", "store"]));
    }
    let founder = id("us-east", Kind::Store, "store");
    resources.push(store("us-east", "db-1", None));
    resources.push(store("eu-central", "db-1", Some(&founder)));
    let primary = id("us-east", Kind::Database, "pg-1");
    resources.push(database("us-east", "db-1", &["eu-central/db-1"], None));
    resources.push(database("eu-central", "db-1", &["us-east/db-1"], Some(&primary)));
    machine.make(&resources).await;

    let links = machine.provider.links().await.expect("links");
    let between = |from: &str, to: &str| links.iter().find(|link| link.from == from && link.to == to).cloned();
    let passed = between("us-east", "eu-central")
        .expect("a row")
        .counters
        .expect("counters");
    assert!(passed.bytes > 0, "replication passes the relays: {links:?}");

    // A cut is felt by the replica, and healed without a trace.
    machine
        .provider
        .set_link("us-east", "eu-central", None, Some(true))
        .expect("cut");
    assert!(machine.provider.set_link("us-east", "mars", None, None).is_err());
    let replica = id("eu-central", Kind::Database, "pg-1");
    until("the replica's silence", Duration::from_secs(40), async || {
        (machine.live(&replica).await.status == Status::Failed).then_some(())
    })
    .await;
    machine.provider.heal_links(None, None).expect("heal");
    until("the replica's return", Duration::from_secs(60), async || {
        (machine.live(&replica).await.status == Status::Running).then_some(())
    })
    .await;

    // The second member's disk is lost: without a majority it is not replaced behind anybody's back.
    let second = id("eu-central", Kind::Store, "store");
    let host = machine.provider.folder().join("regions/eu-central/hosts/db-1");
    let etcd = pid_in(&host.join("run/etcd.json"));
    fs::remove_dir_all(host.join("data/etcd")).expect("lose the data");
    kill(Pid::from_raw(etcd), Signal::SIGKILL).expect("kill");
    let want = resources.iter().find(|want| want.id == second).expect("declared");
    let error = machine.provider.ensure(want).await.expect_err("refused");
    assert_eq!(error.code(), "ha::provider::refused", "{error}");
    assert!(error.to_string().contains("no quorum"), "{error}");

    machine.destroy(&resources).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_lost_its_data_joins_again() {
    let machine = Machine::new();
    let mut resources = Vec::new();
    let mut before = None;
    for region in ["us-east", "eu-central", "asia-southeast"] {
        resources.push(network(region));
        resources.push(server(region, "db-1", 1, &["store"]));
        let member = store(region, "db-1", before.as_ref());
        before = Some(member.id.clone());
        resources.push(member);
    }
    machine.make(&resources).await;
    let host = machine.provider.folder().join("regions/us-east/hosts/db-1");
    fs::remove_dir_all(host.join("data/etcd")).expect("lose the data");
    kill(Pid::from_raw(pid_in(&host.join("run/etcd.json"))), Signal::SIGKILL).expect("kill");
    machine.make(&resources).await;
    machine.destroy(&resources).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_join_leave_and_restart_without_a_failed_request() {
    let machine = Machine::new();
    let (servers, targets) = apps("us-east", 5);
    let net = network("us-east");
    let all = |count: usize| balancer("us-east", &names(&targets[..count]), &[]);
    machine.make(std::slice::from_ref(&net)).await;
    machine.make(&servers[..3]).await;
    machine.make(&[all(3)]).await;

    let lb = machine.live(&all(3).id).await;
    let url = format!("{}/health", lb.endpoints["http"]);
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let asking = tokio::spawn(async move {
        let (mut asked, mut failed) = (0_u32, Vec::new());
        // A connection for each: what a new user would meet.
        let client = reqwest::Client::builder()
            .pool_max_idle_per_host(0)
            .build()
            .expect("client");
        while stopped.try_recv().is_err() {
            asked += 1;
            match client.get(&url).send().await {
                Ok(answer) if answer.status().is_success() => {}
                Ok(answer) => failed.push(answer.status().to_string()),
                Err(error) => failed.push(format!("{error:?}")),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        (asked, failed)
    });
    machine.make(&servers[3..]).await;
    machine.make(&[all(5)]).await;
    machine.make(&[all(2)]).await;
    for gone in &servers[2..] {
        machine.provider.remove(&gone.id).await.expect("remove");
    }
    // Both that are left are restarted, at once as far as the caller is concerned.
    let restarted: Vec<Resource> = servers[..2]
        .iter()
        .cloned()
        .map(|server| with_command(&machine, server))
        .collect();
    let (one, two) = tokio::join!(
        machine.provider.ensure(&restarted[0]),
        machine.provider.ensure(&restarted[1])
    );
    one.and(two)
        .unwrap_or_else(|error| panic!("{error}\n{}", machine.logs()));
    stop.send(()).expect("still asking");
    let (asked, failed) = asking.await.expect("asked");
    assert!(failed.is_empty(), "{} of {asked}: {failed:?}", failed.len());
    assert!(asked > 20, "{asked}");

    let mut left = vec![net];
    left.extend(restarted);
    left.push(all(2));
    machine.destroy(&left).await;
}

/// The same program under another command line.
fn with_command(machine: &Machine, mut server: Resource) -> Resource {
    let bin = fs::read_dir(machine.provider.folder().join("bin"))
        .expect("bin")
        .next()
        .expect("one")
        .expect("entry");
    let config = machine
        .provider
        .folder()
        .join(format!("regions/us-east/hosts/{}/etc/app.json", server.id.name));
    server.spec["command"] = serde_json::json!([bin.path(), "app", "--config", config]);
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn power_is_remembered_and_an_address_in_use_names_the_process() {
    let machine = Machine::new();
    let (servers, _) = apps("us-east", 2);
    let net = network("us-east");
    machine.make(&[net.clone(), servers[0].clone()]).await;
    let first = &servers[0].id;
    let off = machine.provider.power(first, false).await.expect("off");
    assert_eq!(off.status, Status::Off);
    // Applied again it stays off: that it should run is not what was changed.
    assert_eq!(
        machine.provider.ensure(&servers[0]).await.expect("ensure").status,
        Status::Off
    );
    assert_eq!(
        machine.provider.power(first, true).await.expect("on").status,
        Status::Running
    );

    let address = machine.live(first).await.private_address.expect("address");
    let next: std::net::Ipv4Addr = address.parse().expect("address");
    let next = std::net::Ipv4Addr::from_bits(next.to_bits() + 1);
    let squatter = TcpListener::bind((next, 8080)).expect("bind");
    let error = machine.provider.ensure(&servers[1]).await.expect_err("taken");
    assert_eq!(error.code(), "ha::provider::taken");
    let text = error.to_string();
    assert!(text.contains(&format!("{next}:8080")), "{text}");
    assert!(text.contains(&format!("(pid {})", std::process::id())), "{text}");
    assert_eq!(machine.live(&servers[1].id).await.status, Status::Pending);
    drop(squatter);
    machine.make(&servers[1..]).await;
    machine.destroy(&[net, servers[0].clone(), servers[1].clone()]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_shown_and_mended_and_a_bad_configuration_never_runs() {
    let machine = Machine::new();
    let (servers, targets) = apps("us-east", 1);
    let lb = balancer("us-east", &names(&targets), &[]);
    let resources = [network("us-east"), servers[0].clone(), lb.clone()];
    machine.make(&resources).await;

    let region = machine.provider.folder().join("regions/us-east");
    fs::write(region.join("resources/server.app-1.json"), "{ half").expect("damage");
    fs::write(region.join("hosts/app-1/run/app.json"), "not a number").expect("damage");
    fs::write(region.join("supervise.json"), "").expect("damage");
    let live = machine.live(&servers[0].id).await;
    assert_eq!(live.status, Status::Failed);
    assert!(live.detail.expect("a reason").contains("damaged"));
    machine.make(&resources).await;

    let mut bad = lb.clone();
    bad.spec["health_check"]["path"] = "/two words here".into();
    let before = fs::read(region.join("hosts/lb/etc/haproxy.cfg")).expect("read");
    let error = machine.provider.ensure(&bad).await.expect_err("refused");
    assert!(error.to_string().contains("haproxy -c"), "{error}");
    assert_eq!(fs::read(region.join("hosts/lb/etc/haproxy.cfg")).expect("read"), before);
    let url = format!("{}/health", machine.live(&lb.id).await.endpoints["http"]);
    assert!(reqwest::get(url).await.expect("still answers").status().is_success());
    machine.make(&[lb]).await;
    machine.destroy(&resources).await;
}

#[tokio::test]
async fn another_workspace_file_is_refused() {
    let machine = Machine::new();
    machine.make(&[network("us-east")]).await;
    fs::write(machine.folder.path().join("other.ncl"), "{}").expect("write");
    let error = open(machine.folder.path(), "other.ncl").expect_err("refused");
    assert_eq!(error.code(), "ha::provider::refused");
    assert!(
        error.to_string().contains("other.ncl") && error.to_string().contains("workspace.ncl"),
        "{error}"
    );
    fs::remove_file(machine.folder.path().join("other.ncl")).expect("remove");
    machine.destroy(&[network("us-east")]).await;
}

fn postmaster(region: &std::path::Path) -> i32 {
    let text = fs::read_to_string(region.join("hosts/db-1/data/postgres/postmaster.pid")).expect("running");
    text.lines().next().and_then(|line| line.parse().ok()).expect("pid")
}

/// Unit to the number of its process, by the run files of a region.
fn runs(region: &std::path::Path) -> Vec<(String, i32)> {
    let mut found = Vec::new();
    for host in fs::read_dir(region.join("hosts")).expect("hosts").flatten() {
        for run in fs::read_dir(host.path().join("run")).expect("run").flatten() {
            found.push((run.path().display().to_string(), pid_in(&run.path())));
        }
    }
    found.sort();
    found
}

fn pid_in(run: &std::path::Path) -> i32 {
    let file: serde_json::Value = serde_json::from_slice(&fs::read(run).expect("run file")).expect("json");
    file["pid"].as_i64().and_then(|pid| pid.try_into().ok()).expect("pid")
}
