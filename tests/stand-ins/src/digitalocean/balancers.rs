//! Load balancers: rules, and Droplets by number or by tag.

use std::net::Ipv4Addr;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::actions::stamp;
use super::catalog::{SLUGS, find_region, region_of};
use super::reply::{Answer, Page, Problem, form};
use super::tags::{is_tag, must_exist};
use super::world::World;
use crate::form::Form;
use crate::wire::{Ask, Reply};

#[derive(Clone, Debug)]
pub struct Balancer {
    pub id: String,
    pub name: String,
    pub created: Timestamp,
    /// `new` or `active`.
    pub status: &'static str,
    /// None while it is new.
    pub ip: Option<Ipv4Addr>,
    pub region: String,
    pub vpc: String,
    /// Empty where Droplets are given by number.
    pub tag: String,
    pub droplets: Vec<u64>,
    /// As answered, like all settings that it keeps and does not act upon.
    pub rules: Vec<Value>,
    pub settings: Value,
}

impl Balancer {
    fn members(&self, world: &World) -> Vec<u64> {
        if self.tag.is_empty() {
            return self.droplets.clone();
        }
        let has = |tags: &[String]| tags.contains(&self.tag);
        world
            .droplets
            .values()
            .filter(|one| one.region == self.region && has(&one.tags))
            .map(|one| one.id)
            .collect()
    }

    fn render(&self, world: &World) -> Value {
        let mut balancer = self.settings.clone();
        let mut set = |key: &str, value: Value| balancer[key] = value;
        set("id", json!(self.id));
        set("name", json!(self.name));
        set("ip", json!(self.ip.map_or_else(String::new, |ip| ip.to_string())));
        set("status", json!(self.status));
        set("created_at", json!(stamp(self.created)));
        set("forwarding_rules", json!(self.rules));
        set("region", region_of(&self.region, world));
        set("vpc_uuid", json!(self.vpc));
        set("tag", json!(self.tag));
        set("droplet_ids", json!(self.members(world)));
        balancer
    }
}

fn rule(form: &mut Form) -> Value {
    let entry = form.need_one_of("entry_protocol", &["http", "https", "http2", "http3", "tcp", "udp"]);
    let target = form.need_one_of("target_protocol", &["http", "https", "http2", "tcp", "udp"]);
    let (entry_port, target_port) = (
        form.need_between("entry_port", 1, 65_535),
        form.need_between("target_port", 1, 65_535),
    );
    let certificate = form.text("certificate_id").unwrap_or_default();
    let passthrough = form.flag("tls_passthrough").unwrap_or(false);
    let secure = matches!(entry, "https" | "http2" | "http3");
    form.rule(
        !secure || passthrough || !certificate.is_empty(),
        "certificate_id",
        "is required for https without TLS passthrough",
    );
    json!({
        "entry_protocol": entry,
        "entry_port": entry_port,
        "target_protocol": target,
        "target_port": target_port,
        "certificate_id": certificate,
        "tls_passthrough": passthrough,
    })
}

/// What a request says of a load balancer; what it leaves out has its default again.
struct Wanted {
    name: String,
    region: Option<&'static str>,
    vpc: Option<String>,
    tag: String,
    droplets: Vec<u64>,
    rules: Vec<Value>,
    settings: Value,
}

fn health_check(form: &mut Form) -> Value {
    let read = |form: &mut Form| {
        json!({
            "protocol": form.one_of("protocol", &["http", "https", "tcp"]).unwrap_or("http"),
            "port": form.between("port", 1, 65_535).unwrap_or(80),
            "path": form.text("path").unwrap_or_else(|| "/".into()),
            "check_interval_seconds": form.between("check_interval_seconds", 3, 300).unwrap_or(10),
            "response_timeout_seconds": form.between("response_timeout_seconds", 3, 300).unwrap_or(5),
            "unhealthy_threshold": form.between("unhealthy_threshold", 2, 10).unwrap_or(5),
            "healthy_threshold": form.between("healthy_threshold", 2, 10).unwrap_or(3),
        })
    };
    let default = || {
        json!({
            "protocol": "http",
            "port": 80,
            "path": "/",
            "check_interval_seconds": 10,
            "response_timeout_seconds": 5,
            "unhealthy_threshold": 5,
            "healthy_threshold": 3,
        })
    };
    form.group("health_check", read).unwrap_or_else(default)
}

