//! What is in the accounts of a workspace, whoever's it is, beside what is declared.

mod adoption;
mod orphans;
#[cfg(test)]
pub(crate) mod testing;

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use serde_json::Value;

pub use adoption::{Adoption, Verdict, adoptions};
pub use orphans::{Orphan, Why, YOUNG, orphans};

use crate::{
    names::{ProviderName, RegionName, WorkspaceName},
    resource::{Kind, Labels, Live, Resource, ResourceId, Status},
};

/// What something found is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FoundKind {
    /// What can be declared.
    Resource(Kind),
    /// A public address that is billed by itself. No workspace declares one.
    Address,
}

impl FoundKind {
    /// As in the column `kind`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Resource(kind) => kind.as_str(),
            Self::Address => "address",
        }
    }
}

impl fmt::Display for FoundKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Whose label it carries. Region and name are there unless somebody took them away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub ws: WorkspaceName,
    pub region: Option<RegionName>,
    pub name: Option<String>,
}

impl Owner {
    /// All labels that say whose it is are there.
    pub fn is_whole(&self) -> bool {
        self.region.is_some() && self.name.is_some()
    }
}

/// Why something is billed and does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// A server that is switched off.
    Stopped,
    /// A volume or an address that no server has.
    Unattached,
    /// A balancer with nothing behind it.
    NoTargets,
}

/// One thing that exists at a provider.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    pub kind: FoundKind,
    pub provider: ProviderName,
    /// As its provider calls it; empty where it has no name.
    pub name: String,
    /// None where its provider gives it none: a firewall belongs to no place.
    pub location: Option<String>,
    /// The provider's own id.
    pub number: String,
    pub owner: Option<Owner>,
    /// The user's own labels.
    pub labels: BTreeMap<String, String>,
    /// In the shape of [`crate::desired`], as far as the provider tells it. What only a label could tell (group, index
    /// and roles of a server) is null or empty without one, and `targets` are names of servers. Fields that no
    /// workspace can say are beside the others, in the provider's words.
    pub spec: Value,
    pub status: Status,
    pub detail: Option<String>,
    pub address: Option<String>,
    pub size: Option<String>,
    pub created_at: Option<Timestamp>,
    pub idle: Option<Idle>,
    /// The provider made it by itself, and nothing is in it: every place of an account has a network like that.
    pub of_the_account: bool,
}

impl Found {
    /// `live` as it was read from something that is called `name` and has the id `number`.
    pub fn new(live: Live, name: &str, number: impl Into<String>, owner: Option<Owner>) -> Self {
        let word = |field: &str| live.spec.get(field).and_then(Value::as_str).map(str::to_owned);
        Self {
            kind: FoundKind::Resource(live.id.kind),
            provider: live.provider,
            name: name.to_owned(),
            location: word("location").or_else(|| word("region")),
            number: number.into(),
            owner,
            labels: BTreeMap::new(),
            idle: idle(&live),
            spec: live.spec,
            status: live.status,
            detail: live.detail,
            address: live.address,
            size: live.size,
            created_at: live.created_at,
            of_the_account: false,
        }
    }

    pub fn is_of(&self, ws: &WorkspaceName) -> bool {
        self.owner.as_ref().is_some_and(|owner| owner.ws == *ws)
    }

    /// Its label says that it is this one.
    pub fn is(&self, id: &ResourceId, ws: &WorkspaceName) -> bool {
        let labelled = self.owner.as_ref().filter(|owner| owner.ws == *ws);
        labelled.is_some_and(|owner| {
            self.kind == FoundKind::Resource(id.kind)
                && owner.region.as_ref() == Some(&id.region)
                && owner.name.as_ref() == Some(&id.name)
        })
    }

    /// It could be this one, if it carried its label: the same kind, provider and name, and not in another place.
    pub fn could_be(&self, want: &Resource) -> bool {
        let place = want.spec.get("location").or_else(|| want.spec.get("region"));
        let elsewhere = match (place.and_then(Value::as_str), &self.location) {
            // Where a network lies is not told by every provider, and may be a guess.
            (Some(wanted), Some(found)) => wanted != found && want.id.kind != Kind::Network,
            _ => false,
        };
        self.kind == FoundKind::Resource(want.id.kind)
            && self.provider == want.provider
            && self.name == want.id.name
            && !elsewhere
    }

    /// For what is asked of something that exists, as its price. None of what cannot be declared.
    pub fn as_live(&self) -> Option<Live> {
        let FoundKind::Resource(kind) = self.kind else {
            return None;
        };
        let owner = self.owner.as_ref();
        let ws = owner.map_or_else(|| WorkspaceName::new(""), |it| it.ws.clone());
        let region = owner.and_then(|it| it.region.clone());
        let region = region.unwrap_or_else(|| RegionName::new(self.location.clone().unwrap_or_default()));
        Some(Live {
            id: ResourceId::new(&region, kind, self.name.clone()),
            provider: self.provider,
            labels: Labels {
                ws,
                region,
                name: self.name.clone(),
                spec: String::new(),
            },
            spec: self.spec.clone(),
            status: self.status,
            detail: self.detail.clone(),
            address: self.address.clone(),
            private_address: None,
            size: self.size.clone(),
            created_at: self.created_at,
            depends_on: Vec::new(),
            protect: false,
            role: None,
            endpoints: BTreeMap::new(),
        })
    }
}

/// Of its kind, by what its provider tells.
fn idle(live: &Live) -> Option<Idle> {
    let empty = |field: &str| match live.spec.get(field) {
        None | Some(Value::Null) => true,
        Some(Value::Array(all)) => all.is_empty(),
        Some(_) => false,
    };
    match live.id.kind {
        Kind::Server if live.status == Status::Off => Some(Idle::Stopped),
        Kind::Volume if empty("attach_to") => Some(Idle::Unattached),
        Kind::LoadBalancer if empty("targets") => Some(Idle::NoTargets),
        _ => None,
    }
}

/// Its provider has no object for it: it runs on a server, and is known by a label there.
pub fn runs_on_a_server(want: &Resource) -> bool {
    let hosted = matches!(want.id.kind, Kind::Store | Kind::Database);
    hosted && want.spec.get("server").is_some_and(Value::is_string)
}
