//! `config.toml`: what differs per operator. Never desired infrastructure, never a secret.
//!
//! ```toml
//! target = "local"                            # or "cloud"
//!
//! [providers.digitalocean]
//! region_name = "us-east"                     # repeats the name in workspace.ncl; for several regions a list,
//!                                             # or a table by location: { nyc3 = "us-east", sfo3 = "us-west" }
//! token = { env = "DIGITALOCEAN_TOKEN" }      # or { command = ["pass", "show", "do"] }, { file = "do.token" }
//!
//! [providers.aws]
//! access_key_id = { env = "AWS_ACCESS_KEY_ID" }
//! secret_access_key = { env = "AWS_SECRET_ACCESS_KEY" }
//! endpoint = "http://127.0.0.1:4566"          # instead of the provider's own
//!
//! [dns]
//! domain = "api.example.com"                  # instead of the one in workspace.ncl
//!
//! [local]
//! app_command = ["/usr/bin/app", "--flag"]    # instead of the reference application
//!
//! [cloud]
//! ssh_public_key = "~/.ssh/id_ed25519.pub"    # uploaded under the names that servers ask for, where there is none
//! guard = { url = "https://…", sha256 = "…" } # where a new server gets ha-guard, for its own processor
//!
//! [prices.aws]
//! "t3.medium" = 30.37                         # dollars a month
//! ```

mod read;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, path::PathBuf};

use crate::{
    finding::{Finding, Place},
    names::{ProviderName, RegionName},
};

/// Where the resources are realised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// On this machine, with the real programs.
    #[default]
    Local,
    /// At the declared providers.
    Cloud,
}

/// `config.toml`, or the defaults where there is none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    pub target: Target,
    pub providers: BTreeMap<ProviderName, ProviderConfig>,
    /// Overrides `dns.domain` of the workspace.
    pub dns_domain: Option<String>,
    pub local: LocalConfig,
    pub cloud: CloudConfig,
    /// Dollars a month by the provider's size slug.
    pub prices: BTreeMap<ProviderName, BTreeMap<String, f64>>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProviderConfig {
    /// What the operator believes the regions at this provider are called; `ha check` compares.
    pub regions: Vec<RegionClaim>,
    /// `token`, `access_key_id` …: where to find each, never the thing itself.
    pub credentials: BTreeMap<String, Reference>,
    /// Instead of the provider's own address (stand-ins, proxies).
    pub endpoint: Option<String>,
}

/// One name from `region_name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionClaim {
    pub region: RegionName,
    /// The provider's location, when the table form names it.
    pub location: Option<String>,
    /// In `config.toml`.
    pub place: Option<Place>,
}

/// Where a secret is to be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    Env(String),
    /// Its first line of output.
    Command(Vec<String>),
    /// Of mode 0600.
    File(PathBuf),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalConfig {
    /// Runs on application servers instead of the reference application.
    pub app_command: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CloudConfig {
    /// A file; `~` is the home of whoever runs the command, and a relative path begins at `config.toml`.
    pub ssh_public_key: Option<PathBuf>,
    pub guard: Option<GuardSource>,
}

/// Where a new server gets its guard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardSource {
    pub url: String,
    /// 64 hexadecimal digits.
    pub sha256: String,
}

/// Always a configuration (defaults where something is wrong) and everything that is wrong, each finding placed.
/// Values of credentials are in no finding.
pub fn parse(text: &str, file: &str) -> (Config, Vec<Finding>) {
    read::read(text, file)
}
