//! What can be done to a server.

use std::net::Ipv4Addr;

use serde_json::json;

use super::actions::started;
use super::catalog::{find_image, find_location, find_server_type};
use super::kinds::{Entity, by_id, find};
use super::networks::Network;
use super::reply::{Answer, Problem, form, no_fields};
use super::servers::Server;
use super::small::PlacementGroup;
use super::world::World;
use crate::form::Form;
use crate::wire::{Ask, Reply};

/// The server, when no action works on it.
fn idle(world: &World, ask: &Ask) -> Result<u64, Problem> {
    let id = find::<Server>(world, ask)?.id;
    world.not_busy::<Server>(id)?;
    Ok(id)
}

fn stopped(world: &World, id: u64) -> Result<(), Problem> {
    if by_id::<Server>(world, id)?.status == "off" {
        return Ok(());
    }
    Err(Problem::unprocessable(
        "server_not_stopped",
        "the server must be powered off",
    ))
}

fn set_status(world: &mut World, id: u64, status: &'static str) {
    if let Some(server) = world.servers.get_mut(&id) {
        server.status = status;
    }
}

/// A change of power: a status on the way and one at the end.
fn power(world: &mut World, ask: &Ask, command: &str, on_the_way: &'static str, at_the_end: &'static str) -> Answer {
    no_fields(ask)?;
    let id = idle(world, ask)?;
    let already = by_id::<Server>(world, id)?.status == at_the_end;
    if !already {
        set_status(world, id, on_the_way);
    }
    let action = world.start(command, &[(Server::ONE, id)], move |world| {
        set_status(world, id, at_the_end)
    });
    started(world, action)
}

pub(crate) fn poweron(world: &mut World, ask: &Ask) -> Answer {
    let server = find::<Server>(world, ask)?;
    if !server.has_public_interface(world) && server.private.is_empty() {
        return Err(Problem::unprocessable(
            "service_error",
            "the server has no network interface",
        ));
    }
    power(world, ask, "start_server", "starting", "running")
}

pub(crate) fn poweroff(world: &mut World, ask: &Ask) -> Answer {
    power(world, ask, "stop_server", "stopping", "off")
}

pub(crate) fn reset(world: &mut World, ask: &Ask) -> Answer {
    power(world, ask, "reset_server", "starting", "running")
}

pub(crate) fn reboot(world: &mut World, ask: &Ask) -> Answer {
    power(world, ask, "reboot_server", "starting", "running")
}

/// The action tells only that the request was sent: the server is off some time later, if it listens at all.
pub(crate) fn shutdown(world: &mut World, ask: &Ask) -> Answer {
    no_fields(ask)?;
    let id = idle(world, ask)?;
    let ignored = world.knobs.shutdown_ignored;
    let action = world.start("shutdown_server", &[(Server::ONE, id)], |_| {});
    if !ignored {
        let after = world.knobs.action_time * 2;
        world.agenda.later(after, move |world| {
            if world.servers.get(&id).is_some_and(|server| server.status == "running") {
                set_status(world, id, "off");
            }
        });
    }
    started(world, action)
}

pub(crate) fn change_type(world: &mut World, ask: &Ask) -> Answer {
    find::<Server>(world, ask)?;
    let mut form = form(ask)?;
    let upgrade_disk = form.need_flag("upgrade_disk");
    let wanted = form.id_or_name("server_type");
    let has = form.has("server_type");
    form.rule(has, "server_type", "is required");
    form.finish()?;
    let id = idle(world, ask)?;
    stopped(world, id)?;
    let server = by_id::<Server>(world, id)?;
    let wrong = |why: &str| Problem::unprocessable("invalid_server_type", why);
    let wanted =
        find_server_type(&wanted.unwrap_or_default()).ok_or_else(|| wrong("the server type does not exist"))?;
    let architecture = find_server_type(&server.server_type).map_or("x86", |one| one.architecture);
    if wanted.gone || wanted.architecture != architecture {
        return Err(wrong("the server type does not fit for the server or is deprecated"));
    }
    if wanted.disk < server.disk {
        return Err(wrong("the disk of the server type is smaller than the server's"));
    }
    if !wanted.is_sold_in(&server.location) || world.knobs.capacity.get(&server.location) == Some(&0) {
        return Err(Problem::unavailable(
            "the server type is not available in this location",
        ));
    }
    set_status(world, id, "migrating");
    // "This copies the content of its disk, and starts it again."
    let action = world.start("change_server_type", &[(Server::ONE, id)], move |world| {
        if let Some(server) = world.servers.get_mut(&id) {
            server.server_type = wanted.name.to_owned();
            server.status = "running";
            if upgrade_disk {
                server.disk = wanted.disk;
            }
        }
    });
    started(world, action)
}

