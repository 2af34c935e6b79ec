//! One node of the replicated database: a guard, which makes and runs PostgreSQL beside it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use ha_core::{
    agent::{FailoverConfig, GuardConfig, NodePolicy, Peer, PostgresConfig, StoreConfig, TlsFiles},
    model::{FailoverPolicy, SyncMode, Timing},
    resource::{Kind, Resource, ResourceId},
    unit::{Ready, StopSignal},
};
use serde::Deserialize;

use crate::ProviderError;
use crate::local::{
    Local,
    kinds::{
        balancing,
        network::{end_all_below, refresh_relays, sockets},
        nodes, renew,
        server::{self, APP_DATABASE, APP_USER},
        store, usable,
    },
    process::{
        programs,
        units::{At, Process},
    },
    state::{
        files::{self, failed, read_json},
        hosts::{Addresses, HostKind},
        layout::port,
        record,
        secrets::Password,
    },
};

pub(crate) const UNIT: &str = "guard";
/// Beside the guard, and not of it: it ends the database when the guard hangs.
const DEADMAN: &str = "deadman";
/// What this node has promised; survives its guard, and its data when those are made anew.
const PROMISE: &str = "promise.json";
pub(crate) const CONFIG: &str = "guard.json";
/// `initdb` takes seconds; a copy of a big primary takes as long as its disk.
pub(crate) const READY_WITHIN: Duration = Duration::from_secs(180);
const STOPS_WITHIN: Duration = Duration::from_secs(60);
const DEADMAN_READY_WITHIN: Duration = Duration::from_secs(30);
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct DatabaseSpec {
    pub(crate) server: String,
    pub(crate) cluster: String,
    pub(crate) engine: String,
    pub(crate) version: String,
    founder: bool,
    settings: BTreeMap<String, String>,
    /// `region/server` of the other nodes.
    pub(crate) peers: Vec<String>,
    sync_mode: SyncMode,
    timing: Timing,
    failover: FailoverPolicy,
    voters: Vec<Voter>,
}

/// Who has a say in who leads, as `region/server`.
#[derive(Clone, Debug, Deserialize)]
struct Voter {
    place: String,
    data: bool,
    priority: u32,
    forbidden: Option<String>,
}

/// All that is asked of one that exists, whichever version of this program wrote its record.
#[derive(Debug, Deserialize)]
struct LivesOn {
    server: String,
}

/// Afterwards the node is a primary that can be written, or a replica that streams.
pub(crate) async fn ensure(local: &Local, want: &Resource) -> Result<(), ProviderError> {
    let spec: DatabaseSpec = record::fields(&want.id, &want.spec)?;
    let at = At {
        region: want.id.region.as_str(),
        host: &spec.server,
    };
    local.needs_all(want)?;
    local.needs(
        &want.id,
        &ResourceId::new(&want.id.region, Kind::Server, spec.server.clone()),
    )?;
    let bin_dir = programs_of(local, &want.id, &spec)?;
    let address = local.record.allocate(at.region, at.host, HostKind::Server)?;
    let host = local.layout.host(at.region, at.host);
    local.begin(want)?;
    server::certificate(local, at, address)?;
    let certificate = host.tls("cert.pem");
    let certificate = fs::read_to_string(&certificate).map_err(|source| failed("cannot read", &certificate, source))?;
    for password in [Password::Admin, Password::Replication, Password::App] {
        local.secrets.hand_out(&host, password)?;
    }
    let path = host.etc(CONFIG);
    let config = {
        let _telling = local.telling();
        let config = config(local, at, address, &spec, bin_dir)?;
        local.files.write_json_if_changed(&path, &config)?;
        config
    };
    refresh_relays(local)?;
    let process = Process {
        name: UNIT,
        program: local.guard_program()?,
        args: vec!["guard".into(), "--config".into(), path.display().to_string()],
        env: BTreeMap::new(),
        stop_signal: StopSignal::Term,
        reload_signal: None,
        stop_timeout: STOPS_WITHIN,
        ready: Some(Ready::Http(format!("http://{}:{}/health", address.direct, port::GUARD))),
        // A guard that takes the database over has it read its certificate, too.
        reads_at_start: vec![told_at_once(config)?, certificate],
        reads_again: Vec::new(),
        ports: vec![port::GUARD, port::POSTGRES],
    };
    if local.is_off(at) {
        local.put(at, address.direct, &deadman(local, at, &path)?).await?;
        local.put(at, address.direct, &process).await?;
        return local.finish(want);
    }
    let log = fs::metadata(host.log(UNIT)).map_or(0, |meta| meta.len());
    let node = usable::Node {
        id: &want.id,
        at,
        address,
        spec: &spec,
    };
    watched(local, want, at, address, &path).await?;
    let unit = if local.would_restart(at, &process) && renew::runs(&node).await {
        renew::renew(local, &node, process).await?
    } else {
        local.put(at, address.direct, &process).await?
    };
    usable::wait(local, &node, log).await?;
    local.ready(&want.id, at, &unit, READY_WITHIN).await?;
    local.finish(want)
}

