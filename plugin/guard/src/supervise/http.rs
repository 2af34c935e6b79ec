//! What the supervisor answers on its socket.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use ha_core::unit::UnitStatus;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{
    handle::Act,
    region::{Refused, Region},
};

#[derive(Clone)]
pub(super) struct Served {
    pub(super) region: Arc<Region>,
    /// Cancelled when everything was stopped and the supervisor should end.
    pub(super) done: CancellationToken,
}

pub(super) fn router(served: Served) -> Router {
    Router::new()
        .route("/units", get(units))
        .route("/sync", post(sync))
        .route("/stop", post(stop))
        .route("/hosts/{host}/units/{unit}/restart", post(restart))
        .route("/hosts/{host}/units/{unit}/reload", post(reload))
        .with_state(served)
}

async fn units(State(served): State<Served>) -> Json<Vec<UnitStatus>> {
    Json(served.region.units().await)
}

async fn sync(State(served): State<Served>) -> Json<Vec<UnitStatus>> {
    Json(served.region.sync().await)
}

/// Goes on when the caller leaves: half a stop would be neither.
async fn stop(State(served): State<Served>) -> Response {
    let stopping = tokio::spawn(async move {
        let units = served.region.stop().await;
        served.done.cancel();
        units
    });
    match stopping.await {
        Ok(units) => Json(units).into_response(),
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            Json(json!({ "error": error.to_string() })),
        )
            .into_response(),
    }
}

async fn restart(State(served): State<Served>, Path((host, unit)): Path<(String, String)>) -> Response {
    answer(served.region.command(&host, &unit, Act::Restart).await)
}

async fn reload(State(served): State<Served>, Path((host, unit)): Path<(String, String)>) -> Response {
    answer(served.region.command(&host, &unit, Act::Reload).await)
}

fn answer(outcome: Result<UnitStatus, Refused>) -> Response {
    let status = match &outcome {
        Ok(_) => StatusCode::OK,
        Err(Refused::Unknown(..)) => StatusCode::NOT_FOUND,
        Err(Refused::NotNow(_)) => StatusCode::CONFLICT,
    };
    match outcome {
        Ok(unit) => (status, Json(unit)).into_response(),
        Err(error) => (status, Json(json!({ "error": error.to_string() }))).into_response(),
    }
}