fn address(form: &mut Form, name: &'static str) -> Option<Ipv4Addr> {
    let text = form.text(name)?;
    let read = text.parse().ok();
    form.rule(read.is_some(), name, "must be an IPv4 address");
    read
}

fn addresses(form: &mut Form, name: &'static str) -> Vec<Ipv4Addr> {
    let texts = form.texts(name).unwrap_or_default();
    let read: Result<Vec<Ipv4Addr>, _> = texts.iter().map(|text| text.parse()).collect();
    form.rule(read.is_ok(), name, "must be IPv4 addresses");
    read.unwrap_or_default()
}

pub(crate) fn attach_to_network(world: &mut World, ask: &Ask) -> Answer {
    find::<Server>(world, ask)?;
    let mut form = form(ask)?;
    let network = form.need_id("network");
    let ip = address(&mut form, "ip");
    let alias_ips = addresses(&mut form, "alias_ips");
    let within = form.text("ip_range").map(|text| text.parse());
    if let Some(Err(why)) = within {
        form.wrong("ip_range", why);
    }
    form.finish()?;
    let id = idle(world, ask)?;
    by_id::<Network>(world, network)?;
    let server = by_id::<Server>(world, id)?;
    if server.private.iter().any(|one| one.network == network) {
        return Err(Problem::unprocessable(
            "server_already_attached",
            "the server is already attached to the network",
        ));
    }
    let zone = find_location(&server.location).map_or("", |place| place.zone);
    let ip = world.free_address(network, zone, ip, within.and_then(Result::ok))?;
    let of = [(Server::ONE, id), (Network::ONE, network)];
    let action = world.start("attach_to_network", &of, move |world| {
        world.attach_server(id, network, ip, alias_ips)
    });
    started(world, action)
}

fn attached(world: &World, id: u64, network: u64) -> Result<(), Problem> {
    if by_id::<Server>(world, id)?
        .private
        .iter()
        .any(|one| one.network == network)
    {
        return Ok(());
    }
    Err(Problem::unprocessable(
        "service_error",
        "the server is not attached to the network",
    ))
}

pub(crate) fn detach_from_network(world: &mut World, ask: &Ask) -> Answer {
    find::<Server>(world, ask)?;
    let mut form = form(ask)?;
    let network = form.need_id("network");
    form.finish()?;
    let id = idle(world, ask)?;
    by_id::<Network>(world, network)?;
    attached(world, id, network)?;
    let of = [(Server::ONE, id), (Network::ONE, network)];
    let action = world.start("detach_from_network", &of, move |world| {
        if let Some(server) = world.servers.get_mut(&id) {
            server.private.retain(|one| one.network != network);
        }
    });
    started(world, action)
}

pub(crate) fn change_alias_ips(world: &mut World, ask: &Ask) -> Answer {
    find::<Server>(world, ask)?;
    let mut form = form(ask)?;
    let network = form.need_id("network");
    let has = form.has("alias_ips");
    form.rule(has, "alias_ips", "is required");
    let alias_ips = addresses(&mut form, "alias_ips");
    form.finish()?;
    let id = idle(world, ask)?;
    by_id::<Network>(world, network)?;
    attached(world, id, network)?;
    let of = [(Server::ONE, id), (Network::ONE, network)];
    let action = world.start("change_alias_ips", &of, move |world| {
        let server = world.servers.get_mut(&id);
        if let Some(one) = server.and_then(|server| server.private.iter_mut().find(|one| one.network == network)) {
            one.alias_ips = alias_ips;
        }
    });
    started(world, action)
}

