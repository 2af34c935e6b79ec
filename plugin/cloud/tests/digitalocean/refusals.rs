//! What DigitalOcean refuses, and what it is called.

use std::{sync::Arc, time::Duration};

use ha_cloud::{
    Provider, ProviderError,
    digitalocean::{DigitalOceanProvider, Options},
};
use ha_core::resource::{Resource, Status};
use ha_stand_ins::{Fault, RateLimit, Token, When, digitalocean::StandIn};
use serde_json::json;

use crate::{
    changes::make,
    world::{PUBLIC_KEY, USER_DATA, app, id, network, options, provider, server, stand_in},
};
use ha_core::resource::Kind;

/// The answer to wanting one server, in a world that was prepared.
async fn refused(prepare: impl FnOnce(&StandIn)) -> (ProviderError, StandIn) {
    refused_server(&app(), prepare).await
}

async fn refused_server(want: &Resource, prepare: impl FnOnce(&StandIn)) -> (ProviderError, StandIn) {
    let stand_in = stand_in().await;
    let provider = provider(&stand_in);
    provider.ensure(&network()).await.expect("a network");
    prepare(&stand_in);
    let error = provider.ensure(want).await.expect_err("it is refused");
    (error, stand_in)
}

fn creates(stand_in: &StandIn) -> usize {
    let all = stand_in.requests();
    all.iter()
        .filter(|it| it.method == "POST" && it.path == "/v2/droplets")
        .count()
}

fn pending() -> Fault {
    let body = json!({ "id": "unprocessable_entity", "message": "Droplet already has a pending event." });
    Fault::answer(422, body)
}

#[tokio::test]
async fn a_quota_is_one_and_is_not_asked_for_again() {
    let (error, stand_in) = refused(|it| it.knobs(|knobs| knobs.quotas.extend([("droplets".to_owned(), 0)]))).await;
    assert!(matches!(error, ProviderError::Quota { .. }), "{error}");
    assert_eq!(creates(&stand_in), 1);
}

#[tokio::test]
async fn no_capacity_is_said_with_the_way_out() {
    let (error, stand_in) = refused(|it| it.knobs(|knobs| knobs.capacity.extend([("nyc3".to_owned(), 0)]))).await;
    assert!(matches!(error, ProviderError::NoCapacity { .. }), "{error}");
    assert!(
        error
            .help()
            .is_some_and(|help| help.contains("another size or location"))
    );
    assert_eq!(creates(&stand_in), 1);
}

#[tokio::test]
async fn a_pending_event_is_waited_for_and_a_mistake_is_not() {
    let stand_in = stand_in().await;
    let provider = provider(&stand_in);
    make(&provider, &[network(), app()]).await;
    stand_in
        .faults()
        .inject(When::new("POST", "/actions").times(3), pending());
    let live = provider.power(&app().id, false).await.expect("it waits");
    assert_eq!((live.status, stand_in.faults().waiting()), (Status::Off, 0));

    let mut odd = server("us-app", 2, &["app"]);
    odd.spec["image"] = "ubuntu-3-11".into();
    stand_in.forget_requests();
    let error = provider.ensure(&odd).await.expect_err("there is no such image");
    assert!(matches!(error, ProviderError::Refused { .. }), "{error}");
    assert_eq!(creates(&stand_in), 1);
}

#[tokio::test]
async fn a_pending_event_that_does_not_end_is_told_in_the_end() {
    let stand_in = stand_in().await;
    let provider = DigitalOceanProvider::new(Options {
        deadline: Duration::from_millis(100),
        ..options(&stand_in)
    })
    .expect("the stand-in's address");
    make(&provider, &[network(), app()]).await;
    stand_in
        .faults()
        .inject(When::new("POST", "/actions").times(1000), pending());
    let error = provider.power(&app().id, false).await.expect_err("it never ends");
    assert!(matches!(error, ProviderError::NotReady { .. }), "{error}");
    assert!(error.to_string().contains("pending event"), "{error}");
}

#[tokio::test]
async fn an_action_that_fails_is_the_error() {
    let (error, _) = refused(|it| it.knobs(|knobs| knobs.fail_next.push("create".into()))).await;
    assert!(matches!(error, ProviderError::NotReady { .. }), "{error}");
    assert!(error.to_string().contains("(create) ended in an error"), "{error}");
}

#[tokio::test]
async fn an_action_that_vanishes_is_an_error_and_the_next_call_finds_what_it_did() {
    let (error, stand_in) = refused(|it| it.knobs(|knobs| knobs.actions_vanish = true)).await;
    assert!(matches!(error, ProviderError::NotReady { .. }), "{error}");
    assert!(error.to_string().contains("no longer knows its action"), "{error}");
    stand_in.knobs(|knobs| knobs.actions_vanish = false);
    make(&provider(&stand_in), &[app()]).await;
    assert_eq!(creates(&stand_in), 1);
}

