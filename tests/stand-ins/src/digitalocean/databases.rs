//! Managed databases: clusters, read replicas, promotion, resizing.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::actions::stamp;
use super::catalog::find_region;
use super::reply::{Answer, Problem, form};
use super::tags::{known_tags, read_tags};
use super::world::World;
use crate::cidr::Cidr;
use crate::form::Form;
use crate::wire::{Ask, Reply};

const ENGINES: &[&str] = &[
    "pg",
    "mysql",
    "redis",
    "valkey",
    "mongodb",
    "kafka",
    "opensearch",
    "advanced_pg",
    "advanced_mysql",
];
const SIZES: &[&str] = &[
    "db-s-1vcpu-1gb",
    "db-s-1vcpu-2gb",
    "db-s-2vcpu-4gb",
    "db-s-4vcpu-8gb",
    "gd-2vcpu-8gb",
];

#[derive(Clone, Debug)]
pub struct Replica {
    pub id: String,
    pub name: String,
    pub tags: Vec<String>,
    pub created: Timestamp,
    pub region: String,
    pub size: String,
    /// `forking` or `online`.
    pub status: &'static str,
    pub vpc: String,
}

#[derive(Clone, Debug)]
pub struct Database {
    pub id: String,
    pub name: String,
    pub tags: Vec<String>,
    pub created: Timestamp,
    pub engine: &'static str,
    pub version: String,
    pub region: String,
    pub size: String,
    pub nodes: i64,
    pub storage_mib: i64,
    /// `creating`, `online`, `resizing`, `migrating` to another version.
    pub status: &'static str,
    pub vpc: String,
    pub replicas: BTreeMap<String, Replica>,
    /// Who may connect; everybody with the password where there is none.
    pub sources: Vec<Source>,
    /// How many times more the creation of a replica is refused.
    pub refusals: u32,
}

/// A trusted source, in DigitalOcean's words a rule of the firewall.
#[derive(Clone, Debug)]
pub struct Source {
    pub id: String,
    /// `droplet`, `k8s`, `ip_addr`, `tag`, `app`.
    pub kind: &'static str,
    pub value: String,
    pub created: Timestamp,
}

fn connection(name: &str, ready: bool, private: bool) -> Value {
    let host = format!(
        "{}{name}-do-user-1-0.db.example.com",
        if private { "private-" } else { "" }
    );
    let uri = format!("postgres://doadmin:stand-in@{host}:25060/defaultdb?sslmode=require");
    json!({
        "uri": if ready { uri.as_str() } else { "" },
        "database": "defaultdb",
        "host": host,
        "port": 25060,
        "user": "doadmin",
        "password": "stand-in",
        "ssl": true,
    })
}

impl Database {
    pub(crate) fn render(&self) -> Value {
        let ready = self.status != "creating";
        json!({
            "id": self.id,
            "name": self.name,
            "engine": self.engine,
            "version": self.version,
            "semantic_version": format!("{}.4", self.version),
            "num_nodes": self.nodes,
            "size": self.size,
            "region": self.region,
            "status": self.status,
            "created_at": stamp(self.created),
            "private_network_uuid": self.vpc,
            "tags": self.tags,
            "db_names": ["defaultdb"],
            "connection": connection(&self.name, ready, false),
            "private_connection": connection(&self.name, ready, true),
            "standby_connection": connection(&format!("replica-{}", self.name), ready, false),
            "standby_private_connection": connection(&format!("replica-{}", self.name), ready, true),
            "users": [{"name": "doadmin", "role": "primary", "password": "stand-in"}],
            "maintenance_window": {"day": "saturday", "hour": "08:45:12", "pending": false, "description": []},
            "project_id": "9cc10173-e9ea-4176-9dbc-a4cee4c4ff30",
            "version_end_of_life": "2029-11-09T00:00:00Z",
            "version_end_of_availability": "2029-05-09T00:00:00Z",
            "storage_size_mib": self.storage_mib,
            "do_settings": {"service_cnames": []},
        })
    }
}

fn render_replica(replica: &Replica) -> Value {
    let ready = replica.status == "online";
    json!({
        "id": replica.id,
        "name": replica.name,
        "region": replica.region,
        "size": replica.size,
        "status": replica.status,
        "tags": replica.tags,
        "created_at": stamp(replica.created),
        "private_network_uuid": replica.vpc,
        "connection": connection(&replica.name, ready, false),
        "private_connection": connection(&replica.name, ready, true),
        "storage_size_mib": 61_440,
        "do_settings": {"service_cnames": []},
    })
}

