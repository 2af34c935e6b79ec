//! The example workspace as the evaluator would hand it over, for tests.

use std::collections::BTreeMap;

use serde_json::Map;

use crate::{
    geo,
    model::*,
    names::{ProviderName, RegionName, WorkspaceName},
    resource::{Labels, Live, Resource, Status},
};

/// Three regions at three providers, each with applications, a balancer, its own PostgreSQL and a store member.
pub(crate) fn workspace() -> Workspace {
    Workspace {
        name: WorkspaceName::new("shop"),
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
        dns: Some(Dns {
            kind: "aws.Route53".into(),
            path: "dns".into(),
            domain: "api.example.com".into(),
            zone: None,
            ttl_seconds: 60,
            routing: "geolocation".into(),
            default_region: Some("us-east".into()),
            locations: BTreeMap::new(),
            names: BTreeMap::new(),
            weights: BTreeMap::new(),
            probes: true,
            probe_protocol: "HTTPS".into(),
            probe_port: 443,
            probe_path: "/health".into(),
            probe_interval_seconds: 30,
            probe_failures: 3,
        }),
        regions: vec![
            region("us-east", Role::Primary, ProviderName::Digitalocean, "nyc3", "us", 0),
            region("eu-central", Role::Secondary, ProviderName::Hetzner, "nbg1", "eu", 1),
            region(
                "asia-southeast",
                Role::Tertiary,
                ProviderName::Aws,
                "ap-southeast-1",
                "asia",
                2,
            ),
        ],
    }
}

pub(crate) fn region(name: &str, role: Role, provider: ProviderName, slug: &str, short: &str, range: u8) -> Region {
    let field = format!("region_{}", name.replace('-', "_"));
    let declared = |kind: &str, name: String, key: &str| Declared {
        name,
        kind: kind.to_owned(),
        path: format!("{field}.{key}"),
        protect: false,
        labels: BTreeMap::new(),
        fields: Map::new(),
    };
    let group = |name: &str, key: &str, count: u32| ServerGroup {
        declared: declared(&format!("{provider}.Server"), format!("{short}-{name}"), key),
        count,
        size: "small".into(),
        image: "debian-12".into(),
        location: slug.to_owned(),
    };
    let known = geo::location(provider, slug);
    Region {
        name: RegionName::new(name),
        role,
        provider,
        location: slug.to_owned(),
        coordinates: known.map(|it| it.at),
        country: known.map(|it| it.country.to_owned()),
        residency: Vec::new(),
        failover_priority: role.failover_priority(),
        can_lead: true,
        networks: vec![Network {
            declared: declared(&format!("{provider}.Network"), format!("{short}-net"), "network"),
            ip_range: format!("10.{range}.0.0/16"),
        }],
        servers: vec![group("app", "app_servers", 3), group("db", "db_servers", 1)],
        load_balancers: vec![LoadBalancer {
            declared: declared(
                &format!("{provider}.LoadBalancer"),
                format!("{short}-lb"),
                "load_balancer",
            ),
            targets: Some(format!("{short}-app")),
            location: slug.to_owned(),
            algorithm: "round_robin".into(),
            rules: vec![ForwardingRule {
                entry_protocol: "http".into(),
                entry_port: 80,
                target_protocol: "http".into(),
                target_port: 8080,
                certificate_id: None,
            }],
            health_check: HealthCheck {
                protocol: "http".into(),
                port: None,
                path: "/health".into(),
                interval_seconds: 5,
                timeout_seconds: 3,
                fall: 3,
                rise: 2,
            },
            redirect_http_to_https: false,
        }],
        databases: vec![Database {
            declared: declared("ha.Postgres", format!("{short}-pg"), "database"),
            managed: false,
            engine: "postgres".into(),
            version: "15".into(),
            runs_on: Some(format!("{short}-db")),
            replicate_from: None,
            settings: BTreeMap::from([("max_connections".to_owned(), "100".to_owned())]),
            location: slug.to_owned(),
        }],
        stores: vec![Store {
            declared: declared("ha.Store", format!("{short}-store"), "store"),
            runs_on: format!("{short}-db"),
        }],
        others: Vec::new(),
        field,
    }
}

/// The resource as a provider reports it after it was applied.
pub(crate) fn applied(resource: &Resource) -> Live {
    Live {
        id: resource.id.clone(),
        provider: resource.provider,
        labels: Labels {
            ws: WorkspaceName::new("shop"),
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