/// Afterwards the deadman runs: before the guard does, and whatever becomes of the guard.
async fn watched(
    local: &Local,
    want: &Resource,
    at: At<'_>,
    address: Addresses,
    config: &Path,
) -> Result<(), ProviderError> {
    let process = deadman(local, at, config)?;
    let unit = local.put(at, address.direct, &process).await?;
    local.ready(&want.id, at, &unit, DEADMAN_READY_WITHIN).await
}

fn deadman(local: &Local, at: At, config: &Path) -> Result<Process, ProviderError> {
    let data_dir = local.layout.host(at.region, at.host).data("postgres");
    Ok(Process {
        name: DEADMAN,
        program: local.guard_program()?,
        args: vec!["deadman".into(), "--config".into(), config.display().to_string()],
        env: BTreeMap::new(),
        stop_signal: StopSignal::Term,
        reload_signal: None,
        stop_timeout: Duration::from_secs(5),
        ready: None,
        // Which database, and where the deadline is. All else of the configuration is the guard's.
        reads_at_start: vec![
            data_dir.display().to_string(),
            sockets(local, at)?.display().to_string(),
        ],
        reads_again: Vec::new(),
        ports: Vec::new(),
    })
}

/// What its guard is told, as [`ensure`] would write it.
pub(crate) fn render(local: &Local, want: &Resource) -> Result<String, ProviderError> {
    let spec: DatabaseSpec = record::fields(&want.id, &want.spec)?;
    let at = At {
        region: want.id.region.as_str(),
        host: &spec.server,
    };
    let address = local.record.allocate(at.region, at.host, HostKind::Server)?;
    let config = config(local, at, address, &spec, programs_of(local, &want.id, &spec)?)?;
    files::json_text(&config)
}

/// # Errors
/// `Refused` for what is not PostgreSQL, `NotInstalled` where there is none.
fn programs_of(local: &Local, id: &ResourceId, spec: &DatabaseSpec) -> Result<PathBuf, ProviderError> {
    if !spec.is_postgres() {
        return Err(ProviderError::Refused {
            what: format!("{id}: the local target runs PostgreSQL, not {}", spec.engine),
            help: "declare it as ha.Postgres".into(),
        });
    }
    programs::postgres(&local.options.path, spec.major())
}

impl DatabaseSpec {
    pub(crate) fn is_postgres(&self) -> bool {
        matches!(self.engine.as_str(), "postgres" | "postgresql" | "pg")
    }

    /// `15`; none when the version does not begin with a number.
    pub(crate) fn major(&self) -> Option<u32> {
        self.version.split('.').next().and_then(|major| major.parse().ok())
    }
}

