//! What the guard and the others agree on: the store as last seen, the changes of it, the lease, and the promises that
//! survive the guard.
//!
//! [`Agreement`] never blocks a look: tasks of its own keep what is known up to date ([`follow`]) and write this node's
//! report ([`member`]). A change of the store goes only on what was decided on: [`Agreement::look`] hands out the facts
//! together with the [`Basis`] that the swaps compare.

mod asked;
mod clocks;
pub(crate) mod deadline;
mod follow;
mod known;
mod lease;
mod member;
mod mend;
pub(crate) mod placement;
mod promise;
mod swaps;
#[cfg(test)]
mod tests;
pub(crate) mod votes;
mod watchdog;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ha_core::{
    agent::GuardConfig,
    agreement::{Epoch, History, Keys, Node, Term},
    decide::{Holding, Promise, StoreView},
    model::Timing,
};
use ha_store::{Cluster, Store, StoreError};
use jiff::Timestamp;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

pub(crate) use asked::Answer;
pub(crate) use clocks::{Clocks, boottime};
pub(crate) use known::Basis;
pub(crate) use member::MemberDraft;
pub(crate) use promise::PromiseError;
pub(crate) use swaps::Swapped;

use known::Known;
use lease::Held;
use promise::PromiseFile;
use swaps::Sent;
use watchdog::Watchdog;

/// Shared by the guard's cycle, its jobs and its endpoints.
pub(crate) struct Agreement {
    cluster: Cluster,
    me: Node,
    region: String,
    timing: Timing,
    clocks: Clocks,
    known: Mutex<Known>,
    changed: watch::Sender<u64>,
    promise: Arc<PromiseFile>,
    held: Mutex<Held>,
    /// One renewal at a time.
    renewing: tokio::sync::Mutex<()>,
    /// One change of the term at a time.
    turn: tokio::sync::Mutex<()>,
    sent: Mutex<Sent>,
    /// Of the epoch this guard published, until it is in the store.
    history: Mutex<Option<History>>,
    /// To what a person asked.
    answered: Mutex<Option<asked::Answered>>,
    draft: watch::Sender<Option<MemberDraft>>,
    told: follow::Told,
    /// Somebody learned that what is known may be old.
    read_again: Notify,
    watchdog: Mutex<Option<Watchdog>>,
    settings: String,
}

/// Facts, and what a swap decided on them compares.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    pub(crate) view: StoreView,
    pub(crate) basis: Basis,
}

impl Agreement {
    /// Begins to follow the store; until it has answered, a look says so. Ends with `cancel`.
    ///
    /// Fails when this node's promises cannot be read: nothing may be decided then.
    pub(crate) fn start(
        config: &GuardConfig,
        store: Arc<dyn Store>,
        cancel: CancellationToken,
    ) -> Result<Arc<Self>, PromiseError> {
        let agreement = Arc::new(Self::new(config, store, Clocks::system())?);
        tokio::spawn(follow::watch(Arc::clone(&agreement), cancel.clone()));
        tokio::spawn(follow::check(Arc::clone(&agreement), cancel.clone()));
        tokio::spawn(member::keep(Arc::clone(&agreement), cancel.clone()));
        tokio::spawn(asked::keep(Arc::clone(&agreement), cancel.clone()));
        tokio::spawn(mend::keep(Arc::clone(&agreement), cancel));
        Ok(agreement)
    }

    fn new(config: &GuardConfig, store: Arc<dyn Store>, clocks: Clocks) -> Result<Self, PromiseError> {
        let of = format!("{}/{}/{}", config.workspace, config.cluster, config.node);
        let promise = PromiseFile::open(&config.failover.promise, &of)?;
        let keys = Keys::new(&config.workspace, &config.cluster);
        let known = Known::new(&config.node, keys.clone(), promise.remembered(), clocks.now());
        Ok(Self {
            cluster: Cluster::new(store, keys),
            me: config.node.clone(),
            region: config.region.clone(),
            timing: config.failover.timing,
            known: Mutex::new(known),
            clocks,
            changed: watch::Sender::new(0),
            promise: Arc::new(promise),
            held: Mutex::default(),
            renewing: tokio::sync::Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            sent: Mutex::default(),
            history: Mutex::default(),
            answered: Mutex::default(),
            draft: watch::Sender::new(None),
            told: follow::Told::default(),
            read_again: Notify::new(),
            watchdog: Mutex::new(config.failover.watchdog.clone().map(Watchdog::new)),
            settings: settings(config),
        })
    }

