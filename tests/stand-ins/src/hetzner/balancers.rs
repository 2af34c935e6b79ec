//! Load balancers: services, targets (resolved from labels when asked), how they look, how they come and go.

use std::net::Ipv4Addr;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::actions::Protect;
use super::catalog::{
    BalancerType, find_balancer_type, find_location, location_in_zone, render_balancer_type, render_location,
};
use super::kinds::{Entity, Labels, by_id, common_fields, find, may_create, name_and_labels, show, stamp};
use super::labels::{Selector, chosen};
use super::networks::Network;
use super::reply::{Answer, Problem, form};
use super::servers::Server;
use super::world::World;
use crate::form::Form;
use crate::wire::{Ask, Reply};

#[derive(Clone, Debug, Default)]
pub struct Service {
    pub protocol: &'static str,
    pub listen_port: u16,
    pub destination_port: u16,
    pub proxyprotocol: bool,
    /// As answered.
    pub health_check: Value,
    /// As answered; none for `tcp`.
    pub http: Option<Value>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetOf {
    Server(u64),
    Selector(String),
    Ip(String),
}

#[derive(Clone, Debug)]
pub struct Target {
    pub of: TargetOf,
    pub use_private_ip: bool,
}

#[derive(Clone, Debug)]
pub struct Balancer {
    pub id: u64,
    pub name: String,
    pub labels: Labels,
    pub created: Timestamp,
    pub balancer_type: String,
    pub location: String,
    pub ipv4: Ipv4Addr,
    pub public: bool,
    /// The network it is in and its address there.
    pub private: Option<(u64, Ipv4Addr)>,
    pub algorithm: &'static str,
    pub services: Vec<Service>,
    pub targets: Vec<Target>,
    pub protected: bool,
}

impl Balancer {
    pub(crate) fn targets_server(&self, server: &Server) -> bool {
        self.targets.iter().any(|target| match &target.of {
            TargetOf::Server(id) => *id == server.id,
            TargetOf::Selector(selector) => chosen(selector, &server.labels),
            TargetOf::Ip(_) => false,
        })
    }

    pub(crate) fn forget_server(&mut self, id: u64) {
        self.targets.retain(|target| target.of != TargetOf::Server(id));
    }

    pub(crate) fn sold_as(&self) -> Option<&'static BalancerType> {
        find_balancer_type(&self.balancer_type)
    }

    fn health(&self, world: &World, running: bool) -> Vec<Value> {
        let status = if running && world.knobs.targets_healthy {
            "healthy"
        } else {
            "unhealthy"
        };
        self.services
            .iter()
            .map(|one| json!({"listen_port": one.listen_port, "status": status}))
            .collect()
    }

    fn one_server(&self, world: &World, server: &Server, private: bool) -> Option<Value> {
        let ip = if private {
            let (network, _) = self.private?;
            server.private.iter().find(|one| one.network == network)?.ip.to_string()
        } else {
            let id = server.address(world, "ipv4")?;
            world.primary_ips.get(&id)?.ip.clone()
        };
        Some(json!({
            "type": "server",
            "server": {"id": server.id, "ip": ip},
            "health_status": self.health(world, server.status == "running"),
            "use_private_ip": private,
        }))
    }

    fn render_target(&self, world: &World, target: &Target) -> Option<Value> {
        match &target.of {
            TargetOf::Server(id) => self.one_server(world, world.servers.get(id)?, target.use_private_ip),
            TargetOf::Selector(selector) => {
                let resolved: Vec<Value> = world
                    .servers
                    .values()
                    .filter(|server| chosen(selector, &server.labels))
                    .filter_map(|server| self.one_server(world, server, target.use_private_ip))
                    .collect();
                Some(json!({
                    "type": "label_selector",
                    "label_selector": {"selector": selector},
                    "targets": resolved,
                    "use_private_ip": target.use_private_ip,
                }))
            }
            TargetOf::Ip(ip) => {
                Some(json!({"type": "ip", "ip": {"ip": ip}, "health_status": self.health(world, true)}))
            }
        }
    }

    /// Whether this can be a target now.
    pub(crate) fn may_target(&self, world: &World, target: &Target) -> Result<(), Problem> {
        let refused = Problem::unprocessable;
        if self.targets.iter().any(|one| one.of == target.of) {
            return Err(refused("target_already_defined", "the target is already defined"));
        }
        if target.use_private_ip && self.private.is_none() {
            return Err(refused(
                "load_balancer_not_attached_to_network",
                "the load balancer is not attached to a network",
            ));
        }
        match &target.of {
            TargetOf::Server(id) => {
                let server = by_id::<Server>(world, *id)?;
                if self.one_server(world, server, target.use_private_ip).is_some() {
                    return Ok(());
                }
                Err(if target.use_private_ip {
                    refused(
                        "resolve_cloud_private_targets_error",
                        "the server is not attached to the same network",
                    )
                } else {
                    refused(
                        "resolve_cloud_public_targets_error",
                        "the server has no public IPv4 address",
                    )
                })
            }
            TargetOf::Selector(_) => Ok(()),
            TargetOf::Ip(_) => Err(refused(
                "ip_not_owned",
                "the IP is not owned by the owner of the project",
            )),
        }
    }

