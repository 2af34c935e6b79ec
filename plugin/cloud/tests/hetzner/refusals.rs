//! What Hetzner refuses, and what it is called.

use std::{sync::Arc, time::Duration};

use ha_cloud::{
    Provider, ProviderError,
    hetzner::{HetznerProvider, Options},
};
use ha_core::resource::{Kind, Resource};
use ha_stand_ins::{
    Fault, Token, When,
    hetzner::{FailNext, StandIn},
};
use serde_json::json;

use crate::world::{PUBLIC_KEY, USER_DATA, balancer, id, network, options, provider, server};

/// The answer to wanting one server, in a world that was prepared.
async fn refused(prepare: impl FnOnce(&StandIn)) -> (ProviderError, StandIn) {
    refused_server(&server("eu-app", 1, &["app"]), prepare).await
}

async fn refused_server(want: &Resource, prepare: impl FnOnce(&StandIn)) -> (ProviderError, StandIn) {
    let stand_in = StandIn::start().await;
    let provider = provider(&stand_in);
    provider.ensure(&network()).await.expect("a network");
    prepare(&stand_in);
    let error = provider.ensure(want).await.expect_err("it is refused");
    (error, stand_in)
}

fn creates(stand_in: &StandIn) -> usize {
    let all = stand_in.requests();
    all.iter()
        .filter(|it| it.method == "POST" && it.path == "/v1/servers")
        .count()
}

#[tokio::test]
async fn a_quota_is_one_and_is_not_asked_for_again() {
    let (error, stand_in) = refused(|it| it.knobs(|knobs| knobs.quotas.extend([("servers".into(), 0)]))).await;
    assert!(matches!(error, ProviderError::Quota { .. }), "{error}");
    assert_eq!(creates(&stand_in), 1);
}

#[tokio::test]
async fn no_capacity_is_said_with_the_way_out() {
    let (error, stand_in) = refused(|it| it.knobs(|knobs| knobs.capacity.extend([("nbg1".into(), 0)]))).await;
    assert!(matches!(error, ProviderError::NoCapacity { .. }), "{error}");
    assert!(
        error
            .help()
            .is_some_and(|help| help.contains("another size or location"))
    );
    assert_eq!(creates(&stand_in), 1);
}

#[tokio::test]
async fn an_action_that_fails_is_the_error() {
    for (code, wanted) in [
        ("placement_error", "ha::provider::no_capacity"),
        ("action_failed", "ha::provider::not_ready"),
    ] {
        let fail = FailNext {
            command: "create_server".into(),
            code: code.into(),
            message: "no room on any host".into(),
        };
        let (error, _) = refused(|it| it.knobs(|knobs| knobs.fail_next.push(fail))).await;
        assert_eq!(error.code(), wanted);
        assert!(error.to_string().contains("no room on any host"), "{error}");
    }
}

#[tokio::test]
async fn an_action_that_vanishes_is_an_error_and_the_next_call_finds_what_it_did() {
    let (error, stand_in) = refused(|it| it.knobs(|knobs| knobs.actions_vanish = true)).await;
    assert!(matches!(error, ProviderError::NotReady { .. }), "{error}");
    assert!(error.to_string().contains("no longer knows"), "{error}");
    stand_in.knobs(|knobs| knobs.actions_vanish = false);
    provider(&stand_in)
        .ensure(&server("eu-app", 1, &["app"]))
        .await
        .expect("it was made all the same");
    assert_eq!(creates(&stand_in), 1);
}

#[tokio::test]
async fn what_is_locked_is_waited_for() {
    let stand_in = StandIn::start().await;
    let provider = provider(&stand_in);
    provider.ensure(&network()).await.expect("a network");
    for (status, code) in [(423, "locked"), (409, "conflict")] {
        let body = json!({ "error": { "code": code, "message": "busy" } });
        stand_in
            .faults()
            .inject(When::exactly("POST", "/servers").times(2), Fault::answer(status, body));
    }
    provider
        .ensure(&server("eu-app", 1, &["app"]))
        .await
        .expect("in the end");
    assert_eq!(
        (creates(&stand_in), stand_in.faults().waiting()),
        (3, 0),
        "both were counted by each request"
    );
}

