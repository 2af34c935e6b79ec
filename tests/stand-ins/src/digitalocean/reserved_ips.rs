//! Reserved IPs: addresses of a region that can be assigned to its Droplets.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::actions::{self, What};
use super::catalog::{find_region, region_of};
use super::droplets::action_link;
use super::reply::{Answer, Page, Problem, form};
use super::world::World;
use crate::wire::{Ask, Reply};

#[derive(Clone, Debug)]
pub struct ReservedIp {
    pub ip: Ipv4Addr,
    pub region: String,
    pub droplet: Option<u64>,
}

impl ReservedIp {
    fn render(&self, world: &World) -> Value {
        let droplet = self
            .droplet
            .and_then(|id| world.droplets.get(&id))
            .map(|one| one.render(world));
        json!({
            "ip": self.ip,
            "region": region_of(&self.region, world),
            "droplet": droplet,
            "locked": world.is_busy(&What::ReservedIp(self.ip)),
            "project_id": "746c6152-2fa2-11ed-92d3-27aaa54e4988",
        })
    }
}

fn find<'a>(world: &'a World, ask: &Ask) -> Result<&'a ReservedIp, Problem> {
    ask.part(0)
        .parse()
        .ok()
        .and_then(|ip: Ipv4Addr| world.reserved_ips.get(&ip))
        .ok_or_else(Problem::not_found)
}

pub(crate) fn list(world: &mut World, ask: &Ask) -> Answer {
    let found = world.reserved_ips.values();
    Page::of(ask, found, |one| one.render(world))?.reply(world, ask, "reserved_ips")
}

pub(crate) fn get(world: &mut World, ask: &Ask) -> Answer {
    let ip = find(world, ask)?;
    Ok(Reply::json(200, json!({"reserved_ip": ip.render(world)})))
}

pub(crate) fn create(world: &mut World, ask: &Ask) -> Answer {
    let mut form = form(ask)?;
    let droplet = form.id("droplet_id");
    let region = form.text("region");
    form.uuid("project_id");
    form.rule(
        droplet.is_some() != region.is_some(),
        "region",
        "or droplet_id is required",
    );
    form.finish()?;
    world.within_quota("reserved_ips", world.reserved_ips.len())?;
    let region = match droplet {
        Some(id) => {
            let droplet = world.droplets.get(&id);
            droplet
                .ok_or_else(|| Problem::unprocessable("the Droplet does not exist"))?
                .region
                .clone()
        }
        None => region.unwrap_or_default(),
    };
    if !find_region(&region).is_some_and(|region| region.available) {
        return Err(Problem::unprocessable("region does not exist or is not available"));
    }
    let ip = world.next_ipv4();
    let reserved = ReservedIp {
        ip,
        region: region.clone(),
        droplet: None,
    };
    world.reserved_ips.insert(ip, reserved);
    let mut links = json!({});
    if let Some(id) = droplet {
        let action = assign(world, ip, &region, Some(id), "assign_ip");
        let href = format!("http://{}/v2/droplets/{id}", ask.host);
        links = json!({
            "droplets": [{"id": id, "rel": "droplet", "href": href}],
            "actions": [action_link(ask, action, "assign_ip")],
        });
    }
    let shown = world.reserved_ips.get(&ip).map(|ip| ip.render(world));
    Ok(Reply::json(202, json!({"reserved_ip": shown, "links": links})))
}

fn assign(world: &mut World, ip: Ipv4Addr, region: &str, droplet: Option<u64>, kind: &str) -> u64 {
    world.start(kind, What::ReservedIp(ip), region, move |world| {
        if let Some(ip) = world.reserved_ips.get_mut(&ip) {
            ip.droplet = droplet;
        }
    })
}

fn idle(world: &World, ask: &Ask) -> Result<Ipv4Addr, Problem> {
    let ip = find(world, ask)?.ip;
    if world.is_busy(&What::ReservedIp(ip)) {
        return Err(Problem::pending("The reserved IP"));
    }
    Ok(ip)
}

pub(crate) fn delete(world: &mut World, ask: &Ask) -> Answer {
    let ip = idle(world, ask)?;
    world.reserved_ips.remove(&ip);
    Ok(Reply::empty(204))
}

pub(crate) fn list_actions(world: &mut World, ask: &Ask) -> Answer {
    let ip = find(world, ask)?.ip;
    actions::list_of(world, ask, &What::ReservedIp(ip))
}

pub(crate) fn get_action(world: &mut World, ask: &Ask) -> Answer {
    let ip = find(world, ask)?.ip;
    actions::get_of(world, ask, &What::ReservedIp(ip))
}

pub(crate) fn act(world: &mut World, ask: &Ask) -> Answer {
    find(world, ask)?;
    let mut form = form(ask)?;
    let kind = form.need_one_of("type", &["assign", "unassign"]);
    let droplet = form.id("droplet_id");
    form.rule(kind != "assign" || droplet.is_some(), "droplet_id", "is required");
    form.finish()?;
    let ip = idle(world, ask)?;
    let reserved = find(world, ask)?;
    let region = reserved.region.clone();
    let (to, label) = if kind == "assign" {
        let droplet = droplet
            .and_then(|id| world.droplets.get(&id))
            .ok_or_else(Problem::not_found)?;
        if droplet.region != region {
            return Err(Problem::unprocessable("the Droplet is in another region"));
        }
        if world.is_busy(&What::Droplet(droplet.id)) {
            return Err(Problem::pending("Droplet"));
        }
        (Some(droplet.id), "assign_ip")
    } else {
        if reserved.droplet.is_none() {
            return Err(Problem::unprocessable("The reserved IP is not assigned to a Droplet."));
        }
        (None, "unassign_ip")
    };
    let action = assign(world, ip, &region, to, label);
    let mut shown = world.action(action);
    // Here, and only here, the description asks for the project.
    shown["project_id"] = json!("746c6152-2fa2-11ed-92d3-27aaa54e4988");
    Ok(Reply::json(201, json!({ "action": shown })))
}