    pub(crate) fn may_serve(&self, service: &Service) -> Result<(), Problem> {
        if self.services.iter().any(|one| one.listen_port == service.listen_port) {
            let message = format!("the source port {} is already in use", service.listen_port);
            return Err(Problem::new(412, "source_port_already_used", message));
        }
        Ok(())
    }
}

fn render_service(one: &Service) -> Value {
    let mut service = json!({
        "protocol": one.protocol,
        "listen_port": one.listen_port,
        "destination_port": one.destination_port,
        "proxyprotocol": one.proxyprotocol,
        "health_check": one.health_check,
    });
    if let Some(http) = &one.http {
        service["http"] = http.clone();
    }
    service
}

impl Entity for Balancer {
    const MANY: &'static str = "load_balancers";
    const ONE: &'static str = "load_balancer";
    common_fields!(load_balancers);

    fn check_name(form: &mut Form, name: &str) {
        form.rule(
            (1..=128).contains(&name.chars().count()),
            "name",
            "must have 1 to 128 characters",
        );
        form.rule(name.trim() == name, "name", "must not begin or end with a space");
        form.rule(!name.contains(['\n', '\r']), "name", "must be one line");
    }

    fn render(&self, world: &World) -> Value {
        let ipv4 = self.public.then(|| self.ipv4.to_string());
        let ipv6 = self.public.then(|| format!("2001:db8:1:{:x}::1", self.id & 0xffff));
        let name = |ip: &Option<String>| ip.as_ref().map(|_| "static.clients.your-server.de");
        let private: Vec<Value> = self
            .private
            .iter()
            .map(|(network, ip)| json!({"network": network, "ip": ip}))
            .collect();
        json!({
            "id": self.id,
            "name": self.name,
            "public_net": {
                "enabled": self.public,
                "ipv4": {"ip": ipv4, "dns_ptr": name(&ipv4)},
                "ipv6": {"ip": ipv6, "dns_ptr": name(&ipv6)},
            },
            "private_net": private,
            "location": find_location(&self.location).map(render_location),
            "load_balancer_type": self.sold_as().map(render_balancer_type),
            "protection": {"delete": self.protected},
            "labels": self.labels,
            "created": stamp(self.created),
            "services": self.services.iter().map(render_service).collect::<Vec<_>>(),
            "targets": self.targets.iter().filter_map(|one| self.render_target(world, one)).collect::<Vec<_>>(),
            "algorithm": {"type": self.algorithm},
            "outgoing_traffic": 0,
            "ingoing_traffic": 0,
            "included_traffic": 21_990_232_555_520_u64,
        })
    }
}

impl Protect for Balancer {
    fn protection_mut(&mut self) -> &mut bool {
        &mut self.protected
    }
}

const PORTS: (i64, i64) = (1, 65_535);

fn port(form: &mut Form, name: &'static str) -> Option<u16> {
    form.between(name, PORTS.0, PORTS.1)
        .and_then(|port| u16::try_from(port).ok())
}

/// A health check; a new service must name the path, an update need not.
fn health_check(form: &mut Form, whole: bool) -> Value {
    let protocol = form.need_one_of("protocol", &["tcp", "http"]);
    let port = form.need_between("port", PORTS.0, PORTS.1);
    let interval = form.need_between("interval", 3, 60);
    let timeout = form.need_between("timeout", 1, 60);
    let retries = form.need_between("retries", 1, 5);
    form.rule(
        timeout <= interval || interval == 0,
        "timeout",
        "must not be longer than the interval",
    );
    let http = form.group("http", |form| {
        form.nullable("domain");
        let domain = form.text("domain");
        let path = form.text("path");
        if whole {
            let has = form.has("path");
            form.rule(has, "path", "is required");
        }
        let length = path.as_ref().map_or(1, |path| path.chars().count());
        form.rule((1..=256).contains(&length), "path", "must have 1 to 256 characters");
        form.rule(
            domain.as_ref().is_none_or(|text| text.chars().count() <= 128),
            "domain",
            "is too long",
        );
        let response = form.text("response").unwrap_or_default();
        form.rule(
            response.chars().count() <= 256,
            "response",
            "must have 256 characters at most",
        );
        let codes = form
            .texts("status_codes")
            .unwrap_or_else(|| vec!["2??".into(), "3??".into()]);
        form.rule(codes.len() <= 20, "status_codes", "must have 20 entries at most");
        let tls = form.flag("tls").unwrap_or(false);
        json!({
            "domain": domain,
            "path": path.unwrap_or_else(|| "/".into()),
            "response": response,
            "status_codes": codes,
            "tls": tls,
        })
    });
    form.rule(
        http.is_none() || protocol != "tcp",
        "http",
        "is for health checks by http only",
    );
    let mut check = json!({
        "protocol": protocol,
        "port": port,
        "interval": interval,
        "timeout": timeout,
        "retries": retries,
    });
    if protocol == "http" {
        let default =
            || json!({"domain": null, "path": "/", "response": "", "status_codes": ["2??", "3??"], "tls": false});
        check["http"] = http.unwrap_or_else(default);
    }
    check
}

