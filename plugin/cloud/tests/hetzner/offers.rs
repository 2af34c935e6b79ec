//! What Hetzner does not have is told at its field, with what it has instead, and nothing is made.

use ha_cloud::{Provider as _, offers::Offers as _};
use ha_core::{finding::Severity, resource::Resource};
use ha_stand_ins::hetzner::StandIn;
use serde_json::Value;

use crate::world::{balancer, network, provider, server};

/// Code, path, and message with help, of every error about one server with a field changed.
async fn objections(stand_in: &StandIn, field: &str, value: &str) -> Vec<(String, String, String)> {
    let mut want = server("eu-app", 1, &["app"]);
    want.spec[field] = Value::from(value);
    let found = provider(stand_in).objections(&[&want]).await.expect("it says");
    let errors = found.into_iter().filter(|it| it.severity == Severity::Error);
    errors
        .map(|it| {
            let text = format!("{}; {}", it.message, it.help.expect("what next"));
            (it.code, it.path.expect("a path"), text)
        })
        .collect()
}

#[tokio::test]
async fn what_there_is_meets_no_objection_and_limits_are_said_to_be_unknown() {
    let stand_in = StandIn::start().await;
    let server = server("eu-app", 1, &["app"]);
    let all = [network(), server.clone(), balancer(&[&server])];
    let all: Vec<&Resource> = all.iter().collect();
    let found = provider(&stand_in).objections(&all).await.expect("it says");
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(
        (found[0].severity, found[0].code.as_str()),
        (Severity::Note, "ha::offers::quota")
    );
    assert!(stand_in.requests().iter().all(|it| it.method == "GET"));
}

#[tokio::test]
async fn each_field_that_names_what_is_not_there_is_told_with_the_near_name() {
    let stand_in = StandIn::start().await;
    let table = [
        ("size", "cpx22", "ha::offers::size", "server_type", "\"cpx21\""),
        ("image", "ubuntu-24.4", "ha::offers::image", "image", "\"ubuntu-24.04\""),
        ("location", "nbg2", "ha::offers::location", "location", "\"nbg1\""),
    ];
    for (field, value, code, path, near) in table {
        let found = objections(&stand_in, field, value).await;
        assert_eq!(found.len(), 1, "{found:?}");
        let (told, at, text) = &found[0];
        assert_eq!(
            (told.as_str(), at.as_str()),
            (code, format!("region_eu_central.eu_app_1.{path}").as_str())
        );
        assert!(text.contains(near), "{near} is not in {text}");
    }
}

#[tokio::test]
async fn a_type_that_is_not_sold_there_is_no_lack_of_room() {
    let stand_in = StandIn::start().await;
    // Singapore has none of Ampere's processors.
    let mut want = server("eu-app", 1, &["app"]);
    want.spec["size"] = Value::from("cax11");
    want.spec["location"] = Value::from("sin");
    let found = provider(&stand_in).objections(&[&want]).await.expect("it says");
    let codes: Vec<&str> = found.iter().map(|it| it.code.as_str()).collect();
    assert!(codes.contains(&"ha::offers::size"), "{found:#?}");
}

#[tokio::test]
async fn no_room_is_said_before_anything_is_made() {
    let stand_in = StandIn::start().await;
    stand_in.knobs(|knobs| knobs.capacity.extend([("nbg1".into(), 0)]));
    let found = objections(&stand_in, "size", "cpx21").await;
    assert_eq!(found[0].0, "ha::offers::capacity", "{found:?}");
    assert!(found[0].2.contains("fsn1"), "{found:?}");
}

/// The least that a plan is counted with is no more than what it takes.
#[tokio::test]
async fn what_is_made_takes_no_fewer_requests_than_it_is_counted_with() {
    let stand_in = StandIn::start().await;
    let provider = provider(&stand_in);
    for want in [network(), server("eu-app", 1, &["app"])] {
        stand_in.forget_requests();
        provider.ensure(&want).await.expect("it is made");
        assert!(stand_in.requests().len() >= 3, "{}", want.id);
    }
}
