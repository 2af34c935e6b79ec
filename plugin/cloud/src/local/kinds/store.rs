//! One member of the agreement store. There is one cluster per workspace: the first member founds it, the others are
//! added to it, and nothing ever founds a second one beside it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use ha_core::{
    agent::TlsFiles,
    resource::{Kind, Resource, ResourceId},
    unit::{Ready, StopSignal},
};
use ha_store::{Etcd, Member, Options, StoreError};
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use crate::ProviderError;
use crate::local::{
    Local,
    kinds::{database, server},
    process::{
        http, programs,
        units::{At, Process},
    },
    state::{
        files::{self, PLAIN},
        hosts::{Addresses, HostKind},
        layout::{Host, port},
        record,
        secrets::random_text,
    },
};

pub(crate) const UNIT: &str = "etcd";
pub(crate) const CONFIG: &str = "etcd.json";
const READY_WITHIN: Duration = Duration::from_secs(40);
/// A cluster that just took a member in refuses the next one until that has caught up.
const JOINS_WITHIN: Duration = Duration::from_secs(20);
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// Keys of the protocol are few and small; a store that grows beyond this is being misused.
const QUOTA_BYTES: u64 = 256 << 20;

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct StoreSpec {
    pub(crate) server: String,
    heartbeat_ms: u64,
    election_ms: u64,
}

/// How a member begins. Only a process that has no data yet asks for it, and then once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Birth {
    /// `new` or `existing`
    pub(crate) state: &'static str,
    /// `name=url,name=url`
    pub(crate) cluster: String,
    pub(crate) token: String,
}

impl Birth {
    /// With its data there a member begins nothing. Without it (a disk was lost) it must not begin either: told to
    /// join a cluster of nobody else, etcd ends instead of founding another one or voting again under its number.
    pub(crate) fn behind(name: &str, peer_url: &str) -> Self {
        Self {
            state: "existing",
            cluster: format!("{name}={peer_url}"),
            token: String::new(),
        }
    }
}

/// A member as its resource file and addresses describe it.
#[derive(Clone, Debug)]
struct Site {
    id: ResourceId,
    server: String,
    address: Addresses,
}

impl Site {
    fn client_url(&self, from: &str) -> String {
        let address = self.address.seen_from(from, self.id.region.as_str());
        format!("https://{address}:{}", port::ETCD_CLIENT)
    }

    /// The same one for every member: from addresses of their own they would count as different clusters.
    fn peer_url(&self) -> String {
        peer_url(&self.address.front.to_string())
    }

    fn member_name(&self) -> String {
        member_name(&self.id)
    }

    fn birth_behind(&self) -> Birth {
        Birth::behind(&self.member_name(), &self.peer_url())
    }

    fn seat(&self, host: &Host) -> Seat {
        Seat {
            name: self.member_name(),
            data_dir: host.data(UNIT),
            tls: TlsFiles {
                ca: host.tls("ca.pem"),
                cert: host.tls("cert.pem"),
                key: host.tls("key.pem"),
            },
            listen: self.address.direct.to_string(),
            reached: self.address.front.to_string(),
            metrics: self.address.direct.to_string(),
        }
    }
}

/// Where the other members find the one at this address or of this name.
pub(crate) fn peer_url(reached: &str) -> String {
    format!("https://{reached}:{}", port::ETCD_PEER)
}

/// What a member is called in its cluster.
pub(crate) fn member_name(id: &ResourceId) -> String {
    format!("{}.{}", id.region, id.name)
}

/// Where a member is, on whichever target.
#[derive(Clone, Debug)]
pub(crate) struct Seat {
    pub(crate) name: String,
    pub(crate) data_dir: PathBuf,
    pub(crate) tls: TlsFiles,
    /// The address it listens at: etcd takes no name here.
    pub(crate) listen: String,
    /// Address or name by which every other member knows it.
    pub(crate) reached: String,
    /// Where `/health` and `/metrics` are answered, without TLS.
    pub(crate) metrics: String,
}

