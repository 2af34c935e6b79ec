//! Servers: made with labels and user data in one call, changed in place where Hetzner can.

use futures::try_join;
use ha_core::{
    desired::FIXED_ADDRESS,
    names::ProviderName,
    resource::{Kind, Live, Resource, ResourceId, Status},
};
use serde_json::{Map, Value, json};

use super::{
    actions::Until,
    api::{LabelMap, Network, Server, ServerStatus, Volume},
    cloud::{Cloud, Needed},
    errors, labels,
    observe::{blank, is_as_wanted, text},
};
use crate::ProviderError;

/// <https://docs.hetzner.cloud/#tag/servers/create_server>: "limited to 32KiB".
const LARGEST_USER_DATA: usize = 32 << 10;

/// The spec of a server, read.
pub(super) struct Wanted<'a> {
    group: &'a str,
    index: u64,
    image: &'a str,
    size: &'a str,
    location: &'a str,
    pub(super) labels: LabelMap,
    fixed_address: bool,
}

impl<'a> Wanted<'a> {
    pub(super) fn read(cloud: &Cloud, want: &'a Resource) -> Result<Self, ProviderError> {
        let group = text(want, "group")?;
        let index = want.spec["index"].as_u64().unwrap_or_default();
        let image = text(want, "image")?;
        let roles = want.spec["roles"].as_array().map(Vec::as_slice).unwrap_or_default();
        let roles: Vec<&str> = roles.iter().filter_map(Value::as_str).collect();
        let mut labels = labels::of(&cloud.options.workspace, want);
        labels.insert(labels::GROUP.into(), group.to_owned());
        labels.insert(labels::INDEX.into(), index.to_string());
        labels.insert(labels::ROLES.into(), roles.join("."));
        labels.insert(labels::IMAGE.into(), image.to_owned());
        let fixed_address = want.spec[FIXED_ADDRESS] == true;
        if fixed_address {
            labels.insert(labels::FIXED_ADDRESS.into(), "true".into());
        }
        labels::check(&labels, &want.id)?;
        Ok(Self {
            group,
            index,
            image,
            size: text(want, "size")?,
            location: text(want, "location")?,
            labels,
            fixed_address,
        })
    }
}

impl Cloud {
    pub(super) async fn ensure_server(&self, want: &Resource) -> Result<Live, ProviderError> {
        let until = self.until();
        let id = &want.id;
        let wanted = Wanted::read(self, want)?;
        let (found, needed) = try_join!(self.find::<Server>(id), self.needed(want))?;
        let networks = networks_of(want, &needed);
        let number = match found {
            Some(now) => {
                let live = server(&now, &needed.networks)?;
                let resumes = now.labels.contains_key(labels::RESUME);
                if !now.locked && !resumes && is_as_wanted(&now, &live, want, &wanted.labels) {
                    self.fix_address(&now, id, wanted.fixed_address, until).await?;
                    return Ok(live);
                }
                now.id
            }
            None => self.create_server(want, &wanted, &networks, until).await?,
        };
        let now = self.settled(number, id, until).await?;
        self.change_server(now, &wanted, &networks, id, until).await?;
        server(&self.one(number, id).await?, &needed.networks)
    }

    async fn create_server(
        &self,
        want: &Resource,
        wanted: &Wanted<'_>,
        networks: &[u64],
        until: Until,
    ) -> Result<u64, ProviderError> {
        let id = &want.id;
        let written = (self.options.written)(want);
        let user_data = (self.options.user_data)(want)?;
        if user_data.len() > LARGEST_USER_DATA {
            return Err(ProviderError::Refused {
                what: format!(
                    "the user data of {id} has {} bytes, and Hetzner takes 32 KiB",
                    user_data.len()
                ),
                help: format!("see what is in it: ha render user-data {}", id.name),
            });
        }
        let keys: Vec<String> = names(&written, "ssh_keys");
        let ((), volumes, address) = try_join!(
            self.ensure_ssh_keys(&keys, id),
            self.free_volumes(id),
            self.waiting_address(id, wanted.location, wanted.fixed_address),
        )?;
        let mut body = json!({
            "name": id.name,
            "server_type": wanted.size,
            "image": wanted.image,
            "location": wanted.location,
            "labels": wanted.labels,
            "ssh_keys": keys,
            "networks": networks,
            "volumes": volumes,
            "start_after_create": true,
        });
        if let Some(address) = address {
            body["public_net"] = json!({ "enable_ipv4": true, "enable_ipv6": true, "ipv4": address });
        }
        if !user_data.is_empty() {
            body["user_data"] = user_data.into();
        }
        // Until the server is in it, its group is empty and must not be swept away.
        let _spread = self.spread.read().await;
        if written.get("spread").and_then(Value::as_bool).unwrap_or(true) {
            let group = self
                .ensure_placement_group(wanted.group, wanted.index, want, until)
                .await?;
            body["placement_group"] = group.into();
        }
        let number = self.create::<Server>(body, id, until).await?.id;
        // One that was made at the same moment saw no server yet.
        for volume in self.free_volumes(id).await? {
            self.attach(volume, number, id, until).await?;
        }
        Ok(number)
    }

