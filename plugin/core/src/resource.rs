//! Things that exist at a provider: what is wanted, and what was seen.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    names::{ProviderName, RegionName, WorkspaceName},
    report::NodeRole,
};

/// In order of creation: a kind is made after the kinds before it and removed before them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Network,
    Firewall,
    Volume,
    Server,
    /// One member of the agreement store (etcd).
    Store,
    /// One node of the replicated database, or one managed database.
    Database,
    LoadBalancer,
}

impl Kind {
    pub const ALL: [Self; 7] = [
        Self::Network,
        Self::Firewall,
        Self::Volume,
        Self::Server,
        Self::Store,
        Self::Database,
        Self::LoadBalancer,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Firewall => "firewall",
            Self::Volume => "volume",
            Self::Server => "server",
            Self::Store => "store",
            Self::Database => "database",
            Self::LoadBalancer => "load_balancer",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// Holds what cannot be made again; removed only when the workspace's name was typed out.
    pub const fn holds_data(self) -> bool {
        matches!(self, Self::Volume | Self::Database | Self::Store)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The identity a caller chooses; at most one resource of a workspace carries it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ResourceId {
    pub region: RegionName,
    pub kind: Kind,
    pub name: String,
}

impl ResourceId {
    pub fn new(region: &RegionName, kind: Kind, name: impl Into<String>) -> Self {
        Self {
            region: region.clone(),
            kind,
            name: name.into(),
        }
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} in {}", self.kind, self.name, self.region)
    }
}

/// One wanted resource. Who is primary now is observed and never part of `spec`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resource {
    pub id: ResourceId,
    /// As declared; on the local target another provider realises it.
    pub provider: ProviderName,
    /// A JSON object; what each field means is said where it is built, in [`crate::desired`].
    pub spec: Value,
    pub depends_on: Vec<ResourceId>,
    /// Never removed or replaced by a plan.
    pub protect: bool,
    /// Where the user wrote it: `region_us_east.app_servers`.
    pub path: String,
}

impl Resource {
    pub fn spec_hash(&self) -> String {
        spec_hash(&self.spec)
    }
}

/// Who makes the first database of all.
pub const FOUNDER: &str = "founder";
/// Names of the keys that a new server lets in.
pub const SSH_KEYS: &str = "ssh_keys";
/// What the user adds to the first start of a server.
pub const USER_DATA: &str = "user_data";

/// The fields of a spec that matter once, when the resource is made. They are not hashed and never a difference: another
/// declared primary, or another key, changes nothing that exists.
pub const BOOTSTRAP_FIELDS: [&str; 3] = [FOUNDER, SSH_KEYS, USER_DATA];

/// The spec without [`BOOTSTRAP_FIELDS`]: all that can be seen of it later.
pub fn lasting(spec: &Value) -> Value {
    let mut spec = spec.clone();
    if let Value::Object(fields) = &mut spec {
        for field in BOOTSTRAP_FIELDS {
            fields.remove(field);
        }
    }
    spec
}

/// Sixteen hexadecimal digits over the canonical form of the [`lasting`] spec (`serde_json` keeps keys sorted): short
/// enough for every provider's label rules.
pub fn spec_hash(spec: &Value) -> String {
    let passing = |spec: &Value| BOOTSTRAP_FIELDS.iter().any(|field| spec.get(field).is_some());
    let text = if passing(spec) {
        lasting(spec).to_string()
    } else {
        spec.to_string()
    };
    blake3::hash(text.as_bytes()).to_hex()[..16].to_owned()
}

/// Written on every resource by whoever creates it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Labels {
    pub ws: WorkspaceName,
    pub region: RegionName,
    pub name: String,
    /// [`spec_hash`] of the spec that was applied last.
    pub spec: String,
}

/// What a provider says a resource is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Declared, and not there.
    Absent,
    /// Made or started, not ready yet; also a create that died half-way.
    Pending,
    Running,
    /// Switched off on purpose.
    Off,
    /// Should run and does not.
    Failed,
}

impl Status {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Off => "off",
            Self::Failed => "failed",
        }
    }
}

/// One resource that exists.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Live {
    pub id: ResourceId,
    /// As declared when it was made.
    pub provider: ProviderName,
    pub labels: Labels,
    /// The spec as it is now; differs from `labels.spec` when somebody changed it by hand (drift). Null where nobody
    /// tells it: what runs on a server at a cloud carries its hash on that server.
    pub spec: Value,
    pub status: Status,
    /// Why it is not running, in words.
    pub detail: Option<String>,
    /// Where a client outside the region reaches it.
    pub address: Option<String>,
    /// Where its own region reaches it.
    pub private_address: Option<String>,
    /// `t3.medium`, `s-2vcpu-4gb`.
    pub size: Option<String>,
    pub created_at: Option<Timestamp>,
    /// What was depended on when it was applied; decides the order of removal.
    pub depends_on: Vec<ResourceId>,
    pub protect: bool,
    /// Of a database, as its guard says; none where nobody says, and of everything else.
    #[serde(default)]
    pub role: Option<NodeRole>,
    /// Named endpoints for probes and clients: `guard` → `http://127.93.1.14:8008`.
    pub endpoints: BTreeMap<String, String>,
}