#[tokio::test]
async fn tags_that_come_late_make_no_second_server() {
    let stand_in = stand_in().await;
    let provider = provider(&stand_in);
    make(&provider, &[network()]).await;
    stand_in.knobs(|knobs| knobs.tags_late = Duration::from_millis(200));
    stand_in
        .faults()
        .inject(When::exactly("POST", "/droplets"), Fault::LoseAnswer);
    let error = provider.ensure(&app()).await.expect_err("the answer is lost");
    assert_eq!(error.code(), "ha::provider::outcome_unknown");
    let live = provider.ensure(&app()).await.expect("the tags come");
    assert_eq!(live.labels.spec, app().spec_hash());
    assert_eq!(stand_in.world(|world| world.droplets.len()), 1);
}

#[tokio::test]
async fn one_without_tags_is_somebody_elses_after_a_while() {
    let stand_in = stand_in().await;
    let provider = DigitalOceanProvider::new(Options {
        late_tags: Duration::from_millis(100),
        ..options(&stand_in)
    })
    .expect("the stand-in's address");
    make(&provider, &[network()]).await;
    // As wanted in everything, network included, and without a tag for ever.
    stand_in.world(|world| {
        let vpc = world
            .vpcs
            .values()
            .find(|it| it.name == "us-net")
            .map(|it| it.id.clone());
        let number = world.plant_droplet("us-app-1", &[]);
        world.droplets.get_mut(&number).expect("it was planted").vpc = vpc.expect("it was made");
    });
    let error = provider.ensure(&app()).await.expect_err("whose is it?");
    assert!(matches!(error, ProviderError::Taken { .. }), "{error}");
    assert_eq!(creates(&stand_in), 0);
}

#[tokio::test]
async fn the_burst_limit_is_waited_out_and_the_hourly_one_is_told() {
    let stand_in = stand_in().await;
    let limited = |seconds| Fault::TooMany {
        retry_after: Duration::from_secs(seconds),
    };
    stand_in.faults().inject(When::new("GET", "/vpcs"), limited(0));
    assert_eq!(provider(&stand_in).observe().await.expect("after the wait"), []);
    // Without a Retry-After, and for longer than anybody waits.
    stand_in.knobs(|knobs| knobs.rate_limit = RateLimit::new(0, Duration::from_secs(3600)));
    let error = provider(&stand_in).observe().await.expect_err("an hour");
    assert!(matches!(error, ProviderError::RateLimited { .. }), "{error}");
}

#[tokio::test]
async fn a_token_that_may_not_is_told_apart() {
    let (error, _) = refused(|it| it.knobs(|knobs| knobs.token = Token::ReadOnly)).await;
    assert!(matches!(error, ProviderError::Denied { .. }), "{error}");

    let (error, stand_in) = refused(|it| it.knobs(|knobs| knobs.token = Token::Expired)).await;
    assert!(matches!(error, ProviderError::Denied { .. }), "{error}");
    let provider = provider(&stand_in);
    for error in [
        provider.observe().await.expect_err("nothing is shown"),
        provider.account().await.expect_err("nobody is known"),
    ] {
        assert_eq!(error.code(), "ha::provider::denied");
        assert!(!error.to_string().contains(&stand_in.token()), "{error}");
    }
}

#[tokio::test]
async fn a_token_that_may_not_delete_a_network_is_not_taken_for_members_that_linger() {
    let stand_in = stand_in().await;
    let provider = provider(&stand_in);
    make(&provider, &[network()]).await;
    stand_in.knobs(|knobs| knobs.token = Token::ReadOnly);
    let error = provider.remove(&network().id).await.expect_err("it may not");
    assert!(matches!(error, ProviderError::Denied { .. }), "{error}");
}

#[tokio::test]
async fn a_key_that_nobody_has_is_missing_and_nothing_is_made() {
    let stand_in = stand_in().await;
    let provider = DigitalOceanProvider::new(Options {
        ssh_public_key: None,
        ..options(&stand_in)
    })
    .expect("the stand-in's address");
    make(&provider, &[network()]).await;
    let mut want = app();
    want.spec["ssh_keys"] = json!(["provisioning-key"]);
    let error = provider.ensure(&want).await.expect_err("there is no key");
    assert!(
        matches!(&error, ProviderError::Missing { needs, .. } if needs.contains("provisioning-key")),
        "{error}"
    );
    assert_eq!(creates(&stand_in), 0);
    stand_in.world(|world| world.plant_ssh_key("provisioning-key"));
    make(&provider, &[want]).await;
}

