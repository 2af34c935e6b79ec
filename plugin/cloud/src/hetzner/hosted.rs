//! What runs on a server and is no resource of Hetzner's: the store's member, the database. The server's user data
//! brings it up; here it is known by labels of that server.

use ha_core::{
    names::ProviderName,
    resource::{Kind, Labels, Live, Resource, ResourceId, Status},
};
use serde_json::Value;

use super::{
    api::{LabelMap, Server},
    cloud::{Cloud, one},
    errors, labels,
    observe::{blank, text},
    server,
};
use crate::ProviderError;

/// The labels of one kind.
#[derive(Clone, Copy)]
pub(super) struct Keys {
    pub(super) kind: Kind,
    pub(super) name: &'static str,
    spec: &'static str,
    protect: &'static str,
}

pub(super) const STORE: Keys = Keys {
    kind: Kind::Store,
    name: "ha/store",
    spec: "ha/store-spec",
    protect: "ha/store-protect",
};

pub(super) const DATABASE: Keys = Keys {
    kind: Kind::Database,
    name: "ha/database",
    spec: "ha/database-spec",
    protect: "ha/database-protect",
};

impl Cloud {
    pub(super) async fn ensure_hosted(&self, keys: Keys, want: &Resource) -> Result<Live, ProviderError> {
        let until = self.until();
        let id = &want.id;
        if want.spec.get("server").is_none() {
            return Err(ProviderError::Refused {
                what: format!("{id}: Hetzner sells no managed databases"),
                help: "write ha.Postgres & { runs_on = … } in workspace.ncl: it runs on servers".into(),
            });
        }
        let on = text(want, "server")?;
        let needed = self.needed(want).await?;
        let is = |server: &&Server, key: &str, value: &str| server.labels.get(key).is_some_and(|it| it == value);
        let servers = match needed.servers.is_empty() {
            false => needed.servers,
            true => {
                let found = self
                    .selected(labels::of_region(&self.options.workspace, &id.region))
                    .await;
                found.map_err(|error| errors::outcome(error, id))?
            }
        };
        let host = servers
            .iter()
            .find(|it| is(it, labels::NAME, on))
            .ok_or_else(|| ProviderError::Missing {
                id: id.clone(),
                needs: format!("server {on} in {}", id.region),
            })?;
        if let Some(other) = host.labels.get(keys.name).filter(|it| **it != id.name) {
            return Err(ProviderError::Taken {
                what: format!("the place of a {} on server {on}", id.kind),
                by: format!("{} {other}", id.kind),
            });
        }
        if let Some(elsewhere) = servers
            .iter()
            .find(|it| is(it, keys.name, &id.name) && it.id != host.id)
        {
            return Err(ProviderError::Refused {
                what: format!(
                    "{id} is on server {} and cannot move to {on} with what it holds",
                    elsewhere.name
                ),
                help: "ha plan shows its replacement".into(),
            });
        }
        let mut tags = LabelMap::new();
        tags.insert(keys.name.into(), id.name.clone());
        tags.insert(keys.spec.into(), want.spec_hash());
        if want.protect {
            tags.insert(keys.protect.into(), "true".into());
        }
        labels::check(&tags, id)?;
        let protects = host.labels.contains_key(keys.protect);
        if protects == want.protect && tags.iter().all(|(key, value)| is(&host, key, value)) {
            return told(host, keys, id);
        }
        let change = |labels: &mut LabelMap| {
            labels.remove(keys.protect);
            labels.extend(tags);
        };
        let host = self.rewrite(host.id, id, until, change).await?;
        told(&host, keys, id)
    }

    pub(super) async fn remove_hosted(&self, keys: Keys, id: &ResourceId) -> Result<(), ProviderError> {
        let selector = labels::of_one(&self.options.workspace, &id.region, keys.name, &id.name);
        let found = self.selected::<Server>(selector).await;
        let Some(host) = one(found.map_err(|error| errors::outcome(error, id))?, id)? else {
            return Ok(());
        };
        let change = |labels: &mut LabelMap| {
            for key in [keys.name, keys.spec, keys.protect] {
                labels.remove(key);
            }
        };
        self.rewrite(host.id, id, self.until(), change).await?;
        Ok(())
    }
}

fn told(host: &Server, keys: Keys, id: &ResourceId) -> Result<Live, ProviderError> {
    hosted(host, keys)?.ok_or_else(|| ProviderError::NotReady {
        id: id.clone(),
        detail: format!("its labels on server {} were taken away again", host.name),
    })
}

/// What of this kind is on a server, if anything.
pub(super) fn hosted(host: &Server, keys: Keys) -> Result<Option<Live>, ProviderError> {
    let Some(name) = host.labels.get(keys.name).filter(|it| !it.is_empty()) else {
        return Ok(None);
    };
    let (server_id, server_tags) = labels::identity(host, Kind::Server)?;
    let id = ResourceId::new(&server_id.region, keys.kind, name.clone());
    let tags = Labels {
        name: name.clone(),
        spec: host.labels.get(keys.spec).cloned().unwrap_or_default(),
        ..server_tags
    };
    let (status, detail) = server::status(host);
    Ok(Some(Live {
        spec: Value::Null,
        detail: match status {
            Status::Running => None,
            _ => Some(format!(
                "its server {} is {}",
                server_id.name,
                detail.as_deref().unwrap_or(status.as_str())
            )),
        },
        status,
        address: server::address(host),
        private_address: host.private_net.first().map(|it| it.ip.clone()),
        created_at: Some(host.created),
        depends_on: vec![server_id],
        protect: host.labels.get(keys.protect).is_some_and(|it| it == "true"),
        ..blank(id, ProviderName::Hetzner, tags, &host.labels)
    }))
}
