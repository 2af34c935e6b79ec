//! What each kind says in a workspace, in its provider's words.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{
    Item, Section, groups,
    groups::Group,
    is,
    words::{is_ami, is_database_class, is_instance_type, is_name, is_slug},
};
use crate::{
    check::{network_range, private_network},
    desired::{FIXED_ADDRESS, SIZE_UNIT},
    existing::{Found, FoundKind},
    geo,
    names::ProviderName::{Aws, Digitalocean, Hetzner},
    resource::Kind,
};

/// Longer names are not taken by the contracts, and neither are other letters.
const LONGEST_NAME: usize = 48;
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/application-load-balancers.html>
const LONGEST_NAME_OF_AN_ALB: usize = 32;
/// On this machine a region's relay is called so.
const RELAY: &str = "relay";

/// All of one region, in the order in which it is read. `ranges` are those of networks that are declared already.
pub(super) fn sections<'a>(of: &[&'a Found], ranges: &mut Vec<(String, String)>) -> Vec<Section<'a>> {
    let all = |kind: Kind| of.iter().copied().filter(move |it| is(it, kind));
    let mut hosts = BTreeSet::from([RELAY.to_owned()]);
    let mut networks = Section::default();
    for it in all(Kind::Network) {
        networks.take(it, network(it, ranges));
    }
    let servers: Vec<&Found> = all(Kind::Server).collect();
    let (groups, alone) = groups::groups(&servers);
    let mut section = Section {
        left_out: alone,
        ..Section::default()
    };
    let mut written: Vec<Group> = Vec::new();
    for group in groups {
        match servers_of(&group) {
            Ok(item) => {
                section.items.push(item);
                hosts.extend(group.servers.iter().map(|it| it.name.clone()));
                written.push(group);
            }
            Err(why) => section
                .left_out
                .extend(group.servers.into_iter().map(|it| (it, why.clone()))),
        }
    }
    let mut balancers = Section::default();
    for it in all(Kind::LoadBalancer) {
        let free = hosts.insert(it.name.clone());
        let item = match free {
            true => balancer(it, &written),
            false => {
                Err("something else of its region is called so, and names tell servers and balancers apart".into())
            }
        };
        balancers.take(it, item);
    }
    let mut databases = Section::default();
    for it in all(Kind::Database) {
        databases.take(it, database(it));
    }
    let mut firewalls = Section::default();
    for it in all(Kind::Firewall) {
        firewalls.take(it, firewall(it, &written));
    }
    let mut volumes = Section::default();
    for it in all(Kind::Volume) {
        volumes.take(it, volume(it, &written));
    }
    vec![networks, section, balancers, databases, firewalls, volumes]
}

impl<'a> Section<'a> {
    fn take(&mut self, found: &'a Found, item: Result<Item<'a>, String>) {
        match item {
            Ok(item) if self.items.iter().any(|it| it.field == item.field) => {
                self.left_out
                    .push((found, "another of its kind is called so in this region".to_owned()));
            }
            Ok(item) => self.items.push(item),
            Err(why) => self.left_out.push((found, why)),
        }
    }
}

/// The names of servers that it stands before, or spreads over.
pub(super) fn targets(found: &Found) -> Vec<&str> {
    let all = found.spec.get("targets").and_then(Value::as_array);
    all.into_iter().flatten().filter_map(Value::as_str).collect()
}

/// A resource with the fields that all have.
struct Draft<'a> {
    item: Item<'a>,
    /// Of the spec, those that were looked at.
    read: BTreeSet<&'static str>,
    found: &'a Found,
}

impl<'a> Draft<'a> {
    fn new(found: &'a Found, kind: &'static str, name: &str) -> Result<Self, String> {
        let longest = match kind {
            "ALB" => LONGEST_NAME_OF_AN_ALB,
            _ => LONGEST_NAME,
        };
        if !is_name(name, longest) {
            return Err(format!(
                "its name is none that a workspace can write: lower-case letters, digits and inner dashes, at most {longest}"
            ));
        }
        let FoundKind::Resource(of) = found.kind else {
            return Err("a workspace declares none".to_owned());
        };
        let room = match of {
            Kind::Server => "servers",
            other => other.as_str(),
        };
        let mut read = BTreeSet::from(["kind", "name", "location", "region", "protect"]);
        // What is nothing in itself.
        read.extend(["databases", "command", "group", "index", "roles"]);
        Ok(Self {
            item: Item {
                field: format!("{room}_{}", name.replace('-', "_")),
                kind: format!("{}.{kind}", found.provider),
                fields: vec![("name".to_owned(), name.into())],
                notes: Vec::new(),
                of: vec![found],
            },
            read,
            found,
        })
    }