    /// The volumes that wait for this server.
    async fn free_volumes(&self, id: &ResourceId) -> Result<Vec<u64>, ProviderError> {
        let selector = labels::of_one(&self.options.workspace, &id.region, labels::ATTACH_TO, &id.name);
        let found = self.selected::<Volume>(selector).await;
        let found = found.map_err(|error| errors::outcome(error, id))?;
        Ok(found.iter().filter(|it| it.server.is_none()).map(|it| it.id).collect())
    }

    /// The server once nothing is happening to it.
    async fn settled(&self, number: u64, id: &ResourceId, until: Until) -> Result<Server, ProviderError> {
        let mut backoff = self.backoff();
        loop {
            let now: Server = self.one(number, id).await?;
            let rests = matches!(now.status, ServerStatus::Running | ServerStatus::Off);
            if rests && !now.locked {
                return Ok(now);
            }
            self.settle::<Server>(number, id, until).await?;
            if !until.pause(backoff.pause()).await {
                return Err(ProviderError::NotReady {
                    id: id.clone(),
                    detail: format!("hetzner calls it {:?} after {:?}", now.status, until.after),
                });
            }
        }
    }

    async fn change_server(
        &self,
        now: Server,
        wanted: &Wanted<'_>,
        networks: &[u64],
        id: &ResourceId,
        until: Until,
    ) -> Result<(), ProviderError> {
        let is = |field: &str, now: Option<&str>, wanted: &str| match now {
            Some(now) if now != wanted => Err(ProviderError::Refused {
                what: format!("{id} has the {field} {now} and cannot become {wanted} in place"),
                help: "ha plan shows its replacement".into(),
            }),
            _ => Ok(()),
        };
        is("image", image(&now).as_deref(), wanted.image)?;
        is("location", Some(&now.location.name), wanted.location)?;
        is("group", now.labels.get(labels::GROUP).map(String::as_str), wanted.group)?;
        for network in networks {
            if now.private_net.iter().all(|it| it.network != *network) {
                let body = json!({ "network": network });
                self.run::<Server>(now.id, "attach_to_network", body, id, until).await?;
            }
        }
        if now.name != id.name {
            let body = json!({ "name": id.name });
            let path = format!("/servers/{}", now.id);
            self.act(http::Method::PUT, &path, Some(body), id, until).await?;
        }
        // Also one that was switched off for a resize that did not come to its end.
        if now.server_type.name != wanted.size || now.labels.contains_key(labels::RESUME) {
            self.resize(&now, wanted.size, id, until).await?;
        }
        self.fix_address(&now, id, wanted.fixed_address, until).await?;
        let without = [labels::RESUME, labels::FIXED_ADDRESS];
        let change = |labels: &mut LabelMap| *labels = labels::merged(labels, &wanted.labels, &without);
        let mut after = now.labels.clone();
        change(&mut after);
        if after != now.labels || now.server_type.name != wanted.size {
            self.rewrite(now.id, id, until, change).await?;
        }
        Ok(())
    }

    /// Off, another type, and on again if it was on before: a label remembers that over an end in between.
    async fn resize(&self, now: &Server, size: &str, id: &ResourceId, until: Until) -> Result<(), ProviderError> {
        let resume = now.status == ServerStatus::Running || now.labels.contains_key(labels::RESUME);
        if now.server_type.name != size {
            if now.status == ServerStatus::Running {
                let remember = |labels: &mut LabelMap| {
                    labels.insert(labels::RESUME.into(), "true".into());
                };
                self.rewrite(now.id, id, until, remember).await?;
                self.switch_off(now.id, id, until).await?;
            }
            // With its disk as it is, so that the way back to the smaller type stays open.
            let body = json!({ "server_type": size, "upgrade_disk": false });
            self.run::<Server>(now.id, "change_type", body, id, until).await?;
        }
        if resume && self.settled(now.id, id, until).await?.status == ServerStatus::Off {
            self.run::<Server>(now.id, "poweron", Value::Null, id, until).await?;
        }
        Ok(())
    }

    /// Asks the system to end, and takes the power away when it does not.
    async fn switch_off(&self, number: u64, id: &ResourceId, until: Until) -> Result<(), ProviderError> {
        self.run::<Server>(number, "shutdown", Value::Null, id, until).await?;
        let grace = Until::within(self.options.shutdown);
        let mut backoff = self.backoff();
        loop {
            let now: Server = self.one(number, id).await?;
            if now.status == ServerStatus::Off {
                return Ok(());
            }
            if !grace.pause(backoff.pause()).await {
                return self.run::<Server>(number, "poweroff", Value::Null, id, until).await;
            }
        }
    }

