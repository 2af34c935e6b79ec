//! A load balancer: HAProxy from a rendered file that was checked before it is used.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use ha_core::{
    model::{ForwardingRule, HealthCheck},
    resource::{Kind, Resource, ResourceId},
    unit::{Ready, StopSignal},
};
use ha_edge::haproxy::{self, Admin, Algorithm, AppServer, AppSide, DatabaseNode, DatabaseSide, HaproxyInput, Https};
use serde::Deserialize;
use tokio::time::Instant;

use crate::ProviderError;
use crate::local::{
    Local,
    kinds::{
        balancing::{self, DRAINS_WITHIN, admin},
        database,
        network::{host_folders, refresh_relays},
        nodes::{self, Node},
        server,
    },
    process::{
        programs,
        units::{At, Process},
    },
    state::{
        files::{PLAIN, failed},
        hosts::{Addresses, HostKind},
        layout::port,
        record,
    },
};

const UNIT: &str = "haproxy";
pub(crate) const CONFIG: &str = "haproxy.cfg";
pub(crate) const HOLD: &str = "hold.lua";
const READY_WITHIN: Duration = Duration::from_secs(20);
/// A reload takes a few hundredths of a second.
const READS_WITHIN: Duration = Duration::from_secs(3);
const ASK_AGAIN: Duration = Duration::from_millis(20);
const RELOADS: u32 = 3;
/// A replica that is further behind than this is not read from.
const READ_MAX_LAG: &str = "10s";
/// 33 kB each when in use: enough for a rehearsal, little for a laptop.
pub(crate) const MAX_CONNECTIONS: u32 = 2000;
pub(crate) const THREADS: u16 = 2;

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct BalancerSpec {
    algorithm: String,
    targets: Vec<String>,
    rules: Vec<ForwardingRule>,
    health_check: HealthCheck,
    redirect_http_to_https: bool,
    /// `region/server`
    databases: Vec<String>,
}

/// Afterwards HAProxy runs with this configuration and all its servers are up. A file it refuses never replaces the
/// one that runs; servers that leave are drained first, servers that join are waited for.
pub(crate) async fn ensure(local: &Local, want: &Resource) -> Result<(), ProviderError> {
    let spec: BalancerSpec = record::fields(&want.id, &want.spec)?;
    let at = At {
        region: want.id.region.as_str(),
        host: &want.id.name,
    };
    local.needs_all(want)?;
    for target in &spec.targets {
        local.needs(
            &want.id,
            &ResourceId::new(&want.id.region, Kind::Server, target.clone()),
        )?;
    }
    let program = programs::haproxy(&local.options.path)?;
    let address = local.record.allocate(at.region, at.host, HostKind::Balancer)?;
    let host = local.layout.host(at.region, at.host);
    local.begin(want)?;
    host_folders(local, at)?;
    server::certificate(local, at, address)?;
    let text = haproxy::render(&input(local, at, address, &spec)?);
    refresh_relays(local)?;
    database::refresh_guards(local)?;
    server::refresh_apps(local, at.region, &spec.targets, &spec.databases).await?;

    // Servers of this region are not restarted while the balancer moves traffic between them.
    let _turn = local.rolling.of(at.region).await;
    let config = host.etc(CONFIG);
    if !fs::read(&config).is_ok_and(|old| old == text.as_bytes()) {
        let candidate = host.etc("haproxy.cfg.candidate");
        // What runs has read its own; the version of this one is part of the configuration.
        local.files.write(&host.etc(HOLD), haproxy::HOLD.as_bytes(), PLAIN)?;
        local.files.write(&candidate, text.as_bytes(), PLAIN)?;
        check(local, &want.id, &program, &candidate).await?;
        drain_leaving(local, at, &want.id, &spec.targets).await?;
        fs::rename(&candidate, &config).map_err(|source| failed("cannot write", &config, source))?;
    }
    let certificate = fs::read_to_string(host.tls("combined.pem"));
    let certificate = certificate.map_err(|source| failed("cannot read", &host.tls("combined.pem"), source))?;
    let process = Process {
        name: UNIT,
        program,
        args: vec!["-W".into(), "-f".into(), config.display().to_string()],
        env: BTreeMap::new(),
        stop_signal: StopSignal::Term,
        reload_signal: Some(StopSignal::Usr2),
        stop_timeout: Duration::from_secs(10),
        ready: Some(Ready::Tcp(format!("{}:{}", address.direct, first_port(&spec)))),
        reads_at_start: Vec::new(),
        reads_again: vec![text.clone(), certificate],
        ports: ports(&spec),
    };
    let unit = local.put(at, address.direct, &process).await?;
    if !local.is_off(at) {
        local.ready(&want.id, at, &unit, READY_WITHIN).await?;
        has_read(local, &want.id, at, &text).await?;
        let on = spec
            .targets
            .iter()
            .filter(|target| !local.is_off(At { host: target, ..at }));
        balancing::only(
            &want.id,
            &admin(local, at.region, at.host)?,
            &spec.targets,
            &on.cloned().collect::<Vec<_>>(),
        )
        .await?;
    }
    local.finish(want)
}