    fn add(&mut self, field: &str, value: impl Into<Value>) {
        self.item.fields.push((field.to_owned(), value.into()));
    }

    fn note(&mut self, note: impl Into<String>) {
        self.item.notes.push(note.into());
    }

    /// Where it is, in the provider's word for that.
    fn place(&mut self) -> Result<(), String> {
        let location = self
            .found
            .location
            .clone()
            .ok_or("its provider does not say where it is")?;
        let word = match self.found.provider {
            Hetzner => "location",
            _ => "region",
        };
        self.add(word, location);
        Ok(())
    }

    /// A field of the spec.
    fn spec(&mut self, field: &'static str) -> Option<&'a Value> {
        self.read.insert(field);
        self.found.spec.get(field).filter(|it| !it.is_null())
    }

    fn text(&mut self, field: &'static str) -> Result<&'a str, String> {
        let found = self.spec(field).and_then(Value::as_str);
        found.ok_or_else(|| format!("its provider does not tell its {field}"))
    }

    /// The same word here and there.
    fn copy(&mut self, field: &'static str) -> Result<(), String> {
        let value = self.spec(field).cloned();
        let value = value.ok_or_else(|| format!("its provider does not tell its {field}"))?;
        self.add(field, value);
        Ok(())
    }

    /// All that people wrote on it, whether a workspace knew of them or not.
    fn labels(&mut self) {
        self.read.insert("labels");
        let pairs = self.found.labels.iter();
        let labels: Map<String, Value> = pairs
            .map(|(key, value)| (key.clone(), Value::from(value.clone())))
            .collect();
        if !labels.is_empty() {
            self.add("labels", labels);
        }
    }

    /// The same, but for DigitalOcean, where most kinds can carry none.
    fn labels_of_others(&mut self) {
        if self.found.provider != Digitalocean {
            self.labels();
        }
    }

    /// What the spec says besides is nothing that this version can keep.
    fn done(mut self) -> Item<'a> {
        let fields = self.found.spec.as_object().into_iter().flatten();
        let unsaid: Vec<String> = fields
            .filter(|(name, value)| !self.read.contains(name.as_str()) && !value.is_null())
            .map(|(name, value)| format!("{name} = {value}"))
            .collect();
        if !unsaid.is_empty() {
            self.note(format!(
                "{}: a workspace cannot say {}; ha plan shows the difference",
                self.found.name,
                unsaid.join(", ")
            ));
        }
        self.item
    }
}

fn network<'a>(found: &'a Found, ranges: &mut Vec<(String, String)>) -> Result<Item<'a>, String> {
    let kind = match found.provider {
        Hetzner => "Network",
        _ => "VPC",
    };
    let mut draft = Draft::new(found, kind, &found.name)?;
    let range = draft.text("ip_range")?;
    if !private_network(range) {
        return Err(format!(
            "its range {range} is not private, and a network of a workspace is"
        ));
    }
    let shares = |other: &str| match (network_range(range), network_range(other)) {
        (Some(one), Some(other)) => one.0 <= other.1 && other.0 <= one.1,
        _ => false,
    };
    if let Some((other, taken)) = ranges.iter().find(|(_, other)| shares(other)) {
        return Err(format!(
            "its range {range} and {taken} of {other} share addresses, and those of a workspace do not"
        ));
    }
    if found.provider != Hetzner {
        draft.place()?;
    } else if let Some(zone) = found.location.as_deref().and_then(geo::hetzner_zone) {
        draft.add("network_zone", zone);
    }
    draft.add("ip_range", range);
    ranges.push((found.name.clone(), range.to_owned()));
    draft.labels_of_others();
    Ok(draft.done())
}

