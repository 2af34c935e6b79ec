//! The key pair that servers are made with.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use aws_sdk_ec2::{primitives::Blob, types::ResourceType};
use ha_core::resource::Resource;

use crate::{
    ProviderError,
    aws::{
        call::Repeat::{Freely, WhenRefused},
        fault::{Class, Fault},
        network::gone_already,
        options::SshKey,
        place::Place,
        tags::{self, CONSOLE_NAME, Tags, WS},
    },
};

/// Locations where the key pair is known to be.
#[derive(Debug, Default)]
pub(in crate::aws) struct Keys {
    there: Mutex<HashSet<String>>,
}

impl Keys {
    /// Afterwards the key pair exists in this place. One of that name is used, whoever made it, unless it is of
    /// another key than ours: servers made with it would let somebody else in.
    pub(in crate::aws) async fn ensure(
        &self,
        place: &Place,
        want: &Resource,
        key: &SshKey,
    ) -> Result<(), ProviderError> {
        if self.lock().contains(&place.location) {
            return Ok(());
        }
        let request = place
            .ec2
            .describe_key_pairs()
            .filters(tags::filter("key-name", &key.name))
            .include_public_key(true);
        let found = place
            .call("ec2:DescribeKeyPairs", Freely, || request.clone().send())
            .await?;
        match (found.key_pairs().first(), &key.public_key) {
            (Some(found), Some(ours)) => {
                let theirs = found.public_key().filter(|it| !it.is_empty());
                if theirs.is_some_and(|theirs| !same_key(theirs, ours)) {
                    return Err(ProviderError::Taken {
                        what: format!("key pair {} in {}", key.name, place.location),
                        by: "another public key".into(),
                    });
                }
            }
            (Some(_), None) => {}
            (None, Some(ours)) => import(place, key, ours).await?,
            (None, None) => {
                return Err(ProviderError::Missing {
                    id: want.id.clone(),
                    needs: format!("key pair {} in {}", key.name, place.location),
                });
            }
        }
        self.lock().insert(place.location.clone());
        Ok(())
    }

    /// Removes what [`Self::ensure`] imported, and nothing that somebody else did.
    pub(in crate::aws) async fn remove(&self, place: &Place) -> Result<(), Fault> {
        self.lock().remove(&place.location);
        let request = place.ec2.describe_key_pairs().filters(tags::ours(&place.workspace));
        let found = place
            .call("ec2:DescribeKeyPairs", Freely, || request.clone().send())
            .await?;
        for name in found.key_pairs().iter().filter_map(|it| it.key_name()) {
            let request = place.ec2.delete_key_pair().key_name(name);
            gone_already(place.call("ec2:DeleteKeyPair", Freely, || request.clone().send()).await)?;
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.there.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn import(place: &Place, key: &SshKey, public: &str) -> Result<(), ProviderError> {
    let tags = Tags::from([
        (WS.to_owned(), place.workspace.to_string()),
        (CONSOLE_NAME.to_owned(), key.name.clone()),
    ]);
    let request = place
        .ec2
        .import_key_pair()
        .key_name(&key.name)
        .public_key_material(Blob::new(public.trim().as_bytes()))
        .tag_specifications(tags::at_birth(ResourceType::KeyPair, &tags));
    match place
        .call("ec2:ImportKeyPair", WhenRefused, || request.clone().send())
        .await
    {
        // Another server of the same run was quicker.
        Err(fault) if fault.is(Class::Exists) => Ok(()),
        outcome => Ok(outcome.map(drop)?),
    }
}

/// By kind and key; what stands behind them is a comment.
fn same_key(one: &str, other: &str) -> bool {
    let parts = |text: &str| -> Vec<String> { text.split_whitespace().take(2).map(str::to_owned).collect() };
    parts(one) == parts(other)
}

#[cfg(test)]
mod tests {
    use super::same_key;

    #[test]
    fn a_comment_does_not_make_another_key() {
        assert!(same_key("ssh-ed25519 AAAA me@here", "ssh-ed25519 AAAA\n"));
        assert!(!same_key("ssh-ed25519 AAAA", "ssh-ed25519 AAAB"));
    }
}
