//! From a workspace to the resources that realise it.
//!
//! The fields of each `spec` (all present, null where unset):
//!
//! | kind | fields |
//! |---|---|
//! | network | `ip_range`, `location` |
//! | server | `group`, `index`, `image`, `size`, `location`, `roles` (`app`, `database`, `store`), `command`; at the clouds `ssh_keys` and `user_data`, too, and where it is wanted `fixed_address` |
//! | store | `server`, `heartbeat_ms`, `election_ms` |
//! | database | `server`, `cluster`, `engine`, `version`, `founder`, `settings`, `peers`, `sync_mode`, `timing`, `failover`, `voters` |
//! | load_balancer | `location`, `algorithm`, `targets`, `rules`, `health_check`, `redirect_http_to_https`, `databases` |
//!
//! At the clouds networks, servers and load balancers have `labels` as well where the user wrote any, and a load balancer
//! `size_unit` where it is not the usual one: what nobody wrote is not there, so that it changes no hash.
//!
//! `voters` are all nodes of the database and the witnesses, this one included: each with `place`, `data`, `priority` and
//! `forbidden` (why it is never made primary, or null). Nodes of other regions are written `region/server`. Managed databases and the kinds that only clouds know
//! are resources on the target `cloud` alone; their spec is what the user wrote.

mod policy;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::{
    config::{Config, Target},
    model::{Database, Declared, LoadBalancer, Region, Role, ServerGroup, Store, Timing, Workspace},
    names::ProviderName,
    resource::{Kind, Resource, ResourceId, SSH_KEYS, USER_DATA},
};

pub use policy::{alone, forbidden};

/// In a spec: the labels that the user wrote.
pub const LABELS: &str = "labels";
/// In the spec of a server: it has a public address that stays when the machine is lost.
pub const FIXED_ADDRESS: &str = "fixed_address";
/// In the spec of a load balancer: how many nodes it has.
pub const SIZE_UNIT: &str = "size_unit";
const USUAL_SIZE_UNIT: u64 = 1;
/// The providers' own words for [`FIXED_ADDRESS`].
const FIXED_ADDRESSES: [&str; 2] = ["reserved_ip", "primary_ip"];

/// Every resource of the workspace, region after region with the primary first; what is depended on comes first.
///
/// Total: what `ha check` would refuse (a group that does not exist) is left out instead of guessed.
pub fn resources(workspace: &Workspace, config: &Config) -> Vec<Resource> {
    let build = Build::new(workspace, config);
    build.regions.iter().flat_map(|region| build.region(region)).collect()
}

/// The group a balancer spreads over: the named one, else the only one, else the only one nothing runs on.
pub fn target_group<'a>(region: &'a Region, balancer: &LoadBalancer) -> Option<&'a ServerGroup> {
    match (&balancer.targets, region.servers.as_slice()) {
        (Some(name), groups) => groups.iter().find(|group| group.declared.name == *name),
        (None, [only]) => Some(only),
        (None, groups) => {
            let mut idle = groups.iter().filter(|group| !is_run_on(region, &group.declared.name));
            idle.next().filter(|_| idle.next().is_none())
        }
    }
}

/// The name of the replicated database that a node belongs to: a workspace runs one per engine.
pub fn cluster(database: &Database) -> &str {
    &database.engine
}

fn is_run_on(region: &Region, group: &str) -> bool {
    let databases = region.databases.iter().filter_map(|it| it.runs_on.as_deref());
    let stores = region.stores.iter().map(|it| it.runs_on.as_str());
    databases.chain(stores).any(|name| name == group)
}

fn group<'a>(region: &'a Region, name: &str) -> Option<&'a ServerGroup> {
    region.servers.iter().find(|group| group.declared.name == name)
}

/// One node of a self-run database.
struct Node<'a> {
    region: &'a Region,
    database: &'a Database,
    index: u32,
    server: String,
}

impl Node<'_> {
    fn id(&self) -> ResourceId {
        let name = format!("{}-{}", self.database.declared.name, self.index);
        ResourceId::new(&self.region.name, Kind::Database, name)
    }

    fn place(&self) -> String {
        format!("{}/{}", self.region.name, self.server)
    }
}

