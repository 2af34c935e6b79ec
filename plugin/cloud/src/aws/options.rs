//! How the provider is opened.

use std::{fmt, sync::Arc, time::Duration};

use ha_core::names::WorkspaceName;

use crate::{UserDataOf, limits::Ledger, secret::Secret};

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
    /// TCP ports of servers that everybody may reach; within their network they reach each other on all.
    /// More is let in by `aws.SecurityGroup`.
    pub open_ports: Vec<u16>,
    /// How long AWS may take over one step: a start, a stop, a balancer, a managed database.
    pub deadline: Duration,
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
            open_ports: vec![22],
            // A managed database takes ten minutes and more.
            deadline: Duration::from_secs(30 * 60),
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