/// The fields of a service; `before` fills in for what an update leaves out.
pub(crate) fn service(form: &mut Form, before: Option<&Service>) -> Service {
    if before.is_none() {
        for needed in ["protocol", "destination_port", "proxyprotocol", "health_check"] {
            let has = form.has(needed);
            form.rule(has, needed, "is required");
        }
    }
    let has = form.has("listen_port");
    form.rule(has, "listen_port", "is required");
    let was = before.cloned().unwrap_or_default();
    let protocol = form
        .one_of("protocol", &["tcp", "http", "https"])
        .unwrap_or(was.protocol);
    let listen_port = port(form, "listen_port").unwrap_or_default();
    let destination_port = port(form, "destination_port").unwrap_or(was.destination_port);
    let proxyprotocol = form.flag("proxyprotocol").unwrap_or(was.proxyprotocol);
    let health_check = form.group("health_check", |form| health_check(form, before.is_none()));
    let has_http = form.has("http");
    form.rule(!has_http || protocol != "tcp", "http", "is for http and https only");
    let http = http(form, protocol, was.http.as_ref());
    Service {
        protocol,
        listen_port,
        destination_port,
        proxyprotocol,
        health_check: health_check.unwrap_or(was.health_check),
        http: (protocol != "tcp").then_some(http),
    }
}

fn http(form: &mut Form, protocol: &str, was: Option<&Value>) -> Value {
    // The description asks for the last two with https only; the provider's own client reads them always.
    let mut http = was.cloned().unwrap_or_else(|| {
        json!({
            "cookie_name": "HCLBSTICKY",
            "cookie_lifetime": 300,
            "timeout_idle": 50,
            "sticky_sessions": false,
            "certificates": [],
            "redirect_http": false,
        })
    });
    let mut certificates = was.is_some_and(|was| was["certificates"].as_array().is_some_and(|all| !all.is_empty()));
    form.group("http", |form| {
        let name = form.text("cookie_name");
        let length = name.as_ref().map_or(1, |name| name.chars().count());
        form.rule(
            (1..=100).contains(&length),
            "cookie_name",
            "must have 1 to 100 characters",
        );
        let mut set = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                http[key] = value;
            }
        };
        set("cookie_name", name.map(Value::from));
        set(
            "cookie_lifetime",
            form.between("cookie_lifetime", 30, 86_400).map(Value::from),
        );
        set("timeout_idle", form.between("timeout_idle", 30, 300).map(Value::from));
        set("sticky_sessions", form.flag("sticky_sessions").map(Value::from));
        let ids = form.ids("certificates");
        let redirect = form.flag("redirect_http");
        form.rule(
            protocol == "https" || ids.as_ref().is_none_or(Vec::is_empty),
            "certificates",
            "are for https only",
        );
        form.rule(
            protocol == "https" || redirect != Some(true),
            "redirect_http",
            "is for https only",
        );
        certificates |= ids.as_ref().is_some_and(|ids| !ids.is_empty());
        if protocol == "https" {
            set("certificates", ids.map(Value::from));
            set("redirect_http", redirect.map(Value::from));
        }
    });
    form.rule(
        protocol != "https" || certificates,
        "http",
        "must name a certificate for https",
    );
    http
}

pub(crate) fn certificates_exist(world: &World, service: &Service) -> Result<(), Problem> {
    let ids = service.http.as_ref().and_then(|http| http["certificates"].as_array());
    for id in ids.into_iter().flatten().filter_map(Value::as_u64) {
        by_id::<super::small::Certificate>(world, id)?;
    }
    Ok(())
}

