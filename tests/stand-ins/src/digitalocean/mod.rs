//! The DigitalOcean API, as <https://docs.digitalocean.com/reference/api/digitalocean/> describes it.
//!
//! What is in it: account and keys, regions, sizes, images, VPCs, Droplets, tags, load balancers, firewalls, volumes,
//! reserved IPs, domains, managed databases with replicas, certificates, actions. What is not is answered with 501.

mod actions;
mod balancers;
mod catalog;
mod databases;
mod domains;
mod droplet_actions;
mod droplets;
mod firewalls;
mod plant;
mod reply;
mod reserved_ips;
mod routes;
mod small;
mod tags;
mod volumes;
mod vpcs;
mod world;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

pub use actions::{Action, ActionStatus, What};
pub use balancers::Balancer;
pub use databases::{Database, Replica, Source};
pub use domains::{Domain, Record};
pub use droplets::Droplet;
pub use firewalls::Firewall;
pub use reserved_ips::ReservedIp;
pub use small::{Certificate, SshKey};
pub use volumes::Volume;
pub use vpcs::Vpc;
pub use world::{Knobs, World};

use crate::fault::Faults;
use crate::serve::{Seen, Serving};

/// The token that a new stand-in takes.
pub const TOKEN: &str = "digitalocean-stand-in-token";

/// A DigitalOcean account on this machine. It stops when it is dropped.
pub struct StandIn {
    serving: Serving<World>,
}

impl StandIn {
    /// An empty account on a free port of 127.0.0.1.
    ///
    /// # Panics
    /// When no port can be opened: no test can go on without it.
    pub async fn start() -> Self {
        match Self::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await {
            Ok(stand_in) => stand_in,
            Err(error) => panic!("no port for the stand-in of DigitalOcean on 127.0.0.1: {error}"),
        }
    }

    /// As [`StandIn::start`], at this address.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub async fn listen(address: SocketAddr) -> io::Result<Self> {
        let serving = Serving::start(World::new(), address).await?;
        Ok(Self { serving })
    }

    /// What takes the place of `https://api.digitalocean.com`; paths go on with `/v2`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.serving.address)
    }

    pub fn token(&self) -> String {
        self.world(|world| world.knobs.token_text.clone())
    }

    pub fn faults(&self) -> &Faults {
        &self.serving.shared.faults
    }

    /// Every request so far, in the order of the answers.
    pub fn requests(&self) -> Vec<Seen> {
        self.serving.requests()
    }

    pub fn forget_requests(&self) {
        self.serving.forget_requests();
    }

    /// Time added before every answer.
    pub fn latency(&self, latency: Duration) {
        self.serving.set_latency(latency);
    }

    pub fn knobs<T>(&self, change: impl FnOnce(&mut Knobs) -> T) -> T {
        self.world(|world| change(&mut world.knobs))
    }

    /// Looks at the world or tampers with it, between two requests. What is due by now has happened.
    pub fn world<T>(&self, act: impl FnOnce(&mut World) -> T) -> T {
        let mut world = self.serving.api();
        world.settle();
        act(&mut world)
    }

    /// Everything that takes time has happened.
    pub fn finish(&self) {
        self.serving.api().finish();
    }

    /// Once, after a page of `path` (`/droplets`) that is not the last was answered: a page shifts under the reader.
    pub fn between_pages(&self, path: &str, act: impl FnOnce(&mut World) + Send + 'static) {
        self.world(|world| world.between_pages.push((path.to_owned(), Box::new(act))));
    }
}
