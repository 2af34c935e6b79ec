//! Reserved IPs: whose they are, what becomes of them with their Droplet, and what of those of others.

use ha_cloud::{Provider, ProviderError};
use ha_core::{
    desired::FIXED_ADDRESS,
    resource::{Resource, spec_hash},
};
use ha_stand_ins::{
    Fault, When,
    digitalocean::{ReservedIp, StandIn},
};

use crate::{
    changes::{make, seen},
    world::{app, network, provider, stand_in},
};

/// The application server, with an address that stays.
fn fixed() -> Resource {
    let mut want = app();
    want.spec[FIXED_ADDRESS] = true.into();
    want
}

fn all(stand_in: &StandIn) -> Vec<ReservedIp> {
    stand_in.world(|world| world.reserved_ips.values().cloned().collect())
}

fn only(stand_in: &StandIn) -> ReservedIp {
    let all = all(stand_in);
    assert_eq!(all.len(), 1, "{all:?}");
    all[0].clone()
}

fn droplet(stand_in: &StandIn) -> Option<u64> {
    stand_in.world(|world| world.droplets.keys().next().copied())
}

#[tokio::test]
async fn a_server_has_its_own_and_leaves_nothing_behind() {
    let stand_in = stand_in().await;
    let provider = provider(&stand_in);
    make(&provider, &[network(), fixed()]).await;
    let ip = only(&stand_in);
    assert_eq!(ip.droplet, droplet(&stand_in));
    let live = seen(&provider, &fixed().id).await;
    assert_eq!(live.address, Some(ip.ip.to_string()), "what a client reaches");
    assert_eq!((live.spec, live.labels.spec), (fixed().spec, fixed().spec_hash()));
    provider.ensure(&fixed()).await.expect("it is as wanted");
    assert_eq!(only(&stand_in).ip, ip.ip);
    stand_in.forget_requests();
    provider.remove(&fixed().id).await.expect("it is removed");
    let about: Vec<String> = stand_in
        .requests()
        .into_iter()
        .filter(|it| it.method != "GET" && it.path.contains("/reserved_ips/") || it.path.contains("/droplets/"))
        .filter(|it| it.method != "GET")
        .map(|it| format!("{} {}", it.method, it.path.split('/').nth(2).unwrap_or_default()))
        .collect();
    assert_eq!(
        about,
        ["POST reserved_ips", "DELETE reserved_ips", "DELETE droplets"],
        "taken from it, given back, and then the Droplet goes"
    );
    assert!(all(&stand_in).is_empty());
    provider.remove(&network().id).await.expect("it is removed");
    let left: Vec<String> = stand_in.world(|world| world.tags.iter().cloned().collect());
    assert_eq!(left, [""; 0]);
}

#[tokio::test]
async fn it_comes_and_goes_without_a_new_server() {
    let stand_in = stand_in().await;
    let provider = provider(&stand_in);
    make(&provider, &[network(), app()]).await;
    let before = droplet(&stand_in);
    let live = provider.ensure(&fixed()).await.expect("it has one");
    assert_eq!(live.spec, fixed().spec);
    let live = provider.ensure(&app()).await.expect("it has none");
    assert_eq!((live.spec, live.labels.spec), (app().spec, app().spec_hash()));
    assert!(all(&stand_in).is_empty());
    assert_eq!(droplet(&stand_in), before);
}

#[tokio::test]
async fn every_lost_answer_leaves_one_and_in_the_end_none() {
    for nth in 1.. {
        let stand_in = stand_in().await;
        let provider = provider(&stand_in);
        make(&provider, &[network()]).await;
        stand_in.faults().inject(When::writes().nth(nth), Fault::LoseAnswer);
        let made = provider.ensure(&fixed()).await;
        let lost_on_the_way = stand_in.faults().waiting() == 0;
        assert!(made.is_ok() || lost_on_the_way);
        provider.ensure(&fixed()).await.expect("the second time");
        assert_eq!(only(&stand_in).droplet, droplet(&stand_in), "request {nth}");
        for want in [fixed(), network()] {
            if provider.remove(&want.id).await.is_err() {
                provider.remove(&want.id).await.expect("the second time");
            }
        }
        assert!(all(&stand_in).is_empty(), "request {nth}");
        let tags: Vec<String> = stand_in.world(|world| world.tags.iter().cloned().collect());
        assert_eq!(tags, [""; 0], "request {nth}");
        if stand_in.faults().waiting() > 0 {
            assert!(nth > 8, "every request was lost once");
            return;
        }
    }
}

#[tokio::test]
async fn a_server_made_anew_has_the_address_of_the_one_that_was_lost() {
    let stand_in = stand_in().await;
    let provider = provider(&stand_in);
    make(&provider, &[network(), fixed()]).await;
    let before = only(&stand_in).ip;
    stand_in.world(|world| {
        world.droplets.clear();
        world.reserved_ips.values_mut().for_each(|it| it.droplet = None);
    });
    let live = provider.ensure(&fixed()).await.expect("another one");
    assert_eq!(live.address, Some(before.to_string()));
    assert_eq!(only(&stand_in).ip, before);
}

#[tokio::test]
async fn one_that_waits_for_a_server_nobody_wants_any_more_goes_with_the_network() {
    let stand_in = stand_in().await;
    let provider = provider(&stand_in);
    make(&provider, &[network(), fixed()]).await;
    stand_in.world(|world| {
        world.droplets.clear();
        world.reserved_ips.values_mut().for_each(|it| it.droplet = None);
    });
    provider.remove(&network().id).await.expect("it is removed");
    assert!(all(&stand_in).is_empty());
}

#[tokio::test]
async fn one_that_somebody_took_away_is_seen_and_put_back() {
    let stand_in = stand_in().await;
    let provider = provider(&stand_in);
    make(&provider, &[network(), fixed()]).await;
    stand_in.world(|world| world.reserved_ips.values_mut().for_each(|it| it.droplet = None));
    let live = seen(&provider, &fixed().id).await;
    assert_ne!(spec_hash(&live.spec), live.labels.spec);
    assert_ne!(live.address, Some(only(&stand_in).ip.to_string()));
    let live = provider.ensure(&fixed()).await.expect("it is put back");
    assert_eq!(live.address, Some(only(&stand_in).ip.to_string()));
}

#[tokio::test]
async fn one_of_somebody_else_is_neither_taken_nor_given_back() {
    let stand_in = stand_in().await;
    let provider = provider(&stand_in);
    make(&provider, &[network(), app()]).await;
    let theirs = "198.19.200.1".parse().expect("an address");
    stand_in.world(|world| {
        let it = ReservedIp {
            ip: theirs,
            region: "nyc3".into(),
            droplet: world.droplets.keys().next().copied(),
        };
        world.reserved_ips.insert(theirs, it);
    });
    let error = provider.ensure(&fixed()).await.expect_err("the place is taken");
    assert!(matches!(error, ProviderError::Taken { .. }), "{error}");
    provider.ensure(&app()).await.expect("without one of ours all is well");
    provider.remove(&app().id).await.expect("it is removed");
    assert_eq!(only(&stand_in).ip, theirs);
}
