//! Private networks, their subnets and routes, and who has which address in them.

use std::net::Ipv4Addr;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::actions::{Protect, started};
use super::catalog::location_in_zone;
use super::kinds::{Change, Entity, Labels, by_id, common_fields, find, may_create, name_and_labels, show, stamp};
use super::reply::{Answer, Problem, form};
use super::world::World;
use crate::cidr::Cidr;
use crate::form::Form;
use crate::wire::{Ask, Reply};

#[derive(Clone, Debug)]
pub struct Subnet {
    pub kind: &'static str,
    pub range: Cidr,
    pub zone: String,
}

#[derive(Clone, Debug)]
pub struct Network {
    pub id: u64,
    pub name: String,
    pub labels: Labels,
    pub created: Timestamp,
    pub range: Cidr,
    pub subnets: Vec<Subnet>,
    /// Destination and gateway.
    pub routes: Vec<(String, Ipv4Addr)>,
    pub expose_routes: bool,
    pub protected: bool,
}

impl Network {
    /// The addresses that are given to somebody.
    fn used(&self, world: &World) -> Vec<Ipv4Addr> {
        let of_servers = world
            .servers
            .values()
            .flat_map(|server| &server.private)
            .filter(|one| one.network == self.id);
        let of_balancers = world.load_balancers.values().filter_map(|one| one.private);
        of_servers
            .flat_map(|one| one.alias_ips.iter().copied().chain([one.ip]))
            .chain(
                of_balancers
                    .filter(|(network, _)| *network == self.id)
                    .map(|(_, ip)| ip),
            )
            .collect()
    }

    fn add_subnet(&mut self, wanted: Wanted) -> Result<(), Problem> {
        let wrong = |why: &str| Problem::field("subnets", why);
        if location_in_zone(&wanted.zone).is_none() {
            return Err(Problem::field("network_zone", "does not exist"));
        }
        let taken = |range: &Cidr| self.subnets.iter().any(|one| one.range.overlaps(*range));
        let range = match wanted.range {
            Some(range) if !self.range.covers(range) => return Err(wrong("is not inside of the network's ip_range")),
            Some(range) if range.bits() > 30 => return Err(wrong("must be /30 or larger")),
            Some(range) if taken(&range) => return Err(wrong("overlaps with another subnet")),
            Some(range) => range,
            None => {
                let free = self.range.parts(24).find(|range| !taken(range));
                free.ok_or_else(|| wrong("there is no /24 left in the network"))?
            }
        };
        self.subnets.push(Subnet {
            kind: wanted.kind,
            range,
            zone: wanted.zone,
        });
        Ok(())
    }
}

impl Entity for Network {
    const MANY: &'static str = "networks";
    const ONE: &'static str = "network";
    common_fields!(networks);

    fn change(form: &mut Form) -> Change<Self> {
        let expose = form.flag("expose_routes_to_vswitch");
        Box::new(move |network| network.expose_routes = expose.unwrap_or(network.expose_routes))
    }

    fn may_change(world: &World, id: u64) -> Result<(), Problem> {
        world.no_conflict::<Self>(id)
    }

    fn render(&self, world: &World) -> Value {
        let gateway = self.range.address(1);
        let subnets: Vec<Value> = self
            .subnets
            .iter()
            .map(|one| {
                json!({
                    "type": one.kind,
                    "ip_range": one.range.to_string(),
                    "network_zone": one.zone,
                    "gateway": gateway,
                    "vswitch_id": null,
                })
            })
            .collect();
        let routes: Vec<Value> = self
            .routes
            .iter()
            .map(|(to, gateway)| json!({"destination": to, "gateway": gateway}))
            .collect();
        let servers: Vec<u64> = world
            .servers
            .values()
            .filter(|server| server.private.iter().any(|one| one.network == self.id))
            .map(|server| server.id)
            .collect();
        let balancers: Vec<u64> = world
            .load_balancers
            .values()
            .filter(|one| one.private.is_some_and(|(network, _)| network == self.id))
            .map(|one| one.id)
            .collect();
        json!({
            "id": self.id,
            "name": self.name,
            "ip_range": self.range.to_string(),
            "subnets": subnets,
            "routes": routes,
            "servers": servers,
            "load_balancers": balancers,
            "protection": {"delete": self.protected},
            "labels": self.labels,
            "created": stamp(self.created),
            "expose_routes_to_vswitch": self.expose_routes,
        })
    }
}