struct Build<'a> {
    workspace: &'a Workspace,
    config: &'a Config,
    timing: Timing,
    /// Primary first.
    regions: Vec<&'a Region>,
    /// Of the whole workspace, in the order of `regions`.
    nodes: Vec<Node<'a>>,
    /// The first node of each cluster.
    founders: BTreeMap<&'a str, ResourceId>,
    /// Members of the store with their servers, in the order in which they join.
    members: Vec<(ResourceId, &'a Store, String)>,
}

impl<'a> Build<'a> {
    fn new(workspace: &'a Workspace, config: &'a Config) -> Self {
        let mut regions: Vec<&Region> = workspace.regions.iter().collect();
        regions.sort_by_key(|region| (region.role, &region.name));
        let nodes: Vec<Node> = regions
            .iter()
            .flat_map(|region| region.databases.iter().map(move |database| (*region, database)))
            .filter(|(_, database)| !database.managed)
            .filter_map(|(region, database)| Some((region, database, group(region, database.runs_on.as_deref()?)?)))
            .flat_map(|(region, database, group)| {
                group.server_names().zip(1..).map(move |(server, index)| Node {
                    region,
                    database,
                    index,
                    server,
                })
            })
            .collect();
        let mut founders = BTreeMap::new();
        for node in &nodes {
            founders.entry(cluster(node.database)).or_insert_with(|| node.id());
        }
        let members = regions
            .iter()
            .flat_map(|region| region.stores.iter().map(move |store| (*region, store)))
            .filter_map(|(region, store)| {
                let server = group(region, &store.runs_on)?.server_names().next()?;
                let id = ResourceId::new(&region.name, Kind::Store, store.declared.name.clone());
                Some((id, store, server))
            })
            .collect();
        Self {
            workspace,
            config,
            timing: workspace.timing,
            regions,
            nodes,
            founders,
            members,
        }
    }

    fn region(&self, region: &'a Region) -> Vec<Resource> {
        let networks = self.networks(region);
        let network_ids: Vec<ResourceId> = networks.iter().map(|it| it.id.clone()).collect();
        let mut out = networks;
        out.extend(self.others(region, &network_ids));
        out.extend(self.servers(region, &network_ids));
        out.extend(self.stores(region));
        out.extend(self.databases(region));
        out.extend(self.managed_databases(region, &network_ids));
        out.extend(self.load_balancers(region, &network_ids));
        // Volumes were declared among the firewalls.
        out.sort_by_key(|resource| resource.id.kind);
        out
    }

    fn networks(&self, region: &Region) -> Vec<Resource> {
        let location = &region.location;
        if region.networks.is_empty() && self.config.target == Target::Local {
            // The region's folder, supervisor and relay are what this kind means here: every region needs one.
            let name = format!("{}-net", region.name);
            return vec![Resource {
                id: ResourceId::new(&region.name, Kind::Network, name),
                provider: region.provider,
                spec: json!({ "ip_range": null, "location": location }),
                depends_on: Vec::new(),
                protect: false,
                path: region.field.clone(),
            }];
        }
        region
            .networks
            .iter()
            .map(|network| {
                let mut spec = json!({ "ip_range": network.ip_range, "location": location });
                self.label(&mut spec, &network.declared);
                resource(region, Kind::Network, &network.declared, spec, Vec::new())
            })
            .collect()
    }

    /// The user's own labels: on this machine nothing carries any.
    fn label(&self, spec: &mut Value, declared: &Declared) {
        if self.config.target == Target::Cloud && !declared.labels.is_empty() {
            spec[LABELS] = json!(declared.labels);
        }
    }

