//! Servers (Droplets): made with tags and user data in one call, changed in place where DigitalOcean can.

use ha_core::{
    desired::FIXED_ADDRESS,
    names::WorkspaceName,
    resource::{Kind, Live, Resource, ResourceId, Status},
};
use http::Method;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    api::{Droplet, DropletStatus, Links, Volume, Vpc},
    cloud::{Cloud, Needed},
    errors,
    labels::{self, Tags},
    observe::{blank, cannot_become, text, texts, whole},
    tagging::Tagged,
};
use crate::{ProviderError, labels::allowed};

/// <https://docs.digitalocean.com/reference/api/reference/droplets/#droplets_create>: "must not exceed 64 KiB".
const LARGEST_USER_DATA: usize = 64 << 10;

const ROLES: [&str; 3] = ["app", "database", "store"];

#[derive(Deserialize)]
struct Made {
    droplet: Droplet,
    #[serde(default)]
    links: Links,
}

impl Cloud {
    pub(super) async fn ensure_server(&self, want: &Resource) -> Result<Live, ProviderError> {
        let id = &want.id;
        let wanted = tags(&self.options.workspace, want)?;
        let needed = self.needed(want).await?;
        let network = network_of(self, want, &needed);
        let now = match self.find_server(want, network).await? {
            Some(now) => now,
            None => self.create_server(want, &wanted, network).await?,
        };
        self.change_server(now.id, want, &wanted).await?;
        self.fix_address(&self.droplet(now.id, id).await?, want).await?;
        let now = self.droplet(now.id, id).await?;
        let networks: Vec<Vpc> = network.into_iter().cloned().collect();
        self.server(&now, &networks).ok_or_else(|| ProviderError::NotReady {
            id: id.clone(),
            detail: "its tags were taken away again".into(),
        })
    }

    /// The one that carries our labels. Names are not unique and tags may come late, so whoever looks for it before
    /// making another looks for both.
    ///
    /// # Errors
    ///
    /// [`ProviderError::Taken`] when its name belongs to one that is not ours.
    async fn find_server(&self, want: &Resource, network: Option<&Vpc>) -> Result<Option<Droplet>, ProviderError> {
        let id = &want.id;
        // It ends with the age of what it is about: a Droplet does not stay young.
        let mut wait = self.wait_for(self.options.late_tags);
        loop {
            let by_name = [("name", id.name.clone())];
            let named = async {
                let found = self.list::<Droplet>(&by_name).await;
                found.map_err(|error| errors::outcome(error, id))
            };
            let (ours, named) = futures::try_join!(self.tagged_as(id), named)?;
            if ours.is_some() {
                return Ok(ours);
            }
            let Some(other) = named.into_iter().find(|it| it.name == id.name) else {
                return Ok(None);
            };
            if self.has_identity(&other, id) {
                return Ok(Some(other));
            }
            let coming = may_be_ours(&self.options.workspace, &other, want, network) && self.is_young(&other);
            if !coming || !wait.pause().await {
                return Err(ProviderError::Taken {
                    what: format!("the name {}", id.name),
                    by: format!(
                        "the Droplet {} at DigitalOcean, which does not carry the tags of {id}",
                        other.id
                    ),
                });
            }
        }
    }

    /// The one that carries the tags of `id`.
    ///
    /// # Errors
    ///
    /// Two of them carry the same: nobody can say which is meant.
    async fn tagged_as(&self, id: &ResourceId) -> Result<Option<Droplet>, ProviderError> {
        let tag = labels::tag(labels::NAME, &id.name);
        let all = self.list::<Droplet>(&[("tag_name", tag)]).await;
        let all = all.map_err(|error| errors::outcome(error, id))?;
        let mut found: Vec<Droplet> = all.into_iter().filter(|it| self.has_identity(it, id)).collect();
        if let [one, other, ..] = &found[..] {
            return Err(ProviderError::Refused {
                what: format!("the Droplets {} and {} both carry the tags of {id}", one.id, other.id),
                help: "take the tag ha:ws off the one that is not in use, or remove it".into(),
            });
        }
        Ok(found.pop())
    }

    fn has_identity(&self, now: &Droplet, id: &ResourceId) -> bool {
        self.owns(Kind::Server, &now.tags).is_some_and(|owned| owned.id == *id)
    }

    fn is_young(&self, now: &Droplet) -> bool {
        let age = now.created_at.map(|then| Timestamp::now().duration_since(then));
        // A clock that is behind DigitalOcean's makes it younger than nothing.
        age.is_some_and(|age| age.unsigned_abs() < self.options.late_tags)
    }

