//! Block storage volumes.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::actions::{self, What, stamp};
use super::catalog::{SLUGS, find_region, region_of};
use super::reply::{Answer, Page, Problem, allowed, form};
use super::tags::{known_tags, read_tags};
use super::world::World;
use crate::wire::{Ask, Reply};

#[derive(Clone, Debug)]
pub struct Volume {
    pub id: String,
    pub name: String,
    pub description: String,
    pub tags: Vec<String>,
    pub created: Timestamp,
    pub region: String,
    /// In GB.
    pub size: u64,
    pub filesystem: String,
    pub label: String,
    pub droplet: Option<u64>,
}

impl Volume {
    fn render(&self, world: &World) -> Value {
        json!({
            "id": self.id,
            "name": self.name,
            "description": self.description,
            "size_gigabytes": self.size,
            "created_at": stamp(self.created),
            "tags": self.tags,
            "region": region_of(&self.region, world),
            "droplet_ids": self.droplet.into_iter().collect::<Vec<_>>(),
            "filesystem_type": self.filesystem,
            "filesystem_label": self.label,
        })
    }
}

fn find<'a>(world: &'a World, ask: &Ask) -> Result<&'a Volume, Problem> {
    world.volumes.get(ask.part(0)).ok_or_else(Problem::not_found)
}

pub(crate) fn list(world: &mut World, ask: &Ask) -> Answer {
    allowed(ask, "region", SLUGS)?;
    let (name, region) = (ask.first("name"), ask.first("region"));
    let found = world
        .volumes
        .values()
        .filter(|one| name.is_none_or(|name| name == one.name) && region.is_none_or(|region| region == one.region));
    Page::of(ask, found, |one| one.render(world))?.reply(world, ask, "volumes")
}

pub(crate) fn get(world: &mut World, ask: &Ask) -> Answer {
    let volume = find(world, ask)?;
    Ok(Reply::json(200, json!({"volume": volume.render(world)})))
}

pub(crate) fn create(world: &mut World, ask: &Ask) -> Answer {
    let mut form = form(ask)?;
    form.ignore(&["id", "droplet_ids", "created_at"]);
    let name = form.need_text("name");
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    let has = form.has("name");
    form.rule(
        !has || (name.len() <= 64 && begins && name.bytes().all(inner)),
        "name",
        "must be lowercase letters, digits and dashes, beginning with a letter",
    );
    let description = form.text("description").unwrap_or_default();
    let size = form.need_between("size_gigabytes", 1, 16_384).unsigned_abs();
    let region = form.need_one_of("region", SLUGS);
    let tags = read_tags(&mut form).unwrap_or_default();
    form.text("snapshot_id");
    let filesystem = form.text("filesystem_type").unwrap_or_default();
    form.rule(
        matches!(filesystem.as_str(), "" | "ext4" | "xfs"),
        "filesystem_type",
        "must be ext4 or xfs",
    );
    let label = form.text("filesystem_label").unwrap_or_default();
    let most = if filesystem == "xfs" { 12 } else { 16 };
    form.rule(label.len() <= most, "filesystem_label", "is too long");
    form.finish()?;
    if !find_region(region).is_some_and(|region| region.available) {
        return Err(Problem::unprocessable("region is not available"));
    }
    if world
        .volumes
        .values()
        .any(|one| one.name == name && one.region == region)
    {
        return Err(Problem::conflict("volume with this name already exists in the region"));
    }
    world.within_quota("volumes", world.volumes.len())?;
    known_tags(world, &tags);
    let id = world.next_uuid();
    let volume = Volume {
        id: id.clone(),
        name,
        description,
        tags,
        created: world.now(),
        region: region.to_owned(),
        size,
        filesystem,
        label,
        droplet: None,
    };
    let body = json!({"volume": volume.render(world)});
    world.volumes.insert(id, volume);
    Ok(Reply::json(201, body))
}

