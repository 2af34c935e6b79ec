//! What can be done to a Droplet.

use serde_json::json;

use super::actions::{self, What};
use super::catalog::{find_image, find_size};
use super::droplets::{Droplet, check_name, find};
use super::reply::{Answer, Problem, form};
use super::world::World;
use crate::form::Form;
use crate::wire::{Ask, Reply};

const KINDS: &[&str] = &[
    "enable_backups",
    "disable_backups",
    "reboot",
    "power_cycle",
    "shutdown",
    "power_off",
    "power_on",
    "resize",
    "rebuild",
    "rename",
    "enable_ipv6",
    "snapshot",
    "restore",
    "password_reset",
    "change_kernel",
    "change_backup_policy",
];

pub(crate) fn list(world: &mut World, ask: &Ask) -> Answer {
    let id = find(world, ask)?.id;
    actions::list_of(world, ask, &What::Droplet(id))
}

pub(crate) fn get(world: &mut World, ask: &Ask) -> Answer {
    let id = find(world, ask)?.id;
    actions::get_of(world, ask, &What::Droplet(id))
}

/// What changes when the action completes.
type Change = Box<dyn FnOnce(&mut Droplet) + Send>;

fn set(status: &'static str) -> Change {
    Box::new(move |droplet| droplet.status = status)
}

pub(crate) fn act(world: &mut World, ask: &Ask) -> Answer {
    let id = find(world, ask)?.id;
    let mut form = form(ask)?;
    let kind = form.need_one_of("type", KINDS);
    let image = form.id_or_name("image");
    let size = form.text("size");
    let disk = form.flag("disk").unwrap_or(false);
    let name = form.text("name");
    if let (Some(name), "rename") = (&name, kind) {
        check_name(&mut form, "name", name);
    }
    policy(&mut form, kind);
    form.whole("kernel");
    form.finish()?;
    let droplet = find(world, ask)?;
    if world.is_busy(&What::Droplet(id)) {
        return Err(Problem::pending("Droplet"));
    }
    let needs = |what: &str| Problem::unprocessable(format!("{what} is required for {kind}"));
    let off = droplet.status == "off";
    let change: Change = match kind {
        "power_on" if !off => return Err(Problem::unprocessable("Droplet is already powered on.")),
        "power_on" | "reboot" | "power_cycle" => set("active"),
        "power_off" => set("off"),
        "shutdown" if world.knobs.shutdown_ignored => Box::new(|_| {}),
        "shutdown" => set("off"),
        "resize" => {
            let size = size.ok_or_else(|| needs("size"))?;
            let size = find_size(&size).ok_or_else(|| Problem::unprocessable("size is not available"))?;
            if !off {
                return Err(Problem::unprocessable("Droplet must be powered off to resize."));
            }
            if size.disk < droplet.disk {
                return Err(Problem::unprocessable("This size has a smaller disk."));
            }
            Box::new(move |droplet| {
                droplet.size = size.slug.to_owned();
                if disk {
                    droplet.disk = size.disk;
                }
            })
        }
        "rebuild" | "restore" => {
            let image = image.ok_or_else(|| needs("image"))?;
            let image = find_image(&image).ok_or_else(|| Problem::unprocessable("image does not exist"))?;
            Box::new(move |droplet| {
                droplet.image = image.slug.to_owned();
                droplet.status = "active";
            })
        }
        "rename" => {
            let name = name.ok_or_else(|| needs("name"))?;
            Box::new(move |droplet| droplet.name = name)
        }
        "enable_ipv6" => Box::new(|droplet| droplet.ipv6 = true),
        "enable_backups" => Box::new(|droplet| droplet.backups = true),
        "disable_backups" => Box::new(|droplet| droplet.backups = false),
        _ => Box::new(|_| {}),
    };
    let region = droplet.region.clone();
    let action = world.start(kind, What::Droplet(id), &region, move |world| {
        if let Some(droplet) = world.droplets.get_mut(&id) {
            change(droplet);
        }
    });
    Ok(Reply::json(201, json!({"action": world.action(action)})))
}

fn policy(form: &mut Form, kind: &str) {
    let given = form.group("backup_policy", |policy| {
        policy.one_of("plan", &["daily", "weekly"]);
        policy.one_of("weekday", &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]);
        policy.between("hour", 0, 20);
        policy.ignore(&["window_length_hours", "retention_period_days"]);
    });
    form.rule(
        kind != "change_backup_policy" || given.is_some(),
        "backup_policy",
        "is required",
    );
}
