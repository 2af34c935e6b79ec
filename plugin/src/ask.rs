//! Questions to what runs: guards, balancers, servers, databases, the store. All asked side by side.

use std::time::Duration;

use futures::future::join_all;
use ha_cloud::local::LocalProvider;
use ha_core::{
    health::{Check, Health, HealthRow},
    lag::{LagRow, LagState, LagVerdict, NodeView},
    model::Objectives,
    report::NodeReport,
    resource::{Kind, Live, Status},
};
use ha_data::{
    DataError,
    postgres::{ConnectOptions, Host, connect},
};
use ha_edge::{
    haproxy::{APP, Admin},
    probe::{Expect, HttpProber, Probe, ProbeFailure, ProbeStatus, probe_all},
};
use jiff::Timestamp;

use crate::{context::Thing, error::Failed};

/// What every question needs.
pub(crate) struct Asker<'a> {
    pub(crate) provider: &'a LocalProvider,
    /// For one answer; nothing takes longer than this, since all are asked at once.
    pub(crate) timeout: Duration,
}

/// Of the timeout, for each of two questions that make one answer: what is left of it is for saying which failed.
const PART: f64 = 0.9;

/// Databases and what their guards say; what is not there has a row, too.
pub(crate) struct Nodes<'a> {
    databases: Vec<(&'a Thing<'a>, Option<NodeView>)>,
}

