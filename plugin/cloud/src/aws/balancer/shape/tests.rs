//! What AWS would answer after a balancer was made as wanted, and what is read from that.

use aws_sdk_elasticloadbalancingv2::types::{Action, Certificate, Listener, RedirectActionConfig, TargetGroup};
use ha_core::{names::RegionName, resource::Kind};
use proptest::prelude::*;

use super::*;

const LOCATION: &str = "ap-southeast-1";

fn ws() -> WorkspaceName {
    WorkspaceName::new("shop")
}

fn region() -> RegionName {
    RegionName::new("asia-southeast")
}

fn want(spec: Value) -> Resource {
    Resource {
        id: ResourceId::new(&region(), Kind::LoadBalancer, "asia-lb"),
        provider: ProviderName::Aws,
        spec,
        depends_on: Vec::new(),
        protect: false,
        path: "region_asia_southeast.load_balancer".into(),
    }
}

fn rule(entry: &str, port: u16, target: u16) -> Value {
    let certificate = (entry == "https").then_some("arn:aws:acm:ap-southeast-1:123456789012:certificate/1");
    json!({
        "entry_protocol": entry, "entry_port": port, "target_protocol": "http", "target_port": target,
        "certificate_id": certificate,
    })
}

fn spec(rules: Vec<Value>, redirect: bool) -> Value {
    json!({
        "location": LOCATION, "algorithm": "round_robin", "targets": ["asia-app-1", "asia-app-2"], "rules": rules,
        "health_check": { "path": "/health", "interval_seconds": 5, "timeout_seconds": 5, "fall": 3, "rise": 2 },
        "redirect_http_to_https": redirect, "databases": [],
    })
}

fn servers() -> Servers {
    let server = |index: u32| {
        let id = ResourceId::new(&region(), Kind::Server, format!("asia-app-{index}"));
        (format!("i-{index}"), id)
    };
    (1..=12).map(server).collect()
}

/// As AWS keeps it: listeners in an order of its own, and a redirect without the target of its rule.
fn kept(want: &Resource) -> Pieces {
    let wanted = Wanted::read(want).expect("a right balancer");
    let arn = |target: &Target| format!("arn:{}:{}", target.protocol, target.port);
    let members: Vec<String> = servers()
        .into_iter()
        .filter(|(_, server)| wanted.servers.contains(&server.name))
        .map(|(instance, _)| instance)
        .collect();
    let group = |target: Target| {
        let check = wanted.check.on(&target);
        let group = TargetGroup::builder()
            .target_group_arn(arn(&target))
            .protocol(match target.protocol.as_str() {
                "https" => ProtocolEnum::Https,
                _ => ProtocolEnum::Http,
            })
            .protocol_version(if target.protocol == "http2" { "HTTP2" } else { "HTTP1" })
            .port(target.port)
            .health_check_path(&wanted.path)
            .health_check_port(check.port())
            .health_check_protocol(check.protocol())
            .health_check_interval_seconds(check.interval)
            .health_check_timeout_seconds(check.timeout)
            .unhealthy_threshold_count(check.fall)
            .healthy_threshold_count(check.rise)
            .build();
        Group {
            group,
            algorithm: Some(algorithm_of(&wanted.algorithm).to_owned()),
            members: members.clone(),
        }
    };
    let groups = wanted.targets().into_iter().map(group);
    let mut listeners: Vec<Listener> = wanted
        .listeners()
        .into_iter()
        .map(|(port, rule)| {
            let https = rule.is_some_and(|it| it.entry == Entry::Https);
            let action = match rule {
                Some(rule) if https || !wanted.redirect => Action::builder()
                    .r#type(ActionTypeEnum::Forward)
                    .target_group_arn(arn(&rule.target))
                    .build(),
                _ => Action::builder()
                    .r#type(ActionTypeEnum::Redirect)
                    .redirect_config(RedirectActionConfig::builder().protocol("HTTPS").build())
                    .build(),
            };
            let certificate = rule.and_then(|it| it.certificate.clone());
            Listener::builder()
                .port(port)
                .protocol(if https { ProtocolEnum::Https } else { ProtocolEnum::Http })
                .default_actions(action)
                .set_certificates(certificate.map(|it| vec![Certificate::builder().certificate_arn(it).build()]))
                .build()
        })
        .collect();
    listeners.sort_by_key(|it| std::cmp::Reverse(it.port()));
    let state = elb::LoadBalancerState::builder()
        .code(LoadBalancerStateEnum::Active)
        .build();
    Pieces {
        balancer: Some(elb::LoadBalancer::builder().state(state).build()),
        tags: wanted.tags(&ws(), want),
        listeners,
        groups: groups.collect(),
        security: Vec::new(),
    }
}

fn live(pieces: &Pieces) -> Live {
    let id = ResourceId::new(&region(), Kind::LoadBalancer, "asia-lb");
    pieces.live(&ws(), &id, LOCATION, &servers(), None)
}

#[test]
fn the_check_of_the_example_has_a_shorter_answer_than_interval_and_is_still_as_declared() {
    let want = want(spec(vec![rule("http", 80, 8080)], false));
    let pieces = kept(&want);
    assert_eq!(pieces.groups[0].group.health_check_timeout_seconds(), Some(4));
    assert_eq!(live(&pieces).spec, want.spec);
}

#[test]
fn a_redirect_of_its_own_is_no_rule_and_one_of_a_rule_keeps_its_target() {
    let own = want(spec(vec![rule("https", 443, 8080)], true));
    assert_eq!(kept(&own).listeners.len(), 2);
    assert_eq!(live(&kept(&own)).spec, own.spec);
    let of_a_rule = want(spec(vec![rule("http", 80, 8081), rule("https", 443, 8080)], true));
    assert_eq!(live(&kept(&of_a_rule)).spec, of_a_rule.spec);
}

