//! What all kinds of resources have in common: a number, a name, labels; lists of them; changes of the two.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::labels::{self, Selector};
use super::reply::{Answer, Paging, Problem, form, sorting};
use super::world::World;
use crate::form::Form;
use crate::wire::{Ask, Reply};

pub type Labels = BTreeMap<String, String>;

pub(crate) fn stamp(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// What a request changes of one resource.
pub(crate) type Change<E> = Box<dyn FnOnce(&mut E)>;

pub(crate) trait Entity: Sized + 'static {
    /// In paths and as the key of lists.
    const MANY: &'static str;
    /// As the key of one, and as the type in actions.
    const ONE: &'static str;
    const SORT: &'static [&'static str] = &["id", "name", "created"];

    fn table(world: &World) -> &BTreeMap<u64, Self>;
    fn table_mut(world: &mut World) -> &mut BTreeMap<u64, Self>;
    fn id(&self) -> u64;
    fn name(&self) -> &str;
    fn name_mut(&mut self) -> &mut String;
    fn labels(&self) -> &Labels;
    fn labels_mut(&mut self) -> &mut Labels;
    fn created(&self) -> Timestamp;
    fn render(&self, world: &World) -> Value;

    /// Filters that only this kind has: whether they can be understood.
    fn check_query(_: &Ask) -> Result<(), Problem> {
        Ok(())
    }

    fn passes(&self, _: &World, _: &Ask) -> bool {
        true
    }

    fn check_name(form: &mut Form, name: &str) {
        form.rule(
            (1..=128).contains(&name.chars().count()),
            "name",
            "must have 1 to 128 characters",
        );
    }

    /// Fields of a change that only this kind has.
    fn change(_: &mut Form) -> Change<Self> {
        Box::new(|_| {})
    }

    fn may_change(_: &World, _: u64) -> Result<(), Problem> {
        Ok(())
    }
}

/// The resource that the first open part of the path names.
pub(crate) fn find<'a, E: Entity>(world: &'a World, ask: &Ask) -> Result<&'a E, Problem> {
    let found = ask.id(0).and_then(|id| E::table(world).get(&id));
    found.ok_or_else(|| Problem::not_found(E::ONE, ask.part(0)))
}

pub(crate) fn by_id<E: Entity>(world: &World, id: u64) -> Result<&E, Problem> {
    E::table(world)
        .get(&id)
        .ok_or_else(|| Problem::not_found(E::ONE, &id.to_string()))
}

/// By number, else by name.
pub(crate) fn by_id_or_name<'a, E: Entity>(world: &'a World, text: &str) -> Option<&'a E> {
    let by_id = text.parse().ok().and_then(|id| E::table(world).get(&id));
    by_id.or_else(|| E::table(world).values().find(|one| one.name() == text))
}

pub(crate) fn show<E: Entity>(world: &World, id: u64) -> Value {
    E::table(world).get(&id).map_or(Value::Null, |one| one.render(world))
}

pub(crate) fn get<E: Entity>(world: &mut World, ask: &Ask) -> Answer {
    let one = find::<E>(world, ask)?;
    Ok(Reply::json(200, json!({E::ONE: one.render(world)})))
}

pub(crate) fn list<E: Entity>(world: &mut World, ask: &Ask) -> Answer {
    let paging = Paging::of(ask)?;
    let sort = sorting(ask, E::SORT)?;
    let selector = match ask.first("label_selector") {
        None | Some("") => Selector::default(),
        Some(text) => Selector::parse(text)?,
    };
    E::check_query(ask)?;
    let name = ask.first("name");
    let mut found: Vec<&E> = E::table(world)
        .values()
        .filter(|one| name.is_none_or(|name| one.name() == name))
        .filter(|one| selector.holds(one.labels()) && one.passes(world, ask))
        .collect();
    found.sort_by(|a, b| order(*a, *b, &sort));
    let total = found.len();
    let rows = paging.cut(found).into_iter().map(|one| one.render(world)).collect();
    let reply = paging.reply(E::MANY, rows, total);
    if paging.has_more(total) {
        world.shift_pages(&ask.path);
    }
    Ok(reply)
}

fn order<E: Entity>(a: &E, b: &E, sort: &[(&str, bool)]) -> Ordering {
    sort.iter().fold(Ordering::Equal, |so_far, (field, descending)| {
        let by_this = match *field {
            "name" => a.name().cmp(b.name()),
            "created" => a.created().cmp(&b.created()),
            _ => a.id().cmp(&b.id()),
        };
        so_far.then(if *descending { by_this.reverse() } else { by_this })
    })
}

/// A change of name and labels. The labels given take the place of all that were there.
pub(crate) fn put<E: Entity>(world: &mut World, ask: &Ask) -> Answer {
    let id = find::<E>(world, ask)?.id();
    let mut form = form(ask)?;
    let name = form.text("name");
    if let Some(name) = &name {
        E::check_name(&mut form, name);
    }
    let labels = labels::read(&mut form);
    let change = E::change(&mut form);
    form.finish()?;
    E::may_change(world, id)?;
    if let Some(name) = &name {
        unique::<E>(world, name, Some(id))?;
    }
    if let Some(one) = E::table_mut(world).get_mut(&id) {
        if let Some(name) = name {
            *one.name_mut() = name;
        }
        if let Some(labels) = labels {
            *one.labels_mut() = labels;
        }
        change(one);
    }
    Ok(Reply::json(200, json!({E::ONE: show::<E>(world, id)})))
}

/// Names are unique per project and kind.
pub(crate) fn unique<E: Entity>(world: &World, name: &str, except: Option<u64>) -> Result<(), Problem> {
    let taken = E::table(world)
        .values()
        .any(|one| one.name() == name && Some(one.id()) != except);
    if taken {
        let message = format!("{} name is already used", E::ONE.replace('_', " "));
        return Err(Problem::not_unique("name", message));
    }
    Ok(())
}

/// The name and labels of something new; whether it may be made at all.
pub(crate) fn name_and_labels<E: Entity>(form: &mut Form) -> (String, Labels) {
    let name = form.need_text("name");
    if !name.is_empty() {
        E::check_name(form, &name);
    } else if form.has("name") {
        form.wrong("name", "must not be empty");
    }
    (name, labels::read(form).unwrap_or_default())
}

pub(crate) fn may_create<E: Entity>(world: &World, name: &str) -> Result<(), Problem> {
    unique::<E>(world, name, None)?;
    world.within_quota(E::MANY, E::table(world).len())
}

/// The fields that every kind keeps under the same names.
macro_rules! common_fields {
    ($table:ident) => {
        fn table(world: &$crate::hetzner::world::World) -> &std::collections::BTreeMap<u64, Self> {
            &world.$table
        }
        fn table_mut(world: &mut $crate::hetzner::world::World) -> &mut std::collections::BTreeMap<u64, Self> {
            &mut world.$table
        }
        fn id(&self) -> u64 {
            self.id
        }
        fn name(&self) -> &str {
            &self.name
        }
        fn name_mut(&mut self) -> &mut String {
            &mut self.name
        }
        fn labels(&self) -> &$crate::hetzner::kinds::Labels {
            &self.labels
        }
        fn labels_mut(&mut self) -> &mut $crate::hetzner::kinds::Labels {
            &mut self.labels
        }
        fn created(&self) -> jiff::Timestamp {
            self.created
        }
    };
}
pub(crate) use common_fields;