/// Afterwards nothing of the node is left, its data included.
pub(crate) async fn remove(local: &Local, id: &ResourceId) -> Result<(), ProviderError> {
    let Some(record) = local.record(id) else { return Ok(()) };
    let Some(spec) = record.ok().and_then(|record| record.spec::<LivesOn>(id).ok()) else {
        // Nothing says where it was; its server's folder is removed with the server.
        return local.forget(id);
    };
    let at = At {
        region: id.region.as_str(),
        host: &spec.server,
    };
    let host = local.layout.host(at.region, at.host);
    // The guard first: as long as its database runs, somebody watches over both.
    local.take(at, UNIT).await?;
    local.take(at, DEADMAN).await?;
    // A guard that was killed leaves its database running, which then has no unit.
    end_all_below(local, &host.data("postgres")).await?;
    let etc = [CONFIG, "admin", "replication"].map(|file| host.etc(file));
    for path in etc
        .into_iter()
        .chain([host.data("postgres"), host.data(PROMISE)])
        .chain([host.log(UNIT), host.log(DEADMAN), host.log("postgres")])
    {
        files::remove_all(&path)?;
    }
    local.forget(id)
}

/// Guards find the store through any member, and turn the balancers beside them, so all of them are told of a change.
/// They read it at their next start: it is no reason to restart a database; their own region's member of the store comes
/// first anyway, and a balancer that no guard turns looks for itself, within a second or so.
pub(crate) fn refresh_guards(local: &Local) -> Result<(), ProviderError> {
    let _telling = local.telling();
    for region in local.regions()? {
        let endpoints = store::endpoints(local, &region)?;
        let balancers = balancing::of_databases(local, &region)?;
        for (id, record) in local.known(&region, Kind::Database)? {
            let Ok(LivesOn { server }) = record.spec(&id) else {
                continue;
            };
            let path = local.layout.host(&region, &server).etc(CONFIG);
            if let Ok(Some(mut config)) = read_json::<GuardConfig>(&path) {
                config.store.endpoints.clone_from(&endpoints);
                config.failover.balancers.clone_from(&balancers);
                local.files.write_json_if_changed(&path, &config)?;
            }
        }
    }
    Ok(())
}

/// What of the configuration a guard must be told at once: not where the store and the balancers are, nor who was to
/// make the first database.
fn told_at_once(mut config: GuardConfig) -> Result<String, ProviderError> {
    config.store.endpoints.clear();
    config.failover.balancers.clear();
    config.declared_primary = false;
    serde_json::to_string(&config).map_err(|error| ProviderError::Other {
        what: error.to_string(),
    })
}

/// Nodes are called as the guards call them; a witness by its server, which no database has.
fn voters(voters: &[Voter], nodes: &[(String, String)]) -> Result<Vec<NodePolicy>, ProviderError> {
    let mut out = Vec::new();
    for voter in voters {
        let (region, server) = voter.place.split_once('/').ok_or_else(|| ProviderError::Other {
            what: format!("{:?} is not of the form region/server", voter.place),
        })?;
        let known = nodes.iter().find(|(place, _)| *place == voter.place);
        out.push(NodePolicy {
            node: known.map_or_else(|| server.to_owned(), |(_, name)| name.clone()),
            region: region.to_owned(),
            data: voter.data,
            priority: voter.priority,
            forbidden: voter.forbidden.clone(),
        });
    }
    Ok(out)
}

fn config(
    local: &Local,
    at: At,
    address: Addresses,
    spec: &DatabaseSpec,
    bin_dir: PathBuf,
) -> Result<GuardConfig, ProviderError> {
    let host = local.layout.host(at.region, at.host);
    let seat = Seat {
        workspace: local.options.workspace.as_str(),
        region: at.region,
        server: at.host,
        listen: address.direct.to_string(),
        source: Some(address.direct.to_string()),
        reached: address.front.to_string(),
        bin_dir,
        files: Files {
            data_dir: host.data("postgres"),
            log: host.log("postgres"),
            run: sockets(local, at)?,
            events: local.layout.region(at.region).events(),
            promise: host.data(PROMISE),
            tls: TlsFiles {
                ca: host.tls("ca.pem"),
                cert: host.tls("cert.pem"),
                key: host.tls("key.pem"),
            },
            passwords: host.etc(""),
        },
        // Callers that bind no address come from 127.0.0.1; all of them need TLS and a password.
        allow: vec!["127.0.0.0/8".into()],
        endpoints: store::endpoints(local, at.region)?,
        balancers: balancing::of_databases(local, at.region)?,
    };
    guard_config(seat, spec, |node| {
        let address = local.record.allocate(&node.region, &node.server, HostKind::Server)?;
        Ok(address.seen_from(at.region, &node.region).to_string())
    })
}

