//! What can be done to a load balancer.

use std::net::Ipv4Addr;

use super::actions::started;
use super::balancers::{Balancer, certificates_exist, service, target};
use super::catalog::{find_balancer_type, find_location};
use super::kinds::{Entity, by_id, find};
use super::networks::Network;
use super::reply::{Answer, Problem, form, no_fields};
use super::world::World;
use crate::cidr::Cidr;
use crate::wire::Ask;

fn change(world: &mut World, id: u64, command: &str, effect: impl FnOnce(&mut Balancer) + Send + 'static) -> Answer {
    let action = world.start(command, &[(Balancer::ONE, id)], move |world| {
        if let Some(balancer) = world.load_balancers.get_mut(&id) {
            effect(balancer);
        }
    });
    started(world, action)
}

pub(crate) fn add_service(world: &mut World, ask: &Ask) -> Answer {
    let id = find::<Balancer>(world, ask)?.id;
    let mut form = form(ask)?;
    let service = service(&mut form, None);
    form.finish()?;
    world.not_busy::<Balancer>(id)?;
    certificates_exist(world, &service)?;
    let balancer = by_id::<Balancer>(world, id)?;
    balancer.may_serve(&service)?;
    if balancer
        .sold_as()
        .is_some_and(|kind| balancer.services.len() >= kind.services)
    {
        return Err(Problem::limit("load_balancer_service"));
    }
    change(world, id, "add_service", move |balancer| {
        balancer.services.push(service)
    })
}

pub(crate) fn update_service(world: &mut World, ask: &Ask) -> Answer {
    let id = find::<Balancer>(world, ask)?.id;
    let mut form = form(ask)?;
    let port = form.between("listen_port", 1, 65_535);
    let services = &by_id::<Balancer>(world, id)?.services;
    let before = services
        .iter()
        .find(|one| Some(i64::from(one.listen_port)) == port)
        .cloned();
    let service = service(&mut form, Some(&before.clone().unwrap_or_default()));
    form.finish()?;
    if before.is_none() {
        return Err(Problem::field("listen_port", "has no service"));
    }
    world.not_busy::<Balancer>(id)?;
    certificates_exist(world, &service)?;
    change(world, id, "update_service", move |balancer| {
        for one in balancer
            .services
            .iter_mut()
            .filter(|one| one.listen_port == service.listen_port)
        {
            *one = service.clone();
        }
    })
}

pub(crate) fn delete_service(world: &mut World, ask: &Ask) -> Answer {
    let id = find::<Balancer>(world, ask)?.id;
    let mut form = form(ask)?;
    let port = form.need_whole("listen_port");
    form.finish()?;
    world.not_busy::<Balancer>(id)?;
    let is_it = move |listen_port: u16| i64::from(listen_port) == port;
    if !by_id::<Balancer>(world, id)?
        .services
        .iter()
        .any(|one| is_it(one.listen_port))
    {
        return Err(Problem::field("listen_port", "has no service"));
    }
    change(world, id, "delete_service", move |balancer| {
        balancer.services.retain(|one| !is_it(one.listen_port))
    })
}

pub(crate) fn add_target(world: &mut World, ask: &Ask) -> Answer {
    let id = find::<Balancer>(world, ask)?.id;
    let mut form = form(ask)?;
    let target = target(&mut form, true);
    form.finish()?;
    let target = target.ok_or_else(|| Problem::field("type", "is required"))?;
    world.not_busy::<Balancer>(id)?;
    let balancer = by_id::<Balancer>(world, id)?;
    balancer.may_target(world, &target)?;
    if balancer
        .sold_as()
        .is_some_and(|kind| balancer.targets.len() >= kind.targets)
    {
        return Err(Problem::limit("load_balancer_target"));
    }
    change(world, id, "add_target", move |balancer| balancer.targets.push(target))
}

pub(crate) fn remove_target(world: &mut World, ask: &Ask) -> Answer {
    let id = find::<Balancer>(world, ask)?.id;
    let mut form = form(ask)?;
    let target = target(&mut form, false);
    form.finish()?;
    let target = target.ok_or_else(|| Problem::field("type", "is required"))?;
    world.not_busy::<Balancer>(id)?;
    if !by_id::<Balancer>(world, id)?
        .targets
        .iter()
        .any(|one| one.of == target.of)
    {
        return Err(Problem::new(
            404,
            "load_balancer_target_not_found",
            "the target is not defined",
        ));
    }
    change(world, id, "remove_target", move |balancer| {
        balancer.targets.retain(|one| one.of != target.of)
    })
}