    /// The store as last seen, and the revisions of just that.
    pub(crate) fn look(&self) -> Look {
        let now = self.clocks.now();
        let known = self.known();
        let affirmed = lock(&self.sent).affirmed(known.term_revision());
        Look {
            view: known.view(&self.timing, affirmed, now, Timestamp::now()),
            basis: known.basis(),
        }
    }

    pub(crate) fn view(&self) -> StoreView {
        self.look().view
    }

    /// Grows whenever anything seen of the store changes.
    pub(crate) fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Reads and changes for what is not here.
    #[cfg(test)]
    fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    pub(crate) fn holding(&self) -> Holding {
        let now = self.clocks.now();
        lock(&self.held).holding(self.timing.hold, now)
    }

    pub(crate) fn promise(&self) -> Promise {
        self.promise.promise()
    }

    /// Nothing is acknowledged for an epoch below, whatever happens to this guard: it is on the disk when this returns.
    /// Only after a term of this epoch was seen. A lower one than promised is an error.
    pub(crate) async fn keep_promise(&self, epoch: Epoch) -> Result<(), PromiseError> {
        self.on_disk(move |file| file.keep_promise(epoch)).await
    }

    /// As [`Self::keep_promise`], before this node is promoted.
    pub(crate) async fn keep_promoted(&self, epoch: Epoch) -> Result<(), PromiseError> {
        self.on_disk(move |file| file.keep_promoted(epoch)).await
    }

    /// The promises are this database's. Refuses a folder with another system identifier from then on.
    pub(crate) async fn belongs_to(&self, system_identifier: &str) -> Result<(), PromiseError> {
        let identifier = system_identifier.to_owned();
        self.on_disk(move |file| file.belongs_to(&identifier)).await
    }

    async fn on_disk(
        &self,
        change: impl FnOnce(&PromiseFile) -> Result<(), PromiseError> + Send + 'static,
    ) -> Result<(), PromiseError> {
        let file = Arc::clone(&self.promise);
        let changed = tokio::task::spawn_blocking(move || change(&file)).await;
        let changed = changed.unwrap_or_else(|error| {
            Err(PromiseError::Io {
                what: "write",
                path: std::path::PathBuf::new(),
                error: std::io::Error::other(error),
            })
        });
        self.news(changed.is_ok());
        changed
    }

    /// The database is known to write no more: the watchdog, if there is one, is let go.
    pub(crate) fn stand_down(&self) {
        if let Some(watchdog) = lock(&self.watchdog).as_mut()
            && let Err(error) = watchdog.release()
        {
            tracing::warn!(%error, "the watchdog cannot be released; it may reset this machine");
        }
    }

    /// As the store's quorum knows it at this moment.
    pub(crate) async fn term_now(&self) -> Result<Option<Term>, StoreError> {
        Ok(self.cluster.term().await?.map(|(term, _)| term))
    }

    /// What is known is read anew at once.
    pub(crate) fn read_again(&self) {
        self.read_again.notify_one();
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        lock(&self.known)
    }

    fn news(&self, there_are: bool) {
        if there_are {
            self.changed.send_modify(|it| *it = it.wrapping_add(1));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What all guards must have been told alike, shortened to something that can be compared. FNV-1a: it is no secret, and
/// must only be the same in every build.
fn settings(config: &GuardConfig) -> String {
    let failover = &config.failover;
    let told = serde_json::json!([failover.sync_mode, failover.timing, failover.policy, failover.nodes]);
    let hash = told.to_string().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// Between tries of what failed at once.
const RETRY: Duration = Duration::from_millis(200);
