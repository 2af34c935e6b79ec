//! Servers: how they look, how they come and go.

use std::net::Ipv4Addr;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::actions;
use super::catalog::{find_image, find_location, find_server_type, render_image, render_location, render_server_type};
use super::kinds::{
    Entity, Labels, by_id, by_id_or_name, common_fields, find, may_create, name_and_labels, show, stamp,
};
use super::networks::Network;
use super::primary_ips::PrimaryIp;
use super::reply::{Answer, Problem, allowed, form, passes};
use super::small::{PlacementGroup, SshKey};
use super::volumes::Volume;
use super::world::World;
use crate::form::Form;
use crate::wire::{Ask, Reply};

const STATUSES: &[&str] = &[
    "running",
    "initializing",
    "starting",
    "stopping",
    "off",
    "deleting",
    "migrating",
    "rebuilding",
    "unknown",
];

/// Attached to a network with this address.
#[derive(Clone, Debug)]
pub struct Private {
    pub network: u64,
    pub ip: Ipv4Addr,
    pub alias_ips: Vec<Ipv4Addr>,
}

#[derive(Clone, Debug)]
pub struct Server {
    pub id: u64,
    pub name: String,
    pub labels: Labels,
    pub created: Timestamp,
    /// `running`, `off` and so on, as answered.
    pub status: &'static str,
    pub server_type: String,
    pub location: String,
    pub image: String,
    pub user_data: Option<String>,
    pub ssh_keys: Vec<u64>,
    pub placement_group: Option<u64>,
    pub private: Vec<Private>,
    /// In GB: what change_type left it at.
    pub disk: u32,
    pub protected: bool,
    pub backups: bool,
}

impl Server {
    pub(crate) fn address(&self, world: &World, kind: &str) -> Option<u64> {
        let mine = |ip: &&PrimaryIp| ip.assignee == Some(self.id) && ip.kind == kind;
        world.primary_ips.values().find(mine).map(|ip| ip.id)
    }

    pub(crate) fn has_public_interface(&self, world: &World) -> bool {
        world.primary_ips.values().any(|ip| ip.assignee == Some(self.id))
    }

    fn public_net(&self, world: &World) -> Value {
        let of = |kind| self.address(world, kind).and_then(|id| world.primary_ips.get(&id));
        let ipv4 = of("ipv4").map_or(
            Value::Null,
            |ip| json!({"id": ip.id, "ip": ip.ip, "blocked": false, "dns_ptr": ip.reverse()}),
        );
        let ipv6 = of("ipv6").map_or(
            Value::Null,
            |ip| json!({"id": ip.id, "ip": ip.ip, "blocked": false, "dns_ptr": []}),
        );
        let firewalls: Vec<Value> = world
            .firewalls
            .values()
            .filter(|firewall| firewall.covers(self))
            .map(|firewall| {
                let pending = world.is_busy("firewall", firewall.id);
                json!({"id": firewall.id, "status": if pending { "pending" } else { "applied" }})
            })
            .collect();
        json!({"ipv4": ipv4, "ipv6": ipv6, "floating_ips": [], "firewalls": firewalls})
    }

    fn private_net(&self) -> Vec<Value> {
        self.private
            .iter()
            .map(|one| {
                let [_, b, c, d] = one.ip.octets();
                json!({
                    "network": one.network,
                    "ip": one.ip,
                    "alias_ips": one.alias_ips,
                    "mac_address": format!("86:00:00:{b:02x}:{c:02x}:{d:02x}"),
                })
            })
            .collect()
    }
}

impl Entity for Server {
    const MANY: &'static str = "servers";
    const ONE: &'static str = "server";
    common_fields!(servers);

    fn check_query(ask: &Ask) -> Result<(), Problem> {
        allowed(ask, "status", STATUSES)
    }

    fn passes(&self, _: &World, ask: &Ask) -> bool {
        passes(ask, "status", self.status)
    }

    /// A valid hostname as per RFC 1123.
    fn check_name(form: &mut Form, name: &str) {
        let label = |part: &str| {
            (1..=63).contains(&part.len())
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !part.starts_with('-')
                && !part.ends_with('-')
        };
        form.rule(
            name.len() <= 253 && name.split('.').all(label),
            "name",
            "is not a valid hostname",
        );
    }