/// Afterwards the member runs and its cluster answers.
///
/// # Errors
/// `Refused` when other members exist and none answers, or they have no majority: what they know would be lost
/// if this one began anew.
pub(crate) async fn ensure(local: &Local, want: &Resource) -> Result<(), ProviderError> {
    let spec: StoreSpec = record::fields(&want.id, &want.spec)?;
    let at = At {
        region: want.id.region.as_str(),
        host: &spec.server,
    };
    local.needs_all(want)?;
    local.needs(
        &want.id,
        &ResourceId::new(&want.id.region, Kind::Server, spec.server.clone()),
    )?;
    let program = programs::etcd(&local.options.path)?;
    let address = local.record.allocate(at.region, at.host, HostKind::Server)?;
    let host = local.layout.host(at.region, at.host);
    local.begin(want)?;
    server::certificate(local, at, address)?;
    let site = Site {
        id: want.id.clone(),
        server: spec.server.clone(),
        address,
    };
    // One at a time in the workspace: two that join at once would each be told of a cluster without the other.
    let joining = local.joining.lock().await;
    let (birth, mark) = birth(local, &site, at, &host).await?;
    let path = host.etc(CONFIG);
    let seat = site.seat(&host);
    let plain = files::json_text(&config(&seat, &spec, &site.birth_behind()))?;
    let first = match &birth {
        Some(birth) => &files::json_text(&config(&seat, &spec, birth))?,
        None => &plain,
    };
    local.files.write_if_changed(&path, first.as_bytes(), PLAIN)?;
    let process = Process {
        name: UNIT,
        program,
        args: vec!["--config-file".into(), path.display().to_string()],
        env: BTreeMap::new(),
        stop_signal: StopSignal::Term,
        reload_signal: None,
        stop_timeout: Duration::from_secs(10),
        ready: Some(Ready::Tcp(format!("{}:{}", address.direct, port::ETCD_CLIENT))),
        reads_at_start: vec![plain.clone(), mark],
        reads_again: Vec::new(),
        ports: vec![port::ETCD_CLIENT, port::ETCD_PEER, port::ETCD_METRICS],
    };
    let unit = local.put(at, address.direct, &process).await?;
    if !local.is_off(at) {
        local.ready(&want.id, at, &unit, READY_WITHIN).await?;
        healthy(&want.id, address).await?;
        local.files.write_if_changed(&path, plain.as_bytes(), PLAIN)?;
    }
    drop(joining);
    local.finish(want)?;
    database::refresh_guards(local)
}

/// Its configuration, as [`ensure`] leaves it.
pub(crate) fn render(local: &Local, want: &Resource) -> Result<String, ProviderError> {
    let spec: StoreSpec = record::fields(&want.id, &want.spec)?;
    let region = want.id.region.as_str();
    let site = Site {
        id: want.id.clone(),
        server: spec.server.clone(),
        address: local.record.allocate(region, &spec.server, HostKind::Server)?,
    };
    let host = local.layout.host(region, &spec.server);
    files::json_text(&config(&site.seat(&host), &spec, &site.birth_behind()))
}

/// Afterwards the cluster no longer counts on the member, and nothing of it is left.
pub(crate) async fn remove(local: &Local, id: &ResourceId) -> Result<(), ProviderError> {
    let Some(record) = local.record(id) else { return Ok(()) };
    let Some(spec) = record.ok().and_then(|record| record.spec::<StoreSpec>(id).ok()) else {
        // Nothing says where it was; its server's folder is removed with the server.
        return local.forget(id);
    };
    let at = At {
        region: id.region.as_str(),
        host: &spec.server,
    };
    let host = local.layout.host(at.region, at.host);
    let joining = local.joining.lock().await;
    let (here, others) = sites(local, id)?;
    if let Some(site) = here
        && let Err(error) = leave(local, &site, &others, &host).await
    {
        // It is going either way: a member that stays listed costs the others a vote, which whoever removes
        // them, too, does not mind; whoever does mind is told.
        tracing::warn!(%id, error, "the store still lists the member that was removed");
    }
    local.take(at, UNIT).await?;
    for path in [
        host.data(UNIT),
        host.etc(CONFIG),
        host.etc("etcd.birth"),
        host.log(UNIT),
    ] {
        files::remove_all(&path)?;
    }
    local.forget(id)?;
    drop(joining);
    database::refresh_guards(local)
}

/// How the member is to begin, if it is, and a mark that differs from birth to birth: with another mark the process
/// is started anew.
async fn birth(local: &Local, site: &Site, at: At<'_>, host: &Host) -> Result<(Option<Birth>, String), ProviderError> {
    let path = host.etc("etcd.birth");
    let data = host.data(UNIT);
    let (_, others) = sites(local, &site.id)?;
    // A member that began and was removed is the rest of a removal cut short after the cluster had agreed to it: its
    // number never comes back.
    if has_begun(&data) && !was_removed(local, site, &others, host).await? {
        return Ok((None, fs::read_to_string(&path).unwrap_or_default()));
    }
    if data.exists() {
        local.take(at, UNIT).await?;
        files::remove_all(&data)?;
    }
    let birth = if others.is_empty() {
        let token = random_text()?;
        Birth {
            state: "new",
            token,
            ..site.birth_behind()
        }
    } else {
        join(local, site, &others, host).await?
    };
    let mark = random_text()?;
    local.files.write(&path, mark.as_bytes(), PLAIN)?;
    Ok((Some(birth), mark))
}

/// The member has a log, which etcd puts in place whole; without one it never voted, whatever else its first start
/// left behind (a full disk leaves a folder and an empty table).
fn has_begun(data: &Path) -> bool {
    fs::read_dir(data.join("member/wal")).is_ok_and(|mut entries| entries.next().is_some())
}

