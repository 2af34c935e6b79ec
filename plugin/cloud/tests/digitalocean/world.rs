//! One region at the stand-in, and others who are at work in the same account.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use ha_cloud::{
    contract::{Fixture, Others, Told},
    digitalocean::{DigitalOceanProvider, Options},
    secret::Secret,
};
use ha_core::{
    desired::{FIXED_ADDRESS, LABELS},
    names::{ProviderName, RegionName, WorkspaceName},
    resource::{Kind, Resource, ResourceId},
};
use ha_stand_ins::{
    Cidr, Fault, RateLimit, When,
    digitalocean::{StandIn, World},
};
use serde_json::{Value, json};

pub(crate) const PUBLIC_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE1heSB0aGlzIGtleSBvcGVuIG5vdGhpbmch a test";
pub(crate) const USER_DATA: &str = "#cloud-config\npackage_update: true\n";

pub(crate) fn workspace() -> WorkspaceName {
    WorkspaceName::new("shop")
}

pub(crate) fn id(kind: Kind, name: &str) -> ResourceId {
    ResourceId::new(&RegionName::new("us-east"), kind, name)
}

/// For tests that wait: as patient as ever, and looking more often.
pub(crate) fn options(stand_in: &StandIn) -> Options {
    Options {
        endpoint: stand_in.endpoint(),
        ssh_public_key: Some(PUBLIC_KEY.into()),
        user_data: Arc::new(|_| Ok(USER_DATA.into())),
        deadline: Duration::from_secs(30),
        late_tags: Duration::from_secs(30),
        pause: Duration::from_millis(4),
        ..Options::new(workspace(), Secret::new(stand_in.token()))
    }
}

pub(crate) fn provider(stand_in: &StandIn) -> DigitalOceanProvider {
    DigitalOceanProvider::new(options(stand_in)).expect("the stand-in's address")
}

pub(crate) const CERTIFICATE: &str = "892071a0-bb95-49bc-8021-3afd67a210bf";

/// An account that was in use before: its first network is the default of the location, and stays.
pub(crate) async fn stand_in() -> StandIn {
    let stand_in = StandIn::start().await;
    let range: Cidr = "10.200.0.0/20".parse().expect("a range");
    stand_in.world(|world| {
        world.plant_vpc("default-nyc3", "", range);
        let number = world.plant_certificate("api", &["api.example.com"]);
        let mut certificate = world.certificates.remove(&number).expect("it was planted");
        certificate.id = CERTIFICATE.into();
        world.certificates.insert(CERTIFICATE.into(), certificate);
    });
    stand_in
}

pub(crate) fn resource(kind: Kind, name: &str, spec: Value, depends_on: &[&Resource]) -> Resource {
    Resource {
        id: id(kind, name),
        provider: ProviderName::Digitalocean,
        protect: spec.get("protect").and_then(Value::as_bool).unwrap_or(false),
        spec,
        depends_on: depends_on.iter().map(|it| it.id.clone()).collect(),
        path: format!("region_us_east.{}", name.replace('-', "_")),
    }
}

pub(crate) fn network() -> Resource {
    let spec = json!({ "ip_range": "10.0.0.0/16", "location": "nyc3" });
    resource(Kind::Network, "us-net", spec, &[])
}

pub(crate) fn server(group: &str, index: u32, roles: &[&str]) -> Resource {
    let spec = json!({
        "group": group, "index": index, "image": "ubuntu-24-04-x64", "size": "s-2vcpu-4gb",
        "location": "nyc3", "roles": roles, "command": null,
    });
    resource(Kind::Server, &format!("{group}-{index}"), spec, &[&network()])
}

pub(crate) fn app() -> Resource {
    server("us-app", 1, &["app"])
}

pub(crate) fn bigger() -> Resource {
    let mut bigger = app();
    bigger.spec["size"] = "s-4vcpu-8gb".into();
    bigger
}

pub(crate) fn balancer(targets: &[&Resource]) -> Resource {
    let names: Vec<&str> = targets.iter().map(|it| it.id.name.as_str()).collect();
    let spec = json!({
        "location": "nyc3",
        "algorithm": "round_robin",
        "targets": names,
        "rules": [
            { "entry_protocol": "http", "entry_port": 80, "target_protocol": "http", "target_port": 8080,
              "certificate_id": null },
            { "entry_protocol": "https", "entry_port": 443, "target_protocol": "http", "target_port": 8080,
              "certificate_id": CERTIFICATE },
            { "entry_protocol": "tcp", "entry_port": 5432, "target_protocol": "tcp", "target_port": 5432,
              "certificate_id": null },
        ],
        "health_check": {
            "path": "/health", "interval_seconds": 5, "timeout_seconds": 5, "fall": 3, "rise": 2,
        },
        "redirect_http_to_https": true,
        "databases": [],
    });
    let network = network();
    let mut depends_on = vec![&network];
    depends_on.extend(targets);
    resource(Kind::LoadBalancer, "us-lb", spec, &depends_on)
}

