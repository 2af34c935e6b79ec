//! What a token may do is found out, and nothing is changed by asking.

use std::collections::BTreeSet;

use ha_cloud::rights::{Held, Report, Rights as _, Use};
use ha_stand_ins::{Fault, Token, When, hetzner::StandIn};

use crate::world::provider;

async fn asked(stand_in: &StandIn) -> Report {
    provider(stand_in).report(&BTreeSet::from(Use::ALL)).await
}

/// `Read` and `Read & Write`, in this order.
fn held(report: &Report) -> Vec<(&str, &Held)> {
    report.rights.iter().map(|it| (it.right.name, &it.held)).collect()
}

#[tokio::test]
async fn a_full_token_may_write_and_nothing_came_of_asking() {
    let stand_in = StandIn::start().await;
    let report = asked(&stand_in).await;
    assert!(report.doors[0].who.is_ok(), "{report:?}");
    assert_eq!(held(&report), [("Read", &Held::Yes), ("Read & Write", &Held::Yes)]);
    assert_eq!(stand_in.world(|world| world.ssh_keys.len()), 0);
    let written: Vec<_> = stand_in
        .requests()
        .into_iter()
        .filter(|it| it.method != "GET")
        .collect();
    assert_eq!(written.len(), 1, "{written:?}");
    // Refused for what is not in it.
    assert_eq!((written[0].status, written[0].path.as_str()), (422, "/v1/ssh_keys"));
}

#[tokio::test]
async fn a_token_that_only_reads_is_told_by_its_code() {
    let stand_in = StandIn::start().await;
    stand_in.knobs(|knobs| knobs.token = Token::ReadOnly);
    let report = asked(&stand_in).await;
    assert_eq!(held(&report), [("Read", &Held::Yes), ("Read & Write", &Held::No)]);
}

#[tokio::test]
async fn whoever_only_looks_needs_no_more_than_that() {
    let stand_in = StandIn::start().await;
    let report = provider(&stand_in).report(&BTreeSet::from([Use::Looking])).await;
    assert_eq!(held(&report), [("Read", &Held::Yes)]);
    assert!(stand_in.requests().iter().all(|it| it.method == "GET"));
}

#[tokio::test]
async fn a_token_that_is_over_a_proxy_and_silence_let_nobody_in() {
    let stand_in = StandIn::start().await;
    stand_in.knobs(|knobs| knobs.token = Token::Expired);
    let report = asked(&stand_in).await;
    let error = report.doors[0].who.as_ref().expect_err("it is over");
    assert_eq!((error.code(), report.rights.len()), ("ha::provider::denied", 0));

    stand_in.knobs(|knobs| knobs.token = Token::Full);
    stand_in.faults().inject(When::any(), Fault::Html);
    let report = asked(&stand_in).await;
    let error = report.doors[0].who.as_ref().expect_err("a proxy answers");
    assert_eq!(error.code(), "ha::provider::unreachable");
    assert!(error.help().is_some_and(|help| help.contains("HTTPS_PROXY")), "{error}");
}

#[tokio::test]
async fn what_is_not_known_is_not_claimed() {
    let stand_in = StandIn::start().await;
    stand_in
        .faults()
        .inject(When::exactly("POST", "/ssh_keys"), Fault::status(503));
    let report = asked(&stand_in).await;
    assert!(matches!(report.rights[1].held, Held::Unknown(_)), "{report:?}");
}