    fn render(&self, world: &World) -> Value {
        let server_type = find_server_type(&self.server_type);
        let architecture = server_type.map_or("x86", |one| one.architecture);
        let volumes: Vec<u64> = world
            .volumes
            .values()
            .filter(|one| one.server == Some(self.id))
            .map(|one| one.id)
            .collect();
        let balancers: Vec<u64> = world
            .load_balancers
            .values()
            .filter(|one| one.targets_server(self))
            .map(|one| one.id)
            .collect();
        let location = find_location(&self.location).map(render_location);
        let traffic = (self.status == "running").then_some(0);
        json!({
            "id": self.id,
            "name": self.name,
            "status": self.status,
            "created": stamp(self.created),
            "public_net": self.public_net(world),
            "private_net": self.private_net(),
            "server_type": server_type.map(|one| render_server_type(one, world)),
            "location": location,
            "image": find_image(&self.image, architecture).map(render_image),
            "iso": null,
            "rescue_enabled": false,
            "locked": world.is_busy(Self::ONE, self.id),
            "backup_window": self.backups.then_some("22-02"),
            "outgoing_traffic": traffic,
            "ingoing_traffic": traffic,
            "included_traffic": 21_990_232_555_520_u64,
            "protection": {"delete": self.protected, "rebuild": self.protected},
            "labels": self.labels,
            "volumes": volumes,
            "load_balancers": balancers,
            "primary_disk_size": self.disk,
            "placement_group": self.placement_group.map(|id| show::<PlacementGroup>(world, id)),
        })
    }
}

#[derive(Default)]
struct PublicNet {
    /// Whether there is an address, and whether it is one that exists already.
    ipv4: (bool, Option<u64>),
    ipv6: (bool, Option<u64>),
}

fn public_net(form: &mut Form) -> PublicNet {
    let read = |form: &mut Form| {
        let mut of = |enable, which| {
            let enabled = form.flag(enable).unwrap_or(true);
            form.nullable(which);
            (enabled, form.id(which))
        };
        PublicNet {
            ipv4: of("enable_ipv4", "ipv4"),
            ipv6: of("enable_ipv6", "ipv6"),
        }
    };
    form.group("public_net", read).unwrap_or(PublicNet {
        ipv4: (true, None),
        ipv6: (true, None),
    })
}

pub(crate) fn create(world: &mut World, ask: &Ask) -> Answer {
    let mut form = form(ask)?;
    let (name, labels) = name_and_labels::<Server>(&mut form);
    let type_name = form.id_or_name("server_type").unwrap_or_default();
    let image_name = form.id_or_name("image").unwrap_or_default();
    for needed in ["server_type", "image"] {
        let has = form.has(needed);
        form.rule(has, needed, "is required");
    }
    let location = form.id_or_name("location");
    let start = form.flag("start_after_create").unwrap_or(true);
    let placement_group = form.id("placement_group");
    let keys = form.ids_or_names("ssh_keys").unwrap_or_default();
    let volumes = form.ids("volumes").unwrap_or_default();
    let networks = form.ids("networks").unwrap_or_default();
    let firewalls = form
        .each("firewalls", |one| one.need_id("firewall"))
        .unwrap_or_default();
    let user_data = form.text("user_data");
    form.rule(
        user_data.as_ref().is_none_or(|data| data.len() <= 32 * 1024),
        "user_data",
        "must be 32 KiB at most",
    );
    form.flag("automount");
    let public = public_net(&mut form);
    form.rule(
        public.ipv4.0 || public.ipv6.0 || !networks.is_empty(),
        "public_net",
        "a server needs a public interface or a network",
    );
    let server_type = find_server_type(&type_name);
    if form.has("server_type") {
        form.rule(server_type.is_some(), "server_type", "does not exist");
    }
    let image = find_image(&image_name, server_type.map_or("x86", |one| one.architecture));
    if form.has("image") {
        form.rule(image.is_some(), "image", "does not exist");
    }
    let place = find_location(location.as_deref().unwrap_or("fsn1"));
    form.rule(place.is_some(), "location", "does not exist");
    form.finish()?;
    let (Some(server_type), Some(image), Some(place)) = (server_type, image, place) else {
        return Err(Problem::field("server_type", "does not exist"));
    };

    if image.architecture != server_type.architecture {
        return Err(Problem::field(
            "image",
            "is of another architecture than the server type",
        ));
    }
    let mut key_ids = Vec::new();
    for key in &keys {
        let found = by_id_or_name::<SshKey>(world, key);
        key_ids.push(found.ok_or_else(|| Problem::not_found("ssh_key", key))?.id);
    }
    if let Some(group) = placement_group {
        by_id::<PlacementGroup>(world, group)?;
    }
    for id in &firewalls {
        by_id::<super::firewalls::Firewall>(world, *id)?;
    }
    for id in &volumes {
        by_id::<Volume>(world, *id)?.may_attach(place.name)?;
    }
    for id in &networks {
        by_id::<Network>(world, *id)?;
    }
    for (kind, (enabled, which)) in [("ipv4", public.ipv4), ("ipv6", public.ipv6)] {
        if let (true, Some(id)) = (enabled, which) {
            by_id::<PrimaryIp>(world, id)?.may_be_given(kind, place.name)?;
        }
    }
    may_create::<Server>(world, &name)?;
    if server_type.gone || !server_type.is_sold_in(place.name) {
        let message = format!("server type {} is not available in {}", server_type.name, place.name);
        return Err(if server_type.gone {
            Problem::unprocessable("invalid_input", message)
        } else {
            Problem::unavailable(message)
        });
    }
    match world.knobs.capacity.get_mut(place.name) {
        Some(0) => {
            return Err(Problem::unavailable(format!(
                "error during placement in {}",
                place.name
            )));
        }
        Some(left) => *left -= 1,
        None => {}
    }

    let id = world.next_id();
    let server = Server {
        id,
        name,
        labels,
        created: world.now(),
        status: "initializing",
        server_type: server_type.name.to_owned(),
        location: place.name.to_owned(),
        image: image.id.to_string(),
        user_data,
        ssh_keys: key_ids.clone(),
        placement_group,
        private: Vec::new(),
        disk: server_type.disk,
        protected: false,
        backups: false,
    };
    world.servers.insert(id, server);
    for (kind, (enabled, which)) in [("ipv4", public.ipv4), ("ipv6", public.ipv6)] {
        match which {
            _ if !enabled => {}
            Some(address) => {
                if let Some(ip) = world.primary_ips.get_mut(&address) {
                    ip.assignee = Some(id);
                }
            }
            None => {
                world.give_address(kind, place.name, Some(id));
            }
        }
    }
    for volume in &volumes {
        if let Some(volume) = world.volumes.get_mut(volume) {
            volume.server = Some(id);
        }
    }
    for firewall in &firewalls {
        if let Some(firewall) = world.firewalls.get_mut(firewall) {
            firewall.apply_to(super::firewalls::Applied::Server(id));
        }
    }
    let action = world.start("create_server", &[(Server::ONE, id)], move |world| {
        if let Some(server) = world.servers.get_mut(&id) {
            server.status = "off";
        }
    });
    let next = next_actions(world, id, start, &networks, place.zone);
    let root_password = key_ids.is_empty().then_some("YItygq1v3GYjjMomLaKc");
    Ok(Reply::json(
        201,
        json!({
            "server": show::<Server>(world, id),
            "action": world.action(action),
            "next_actions": next.into_iter().map(|id| world.action(id)).collect::<Vec<_>>(),
            "root_password": root_password,
        }),
    ))
}