/// Afterwards nothing of the balancer is left.
pub(crate) async fn remove(local: &Local, id: &ResourceId) -> Result<(), ProviderError> {
    server::remove_host(
        local,
        At {
            region: id.region.as_str(),
            host: &id.name,
        },
    )
    .await?;
    local.forget(id)?;
    database::refresh_guards(local)
}

/// Afterwards the process that answers has read `text`. HAProxy can lose a signal that comes while it still works on
/// the one before, so it is told again.
async fn has_read(local: &Local, id: &ResourceId, at: At<'_>, text: &str) -> Result<(), ProviderError> {
    let admin: Admin = admin(local, at.region, at.host)?;
    let wanted = haproxy::version(text);
    let mut detail = String::new();
    for told in 0..=RELOADS {
        if told > 0 {
            local.running(at.region)?.reload(at.host, UNIT).await?;
        }
        let deadline = Instant::now() + READS_WITHIN;
        while Instant::now() < deadline {
            detail = match admin.version().await {
                Ok(version) if version.as_deref() == wanted => return Ok(()),
                Ok(_) => "HAProxy goes on with an older configuration; its log says why".to_owned(),
                Err(error) => error.to_string(),
            };
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }
    Err(ProviderError::NotReady { id: id.clone(), detail })
}

/// Its configuration, as [`ensure`] would write it.
pub(crate) fn render(local: &Local, want: &Resource) -> Result<String, ProviderError> {
    let spec: BalancerSpec = record::fields(&want.id, &want.spec)?;
    let at = At {
        region: want.id.region.as_str(),
        host: &want.id.name,
    };
    let address = local.record.allocate(at.region, at.host, HostKind::Balancer)?;
    Ok(haproxy::render(&input(local, at, address, &spec)?))
}

fn input(local: &Local, at: At, address: Addresses, spec: &BalancerSpec) -> Result<HaproxyInput, ProviderError> {
    let mut servers = Vec::new();
    for name in &spec.targets {
        let address = local.record.allocate(at.region, name, HostKind::Server)?;
        servers.push(AppServer {
            name: name.clone(),
            address: format!("{}:{}", address.direct, port::APP),
        });
    }
    let nodes = nodes::read(&spec.databases)?;
    let mut databases = Vec::new();
    for node in nodes {
        databases.push(database_node(local, at, &node)?);
    }
    let direct = address.direct;
    let check = &spec.health_check;
    let enters = |protocol: &str| {
        spec.rules
            .iter()
            .any(|rule| rule.entry_protocol.eq_ignore_ascii_case(protocol))
    };
    let https = enters("https").then(|| Https {
        listen: format!("{direct}:{}", port::HTTPS),
        certificate: local.layout.host(at.region, at.host).tls("combined.pem"),
        public_port: port::HTTPS,
    });
    Ok(HaproxyInput {
        workspace: local.options.workspace.as_str().to_owned(),
        region: at.region.to_owned(),
        name: at.host.to_owned(),
        admin_socket: balancing::socket(local, at.region, at.host)?,
        source: Some(direct.to_string()),
        max_connections: MAX_CONNECTIONS,
        threads: THREADS,
        drain: DRAINS_WITHIN,
        app: (!servers.is_empty()).then(|| AppSide {
            http: (enters("http") || https.is_none()).then(|| format!("{direct}:{}", port::HTTP)),
            redirect_to_https: spec.redirect_http_to_https && https.is_some(),
            https,
            algorithm: Algorithm::parse(&spec.algorithm).unwrap_or_default(),
            health: haproxy::HealthCheck {
                path: check.path.clone(),
                interval: Duration::from_secs(check.interval_seconds),
                timeout: Duration::from_secs(check.timeout_seconds),
                fall: check.fall,
                rise: check.rise,
            },
            servers,
        }),
        database: database_side(
            &direct.to_string(),
            local.layout.host(at.region, at.host).etc(HOLD),
            databases,
        ),
    })
}

fn database_node(local: &Local, at: At, node: &Node) -> Result<DatabaseNode, ProviderError> {
    let address = local.record.allocate(&node.region, &node.server, HostKind::Server)?;
    Ok(behind(node, address.seen_from(at.region, &node.region).to_string()))
}

/// The way to the databases, for whoever asks at this address; none where there are none.
pub(crate) fn database_side(listen: &str, hold: PathBuf, nodes: Vec<DatabaseNode>) -> Option<DatabaseSide> {
    (!nodes.is_empty()).then(|| DatabaseSide {
        write: format!("{listen}:{}", port::WRITE),
        read: format!("{listen}:{}", port::READ),
        hold,
        max_lag: READ_MAX_LAG.into(),
        nodes,
    })
}

/// A database node, at the address where the balancer reaches it.
pub(crate) fn behind(node: &Node, address: String) -> DatabaseNode {
    DatabaseNode {
        name: node.name.clone(),
        region: node.region.clone(),
        address,
        port: port::POSTGRES,
        guard_port: port::GUARD,
    }
}

fn ports(spec: &BalancerSpec) -> Vec<u16> {
    let mut ports = Vec::new();
    if !spec.targets.is_empty() {
        ports.extend([port::HTTP, port::HTTPS]);
    }
    if !spec.databases.is_empty() {
        ports.extend([port::WRITE, port::READ]);
    }
    ports
}

/// Something that HAProxy listens at, whatever the rules are.
fn first_port(spec: &BalancerSpec) -> u16 {
    let http = spec
        .rules
        .iter()
        .any(|rule| rule.entry_protocol.eq_ignore_ascii_case("http"));
    let https = spec
        .rules
        .iter()
        .any(|rule| rule.entry_protocol.eq_ignore_ascii_case("https"));
    match (spec.targets.is_empty(), http || !https) {
        (true, _) => port::WRITE,
        (false, true) => port::HTTP,
        (false, false) => port::HTTPS,
    }
}

/// # Errors
/// `NotReady` with HAProxy's own words; what runs goes on with the old file.
async fn check(local: &Local, id: &ResourceId, program: &Path, candidate: &Path) -> Result<(), ProviderError> {
    let mut command = tokio::process::Command::new(program);
    command
        .arg("-c")
        .arg("-q")
        .arg("-f")
        .arg(candidate)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command.current_dir(candidate.parent().unwrap_or(Path::new("/")));
    if let Some(user) = &local.options.run_as {
        command.uid(user.uid).gid(user.gid);
    }
    let out = command.output().await.map_err(|source| ProviderError::Io {
        what: format!("cannot run {}", program.display()),
        source,
    })?;
    if out.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&out.stderr);
    let detail = format!("haproxy -c refuses {}: {}", candidate.display(), said.trim());
    Err(ProviderError::NotReady { id: id.clone(), detail })
}

/// Afterwards no request is under way to a server that the new configuration does not have.
async fn drain_leaving(local: &Local, at: At<'_>, id: &ResourceId, stay: &[String]) -> Result<(), ProviderError> {
    let admin: Admin = admin(local, at.region, at.host)?;
    // One that does not run has nothing to drain.
    let Ok(rows) = admin.servers().await else { return Ok(()) };
    let leaving = rows
        .iter()
        .filter(|row| row.backend == haproxy::APP && !stay.contains(&row.server));
    let drains = leaving.map(|row| admin.drain(haproxy::APP, &row.server, DRAINS_WITHIN));
    for drained in futures::future::join_all(drains).await {
        let drained = drained.map_err(|error| balancing::wrong(id, &error))?;
        if drained.sessions_left > 0 {
            tracing::info!(
                balancer = at.host,
                sessions = drained.sessions_left,
                "ended sessions that did not"
            );
        }
    }
    Ok(())
}
