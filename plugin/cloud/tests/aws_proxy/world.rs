//! A workspace in one account of moto, and the others in it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use ha_cloud::{
    Account, Provider, ProviderError,
    aws::{AwsProvider, Credentials, Options, SshKey},
    contract::{Fixture, Told, Trouble},
    limits::{Ledger, Limit},
    secret::Secret,
};
use ha_core::{
    names::{ProviderName, RegionName, WorkspaceName},
    resource::{Kind, Live, Resource, ResourceId},
};
use serde_json::{Value, json};

use crate::aws_proxy::{
    Proxy,
    moto::Moto,
    neighbours::{self, Neighbours},
};

pub(crate) const LOCATION: &str = "ap-southeast-1";
pub(crate) const REGION: &str = "asia-southeast";
/// A path that moto knows.
pub(crate) const IMAGE: &str = "resolve:ssm:/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64";
const PUBLIC_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFoKMVgJ8Hq2Mgs2p3+dYPO0pkh5Pa5JQbMzmXvMkW8v test";

pub(crate) struct World {
    pub(crate) provider: Arc<AwsProvider>,
    pub(crate) proxy: Arc<Proxy>,
    ledger: Arc<Ledger>,
}

pub(crate) fn options(proxy: &Proxy) -> Options {
    let credentials = Credentials {
        access_key_id: "AKIAEXAMPLE".into(),
        secret_access_key: Secret::new("not a secret"),
        session_token: None,
    };
    Options {
        endpoint: Some(proxy.endpoint()),
        ssh_key: Some(SshKey {
            name: "provisioning-key".into(),
            public_key: Some(PUBLIC_KEY.into()),
        }),
        user_data: Arc::new(|want| Ok(format!("#cloud-config\nhostname: {}\n", want.id.name))),
        deadline: Duration::from_secs(60),
        // moto is done with everything at once, and so is the proxy with what it delays.
        pause: Duration::from_millis(2),
        ..Options::new(WorkspaceName::new("shop"), credentials, vec![LOCATION.into()])
    }
}

pub(crate) fn resource(kind: Kind, name: &str, spec: Value, depends_on: &[&Resource]) -> Resource {
    Resource {
        id: ResourceId::new(&RegionName::new(REGION), kind, name),
        provider: ProviderName::Aws,
        spec,
        depends_on: depends_on.iter().map(|it| it.id.clone()).collect(),
        protect: kind.holds_data(),
        path: format!("region_asia_southeast.{name}"),
    }
}

pub(crate) fn server(group: &str, index: u32, role: &str, network: &Resource) -> Resource {
    let spec = json!({
        "group": group, "index": index, "image": IMAGE, "size": "t3.medium", "location": LOCATION,
        "roles": [role], "command": null,
    });
    resource(Kind::Server, &format!("{group}-{index}"), spec, &[network])
}

pub(crate) fn network() -> Resource {
    resource(
        Kind::Network,
        "asia-net",
        json!({ "ip_range": "10.2.0.0/16", "location": LOCATION }),
        &[],
    )
}

pub(crate) fn balancer(network: &Resource, servers: &[&Resource]) -> Resource {
    let names: Vec<&str> = servers.iter().map(|it| it.id.name.as_str()).collect();
    let spec = json!({
        "location": LOCATION, "algorithm": "round_robin", "targets": names,
        "rules": [{
            "entry_protocol": "http", "entry_port": 80, "target_protocol": "http", "target_port": 8080,
            "certificate_id": null,
        }],
        "health_check": { "path": "/health", "interval_seconds": 5, "timeout_seconds": 5, "fall": 3, "rise": 2 },
        "redirect_http_to_https": false, "databases": [],
    });
    let mut depends_on = vec![network];
    depends_on.extend(servers);
    resource(Kind::LoadBalancer, "asia-lb", spec, &depends_on)
}

impl World {
    pub(crate) fn new(moto: &Moto) -> Self {
        let proxy = Arc::new(Proxy::start(moto.account()));
        let options = options(&proxy);
        Self {
            ledger: Arc::clone(&options.ledger),
            provider: Arc::new(AwsProvider::open(options).expect("it has a location")),
            proxy,
        }
    }

    /// One of each kind that makes up the example, in order of dependency.
    pub(crate) fn resources(&self) -> Vec<Resource> {
        let network = network();
        let firewall = json!({
            "kind": "aws.SecurityGroup", "name": "asia-access", "region": LOCATION, "targets": ["asia-app", "asia-db"],
            "inbound": [{ "protocol": "tcp", "ports": "443", "sources": ["0.0.0.0/0", "::/0"] }],
            "labels": { "team": "web" }, "protect": false,
        });
        let firewall = resource(Kind::Firewall, "asia-access", firewall, &[&network]);
        let volume = json!({
            "kind": "aws.Volume", "name": "asia-data", "region": LOCATION, "size_gb": 10, "attach_to": "asia-db",
            "labels": {}, "protect": true,
        });
        let volume = resource(Kind::Volume, "asia-data", volume, &[&network]);
        let app = server("asia-app", 1, "app", &network);
        let db = server("asia-db", 1, "database", &network);
        let store = resource(Kind::Store, "asia-store", json!({ "server": "asia-db-1" }), &[&db]);
        let database = json!({ "server": "asia-db-1", "cluster": "postgres", "founder": true });
        let database = resource(Kind::Database, "asia-pg-1", database, &[&db, &store]);
        let balancer = balancer(&network, &[&app]);
        vec![network, firewall, volume, app, db, store, database, balancer]
    }