    fn servers(&self, region: &Region, networks: &[ResourceId]) -> Vec<Resource> {
        let mut out = Vec::new();
        let local = self.config.target == Target::Local;
        let targets = region.load_balancers.iter().filter_map(|it| target_group(region, it));
        let targets: BTreeSet<&str> = targets.map(|group| group.declared.name.as_str()).collect();
        for group in &region.servers {
            let name = &group.declared.name;
            let databases = region.databases.iter().filter(|it| !it.managed);
            let holds_database = databases.clone().any(|it| it.runs_on.as_deref() == Some(name));
            let serves = if region.load_balancers.is_empty() {
                !is_run_on(region, name)
            } else {
                targets.contains(name.as_str())
            };
            for (server, index) in group.server_names().zip(1u32..) {
                let member = |(id, _, at): &(ResourceId, _, String)| id.region == region.name && *at == server;
                let mut roles = Vec::new();
                roles.extend(serves.then_some("app"));
                roles.extend(holds_database.then_some("database"));
                roles.extend(self.members.iter().any(member).then_some("store"));
                let mut spec = json!({
                    "group": name,
                    "index": index,
                    "image": group.image,
                    "size": group.size,
                    "location": group.location,
                    "roles": roles,
                    "command": self.config.local.app_command.as_ref().filter(|_| serves && local),
                });
                if !local {
                    // Here a server is no machine that anybody logs into.
                    spec[SSH_KEYS] = ssh_keys(&group.declared);
                    spec[USER_DATA] = group.declared.fields.get("user_data").cloned().unwrap_or_default();
                    let wants = |field: &&str| group.declared.fields.get(*field) == Some(&Value::Bool(true));
                    if FIXED_ADDRESSES.iter().any(wants) {
                        spec[FIXED_ADDRESS] = true.into();
                    }
                    self.label(&mut spec, &group.declared);
                }
                let mut it = resource(region, Kind::Server, &group.declared, spec, networks.to_vec());
                it.id.name = server;
                out.push(it);
            }
        }
        out
    }

    fn stores(&self, region: &Region) -> Vec<Resource> {
        let mut out = Vec::new();
        for (position, (id, store, server)) in self.members.iter().enumerate() {
            if id.region != region.name {
                continue;
            }
            let mut depends_on = vec![ResourceId::new(&region.name, Kind::Server, server.clone())];
            // Members join one after another: each join must be agreed on by those before it.
            let before = position.checked_sub(1).and_then(|at| self.members.get(at));
            depends_on.extend(before.map(|(id, ..)| id.clone()));
            let election = self.timing.store_election.as_millis();
            // Protocol §5 C6: an election is ten heartbeats.
            let spec = json!({ "server": server, "heartbeat_ms": election / 10, "election_ms": election });
            out.push(resource(region, Kind::Store, &store.declared, spec, depends_on));
        }
        out
    }

    fn databases(&self, region: &Region) -> Vec<Resource> {
        let here = self.nodes.iter().filter(|node| node.region.name == region.name);
        here.map(|node| self.database(node)).collect()
    }

    fn database(&self, node: &Node) -> Resource {
        let cluster = cluster(node.database);
        let id = node.id();
        let founder = self.founders.get(cluster).filter(|founder| **founder != id);
        let mut depends_on = vec![ResourceId::new(&id.region, Kind::Server, node.server.clone())];
        let members = self.members.iter().map(|(id, ..)| id);
        depends_on.extend(members.filter(|member| member.region == id.region).cloned());
        depends_on.extend(founder.cloned());
        let mut peers: Vec<String> = self
            .nodes
            .iter()
            .filter(|other| self::cluster(other.database) == cluster && other.id() != id)
            .map(Node::place)
            .collect();
        // By name, so that another declared primary does not change their order.
        peers.sort();
        let mode = policy::mode(self.workspace, peers.len() + 1);
        let spec = json!({
            "server": node.server,
            "cluster": cluster,
            "engine": node.database.engine,
            "version": node.database.version,
            "founder": founder.is_none(),
            "settings": node.database.settings,
            "peers": peers,
            "sync_mode": mode,
            "timing": self.timing,
            "failover": self.workspace.failover,
            "voters": self.voters(cluster),
        });
        let mut it = resource(node.region, Kind::Database, &node.database.declared, spec, depends_on);
        it.id = id;
        it
    }

    /// Everybody who has a say in who leads this database.
    fn voters(&self, cluster: &str) -> Vec<Value> {
        let nodes = self
            .nodes
            .iter()
            .filter(|node| self::cluster(node.database) == cluster)
            .map(|node| (node.place(), node.region, true));
        let witnesses = self
            .members
            .iter()
            .filter_map(|(id, _, server)| {
                let region = self.workspace.region(id.region.as_str())?;
                Some((format!("{}/{server}", region.name), region, false))
            })
            .filter(|(_, region, _)| region.role == Role::Witness);
        let mut voters: Vec<(String, &Region, bool)> = nodes.chain(witnesses).collect();
        voters.sort_by(|a, b| a.0.cmp(&b.0));
        voters
            .into_iter()
            .map(|(place, region, data)| {
                json!({
                    "place": place,
                    "data": data,
                    "priority": region.failover_priority,
                    "forbidden": forbidden(self.workspace, region),
                })
            })
            .collect()
    }

