//! Everything a project has, and how requests reach it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::actions::Action;
use super::balancers::Balancer;
use super::firewalls::Firewall;
use super::networks::Network;
use super::primary_ips::PrimaryIp;
use super::reply::Problem;
use super::routes::ROUTES;
use super::servers::Server;
use super::small::{Certificate, PlacementGroup, SshKey};
use super::volumes::Volume;
use crate::Token;
use crate::agenda::Agenda;
use crate::rate::RateLimit;
use crate::serve::Api;
use crate::wire::{Ask, Found, Reply, route};

/// The next action with this command ends in this error; what it was to do is not done.
#[derive(Clone, Debug)]
pub struct FailNext {
    pub command: String,
    pub code: String,
    pub message: String,
}

/// Behaviours that a test may want otherwise. What the defaults say is what is documented, only faster.
#[derive(Clone, Debug)]
pub struct Knobs {
    pub token: Token,
    pub token_text: String,
    /// How long each action takes; until then it is `running` and what it works on is locked.
    pub action_time: Duration,
    /// 3600 an hour and project by default.
    pub rate_limit: RateLimit,
    /// How many more servers a location takes; unlimited where it is not named.
    pub capacity: BTreeMap<String, usize>,
    /// The most resources of a kind (`servers`, `networks`, …); unlimited where it is not named.
    pub quotas: BTreeMap<String, usize>,
    /// Actions cannot be found any more once they are asked about; what they do is done all the same.
    pub actions_vanish: bool,
    pub fail_next: Vec<FailNext>,
    /// Servers do not react to a shutdown by ACPI: the action succeeds, the server goes on.
    pub shutdown_ignored: bool,
    /// What load balancers find of the servers that run.
    pub targets_healthy: bool,
    /// Removing a load balancer takes time and is answered with an action, as since 5 October 2026
    /// (<https://docs.hetzner.cloud/changelog#2026-10-05-load-balancers-can-use-existing-primary-ips>). Off by default:
    /// the description that the stand-in is held against is older.
    pub balancers_end_by_action: bool,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            token: Token::Full,
            token_text: super::TOKEN.to_owned(),
            action_time: Duration::from_millis(5),
            rate_limit: RateLimit::per_hour(3600),
            capacity: BTreeMap::new(),
            quotas: BTreeMap::new(),
            actions_vanish: false,
            fail_next: Vec::new(),
            shutdown_ignored: false,
            targets_healthy: true,
            balancers_end_by_action: false,
        }
    }
}

pub(crate) type Tamper = Box<dyn FnOnce(&mut World) + Send>;

