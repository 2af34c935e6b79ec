//! What is there: resource files, and what the supervisors say about the processes behind them.

use std::collections::BTreeMap;

use ha_core::{
    names::ProviderName,
    report::NodeRole,
    resource::{Kind, Labels, Live, ResourceId, Status, spec_hash},
    unit::{UnitState, UnitStatus},
};
use serde::Deserialize;
use serde_json::Value;

use crate::ProviderError;
use crate::local::{
    Local,
    kinds::{
        network::{self, sockets},
        server::APP,
        store, usable,
    },
    process::{http, units::At},
    state::{
        hosts::{Addresses, WorkspaceFile},
        layout::{RELAY, port},
        record::Record,
    },
};

/// By region; none where the supervisor does not answer.
type Units = BTreeMap<String, Option<Vec<UnitStatus>>>;

/// What its process, and whatever answers for it, say of one resource.
struct Seen {
    status: Status,
    detail: Option<String>,
    role: Option<NodeRole>,
}

impl Seen {
    const fn of(status: Status, detail: Option<String>) -> Self {
        Self {
            status,
            detail,
            role: None,
        }
    }
}

/// Everything, in order of identity. All supervisors are asked at once.
pub(crate) async fn all(local: &Local) -> Result<Vec<Live>, ProviderError> {
    let Some(file) = local.record.read()? else {
        return Ok(Vec::new());
    };
    let records = local.records()?;
    let units = units(local, records.iter().map(|(id, _)| id.region.as_str())).await?;
    let seen = records
        .iter()
        .map(|(id, record)| live(local, &file, &units, id, record));
    Ok(futures::future::join_all(seen).await)
}

/// Everything by its files alone, in order of identity: where it is, and whether it is switched off. Nobody is
/// asked, so nothing that is stuck delays it; `Running` says no more than that it is meant to.
pub(crate) fn known(local: &Local) -> Result<Vec<Live>, ProviderError> {
    let Some(file) = local.record.read()? else {
        return Ok(Vec::new());
    };
    let records = local.records()?;
    let known = records.iter().map(|(id, record)| match record {
        Err(why) => damaged(local, id, why),
        Ok(record) => {
            let host = host_of(id, &record.spec);
            let at = At {
                region: id.region.as_str(),
                host: &host,
            };
            let status = switched_off(local, at).unwrap_or(Seen::of(Status::Running, None));
            described(local, &file, id, at, record, status)
        }
    });
    Ok(known.collect())
}

/// # Errors
/// `NotFound` when there is no such resource.
pub(crate) async fn one(local: &Local, id: &ResourceId) -> Result<Live, ProviderError> {
    let file = local.record.read()?;
    let (Some(file), Some(record)) = (file, local.record(id)) else {
        return Err(ProviderError::NotFound(id.clone()));
    };
    let units = units(local, [id.region.as_str()].into_iter()).await?;
    Ok(live(local, &file, &units, id, &record).await)
}

async fn units<'a>(local: &Local, regions: impl Iterator<Item = &'a str>) -> Result<Units, ProviderError> {
    let regions: std::collections::BTreeSet<&str> = regions.collect();
    let mut supervisors = Vec::new();
    for region in regions {
        supervisors.push((region, local.supervisor(region)?));
    }
    let asked = supervisors.iter().map(async |(region, supervisor)| {
        let units = match supervisor {
            Some(supervisor) => supervisor.units().await,
            None => None,
        };
        ((*region).to_owned(), units)
    });
    Ok(futures::future::join_all(asked).await.into_iter().collect())
}

async fn live(
    local: &Local,
    file: &WorkspaceFile,
    units: &Units,
    id: &ResourceId,
    record: &Result<Record, String>,
) -> Live {
    let record = match record {
        Ok(record) => record,
        Err(why) => return damaged(local, id, why),
    };
    let host = host_of(id, &record.spec);
    let at = At {
        region: id.region.as_str(),
        host: &host,
    };
    let address = file.address(at.region, at.host);
    let status = status(local, units, id, at, address, record).await;
    described(local, file, id, at, record, status)
}