#[tokio::test]
async fn a_token_that_may_not_is_told_apart() {
    let (error, _) = refused(|it| it.knobs(|knobs| knobs.token = Token::ReadOnly)).await;
    assert!(
        matches!(error, ProviderError::Denied { .. }) && error.to_string().contains("read-only"),
        "{error}"
    );

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
async fn protection_set_at_hetzner_is_respected() {
    let stand_in = StandIn::start().await;
    let provider = provider(&stand_in);
    provider.ensure(&network()).await.expect("a network");
    stand_in.world(|world| world.networks.values_mut().for_each(|it| it.protected = true));
    let error = provider.remove(&network().id).await.expect_err("it is protected");
    assert!(matches!(error, ProviderError::Protected { .. }), "{error}");
    assert_eq!(stand_in.world(|world| world.networks.len()), 1);
}

#[tokio::test]
async fn a_key_that_nobody_has_is_missing_and_nothing_is_made() {
    let stand_in = StandIn::start().await;
    let provider = HetznerProvider::new(Options {
        ssh_public_key: None,
        ..options(&stand_in)
    })
    .expect("the stand-in's address");
    provider.ensure(&network()).await.expect("a network");
    let want = server("eu-app", 1, &["app"]);
    let error = provider.ensure(&want).await.expect_err("there is no key");
    assert!(
        matches!(&error, ProviderError::Missing { needs, .. } if needs.contains("provisioning-key")),
        "{error}"
    );
    assert_eq!(creates(&stand_in), 0);
    stand_in.world(|world| world.plant_ssh_key("provisioning-key"));
    provider.ensure(&want).await.expect("now there is one");
}

#[tokio::test]
async fn a_key_under_another_name_is_named() {
    let (error, _) = refused(|it| {
        it.world(|world| {
            let number = world.plant_ssh_key("my-laptop");
            let key = world.ssh_keys.get_mut(&number).expect("it was planted");
            key.public_key = PUBLIC_KEY.into();
            key.fingerprint = ha_stand_ins::fingerprint(PUBLIC_KEY).expect("a key");
        });
    })
    .await;
    assert!(
        matches!(&error, ProviderError::Taken { by, .. } if by.contains("my-laptop")),
        "{error}"
    );
}

#[tokio::test]
async fn what_hetzner_does_not_have_is_refused_with_the_place_to_correct() {
    let stand_in = StandIn::start().await;
    let provider = provider(&stand_in);
    let mut elsewhere = network();
    elsewhere.spec["location"] = "nyc3".into();
    let error = provider
        .ensure(&elsewhere)
        .await
        .expect_err("that is another provider's");
    assert!(error.to_string().contains("no location nyc3"), "{error}");
    assert!(error.help().is_some_and(|help| help.contains("nbg1")));

    let mut odd = server("eu-app", 1, &["app"]);
    odd.spec["image"] = "ubuntu-3.11".into();
    let (error, _) = refused_server(&odd, |_| ()).await;
    assert!(matches!(error, ProviderError::Refused { .. }), "{error}");

    let app = server("eu-app", 1, &["app"]);
    let mut udp = balancer(&[&app]);
    udp.spec["rules"][0]["entry_protocol"] = "udp".into();
    stand_in.forget_requests();
    let error = provider.ensure(&udp).await.expect_err("it does not balance that");
    assert!(matches!(error, ProviderError::Refused { .. }), "{error}");
    assert_eq!(stand_in.requests().len(), 0, "it is known without asking");
}

#[tokio::test]
async fn what_cannot_change_in_place_is_refused_and_left() {
    let stand_in = StandIn::start().await;
    let provider = provider(&stand_in);
    provider.ensure(&network()).await.expect("a network");
    provider.ensure(&server("eu-app", 1, &["app"])).await.expect("a server");
    let mut wider = network();
    wider.spec["ip_range"] = "10.0.0.0/8".into();
    let mut newer = server("eu-app", 1, &["app"]);
    newer.spec["image"] = "debian-12".into();
    let before = stand_in.world(|world| format!("{:?} {:?}", world.networks, world.servers));
    for want in [wider, newer] {
        let error = provider.ensure(&want).await.expect_err("not in place");
        assert!(matches!(error, ProviderError::Refused { .. }), "{error}");
    }
    assert_eq!(
        before,
        stand_in.world(|world| format!("{:?} {:?}", world.networks, world.servers))
    );
}

#[tokio::test]
async fn a_proxy_in_between_is_named() {
    let stand_in = StandIn::start().await;
    stand_in.faults().inject(When::any().times(5), Fault::Html);
    let error = provider(&stand_in).observe().await.expect_err("no API");
    assert!(matches!(error, ProviderError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("HTML"), "{error}");
}

#[tokio::test]
async fn half_of_our_labels_are_an_error_and_never_a_shorter_list() {
    let stand_in = StandIn::start().await;
    stand_in.world(|world| world.plant_server("eu-app-1", &[("ha/ws", "shop"), ("ha/name", "eu-app-1")]));
    let error = provider(&stand_in).observe().await.expect_err("whose is it?");
    assert!(error.to_string().contains("carries ha/ws and no ha/region"), "{error}");
}

#[tokio::test]
async fn two_that_carry_the_same_labels_are_not_chosen_from() {
    let stand_in = StandIn::start().await;
    let provider = provider(&stand_in);
    let labels = [("ha/ws", "shop"), ("ha/region", "eu-central"), ("ha/name", "eu-app-1")];
    stand_in.world(|world| {
        world.plant_server("one", &labels);
        world.plant_server("two", &labels);
    });
    let server = id(Kind::Server, "eu-app-1");
    let error = provider.remove(&server).await.expect_err("which one?");
    assert!(matches!(error, ProviderError::Refused { .. }), "{error}");
    assert_eq!(stand_in.world(|world| world.servers.len()), 2);
}

#[tokio::test]
async fn a_wait_has_an_end_and_says_that_the_outcome_is_unknown() {
    let stand_in = StandIn::start().await;
    let provider = HetznerProvider::new(Options {
        deadline: Duration::from_millis(300),
        ..options(&stand_in)
    })
    .expect("the stand-in's address");
    provider.ensure(&network()).await.expect("a network");
    stand_in.knobs(|knobs| knobs.action_time = Duration::from_secs(3600));
    let error = provider
        .ensure(&server("eu-app", 1, &["app"]))
        .await
        .expect_err("an hour");
    assert!(matches!(error, ProviderError::OutcomeUnknown { .. }), "{error}");
}

#[tokio::test]
async fn user_data_beyond_the_limit_and_values_that_no_label_takes_are_found_before_asking() {
    let stand_in = StandIn::start().await;
    let provider = HetznerProvider::new(Options {
        user_data: Arc::new(|_| Ok("x".repeat(40_000))),
        ..options(&stand_in)
    })
    .expect("the stand-in's address");
    provider.ensure(&network()).await.expect("a network");
    let error = provider
        .ensure(&server("eu-app", 1, &["app"]))
        .await
        .expect_err("too long");
    assert!(error.to_string().contains("40000 bytes"), "{error}");
    let error = provider
        .ensure(&server("eu app", 1, &["app"]))
        .await
        .expect_err("a space");
    assert!(error.to_string().contains("label ha/"), "{error}");
    assert_eq!(creates(&stand_in), 0);
}

#[tokio::test]
async fn neither_token_nor_user_data_is_shown() {
    let stand_in = StandIn::start().await;
    let options = options(&stand_in);
    let shown = format!("{options:?}");
    assert!(
        !shown.contains(&stand_in.token()) && !shown.contains(USER_DATA),
        "{shown}"
    );
    let fail = json!({ "error": { "code": "invalid_input", "message": format!("bad token {}", stand_in.token()) } });
    stand_in
        .faults()
        .inject(When::new("GET", "/servers"), Fault::answer(400, fail));
    let error = provider(&stand_in).account().await.expect_err("refused");
    assert!(!format!("{error} {error:?}").contains(&stand_in.token()), "{error}");
}
