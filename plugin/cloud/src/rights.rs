//! What a credential must be allowed to do, by the names that the provider's own console has for it, and what it may.
//!
//! Each provider has one list ([`of`]). `ha check --credentials` asks for what is on it, and `ha check --policy` prints
//! it as the smallest policy, so that the two never differ.

use std::{collections::BTreeSet, fmt};

use async_trait::async_trait;
use ha_core::{
    model::Workspace,
    names::ProviderName,
    resource::{Kind, Resource},
};
use serde_json::Value;

use crate::{ProviderError, aws, digitalocean, hetzner};

/// What a workspace needs a right for. Looking is needed by everybody, and is at everything: what is left of a kind that
/// is declared no more has to be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Use {
    Looking,
    Networks,
    Firewalls,
    Volumes,
    Servers,
    /// Managed ones; those that run on servers need nothing of their own.
    Databases,
    LoadBalancers,
    Dns,
}

impl Use {
    pub const ALL: [Self; 8] = [
        Self::Looking,
        Self::Networks,
        Self::Firewalls,
        Self::Volumes,
        Self::Servers,
        Self::Databases,
        Self::LoadBalancers,
        Self::Dns,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Looking => "looking",
            Self::Networks => "networks",
            Self::Firewalls => "firewalls",
            Self::Volumes => "volumes",
            Self::Servers => "servers",
            Self::Databases => "managed databases",
            Self::LoadBalancers => "load balancers",
            Self::Dns => "dns",
        }
    }

    /// What `provider` is needed for by these resources of the workspace.
    pub fn by(provider: ProviderName, workspace: &Workspace, resources: &[Resource]) -> BTreeSet<Self> {
        let own = resources.iter().filter(|it| it.provider == provider);
        let mut uses: BTreeSet<Self> = own
            .map(|it| match it.id.kind {
                Kind::Network => Self::Networks,
                Kind::Firewall => Self::Firewalls,
                Kind::Volume => Self::Volumes,
                Kind::Server | Kind::Store => Self::Servers,
                Kind::Database if it.spec.get("server").is_some() => Self::Servers,
                Kind::Database => Self::Databases,
                Kind::LoadBalancer => Self::LoadBalancers,
            })
            .collect();
        uses.insert(Self::Looking);
        let dns = workspace.dns.as_ref().and_then(|it| it.kind.split('.').next());
        if dns == Some(provider.as_str()) {
            uses.insert(Self::Dns);
        }
        uses
    }
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One right, as it is called where it is given: `droplet:create`, `ec2:RunInstances`, `Read & Write`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Right {
    pub name: &'static str,
    pub used_for: Use,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    Yes,
    No,
    /// Why it could not be found out without changing anything.
    Unknown(String),
}

/// What the provider said about one right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub right: Right,
    /// Where, at providers whose answer may differ from place to place.
    pub location: Option<String>,
    pub held: Held,
}

/// One address that was asked who is asking: the provider's, or that of one of its places.
#[derive(Debug)]
pub struct Door {
    pub location: Option<String>,
    /// Whose credential it is, as far as the provider tells.
    pub who: Result<String, ProviderError>,
}

#[derive(Debug)]
pub struct Report {
    /// At least one.
    pub doors: Vec<Door>,
    /// In the order of the list; nothing of a place that let nobody in.
    pub rights: Vec<Told>,
}

/// A provider whose credentials can be asked what they may do. Asking changes nothing there.
#[async_trait]
pub trait Rights: Send + Sync {
    /// Who is asking, and each right that one of `uses` needs. What goes wrong is part of the report: a provider that
    /// cannot be reached is a door with an error.
    async fn report(&self, uses: &BTreeSet<Use>) -> Report;
}

/// Everything that is asked of a credential of this provider, in the order of its tables.
pub fn of(provider: ProviderName) -> Vec<Right> {
    match provider {
        ProviderName::Digitalocean => digitalocean::rights(),
        ProviderName::Hetzner => hetzner::rights(),
        ProviderName::Aws => aws::rights(),
        ProviderName::Local => Vec::new(),
    }
}

/// Of the list, what these uses need.
pub fn needed(provider: ProviderName, uses: &BTreeSet<Use>) -> Vec<Right> {
    let all = of(provider);
    all.into_iter().filter(|it| uses.contains(&it.used_for)).collect()
}

/// The least that a credential needs, in the form in which the provider takes it: an IAM policy, the scopes of a token,
/// or the permission that is chosen for one. None where there are no credentials.
pub fn policy(provider: ProviderName, uses: &BTreeSet<Use>, locations: &[String]) -> Option<Value> {
    let needed = needed(provider, uses);
    match provider {
        ProviderName::Digitalocean => Some(digitalocean::policy(&needed)),
        ProviderName::Hetzner => Some(hetzner::policy(&needed)),
        ProviderName::Aws => Some(aws::policy(&needed, locations)),
        ProviderName::Local => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const CLOUDS: [ProviderName; 3] = [ProviderName::Digitalocean, ProviderName::Hetzner, ProviderName::Aws];

    #[test]
    fn each_right_is_on_the_list_once() {
        for provider in CLOUDS {
            let mut counted: BTreeMap<&str, usize> = BTreeMap::new();
            of(provider)
                .iter()
                .for_each(|it| *counted.entry(it.name).or_default() += 1);
            let twice: Vec<_> = counted.into_iter().filter(|(_, count)| *count > 1).collect();
            assert_eq!(twice, [], "{provider}");
        }
    }

    #[test]
    fn a_policy_has_what_is_needed_and_nothing_else() {
        let few = BTreeSet::from([Use::Looking, Use::Networks]);
        let all = BTreeSet::from(Use::ALL);
        for provider in CLOUDS {
            let text = |uses| {
                policy(provider, uses, &["ap-southeast-1".to_owned()])
                    .expect("a cloud")
                    .to_string()
            };
            let (few_text, all_text) = (text(&few), text(&all));
            for right in of(provider) {
                let name = format!("\"{}\"", right.name);
                // Hetzner has two steps alone, and the higher one holds the lower.
                if provider != ProviderName::Hetzner {
                    assert!(all_text.contains(&name), "{name} is not in {all_text}");
                    assert_eq!(few_text.contains(&name), few.contains(&right.used_for), "{name}");
                }
            }
        }
    }
}
