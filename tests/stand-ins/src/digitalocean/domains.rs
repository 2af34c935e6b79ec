//! Domains and their records.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::reply::{Answer, Page, Problem, allowed, form};
use super::world::World;
use crate::form::Form;
use crate::wire::{Ask, Reply};

const KINDS: &[&str] = &["A", "AAAA", "CAA", "CNAME", "MX", "NS", "SOA", "SRV", "TXT"];

#[derive(Clone, Debug, Default)]
pub struct Record {
    pub id: u64,
    pub kind: &'static str,
    /// Relative to the domain; `@` is the domain itself.
    pub name: String,
    pub data: String,
    pub ttl: i64,
    pub priority: Option<i64>,
    pub port: Option<i64>,
    pub weight: Option<i64>,
    pub flags: Option<i64>,
    pub tag: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Domain {
    pub name: String,
    pub ttl: i64,
    pub records: BTreeMap<u64, Record>,
}

impl Domain {
    fn full_name(&self, record: &Record) -> String {
        if record.name == "@" {
            self.name.clone()
        } else {
            format!("{}.{}", record.name, self.name)
        }
    }

    fn render(&self) -> Value {
        let lines: Vec<String> = self
            .records
            .values()
            .map(|one| format!("{}. IN {} {} {}", self.full_name(one), one.ttl, one.kind, one.data))
            .collect();
        json!({"name": self.name, "ttl": self.ttl, "zone_file": format!("$ORIGIN {}.\n{}\n", self.name, lines.join("\n"))})
    }
}

fn render(record: &Record) -> Value {
    json!({
        "id": record.id,
        "type": record.kind,
        "name": record.name,
        "data": record.data,
        "priority": record.priority,
        "port": record.port,
        "ttl": record.ttl,
        "weight": record.weight,
        "flags": record.flags,
        "tag": record.tag,
    })
}

fn find<'a>(world: &'a World, ask: &Ask) -> Result<&'a Domain, Problem> {
    world.domains.get(ask.part(0)).ok_or_else(Problem::not_found)
}

pub(crate) fn list(world: &mut World, ask: &Ask) -> Answer {
    Page::of(ask, world.domains.values(), Domain::render)?.reply(world, ask, "domains")
}

pub(crate) fn get(world: &mut World, ask: &Ask) -> Answer {
    let domain = find(world, ask)?;
    Ok(Reply::json(200, json!({"domain": domain.render()})))
}

fn is_domain(name: &str) -> bool {
    let label = |part: &str| {
        (1..=63).contains(&part.len())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    name.len() <= 253 && name.contains('.') && name.split('.').all(label)
}

pub(crate) fn create(world: &mut World, ask: &Ask) -> Answer {
    let mut form = form(ask)?;
    form.ignore(&["ttl", "zone_file"]);
    let name = form.need_text("name");
    let has = form.has("name");
    form.rule(!has || is_domain(&name), "name", "is not a valid domain name");
    let ip = form.text("ip_address");
    form.rule(
        ip.as_ref().is_none_or(|ip| ip.parse::<std::net::IpAddr>().is_ok()),
        "ip_address",
        "must be an IP address",
    );
    form.finish()?;
    if world.domains.contains_key(&name) {
        return Err(Problem::unprocessable(format!("domain '{name}': name already exists")));
    }
    let mut domain = Domain {
        name: name.clone(),
        ttl: 1800,
        records: BTreeMap::new(),
    };
    let mut add = |kind, data: String| {
        let record = Record {
            id: world.next_id(),
            kind,
            name: "@".into(),
            data,
            ttl: 1800,
            ..Record::default()
        };
        domain.records.insert(record.id, record);
    };
    for n in 1..=3 {
        add("NS", format!("ns{n}.digitalocean.com"));
    }
    if let Some(ip) = ip {
        add(if ip.contains(':') { "AAAA" } else { "A" }, ip);
    }
    // What has just been made is not told with its zone file yet.
    let body = json!({"domain": {"name": name, "ttl": 1800, "zone_file": null}});
    world.domains.insert(name, domain);
    Ok(Reply::json(201, body))
}

pub(crate) fn delete(world: &mut World, ask: &Ask) -> Answer {
    let name = find(world, ask)?.name.clone();
    world.domains.remove(&name);
    Ok(Reply::empty(204))
}

/// By fully qualified name and type.
pub(crate) fn records(world: &mut World, ask: &Ask) -> Answer {
    allowed(ask, "type", KINDS)?;
    let domain = find(world, ask)?;
    let fits = |record: &&Record| {
        ask.first("name").is_none_or(|name| name == domain.full_name(record))
            && ask.first("type").is_none_or(|kind| kind == record.kind)
    };
    Page::of(ask, domain.records.values().filter(fits), render)?.reply(world, ask, "domain_records")
}

fn find_record<'a>(world: &'a World, ask: &Ask) -> Result<&'a Record, Problem> {
    let domain = find(world, ask)?;
    ask.id(1)
        .and_then(|id| domain.records.get(&id))
        .ok_or_else(Problem::not_found)
}

