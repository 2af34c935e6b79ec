//! What a new server is given: keys that may log in, and a placement group that keeps a group's servers apart.

use ha_core::resource::{Resource, ResourceId};
use serde_json::{Value, json};

use super::{
    actions::Until,
    api::{PlacementGroup, SshKey, Thing},
    cloud::Cloud,
    errors, labels,
};
use crate::ProviderError;

/// The most that Hetzner puts into one group. <https://docs.hetzner.com/cloud/placement-groups/overview#limits>
const SERVERS_PER_GROUP: u64 = 10;

impl Cloud {
    /// Afterwards each key exists; one that does not is uploaded, when there is a public key to upload.
    pub(super) async fn ensure_ssh_keys(&self, names: &[String], id: &ResourceId) -> Result<(), ProviderError> {
        for name in names {
            let found = self.list::<SshKey>(SshKey::LIST, Some(("name", name.clone()))).await;
            if !found.map_err(|error| errors::outcome(error, id))?.is_empty() {
                continue;
            }
            let Some(public_key) = &self.options.ssh_public_key else {
                return Err(ProviderError::Missing {
                    id: id.clone(),
                    needs: format!("the SSH key {name} at Hetzner (upload it, or give ha its public half)"),
                });
            };
            self.upload(name, public_key, id).await?;
        }
        Ok(())
    }

    async fn upload(&self, name: &str, public_key: &str, id: &ResourceId) -> Result<(), ProviderError> {
        let body = json!({ "name": name, "public_key": public_key.trim() });
        let error = match self
            .rest
            .send::<Value>(http::Method::POST, "/ssh_keys", Some(&body))
            .await
        {
            Ok(_) => return Ok(()),
            Err(error) if error.code() == Some("uniqueness_error") => error,
            Err(error) => return Err(errors::outcome(error, id)),
        };
        // Another server of this run was quicker, or the same key is there under another name.
        let all = self.list::<SshKey>(SshKey::LIST, None).await;
        let all = all.map_err(|error| errors::outcome(error, id))?;
        if all.iter().any(|it| it.name == name) {
            return Ok(());
        }
        match all.iter().find(|it| material(&it.public_key) == material(public_key)) {
            Some(other) => Err(ProviderError::Taken {
                what: format!("the public key of {name}"),
                by: format!("the SSH key {} at Hetzner (number {})", other.name, other.id),
            }),
            None => Err(errors::outcome(error, id)),
        }
    }

    /// The placement group for this server, made with the first server of its group.
    pub(super) async fn ensure_placement_group(
        &self,
        group: &str,
        index: u64,
        want: &Resource,
        until: Until,
    ) -> Result<u64, ProviderError> {
        // No name of a group has a dot in it: `eu-app.2` is not the group of that name.
        let name = match index.saturating_sub(1) / SERVERS_PER_GROUP {
            0 => group.to_owned(),
            more => format!("{group}.{}", more + 1),
        };
        // The rules of a server hold for its group; messages name the server.
        let place = ResourceId {
            name: name.clone(),
            ..want.id.clone()
        };
        let found = self.find::<PlacementGroup>(&place).await?;
        if let Some(found) = found {
            return Ok(found.id);
        }
        let mut tags = labels::of(&self.options.workspace, want);
        tags.remove(labels::SPEC);
        tags.insert(labels::NAME.into(), name.clone());
        tags.insert(labels::GROUP.into(), group.to_owned());
        let body = json!({ "name": name, "type": "spread", "labels": tags });
        Ok(self.create::<PlacementGroup>(body, &place, until).await?.id)
    }

    /// Deletes this region's placement groups that no server is in.
    pub(super) async fn sweep_placement_groups(&self, id: &ResourceId, until: Until) -> Result<(), ProviderError> {
        // Not while one was just made for a server that is about to come.
        let _alone = self.spread.write().await;
        let selector = labels::of_region(&self.options.workspace, &id.region);
        let all = self.selected::<PlacementGroup>(selector).await;
        let all = all.map_err(|error| errors::outcome(error, id))?;
        let empty = all.iter().filter(|it| it.servers.is_empty()).map(|it| it.id);
        self.delete_all::<PlacementGroup>(empty, id, until).await
    }
}

/// Type and key, without the comment.
fn material(public_key: &str) -> Vec<&str> {
    public_key.split_whitespace().take(2).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_same_whatever_its_comment_says() {
        assert_eq!(material("ssh-ed25519 AAAA me@here\n"), material("ssh-ed25519  AAAA"));
        assert_ne!(material("ssh-ed25519 AAAA"), material("ssh-ed25519 BBBB"));
    }
}
