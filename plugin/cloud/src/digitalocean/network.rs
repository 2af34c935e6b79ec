//! Networks (VPCs). They have no tags: the labels are words of their description.

use ha_core::resource::{Kind, Live, Resource, ResourceId};
use http::Method;
use serde_json::{Value, json};

use super::{
    api::{Member, Vpc},
    cloud::Cloud,
    errors,
    labels::{self, Owned},
    observe::{blank, cannot_become, text},
};
use crate::{ProviderError, rest::RestError};

impl Cloud {
    pub(super) async fn ensure_network(&self, want: &Resource) -> Result<Live, ProviderError> {
        let id = &want.id;
        let (ip_range, location) = (text(want, "ip_range")?, text(want, "location")?);
        let now = match self.find_network(want).await? {
            Some(now) => now,
            None => self.create_network(want).await?,
        };
        if now.ip_range != ip_range {
            return Err(cannot_become(want, "range", &now.ip_range, ip_range));
        }
        if now.region != location {
            return Err(cannot_become(want, "location", &now.region, location));
        }
        let description = self.description(want);
        let mut now = now;
        if now.description != description || now.name != id.name {
            let body = json!({ "name": id.name, "description": description });
            self.put_network(&now, &body, id).await?;
            now.description = description;
        }
        self.network(&now).ok_or_else(|| ProviderError::NotReady {
            id: id.clone(),
            detail: "its description does not say any more that it is ours".into(),
        })
    }

    async fn create_network(&self, want: &Resource) -> Result<Vpc, ProviderError> {
        let id = &want.id;
        let error = match self.create::<Vpc>(&request(want, &self.description(want))).await {
            Ok(made) => return Ok(made),
            Err(error) => error,
        };
        if errors::overlaps(&error) {
            let by = error.to_string();
            return Err(ProviderError::Taken {
                what: format!("the range of {id}"),
                by: format!("another network of this account ({by})"),
            });
        }
        if errors::may_be_there(&error)
            && let Some(found) = self.find_network(want).await?
        {
            return Ok(found);
        }
        Err(errors::outcome(error, id))
    }

    /// The one of this identity, also when it was removed and DigitalOcean kept it.
    ///
    /// # Errors
    ///
    /// [`ProviderError::Taken`] when its name belongs to one that does not carry our labels.
    async fn find_network(&self, want: &Resource) -> Result<Option<Vpc>, ProviderError> {
        let id = &want.id;
        let all = self
            .list::<Vpc>(&[])
            .await
            .map_err(|error| errors::outcome(error, id))?;
        let is = |it: &Vpc| {
            let marked = self.marked(it).is_some_and(|owned| owned.id == *id);
            // One that was kept is of use as it is, or not at all.
            marked && (self.owns_network(it).is_some() || spec(it) == want.spec)
        };
        let (mut ours, others): (Vec<Vpc>, Vec<Vpc>) = all.into_iter().partition(is);
        if let Some(other) = others.iter().find(|it| it.name == id.name) {
            return Err(ProviderError::Taken {
                what: format!("the name {}", id.name),
                by: format!(
                    "the VPC {} at DigitalOcean, which does not carry the labels of {id}",
                    other.id
                ),
            });
        }
        // Names are unique, so a second one is nothing of our making.
        Ok(ours.pop())
    }

    pub(super) async fn remove_network(&self, id: &ResourceId) -> Result<(), ProviderError> {
        let all = self.networks().await.map_err(|error| errors::outcome(error, id))?;
        for now in all
            .iter()
            .filter(|it| self.owns_network(it).is_some_and(|owned| owned.id == *id))
        {
            if now.default {
                self.give_back(now, id).await?;
            } else {
                self.delete_network(now, id).await?;
            }
        }
        // What a removal that was cut short left behind, and what was lost with a server.
        self.release_waiting(&id.region, id).await?;
        self.sweep(id).await
    }

    /// The first network of a region is its default, and nobody can remove it
    /// (<https://docs.digitalocean.com/reference/api/reference/vpcs/>). It costs nothing; its description says from now
    /// on that it is left over, and this workspace takes it again when it wants one like it.
    async fn give_back(&self, now: &Vpc, id: &ResourceId) -> Result<(), ProviderError> {
        let mut words = labels::from_marker(&now.description);
        words.push(labels::flag(labels::KEPT));
        let body = json!({
            // The name is free for another of this workspace.
            "name": format!("ha-kept-{}", now.id),
            "description": labels::marker(LEFT_OVER, &words.into_iter().collect()),
        });
        self.put_network(now, &body, id).await
    }

