//! How long the pure core takes at scale: `cargo bench -p ha-core`.
//!
//! What a person waits for, with its budget, is measured by `scripts/bench.nu`; this is for whoever changes the code.

use std::{collections::BTreeMap, time::Duration};

use divan::{Bencher, black_box};
use ha_core::{
    check,
    config::Config,
    desired, lag,
    lsn::Lsn,
    model::{
        Database, Declared, FailoverPolicy, HealthCheck, LoadBalancer, Network, Objectives, Region, Role, ServerGroup,
        Store, SyncMode, TimingProfile, Workspace,
    },
    names::{ProviderName, RegionName, WorkspaceName},
    plan,
    report::{DatabaseReport, DatabaseState, NodeReport, NodeRole, StoreReport, WalSample},
    resource::{Labels, Live, Resource, Status},
};
use jiff::Timestamp;

fn main() {
    divan::main();
}

/// Nothing to do: every resource is compared.
#[divan::bench(args = [1_000, 10_000])]
fn plan_of_what_is_there(bencher: Bencher, resources: u32) {
    let desired = desired::resources(&workspace(resources, "small"), &Config::default());
    let live: Vec<Live> = desired.iter().map(applied).collect();
    bencher.bench(|| plan::plan(black_box(&desired), black_box(&live)));
}

/// Every server gets another size, one after another within its group.
#[divan::bench(args = [1_000, 10_000])]
fn plan_of_a_change_everywhere(bencher: Bencher, resources: u32) {
    let before = desired::resources(&workspace(resources, "small"), &Config::default());
    let live: Vec<Live> = before.iter().map(applied).collect();
    let desired = desired::resources(&workspace(resources, "large"), &Config::default());
    bencher.bench(|| plan::plan(black_box(&desired), black_box(&live)));
}

#[divan::bench(args = [1_000, 10_000])]
fn plan_from_nothing(bencher: Bencher, resources: u32) {
    let desired = desired::resources(&workspace(resources, "small"), &Config::default());
    bencher.bench(|| plan::plan(black_box(&desired), &[]));
}

#[divan::bench(args = [1_000, 10_000])]
fn destroy(bencher: Bencher, resources: u32) {
    let desired = desired::resources(&workspace(resources, "small"), &Config::default());
    let live: Vec<Live> = desired.iter().map(applied).collect();
    bencher.bench(|| plan::destroy(black_box(&live)));
}

#[divan::bench(args = [24, 1_000, 10_000])]
fn desired_resources(bencher: Bencher, resources: u32) {
    let workspace = workspace(resources, "small");
    bencher.bench(|| desired::resources(black_box(&workspace), &Config::default()));
}

/// 24 is the size of the example.
#[divan::bench(args = [24, 1_000, 10_000])]
fn check_rules(bencher: Bencher, resources: u32) {
    let workspace = workspace(resources, "small");
    bencher.bench(|| check::run(black_box(&workspace), &Config::default()));
}

/// A primary with a full ring of samples, and its replicas.
#[divan::bench(args = [3, 30])]
fn lag_table(bencher: Bencher, nodes: u64) {
    let nodes: Vec<lag::NodeView> = (0..nodes).map(node).collect();
    let objectives = workspace(24, "small").objectives;
    bencher.bench(|| lag::table(black_box(&nodes), &objectives, Timestamp::UNIX_EPOCH));
}

