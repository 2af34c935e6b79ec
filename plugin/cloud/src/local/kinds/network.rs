//! A region: its folder, the supervisor of its processes, and the relay between it and the other regions.

use std::{collections::BTreeMap, fs, os::unix::fs::MetadataExt, path::PathBuf, time::Duration};

use ha_core::{
    agent::{Front, RelayConfig},
    resource::{Kind, Resource, ResourceId},
    unit::{Ready, StopSignal},
};
use rustix::process::Signal;
use serde::Deserialize;
use tokio::time::Instant;

use crate::ProviderError;
use crate::local::{
    Local, links,
    process::{
        http,
        processes::Process,
        units::{self, At},
    },
    state::{
        files::{self, failed, read_json},
        hosts::{Addresses, HostKind, WorkspaceFile},
        layout::{Layout, RELAY, port},
        workspace::{self},
    },
};

const READY_WITHIN: Duration = Duration::from_secs(10);

/// Afterwards the region is there: its supervisor answers, its relay listens.
pub(crate) async fn ensure(local: &Local, want: &Resource) -> Result<(), ProviderError> {
    let region = want.id.region.as_str();
    let octet = local.record.claim()?;
    Layout::check_socket(&local.layout.supervisor_socket(octet, region), 0)?;
    let at = At { region, host: RELAY };
    let address = local.record.allocate(region, RELAY, HostKind::Relay)?;
    let folder = local.layout.region(region);
    local.files.folder(&local.layout.regions(), 0o700)?;
    local.files.folder(&folder.0, 0o700)?;
    local.begin(want)?;
    local.secrets.ensure()?;
    local.files.folder(&folder.hosts(), 0o700)?;
    host_folders(local, at)?;
    let program = local.guard_program()?;
    let supervisor = local.running(region)?;
    if let Some(process) = supervisor.process()
        && supervisor.program().as_ref() != Some(&program)
    {
        // Its units go on without it, and the new one takes them over.
        supervisor.end(&process).await?;
    }
    supervisor.ensure().await?;
    refresh_relays(local)?;
    let process = units::Process {
        name: RELAY,
        program,
        args: vec![
            "relay".into(),
            "--config".into(),
            config_path(local, region).display().to_string(),
        ],
        env: BTreeMap::new(),
        stop_signal: StopSignal::Term,
        reload_signal: None,
        stop_timeout: Duration::from_secs(3),
        ready: Some(Ready::Tcp(format!("{}:{}", address.front, port::RELAY_STATUS))),
        // It watches both of its files by itself.
        reads_at_start: Vec::new(),
        reads_again: Vec::new(),
        ports: Vec::new(),
    };
    let unit = local.put(at, address.front, &process).await?;
    local.ready(&want.id, at, &unit, READY_WITHIN).await?;
    fronts_open(local, &want.id, address).await?;
    local.remove_old_guards()?;
    local.finish(want)
}