pub(crate) fn record(world: &mut World, ask: &Ask) -> Answer {
    let record = find_record(world, ask)?;
    Ok(Reply::json(200, json!({"domain_record": render(record)})))
}

/// The fields of a record over what stood there before.
fn read(form: &mut Form, before: &Record, whole: bool) -> Record {
    form.ignore(&["id"]);
    for field in ["priority", "port", "weight", "flags", "tag"] {
        form.nullable(field);
    }
    let kind = form.one_of("type", KINDS);
    let (has_type, name, data) = (form.has("type"), form.text("name"), form.text("data"));
    let kind = kind.unwrap_or(before.kind);
    form.rule(has_type || !before.kind.is_empty(), "type", "is required");
    if whole {
        form.rule(kind == "SOA" || data.is_some(), "data", "is required");
        form.rule(matches!(kind, "MX" | "SOA") || name.is_some(), "name", "is required");
    }
    let mut after = Record {
        id: before.id,
        kind,
        name: name.unwrap_or_else(|| {
            if before.name.is_empty() {
                "@".into()
            } else {
                before.name.clone()
            }
        }),
        data: data.unwrap_or_else(|| before.data.clone()),
        ttl: form
            .between("ttl", 30, 604_800)
            .unwrap_or(if before.ttl == 0 { 1800 } else { before.ttl }),
        priority: form.between("priority", 0, 65_535).or(before.priority),
        port: form.between("port", 0, 65_535).or(before.port),
        weight: form.between("weight", 0, 65_535).or(before.weight),
        flags: form.between("flags", 0, 255).or(before.flags),
        tag: form.text("tag").or_else(|| before.tag.clone()),
    };
    let fits = match kind {
        "A" => after.data.parse::<std::net::Ipv4Addr>().is_ok(),
        "AAAA" => after.data.parse::<std::net::Ipv6Addr>().is_ok(),
        _ => true,
    };
    form.rule(fits, "data", "is not an address of the record's type");
    form.rule(kind != "MX" || after.priority.is_some(), "priority", "is required");
    form.rule(
        kind != "SRV" || (after.priority.is_some() && after.port.is_some() && after.weight.is_some()),
        "priority",
        "port and weight are required",
    );
    form.rule(
        kind != "CAA" || (after.flags.is_some() && after.tag.is_some()),
        "flags",
        "and tag are required",
    );
    // Names of other hosts are told without the dot they are given with.
    if matches!(kind, "CNAME" | "MX" | "NS" | "SRV") {
        form.rule(
            !whole || after.data.ends_with('.') || after.data == "@",
            "data",
            "needs to end with a dot (.)",
        );
        after.data = after.data.trim_end_matches('.').to_owned();
    }
    after
}

pub(crate) fn create_record(world: &mut World, ask: &Ask) -> Answer {
    let domain = find(world, ask)?.name.clone();
    let mut form = form(ask)?;
    let mut record = read(&mut form, &Record::default(), true);
    form.finish()?;
    record.id = world.next_id();
    let body = json!({"domain_record": render(&record)});
    if let Some(domain) = world.domains.get_mut(&domain) {
        domain.records.insert(record.id, record);
    }
    Ok(Reply::json(201, body))
}

pub(crate) fn change_record(world: &mut World, ask: &Ask) -> Answer {
    let before = find_record(world, ask)?.clone();
    let mut form = form(ask)?;
    if ask.method == "PATCH" {
        let has = form.has("type");
        form.rule(has, "type", "is required");
    }
    let record = read(&mut form, &before, false);
    form.finish()?;
    if let Some(domain) = world.domains.get_mut(ask.part(0)) {
        domain.records.insert(record.id, record);
    }
    self::record(world, ask)
}

pub(crate) fn delete_record(world: &mut World, ask: &Ask) -> Answer {
    let id = find_record(world, ask)?.id;
    if let Some(domain) = world.domains.get_mut(ask.part(0)) {
        domain.records.remove(&id);
    }
    Ok(Reply::empty(204))
}
