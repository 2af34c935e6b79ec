//! Actions: what was started, how far it is, how it ended.
//! <https://docs.hetzner.cloud/reference/cloud#actions>

use std::cmp::Ordering;
use std::time::Instant;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::kinds::{Entity, find, stamp};
use super::reply::{Answer, Paging, Problem, allowed, form, passes, sorting};
use super::world::World;
use crate::wire::{Ask, Reply};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActionStatus {
    Running,
    Success,
    Error { code: String, message: String },
}

#[derive(Clone, Debug)]
pub struct Action {
    pub id: u64,
    pub command: String,
    pub status: ActionStatus,
    /// What it works on, as (type, number); the first is locked meanwhile.
    pub resources: Vec<(&'static str, u64)>,
    pub started: Timestamp,
    pub finished: Option<Timestamp>,
    began: Instant,
    due: Instant,
}

impl Action {
    fn status(&self) -> &'static str {
        match self.status {
            ActionStatus::Running => "running",
            ActionStatus::Success => "success",
            ActionStatus::Error { .. } => "error",
        }
    }

    fn progress(&self, now: Instant) -> u64 {
        match self.status {
            ActionStatus::Running => {
                let whole = (self.due - self.began).as_secs_f64().max(f64::MIN_POSITIVE);
                let done = now.saturating_duration_since(self.began).as_secs_f64();
                (done / whole * 100.0).clamp(0.0, 99.0) as u64
            }
            ActionStatus::Success | ActionStatus::Error { .. } => 100,
        }
    }

    fn render(&self, now: Instant) -> Value {
        let resources: Vec<Value> = self
            .resources
            .iter()
            .map(|(kind, id)| json!({"id": id, "type": kind}))
            .collect();
        let error = match &self.status {
            ActionStatus::Error { code, message } => json!({"code": code, "message": message}),
            ActionStatus::Running | ActionStatus::Success => Value::Null,
        };
        json!({
            "id": self.id,
            "command": self.command,
            "status": self.status(),
            "progress": self.progress(now),
            "started": stamp(self.started),
            "finished": self.finished.map(stamp),
            "resources": resources,
            "error": error,
        })
    }

    fn is_about(&self, kind: &str, id: u64) -> bool {
        self.resources.iter().any(|(of, which)| *of == kind && *which == id)
    }
}

