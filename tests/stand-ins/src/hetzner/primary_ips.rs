//! Primary IPs: public addresses with a life of their own, or with that of their server.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::actions::{Protect, started};
use super::catalog::{find_location, render_location};
use super::kinds::{Change, Entity, Labels, by_id, common_fields, find, may_create, name_and_labels, show, stamp};
use super::reply::{Answer, Problem, form, no_fields, passes};
use super::servers::Server;
use super::world::World;
use crate::form::Form;
use crate::wire::{Ask, Reply};

#[derive(Clone, Debug)]
pub struct PrimaryIp {
    pub id: u64,
    pub name: String,
    pub labels: Labels,
    pub created: Timestamp,
    /// `ipv4` or `ipv6`.
    pub kind: &'static str,
    pub ip: String,
    pub location: String,
    pub assignee: Option<u64>,
    /// Goes with the server it is assigned to.
    pub auto_delete: bool,
    pub protected: bool,
}

impl PrimaryIp {
    pub(crate) fn reverse(&self) -> String {
        format!("static.{}.clients.your-server.de", self.ip.replace(':', "-"))
    }

    /// Whether a new server there can have it.
    pub(crate) fn may_be_given(&self, kind: &str, location: &str) -> Result<(), Problem> {
        if self.kind != kind {
            let message = "the specified primary IP has the wrong IP version";
            return Err(Problem::new(412, "primary_ip_version_mismatch", message));
        }
        if self.assignee.is_some() {
            let message = "the specified primary IP is already assigned to a server";
            return Err(Problem::unprocessable("primary_ip_assigned", message));
        }
        if self.location != location {
            let message = "the specified primary IP is in a different location";
            return Err(Problem::unprocessable("primary_ip_datacenter_mismatch", message));
        }
        Ok(())
    }
}

impl Entity for PrimaryIp {
    const MANY: &'static str = "primary_ips";
    const ONE: &'static str = "primary_ip";
    const SORT: &'static [&'static str] = &["id", "created"];
    common_fields!(primary_ips);

    fn passes(&self, _: &World, ask: &Ask) -> bool {
        passes(ask, "ip", &self.ip)
    }

    fn change(form: &mut Form) -> Change<Self> {
        let auto_delete = form.flag("auto_delete");
        Box::new(move |ip| ip.auto_delete = auto_delete.unwrap_or(ip.auto_delete))
    }

    fn may_change(world: &World, id: u64) -> Result<(), Problem> {
        world.no_conflict::<Self>(id)
    }

    fn render(&self, _: &World) -> Value {
        let dns_ptr = if self.kind == "ipv4" {
            json!([{"ip": self.ip, "dns_ptr": self.reverse()}])
        } else {
            json!([])
        };
        json!({
            "id": self.id,
            "name": self.name,
            "labels": self.labels,
            "created": stamp(self.created),
            "blocked": false,
            "location": find_location(&self.location).map(render_location),
            "ip": self.ip,
            "dns_ptr": dns_ptr,
            "protection": {"delete": self.protected},
            "type": self.kind,
            "auto_delete": self.auto_delete,
            "assignee_type": "server",
            "assignee_id": self.assignee,
        })
    }
}

impl Protect for PrimaryIp {
    fn protection_mut(&mut self) -> &mut bool {
        &mut self.protected
    }

    fn may_protect(&self, delete: bool) -> Result<(), Problem> {
        if delete && self.auto_delete {
            return Err(Problem::field("delete", "can only be enabled if auto_delete is false"));
        }
        Ok(())
    }
}

impl World {
    /// An address made along with a server: it is deleted with it.
    pub(crate) fn give_address(&mut self, kind: &'static str, location: &str, server: Option<u64>) -> u64 {
        let id = self.next_id();
        let ip = self.address_of(kind, id);
        let ip = PrimaryIp {
            id,
            name: format!("primary_ip-{id}"),
            labels: Labels::new(),
            created: self.now(),
            kind,
            ip,
            location: location.to_owned(),
            assignee: server,
            auto_delete: true,
            protected: false,
        };
        self.primary_ips.insert(id, ip);
        id
    }

    fn address_of(&mut self, kind: &str, id: u64) -> String {
        if kind == "ipv4" {
            self.next_ipv4().to_string()
        } else {
            format!("2001:db8:{:x}:{:x}::/64", id >> 16, id & 0xffff)
        }
    }
}

/// The server, when it is off and has no such address yet.
fn may_have(world: &World, server: u64, kind: &str) -> Result<(), Problem> {
    let server = by_id::<Server>(world, server)?;
    if server.address(world, kind).is_some() {
        let code = if kind == "ipv4" {
            "server_has_ipv4"
        } else {
            "server_has_ipv6"
        };
        return Err(Problem::unprocessable(
            code,
            format!("the server already has an {kind} address"),
        ));
    }
    is_off(server)
}