    async fn create_server(
        &self,
        want: &Resource,
        tags: &Tags,
        network: Option<&Vpc>,
    ) -> Result<Droplet, ProviderError> {
        let id = &want.id;
        let user_data = (self.options.user_data)(want)?;
        if user_data.len() > LARGEST_USER_DATA {
            return Err(ProviderError::Refused {
                what: format!(
                    "the user data of {id} has {} bytes, and DigitalOcean takes 64 KiB",
                    user_data.len()
                ),
                help: format!("see what is in it: ha render user-data {}", id.name),
            });
        }
        let keys = self.ssh_keys(&texts(&want.spec, "ssh_keys"), id).await?;
        let volumes = self
            .list::<Volume>(&[])
            .await
            .map_err(|error| errors::outcome(error, id))?;
        let waiting = volumes.iter().filter(|it| self.waits_for(it, id));
        let mut body = request(want, tags);
        body["ssh_keys"] = keys.into();
        body["volumes"] = waiting.map(|it| it.id.as_str()).collect();
        if let Some(network) = network {
            body["vpc_uuid"] = network.id.as_str().into();
        }
        if !user_data.is_empty() {
            body["user_data"] = user_data.into();
        }
        let no_sweep = self.making().await;
        let made = self.send::<Made>(Method::POST, "/v2/droplets", Some(&body)).await;
        let made = made.map_err(|error| errors::outcome(error, id))?;
        let now = self.tagged(made.droplet.id, id).await?;
        drop(no_sweep);
        for action in &made.links.actions {
            self.end_of(id, action.id).await?;
        }
        Ok(now)
    }

    /// The Droplet once its tags have come.
    async fn tagged(&self, number: u64, id: &ResourceId) -> Result<Droplet, ProviderError> {
        let mut wait = self.wait_for(self.options.late_tags);
        loop {
            let now = self.droplet(number, id).await?;
            // When they do not come by themselves, they are put on as any that are missing.
            if self.has_identity(&now, id) || !wait.pause().await {
                return Ok(now);
            }
        }
    }

    async fn droplet(&self, number: u64, id: &ResourceId) -> Result<Droplet, ProviderError> {
        let found = self.one::<Droplet>(&number.to_string()).await;
        found
            .map_err(|error| errors::outcome(error, id))?
            .ok_or_else(|| ProviderError::NotReady {
                id: id.clone(),
                detail: format!("DigitalOcean no longer knows its Droplet {number}: it was removed in the meantime"),
            })
    }

    /// The Droplet once nothing is happening to it.
    async fn settled(&self, number: u64, id: &ResourceId) -> Result<Droplet, ProviderError> {
        let mut wait = self.wait();
        loop {
            let now = self.droplet(number, id).await?;
            let rests = matches!(now.status, DropletStatus::Active | DropletStatus::Off);
            if rests && !now.locked {
                return Ok(now);
            }
            if now.status == DropletStatus::Archive || !wait.pause().await {
                return Err(ProviderError::NotReady {
                    id: id.clone(),
                    detail: format!("DigitalOcean calls it {:?} after {:?}", now.status, wait.patience),
                });
            }
        }
    }

    async fn change_server(&self, number: u64, want: &Resource, wanted: &Tags) -> Result<(), ProviderError> {
        let id = &want.id;
        let mut now = self.settled(number, id).await?;
        let (is, told) = (spec(&now), text(want, "image")?);
        if is["image"] != told {
            return Err(cannot_become(
                want,
                "image",
                is["image"].as_str().unwrap_or_default(),
                told,
            ));
        }
        let location = text(want, "location")?;
        if now.region.slug != location {
            return Err(cannot_become(want, "location", &now.region.slug, location));
        }
        // Also one that was switched off for a resize that did not come to its end.
        let size = text(want, "size")?;
        if now.size_slug != size || labels::is_set(&now.tags, labels::RESUME) {
            self.resize(&now, size, id).await?;
            now = self.droplet(number, id).await?;
        }
        let replaced = |tag: &str| {
            let keys = labels::IDENTITY
                .iter()
                .chain(&[labels::GROUP, labels::INDEX, labels::ROLE, labels::RESUME]);
            labels::is_users(&now.tags, tag) || keys.into_iter().any(|key| tag.starts_with(&labels::tag(key, "")))
        };
        self.bring(Tagged::Droplet(number), &now.tags, wanted, replaced, id)
            .await
    }

