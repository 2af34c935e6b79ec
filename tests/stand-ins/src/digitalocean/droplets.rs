//! Droplets: how they look, how they come and go.

use std::net::Ipv4Addr;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::actions::{What, stamp};
use super::catalog::{find_image, find_region, find_size, has_room, region_of, render_image, render_size};
use super::reply::{Answer, Page, Problem, allowed, form};
use super::small::find_key;
use super::tags::{known_tags, read_tags};
use super::world::World;
use crate::form::Form;
use crate::wire::{Ask, Reply};

#[derive(Clone, Debug)]
pub struct Droplet {
    pub id: u64,
    pub name: String,
    pub tags: Vec<String>,
    pub created: Timestamp,
    /// `new`, `active` or `off`.
    pub status: &'static str,
    pub size: String,
    /// In GB: what resizing left it at.
    pub disk: u64,
    pub region: String,
    /// The slug of an image.
    pub image: String,
    pub vpc: String,
    /// None while it is new.
    pub public: Option<Ipv4Addr>,
    pub private: Ipv4Addr,
    pub ipv6: bool,
    pub backups: bool,
    pub monitoring: bool,
    pub user_data: Option<String>,
    pub ssh_keys: Vec<u64>,
}

impl Droplet {
    fn networks(&self, world: &World) -> Value {
        let Some(public) = self.public else {
            return json!({"v4": [], "v6": []});
        };
        let mask = world.vpcs.get(&self.vpc).map_or(20, |vpc| vpc.range.bits());
        let mask = Ipv4Addr::from(u32::MAX << (32 - u32::from(mask)));
        let gateway = |ip: Ipv4Addr| {
            let [a, b, c, _] = ip.octets();
            Ipv4Addr::new(a, b, c, 1)
        };
        let mut v6 = Vec::new();
        if self.ipv6 {
            v6.push(json!({
                "ip_address": format!("2001:db8:2::{:x}", self.id & 0xffff),
                "netmask": 64,
                "gateway": "2001:db8:2::1",
                "type": "public",
            }));
        }
        json!({
            "v4": [
                {"ip_address": self.private, "netmask": mask, "gateway": gateway(self.private), "type": "private"},
                {"ip_address": public, "netmask": "255.255.240.0", "gateway": gateway(public), "type": "public"},
            ],
            "v6": v6,
        })
    }

    pub(crate) fn render(&self, world: &World) -> Value {
        let size = find_size(&self.size);
        let mut features = vec!["droplet_agent", "private_networking"];
        for (name, on) in [
            ("backups", self.backups),
            ("ipv6", self.ipv6),
            ("monitoring", self.monitoring),
        ] {
            if on {
                features.push(name);
            }
        }
        let volumes: Vec<&str> = world
            .volumes
            .values()
            .filter(|volume| volume.droplet == Some(self.id))
            .map(|volume| volume.id.as_str())
            .collect();
        json!({
            "id": self.id,
            "name": self.name,
            "memory": size.map(|one| one.memory),
            "vcpus": size.map(|one| one.vcpus),
            "disk": self.disk,
            "disk_info": [{"type": "local", "size": {"amount": self.disk, "unit": "gib"}}],
            "locked": world.is_busy(&What::Droplet(self.id)),
            "status": self.status,
            "kernel": null,
            "created_at": stamp(self.created),
            "features": features,
            "backup_ids": [],
            // Null without backups, says the prose; the strict description wants a window.
            "next_backup_window": {"start": "2026-11-22T00:00:00Z", "end": "2026-11-22T23:00:00Z"},
            "snapshot_ids": [],
            "image": find_image(&self.image).map(render_image),
            "volume_ids": volumes,
            "size": size.map(|one| render_size(one, world)),
            "size_slug": self.size,
            "networks": self.networks(world),
            "region": region_of(&self.region, world),
            "tags": self.tags,
            "vpc_uuid": self.vpc,
        })
    }
}

pub(crate) fn find<'a>(world: &'a World, ask: &Ask) -> Result<&'a Droplet, Problem> {
    ask.id(0)
        .and_then(|id| world.droplets.get(&id))
        .ok_or_else(Problem::not_found)
}

pub(crate) fn list(world: &mut World, ask: &Ask) -> Answer {
    allowed(ask, "type", &["droplets", "gpus"])?;
    let (tag, name) = (ask.first("tag_name"), ask.first("name"));
    let none = ask.first("type") == Some("gpus");
    let found = world
        .droplets
        .values()
        .filter(|one| !none && tag.is_none_or(|tag| one.tags.iter().any(|has| has == tag)))
        // Names are compared without regard to case and are not unique.
        .filter(|one| name.is_none_or(|name| one.name.eq_ignore_ascii_case(name)));
    Page::of(ask, found, |one| one.render(world))?.reply(world, ask, "droplets")
}

