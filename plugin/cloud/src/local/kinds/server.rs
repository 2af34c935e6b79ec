//! A server: a folder and an address; with the role `app`, the application runs on it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use ha_core::{
    agent::AppConfig,
    resource::{Kind, Resource, ResourceId, spec_hash},
    unit::{Ready, StopSignal},
};
use serde::Deserialize;

use crate::ProviderError;
use crate::local::{
    Local,
    kinds::{
        balancing,
        network::{end_all_below, host_folders, refresh_relays, sockets},
        nodes,
    },
    process::{
        http,
        units::{At, Process},
    },
    state::{
        files::{self, PLAIN, SECRET},
        hosts::{Addresses, HostKind},
        layout::port,
        record,
        secrets::Password,
    },
};

pub(crate) const APP: &str = "app";
/// User and database of the application.
pub(crate) const APP_USER: &str = "app";
pub(crate) const APP_DATABASE: &str = "app";
const READY_WITHIN: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, Deserialize)]
struct ServerSpec {
    roles: Vec<String>,
    command: Option<Vec<String>>,
}

/// Afterwards the server has its address and folders; an application server answers `/health`.
pub(crate) async fn ensure(local: &Local, want: &Resource) -> Result<(), ProviderError> {
    let spec: ServerSpec = record::fields(&want.id, &want.spec)?;
    let at = At {
        region: want.id.region.as_str(),
        host: &want.id.name,
    };
    local.needs_all(want)?;
    let address = local.record.allocate(at.region, at.host, HostKind::Server)?;
    local.begin(want)?;
    host_folders(local, at)?;
    certificate(local, at, address)?;
    refresh_relays(local)?;
    if spec.roles.iter().any(|role| role == APP) {
        let databases = balancer_databases(local, at)?;
        app(local, &want.id, at, address, &spec, &databases).await?;
    } else {
        local.take(at, APP).await?;
        local.running(at.region)?.sync().await?;
    }
    local.finish(want)
}

/// Afterwards nothing of the server is left.
///
/// # Errors
/// `Refused` while a database or a member of the store lives on it.
pub(crate) async fn remove(local: &Local, id: &ResourceId) -> Result<(), ProviderError> {
    #[derive(Deserialize)]
    struct LivesOn {
        server: String,
    }
    let at = At {
        region: id.region.as_str(),
        host: &id.name,
    };
    for kind in [Kind::Store, Kind::Database] {
        for (tenant, record) in local.known(at.region, kind)? {
            if record.spec::<LivesOn>(&tenant).is_ok_and(|spec| spec.server == id.name) {
                return Err(ProviderError::Refused {
                    what: format!("{id} still holds {} {}", tenant.kind, tenant.name),
                    help: "remove what is on it first; ha destroy does it in order".into(),
                });
            }
        }
    }
    remove_host(local, at).await?;
    local.forget(id)
}

/// Afterwards nothing of the host runs, and its folders are gone.
pub(crate) async fn remove_host(local: &Local, at: At<'_>) -> Result<(), ProviderError> {
    let host = local.layout.host(at.region, at.host);
    if host.0.exists() {
        for name in files::names_in(&host.units())? {
            files::remove_all(&host.units().join(name))?;
        }
        local.stopped(at, None, Duration::from_secs(90)).await?;
        end_all_below(local, &host.0).await?;
        files::remove_all(&host.0)?;
    }
    if let Ok(sockets) = sockets(local, at) {
        files::remove_all(&sockets)?;
    }
    Ok(())
}

/// Afterwards the host's certificate is for the addresses it is called by.
pub(crate) fn certificate(local: &Local, at: At, address: Addresses) -> Result<(), ProviderError> {
    // Relays call from the machine's own address, and members of the store check that.
    let addresses = [address.direct, address.front, std::net::Ipv4Addr::LOCALHOST];
    local
        .secrets
        .certificate(&local.layout.host(at.region, at.host), &addresses)
        .map(drop)
}

/// Afterwards the applications behind a balancer know these database nodes (`region/server`): servers are made before
/// their balancer, which is the first to be told of them.
pub(crate) async fn refresh_apps(
    local: &Local,
    region: &str,
    targets: &[String],
    databases: &[String],
) -> Result<(), ProviderError> {
    for (id, record) in local.known(region, Kind::Server)? {
        let at = At { region, host: &id.name };
        if targets.contains(&id.name) && local.unit(at, APP).is_some() {
            let spec: ServerSpec = record.spec(&id)?;
            let address = local.record.allocate(region, at.host, HostKind::Server)?;
            app(local, &id, at, address, &spec, databases).await?;
        }
    }
    Ok(())
}

async fn app(
    local: &Local,
    id: &ResourceId,
    at: At<'_>,
    address: Addresses,
    spec: &ServerSpec,
    databases: &[String],
) -> Result<(), ProviderError> {
    let process = app_process(local, at, address, spec, databases)?;
    if local.is_off(at) {
        return local.put(at, address.direct, &process).await.map(drop);
    }
    // One at a time in a region: side by side they would leave nobody to answer meanwhile. Of one that is new nobody
    // expects an answer yet.
    let _turn = match local.unit(at, APP) {
        Some(_) => Some(local.rolling.of(at.region).await),
        None => None,
    };
    let drained = match local.would_restart(at, &process) {
        true => balancing::drain(local, at).await?,
        false => Vec::new(),
    };
    let unit = local.put(at, address.direct, &process).await?;
    local.ready(id, at, &unit, READY_WITHIN).await?;
    let health = format!("http://{}:{}/health", address.direct, port::APP);
    if !http::is_fine(&health).await {
        let detail = format!("{health} does not answer with a status below 400");
        return Err(ProviderError::NotReady { id: id.clone(), detail });
    }
    // Also when nothing was drained just now: a run that was killed may have left it so.
    balancing::bring_back(local, at, &drained).await
}