    /// Off, another size, and on again if it was on before: a tag remembers that over an end in between.
    async fn resize(&self, now: &Droplet, size: &str, id: &ResourceId) -> Result<(), ProviderError> {
        let path = format!("/v2/droplets/{}", now.id);
        let runs = now.status == DropletStatus::Active;
        let resume = runs || labels::is_set(&now.tags, labels::RESUME);
        let mut resized = Ok(());
        if now.size_slug != size {
            // Before the power is cut, not after.
            self.catalogue()
                .await
                .map_err(|error| errors::outcome(error, id))?
                .offers(size, &now.region.slug)
                .map_err(|what| ProviderError::NoCapacity { what })?;
            if runs {
                self.put_on(&labels::flag(labels::RESUME), &[Tagged::Droplet(now.id)], id)
                    .await?;
                self.switch_off(now.id, id).await?;
            }
            // With its disk as it is, so that the way back to the smaller size stays open.
            let body = json!({ "type": "resize", "size": size, "disk": false });
            resized = self.act(id, &path, &body).await;
        }
        // Whether it got its size or not, it is not left switched off.
        if resume && self.settled(now.id, id).await?.status == DropletStatus::Off {
            self.act(id, &path, &json!({ "type": "power_on" })).await?;
        }
        resized
    }

    /// Asks the system to end, and takes the power away when it does not.
    async fn switch_off(&self, number: u64, id: &ResourceId) -> Result<(), ProviderError> {
        let path = format!("/v2/droplets/{number}");
        // The action ends well when the system was told, whether it listens or not.
        // <https://docs.digitalocean.com/reference/api/reference/droplet-actions/>
        self.act(id, &path, &json!({ "type": "shutdown" })).await?;
        let mut grace = self.wait_for(self.options.shutdown);
        while self.droplet(number, id).await?.status != DropletStatus::Off {
            if !grace.pause().await {
                return self.act(id, &path, &json!({ "type": "power_off" })).await;
            }
        }
        Ok(())
    }

    pub(super) async fn power_server(&self, id: &ResourceId, on: bool) -> Result<Live, ProviderError> {
        let found = self.tagged_as(id).await?;
        let number = found.ok_or_else(|| ProviderError::NotFound(id.clone()))?.id;
        let now = self.settled(number, id).await?;
        match (on, now.status) {
            (true, DropletStatus::Off) => {
                let path = format!("/v2/droplets/{number}");
                self.act(id, &path, &json!({ "type": "power_on" })).await?;
            }
            (false, DropletStatus::Active) => self.switch_off(number, id).await?,
            _ => {}
        }
        // Whoever says so now is no longer bound by a resize before.
        if labels::is_set(&now.tags, labels::RESUME) {
            let resume = labels::flag(labels::RESUME);
            self.take_off(&resume, &[Tagged::Droplet(number)], id).await?;
            self.sweep(id).await?;
        }
        let (now, networks) = futures::try_join!(self.settled(number, id), async {
            self.networks().await.map_err(|error| errors::outcome(error, id))
        })?;
        self.server(&now, &networks)
            .ok_or_else(|| ProviderError::NotFound(id.clone()))
    }

    pub(super) async fn remove_server(&self, id: &ResourceId) -> Result<(), ProviderError> {
        if let Some(now) = self.tagged_as(id).await? {
            self.release_address(&now, id).await?;
            self.delete_to_the_end(id, &format!("/v2/droplets/{}", now.id)).await?;
        }
        self.sweep(id).await
    }

    /// `networks` are those of this workspace.
    pub(super) fn server(&self, now: &Droplet, networks: &[Vpc]) -> Option<Live> {
        let owned = self.owns(Kind::Server, &now.tags)?;
        let (status, detail) = status(now);
        let within = networks.iter().filter(|it| Some(&it.id) == now.vpc_uuid.as_ref());
        let fixed = now.tags.iter().find_map(|tag| labels::read_address(tag));
        Some(Live {
            status,
            detail,
            address: fixed.map(|ip| ip.to_string()).or_else(|| address(now, "public")),
            private_address: address(now, "private"),
            size: Some(now.size_slug.clone()),
            created_at: now.created_at,
            depends_on: within.filter_map(|it| self.owns_network(it)).map(|it| it.id).collect(),
            ..blank(&owned, spec(now))
        })
    }

    /// Whether this is a volume of the server's that could not be attached, since the server was not there yet.
    fn waits_for(&self, volume: &Volume, server: &ResourceId) -> bool {
        let owned = self.owns(Kind::Volume, &volume.tags);
        let here = owned.is_some_and(|owned| owned.id.region == server.region);
        here && volume.droplet_ids.is_empty() && labels::value(&volume.tags, labels::ATTACH_TO) == Some(&server.name)
    }
}

