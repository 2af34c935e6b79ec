//! Resources put there by a test, as somebody else would have: lookalikes, leftovers, drift.

use std::net::Ipv4Addr;

use super::catalog::find_size;
use super::droplets::Droplet;
use super::small::{Certificate, SshKey};
use super::volumes::Volume;
use super::world::World;
use crate::cidr::Cidr;

fn texts(all: &[&str]) -> Vec<String> {
    all.iter().map(|one| (*one).to_owned()).collect()
}

impl World {
    /// A Droplet that is active in nyc3 since before the test, in no VPC that can be found; its number.
    /// Droplet names are not unique: two of the same name are what the API allows as well.
    pub fn plant_droplet(&mut self, name: &str, tags: &[&str]) -> u64 {
        let id = self.next_id();
        let tags = texts(tags);
        self.tags.extend(tags.iter().cloned());
        let public = self.next_ipv4();
        let [_, _, c, d] = public.octets();
        let droplet = Droplet {
            id,
            name: name.to_owned(),
            tags,
            created: self.now(),
            status: "active",
            size: "s-2vcpu-4gb".to_owned(),
            disk: find_size("s-2vcpu-4gb").map_or(0, |one| one.disk),
            region: "nyc3".to_owned(),
            image: "ubuntu-24-04-x64".to_owned(),
            vpc: "00000000-5ca1-4ab1-8e55-000000000000".to_owned(),
            public: Some(public),
            private: Ipv4Addr::new(10, 255, c, d),
            ipv6: false,
            backups: false,
            monitoring: false,
            user_data: None,
            ssh_keys: Vec::new(),
        };
        self.droplets.insert(id, droplet);
        id
    }

    /// A VPC in nyc3; its number. The first in a region is the default one and cannot be deleted.
    pub fn plant_vpc(&mut self, name: &str, description: &str, range: Cidr) -> String {
        self.add_vpc(name.to_owned(), description.to_owned(), "nyc3", range)
    }

    /// An unattached volume in nyc3; its number.
    pub fn plant_volume(&mut self, name: &str, size: u64, tags: &[&str]) -> String {
        let id = self.next_uuid();
        let tags = texts(tags);
        self.tags.extend(tags.iter().cloned());
        let volume = Volume {
            id: id.clone(),
            name: name.to_owned(),
            description: String::new(),
            tags,
            created: self.now(),
            region: "nyc3".to_owned(),
            size,
            filesystem: String::new(),
            label: String::new(),
            droplet: None,
        };
        self.volumes.insert(id.clone(), volume);
        id
    }

    /// A key that nobody has the private half of; its number.
    pub fn plant_ssh_key(&mut self, name: &str) -> u64 {
        let id = self.next_id();
        let [_, _, _, _, a, b, c, d] = id.to_be_bytes();
        let key = SshKey {
            id,
            name: name.to_owned(),
            public_key: format!("ssh-ed25519 planted {name}"),
            fingerprint: format!("00:00:00:00:00:00:00:00:00:00:00:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}"),
        };
        self.ssh_keys.insert(id, key);
        id
    }

    /// A verified certificate; its number.
    pub fn plant_certificate(&mut self, name: &str, dns_names: &[&str]) -> String {
        let id = self.next_uuid();
        let certificate = Certificate {
            id: id.clone(),
            name: name.to_owned(),
            dns_names: texts(dns_names),
            created: self.now(),
        };
        self.certificates.insert(id.clone(), certificate);
        id
    }
}