pub(crate) fn attach_to_network(world: &mut World, ask: &Ask) -> Answer {
    let id = find::<Balancer>(world, ask)?.id;
    let mut form = form(ask)?;
    let network = form.need_id("network");
    let ip = form.text("ip").map(|text| text.parse::<Ipv4Addr>());
    form.rule(!matches!(ip, Some(Err(_))), "ip", "must be an IPv4 address");
    let within = form.text("ip_range").map(|text| text.parse::<Cidr>());
    if let Some(Err(why)) = within {
        form.wrong("ip_range", why);
    }
    form.finish()?;
    world.not_busy::<Balancer>(id)?;
    by_id::<Network>(world, network)?;
    let balancer = by_id::<Balancer>(world, id)?;
    if balancer.private.is_some() {
        return Err(Problem::unprocessable(
            "load_balancer_already_attached",
            "the load balancer is already attached to a network",
        ));
    }
    let zone = find_location(&balancer.location).map_or("", |place| place.zone);
    let ip = world.free_address(network, zone, ip.and_then(Result::ok), within.and_then(Result::ok))?;
    let of = [(Balancer::ONE, id), (Network::ONE, network)];
    let action = world.start("attach_to_network", &of, move |world| {
        if let Some(balancer) = world.load_balancers.get_mut(&id) {
            balancer.private = Some((network, ip));
        }
    });
    started(world, action)
}

pub(crate) fn detach_from_network(world: &mut World, ask: &Ask) -> Answer {
    let id = find::<Balancer>(world, ask)?.id;
    let mut form = form(ask)?;
    let network = form.need_id("network");
    form.finish()?;
    world.not_busy::<Balancer>(id)?;
    by_id::<Network>(world, network)?;
    if by_id::<Balancer>(world, id)?
        .private
        .is_none_or(|(of, _)| of != network)
    {
        return Err(Problem::unprocessable(
            "service_error",
            "the load balancer is not attached to the network",
        ));
    }
    change(world, id, "detach_from_network", |balancer| {
        balancer.private = None;
        balancer.targets.retain(|target| !target.use_private_ip);
    })
}

pub(crate) fn change_algorithm(world: &mut World, ask: &Ask) -> Answer {
    let id = find::<Balancer>(world, ask)?.id;
    let mut form = form(ask)?;
    let algorithm = form.need_one_of("type", &["round_robin", "least_connections"]);
    form.finish()?;
    world.not_busy::<Balancer>(id)?;
    change(world, id, "change_algorithm", move |balancer| {
        balancer.algorithm = algorithm
    })
}

pub(crate) fn change_type(world: &mut World, ask: &Ask) -> Answer {
    let id = find::<Balancer>(world, ask)?.id;
    let mut form = form(ask)?;
    let has = form.has("load_balancer_type");
    form.rule(has, "load_balancer_type", "is required");
    let wanted = form.id_or_name("load_balancer_type").unwrap_or_default();
    form.finish()?;
    world.not_busy::<Balancer>(id)?;
    let balancer = by_id::<Balancer>(world, id)?;
    let fits = find_balancer_type(&wanted)
        .filter(|kind| balancer.services.len() <= kind.services && balancer.targets.len() <= kind.targets);
    let wrong = "the load balancer type does not fit for the given load balancer";
    let kind = fits.ok_or_else(|| Problem::unprocessable("invalid_load_balancer_type", wrong))?;
    change(world, id, "change_load_balancer_type", move |balancer| {
        balancer.balancer_type = kind.name.to_owned()
    })
}

pub(crate) fn enable_public_interface(world: &mut World, ask: &Ask) -> Answer {
    no_fields(ask)?;
    let id = find::<Balancer>(world, ask)?.id;
    world.not_busy::<Balancer>(id)?;
    change(world, id, "enable_public_interface", |balancer| balancer.public = true)
}

pub(crate) fn disable_public_interface(world: &mut World, ask: &Ask) -> Answer {
    no_fields(ask)?;
    let id = find::<Balancer>(world, ask)?.id;
    world.not_busy::<Balancer>(id)?;
    let balancer = by_id::<Balancer>(world, id)?;
    if balancer.private.is_none() {
        return Err(Problem::unprocessable(
            "load_balancer_not_attached_to_network",
            "the load balancer is not attached to a network",
        ));
    }
    if balancer.targets.iter().any(|target| !target.use_private_ip) {
        return Err(Problem::unprocessable(
            "targets_without_use_private_ip",
            "the load balancer has targets that use the public IP",
        ));
    }
    change(world, id, "disable_public_interface", |balancer| {
        balancer.public = false
    })
}
