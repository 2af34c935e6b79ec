use std::sync::Arc;

use ha_core::{
    names::{RegionName, WorkspaceName},
    resource::{Kind, Status},
};
use serde_json::json;

use super::*;
use crate::{
    contract::{self, Fixture},
    memory::{Act, Call, Fault, MemoryProvider},
};

const THREE: [(ProviderName, &str); 3] = [
    (ProviderName::Digitalocean, "us-east"),
    (ProviderName::Hetzner, "eu-central"),
    (ProviderName::Aws, "asia-southeast"),
];

fn resource(provider: ProviderName, region: &str, kind: Kind, name: &str, needs: &[&Resource]) -> Resource {
    Resource {
        id: ResourceId::new(&RegionName::new(region), kind, name),
        provider,
        spec: json!({ "size": "small" }),
        depends_on: needs.iter().map(|it| it.id.clone()).collect(),
        protect: false,
        path: format!("region.{name}"),
    }
}

struct World {
    clouds: Clouds,
    memories: BTreeMap<ProviderName, MemoryProvider>,
}

fn world() -> World {
    let memories: BTreeMap<_, _> = THREE
        .iter()
        .map(|(name, _)| (*name, MemoryProvider::new(WorkspaceName::new("shop"))))
        .collect();
    let providers = memories
        .iter()
        .map(|(name, memory)| (*name, Arc::new(memory.clone()) as Arc<dyn Provider>));
    World {
        clouds: Clouds::new(providers),
        memories,
    }
}

#[tokio::test]
async fn three_as_one_keep_the_contract() {
    contract::run(async || {
        let resources = THREE.iter().flat_map(|(provider, region)| {
            let network = resource(*provider, region, Kind::Network, &format!("{region}-net"), &[]);
            let server = resource(*provider, region, Kind::Server, &format!("{region}-app-1"), &[&network]);
            [network, server]
        });
        Fixture::new(
            Arc::new(world().clouds),
            WorkspaceName::new("shop"),
            resources.collect(),
        )
    })
    .await;
}

#[tokio::test]
async fn each_resource_goes_to_whom_it_was_declared_with_and_no_other_is_asked() {
    let World { clouds, memories } = world();
    for (provider, region) in THREE {
        let server = resource(provider, region, Kind::Server, "app-1", &[]);
        clouds.ensure(&server).await.expect("a server");
        clouds.power(&server.id, false).await.expect("off");
        assert_eq!(
            memories[&provider].acts(),
            [Act::Created(server.id.clone()), Act::Powered(server.id.clone(), false)]
        );
    }
    let all = clouds.observe().await.expect("a list");
    assert_eq!(all.len(), 3);
    assert!(all.iter().all(|it| it.status == Status::Off));
}

#[tokio::test]
async fn what_another_provider_holds_is_needed_all_the_same() {
    let World { clouds, memories } = world();
    let (us, eu) = (THREE[0], THREE[1]);
    let first = resource(us.0, us.1, Kind::Database, "us-pg-1", &[]);
    let copy = resource(eu.0, eu.1, Kind::Database, "eu-pg-1", &[&first]);
    let refused = clouds.ensure(&copy).await.expect_err("nothing to copy from");
    assert!(matches!(refused, ProviderError::Missing { .. }), "{refused}");
    assert_eq!(memories[&eu.0].acts(), []);
    clouds.ensure(&first).await.expect("the first");
    clouds.ensure(&copy).await.expect("its copy");
    // Seen by a look, too, and not only because it was made through here.
    let World { clouds: again, .. } = World {
        clouds: Clouds::new(
            memories
                .iter()
                .map(|(name, memory)| (*name, Arc::new(memory.clone()) as Arc<dyn Provider>)),
        ),
        memories: memories.clone(),
    };
    again.observe().await.expect("a list");
    again.ensure(&copy).await.expect("nothing to do");
}

#[tokio::test]
async fn one_that_does_not_answer_hides_no_other_and_makes_no_shorter_list() {
    let World { clouds, memories } = world();
    for (provider, region) in THREE {
        let server = resource(provider, region, Kind::Server, "app-1", &[]);
        clouds.ensure(&server).await.expect("a server");
    }
    let down = || Fault::Refuse(ProviderError::RateLimited { retry_after: None });
    memories[&ProviderName::Hetzner].inject(Call::Observe, None, down());
    let each = clouds.observe_each().await;
    let counts: Vec<_> = each
        .iter()
        .map(|(name, answer)| (*name, answer.as_ref().map(Vec::len).ok()))
        .collect();
    let expected = [
        (ProviderName::Digitalocean, Some(1)),
        (ProviderName::Hetzner, None),
        (ProviderName::Aws, Some(1)),
    ];
    assert_eq!(counts, expected);
    memories[&ProviderName::Hetzner].inject(Call::Observe, None, down());
    let refused = clouds.observe().await.expect_err("a list that is not whole");
    assert!(matches!(refused, ProviderError::RateLimited { .. }), "{refused}");
}

#[tokio::test]
async fn removal_of_what_was_never_seen_is_tried_everywhere() {
    let World { clouds, memories } = world();
    let server = resource(ProviderName::Aws, "asia-southeast", Kind::Server, "app-1", &[]);
    clouds.ensure(&server).await.expect("a server");
    let fresh = Clouds::new(
        memories
            .iter()
            .map(|(name, memory)| (*name, Arc::new(memory.clone()) as Arc<dyn Provider>)),
    );
    fresh.remove(&server.id).await.expect("gone");
    assert_eq!(clouds.observe().await.expect("a list"), []);
}

#[tokio::test]
async fn a_provider_without_a_credential_is_named() {
    let clouds = Clouds::new([]);
    let server = resource(ProviderName::Hetzner, "eu-central", Kind::Server, "app-1", &[]);
    let refused = clouds.ensure(&server).await.expect_err("no provider");
    assert_eq!(refused.to_string(), "no credential for hetzner was given");
    assert!(refused.help().is_some_and(|help| help.contains("[providers.hetzner]")));
}
