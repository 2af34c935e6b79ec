//! What runs on a server and is no resource of DigitalOcean's: the store's member, the database. The server's user
//! data brings it up; here it is known by one tag of that server, which says all there is to know.

use ha_core::resource::{Kind, Live, Resource, ResourceId, Status};
use serde_json::Value;

use super::{
    api::Droplet,
    cloud::Cloud,
    errors,
    labels::{self, Tags},
    observe::{blank, text},
    server,
    tagging::Tagged,
};
use crate::ProviderError;

pub(super) const STORE: Kind = Kind::Store;
pub(super) const DATABASE: Kind = Kind::Database;

impl Cloud {
    pub(super) async fn ensure_hosted(&self, kind: Kind, want: &Resource) -> Result<Live, ProviderError> {
        let id = &want.id;
        let on = text(want, "server")?;
        let needed = self.needed(want).await?;
        let badge = labels::badge(&self.options.workspace, want);
        labels::check(&Tags::from([badge.clone()]), id)?;
        let servers = match needed.servers.is_empty() {
            false => needed.servers,
            true => self.droplets().await.map_err(|error| errors::outcome(error, id))?,
        };
        let at = ResourceId::new(&id.region, Kind::Server, on);
        let is_host = |it: &&Droplet| self.owns(Kind::Server, &it.tags).is_some_and(|owned| owned.id == at);
        let host = servers.iter().find(is_host).ok_or_else(|| ProviderError::Missing {
            id: id.clone(),
            needs: at.to_string(),
        })?;
        if let Some(elsewhere) = servers.iter().find(|it| it.id != host.id && self.carries(it, id)) {
            return Err(ProviderError::Refused {
                what: format!(
                    "{id} is on server {} and cannot move to {on} with what it holds",
                    elsewhere.name
                ),
                help: "ha plan shows its replacement".into(),
            });
        }
        if !host.tags.contains(&badge) {
            self.put_on(&badge, &[Tagged::Droplet(host.id)], id).await?;
        }
        for old in self.badges_of(host, id).filter(|old| **old != badge) {
            self.forget(old, id).await?;
        }
        let found = self.one::<Droplet>(&host.id.to_string()).await;
        let host = found.map_err(|error| errors::outcome(error, id))?;
        let live = host
            .into_iter()
            .flat_map(|host| self.hosted(kind, &host))
            .find(|it| it.id == *id);
        live.ok_or_else(|| ProviderError::NotReady {
            id: id.clone(),
            detail: format!("its tag on server {on} was taken away again"),
        })
    }

    /// True when there was one to remove.
    pub(super) async fn remove_hosted(&self, id: &ResourceId) -> Result<bool, ProviderError> {
        let servers = self.droplets().await.map_err(|error| errors::outcome(error, id))?;
        let mut found = false;
        for host in &servers {
            for badge in self.badges_of(host, id) {
                self.forget(badge, id).await?;
                found = true;
            }
        }
        Ok(found)
    }

    fn carries(&self, host: &Droplet, id: &ResourceId) -> bool {
        self.badges_of(host, id).next().is_some()
    }

    fn badges_of<'a>(&'a self, host: &'a Droplet, id: &'a ResourceId) -> impl Iterator<Item = &'a String> {
        let of_it = |tag: &&String| {
            let owned = labels::read_badge(&self.options.workspace, id.kind, tag);
            owned.is_some_and(|owned| owned.id == *id)
        };
        host.tags.iter().filter(of_it)
    }

    /// What of this kind is on a server.
    pub(super) fn hosted(&self, kind: Kind, host: &Droplet) -> Vec<Live> {
        let Some(at) = self.owns(Kind::Server, &host.tags) else {
            return Vec::new();
        };
        let (status, why) = server::status(host);
        let detail = match status {
            Status::Running => None,
            _ => Some(format!(
                "its server {} is {}",
                at.id.name,
                why.as_deref().unwrap_or(status.as_str())
            )),
        };
        let carried = labels::read_badges(&self.options.workspace, kind, &host.tags);
        carried
            .map(|owned| Live {
                status,
                detail: detail.clone(),
                address: server::address(host, "public"),
                private_address: server::address(host, "private"),
                created_at: host.created_at,
                depends_on: vec![at.id.clone()],
                ..blank(&owned, Value::Null)
            })
            .collect()
    }
}
