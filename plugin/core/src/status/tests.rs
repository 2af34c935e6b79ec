use std::time::Duration;

use super::*;
use crate::{
    config::Config,
    desired,
    fixture::{applied, workspace},
    report::{BlockedReport, NodeReport, StoreReport},
};

/// The example, provisioned and well.
struct World {
    workspace: Workspace,
    live: Vec<Live>,
    nodes: Vec<NodeView>,
    lag: Vec<LagRow>,
    health: Vec<HealthRow>,
}

fn world() -> World {
    let workspace = workspace();
    let live: Vec<Live> = desired::resources(&workspace, &Config::default())
        .iter()
        .map(applied)
        .collect();
    let lag = live.iter().filter(|it| it.id.kind == Kind::Database).map(|it| {
        let primary = it.id.region == "us-east";
        LagRow {
            region: it.id.region.clone(),
            node: it.id.name.clone(),
            role: Some(if primary { NodeRole::Primary } else { NodeRole::Replica }),
            upstream: None,
            state: if primary {
                LagState::Primary
            } else {
                LagState::Streaming
            },
            lag: (!primary).then_some(Duration::ZERO),
            lag_bytes: None,
            at_least: false,
            received: None,
            replayed: None,
            timeline: None,
            sampled_at: None,
            verdict: LagVerdict::Ok,
            error: None,
            epoch: None,
            voter: None,
        }
    });
    World {
        lag: lag.collect(),
        workspace,
        live,
        nodes: Vec::new(),
        health: Vec::new(),
    }
}

impl World {
    fn rows(&self) -> Vec<StatusRow> {
        table(StatusInput {
            workspace: &self.workspace,
            live: &self.live,
            nodes: &self.nodes,
            lag: &self.lag,
            health: &self.health,
        })
    }

    fn live(&mut self, name: &str) -> &mut Live {
        self.live.iter_mut().find(|it| it.id.name == name).expect("is there")
    }

    fn failed(&mut self, region: &str, check: Check, target: &str) {
        self.health.push(HealthRow {
            region: RegionName::new(region),
            target: target.into(),
            check,
            status: Health::Failed,
            latency: None,
            error: Some("connection refused".into()),
        });
    }

    /// Verdict and reason of us-east.
    fn us(&self) -> (StatusVerdict, String) {
        let row = self.rows().remove(0);
        (row.verdict, row.reason.unwrap_or_default())
    }
}

#[test]
fn one_can_sleep() {
    for row in world().rows() {
        assert_eq!((row.verdict, row.reason), (StatusVerdict::Ok, None), "{}", row.region);
        assert_eq!((row.servers_up, row.servers_total), (4, 4));
        assert_eq!(
            (row.load_balancer, row.store),
            (Some(Status::Running), Some(Status::Running))
        );
    }
}

#[test]
fn nothing_provisioned_is_absent() {
    let mut world = world();
    (world.live, world.lag) = (Vec::new(), Vec::new());
    for row in world.rows() {
        assert_eq!(row.verdict, StatusVerdict::Absent);
        assert_eq!((row.servers_up, row.servers_total), (0, 4));
        assert_eq!(row.load_balancer, Some(Status::Absent));
        assert_eq!(row.reason.as_deref(), Some("not provisioned: ha provision"));
    }
}

#[test]
fn a_server_less_degrades_and_says_which() {
    let mut world = world();
    let it = world.live("us-app-2");
    (it.status, it.detail) = (Status::Failed, Some("exited with status 1".into()));
    assert_eq!(
        world.us(),
        (
            StatusVerdict::Degraded,
            "us-app-2 does not work: exited with status 1".into()
        )
    );
    assert_eq!(world.rows()[0].servers_up, 3);
    assert_eq!(world.rows()[1].verdict, StatusVerdict::Ok, "the others sleep on");

    let it = world.live("us-app-2");
    (it.status, it.detail) = (Status::Off, Some("us-app-2 is switched off".into()));
    assert_eq!(world.us().1, "us-app-2 is switched off");
}

#[test]
fn a_probe_knows_better_than_the_provider() {
    let mut world = world();
    world.failed("us-east", Check::Server, "us-app-1");
    world.failed("us-east", Check::Store, "us-store");
    let (verdict, reason) = world.us();
    assert_eq!(verdict, StatusVerdict::Degraded);
    assert_eq!(
        reason,
        "us-store does not work: connection refused; us-app-1 does not work: connection refused"
    );
    assert_eq!(world.rows()[0].store, Some(Status::Failed));
}

#[test]
fn what_answers_well_is_not_down_because_nobody_watches_it() {
    let mut world = world();
    let why = "the supervisor of us-east does not answer";
    for (check, name) in [(Check::LoadBalancer, "us-lb"), (Check::Server, "us-app-1")] {
        let it = world.live(name);
        (it.status, it.detail) = (Status::Failed, Some(why.into()));
        world.failed("us-east", check, name);
        let row = world.health.last_mut().expect("just added");
        (row.status, row.error) = (Health::Ok, None);
    }
    assert_eq!(world.us(), (StatusVerdict::Degraded, why.into()));
    assert_eq!(world.rows()[0].servers_up, 4);
}

