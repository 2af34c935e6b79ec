//! The guard's endpoints. They answer from the last look and its age, and from the last decision; only `/position`
//! asks the database, for the sake of whoever waits for its last byte.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Query, State as Shared},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use ha_core::{
    agreement::Epoch,
    lsn::Lsn,
    report::{AgreementReport, BlockedReport, NodeReport, NodeRole},
};
use ha_data::postgres::{self, Session};
use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, sync::Mutex, time::timeout};

use super::{
    Guard,
    lag::Limit,
    metrics, observe,
    state::{Decided, View},
};

/// A replica reports to its upstream each second, and is told when nothing new came after half of five; a silence
/// of three seconds is ordinary, more is not.
const QUIET: Duration = Duration::from_secs(3);

/// For a position: whoever asks has a switchover open.
const POSITION: Duration = Duration::from_secs(1);

struct Desk {
    guard: Arc<Guard>,
    /// Kept open: it is asked every few milliseconds when it is asked at all.
    position: Mutex<Option<Session>>,
}

pub(super) async fn serve(listener: TcpListener, guard: Arc<Guard>) {
    let desk = Desk {
        guard,
        position: Mutex::default(),
    };
    let router = Router::new()
        .route("/primary", get(primary))
        .route("/replica", get(replica))
        .route("/health", get(health))
        .route("/report", get(report))
        .route("/position", get(position))
        .route("/metrics", get(prometheus))
        .with_state(Arc::new(desk));
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "the endpoints ended");
    }
}

/// 200 or 503, and why.
#[derive(Debug, Serialize)]
struct Answer {
    node: String,
    role: Option<NodeRole>,
    /// Of the term that the last decision was made on.
    epoch: Option<Epoch>,
    ok: bool,
    reason: Option<String>,
}

fn answer(view: &View, epoch: Option<Epoch>, verdict: Result<(), String>) -> Response {
    let code = if verdict.is_ok() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let answer = Answer {
        node: view.report.node.clone(),
        role: view.report.database.role,
        epoch,
        ok: verdict.is_ok(),
        reason: verdict.err(),
    };
    (code, Json(answer)).into_response()
}

async fn primary(Shared(desk): Shared<Arc<Desk>>) -> Response {
    let state = &desk.guard.state;
    let (view, decided) = (state.view(), state.decided());
    let verdict = is_primary(&view).and_then(|()| may_write(&desk.guard, &decided));
    answer(&view, decided.epoch, verdict)
}

/// Writes are routed here only while the last decision says so, and it is not an old one.
fn may_write(guard: &Guard, decided: &Decided) -> Result<(), String> {
    let timing = &guard.state.config.failover.timing;
    if !decided.is_fresh(timing.renew * 2) {
        return Err("this guard has not decided for too long".to_owned());
    }
    if decided.decision.serve.primary {
        return Ok(());
    }
    let blocked = decided.decision.blocked.as_ref().map(|it| it.why.clone());
    Err(blocked.unwrap_or_else(|| "this node does not lead".to_owned()))
}

#[derive(Deserialize)]
struct Limits {
    max_lag: Option<String>,
}

async fn replica(Shared(desk): Shared<Arc<Desk>>, Query(limits): Query<Limits>) -> Response {
    let limit = match limits.max_lag.as_deref().map(str::parse).transpose() {
        Ok(limit) => limit,
        Err(reason) => return (StatusCode::BAD_REQUEST, reason).into_response(),
    };
    let state = &desk.guard.state;
    let (view, decided) = (state.view(), state.decided());
    let follows = match decided.decision.serve.replica {
        true => Ok(()),
        false => Err("it follows nobody who leads".to_owned()),
    };
    let verdict = is_replica(&view, limit).and(follows);
    answer(&view, decided.epoch, verdict)
}

async fn health(Shared(desk): Shared<Arc<Desk>>) -> Response {
    let view = desk.guard.state.view();
    answer(&view, desk.guard.state.decided().epoch, answers(&view))
}

async fn report(Shared(desk): Shared<Arc<Desk>>) -> Json<NodeReport> {
    let mut report = desk.guard.state.view().report;
    report.store = desk.guard.store_report();
    report.agreement = agreement(&desk.guard);
    Json(report)
}

