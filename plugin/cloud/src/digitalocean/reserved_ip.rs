//! Reserved IPs: public addresses that stay when their Droplet is lost.
//!
//! They carry neither tags nor a name. Whose one is, a tag says that has the address in it; on the Droplet, and without one
//! when that is lost, so that a Droplet which is made in its place takes the address over. Before one is asked for, a tag
//! says that it is: one that is found on the Droplet then is ours, and one that is found there otherwise is somebody's.
//!
//! <https://docs.digitalocean.com/reference/api/reference/reserved-ips/>

use std::{collections::BTreeMap, net::Ipv4Addr};

use ha_core::{
    desired::FIXED_ADDRESS,
    names::RegionName,
    resource::{Kind, Live, Resource, ResourceId},
};
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    api::{Droplet, Links, Numbered, ReservedIp, Tag},
    cloud::Cloud,
    errors, labels, server,
    tagging::Tagged,
};
use crate::{ProviderError, rest::RestError};

#[derive(Deserialize)]
struct Made {
    reserved_ip: ReservedIp,
    #[serde(default)]
    links: Links,
}

impl Cloud {
    /// Afterwards the Droplet has an address of ours, or has none, as is wanted.
    pub(super) async fn fix_address(&self, now: &Droplet, want: &Resource) -> Result<(), ProviderError> {
        if want.spec[FIXED_ADDRESS] != true {
            return self.release_address(now, &want.id).await;
        }
        let id = &want.id;
        let (known, asked_for) = self.told_addresses(now, id).await?;
        let all = self.reserved_ips().await.map_err(|error| errors::outcome(error, id))?;
        if let Some(ip) = all.iter().find(|it| known.contains(&it.ip)) {
            if !ip.is_at(now) {
                self.move_address(ip.ip, Some(now.id), id).await?;
            }
            return self.put_address(ip.ip, now, id).await;
        }
        let found = match asked_for {
            true => self.arrived(now, id).await?,
            false => all.into_iter().find(|it| it.is_at(now)),
        };
        match found {
            Some(ip) if asked_for => self.put_address(ip.ip, now, id).await,
            Some(ip) => Err(ProviderError::Taken {
                what: format!("the place of a reserved IP at {id}"),
                by: format!("the reserved IP {}, which somebody else assigned to it", ip.ip),
            }),
            None => self.reserve(now, id).await,
        }
    }

    /// Afterwards the address is at that Droplet, or at none; also where an answer that was lost had begun it.
    async fn move_address(&self, ip: Ipv4Addr, to: Option<u64>, id: &ResourceId) -> Result<(), ProviderError> {
        let body = match to {
            Some(droplet) => json!({ "type": "assign", "droplet_id": droplet }),
            None => json!({ "type": "unassign" }),
        };
        let Err(error) = self.act(id, &path(ip), &body).await else {
            return Ok(());
        };
        let now = self.field::<ReservedIp>(&path(ip), "reserved_ip").await;
        let now = now.map_err(|error| errors::outcome(error, id))?;
        let at = now.and_then(|it| it.droplet).map(|it| it.id);
        if at == to { Ok(()) } else { Err(error) }
    }

    async fn reserve(&self, now: &Droplet, id: &ResourceId) -> Result<(), ProviderError> {
        let droplet = [Tagged::Droplet(now.id)];
        let _no_sweep = self.making().await;
        self.put_on(&labels::address(&self.options.workspace, id, None), &droplet, id)
            .await?;
        let body = json!({ "droplet_id": now.id });
        let made = self
            .send_when_free::<Made>(Method::POST, "/v2/reserved_ips", Some(&body), errors::is_pending)
            .await;
        let made = made.map_err(|error| errors::outcome(error, id))?;
        for action in &made.links.actions {
            self.end_of(id, action.id).await?;
        }
        self.put_address(made.reserved_ip.ip, now, id).await
    }

    /// Afterwards the tags of the Droplet say that this address is its own, and nothing else about addresses.
    async fn put_address(&self, ip: Ipv4Addr, now: &Droplet, id: &ResourceId) -> Result<(), ProviderError> {
        let ws = &self.options.workspace;
        let wanted = labels::address(ws, id, Some(ip));
        let mut told = now.tags.iter().filter(|tag| labels::is_about_address(tag));
        if told.next() == Some(&wanted) && told.next().is_none() {
            return Ok(());
        }
        if !now.tags.contains(&wanted) {
            self.put_on(&wanted, &[Tagged::Droplet(now.id)], id).await?;
        }
        let about = labels::addresses(ws, &id.region, Some(&id.name));
        let asking = labels::address(ws, id, None);
        for old in self.tags_beginning(&about, id).await? {
            if old != wanted && (old == asking || now.tags.contains(&old)) {
                self.forget(&old, id).await?;
            }
        }
        Ok(())
    }

    /// The address that was asked for before, once it is at the Droplet; none when there is none on its way.
    async fn arrived(&self, now: &Droplet, id: &ResourceId) -> Result<Option<ReservedIp>, ProviderError> {
        let mut wait = self.wait();
        loop {
            let all = self.reserved_ips().await.map_err(|error| errors::outcome(error, id))?;
            let on_its_way = |it: &ReservedIp| it.locked && it.droplet.is_none() && it.region.slug == now.region.slug;
            let waits = all.iter().any(on_its_way);
            let found = all.into_iter().find(|it| it.is_at(now));
            if found.is_some() || !waits || !wait.pause().await {
                return Ok(found);
            }
        }
    }

