//! The provider `digitalocean` against a stand-in that answers as DigitalOcean documents it.

mod changes;
mod managed;
mod reading;
mod refusals;
mod world;

use ha_cloud::contract;

#[tokio::test(flavor = "multi_thread")]
async fn digitalocean_keeps_the_contract() {
    contract::run(world::fixture).await;
}
