//! Every request of ours, and every answer of the stand-in, against Hetzner's own description of its API.
//!
//! The judge is Prism's proxy (`HA_PRISM`, or `prism` on the path) with the description in `HA_SPECS` (by default
//! `../shared/specs` beside the checkout). Where either is absent this says that it was skipped.

use std::{
    fs::File,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use ha_cloud::{
    Provider,
    hetzner::{HetznerProvider, Options},
};
use ha_core::resource::{Kind, Resource};
use ha_stand_ins::hetzner::StandIn;

use crate::world::{id, options, region, server};

const DESCRIPTION: &str = "hetzner.cloud.v1.openapi31.json";

/// Prism between us and the stand-in; it ends with this.
struct Judge {
    process: Child,
    port: u16,
    log: PathBuf,
}

impl Judge {
    /// None, with the reason on standard error, where there is nothing to judge by.
    async fn before(stand_in: &StandIn, folder: &Path) -> Option<Self> {
        let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/specs");
        let specs = std::env::var_os("HA_SPECS").map_or(beside, PathBuf::from);
        let description = specs.join(DESCRIPTION);
        if !description.is_file() {
            eprintln!(
                "SKIPPED: {} is not there; HA_SPECS names its folder",
                description.display()
            );
            return None;
        }
        let port = free_port();
        let log = folder.join("prism.log");
        let output = File::create(&log).expect("a file in the test's own folder");
        let program = std::env::var_os("HA_PRISM").unwrap_or_else(|| "prism".into());
        let started = Command::new(&program)
            .args(["proxy", "--host", "127.0.0.1", "--port", &port.to_string()])
            .arg(&description)
            .arg(stand_in.endpoint())
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("the same file"))
            .stderr(output)
            .spawn();
        let Ok(process) = started else {
            eprintln!("SKIPPED: {} cannot be started; HA_PRISM names it", program.display());
            return None;
        };
        let mut judge = Self { process, port, log };
        while !judge.said().contains("Prism is listening") {
            let ended = judge.process.try_wait().expect("it is a child of this test");
            assert!(ended.is_none(), "Prism ended by itself:\n{}", judge.said());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Some(judge)
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).expect("it is written by Prism")
    }
}

/// Prism has to be told its port. One below those that the system gives out by itself is not taken by another test
/// between this look and Prism's start.
fn free_port() -> u16 {
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let first = 20_000 + u16::try_from(std::process::id() % 10_000).expect("it is below 10,000");
    (first..first + 1000).find(free).expect("one of a thousand")
}

impl Drop for Judge {
    fn drop(&mut self) {
        // Already gone is as good.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_said_breaks_the_description() {
    let stand_in = StandIn::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let Some(judge) = Judge::before(&stand_in, folder.path()).await else {
        return;
    };
    let provider = HetznerProvider::new(Options {
        endpoint: format!("http://127.0.0.1:{}", judge.port),
        ..options(&stand_in)
    })
    .expect("Prism's address");
    life_of_a_region(&provider).await;
    let said = judge.said();
    let served = stand_in.requests().len();
    assert!(
        served > 50 && stand_in.requests().iter().all(|it| it.status < 500),
        "{said}"
    );
    // What Prism writes about each of them, so that a change of its words is no silent pass.
    assert!(
        said.matches("Validating").count() + said.matches("Forwarding").count() >= served,
        "{said}"
    );
    let broken: Vec<&str> = said
        .lines()
        .filter(|it| it.contains("iolation") || it.contains("did not pass"))
        .collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Everything is made, looked at, changed, switched off and on, and removed.
async fn life_of_a_region(provider: &HetznerProvider) {
    let all = region();
    let make = async |all: &[Resource]| {
        for want in all {
            provider
                .ensure(want)
                .await
                .unwrap_or_else(|error| panic!("{}: {error}", want.id));
        }
    };
    provider.account().await.expect("an account");
    provider.catalogue().await.expect("a catalogue");
    make(&all).await;
    make(&all).await;
    assert_eq!(provider.observe().await.expect("a list").len(), all.len());
    let mut changed = all.clone();
    for it in &mut changed {
        match it.id.kind {
            Kind::Firewall => {
                it.spec["inbound"][0]["ports"] = "8080-8090".into();
                it.spec["targets"] = serde_json::json!(["eu-db"]);
            }
            Kind::Volume => it.spec["size_gb"] = 30.into(),
            Kind::Server => it.spec["size"] = "cpx31".into(),
            Kind::LoadBalancer => {
                it.spec["algorithm"] = "least_connections".into();
                it.spec["targets"] = serde_json::json!(["eu-app-2"]);
                it.spec["rules"][0]["target_port"] = 9090.into();
                it.spec["rules"][1]["entry_port"] = 5433.into();
            }
            Kind::Network | Kind::Store | Kind::Database => {}
        }
    }
    make(&changed).await;
    make(&[server("eu-app", 3, &["app"])]).await;
    for on in [false, true] {
        provider.power(&id(Kind::Server, "eu-app-1"), on).await.expect("power");
    }
    provider
        .remove(&id(Kind::Server, "eu-app-3"))
        .await
        .expect("it is removed");
    for gone in all.iter().rev() {
        provider
            .remove(&gone.id)
            .await
            .unwrap_or_else(|error| panic!("{}: {error}", gone.id));
    }
    assert_eq!(provider.observe().await.expect("a list").len(), 0);
}
