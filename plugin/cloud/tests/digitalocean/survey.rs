//! An account as a whole, and labels for what somebody else made.

use ha_cloud::{Provider, ProviderError, digitalocean::DigitalOceanProvider, survey::Survey};
use ha_core::{
    existing::{Found, FoundKind, Idle, Verdict, adoptions},
    plan::{Action, plan},
    resource::{Kind, Live, Resource, spec_hash},
};
use ha_stand_ins::{
    Fault, When,
    digitalocean::{ReservedIp, StandIn, World},
};
use serde_json::json;

use crate::world::{provider, region, resource, server, stand_in, workspace};

/// One of every kind, with a managed database besides.
fn all() -> Vec<Resource> {
    let network = region().remove(0);
    let managed = json!({
        "kind": "digitalocean.Database", "name": "us-managed", "region": "nyc3", "engine": "pg", "version": "16",
        "size": "db-s-1vcpu-1gb", "num_nodes": 1, "trusted_sources": ["10.0.0.0/16"], "labels": {}, "protect": true,
    });
    let mut all = region();
    all.push(resource(Kind::Database, "us-managed", managed, &[&network]));
    all
}

/// As somebody makes it who knows nothing of labels: balancers and firewalls name Droplets one by one.
fn by_hand(world: &mut World) {
    let apps = world.droplets.values().filter(|it| it.name.starts_with("us-app-"));
    let apps: Vec<u64> = apps.map(|it| it.id).collect();
    for it in world.load_balancers.values_mut() {
        it.tag.clear();
        it.droplets.clone_from(&apps);
    }
    for it in world.firewalls.values_mut() {
        it.tags.clear();
        it.droplets.clone_from(&apps);
        // No rule of a person refers to a tag of ours.
        for rule in &mut it.inbound {
            rule["sources"] = json!({ "addresses": ["10.0.0.0/8"] });
        }
    }
    world
        .droplets
        .values_mut()
        .for_each(|it| it.tags = vec!["web".into(), "team:platform".into()]);
    world.volumes.values_mut().for_each(|it| it.tags.clear());
    world.databases.values_mut().for_each(|it| it.tags.clear());
    for it in world.vpcs.values_mut() {
        it.description = "made by Ann".into();
    }
    world.tags = ["web".to_owned(), "team:platform".to_owned()].into();
}

async fn foreign() -> (StandIn, DigitalOceanProvider) {
    let stand_in = stand_in().await;
    let provider = provider(&stand_in);
    for want in all() {
        provider
            .ensure(&want)
            .await
            .unwrap_or_else(|error| panic!("{}: {error}", want.id));
    }
    stand_in.world(by_hand);
    (stand_in, provider)
}

async fn everything(provider: &DigitalOceanProvider) -> Vec<Found> {
    provider.everything().await.expect("a list")
}

fn named<'a>(found: &'a [Found], name: &str) -> &'a Found {
    let it = found.iter().find(|it| it.name == name);
    it.unwrap_or_else(|| panic!("no {name}"))
}

/// Gives everything that is declared and there its labels.
async fn adopt_all(provider: &DigitalOceanProvider) -> Vec<Live> {
    let desired = all();
    let found = everything(provider).await;
    let mut all = Vec::new();
    for adoption in adoptions(&desired, &found, &workspace(), &[]) {
        let Verdict::Adopt(found) = adoption.verdict else {
            panic!("{}: {:?}", adoption.want.id, adoption.verdict);
        };
        let live = provider.adopt(found, adoption.want).await;
        all.push(live.unwrap_or_else(|error| panic!("{}: {error}", adoption.want.id)));
    }
    all
}

async fn changes(provider: &DigitalOceanProvider) -> Vec<(String, Action, String)> {
    let live = provider.observe().await.expect("a list");
    let steps = plan(&all(), &live).into_iter();
    let changes = steps.filter(|step| step.action != Action::None);
    changes
        .map(|step| (step.id.name.clone(), step.action, step.reason.clone()))
        .collect()
}

#[tokio::test]
async fn what_people_made_is_read_as_a_workspace_would_say_it() {
    let (stand_in, provider) = foreign().await;
    stand_in.world(|world| {
        let ip = [203, 0, 113, 7].into();
        world.reserved_ips.insert(
            ip,
            ReservedIp {
                ip,
                region: "nyc3".into(),
                droplet: None,
            },
        );
    });
    let found = everything(&provider).await;
    assert!(found.iter().all(|it| it.owner.is_none()), "nobody owns any of it");
    for name in ["us-lb", "us-fw"] {
        let mut told: Vec<String> = serde_json::from_value(named(&found, name).spec["targets"].clone()).expect("names");
        told.sort();
        assert_eq!(told, ["us-app-1", "us-app-2"], "{name}");
    }
    assert_eq!(named(&found, "us-data").spec["attach_to"], "us-db-1");
    assert_eq!(named(&found, "us-managed").spec["num_nodes"], 1);
    let app = named(&found, "us-app-1");
    assert_eq!(app.labels.get("team").map(String::as_str), Some("platform"));
    for field in ["size", "image", "location"] {
        assert_eq!(app.spec[field], server("us-app", 1, &["app"]).spec[field], "{field}");
    }
    // The account's own network is nobody's work as long as nothing is in it.
    let of_the_account: Vec<&str> = found
        .iter()
        .filter(|it| it.of_the_account)
        .map(|it| it.name.as_str())
        .collect();
    assert_eq!(of_the_account, ["default-nyc3"]);
    let addresses: Vec<_> = found
        .iter()
        .filter(|it| it.kind == FoundKind::Address)
        .map(|it| (it.number.as_str(), it.idle))
        .collect();
    assert_eq!(addresses, [("203.0.113.7", Some(Idle::Unattached))]);
}

