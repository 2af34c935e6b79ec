//! VPCs: private networks, who is in them, and when they can go.

use std::net::Ipv4Addr;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::actions::stamp;
use super::catalog::find_region;
use super::reply::{Answer, Page, Problem, form};
use super::world::World;
use crate::cidr::Cidr;
use crate::form::Form;
use crate::wire::{Ask, Reply};

#[derive(Clone, Debug)]
pub struct Vpc {
    pub id: String,
    pub name: String,
    pub description: String,
    pub region: String,
    pub range: Cidr,
    pub default: bool,
    pub created: Timestamp,
    /// Members that are gone and still counted.
    pub lingering: u32,
}

/// A name, a URN and since when.
struct Member(String, String, Timestamp);

fn members(world: &World, vpc: &str) -> Vec<Member> {
    let droplets = world
        .droplets
        .values()
        .filter(|one| one.vpc == vpc)
        .map(|one| Member(one.name.clone(), format!("do:droplet:{}", one.id), one.created));
    let balancers = world
        .load_balancers
        .values()
        .filter(|one| one.vpc == vpc)
        .map(|one| Member(one.name.clone(), format!("do:loadbalancer:{}", one.id), one.created));
    let databases = world
        .databases
        .values()
        .filter(|one| one.vpc == vpc)
        .map(|one| Member(one.name.clone(), format!("do:dbaas:{}", one.id), one.created));
    droplets.chain(balancers).chain(databases).collect()
}

fn render(vpc: &Vpc) -> Value {
    json!({
        "id": vpc.id,
        "urn": format!("do:vpc:{}", vpc.id),
        "name": vpc.name,
        "description": vpc.description,
        "region": vpc.region,
        "ip_range": vpc.range.to_string(),
        "default": vpc.default,
        "created_at": stamp(vpc.created),
    })
}

fn find<'a>(world: &'a World, ask: &Ask) -> Result<&'a Vpc, Problem> {
    world.vpcs.get(ask.part(0)).ok_or_else(Problem::not_found)
}

pub(crate) fn list(world: &mut World, ask: &Ask) -> Answer {
    Page::of(ask, world.vpcs.values(), render)?.reply(world, ask, "vpcs")
}

pub(crate) fn get(world: &mut World, ask: &Ask) -> Answer {
    let vpc = find(world, ask)?;
    Ok(Reply::json(200, json!({"vpc": render(vpc)})))
}

fn check_name(form: &mut Form, name: &str) {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
    form.rule(
        !name.is_empty() && name.bytes().all(fits),
        "name",
        "may have letters, digits, dashes and dots only",
    );
}

fn description(form: &mut Form) -> Option<String> {
    let text = form.text("description");
    form.rule(
        text.as_ref().is_none_or(|text| text.chars().count() <= 255),
        "description",
        "must have 255 characters at most",
    );
    text
}

fn unique(world: &World, name: &str, except: &str) -> Result<(), Problem> {
    if world.vpcs.values().any(|one| one.name == name && one.id != except) {
        return Err(Problem::unprocessable(
            "a vpc with the same name already exists in your account",
        ));
    }
    Ok(())
}

pub(crate) fn create(world: &mut World, ask: &Ask) -> Answer {
    let mut form = form(ask)?;
    let name = form.need_text("name");
    if form.has("name") {
        check_name(&mut form, &name);
    }
    let description = description(&mut form).unwrap_or_default();
    let region = form.need_text("region");
    let known = find_region(&region).is_some_and(|region| region.available);
    form.rule(
        known || region.is_empty(),
        "region",
        "does not exist or is not available",
    );
    let range = form.text("ip_range").map(|text| text.parse::<Cidr>());
    if let Some(Err(why)) = range {
        form.wrong("ip_range", why);
    }
    if let Some(Ok(range)) = range {
        form.rule(
            (16..=28).contains(&range.bits()),
            "ip_range",
            "must be between /16 and /28",
        );
        form.rule(
            range.is_private(),
            "ip_range",
            "must be one of the private ranges of RFC1918",
        );
    }
    form.finish()?;
    if !known {
        return Err(Problem::unprocessable("region does not exist or is not available"));
    }
    unique(world, &name, "")?;
    world.within_quota("vpcs", world.vpcs.len())?;
    let range = match range.and_then(Result::ok) {
        Some(range) if world.vpcs.values().any(|one| one.range.overlaps(range)) => {
            return Err(Problem::unprocessable(
                "This range/size overlaps with another VPC network in your account",
            ));
        }
        Some(range) => range,
        None => world.free_range()?,
    };
    let id = world.add_vpc(name, description, &region, range);
    let body = world.vpcs.get(&id).map(|vpc| json!({"vpc": render(vpc)}));
    Ok(Reply::json(201, body.unwrap_or_default()))
}