/// One that was made by us a moment ago looks like this, until its tags come.
fn may_be_ours(ws: &WorkspaceName, now: &Droplet, want: &Resource, network: Option<&Vpc>) -> bool {
    let ours = labels::ours(ws);
    let untold = now
        .tags
        .iter()
        .all(|tag| *tag == ours || !tag.starts_with(&labels::tag(labels::WS, "")));
    let spec = spec(now);
    let alike = ["image", "size", "location"]
        .iter()
        .all(|field| spec[field] == want.spec[field]);
    let placed = network.is_none_or(|network| now.vpc_uuid.as_ref() == Some(&network.id));
    untold && alike && placed
}

/// The network that it is put in: the one that it depends on.
fn network_of<'a>(cloud: &Cloud, want: &Resource, needed: &'a Needed) -> Option<&'a Vpc> {
    let wanted = |it: &&Vpc| {
        cloud
            .owns_network(it)
            .is_some_and(|owned| want.depends_on.contains(&owned.id))
    };
    needed.networks.iter().find(wanted)
}

/// All tags of a server that is as wanted.
pub(super) fn tags(ws: &WorkspaceName, want: &Resource) -> Result<Tags, ProviderError> {
    let group = text(want, "group")?;
    let mut tags = labels::identity(ws, want);
    tags.extend(labels::from_labels(want)?);
    tags.insert(labels::group(ws, &want.id.region, group));
    tags.insert(labels::tag(labels::INDEX, &whole(want, "index")?.to_string()));
    tags.extend(
        texts(&want.spec, "roles")
            .iter()
            .map(|role| labels::tag(labels::ROLE, role)),
    );
    let image = labels::tag(labels::IMAGE, text(want, "image")?);
    if allowed(want.provider, &image).is_ok() {
        tags.insert(image);
    }
    labels::check(&tags, &want.id)?;
    Ok(tags)
}

/// What makes a Droplet, without what is looked up.
fn request(want: &Resource, tags: &Tags) -> Value {
    let image = want.spec["image"].as_str().unwrap_or_default();
    json!({
        "name": want.id.name,
        "region": want.spec["location"],
        "size": want.spec["size"],
        // The number of a snapshot, or the name of an image.
        "image": image.parse::<u64>().map_or_else(|_| Value::from(image), Value::from),
        "tags": tags,
        "monitoring": true,
    })
}

fn spec(now: &Droplet) -> Value {
    let group = labels::value(&now.tags, labels::GROUP).and_then(|it| it.rsplit(':').next());
    let index = labels::value(&now.tags, labels::INDEX).and_then(|it| it.parse::<u64>().ok());
    let has: Vec<&str> = labels::values(&now.tags, labels::ROLE).collect();
    let mut roles: Vec<&str> = ROLES.into_iter().filter(|role| has.contains(role)).collect();
    roles.extend(has.iter().filter(|role| !ROLES.contains(role)));
    let mut spec = json!({
        "group": group,
        "index": index,
        "image": image(now),
        "size": now.size_slug,
        "location": now.region.slug,
        "roles": roles,
        "command": null,
    });
    if now.tags.iter().any(|tag| labels::read_address(tag).is_some()) {
        spec[FIXED_ADDRESS] = true.into();
    }
    labels::tell(&mut spec, &now.tags);
    spec
}

/// As it is written in a workspace: the name of an image, the number of a snapshot. Of an image whose name went to a
/// newer one, what the tag remembers.
fn image(now: &Droplet) -> String {
    let named = now.image.slug.as_deref().filter(|slug| !slug.is_empty());
    let named = named.or_else(|| labels::value(&now.tags, labels::IMAGE));
    named.map_or_else(|| now.image.id.to_string(), str::to_owned)
}

pub(super) fn status(now: &Droplet) -> (Status, Option<String>) {
    match now.status {
        DropletStatus::Active => (Status::Running, None),
        DropletStatus::New => (Status::Pending, Some("being made".into())),
        DropletStatus::Off if labels::is_set(&now.tags, labels::RESUME) => (
            Status::Pending,
            Some("switched off for a resize that has not ended".into()),
        ),
        DropletStatus::Off => (Status::Off, None),
        DropletStatus::Archive => (Status::Failed, Some("DigitalOcean has archived it".into())),
        DropletStatus::Unknown => (
            Status::Failed,
            Some("DigitalOcean calls it by a word that is not known here".into()),
        ),
    }
}

/// Its first address of this kind, `public` or `private`.
pub(super) fn address(now: &Droplet, kind: &str) -> Option<String> {
    let found = now.networks.v4.iter().find(|it| it.kind == kind);
    found.map(|it| it.ip_address.clone())
}

