//! Firewalls: rules, and Droplets by number or by tag.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::actions::stamp;
use super::reply::{Answer, Page, Problem, form};
use super::tags::{must_exist, read_tags};
use super::world::World;
use crate::form::Form;
use crate::wire::{Ask, Reply};

#[derive(Clone, Debug)]
pub struct Firewall {
    pub id: String,
    pub name: String,
    pub created: Timestamp,
    /// `waiting` or `succeeded`.
    pub status: &'static str,
    pub droplets: Vec<u64>,
    pub tags: Vec<String>,
    /// As answered.
    pub inbound: Vec<Value>,
    pub outbound: Vec<Value>,
}

impl Firewall {
    fn render(&self) -> Value {
        let pending: Vec<Value> = if self.status == "waiting" {
            let each = |id: &u64| json!({"droplet_id": id, "removing": false, "status": "waiting"});
            self.droplets.iter().map(each).collect()
        } else {
            Vec::new()
        };
        json!({
            "id": self.id,
            "name": self.name,
            "status": self.status,
            "created_at": stamp(self.created),
            "pending_changes": pending,
            "droplet_ids": self.droplets,
            "tags": self.tags,
            "inbound_rules": self.inbound,
            "outbound_rules": self.outbound,
        })
    }
}

fn ports_fit(protocol: &str, ports: &str) -> bool {
    let number = |text: &str| text.parse::<u16>().is_ok();
    match ports {
        "0" | "all" => true,
        "" => protocol == "icmp",
        _ => match ports.split_once('-') {
            None => number(ports),
            Some((from, to)) => number(from) && number(to),
        },
    }
}

fn rule(form: &mut Form, places: &'static str) -> Value {
    let protocol = form.need_one_of("protocol", &["tcp", "udp", "icmp"]);
    // Left out for icmp by the provider's own clients, and by the description required.
    let ports = form.text("ports").unwrap_or_default();
    form.rule(
        ports_fit(protocol, &ports),
        "ports",
        "must be a port, a range of ports, or all",
    );
    let place = form.need_group(places, |form| {
        form.nullable("tags");
        let mut place = json!({});
        let mut set = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                place[key] = value;
            }
        };
        set("addresses", form.texts("addresses").map(Value::from));
        set("droplet_ids", form.ids("droplet_ids").map(Value::from));
        set("load_balancer_uids", form.texts("load_balancer_uids").map(Value::from));
        set("kubernetes_ids", form.texts("kubernetes_ids").map(Value::from));
        set("tags", form.texts("tags").map(Value::from));
        place
    });
    json!({"protocol": protocol, "ports": if ports.is_empty() { "0" } else { &ports }, places: place})
}

fn rules(form: &mut Form) -> (Vec<Value>, Vec<Value>) {
    form.nullable("inbound_rules");
    form.nullable("outbound_rules");
    let inbound = form.each("inbound_rules", |form| rule(form, "sources"));
    let outbound = form.each("outbound_rules", |form| rule(form, "destinations"));
    form.rule(
        inbound.is_some() || outbound.is_some(),
        "inbound_rules",
        "or outbound_rules is required",
    );
    (inbound.unwrap_or_default(), outbound.unwrap_or_default())
}

fn ids(form: &mut Form) -> Vec<u64> {
    form.nullable("droplet_ids");
    form.ids("droplet_ids").unwrap_or_default()
}

/// A whole firewall as a request says it, without number and state.
fn wanted(world: &World, ask: &Ask, except: &str) -> Result<Firewall, Problem> {
    let mut form = form(ask)?;
    form.ignore(&["id", "status", "created_at", "pending_changes"]);
    let name = form.need_text("name");
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let has = form.has("name");
    form.rule(
        !has || (name.len() > 1 && begins && name.bytes().all(fits)),
        "name",
        "is not valid",
    );
    let droplets = ids(&mut form);
    let tags = read_tags(&mut form).unwrap_or_default();
    let (inbound, outbound) = rules(&mut form);
    form.finish()?;
    droplets_exist(world, &droplets)?;
    must_exist(world, &tags)?;
    if world.firewalls.values().any(|one| one.name == name && one.id != except) {
        return Err(Problem::conflict("duplicate name"));
    }
    Ok(Firewall {
        id: except.to_owned(),
        name,
        created: world.now(),
        status: "waiting",
        droplets,
        tags,
        inbound,
        outbound,
    })
}

fn droplets_exist(world: &World, droplets: &[u64]) -> Result<(), Problem> {
    match droplets.iter().find(|id| !world.droplets.contains_key(id)) {
        Some(id) => Err(Problem::unprocessable(format!("Droplet {id} does not exist"))),
        None => Ok(()),
    }
}