#[test]
fn a_server_taken_out_by_hand_and_a_stranger_put_in_are_seen() {
    let want = want(spec(vec![rule("http", 80, 8080)], false));
    let mut pieces = kept(&want);
    pieces.groups[0].members = vec!["i-2".into(), "i-0stranger".into()];
    let now = live(&pieces);
    assert_eq!(now.spec["targets"], json!(["asia-app-2", "i-0stranger"]));
    assert_ne!(spec_hash(&now.spec), now.labels.spec);
}

#[test]
fn what_is_half_made_is_pending_and_not_drifted() {
    let want = want(spec(vec![rule("http", 80, 8080)], false));
    let mut pieces = kept(&want);
    pieces.listeners.clear();
    pieces.tags.insert(tags::SPEC.to_owned(), tags::UNFINISHED.to_owned());
    let now = live(&pieces);
    assert_eq!((now.status, spec_hash(&now.spec)), (Status::Pending, now.labels.spec));
    pieces.balancer = None;
    pieces.tags.clear();
    assert_eq!(live(&pieces).status, Status::Pending);
}

#[test]
fn what_an_application_load_balancer_does_not_do_is_said_with_the_place() {
    let table = [
        (
            spec(vec![rule("tcp", 5432, 5432)], false),
            "rule 1: an aws.ALB speaks http and https, not tcp",
        ),
        (
            spec(vec![rule("http2", 443, 8080)], false),
            "write entry_protocol = \"https\"",
        ),
        (
            spec(vec![rule("http", 80, 1), rule("http", 80, 2)], false),
            "two rules listen on port 80",
        ),
        (
            spec(vec![rule("http", 80, 8080)], true),
            "redirect_http_to_https needs a rule",
        ),
        (spec(Vec::new(), false), "no forwarding rule"),
    ];
    for (spec, words) in table {
        let error = Wanted::read(&want(spec)).expect_err(words);
        assert!(error.to_string().contains(words), "{error}");
        assert!(
            error
                .help()
                .is_some_and(|it| it.contains("region_asia_southeast.load_balancer"))
        );
    }
    let mut named = rule("https", 443, 8080);
    named["certificate_id"] = json!("your-certificate-id");
    let error = Wanted::read(&want(spec(vec![named], false))).expect_err("no ARN");
    assert!(
        error.to_string().contains("your-certificate-id is not the ARN"),
        "{error}"
    );
}

proptest! {
    #[test]
    fn a_spec_comes_back_as_it_went(
        rules in proptest::collection::btree_map(1u16..2000, (any::<bool>(), "http|https|http2", 1u16..4), 1..8),
        rotate in 0usize..8,
        redirect: bool,
        algorithm in "round_robin|least_connections",
        interval in 1i64..400,
        timeout in 1i64..200,
        fall in 1i64..=10,
        rise in 1i64..=10,
        check_port in proptest::option::of(1u16..),
        https: bool,
        labels in proptest::collection::btree_map("[a-z]{1,10}", "[a-z0-9]{0,10}", 0..3),
        members in proptest::sample::subsequence((1..=12).collect::<Vec<u32>>(), 0..=12),
    ) {
        let mut rules: Vec<Value> = rules.into_iter().map(|(port, (https, protocol, target))| {
            let mut rule = rule(if https { "https" } else { "http" }, port, target);
            rule["target_protocol"] = json!(protocol);
            rule
        }).collect();
        let middle = rotate % rules.len();
        rules.rotate_left(middle);
        let redirect = redirect && rules.iter().any(|it| it["entry_protocol"] == "https");
        let mut spec = spec(rules, redirect);
        spec["algorithm"] = json!(algorithm);
        spec["targets"] = json!(members.iter().map(|it| format!("asia-app-{it}")).collect::<Vec<_>>());
        spec["health_check"] = json!({
            "path": "/up", "interval_seconds": interval, "timeout_seconds": timeout, "fall": fall, "rise": rise,
        });
        if let Some(port) = check_port {
            spec["health_check"]["port"] = port.into();
        }
        if https {
            spec["health_check"]["protocol"] = "https".into();
        }
        if !labels.is_empty() {
            spec["labels"] = json!(labels);
        }
        let want = want(spec);
        let live = live(&kept(&want));
        prop_assert_eq!(&live.spec, &want.spec);
        prop_assert_eq!(spec_hash(&live.spec), live.labels.spec);
        prop_assert_eq!(live.status, Status::Running);
    }

    #[test]
    fn what_is_applied_is_what_aws_takes(interval: i32, timeout: i32, fall: i32, rise: i32) {
        let target = Target { protocol: "http".into(), port: 8080 };
        let applied = Check { interval, timeout, fall, rise, port: None, https: false }.on(&target);
        prop_assert!((5..=300).contains(&applied.interval) && (2..=120).contains(&applied.timeout));
        prop_assert!(applied.timeout < applied.interval);
        prop_assert!((2..=10).contains(&applied.fall) && (2..=10).contains(&applied.rise));
        prop_assert_eq!(applied.on(&target), applied);
    }

    #[test]
    fn names_of_target_groups_are_what_aws_takes(name in "[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", port in 1i32..65536) {
        let id = ResourceId::new(&region(), Kind::LoadBalancer, name);
        let name = group_name(&ws(), &id, &Target { protocol: "http".into(), port });
        prop_assert!(name.len() <= 32 && !name.starts_with('-') && !name.ends_with('-'));
        prop_assert!(name.chars().all(|it| it.is_ascii_alphanumeric() || it == '-'));
    }
}
