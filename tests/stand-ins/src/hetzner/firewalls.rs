//! Firewalls: rules, and whom they are applied to.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::kinds::{Entity, Labels, by_id, common_fields, find, may_create, name_and_labels, show, stamp};
use super::labels::{Selector, chosen};
use super::reply::{Answer, Problem, form};
use super::servers::Server;
use super::world::World;
use crate::form::Form;
use crate::wire::{Ask, Reply};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    Server(u64),
    Selector(String),
}

#[derive(Clone, Debug)]
pub struct Firewall {
    pub id: u64,
    pub name: String,
    pub labels: Labels,
    pub created: Timestamp,
    /// As answered.
    pub rules: Vec<Value>,
    pub applied: Vec<Applied>,
}

impl Firewall {
    pub(crate) fn covers(&self, server: &Server) -> bool {
        self.applied.iter().any(|to| match to {
            Applied::Server(id) => *id == server.id,
            Applied::Selector(selector) => chosen(selector, &server.labels),
        })
    }

    pub(crate) fn apply_to(&mut self, to: Applied) {
        if !self.applied.contains(&to) {
            self.applied.push(to);
        }
    }

    pub(crate) fn forget_server(&mut self, id: u64) {
        self.applied.retain(|to| *to != Applied::Server(id));
    }
}

impl Entity for Firewall {
    const MANY: &'static str = "firewalls";
    const ONE: &'static str = "firewall";
    common_fields!(firewalls);

    fn may_change(world: &World, id: u64) -> Result<(), Problem> {
        world.no_conflict::<Self>(id)
    }

    fn render(&self, world: &World) -> Value {
        let applied: Vec<Value> = self
            .applied
            .iter()
            .map(|to| match to {
                Applied::Server(id) => json!({"type": "server", "server": {"id": id}}),
                Applied::Selector(selector) => {
                    let resolved: Vec<Value> = world
                        .servers
                        .values()
                        .filter(|server| chosen(selector, &server.labels))
                        .map(|server| json!({"type": "server", "server": {"id": server.id}}))
                        .collect();
                    json!({
                        "type": "label_selector",
                        "label_selector": {"selector": selector},
                        "applied_to_resources": resolved,
                    })
                }
            })
            .collect();
        json!({
            "id": self.id,
            "name": self.name,
            "labels": self.labels,
            "created": stamp(self.created),
            "rules": self.rules,
            "applied_to": applied,
        })
    }
}

fn is_port(text: &str) -> bool {
    let number = |text: &str| text.parse::<u16>().is_ok_and(|port| port > 0);
    text == "any"
        || match text.split_once('-') {
            None => number(text),
            Some((from, to)) => number(from) && number(to),
        }
}

fn is_range(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else {
        return false;
    };
    let Ok(bits) = bits.parse::<u8>() else { return false };
    match address.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(_)) => bits <= 32,
        Ok(std::net::IpAddr::V6(_)) => bits <= 128,
        Err(_) => false,
    }
}

fn rule(form: &mut Form) -> Value {
    form.nullable("description");
    let description = form.text("description");
    form.rule(
        description.as_ref().is_none_or(|text| text.chars().count() <= 255),
        "description",
        "must have 255 characters at most",
    );
    let direction = form.need_one_of("direction", &["in", "out"]);
    let protocol = form.need_one_of("protocol", &["tcp", "udp", "icmp", "esp", "gre"]);
    let port = form.text("port");
    let has_ports = matches!(protocol, "tcp" | "udp");
    form.rule(!has_ports || port.is_some(), "port", "is required for tcp and udp");
    form.rule(
        has_ports || port.is_none() || protocol.is_empty(),
        "port",
        "is for tcp and udp only",
    );
    form.rule(
        port.as_deref().is_none_or(is_port),
        "port",
        "must be a port or a range of ports",
    );
    let mut ranges = |name| {
        let ranges = form.texts(name).unwrap_or_default();
        form.rule(
            ranges.iter().all(|range| is_range(range)),
            name,
            "must be IP ranges in CIDR notation",
        );
        form.rule(ranges.len() <= 100, name, "must have 100 entries at most");
        ranges
    };
    let (source_ips, destination_ips) = (ranges("source_ips"), ranges("destination_ips"));
    form.rule(
        direction != "in" || !source_ips.is_empty(),
        "source_ips",
        "is required for incoming traffic",
    );
    form.rule(
        direction != "out" || !destination_ips.is_empty(),
        "destination_ips",
        "is required for outgoing traffic",
    );
    json!({
        "description": description,
        "direction": direction,
        "protocol": protocol,
        "port": port,
        "source_ips": source_ips,
        "destination_ips": destination_ips,
    })
}

fn resource(form: &mut Form) -> Option<Applied> {
    let kind = form.need_one_of("type", &["server", "label_selector"]);
    let server = form.group("server", |form| form.need_id("id"));
    let selector = form.group("label_selector", |form| form.need_text("selector"));
    match kind {
        "server" => form.rule(server.is_some(), "server", "is required"),
        "label_selector" => {
            let readable = selector.as_deref().is_some_and(|text| Selector::parse(text).is_ok());
            form.rule(readable, "label_selector", "is not a label selector");
        }
        _ => {}
    }
    if kind == "server" {
        server.map(Applied::Server)
    } else {
        selector.map(Applied::Selector)
    }
}