#[cfg(test)]
mod tests {
    use ha_core::names::{ProviderName, RegionName};
    use proptest::prelude::*;

    use super::*;

    fn ws() -> WorkspaceName {
        WorkspaceName::new("shop")
    }

    fn want(image: &str, index: u64, roles: &[&str]) -> Resource {
        Resource {
            id: ResourceId::new(&RegionName::new("us-east"), Kind::Server, format!("us-app-{index}")),
            provider: ProviderName::Digitalocean,
            spec: json!({ "group": "us-app", "index": index, "image": image, "size": "s-2vcpu-4gb",
                "location": "nyc3", "roles": roles, "command": null }),
            depends_on: Vec::new(),
            protect: false,
            path: "region_us_east.app_servers".into(),
        }
    }

    /// What DigitalOcean makes of a request.
    fn answer(request: &Value) -> Value {
        let image = match &request["image"] {
            Value::Number(id) => json!({ "id": id, "slug": null }),
            slug => json!({ "id": 7, "slug": slug }),
        };
        json!({
            "id": 3164444,
            "name": request["name"],
            "status": "active",
            "locked": false,
            "created_at": "2020-07-21T18:37:44Z",
            "image": image,
            "size_slug": request["size"],
            "region": { "slug": request["region"] },
            "networks": { "v4": [
                { "ip_address": "10.0.0.2", "type": "private" },
                { "ip_address": "104.236.32.182", "type": "public" },
            ] },
            "tags": request["tags"],
            "vpc_uuid": null,
        })
    }

    fn droplet(want: &Resource) -> Droplet {
        let tags = tags(&ws(), want).expect("it is whole");
        serde_json::from_value(answer(&request(want, &tags))).expect("a Droplet")
    }

    #[test]
    fn the_name_of_an_image_is_remembered_when_a_newer_one_has_it() {
        let want = want("ubuntu-24-04-x64", 1, &["app"]);
        let mut now = droplet(&want);
        now.image.slug = None;
        assert_eq!(spec(&now), want.spec);
        // Rebuilt by hand.
        now.image.slug = Some("debian-12-x64".into());
        assert_eq!(spec(&now)["image"], "debian-12-x64");
    }

    #[test]
    fn a_server_that_is_off_for_a_resize_is_not_off_on_purpose() {
        let mut now = droplet(&want("ubuntu-24-04-x64", 1, &["app"]));
        now.status = DropletStatus::Off;
        assert_eq!(status(&now).0, Status::Off);
        now.tags.push(labels::flag(labels::RESUME));
        assert_eq!(status(&now).0, Status::Pending);
    }

    #[test]
    fn only_one_without_any_label_that_is_as_wanted_may_be_ours() {
        let want = want("ubuntu-24-04-x64", 1, &["app"]);
        let mut bare = droplet(&want);
        bare.tags.clear();
        assert!(may_be_ours(&ws(), &bare, &want, None));
        let change = |change: fn(&mut Droplet)| {
            let mut other = bare.clone();
            change(&mut other);
            may_be_ours(&ws(), &other, &want, None)
        };
        assert!(!change(|it| it.tags.push("ha:ws:other".into())));
        assert!(!change(|it| it.size_slug = "s-1vcpu-1gb".into()));
        assert!(!change(|it| it.region.slug = "ams3".into()));
        assert!(!change(|it| it.image.slug = Some("debian-12-x64".into())));
        assert!(
            change(|it| it.tags.push("ha:ws:shop".into())),
            "the others are still to come"
        );
        let network = json!({ "id": "5a49", "name": "us-net", "region": "nyc3", "ip_range": "10.0.0.0/16" });
        let network: Vpc = serde_json::from_value(network).expect("a VPC");
        assert!(
            !may_be_ours(&ws(), &bare, &want, Some(&network)),
            "it is in another network"
        );
    }

    #[test]
    fn addresses_are_told_apart_by_their_kind() {
        let now = droplet(&want("ubuntu-24-04-x64", 1, &[]));
        assert_eq!(address(&now, "public").as_deref(), Some("104.236.32.182"));
        assert_eq!(address(&now, "private").as_deref(), Some("10.0.0.2"));
    }

    proptest! {
        #[test]
        fn what_is_asked_for_is_what_is_read(
            image in prop::sample::select(&["ubuntu-24-04-x64", "centos-7.9", "63663980"][..]),
            index in 1u64..100,
            roles in prop::sample::subsequence(&ROLES[..], 0..=3),
        ) {
            let want = want(image, index, &roles);
            prop_assert_eq!(spec(&droplet(&want)), want.spec);
        }
    }
}