fn described(local: &Local, file: &WorkspaceFile, id: &ResourceId, at: At<'_>, record: &Record, seen: Seen) -> Live {
    let address = file.address(at.region, at.host);
    let (status, detail) = match seen.status {
        Status::Running if !record.complete => (Status::Pending, Some("was not finished".to_owned())),
        status => (status, seen.detail),
    };
    Live {
        id: id.clone(),
        provider: record.provider,
        labels: record.labels.clone(),
        spec: record.spec.clone(),
        status,
        detail,
        address: address.map(|it| it.front.to_string()),
        private_address: address.map(|it| it.direct.to_string()),
        size: record.spec.get("size").and_then(Value::as_str).map(str::to_owned),
        created_at: Some(record.created_at),
        depends_on: record.depends_on.clone(),
        protect: record.protect,
        role: seen.role,
        endpoints: address
            .map(|address| endpoints(local, id.kind, at, address, record))
            .unwrap_or_default(),
    }
}

/// Labels that fit its (unknown) spec, so that a plan repairs it instead of suspecting somebody's change.
fn damaged(local: &Local, id: &ResourceId, why: &str) -> Live {
    Live {
        id: id.clone(),
        provider: ProviderName::Local,
        labels: Labels {
            ws: local.options.workspace.clone(),
            region: id.region.clone(),
            name: id.name.clone(),
            spec: spec_hash(&Value::Null),
        },
        spec: Value::Null,
        status: Status::Failed,
        detail: Some(format!("{} {why}", local.layout.resource(id).display())),
        address: None,
        private_address: None,
        size: None,
        created_at: None,
        depends_on: Vec::new(),
        protect: false,
        role: None,
        endpoints: BTreeMap::new(),
    }
}

/// The host that a resource lives on.
pub(crate) fn host_of(id: &ResourceId, spec: &Value) -> String {
    match id.kind {
        Kind::Network => RELAY.to_owned(),
        Kind::Store | Kind::Database => spec
            .get("server")
            .and_then(Value::as_str)
            .unwrap_or(&id.name)
            .to_owned(),
        _ => id.name.clone(),
    }
}

async fn status(
    local: &Local,
    units: &Units,
    id: &ResourceId,
    at: At<'_>,
    address: Option<Addresses>,
    record: &Record,
) -> Seen {
    if let Some(off) = switched_off(local, at) {
        return off;
    }
    let Some(Some(units)) = units.get(at.region) else {
        let detail = format!("the supervisor of {} does not answer", at.region);
        return unseen(record, detail);
    };
    let unit = match id.kind {
        Kind::Network => Some(RELAY),
        Kind::Server => runs_app(&record.spec).then_some(APP),
        Kind::Store => Some("etcd"),
        Kind::Database => Some("guard"),
        Kind::LoadBalancer => Some("haproxy"),
        Kind::Firewall | Kind::Volume => None,
    };
    let Some(unit) = unit else {
        return Seen::of(Status::Running, None);
    };
    let Some(seen) = units.iter().find(|seen| seen.host == at.host && seen.unit == unit) else {
        let detail = format!("{unit} is not known to the supervisor of {}", at.region);
        return unseen(record, detail);
    };
    match seen.state {
        UnitState::Ready => match (address, record.complete) {
            (Some(address), true) => looked_at(local, id, at, address, record).await,
            _ => Seen::of(Status::Running, None),
        },
        UnitState::Starting => Seen::of(Status::Pending, Some(local.why_not(at, seen))),
        UnitState::Stopped | UnitState::Backoff | UnitState::Stopping => {
            Seen::of(Status::Failed, Some(local.why_not(at, seen)))
        }
    }
}

/// Nobody says how it is.
fn unseen(record: &Record, detail: String) -> Seen {
    let status = if record.complete {
        Status::Failed
    } else {
        Status::Pending
    };
    Seen::of(status, Some(detail))
}

