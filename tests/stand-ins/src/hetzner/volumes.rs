//! Volumes.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::actions::{Protect, started};
use super::catalog::{find_location, render_location};
use super::kinds::{Entity, Labels, by_id, common_fields, find, may_create, name_and_labels, show, stamp};
use super::reply::{Answer, Problem, allowed, form, no_fields, passes};
use super::servers::Server;
use super::world::World;
use crate::form::Form;
use crate::wire::{Ask, Reply};

#[derive(Clone, Debug)]
pub struct Volume {
    pub id: u64,
    pub name: String,
    pub labels: Labels,
    pub created: Timestamp,
    pub location: String,
    /// In GB.
    pub size: u64,
    pub format: Option<&'static str>,
    pub server: Option<u64>,
    /// `creating` or `available`.
    pub status: &'static str,
    pub protected: bool,
}

impl Volume {
    /// Whether it can be attached to a server there.
    pub(crate) fn may_attach(&self, location: &str) -> Result<(), Problem> {
        if self.server.is_some() {
            return Err(Problem::unprocessable(
                "volume_already_attached",
                "the volume is already attached",
            ));
        }
        if self.location != location {
            return Err(Problem::field("server", "must be in the same location as the volume"));
        }
        Ok(())
    }
}

impl Entity for Volume {
    const MANY: &'static str = "volumes";
    const ONE: &'static str = "volume";
    common_fields!(volumes);

    fn check_query(ask: &Ask) -> Result<(), Problem> {
        allowed(ask, "status", &["available", "creating"])
    }

    fn passes(&self, _: &World, ask: &Ask) -> bool {
        passes(ask, "status", self.status)
    }

    fn check_name(form: &mut Form, name: &str) {
        let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = name.as_bytes();
        let inner = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
        let fits = bytes.len() <= 64 && edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(inner);
        form.rule(fits, "name", "is not a valid name for a volume");
    }

    fn render(&self, _: &World) -> Value {
        json!({
            "id": self.id,
            "created": stamp(self.created),
            "name": self.name,
            "server": self.server,
            "location": find_location(&self.location).map(render_location),
            "size": self.size,
            "linux_device": format!("/dev/disk/by-id/scsi-0HC_Volume_{}", self.id),
            "protection": {"delete": self.protected},
            "labels": self.labels,
            "status": self.status,
            "format": self.format,
        })
    }
}

impl Protect for Volume {
    fn protection_mut(&mut self) -> &mut bool {
        &mut self.protected
    }
}

pub(crate) fn create(world: &mut World, ask: &Ask) -> Answer {
    let mut form = form(ask)?;
    let (name, labels) = name_and_labels::<Volume>(&mut form);
    let size = form.need_between("size", 10, 10_240);
    let automount = form.flag("automount");
    let format = form.one_of("format", &["xfs", "ext4"]);
    let location = form.id_or_name("location");
    let server = form.id("server");
    form.rule(
        location.is_some() || server.is_some(),
        "location",
        "is required without a server",
    );
    form.rule(
        server.is_some() || automount != Some(true),
        "automount",
        "needs a server",
    );
    form.finish()?;
    let place = match (server, &location) {
        (Some(server), _) => by_id::<Server>(world, server)?.location.clone(),
        (None, Some(location)) => location.clone(),
        (None, None) => String::new(),
    };
    let place = find_location(&place).ok_or_else(|| Problem::field("location", "does not exist"))?;
    if location
        .as_deref()
        .and_then(find_location)
        .is_some_and(|wanted| wanted.name != place.name)
    {
        return Err(Problem::field("location", "is not the location of the server"));
    }
    may_create::<Volume>(world, &name)?;
    let id = world.next_id();
    let volume = Volume {
        id,
        name,
        labels,
        created: world.now(),
        location: place.name.to_owned(),
        size: size.unsigned_abs(),
        format,
        server: None,
        status: "creating",
        protected: false,
    };
    world.volumes.insert(id, volume);
    let action = world.start("create_volume", &[(Volume::ONE, id)], move |world| {
        if let Some(volume) = world.volumes.get_mut(&id) {
            volume.status = "available";
        }
    });
    let next: Vec<u64> = server
        .into_iter()
        .map(|server| {
            let of = [(Volume::ONE, id), (Server::ONE, server)];
            world.start_as_step(2, "attach_volume", &of, move |world| attach_to(world, id, server))
        })
        .collect();
    Ok(Reply::json(
        201,
        json!({
            "volume": show::<Volume>(world, id),
            "action": world.action(action),
            "next_actions": next.into_iter().map(|id| world.action(id)).collect::<Vec<_>>(),
        }),
    ))
}

fn attach_to(world: &mut World, id: u64, server: u64) {
    if let Some(volume) = world.volumes.get_mut(&id) {
        volume.server = Some(server);
    }
}

/// "The Volume must not be attached to a Server": with which code it is refused is not documented.
pub(crate) fn delete(world: &mut World, ask: &Ask) -> Answer {
    let volume = find::<Volume>(world, ask)?;
    let id = volume.id;
    if volume.protected {
        return Err(Problem::protected("volume"));
    }
    if volume.server.is_some() {
        return Err(Problem::unprocessable(
            "service_error",
            "the volume is still attached to a server",
        ));
    }
    world.not_busy::<Volume>(id)?;
    world.volumes.remove(&id);
    Ok(Reply::empty(204))
}

pub(crate) fn attach(world: &mut World, ask: &Ask) -> Answer {
    let id = find::<Volume>(world, ask)?.id;
    let mut form = form(ask)?;
    let server = form.need_id("server");
    form.flag("automount");
    form.finish()?;
    let location = by_id::<Server>(world, server)?.location.clone();
    by_id::<Volume>(world, id)?.may_attach(&location)?;
    world.not_busy::<Volume>(id)?;
    world.not_busy::<Server>(server)?;
    let of = [(Volume::ONE, id), (Server::ONE, server)];
    let action = world.start("attach_volume", &of, move |world| attach_to(world, id, server));
    started(world, action)
}

pub(crate) fn detach(world: &mut World, ask: &Ask) -> Answer {
    no_fields(ask)?;
    let volume = find::<Volume>(world, ask)?;
    let id = volume.id;
    let server = volume.server;
    let server = server.ok_or_else(|| Problem::unprocessable("service_error", "the volume is not attached"))?;
    world.not_busy::<Volume>(id)?;
    let of = [(Volume::ONE, id), (Server::ONE, server)];
    let action = world.start("detach_volume", &of, move |world| {
        if let Some(volume) = world.volumes.get_mut(&id) {
            volume.server = None;
        }
    });
    started(world, action)
}

pub(crate) fn resize(world: &mut World, ask: &Ask) -> Answer {
    let id = find::<Volume>(world, ask)?.id;
    let mut form = form(ask)?;
    let size = form.need_between("size", 10, 10_240).unsigned_abs();
    form.finish()?;
    if size <= by_id::<Volume>(world, id)?.size {
        return Err(Problem::field("size", "must be greater than the current size"));
    }
    world.not_busy::<Volume>(id)?;
    let action = world.start("resize_volume", &[(Volume::ONE, id)], move |world| {
        if let Some(volume) = world.volumes.get_mut(&id) {
            volume.size = size;
        }
    });
    started(world, action)
}