#[test]
fn a_reason_is_said_once() {
    let mut world = world();
    let why = "its guard did not answer: operation timed out";
    (world.lag[1].state, world.lag[1].verdict) = (LagState::Unknown, LagVerdict::Unknown);
    world.lag[1].error = Some(why.into());
    world.failed("eu-central", Check::Database, "eu-pg-1");
    world.health.last_mut().expect("just added").error = Some(why.into());
    let reason = world.rows().remove(1).reason.expect("says why");
    assert_eq!(reason.matches(why).count(), 1, "{reason}");
}

#[test]
fn without_its_entry_a_region_is_down() {
    let mut balancer = world();
    balancer.live("us-lb").status = Status::Failed;
    assert_eq!(balancer.us(), (StatusVerdict::Down, "us-lb does not work".into()));

    let mut entry = world();
    entry.failed("us-east", Check::Endpoint, "http://127.0.0.1:8080");
    assert_eq!(entry.us().0, StatusVerdict::Down);

    let mut servers = world();
    for it in servers
        .live
        .iter_mut()
        .filter(|it| it.id.kind == Kind::Server && it.id.region == "us-east")
    {
        it.status = Status::Failed;
    }
    let (verdict, reason) = servers.us();
    assert_eq!(verdict, StatusVerdict::Down);
    assert!(
        reason.starts_with("none of its servers is up") && reason.contains("2 more"),
        "{reason}"
    );
}

#[test]
fn databases_that_are_behind_cut_off_or_two_keep_people_awake() {
    let changed = |at: usize, change: fn(&mut LagRow)| {
        let mut world = world();
        change(&mut world.lag[at]);
        let row = world.rows().remove(at);
        assert_eq!(row.verdict, StatusVerdict::Degraded);
        row.reason.expect("says why")
    };
    let behind = changed(1, |row| {
        (row.lag, row.verdict) = (Some(Duration::from_secs(45)), LagVerdict::Warn)
    });
    assert_eq!(behind, "eu-pg-1 is 45.0 s behind");
    let silent = changed(1, |row| {
        (row.state, row.lag, row.verdict) = (LagState::Stale, None, LagVerdict::Warn);
        row.error = Some("heard nothing from its upstream for 20.0 s".into());
    });
    assert_eq!(
        silent,
        "what is known of eu-pg-1 is old: heard nothing from its upstream for 20.0 s"
    );
    let unknown = changed(1, |row| {
        (row.state, row.verdict) = (LagState::Unknown, LagVerdict::Unknown)
    });
    assert_eq!(unknown, "nothing is known of eu-pg-1");
    let gone = changed(2, |row| {
        (row.role, row.state, row.verdict) = (None, LagState::Down, LagVerdict::Critical)
    });
    assert_eq!(gone, "asia-pg-1 is down");
    let headless = changed(0, |row| {
        (row.role, row.state, row.verdict) = (None, LagState::Down, LagVerdict::Critical)
    });
    assert!(headless.starts_with("no database is known to be primary"), "{headless}");
}

#[test]
fn what_is_blocked_or_undecided_is_said_where_people_look() {
    let mut world = world();
    let view = |blocked: Option<BlockedReport>, phase| NodeView {
        region: RegionName::new("us-east"),
        node: "us-db-1".into(),
        report: Ok(NodeReport {
            agreement: Some(AgreementReport {
                epoch: 8,
                phase,
                leader: "eu-db-1".into(),
                mode: SyncMode::Strict,
                voters: BTreeSet::new(),
                acks: 1,
                since: Duration::ZERO,
                promised: 8,
                sealed: None,
                lease_left: None,
                serves_writes: false,
                blocked,
                alerts: vec![("ClockSkew".into(), "its clock is 3 s ahead".into())],
                doing: None,
                paused: None,
                votes: BTreeMap::new(),
                troubles: BTreeMap::default(),
            }),
            ..report()
        }),
    };
    let cooldown = BlockedReport {
        code: "ha::failover::cooldown".into(),
        why: "the last automatic failover was 20 s ago".into(),
        help: "wait, or: ha ack".into(),
    };
    world.nodes = vec![view(Some(cooldown), Phase::Sealing)];
    let (verdict, reason) = world.us();
    assert_eq!(verdict, StatusVerdict::Degraded);
    assert_eq!(
        reason,
        "the last automatic failover was 20 s ago: wait, or: ha ack; nobody may write: epoch 8 is being decided; \
         ClockSkew: its clock is 3 s ahead"
    );
    let agreed = world.rows().remove(0).agreement.expect("its guard says so");
    assert_eq!((agreed.epoch, agreed.leader.as_str()), (8, "eu-db-1"));
    assert_eq!(agreed.code.as_deref(), Some("ha::failover::cooldown"));
    assert_eq!(
        world.rows().remove(1).agreement,
        None,
        "nothing is borrowed from another region"
    );
}

fn report() -> NodeReport {
    let at = "2026-03-01T12:00:00Z".parse().expect("a moment");
    NodeReport {
        workspace: "shop".into(),
        region: "us-east".into(),
        node: "us-db-1".into(),
        sampled_at: at,
        age: Duration::ZERO,
        database: serde_json::from_value(serde_json::json!({
            "state": "running", "role": "replica", "replay_paused": false, "senders": [], "slots": [],
        }))
        .expect("a report"),
        samples: Vec::new(),
        store: StoreReport::default(),
        guard_version: "0.1.0".into(),
        agreement: None,
    }
}
