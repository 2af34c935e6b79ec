//! Volumes. One is made before the server that it belongs to, which takes it along when it is made.

use ha_core::{
    names::ProviderName,
    resource::{Kind, Live, Resource, ResourceId, Status},
};
use serde_json::{Map, Value, json};

use super::{
    actions::Until,
    api::{Server, Volume},
    cloud::Cloud,
    errors, labels,
    observe::{blank, is_as_wanted, text},
};
use crate::ProviderError;

const AVAILABLE: &str = "available";

/// More are not needed unless somebody changes it at the same time.
const LOOKS: u32 = 6;

impl Cloud {
    pub(super) async fn ensure_volume(&self, want: &Resource) -> Result<Live, ProviderError> {
        let until = self.until();
        let id = &want.id;
        let location = text(want, "location")?;
        let size = want.spec["size_gb"].as_u64().unwrap_or_default();
        let attach_to = want.spec.get("attach_to").and_then(Value::as_str);
        let mut labels = labels::of(&self.options.workspace, want);
        if let Some(server) = attach_to {
            labels.insert(labels::ATTACH_TO.into(), server.to_owned());
        }
        labels::check(&labels, id)?;
        let (found, _) = futures::try_join!(self.find::<Volume>(id), self.needed(want))?;
        let number = match found {
            Some(now) => now.id,
            None => {
                let body = json!({ "name": id.name, "size": size, "location": location, "labels": labels });
                self.create::<Volume>(body, id, until).await?.id
            }
        };
        // Its server may be made at this very moment, and take it along; then the next look sees that.
        let mut backoff = self.backoff();
        for _ in 0..LOOKS {
            let (now, servers) = futures::try_join!(self.available(number, id, until), self.servers_near(id))?;
            let live = volume(&now, &servers)?;
            if is_as_wanted(&now, &live, want, &labels) {
                return Ok(live);
            }
            if now.location.name != location || now.size > size {
                return Err(ProviderError::Refused {
                    what: format!(
                        "{id} has {} GB in {} and cannot become {size} GB in {location}: volumes only grow, and stay",
                        now.size, now.location.name
                    ),
                    help: "write what it has, or make another and move the data".into(),
                });
            }
            if now.size < size {
                let body = json!({ "size": size });
                self.run::<Volume>(number, "resize", body, id, until).await?;
            }
            let host = attach_to.and_then(|name| named(&servers, name)).map(|it| it.id);
            if now.server.is_some() && now.server != host {
                self.run::<Volume>(number, "detach", Value::Null, id, until).await?;
            }
            if let Some(host) = host.filter(|it| now.server != Some(*it)) {
                self.attach(number, host, id, until).await?;
            }
            let merged = labels::merged(&now.labels, &labels, &[labels::ATTACH_TO]);
            self.relabel(&now, &merged, id, until).await?;
            if !until.pause(backoff.pause()).await {
                break;
            }
        }
        Err(ProviderError::NotReady {
            id: id.clone(),
            detail: "it is changed by somebody else at the same time".into(),
        })
    }

    /// Afterwards the volume is attached to that server, whoever was quicker.
    pub(super) async fn attach(
        &self,
        volume: u64,
        server: u64,
        id: &ResourceId,
        until: Until,
    ) -> Result<(), ProviderError> {
        let body = json!({ "server": server, "automount": false });
        let Err(error) = self.run::<Volume>(volume, "attach", body, id, until).await else {
            return Ok(());
        };
        let now: Volume = self.at_rest(volume, id, until).await?;
        if now.server == Some(server) { Ok(()) } else { Err(error) }
    }

    /// The volume once it is made.
    async fn available(&self, number: u64, id: &ResourceId, until: Until) -> Result<Volume, ProviderError> {
        let mut backoff = self.backoff();
        loop {
            let now: Volume = self.at_rest(number, id, until).await?;
            if now.status == AVAILABLE {
                return Ok(now);
            }
            if !until.pause(backoff.pause()).await {
                return Err(ProviderError::NotReady {
                    id: id.clone(),
                    detail: format!("hetzner calls it {} after {:?}", now.status, until.after),
                });
            }
        }
    }

    async fn servers_near(&self, id: &ResourceId) -> Result<Vec<Server>, ProviderError> {
        let selector = labels::of_region(&self.options.workspace, &id.region);
        let found = self.selected(selector).await;
        found.map_err(|error| errors::outcome(error, id))
    }

    pub(super) async fn remove_volume(&self, id: &ResourceId) -> Result<(), ProviderError> {
        let until = self.until();
        let Some(found) = self.labelled::<Volume>(id).await? else {
            return Ok(());
        };
        let now: Volume = self.at_rest(found.id, id, until).await?;
        if now.server.is_some() {
            self.run::<Volume>(now.id, "detach", Value::Null, id, until).await?;
        }
        self.delete::<Volume>(now.id, id, until).await
    }
}

fn named<'a>(servers: &'a [Server], name: &str) -> Option<&'a Server> {
    servers
        .iter()
        .find(|it| it.labels.get(labels::NAME).is_some_and(|it| it == name))
}

/// `servers` are those of this workspace.
pub(super) fn volume(now: &Volume, servers: &[Server]) -> Result<Live, ProviderError> {
    let (id, tags) = labels::identity(now, Kind::Volume)?;
    let protect = labels::protects(&now.labels);
    let host = now.server.map(|number| {
        let host = servers.iter().find(|it| it.id == number);
        host.map_or_else(|| format!("server {number}"), |it| it.name.clone())
    });
    let meant = now.labels.get(labels::ATTACH_TO);
    let attach_to = match (&host, meant) {
        (Some(host), _) => Some(host),
        // Its server is not made yet, and will take it along.
        (None, Some(meant)) if named(servers, meant).is_none() => Some(meant),
        (None, _) => None,
    };
    let mut spec = Map::new();
    spec.insert("kind".into(), "hetzner.Volume".into());
    spec.insert("name".into(), id.name.clone().into());
    spec.insert("location".into(), now.location.name.clone().into());
    spec.insert("size_gb".into(), now.size.into());
    if let Some(name) = attach_to {
        spec.insert("attach_to".into(), name.clone().into());
    }
    spec.insert("labels".into(), json!(labels::users(&now.labels)));
    spec.insert("protect".into(), protect.into());
    let ready = now.status == AVAILABLE;
    Ok(Live {
        spec: spec.into(),
        status: if ready { Status::Running } else { Status::Pending },
        detail: (!ready).then(|| now.status.clone()),
        size: Some(format!("{} GB", now.size)),
        created_at: Some(now.created),
        ..blank(id, ProviderName::Hetzner, tags, &now.labels)
    })
}