/// Three regions like those of the example, with groups of ten servers until there are about so many resources.
fn workspace(resources: u32, size: &str) -> Workspace {
    let region = |number: usize| {
        let (name, role) = [
            ("us-east", Role::Primary),
            ("eu-central", Role::Secondary),
            ("asia-southeast", Role::Tertiary),
        ][number];
        let declared = |kind: &str, name: String| Declared {
            path: format!("region.{name}"),
            name,
            kind: kind.to_owned(),
            protect: false,
            labels: BTreeMap::new(),
            fields: serde_json::Map::new(),
        };
        let group = |group: String, count: u32| ServerGroup {
            declared: declared("aws.EC2", group),
            count,
            size: size.to_owned(),
            image: "debian".into(),
            location: "eu-west-1".into(),
        };
        // A group of nine and the balancer in front of it.
        let groups = (resources / 3).saturating_sub(4).div_ceil(10).max(1);
        let balancer = |group: u32| LoadBalancer {
            declared: declared("aws.ALB", format!("{name}-lb-{group}")),
            targets: Some(format!("{name}-app-{group}")),
            location: "eu-west-1".into(),
            algorithm: "round_robin".into(),
            rules: Vec::new(),
            health_check: HealthCheck {
                protocol: "http".into(),
                port: None,
                path: "/health".into(),
                interval_seconds: 5,
                timeout_seconds: 2,
                fall: 3,
                rise: 2,
            },
            redirect_http_to_https: false,
        };
        let mut servers: Vec<ServerGroup> = (0..groups).map(|at| group(format!("{name}-app-{at}"), 9)).collect();
        servers.push(group(format!("{name}-db"), 1));
        Region {
            name: RegionName::new(name),
            field: format!("region_{number}"),
            role,
            provider: ProviderName::Aws,
            location: "eu-west-1".into(),
            coordinates: None,
            country: None,
            residency: Vec::new(),
            failover_priority: 10,
            can_lead: true,
            networks: vec![Network {
                declared: declared("aws.VPC", format!("{name}-net")),
                ip_range: format!("10.{number}.0.0/16"),
            }],
            servers,
            load_balancers: (0..groups).map(balancer).collect(),
            databases: vec![Database {
                declared: declared("ha.Postgres", format!("{name}-pg")),
                managed: false,
                engine: "postgres".into(),
                version: "15".into(),
                runs_on: Some(format!("{name}-db")),
                replicate_from: None,
                settings: BTreeMap::new(),
                location: "eu-west-1".into(),
            }],
            stores: vec![Store {
                declared: declared("ha.Store", format!("{name}-store")),
                runs_on: format!("{name}-db"),
            }],
            others: Vec::new(),
        }
    };
    Workspace {
        name: WorkspaceName::new("bench"),
        objectives: Objectives {
            rto_seconds: 300,
            rpo_seconds: 60,
            lag_warn_seconds: 30,
            lag_expected_seconds: 300,
            lag_critical_seconds: 600,
            min_distance_km: 500.0,
            max_latency_ms: 100.0,
            monthly_budget_usd: None,
        },
        profile: TimingProfile::Default,
        timing: TimingProfile::Default.timing(),
        failover: FailoverPolicy::default(),
        sync_mode: SyncMode::Strict,
        dns: None,
        regions: (0..3).map(region).collect(),
    }
}

fn applied(resource: &Resource) -> Live {
    Live {
        id: resource.id.clone(),
        provider: resource.provider,
        labels: Labels {
            ws: WorkspaceName::new("bench"),
            region: resource.id.region.clone(),
            name: resource.id.name.clone(),
            spec: resource.spec_hash(),
        },
        spec: resource.spec.clone(),
        status: Status::Running,
        detail: None,
        address: None,
        private_address: None,
        size: None,
        created_at: None,
        depends_on: resource.depends_on.clone(),
        protect: resource.protect,
        role: None,
        endpoints: BTreeMap::new(),
    }
}

/// The first is the primary; the others are behind it by a little more each.
fn node(number: u64) -> lag::NodeView {
    const RING: u64 = 900;
    let primary = number == 0;
    let sample = |at: u64| WalSample {
        lsn: Lsn(at * 1000),
        age: Duration::from_secs(RING - at),
    };
    let samples: Vec<WalSample> = (0..RING).filter(|_| primary).map(sample).collect();
    let name = format!("db-{number}");
    lag::NodeView {
        region: RegionName::new(format!("region-{number}")),
        node: name.clone(),
        report: Ok(NodeReport {
            workspace: "bench".into(),
            region: format!("region-{number}"),
            node: name,
            sampled_at: Timestamp::UNIX_EPOCH,
            age: Duration::from_millis(200),
            database: DatabaseReport {
                state: DatabaseState::Running,
                detail: None,
                role: Some(if primary { NodeRole::Primary } else { NodeRole::Replica }),
                system_identifier: None,
                timeline: Some(1),
                written: primary.then_some(Lsn(RING * 1000)),
                received: None,
                replayed: (!primary).then(|| Lsn((RING - 10 * number) * 1000)),
                upstream_silence: Some(Duration::from_millis(100)),
                upstream: None,
                replay_paused: false,
                senders: Vec::new(),
                slots: Vec::new(),
                started_at: None,
                connections: None,
                names: None,
                control_timeline: None,
                waiting: 0,
                weak_roles: Vec::new(),
            },
            samples,
            store: StoreReport::default(),
            guard_version: "0".into(),
            agreement: None,
        }),
    }
}