fn find<'a>(world: &'a World, ask: &Ask) -> Result<&'a Firewall, Problem> {
    world.firewalls.get(ask.part(0)).ok_or_else(Problem::not_found)
}

pub(crate) fn list(world: &mut World, ask: &Ask) -> Answer {
    Page::of(ask, world.firewalls.values(), Firewall::render)?.reply(world, ask, "firewalls")
}

pub(crate) fn get(world: &mut World, ask: &Ask) -> Answer {
    let firewall = find(world, ask)?;
    Ok(Reply::json(200, json!({"firewall": firewall.render()})))
}

pub(crate) fn of_droplet(world: &mut World, ask: &Ask) -> Answer {
    let droplet = super::droplets::find(world, ask)?;
    let by_tag = |one: &Firewall| one.tags.iter().any(|tag| droplet.tags.contains(tag));
    let found = world
        .firewalls
        .values()
        .filter(|one| one.droplets.contains(&droplet.id) || by_tag(one));
    Page::of(ask, found, Firewall::render)?.reply(world, ask, "firewalls")
}

fn settle_later(world: &mut World, id: String) {
    world.when_ready(move |world| {
        if let Some(firewall) = world.firewalls.get_mut(&id) {
            firewall.status = "succeeded";
        }
    });
}

pub(crate) fn create(world: &mut World, ask: &Ask) -> Answer {
    let mut firewall = wanted(world, ask, "")?;
    world.within_quota("firewalls", world.firewalls.len())?;
    firewall.id = world.next_uuid();
    let id = firewall.id.clone();
    let body = json!({"firewall": firewall.render()});
    world.firewalls.insert(id.clone(), firewall);
    settle_later(world, id);
    Ok(Reply::json(202, body))
}

/// Any attribute that is not provided is reset to its default value.
pub(crate) fn replace(world: &mut World, ask: &Ask) -> Answer {
    let before = find(world, ask)?;
    let (id, created) = (before.id.clone(), before.created);
    let mut firewall = wanted(world, ask, &id)?;
    firewall.created = created;
    world.firewalls.insert(id.clone(), firewall);
    settle_later(world, id);
    get(world, ask)
}

pub(crate) fn delete(world: &mut World, ask: &Ask) -> Answer {
    let id = find(world, ask)?.id.clone();
    world.firewalls.remove(&id);
    Ok(Reply::empty(204))
}

/// A change of one part: added with POST, taken away with DELETE.
fn change(world: &mut World, ask: &Ask, act: impl FnOnce(&mut Firewall, bool)) -> Answer {
    let id = find(world, ask)?.id.clone();
    if let Some(firewall) = world.firewalls.get_mut(&id) {
        act(firewall, ask.method == "POST");
        firewall.status = "waiting";
    }
    settle_later(world, id);
    Ok(Reply::empty(204))
}

pub(crate) fn change_droplets(world: &mut World, ask: &Ask) -> Answer {
    find(world, ask)?;
    let mut form = form(ask)?;
    let has = form.has("droplet_ids");
    form.rule(has, "droplet_ids", "is required");
    let droplets = form.ids("droplet_ids").unwrap_or_default();
    form.finish()?;
    droplets_exist(world, &droplets)?;
    change(world, ask, |firewall, add| {
        firewall.droplets.retain(|one| !droplets.contains(one));
        if add {
            firewall.droplets.extend(droplets);
        }
    })
}

pub(crate) fn change_tags(world: &mut World, ask: &Ask) -> Answer {
    find(world, ask)?;
    let mut form = form(ask)?;
    let has = form.has("tags");
    form.rule(has, "tags", "is required");
    let tags = read_tags(&mut form).unwrap_or_default();
    form.finish()?;
    must_exist(world, &tags)?;
    change(world, ask, |firewall, add| {
        firewall.tags.retain(|one| !tags.contains(one));
        if add {
            firewall.tags.extend(tags);
        }
    })
}

pub(crate) fn change_rules(world: &mut World, ask: &Ask) -> Answer {
    find(world, ask)?;
    let mut form = form(ask)?;
    let (inbound, outbound) = rules(&mut form);
    form.finish()?;
    change(world, ask, |firewall, add| {
        firewall.inbound.retain(|one| !inbound.contains(one));
        firewall.outbound.retain(|one| !outbound.contains(one));
        if add {
            firewall.inbound.extend(inbound);
            firewall.outbound.extend(outbound);
        }
    })
}
