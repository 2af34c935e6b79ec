//! When a unit can be used.

use std::time::Duration;

use ha_core::unit::Ready;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// Returns once the probe was answered; asks often at first, and seldom what does not come up.
pub(super) async fn wait(client: &reqwest::Client, ready: &Ready) {
    let began = Instant::now();
    while !probe(client, ready).await {
        sleep(match began.elapsed() {
            it if it < Duration::from_secs(10) => Duration::from_millis(50),
            it if it < Duration::from_secs(60) => Duration::from_millis(250),
            _ => Duration::from_secs(1),
        })
        .await;
    }
}

async fn probe(client: &reqwest::Client, ready: &Ready) -> bool {
    match ready {
        Ready::Tcp(address) => matches!(timeout(PROBE_TIMEOUT, TcpStream::connect(address)).await, Ok(Ok(_))),
        Ready::Http(url) => client
            .get(url)
            .timeout(PROBE_TIMEOUT)
            .send()
            .await
            .is_ok_and(|it| it.status().as_u16() < 400),
    }
}

/// Follows no proxy of the environment and no redirect: a probe asks the address it was given.
pub(super) fn client() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .pool_max_idle_per_host(0)
        .build()
}