pub(crate) fn firewall() -> Resource {
    let spec = json!({
        "kind": "digitalocean.Firewall", "name": "us-fw", "targets": ["us-app"],
        "inbound": [
            { "protocol": "tcp", "ports": "8080", "sources": [] },
            { "protocol": "tcp", "ports": "all", "sources": ["10.0.0.0/8", "us-db"] },
            { "protocol": "icmp", "ports": "all", "sources": [] },
        ],
        "protect": false,
    });
    resource(Kind::Firewall, "us-fw", spec, &[&network()])
}

pub(crate) fn volume() -> Resource {
    let spec = json!({
        "kind": "digitalocean.Volume", "name": "us-data", "region": "nyc3", "size_gb": 20,
        "attach_to": "us-db-1", "labels": {}, "protect": true,
    });
    resource(Kind::Volume, "us-data", spec, &[&network()])
}

/// One of every kind, in order of dependency.
pub(crate) fn region() -> Vec<Resource> {
    let app = [server("us-app", 1, &["app"]), server("us-app", 2, &["app"])];
    let db = server("us-db", 1, &["database", "store"]);
    let store = json!({ "server": "us-db-1", "heartbeat_ms": 100, "election_ms": 1000 });
    let store = resource(Kind::Store, "us-store", store, &[&db]);
    let database = json!({ "server": "us-db-1", "cluster": "postgres", "version": "15" });
    let mut database = resource(Kind::Database, "us-pg-1", database, &[&db, &store]);
    database.protect = true;
    let balancer = balancer(&[&app[0], &app[1]]);
    let [first, second] = app;
    vec![
        network(),
        firewall(),
        volume(),
        first,
        second,
        db,
        store,
        database,
        balancer,
    ]
}

pub(crate) async fn fixture() -> Fixture {
    let stand_in = Arc::new(stand_in().await);
    // Making and removing everything once for each answer that can be lost is more than an hour allows.
    stand_in.knobs(|knobs| knobs.rate_limit = RateLimit::per_hour(1_000_000));
    Fixture {
        changed: Some(bigger()),
        others: Some(Arc::new(Neighbours::new(stand_in.clone()))),
        told: Told::Objects,
        deadline: Duration::from_secs(300),
        keep: Some(Box::new(stand_in.clone())),
        ..Fixture::new(Arc::new(provider(&stand_in)), workspace(), equipped())
    }
}

/// The region, with labels of the user and an address that stays.
fn equipped() -> Vec<Resource> {
    let mut all = region();
    for it in &mut all {
        if ["us-app-2", "us-data"].contains(&it.id.name.as_str()) {
            it.spec[LABELS] = json!({ "env": "prod" });
        }
        if it.id.name == "us-app-2" {
            it.spec[FIXED_ADDRESS] = true.into();
        }
    }
    all
}

/// Other people's work in the same account.
pub(crate) struct Neighbours {
    stand_in: Arc<StandIn>,
    planted: Mutex<BTreeSet<String>>,
    /// As it was right after planting.
    before: Mutex<Vec<String>>,
}

impl Neighbours {
    pub(crate) fn new(stand_in: Arc<StandIn>) -> Self {
        let here = stand_in.world(|world| world.vpcs.keys().cloned().collect());
        Self {
            stand_in,
            planted: Mutex::new(here),
            before: Mutex::default(),
        }
    }

    fn plant(&self, act: impl FnOnce(&mut World) -> Vec<String>) {
        let numbers = self.stand_in.world(act);
        self.planted.lock().expect("nobody panics with it").extend(numbers);
        *self.before.lock().expect("nobody panics with it") = self.pictures(true);
    }

    /// Everything that was planted, or everything else, one line each.
    fn pictures(&self, planted: bool) -> Vec<String> {
        let theirs = self.planted.lock().expect("nobody panics with it").clone();
        self.stand_in.world(|world| {
            let mut out = Vec::new();
            macro_rules! picture {
                ($($list:ident),+) => {$(
                    for (number, it) in &world.$list {
                        if theirs.contains(&number.to_string()) == planted {
                            out.push(format!("{}: {it:?}", stringify!($list)));
                        }
                    }
                )+};
            }
            picture!(
                droplets,
                vpcs,
                load_balancers,
                firewalls,
                volumes,
                databases,
                reserved_ips
            );
            if !planted {
                // A tag exists by itself. Those of others are no business of ours, nor are words of people.
                let ours = world
                    .tags
                    .iter()
                    .filter(|tag| *tag == "env:prod" || tag.starts_with("ha:") && !tag.contains("shop-2"));
                let carried = |tag: &&String| world.droplets.values().any(|it| it.tags.contains(tag));
                out.extend(ours.filter(|tag| !carried(tag)).map(|tag| format!("tag {tag}")));
            }
            out
        })
    }
}

