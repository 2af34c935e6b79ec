//! What DigitalOcean does not have is told at its field, with what it has instead, and nothing is made.

use ha_cloud::offers::Offers as _;
use ha_core::{
    finding::{Finding, Severity},
    resource::{Kind, Resource},
};
use ha_stand_ins::digitalocean::StandIn;
use serde_json::{Value, json};

use crate::world::{network, provider, resource};

fn server(name: &str) -> Resource {
    let spec = json!({
        "group": "us-app", "index": 1, "image": "ubuntu-24-04-x64", "size": "s-2vcpu-4gb",
        "location": "nyc3", "roles": ["app"], "command": null,
    });
    let mut want = resource(Kind::Server, name, spec, &[]);
    want.path = "region_us_east.app_servers".into();
    want
}

async fn errors(stand_in: &StandIn, wanted: &[&Resource]) -> Vec<Finding> {
    let found = provider(stand_in).objections(wanted).await.expect("it says");
    found.into_iter().filter(|it| it.severity == Severity::Error).collect()
}

#[tokio::test]
async fn what_there_is_meets_no_objection() {
    let stand_in = StandIn::start().await;
    assert_eq!(errors(&stand_in, &[&network(), &server("us-app-1")]).await, []);
    assert!(stand_in.requests().iter().all(|it| it.method == "GET"));
}

#[tokio::test]
async fn each_field_that_names_what_is_not_there_is_told_with_the_near_name() {
    let stand_in = StandIn::start().await;
    let table = [
        ("size", "s-2vcpu-4gbb", "ha::offers::size", "size", "\"s-2vcpu-4gb\""),
        (
            "image",
            "ubuntu-24-04-x46",
            "ha::offers::image",
            "image",
            "\"ubuntu-24-04-x64\"",
        ),
        ("location", "nyc4", "ha::offers::location", "region", "\"nyc"),
        (
            "location",
            "sfo1",
            "ha::offers::capacity",
            "region",
            "nothing can be made in sfo1",
        ),
    ];
    for (field, value, code, path, words) in table {
        let mut want = server("us-app-1");
        want.spec[field] = Value::from(value);
        let found = errors(&stand_in, &[&want]).await;
        assert_eq!(found.len(), 1, "{found:#?}");
        let path = format!("region_us_east.app_servers.{path}");
        assert_eq!(
            (found[0].code.as_str(), found[0].path.as_deref()),
            (code, Some(path.as_str()))
        );
        let text = format!("{}; {}", found[0].message, found[0].help.as_deref().expect("what next"));
        assert!(text.contains(words), "{words} is not in {text}");
    }
}

#[tokio::test]
async fn no_room_in_a_region_is_said_before_anything_is_made() {
    let stand_in = StandIn::start().await;
    stand_in.knobs(|knobs| knobs.capacity.extend([("nyc3".into(), 0)]));
    let found = errors(&stand_in, &[&server("us-app-1")]).await;
    assert_eq!(found[0].code, "ha::offers::capacity", "{found:#?}");
    assert!(
        found[0].help.as_deref().is_some_and(|it| it.contains("nyc1")),
        "{found:#?}"
    );
}

#[tokio::test]
async fn more_droplets_than_the_account_may_have_are_told_with_all_three_numbers() {
    let stand_in = StandIn::start().await;
    let all: Vec<Resource> = (1..=200).map(|index| server(&format!("us-app-{index}"))).collect();
    let all: Vec<&Resource> = all.iter().collect();
    let found = errors(&stand_in, &all).await;
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0].code, "ha::offers::quota");
    assert!(
        found[0].message.contains("has 0, and the plan makes 200 more"),
        "{found:#?}"
    );
}
