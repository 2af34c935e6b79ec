//! The SSH keys that may log in at a new server.

use ha_core::resource::ResourceId;
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{api::SshKey, cloud::Cloud, errors};
use crate::{ProviderError, rest::RestError};

impl Cloud {
    /// The numbers of these keys, each written by its name, its number or its fingerprint. A name that the account
    /// does not have is uploaded, when there is a public key to upload.
    ///
    /// The list of keys may be asked for ten times a minute
    /// (<https://docs.digitalocean.com/reference/api/reference/#rate-limit>): it is asked for once, and again only
    /// when a key is not in it.
    pub(super) async fn ssh_keys(&self, written: &[&str], id: &ResourceId) -> Result<Vec<u64>, ProviderError> {
        if written.is_empty() {
            return Ok(Vec::new());
        }
        // Held over the upload, so that two servers do not both upload it.
        let mut known = self.keys.lock().await;
        let mut all = match known.take() {
            Some(all) if written.iter().all(|word| find(&all, word).is_some()) => all,
            _ => self.all_keys().await.map_err(|error| errors::outcome(error, id))?,
        };
        let mut numbers = Vec::new();
        for word in written {
            let number = match find(&all, word) {
                Some(key) => key.id,
                None => {
                    let key = self.upload(word, &all, id).await?;
                    let number = key.id;
                    all.push(key);
                    number
                }
            };
            numbers.push(number);
        }
        *known = Some(all);
        Ok(numbers)
    }

    async fn all_keys(&self) -> Result<Vec<SshKey>, RestError> {
        self.list_at("/v2/account/keys", "ssh_keys", "id", &[]).await
    }

    async fn upload(&self, name: &str, all: &[SshKey], id: &ResourceId) -> Result<SshKey, ProviderError> {
        #[derive(Deserialize)]
        struct Answer {
            ssh_key: SshKey,
        }
        let Some(public_key) = &self.options.ssh_public_key else {
            return Err(ProviderError::Missing {
                id: id.clone(),
                needs: format!("the SSH key {name} at DigitalOcean (upload it, or give ha its public half)"),
            });
        };
        // An account has each key once.
        if let Some(other) = all.iter().find(|it| material(&it.public_key) == material(public_key)) {
            return Err(ProviderError::Taken {
                what: format!("the public key of {name}"),
                by: format!("the SSH key {} at DigitalOcean (number {})", other.name, other.id),
            });
        }
        let body: Value = json!({ "name": name, "public_key": public_key.trim() });
        let answer = self.send::<Answer>(Method::POST, "/v2/account/keys", Some(&body)).await;
        answer.map(|it| it.ssh_key).map_err(|error| errors::outcome(error, id))
    }
}

/// Names are not unique; the first of the account is taken then, always the same.
fn find<'a>(all: &'a [SshKey], word: &str) -> Option<&'a SshKey> {
    let named = all.iter().filter(|it| it.name == word).min_by_key(|it| it.id);
    named.or_else(|| {
        all.iter()
            .find(|it| it.fingerprint == word || it.id.to_string() == word)
    })
}

/// Type and key, without the comment.
fn material(public_key: &str) -> Vec<&str> {
    public_key.split_whitespace().take(2).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: u64, name: &str) -> SshKey {
        SshKey {
            id,
            fingerprint: format!("aa:{id}"),
            name: name.into(),
            public_key: format!("ssh-ed25519 AAAA{id} me@here"),
        }
    }

    #[test]
    fn a_key_is_found_by_its_name_its_number_and_its_fingerprint() {
        let all = [key(2, "ops"), key(1, "ops"), key(3, "2")];
        let found = |word| find(&all, word).map(|it| it.id);
        assert_eq!(found("ops"), Some(1), "the same one, in whichever order they come");
        assert_eq!(found("aa:2"), Some(2));
        assert_eq!(found("1"), Some(1));
        assert_eq!(found("2"), Some(3), "a name goes before a number");
        assert_eq!(found("other"), None);
    }

    #[test]
    fn a_key_is_the_same_whatever_its_comment_says() {
        assert_eq!(material("ssh-ed25519 AAAA me@here\n"), material("ssh-ed25519  AAAA"));
        assert_ne!(material("ssh-ed25519 AAAA"), material("ssh-ed25519 BBBB"));
    }
}