impl Protect for Network {
    fn protection_mut(&mut self) -> &mut bool {
        &mut self.protected
    }
}

#[derive(Default)]
struct Wanted {
    kind: &'static str,
    range: Option<Cidr>,
    zone: String,
}

fn range(form: &mut Form, name: &'static str) -> Option<Cidr> {
    match form.text(name)?.parse() {
        Ok(range) => Some(range),
        Err(why) => {
            form.wrong(name, why);
            None
        }
    }
}

fn need_range(form: &mut Form) -> Option<Cidr> {
    let has = form.has("ip_range");
    form.rule(has, "ip_range", "is required");
    let read = range(form, "ip_range");
    if let Some(range) = read {
        form.rule(
            range.is_private(),
            "ip_range",
            "must be one of the private IPv4 ranges of RFC1918",
        );
        form.rule(range.bits() <= 24, "ip_range", "must be /24 or larger");
    }
    read
}

fn subnet(form: &mut Form) -> Wanted {
    let kind = form.need_one_of("type", &["cloud", "server", "vswitch"]);
    let vswitch = form.id("vswitch_id");
    form.rule(kind != "vswitch" || vswitch.is_some(), "vswitch_id", "is required");
    Wanted {
        kind,
        range: range(form, "ip_range"),
        zone: form.need_text("network_zone"),
    }
}

fn a_route(form: &mut Form) -> (String, Ipv4Addr) {
    let destination = form.need_text("destination");
    let is_range = destination == "0.0.0.0/0" || destination.parse::<Cidr>().is_ok_and(Cidr::is_private);
    form.rule(
        is_range || !form.has("destination"),
        "destination",
        "must be a private range or 0.0.0.0/0",
    );
    let gateway = form.need_text("gateway");
    let read = gateway.parse().ok();
    form.rule(
        read.is_some() || !form.has("gateway"),
        "gateway",
        "must be an IPv4 address",
    );
    (destination, read.unwrap_or(Ipv4Addr::UNSPECIFIED))
}

pub(crate) fn create(world: &mut World, ask: &Ask) -> Answer {
    let mut form = form(ask)?;
    let (name, labels) = name_and_labels::<Network>(&mut form);
    let range = need_range(&mut form);
    let subnets = form.each("subnets", subnet).unwrap_or_default();
    let routes = form.each("routes", a_route).unwrap_or_default();
    let expose_routes = form.flag("expose_routes_to_vswitch").unwrap_or(false);
    form.finish()?;
    let range = range.ok_or_else(|| Problem::field("ip_range", "is required"))?;
    may_create::<Network>(world, &name)?;
    let id = world.next_id();
    let mut network = Network {
        id,
        name,
        labels,
        created: world.now(),
        range,
        subnets: Vec::new(),
        routes,
        expose_routes,
        protected: false,
    };
    for wanted in subnets {
        network.add_subnet(wanted)?;
    }
    world.networks.insert(id, network);
    Ok(Reply::json(201, json!({"network": show::<Network>(world, id)})))
}

/// "Attached resources will be detached automatically."
pub(crate) fn delete(world: &mut World, ask: &Ask) -> Answer {
    let network = find::<Network>(world, ask)?;
    let id = network.id;
    if network.protected {
        return Err(Problem::protected("network"));
    }
    world.no_conflict::<Network>(id)?;
    world.networks.remove(&id);
    for server in world.servers.values_mut() {
        server.private.retain(|one| one.network != id);
    }
    for balancer in world.load_balancers.values_mut() {
        balancer.private = balancer.private.filter(|(network, _)| *network != id);
    }
    Ok(Reply::empty(204))
}

/// A change of the network as an action; another one meanwhile is a conflict.
fn change(world: &mut World, id: u64, command: &str, effect: impl FnOnce(&mut Network) + Send + 'static) -> Answer {
    let action = world.start(command, &[(Network::ONE, id)], move |world| {
        if let Some(network) = world.networks.get_mut(&id) {
            effect(network);
        }
    });
    started(world, action)
}

