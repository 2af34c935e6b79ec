//! Volumes. They are made before the servers that they are for: a tag says which, and a new server takes them along.

use ha_core::resource::{Kind, Live, Resource, ResourceId};
use serde_json::{Value, json};

use super::{
    api::{Droplet, Volume},
    cloud::Cloud,
    errors,
    labels::{self, Tags},
    observe::{blank, cannot_become, text, whole},
    tagging::Tagged,
};
use crate::ProviderError;

impl Cloud {
    pub(super) async fn ensure_volume(&self, want: &Resource) -> Result<Live, ProviderError> {
        let id = &want.id;
        let location = text(want, "region")?;
        let size = whole(want, "size_gb")?;
        let mut wanted = labels::identity(&self.options.workspace, want);
        wanted.extend(labels::from_labels(want)?);
        wanted.extend(attach_to(want).map(|name| labels::tag(labels::ATTACH_TO, name)));
        labels::check(&wanted, id)?;
        self.needed(want).await?;
        let servers = self.droplets().await.map_err(|error| errors::outcome(error, id))?;
        let now = match self.find_volume(id, location).await? {
            Some(now) => now,
            None => {
                let _no_sweep = self.making().await;
                let made = self.create::<Volume>(&request(want, &wanted)).await;
                made.map_err(|error| errors::outcome(error, id))?
            }
        };
        if now.region.slug != location {
            return Err(cannot_become(want, "location", &now.region.slug, location));
        }
        let path = format!("/v2/volumes/{}", now.id);
        if now.size_gigabytes > size {
            return Err(ProviderError::Refused {
                what: format!(
                    "{id} has {} GB and cannot become {size} GB: volumes only grow",
                    now.size_gigabytes
                ),
                help: "write what it has, or make another and move the data".into(),
            });
        }
        if now.size_gigabytes < size {
            let body = json!({ "type": "resize", "size_gigabytes": size, "region": location });
            self.act(id, &path, &body).await?;
        }
        self.attach(want, &now, &servers).await?;
        let replaced = |tag: &str| {
            let keys = labels::IDENTITY.iter().chain(&[labels::ATTACH_TO]);
            labels::is_users(&now.tags, tag) || keys.into_iter().any(|key| tag.starts_with(&labels::tag(key, "")))
        };
        self.bring(Tagged::Volume(now.id.clone()), &now.tags, &wanted, replaced, id)
            .await?;
        // Its server may have been made meanwhile, before or after this one could be seen there.
        let servers = self.droplets().await.map_err(|error| errors::outcome(error, id))?;
        let found = self.seen_volume(id, &now.id).await?;
        let found = match self.attach(want, &found, &servers).await? {
            true => self.seen_volume(id, &now.id).await?,
            false => found,
        };
        self.volume(&found, &servers).ok_or_else(|| vanished(id))
    }

    async fn seen_volume(&self, id: &ResourceId, number: &str) -> Result<Volume, ProviderError> {
        let found = self.one::<Volume>(number).await;
        found
            .map_err(|error| errors::outcome(error, id))?
            .ok_or_else(|| vanished(id))
    }

    /// Afterwards it hangs at the server that is wanted, as far as that is there, and at no other; whether it moved.
    async fn attach(&self, want: &Resource, now: &Volume, servers: &[Droplet]) -> Result<bool, ProviderError> {
        let id = &want.id;
        let path = format!("/v2/volumes/{}", now.id);
        let location = &now.region.slug;
        let host = attach_to(want)
            .and_then(|name| self.named(servers, id, name))
            .map(|it| it.id);
        let mut moved = false;
        for other in now.droplet_ids.iter().filter(|it| Some(**it) != host) {
            self.act(id, &path, &attachment("detach", *other, location)).await?;
            moved = true;
        }
        if let Some(host) = host.filter(|host| !now.droplet_ids.contains(host)) {
            self.act(id, &path, &attachment("attach", host, location)).await?;
            moved = true;
        }
        Ok(moved)
    }

    /// # Errors
    ///
    /// [`ProviderError::Taken`] when its name belongs to one that is not ours: names are unique in a location.
    async fn find_volume(&self, id: &ResourceId, location: &str) -> Result<Option<Volume>, ProviderError> {
        let all = self
            .list::<Volume>(&[])
            .await
            .map_err(|error| errors::outcome(error, id))?;
        let (mut ours, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|it| self.is_volume(it, id));
        let taken = |it: &&Volume| it.name == id.name && it.region.slug == location;
        if let Some(other) = others.iter().find(taken) {
            return Err(ProviderError::Taken {
                what: format!("the name {}", id.name),
                by: format!(
                    "the volume {} at DigitalOcean, which does not carry the tags of {id}",
                    other.id
                ),
            });
        }
        Ok(ours.pop())
    }

