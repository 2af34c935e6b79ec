//! Everything an account has, and how requests reach it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::actions::Action;
use super::balancers::Balancer;
use super::databases::Database;
use super::domains::Domain;
use super::droplets::Droplet;
use super::firewalls::Firewall;
use super::reply::Problem;
use super::reserved_ips::ReservedIp;
use super::routes::ROUTES;
use super::small::{Certificate, SshKey};
use super::volumes::Volume;
use super::vpcs::Vpc;
use crate::Token;
use crate::agenda::Agenda;
use crate::rate::RateLimit;
use crate::serve::Api;
use crate::wire::{Ask, Found, Reply, route};

/// Behaviours that a test may want otherwise. What the defaults say is what is documented, only faster.
#[derive(Clone, Debug)]
pub struct Knobs {
    pub token: Token,
    pub token_text: String,
    /// How long it takes until something new is usable, and how long an action takes.
    pub state_time: Duration,
    /// 5,000 an hour by default.
    pub rate_limit: RateLimit,
    /// The burst limit, documented as 250 a minute: `Some(RateLimit::new(250, Duration::from_secs(60)))`.
    /// Off by default, for a test makes its requests within a second.
    pub burst_limit: Option<RateLimit>,
    /// How many more Droplets a region takes; unlimited where it is not named.
    pub capacity: BTreeMap<String, usize>,
    /// The most resources of a kind (`droplets`, `vpcs`, …); unlimited where it is not named.
    pub quotas: BTreeMap<String, usize>,
    /// Tags given at creation are there only this much later.
    pub tags_late: Duration,
    /// A VPC counts members for this long after they are gone, and answers with a conflict meanwhile.
    pub members_linger: Duration,
    /// How many times the creation of a replica is refused with 412 after its cluster came online.
    pub replica_refusals: u32,
    /// Actions cannot be found any more once they are asked about; what they do is done all the same.
    pub actions_vanish: bool,
    /// Commands (`power_on`) whose next action ends as `errored`; what it was to do is not done.
    pub fail_next: Vec<String>,
    /// Droplets do not react to a shutdown: the action completes, the Droplet goes on.
    pub shutdown_ignored: bool,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            token: Token::Full,
            token_text: super::TOKEN.to_owned(),
            state_time: Duration::from_millis(5),
            rate_limit: RateLimit::per_hour(5000),
            burst_limit: None,
            capacity: BTreeMap::new(),
            quotas: BTreeMap::new(),
            tags_late: Duration::ZERO,
            members_linger: Duration::ZERO,
            replica_refusals: 0,
            actions_vanish: false,
            fail_next: Vec::new(),
            shutdown_ignored: false,
        }
    }
}

pub(crate) type Tamper = Box<dyn FnOnce(&mut World) + Send>;

