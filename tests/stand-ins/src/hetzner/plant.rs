//! Resources put there by a test, as somebody else would have: lookalikes, leftovers, drift.

use super::catalog::find_server_type;
use super::kinds::Labels;
use super::networks::{Network, Subnet};
use super::servers::Server;
use super::small::{Certificate, PlacementGroup, SshKey};
use super::volumes::Volume;
use super::world::World;
use crate::cidr::Cidr;

/// Labels from pairs.
fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

impl World {
    /// A server that runs in nbg1 since before the test, with a public address of each kind; its number.
    /// Names may be taken twice by planting: the API would not allow it.
    pub fn plant_server(&mut self, name: &str, pairs: &[(&str, &str)]) -> u64 {
        let id = self.next_id();
        let server = Server {
            id,
            name: name.to_owned(),
            labels: labels(pairs),
            created: self.now(),
            status: "running",
            server_type: "cpx21".to_owned(),
            location: "nbg1".to_owned(),
            image: "ubuntu-24.04".to_owned(),
            user_data: None,
            ssh_keys: Vec::new(),
            placement_group: None,
            private: Vec::new(),
            disk: find_server_type("cpx21").map_or(0, |one| one.disk),
            protected: false,
            backups: false,
        };
        self.servers.insert(id, server);
        self.give_address("ipv4", "nbg1", Some(id));
        self.give_address("ipv6", "nbg1", Some(id));
        id
    }

    /// A network of this range with one subnet over all of it, in eu-central; its number.
    pub fn plant_network(&mut self, name: &str, range: Cidr, pairs: &[(&str, &str)]) -> u64 {
        let id = self.next_id();
        let subnet = Subnet {
            kind: "cloud",
            range,
            zone: "eu-central".to_owned(),
        };
        let network = Network {
            id,
            name: name.to_owned(),
            labels: labels(pairs),
            created: self.now(),
            range,
            subnets: vec![subnet],
            routes: Vec::new(),
            expose_routes: false,
            protected: false,
        };
        self.networks.insert(id, network);
        id
    }

    /// An unattached volume in nbg1; its number.
    pub fn plant_volume(&mut self, name: &str, size: u64, pairs: &[(&str, &str)]) -> u64 {
        let id = self.next_id();
        let volume = Volume {
            id,
            name: name.to_owned(),
            labels: labels(pairs),
            created: self.now(),
            location: "nbg1".to_owned(),
            size,
            format: None,
            server: None,
            status: "available",
            protected: false,
        };
        self.volumes.insert(id, volume);
        id
    }

    pub fn plant_placement_group(&mut self, name: &str, pairs: &[(&str, &str)]) -> u64 {
        let id = self.next_id();
        let group = PlacementGroup {
            id,
            name: name.to_owned(),
            labels: labels(pairs),
            created: self.now(),
        };
        self.placement_groups.insert(id, group);
        id
    }

    /// A key that nobody has the private half of; its number.
    pub fn plant_ssh_key(&mut self, name: &str) -> u64 {
        let id = self.next_id();
        let [_, _, _, _, a, b, c, d] = id.to_be_bytes();
        let key = SshKey {
            id,
            name: name.to_owned(),
            labels: Labels::new(),
            created: self.now(),
            public_key: format!("ssh-ed25519 planted {name}"),
            fingerprint: format!("00:00:00:00:00:00:00:00:00:00:00:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}"),
        };
        self.ssh_keys.insert(id, key);
        id
    }

    pub fn plant_certificate(&mut self, name: &str, domain_names: &[&str]) -> u64 {
        let id = self.next_id();
        let certificate = Certificate {
            id,
            name: name.to_owned(),
            labels: Labels::new(),
            created: self.now(),
            domain_names: domain_names.iter().map(|name| (*name).to_owned()).collect(),
        };
        self.certificates.insert(id, certificate);
        id
    }
}
