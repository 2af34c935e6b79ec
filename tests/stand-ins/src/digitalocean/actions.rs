//! Actions: what was started and how it ended.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::catalog::region_of;
use super::reply::{Answer, Page, Problem};
use super::world::World;
use crate::wire::{Ask, Reply};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActionStatus {
    InProgress,
    Completed,
    Errored,
}

/// What an action works on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Droplet(u64),
    Volume(String),
    ReservedIp(std::net::Ipv4Addr),
}

#[derive(Clone, Debug)]
pub struct Action {
    pub id: u64,
    pub kind: String,
    pub status: ActionStatus,
    pub what: What,
    pub region: String,
    pub started: Timestamp,
    pub completed: Option<Timestamp>,
}

impl Action {
    pub(crate) fn render(&self, world: &World) -> Value {
        let (resource_type, resource_id) = match &self.what {
            What::Droplet(id) => ("droplet", Some(*id)),
            // Neither has a number; the provider leaves it empty for volumes and counts addresses otherwise.
            What::Volume(_) => ("volume", None),
            What::ReservedIp(ip) => ("reserved_ip", Some(u64::from(u32::from(*ip)))),
        };
        let status = match self.status {
            ActionStatus::InProgress => "in-progress",
            ActionStatus::Completed => "completed",
            ActionStatus::Errored => "errored",
        };
        json!({
            "id": self.id,
            "status": status,
            "type": self.kind,
            "started_at": stamp(self.started),
            "completed_at": self.completed.map(stamp),
            "resource_id": resource_id,
            "resource_type": resource_type,
            "region": region_of(&self.region, world),
            "region_slug": self.region,
        })
    }
}

pub(crate) fn stamp(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

impl World {
    /// Starts an action that does this when it completes; its number.
    pub(crate) fn start(
        &mut self,
        kind: &str,
        what: What,
        region: &str,
        effect: impl FnOnce(&mut World) + Send + 'static,
    ) -> u64 {
        let id = self.next_id();
        let failing = self.knobs.fail_next.iter().position(|next| next == kind);
        if let Some(at) = failing {
            self.knobs.fail_next.remove(at);
        }
        let action = Action {
            id,
            kind: kind.to_owned(),
            status: ActionStatus::InProgress,
            what,
            region: region.to_owned(),
            started: self.now(),
            completed: None,
        };
        self.actions.insert(id, action);
        self.running.insert(id);
        self.when_ready(move |world| {
            world.running.remove(&id);
            let now = world.now();
            let status = if failing.is_some() {
                ActionStatus::Errored
            } else {
                ActionStatus::Completed
            };
            if let Some(action) = world.actions.get_mut(&id) {
                action.status = status;
                action.completed = Some(now);
            }
            if status == ActionStatus::Completed {
                effect(world);
            }
        });
        id
    }

    pub(crate) fn is_busy(&self, what: &What) -> bool {
        self.running
            .iter()
            .filter_map(|id| self.actions.get(id))
            .any(|action| action.what == *what)
    }

    pub(crate) fn action(&self, id: u64) -> Value {
        self.actions.get(&id).map_or(Value::Null, |action| action.render(self))
    }
}

pub(crate) fn list(world: &mut World, ask: &Ask) -> Answer {
    let found = world.actions.values().rev();
    Page::of(ask, found, |one| one.render(world))?.reply(world, ask, "actions")
}

fn shown(world: &World, action: Option<&Action>) -> Answer {
    let action = action
        .filter(|_| !world.knobs.actions_vanish)
        .ok_or_else(Problem::not_found)?;
    Ok(Reply::json(200, json!({"action": action.render(world)})))
}

pub(crate) fn get(world: &mut World, ask: &Ask) -> Answer {
    shown(world, ask.id(0).and_then(|id| world.actions.get(&id)))
}

/// The actions of one resource, newest first.
pub(crate) fn list_of(world: &mut World, ask: &Ask, what: &What) -> Answer {
    let found = world.actions.values().rev().filter(|action| action.what == *what);
    Page::of(ask, found, |one| one.render(world))?.reply(world, ask, "actions")
}

pub(crate) fn get_of(world: &mut World, ask: &Ask, what: &What) -> Answer {
    let found = ask
        .id(1)
        .and_then(|id| world.actions.get(&id))
        .filter(|action| action.what == *what);
    shown(world, found)
}
