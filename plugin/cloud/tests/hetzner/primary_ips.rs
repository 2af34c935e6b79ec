//! Primary IPs: what stays of a server that is lost, and that nothing is left of one that is removed.

use ha_cloud::Provider;
use ha_core::{
    desired::FIXED_ADDRESS,
    resource::{Resource, spec_hash},
};
use ha_stand_ins::{
    Fault, When,
    hetzner::{PrimaryIp, StandIn},
};

use crate::world::{network, provider, server};

fn app() -> Resource {
    server("eu-app", 1, &["app"])
}

fn fixed() -> Resource {
    let mut want = app();
    want.spec[FIXED_ADDRESS] = true.into();
    want
}

/// Those of IPv4.
fn all(stand_in: &StandIn) -> Vec<PrimaryIp> {
    let all = stand_in.world(|world| world.primary_ips.values().cloned().collect::<Vec<_>>());
    all.into_iter().filter(|it| it.kind == "ipv4").collect()
}

fn only(stand_in: &StandIn) -> PrimaryIp {
    let all = all(stand_in);
    assert_eq!(all.len(), 1, "{all:?}");
    all[0].clone()
}

#[tokio::test]
async fn the_address_of_a_server_becomes_fixed_while_it_runs() {
    let stand_in = StandIn::start().await;
    let provider = provider(&stand_in);
    for want in [network(), app()] {
        provider.ensure(&want).await.expect("the stand-in is willing");
    }
    let before = only(&stand_in);
    assert!(before.auto_delete);
    stand_in.forget_requests();
    let live = provider.ensure(&fixed()).await.expect("it is fixed");
    assert_eq!((live.spec, live.labels.spec), (fixed().spec, fixed().spec_hash()));
    let now = only(&stand_in);
    assert_eq!((now.ip, now.auto_delete), (before.ip, false));
    let acted = stand_in.requests().into_iter().filter(|it| it.method == "POST");
    assert_eq!(acted.count(), 0, "nothing is switched off for it");
    provider.ensure(&app()).await.expect("it goes with its server again");
    let now = only(&stand_in);
    assert!(now.auto_delete && now.labels.is_empty(), "{now:?}");
}

#[tokio::test]
async fn a_server_made_anew_has_the_address_of_the_one_that_was_lost() {
    let stand_in = StandIn::start().await;
    let provider = provider(&stand_in);
    for want in [network(), fixed()] {
        provider.ensure(&want).await.expect("the stand-in is willing");
    }
    let before = only(&stand_in);
    stand_in.world(|world| {
        world.servers.clear();
        world.primary_ips.retain(|_, it| !it.auto_delete);
        world.primary_ips.values_mut().for_each(|it| it.assignee = None);
    });
    let live = provider.ensure(&fixed()).await.expect("another one");
    assert_eq!(live.address, Some(before.ip));
    assert_eq!(only(&stand_in).id, before.id);
}

#[tokio::test]
async fn one_that_would_go_with_its_server_is_drift() {
    let stand_in = StandIn::start().await;
    let provider = provider(&stand_in);
    for want in [network(), fixed()] {
        provider.ensure(&want).await.expect("the stand-in is willing");
    }
    stand_in.world(|world| world.primary_ips.values_mut().for_each(|it| it.auto_delete = true));
    let seen = provider.observe().await.expect("a list");
    let live = seen.iter().find(|it| it.id == fixed().id).expect("it is there");
    assert_ne!(spec_hash(&live.spec), live.labels.spec);
    provider.ensure(&fixed()).await.expect("it is put right");
    assert!(!only(&stand_in).auto_delete);
}

#[tokio::test]
async fn nothing_is_left_whichever_answer_is_lost() {
    for nth in 1.. {
        let stand_in = StandIn::start().await;
        let provider = provider(&stand_in);
        for want in [network(), fixed()] {
            provider.ensure(&want).await.expect("the stand-in is willing");
        }
        stand_in.faults().inject(When::writes().nth(nth), Fault::LoseAnswer);
        for want in [fixed(), network()] {
            if provider.remove(&want.id).await.is_err() {
                provider.remove(&want.id).await.expect("the second time");
            }
        }
        assert!(all(&stand_in).is_empty(), "request {nth}: {:?}", all(&stand_in));
        if stand_in.faults().waiting() > 0 {
            assert!(nth > 3, "every request was lost once");
            return;
        }
    }
}

#[tokio::test]
async fn one_that_waits_for_a_server_nobody_wants_any_more_goes_with_the_network() {
    let stand_in = StandIn::start().await;
    let provider = provider(&stand_in);
    for want in [network(), fixed()] {
        provider.ensure(&want).await.expect("the stand-in is willing");
    }
    stand_in.world(|world| {
        world.servers.clear();
        world.primary_ips.retain(|_, it| !it.auto_delete);
        world.primary_ips.values_mut().for_each(|it| it.assignee = None);
    });
    provider.remove(&network().id).await.expect("it is removed");
    assert!(all(&stand_in).is_empty());
}
