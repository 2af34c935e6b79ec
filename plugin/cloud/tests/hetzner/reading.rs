//! Lists of many pages, and what is for sale.

use ha_cloud::{Provider, ProviderError};
use ha_stand_ins::{
    Fault, When,
    hetzner::{StandIn, World},
};

use crate::world::{options, provider};

fn plant(world: &mut World, from: u64, to: u64) {
    for index in from..=to {
        let name = format!("eu-app-{index}");
        let number = index.to_string();
        let labels = [
            ("ha/ws", "shop"),
            ("ha/region", "eu-central"),
            ("ha/name", name.as_str()),
            ("ha/group", "eu-app"),
            ("ha/index", number.as_str()),
        ];
        world.plant_server(&name, &labels);
    }
}

#[tokio::test]
async fn every_page_is_read() {
    let stand_in = StandIn::start().await;
    stand_in.world(|world| plant(world, 1, 120));
    let all = provider(&stand_in).observe().await.expect("a list");
    assert_eq!(all.len(), 120);
    let pages = stand_in
        .requests()
        .into_iter()
        .filter(|it| it.path == "/v1/servers")
        .count();
    assert_eq!(pages, 3);
}

#[tokio::test]
async fn a_page_that_shifts_under_the_reader_loses_nothing() {
    let stand_in = StandIn::start().await;
    stand_in.world(|world| plant(world, 1, 120));
    stand_in.between_pages("/servers", |world| {
        let first = *world.servers.keys().next().expect("there are many");
        world.servers.remove(&first);
    });
    let all = provider(&stand_in).observe().await.expect("a list");
    assert_eq!(all.len(), 119);
    assert!(
        all.iter().any(|it| it.id.name == "eu-app-51"),
        "it moved to the page that was read before"
    );
}

#[tokio::test]
async fn a_page_that_cannot_be_had_is_an_error() {
    let stand_in = StandIn::start().await;
    stand_in.world(|world| plant(world, 1, 120));
    let wait = std::time::Duration::from_secs(3600);
    let fault = Fault::TooMany { retry_after: wait };
    stand_in.faults().inject(When::exactly("GET", "/servers").nth(3), fault);
    let error = provider(&stand_in).observe().await.expect_err("a page is missing");
    assert!(
        matches!(error, ProviderError::RateLimited { retry_after } if retry_after == Some(wait)),
        "{error}"
    );
}

#[tokio::test]
async fn the_ledger_knows_what_is_left() {
    let stand_in = StandIn::start().await;
    let options = options(&stand_in);
    let ledger = options.ledger.clone();
    let provider = ha_cloud::hetzner::HetznerProvider::new(options).expect("the stand-in's address");
    let account = provider.account().await.expect("an account");
    let limit = ledger.limit();
    assert_eq!((limit.provider, limit.allowed, limit.used), ("hetzner", Some(3600), 1));
    assert_eq!(account.requests_left, limit.left);
    assert!(
        limit.left.is_some_and(|left| left < 3600) && limit.resets.is_some(),
        "{limit:?}"
    );
}

#[tokio::test]
async fn the_catalogue_says_what_is_sold_where_and_for_how_much() {
    let stand_in = StandIn::start().await;
    let catalogue = provider(&stand_in).catalogue().await.expect("a catalogue");
    assert_eq!(catalogue.currency, "EUR");
    let nuremberg = catalogue
        .locations
        .iter()
        .find(|it| it.name == "nbg1")
        .expect("it is there");
    assert_eq!(
        (nuremberg.network_zone.as_str(), nuremberg.country.as_str()),
        ("eu-central", "DE")
    );
    let cpx21 = catalogue
        .server_types
        .iter()
        .find(|it| it.name == "cpx21")
        .expect("it is sold");
    assert_eq!(
        (cpx21.available_in("nbg1"), cpx21.available_in("nyc3")),
        (Some(true), None)
    );
    let offer = cpx21
        .prices
        .iter()
        .find(|it| it.location == "nbg1")
        .expect("with a price");
    assert!(
        offer.price_monthly.gross > offer.price_monthly.net && offer.price_monthly.net > 0.0,
        "{offer:?}"
    );
    assert!(
        catalogue
            .load_balancer_types
            .iter()
            .any(|it| it.name == "lb11" && it.max_services == 5)
    );
    assert!(catalogue.volume_gb.net > 0.0 && !catalogue.ipv4.is_empty());
}
