//! Networks, each with one subnet over its whole range in the zone of the region's location.

use ha_core::{
    names::ProviderName,
    resource::{Kind, Live, Resource, ResourceId, Status},
};
use serde_json::json;

use super::{
    api::Network,
    cloud::Cloud,
    errors, labels,
    observe::{blank, is_as_wanted, text},
};
use crate::ProviderError;

impl Cloud {
    pub(super) async fn ensure_network(&self, want: &Resource) -> Result<Live, ProviderError> {
        let until = self.until();
        let id = &want.id;
        let ip_range = text(want, "ip_range")?;
        let location = text(want, "location")?;
        let (found, zone) = futures::try_join!(self.find::<Network>(id), self.zone(location, id))?;
        let mut labels = labels::of(&self.options.workspace, want);
        labels.insert(labels::LOCATION.into(), location.to_owned());
        labels.insert(labels::ZONE.into(), zone.clone());
        labels::check(&labels, id)?;
        let subnet = json!({ "type": "cloud", "ip_range": ip_range, "network_zone": zone });
        let number = match found {
            None => {
                let body = json!({
                    "name": id.name,
                    "ip_range": ip_range,
                    "labels": labels,
                    "subnets": [subnet],
                });
                self.create::<Network>(body, id, until).await?.id
            }
            Some(found) => {
                let live = network(&found)?;
                if is_as_wanted(&found, &live, want, &labels) {
                    return Ok(live);
                }
                let now: Network = self.at_rest(found.id, id, until).await?;
                let elsewhere = now.subnets.iter().any(|it| it.network_zone != zone);
                if now.ip_range != ip_range || elsewhere {
                    return Err(ProviderError::Refused {
                        what: format!(
                            "{id} has the range {} and cannot become {ip_range} in {zone}",
                            now.ip_range
                        ),
                        help: "ha plan shows its replacement; everything in it is made anew".into(),
                    });
                }
                if now.subnets.is_empty() {
                    self.run::<Network>(now.id, "add_subnet", subnet, id, until).await?;
                }
                let labels = labels::merged(&now.labels, &labels, &[]);
                self.relabel(&now, &labels, id, until).await?;
                now.id
            }
        };
        network(&self.one(number, id).await?)
    }

    pub(super) async fn remove_network(&self, id: &ResourceId) -> Result<(), ProviderError> {
        let until = self.until();
        if let Some(now) = self.labelled::<Network>(id).await? {
            self.delete::<Network>(now.id, id, until).await?;
        }
        // What a server's removal that was cut short left behind.
        futures::try_join!(self.sweep_placement_groups(id, until), self.sweep_addresses(id, until))?;
        Ok(())
    }

    pub(super) async fn zone(&self, location: &str, id: &ResourceId) -> Result<String, ProviderError> {
        let all = self.locations().await.map_err(|error| errors::outcome(error, id))?;
        match all.iter().find(|it| it.name == location) {
            Some(found) => Ok(found.network_zone.clone()),
            None => {
                let names: Vec<&str> = all.iter().map(|it| it.name.as_str()).collect();
                Err(ProviderError::Refused {
                    what: format!("{id}: Hetzner has no location {location}"),
                    help: format!("choose one of {} in workspace.ncl", names.join(", ")),
                })
            }
        }
    }
}

pub(super) fn network(now: &Network) -> Result<Live, ProviderError> {
    let (id, tags) = labels::identity(now, Kind::Network)?;
    let zone = now.labels.get(labels::ZONE);
    let moved = now.subnets.iter().find(|it| Some(&it.network_zone) != zone);
    let location = match moved {
        Some(subnet) => Some(&subnet.network_zone),
        None => now.labels.get(labels::LOCATION),
    };
    let mut spec = json!({ "ip_range": now.ip_range, "location": location });
    labels::tell(&mut spec, &now.labels);
    let usable = now.subnets.iter().any(|it| it.ip_range.as_ref() == Some(&now.ip_range));
    Ok(Live {
        spec,
        status: if usable { Status::Running } else { Status::Pending },
        detail: (!usable).then(|| "it has no subnet over its whole range".to_owned()),
        created_at: Some(now.created),
        ..blank(id, ProviderName::Hetzner, tags, &now.labels)
    })
}
