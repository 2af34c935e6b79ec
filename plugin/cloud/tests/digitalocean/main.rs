//! The provider `digitalocean` against a stand-in that answers as DigitalOcean documents it.

mod changes;
mod domains;
mod judged;
mod labels;
mod managed;
mod offers;
mod reading;
mod refusals;
mod reserved;
mod rights;
mod survey;
mod world;

use ha_cloud::contract;

#[tokio::test(flavor = "multi_thread")]
async fn digitalocean_keeps_the_contract() {
    contract::run(world::fixture).await;
}