fn servers_of<'a>(group: &Group<'a>) -> Result<Item<'a>, String> {
    let Some(first) = group.servers.first() else {
        return Err("it has no servers".to_owned());
    };
    let (kind, size, image) = match first.provider {
        Digitalocean => ("Droplet", "size", "image"),
        Aws => ("EC2", "instance_type", "image_id"),
        _ => ("Server", "server_type", "image"),
    };
    let mut draft = Draft::new(first, kind, &group.name)?;
    draft.place()?;
    draft.add("count", group.servers.len());
    let told = draft.text("size")?;
    let fits = match first.provider {
        Aws => is_instance_type(told),
        _ => is_slug(told),
    };
    if !fits {
        return Err(format!("its size {told} is none that a workspace can write"));
    }
    draft.add(size, told);
    let told = draft
        .text("image")
        .map_err(|_| "the image it was made from is gone".to_owned())?;
    let fits = match first.provider {
        Aws => is_ami(told) || told.strip_prefix("resolve:ssm:/").is_some_and(|path| !path.is_empty()),
        _ => is_slug(told),
    };
    if !fits {
        return Err(format!("its image {told} is none that a workspace can write"));
    }
    draft.add(image, told);
    if draft.spec(FIXED_ADDRESS) == Some(&Value::Bool(true)) {
        match first.provider {
            Digitalocean => draft.add("reserved_ip", true),
            Hetzner => draft.add("primary_ip", true),
            _ => {}
        }
    }
    if group.servers.iter().all(|it| it.labels == first.labels) {
        draft.labels();
    } else {
        draft.note(format!(
            "{}: its servers have different labels, which are not written",
            group.name
        ));
    }
    draft.item.of.clone_from(&group.servers);
    Ok(draft.done())
}

/// The groups whose servers are exactly these.
fn groups_of(names: &[&str], groups: &[Group]) -> Option<Vec<String>> {
    let named = |group: &&Group| names.contains(&group.name.as_str());
    // What carries labels of a workspace names groups.
    if !names.is_empty() && groups.iter().filter(named).count() == names.len() {
        return Some(names.iter().map(|it| (*it).to_owned()).collect());
    }
    let has = |server: &Found| names.contains(&server.name.as_str());
    let whole: Vec<&Group> = groups
        .iter()
        .filter(|group| group.servers.iter().all(|it| has(it)))
        .collect();
    let held: usize = whole.iter().map(|group| group.servers.len()).sum();
    (held == names.len()).then(|| whole.into_iter().map(|it| it.name.clone()).collect())
}