pub(crate) fn get(world: &mut World, ask: &Ask) -> Answer {
    let droplet = find(world, ask)?;
    Ok(Reply::json(200, json!({"droplet": droplet.render(world)})))
}

pub(crate) fn check_name(form: &mut Form, field: &str, name: &str) {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
    let ends = name
        .bytes()
        .next_back()
        .is_some_and(|byte| byte.is_ascii_alphanumeric());
    let fits = name.len() <= 255 && ends && name.bytes().all(inner);
    form.rule(
        fits,
        field,
        "Only valid hostname characters are allowed. (a-z, A-Z, 0-9, . and -)",
    );
}

/// Everything a request for new Droplets says, but for their names.
struct Wanted {
    region: Option<String>,
    size: String,
    image: String,
    ssh_keys: Vec<String>,
    backups: bool,
    ipv6: bool,
    monitoring: bool,
    tags: Vec<String>,
    user_data: Option<String>,
    volumes: Vec<String>,
    vpc: Option<String>,
}

fn wanted(form: &mut Form) -> Wanted {
    for needed in ["size", "image"] {
        let has = form.has(needed);
        form.rule(has, needed, "is required");
    }
    form.group("backup_policy", |policy| {
        policy.one_of("plan", &["daily", "weekly"]);
        policy.one_of("weekday", &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]);
        policy.between("hour", 0, 20);
        policy.ignore(&["window_length_hours", "retention_period_days"]);
    });
    form.flag("private_networking");
    form.flag("with_droplet_agent");
    form.flag("public_networking");
    let user_data = form.text("user_data");
    form.rule(
        user_data.as_ref().is_none_or(|data| data.len() <= 64 * 1024),
        "user_data",
        "must be 64 KiB at most",
    );
    Wanted {
        region: form.text("region"),
        size: form.text("size").unwrap_or_default(),
        image: form.id_or_name("image").unwrap_or_default(),
        ssh_keys: form.ids_or_names("ssh_keys").unwrap_or_default(),
        backups: form.flag("backups").unwrap_or(false),
        ipv6: form.flag("ipv6").unwrap_or(false),
        monitoring: form.flag("monitoring").unwrap_or(false),
        tags: read_tags(form).unwrap_or_default(),
        user_data,
        volumes: form.texts("volumes").unwrap_or_default(),
        vpc: form.text("vpc_uuid"),
    }
}

