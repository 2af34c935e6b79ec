//! Where store, guards and databases of one cluster are, and what policy says of each node.

use std::{path::PathBuf, sync::Arc, time::Duration};

use ha_cloud::local::LocalProvider;
use ha_core::{
    agreement::Keys,
    model::{Role, Workspace},
    resource::{Kind, Live, Status},
    switch::Refusal,
};
use ha_data::postgres::{ADMIN_DATABASE, ADMIN_USER, ConnectOptions, Host};
use ha_store::{Cluster, Etcd, Options};

use crate::{context::Context, error::Failed};

/// Calls are to members near by as well as far away; the settings' timeout is for probes.
const CALL: Duration = Duration::from_secs(2);

/// One cluster, ready to be asked. Nothing was asked yet.
pub(crate) struct Agreement {
    pub(crate) workspace: Workspace,
    pub(crate) provider: LocalProvider,
    pub(crate) cluster: Cluster,
    pub(crate) etcd: Etcd,
    /// Of the store's members, with their regions and names, in the workspace's order.
    pub(crate) members: Vec<StoreMember>,
    pub(crate) nodes: Vec<Node>,
    /// Write listeners, by region.
    pub(crate) listeners: Vec<(String, String)>,
    /// Admin sockets of the balancers in front of databases, by region.
    pub(crate) balancers: Vec<(String, PathBuf)>,
    pub(crate) timeout: Duration,
    /// Who types.
    pub(crate) by: String,
}

pub(crate) struct StoreMember {
    pub(crate) region: String,
    pub(crate) name: String,
    /// `https://address:2379`
    pub(crate) endpoint: String,
    pub(crate) status: Status,
}

/// A database server.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) region: String,
    /// None where the provider knows no address.
    pub(crate) guard: Option<String>,
    pub(crate) postgres: Option<String>,
    /// Host part only: where other regions' replicas reach it.
    pub(crate) reached: Option<String>,
    pub(crate) off: bool,
    pub(crate) data: bool,
    pub(crate) priority: u32,
    pub(crate) forbidden: Option<String>,
    /// On the local target.
    pub(crate) folder: PathBuf,
}

impl Agreement {
    /// # Errors
    /// When nothing is provisioned, or the workspace has no database of its own or no store.
    pub(crate) async fn open(context: &Context, workspace: &Workspace) -> Result<Self, Failed> {
        let provider = context.provisioned(workspace)?;
        let live = context.known(workspace, &provider)?.live;
        let databases: Vec<&Live> = live.iter().filter(|it| it.id.kind == Kind::Database).collect();
        let Some(cluster) = databases.iter().find_map(|it| text(it, "cluster")) else {
            return Err(Failed::refused(Refusal::new(
                "ha::agreement::none",
                format!("{} has no database of its own that guards agree on", workspace.name),
                "declare one (ha.Postgres in workspace.ncl), then: ha provision",
            )));
        };
        let folder = |region: &str, host: &str| provider.folder().join("regions").join(region).join("hosts").join(host);
        let nodes = databases
            .iter()
            .filter_map(|it| {
                let name = text(it, "server")?;
                let region = workspace.region(it.id.region.as_str());
                Some(Node {
                    folder: folder(it.id.region.as_str(), &name),
                    guard: it.endpoints.get("guard").cloned(),
                    postgres: it.endpoints.get("postgres").cloned(),
                    reached: it.address.clone(),
                    off: it.status == Status::Off,
                    data: region.is_none_or(|it| it.role != Role::Witness),
                    priority: region.map_or(u32::MAX, |it| it.failover_priority),
                    forbidden: region
                        .filter(|it| !it.can_lead)
                        .map(|it| format!("region {} says can_lead = false in workspace.ncl", it.name)),
                    region: it.id.region.to_string(),
                    name,
                })
            })
            .collect();
        let mut members = Vec::new();
        let mut tls = None;
        for it in live.iter().filter(|it| it.id.kind == Kind::Store) {
            let (Some(endpoint), Some(server)) = (it.endpoints.get("client"), text(it, "server")) else {
                continue;
            };
            tls.get_or_insert_with(|| folder(it.id.region.as_str(), &server).join("etc/tls"));
            members.push(StoreMember {
                region: it.id.region.to_string(),
                name: it.id.name.clone(),
                endpoint: endpoint.clone(),
                status: it.status,
            });
        }
        let Some(tls) = tls else {
            return Err(Failed::refused(Refusal::new(
                "ha::store::none",
                format!("{} has no agreement store", workspace.name),
                "declare one per region (ha.Store in workspace.ncl), then: ha provision",
            )));
        };
        let endpoints = members.iter().map(|it| it.endpoint.clone()).collect();
        let options =
            Options::new(endpoints, tls.join("ca.pem"), tls.join("cert.pem"), tls.join("key.pem")).timeout(CALL);
        let etcd = Etcd::new(&options).await?;
        let balancing = || {
            let all = live.iter().filter(|it| it.id.kind == Kind::LoadBalancer);
            all.filter(|it| it.status != Status::Off && it.endpoints.contains_key("write"))
        };
        let listeners =
            balancing().filter_map(|it| Some((it.id.region.to_string(), it.endpoints.get("write")?.clone())));
        let balancers =
            balancing().filter_map(|it| Some((it.id.region.to_string(), it.endpoints.get("admin")?.into())));
        Ok(Self {
            cluster: Cluster::new(Arc::new(etcd.clone()), Keys::new(workspace.name.as_str(), &cluster)),
            etcd,
            listeners: listeners.collect(),
            balancers: balancers.collect(),
            members,
            nodes,
            timeout: context.settings.timeout,
            by: context.places.user().unwrap_or_else(|| "somebody".to_owned()),
            workspace: workspace.clone(),
            provider,
        })
    }

    pub(crate) fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|it| it.name == name)
    }

    pub(crate) fn region_of(&self, node: &str) -> Option<String> {
        self.node(node).map(|it| it.region.clone())
    }

    /// A session of the operator at `address`; TLS, and the password from its file.
    pub(crate) fn session(&self, address: &str, name: &str) -> Option<ConnectOptions> {
        let (host, port) = address.rsplit_once(':')?;
        let host = Host::tcp(host, port.parse().ok()?);
        let options = ConnectOptions::new(host, ADMIN_USER, ADMIN_DATABASE, self.provider.admin_password_file());
        Some(
            options
                .ca(self.provider.ca_file())
                .application_name(name)
                .timeout(self.timeout),
        )
    }

    /// How long a message takes there and back between the regions that are farthest apart: as the objectives allow.
    pub(crate) fn round_trip(&self) -> Duration {
        Duration::try_from_secs_f64(self.workspace.objectives.max_latency_ms / 1000.0).unwrap_or_default()
    }
}

fn text(live: &Live, field: &str) -> Option<String> {
    live.spec.get(field)?.as_str().map(str::to_owned)
}
