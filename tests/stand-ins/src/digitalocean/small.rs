//! Kinds with little to them: the account, SSH keys, certificates.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::actions::stamp;
use super::reply::{Answer, Page, Problem, form};
use super::world::World;
use crate::keys::fingerprint;
use crate::wire::{Ask, Reply};

pub(crate) fn account(world: &mut World, _: &Ask) -> Answer {
    let limit = world.knobs.quotas.get("droplets").copied().unwrap_or(25);
    Ok(Reply::json(
        200,
        json!({"account": {
            "droplet_limit": limit,
            "floating_ip_limit": 5,
            "email": "ops@example.com",
            "name": "Stand-In",
            "uuid": "b6fr89dbf6d9156cace5f3c78dc9851d957381ef",
            "email_verified": true,
            "status": "active",
            "status_message": "",
            "team": {"uuid": "5df3e3004a17e242b7c20ca6c9fc25b701a47ece", "name": "My Team"},
        }}),
    ))
}

#[derive(Clone, Debug)]
pub struct SshKey {
    pub id: u64,
    pub name: String,
    pub public_key: String,
    pub fingerprint: String,
}

fn render_key(key: &SshKey) -> Value {
    json!({"id": key.id, "fingerprint": key.fingerprint, "public_key": key.public_key, "name": key.name})
}

/// By number or fingerprint.
pub(crate) fn find_key<'a>(world: &'a World, text: &str) -> Option<&'a SshKey> {
    world
        .ssh_keys
        .values()
        .find(|key| key.fingerprint == text || text.parse() == Ok(key.id))
}

pub(crate) fn keys(world: &mut World, ask: &Ask) -> Answer {
    Page::of(ask, world.ssh_keys.values(), render_key)?.reply(world, ask, "ssh_keys")
}

pub(crate) fn key(world: &mut World, ask: &Ask) -> Answer {
    let key = find_key(world, ask.part(0)).ok_or_else(Problem::not_found)?;
    Ok(Reply::json(200, json!({"ssh_key": render_key(key)})))
}

pub(crate) fn create_key(world: &mut World, ask: &Ask) -> Answer {
    let mut form = form(ask)?;
    form.ignore(&["id", "fingerprint"]);
    let name = form.need_text("name");
    let public_key = form.need_text("public_key");
    let has = form.has("public_key");
    let fingerprint = fingerprint(&public_key);
    form.rule(
        fingerprint.is_some() || !has,
        "public_key",
        "is invalid, it should be an OpenSSH public key",
    );
    form.finish()?;
    let fingerprint = fingerprint.unwrap_or_default();
    if world.ssh_keys.values().any(|key| key.fingerprint == fingerprint) {
        return Err(Problem::unprocessable("SSH Key is already in use on your account"));
    }
    let key = SshKey {
        id: world.next_id(),
        name,
        public_key,
        fingerprint,
    };
    let body = json!({"ssh_key": render_key(&key)});
    world.ssh_keys.insert(key.id, key);
    Ok(Reply::json(201, body))
}

pub(crate) fn change_key(world: &mut World, ask: &Ask) -> Answer {
    let id = find_key(world, ask.part(0)).ok_or_else(Problem::not_found)?.id;
    let mut form = form(ask)?;
    let name = form.text("name");
    form.finish()?;
    if let (Some(key), Some(name)) = (world.ssh_keys.get_mut(&id), name) {
        key.name = name;
    }
    key(world, ask)
}

pub(crate) fn delete_key(world: &mut World, ask: &Ask) -> Answer {
    let id = find_key(world, ask.part(0)).ok_or_else(Problem::not_found)?.id;
    world.ssh_keys.remove(&id);
    Ok(Reply::empty(204))
}

/// Only planted by tests.
#[derive(Clone, Debug)]
pub struct Certificate {
    pub id: String,
    pub name: String,
    pub dns_names: Vec<String>,
    pub created: Timestamp,
}

fn render_certificate(certificate: &Certificate) -> Value {
    json!({
        "id": certificate.id,
        "name": certificate.name,
        "not_after": "2027-02-22T00:23:00Z",
        "sha1_fingerprint": "dfcc9f57d86bf58e321c2c6c31c7a971be244ac7",
        "created_at": stamp(certificate.created),
        "dns_names": certificate.dns_names,
        "state": "verified",
        "type": "lets_encrypt",
    })
}

pub(crate) fn certificates(world: &mut World, ask: &Ask) -> Answer {
    Page::of(ask, world.certificates.values(), render_certificate)?.reply(world, ask, "certificates")
}

pub(crate) fn certificate(world: &mut World, ask: &Ask) -> Answer {
    let found = world.certificates.get(ask.part(0)).ok_or_else(Problem::not_found)?;
    Ok(Reply::json(200, json!({"certificate": render_certificate(found)})))
}