impl Others for Neighbours {
    fn plant_lookalikes(&self) -> bool {
        self.plant(|world| {
            let range = |text: &str| text.parse::<Cidr>().expect("a range");
            let theirs = [
                "ha:ws:shop-2",
                "ha:region:us-east",
                "ha:name:us-app-1",
                "ha:group:shop-2:us-east:us-app",
            ];
            let near = ["shop", "ha:wsx:shop", "ws:shop", "ha:region:us-east"];
            let words = "ha:ws:shop-2 ha:region:us-east ha:name:us-net";
            vec![
                world.plant_droplet("us-app-1-old", &[]).to_string(),
                world.plant_droplet("us-app-10", &near).to_string(),
                world.plant_droplet("their-app-1", &theirs).to_string(),
                world.plant_vpc("us-net-2", words, range("10.90.0.0/16")),
                world.plant_vpc("us-net-old", "the network ha:region:us-east", range("10.91.0.0/16")),
                world.plant_volume("us-data-2", 20, &near),
            ]
        });
        true
    }

    fn plant_namesake(&self, id: &ResourceId) -> bool {
        let range: Cidr = "10.92.0.0/16".parse().expect("a range");
        match id.kind {
            Kind::Network => self.plant(|world| vec![world.plant_vpc(&id.name, "", range)]),
            Kind::Server => self.plant(|world| vec![world.plant_droplet(&id.name, &["other"]).to_string()]),
            Kind::Volume => self.plant(|world| vec![world.plant_volume(&id.name, 10, &[])]),
            _ => return false,
        }
        true
    }

    fn uproot(&self) {
        let numbers = std::mem::take(&mut *self.planted.lock().expect("nobody panics with it"));
        let kept = self.stand_in.world(|world| {
            world
                .droplets
                .retain(|number, _| !numbers.contains(&number.to_string()));
            world.vpcs.retain(|number, it| it.default || !numbers.contains(number));
            world.volumes.retain(|number, _| !numbers.contains(number));
            world
                .vpcs
                .values()
                .filter(|it| it.default)
                .map(|it| it.id.clone())
                .collect::<Vec<_>>()
        });
        self.planted.lock().expect("nobody panics with it").extend(kept);
    }

    fn touched(&self) -> Vec<String> {
        let now = self.pictures(true);
        let before = self.before.lock().expect("nobody panics with it");
        before.iter().filter(|it| !now.contains(it)).cloned().collect()
    }

    fn leftovers(&self) -> Vec<String> {
        self.pictures(false)
    }

    fn tamper(&self, id: &ResourceId) -> bool {
        self.stand_in.world(|world| match id.kind {
            Kind::Server => {
                let droplet = world.droplets.values_mut().find(|it| it.name == id.name);
                droplet.expect("it was made").size = "s-4vcpu-8gb".into();
                true
            }
            Kind::LoadBalancer => {
                let balancer = world.load_balancers.values_mut().find(|it| it.name == id.name);
                let balancer = balancer.expect("it was made");
                balancer.settings["size_unit"] = 2.into();
                balancer.rules.remove(0);
                let tag = balancer.tag.clone();
                let first = world.droplets.values_mut().find(|it| it.tags.contains(&tag));
                first.expect("it has targets").tags.retain(|it| *it != tag);
                true
            }
            Kind::Firewall => {
                let firewall = world.firewalls.values_mut().find(|it| it.name == id.name);
                let firewall = firewall.expect("it was made");
                firewall.inbound.remove(0);
                firewall.outbound.clear();
                firewall.tags.retain(|tag| !tag.starts_with("ha:group:"));
                true
            }
            Kind::Volume => {
                let db = world.droplets.values().find(|it| it.name == "us-db-1").map(|it| it.id);
                let volume = world.volumes.values_mut().find(|it| it.name == id.name);
                let volume = volume.expect("it was made");
                assert_eq!(volume.droplet, db, "its server took it along");
                volume.droplet = None;
                true
            }
            // A range cannot be changed back, and what is a tag of a server has no spec to differ from.
            Kind::Network | Kind::Store | Kind::Database => false,
        })
    }

    fn throttle(&self) -> bool {
        let wait = Duration::from_secs(3600);
        let fault = Fault::TooMany { retry_after: wait };
        self.stand_in
            .faults()
            .inject(When::exactly("GET", "/load_balancers"), fault);
        true
    }

    fn linger(&self, id: &ResourceId) -> bool {
        let (list, status, message) = match id.kind {
            Kind::Network => ("/vpcs/", 409, "Can not delete VPC with members"),
            Kind::Server => ("/droplets/", 422, "Droplet already has a pending event."),
            Kind::Firewall => (
                "/firewalls/",
                409,
                "The request could not be completed due to a conflict.",
            ),
            Kind::Volume => ("/volumes/", 422, "Volume already has a pending event."),
            Kind::LoadBalancer => (
                "/load_balancers/",
                409,
                "The request could not be completed due to a conflict.",
            ),
            Kind::Store | Kind::Database => return false,
        };
        let body = json!({ "id": "unprocessable_entity", "message": message });
        let when = When::new("DELETE", list).times(3);
        self.stand_in.faults().inject(when, Fault::answer(status, body));
        true
    }

    fn lose_answer(&self, nth: u64) -> bool {
        self.stand_in
            .faults()
            .inject(When::writes().nth(nth), Fault::LoseAnswer);
        true
    }

    fn keep_answers(&self) -> bool {
        let waiting = self.stand_in.faults().waiting() > 0;
        self.stand_in.faults().clear();
        waiting
    }
}
