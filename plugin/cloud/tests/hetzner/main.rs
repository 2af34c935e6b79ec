//! The provider `hetzner` against a stand-in that answers as Hetzner documents it.

mod changes;
mod judged;
mod labels;
mod offers;
mod primary_ips;
mod reading;
mod refusals;
mod rights;
mod survey;
mod world;

use ha_cloud::contract;

#[tokio::test(flavor = "multi_thread")]
async fn hetzner_keeps_the_contract() {
    contract::run(world::fixture).await;
}
