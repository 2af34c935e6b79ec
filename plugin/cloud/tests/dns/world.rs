//! A workspace's names in one account of an emulator.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use aws_sdk_route53::types as sdk;
use ha_cloud::{
    aws::Credentials,
    dns::{
        Dns, Names, Outcome, Route53, StepRow, carry_out,
        pace::Pace,
        route53::{Options, Paces},
    },
    secret::Secret,
};
use ha_core::{
    config::Config,
    dns::{Goal, Record, Seen, Told, Wanted, leads::Leads, plan, wanted},
    model::{Dns as Declared, Workspace},
    names::WorkspaceName,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{emulator::Emulator, proxy::Proxy};

pub(crate) const DOMAIN: &str = "api.example.com";
pub(crate) const WS: &str = "shop";

pub(crate) struct World {
    pub(crate) dns: Route53,
    pub(crate) proxy: Proxy,
    /// The account as its owner uses it: not through the plugin.
    pub(crate) owner: aws_sdk_route53::Client,
}

impl World {
    pub(crate) async fn new(emulator: &Emulator) -> Self {
        let proxy = Proxy::start(&emulator.endpoint, &emulator.account()).await;
        let credentials = Credentials {
            access_key_id: "AKIAEXAMPLE".into(),
            secret_access_key: Secret::new("not a secret"),
            session_token: None,
        };
        let options = Options {
            endpoint: Some(proxy.endpoint.clone()),
            deadline: Duration::from_secs(20),
            pause: Duration::from_millis(1),
            // Its own test says that it is kept; an emulator need not be spared.
            paces: Arc::new(Paces {
                all: Pace::new(1_000, 1_000),
                states: Pace::new(1_000, 1_000),
            }),
            ..Options::new(WorkspaceName::new(WS), credentials)
        };
        let owner = aws_sdk_route53::config::Builder::new()
            .behavior_version(aws_sdk_route53::config::BehaviorVersion::latest())
            .region(aws_sdk_route53::config::Region::new("us-east-1"))
            .credentials_provider(aws_credential_types::Credentials::new("owner", "x", None, None, "test"))
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .endpoint_url(&proxy.endpoint)
            .build();
        Self {
            dns: Route53::open(&options),
            owner: aws_sdk_route53::Client::from_conf(owner),
            proxy,
        }
    }

    pub(crate) async fn look(&self) -> Seen {
        let seen = self.dns.observe(Some(&names())).await;
        seen.unwrap_or_else(|error| panic!("a look: {error}"))
    }

    /// What is done for that goal from what is there, and how it ended.
    pub(crate) async fn carry(&self, goal: Goal<'_>) -> (Vec<StepRow>, Outcome) {
        let seen = self.look().await;
        self.carry_from(goal, seen, &CancellationToken::new()).await
    }

    pub(crate) async fn carry_from(
        &self,
        goal: Goal<'_>,
        seen: Seen,
        cancel: &CancellationToken,
    ) -> (Vec<StepRow>, Outcome) {
        let (rows, mut done) = mpsc::channel(1_000);
        let outcome = carry_out(&self.dns, goal, Some(&names()), seen, &rows, cancel).await;
        drop(rows);
        let mut all = Vec::new();
        while let Some(row) = done.recv().await {
            all.push(row);
        }
        (all, outcome)
    }

    /// Everything as wanted, and nothing to do afterwards.
    pub(crate) async fn apply(&self, wanted: &Wanted) -> Vec<StepRow> {
        let (rows, outcome) = self.carry(Goal::All(wanted)).await;
        assert!(outcome.good, "{rows:#?}");
        let again = plan(Goal::All(wanted), &self.look().await);
        let left: Vec<_> = again.rows.iter().filter(|it| it.action.acts()).collect();
        assert!(again.is_done() && left.is_empty(), "{left:#?}");
        rows
    }

    pub(crate) async fn destroy(&self) -> Vec<StepRow> {
        let (rows, outcome) = self.carry(Goal::Nothing { ws: WS }).await;
        assert!(outcome.good, "{rows:#?}");
        rows
    }

    /// A zone that the owner made.
    pub(crate) async fn plant_zone(&self, name: &str, reference: &str) -> String {
        let made = self
            .owner
            .create_hosted_zone()
            .name(name)
            .caller_reference(reference)
            .send()
            .await;
        let made = made.expect("it is made");
        made.hosted_zone().expect("a zone").id().to_owned()
    }

    /// A record that the owner wrote: an address, in one of several sets where `set` says so.
    pub(crate) async fn plant(&self, zone: &str, name: &str, sets: &[&str]) {
        let set = |set: Option<&str>| {
            let value = sdk::ResourceRecord::builder()
                .value("203.0.113.9")
                .build()
                .expect("a value");
            let record = sdk::ResourceRecordSet::builder()
                .name(name)
                .r#type(sdk::RrType::A)
                .ttl(3600)
                .resource_records(value)
                .set_set_identifier(set.map(str::to_owned))
                .set_weight(set.map(|_| 1));
            let record = record.build().expect("a record");
            let change = sdk::Change::builder()
                .action(sdk::ChangeAction::Upsert)
                .resource_record_set(record);
            change.build().expect("a change")
        };
        let changes = match sets {
            [] => vec![set(None)],
            sets => sets.iter().map(|it| set(Some(it))).collect(),
        };
        let batch = sdk::ChangeBatch::builder()
            .set_changes(Some(changes))
            .build()
            .expect("a batch");
        let written = self
            .owner
            .change_resource_record_sets()
            .hosted_zone_id(zone)
            .change_batch(batch);
        written.send().await.expect("it is written");
    }

    pub(crate) async fn records(&self, name: &str) -> Vec<Record> {
        let seen = self.look().await;
        seen.zones
            .iter()
            .flat_map(|it| it.called(name))
            .filter(|it| it.kind == "A")
            .cloned()
            .collect()
    }
}

pub(crate) fn names() -> Names {
    Names {
        zone: DOMAIN.into(),
        domain: DOMAIN.into(),
    }
}

pub(crate) fn at(address: &str) -> Told {
    Told::At(Leads::parse(address).expect("an address"))
}

/// The example's names, changed.
pub(crate) fn want(change: impl FnOnce(&mut Declared)) -> Wanted {
    let mut workspace = workspace();
    change(workspace.dns.as_mut().expect("has one"));
    let leads = BTreeMap::from([
        ("us-east".to_owned(), at("192.0.2.1")),
        ("eu-central".to_owned(), at("192.0.2.2")),
        (
            "asia-southeast".to_owned(),
            at("asia-lb-1.ap-southeast-1.elb.amazonaws.com"),
        ),
    ]);
    wanted(&workspace, &Config::default(), &leads).expect("names are declared")
}

/// As `workspace.ncl` is read; only what names are made of.
fn workspace() -> Workspace {
    let region = |name: &str, role: &str, provider: &str, location: &str, country: &str, at: [f64; 2]| {
        let field = format!("region_{}", name.replace('-', "_"));
        serde_json::json!({
            "name": name, "field": field, "role": role, "provider": provider, "location": location,
            "coordinates": { "latitude": at[0], "longitude": at[1] }, "country": country, "residency": [],
            "failover_priority": 0, "can_lead": true, "networks": [], "servers": [], "databases": [], "stores": [],
            "others": [],
            "load_balancers": [{
                "name": format!("{name}-lb"), "kind": format!("{provider}.LoadBalancer"), "path": field,
                "protect": false, "labels": {}, "fields": {}, "targets": null, "location": location,
                "algorithm": "round_robin", "rules": [], "redirect_http_to_https": false,
                "health_check": {
                    "protocol": "http", "port": null, "path": "/health", "interval_seconds": 5, "timeout_seconds": 3,
                    "fall": 3, "rise": 2,
                },
            }],
        })
    };
    let default = serde_json::to_value(ha_core::model::FailoverPolicy::default()).expect("a policy");
    let timing = serde_json::to_value(ha_core::model::TimingProfile::Default.timing()).expect("a timing");
    let workspace = serde_json::json!({
        "name": WS, "profile": "default", "timing": timing, "sync_mode": "strict", "failover": default,
        "objectives": {
            "rto_seconds": 300, "rpo_seconds": 60, "lag_warn_seconds": 30, "lag_expected_seconds": 300,
            "lag_critical_seconds": 600, "min_distance_km": 500.0, "max_latency_ms": 100.0, "monthly_budget_usd": null,
        },
        "dns": {
            "kind": "aws.Route53", "path": "dns", "domain": DOMAIN, "zone": null, "ttl_seconds": 60,
            "routing": "geolocation", "default_region": "us-east", "locations": {}, "names": {}, "weights": {},
            "probes": true, "probe_protocol": "HTTPS", "probe_port": 443, "probe_path": "/health",
            "probe_interval_seconds": 30, "probe_failures": 3,
        },
        "regions": [
            region("us-east", "primary", "digitalocean", "nyc3", "US", [40.7, -74.0]),
            region("eu-central", "secondary", "hetzner", "nbg1", "DE", [49.4, 11.1]),
            region("asia-southeast", "tertiary", "aws", "ap-southeast-1", "SG", [1.3, 103.8]),
        ],
    });
    serde_json::from_value(workspace).expect("a workspace")
}