fn remove(world: &mut World, id: &str) -> Answer {
    let volume = world.volumes.get(id).ok_or_else(Problem::not_found)?;
    if volume.droplet.is_some() {
        return Err(Problem::conflict("volume is attached to a Droplet"));
    }
    if world.is_busy(&What::Volume(id.to_owned())) {
        return Err(Problem::pending("Volume"));
    }
    world.volumes.remove(id);
    Ok(Reply::empty(204))
}

pub(crate) fn delete(world: &mut World, ask: &Ask) -> Answer {
    remove(world, ask.part(0))
}

fn named(world: &World, name: &str, region: &str) -> Result<String, Problem> {
    let found = world
        .volumes
        .values()
        .find(|one| one.name == name && one.region == region);
    Ok(found.ok_or_else(Problem::not_found)?.id.clone())
}

pub(crate) fn delete_by_name(world: &mut World, ask: &Ask) -> Answer {
    allowed(ask, "region", SLUGS)?;
    let (Some(name), Some(region)) = (ask.first("name"), ask.first("region")) else {
        return Err(Problem::bad_request("name and region are required"));
    };
    let id = named(world, name, region)?;
    remove(world, &id)
}

pub(crate) fn list_actions(world: &mut World, ask: &Ask) -> Answer {
    let id = find(world, ask)?.id.clone();
    actions::list_of(world, ask, &What::Volume(id))
}

pub(crate) fn get_action(world: &mut World, ask: &Ask) -> Answer {
    let id = find(world, ask)?.id.clone();
    actions::get_of(world, ask, &What::Volume(id))
}

/// Attach, detach or resize, of the volume in the path or the one named in the body.
pub(crate) fn act(world: &mut World, ask: &Ask) -> Answer {
    let by_name = ask.open.is_empty();
    if !by_name {
        find(world, ask)?;
    }
    let mut form = form(ask)?;
    let kinds: &[&'static str] = if by_name {
        &["attach", "detach"]
    } else {
        &["attach", "detach", "resize"]
    };
    let kind = form.need_one_of("type", kinds);
    let name = form.text("volume_name");
    let region = form.one_of("region", SLUGS);
    let droplet = form.id("droplet_id");
    let size = form.between("size_gigabytes", 1, 16_384).map(i64::unsigned_abs);
    read_tags(&mut form);
    form.rule(kind == "resize" || droplet.is_some(), "droplet_id", "is required");
    form.rule(kind != "resize" || size.is_some(), "size_gigabytes", "is required");
    form.finish()?;
    let id = if by_name {
        named(world, name.as_deref().unwrap_or_default(), region.unwrap_or_default())?
    } else {
        find(world, ask)?.id.clone()
    };
    let volume = world.volumes.get(&id).ok_or_else(Problem::not_found)?;
    let what = What::Volume(id.clone());
    if world.is_busy(&what) {
        return Err(Problem::pending("Volume"));
    }
    let there = droplet.and_then(|id| world.droplets.get(&id));
    let (after_droplet, after_size) = match kind {
        "attach" => {
            let there = there.ok_or_else(Problem::not_found)?;
            if volume.droplet.is_some() {
                return Err(Problem::unprocessable("volume is already attached to a Droplet"));
            }
            if there.region != volume.region {
                return Err(Problem::unprocessable("the Droplet is in another region"));
            }
            if world.is_busy(&What::Droplet(there.id)) {
                return Err(Problem::pending("Droplet"));
            }
            (Some(there.id), volume.size)
        }
        "detach" if volume.droplet != droplet => {
            return Err(Problem::unprocessable("volume is not attached to this Droplet"));
        }
        "detach" => (None, volume.size),
        _ => match size {
            Some(size) if size > volume.size => (volume.droplet, size),
            _ => {
                return Err(Problem::unprocessable(
                    "size_gigabytes must be greater than the current size",
                ));
            }
        },
    };
    let region = volume.region.clone();
    let label = format!("{kind}_volume");
    let action = world.start(&label, what, &region, move |world| {
        if let Some(volume) = world.volumes.get_mut(&id) {
            volume.droplet = after_droplet;
            volume.size = after_size;
        }
    });
    Ok(Reply::json(202, json!({"action": world.action(action)})))
}