async fn prometheus(Shared(desk): Shared<Arc<Desk>>) -> Response {
    let state = &desk.guard.state;
    let mut view = state.view();
    view.report.store = desk.guard.store_report();
    view.report.agreement = agreement(&desk.guard);
    let guard = &desk.guard;
    let nodes = guard.state.config.failover.nodes.iter();
    let watch = metrics::Watch {
        stable: nodes
            .filter_map(|it| Some((it.node.clone(), guard.votes.stable_for(&it.node)?)))
            .collect(),
        deadman: guard.deadline.deadman().is_some(),
    };
    let text = metrics::render(&view, state.restarts(), &watch);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

/// What this guard knows of the agreement; none before it read a term.
fn agreement(guard: &Guard) -> Option<AgreementReport> {
    let view = guard.agreement.view();
    let term = view.term?;
    let decided = guard.state.decided();
    let leads = term.leader == guard.state.config.node;
    let holding = guard.agreement.holding();
    let decision = decided.decision;
    Some(AgreementReport {
        epoch: term.epoch,
        phase: term.phase,
        mode: term.mode,
        voters: term.voters,
        acks: term.acks,
        since: view.term_age,
        promised: guard.agreement.promise().epoch,
        sealed: guard.state.memory.sealed(),
        lease_left: holding.left.filter(|_| leads && holding.epoch == term.epoch),
        leader: term.leader,
        serves_writes: decision.serve.primary,
        blocked: decision.blocked.map(|it| BlockedReport {
            code: it.code.to_owned(),
            why: it.why,
            help: it.help,
        }),
        alerts: decision
            .alerts
            .into_iter()
            .map(|(name, why)| (name.to_owned(), why))
            .collect(),
        doing: decided.doing,
        paused: view.pause.map(|it| format!("{}: {}", it.by, it.why)),
        votes: guard.votes.current(),
        troubles: guard.votes.troubles(),
    })
}

/// Where the database is at this moment.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PositionAnswer {
    pub(super) in_recovery: bool,
    pub(super) timeline: Option<u32>,
    /// Received, or written.
    pub(super) received: Option<Lsn>,
    pub(super) replayed: Option<Lsn>,
}

