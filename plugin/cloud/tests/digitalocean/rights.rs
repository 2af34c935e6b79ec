//! The scopes of a token are found out one by one, and nothing is changed by asking.

use std::{collections::BTreeSet, path::Path};

use ha_cloud::rights::{self, Held, Report, Rights as _, Use};
use ha_core::names::ProviderName;
use ha_stand_ins::{Fault, Token, When, digitalocean::StandIn};
use serde_json::{Value, json};

use crate::world::provider;

async fn asked(stand_in: &StandIn) -> Report {
    provider(stand_in).report(&BTreeSet::from(Use::ALL)).await
}

fn missing(report: &Report) -> Vec<&str> {
    let missing = report.rights.iter().filter(|it| it.held == Held::No);
    missing.map(|it| it.right.name).collect()
}

/// DigitalOcean's own words for a scope that a token does not have.
fn forbidden() -> Fault {
    Fault::answer(
        403,
        json!({ "id": "forbidden", "message": "You are not authorized to perform this operation" }),
    )
}

#[tokio::test]
async fn a_full_token_has_every_scope_and_nothing_came_of_asking() {
    let stand_in = StandIn::start().await;
    let report = asked(&stand_in).await;
    assert!(
        report.doors[0].who.as_ref().is_ok_and(|who| who.contains('@')),
        "{report:?}"
    );
    let other: Vec<_> = report.rights.iter().filter(|it| it.held != Held::Yes).collect();
    assert!(other.is_empty(), "{other:#?}");
    assert_eq!(report.rights.len(), rights::of(ProviderName::Digitalocean).len());
    let changed = stand_in.requests().into_iter().filter(|it| it.method != "GET");
    let taken: Vec<_> = changed.filter(|it| it.status < 400).collect();
    assert!(taken.is_empty(), "{taken:#?}");
    let made = stand_in.world(|world| {
        world.droplets.len() + world.vpcs.len() + world.tags.len() + world.domains.len() + world.ssh_keys.len()
    });
    assert_eq!(made, 0);
}

#[tokio::test]
async fn the_scope_that_is_missing_is_told_by_its_name() {
    let cases = [
        ("POST", "/v2/droplets", "droplet:create"),
        ("DELETE", "/v2/droplets/0", "droplet:delete"),
        ("GET", "/v2/images", "image:read"),
        ("POST", "/v2/tags", "tag:create"),
    ];
    for (method, path, scope) in cases {
        let stand_in = StandIn::start().await;
        stand_in.faults().inject(When::exactly(method, path), forbidden());
        assert_eq!(missing(&asked(&stand_in).await), [scope]);
        assert_eq!(stand_in.faults().waiting(), 0);
    }
}

#[tokio::test]
async fn a_token_that_only_reads_lacks_every_other_scope() {
    let stand_in = StandIn::start().await;
    stand_in.knobs(|knobs| knobs.token = Token::ReadOnly);
    let report = asked(&stand_in).await;
    let missing = missing(&report);
    assert!(
        missing.len() > 20 && missing.iter().all(|it| !it.ends_with(":read")),
        "{missing:?}"
    );
}

#[tokio::test]
async fn a_token_that_may_not_name_its_owner_is_let_in_and_says_so() {
    let stand_in = StandIn::start().await;
    stand_in
        .faults()
        .inject(When::exactly("GET", "/v2/account").times(3), forbidden());
    let report = asked(&stand_in).await;
    assert!(report.doors[0].who.is_ok(), "{report:?}");
    assert_eq!(missing(&report), ["account:read"]);
}

#[tokio::test]
async fn a_token_that_is_over_lets_nobody_in_and_a_proxy_is_named() {
    let stand_in = StandIn::start().await;
    stand_in.knobs(|knobs| knobs.token = Token::Expired);
    let report = asked(&stand_in).await;
    let error = report.doors[0].who.as_ref().expect_err("it is over");
    assert_eq!((error.code(), report.rights.len()), ("ha::provider::denied", 0));

    stand_in.knobs(|knobs| knobs.token = Token::Full);
    stand_in
        .faults()
        .inject(When::exactly("POST", "/v2/droplets"), Fault::Html);
    let report = asked(&stand_in).await;
    let droplets = report.rights.iter().find(|it| it.right.name == "droplet:create");
    assert!(
        droplets.is_some_and(|it| matches!(&it.held, Held::Unknown(why) if why.contains("HTML"))),
        "{droplets:?}"
    );
}

#[tokio::test]
async fn only_what_the_workspace_needs_is_asked_for() {
    let stand_in = StandIn::start().await;
    let report = provider(&stand_in).report(&BTreeSet::from([Use::Looking])).await;
    assert!(
        report.rights.iter().all(|it| it.right.used_for == Use::Looking),
        "{report:?}"
    );
    assert!(stand_in.requests().iter().all(|it| it.method == "GET"));
}

/// By DigitalOcean's own description of its API: the request for each scope is one that needs this scope.
#[tokio::test]
async fn each_scope_is_asked_for_by_a_request_that_needs_it() {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/specs");
    let specs = std::env::var_os("HA_SPECS").map_or(beside, Into::into);
    let file = specs.join("digitalocean.v2.openapi.json");
    let Ok(text) = std::fs::read_to_string(&file) else {
        eprintln!("SKIPPED: {} is not there; HA_SPECS names its folder", file.display());
        return;
    };
    let description: Value = serde_json::from_str(&text).expect("JSON");
    let paths = description["paths"].as_object().expect("paths");
    // `/v2/droplets/0` is asked for where the description has `/v2/droplets/{droplet_id}`.
    let scopes_of = |method: &str, path: &str| -> Vec<String> {
        let matches = |described: &str| {
            let (described, asked): (Vec<_>, Vec<_>) = (described.split('/').collect(), path.split('/').collect());
            let alike = |(one, other): (&&str, &&str)| one == other || one.starts_with('{');
            described.len() == asked.len() && described.iter().zip(&asked).all(alike)
        };
        let exact = paths
            .get(path)
            .or_else(|| paths.iter().find(|(it, _)| matches(it)).map(|(_, it)| it));
        let security = &exact.unwrap_or_else(|| panic!("{path} is not described"))[method.to_lowercase()]["security"];
        let each = security.as_array().into_iter().flatten();
        let scopes = each.filter_map(Value::as_object).flat_map(|it| it.values());
        scopes
            .filter_map(Value::as_array)
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect()
    };
    let stand_in = StandIn::start().await;
    let report = asked(&stand_in).await;
    let seen = stand_in.requests();
    for told in &report.rights {
        let name = told.right.name;
        let needs_it = |it: &&ha_stand_ins::Seen| scopes_of(&it.method, &it.path).iter().any(|it| it == name);
        assert!(seen.iter().any(|it| needs_it(&it)), "{name} is not asked for");
    }
}
