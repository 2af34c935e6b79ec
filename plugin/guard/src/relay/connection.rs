//! One caller and the connection made for it.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ha_core::agent::Front;
use jiff::Timestamp;
use serde::Serialize;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep},
};

use super::{
    caller::{self, Caller, Callers, Regions},
    lane::{Lane, Queue, load, unload},
    links::Network,
};

/// How often a held connection whose caller fell silent is asked whether the caller is still there.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// One row of `GET /connections`.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    front: String,
    target: String,
    peer: String,
    /// None for a caller from outside.
    from: Option<String>,
    to: String,
    state: State,
    accepted_at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// On its way to the target, or waiting for a cut to heal.
    Held,
    Open,
}

/// All connections there are.
#[derive(Default)]
pub(super) struct Registry {
    next: AtomicU64,
    rows: Mutex<BTreeMap<u64, Row>>,
}

impl Registry {
    pub(super) fn rows(&self) -> Vec<Row> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Row>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A row that is there as long as the connection is.
struct Entry<'a> {
    registry: &'a Registry,
    number: u64,
}

impl<'a> Entry<'a> {
    fn new(registry: &'a Registry, row: Row) -> Self {
        let number = registry.next.fetch_add(1, Ordering::Relaxed);
        registry.lock().insert(number, row);
        Self { registry, number }
    }

    fn open(&self) {
        if let Some(row) = self.registry.lock().get_mut(&self.number) {
            row.state = State::Open;
        }
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.registry.lock().remove(&self.number);
    }
}

/// What all connections share.
pub(super) struct Hub {
    pub(super) network: Arc<Network>,
    pub(super) callers: Callers,
    pub(super) registry: Registry,
}

/// Carries one connection to its end.
///
/// The caller's kernel thinks the connection open at once, so nobody is told about a cut; the target hears of it when
/// the way there *and* back is open, because an ordinary handshake needs both.
pub(super) async fn carry(hub: Arc<Hub>, regions: Arc<Regions>, front: Front, socket: TcpStream, peer: SocketAddr) {
    let accepted = Instant::now();
    let Ok(own) = socket.local_addr() else {
        return;
    };
    // Health checks come many times a second, and bind an address: they cost no look at processes.
    let from = if let Some(region) = caller::by_address(&regions, peer, own) {
        Some(region)
    } else {
        let finder = hub.clone();
        let found = tokio::task::spawn_blocking(move || finder.callers.find(&regions, peer, own)).await;
        match found {
            Ok(Caller::Region(region)) => Some(region),
            Ok(Caller::Outside) => None,
            // It may have left a message behind. Where nothing is cut it would have arrived, whoever sent it.
            Ok(Caller::Left) if hub.network.is_cut_off() => return,
            Ok(Caller::Left) => None,
            Err(error) => {
                tracing::error!(%error, "cannot tell who calls {}", front.listen);
                return;
            }
        }
    };
    let to = hub.network.region.clone();
    let mut there = hub.network.lane(from.as_deref(), Some(&to));
    let mut back = hub.network.lane(Some(&to), from.as_deref());
    let entry = Entry::new(
        &hub.registry,
        Row {
            front: front.listen.clone(),
            target: front.target.clone(),
            peer: peer.to_string(),
            from,
            to,
            state: State::Held,
            accepted_at: Timestamp::now(),
        },
    );
    let _counted = (there.open(), back.open());

    // Small answers must not wait for each other to fill a packet; losing this costs time, nothing else.
    let _ = socket.set_nodelay(true);
    let (caller_in, caller_out) = socket.into_split();
    let (to_target, to_caller) = (Queue::new(), Queue::new());
    let loading = load(caller_in, to_target.clone());
    let carrying = async {
        tokio::select! {
            () = both_open(&mut there, &back, accepted) => {}
            () = left(&to_target, peer, own) => return,
        }
        if to_target.ended_silent() {
            return;
        }
        let target = match TcpStream::connect(&front.target).await {
            Ok(target) => target,
            Err(error) => {
                tracing::debug!(%error, "{} does not answer", front.target);
                back.pass(Instant::now()).await;
                return;
            }
        };
        entry.open();
        let _ = target.set_nodelay(true);
        let (target_in, target_out) = target.into_split();
        let delivering = async {
            // Ends early when one of them finds the connection broken.
            tokio::try_join!(
                unload(target_out, there, to_target.clone(), to_caller.clone()),
                unload(caller_out, back, to_caller.clone(), to_target.clone()),
            )
        };
        tokio::select! {
            _ = delivering => {}
            () = forever(load(target_in, to_caller.clone())) => {}
        }
    };
    tokio::select! {
        () = carrying => {}
        () = forever(loading) => {}
    }
}

/// Runs `work`, and is never the first to end.
async fn forever(work: impl Future<Output = ()>) {
    work.await;
    std::future::pending::<()>().await;
}

async fn both_open(there: &mut Lane, back: &Lane, accepted: Instant) {
    let mut back = back.clone();
    loop {
        there.pass(accepted).await;
        if !back.condition().cut {
            return;
        }
        back.pass(accepted).await;
    }
}

/// Returns when the caller closed its socket. A long cut would otherwise pile up one connection per health check.
async fn left(queue: &Queue, peer: SocketAddr, front: SocketAddr) {
    loop {
        sleep(LOOK_AGAIN).await;
        if !queue.ended() {
            continue;
        }
        match tokio::task::spawn_blocking(move || caller::is_there(peer, front)).await {
            Ok(true) => {}
            Ok(false) | Err(_) => return,
        }
    }
}