pub(crate) fn create(world: &mut World, ask: &Ask) -> Answer {
    let mut form = form(ask)?;
    let name = form.text("name");
    let names = form.texts("names");
    form.rule(name.is_some() != names.is_some(), "name", "or names is required");
    let many = names.is_some();
    let names = names.unwrap_or_else(|| name.into_iter().collect());
    form.rule(names.len() <= 10, "names", "may have 10 entries at most");
    for name in &names {
        check_name(&mut form, if many { "names" } else { "name" }, name);
    }
    let wanted = wanted(&mut form);
    form.finish()?;
    let refuse = |message: &str| Err(Problem::unprocessable(message));
    let Some(size) = find_size(&wanted.size) else {
        return refuse("You specified an invalid size for Droplet creation.");
    };
    let Some(image) = find_image(&wanted.image) else {
        return refuse("You specified an invalid image for Droplet creation.");
    };
    let Some(region) = find_region(wanted.region.as_deref().unwrap_or("nyc3")) else {
        return refuse("You specified an invalid region for Droplet creation.");
    };
    if !has_room(world, region)
        || world
            .knobs
            .capacity
            .get(region.slug)
            .is_some_and(|left| *left < names.len())
    {
        return refuse("Size is not available in this region.");
    }
    let limit = world.knobs.quotas.get("droplets");
    if limit.is_some_and(|most| world.droplets.len() + names.len() > *most) {
        return refuse("creating this/these droplet(s) will exceed your droplet limit");
    }
    let mut keys = Vec::new();
    for key in &wanted.ssh_keys {
        let found = find_key(world, key);
        let message = || Problem::unprocessable(format!("{key} are invalid key identifiers for Droplet creation."));
        keys.push(found.ok_or_else(message)?.id);
    }
    for volume in &wanted.volumes {
        match world.volumes.get(volume) {
            Some(volume) if volume.region == region.slug && volume.droplet.is_none() => {}
            _ => return refuse("You specified an invalid volume for Droplet creation."),
        }
    }
    let vpc = world.vpc_for(wanted.vpc.as_deref(), region.slug)?;
    known_tags(world, &wanted.tags);
    if let Some(left) = world.knobs.capacity.get_mut(region.slug) {
        *left -= names.len();
    }

    let mut made = Vec::new();
    let mut started = Vec::new();
    for name in names {
        let id = world.next_id();
        let late = world.knobs.tags_late;
        let private = world.private_address(&vpc);
        let private = private.ok_or_else(|| Problem::unprocessable("no address is left in the VPC"))?;
        let droplet = Droplet {
            id,
            name,
            tags: if late.is_zero() {
                wanted.tags.clone()
            } else {
                Vec::new()
            },
            created: world.now(),
            status: "new",
            size: size.slug.to_owned(),
            disk: size.disk,
            region: region.slug.to_owned(),
            image: image.slug.to_owned(),
            vpc: vpc.clone(),
            public: None,
            private,
            ipv6: wanted.ipv6,
            backups: wanted.backups,
            monitoring: wanted.monitoring,
            user_data: wanted.user_data.clone(),
            ssh_keys: keys.clone(),
        };
        world.droplets.insert(id, droplet);
        tag_later(world, id, wanted.tags.clone(), late);
        started.push(world.start("create", What::Droplet(id), region.slug, move |world| {
            let public = world.next_ipv4();
            if let Some(droplet) = world.droplets.get_mut(&id) {
                droplet.status = "active";
                droplet.public = Some(public);
            }
        }));
        made.push(id);
    }
    for volume in &wanted.volumes {
        if let Some(volume) = world.volumes.get_mut(volume) {
            volume.droplet = made.first().copied();
        }
    }
    let links: Vec<Value> = started.into_iter().map(|id| action_link(ask, id, "create")).collect();
    let shown: Vec<Value> = made
        .iter()
        .filter_map(|id| Some(world.droplets.get(id)?.render(world)))
        .collect();
    let mut body = json!({"links": {"actions": links}});
    if many {
        body["droplets"] = Value::from(shown);
    } else {
        body["droplet"] = shown.into_iter().next().unwrap_or_default();
    }
    Ok(Reply::json(202, body))
}

pub(crate) fn action_link(ask: &Ask, id: u64, rel: &str) -> Value {
    json!({"id": id, "rel": rel, "href": format!("http://{}/v2/actions/{id}", ask.host)})
}

/// Tags given at creation may be there only later.
fn tag_later(world: &mut World, id: u64, tags: Vec<String>, late: Duration) {
    if late.is_zero() {
        return;
    }
    world.agenda.later(late, move |world| {
        if let Some(droplet) = world.droplets.get_mut(&id) {
            droplet.tags.extend(tags);
        }
    });
}

pub(crate) fn delete(world: &mut World, ask: &Ask) -> Answer {
    let id = find(world, ask)?.id;
    if world.is_busy(&What::Droplet(id)) {
        return Err(Problem::pending("Droplet"));
    }
    world.forget_droplet(id);
    Ok(Reply::empty(204))
}

/// All with a tag.
pub(crate) fn delete_tagged(world: &mut World, ask: &Ask) -> Answer {
    let tag = ask
        .first("tag_name")
        .ok_or_else(|| Problem::bad_request("tag_name is required"))?;
    let has = |one: &&Droplet| one.tags.iter().any(|has| has == tag);
    let ids: Vec<u64> = world.droplets.values().filter(has).map(|one| one.id).collect();
    if ids.is_empty() && !world.tags.contains(tag) {
        return Err(Problem::not_found());
    }
    if ids.iter().any(|id| world.is_busy(&What::Droplet(*id))) {
        return Err(Problem::pending("Droplet"));
    }
    for id in ids {
        world.forget_droplet(id);
    }
    Ok(Reply::empty(204))
}

impl World {
    /// What was attached to it is free again.
    pub(crate) fn forget_droplet(&mut self, id: u64) {
        let Some(droplet) = self.droplets.remove(&id) else {
            return;
        };
        self.left_vpc(&droplet.vpc);
        for volume in self.volumes.values_mut().filter(|volume| volume.droplet == Some(id)) {
            volume.droplet = None;
        }
        for ip in self.reserved_ips.values_mut().filter(|ip| ip.droplet == Some(id)) {
            ip.droplet = None;
        }
        for balancer in self.load_balancers.values_mut() {
            balancer.droplets.retain(|one| *one != id);
        }
        for firewall in self.firewalls.values_mut() {
            firewall.droplets.retain(|one| *one != id);
        }
    }
}