fn balancer<'a>(found: &'a Found, groups: &[Group<'a>]) -> Result<Item<'a>, String> {
    let kind = match found.provider {
        Aws => "ALB",
        _ => "LoadBalancer",
    };
    let mut draft = Draft::new(found, kind, &found.name)?;
    draft.place()?;
    match (found.provider, &found.size, draft.spec(SIZE_UNIT)) {
        (Hetzner, Some(size), _) => draft.add("type", size.clone()),
        (Digitalocean, _, Some(nodes)) => draft.add(SIZE_UNIT, nodes.clone()),
        _ => {}
    }
    draft.read.insert("targets");
    let names = targets(found);
    match groups_of(&names, groups).as_deref() {
        Some([group]) => draft.add("targets", group.clone()),
        _ if names.is_empty() => return Err("it has no targets".to_owned()),
        _ => {
            return Err(format!(
                "its targets are {}, which are not the servers of one group",
                names.join(", ")
            ));
        }
    }
    let algorithm = draft.text("algorithm")?;
    if !matches!(algorithm, "round_robin" | "least_connections") {
        return Err(format!("it spreads by {algorithm}, which a workspace cannot say"));
    }
    draft.add("algorithm", algorithm);
    let rules = rules(&mut draft)?;
    draft.add("forwarding_rules", rules);
    let check = health_check(draft.spec("health_check"))?;
    draft.add("health_check", check);
    let redirects = draft.spec("redirect_http_to_https") == Some(&Value::Bool(true));
    draft.add("redirect_http_to_https", redirects);
    draft.labels_of_others();
    Ok(draft.done())
}

fn rules(draft: &mut Draft) -> Result<Vec<Value>, String> {
    const PROTOCOLS: [&str; 5] = ["http", "https", "http2", "tcp", "udp"];
    let told = draft.spec("rules").and_then(Value::as_array);
    let told = told.filter(|it| !it.is_empty()).ok_or("it has no forwarding rule")?;
    let mut rules = Vec::new();
    for rule in told {
        let word = |name: &str| {
            rule.get(name)
                .and_then(Value::as_str)
                .filter(|it| PROTOCOLS.contains(it))
        };
        let port = |name: &str| {
            rule.get(name)
                .and_then(Value::as_u64)
                .filter(|it| (1..=65535).contains(it))
        };
        let (Some(entry), Some(from), Some(target), Some(to)) = (
            word("entry_protocol"),
            port("entry_port"),
            word("target_protocol"),
            port("target_port"),
        ) else {
            return Err(format!("its rule {rule} is none that a workspace can say"));
        };
        let mut out =
            json!({ "entry_protocol": entry, "entry_port": from, "target_protocol": target, "target_port": to });
        if let Some(certificate) = rule.get("certificate_id").filter(|it| it.is_string()) {
            out["certificate_id"] = certificate.clone();
        }
        let known = [
            "entry_protocol",
            "entry_port",
            "target_protocol",
            "target_port",
            "certificate_id",
        ];
        let more: Vec<String> = unknown(rule, &known);
        if !more.is_empty() {
            draft.note(format!(
                "{}: a workspace cannot say {} of a rule",
                draft.found.name,
                more.join(", ")
            ));
        }
        rules.push(out);
    }
    Ok(rules)
}

fn unknown(record: &Value, known: &[&str]) -> Vec<String> {
    let fields = record.as_object().into_iter().flatten();
    fields
        .filter(|(name, value)| !known.contains(&name.as_str()) && !value.is_null())
        .map(|(name, value)| format!("{name} = {value}"))
        .collect()
}

fn health_check(told: Option<&Value>) -> Result<Value, String> {
    let known = [
        "protocol",
        "port",
        "path",
        "interval_seconds",
        "timeout_seconds",
        "fall",
        "rise",
    ];
    let told = told
        .filter(|it| it.is_object())
        .ok_or("its rules have no health check in common")?;
    let more = unknown(told, &known);
    if !more.is_empty() {
        return Err(format!(
            "a workspace cannot say {} of its health check",
            more.join(", ")
        ));
    }
    let whole = |name: &str, least: u64, most: u64| {
        let number = told
            .get(name)
            .and_then(Value::as_u64)
            .filter(|it| (least..=most).contains(it));
        number.ok_or_else(|| format!("{name} of its health check is none that a workspace can say"))
    };
    let protocol = told.get("protocol").and_then(Value::as_str).unwrap_or("http");
    if !matches!(protocol, "http" | "https" | "tcp") {
        return Err(format!(
            "its health check speaks {protocol}, which a workspace cannot say"
        ));
    }
    let mut out = json!({
        "protocol": protocol,
        "check_interval_seconds": whole("interval_seconds", 0, 604_800)?,
        "response_timeout_seconds": whole("timeout_seconds", 0, 604_800)?,
        "unhealthy_threshold": whole("fall", 1, 10)?,
        "healthy_threshold": whole("rise", 1, 10)?,
    });
    if told.get("port").is_some_and(|it| !it.is_null()) {
        out["port"] = whole("port", 1, 65535)?.into();
    }
    if protocol != "tcp" {
        let path = told.get("path").and_then(Value::as_str).filter(|it| !it.is_empty());
        out["path"] = path.ok_or("its health check asks no path")?.into();
    }
    Ok(out)
}

fn database(found: &Found) -> Result<Item<'_>, String> {
    let (kind, engines): (_, &[&str]) = match found.provider {
        Aws => ("RDS", &["postgres", "mysql"]),
        Digitalocean => ("Database", &["pg", "mysql", "valkey"]),
        other => return Err(format!("a workspace knows no managed databases of {other}")),
    };
    let mut draft = Draft::new(found, kind, &found.name)?;
    draft.place()?;
    let engine = draft.text("engine")?;
    if !engines.contains(&engine) {
        return Err(format!(
            "its engine is {engine}, and a workspace knows {}",
            engines.join(", ")
        ));
    }
    draft.add("engine", engine);
    draft.copy("version")?;
    let within = |draft: &mut Draft, field: &'static str, least: u64, most: u64| {
        let number = draft
            .spec(field)
            .and_then(Value::as_u64)
            .filter(|it| (least..=most).contains(it));
        let number = number.ok_or_else(|| format!("its {field} is none that a workspace can say"))?;
        draft.add(field, number);
        Ok::<_, String>(())
    };
    if found.provider == Aws {
        let class = draft.text("instance_class")?;
        if !is_database_class(class) {
            return Err(format!("its class {class} is none that a workspace can write"));
        }
        draft.add("instance_class", class);
        within(&mut draft, "allocated_storage_gb", 20, 65536)?;
        draft.copy("multi_az")?;
    } else {
        let size = draft.text("size")?;
        if !is_slug(size) {
            return Err(format!("its size {size} is none that a workspace can write"));
        }
        draft.add("size", size);
        within(&mut draft, "num_nodes", 1, 3)?;
        draft.copy("trusted_sources")?;
    }
    if let Some(source) = draft.spec("replicate_from").and_then(Value::as_str) {
        if !is_name(source, LONGEST_NAME) {
            return Err(format!(
                "it copies {source}, which is no name that a workspace can write"
            ));
        }
        draft.add("replicate_from", source);
    }
    draft.labels();
    Ok(draft.done())
}