fn sticky_sessions(form: &mut Form) -> Value {
    let read = |form: &mut Form| {
        let kind = form.one_of("type", &["cookies", "none"]).unwrap_or("none");
        let (name, ttl) = (form.text("cookie_name"), form.between("cookie_ttl_seconds", 1, 34_650));
        if kind == "cookies" {
            form.rule(
                name.is_some() && ttl.is_some(),
                "cookie_name",
                "and cookie_ttl_seconds are required",
            );
            return json!({"type": kind, "cookie_name": name, "cookie_ttl_seconds": ttl});
        }
        json!({"type": kind})
    };
    form.group("sticky_sessions", read)
        .unwrap_or_else(|| json!({"type": "none"}))
}

fn settings(form: &mut Form) -> Value {
    let size_unit = form.between("size_unit", 1, 100);
    let size = form.one_of("size", &["lb-small", "lb-medium", "lb-large"]);
    form.rule(
        size.is_none() || size_unit.is_none(),
        "size",
        "and size_unit are mutually exclusive",
    );
    let firewall = form.group("firewall", |form| {
        json!({"deny": form.texts("deny").unwrap_or_default(), "allow": form.texts("allow").unwrap_or_default()})
    });
    form.each("domains", |one| {
        one.text("name");
        one.flag("is_managed");
        one.text("certificate_id");
        one.ignore(&["verification_error_reasons", "ssl_validation_error_reasons"]);
    });
    form.group("glb_settings", |glb| {
        glb.ignore(&[
            "target_protocol",
            "target_port",
            "cdn",
            "region_priorities",
            "failover_threshold",
        ])
    });
    form.texts("target_load_balancer_ids");
    let project = form.text("project_id");
    json!({
        "project_id": project.filter(|id| !id.is_empty()).unwrap_or_else(|| "9cc10173-e9ea-4176-9dbc-a4cee4c4ff30".into()),
        "size": size.unwrap_or("lb-small"),
        "size_unit": size_unit.unwrap_or(1),
        "algorithm": form.one_of("algorithm", &["round_robin", "least_connections"]).unwrap_or("round_robin"),
        "health_check": health_check(form),
        "sticky_sessions": sticky_sessions(form),
        "redirect_http_to_https": form.flag("redirect_http_to_https").unwrap_or(false),
        "enable_proxy_protocol": form.flag("enable_proxy_protocol").unwrap_or(false),
        "enable_backend_keepalive": form.flag("enable_backend_keepalive").unwrap_or(false),
        "disable_lets_encrypt_dns_records": form.flag("disable_lets_encrypt_dns_records").unwrap_or(false),
        "http_idle_timeout_seconds": form.between("http_idle_timeout_seconds", 30, 600).unwrap_or(60),
        "network": form.one_of("network", &["EXTERNAL", "INTERNAL"]).unwrap_or("EXTERNAL"),
        "network_stack": form.one_of("network_stack", &["IPV4", "DUALSTACK"]).unwrap_or("IPV4"),
        "type": form.one_of("type", &["REGIONAL", "REGIONAL_NETWORK", "GLOBAL"]).unwrap_or("REGIONAL"),
        "tls_cipher_policy": form.one_of("tls_cipher_policy", &["DEFAULT", "STRONG"]).unwrap_or("DEFAULT"),
        "firewall": firewall.unwrap_or_else(|| json!({"deny": [], "allow": []})),
    })
}