/// What follows the creation, one after the other: into the networks, then on.
fn next_actions(world: &mut World, id: u64, start: bool, networks: &[u64], zone: &'static str) -> Vec<u64> {
    let mut next = Vec::new();
    let mut nth = 1;
    for network in networks.iter().copied() {
        nth += 1;
        let of = [(Server::ONE, id), (Network::ONE, network)];
        next.push(world.start_as_step(nth, "attach_to_network", &of, move |world| {
            if let Ok(ip) = world.free_address(network, zone, None, None) {
                world.attach_server(id, network, ip, Vec::new());
            }
        }));
    }
    if start {
        next.push(
            world.start_as_step(nth + 1, "start_server", &[(Server::ONE, id)], move |world| {
                if let Some(server) = world.servers.get_mut(&id) {
                    server.status = "running";
                }
            }),
        );
        // Seen on the way, between the two ends.
        let starting = world.knobs.action_time * nth;
        world.agenda.later(starting, move |world| {
            if let Some(server) = world.servers.get_mut(&id).filter(|server| server.status == "off") {
                server.status = "starting";
            }
        });
    }
    next
}

impl World {
    pub(crate) fn attach_server(&mut self, id: u64, network: u64, ip: Ipv4Addr, alias_ips: Vec<Ipv4Addr>) {
        if let Some(server) = self.servers.get_mut(&id) {
            server.private.push(Private { network, ip, alias_ips });
        }
    }

    /// What was attached to it is free again; addresses that were made with it go with it.
    pub(crate) fn forget_server(&mut self, id: u64) {
        self.servers.remove(&id);
        self.primary_ips
            .retain(|_, ip| ip.assignee != Some(id) || !ip.auto_delete);
        for ip in self.primary_ips.values_mut().filter(|ip| ip.assignee == Some(id)) {
            ip.assignee = None;
        }
        for volume in self.volumes.values_mut().filter(|volume| volume.server == Some(id)) {
            volume.server = None;
        }
        for firewall in self.firewalls.values_mut() {
            firewall.forget_server(id);
        }
        for balancer in self.load_balancers.values_mut() {
            balancer.forget_server(id);
        }
    }
}

pub(crate) fn delete(world: &mut World, ask: &Ask) -> Answer {
    let server = find::<Server>(world, ask)?;
    let id = server.id;
    if server.protected {
        return Err(Problem::protected("server"));
    }
    world.not_busy::<Server>(id)?;
    if let Some(server) = world.servers.get_mut(&id) {
        server.status = "deleting";
    }
    let action = world.start("delete_server", &[(Server::ONE, id)], move |world| {
        world.forget_server(id)
    });
    Ok(Reply::json(200, json!({"action": world.action(action)})))
}

impl actions::Protect for Server {
    fn protection_mut(&mut self) -> &mut bool {
        &mut self.protected
    }
}