fn switched_off(local: &Local, at: At<'_>) -> Option<Seen> {
    local
        .is_off(at)
        .then(|| Seen::of(Status::Off, Some(format!("{} is switched off", at.host))))
}

/// Its process runs; whether it does its work only it can say.
async fn looked_at(local: &Local, id: &ResourceId, at: At<'_>, address: Addresses, record: &Record) -> Seen {
    let mut role = None;
    let trouble = match id.kind {
        Kind::Network => network::fronts_trouble(address).await,
        Kind::Store if !http::is_fine(&store::health_url(address)).await => {
            Some("the member sees no majority of the store".into())
        }
        Kind::Database => match record.spec(id) {
            Ok(spec) => {
                let node = usable::Node {
                    id,
                    at,
                    address,
                    spec: &spec,
                };
                match node.report().await {
                    Ok(report) => {
                        role = report.database.role;
                        usable::lacks(local, &node, &report).await
                    }
                    Err(error) => Some(format!("the guard does not answer: {error}")),
                }
            }
            Err(error) => Some(error.to_string()),
        },
        _ => None,
    };
    let status = if trouble.is_none() {
        Status::Running
    } else {
        Status::Failed
    };
    Seen {
        role,
        ..Seen::of(status, trouble)
    }
}

fn runs_app(spec: &Value) -> bool {
    let roles = spec.get("roles").and_then(Value::as_array);
    roles.is_some_and(|roles| roles.iter().any(|role| role == APP))
}

/// As the operator reaches them.
fn endpoints(local: &Local, kind: Kind, at: At, address: Addresses, record: &Record) -> BTreeMap<String, String> {
    #[derive(Default, Deserialize)]
    struct Behind {
        #[serde(default)]
        targets: Vec<String>,
        #[serde(default)]
        databases: Vec<String>,
    }
    let direct = address.direct;
    let mut named: Vec<(&str, String)> = Vec::new();
    match kind {
        Kind::Network => named.push(("relay", format!("http://{}:{}", address.front, port::RELAY_STATUS))),
        Kind::Server if runs_app(&record.spec) => {
            named.push(("app", format!("http://{direct}:{}", port::APP)));
            named.push(("health", format!("http://{direct}:{}/health", port::APP)));
        }
        Kind::Store => {
            named.push(("client", format!("https://{direct}:{}", port::ETCD_CLIENT)));
            named.push(("peer", format!("https://{}:{}", address.front, port::ETCD_PEER)));
            named.push(("health", store::health_url(address)));
        }
        Kind::Database => {
            named.push(("guard", format!("http://{direct}:{}", port::GUARD)));
            named.push(("postgres", format!("{direct}:{}", port::POSTGRES)));
        }
        Kind::LoadBalancer => {
            let behind = Behind::deserialize(&record.spec).unwrap_or_default();
            let rules = record.spec.get("rules").and_then(Value::as_array);
            let enters = |protocol: &str| {
                let of = |rule: &Value| {
                    rule.get("entry_protocol")
                        .and_then(Value::as_str)
                        .map(str::to_lowercase)
                };
                rules.is_some_and(|rules| rules.iter().any(|rule| of(rule).as_deref() == Some(protocol)))
            };
            if !behind.targets.is_empty() {
                if enters("http") || !enters("https") {
                    named.push(("http", format!("http://{direct}:{}", port::HTTP)));
                }
                if enters("https") {
                    named.push(("https", format!("https://{direct}:{}", port::HTTPS)));
                }
            }
            if !behind.databases.is_empty() {
                named.push(("write", format!("{direct}:{}", port::WRITE)));
                named.push(("read", format!("{direct}:{}", port::READ)));
            }
            if let Ok(sockets) = sockets(local, at) {
                named.push(("admin", sockets.join("admin.sock").display().to_string()));
            }
        }
        Kind::Server | Kind::Firewall | Kind::Volume => {}
    }
    named
        .into_iter()
        .map(|(name, endpoint)| (name.to_owned(), endpoint))
        .collect()
}