async fn position(Shared(desk): Shared<Arc<Desk>>) -> Response {
    let unavailable = |why: String| (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    let ask = async {
        let mut session = desk.position.lock().await;
        let open = match session.take().filter(|it| !it.is_closed()) {
            Some(open) => open,
            None => postgres::connect(&observe::admin(&desk.guard.state.config)).await?,
        };
        let live = postgres::live_position(&open).await?;
        // One that failed is not kept.
        *session = Some(open);
        Ok::<_, ha_data::DataError>(live)
    };
    match timeout(POSITION, ask).await {
        Ok(Ok(live)) => Json(PositionAnswer {
            in_recovery: live.replica,
            timeline: live.timeline,
            received: live.written,
            replayed: live.replayed,
        })
        .into_response(),
        Ok(Err(error)) => unavailable(error.to_string()),
        Err(_) => unavailable("the database does not answer".to_owned()),
    }
}

fn answers(view: &View) -> Result<(), String> {
    if view.fresh {
        return Ok(());
    }
    let database = &view.report.database;
    Err(database
        .detail
        .clone()
        .unwrap_or_else(|| format!("the last look is {} ms old", view.report.age.as_millis())))
}

fn is_primary(view: &View) -> Result<(), String> {
    answers(view)?;
    match view.report.database.role {
        Some(NodeRole::Primary) => Ok(()),
        _ => Err("in recovery".to_owned()),
    }
}

/// From what the node itself knows: what it has not heard of it cannot count, so without word from its upstream
/// there is no yes.
fn is_replica(view: &View, limit: Option<Limit>) -> Result<(), String> {
    answers(view)?;
    let database = &view.report.database;
    if database.role != Some(NodeRole::Replica) {
        return Err("not in recovery".to_owned());
    }
    let Some(silence) = database.upstream_silence.map(|silence| silence + view.report.age) else {
        return Err("nothing streams".to_owned());
    };
    let quiet = silence <= QUIET;
    match limit {
        None if quiet => Ok(()),
        None => Err(silent(silence)),
        Some(Limit::Bytes(most)) => match view.behind_bytes {
            _ if !quiet => Err(silent(silence)),
            Some(bytes) if bytes <= most => Ok(()),
            Some(bytes) => Err(format!("{bytes} bytes behind, {most} allowed")),
            None => Err("its lag is unknown".to_owned()),
        },
        Some(Limit::Time(most)) => {
            let Some(behind) = view.behind else {
                return Err("its lag is unknown".to_owned());
            };
            // What was sent during a silence is missing too, as far as we know.
            let behind = if quiet { behind } else { behind + silence };
            if behind <= most {
                return Ok(());
            }
            Err(format!(
                "{} ms behind, {} allowed",
                behind.as_millis(),
                most.as_millis()
            ))
        }
    }
}

fn silent(silence: Duration) -> String {
    format!("its upstream has been silent for {} ms", silence.as_millis())
}

#[cfg(test)]
pub(super) mod tests {
    use ha_core::{
        lsn::Lsn,
        report::{DatabaseReport, DatabaseState, StoreReport},
    };
    use jiff::Timestamp;

    use super::*;

    pub(in crate::agent) fn view(role: NodeRole) -> View {
        let database = DatabaseReport {
            state: DatabaseState::Running,
            detail: None,
            role: Some(role),
            system_identifier: Some("7".into()),
            timeline: Some(1),
            written: None,
            received: Some(Lsn(900)),
            replayed: Some(Lsn(800)),
            upstream_silence: Some(Duration::from_millis(400)),
            upstream: None,
            replay_paused: false,
            senders: Vec::new(),
            slots: Vec::new(),
            started_at: None,
            connections: None,
            names: None,
            control_timeline: None,
            waiting: 0,
            weak_roles: Vec::new(),
        };
        let report = NodeReport {
            workspace: "shop".into(),
            region: "us-east".into(),
            node: "us-db-1".into(),
            sampled_at: Timestamp::UNIX_EPOCH,
            age: Duration::from_millis(100),
            database,
            samples: Vec::new(),
            store: StoreReport::default(),
            guard_version: String::new(),
            agreement: None,
        };
        View {
            report,
            behind_bytes: Some(100),
            behind: Some(Duration::from_secs(4)),
            fresh: true,
        }
    }

    #[test]
    fn a_primary_is_one_only_while_the_look_is_fresh() {
        assert_eq!(is_primary(&view(NodeRole::Primary)), Ok(()));
        assert!(is_primary(&view(NodeRole::Replica)).is_err());
        assert!(
            is_primary(&View {
                fresh: false,
                ..view(NodeRole::Primary)
            })
            .is_err()
        );
    }

    #[test]
    fn a_replica_that_hears_nothing_is_never_within_a_limit() {
        let mut view = view(NodeRole::Replica);
        assert_eq!(is_replica(&view, None), Ok(()));
        view.report.database.upstream_silence = None;
        for limit in [
            None,
            Some(Limit::Bytes(1 << 30)),
            Some(Limit::Time(Duration::from_secs(3600))),
        ] {
            assert!(is_replica(&view, limit).is_err(), "{limit:?}");
        }
    }

    #[test]
    fn limits_are_met_by_bytes_and_by_time() {
        let mut view = view(NodeRole::Replica);
        let seconds = |n| Some(Limit::Time(Duration::from_secs(n)));
        assert_eq!(is_replica(&view, Some(Limit::Bytes(100))), Ok(()));
        assert!(is_replica(&view, Some(Limit::Bytes(99))).is_err());
        assert_eq!(is_replica(&view, seconds(4)), Ok(()));
        assert!(is_replica(&view, seconds(3)).is_err());
        // Silence adds to time, and makes bytes unknown.
        view.report.database.upstream_silence = Some(Duration::from_secs(20));
        assert!(is_replica(&view, Some(Limit::Bytes(100))).is_err());
        assert!(is_replica(&view, seconds(23)).is_err());
        assert_eq!(is_replica(&view, seconds(25)), Ok(()));
        assert!(is_replica(&view, None).is_err());
    }

    #[test]
    fn a_primary_is_no_replica() {
        assert!(is_replica(&view(NodeRole::Primary), None).is_err());
    }
}