    /// Takes our address from the Droplet and gives it back to DigitalOcean.
    pub(super) async fn release_address(&self, now: &Droplet, id: &ResourceId) -> Result<(), ProviderError> {
        if !now.tags.iter().any(|tag| labels::is_about_address(tag)) {
            return Ok(());
        }
        let (known, asked_for) = self.told_addresses(now, id).await?;
        let arrived = match asked_for {
            true => self.arrived(now, id).await?,
            false => None,
        };
        let all = self.reserved_ips().await.map_err(|error| errors::outcome(error, id))?;
        let ours = |it: &&ReservedIp| known.contains(&it.ip) || arrived.as_ref().is_some_and(|new| new.ip == it.ip);
        for ip in all.iter().filter(ours) {
            if ip.is_at(now) {
                self.move_address(ip.ip, None, id).await?;
            } else if ip.droplet.is_some() {
                // Somebody gave it to a Droplet of their own, and uses it there.
                continue;
            }
            self.delete_to_the_end(id, &path(ip.ip)).await?;
        }
        let about = labels::addresses(&self.options.workspace, &id.region, Some(&id.name));
        for tag in self.tags_beginning(&about, id).await? {
            self.forget(&tag, id).await?;
        }
        Ok(())
    }

    /// Gives back the addresses of a region whose Droplets are lost.
    pub(super) async fn release_waiting(&self, region: &RegionName, id: &ResourceId) -> Result<(), ProviderError> {
        let about = labels::addresses(&self.options.workspace, region, None);
        let tags = self.tags_beginning(&about, id).await?;
        if tags.is_empty() {
            return Ok(());
        }
        let all = self.reserved_ips().await.map_err(|error| errors::outcome(error, id))?;
        for tag in tags {
            let ip = labels::read_address(&tag);
            let waits = |it: &&ReservedIp| Some(it.ip) == ip && it.droplet.is_none();
            if let Some(ip) = all.iter().find(waits) {
                self.delete_to_the_end(id, &path(ip.ip)).await?;
            }
            self.forget(&tag, id).await?;
        }
        Ok(())
    }

    /// The addresses that tags call those of this Droplet, and whether one was asked for.
    async fn told_addresses(&self, now: &Droplet, id: &ResourceId) -> Result<(Vec<Ipv4Addr>, bool), ProviderError> {
        let ws = &self.options.workspace;
        let asked_for = now.tags.contains(&labels::address(ws, id, None));
        let read =
            |tags: &[String]| -> Vec<Ipv4Addr> { tags.iter().filter_map(|tag| labels::read_address(tag)).collect() };
        let known = read(&now.tags);
        if !known.is_empty() || asked_for {
            return Ok((known, asked_for));
        }
        let about = labels::addresses(ws, &id.region, Some(&id.name));
        Ok((read(&self.tags_beginning(&about, id).await?), false))
    }

    async fn tags_beginning(&self, with: &str, id: &ResourceId) -> Result<Vec<String>, ProviderError> {
        let all = self.list::<Tag>(&[]).await;
        let all = all.map_err(|error| errors::outcome(error, id))?;
        let names = all.into_iter().map(|it| it.name);
        Ok(names.filter(|name| name.starts_with(with)).collect())
    }

    pub(super) async fn reserved_ips(&self) -> Result<Vec<ReservedIp>, RestError> {
        self.list_at("/v2/reserved_ips", "reserved_ips", "ip", &[]).await
    }

    /// Takes `fixed_address` out of the spec of each server whose address is not at it: somebody took it away.
    pub(super) async fn look_at_addresses(&self, servers: &[Droplet], all: &mut [Live]) -> Result<(), RestError> {
        let told = |it: &&Droplet| it.tags.iter().any(|tag| labels::read_address(tag).is_some());
        if !servers.iter().any(|it| told(&it)) {
            return Ok(());
        }
        let there = self.reserved_ips().await?;
        let at: BTreeMap<Ipv4Addr, &ReservedIp> = there.iter().map(|it| (it.ip, it)).collect();
        for now in servers.iter().filter(told) {
            let mut ips = now.tags.iter().filter_map(|tag| labels::read_address(tag));
            if ips.any(|ip| at.get(&ip).is_some_and(|it| it.is_at(now))) {
                continue;
            }
            let Some(owned) = self.owns(Kind::Server, &now.tags) else {
                continue;
            };
            let live = all.iter_mut().find(|it| it.id == owned.id);
            if let Some((live, Value::Object(spec))) = live.map(|it| (&mut it.address, &mut it.spec)) {
                spec.remove(FIXED_ADDRESS);
                *live = server::address(now, "public");
            }
        }
        Ok(())
    }
}

impl ReservedIp {
    fn is_at(&self, now: &Droplet) -> bool {
        self.droplet.as_ref().is_some_and(|Numbered { id }| *id == now.id)
    }
}

fn path(ip: Ipv4Addr) -> String {
    format!("/v2/reserved_ips/{ip}")
}