fn find<'a>(world: &'a World, ask: &Ask) -> Result<&'a Database, Problem> {
    world.databases.get(ask.part(0)).ok_or_else(Problem::not_found)
}

/// Not in pages: the description knows none here.
pub(crate) fn list(world: &mut World, ask: &Ask) -> Answer {
    let tag = ask.first("tag_name");
    let found = world
        .databases
        .values()
        .filter(|one| tag.is_none_or(|tag| one.tags.iter().any(|has| has == tag)));
    let rows: Vec<Value> = found.map(Database::render).collect();
    Ok(Reply::json(200, json!({ "databases": rows })))
}

pub(crate) fn get(world: &mut World, ask: &Ask) -> Answer {
    let database = find(world, ask)?;
    Ok(Reply::json(200, json!({"database": database.render()})))
}

fn name(form: &mut Form) -> String {
    let name = form.need_text("name");
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    let has = form.has("name");
    let fits = (3..=63).contains(&name.len()) && begins && name.bytes().all(inner);
    form.rule(
        !has || fits,
        "name",
        "must have 3 to 63 lowercase letters, digits and dashes, beginning with a letter",
    );
    name
}

fn region_and_size(region: &str, size: &str) -> Result<(), Problem> {
    if !find_region(region).is_some_and(|region| region.available) {
        return Err(Problem::unprocessable("invalid region"));
    }
    if !SIZES.contains(&size) {
        return Err(Problem::unprocessable("invalid size"));
    }
    Ok(())
}

/// Fields that the description knows and the stand-in does not act upon.
const READ_ONLY: &[&str] = &[
    "id",
    "semantic_version",
    "status",
    "created_at",
    "db_names",
    "ui_connection",
    "schema_registry_connection",
    "connection",
    "private_connection",
    "standby_connection",
    "standby_private_connection",
    "users",
    "version_end_of_life",
    "version_end_of_availability",
    "metrics_endpoints",
];

pub(crate) fn create(world: &mut World, ask: &Ask) -> Answer {
    let mut form = form(ask)?;
    form.ignore(READ_ONLY);
    let name = name(&mut form);
    let engine = form.need_one_of("engine", ENGINES);
    let version = form.text("version").unwrap_or_else(|| "17".into());
    let nodes = form.need_between("num_nodes", 1, 3);
    let (size, region) = (form.need_text("size"), form.need_text("region"));
    let vpc = form.text("private_network_uuid");
    let tags = read_tags(&mut form).unwrap_or_default();
    let storage_mib = form.whole("storage_size_mib");
    form.uuid("project_id");
    for known in ["maintenance_window", "autoscale", "do_settings", "backup_restore"] {
        let given = form.raw(known);
        form.rule(given.is_none_or(|value| value.is_object()), known, "must be an object");
    }
    let rules = form.each("rules", rule).unwrap_or_default();
    form.finish()?;
    region_and_size(&region, &size)?;
    if world.databases.values().any(|one| one.name == name) {
        return Err(Problem::unprocessable("cluster name is not available"));
    }
    world.within_quota("databases", world.databases.len())?;
    let vpc = world.vpc_for(vpc.as_deref(), &region)?;
    known_tags(world, &tags);
    let sources = read_sources(world, rules)?;
    let id = world.next_uuid();
    let late = world.knobs.tags_late;
    let database = Database {
        id: id.clone(),
        name,
        tags: if late.is_zero() { tags.clone() } else { Vec::new() },
        created: world.now(),
        engine,
        version,
        region,
        size,
        nodes,
        storage_mib: storage_mib.unwrap_or(61_440),
        status: "creating",
        vpc,
        replicas: BTreeMap::new(),
        sources,
        refusals: world.knobs.replica_refusals,
    };
    let body = json!({"database": database.render()});
    world.databases.insert(id.clone(), database);
    if !late.is_zero() {
        let id = id.clone();
        world.agenda.later(late, move |world| {
            if let Some(database) = world.databases.get_mut(&id) {
                database.tags = tags;
            }
        });
    }
    online_later(world, id);
    Ok(Reply::json(201, body))
}