/// An account. Fields may be changed at will: the next answer tells of it.
pub struct World {
    pub ssh_keys: BTreeMap<u64, SshKey>,
    pub droplets: BTreeMap<u64, Droplet>,
    pub vpcs: BTreeMap<String, Vpc>,
    /// Every tag there is, whether something carries it or not.
    pub tags: BTreeSet<String>,
    pub load_balancers: BTreeMap<String, Balancer>,
    pub firewalls: BTreeMap<String, Firewall>,
    pub volumes: BTreeMap<String, Volume>,
    pub reserved_ips: BTreeMap<Ipv4Addr, ReservedIp>,
    pub domains: BTreeMap<String, Domain>,
    pub databases: BTreeMap<String, Database>,
    pub certificates: BTreeMap<String, Certificate>,
    pub actions: BTreeMap<u64, Action>,
    pub knobs: Knobs,
    pub(crate) running: BTreeSet<u64>,
    pub(crate) between_pages: Vec<(String, Tamper)>,
    pub(crate) agenda: Agenda<World>,
    last_id: u64,
    last_ip: u32,
    requests: u64,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            ssh_keys: BTreeMap::new(),
            droplets: BTreeMap::new(),
            vpcs: BTreeMap::new(),
            tags: BTreeSet::new(),
            load_balancers: BTreeMap::new(),
            firewalls: BTreeMap::new(),
            volumes: BTreeMap::new(),
            reserved_ips: BTreeMap::new(),
            domains: BTreeMap::new(),
            databases: BTreeMap::new(),
            certificates: BTreeMap::new(),
            actions: BTreeMap::new(),
            knobs: Knobs::default(),
            running: BTreeSet::new(),
            between_pages: Vec::new(),
            agenda: Agenda::new(),
            last_id: 3_000_000,
            last_ip: 0,
            requests: 0,
        }
    }

    pub(crate) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// In the form of a random one (version 4), but counted: a run repeated gives the same.
    pub(crate) fn next_uuid(&mut self) -> String {
        let id = self.next_id();
        format!("{id:08x}-5ca1-4ab1-8e55-{id:012x}")
    }

    /// The next public address, out of the upper half of the range set aside for tests (RFC 2544).
    pub(crate) fn next_ipv4(&mut self) -> Ipv4Addr {
        self.last_ip += 1;
        Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 19, 0, 0)) + self.last_ip)
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

    /// This happens when something new is usable.
    pub(crate) fn when_ready(&mut self, act: impl FnOnce(&mut World) + Send + 'static) {
        self.agenda.later(self.knobs.state_time, act);
    }

    pub(crate) fn within_quota(&self, kind: &str, have: usize) -> Result<(), Problem> {
        match self.knobs.quotas.get(kind) {
            Some(most) if have >= *most => Err(Problem::unprocessable(format!(
                "creating this will exceed your limit of {most} {kind}"
            ))),
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
            _ if !known => Err(Problem::unauthorized()),
            Token::Expired => Err(Problem::unauthorized()),
            Token::ReadOnly if ask.method != "GET" => {
                Err(Problem::forbidden("You are not authorized to perform this operation"))
            }
            Token::ReadOnly | Token::Full => Ok(()),
        }
    }

    fn carry_out(&mut self, ask: &mut Ask) -> Result<Reply, (Problem, Option<String>)> {
        self.admit(ask).map_err(|problem| (problem, None))?;
        let path = ask.path.strip_prefix("/v2").unwrap_or_default().to_owned();
        match route(ROUTES, &ask.method, &path) {
            Found::Act(act, open) => {
                ask.open = open;
                act(self, ask).map_err(|problem| (problem, None))
            }
            Found::OtherMethods(methods) => Err((Problem::method(&ask.method), Some(methods.join(", ")))),
            Found::Nothing => Err((Problem::not_here(ask), None)),
        }
    }

    fn refuse(&mut self, problem: Problem) -> Reply {
        self.requests += 1;
        let request_id = format!("{:08x}-0000-4000-8000-000000000000", self.requests);
        problem.reply(request_id)
    }

    fn with_rate(&self, reply: Reply) -> Reply {
        let rate = &self.knobs.rate_limit;
        let reset = self.now().as_second() + rate.full_in().as_secs() as i64;
        reply
            .header("ratelimit-limit", rate.limit.to_string())
            .header("ratelimit-remaining", rate.left().to_string())
            .header("ratelimit-reset", reset.to_string())
    }
}

impl Api for World {
    fn answer(&mut self, mut ask: Ask) -> Reply {
        self.settle();
        let now = self.agenda.now();
        if let Some(Err(wait)) = self.knobs.burst_limit.as_mut().map(|limit| limit.take(now)) {
            return self.too_many(wait);
        }
        // Only the burst limit says for how long.
        if self.knobs.rate_limit.take(now).is_err() {
            let reply = self.refuse(Problem::too_many());
            return self.with_rate(reply);
        }
        let reply = match self.carry_out(&mut ask) {
            Ok(reply) => reply,
            Err((problem, allow)) => {
                let reply = self.refuse(problem);
                match allow {
                    Some(allow) => reply.header("Allow", allow),
                    None => reply,
                }
            }
        };
        self.with_rate(reply)
    }

    fn too_many(&mut self, retry_after: Duration) -> Reply {
        let reply = self.refuse(Problem::too_many());
        self.with_rate(reply.header("Retry-After", retry_after.as_secs_f64().ceil().to_string()))
    }
}
