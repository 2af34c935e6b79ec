//! What a token may do: read, or read and write. No part of the API tells it.

use std::collections::BTreeSet;

use async_trait::async_trait;
use http::Method;
use serde_json::{Value, json};

use super::{HetznerProvider, cloud::Cloud};
use crate::{
    Provider,
    rest::{Fault, RestError},
    rights::{Door, Held, Report, Right, Rights, Told, Use},
};

/// The two permissions that a token can be made with.
/// Source: <https://docs.hetzner.com/cloud/api/getting-started/generating-api-token/>.
const READ: &str = "Read";
const READ_WRITE: &str = "Read & Write";

/// Whatever is changed needs the one permission to change.
pub(crate) fn rights() -> Vec<Right> {
    let right = |name, used_for| Right { name, used_for };
    vec![right(READ, Use::Looking), right(READ_WRITE, Use::Servers)]
}

pub(crate) fn policy(needed: &[Right]) -> Value {
    let permission = needed.last().map_or(READ, |it| it.name);
    json!({ "permission": permission })
}

#[async_trait]
impl Rights for HetznerProvider {
    async fn report(&self, uses: &BTreeSet<Use>) -> Report {
        let who = self.account().await.map(|it| it.who);
        let reads = who.is_ok();
        let mut rights = Vec::new();
        if reads {
            for right in self::rights() {
                let held = match right.used_for {
                    Use::Looking => Held::Yes,
                    _ if uses.iter().all(|it| *it == Use::Looking) => continue,
                    _ => self.cloud.may_write().await,
                };
                rights.push(Told {
                    right,
                    location: None,
                    held,
                });
            }
        }
        Report {
            doors: vec![Door { location: None, who }],
            rights,
        }
    }
}

impl Cloud {
    /// Asks for an SSH key without a name and without a key: both are required, so that nothing can come of it, and an
    /// SSH key by itself lets nobody in anywhere. A token that may only read is refused before for its method
    /// (`token_readonly`: "only allowed to perform GET requests").
    /// Source: <https://docs.hetzner.cloud/reference/cloud#errors>.
    async fn may_write(&self) -> Held {
        let empty = json!({});
        let answer = self.rest.send::<Value>(Method::POST, "/ssh_keys", Some(&empty)).await;
        match answer {
            Ok(_) => Held::Unknown("Hetzner took an SSH key without a name: look at what it made of it".into()),
            Err(error) => held(&error),
        }
    }
}

fn held(error: &RestError) -> Held {
    match (&error.fault, error.code()) {
        (_, Some("token_readonly" | "forbidden")) => Held::No,
        (_, Some("invalid_input" | "json_error")) => Held::Yes,
        (Fault::Answered { status: 422, .. }, _) => Held::Yes,
        _ => Held::Unknown(error.to_string()),
    }
}