/// Where a node is and what is around it, on whichever target. Addresses may be names.
pub(crate) struct Seat<'a> {
    pub(crate) workspace: &'a str,
    pub(crate) region: &'a str,
    pub(crate) server: &'a str,
    /// The address that database and guard listen at.
    pub(crate) listen: String,
    /// Where outgoing connections come from, where that matters.
    pub(crate) source: Option<String>,
    /// Where other regions reach it.
    pub(crate) reached: String,
    pub(crate) bin_dir: PathBuf,
    pub(crate) files: Files,
    /// Who may connect.
    pub(crate) allow: Vec<String>,
    /// Of the store, the own region's first.
    pub(crate) endpoints: Vec<String>,
    /// Admin sockets of the balancers that its guard turns.
    pub(crate) balancers: Vec<PathBuf>,
}

/// Where a node keeps what it has.
pub(crate) struct Files {
    pub(crate) data_dir: PathBuf,
    pub(crate) log: PathBuf,
    /// Sockets, and what must not survive a reboot.
    pub(crate) run: PathBuf,
    pub(crate) events: PathBuf,
    pub(crate) promise: PathBuf,
    pub(crate) tls: TlsFiles,
    /// The folder with a file for each password.
    pub(crate) passwords: PathBuf,
}

/// What a guard is told, the same template on every target; `address` says where a node is reached from here.
///
/// # Errors
/// Those of `address`, and `Other` for a peer or voter that is not written `region/server`.
pub(crate) fn guard_config(
    seat: Seat<'_>,
    spec: &DatabaseSpec,
    address: impl Fn(&nodes::Node) -> Result<String, ProviderError>,
) -> Result<GuardConfig, ProviderError> {
    let mut places = spec.peers.clone();
    places.push(format!("{}/{}", seat.region, seat.server));
    let mut nodes = nodes::read(&places)?;
    let nodes_here: Vec<(String, String)> = places
        .into_iter()
        .zip(nodes.iter().map(|node| node.name.clone()))
        .collect();
    let own = nodes.pop().map_or_else(|| seat.server.to_owned(), |node| node.name);
    let mut peers = Vec::new();
    for node in nodes {
        let address = address(&node)?;
        peers.push(Peer {
            region: node.region,
            node: node.name,
            port: port::POSTGRES,
            guard: format!("http://{address}:{}", port::GUARD),
            address,
        });
    }
    let files = seat.files;
    Ok(GuardConfig {
        workspace: seat.workspace.to_owned(),
        cluster: spec.cluster.clone(),
        region: seat.region.to_owned(),
        node: own,
        declared_primary: spec.founder,
        listen: format!("{}:{}", seat.listen, port::GUARD),
        source_address: seat.source,
        postgres: PostgresConfig {
            bin_dir: seat.bin_dir,
            data_dir: files.data_dir,
            log_file: files.log,
            address: seat.listen,
            public_address: seat.reached,
            port: port::POSTGRES,
            socket_dir: files.run.clone(),
            settings: spec.settings.clone(),
            allow: seat.allow,
            tls: files.tls.clone(),
            admin_password_file: files.passwords.join(Password::Admin.file()),
            replication_password_file: files.passwords.join(Password::Replication.file()),
            app_password_file: files.passwords.join(Password::App.file()),
            app_user: APP_USER.into(),
            app_database: APP_DATABASE.into(),
        },
        store: StoreConfig {
            endpoints: seat.endpoints,
            tls: files.tls,
        },
        peers,
        sample_interval_ms: u64::try_from(SAMPLE_EVERY.as_millis()).unwrap_or(u64::MAX),
        events: files.events,
        failover: FailoverConfig {
            sync_mode: spec.sync_mode,
            timing: spec.timing,
            policy: spec.failover,
            nodes: voters(&spec.voters, &nodes_here)?,
            balancers: seat.balancers,
            promise: files.promise,
            runtime_dir: files.run,
            watchdog: None,
        },
    })
}