/// Afterwards the relay has opened every front it was told of.
///
/// # Errors
/// `NotReady` with the first that it cannot open.
async fn fronts_open(local: &Local, id: &ResourceId, relay: Addresses) -> Result<(), ProviderError> {
    const ASK_AGAIN: Duration = Duration::from_millis(20);
    let path = config_path(local, id.region.as_str());
    let deadline = Instant::now() + READY_WITHIN;
    loop {
        let told = read_json::<RelayConfig>(&path).ok().flatten();
        let detail = match (fronts(relay).await, told) {
            (Ok(fronts), Some(told)) => match fronts.trouble() {
                None if fronts.fronts.len() >= told.fronts.len() => return Ok(()),
                None => format!("{} of {} fronts are open", fronts.fronts.len(), told.fronts.len()),
                Some(trouble) => trouble,
            },
            (Err(error), _) => error,
            (Ok(_), None) => format!("{} cannot be read", path.display()),
        };
        if Instant::now() >= deadline {
            return Err(ProviderError::NotReady { id: id.clone(), detail });
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// What a relay answers to `GET /fronts`; fields it has besides are not asked for here.
#[derive(Deserialize)]
struct Fronts {
    fronts: Vec<Opened>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Opened {
    error: Option<String>,
}

impl Fronts {
    fn trouble(&self) -> Option<String> {
        let fronts = self.fronts.iter().find_map(|front| front.error.clone());
        fronts.or_else(|| self.error.clone())
    }
}

async fn fronts(relay: Addresses) -> Result<Fronts, String> {
    http::get(&format!("http://{}:{}/fronts", relay.front, port::RELAY_STATUS)).await
}

/// The first front that the relay could not open.
pub(crate) async fn fronts_trouble(relay: Addresses) -> Option<String> {
    match fronts(relay).await {
        Ok(fronts) => fronts.trouble(),
        Err(error) => Some(format!("the relay does not answer: {error}")),
    }
}

/// Afterwards nothing of the region is left; with the last region the workspace goes, too.
///
/// # Errors
/// `Refused` while other resources of the region exist: they have ends of their own to be brought to.
pub(crate) async fn remove(local: &Local, id: &ResourceId) -> Result<(), ProviderError> {
    let region = id.region.as_str();
    let others = local.records_of(region)?;
    if let Some((other, _)) = others
        .iter()
        .find(|(other, _)| other != id && other.kind != Kind::Network)
    {
        return Err(ProviderError::Refused {
            what: format!("{id} still holds {} {}", other.kind, other.name),
            help: "remove what is in it first; ha destroy does it in order".into(),
        });
    }
    if others.iter().any(|(other, _)| other != id) {
        // The region has another network, and with it still needs its supervisor and relay.
        return local.forget(id);
    }
    let Some(file) = local.record.read()? else {
        return Ok(());
    };
    if let Some(supervisor) = local.supervisor(region)? {
        supervisor.stop().await?;
    }
    end_all_below(local, &local.layout.region(region).0).await?;
    links::heal(local, Some(region), None)?;
    links::heal(local, None, Some(region))?;
    // Regions may go side by side; one of them is the last.
    let _telling = local.telling();
    if let Some(octet) = file.region_octet(region) {
        files::remove_all(&local.layout.runtime_region(file.octet, octet))?;
        files::remove_all(&local.layout.supervisor_socket(file.octet, region))?;
    }
    if local.records()?.iter().all(|(other, _)| other.region == *region) {
        return workspace::erase(&local.layout, &local.octets, file.octet);
    }
    // In one step for whoever looks: half a region would be nobody's.
    files::vanish(&local.layout.region(region).0, &local.layout.root)
}

/// Afterwards no process works in the folder. The supervisor has stopped its units; what is left lost it.
pub(crate) async fn end_all_below(local: &Local, folder: &std::path::Path) -> Result<(), ProviderError> {
    // Whoever starts children meanwhile is caught the second time round.
    for _ in 0..3 {
        let left = Process::below(folder, local.uid());
        if left.is_empty() {
            return Ok(());
        }
        let ends = left
            .iter()
            .map(|process| process.end(Signal::INT, Duration::from_secs(10)));
        for (ended, process) in futures::future::join_all(ends).await.into_iter().zip(&left) {
            let what = format!("cannot end pid {}, which works in {}", process.pid, folder.display());
            ended.map_err(|source| ProviderError::Io { what, source })?;
        }
    }
    Ok(())
}

/// Afterwards every relay has a front for each host of its region and knows the regions; relays that run follow by
/// themselves, and connections that are open stay open.
pub(crate) fn refresh_relays(local: &Local) -> Result<(), ProviderError> {
    let _telling = local.telling();
    let Some(file) = local.record.read()? else {
        return Ok(());
    };
    for region in file.addresses.keys() {
        let path = config_path(local, region);
        if let Some(config) = relay_config(local, &file, region)
            && path.parent().is_some_and(|folder| folder.is_dir())
        {
            local.files.write_json_if_changed(&path, &config)?;
        }
    }
    Ok(())
}

fn relay_config(local: &Local, file: &WorkspaceFile, region: &str) -> Option<RelayConfig> {
    let relay = file.address(region, RELAY)?;
    let mut fronts = Vec::new();
    for (host, octet) in &file.addresses.get(region)?.hosts {
        let Some(address) = file.address(region, host) else {
            continue;
        };
        let ports: &[u16] = match HostKind::of(*octet) {
            HostKind::Relay => &[],
            HostKind::Balancer => &[port::HTTP, port::HTTPS, port::WRITE, port::READ],
            // Whatever a server's roles are now or become: a front without a listener behind it refuses, as it should.
            HostKind::Server => &[
                port::APP,
                port::GUARD,
                port::POSTGRES,
                port::ETCD_CLIENT,
                port::ETCD_PEER,
            ],
        };
        fronts.extend(ports.iter().map(|port| Front {
            listen: format!("{}:{port}", address.front),
            target: format!("{}:{port}", address.direct),
        }));
    }
    fronts.sort();
    Some(RelayConfig {
        region: region.to_owned(),
        status: format!("{}:{}", relay.front, port::RELAY_STATUS),
        fronts,
        regions: file
            .addresses
            .iter()
            .map(|(name, it)| (it.octet.to_string(), name.clone()))
            .collect(),
        workspace_dir: local
            .layout
            .root
            .canonicalize()
            .unwrap_or_else(|_| local.layout.root.clone()),
        links: local.layout.links(),
    })
}

fn config_path(local: &Local, region: &str) -> PathBuf {
    local.layout.host(region, RELAY).etc("relay.json")
}

/// Afterwards the host has its folders, and one for its sockets that is short enough.
pub(crate) fn host_folders(local: &Local, at: At) -> Result<(), ProviderError> {
    let host = local.layout.host(at.region, at.host);
    local.files.folder(&host.0, 0o700)?;
    for folder in [host.units(), host.run(), host.logs(), host.etc(""), host.data("")] {
        local.files.folder(&folder, 0o700)?;
    }
    let sockets = sockets(local, at)?;
    let octet = sockets.ancestors().nth(2);
    for folder in octet.into_iter().chain(sockets.parent()).chain([sockets.as_path()]) {
        if !folder.is_dir() {
            runtime_root(local)?;
            local.files.folder(folder, 0o700)?;
        }
    }
    Ok(())
}

/// # Errors
/// `Taken` when another user made it before us: the folder above may be everybody's.
fn runtime_root(local: &Local) -> Result<(), ProviderError> {
    let root = local.layout.runtime_root();
    if let Some(user) = &local.options.run_as {
        files::check_passage(root, user)?;
    }
    files::passage(root)?;
    let owner = fs::metadata(root)
        .map_err(|source| failed("cannot look at", root, source))?
        .uid();
    let ours = [0, nix::unistd::Uid::effective().as_raw()];
    if ours.contains(&owner) {
        return Ok(());
    }
    Err(ProviderError::Taken {
        what: root.display().to_string(),
        by: format!("user {owner}"),
    })
}

/// Where the host's sockets are.
///
/// # Errors
/// `Refused` when the kernel's limit for their paths would be passed.
pub(crate) fn sockets(local: &Local, at: At) -> Result<PathBuf, ProviderError> {
    /// HAProxy makes a socket under a name of its own and renames it: `admin.sock.1234567.tmp`.
    const LONGEST_NAME: usize = 26;
    let file = local.record.read()?;
    let octets = file.and_then(|file| Some((file.octet, file.region_octet(at.region)?)));
    let (octet, region) = octets.ok_or_else(|| ProviderError::Other {
        what: format!("region {} has no addresses yet", at.region),
    })?;
    let folder = local.layout.runtime_host(octet, region, at.host);
    Layout::check_socket(&folder, LONGEST_NAME)?;
    Ok(folder)
}