    pub(super) async fn remove_volume(&self, id: &ResourceId) -> Result<(), ProviderError> {
        let all = self
            .list::<Volume>(&[])
            .await
            .map_err(|error| errors::outcome(error, id))?;
        for now in all.iter().filter(|it| self.is_volume(it, id)) {
            let path = format!("/v2/volumes/{}", now.id);
            for host in &now.droplet_ids {
                self.act(id, &path, &attachment("detach", *host, &now.region.slug))
                    .await?;
            }
            self.delete_to_the_end(id, &path).await?;
        }
        self.sweep(id).await
    }

    fn is_volume(&self, now: &Volume, id: &ResourceId) -> bool {
        self.owns(Kind::Volume, &now.tags).is_some_and(|owned| owned.id == *id)
    }

    /// The server of this name in the region of `id`.
    fn named<'a>(&self, servers: &'a [Droplet], id: &ResourceId, name: &str) -> Option<&'a Droplet> {
        let at = ResourceId::new(&id.region, Kind::Server, name);
        servers
            .iter()
            .find(|it| self.owns(Kind::Server, &it.tags).is_some_and(|owned| owned.id == at))
    }

    /// `servers` are those of this workspace.
    pub(super) fn volume(&self, now: &Volume, servers: &[Droplet]) -> Option<Live> {
        let owned = self.owns(Kind::Volume, &now.tags)?;
        let host = now.droplet_ids.first().map(|number| {
            let host = servers.iter().find(|it| it.id == *number);
            host.map_or_else(|| format!("droplet {number}"), |it| it.name.clone())
        });
        // Its server is not made yet, and will take it along.
        let meant = labels::value(&now.tags, labels::ATTACH_TO);
        let meant = meant.filter(|name| self.named(servers, &owned.id, name).is_none());
        let attach_to = host.or_else(|| meant.map(str::to_owned));
        Some(Live {
            size: Some(format!("{} GB", now.size_gigabytes)),
            created_at: now.created_at,
            ..blank(&owned, spec(now, attach_to, owned.protect))
        })
    }
}

fn vanished(id: &ResourceId) -> ProviderError {
    ProviderError::NotReady {
        id: id.clone(),
        detail: "it was removed while it was made, or its tags were".into(),
    }
}

fn attach_to(want: &Resource) -> Option<&str> {
    want.spec.get("attach_to").and_then(Value::as_str)
}

fn attachment(action: &str, droplet: u64, location: &str) -> Value {
    json!({ "type": action, "droplet_id": droplet, "region": location })
}

fn request(want: &Resource, tags: &Tags) -> Value {
    json!({
        "name": want.id.name,
        "region": want.spec["region"],
        "size_gigabytes": want.spec["size_gb"],
        "tags": tags,
    })
}

fn spec(now: &Volume, attach_to: Option<String>, protect: bool) -> Value {
    let mut spec = json!({
        "kind": "digitalocean.Volume",
        "name": now.name,
        "region": now.region.slug,
        "size_gb": now.size_gigabytes,
        "labels": labels::to_labels(&now.tags),
        "protect": protect,
    });
    if let Some(name) = attach_to {
        spec["attach_to"] = name.into();
    }
    spec
}

#[cfg(test)]
mod tests {
    use ha_core::names::{ProviderName, RegionName, WorkspaceName};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_asked_for_is_what_is_read(
            size in 1u64..16384,
            user in prop::collection::btree_map("[a-z][a-z0-9_-]{0,8}", "[a-zA-Z0-9_:-]{1,9}", 0..4),
            attached in prop::option::of("[a-z][a-z0-9]{0,8}-[1-9]"),
            protect: bool,
        ) {
            let mut want = Resource {
                id: ResourceId::new(&RegionName::new("us-east"), Kind::Volume, "us-data"),
                provider: ProviderName::Digitalocean,
                spec: json!({ "kind": "digitalocean.Volume", "name": "us-data", "region": "nyc3", "size_gb": size,
                    "labels": user, "protect": protect }),
                depends_on: Vec::new(),
                protect,
                path: "region_us_east.data".into(),
            };
            if let Some(name) = &attached {
                want.spec["attach_to"] = name.as_str().into();
            }
            let mut tags = labels::identity(&WorkspaceName::new("shop"), &want);
            tags.extend(labels::from_labels(&want).expect("they fit"));
            tags.extend(attach_to(&want).map(|name| labels::tag(labels::ATTACH_TO, name)));
            let mut answer = request(&want, &tags);
            answer["id"] = "506f78a4-e098-11e5-ad9f-000f53306ae1".into();
            answer["region"] = json!({ "slug": answer["region"] });
            answer["droplet_ids"] = json!([]);
            answer["created_at"] = "2016-03-02T17:00:49Z".into();
            let now: Volume = serde_json::from_value(answer).expect("a volume");
            let meant = labels::value(&now.tags, labels::ATTACH_TO).map(str::to_owned);
            prop_assert_eq!(spec(&now, meant, labels::is_set(&now.tags, labels::PROTECT)), want.spec);
        }
    }
}
