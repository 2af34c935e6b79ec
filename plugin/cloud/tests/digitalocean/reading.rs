//! Lists of many pages, whose account it is, and what is for sale.

use ha_cloud::{Provider, ProviderError};
use ha_stand_ins::{Fault, When, digitalocean::World};

use crate::world::{provider, stand_in};

fn plant(world: &mut World, from: u32, to: u32) {
    for index in from..=to {
        let name = format!("ha:name:us-app-{index}");
        let number = format!("ha:index:{index}");
        let tags = [
            "ha:ws:shop",
            "ha:region:us-east",
            &name,
            "ha:group:shop:us-east:us-app",
            &number,
        ];
        world.plant_droplet(&format!("us-app-{index}"), &tags);
    }
}

#[tokio::test]
async fn a_list_of_many_pages_is_read_to_its_end() {
    let stand_in = stand_in().await;
    stand_in.world(|world| plant(world, 1, 450));
    let all = provider(&stand_in).observe().await.expect("a list");
    assert_eq!(all.len(), 450);
    let asked = stand_in.requests().into_iter().filter(|it| it.path == "/v2/droplets");
    assert_eq!(asked.count(), 3, "as many at once as there may be");
}

#[tokio::test]
async fn a_list_that_changes_under_the_reader_is_whole() {
    let stand_in = stand_in().await;
    stand_in.world(|world| plant(world, 1, 250));
    stand_in.between_pages("/droplets", |world| {
        let first = world.droplets.keys().next().copied();
        world.droplets.remove(&first.expect("there are many"));
        plant(world, 251, 251);
    });
    let all = provider(&stand_in).observe().await.expect("a list");
    assert_eq!(all.len(), 250);
}

#[tokio::test]
async fn a_page_that_cannot_be_had_is_an_error_and_no_shorter_list() {
    let stand_in = stand_in().await;
    stand_in.world(|world| plant(world, 1, 250));
    stand_in
        .faults()
        .inject(When::exactly("GET", "/droplets").nth(2).times(8), Fault::status(503));
    let error = provider(&stand_in).observe().await.expect_err("one page is missing");
    assert!(matches!(error, ProviderError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn the_account_says_whose_it_is_and_how_much_it_may() {
    let stand_in = stand_in().await;
    stand_in.knobs(|knobs| knobs.quotas.extend([("droplets".to_owned(), 7)]));
    let provider = provider(&stand_in);
    let account = provider.account().await.expect("it is valid");
    assert!(account.who.starts_with("ops@example.com ("), "{}", account.who);
    assert_eq!(account.requests_left, Some(4999));
    let owner = provider.owner().await.expect("it is valid");
    assert_eq!((owner.status.as_str(), owner.droplet_limit), ("active", Some(7)));
}

#[tokio::test]
async fn the_catalogue_says_what_can_be_had_where_and_for_how_much() {
    let stand_in = stand_in().await;
    let catalogue = provider(&stand_in).catalogue().await.expect("a catalogue");
    assert_eq!(catalogue.offers("s-2vcpu-4gb", "nyc3"), Ok(()));
    assert!(
        catalogue.offers("s-2vcpu-4gb", "sfo1").is_err(),
        "nothing can be made there"
    );
    let size = catalogue.size("s-2vcpu-4gb").expect("everybody knows it");
    assert_eq!((size.cores, size.memory), (2, 4096));
    assert!(size.price_monthly > 0.0);
}