    pub(super) async fn power_server(&self, id: &ResourceId, on: bool) -> Result<Live, ProviderError> {
        let until = self.until();
        let found = self.labelled::<Server>(id).await?;
        let found = found.ok_or_else(|| ProviderError::NotFound(id.clone()))?;
        let now = self.settled(found.id, id, until).await?;
        match (on, now.status) {
            (true, ServerStatus::Off) => self.run::<Server>(now.id, "poweron", Value::Null, id, until).await?,
            (false, ServerStatus::Running) => self.switch_off(now.id, id, until).await?,
            _ => {}
        }
        let selector = labels::of_region(&self.options.workspace, &id.region);
        let networks = async {
            let found = self.selected::<Network>(selector).await;
            found.map_err(|error| errors::outcome(error, id))
        };
        let (now, networks) = try_join!(self.settled(now.id, id, until), networks)?;
        server(&now, &networks)
    }

    pub(super) async fn remove_server(&self, id: &ResourceId) -> Result<(), ProviderError> {
        let until = self.until();
        if let Some(now) = self.labelled::<Server>(id).await? {
            self.delete::<Server>(now.id, id, until).await?;
        }
        try_join!(self.remove_addresses(id, until), self.sweep_placement_groups(id, until))?;
        Ok(())
    }
}

/// The numbers of the networks that it depends on.
fn networks_of(want: &Resource, needed: &Needed) -> Vec<u64> {
    let named = |name: &str| {
        let mine = |id: &&ResourceId| id.kind == Kind::Network && id.name == name;
        want.depends_on.iter().any(|id| mine(&id))
    };
    let networks = needed.networks.iter();
    networks
        .filter(|it| it.labels.get(labels::NAME).is_some_and(|name| named(name)))
        .map(|it| it.id)
        .collect()
}

fn names(written: &Map<String, Value>, field: &str) -> Vec<String> {
    let all = written.get(field).and_then(Value::as_array).map(Vec::as_slice);
    let all = all.unwrap_or_default().iter().filter_map(Value::as_str);
    all.map(str::to_owned).collect()
}

/// As it is written in a workspace: the name of an image, the number of a snapshot. Of an image that is gone, what the
/// label remembers.
fn image(now: &Server) -> Option<String> {
    match &now.image {
        Some(image) => Some(image.name.clone().unwrap_or_else(|| image.id.to_string())),
        None => now.labels.get(labels::IMAGE).cloned(),
    }
}

pub(super) fn status(now: &Server) -> (Status, Option<String>) {
    match now.status {
        ServerStatus::Running => (Status::Running, None),
        ServerStatus::Off if now.labels.contains_key(labels::RESUME) => (
            Status::Pending,
            Some("switched off for a resize that has not ended".into()),
        ),
        ServerStatus::Off => (Status::Off, None),
        ServerStatus::Unknown => (Status::Failed, Some("Hetzner does not know its status".into())),
        other => (Status::Pending, Some(format!("{other:?}").to_lowercase())),
    }
}

/// `networks` are those of this workspace.
pub(super) fn server(now: &Server, networks: &[Network]) -> Result<Live, ProviderError> {
    let (id, tags) = labels::identity(now, Kind::Server)?;
    let label = |key: &str| now.labels.get(key).map(String::as_str);
    let roles: Vec<&str> = label(labels::ROLES)
        .unwrap_or_default()
        .split('.')
        .filter(|it| !it.is_empty())
        .collect();
    let index = label(labels::INDEX).and_then(|it| it.parse::<u64>().ok());
    let (status, detail) = status(now);
    let attached = networks
        .iter()
        .filter(|network| now.private_net.iter().any(|it| it.network == network.id));
    let depends_on = attached.filter_map(|it| labels::identity(it, Kind::Network).ok());
    let mut spec = json!({
        "group": label(labels::GROUP),
        "index": index,
        "image": image(now),
        "size": now.server_type.name,
        "location": now.location.name,
        "roles": roles,
        "command": null,
    });
    if now.labels.contains_key(labels::FIXED_ADDRESS) {
        spec[FIXED_ADDRESS] = true.into();
    }
    labels::tell(&mut spec, &now.labels);
    Ok(Live {
        spec,
        status,
        detail,
        address: address(now),
        private_address: now.private_net.first().map(|it| it.ip.clone()),
        size: Some(now.server_type.name.clone()),
        created_at: Some(now.created),
        depends_on: depends_on.map(|(id, _)| id).collect(),
        ..blank(id, ProviderName::Hetzner, tags, &now.labels)
    })
}

/// Where a client reaches it: IPv4, else the first address of its IPv6 network (`2001:db8:1::/64`).
pub(super) fn address(now: &Server) -> Option<String> {
    let ip = |ip: &Option<super::api::Ip>| ip.as_ref().and_then(|it| it.ip.clone());
    ip(&now.public_net.ipv4).or_else(|| {
        let network = ip(&now.public_net.ipv6)?;
        let prefix = network.split('/').next()?;
        Some(format!("{prefix}1"))
    })
}
