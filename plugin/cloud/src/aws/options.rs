//! How the provider is opened.

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use ha_core::{
    names::{RegionName, WorkspaceName},
    resource::{Kind, Resource},
};

use crate::{UserDataOf, limits::Ledger, local::state::layout::port, secret::Secret};

#[derive(Clone)]
pub struct Options {
    pub workspace: WorkspaceName,
    pub credentials: Credentials,
    /// The AWS regions of the workspace (`ap-southeast-1`): all of them are looked at, nothing outside of them is.
    pub locations: Vec<String>,
    /// In place of AWS's own endpoints, for every service: `http://127.0.0.1:5000`.
    pub endpoint: Option<String>,
    /// The key pair that servers are made with; none makes servers that nobody can log into.
    pub ssh_key: Option<SshKey>,
    pub user_data: UserDataOf,
    /// TCP ports of servers that everybody may reach ([`open_ports`]); within their network they reach each other on all.
    /// More is let in by `aws.SecurityGroup`.
    pub open_ports: Vec<u16>,
    /// How long AWS may take over one step: a start, a stop, a balancer, a managed database.
    pub deadline: Duration,
    /// Between the first two looks at something under way; each further one comes later, up to five seconds. Four times
    /// as long before a request that was throttled or lost is sent again.
    pub pause: Duration,
    /// Requests under way at once, over all locations; at least one.
    pub concurrency: usize,
    pub ledger: Arc<Ledger>,
}

/// A key of IAM, and the session that it is valid in where it is a temporary one.
#[derive(Clone, Debug)]
pub struct Credentials {
    pub access_key_id: String,
    pub secret_access_key: Secret,
    pub session_token: Option<Secret>,
}

/// A key pair at AWS, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshKey {
    pub name: String,
    /// `ssh-ed25519 AAAA…`: imported under that name where AWS has none of it.
    pub public_key: Option<String>,
}

/// The ports that have to be open to everybody: SSH; and where what runs on servers of several regions is one database or
/// one store, the ports by which its parts reach each other. Other providers' servers have an address of their own and
/// nothing in front of it; at AWS nobody gets in who is not let in, and the addresses of the others are not known before
/// they are made.
///
/// Whoever gets that far is asked for more: PostgreSQL takes the workspace's own servers alone, by TLS and a password;
/// the store takes certificates of the workspace alone; a guard tells how things stand and takes no orders.
pub fn open_ports(resources: &[Resource]) -> Vec<u16> {
    let regions_of = |kind: Kind| -> BTreeSet<&RegionName> {
        let on_servers = resources.iter().filter(|it| it.spec.get("server").is_some());
        on_servers
            .filter(|it| it.id.kind == kind)
            .map(|it| &it.id.region)
            .collect()
    };
    let mut ports = vec![SSH];
    if regions_of(Kind::Store).len() > 1 {
        ports.extend([port::ETCD_CLIENT, port::ETCD_PEER]);
    }
    if regions_of(Kind::Database).len() > 1 {
        ports.extend([port::POSTGRES, port::GUARD]);
    }
    ports
}

const SSH: u16 = 22;

impl Options {
    /// Without an SSH key and user data, port 22 open, half an hour for each step and sixteen requests at once.
    pub fn new(workspace: WorkspaceName, credentials: Credentials, locations: Vec<String>) -> Self {
        Self {
            workspace,
            credentials,
            locations,
            endpoint: None,
            ssh_key: None,
            user_data: Arc::new(|_| Ok(String::new())),
            open_ports: vec![SSH],
            // A managed database takes ten minutes and more.
            deadline: Duration::from_secs(30 * 60),
            pause: Duration::from_millis(50),
            concurrency: 16,
            ledger: Arc::new(Ledger::new("aws")),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("workspace", &self.workspace)
            .field("locations", &self.locations)
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use ha_core::{names::ProviderName, resource::ResourceId};
    use serde_json::json;

    use super::*;

    fn on_a_server(kind: Kind, region: &str) -> Resource {
        Resource {
            id: ResourceId::new(&RegionName::new(region), kind, format!("{region}-{kind}")),
            provider: ProviderName::Aws,
            spec: json!({ "server": "db-1" }),
            depends_on: Vec::new(),
            protect: true,
            path: String::new(),
        }
    }

    #[test]
    fn what_is_in_several_regions_is_reached_from_the_others_and_nothing_else_is() {
        let (store, database) = (Kind::Store, Kind::Database);
        let alone = [on_a_server(store, "us-east"), on_a_server(database, "us-east")];
        assert_eq!(open_ports(&alone), [22]);
        let stores = [on_a_server(store, "us-east"), on_a_server(store, "us-west")];
        assert_eq!(open_ports(&stores), [22, 2379, 2380]);
        let databases = [on_a_server(database, "us-east"), on_a_server(database, "us-west")];
        assert_eq!(open_ports(&databases), [22, 5432, 8008]);
        let managed = Resource {
            spec: json!({ "engine": "postgres" }),
            ..on_a_server(database, "us-west")
        };
        assert_eq!(open_ports(&[on_a_server(database, "us-east"), managed]), [22]);
    }
}
