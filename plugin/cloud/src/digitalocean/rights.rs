//! What a token may do: scopes, each asked for by a request that cannot change anything.
//!
//! The API does not tell the scopes of a token; a request without its scope is answered with 403, and each path of the
//! API description says which it needs.
//! Sources: <https://docs.digitalocean.com/reference/api/scopes/>, <https://github.com/digitalocean/openapi> (`security`).

use std::collections::BTreeSet;

use async_trait::async_trait;
use futures::future::join_all;
use http::Method;
use serde_json::{Value, json};

use super::{DigitalOceanProvider, cloud::Cloud};
use crate::{
    Provider, ProviderError,
    rest::{Fault, RestError},
    rights::{Door, Held, Report, Right, Rights, Told, Use},
};

/// A request that only who has the scope is let through with.
enum Trial {
    Read(&'static str),
    /// Refused for its content: a new thing of which nothing is said, not even what is required, or a change to what
    /// does not exist.
    Refused(Method, &'static str),
    /// As above, of a kind that needs a name alone: it is given one that none can have.
    Misnamed(&'static str),
}

use Trial::{Misnamed, Read, Refused};

/// Neither a tag (no full stops) nor a domain (no empty labels; RFC 1035, 2.3.1). It stands in the paths, too.
const NO_NAME: &str = "a..b";

/// A path that leads to nothing: no thing is given this id (RFC 9562, 5.9). Droplets are counted from one instead.
macro_rules! none_of {
    ($kind:literal) => {
        concat!("/v2/", $kind, "/00000000-0000-0000-0000-000000000000")
    };
    ($kind:literal, $rest:literal) => {
        concat!("/v2/", $kind, "/00000000-0000-0000-0000-000000000000", $rest)
    };
}

/// Every scope that is needed, what for, and how it is asked for.
const SCOPES: &[(&str, Use, Trial)] = &[
    ("account:read", Use::Looking, Read("/v2/account")),
    ("regions:read", Use::Looking, Read("/v2/regions")),
    ("sizes:read", Use::Looking, Read("/v2/sizes")),
    ("image:read", Use::Looking, Read("/v2/images")),
    ("actions:read", Use::Looking, Read("/v2/actions")),
    ("tag:read", Use::Looking, Read("/v2/tags")),
    ("ssh_key:read", Use::Looking, Read("/v2/account/keys")),
    ("vpc:read", Use::Looking, Read("/v2/vpcs")),
    ("droplet:read", Use::Looking, Read("/v2/droplets")),
    ("load_balancer:read", Use::Looking, Read("/v2/load_balancers")),
    ("firewall:read", Use::Looking, Read("/v2/firewalls")),
    ("block_storage:read", Use::Looking, Read("/v2/volumes")),
    ("database:read", Use::Looking, Read("/v2/databases")),
    ("vpc:create", Use::Networks, Refused(Method::POST, "/v2/vpcs")),
    ("vpc:update", Use::Networks, Refused(Method::PUT, none_of!("vpcs"))),
    ("vpc:delete", Use::Networks, Refused(Method::DELETE, none_of!("vpcs"))),
    ("tag:create", Use::Servers, Misnamed("/v2/tags")),
    ("tag:delete", Use::Servers, Refused(Method::DELETE, "/v2/tags/a..b")),
    (
        "ssh_key:create",
        Use::Servers,
        Refused(Method::POST, "/v2/account/keys"),
    ),
    ("droplet:create", Use::Servers, Refused(Method::POST, "/v2/droplets")),
    (
        "droplet:update",
        Use::Servers,
        Refused(Method::POST, "/v2/droplets/0/actions"),
    ),
    (
        "droplet:delete",
        Use::Servers,
        Refused(Method::DELETE, "/v2/droplets/0"),
    ),
    (
        "load_balancer:create",
        Use::LoadBalancers,
        Refused(Method::POST, "/v2/load_balancers"),
    ),
    (
        "load_balancer:update",
        Use::LoadBalancers,
        Refused(Method::PUT, none_of!("load_balancers")),
    ),
    (
        "load_balancer:delete",
        Use::LoadBalancers,
        Refused(Method::DELETE, none_of!("load_balancers")),
    ),
    (
        "firewall:create",
        Use::Firewalls,
        Refused(Method::POST, "/v2/firewalls"),
    ),
    (
        "firewall:update",
        Use::Firewalls,
        Refused(Method::PUT, none_of!("firewalls")),
    ),
    (
        "firewall:delete",
        Use::Firewalls,
        Refused(Method::DELETE, none_of!("firewalls")),
    ),
    (
        "block_storage:create",
        Use::Volumes,
        Refused(Method::POST, "/v2/volumes"),
    ),
    (
        "block_storage:delete",
        Use::Volumes,
        Refused(Method::DELETE, none_of!("volumes")),
    ),
    (
        "block_storage_action:create",
        Use::Volumes,
        Refused(Method::POST, none_of!("volumes", "/actions")),
    ),
    (
        "block_storage_action:read",
        Use::Volumes,
        Read(none_of!("volumes", "/actions")),
    ),
    (
        "database:create",
        Use::Databases,
        Refused(Method::POST, "/v2/databases"),
    ),
    (
        "database:update",
        Use::Databases,
        Refused(Method::PUT, none_of!("databases", "/resize")),
    ),
    (
        "database:delete",
        Use::Databases,
        Refused(Method::DELETE, none_of!("databases")),
    ),
    ("domain:read", Use::Dns, Read("/v2/domains")),
    ("domain:create", Use::Dns, Misnamed("/v2/domains")),
    (
        "domain:update",
        Use::Dns,
        Refused(Method::PATCH, "/v2/domains/a..b/records/0"),
    ),
    ("domain:delete", Use::Dns, Refused(Method::DELETE, "/v2/domains/a..b")),
];

pub(crate) fn rights() -> Vec<Right> {
    let all = SCOPES.iter();
    all.map(|(name, used_for, _)| Right {
        name,
        used_for: *used_for,
    })
    .collect()
}

/// The scopes to choose where a token is made with custom scopes.
/// Source: <https://docs.digitalocean.com/reference/api/create-personal-access-token/>.
pub(crate) fn policy(needed: &[Right]) -> Value {
    let names: Vec<&str> = needed.iter().map(|it| it.name).collect();
    json!({ "scopes": names })
}

#[async_trait]
impl Rights for DigitalOceanProvider {
    async fn report(&self, uses: &BTreeSet<Use>) -> Report {
        let who = match self.account().await {
            // It is a scope that is missing, and not the token.
            Err(ProviderError::Denied { .. }) if self.cloud.may(&Read("/v2/account")).await == Held::No => {
                Ok("an account that this token may not name".to_owned())
            }
            who => who.map(|it| it.who),
        };
        let mut rights = Vec::new();
        if who.is_ok() {
            let needed = SCOPES.iter().filter(|(_, used_for, _)| uses.contains(used_for));
            let asked = needed.map(|(name, used_for, trial)| async move {
                Told {
                    right: Right {
                        name,
                        used_for: *used_for,
                    },
                    location: None,
                    held: self.cloud.may(trial).await,
                }
            });
            rights = join_all(asked).await;
        }
        Report {
            doors: vec![Door { location: None, who }],
            rights,
        }
    }
}

impl Cloud {
    async fn may(&self, trial: &Trial) -> Held {
        let answer = match trial {
            Read(path) => self.rest.get::<Value>(path, &[("per_page", "1".to_owned())]).await,
            Refused(method, path) => {
                let body = (*method != Method::DELETE).then(|| json!({}));
                self.rest.send::<Value>(method.clone(), path, body.as_ref()).await
            }
            Misnamed(path) => {
                let body = json!({ "name": NO_NAME });
                self.rest.send::<Value>(Method::POST, path, Some(&body)).await
            }
        };
        match (answer, trial) {
            (Ok(_), Read(_)) => Held::Yes,
            (Ok(_), Refused(_, path) | Misnamed(path)) => Held::Unknown(format!(
                "DigitalOcean took a request to {path} that says nothing: look at what it made of it"
            )),
            (Err(error), _) => held(&error),
        }
    }
}

fn held(error: &RestError) -> Held {
    match error.fault {
        Fault::Answered { status: 403, .. } => Held::No,
        // Let through, and found wanting.
        Fault::Answered {
            status: 400 | 404 | 405 | 409 | 412 | 422,
            ..
        } => Held::Yes,
        _ => Held::Unknown(error.to_string()),
    }
}