#[tokio::test]
async fn a_key_under_another_name_is_named() {
    let mut want = app();
    want.spec["ssh_keys"] = json!(["provisioning-key"]);
    let (error, _) = refused_server(&want, |it| {
        it.world(|world| {
            let number = world.plant_ssh_key("my-laptop");
            let key = world.ssh_keys.get_mut(&number).expect("it was planted");
            key.public_key = PUBLIC_KEY.into();
        });
    })
    .await;
    assert!(
        matches!(&error, ProviderError::Taken { by, .. } if by.contains("my-laptop")),
        "{error}"
    );
}

#[tokio::test]
async fn what_cannot_change_in_place_is_refused_and_left() {
    let stand_in = stand_in().await;
    let provider = provider(&stand_in);
    make(&provider, &[network(), app()]).await;
    let mut wider = network();
    wider.spec["ip_range"] = "10.0.0.0/17".into();
    let mut newer = app();
    newer.spec["image"] = "debian-12-x64".into();
    let before = stand_in.world(|world| format!("{:?} {:?}", world.vpcs, world.droplets));
    for want in [wider, newer] {
        let error = provider.ensure(&want).await.expect_err("not in place");
        assert!(matches!(error, ProviderError::Refused { .. }), "{error}");
    }
    assert_eq!(
        before,
        stand_in.world(|world| format!("{:?} {:?}", world.vpcs, world.droplets))
    );
}

#[tokio::test]
async fn a_range_that_another_network_has_is_taken() {
    let stand_in = stand_in().await;
    let range = "10.0.8.0/24".parse().expect("a range");
    stand_in.world(|world| world.plant_vpc("theirs", "", range));
    let error = provider(&stand_in).ensure(&network()).await.expect_err("they overlap");
    assert!(
        matches!(&error, ProviderError::Taken { what, .. } if what.contains("range")),
        "{error}"
    );
}

#[tokio::test]
async fn a_proxy_in_between_is_named() {
    let stand_in = stand_in().await;
    stand_in.faults().inject(When::any().times(8), Fault::Html);
    let error = provider(&stand_in).observe().await.expect_err("no API");
    assert!(matches!(error, ProviderError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("HTML"), "{error}");
}

#[tokio::test]
async fn half_of_our_tags_are_an_error_and_never_a_shorter_list() {
    let stand_in = stand_in().await;
    stand_in.world(|world| world.plant_droplet("us-app-1", &["ha:ws:shop", "ha:name:us-app-1"]));
    let error = provider(&stand_in).observe().await.expect_err("whose is it?");
    assert!(
        error.to_string().contains("carries ha:ws:shop and no ha:region"),
        "{error}"
    );
}

#[tokio::test]
async fn two_that_carry_the_same_tags_are_not_chosen_from() {
    let stand_in = stand_in().await;
    let tags = ["ha:ws:shop", "ha:region:us-east", "ha:name:us-app-1"];
    stand_in.world(|world| {
        world.plant_droplet("one", &tags);
        world.plant_droplet("two", &tags);
    });
    let error = provider(&stand_in).remove(&id(Kind::Server, "us-app-1")).await;
    let error = error.expect_err("which one?");
    assert!(matches!(error, ProviderError::Refused { .. }), "{error}");
    assert_eq!(stand_in.world(|world| world.droplets.len()), 2);
}

#[tokio::test]
async fn user_data_beyond_the_limit_and_values_that_no_tag_takes_are_found_before_asking() {
    let stand_in = stand_in().await;
    let provider = DigitalOceanProvider::new(Options {
        user_data: Arc::new(|_| Ok("x".repeat(70_000))),
        ..options(&stand_in)
    })
    .expect("the stand-in's address");
    make(&provider, &[network()]).await;
    let error = provider.ensure(&app()).await.expect_err("too long");
    assert!(error.to_string().contains("70000 bytes"), "{error}");
    let error = provider
        .ensure(&server("us app", 1, &["app"]))
        .await
        .expect_err("a space");
    assert!(error.to_string().contains("the tag ha:"), "{error}");
    assert_eq!(creates(&stand_in), 0);
}

#[tokio::test]
async fn neither_token_nor_user_data_is_shown() {
    let stand_in = stand_in().await;
    let options = options(&stand_in);
    let shown = format!("{options:?}");
    assert!(
        !shown.contains(&stand_in.token()) && !shown.contains(USER_DATA),
        "{shown}"
    );
    let fail = json!({ "id": "bad_request", "message": format!("bad token {}", stand_in.token()) });
    stand_in
        .faults()
        .inject(When::new("GET", "/account"), Fault::answer(400, fail));
    let error = provider(&stand_in).account().await.expect_err("refused");
    assert!(!format!("{error} {error:?}").contains(&stand_in.token()), "{error}");
}
