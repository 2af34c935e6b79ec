//! The guard's endpoints. All of them answer from the last look and its age; none waits for the database.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Query, State as Shared},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use ha_core::report::{NodeReport, NodeRole};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use super::{
    lag::Limit,
    metrics,
    state::{State, View},
};

/// A replica reports to its upstream each second, and is told when nothing new came after half of five; a silence
/// of three seconds is ordinary, more is not.
const QUIET: Duration = Duration::from_secs(3);

pub(super) async fn serve(listener: TcpListener, state: Arc<State>) {
    let router = Router::new()
        .route("/primary", get(primary))
        .route("/replica", get(replica))
        .route("/health", get(health))
        .route("/report", get(report))
        .route("/metrics", get(prometheus))
        .with_state(state);
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "the endpoints ended");
    }
}

/// 200 or 503, and why.
#[derive(Debug, Serialize)]
struct Answer {
    node: String,
    role: Option<NodeRole>,
    ok: bool,
    reason: Option<String>,
}

fn answer(view: &View, verdict: Result<(), String>) -> Response {
    let code = if verdict.is_ok() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let answer = Answer {
        node: view.report.node.clone(),
        role: view.report.database.role,
        ok: verdict.is_ok(),
        reason: verdict.err(),
    };
    (code, Json(answer)).into_response()
}

async fn primary(Shared(state): Shared<Arc<State>>) -> Response {
    let view = state.view();
    answer(&view, is_primary(&view))
}

#[derive(Deserialize)]
struct Limits {
    max_lag: Option<String>,
}

async fn replica(Shared(state): Shared<Arc<State>>, Query(limits): Query<Limits>) -> Response {
    let limit = match limits.max_lag.as_deref().map(str::parse).transpose() {
        Ok(limit) => limit,
        Err(reason) => return (StatusCode::BAD_REQUEST, reason).into_response(),
    };
    let view = state.view();
    answer(&view, is_replica(&view, limit))
}

async fn health(Shared(state): Shared<Arc<State>>) -> Response {
    let view = state.view();
    answer(&view, answers(&view))
}

async fn report(Shared(state): Shared<Arc<State>>) -> Json<NodeReport> {
    Json(state.view().report)
}

async fn prometheus(Shared(state): Shared<Arc<State>>) -> Response {
    let text = metrics::render(&state.view(), state.restarts());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
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