/// A majority says that the member is none of theirs. Where nobody can say it, it is.
async fn was_removed(local: &Local, site: &Site, others: &[Site], host: &Host) -> Result<bool, ProviderError> {
    let Some(store) = client(local, site, others, host).await? else {
        return Ok(false);
    };
    let url = site.peer_url();
    for other in others {
        // The read makes sure that the list is as new as the majority's.
        if store.health(&other.client_url(other.id.region.as_str())).await.is_ok() {
            let members = store.members().await;
            return Ok(members.is_ok_and(|members| !members.iter().any(|member| member.peer_urls.contains(&url))));
        }
    }
    Ok(false)
}

/// Afterwards the cluster counts on a member at this site that has not started yet.
async fn join(local: &Local, site: &Site, others: &[Site], host: &Host) -> Result<Birth, ProviderError> {
    let no_quorum = |why: String| ProviderError::Refused {
        what: format!("{} cannot join: the store has no quorum ({why})", site.id),
        help: format!(
            "bring back its other members first ({}): ha provision --region <region>, ha power on <server>; \
             a second store is never founded beside the first",
            others
                .iter()
                .map(|other| other.id.to_string())
                .collect::<Vec<_>>()
                .join(", ")
        ),
    };
    let deadline = Instant::now() + JOINS_WITHIN;
    let store = client(local, site, others, host).await?;
    let store = store.ok_or_else(|| no_quorum("no member can be asked".into()))?;
    loop {
        match enter(&store, site, others).await {
            Ok(members) => {
                let cluster = members.iter().map(|member| {
                    let name = if member.name.is_empty() {
                        site.member_name()
                    } else {
                        member.name.clone()
                    };
                    member
                        .peer_urls
                        .iter()
                        .map(move |url| format!("{name}={url}"))
                        .collect::<Vec<_>>()
                        .join(",")
                });
                return Ok(Birth {
                    state: "existing",
                    cluster: cluster.collect::<Vec<_>>().join(","),
                    // Only a founder's matters.
                    token: local.options.workspace.as_str().to_owned(),
                });
            }
            Err(error) if Instant::now() >= deadline => return Err(no_quorum(error)),
            Err(_) => tokio::time::sleep(ASK_AGAIN).await,
        }
    }
}

/// Afterwards the cluster lists the site once: as a member that has yet to start.
///
/// etcd's own check for this (`strict-reconfig-check`) refuses whatever comes within five seconds of the last change;
/// this one asks the members instead of waiting.
async fn enter(store: &Etcd, site: &Site, others: &[Site]) -> Result<Vec<Member>, String> {
    let said = |error: StoreError| error.to_string();
    let url = site.peer_url();
    let members = store.members().await.map_err(said)?;
    if let Some(member) = members.iter().find(|member| member.peer_urls.contains(&url)) {
        if member.name.is_empty() {
            return Ok(members);
        }
        // Its data is gone, and with it its vote: under the old number it could vote twice.
        store.member_remove(member.id).await.map_err(said)?;
    }
    let size = store.members().await.map_err(said)?.len() + 1;
    let asked = others
        .iter()
        .map(async |other| store.health(&other.client_url(other.id.region.as_str())).await.is_ok());
    let answer = futures::future::join_all(asked)
        .await
        .into_iter()
        .filter(|answers| *answers)
        .count();
    // The second member cannot join a majority of two that it is itself needed for.
    if answer < size / 2 + 1 && (answer, size) != (1, 2) {
        return Err(format!(
            "{answer} members answer, and it takes {} to take one in",
            size / 2 + 1
        ));
    }
    store.member_add(&url).await.map_err(said)?;
    store.members().await.map_err(said)
}

/// Afterwards the others, if there are any, do not list the site.
async fn leave(local: &Local, site: &Site, others: &[Site], host: &Host) -> Result<(), String> {
    let store = client(local, site, others, host)
        .await
        .map_err(|error| error.to_string())?;
    let Some(store) = store else { return Ok(()) };
    let said = |error: StoreError| error.to_string();
    let url = site.peer_url();
    let members = store.members().await.map_err(said)?;
    match members.into_iter().find(|member| member.peer_urls.contains(&url)) {
        Some(member) => store.member_remove(member.id).await.map_err(said),
        None => Ok(()),
    }
}

