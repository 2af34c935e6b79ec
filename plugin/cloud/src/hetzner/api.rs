//! What Hetzner answers, as far as it is used here. <https://docs.hetzner.cloud/>

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

pub(super) type LabelMap = BTreeMap<String, String>;

/// What has a name, labels, and a list of its own.
pub(super) trait Thing: serde::de::DeserializeOwned + Send {
    /// `servers`: the path, and the field of the answer.
    const LIST: &'static str;
    /// `server`: the field of an answer about one.
    const ONE: &'static str;

    fn id(&self) -> u64;
    fn name(&self) -> &str;
    fn labels(&self) -> &LabelMap;
    fn labels_mut(&mut self) -> &mut LabelMap;
}

macro_rules! thing {
    ($type:ident, $list:literal, $one:literal) => {
        impl Thing for $type {
            const LIST: &'static str = $list;
            const ONE: &'static str = $one;

            fn id(&self) -> u64 {
                self.id
            }

            fn name(&self) -> &str {
                &self.name
            }

            fn labels(&self) -> &LabelMap {
                &self.labels
            }

            fn labels_mut(&mut self) -> &mut LabelMap {
                &mut self.labels
            }
        }
    };
}

thing!(Network, "networks", "network");
thing!(Server, "servers", "server");
thing!(LoadBalancer, "load_balancers", "load_balancer");
thing!(Firewall, "firewalls", "firewall");
thing!(Volume, "volumes", "volume");
thing!(PlacementGroup, "placement_groups", "placement_group");
thing!(PrimaryIp, "primary_ips", "primary_ip");
thing!(SshKey, "ssh_keys", "ssh_key");

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Named {
    pub(super) name: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Network {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) ip_range: String,
    pub(super) subnets: Vec<Subnet>,
    pub(super) labels: LabelMap,
    pub(super) created: Timestamp,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Subnet {
    pub(super) ip_range: Option<String>,
    pub(super) network_zone: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Server {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) status: ServerStatus,
    pub(super) created: Timestamp,
    pub(super) public_net: PublicNet,
    pub(super) private_net: Vec<PrivateNet>,
    pub(super) server_type: Named,
    pub(super) location: Named,
    /// None once the image it was made from is gone.
    pub(super) image: Option<Image>,
    /// An action is running on it.
    pub(super) locked: bool,
    pub(super) labels: LabelMap,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ServerStatus {
    Running,
    Initializing,
    Starting,
    Stopping,
    Off,
    Deleting,
    Migrating,
    Rebuilding,
    #[serde(other)]
    Unknown,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct PublicNet {
    pub(super) ipv4: Option<Ip>,
    pub(super) ipv6: Option<Ip>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Ip {
    /// Of the primary IP; a load balancer has none.
    #[serde(default)]
    pub(super) id: Option<u64>,
    pub(super) ip: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct PrivateNet {
    pub(super) network: u64,
    pub(super) ip: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Image {
    pub(super) id: u64,
    /// Snapshots have none.
    pub(super) name: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct LoadBalancer {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) public_net: PublicNet,
    pub(super) private_net: Vec<PrivateNet>,
    pub(super) location: Named,
    pub(super) load_balancer_type: Named,
    pub(super) labels: LabelMap,
    pub(super) created: Timestamp,
    pub(super) services: Vec<Service>,
    pub(super) targets: Vec<Target>,
    pub(super) algorithm: Algorithm,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Algorithm {
    #[serde(rename = "type")]
    pub(super) kind: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Service {
    pub(super) protocol: String,
    pub(super) listen_port: u16,
    pub(super) destination_port: u16,
    pub(super) health_check: HealthCheck,
    #[serde(default)]
    pub(super) http: Option<HttpService>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct HttpService {
    #[serde(default)]
    pub(super) certificates: Vec<u64>,
    #[serde(default)]
    pub(super) redirect_http: bool,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct HealthCheck {
    pub(super) protocol: String,
    pub(super) port: u16,
    pub(super) interval: u64,
    pub(super) timeout: u64,
    pub(super) retries: u32,
    #[serde(default)]
    pub(super) http: Option<HttpCheck>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct HttpCheck {
    pub(super) path: String,
    #[serde(default)]
    pub(super) tls: bool,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Target {
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) server: Option<Numbered>,
    #[serde(default)]
    pub(super) label_selector: Option<Selector>,
    #[serde(default)]
    pub(super) ip: Option<TargetIp>,
    /// The servers that the selector finds.
    #[serde(default)]
    pub(super) targets: Vec<Target>,
    #[serde(default)]
    pub(super) use_private_ip: bool,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct TargetIp {
    pub(super) ip: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Numbered {
    pub(super) id: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Selector {
    pub(super) selector: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Firewall {
    pub(super) id: u64,
    pub(super) name: String,
    #[serde(default)]
    pub(super) labels: LabelMap,
    pub(super) created: Timestamp,
    pub(super) rules: Vec<Rule>,
    pub(super) applied_to: Vec<AppliedTo>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Rule {
    #[serde(default)]
    pub(super) description: Option<String>,
    pub(super) direction: String,
    #[serde(default)]
    pub(super) source_ips: Vec<String>,
    pub(super) protocol: String,
    pub(super) port: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct AppliedTo {
    #[serde(default)]
    pub(super) server: Option<Numbered>,
    #[serde(default)]
    pub(super) label_selector: Option<Selector>,
    /// The servers that the selector finds.
    #[serde(default)]
    pub(super) applied_to_resources: Vec<AppliedTo>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Volume {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) created: Timestamp,
    pub(super) server: Option<u64>,
    pub(super) location: Named,
    pub(super) size: u64,
    pub(super) labels: LabelMap,
    pub(super) status: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct PlacementGroup {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) labels: LabelMap,
    pub(super) servers: Vec<u64>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct PrimaryIp {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) labels: LabelMap,
    /// `ipv4` or `ipv6`.
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) location: Named,
    /// The server it belongs to.
    pub(super) assignee_id: Option<u64>,
    pub(super) ip: String,
    pub(super) created: Timestamp,
    /// It goes with that server.
    pub(super) auto_delete: bool,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct SshKey {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) public_key: String,
    pub(super) labels: LabelMap,
}

/// Something that Hetzner is doing. <https://docs.hetzner.cloud/#actions>
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Action {
    pub(super) id: u64,
    pub(super) command: String,
    pub(super) status: ActionStatus,
    pub(super) error: Option<ActionError>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ActionStatus {
    Running,
    Success,
    Error,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct ActionError {
    pub(super) code: String,
    pub(super) message: String,
}

/// The actions that came with an answer, whatever else is in it.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Begun {
    #[serde(default)]
    pub(super) action: Option<Action>,
    #[serde(default)]
    pub(super) actions: Vec<Action>,
    #[serde(default)]
    pub(super) next_actions: Vec<Action>,
}

impl Begun {
    pub(super) fn all(self) -> Vec<Action> {
        let all = self.action.into_iter().chain(self.actions).chain(self.next_actions);
        all.collect()
    }
}