fn wanted(ask: &Ask) -> Result<Wanted, Problem> {
    let mut form = form(ask)?;
    form.ignore(&["id", "ip", "ipv6", "status", "created_at"]);
    let name = form.text("name").unwrap_or_default();
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
    form.rule(
        name.len() <= 255 && name.bytes().all(fits),
        "name",
        "may have letters, digits, dashes and dots only",
    );
    form.rule(!name.is_empty(), "name", "is required");
    let region = form.one_of("region", SLUGS);
    let has = form.has("region");
    form.rule(has, "region", "is required");
    let tag = form.text("tag").unwrap_or_default();
    form.rule(
        tag.is_empty() || is_tag(&tag),
        "tag",
        "has characters that are not allowed",
    );
    let droplets = form.ids("droplet_ids").unwrap_or_default();
    form.rule(
        tag.is_empty() || droplets.is_empty(),
        "tag",
        "and droplet_ids are mutually exclusive",
    );
    let rules = form.need_each("forwarding_rules", rule);
    let has = form.has("forwarding_rules");
    form.rule(
        !rules.is_empty() || !has,
        "forwarding_rules",
        "must have at least one entry",
    );
    form.rule(
        !entries_collide(&rules),
        "forwarding_rules",
        "have the same entry twice",
    );
    let vpc = form.text("vpc_uuid");
    let settings = settings(&mut form);
    form.finish()?;
    Ok(Wanted {
        name,
        region,
        vpc,
        tag,
        droplets,
        rules,
        settings,
    })
}

fn entries_collide(rules: &[Value]) -> bool {
    let key = |rule: &Value| (rule["entry_port"].as_i64(), rule["entry_protocol"] == "udp");
    rules
        .iter()
        .enumerate()
        .any(|(n, rule)| rules[..n].iter().any(|other| key(other) == key(rule)))
}

fn check(world: &World, wanted: &Wanted, except: &str) -> Result<(), Problem> {
    if world
        .load_balancers
        .values()
        .any(|one| one.name == wanted.name && one.id != except)
    {
        return Err(Problem::unprocessable("load balancer name must be unique"));
    }
    if !wanted.tag.is_empty() {
        must_exist(world, std::slice::from_ref(&wanted.tag))?;
    }
    droplets_exist(world, &wanted.droplets, wanted.region)?;
    certificates_exist(world, &wanted.rules)
}

fn droplets_exist(world: &World, droplets: &[u64], region: Option<&str>) -> Result<(), Problem> {
    let is_there = |id: &u64| {
        world
            .droplets
            .get(id)
            .is_some_and(|one| region.is_none_or(|region| one.region == region))
    };
    match droplets.iter().find(|id| !is_there(id)) {
        Some(id) => Err(Problem::unprocessable(format!(
            "Droplet {id} does not exist in the region of the load balancer"
        ))),
        None => Ok(()),
    }
}

fn certificates_exist(world: &World, rules: &[Value]) -> Result<(), Problem> {
    let ids = rules
        .iter()
        .filter_map(|rule| rule["certificate_id"].as_str())
        .filter(|id| !id.is_empty());
    for id in ids {
        if !world.certificates.contains_key(id) {
            return Err(Problem::unprocessable(format!("certificate {id} does not exist")));
        }
    }
    Ok(())
}

fn find<'a>(world: &'a World, ask: &Ask) -> Result<&'a Balancer, Problem> {
    world.load_balancers.get(ask.part(0)).ok_or_else(Problem::not_found)
}

pub(crate) fn list(world: &mut World, ask: &Ask) -> Answer {
    let found = world.load_balancers.values();
    Page::of(ask, found, |one| one.render(world))?.reply(world, ask, "load_balancers")
}

pub(crate) fn get(world: &mut World, ask: &Ask) -> Answer {
    let balancer = find(world, ask)?;
    Ok(Reply::json(200, json!({"load_balancer": balancer.render(world)})))
}

pub(crate) fn create(world: &mut World, ask: &Ask) -> Answer {
    let wanted = wanted(ask)?;
    check(world, &wanted, "")?;
    world.within_quota("load_balancers", world.load_balancers.len())?;
    let region = wanted.region.and_then(find_region).filter(|region| region.available);
    let region = region.ok_or_else(|| Problem::unprocessable("region is not available"))?;
    let vpc = world.vpc_for(wanted.vpc.as_deref(), region.slug)?;
    let id = world.next_uuid();
    let balancer = Balancer {
        id: id.clone(),
        name: wanted.name,
        created: world.now(),
        status: "new",
        ip: None,
        region: region.slug.to_owned(),
        vpc,
        tag: wanted.tag,
        droplets: wanted.droplets,
        rules: wanted.rules,
        settings: wanted.settings,
    };
    let body = json!({"load_balancer": balancer.render(world)});
    world.load_balancers.insert(id.clone(), balancer);
    world.when_ready(move |world| {
        let ip = world.next_ipv4();
        if let Some(balancer) = world.load_balancers.get_mut(&id) {
            balancer.status = "active";
            balancer.ip = Some(ip);
        }
    });
    Ok(Reply::json(202, body))
}

