//! A few things that exist, for tests.

use jiff::Timestamp;
use serde_json::json;

use super::{Found, FoundKind, Owner};
use crate::{
    names::{ProviderName, RegionName, WorkspaceName},
    resource::{Kind, Resource, ResourceId, Status},
};

pub(crate) fn ws() -> WorkspaceName {
    WorkspaceName::new("shop")
}

pub(crate) fn now() -> Timestamp {
    "2026-11-20T12:00:00Z".parse().expect("a time")
}

/// Old enough, at DigitalOcean in nyc3, and nobody's.
pub(crate) fn found(kind: Kind, name: &str) -> Found {
    Found {
        kind: FoundKind::Resource(kind),
        provider: ProviderName::Digitalocean,
        name: name.into(),
        location: Some("nyc3".into()),
        number: format!("number of {name}"),
        owner: None,
        labels: Default::default(),
        spec: json!({ "location": "nyc3" }),
        status: Status::Running,
        detail: None,
        address: None,
        size: None,
        created_at: Some("2026-01-01T00:00:00Z".parse().expect("a time")),
        idle: None,
        of_the_account: false,
    }
}

pub(crate) fn owned(mut found: Found, region: &str, name: &str) -> Found {
    found.owner = Some(Owner {
        ws: ws(),
        region: Some(RegionName::new(region)),
        name: Some(name.into()),
    });
    found
}

/// A network, two servers, and a member of the store on the first.
pub(crate) fn desired() -> Vec<Resource> {
    let region = RegionName::new("us-east");
    let resource = |kind: Kind, name: &str, spec| Resource {
        id: ResourceId::new(&region, kind, name),
        provider: ProviderName::Digitalocean,
        spec,
        depends_on: Vec::new(),
        protect: false,
        path: format!("region_us_east.{name}"),
    };
    vec![
        resource(Kind::Server, "us-app-1", json!({ "location": "nyc3" })),
        resource(Kind::Network, "us-net", json!({ "location": "nyc3" })),
        resource(Kind::Server, "us-app-2", json!({ "location": "nyc3" })),
        resource(Kind::Store, "us-store", json!({ "server": "us-app-1" })),
    ]
}