fn firewall<'a>(found: &'a Found, groups: &[Group<'a>]) -> Result<Item<'a>, String> {
    let kind = match found.provider {
        Aws => "SecurityGroup",
        _ => "Firewall",
    };
    let mut draft = Draft::new(found, kind, &found.name)?;
    if found.provider == Aws {
        draft.place()?;
    }
    draft.read.insert("targets");
    let names = targets(found);
    let Some(before) = groups_of(&names, groups).filter(|it| !it.is_empty()) else {
        return Err(match names.is_empty() {
            true => "it stands before no server".to_owned(),
            false => format!("it stands before {}, which are not whole groups", names.join(", ")),
        });
    };
    draft.add("targets", before);
    let told = draft
        .spec("inbound")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let says = |rule: &&Value| {
        let protocol = rule.get("protocol").and_then(Value::as_str);
        let known = matches!(protocol, Some("tcp" | "udp" | "icmp"));
        let texts = |all: &Value| all.as_array().is_some_and(|all| all.iter().all(Value::is_string));
        let whole = rule.get("ports").is_some_and(Value::is_string) && rule.get("sources").is_some_and(texts);
        known && whole && unknown(rule, &["protocol", "ports", "sources"]).is_empty()
    };
    let (said, unsaid): (Vec<&Value>, Vec<&Value>) = told.iter().partition(|rule| says(rule));
    // A firewall with less in it than there is would let in less than it does now.
    if let Some(rule) = unsaid.first() {
        return Err(format!("its rule {rule} is none that a workspace can say"));
    }
    draft.add("inbound", said.into_iter().cloned().collect::<Vec<Value>>());
    draft.labels_of_others();
    Ok(draft.done())
}

fn volume<'a>(found: &'a Found, groups: &[Group<'a>]) -> Result<Item<'a>, String> {
    let mut draft = Draft::new(found, "Volume", &found.name)?;
    draft.place()?;
    let (least, most) = match found.provider {
        Hetzner => (10, 10240),
        _ => (1, 16384),
    };
    let size = draft
        .spec("size_gb")
        .and_then(Value::as_u64)
        .filter(|it| (least..=most).contains(it));
    draft.add(
        "size_gb",
        size.ok_or_else(|| format!("a volume of a workspace has {least} to {most} GB"))?,
    );
    if let Some(server) = draft.spec("attach_to").and_then(Value::as_str) {
        let mut servers = groups.iter().flat_map(|group| &group.servers);
        if !servers.any(|it| it.name == server) {
            return Err(format!("it is attached to {server}, which is not declared"));
        }
        draft.add("attach_to", server);
    }
    draft.labels();
    Ok(draft.done())
}
