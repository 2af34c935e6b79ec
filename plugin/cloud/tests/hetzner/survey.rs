//! A project as a whole, and labels for what somebody else made.

use ha_cloud::{Provider, ProviderError, hetzner::HetznerProvider, survey::Survey};
use ha_core::{
    existing::{Found, FoundKind, Idle, Verdict, adoptions},
    plan::{Action, plan},
    resource::{Kind, Live, Resource, spec_hash},
};
use ha_stand_ins::{
    Fault, When,
    hetzner::{Applied, StandIn, Target, TargetOf, World},
};

use crate::world::{options, provider, region, server, workspace};

/// As somebody makes it who knows nothing of labels: balancers and firewalls name servers one by one.
fn by_hand(world: &mut World) {
    let numbers = |world: &World, group: &str| -> Vec<u64> {
        let servers = world.servers.values().filter(|it| it.name.starts_with(group));
        servers.map(|it| it.id).collect()
    };
    let apps = numbers(world, "eu-app-");
    for it in world.load_balancers.values_mut() {
        it.labels.clear();
        let target = |number: &u64| Target {
            of: TargetOf::Server(*number),
            use_private_ip: true,
        };
        // In an order that nobody chose.
        it.targets = apps.iter().rev().map(target).collect();
    }
    for it in world.firewalls.values_mut() {
        it.labels.clear();
        it.labels.insert("team".into(), "platform".into());
        it.applied = apps.iter().map(|number| Applied::Server(*number)).collect();
    }
    world.servers.values_mut().for_each(|it| it.labels.clear());
    world.networks.values_mut().for_each(|it| it.labels.clear());
    world.volumes.values_mut().for_each(|it| it.labels.clear());
}

async fn foreign() -> (StandIn, HetznerProvider) {
    let stand_in = StandIn::start().await;
    let provider = provider(&stand_in);
    for want in region() {
        provider.ensure(&want).await.expect("the stand-in is willing");
    }
    stand_in.world(by_hand);
    (stand_in, provider)
}

async fn everything(provider: &HetznerProvider) -> Vec<Found> {
    provider.everything().await.expect("a list")
}

fn named<'a>(found: &'a [Found], name: &str) -> &'a Found {
    let it = found.iter().find(|it| it.name == name);
    it.unwrap_or_else(|| panic!("no {name}"))
}

