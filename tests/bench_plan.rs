//! How long a plan takes, and that it is linear. `scripts/bench.nu` reads the lines that this writes:
//! `{"resources": 10000, "nanoseconds": 12345678}`, a median each.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    time::Instant,
};

use ha_core::{
    names::{ProviderName, RegionName, WorkspaceName},
    plan::{Action, plan},
    resource::{Kind, Labels, Live, Resource, ResourceId, Status, spec_hash},
};
use serde_json::{Value, json};

fn main() -> io::Result<()> {
    let runs = runs();
    let mut out = io::stdout().lock();
    for resources in [1_000, 10_000, 20_000] {
        let (desired, live) = world(resources);
        let mut took: Vec<_> = (0..runs)
            .map(|_| {
                let started = Instant::now();
                let steps = plan(&desired, &live);
                let took = started.elapsed();
                assert!(steps.iter().filter(|step| step.action == Action::None).count() > resources / 2);
                took
            })
            .collect();
        took.sort();
        let line = json!({"resources": resources, "nanoseconds": took[runs / 2].as_nanos() as u64});
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// `--runs N`; cargo adds `--bench`, which says nothing here.
fn runs() -> usize {
    let mut args = std::env::args().skip_while(|it| it != "--runs");
    args.nth(1).and_then(|it| it.parse().ok()).unwrap_or(9).max(1)
}

/// Groups of a network and nine servers behind it. Of ten groups one is not there yet, one is not wanted any
/// more, one differs, and seven are as they should be.
fn world(resources: usize) -> (Vec<Resource>, Vec<Live>) {
    let (mut desired, mut live) = (Vec::new(), Vec::new());
    for number in 0..resources {
        let region = RegionName::new(format!("region-{}", number % 3));
        let group = number / 30;
        let network = ResourceId::new(&region, Kind::Network, format!("net-{group}"));
        let first = number % 30 < 3;
        let id = if first {
            network.clone()
        } else {
            ResourceId::new(&region, Kind::Server, format!("app-{number}"))
        };
        let depends_on = if first { Vec::new() } else { vec![network] };
        let spec = |size: &str| -> Value {
            if first {
                json!({"ip_range": "10.0.0.0/16", "location": "nyc3"})
            } else {
                json!({"group": "app", "index": number, "size": size, "location": "nyc3", "roles": ["app"], "command": null, "image": null})
            }
        };
        if group % 10 != 1 {
            desired.push(Resource {
                id: id.clone(),
                provider: ProviderName::Local,
                spec: spec(if group % 10 == 3 { "large" } else { "small" }),
                depends_on: depends_on.clone(),
                protect: false,
                path: String::new(),
            });
        }
        if group % 10 != 2 {
            live.push(existing(id, spec("small"), depends_on));
        }
    }
    (desired, live)
}

fn existing(id: ResourceId, spec: Value, depends_on: Vec<ResourceId>) -> Live {
    Live {
        labels: Labels {
            ws: WorkspaceName::new("bench"),
            region: id.region.clone(),
            name: id.name.clone(),
            spec: spec_hash(&spec),
        },
        id,
        provider: ProviderName::Local,
        spec,
        status: Status::Running,
        detail: None,
        address: None,
        private_address: None,
        size: None,
        created_at: None,
        depends_on,
        protect: false,
        role: None,
        endpoints: BTreeMap::new(),
    }
}