pub(crate) fn change(world: &mut World, ask: &Ask) -> Answer {
    let id = find(world, ask)?.id.clone();
    let mut form = form(ask)?;
    let name = form.text("name");
    if ask.method == "PUT" {
        let has = form.has("name");
        form.rule(has, "name", "is required");
    }
    if let Some(name) = &name {
        check_name(&mut form, name);
    }
    let description = description(&mut form);
    let default = form.flag("default");
    form.finish()?;
    if let Some(name) = &name {
        unique(world, name, &id)?;
    }
    let region = find(world, ask)?.region.clone();
    if default == Some(true) {
        for vpc in world.vpcs.values_mut().filter(|vpc| vpc.region == region) {
            vpc.default = vpc.id == id;
        }
    }
    if let Some(vpc) = world.vpcs.get_mut(&id) {
        vpc.name = name.unwrap_or_else(|| vpc.name.clone());
        // A PUT resets what it leaves out.
        if ask.method == "PUT" || description.is_some() {
            vpc.description = description.unwrap_or_default();
        }
    }
    get(world, ask)
}

/// 403 with members or as the default; 409 while members that are gone are still counted.
pub(crate) fn delete(world: &mut World, ask: &Ask) -> Answer {
    let vpc = find(world, ask)?;
    let id = vpc.id.clone();
    if vpc.default {
        return Err(Problem::forbidden("Can not delete the default VPC of a region"));
    }
    if !members(world, &id).is_empty() {
        return Err(Problem::forbidden("Can not delete VPC with members"));
    }
    if vpc.lingering > 0 {
        return Err(Problem::conflict("Can not delete VPC with members"));
    }
    world.vpcs.remove(&id);
    Ok(Reply::empty(204))
}

pub(crate) fn list_members(world: &mut World, ask: &Ask) -> Answer {
    let id = find(world, ask)?.id.clone();
    let kind = ask.first("resource_type");
    let found = members(world, &id)
        .into_iter()
        .filter(|Member(_, urn, _)| kind.is_none_or(|kind| urn.split(':').nth(1) == Some(kind)));
    let render = |Member(name, urn, at)| json!({"name": name, "urn": urn, "created_at": stamp(at)});
    Page::of(ask, found, render)?.reply(world, ask, "members")
}

impl World {
    pub(crate) fn add_vpc(&mut self, name: String, description: String, region: &str, range: Cidr) -> String {
        let id = self.next_uuid();
        let first = !self.vpcs.values().any(|one| one.region == region);
        let vpc = Vpc {
            id: id.clone(),
            name,
            description,
            region: region.to_owned(),
            range,
            default: first,
            created: self.now(),
            lingering: 0,
        };
        self.vpcs.insert(id.clone(), vpc);
        id
    }

    fn free_range(&self) -> Result<Cidr, Problem> {
        let all: Cidr = "10.100.0.0/14".parse().map_err(Problem::unprocessable)?;
        let free = all
            .parts(20)
            .find(|range| !self.vpcs.values().any(|one| one.range.overlaps(*range)));
        free.ok_or_else(|| Problem::unprocessable("no range is left for another VPC"))
    }

    /// The VPC asked for, or the region's default one, which is made when there is none.
    pub(crate) fn vpc_for(&mut self, wanted: Option<&str>, region: &str) -> Result<String, Problem> {
        match wanted.filter(|wanted| !wanted.is_empty()) {
            Some(wanted) => match self.vpcs.get(wanted) {
                Some(vpc) if vpc.region == region => Ok(vpc.id.clone()),
                Some(_) => Err(Problem::unprocessable("vpc_uuid is of another region")),
                None => Err(Problem::unprocessable("vpc_uuid does not exist")),
            },
            None => match self.vpcs.values().find(|one| one.default && one.region == region) {
                Some(vpc) => Ok(vpc.id.clone()),
                None => {
                    let range = self.free_range()?;
                    Ok(self.add_vpc(format!("default-{region}"), String::new(), region, range))
                }
            },
        }
    }

    pub(crate) fn private_address(&self, vpc: &str) -> Option<Ipv4Addr> {
        let used: Vec<Ipv4Addr> = self
            .droplets
            .values()
            .filter(|one| one.vpc == vpc)
            .map(|one| one.private)
            .collect();
        self.vpcs.get(vpc)?.range.hosts().find(|ip| !used.contains(ip))
    }

    /// A member is gone; it is counted for a while.
    pub(crate) fn left_vpc(&mut self, vpc: &str) {
        let linger = self.knobs.members_linger;
        let Some(one) = self.vpcs.get_mut(vpc).filter(|_| !linger.is_zero()) else {
            return;
        };
        one.lingering += 1;
        let id = vpc.to_owned();
        self.agenda.later(linger, move |world| {
            if let Some(vpc) = world.vpcs.get_mut(&id) {
                vpc.lingering = vpc.lingering.saturating_sub(1);
            }
        });
    }
}
