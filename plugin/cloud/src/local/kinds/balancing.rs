//! Taking a server out of its balancers before it stops, and putting it back when it answers.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use ha_core::resource::{Kind, ResourceId};
use ha_edge::haproxy::{APP, Admin, AdminError, ServerRow, ServerState};
use serde::Deserialize;
use tokio::time::Instant;

use crate::ProviderError;
use crate::local::{Local, kinds::network::sockets, process::units::At};

/// A session that is longer than this is ended with its server.
pub(crate) const DRAINS_WITHIN: Duration = Duration::from_secs(10);
/// HAProxy's checks come as often as the user said; this is for one that answers.
const UP_WITHIN: Duration = Duration::from_secs(20);
/// HAProxy 2.6 tells nobody when a server comes up.
const ASK_AGAIN: Duration = Duration::from_millis(50);

#[derive(Deserialize)]
struct Targets {
    targets: Vec<String>,
}

/// A balancer whose server was taken out.
#[derive(Debug)]
pub(crate) struct Drained(ResourceId);

pub(crate) fn admin(local: &Local, region: &str, balancer: &str) -> Result<Admin, ProviderError> {
    socket(local, region, balancer).map(Admin::new)
}

/// The sockets of the region's balancers that lead to databases, made or about to be.
pub(crate) fn of_databases(local: &Local, region: &str) -> Result<Vec<PathBuf>, ProviderError> {
    #[derive(Deserialize)]
    struct LeadsTo {
        databases: Vec<String>,
    }
    let known = local.known(region, Kind::LoadBalancer)?.into_iter();
    let known = known.filter_map(|(id, record)| Some((id.name.clone(), record.spec::<LeadsTo>(&id).ok()?)));
    let wanted = local.wanted();
    let wanted = wanted
        .iter()
        .filter(|it| it.id.kind == Kind::LoadBalancer && it.id.region == region)
        .filter_map(|it| Some((it.id.name.clone(), LeadsTo::deserialize(&it.spec).ok()?)));
    let leads: BTreeMap<String, LeadsTo> = known.chain(wanted).collect();
    let leads = leads.iter().filter(|(_, spec)| !spec.databases.is_empty());
    leads.map(|(name, _)| socket(local, region, name)).collect()
}

pub(crate) fn socket(local: &Local, region: &str, balancer: &str) -> Result<PathBuf, ProviderError> {
    Ok(sockets(local, At { region, host: balancer })?.join("admin.sock"))
}

/// Afterwards the server takes no new requests, and those under way have ended (or had ten seconds to). Only where
/// another server is up to take over: otherwise a drained one helps nobody.
pub(crate) async fn drain(local: &Local, at: At<'_>) -> Result<Vec<Drained>, ProviderError> {
    let mut drained = Vec::new();
    for (id, admin, rows) in standing_behind(local, at).await? {
        let others_up = rows
            .iter()
            .any(|row| row.server != at.host && row.up && row.state == ServerState::Ready);
        if others_up {
            let left = admin
                .drain(APP, at.host, DRAINS_WITHIN)
                .await
                .map_err(|error| wrong(&id, &error))?;
            if left.sessions_left > 0 {
                tracing::info!(
                    server = at.host,
                    sessions = left.sessions_left,
                    "ended sessions that did not"
                );
            }
            drained.push(Drained(id));
        }
    }
    Ok(drained)
}

/// Afterwards every balancer of the server sends it requests again.
pub(crate) async fn bring_back(local: &Local, at: At<'_>, drained: &[Drained]) -> Result<(), ProviderError> {
    for (id, admin, rows) in standing_behind(local, at).await? {
        let out = rows
            .iter()
            .any(|row| row.server == at.host && row.state != ServerState::Ready);
        if !out && !drained.iter().any(|Drained(of)| *of == id) {
            continue;
        }
        let set = async {
            admin.set_state(APP, at.host, ServerState::Ready).await?;
            // It was just seen to answer; the next check need not be waited for.
            admin.set_health(APP, at.host, true).await
        };
        set.await.map_err(|error| wrong(&id, &error))?;
        up(&id, &admin, &[at.host.to_owned()]).await?;
    }
    Ok(())
}

/// Afterwards exactly these servers stand behind the balancer, those that are on are up, and none is held back.
pub(crate) async fn only(
    id: &ResourceId,
    admin: &Admin,
    servers: &[String],
    on: &[String],
) -> Result<(), ProviderError> {
    wait(id, admin, |rows| {
        let unexpected = rows.iter().find(|row| !servers.contains(&row.server));
        unexpected
            .map(|row| format!("still sends requests to {}", row.server))
            .or_else(|| first_down(rows, on))
    })
    .await?;
    // A run that was killed may have left one drained.
    let rows = app_servers(admin).await.map_err(|error| wrong(id, &error))?;
    for row in rows.iter().filter(|row| row.state != ServerState::Ready) {
        admin
            .set_state(APP, &row.server, ServerState::Ready)
            .await
            .map_err(|error| wrong(id, &error))?;
    }
    Ok(())
}

async fn up(id: &ResourceId, admin: &Admin, servers: &[String]) -> Result<(), ProviderError> {
    wait(id, admin, |rows| first_down(rows, servers)).await
}

fn first_down(rows: &[ServerRow], servers: &[String]) -> Option<String> {
    let is_up = |server: &&String| rows.iter().any(|row| row.server == **server && row.up);
    let down = servers.iter().find(|server| !is_up(server))?;
    Some(format!("server {down} does not pass its health check"))
}

async fn wait(
    id: &ResourceId,
    admin: &Admin,
    missing: impl Fn(&[ServerRow]) -> Option<String>,
) -> Result<(), ProviderError> {
    let deadline = Instant::now() + UP_WITHIN;
    loop {
        let detail = match app_servers(admin).await {
            Ok(rows) => match missing(&rows) {
                None => return Ok(()),
                Some(detail) => detail,
            },
            Err(error) => error.to_string(),
        };
        if Instant::now() >= deadline {
            return Err(ProviderError::NotReady { id: id.clone(), detail });
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

async fn app_servers(admin: &Admin) -> Result<Vec<ServerRow>, AdminError> {
    let mut rows = admin.servers().await?;
    rows.retain(|row| row.backend == APP);
    Ok(rows)
}

/// Balancers of the region that run and have the server; one that does not run has nothing to drain.
async fn standing_behind(local: &Local, at: At<'_>) -> Result<Vec<(ResourceId, Admin, Vec<ServerRow>)>, ProviderError> {
    let mut found = Vec::new();
    for (id, record) in local.known(at.region, Kind::LoadBalancer)? {
        if !record
            .spec::<Targets>(&id)
            .is_ok_and(|spec| spec.targets.iter().any(|target| target == at.host))
        {
            continue;
        }
        let admin = admin(local, at.region, &id.name)?;
        match app_servers(&admin).await {
            Ok(rows) if rows.iter().any(|row| row.server == at.host) => found.push((id, admin, rows)),
            Ok(_) | Err(AdminError::Unreachable { .. }) => {}
            Err(error) => return Err(wrong(&id, &error)),
        }
    }
    Ok(found)
}

pub(crate) fn wrong(id: &ResourceId, error: &AdminError) -> ProviderError {
    ProviderError::NotReady {
        id: id.clone(),
        detail: error.to_string(),
    }
}