    fn load_balancers(&self, region: &Region, networks: &[ResourceId]) -> Vec<Resource> {
        // A provider's balancer spreads requests; who is primary is followed by the one beside each application.
        let mut databases: Vec<String> = match self.config.target {
            Target::Local => self.nodes.iter().map(Node::place).collect(),
            Target::Cloud => Vec::new(),
        };
        databases.sort();
        databases.dedup();
        region
            .load_balancers
            .iter()
            .map(|balancer| {
                let group = target_group(region, balancer);
                let targets: Vec<String> = group.into_iter().flat_map(ServerGroup::server_names).collect();
                let servers = targets
                    .iter()
                    .map(|name| ResourceId::new(&region.name, Kind::Server, name.clone()));
                let depends_on = networks.iter().cloned().chain(servers).collect();
                let mut health_check = json!(balancer.health_check);
                if let (Value::Object(check), "tcp") = (&mut health_check, balancer.health_check.protocol.as_str()) {
                    check.remove("path");
                }
                let mut spec = json!({
                    "location": balancer.location,
                    "algorithm": balancer.algorithm,
                    "targets": targets,
                    "rules": balancer.rules,
                    "health_check": health_check,
                    "redirect_http_to_https": balancer.redirect_http_to_https,
                    "databases": databases,
                });
                let fields = &balancer.declared.fields;
                if let (Target::Cloud, Some(nodes)) = (self.config.target, fields.get(SIZE_UNIT))
                    && *nodes != json!(USUAL_SIZE_UNIT)
                {
                    spec[SIZE_UNIT] = nodes.clone();
                }
                self.label(&mut spec, &balancer.declared);
                resource(region, Kind::LoadBalancer, &balancer.declared, spec, depends_on)
            })
            .collect()
    }

    fn managed_databases(&self, region: &Region, networks: &[ResourceId]) -> Vec<Resource> {
        if self.config.target == Target::Local {
            return Vec::new();
        }
        let managed = region.databases.iter().filter(|it| it.managed);
        managed
            .map(|it| {
                let spec = Value::Object(it.declared.fields.clone());
                let mut depends_on = networks.to_vec();
                depends_on.extend(it.replicate_from.as_deref().and_then(|name| self.managed(region, name)));
                resource(region, Kind::Database, &it.declared, spec, depends_on)
            })
            .collect()
    }

    /// The managed database of that name in this region or one before it: never a circle.
    fn managed(&self, region: &Region, name: &str) -> Option<ResourceId> {
        let before = self.regions.iter().take_while(|it| it.name != region.name);
        before
            .flat_map(|it| it.databases.iter().map(move |database| (*it, database)))
            .find(|(_, database)| database.managed && database.declared.name == name)
            .map(|(it, _)| ResourceId::new(&it.name, Kind::Database, name))
    }

    fn others(&self, region: &Region, networks: &[ResourceId]) -> Vec<Resource> {
        if self.config.target == Target::Local {
            return Vec::new();
        }
        region
            .others
            .iter()
            .filter_map(|it| {
                let kind = match it.declared.kind.rsplit('.').next() {
                    Some("Volume") => Kind::Volume,
                    Some("Firewall" | "SecurityGroup") => Kind::Firewall,
                    _ => return None,
                };
                let spec = Value::Object(it.declared.fields.clone());
                Some(resource(region, kind, &it.declared, spec, networks.to_vec()))
            })
            .collect()
    }
}

/// However the provider's own word for it is.
fn ssh_keys(declared: &Declared) -> Value {
    let fields = &declared.fields;
    match (fields.get("ssh_keys"), fields.get("key_name")) {
        (Some(keys @ Value::Array(_)), _) => keys.clone(),
        (_, Some(name @ Value::String(_))) => json!([name]),
        _ => json!([]),
    }
}

fn resource(region: &Region, kind: Kind, declared: &Declared, spec: Value, depends_on: Vec<ResourceId>) -> Resource {
    let prefix = declared.kind.split('.').next().unwrap_or_default();
    Resource {
        id: ResourceId::new(&region.name, kind, declared.name.clone()),
        provider: ProviderName::parse(prefix).unwrap_or(region.provider),
        spec,
        depends_on,
        protect: declared.protect,
        path: declared.path.clone(),
    }
}

#[cfg(test)]
mod tests;