/// A client of the other members; none when there are none.
async fn client(local: &Local, site: &Site, others: &[Site], host: &Host) -> Result<Option<Etcd>, ProviderError> {
    if others.is_empty() {
        return Ok(None);
    }
    let at = At {
        region: site.id.region.as_str(),
        host: &site.server,
    };
    // A server that lost its folder still has to be able to speak.
    server::certificate(local, at, site.address)?;
    // We are the operator, and reach every member directly.
    let endpoints = others
        .iter()
        .map(|other| other.client_url(other.id.region.as_str()))
        .collect();
    let options = Options::new(endpoints, host.tls("ca.pem"), host.tls("cert.pem"), host.tls("key.pem"));
    Etcd::new(&options)
        .await
        .map(Some)
        .map_err(|error| ProviderError::Other {
            what: error.to_string(),
        })
}

/// This member's site and those of all others, damaged files left out.
fn sites(local: &Local, of: &ResourceId) -> Result<(Option<Site>, Vec<Site>), ProviderError> {
    let Some(file) = local.record.read()? else {
        return Ok((None, Vec::new()));
    };
    let mut all = Vec::new();
    for (id, record) in local.records()? {
        if id.kind == Kind::Store
            && let Ok(record) = record
            && let Ok(StoreSpec { server, .. }) = record.spec(&id)
            && let Some(address) = file.address(id.region.as_str(), &server)
        {
            // One whose creation died before it had data never was a member that could answer.
            let host = local.layout.host(id.region.as_str(), &server);
            if id == *of || record.complete || has_begun(&host.data(UNIT)) {
                all.push(Site { id, server, address });
            }
        }
    }
    let here = all.iter().position(|site| site.id == *of).map(|at| all.remove(at));
    Ok((here, all))
}

/// `https://…:2379` of every member as region `from` reaches them, its own first: those that are there, and those that
/// are wanted, so that a guard which is made before them finds them later.
pub(crate) fn endpoints(local: &Local, from: &str) -> Result<Vec<String>, ProviderError> {
    let Some(file) = local.record.read()? else {
        return Ok(Vec::new());
    };
    let wanted = local.wanted();
    let wanted = wanted.iter().map(|want| (want.id.clone(), want.spec.clone()));
    let there = local.records()?.into_iter();
    let there = there.filter_map(|(id, record)| Some((id, record.ok()?.spec)));
    let mut found = Vec::new();
    for (id, spec) in wanted.chain(there).filter(|(id, _)| id.kind == Kind::Store) {
        if let Ok(StoreSpec { server, .. }) = record::fields(&id, &spec)
            && let Some(address) = file.address(id.region.as_str(), &server)
        {
            let own = id.region == *from;
            found.push((!own, Site { id, server, address }.client_url(from)));
        }
    }
    found.sort();
    found.dedup();
    Ok(found.into_iter().map(|(_, url)| url).collect())
}

/// # Errors
/// `NotReady` when the member does not see a majority in time.
async fn healthy(id: &ResourceId, address: Addresses) -> Result<(), ProviderError> {
    let deadline = Instant::now() + READY_WITHIN;
    let url = health_url(address);
    while !http::is_fine(&url).await {
        if Instant::now() >= deadline {
            let detail = format!("{url} says that the member sees no majority of the store");
            return Err(ProviderError::NotReady { id: id.clone(), detail });
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
    Ok(())
}

pub(crate) fn health_url(address: Addresses) -> String {
    format!("http://{}:{}/health", address.direct, port::ETCD_METRICS)
}

/// JSON is YAML, which is what etcd reads.
/// `etcd.json`, the same template on every target.
pub(crate) fn config(seat: &Seat, spec: &StoreSpec, birth: &Birth) -> serde_json::Value {
    let path = |path: &Path| path.display().to_string();
    let tls = json!({
        "cert-file": path(&seat.tls.cert),
        "key-file": path(&seat.tls.key),
        "trusted-ca-file": path(&seat.tls.ca),
        "client-cert-auth": true,
    });
    json!({
        "name": seat.name,
        "data-dir": path(&seat.data_dir),
        "listen-client-urls": format!("https://{}:{}", seat.listen, port::ETCD_CLIENT),
        "advertise-client-urls": format!("https://{}:{}", seat.reached, port::ETCD_CLIENT),
        "listen-peer-urls": format!("https://{}:{}", seat.listen, port::ETCD_PEER),
        "initial-advertise-peer-urls": peer_url(&seat.reached),
        "listen-metrics-urls": format!("http://{}:{}", seat.metrics, port::ETCD_METRICS),
        "initial-cluster": birth.cluster,
        "initial-cluster-state": birth.state,
        "initial-cluster-token": birth.token,
        "heartbeat-interval": spec.heartbeat_ms,
        "election-timeout": spec.election_ms,
        "quota-backend-bytes": QUOTA_BYTES,
        "auto-compaction-mode": "periodic",
        "auto-compaction-retention": "1h",
        "strict-reconfig-check": false,
        // A member that was cut off comes back without deposing a leader that everybody else hears.
        "pre-vote": true,
        "client-transport-security": tls,
        "peer-transport-security": tls,
        "logger": "zap",
        "log-outputs": ["stderr"],
    })
}
