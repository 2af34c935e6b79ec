//! Kinds with little to them: SSH keys, placement groups, certificates.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::kinds::{Entity, Labels, common_fields, find, may_create, name_and_labels, show, stamp};
use super::reply::{Answer, Problem, allowed, form, passes};
use super::world::World;
use crate::keys::fingerprint;
use crate::wire::{Ask, Reply};

#[derive(Clone, Debug)]
pub struct SshKey {
    pub id: u64,
    pub name: String,
    pub labels: Labels,
    pub created: Timestamp,
    pub public_key: String,
    pub fingerprint: String,
}

impl Entity for SshKey {
    const MANY: &'static str = "ssh_keys";
    const ONE: &'static str = "ssh_key";
    const SORT: &'static [&'static str] = &["id", "name"];
    common_fields!(ssh_keys);

    fn passes(&self, _: &World, ask: &Ask) -> bool {
        passes(ask, "fingerprint", &self.fingerprint)
    }

    fn render(&self, _: &World) -> Value {
        json!({
            "id": self.id,
            "name": self.name,
            "fingerprint": self.fingerprint,
            "public_key": self.public_key,
            "labels": self.labels,
            "created": stamp(self.created),
        })
    }
}

pub(crate) fn create_ssh_key(world: &mut World, ask: &Ask) -> Answer {
    let mut form = form(ask)?;
    let (name, labels) = name_and_labels::<SshKey>(&mut form);
    let public_key = form.need_text("public_key");
    let fingerprint = fingerprint(&public_key);
    let has = form.has("public_key");
    form.rule(
        fingerprint.is_some() || !has,
        "public_key",
        "is not an OpenSSH public key",
    );
    form.finish()?;
    let fingerprint = fingerprint.unwrap_or_default();
    if world.ssh_keys.values().any(|one| one.fingerprint == fingerprint) {
        return Err(Problem::not_unique(
            "public_key",
            "SSH key with the same fingerprint already exists",
        ));
    }
    may_create::<SshKey>(world, &name)?;
    let id = world.next_id();
    let key = SshKey {
        id,
        name,
        labels,
        created: world.now(),
        public_key,
        fingerprint,
    };
    world.ssh_keys.insert(id, key);
    Ok(Reply::json(201, json!({"ssh_key": show::<SshKey>(world, id)})))
}

pub(crate) fn delete_ssh_key(world: &mut World, ask: &Ask) -> Answer {
    let id = find::<SshKey>(world, ask)?.id;
    world.ssh_keys.remove(&id);
    Ok(Reply::empty(204))
}

#[derive(Clone, Debug)]
pub struct PlacementGroup {
    pub id: u64,
    pub name: String,
    pub labels: Labels,
    pub created: Timestamp,
}

impl Entity for PlacementGroup {
    const MANY: &'static str = "placement_groups";
    const ONE: &'static str = "placement_group";
    common_fields!(placement_groups);

    fn check_query(ask: &Ask) -> Result<(), Problem> {
        allowed(ask, "type", &["spread"])
    }

    fn render(&self, world: &World) -> Value {
        let servers: Vec<u64> = world
            .servers
            .values()
            .filter(|one| one.placement_group == Some(self.id))
            .map(|one| one.id)
            .collect();
        json!({
            "id": self.id,
            "name": self.name,
            "labels": self.labels,
            "type": "spread",
            "created": stamp(self.created),
            "servers": servers,
        })
    }
}

pub(crate) fn create_placement_group(world: &mut World, ask: &Ask) -> Answer {
    let mut form = form(ask)?;
    let (name, labels) = name_and_labels::<PlacementGroup>(&mut form);
    form.need_one_of("type", &["spread"]);
    form.finish()?;
    may_create::<PlacementGroup>(world, &name)?;
    let id = world.next_id();
    let group = PlacementGroup {
        id,
        name,
        labels,
        created: world.now(),
    };
    world.placement_groups.insert(id, group);
    let body = json!({"placement_group": show::<PlacementGroup>(world, id), "action": null});
    Ok(Reply::json(201, body))
}

/// With servers in it, it is in use; the code is that of firewalls, none is documented.
pub(crate) fn delete_placement_group(world: &mut World, ask: &Ask) -> Answer {
    let id = find::<PlacementGroup>(world, ask)?.id;
    if world.servers.values().any(|one| one.placement_group == Some(id)) {
        return Err(Problem::unprocessable(
            "resource_in_use",
            "the placement group has servers",
        ));
    }
    world.placement_groups.remove(&id);
    Ok(Reply::empty(204))
}

/// Uploaded ones only, and only planted by tests.
#[derive(Clone, Debug)]
pub struct Certificate {
    pub id: u64,
    pub name: String,
    pub labels: Labels,
    pub created: Timestamp,
    pub domain_names: Vec<String>,
}

impl Entity for Certificate {
    const MANY: &'static str = "certificates";
    const ONE: &'static str = "certificate";
    common_fields!(certificates);

    fn check_query(ask: &Ask) -> Result<(), Problem> {
        allowed(ask, "type", &["uploaded", "managed"])
    }

    fn passes(&self, _: &World, ask: &Ask) -> bool {
        passes(ask, "type", "uploaded")
    }

    fn render(&self, world: &World) -> Value {
        let uses = |service: &super::balancers::Service| {
            let certificates = service.http.as_ref().and_then(|http| http["certificates"].as_array());
            certificates.is_some_and(|ids| ids.iter().any(|id| id.as_u64() == Some(self.id)))
        };
        let used_by: Vec<Value> = world
            .load_balancers
            .values()
            .filter(|one| one.services.iter().any(uses))
            .map(|one| json!({"id": one.id, "type": "load_balancer"}))
            .collect();
        json!({
            "id": self.id,
            "name": self.name,
            "labels": self.labels,
            "type": "uploaded",
            "certificate": "-----BEGIN CERTIFICATE-----\n…\n-----END CERTIFICATE-----\n",
            "created": stamp(self.created),
            "not_valid_before": "2026-01-01T00:00:00Z",
            "not_valid_after": "2027-01-01T00:00:00Z",
            "domain_names": self.domain_names,
            "fingerprint": "03:c7:55:9b:2a:d1:04:17:09:f6:d0:7f:18:34:63:d4:3e:5f",
            "status": null,
            "used_by": used_by,
        })
    }
}