fn online_later(world: &mut World, id: String) {
    world.when_ready(move |world| {
        if let Some(database) = world.databases.get_mut(&id) {
            database.status = "online";
        }
    });
}

pub(crate) fn delete(world: &mut World, ask: &Ask) -> Answer {
    let id = find(world, ask)?.id.clone();
    if let Some(database) = world.databases.remove(&id) {
        world.left_vpc(&database.vpc);
    }
    Ok(Reply::empty(204))
}

fn online<'a>(world: &'a World, ask: &Ask) -> Result<&'a Database, Problem> {
    let database = find(world, ask)?;
    if database.status != "online" {
        return Err(Problem::precondition("the database cluster is not online"));
    }
    Ok(database)
}

pub(crate) fn resize(world: &mut World, ask: &Ask) -> Answer {
    find(world, ask)?;
    let mut form = form(ask)?;
    let size = form.need_text("size");
    let nodes = form.need_between("num_nodes", 1, 3);
    let storage_mib = form.whole("storage_size_mib");
    form.finish()?;
    let database = online(world, ask)?;
    region_and_size(&database.region, &size)?;
    let id = database.id.clone();
    if let Some(database) = world.databases.get_mut(&id) {
        database.status = "resizing";
    }
    world.when_ready(move |world| {
        if let Some(database) = world.databases.get_mut(&id) {
            database.size = size;
            database.nodes = nodes;
            database.storage_mib = storage_mib.unwrap_or(database.storage_mib);
            database.status = "online";
        }
    });
    Ok(Reply::empty(202))
}

/// One rule of a body: its type and its value.
fn rule(form: &mut Form) -> (&'static str, String) {
    form.ignore(&["uuid", "cluster_uuid", "created_at", "description"]);
    let kind = form.need_one_of("type", &["droplet", "k8s", "ip_addr", "tag", "app"]);
    (kind, form.need_text("value"))
}

/// What a rule names has to be there, as far as it is in this world.
fn read_sources(world: &mut World, rules: Vec<(&'static str, String)>) -> Result<Vec<Source>, Problem> {
    let mut sources = Vec::new();
    for (kind, value) in rules {
        let there = match kind {
            "tag" => world.tags.contains(&value),
            "droplet" => value.parse().is_ok_and(|id: u64| world.droplets.contains_key(&id)),
            "ip_addr" => value.parse::<IpAddr>().is_ok() || value.parse::<Cidr>().is_ok(),
            _ => true,
        };
        if !there {
            return Err(Problem::unprocessable(format!(
                "invalid firewall rule: there is no {kind} {value}"
            )));
        }
        sources.push(Source {
            id: world.next_uuid(),
            kind,
            value,
            created: world.now(),
        });
    }
    Ok(sources)
}

pub(crate) fn firewall(world: &mut World, ask: &Ask) -> Answer {
    let database = find(world, ask)?;
    let shown = database.sources.iter().map(|source| {
        json!({
            "uuid": source.id,
            "cluster_uuid": database.id,
            "type": source.kind,
            "value": source.value,
            "created_at": stamp(source.created),
        })
    });
    let rules: Vec<Value> = shown.collect();
    Ok(Reply::json(200, json!({ "rules": rules })))
}

/// All of them at once: what is left out is no longer trusted.
pub(crate) fn set_firewall(world: &mut World, ask: &Ask) -> Answer {
    let id = find(world, ask)?.id.clone();
    let mut form = form(ask)?;
    let rules = form.each("rules", rule).unwrap_or_default();
    form.finish()?;
    let sources = read_sources(world, rules)?;
    if let Some(database) = world.databases.get_mut(&id) {
        database.sources = sources;
    }
    Ok(Reply::empty(204))
}

/// Never back to an older one.
pub(crate) fn upgrade(world: &mut World, ask: &Ask) -> Answer {
    find(world, ask)?;
    let mut form = form(ask)?;
    let version = form.need_text("version");
    form.finish()?;
    let database = online(world, ask)?;
    let id = database.id.clone();
    let number = |text: &str| text.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if number(&version).is_none() || number(&version) <= number(&database.version) {
        return Err(Problem::unprocessable("invalid version to upgrade to"));
    }
    if let Some(database) = world.databases.get_mut(&id) {
        database.status = "migrating";
    }
    world.when_ready(move |world| {
        if let Some(database) = world.databases.get_mut(&id) {
            database.version = version;
            database.status = "online";
        }
    });
    Ok(Reply::empty(204))
}

pub(crate) fn replicas(world: &mut World, ask: &Ask) -> Answer {
    let rows: Vec<Value> = find(world, ask)?.replicas.values().map(render_replica).collect();
    Ok(Reply::json(200, json!({ "replicas": rows })))
}

fn find_replica<'a>(world: &'a World, ask: &Ask) -> Result<&'a Replica, Problem> {
    find(world, ask)?
        .replicas
        .get(ask.part(1))
        .ok_or_else(Problem::not_found)
}