    /// The same with everything on one server: each request less is a round less in which its answer is lost.
    fn few(&self) -> Vec<Resource> {
        let mut all = self.resources();
        let db = all.remove(4);
        let app = all[3].id.clone();
        for it in &mut all {
            it.depends_on
                .iter_mut()
                .filter(|id| **id == db.id)
                .for_each(|id| *id = app.clone());
            for field in ["server", "attach_to"] {
                if it.spec.get(field).is_some() {
                    it.spec[field] = json!(app.name);
                }
            }
        }
        all
    }

    pub(crate) fn fixture(self) -> Fixture {
        let resources = self.few();
        let play = Arc::new(Play {
            proxy: Arc::clone(&self.proxy),
            lose: Mutex::default(),
        });
        let mut changed = resources[3].clone();
        changed.spec["size"] = json!("t3.large");
        Fixture {
            changed: Some(changed),
            told: Told::Objects,
            trouble: Some(play.clone()),
            others: Some(Arc::new(Neighbours::new(Arc::clone(&self.proxy)))),
            // Each answer lost in turn is as many rounds as there are requests that change something.
            deadline: Duration::from_secs(3600),
            ..Fixture::new(
                Arc::new(Troubled {
                    provider: self.provider,
                    play,
                }),
                WorkspaceName::new("shop"),
                resources,
            )
        }
    }

    pub(crate) fn ledger(&self) -> Limit {
        self.ledger.limit()
    }

    /// The ARN of a certificate that can be used here.
    pub(crate) fn certificate(&self) -> String {
        let made = rcgen::generate_simple_self_signed(vec!["api.example.com".to_owned()]).expect("a certificate");
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let blob = |text: &str| aws_smithy_types::base64::encode(text);
        let body = json!({ "Certificate": blob(&certificate), "PrivateKey": blob(&key) }).to_string();
        let head = format!(
            "POST / HTTP/1.1\r\nauthorization: AWS4-HMAC-SHA256 Credential=AK/20260101/{LOCATION}/acm/aws4_request, \
             SignedHeaders=host, Signature=0\r\ncontent-type: application/x-amz-json-1.1\r\n\
             x-amz-target: CertificateManager.ImportCertificate\r\n"
        );
        let answer = self.proxy.account.forward(&head, body.as_bytes());
        let told: Value = serde_json::from_str(&answer.body).expect("JSON");
        told["CertificateArn"]
            .as_str()
            .unwrap_or_else(|| panic!("{}", answer.body))
            .to_owned()
    }

    pub(crate) fn leftovers(&self) -> Vec<String> {
        neighbours::leftovers(&self.proxy.account)
    }
}

/// The provider, with faults at the wire during one call.
struct Troubled {
    provider: Arc<AwsProvider>,
    play: Arc<Play>,
}

/// What is to happen during the next ensure of a resource.
struct Play {
    proxy: Arc<Proxy>,
    lose: Mutex<Option<ResourceId>>,
}

impl Trouble for Play {
    fn lose_next_answer(&self, id: &ResourceId) {
        *self.lose.lock().expect("nobody panics with it") = Some(id.clone());
    }

    /// The first request that changes something is carried out, and nothing after it. What AWS makes in one request
    /// is said to be on its way once more, as it is at AWS for some seconds.
    fn die_halfway(&self, id: &ResourceId) {
        self.lose_next_answer(id);
        self.proxy.state().pending = match id.kind {
            Kind::Server | Kind::Store | Kind::Database => {
                Some(("DescribeInstances", "<name>running</name>", "<name>pending</name>"))
            }
            Kind::Volume => Some((
                "DescribeVolumes",
                "<status>available</status>",
                "<status>creating</status>",
            )),
            Kind::Network | Kind::Firewall | Kind::LoadBalancer => None,
        };
    }
}

#[async_trait]
impl Provider for Troubled {
    fn name(&self) -> &'static str {
        self.provider.name()
    }

    async fn account(&self) -> Result<Account, ProviderError> {
        self.provider.account().await
    }

    async fn observe(&self) -> Result<Vec<Live>, ProviderError> {
        self.provider.observe().await
    }

    async fn ensure(&self, want: &Resource) -> Result<Live, ProviderError> {
        let doomed = self
            .play
            .lose
            .lock()
            .expect("nobody panics with it")
            .take_if(|id| *id == want.id)
            .is_some();
        let late = self.play.proxy.state().pending.take();
        if doomed {
            self.play.proxy.state().die = true;
        }
        let outcome = self.provider.ensure(want).await;
        self.play.proxy.state().revive();
        self.play.proxy.state().pending = late;
        outcome
    }

    async fn remove(&self, id: &ResourceId) -> Result<(), ProviderError> {
        self.provider.remove(id).await
    }

    async fn power(&self, server: &ResourceId, on: bool) -> Result<Live, ProviderError> {
        self.provider.power(server, on).await
    }
}