impl Asker<'_> {
    /// The report of every database's guard.
    pub(crate) async fn nodes<'a>(&self, things: &'a [Thing<'a>]) -> Result<Nodes<'a>, Failed> {
        let client = client(self.timeout)?;
        let asked = things
            .iter()
            .filter(|it| it.kind() == Some(Kind::Database))
            .map(|thing| {
                let client = &client;
                async move {
                    let Some(live) = thing.live else {
                        return (thing, None);
                    };
                    let report = report(client, live).await;
                    let view = NodeView {
                        region: live.id.region.clone(),
                        node: node(thing),
                        report,
                    };
                    (thing, Some(view))
                }
            });
        Ok(Nodes {
            databases: join_all(asked).await,
        })
    }

    /// A row per question, in the order of the workspace.
    pub(crate) async fn health(&self, things: &[Thing<'_>]) -> Result<Vec<HealthRow>, Failed> {
        let http = HttpProber::new(None).map_err(no_client)?;
        let guards = client(self.timeout.mul_f64(PART))?;
        let mut rows = Vec::new();
        let mut probes = Vec::new();
        let mut places = Vec::new();
        for thing in things {
            for (check, target, probe) in self.questions(&http, &guards, thing) {
                let status = match (&probe, thing.status()) {
                    (_, Status::Absent) => Health::Absent,
                    (_, Status::Off) => Health::Off,
                    _ => Health::Failed,
                };
                let Some(region) = thing.region() else { continue };
                rows.push(HealthRow {
                    region: region.clone(),
                    target,
                    check,
                    status,
                    latency: None,
                    // Neither off nor absent is an error.
                    error: thing
                        .live
                        .filter(|_| status == Health::Failed)
                        .and_then(|it| it.detail.clone()),
                });
                if let (Some(probe), Health::Failed) = (probe, status) {
                    places.push(rows.len() - 1);
                    probes.push(probe);
                }
            }
        }
        for (place, answer) in places.into_iter().zip(probe_all(probes, self.timeout).await) {
            if let Some(row) = rows.get_mut(place) {
                row.status = if answer.status == ProbeStatus::Ok {
                    Health::Ok
                } else {
                    Health::Failed
                };
                row.latency = answer.latency;
                row.error = match (row.check, answer.status) {
                    // It answered, and that is all it can say of itself.
                    (Check::Store, ProbeStatus::Failed) => Some(NO_QUORUM.to_owned()),
                    _ => answer.error,
                };
            }
        }
        Ok(rows)
    }

    /// What is asked of one thing; the provider says where. No question where there is nothing to ask.
    fn questions(
        &self,
        http: &HttpProber,
        guards: &reqwest::Client,
        thing: &Thing<'_>,
    ) -> Vec<(Check, String, Option<Probe>)> {
        let name = thing.name();
        let at = |endpoint| thing.live.and_then(|live| live.endpoints.get(endpoint)).cloned();
        let get = |url: Option<String>, expect| url.map(|url| http.get("", "", "", url, expect));
        match thing.kind() {
            Some(Kind::LoadBalancer) => {
                let (target, probe) = match (at("http"), at("https")) {
                    (Some(base), _) => {
                        let url = format!("{base}/health");
                        (base, get(Some(url), Expect::SUCCESS))
                    }
                    // Its certificate is the workspace's own; that something listens has to do.
                    (None, Some(base)) => {
                        let listener = base.trim_start_matches("https://").to_owned();
                        (base, Some(Probe::tcp("", "", "", listener, None)))
                    }
                    (None, None) => (name.clone(), None),
                };
                vec![
                    (Check::Endpoint, target, probe),
                    (Check::LoadBalancer, name, at("admin").map(balancer)),
                ]
            }
            Some(Kind::Server) if plays(thing, "app") => {
                vec![(Check::Server, name, get(at("health"), Expect::SUCCESS))]
            }
            Some(Kind::Database) => {
                let probe = at("postgres").zip(at("guard"));
                let probe = probe.and_then(|(postgres, guard)| self.database(&postgres, guards, guard));
                vec![(Check::Database, name, probe)]
            }
            // A member says true only while it sees a majority of the others.
            Some(Kind::Store) => {
                let healthy = Expect::containing(r#""health":"true""#);
                vec![(Check::Store, name, get(at("health"), healthy))]
            }
            _ => Vec::new(),
        }
    }

    /// A session as the application has one, and its answer to a statement. Its guard is asked meanwhile: without
    /// the guard's word no balancer sends anybody to the database, however well it answers.
    fn database(&self, at: &str, guards: &reqwest::Client, guard: String) -> Option<Probe> {
        let (host, port) = at.rsplit_once(':')?;
        let host = Host::tcp(host, port.parse().ok()?);
        let password = self.provider.folder().join("secrets/app");
        let options = ConnectOptions::new(host, "app", "app", password)
            .ca(self.provider.ca_file())
            .application_name("ha health")
            .timeout(self.timeout.mul_f64(PART));
        let asked = guards.get(format!("{guard}/health"));
        Some(Probe::new("", "", "", async move {
            let (told, guard_says) = tokio::join!(statement(&options), asked.send());
            told?;
            match guard_says {
                Ok(answer) if answer.status().is_success() => Ok(None),
                Ok(answer) => Err(ProbeFailure::failed(format!(
                    "it answers, and its guard says that it does not: HTTP status {}",
                    answer.status().as_u16()
                ))),
                Err(error) => {
                    let failure = ProbeFailure::from_error(&error);
                    let why = format!("its guard at {guard} did not answer: {}", failure.error);
                    Err(ProbeFailure::new(failure.status, why))
                }
            }
        }))
    }
}

const NO_QUORUM: &str = "no quorum, it does not reach a majority of the members";

async fn statement(options: &ConnectOptions) -> Result<(), ProbeFailure> {
    let failed = |error: DataError| {
        let status = match error {
            DataError::Timeout { .. } => ProbeStatus::Timeout,
            DataError::Unreachable { .. } => ProbeStatus::Unreachable,
            _ => ProbeStatus::Failed,
        };
        ProbeFailure::new(status, error.to_string())
    };
    let session = connect(options).await.map_err(failed)?;
    let answer = session.simple_query("select 1").await;
    answer.map_err(|error| failed(session.error(&error)))?;
    Ok(())
}

pub(crate) fn client(timeout: Duration) -> Result<reqwest::Client, Failed> {
    let client = reqwest::Client::builder().no_proxy().timeout(timeout);
    client.build().map_err(no_client)
}

fn no_client(error: reqwest::Error) -> Failed {
    Failed::io("cannot make a client")(std::io::Error::other(error))
}

impl Nodes<'_> {
    /// What was heard, for whoever needs the reports themselves.
    pub(crate) fn views(&self) -> Vec<NodeView> {
        self.databases.iter().filter_map(|(_, view)| view.clone()).collect()
    }

    /// A row per database, in the workspace's order.
    pub(crate) fn lag(&self, objectives: &Objectives, now: Timestamp) -> Vec<LagRow> {
        let mut told = ha_core::lag::table(&self.views(), objectives, now).into_iter();
        let rows = self.databases.iter().filter_map(|(thing, view)| match view {
            Some(_) => told.next(),
            None => Some(LagRow {
                region: thing.region()?.clone(),
                node: node(thing),
                role: None,
                upstream: None,
                state: LagState::Absent,
                lag: None,
                lag_bytes: None,
                at_least: false,
                received: None,
                replayed: None,
                timeline: None,
                sampled_at: None,
                verdict: LagVerdict::Unknown,
                error: None,
                epoch: None,
                voter: None,
            }),
        });
        rows.collect()
    }
}

async fn report(client: &reqwest::Client, live: &Live) -> Result<NodeReport, String> {
    if live.status == Status::Off {
        return Err("it is switched off".into());
    }
    let guard = live.endpoints.get("guard").ok_or("its guard has no address")?;
    report_at(client, guard).await
}

/// What the guard at this address says of its node, or why it says nothing.
pub(crate) async fn report_at(client: &reqwest::Client, guard: &str) -> Result<NodeReport, String> {
    let ask = async {
        let answer = client.get(format!("{guard}/report")).send().await?.error_for_status()?;
        answer.bytes().await
    };
    let bytes = ask.await.map_err(|error| {
        let failure = ProbeFailure::from_error(&error);
        format!("its guard at {guard} did not answer: {}", failure.error)
    })?;
    serde_json::from_slice(&bytes).map_err(|error| format!("its guard at {guard} answered something else: {error}"))
}

/// Whether it runs, and has anywhere to send users to.
fn balancer(socket: String) -> Probe {
    Probe::new("", "", "", async move {
        let servers = Admin::new(socket).servers().await;
        let servers = servers.map_err(|error| ProbeFailure::failed(error.to_string()))?;
        let mut behind = servers.iter().filter(|it| it.backend == APP).peekable();
        if behind.peek().is_some() && behind.all(|it| !it.up) {
            return Err(ProbeFailure::failed("every server behind it is down"));
        }
        Ok(None)
    })
}

/// A node is known by its server: guards, their events and the names that replicas stream under all say so.
fn node(thing: &Thing<'_>) -> String {
    thing.field("server").unwrap_or_else(|| thing.name())
}

fn plays(thing: &Thing<'_>, role: &str) -> bool {
    let specs = [thing.live.map(|it| &it.spec), thing.desired.map(|it| &it.spec)];
    let roles = specs
        .into_iter()
        .flatten()
        .find_map(|spec| spec.get("roles")?.as_array());
    roles.is_some_and(|roles| roles.iter().any(|it| it.as_str() == Some(role)))
}
