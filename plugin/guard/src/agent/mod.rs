//! The face `guard`: makes the database of one node, keeps it running and says what it sees. It changes no role.
//!
//! Three tasks share [`State`]: [`keep`] owns the process (and lets [`bootstrap`] make its folder), [`observe`] looks
//! at the database, [`http`] answers from the last look and never waits for the database itself.

mod bootstrap;
mod events;
mod http;
mod keep;
mod lag;
mod metrics;
mod observe;
mod state;
mod upstream;

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use ha_core::agent::GuardConfig;
use ha_store::{Etcd, Options};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

use state::State;

/// Runs until SIGTERM or SIGINT; the database is stopped then. Killed in any other way it leaves the database
/// running, and the next guard takes it over.
pub(crate) async fn run(path: &Path) -> anyhow::Result<()> {
    let config = read_config(path)?;
    // Also the lock: a second guard of this node ends here, before it touches anything.
    let listener = TcpListener::bind(&config.listen).await.with_context(|| {
        format!(
            "cannot listen at {}; another guard of this node may be running",
            config.listen
        )
    })?;
    let options = Options::new(
        config.store.endpoints.clone(),
        &config.store.tls.ca,
        &config.store.tls.cert,
        &config.store.tls.key,
    );
    let store = Etcd::new(&options).await?;
    let state = Arc::new(State::new(config));
    let cancel = CancellationToken::new();
    tracing::info!(node = state.config.node, listen = state.config.listen, "guard started");

    let http = tokio::spawn(http::serve(listener, Arc::clone(&state)));
    let observe = tokio::spawn(observe::run(Arc::clone(&state), cancel.clone()));
    let watch_store = tokio::spawn(observe::store(Arc::clone(&state), store.clone(), cancel.clone()));
    let mut keep = tokio::spawn(keep::run(Arc::clone(&state), store, cancel.clone()));

    let mut term = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut int = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let ended = tokio::select! {
        _ = term.recv() => None,
        _ = int.recv() => None,
        ended = &mut keep => Some(ended),
    };
    cancel.cancel();
    // It stops the database; how long that may take is its own business.
    let ended = match ended {
        Some(ended) => ended,
        None => keep.await,
    };
    let _ = tokio::join!(observe, watch_store);
    http.abort();
    ended
        .context("the task that keeps the database ended unexpectedly")?
        .context("stopping the database")?;
    tracing::info!("guard ended");
    Ok(())
}

fn read_config(path: &Path) -> anyhow::Result<GuardConfig> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let config: GuardConfig =
        serde_json::from_str(&text).with_context(|| format!("{} is no guard.json", path.display()))?;
    anyhow::ensure!(
        config.sample_interval_ms >= 10,
        "{}: sample_interval_ms must be 10 or more",
        path.display()
    );
    Ok(config)
}

/// How long a normal stop of the database may take, before it is stopped as in a crash.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
