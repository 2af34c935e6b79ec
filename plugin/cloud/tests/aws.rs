//! The AWS provider against moto, with a proxy in between for what moto lacks.
//!
//! A test that works around something in which moto differs from AWS says so in its name.

mod aws_asked;
mod aws_proxy;

use std::{
    io::{Read, Write},
    net::TcpListener,
    time::Duration,
};

use ha_cloud::{
    Provider, ProviderError,
    aws::{AwsProvider, Credentials, Options, SshKey},
    contract::{self, Fixture},
    secret::Secret,
};
use ha_core::{
    names::WorkspaceName,
    resource::{Kind, Live, Resource, Status, spec_hash},
};
use serde_json::json;

use aws_proxy::{
    moto::{Moto, Pool},
    neighbours::ask,
    world::{LOCATION, World, balancer, network, options, resource, server},
};

async fn made(world: &World, want: &Resource) -> Live {
    let live = world.provider.ensure(want).await;
    live.unwrap_or_else(|error| panic!("ensure of {}: {error}", want.id))
}

async fn removed(world: &World, want: &Resource) {
    let outcome = world.provider.remove(&want.id).await;
    outcome.unwrap_or_else(|error| panic!("remove of {}: {error}", want.id));
}

/// `live` is what was wanted, and says so.
fn is_so(want: &Resource, live: &Live) {
    assert_eq!(live.status, Status::Running, "{}: {:?}", want.id, live.detail);
    assert_eq!(live.spec, want.spec, "{}", want.id);
    assert_eq!(spec_hash(&live.spec), live.labels.spec, "{}", want.id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_whole_region_is_made_seen_and_removed() {
    let moto = Moto::start();
    let world = World::new(&moto);
    let account = world.provider.account().await.expect("sts answers");
    assert!(account.who.starts_with("arn:aws:"), "{}", account.who);
    let all = world.resources();
    for want in &all {
        assert_eq!(made(&world, want).await.status, Status::Running, "{}", want.id);
    }
    let seen = world.provider.observe().await.expect("a list");
    assert_eq!(seen.len(), all.len());
    for want in &all {
        let live = seen.iter().find(|it| it.id == want.id).expect("it is listed");
        assert_eq!(live.labels.spec, want.spec_hash(), "{}", want.id);
        assert!(
            live.spec.is_null() || live.spec == want.spec,
            "{}: {}",
            want.id,
            live.spec
        );
    }
    let sent = world.ledger().used;
    assert_eq!(world.proxy.state().seen.len() as u64, sent, "every request is counted");
    for want in all.iter().rev() {
        removed(&world, want).await;
    }
    assert_eq!(world.provider.observe().await.expect("a list"), []);
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_the_contract_with_client_tokens_that_moto_ignores() {
    // moto works on one core, whatever it is asked at once.
    let pool = Pool::start(2);
    contract::run_side_by_side(pool.size(), async || {
        let moto = pool.take();
        let world = World::new(&moto);
        Fixture {
            keep: Some(Box::new(moto)),
            ..world.fixture()
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_aws_does_not_know_yet_is_waited_for_though_moto_knows_at_once() {
    let moto = Moto::start();
    let world = World::new(&moto);
    world.proxy.state().unknown_at_first = 1;
    is_so(&network(), &made(&world, &network()).await);
    let app = server("asia-app", 1, "app", &network());
    is_so(&app, &made(&world, &app).await);
    assert_eq!(world.proxy.count("CreateVpc"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn throttled_for_a_moment_it_goes_on_and_makes_nothing_twice_though_moto_never_throttles() {
    let moto = Moto::start();
    let world = World::new(&moto);
    world.proxy.state().throttle = Some(("Create", 3));
    is_so(&network(), &made(&world, &network()).await);
    let vpcs = ask(&world.proxy.account, "ec2", &[("Action", "DescribeVpcs")]).all("vpcId");
    // Every account has a default one.
    assert_eq!(vpcs.len(), 2, "{vpcs:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn throttled_for_good_it_is_told_as_a_rate_limit() {
    let moto = Moto::start();
    let world = World::new(&moto);
    world.proxy.state().throttle = Some(("DescribeVpcs", u32::MAX));
    let error = world.provider.observe().await.expect_err("a list cut short");
    assert_eq!(error.code(), "ha::provider::rate_limited");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_made_again_is_another_one_though_its_first_token_is_remembered_and_moto_forgets_tokens() {
    let moto = Moto::start();
    let world = World::new(&moto);
    let app = server("asia-app", 1, "app", &network());
    made(&world, &network()).await;
    is_so(&app, &made(&world, &app).await);
    let instances = || ask(&world.proxy.account, "ec2", &[("Action", "DescribeInstances")]).all("instanceId");
    let first = instances();
    removed(&world, &app).await;
    // After an hour AWS does not list it any more, and knows its token for a day.
    let forget = [
        ("Action", "DeleteTags"),
        ("ResourceId.1", &first[0]),
        ("Tag.1.Key", "ha:ws"),
    ];
    ask(&world.proxy.account, "ec2", &forget);
    is_so(&app, &made(&world, &app).await);
    assert_eq!(instances().len(), 2);
    is_so(&app, &made(&world, &app).await);
    assert_eq!(instances().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_made_again_is_another_one_though_its_first_token_is_remembered_and_moto_forgets_tokens() {
    let moto = Moto::start();
    let world = World::new(&moto);
    let impatient = Options {
        deadline: Duration::from_secs(1),
        ..options(&world.proxy)
    };
    let provider = AwsProvider::open(impatient).expect("it has a location");
    let volume = world.resources().remove(2);
    made(&world, &network()).await;
    is_so(&volume, &made(&world, &volume).await);
    removed(&world, &volume).await;
    world.proxy.state().tokens_outlive_volumes = true;
    is_so(&volume, &provider.ensure(&volume).await.expect("it is made anew"));
    assert_eq!(world.proxy.count("CreateVolume"), 3);
    assert_eq!(world.provider.observe().await.expect("a list").len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zone_without_capacity_is_left_for_the_other_one() {
    let moto = Moto::start();
    let world = World::new(&moto);
    made(&world, &network()).await;
    let app = server("asia-app", 1, "app", &network());
    let full = ("InsufficientInstanceCapacity", 500, 1);
    world.proxy.state().refuse.insert("RunInstances", full);
    is_so(&app, &made(&world, &app).await);
    let second = server("asia-app", 2, "app", &network());
    world
        .proxy
        .state()
        .refuse
        .insert("RunInstances", ("InsufficientInstanceCapacity", 500, 2));
    let error = world.provider.ensure(&second).await.expect_err("both zones are full");
    assert_eq!(error.code(), "ha::provider::no_capacity", "{error}");
    assert_eq!(world.provider.observe().await.expect("a list").len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_that_waiting_does_not_change_are_not_repeated() {
    let moto = Moto::start();
    let world = World::new(&moto);
    made(&world, &network()).await;
    let app = server("asia-app", 1, "app", &network());
    for (at, (aws, status, ours, words)) in [
        ("VcpuLimitExceeded", 400, "ha::provider::quota", "VcpuLimitExceeded"),
        (
            "UnauthorizedOperation",
            403,
            "ha::provider::denied",
            "may not ec2:RunInstances in ap-southeast-1",
        ),
        ("OptInRequired", 401, "ha::provider::refused", "OptInRequired"),
        ("RequestExpired", 400, "ha::provider::refused", "RequestExpired"),
        ("AuthFailure", 401, "ha::provider::refused", "AuthFailure"),
        (
            "InvalidAMIID.NotFound",
            400,
            "ha::provider::refused",
            "there is no image",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        world.proxy.state().refuse.insert("RunInstances", (aws, status, 1));
        let error = world.provider.ensure(&app).await.expect_err(aws);
        assert_eq!(error.code(), ours, "{aws}: {error}");
        assert!(error.to_string().contains(words), "{aws}: {error}");
        assert!(error.help().is_some(), "{aws}");
        assert_eq!(world.proxy.count("RunInstances"), at + 1, "{aws}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_or_a_size_that_does_not_exist_is_refused_with_its_name() {
    let moto = Moto::start();
    let world = World::new(&moto);
    made(&world, &network()).await;
    for (field, value) in [
        ("image", "ami-0123456789abcdef0"),
        ("image", "resolve:ssm:/no/such/image"),
        ("size", "t3.gigantic"),
    ] {
        let mut app = server("asia-app", 1, "app", &network());
        app.spec[field] = json!(value);
        let error = world.provider.ensure(&app).await.expect_err(value);
        assert!(error.to_string().contains(value), "{error}");
    }
    assert_eq!(world.provider.observe().await.expect("a list").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_pair_of_somebody_else_is_not_used_and_one_of_ours_goes_with_the_last_server() {
    let moto = Moto::start();
    let world = World::new(&moto);
    let keys = || ask(&world.proxy.account, "ec2", &[("Action", "DescribeKeyPairs")]).all("keyName");
    made(&world, &network()).await;
    let (first, second) = (
        server("asia-app", 1, "app", &network()),
        server("asia-app", 2, "app", &network()),
    );
    made(&world, &first).await;
    made(&world, &second).await;
    assert_eq!(keys(), ["provisioning-key"]);
    let other = Options {
        ssh_key: Some(SshKey {
            name: "provisioning-key".into(),
            public_key: Some("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOTHER".into()),
        }),
        ..options(&world.proxy)
    };
    let other = AwsProvider::open(other).expect("it has a location");
    let error = other
        .ensure(&server("asia-app", 3, "app", &network()))
        .await
        .expect_err("another key");
    assert_eq!(error.code(), "ha::provider::taken", "{error}");
    removed(&world, &first).await;
    assert_eq!(keys(), ["provisioning-key"]);
    removed(&world, &second).await;
    assert_eq!(keys(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_aws_regions_are_one_workspace() {
    let moto = Moto::start();
    let world = World::new(&moto);
    let both = Options {
        locations: vec![LOCATION.into(), "us-east-1".into()],
        ..options(&world.proxy)
    };
    let provider = AwsProvider::open(both).expect("it has locations");
    let mut far = network();
    far.id.region = ha_core::names::RegionName::new("us-east");
    far.id.name = "us-net".into();
    far.spec = json!({ "ip_range": "10.0.0.0/16", "location": "us-east-1" });
    for want in [&network(), &far] {
        is_so(want, &provider.ensure(want).await.expect("it is made"));
    }
    let seen = provider.observe().await.expect("a list");
    let ids: Vec<&str> = seen.iter().map(|it| it.id.name.as_str()).collect();
    assert_eq!(ids, ["asia-net", "us-net"]);
    provider.remove(&far.id).await.expect("its place is found");
    let mut nowhere = far.clone();
    nowhere.spec["location"] = json!("eu-west-1");
    let error = provider.ensure(&nowhere).await.expect_err("no such region here");
    assert!(error.to_string().contains("eu-west-1"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_balancer_with_a_certificate_redirects_and_a_certificate_of_elsewhere_is_refused() {
    let moto = Moto::start();
    let world = World::new(&moto);
    let app = server("asia-app", 1, "app", &network());
    made(&world, &network()).await;
    made(&world, &app).await;
    let arn = world.certificate();
    let mut want = balancer(&network(), &[&app]);
    let https = json!({
        "entry_protocol": "https", "entry_port": 443, "target_protocol": "http", "target_port": 8080,
        "certificate_id": arn,
    });
    want.spec["rules"].as_array_mut().expect("a list").push(https);
    want.spec["redirect_http_to_https"] = json!(true);
    is_so(&want, &made(&world, &want).await);
    is_so(&want, &made(&world, &want).await);
    assert_eq!(world.proxy.count("CreateLoadBalancer"), 1);
    // And back: the redirect goes, the port stays.
    let mut plain = balancer(&network(), &[&app]);
    plain.spec["algorithm"] = json!("least_connections");
    is_so(&plain, &made(&world, &plain).await);
    let mut elsewhere = want.clone();
    let there = arn.replace(LOCATION, "us-east-1");
    elsewhere.spec["rules"][1]["certificate_id"] = json!(there);
    let error = world.provider.ensure(&elsewhere).await.expect_err("it is in us-east-1");
    assert!(
        error
            .to_string()
            .contains("is in us-east-1, and the balancer in ap-southeast-1"),
        "{error}"
    );
    assert!(error.help().is_some_and(|it| it.contains("--region ap-southeast-1")));
}

/// What `workspace.ncl` writes for a managed database.
fn managed(name: &str, source: Option<&str>) -> Resource {
    let mut spec = json!({
        "kind": "aws.RDS", "name": name, "region": LOCATION, "engine": "postgres", "version": "16",
        "instance_class": "db.t3.small", "allocated_storage_gb": 20, "multi_az": false, "labels": { "team": "web" },
        "protect": true,
    });
    if let Some(source) = source {
        spec["replicate_from"] = json!(source);
    }
    resource(Kind::Database, name, spec, &[&network()])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_managed_database_grows_and_leaves_a_final_snapshot() {
    let moto = Moto::start();
    let world = World::new(&moto);
    made(&world, &network()).await;
    let mut want = managed("asia-orders", None);
    is_so(&want, &made(&world, &want).await);
    want.spec["instance_class"] = json!("db.t3.medium");
    want.spec["allocated_storage_gb"] = json!(40);
    want.spec["multi_az"] = json!(true);
    is_so(&want, &made(&world, &want).await);
    let seen = world.provider.observe().await.expect("a list");
    is_so(&want, seen.iter().find(|it| it.id == want.id).expect("it is listed"));
    want.spec["allocated_storage_gb"] = json!(30);
    let error = world.provider.ensure(&want).await.expect_err("storage cannot shrink");
    assert!(
        error.to_string().contains("allocated_storage_gb from 40 to 30"),
        "{error}"
    );
    removed(&world, &want).await;
    removed(&world, &want).await;
    let snapshots = ask(
        &world.proxy.account,
        "rds",
        &[("Action", "DescribeDBSnapshots"), ("SnapshotType", "manual")],
    );
    let names = snapshots.all("DBSnapshotIdentifier");
    assert!(
        names.len() == 1 && names[0].starts_with("asia-orders-final-"),
        "{names:?}"
    );
    removed(&world, &network()).await;
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_replica_is_promoted_by_the_proxy_since_promote_does_nothing_at_moto() {
    let moto = Moto::start();
    let world = World::new(&moto);
    made(&world, &network()).await;
    let source = managed("asia-orders", None);
    let replica = managed("asia-copy", Some("asia-orders"));
    let error = world
        .provider
        .ensure(&replica)
        .await
        .expect_err("its source is not there");
    assert_eq!(error.code(), "ha::provider::missing", "{error}");
    made(&world, &source).await;
    is_so(&replica, &made(&world, &replica).await);
    let promoted = managed("asia-copy", None);
    is_so(&promoted, &made(&world, &promoted).await);
    assert_eq!(world.proxy.count("PromoteReadReplica"), 1);
    // Once on its own it follows nobody again.
    let error = world.provider.ensure(&replica).await.expect_err("there is no way back");
    assert!(error.to_string().contains("replicate_from"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_protected_at_aws_is_not_removed() {
    let moto = Moto::start();
    let world = World::new(&moto);
    let app = server("asia-app", 1, "app", &network());
    made(&world, &network()).await;
    made(&world, &app).await;
    world
        .proxy
        .state()
        .refuse
        .insert("TerminateInstances", ("OperationNotPermitted", 400, 1));
    let error = world.provider.remove(&app.id).await.expect_err("it is protected");
    assert_eq!(error.code(), "ha::provider::protected", "{error}");
    is_so(&app, &made(&world, &app).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_with_somebody_elses_instance_in_it_is_refused_at_once_and_stays_whole() {
    let moto = Moto::start();
    let world = World::new(&moto);
    made(&world, &network()).await;
    let subnets = ask(
        &world.proxy.account,
        "ec2",
        &[
            ("Action", "DescribeSubnets"),
            ("Filter.1.Name", "tag:ha:ws"),
            ("Filter.1.Value.1", "shop"),
        ],
    );
    let images = ask(
        &world.proxy.account,
        "ec2",
        &[("Action", "DescribeImages"), ("Owner.1", "amazon")],
    );
    let run = [
        ("Action", "RunInstances"),
        ("ImageId", &images.one("imageId")),
        ("InstanceType", "t3.micro"),
        ("MinCount", "1"),
        ("MaxCount", "1"),
        ("SubnetId", &subnets.one("subnetId")),
    ];
    let theirs = ask(&world.proxy.account, "ec2", &run).one("instanceId");
    let error = world.provider.remove(&network().id).await.expect_err("it is in use");
    assert!(error.to_string().contains(&theirs), "{error}");
    let seen = world.provider.observe().await.expect("a list");
    is_so(&network(), &seen[0]);
}

#[tokio::test]
async fn whoever_is_not_aws_is_told_as_unreachable() {
    let page = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = page.local_addr().expect("it listens");
    std::thread::spawn(move || {
        for mut stream in page.incoming().map_while(Result::ok) {
            let mut some = [0; 4096];
            let _ = stream.read(&mut some);
            let html = "<html><body>Sign in to the network</body></html>";
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{html}",
                html.len()
            );
        }
    });
    let closed = TcpListener::bind("127.0.0.1:0")
        .expect("a port is free")
        .local_addr()
        .expect("it listens");
    for address in [address, closed] {
        let error = open(&format!("http://{address}"))
            .account()
            .await
            .expect_err("nobody is there");
        assert!(matches!(error, ProviderError::Unreachable { .. }), "{error:?}");
        assert!(
            error.to_string().contains("sts:GetCallerIdentity in ap-southeast-1"),
            "{error}"
        );
        assert!(error.help().is_some_and(|it| it.contains("endpoint")));
    }
}

fn open(endpoint: &str) -> AwsProvider {
    let credentials = Credentials {
        access_key_id: "AKIAEXAMPLE".into(),
        secret_access_key: Secret::new("do-not-print-me"),
        session_token: Some(Secret::new("nor-me")),
    };
    let options = Options {
        endpoint: Some(endpoint.to_owned()),
        ..Options::new(WorkspaceName::new("shop"), credentials, vec![LOCATION.into()])
    };
    let printed = format!("{options:?} {:?}", options.credentials);
    assert!(
        !printed.contains("do-not-print-me") && !printed.contains("nor-me"),
        "{printed}"
    );
    AwsProvider::open(options).expect("it has a location")
}
