//! The reference application: small enough to read in one sitting, strict enough to measure a failover with.
//!
//! `GET /health` says whether it runs, whatever the database does. `GET /status` says where the primary is,
//! `POST /write` writes through the load balancer's listener that follows it, `GET /read?id=` reads near by.

mod database;
mod pool;

use std::{fs, path::Path, sync::Arc};

use anyhow::Context;
use axum::{
    Json, Router,
    body::Bytes,
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use ha_core::agent::AppConfig;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

use self::database::{Database, Outcome};

/// Serves until SIGTERM or SIGINT; answers that were begun are finished.
///
/// Fails at once when `app.json` cannot be used or the address is taken; a database that does not answer is no error.
pub(crate) async fn run(path: &Path) -> anyhow::Result<()> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let config: AppConfig = serde_json::from_slice(&bytes)
        .with_context(|| format!("{} is no application configuration", path.display()))?;
    let listener = TcpListener::bind(&config.listen)
        .await
        .with_context(|| format!("cannot listen on {}", config.listen))?;
    let database = Arc::new(Database::new(config)?);
    let router = Router::new()
        .route("/health", get(health))
        .route("/status", get(status))
        .route("/write", post(write))
        .route("/read", get(read))
        .with_state(database);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    axum::serve(listener, router)
        .with_graceful_shutdown(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        })
        .await
        .context("cannot serve")
}

async fn health() -> &'static str {
    "ok"
}

async fn status(State(database): State<Arc<Database>>) -> Json<Value> {
    let config = database.config();
    let primary = database.primary().await;
    let (node, error) = match &primary {
        Ok(node) => (Some(node.as_str()), None),
        Err(error) => (None, Some(error.to_string())),
    };
    Json(json!({
        "region": config.region,
        "server": config.server,
        "primary": node.and_then(|it| config.databases.get(it)),
        "node": node,
        "error": error,
    }))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Write {
    /// Chosen by a caller who wants to try the same write again; else made here.
    id: Option<String>,
}

/// 200: written, and acknowledged by the database. 503: certainly not written. 504: it may be written or not; the
/// same id may be tried again, and a 200 then is about that row.
async fn write(State(database): State<Arc<Database>>, body: Bytes) -> Response {
    let wanted = if body.trim_ascii().is_empty() {
        Ok(Write::default())
    } else {
        serde_json::from_slice::<Write>(&body)
    };
    let id = match wanted {
        Ok(Write { id }) => id.unwrap_or_else(|| database.new_id()),
        Err(error) => {
            let error = format!(r#"the body must be empty or {{"id": "text"}}: {error}"#);
            return (StatusCode::BAD_REQUEST, Json(json!({ "error": error }))).into_response();
        }
    };
    let region = &database.config().region;
    let (code, answer) = match database.write(&id).await {
        Outcome::Done => (
            StatusCode::OK,
            json!({ "id": id, "region": region, "acknowledged": true }),
        ),
        Outcome::Unknown(warning) => (
            StatusCode::GATEWAY_TIMEOUT,
            json!({ "id": id, "region": region, "acknowledged": null, "warning": warning }),
        ),
        Outcome::Refused(error) => (
            StatusCode::SERVICE_UNAVAILABLE,
            json!({ "id": id, "region": region, "acknowledged": false, "error": error }),
        ),
    };
    (code, Json(answer)).into_response()
}

#[derive(Deserialize)]
struct Read {
    id: String,
}

/// 200 with the row, 404 when the database asked has no such row (yet), 503 when none answers.
async fn read(State(database): State<Arc<Database>>, query: Result<Query<Read>, QueryRejection>) -> Response {
    let Ok(Query(Read { id })) = query else {
        let error = "which row? Ask for /read?id=<what /write answered>";
        return (StatusCode::BAD_REQUEST, Json(json!({ "error": error }))).into_response();
    };
    match database.read(&id).await {
        Ok(Some((region, at))) => Json(json!({ "id": id, "region": region, "at": at })).into_response(),
        Ok(None) => {
            let error = format!("no row with id {id}; a replica may be behind");
            (StatusCode::NOT_FOUND, Json(json!({ "id": id, "error": error }))).into_response()
        }
        Err(error) => {
            let answer = json!({ "id": id, "error": error.to_string() });
            (StatusCode::SERVICE_UNAVAILABLE, Json(answer)).into_response()
        }
    }
}
