//! The judge judges: what breaks a description is told, what keeps to it is not.

use ha_stand_ins::prism::{NoJudge, Prism, Provider};
use ha_stand_ins::{digitalocean, hetzner};

/// Nothing in a plain clone, said loudly; with `HA_PRISM` and `HA_SPECS` set, a judge that does not start is a failure.
async fn judge(provider: Provider, endpoint: &str) -> Option<Prism> {
    match Prism::open(provider, endpoint).await {
        Ok(prism) => Some(prism),
        Err(skipped @ NoJudge::Skipped(_)) => {
            eprintln!("{skipped}");
            None
        }
        Err(failed) => panic!("{failed}"),
    }
}

#[tokio::test]
async fn a_request_that_breaks_the_description_of_hetzner_is_told() {
    let stand_in = hetzner::StandIn::start().await;
    let Some(mut prism) = judge(Provider::Hetzner, &stand_in.endpoint()).await else {
        return;
    };
    let http = reqwest::Client::new();
    let url = format!("{}/networks", prism.endpoint());
    let ask = |body: serde_json::Value| http.post(&url).bearer_auth(stand_in.token()).json(&body).send();
    ask(serde_json::json!({"name": "eu-net", "ip_range": "10.1.0.0/16"}))
        .await
        .expect("an answer");
    assert_eq!(prism.violations().await.expect("a judge"), [""; 0]);
    ask(serde_json::json!({"name": "eu-net", "ip_range": "10.1.0.0/16", "range": 1}))
        .await
        .expect("an answer");
    let found = prism.violations().await.expect("a judge");
    assert!(found.len() == 1 && found[0].contains("range"), "{found:?}");
}

#[tokio::test]
async fn an_answer_that_breaks_the_description_of_digitalocean_is_told() {
    let stand_in = digitalocean::StandIn::start().await;
    let Some(mut prism) = judge(Provider::DigitalOcean, &stand_in.endpoint()).await else {
        return;
    };
    let url = format!("{}/v2/account", prism.endpoint());
    let ask = || reqwest::Client::new().get(&url).bearer_auth(stand_in.token()).send();
    ask().await.expect("an answer");
    assert_eq!(prism.violations().await.expect("a judge"), [""; 0]);
    let odd = serde_json::json!({"account": {"email": 1}});
    stand_in
        .faults()
        .inject(ha_stand_ins::When::any(), ha_stand_ins::Fault::answer(200, odd));
    ask().await.expect("an answer");
    let found = prism.violations().await.expect("a judge");
    assert!(found.iter().any(|what| what.contains("email")), "{found:?}");
}
