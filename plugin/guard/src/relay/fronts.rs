//! The addresses other regions use.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ha_core::agent::{Front, RelayConfig};
use serde::Serialize;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::sleep};

use super::{
    caller::Regions,
    connection::{Hub, carry},
    links::Network,
};

/// How long until a front that could not be opened is tried again.
const AGAIN: Duration = Duration::from_millis(250);

/// One row of `GET /fronts`.
#[derive(Clone, Debug, Serialize)]
pub(super) struct FrontRow {
    pub(super) listen: String,
    pub(super) target: String,
    pub(super) open: bool,
    pub(super) error: Option<String>,
}

#[derive(Clone)]
pub(super) struct States {
    rows: Arc<Mutex<BTreeMap<Front, FrontRow>>>,
    pub(super) hub: Arc<Hub>,
    pub(super) regions: watch::Receiver<Arc<Regions>>,
}

impl States {
    pub(super) fn rows(&self) -> Vec<FrontRow> {
        self.lock().values().cloned().collect()
    }

    fn set(&self, front: &Front, error: Option<String>) {
        if let Some(row) = self.lock().get_mut(front) {
            row.open = error.is_none();
            row.error = error;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Front, FrontRow>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) struct Fronts {
    states: States,
    regions: watch::Sender<Arc<Regions>>,
    listening: BTreeMap<Front, JoinHandle<()>>,
}

impl Fronts {
    pub(super) fn new(network: Arc<Network>) -> Self {
        let (regions, seen) = watch::channel(Arc::default());
        Self {
            states: States {
                rows: Arc::default(),
                hub: Arc::new(Hub {
                    network,
                    callers: Default::default(),
                    registry: Default::default(),
                }),
                regions: seen,
            },
            regions,
            listening: BTreeMap::new(),
        }
    }

    pub(super) fn states(&self) -> States {
        self.states.clone()
    }

    /// Opens and closes what differs. Connections that are open stay open, also those of a front that was removed.
    pub(super) fn set(&mut self, config: RelayConfig) {
        if config.region != self.states.hub.network.region {
            tracing::warn!("`region` changed in relay.json; it takes a restart of the relay");
        }
        self.regions.send_replace(Arc::new(Regions {
            octets: config.regions,
            workspace_dir: config.workspace_dir,
        }));
        let wanted: BTreeSet<Front> = config.fronts.into_iter().collect();
        self.listening.retain(|front, task| {
            let keep = wanted.contains(front);
            if !keep {
                task.abort();
                self.states.lock().remove(front);
            }
            keep
        });
        for front in wanted {
            if !self.listening.contains_key(&front) {
                self.states.lock().insert(
                    front.clone(),
                    FrontRow {
                        listen: front.listen.clone(),
                        target: front.target.clone(),
                        open: false,
                        error: None,
                    },
                );
                let task = tokio::spawn(listen(front.clone(), self.states.clone()));
                self.listening.insert(front, task);
            }
        }
    }
}

/// Accepts for as long as the front is wanted.
async fn listen(front: Front, states: States) {
    loop {
        let error = match TcpListener::bind(&front.listen).await {
            Ok(listener) => {
                states.set(&front, None);
                accept(&front, &states, listener).await
            }
            Err(error) => error,
        };
        let error = format!("{}: {error}", front.listen);
        let known = states
            .lock()
            .get(&front)
            .is_some_and(|it| it.error.as_ref() == Some(&error));
        if !known {
            tracing::error!("{error}; tried again until it works");
        }
        states.set(&front, Some(error));
        sleep(AGAIN).await;
    }
}

/// Returns when the listener no longer works.
async fn accept(front: &Front, states: &States, listener: TcpListener) -> std::io::Error {
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                let regions = states.regions.borrow().clone();
                tokio::spawn(carry(states.hub.clone(), regions, front.clone(), socket, peer));
            }
            // The caller left before it was accepted.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => {}
            Err(error) => return error,
        }
    }
}