#[tokio::test]
async fn after_an_adoption_a_plan_has_only_what_is_really_otherwise() {
    let (stand_in, provider) = foreign().await;
    for live in adopt_all(&provider).await {
        assert_eq!(spec_hash(&live.spec), live.labels.spec, "{} is no drift", live.id);
    }
    let changes = changes(&provider).await;
    let of: Vec<(&str, Action)> = changes.iter().map(|it| (it.0.as_str(), it.1)).collect();
    // The firewall stands before Droplets instead of their group; what runs on a server is nobody's to see.
    assert_eq!(
        of,
        [
            ("us-fw", Action::Update),
            ("us-store", Action::Create),
            ("us-pg-1", Action::Create)
        ],
        "{changes:?}"
    );
    assert!(!changes[0].2.contains("by hand"), "{changes:?}");
    // What people wrote is still there.
    stand_in.world(|world| {
        let app = world
            .droplets
            .values()
            .find(|it| it.name == "us-app-1")
            .expect("it is there");
        assert!(app.tags.contains(&"web".to_owned()), "{:?}", app.tags);
        let network = world.vpcs.values().find(|it| it.name == "us-net").expect("it is there");
        assert!(
            network.description.starts_with("made by Ann ha:"),
            "{}",
            network.description
        );
    });
    // And the update ends.
    for want in all() {
        provider
            .ensure(&want)
            .await
            .unwrap_or_else(|error| panic!("{}: {error}", want.id));
    }
    assert_eq!(self::changes(&provider).await, []);
}

#[tokio::test]
async fn a_balancer_keeps_everything_but_how_it_finds_its_droplets() {
    let (stand_in, provider) = foreign().await;
    let picture = || {
        stand_in.world(|world| {
            let it = world.load_balancers.values().next().expect("one");
            (it.rules.clone(), it.settings.clone(), it.vpc.clone(), it.name.clone())
        })
    };
    let before = picture();
    adopt_all(&provider).await;
    assert_eq!(picture(), before);
}

/// A tag is a request each: whoever dies between two of them is finished by the next.
#[tokio::test]
async fn an_adoption_that_was_cut_short_anywhere_is_finished_by_the_next() {
    let mut nth = 1;
    loop {
        let (stand_in, provider) = foreign().await;
        let found = everything(&provider).await;
        let want = server("us-app", 1, &["app"]);
        stand_in.faults().inject(When::writes().nth(nth), Fault::LoseAnswer);
        let Err(first) = provider.adopt(named(&found, "us-app-1"), &want).await else {
            break;
        };
        assert!(matches!(first, ProviderError::OutcomeUnknown { .. }), "{first:?}");
        let again = everything(&provider).await;
        let live = provider
            .adopt(named(&again, "us-app-1"), &want)
            .await
            .expect("the second time");
        assert_eq!((&live.id, &live.spec), (&want.id, &want.spec), "answer {nth}");
        assert_eq!(live.labels.spec, want.spec_hash(), "answer {nth}");
        nth += 3;
    }
    assert!(nth > 6, "only {nth} requests were lost");
}

#[tokio::test]
async fn what_belongs_to_somebody_is_not_taken() {
    let (stand_in, provider) = foreign().await;
    let found = everything(&provider).await;
    let want = server("us-app", 1, &["app"]);
    for tags in [
        ["ha:ws:other", "ha:region:us-east", "ha:name:us-app-1"],
        ["ha:ws:shop", "ha:region:us-east", "ha:name:us-app-7"],
    ] {
        stand_in.world(|world| {
            let it = world
                .droplets
                .values_mut()
                .find(|it| it.name == "us-app-1")
                .expect("it is there");
            it.tags = tags.map(str::to_owned).to_vec();
        });
        stand_in.forget_requests();
        let refused = provider.adopt(named(&found, "us-app-1"), &want).await;
        assert!(
            matches!(refused, Err(ProviderError::Taken { .. })),
            "{tags:?}: {refused:?}"
        );
        assert!(stand_in.requests().iter().all(|it| it.method == "GET"));
    }
}