/// "Currently delete and rebuild attribute needs to have the same value."
pub(crate) fn change_protection(world: &mut World, ask: &Ask) -> Answer {
    find::<Server>(world, ask)?;
    let mut form = form(ask)?;
    let (delete, rebuild) = (form.flag("delete"), form.flag("rebuild"));
    form.rule(delete == rebuild, "rebuild", "must have the same value as delete");
    form.finish()?;
    let id = idle(world, ask)?;
    let action = world.start("change_protection", &[(Server::ONE, id)], move |world| {
        if let (Some(server), Some(delete)) = (world.servers.get_mut(&id), delete) {
            server.protected = delete;
        }
    });
    started(world, action)
}

pub(crate) fn add_to_placement_group(world: &mut World, ask: &Ask) -> Answer {
    find::<Server>(world, ask)?;
    let mut form = form(ask)?;
    let group = form.need_id("placement_group");
    form.finish()?;
    let id = idle(world, ask)?;
    by_id::<PlacementGroup>(world, group)?;
    if by_id::<Server>(world, id)?.placement_group.is_some() {
        return Err(Problem::unprocessable(
            "already_in_placement_group",
            "the server is already part of a placement group",
        ));
    }
    stopped(world, id)?;
    let of = [(Server::ONE, id), (PlacementGroup::ONE, group)];
    let action = world.start("add_to_placement_group", &of, move |world| {
        if let Some(server) = world.servers.get_mut(&id) {
            server.placement_group = Some(group);
        }
    });
    started(world, action)
}

pub(crate) fn remove_from_placement_group(world: &mut World, ask: &Ask) -> Answer {
    no_fields(ask)?;
    let id = idle(world, ask)?;
    if by_id::<Server>(world, id)?.placement_group.is_none() {
        return Err(Problem::unprocessable(
            "service_error",
            "the server is in no placement group",
        ));
    }
    let action = world.start("remove_from_placement_group", &[(Server::ONE, id)], move |world| {
        if let Some(server) = world.servers.get_mut(&id) {
            server.placement_group = None;
        }
    });
    started(world, action)
}

/// The server is off meanwhile and runs afterwards, from the new image.
pub(crate) fn rebuild(world: &mut World, ask: &Ask) -> Answer {
    find::<Server>(world, ask)?;
    let mut form = form(ask)?;
    let image = form.id_or_name("image");
    let has = form.has("image");
    form.rule(has, "image", "is required");
    let user_data = form.text("user_data");
    form.finish()?;
    let id = idle(world, ask)?;
    let server = by_id::<Server>(world, id)?;
    if server.protected {
        return Err(Problem::protected("server"));
    }
    let architecture = find_server_type(&server.server_type).map_or("x86", |one| one.architecture);
    let image = find_image(&image.unwrap_or_default(), architecture);
    let image = image.ok_or_else(|| Problem::field("image", "does not exist"))?;
    let root_password = server.ssh_keys.is_empty().then_some("YItygq1v3GYjjMomLaKc");
    set_status(world, id, "rebuilding");
    let action = world.start("rebuild_server", &[(Server::ONE, id)], move |world| {
        if let Some(server) = world.servers.get_mut(&id) {
            server.image = image.id.to_string();
            server.status = "running";
            server.user_data = user_data.or(server.user_data.take());
        }
    });
    Ok(Reply::json(
        201,
        json!({"action": world.action(action), "root_password": root_password}),
    ))
}

/// Backups on or off.
fn backups(world: &mut World, ask: &Ask, command: &str, on: bool) -> Answer {
    no_fields(ask)?;
    let id = idle(world, ask)?;
    let action = world.start(command, &[(Server::ONE, id)], move |world| {
        if let Some(server) = world.servers.get_mut(&id) {
            server.backups = on;
        }
    });
    started(world, action)
}

pub(crate) fn enable_backup(world: &mut World, ask: &Ask) -> Answer {
    backups(world, ask, "enable_backup", true)
}

pub(crate) fn disable_backup(world: &mut World, ask: &Ask) -> Answer {
    backups(world, ask, "disable_backup", false)
}
