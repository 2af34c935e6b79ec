//! The one owner of the database process: found or started, watched, stopped when somebody orders it.
//!
//! Whether it should run, and as what, is decided elsewhere. Orders are carried out one after the other, whether or not
//! whoever gave them still waits; only a fence goes round the queue, for it may not wait behind a stop.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use ha_core::{lsn::Position, report::DatabaseState};
use ha_data::{
    DataError,
    postgres::{self, ClusterState, DataDir, Postmaster},
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{
    STOP_PATIENCE, permit,
    state::{Phase, Rest, State},
};

type Done<T> = oneshot::Sender<Result<T, DataError>>;

enum Order {
    /// Whatever was prepared in the folder.
    Start(Done<i32>),
    Stop {
        patience: Duration,
        done: Done<()>,
    },
    /// After the processes were ended: until that is known here.
    Settle(oneshot::Sender<()>),
    /// The folder was changed while nothing ran.
    Look(oneshot::Sender<()>),
}

/// For whoever wants something of the process.
#[derive(Clone)]
pub(super) struct Keeper {
    orders: mpsc::Sender<Order>,
    state: Arc<State>,
}

pub(super) struct Orders(mpsc::Receiver<Order>);

impl Keeper {
    pub(super) fn new(state: Arc<State>) -> (Self, Orders) {
        let (orders, receiver) = mpsc::channel(4);
        (Self { orders, state }, Orders(receiver))
    }

    /// A process runs on the folder; whether it gets ready is seen by looking.
    pub(super) async fn start(&self) -> Result<i32, DataError> {
        let (done, answer) = oneshot::channel();
        self.ask(Order::Start(done), answer).await?
    }

    /// It has ended, after `patience` as in a crash. One that does not run is no error.
    pub(super) async fn stop(&self, patience: Duration) -> Result<(), DataError> {
        let (done, answer) = oneshot::channel();
        self.ask(Order::Stop { patience, done }, answer).await?
    }

    /// No process of the database is left; answers with how long that took. Does not wait for an order that is being
    /// carried out: that one ends with the process.
    pub(super) async fn fence(&self, budget: Duration) -> Result<Duration, DataError> {
        self.state.fencing.store(true, Ordering::SeqCst);
        let took = postgres::fence_by_folder(&self.state.config.postgres.data_dir, budget).await?;
        let (done, answer) = oneshot::channel();
        self.ask(Order::Settle(done), answer).await?;
        Ok(took)
    }

    /// What lies in the folder is known anew.
    pub(super) async fn look(&self) -> Result<(), DataError> {
        let (done, answer) = oneshot::channel();
        self.ask(Order::Look(done), answer).await
    }

    async fn ask<T>(&self, order: Order, answer: oneshot::Receiver<T>) -> Result<T, DataError> {
        let gone = || DataError::Unexpected("the guard is ending".to_owned());
        self.orders.send(order).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }
}

/// Keeps the process until cancelled; then it is stopped. Fails only if it cannot be stopped.
pub(super) async fn run(
    state: Arc<State>,
    Orders(mut orders): Orders,
    cancel: CancellationToken,
) -> Result<(), DataError> {
    let mut server = match adopt(&state) {
        Ok(server) => server,
        Err(error) => {
            state.set_phase(Phase::of(DatabaseState::Failed, error.to_string()));
            None
        }
    };
    if server.is_none() {
        state.set_rest(at_rest(&state).await);
    }
    loop {
        let Some(mut running) = server.take() else {
            let order = tokio::select! {
                () = cancel.cancelled() => break,
                order = orders.recv() => order,
            };
            match order {
                Some(Order::Start(done)) => match start(&state).await {
                    Ok(started) => {
                        // Whoever asked may have been cancelled; the process runs all the same.
                        let _ = done.send(Ok(started.pid()));
                        server = Some(started);
                    }
                    Err(error) => {
                        state.set_phase(Phase::of(DatabaseState::Failed, error.to_string()));
                        let _ = done.send(Err(error));
                    }
                },
                Some(Order::Stop { done, .. }) => {
                    let _ = done.send(Ok(()));
                }
                Some(Order::Settle(done) | Order::Look(done)) => {
                    state.set_rest(at_rest(&state).await);
                    let _ = done.send(());
                }
                None => break,
            }
            continue;
        };
        let order = tokio::select! {
            () = cancel.cancelled() => {
                state.set_phase(Phase::of(DatabaseState::Stopped, "the guard was told to stop"));
                let stopped = running.stop(STOP_PATIENCE).await;
                state.set_rest(at_rest(&state).await);
                return stopped;
            }
            ended = running.wait() => {
                ended_by_itself(&state, ended.to_string()).await;
                continue;
            }
            order = orders.recv() => order,
        };
        match order {
            Some(Order::Start(done)) => {
                let _ = done.send(Ok(running.pid()));
                server = Some(running);
            }
            Some(Order::Stop { patience, done }) => {
                let stopped = running.stop(patience).await;
                match &stopped {
                    Ok(()) => state.set_phase(Phase::of(DatabaseState::Stopped, "it was stopped")),
                    Err(error) => {
                        state.set_phase(Phase::of(DatabaseState::Failed, error.to_string()));
                        server = adopt(&state).ok().flatten();
                    }
                }
                state.set_rest(at_rest(&state).await);
                let _ = done.send(stopped);
            }
            Some(Order::Settle(done)) => {
                // It was killed a moment ago.
                running.wait().await;
                state.set_phase(Phase::of(DatabaseState::Stopped, "it was fenced"));
                state.set_rest(at_rest(&state).await);
                let _ = done.send(());
            }
            Some(Order::Look(done)) => {
                server = Some(running);
                let _ = done.send(());
            }
            None => return Ok(()),
        }
    }
    state.set_phase(Phase::of(DatabaseState::Stopped, "the guard was told to stop"));
    Ok(())
}

/// Sessions of a killed postmaster may go on committing: they are ended before anybody decides anything.
async fn ended_by_itself(state: &State, why: String) {
    if state.fencing.load(Ordering::SeqCst) {
        state.set_phase(Phase::of(DatabaseState::Stopped, "it was fenced"));
    } else {
        state.restarted();
        state.set_phase(Phase::of(DatabaseState::Failed, why));
    }
    match postgres::clear_remains(&state.config.postgres).await {
        Ok(0) => {}
        Ok(killed) => tracing::warn!(killed, "processes were left over from a server that is gone"),
        Err(error) => tracing::error!(%error, "what is left of a server that is gone cannot be ended"),
    }
    state.set_rest(at_rest(state).await);
}

/// The server that runs already, whoever started it.
fn adopt(state: &State) -> Result<Option<Postmaster>, DataError> {
    let config = &state.config;
    let Some(server) = postgres::adopt(&config.postgres)? else {
        return Ok(None);
    };
    let permit = permit::held_by(&config.failover.runtime_dir, server.pid());
    // The configuration may have changed while no guard was there.
    postgres::write_config(&config.postgres, &config.node)?;
    server.reload()?;
    let with = match permit {
        Some(epoch) => format!("with a permit for epoch {epoch}"),
        None => "without a permit".to_owned(),
    };
    state
        .events
        .write("database.adopted", &config.node, "running", Some(with), None);
    state.is_up(server.pid(), permit);
    Ok(Some(server))
}

async fn start(state: &State) -> Result<Postmaster, DataError> {
    let config = &state.config.postgres;
    if let Some(server) = adopt(state)? {
        return Ok(server);
    }
    let killed = postgres::clear_remains(config).await?;
    if killed > 0 {
        tracing::warn!(killed, "processes were left over from a server that is gone");
    }
    postgres::write_config(config, &state.config.node)?;
    let server = postgres::start(config)?;
    state.fencing.store(false, Ordering::SeqCst);
    state.is_up(server.pid(), None);
    Ok(server)
}

/// What lies in the folder while nothing runs on it.
async fn at_rest(state: &State) -> Rest {
    let config = &state.config.postgres;
    let found = async {
        Ok::<_, DataError>(match postgres::data_dir(config).await? {
            DataDir::Absent => Rest::Absent,
            DataDir::Ruined => Rest::Ruined,
            DataDir::Present {
                standby,
                system_identifier: found,
            } => {
                if let Some(expected) = state.expected().filter(|expected| *expected != found) {
                    let path = config.data_dir.clone();
                    return Err(DataError::OtherCluster { path, found, expected });
                }
                let control = postgres::control(config).await?;
                let clean = control.state == ClusterState::ShutDown;
                Rest::Stopped {
                    clean,
                    standby,
                    position: clean.then_some(Position {
                        timeline: control.timeline,
                        lsn: control.checkpoint,
                    }),
                }
            }
        })
    };
    match found.await {
        Ok(rest) => {
            if rest == Rest::Absent {
                let why = "there is no data here";
                state.set_phase(Phase::of(DatabaseState::Absent, why));
            }
            rest
        }
        Err(error) => {
            state.set_phase(Phase::of(DatabaseState::Failed, error.to_string()));
            Rest::Unusable(error.to_string())
        }
    }
}
