//! One region at the stand-in, and others who are at work in the same project.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use ha_cloud::{
    contract::{Fixture, Others, Told},
    hetzner::{HetznerProvider, Options},
    secret::Secret,
};
use ha_core::{
    desired::{FIXED_ADDRESS, LABELS},
    names::{ProviderName, RegionName, WorkspaceName},
    resource::{Kind, Resource, ResourceId},
};
use ha_stand_ins::{
    Cidr, Fault, RateLimit, When,
    hetzner::{StandIn, World},
};
use serde_json::{Map, Value, json};

pub(crate) const PUBLIC_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE1heSB0aGlzIGtleSBvcGVuIG5vdGhpbmch a test";
pub(crate) const USER_DATA: &str = "#cloud-config\npackage_update: true\n";

pub(crate) fn workspace() -> WorkspaceName {
    WorkspaceName::new("shop")
}

pub(crate) fn id(kind: Kind, name: &str) -> ResourceId {
    ResourceId::new(&RegionName::new("eu-central"), kind, name)
}

/// For tests that wait: as patient as ever, and looking more often.
pub(crate) fn options(stand_in: &StandIn) -> Options {
    Options {
        endpoint: stand_in.endpoint(),
        ssh_public_key: Some(PUBLIC_KEY.into()),
        written: Arc::new(written),
        user_data: Arc::new(|_| Ok(USER_DATA.into())),
        deadline: Duration::from_secs(30),
        pause: Duration::from_millis(4),
        ..Options::new(workspace(), Secret::new(stand_in.token()))
    }
}

pub(crate) fn provider(stand_in: &StandIn) -> HetznerProvider {
    HetznerProvider::new(options(stand_in)).expect("the stand-in's address")
}

/// What the spec of a resource leaves out.
fn written(want: &Resource) -> Map<String, Value> {
    let all = match want.id.kind {
        Kind::Server => json!({ "ssh_keys": ["provisioning-key"], "spread": true }),
        Kind::LoadBalancer => json!({ "type": "lb11" }),
        _ => json!({}),
    };
    all.as_object().cloned().unwrap_or_default()
}

fn resource(kind: Kind, name: &str, spec: Value, depends_on: &[&Resource]) -> Resource {
    Resource {
        id: id(kind, name),
        provider: ProviderName::Hetzner,
        spec,
        depends_on: depends_on.iter().map(|it| it.id.clone()).collect(),
        protect: kind.holds_data(),
        path: format!("region_eu_central.{}", name.replace('-', "_")),
    }
}

pub(crate) fn network() -> Resource {
    let spec = json!({ "ip_range": "10.1.0.0/16", "location": "nbg1" });
    resource(Kind::Network, "eu-net", spec, &[])
}

pub(crate) fn server(group: &str, index: u32, roles: &[&str]) -> Resource {
    let spec = json!({
        "group": group, "index": index, "image": "ubuntu-24.04", "size": "cpx21",
        "location": "nbg1", "roles": roles, "command": null,
    });
    resource(Kind::Server, &format!("{group}-{index}"), spec, &[&network()])
}

pub(crate) fn balancer(targets: &[&Resource]) -> Resource {
    let names: Vec<&str> = targets.iter().map(|it| it.id.name.as_str()).collect();
    let spec = json!({
        "location": "nbg1",
        "algorithm": "round_robin",
        "targets": names,
        "rules": [
            { "entry_protocol": "http", "entry_port": 80, "target_protocol": "http", "target_port": 8080,
              "certificate_id": null },
            { "entry_protocol": "tcp", "entry_port": 5432, "target_protocol": "tcp", "target_port": 5432,
              "certificate_id": null },
        ],
        "health_check": {
            "path": "/health", "interval_seconds": 5, "timeout_seconds": 5, "fall": 3, "rise": 2,
        },
        "redirect_http_to_https": false,
        "databases": [],
    });
    let network = network();
    let mut depends_on = vec![&network];
    depends_on.extend(targets);
    resource(Kind::LoadBalancer, "eu-lb", spec, &depends_on)
}