fn app_process(
    local: &Local,
    at: At,
    address: Addresses,
    spec: &ServerSpec,
    databases: &[String],
) -> Result<Process, ProviderError> {
    let host = local.layout.host(at.region, at.host);
    let password_file = local.secrets.hand_out(&host, Password::App)?;
    let password = local.secrets.read(Password::App)?;
    let balancer = balancer_address(local, at)?;
    let config = AppConfig {
        region: at.region.to_owned(),
        server: at.host.to_owned(),
        listen: format!("{}:{}", address.direct, port::APP),
        write: format!("{balancer}:{}", port::WRITE),
        read: format!("{balancer}:{}", port::READ),
        ca: host.tls("ca.pem"),
        user: APP_USER.into(),
        database: APP_DATABASE.into(),
        password_file,
        databases: nodes::read(databases)?
            .into_iter()
            .map(|node| (node.name, node.region))
            .collect(),
    };
    let pgpass = host.etc("pgpass");
    let line = format!("*:*:{APP_DATABASE}:{APP_USER}:{password}\n");
    local.files.write_if_changed(&pgpass, line.as_bytes(), SECRET)?;
    let text = serde_json::to_vec_pretty(&config).map_err(|error| ProviderError::Other {
        what: error.to_string(),
    })?;
    let config_path = host.etc("app.json");
    local.files.write_if_changed(&config_path, &text, PLAIN)?;
    let (program, args) = match &spec.command {
        Some(command) => own_command(local, command)?,
        None => {
            let args = ["app".into(), "--config".into(), config_path.display().to_string()];
            (local.guard_program()?, args.to_vec())
        }
    };
    Ok(Process {
        name: APP,
        program,
        args,
        env: environment(&config, &pgpass)
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect::<BTreeMap<_, _>>(),
        stop_signal: StopSignal::Term,
        reload_signal: None,
        stop_timeout: Duration::from_secs(10),
        ready: Some(Ready::Http(format!("http://{}:{}/health", address.direct, port::APP))),
        reads_at_start: vec![
            String::from_utf8_lossy(&text).into_owned(),
            // A hash, because this becomes part of a key that others may read.
            spec_hash(&password.into()),
        ],
        reads_again: Vec::new(),
        ports: vec![port::APP],
    })
}

/// What every application is told, the user's own as well.
pub(crate) fn environment(config: &AppConfig, pgpass: &Path) -> [(&'static str, String); 9] {
    [
        ("HA_REGION", config.region.clone()),
        ("HA_SERVER", config.server.clone()),
        ("HA_LISTEN", config.listen.clone()),
        ("HA_DATABASE_WRITE", config.write.clone()),
        ("HA_DATABASE_READ", config.read.clone()),
        ("HA_CA", config.ca.display().to_string()),
        ("PGPASSFILE", pgpass.display().to_string()),
        ("PGUSER", APP_USER.into()),
        ("PGDATABASE", APP_DATABASE.into()),
    ]
}

/// The nodes that a balancer of the region leads to; none before there is one.
fn balancer_databases(local: &Local, at: At) -> Result<Vec<String>, ProviderError> {
    #[derive(Deserialize)]
    struct LeadsTo {
        targets: Vec<String>,
        databases: Vec<String>,
    }
    let known = local.known(at.region, Kind::LoadBalancer)?.into_iter();
    let known = known.filter_map(|(id, record)| record.spec::<LeadsTo>(&id).ok());
    let wanted = local.wanted();
    let wanted = wanted
        .iter()
        .filter(|it| it.id.kind == Kind::LoadBalancer && it.id.region == at.region);
    // One that is to be made next spares the application a start of its own.
    let mut specs = known.chain(wanted.filter_map(|it| LeadsTo::deserialize(&it.spec).ok()));
    let ours = specs.find(|spec| spec.targets.iter().any(|target| target == at.host));
    Ok(ours.map(|spec| spec.databases).unwrap_or_default())
}

/// The region's balancer leads to the databases; the first one has the lowest address, made or not.
fn balancer_address(local: &Local, at: At) -> Result<std::net::Ipv4Addr, ProviderError> {
    let known = local.known(at.region, Kind::LoadBalancer)?;
    let file = local.record.read()?;
    let octet = file.as_ref().map_or(0, |file| file.octet);
    let region = file
        .as_ref()
        .and_then(|file| file.region_octet(at.region))
        .unwrap_or_default();
    let first = known
        .iter()
        .filter_map(|(id, _)| file.as_ref()?.address(at.region, &id.name))
        .map(|address| address.direct)
        .min();
    Ok(first.unwrap_or_else(|| std::net::Ipv4Addr::new(127, octet, region, HostKind::FIRST_BALANCER)))
}

/// The user's program, as their shell would find it.
fn own_command(local: &Local, command: &[String]) -> Result<(PathBuf, Vec<String>), ProviderError> {
    let refused = |what: String| ProviderError::Refused {
        what,
        help: "give app_command in [local] of config.toml a program and its arguments, as a list".into(),
    };
    let (program, args) = command
        .split_first()
        .ok_or_else(|| refused("app_command is empty".into()))?;
    let found = if program.contains('/') {
        let beside = local
            .options
            .source
            .parent()
            .unwrap_or(&local.options.source)
            .join(program);
        Some(beside).filter(|path| path.is_file())
    } else {
        std::env::split_paths(&local.options.path)
            .map(|folder| folder.join(program))
            .find(|path| path.is_file())
    };
    let found = found.ok_or_else(|| refused(format!("app_command: there is no program {program}")))?;
    Ok((found, args.to_vec()))
}
