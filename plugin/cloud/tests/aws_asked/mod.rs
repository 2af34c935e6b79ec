//! What a key of AWS may do and what AWS has, asked of moto; the proxy in between refuses as IAM does.

use std::collections::BTreeSet;

use ha_cloud::{
    aws::AwsProvider,
    offers::Offers as _,
    rights::{Held, Report, Rights as _, Use},
};
use ha_core::{finding::Severity, resource::Resource};
use serde_json::Value;

use crate::aws_proxy::{
    moto::Moto,
    neighbours::ask,
    world::{World, network, options, server},
};

async fn asked(world: &World) -> Report {
    world.provider.report(&BTreeSet::from(Use::ALL)).await
}

fn held<'a>(report: &'a Report, right: &str) -> &'a Held {
    let told = report.rights.iter().find(|it| it.right.name == right);
    &told.unwrap_or_else(|| panic!("{right} is not told: {report:#?}")).held
}

fn refuse(world: &World, action: &'static str, code: &'static str) {
    world.proxy.state().refuse.insert(action, (code, 403, u32::MAX));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_are_told_by_lists_and_dry_runs_and_nothing_is_there_afterwards() {
    let moto = Moto::start();
    let world = World::new(&moto);
    let there = || {
        [
            ("DescribeVpcs", "vpcId"),
            ("DescribeSubnets", "subnetId"),
            ("DescribeVolumes", "volumeId"),
            ("DescribeInternetGateways", "internetGatewayId"),
            ("DescribeRouteTables", "routeTableId"),
            ("DescribeSecurityGroups", "groupId"),
            ("DescribeKeyPairs", "keyName"),
            ("DescribeInstances", "instanceId"),
            ("DescribeTags", "resourceId"),
        ]
        .map(|(action, id)| ask(&world.proxy.account, "ec2", &[("Action", action)]).all(id))
    };
    let before = there();
    let report = asked(&world).await;
    let who = report.doors[0].who.as_ref().expect("a caller");
    assert!(who.starts_with("arn:aws:"), "{who}");
    let missing: Vec<_> = report.rights.iter().filter(|it| it.held == Held::No).collect();
    assert!(missing.is_empty(), "{missing:#?}");
    for right in [
        "ec2:DescribeInstances",
        "ec2:DescribeRegions",
        "elasticloadbalancing:DescribeLoadBalancers",
        "rds:DescribeDBInstances",
        "route53:ListHostedZones",
        "ec2:CreateInternetGateway",
        "ec2:ImportKeyPair",
        "ec2:CreateVolume",
    ] {
        assert_eq!(held(&report, right), &Held::Yes, "{right}");
    }
    // No trial, no claim.
    assert!(matches!(held(&report, "rds:CreateDBInstance"), Held::Unknown(_)));
    assert_eq!(before, there());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_that_is_denied_is_missing_by_its_name_though_moto_denies_nobody() {
    let moto = Moto::start();
    let world = World::new(&moto);
    refuse(&world, "RunInstances", "UnauthorizedOperation");
    refuse(&world, "DescribeVolumes", "UnauthorizedOperation");
    refuse(&world, "DescribeDBInstances", "AccessDenied");
    let report = asked(&world).await;
    let missing: Vec<&str> = report
        .rights
        .iter()
        .filter(|it| it.held == Held::No)
        .map(|it| it.right.name)
        .collect();
    assert_eq!(
        missing,
        ["ec2:DescribeVolumes", "rds:DescribeDBInstances", "ec2:RunInstances"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_secret_and_a_wrong_clock_let_nobody_in_and_are_told_apart_though_moto_takes_any() {
    let moto = Moto::start();
    for (code, words) in [
        ("SignatureDoesNotMatch", "does not belong to this access_key_id"),
        ("InvalidClientTokenId", "no such access_key_id"),
        ("RequestExpired", "clock"),
        ("ExpiredToken", "session is over"),
    ] {
        let world = World::new(&moto);
        refuse(&world, "GetCallerIdentity", code);
        let report = asked(&world).await;
        let error = report.doors[0].who.as_ref().expect_err(code);
        assert!(
            error.help().is_some_and(|help| help.contains(words)),
            "{code}: {error:?}"
        );
        assert_eq!(report.rights, []);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_that_is_not_enabled_is_told_apart_from_a_wrong_key() {
    let moto = Moto::start();
    let world = World::new(&moto);
    let mut elsewhere = options(&world.proxy);
    elsewhere.locations = vec!["il-central-1".into()];
    let provider = AwsProvider::open(elsewhere).expect("it has a location");
    refuse(&world, "GetCallerIdentity", "InvalidClientTokenId");
    let report = provider.report(&BTreeSet::from(Use::ALL)).await;
    let error = report.doors[0].who.as_ref().expect_err("it is not enabled");
    assert!(error.to_string().contains("il-central-1 is not enabled"), "{error}");
    assert!(
        error.help().is_some_and(|help| help.contains("enable-region")),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_aws_does_not_have_is_told_at_its_field_with_the_near_name() {
    let moto = Moto::start();
    let world = World::new(&moto);
    let good = server("asia-app", 1, "app", &network());
    let objections = async |want: &Resource| {
        let found = world.provider.objections(&[want]).await.expect("it says");
        let errors = found.into_iter().filter(|it| it.severity == Severity::Error);
        errors.collect::<Vec<_>>()
    };
    assert_eq!(objections(&good).await, []);
    for (field, value, code, path, words) in [
        ("size", "t3.medum", "ha::offers::size", "instance_type", "t3.medium"),
        (
            "image",
            "ami-0123456789abcdef0",
            "ha::offers::image",
            "image_id",
            "one region",
        ),
        (
            "location",
            "il-central-1",
            "ha::offers::location",
            "region",
            "enable-region",
        ),
        (
            "location",
            "ap-southeast-9",
            "ha::offers::location",
            "region",
            "ap-southeast-",
        ),
    ] {
        let mut want = good.clone();
        want.spec[field] = Value::from(value);
        let found = objections(&want).await;
        assert_eq!(found.len(), 1, "{found:#?}");
        let path = format!("{}.{path}", want.path);
        assert_eq!(
            (found[0].code.as_str(), found[0].path.as_deref()),
            (code, Some(path.as_str()))
        );
        assert!(
            found[0].help.as_deref().is_some_and(|help| help.contains(words)),
            "{found:#?}"
        );
    }
}