/// Whether it can be applied to all of these.
fn may_apply(world: &World, firewall: Option<&Firewall>, to: &[Applied], missing: u16) -> Result<(), Problem> {
    for (n, one) in to.iter().enumerate() {
        if to[..n].contains(one) {
            return Err(Problem::unprocessable(
                "server_already_added",
                "the resource was given more than once",
            ));
        }
        if firewall.is_some_and(|firewall| firewall.applied.contains(one)) {
            return Err(Problem::unprocessable(
                "firewall_already_applied",
                "firewall is already applied to resource",
            ));
        }
        if let Applied::Server(id) = one {
            let not_found = |_| Problem::new(missing, "firewall_resource_not_found", "the resource was not found");
            let server = by_id::<Server>(world, *id).map_err(not_found)?;
            if !server.has_public_interface(world) {
                return Err(Problem::unprocessable(
                    "private_net_only_server",
                    "the server has no public interface",
                ));
            }
        }
    }
    Ok(())
}

fn rules_within_limit(form: &mut Form, rules: &[Value]) {
    form.rule(rules.len() <= 50, "rules", "must have 50 entries at most");
}

pub(crate) fn create(world: &mut World, ask: &Ask) -> Answer {
    let mut form = form(ask)?;
    let (name, labels) = name_and_labels::<Firewall>(&mut form);
    let rules = form.each("rules", rule).unwrap_or_default();
    rules_within_limit(&mut form, &rules);
    let to: Vec<Applied> = form
        .each("apply_to", resource)
        .unwrap_or_default()
        .into_iter()
        .flatten()
        .collect();
    form.finish()?;
    may_apply(world, None, &to, 422)?;
    may_create::<Firewall>(world, &name)?;
    let id = world.next_id();
    let firewall = Firewall {
        id,
        name,
        labels,
        created: world.now(),
        rules,
        applied: Vec::new(),
    };
    world.firewalls.insert(id, firewall);
    let mut actions = vec![world.start("set_firewall_rules", &[(Firewall::ONE, id)], |_| {})];
    actions.extend(apply(world, id, to));
    Ok(Reply::json(
        201,
        json!({
            "firewall": show::<Firewall>(world, id),
            "actions": actions.into_iter().map(|id| world.action(id)).collect::<Vec<_>>(),
        }),
    ))
}

/// One action per resource; it is covered at once and reported as pending until the action ended.
fn apply(world: &mut World, id: u64, to: Vec<Applied>) -> Vec<u64> {
    let mut actions = Vec::new();
    for one in to {
        let mut of = vec![(Firewall::ONE, id)];
        if let Applied::Server(server) = one {
            of.push((Server::ONE, server));
        }
        if let Some(firewall) = world.firewalls.get_mut(&id) {
            firewall.apply_to(one);
        }
        actions.push(world.start("apply_firewall", &of, |_| {}));
    }
    actions
}

fn all_started(world: &World, actions: Vec<u64>) -> Answer {
    let actions: Vec<Value> = actions.into_iter().map(|id| world.action(id)).collect();
    Ok(Reply::json(201, json!({ "actions": actions })))
}

pub(crate) fn delete(world: &mut World, ask: &Ask) -> Answer {
    let firewall = find::<Firewall>(world, ask)?;
    let id = firewall.id;
    if !firewall.applied.is_empty() {
        return Err(Problem::unprocessable(
            "resource_in_use",
            "firewall still applied to a resource",
        ));
    }
    world.no_conflict::<Firewall>(id)?;
    world.firewalls.remove(&id);
    Ok(Reply::empty(204))
}

pub(crate) fn apply_to_resources(world: &mut World, ask: &Ask) -> Answer {
    let id = find::<Firewall>(world, ask)?.id;
    let mut form = form(ask)?;
    let to: Vec<Applied> = form.need_each("apply_to", resource).into_iter().flatten().collect();
    form.finish()?;
    world.no_conflict::<Firewall>(id)?;
    may_apply(world, world.firewalls.get(&id), &to, 404)?;
    let actions = apply(world, id, to);
    all_started(world, actions)
}

pub(crate) fn remove_from_resources(world: &mut World, ask: &Ask) -> Answer {
    let id = find::<Firewall>(world, ask)?.id;
    let mut form = form(ask)?;
    let from: Vec<Applied> = form.need_each("remove_from", resource).into_iter().flatten().collect();
    form.finish()?;
    world.no_conflict::<Firewall>(id)?;
    let firewall = by_id::<Firewall>(world, id)?;
    for one in &from {
        if firewall.applied.contains(one) {
            continue;
        }
        let by_selector = match one {
            Applied::Server(server) => by_id::<Server>(world, *server).is_ok_and(|server| firewall.covers(server)),
            Applied::Selector(_) => false,
        };
        return Err(if by_selector {
            Problem::unprocessable(
                "firewall_managed_by_label_selector",
                "firewall is applied via a label selector",
            )
        } else {
            Problem::new(404, "firewall_resource_not_found", "the resource was not found")
        });
    }
    let mut actions = Vec::new();
    for one in from {
        let mut of = vec![(Firewall::ONE, id)];
        if let Applied::Server(server) = one {
            of.push((Server::ONE, server));
        }
        actions.push(world.start("remove_firewall", &of, move |world| {
            if let Some(firewall) = world.firewalls.get_mut(&id) {
                firewall.applied.retain(|to| *to != one);
            }
        }));
    }
    all_started(world, actions)
}

pub(crate) fn set_rules(world: &mut World, ask: &Ask) -> Answer {
    let id = find::<Firewall>(world, ask)?.id;
    let mut form = form(ask)?;
    let rules = form.need_each("rules", rule);
    rules_within_limit(&mut form, &rules);
    form.finish()?;
    world.no_conflict::<Firewall>(id)?;
    let action = world.start("set_firewall_rules", &[(Firewall::ONE, id)], move |world| {
        if let Some(firewall) = world.firewalls.get_mut(&id) {
            firewall.rules = rules;
        }
    });
    all_started(world, vec![action])
}