fn is_off(server: &Server) -> Result<(), Problem> {
    if server.status == "off" {
        return Ok(());
    }
    Err(Problem::unprocessable(
        "server_not_stopped",
        "the server is running, but needs to be powered off",
    ))
}

pub(crate) fn create(world: &mut World, ask: &Ask) -> Answer {
    let mut form = form(ask)?;
    let (name, labels) = name_and_labels::<PrimaryIp>(&mut form);
    let kind = form.need_one_of("type", &["ipv4", "ipv6"]);
    let location = form.id_or_name("location");
    form.one_of("assignee_type", &["server"]);
    form.nullable("assignee_id");
    let server = form.id("assignee_id");
    let auto_delete = form.flag("auto_delete").unwrap_or(false);
    form.rule(
        location.is_some() != server.is_some(),
        "location",
        "give either location or assignee_id",
    );
    form.finish()?;
    let place = match server {
        Some(server) => {
            may_have(world, server, kind)?;
            by_id::<Server>(world, server)?.location.clone()
        }
        None => location.unwrap_or_default(),
    };
    let place = find_location(&place).ok_or_else(|| Problem::field("location", "does not exist"))?;
    may_create::<PrimaryIp>(world, &name)?;
    let id = world.next_id();
    let ip = PrimaryIp {
        id,
        name,
        labels,
        created: world.now(),
        kind,
        ip: world.address_of(kind, id),
        location: place.name.to_owned(),
        assignee: None,
        auto_delete,
        protected: false,
    };
    world.primary_ips.insert(id, ip);
    let action = world.start("create_primary_ip", &[(PrimaryIp::ONE, id)], move |world| {
        if let Some(ip) = world.primary_ips.get_mut(&id) {
            ip.assignee = server;
        }
    });
    let body = json!({"primary_ip": show::<PrimaryIp>(world, id), "action": world.action(action)});
    Ok(Reply::json(201, body))
}

/// As of 1 May 2026 it needs to be unassigned first.
pub(crate) fn delete(world: &mut World, ask: &Ask) -> Answer {
    let ip = find::<PrimaryIp>(world, ask)?;
    let id = ip.id;
    if ip.protected {
        return Err(Problem::protected("primary IP"));
    }
    if ip.assignee.is_some() {
        return Err(Problem::unprocessable(
            "must_be_unassigned",
            "the primary IP must be unassigned",
        ));
    }
    world.no_conflict::<PrimaryIp>(id)?;
    world.primary_ips.remove(&id);
    Ok(Reply::empty(204))
}

pub(crate) fn assign(world: &mut World, ask: &Ask) -> Answer {
    let ip = find::<PrimaryIp>(world, ask)?;
    let (id, kind, assigned, location) = (ip.id, ip.kind, ip.assignee.is_some(), ip.location.clone());
    let mut form = form(ask)?;
    form.need_one_of("assignee_type", &["server"]);
    let server = form.need_id("assignee_id");
    form.finish()?;
    let place = by_id::<Server>(world, server)?.location.clone();
    if assigned {
        let message = "the primary IP is already assigned to a server";
        return Err(Problem::unprocessable("primary_ip_already_assigned", message));
    }
    if place != location {
        return Err(Problem::field("assignee_id", "is in a different location"));
    }
    may_have(world, server, kind)?;
    world.no_conflict::<PrimaryIp>(id)?;
    let of = [(PrimaryIp::ONE, id), (Server::ONE, server)];
    let action = world.start("assign_primary_ip", &of, move |world| {
        if let Some(ip) = world.primary_ips.get_mut(&id) {
            ip.assignee = Some(server);
        }
    });
    started(world, action)
}

pub(crate) fn unassign(world: &mut World, ask: &Ask) -> Answer {
    no_fields(ask)?;
    let ip = find::<PrimaryIp>(world, ask)?;
    let id = ip.id;
    let server = ip
        .assignee
        .ok_or_else(|| Problem::unprocessable("service_error", "the primary IP is not assigned"))?;
    is_off(by_id::<Server>(world, server)?)?;
    world.no_conflict::<PrimaryIp>(id)?;
    let of = [(PrimaryIp::ONE, id), (Server::ONE, server)];
    let action = world.start("unassign_primary_ip", &of, move |world| {
        if let Some(ip) = world.primary_ips.get_mut(&id) {
            ip.assignee = None;
        }
    });
    started(world, action)
}