/// One of every kind, in order of dependency.
pub(crate) fn region() -> Vec<Resource> {
    let network = network();
    let firewall = json!({
        "kind": "hetzner.Firewall", "name": "eu-fw", "targets": ["eu-app"],
        "inbound": [
            { "protocol": "tcp", "ports": "8080", "sources": [] },
            { "protocol": "tcp", "ports": "all", "sources": ["10.0.0.0/8"] },
            { "protocol": "icmp", "ports": "all", "sources": [] },
        ],
        "labels": { "team": "platform" }, "protect": false,
    });
    let volume = json!({
        "kind": "hetzner.Volume", "name": "eu-data", "location": "nbg1", "size_gb": 20,
        "attach_to": "eu-db-1", "labels": {}, "protect": true,
    });
    let app = [server("eu-app", 1, &["app"]), server("eu-app", 2, &["app"])];
    let db = server("eu-db", 1, &["database", "store"]);
    let store = json!({ "server": "eu-db-1", "heartbeat_ms": 100, "election_ms": 1000 });
    let store = resource(Kind::Store, "eu-store", store, &[&db]);
    let database = json!({ "server": "eu-db-1", "cluster": "postgres", "version": "15" });
    let database = resource(Kind::Database, "eu-pg-1", database, &[&db, &store]);
    let balancer = balancer(&[&app[0], &app[1]]);
    let [first, second] = app;
    vec![
        resource(Kind::Firewall, "eu-fw", firewall, &[&network]),
        resource(Kind::Volume, "eu-data", volume, &[&network]),
        first,
        second,
        db,
        store,
        database,
        balancer,
    ]
    .into_iter()
    .fold(vec![network], |mut all, it| {
        all.push(it);
        all
    })
}

pub(crate) async fn fixture() -> Fixture {
    let stand_in = Arc::new(StandIn::start().await);
    // Making and removing everything once for each answer that can be lost is more than an hour allows.
    stand_in.knobs(|knobs| knobs.rate_limit = RateLimit::per_hour(1_000_000));
    let mut resources = region();
    for it in &mut resources {
        if ["eu-net", "eu-app-2", "eu-lb"].contains(&it.id.name.as_str()) {
            it.spec[LABELS] = json!({ "env": "prod" });
        }
        if it.id.name == "eu-app-2" {
            it.spec[FIXED_ADDRESS] = true.into();
        }
    }
    let mut bigger = server("eu-app", 1, &["app"]);
    bigger.spec["size"] = "cpx31".into();
    Fixture {
        changed: Some(bigger),
        others: Some(Arc::new(Neighbours::new(stand_in.clone()))),
        told: Told::Objects,
        deadline: Duration::from_secs(60),
        keep: Some(Box::new(stand_in.clone())),
        ..Fixture::new(Arc::new(provider(&stand_in)), workspace(), resources)
    }
}

/// Other people's work in the same project.
pub(crate) struct Neighbours {
    stand_in: Arc<StandIn>,
    planted: Mutex<BTreeSet<u64>>,
    /// As it was right after planting.
    before: Mutex<Vec<String>>,
}

impl Neighbours {
    pub(crate) fn new(stand_in: Arc<StandIn>) -> Self {
        Self {
            stand_in,
            planted: Mutex::default(),
            before: Mutex::default(),
        }
    }

    fn plant(&self, act: impl FnOnce(&mut World) -> Vec<u64>) {
        let numbers = self.stand_in.world(act);
        self.planted.lock().expect("nobody panics with it").extend(numbers);
        *self.before.lock().expect("nobody panics with it") = self.pictures(true);
    }

    /// Everything that was planted, or everything else, one line each.
    fn pictures(&self, planted: bool) -> Vec<String> {
        let ours = self.planted.lock().expect("nobody panics with it").clone();
        self.stand_in.world(|world| {
            let mut out = Vec::new();
            macro_rules! picture {
                ($($list:ident),+) => {$(
                    for (number, it) in &world.$list {
                        if ours.contains(number) == planted {
                            out.push(format!("{}: {it:?}", stringify!($list)));
                        }
                    }
                )+};
            }
            picture!(servers, networks, load_balancers, firewalls, volumes, placement_groups);
            for (number, it) in &world.primary_ips {
                let assigned = it.assignee.is_some_and(|server| ours.contains(&server));
                if (ours.contains(number) || assigned) == planted {
                    out.push(format!("primary_ips: {it:?}"));
                }
            }
            out
        })
    }
}

