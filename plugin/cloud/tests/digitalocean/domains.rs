//! Names at DigitalOcean's DNS: ours are kept as wanted, those of others are left alone.

use ha_cloud::ProviderError;
use ha_core::dns::{Policy, Record, Target};
use ha_stand_ins::{Fault, When, digitalocean::StandIn};

use crate::world::{provider, stand_in};

const DOMAIN: &str = "example.com";
const NAME: &str = "us.example.com";

fn want(values: &[&str], ttl: u64) -> Record {
    Record {
        name: NAME.into(),
        kind: "A".into(),
        set: None,
        policy: Policy::Simple,
        ttl: Some(ttl),
        target: Target::Values(values.iter().map(|it| (*it).to_owned()).collect()),
        check: None,
    }
}

/// Name, kind, value and TTL of everything in the domain that does not make up the domain.
fn there(stand_in: &StandIn) -> Vec<String> {
    stand_in.world(|world| {
        let domain = world.domains.get(DOMAIN).expect("it was made");
        let all = domain.records.values().filter(|it| it.kind != "NS");
        let line = |it: &ha_stand_ins::digitalocean::Record| {
            let data = it.data.split(" spec=").next().unwrap_or_default();
            format!("{} {} {data} {}", it.name, it.kind, it.ttl)
        };
        let mut lines: Vec<String> = all.map(line).collect();
        lines.sort();
        lines
    })
}

const DOMAIN_LINE: &str = "_ha TXT ha ws=shop type=ZONE 300";
const NAME_LINE: &str = "_ha.us TXT ha ws=shop type=A 300";

#[tokio::test]
async fn a_record_is_made_changed_and_removed() {
    let stand_in = stand_in().await;
    let provider = provider(&stand_in);
    assert!(provider.ensure_domain(DOMAIN).await.expect("a domain"));
    assert!(!provider.ensure_domain(DOMAIN).await.expect("it is there"));
    let one = want(&["192.0.2.1"], 60);
    provider.ensure_record(DOMAIN, &one).await.expect("a record");
    assert_eq!(there(&stand_in), [DOMAIN_LINE, NAME_LINE, "us A 192.0.2.1 60"]);
    let records = provider.records(DOMAIN).await.expect("a list").expect("a domain");
    assert!(records.contains(&one), "{records:?}");
    stand_in.forget_requests();
    provider.ensure_record(DOMAIN, &one).await.expect("nothing to do");
    assert!(stand_in.requests().iter().all(|it| it.method == "GET"));
    stand_in.forget_requests();
    let two = want(&["192.0.2.2", "192.0.2.3"], 30);
    provider.ensure_record(DOMAIN, &two).await.expect("others");
    let methods: Vec<String> = stand_in.requests().into_iter().map(|it| it.method).collect();
    assert_eq!(methods, ["GET", "PUT", "PUT", "POST"], "the name never has no answer");
    assert_eq!(
        there(&stand_in),
        [DOMAIN_LINE, NAME_LINE, "us A 192.0.2.2 30", "us A 192.0.2.3 30"]
    );
    assert!(provider.remove_record(DOMAIN, NAME, "A").await.expect("it is removed"));
    assert!(!provider.remove_record(DOMAIN, NAME, "A").await.expect("it is gone"));
    assert_eq!(there(&stand_in), [DOMAIN_LINE]);
    assert!(provider.remove_domain(DOMAIN).await.expect("it is removed"));
    assert_eq!(provider.records(DOMAIN).await.expect("an answer"), None);
}

#[tokio::test]
async fn what_others_have_is_left_as_it_is() {
    let stand_in = stand_in().await;
    let provider = provider(&stand_in);
    provider.ensure_domain(DOMAIN).await.expect("a domain");
    let plant = |name: &str, kind: &'static str, data: &str| {
        stand_in.world(|world| {
            let record = ha_stand_ins::digitalocean::Record {
                id: 7 + world.domains[DOMAIN].records.len() as u64,
                kind,
                name: name.into(),
                data: data.into(),
                ttl: 1800,
                ..Default::default()
            };
            let domain = world.domains.get_mut(DOMAIN).expect("it was made");
            domain.records.insert(record.id, record);
        });
    };
    plant("us", "A", "203.0.113.1");
    // Of another workspace.
    plant("_ha.us", "TXT", "ha ws=other type=A spec=0");
    let before = there(&stand_in);
    let error = provider
        .ensure_record(DOMAIN, &want(&["192.0.2.1"], 60))
        .await
        .expect_err("the name is taken");
    assert!(matches!(error, ProviderError::Taken { .. }), "{error}");
    assert!(!provider.remove_record(DOMAIN, NAME, "A").await.expect("it is not ours"));
    assert_eq!(there(&stand_in), before);
    assert!(
        !provider.remove_domain(DOMAIN).await.expect("it stays"),
        "records of others are in it"
    );
    let mut theirs = want(&["192.0.2.1"], 60);
    theirs.name = "www.example.com".into();
    plant("www", "CNAME", "us.example.com");
    let error = provider
        .ensure_record(DOMAIN, &theirs)
        .await
        .expect_err("a CNAME stands alone");
    assert!(matches!(error, ProviderError::Taken { .. }), "{error}");
}

#[tokio::test]
async fn a_domain_that_we_did_not_make_stays() {
    let stand_in = stand_in().await;
    let provider = provider(&stand_in);
    let http = reqwest::Client::new();
    let made = http
        .post(format!("{}/v2/domains", stand_in.endpoint()))
        .bearer_auth(stand_in.token())
        .json(&serde_json::json!({ "name": DOMAIN }))
        .send()
        .await;
    assert!(made.expect("an answer").status().is_success());
    assert!(!provider.ensure_domain(DOMAIN).await.expect("it is there"));
    assert!(!provider.remove_domain(DOMAIN).await.expect("it stays"));
    assert!(provider.records(DOMAIN).await.expect("an answer").is_some());
}

#[tokio::test]
async fn a_change_cut_short_after_any_request_is_finished() {
    for nth in 1.. {
        let stand_in = stand_in().await;
        let provider = provider(&stand_in);
        provider.ensure_domain(DOMAIN).await.expect("a domain");
        let old = want(&["192.0.2.1", "192.0.2.9"], 60);
        provider.ensure_record(DOMAIN, &old).await.expect("a record");
        stand_in.faults().inject(When::writes().nth(nth), Fault::LoseAnswer);
        let new = want(&["192.0.2.2", "192.0.2.3", "192.0.2.4"], 60);
        let cut = provider.ensure_record(DOMAIN, &new).await.is_err();
        provider.ensure_record(DOMAIN, &new).await.expect("the second time");
        let records = provider.records(DOMAIN).await.expect("a list").expect("a domain");
        assert!(records.contains(&new), "request {nth}: {records:?}");
        assert_eq!(there(&stand_in).len(), 5, "request {nth}: {:?}", there(&stand_in));
        let removed = provider.remove_record(DOMAIN, NAME, "A").await;
        if removed.is_err() {
            provider
                .remove_record(DOMAIN, NAME, "A")
                .await
                .expect("the second time");
        }
        assert_eq!(there(&stand_in), [DOMAIN_LINE], "request {nth}");
        if !cut && removed.is_ok() {
            assert!(nth > 4, "every request was lost once");
            return;
        }
    }
}
