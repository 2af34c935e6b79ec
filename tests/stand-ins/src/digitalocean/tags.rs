//! Tags: one flat namespace over all kinds that can carry them.

use serde_json::{Value, json};

use super::reply::{Answer, Page, Problem, form};
use super::world::World;
use crate::form::Form;
use crate::wire::{Ask, Reply};

/// Letters, digits, colons, dashes and underscores; 255 at most.
pub(crate) fn is_tag(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-:".contains(&byte);
    (1..=255).contains(&text.len()) && text.bytes().all(fits)
}

/// The `tags` of a body.
pub(crate) fn read_tags(form: &mut Form) -> Option<Vec<String>> {
    form.nullable("tags");
    let tags = form.texts("tags")?;
    form.rule(
        tags.iter().all(|tag| is_tag(tag)),
        "tags",
        "have characters that are not allowed",
    );
    Some(tags)
}

/// Tags come into being with what carries them.
pub(crate) fn known_tags(world: &mut World, tags: &[String]) {
    world.tags.extend(tags.iter().cloned());
}

/// For kinds that name tags without carrying them: they have to be there.
pub(crate) fn must_exist(world: &World, tags: &[String]) -> Result<(), Problem> {
    match tags.iter().find(|tag| !world.tags.contains(*tag)) {
        Some(tag) => Err(Problem::unprocessable(format!("tag {tag} does not exist"))),
        None => Ok(()),
    }
}

fn render(name: &str, world: &World) -> Value {
    let has = |tags: &Vec<String>| tags.iter().any(|tag| tag == name);
    let droplets: Vec<u64> = world
        .droplets
        .values()
        .filter(|one| has(&one.tags))
        .map(|one| one.id)
        .collect();
    let volumes: Vec<&str> = world
        .volumes
        .values()
        .filter(|one| has(&one.tags))
        .map(|one| one.id.as_str())
        .collect();
    let databases: Vec<&str> = world
        .databases
        .values()
        .filter(|one| has(&one.tags))
        .map(|one| one.id.as_str())
        .collect();
    let of = |count: usize, last: Option<String>| match last {
        Some(last) => json!({"count": count, "last_tagged_uri": format!("https://api.digitalocean.com/v2/{last}")}),
        None => json!({"count": count}),
    };
    let last_droplet = droplets.last().map(|id| format!("droplets/{id}"));
    let last_volume = volumes.last().map(|id| format!("volumes/{id}"));
    let last_database = databases.last().map(|id| format!("databases/{id}"));
    let last = last_droplet
        .clone()
        .or_else(|| last_volume.clone())
        .or_else(|| last_database.clone());
    let mut resources = of(droplets.len() + volumes.len() + databases.len(), last);
    resources["droplets"] = of(droplets.len(), last_droplet);
    resources["volumes"] = of(volumes.len(), last_volume);
    resources["databases"] = of(databases.len(), last_database);
    resources["images"] = of(0, None);
    resources["volume_snapshots"] = of(0, None);
    json!({"name": name, "resources": resources})
}

pub(crate) fn list(world: &mut World, ask: &Ask) -> Answer {
    Page::of(ask, &world.tags, |tag| render(tag, world))?.reply(world, ask, "tags")
}

pub(crate) fn get(world: &mut World, ask: &Ask) -> Answer {
    let tag = world.tags.get(ask.part(0)).ok_or_else(Problem::not_found)?;
    Ok(Reply::json(200, json!({"tag": render(tag, world)})))
}

pub(crate) fn create(world: &mut World, ask: &Ask) -> Answer {
    let mut form = form(ask).map_err(Problem::of_tags)?;
    let name = form.need_text("name");
    let has = form.has("name");
    form.rule(
        !has || is_tag(&name),
        "name",
        "may have letters, digits, colons, dashes and underscores only",
    );
    form.group("resources", |resources| {
        resources.ignore(&[
            "count",
            "last_tagged_uri",
            "droplets",
            "imgages",
            "volumes",
            "volume_snapshots",
            "databases",
        ]);
    });
    form.finish()?;
    world.tags.insert(name.clone());
    Ok(Reply::json(201, json!({"tag": render(&name, world)})))
}

/// What carries it is untagged.
pub(crate) fn delete(world: &mut World, ask: &Ask) -> Answer {
    let name = ask.part(0);
    if !world.tags.remove(name) {
        return Err(Problem::not_found());
    }
    for tags in world.all_tags() {
        tags.retain(|tag| tag != name);
    }
    Ok(Reply::empty(204))
}

impl World {
    fn all_tags(&mut self) -> impl Iterator<Item = &mut Vec<String>> {
        let droplets = self.droplets.values_mut().map(|one| &mut one.tags);
        let volumes = self.volumes.values_mut().map(|one| &mut one.tags);
        let databases = self.databases.values_mut().map(|one| &mut one.tags);
        let firewalls = self.firewalls.values_mut().map(|one| &mut one.tags);
        droplets.chain(volumes).chain(databases).chain(firewalls)
    }

    fn tags_of(&mut self, kind: &str, id: &str) -> Option<&mut Vec<String>> {
        match kind {
            "droplet" => Some(&mut self.droplets.get_mut(&id.parse().ok()?)?.tags),
            "volume" => Some(&mut self.volumes.get_mut(id)?.tags),
            "database" => Some(&mut self.databases.get_mut(id)?.tags),
            _ => None,
        }
    }
}

/// The resources of a body, as (type, id).
fn resources(ask: &Ask) -> Result<Vec<(&'static str, String)>, Problem> {
    let mut form = form(ask)?;
    let kinds = &["droplet", "image", "volume", "volume_snapshot", "database"];
    let found = form.need_each("resources", |one| {
        (one.need_one_of("resource_type", kinds), one.need_text("resource_id"))
    });
    form.finish()?;
    Ok(found)
}

pub(crate) fn tag(world: &mut World, ask: &Ask) -> Answer {
    let name = ask.part(0).to_owned();
    let resources = resources(ask)?;
    if !world.tags.contains(&name) {
        return Err(Problem::not_found());
    }
    for (kind, id) in &resources {
        world.tags_of(kind, id).ok_or_else(Problem::not_found)?;
    }
    for (kind, id) in &resources {
        if let Some(tags) = world.tags_of(kind, id).filter(|tags| !tags.contains(&name)) {
            tags.push(name.clone());
        }
    }
    Ok(Reply::empty(204))
}

pub(crate) fn untag(world: &mut World, ask: &Ask) -> Answer {
    let name = ask.part(0).to_owned();
    let resources = resources(ask)?;
    if !world.tags.contains(&name) {
        return Err(Problem::not_found());
    }
    for (kind, id) in &resources {
        let tags = world.tags_of(kind, id).ok_or_else(Problem::not_found)?;
        tags.retain(|tag| *tag != name);
    }
    Ok(Reply::empty(204))
}