/// A load balancer that can be changed now.
fn ready(world: &World, ask: &Ask) -> Result<String, Problem> {
    let balancer = find(world, ask)?;
    if balancer.status == "new" {
        return Err(Problem::pending("Load balancer"));
    }
    Ok(balancer.id.clone())
}

/// Any attribute that is not provided is reset to its default value.
pub(crate) fn replace(world: &mut World, ask: &Ask) -> Answer {
    find(world, ask)?;
    let wanted = wanted(ask)?;
    let id = ready(world, ask)?;
    check(world, &wanted, &id)?;
    let balancer = find(world, ask)?;
    if wanted.region.is_some_and(|region| region != balancer.region) {
        return Err(Problem::unprocessable(
            "the region of a load balancer cannot be changed",
        ));
    }
    if wanted.vpc.as_ref().is_some_and(|vpc| *vpc != balancer.vpc) {
        return Err(Problem::unprocessable("the VPC of a load balancer cannot be changed"));
    }
    if let Some(balancer) = world.load_balancers.get_mut(&id) {
        balancer.name = wanted.name;
        balancer.tag = wanted.tag;
        balancer.droplets = wanted.droplets;
        balancer.rules = wanted.rules;
        balancer.settings = wanted.settings;
    }
    get(world, ask)
}

pub(crate) fn delete(world: &mut World, ask: &Ask) -> Answer {
    let id = ready(world, ask)?;
    if let Some(balancer) = world.load_balancers.remove(&id) {
        world.left_vpc(&balancer.vpc);
    }
    Ok(Reply::empty(204))
}

pub(crate) fn change_droplets(world: &mut World, ask: &Ask) -> Answer {
    find(world, ask)?;
    let mut form = form(ask)?;
    let has = form.has("droplet_ids");
    form.rule(has, "droplet_ids", "is required");
    let droplets = form.ids("droplet_ids").unwrap_or_default();
    form.finish()?;
    let id = ready(world, ask)?;
    if !find(world, ask)?.tag.is_empty() {
        return Err(Problem::unprocessable("the load balancer chooses its Droplets by tag"));
    }
    let region = find(world, ask)?.region.clone();
    droplets_exist(world, &droplets, Some(region.as_str()))?;
    if let Some(balancer) = world.load_balancers.get_mut(&id) {
        balancer.droplets.retain(|one| !droplets.contains(one));
        if ask.method == "POST" {
            balancer.droplets.extend(droplets);
        }
    }
    Ok(Reply::empty(204))
}

pub(crate) fn change_rules(world: &mut World, ask: &Ask) -> Answer {
    find(world, ask)?;
    let mut form = form(ask)?;
    let rules = form.need_each("forwarding_rules", rule);
    let has = form.has("forwarding_rules");
    form.rule(
        !rules.is_empty() || !has,
        "forwarding_rules",
        "must have at least one entry",
    );
    form.finish()?;
    let id = ready(world, ask)?;
    certificates_exist(world, &rules)?;
    let balancer = find(world, ask)?;
    let mut after: Vec<Value> = balancer
        .rules
        .iter()
        .filter(|one| !rules.contains(one))
        .cloned()
        .collect();
    if ask.method == "POST" {
        after.extend(rules);
    }
    if after.is_empty() || entries_collide(&after) {
        return Err(Problem::unprocessable(
            "forwarding_rules must have one entry per port, and at least one",
        ));
    }
    if let Some(balancer) = world.load_balancers.get_mut(&id) {
        balancer.rules = after;
    }
    Ok(Reply::empty(204))
}