pub(crate) fn add_subnet(world: &mut World, ask: &Ask) -> Answer {
    let id = find::<Network>(world, ask)?.id;
    let mut form = form(ask)?;
    let wanted = subnet(&mut form);
    form.finish()?;
    world.no_conflict::<Network>(id)?;
    let mut after = by_id::<Network>(world, id)?.clone();
    after.add_subnet(wanted)?;
    change(world, id, "add_subnet", move |network| network.subnets = after.subnets)
}

pub(crate) fn delete_subnet(world: &mut World, ask: &Ask) -> Answer {
    let id = find::<Network>(world, ask)?.id;
    let mut form = form(ask)?;
    let has = form.has("ip_range");
    form.rule(has, "ip_range", "is required");
    let wanted = range(&mut form, "ip_range");
    form.finish()?;
    world.no_conflict::<Network>(id)?;
    let network = by_id::<Network>(world, id)?;
    let known = network
        .subnets
        .iter()
        .map(|one| one.range)
        .find(|range| Some(*range) == wanted);
    let range = known.ok_or_else(|| Problem::field("ip_range", "is not a subnet of the network"))?;
    if network.used(world).into_iter().any(|ip| range.has(ip)) {
        return Err(Problem::unprocessable(
            "service_error",
            "the subnet contains attached resources",
        ));
    }
    change(world, id, "delete_subnet", move |network| {
        network.subnets.retain(|one| one.range != range)
    })
}

pub(crate) fn add_route(world: &mut World, ask: &Ask) -> Answer {
    let id = find::<Network>(world, ask)?.id;
    let mut form = form(ask)?;
    let wanted = a_route(&mut form);
    form.finish()?;
    world.no_conflict::<Network>(id)?;
    if by_id::<Network>(world, id)?.routes.contains(&wanted) {
        return Err(Problem::field("destination", "is already routed"));
    }
    change(world, id, "add_route", move |network| network.routes.push(wanted))
}

pub(crate) fn delete_route(world: &mut World, ask: &Ask) -> Answer {
    let id = find::<Network>(world, ask)?.id;
    let mut form = form(ask)?;
    let wanted = a_route(&mut form);
    form.finish()?;
    world.no_conflict::<Network>(id)?;
    if !by_id::<Network>(world, id)?.routes.contains(&wanted) {
        return Err(Problem::field("destination", "is not routed"));
    }
    change(world, id, "delete_route", move |network| {
        network.routes.retain(|one| *one != wanted)
    })
}

/// Extended only, never shrunk; the first address stays.
pub(crate) fn change_ip_range(world: &mut World, ask: &Ask) -> Answer {
    let id = find::<Network>(world, ask)?.id;
    let mut form = form(ask)?;
    let wanted = need_range(&mut form);
    form.finish()?;
    world.no_conflict::<Network>(id)?;
    let range = by_id::<Network>(world, id)?.range;
    let fits = wanted.filter(|wanted| wanted.starts_like(range) && wanted.bits() <= range.bits());
    let wanted = fits.ok_or_else(|| Problem::field("ip_range", "can only be extended at its end"))?;
    change(world, id, "change_ip_range", move |network| network.range = wanted)
}

impl World {
    /// An address for somebody in this zone: the one asked for, or the first that is free.
    pub(crate) fn free_address(
        &self,
        network: u64,
        zone: &str,
        wanted: Option<Ipv4Addr>,
        within: Option<Cidr>,
    ) -> Result<Ipv4Addr, Problem> {
        let network = by_id::<Network>(self, network)?;
        let subnets = network
            .subnets
            .iter()
            .filter(|one| one.kind != "vswitch" && one.zone == zone)
            .filter(|one| within.is_none_or(|range| range == one.range));
        let used = network.used(self);
        if let Some(wanted) = wanted {
            let gateway = network.range.address(1);
            let has = subnets
                .into_iter()
                .any(|one| one.range.has(wanted) && one.range.address(0) != Some(wanted));
            if !has || used.contains(&wanted) || gateway == Some(wanted) {
                return Err(Problem::unprocessable(
                    "ip_not_available",
                    "the provided network IP is not available",
                ));
            }
            return Ok(wanted);
        }
        let free = subnets
            .into_iter()
            .flat_map(|one| one.range.hosts())
            .find(|ip| !used.contains(ip));
        free.ok_or_else(|| Problem::unprocessable("no_subnet_available", "no subnet or IP is available in the network"))
    }
}