/// A project. Fields may be changed at will: the next answer tells of it.
pub struct World {
    pub servers: BTreeMap<u64, Server>,
    pub networks: BTreeMap<u64, Network>,
    pub load_balancers: BTreeMap<u64, Balancer>,
    pub firewalls: BTreeMap<u64, Firewall>,
    pub volumes: BTreeMap<u64, Volume>,
    pub primary_ips: BTreeMap<u64, PrimaryIp>,
    pub placement_groups: BTreeMap<u64, PlacementGroup>,
    pub ssh_keys: BTreeMap<u64, SshKey>,
    pub certificates: BTreeMap<u64, Certificate>,
    pub actions: BTreeMap<u64, Action>,
    pub knobs: Knobs,
    pub(crate) running: BTreeSet<u64>,
    pub(crate) between_pages: Vec<(String, Tamper)>,
    pub(crate) agenda: Agenda<World>,
    last_id: u64,
    last_ip: u32,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            servers: BTreeMap::new(),
            networks: BTreeMap::new(),
            load_balancers: BTreeMap::new(),
            firewalls: BTreeMap::new(),
            volumes: BTreeMap::new(),
            primary_ips: BTreeMap::new(),
            placement_groups: BTreeMap::new(),
            ssh_keys: BTreeMap::new(),
            certificates: BTreeMap::new(),
            actions: BTreeMap::new(),
            knobs: Knobs::default(),
            running: BTreeSet::new(),
            between_pages: Vec::new(),
            agenda: Agenda::new(),
            // Away from the small numbers of the catalog: a mix-up of the two finds nothing.
            last_id: 1_000_000,
            last_ip: 0,
        }
    }

    pub(crate) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// The next public address, out of the range set aside for tests (RFC 2544).
    pub(crate) fn next_ipv4(&mut self) -> Ipv4Addr {
        self.last_ip += 1;
        Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + self.last_ip)
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.agenda.timestamp()
    }

    /// What is due by now happens.
    pub(crate) fn settle(&mut self) {
        let now = Instant::now();
        while let Some(act) = self.agenda.next(now) {
            act(self);
        }
        self.agenda.set_now(now);
    }

    pub(crate) fn finish(&mut self) {
        while let Some(act) = self.agenda.next_at_all() {
            act(self);
        }
    }

    pub(crate) fn within_quota(&self, kind: &str, have: usize) -> Result<(), Problem> {
        match self.knobs.quotas.get(kind) {
            Some(most) if have >= *most => Err(Problem::limit(kind)),
            _ => Ok(()),
        }
    }

    /// Once, after a page of this path that is not the last.
    pub(crate) fn shift_pages(&mut self, path: &str) {
        if let Some(at) = self
            .between_pages
            .iter()
            .position(|(wanted, _)| path.ends_with(wanted.as_str()))
        {
            let (_, act) = self.between_pages.remove(at);
            act(self);
        }
    }

    fn admit(&self, ask: &Ask) -> Result<(), Problem> {
        let known = ask.bearer.as_deref() == Some(self.knobs.token_text.as_str());
        match self.knobs.token {
            _ if !known => Err(Problem::new(401, "unauthorized", "unable to authenticate")),
            Token::Expired => Err(Problem::new(401, "unauthorized", "unable to authenticate")),
            Token::ReadOnly if ask.method != "GET" => Err(Problem::new(
                401,
                "token_readonly",
                "the token is only allowed to perform GET requests",
            )),
            Token::ReadOnly | Token::Full => Ok(()),
        }
    }

    fn carry_out(&mut self, mut ask: Ask) -> Reply {
        let path = ask.path.strip_prefix("/v1").unwrap_or_default().to_owned();
        if let Err(problem) = self.admit(&ask) {
            return problem.into();
        }
        match route(ROUTES, &ask.method, &path) {
            Found::Act(act, open) => {
                ask.open = open;
                act(self, &ask).unwrap_or_else(Reply::from)
            }
            Found::OtherMethods(methods) => {
                let message = format!("method {} is not allowed", ask.method);
                Reply::from(Problem::new(405, "method_not_allowed", message)).header("Allow", methods.join(", "))
            }
            Found::Nothing => Problem::not_here(&ask).into(),
        }
    }

    fn with_rate(&self, reply: Reply) -> Reply {
        let rate = &self.knobs.rate_limit;
        let reset = self.now().as_second() + rate.full_in().as_secs() as i64;
        reply
            .header("RateLimit-Limit", rate.limit.to_string())
            .header("RateLimit-Remaining", rate.left().to_string())
            .header("RateLimit-Reset", reset.to_string())
    }
}

impl Api for World {
    fn answer(&mut self, ask: Ask) -> Reply {
        self.settle();
        // Every request counts, whether it may be made or not.
        if let Err(wait) = self.knobs.rate_limit.take(self.agenda.now()) {
            return self.too_many(wait);
        }
        let reply = self.carry_out(ask);
        self.with_rate(reply)
    }

    fn too_many(&mut self, retry_after: Duration) -> Reply {
        let problem = Problem::new(429, "rate_limit_exceeded", "limit of requests per hour reached");
        let seconds = retry_after.as_secs_f64().ceil();
        self.with_rate(Reply::from(problem).header("Retry-After", seconds.to_string()))
    }
}