pub(crate) fn replica(world: &mut World, ask: &Ask) -> Answer {
    let replica = find_replica(world, ask)?;
    Ok(Reply::json(200, json!({"replica": render_replica(replica)})))
}

/// Refused with 412 while the cluster is not online, and as often again as a knob says.
pub(crate) fn create_replica(world: &mut World, ask: &Ask) -> Answer {
    find(world, ask)?;
    let mut form = form(ask)?;
    form.ignore(&["id", "status", "created_at", "connection", "private_connection"]);
    let name = name(&mut form);
    let size = form.need_text("size");
    let region = form.text("region");
    let tags = read_tags(&mut form).unwrap_or_default();
    let vpc = form.text("private_network_uuid");
    form.whole("storage_size_mib");
    let settings = form.raw("do_settings");
    form.rule(
        settings.is_none_or(|value| value.is_object()),
        "do_settings",
        "must be an object",
    );
    form.finish()?;
    let database = online(world, ask)?;
    let id = database.id.clone();
    let region = region.unwrap_or_else(|| database.region.clone());
    if !matches!(database.engine, "pg" | "mysql" | "advanced_pg" | "advanced_mysql") {
        return Err(Problem::unprocessable("replicas are not supported for this engine"));
    }
    region_and_size(&region, &size)?;
    if database.replicas.contains_key(&name) {
        return Err(Problem::unprocessable("replica name is not available"));
    }
    if let Some(database) = world.databases.get_mut(&id).filter(|database| database.refusals > 0) {
        database.refusals -= 1;
        return Err(Problem::precondition(
            "the cluster has no backup yet that a replica could be made from",
        ));
    }
    let vpc = world.vpc_for(vpc.as_deref(), &region)?;
    known_tags(world, &tags);
    let replica = Replica {
        id: world.next_uuid(),
        name: name.clone(),
        tags,
        created: world.now(),
        region,
        size,
        status: "forking",
        vpc,
    };
    let body = json!({"replica": render_replica(&replica)});
    if let Some(database) = world.databases.get_mut(&id) {
        database.replicas.insert(name.clone(), replica);
    }
    world.when_ready(move |world| {
        let replica = world
            .databases
            .get_mut(&id)
            .and_then(|database| database.replicas.get_mut(&name));
        if let Some(replica) = replica {
            replica.status = "online";
        }
    });
    Ok(Reply::json(201, body))
}

pub(crate) fn delete_replica(world: &mut World, ask: &Ask) -> Answer {
    let name = find_replica(world, ask)?.name.clone();
    if let Some(database) = world.databases.get_mut(ask.part(0)) {
        database.replicas.remove(&name);
    }
    Ok(Reply::empty(204))
}

/// The replica becomes a cluster of its own, under its own number; the old cluster goes on without it.
pub(crate) fn promote(world: &mut World, ask: &Ask) -> Answer {
    let replica = find_replica(world, ask)?.clone();
    let before = find(world, ask)?.clone();
    if replica.status != "online" {
        return Err(Problem::precondition("the replica is not online"));
    }
    if let Some(database) = world.databases.get_mut(&before.id) {
        database.replicas.remove(&replica.name);
    }
    let cluster = Database {
        id: replica.id.clone(),
        name: replica.name,
        tags: replica.tags,
        created: replica.created,
        region: replica.region,
        size: replica.size,
        nodes: 1,
        status: "creating",
        vpc: replica.vpc,
        replicas: BTreeMap::new(),
        sources: Vec::new(),
        refusals: world.knobs.replica_refusals,
        ..before
    };
    world.databases.insert(replica.id.clone(), cluster);
    online_later(world, replica.id);
    Ok(Reply::empty(204))
}