pub(crate) fn target(form: &mut Form, may_be_private: bool) -> Option<Target> {
    let kind = form.need_one_of("type", &["server", "label_selector", "ip"]);
    let server = form.group("server", |form| {
        form.text("ip");
        form.need_id("id")
    });
    let selector = form.group("label_selector", |form| form.need_text("selector"));
    let ip = form.group("ip", |form| form.need_text("ip"));
    let use_private_ip = may_be_private && form.flag("use_private_ip").unwrap_or(false);
    let given = match kind {
        "server" => server.map(TargetOf::Server),
        "label_selector" => {
            let readable = selector.as_deref().is_none_or(|text| Selector::parse(text).is_ok());
            form.rule(readable, "label_selector", "is not a label selector");
            selector.map(TargetOf::Selector)
        }
        "ip" => {
            let readable = ip.as_deref().is_none_or(|ip| ip.parse::<std::net::IpAddr>().is_ok());
            form.rule(readable, "ip", "must be an IP address");
            ip.map(TargetOf::Ip)
        }
        _ => return None,
    };
    if given.is_none() {
        form.wrong(kind, "is required");
    }
    given.map(|of| Target { of, use_private_ip })
}

pub(crate) fn create(world: &mut World, ask: &Ask) -> Answer {
    let mut form = form(ask)?;
    let (name, labels) = name_and_labels::<Balancer>(&mut form);
    let has = form.has("load_balancer_type");
    form.rule(has, "load_balancer_type", "is required");
    let type_name = form.id_or_name("load_balancer_type").unwrap_or_default();
    let kind = find_balancer_type(&type_name);
    form.rule(kind.is_some() || !has, "load_balancer_type", "does not exist");
    let algorithm = form.group("algorithm", |form| {
        form.need_one_of("type", &["round_robin", "least_connections"])
    });
    let services = form.each("services", |form| service(form, None)).unwrap_or_default();
    let targets = form.each("targets", |form| target(form, true)).unwrap_or_default();
    let public = form.flag("public_interface").unwrap_or(true);
    let network = form.id("network");
    form.rule(
        public || network.is_some(),
        "public_interface",
        "can be disabled in a network only",
    );
    let (zone, location) = (form.text("network_zone"), form.id_or_name("location"));
    form.rule(
        zone.is_some() != location.is_some(),
        "location",
        "give either location or network_zone",
    );
    let place = match (&zone, &location) {
        (Some(zone), _) => location_in_zone(zone),
        (None, Some(location)) => find_location(location),
        (None, None) => None,
    };
    let field = if zone.is_some() { "network_zone" } else { "location" };
    form.rule(place.is_some(), field, "does not exist");
    form.finish()?;
    let (Some(kind), Some(place)) = (kind, place) else {
        return Err(Problem::field("location", "does not exist"));
    };
    may_create::<Balancer>(world, &name)?;
    if services.len() > kind.services || targets.len() > kind.targets {
        return Err(Problem::limit("load_balancer_service_or_target"));
    }
    let private = match network {
        None => None,
        Some(network) => {
            by_id::<Network>(world, network)?;
            Some((network, world.free_address(network, place.zone, None, None)?))
        }
    };
    let mut balancer = Balancer {
        id: world.next_id(),
        name,
        labels,
        created: world.now(),
        balancer_type: kind.name.to_owned(),
        location: place.name.to_owned(),
        ipv4: world.next_ipv4(),
        public,
        private,
        algorithm: algorithm.unwrap_or("round_robin"),
        services: Vec::new(),
        targets: Vec::new(),
        protected: false,
    };
    for service in services {
        certificates_exist(world, &service)?;
        balancer.may_serve(&service)?;
        balancer.services.push(service);
    }
    for target in targets.into_iter().flatten() {
        balancer.may_target(world, &target)?;
        balancer.targets.push(target);
    }
    let id = balancer.id;
    world.load_balancers.insert(id, balancer);
    let action = world.start("create_load_balancer", &[(Balancer::ONE, id)], |_| {});
    let body = json!({"load_balancer": show::<Balancer>(world, id), "action": world.action(action)});
    Ok(Reply::json(201, body))
}

pub(crate) fn delete(world: &mut World, ask: &Ask) -> Answer {
    let balancer = find::<Balancer>(world, ask)?;
    let id = balancer.id;
    if balancer.protected {
        return Err(Problem::protected("load balancer"));
    }
    world.not_busy::<Balancer>(id)?;
    if !world.knobs.balancers_end_by_action {
        world.load_balancers.remove(&id);
        return Ok(Reply::empty(204));
    }
    let action = world.start("delete_load_balancer", &[(Balancer::ONE, id)], move |world| {
        world.load_balancers.remove(&id);
    });
    Ok(Reply::json(200, json!({"action": world.action(action)})))
}
