//! The database process: found or started, watched, started again when it ends, stopped when the guard is told to.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ha_core::report::DatabaseState;
use ha_data::{
    DataError,
    postgres::{self, Postmaster},
};
use ha_store::Etcd;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{
    STOP_PATIENCE, bootstrap,
    state::{Phase, State},
    upstream,
};

/// Waits between starts: longer each time, short again after it ran for a while.
struct Backoff {
    next: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);
    const MOST: Duration = Duration::from_secs(5);
    const STABLE: Duration = Duration::from_secs(10);

    fn new() -> Self {
        Self { next: Self::FIRST }
    }

    fn after(&mut self, ran: Duration) -> Duration {
        if ran >= Self::STABLE {
            self.next = Self::FIRST;
        }
        let wait = self.next;
        self.next = (wait * 2).min(Self::MOST);
        wait
    }
}

/// Why a process is no longer watched.
enum Watched {
    Ended(String),
    /// It serves another cluster than the workspace's.
    Stranger(DataError),
    /// A replica that nobody can bring up to date any more.
    Outdated(String),
    Cancelled,
}

/// Keeps the database running until cancelled; then it is stopped. Fails only if it cannot be stopped.
pub(super) async fn run(state: Arc<State>, store: Etcd, cancel: CancellationToken) -> Result<(), DataError> {
    let mut backoff = Backoff::new();
    let mut copies = upstream::Copies::default();
    loop {
        let up = tokio::select! {
            () = cancel.cancelled() => break,
            up = bring_up(&state, &store) => up,
        };
        let began = Instant::now();
        let why = match up {
            Err(error) => format!("{error:#}"),
            Ok(mut server) => {
                state.set_phase(Phase::up(server.pid()));
                let watched = tokio::select! {
                    () = cancel.cancelled() => Watched::Cancelled,
                    ended = server.wait() => Watched::Ended(ended.to_string()),
                    error = bootstrap::settle(&state, &store) => Watched::Stranger(error),
                    why = upstream::watch(&state, &store, &mut copies) => Watched::Outdated(why),
                };
                match watched {
                    Watched::Ended(why) => {
                        state.restarted();
                        why
                    }
                    Watched::Stranger(error) => {
                        let why = error.to_string();
                        state.set_phase(Phase::of(DatabaseState::Failed, &why));
                        server.stop(STOP_PATIENCE).await?;
                        why
                    }
                    Watched::Outdated(why) => {
                        let node = &state.config.node;
                        state
                            .events
                            .write("replica.outdated", node, "creating", Some(why.clone()), None);
                        state.set_phase(Phase::of(DatabaseState::Creating, why));
                        server.stop(STOP_PATIENCE).await?;
                        match postgres::set_aside(&state.config.postgres).await {
                            Ok(()) => continue,
                            Err(error) => error.to_string(),
                        }
                    }
                    Watched::Cancelled => {
                        state.set_phase(Phase::of(DatabaseState::Stopped, "the guard was told to stop"));
                        return server.stop(STOP_PATIENCE).await;
                    }
                }
            }
        };
        // Kept until it runs again: the reason is what people look for.
        state.set_phase(Phase::of(DatabaseState::Failed, why));
        let wait = backoff.after(began.elapsed());
        tokio::select! {
            () = cancel.cancelled() => break,
            () = sleep(wait) => {}
        }
    }
    state.set_phase(Phase::of(DatabaseState::Stopped, "the guard was told to stop"));
    Ok(())
}

/// A server that runs on this node's folder: the one that does already, or a new one.
async fn bring_up(state: &State, store: &Etcd) -> anyhow::Result<Postmaster> {
    let config = &state.config;
    if let Some(server) = postgres::adopt(&config.postgres)? {
        // The configuration may have changed while no guard was there.
        postgres::write_config(&config.postgres, &config.node)?;
        server.reload()?;
        state
            .events
            .write("database.adopted", &config.node, "running", None, None);
        return Ok(server);
    }
    bootstrap::prepare(state, store).await?;
    // There is data again, so what was kept in its place until then is of no use.
    postgres::clear_outdated(&config.postgres).await?;
    let killed = postgres::clear_remains(&config.postgres).await?;
    if killed > 0 {
        tracing::warn!(killed, "processes were left over from a server that is gone");
    }
    postgres::write_config(&config.postgres, &config.node)?;
    Ok(postgres::start(&config.postgres)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_limit_and_start_anew_after_a_stable_run() {
        let mut backoff = Backoff::new();
        let waits: Vec<u128> = (0..8).map(|_| backoff.after(Duration::ZERO).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(backoff.after(Duration::from_secs(11)), Backoff::FIRST);
    }
}