impl Others for Neighbours {
    fn plant_lookalikes(&self) -> bool {
        self.plant(|world| {
            let range: Cidr = "10.9.0.0/16".parse().expect("a range");
            let theirs = [
                ("ha/ws", "shop-2"),
                ("ha/region", "eu-central"),
                ("ha/name", "eu-app-1"),
                ("ha/group", "eu-app"),
                ("ha/index", "1"),
            ];
            let net = [("ha/ws", "shop-2"), ("ha/region", "eu-central"), ("ha/name", "eu-net")];
            let near = [("ha-ws", "shop"), ("ws", "shop"), ("ha/region", "eu-central")];
            vec![
                world.plant_server("eu-app-1-old", &[]),
                world.plant_server("eu-app-10", &near),
                world.plant_server("their-app-1", &theirs),
                world.plant_network("eu-net-2", range, &net),
                world.plant_network("eu-net-old", range, &near),
                world.plant_volume("eu-data-2", 20, &near),
                world.plant_placement_group("eu-app-old", &near),
                world.plant_placement_group("their-app", &theirs),
            ]
        });
        true
    }

    fn plant_namesake(&self, id: &ResourceId) -> bool {
        let range: Cidr = "10.9.0.0/16".parse().expect("a range");
        match id.kind {
            Kind::Network => self.plant(|world| vec![world.plant_network(&id.name, range, &[])]),
            Kind::Server => self.plant(|world| vec![world.plant_server(&id.name, &[("team", "other")])]),
            Kind::Volume => self.plant(|world| vec![world.plant_volume(&id.name, 10, &[])]),
            _ => return false,
        }
        true
    }

    fn uproot(&self) {
        let numbers = std::mem::take(&mut *self.planted.lock().expect("nobody panics with it"));
        self.stand_in.world(|world| {
            world
                .primary_ips
                .retain(|_, it| it.assignee.is_none_or(|server| !numbers.contains(&server)));
            world.servers.retain(|number, _| !numbers.contains(number));
            world.networks.retain(|number, _| !numbers.contains(number));
            world.volumes.retain(|number, _| !numbers.contains(number));
            world.placement_groups.retain(|number, _| !numbers.contains(number));
        });
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
                let server = world.servers.values_mut().find(|it| it.name == id.name);
                server.expect("it was made").server_type = "cpx31".into();
                true
            }
            Kind::LoadBalancer => {
                let balancer = world.load_balancers.values_mut().find(|it| it.name == id.name);
                let balancer = balancer.expect("it was made");
                balancer.algorithm = "least_connections";
                balancer.services.remove(0);
                balancer.targets.clear();
                true
            }
            Kind::Firewall => {
                let firewall = world.firewalls.values_mut().find(|it| it.name == id.name);
                let firewall = firewall.expect("it was made");
                firewall.rules.remove(0);
                firewall.applied.clear();
                true
            }
            Kind::Volume => {
                let db = world.servers.values().find(|it| it.name == "eu-db-1").map(|it| it.id);
                let volume = world.volumes.values_mut().find(|it| it.name == id.name);
                let volume = volume.expect("it was made");
                assert_eq!(volume.server, db, "its server took it along");
                volume.server = None;
                true
            }
            // A range cannot be changed back, and what is a label of a server has no spec to differ from.
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
        let (list, status, code) = match id.kind {
            Kind::Network => ("/networks/", 409, "conflict"),
            Kind::Server => ("/servers/", 423, "locked"),
            Kind::Firewall => ("/firewalls/", 422, "resource_in_use"),
            Kind::Volume => ("/volumes/", 423, "locked"),
            Kind::LoadBalancer => ("/load_balancers/", 409, "conflict"),
            Kind::Store | Kind::Database => return false,
        };
        let body = json!({ "error": { "code": code, "message": "still in use" } });
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