    /// What was in it a moment ago may still be counted.
    async fn delete_network(&self, now: &Vpc, id: &ResourceId) -> Result<(), ProviderError> {
        let path = format!("/v2/vpcs/{}", now.id);
        let mut wait = self.wait();
        loop {
            let error = match self.send::<Value>(Method::DELETE, &path, None).await {
                Ok(_) => return Ok(()),
                Err(error) if errors::is_absent(&error) => return Ok(()),
                Err(error) => error,
            };
            let members = match error.status() {
                Some(403 | 409) => self.members(now).await.map_err(|error| errors::outcome(error, id))?,
                _ => return Err(errors::outcome(error, id)),
            };
            // 403 is as well what a token without the right to delete is told.
            if error.status() == Some(403) && members.is_empty() && !errors::names_members(&error) {
                return Err(errors::outcome(error, id));
            }
            if !wait.pause().await {
                let members: Vec<&str> = members.iter().map(|it| it.urn.as_str()).collect();
                return Err(ProviderError::NotReady {
                    id: id.clone(),
                    detail: format!("its removal waits for what is in it: {}", members.join(", ")),
                });
            }
        }
    }

    async fn members(&self, now: &Vpc) -> Result<Vec<Member>, RestError> {
        let path = format!("/v2/vpcs/{}/members", now.id);
        match self.list_at(&path, "members", "urn", &[]).await {
            Err(error) if errors::is_absent(&error) => Ok(Vec::new()),
            other => other,
        }
    }

    async fn put_network(&self, now: &Vpc, body: &Value, id: &ResourceId) -> Result<(), ProviderError> {
        let path = format!("/v2/vpcs/{}", now.id);
        let answer = self.send::<Value>(Method::PUT, &path, Some(body)).await;
        answer.map(drop).map_err(|error| errors::outcome(error, id))
    }

    fn description(&self, want: &Resource) -> String {
        labels::marker(MADE_BY_US, &labels::identity(&self.options.workspace, want))
    }

    fn marked(&self, now: &Vpc) -> Option<Owned> {
        self.owns(Kind::Network, &labels::from_marker(&now.description))
    }

    /// None when it is not of this workspace, or was removed from it and could not be deleted.
    pub(super) fn owns_network(&self, now: &Vpc) -> Option<Owned> {
        let kept = labels::is_set(&labels::from_marker(&now.description), labels::KEPT);
        self.marked(now).filter(|_| !kept)
    }

    pub(super) fn network(&self, now: &Vpc) -> Option<Live> {
        let owned = self.owns_network(now)?;
        Some(Live {
            created_at: now.created_at,
            ..blank(&owned, spec(now))
        })
    }
}

const MADE_BY_US: &str = "Labels of ha:";
const LEFT_OVER: &str = "Left by ha:";

fn request(want: &Resource, description: &str) -> Value {
    json!({
        "name": want.id.name,
        "region": want.spec["location"],
        "ip_range": want.spec["ip_range"],
        "description": description,
    })
}

fn spec(now: &Vpc) -> Value {
    json!({ "ip_range": now.ip_range, "location": now.region })
}

#[cfg(test)]
mod tests {
    use ha_core::names::{ProviderName, RegionName};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_asked_for_is_what_is_read(second in 0u8.., bits in 16u8..=28, location in "[a-z]{3}[1-3]") {
            let want = Resource {
                id: ResourceId::new(&RegionName::new("us-east"), Kind::Network, "us-net"),
                provider: ProviderName::Digitalocean,
                spec: json!({ "ip_range": format!("10.{second}.0.0/{bits}"), "location": location }),
                depends_on: Vec::new(),
                protect: false,
                path: "region_us_east.network".into(),
            };
            let mut answer = request(&want, "Labels of ha:");
            answer["id"] = "5a4981aa-9653-4bd1-bef5-d6bff52042e4".into();
            answer["default"] = false.into();
            answer["created_at"] = "2020-03-13T19:20:47.442049222Z".into();
            let now: Vpc = serde_json::from_value(answer).expect("a VPC");
            prop_assert_eq!(spec(&now), want.spec);
        }
    }
}
