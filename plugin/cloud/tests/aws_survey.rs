//! The whole of a place at AWS, and tags for what somebody else made, against moto.

#[allow(dead_code, reason = "the other tests against moto use the rest of it")]
mod aws_proxy;

use ha_cloud::{Provider, ProviderError, survey::Survey};
use ha_core::{
    existing::{Found, Verdict, adoptions},
    names::WorkspaceName,
    plan::{Action, plan},
    resource::{Kind, Resource, spec_hash},
};

use aws_proxy::{moto::Moto, neighbours::ask, world::World};

fn named<'a>(found: &'a [Found], name: &str) -> &'a Found {
    let it = found.iter().find(|it| it.name == name && !it.of_the_account);
    it.unwrap_or_else(|| {
        panic!(
            "no {name} among {:?}",
            found.iter().map(|it| &it.name).collect::<Vec<_>>()
        )
    })
}

/// Takes all tags of ours away, and leaves the names that AWS's console shows.
fn strip(world: &World) {
    let account = &world.proxy.account;
    let lists = [
        ("DescribeVpcs", "vpcId"),
        ("DescribeSubnets", "subnetId"),
        ("DescribeInternetGateways", "internetGatewayId"),
        ("DescribeRouteTables", "routeTableId"),
        ("DescribeSecurityGroups", "groupId"),
        ("DescribeInstances", "instanceId"),
        ("DescribeVolumes", "volumeId"),
    ];
    for (action, field) in lists {
        let told = ask(account, "ec2", &[("Action", action), ("Version", "2016-11-15")]);
        for id in values(&told.body, field) {
            for key in [
                "ws",
                "region",
                "kind",
                "name",
                "spec",
                "protect",
                "part",
                "group",
                "index",
                "image",
                "roles",
                "store",
                "store-spec",
                "store-protect",
                "database",
                "database-spec",
                "database-protect",
                "targets",
                "labels",
                "attach-to",
            ] {
                let key = format!("ha:{key}");
                let fields = [
                    ("Action", "DeleteTags"),
                    ("Version", "2016-11-15"),
                    ("ResourceId.1", id.as_str()),
                    ("Tag.1.Key", key.as_str()),
                ];
                ask(account, "ec2", &fields);
            }
        }
    }
    for (action, field) in [
        ("DescribeLoadBalancers", "LoadBalancerArn"),
        ("DescribeTargetGroups", "TargetGroupArn"),
    ] {
        let told = ask(
            account,
            "elasticloadbalancing",
            &[("Action", action), ("Version", "2015-12-01")],
        );
        for arn in values(&told.body, field) {
            for key in ["ws", "region", "kind", "name", "spec", "protect", "rules", "check"] {
                let key = format!("ha:{key}");
                let fields = [
                    ("Action", "RemoveTags"),
                    ("Version", "2015-12-01"),
                    ("ResourceArns.member.1", arn.as_str()),
                    ("TagKeys.member.1", key.as_str()),
                ];
                ask(account, "elasticloadbalancing", &fields);
            }
        }
    }
}

/// What stands in all elements of this name.
fn values(answer: &str, field: &str) -> Vec<String> {
    let (open, close) = (format!("<{field}>"), format!("</{field}>"));
    let mut all: Vec<String> = answer
        .split(&open)
        .skip(1)
        .filter_map(|rest| Some(rest.split_once(&close)?.0.to_owned()))
        .collect();
    all.sort();
    all.dedup();
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lost_its_tags_is_found_and_adopted_and_nothing_is_left_to_do() {
    let moto = Moto::start();
    let world = World::new(&moto);
    let provider = &world.provider;
    let desired = world.resources();
    for want in &desired {
        provider
            .ensure(want)
            .await
            .unwrap_or_else(|error| panic!("{}: {error}", want.id));
    }
    strip(&world);
    assert_eq!(provider.observe().await.expect("a list"), []);

    let found = provider.everything().await.expect("a list");
    assert!(found.iter().all(|it| it.owner.is_none()), "nobody owns any of it");
    assert_eq!(
        named(&found, "asia-lb").spec["targets"],
        serde_json::json!(["asia-app-1"])
    );
    assert_eq!(named(&found, "asia-data").spec["attach_to"], "asia-db-1");
    let mut behind: Vec<String> =
        serde_json::from_value(named(&found, "asia-access").spec["targets"].clone()).expect("names");
    behind.sort();
    assert_eq!(behind, ["asia-app-1", "asia-db-1"]);
    // Disks that end with their server, and groups that belong to a network or a balancer, are nothing by themselves.
    let of = |kind: Kind| {
        let all = found
            .iter()
            .filter(|it| it.kind == ha_core::existing::FoundKind::Resource(kind));
        all.filter(|it| !it.of_the_account)
            .map(|it| it.name.as_str())
            .collect::<Vec<_>>()
    };
    assert_eq!(of(Kind::Volume), ["asia-data"]);
    assert_eq!(of(Kind::Firewall), ["asia-access"]);
    assert_eq!(of(Kind::Network), ["asia-net"]);

    let ws = WorkspaceName::new("shop");
    for adoption in adoptions(&desired, &found, &ws, &[]) {
        let Verdict::Adopt(found) = adoption.verdict else {
            panic!("{}: {:?}", adoption.want.id, adoption.verdict);
        };
        for time in ["first", "second"] {
            let live = provider.adopt(found, adoption.want).await;
            let live = live.unwrap_or_else(|error| panic!("{} the {time} time: {error}", adoption.want.id));
            assert_eq!(spec_hash(&live.spec), live.labels.spec, "{} is no drift", live.id);
        }
    }
    let live = provider.observe().await.expect("a list");
    let steps = plan(&desired, &live);
    let changes: Vec<_> = steps
        .iter()
        .filter(|step| step.action != Action::None)
        .map(|step| (step.id.name.as_str(), step.action, step.reason.as_str()))
        .collect();
    // Labels of the firewall are there, and nothing said that they are ours; what runs on a server is nobody's to see.
    let names: Vec<&str> = changes.iter().map(|it| it.0).collect();
    assert_eq!(names, ["asia-store", "asia-pg-1"], "{changes:?}");

    let other: Vec<Resource> = desired.iter().filter(|it| it.id.name == "asia-db-1").cloned().collect();
    let refused = provider.adopt(named(&found, "asia-app-1"), &other[0]).await;
    assert!(matches!(refused, Err(ProviderError::Taken { .. })), "{refused:?}");
}