impl World {
    /// Starts an action that does this when it ends; its number.
    pub(crate) fn start(
        &mut self,
        command: &str,
        resources: &[(&'static str, u64)],
        effect: impl FnOnce(&mut World) + Send + 'static,
    ) -> u64 {
        self.start_as_step(1, command, resources, effect)
    }

    /// As [`World::start`], as the nth of several that follow each other.
    pub(crate) fn start_as_step(
        &mut self,
        nth: u32,
        command: &str,
        resources: &[(&'static str, u64)],
        effect: impl FnOnce(&mut World) + Send + 'static,
    ) -> u64 {
        let id = self.next_id();
        let took = self.knobs.action_time * nth;
        let began = self.agenda.now();
        let failure = self.knobs.fail_next.iter().position(|next| next.command == command);
        let failure = failure.map(|at| self.knobs.fail_next.remove(at));
        let action = Action {
            id,
            command: command.to_owned(),
            status: ActionStatus::Running,
            resources: resources.to_vec(),
            started: self.now(),
            finished: None,
            began,
            due: began + took,
        };
        self.actions.insert(id, action);
        self.running.insert(id);
        self.agenda.later(took, move |world| {
            world.running.remove(&id);
            let status = match failure {
                Some(failure) => ActionStatus::Error {
                    code: failure.code,
                    message: failure.message,
                },
                None => {
                    effect(world);
                    ActionStatus::Success
                }
            };
            let now = world.now();
            if let Some(action) = world.actions.get_mut(&id) {
                action.status = status;
                action.finished = Some(now);
            }
        });
        id
    }

    pub(crate) fn action(&self, id: u64) -> Value {
        self.actions
            .get(&id)
            .map_or(Value::Null, |action| action.render(self.agenda.now()))
    }

    /// An action works on it now.
    pub(crate) fn is_busy(&self, kind: &str, id: u64) -> bool {
        self.running.iter().filter_map(|id| self.actions.get(id)).any(|action| {
            action
                .resources
                .first()
                .is_some_and(|(of, which)| *of == kind && *which == id)
        })
    }

    pub(crate) fn not_busy<E: Entity>(&self, id: u64) -> Result<(), Problem> {
        if self.is_busy(E::ONE, id) {
            Err(Problem::locked(E::ONE))
        } else {
            Ok(())
        }
    }

    /// As [`World::not_busy`], for the kinds that tell of a change under way as a conflict.
    pub(crate) fn no_conflict<E: Entity>(&self, id: u64) -> Result<(), Problem> {
        if self.is_busy(E::ONE, id) {
            Err(Problem::conflict())
        } else {
            Ok(())
        }
    }
}

/// 201 with the action.
pub(crate) fn started(world: &World, id: u64) -> Answer {
    Ok(Reply::json(201, json!({"action": world.action(id)})))
}

/// `GET /actions?id=…&id=…`; without an id it was removed on 30 January 2025.
pub(crate) fn by_ids(world: &mut World, ask: &Ask) -> Answer {
    let ids = ids(ask)?;
    if ids.is_empty() {
        return Err(Problem::field("id", "is required"));
    }
    let actions: Vec<Value> = if world.knobs.actions_vanish {
        Vec::new()
    } else {
        ids.iter().filter_map(|id| shown(world, *id)).collect()
    };
    Ok(Reply::json(200, json!({ "actions": actions })))
}

fn shown(world: &World, id: u64) -> Option<Value> {
    world.actions.get(&id).map(|action| action.render(world.agenda.now()))
}

fn ids(ask: &Ask) -> Result<Vec<u64>, Problem> {
    let wrong = |_| Problem::field("id", "must be a number");
    ask.all("id").map(|id| id.parse::<u64>().map_err(wrong)).collect()
}

fn one(world: &World, ask: &Ask, part: usize, about: impl Fn(&Action) -> bool) -> Answer {
    let found = ask
        .id(part)
        .and_then(|id| world.actions.get(&id))
        .filter(|action| about(action));
    match found {
        Some(action) if !world.knobs.actions_vanish => {
            Ok(Reply::json(200, json!({"action": action.render(world.agenda.now())})))
        }
        _ => Err(Problem::not_found("action", ask.part(part))),
    }
}

pub(crate) fn any(world: &mut World, ask: &Ask) -> Answer {
    one(world, ask, 0, |_| true)
}

/// `/servers/actions/{id}`
pub(crate) fn of_kind<E: Entity>(world: &mut World, ask: &Ask) -> Answer {
    one(world, ask, 0, |action| {
        action.resources.iter().any(|(kind, _)| *kind == E::ONE)
    })
}

/// `/servers/{id}/actions/{action_id}`
pub(crate) fn of_one<E: Entity>(world: &mut World, ask: &Ask) -> Answer {
    let id = find::<E>(world, ask)?.id();
    one(world, ask, 1, |action| action.is_about(E::ONE, id))
}

/// `/servers/actions`
pub(crate) fn list_of_kind<E: Entity>(world: &mut World, ask: &Ask) -> Answer {
    list(world, ask, |action| {
        action.resources.iter().any(|(kind, _)| *kind == E::ONE)
    })
}

/// `/servers/{id}/actions`
pub(crate) fn list_of_one<E: Entity>(world: &mut World, ask: &Ask) -> Answer {
    let id = find::<E>(world, ask)?.id();
    list(world, ask, |action| action.is_about(E::ONE, id))
}

fn list(world: &World, ask: &Ask, about: impl Fn(&Action) -> bool) -> Answer {
    let paging = Paging::of(ask)?;
    let sort = sorting(ask, &["id", "command", "status", "started", "finished"])?;
    allowed(ask, "status", &["running", "success", "error"])?;
    let ids = ids(ask)?;
    let mut found: Vec<&Action> = world
        .actions
        .values()
        .filter(|action| about(action) && passes(ask, "status", action.status()))
        .filter(|action| ids.is_empty() || ids.contains(&action.id))
        .collect();
    found.sort_by(|a, b| {
        sort.iter().fold(Ordering::Equal, |so_far, (field, descending)| {
            let by_this = match *field {
                "command" => a.command.cmp(&b.command),
                "status" => a.status().cmp(b.status()),
                "started" => a.started.cmp(&b.started),
                "finished" => a.finished.cmp(&b.finished),
                _ => a.id.cmp(&b.id),
            };
            so_far.then(if *descending { by_this.reverse() } else { by_this })
        })
    });
    let total = found.len();
    let now = world.agenda.now();
    let rows = paging.cut(found).into_iter().map(|action| action.render(now)).collect();
    Ok(paging.reply("actions", rows, total))
}

/// Kinds that can be protected against deletion.
pub(crate) trait Protect: Entity {
    fn protection_mut(&mut self) -> &mut bool;

    fn may_protect(&self, _: bool) -> Result<(), Problem> {
        Ok(())
    }
}

/// `POST …/actions/change_protection`
pub(crate) fn change_protection<E: Protect>(world: &mut World, ask: &Ask) -> Answer {
    let id = find::<E>(world, ask)?.id();
    let mut form = form(ask)?;
    let delete = form.flag("delete");
    form.finish()?;
    if let (Some(one), Some(delete)) = (E::table(world).get(&id), delete) {
        one.may_protect(delete)?;
    }
    world.not_busy::<E>(id)?;
    let action = world.start("change_protection", &[(E::ONE, id)], move |world| {
        if let (Some(one), Some(delete)) = (E::table_mut(world).get_mut(&id), delete) {
            *one.protection_mut() = delete;
        }
    });
    started(world, action)
}