/// Gives everything that is declared and there its labels.
async fn adopt_all(provider: &HetznerProvider) -> Vec<Live> {
    let desired = region();
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

async fn changes(provider: &HetznerProvider) -> Vec<(String, Action, String)> {
    let live = provider.observe().await.expect("a list");
    let steps = plan(&region(), &live).into_iter();
    let changes = steps.filter(|step| step.action != Action::None);
    changes
        .map(|step| (step.id.name.clone(), step.action, step.reason.clone()))
        .collect()
}

#[tokio::test]
async fn what_people_made_is_read_as_a_workspace_would_say_it() {
    let (stand_in, provider) = foreign().await;
    let spare = stand_in.world(|world| {
        let (number, _) = world
            .servers
            .iter()
            .find(|(_, it)| it.name == "eu-app-2")
            .expect("it is there");
        let number = *number;
        world
            .primary_ips
            .values_mut()
            .find(|it| it.assignee == Some(number))
            .map(|it| {
                it.assignee = None;
                it.ip.clone()
            })
    });
    let found = everything(&provider).await;
    assert!(found.iter().all(|it| it.owner.is_none()), "nobody owns any of it");
    assert_eq!(
        named(&found, "eu-lb").spec["targets"],
        serde_json::json!(["eu-app-1", "eu-app-2"])
    );
    assert_eq!(
        named(&found, "eu-fw").spec["targets"],
        serde_json::json!(["eu-app-1", "eu-app-2"])
    );
    assert_eq!(
        named(&found, "eu-fw").labels.get("team").map(String::as_str),
        Some("platform")
    );
    assert_eq!(named(&found, "eu-data").spec["attach_to"], "eu-db-1");
    assert_eq!(named(&found, "eu-net").location.as_deref(), Some("nbg1"));
    let app = named(&found, "eu-app-1");
    for field in ["size", "image", "location"] {
        assert_eq!(app.spec[field], server("eu-app", 1, &["app"]).spec[field], "{field}");
    }
    let addresses: Vec<&Found> = found.iter().filter(|it| it.kind == FoundKind::Address).collect();
    let told: Vec<_> = addresses.iter().map(|it| (it.address.clone(), it.idle)).collect();
    assert_eq!(told, [(spare, Some(Idle::Unattached))]);
}

#[tokio::test]
async fn after_an_adoption_a_plan_has_only_what_is_really_otherwise() {
    let (stand_in, provider) = foreign().await;
    stand_in.forget_requests();
    for live in adopt_all(&provider).await {
        assert_eq!(spec_hash(&live.spec), live.labels.spec, "{} is no drift", live.id);
    }
    let writes: Vec<_> = stand_in
        .requests()
        .into_iter()
        .filter(|it| it.method != "GET")
        .collect();
    assert!(
        writes.iter().all(|it| it.method == "PUT"),
        "nothing but labels is written: {writes:?}"
    );
    let changes = changes(&provider).await;
    let of: Vec<(&str, Action)> = changes.iter().map(|it| (it.0.as_str(), it.1)).collect();
    // The firewall stands before servers instead of their group; what runs on a server is nobody's to see.
    assert_eq!(
        of,
        [
            ("eu-fw", Action::Update),
            ("eu-store", Action::Create),
            ("eu-pg-1", Action::Create)
        ],
        "{changes:?}"
    );
    assert!(!changes[0].2.contains("by hand"), "{changes:?}");
    // And the update ends.
    for want in region() {
        provider.ensure(&want).await.expect("the stand-in is willing");
    }
    assert_eq!(self::changes(&provider).await, []);
}

#[tokio::test]
async fn an_adoption_whose_answer_was_lost_is_the_same_the_second_time() {
    let (stand_in, provider) = foreign().await;
    let found = everything(&provider).await;
    let want = server("eu-app", 1, &["app"]);
    stand_in.faults().inject(When::writes(), Fault::LoseAnswer);
    let first = provider.adopt(named(&found, "eu-app-1"), &want).await;
    assert!(matches!(first, Err(ProviderError::OutcomeUnknown { .. })), "{first:?}");
    stand_in.forget_requests();
    let live = provider
        .adopt(named(&found, "eu-app-1"), &want)
        .await
        .expect("it is ours");
    assert_eq!((&live.id, &live.spec), (&want.id, &want.spec));
    assert!(stand_in.requests().iter().all(|it| it.method == "GET"));
}

#[tokio::test]
async fn what_belongs_to_somebody_is_not_taken() {
    let (stand_in, provider) = foreign().await;
    let found = everything(&provider).await;
    let want = server("eu-app", 1, &["app"]);
    let label = |labels: &[(&str, &str)]| {
        stand_in.world(|world| {
            let it = world
                .servers
                .values_mut()
                .find(|it| it.name == "eu-app-1")
                .expect("it is there");
            it.labels = labels
                .iter()
                .map(|(key, value)| ((*key).into(), (*value).into()))
                .collect();
        });
        stand_in.forget_requests();
    };
    for labels in [
        [("ha/ws", "other"), ("ha/region", "eu-central"), ("ha/name", "eu-app-1")],
        [("ha/ws", "shop"), ("ha/region", "eu-central"), ("ha/name", "eu-app-7")],
    ] {
        label(&labels);
        let refused = provider.adopt(named(&found, "eu-app-1"), &want).await;
        assert!(
            matches!(refused, Err(ProviderError::Taken { .. })),
            "{labels:?}: {refused:?}"
        );
        assert!(stand_in.requests().iter().all(|it| it.method == "GET"));
    }
    // Two would carry the same.
    label(&[]);
    provider
        .adopt(named(&found, "eu-app-1"), &want)
        .await
        .expect("it is free");
    let refused = provider.adopt(named(&found, "eu-app-2"), &want).await;
    assert!(matches!(refused, Err(ProviderError::Taken { .. })), "{refused:?}");
    let store: Vec<Resource> = region().into_iter().filter(|it| it.id.kind == Kind::Store).collect();
    let refused = provider.adopt(named(&found, "eu-db-1"), &store[0]).await;
    assert!(matches!(refused, Err(ProviderError::Refused { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_list_that_cannot_be_read_is_no_shorter_truth() {
    let (stand_in, _) = foreign().await;
    let provider = HetznerProvider::new(options(&stand_in)).expect("the stand-in's address");
    stand_in.faults().inject(When::any().nth(3), Fault::status(403));
    assert!(provider.everything().await.is_err());
    assert_eq!(
        named(&everything(&provider).await, "eu-net").kind,
        FoundKind::Resource(Kind::Network)
    );
}
