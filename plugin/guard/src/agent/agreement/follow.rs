//! Keeps what is known of the store up to date.
//!
//! One task lists the cluster's keys and watches them from there. Another asks the store something that needs its
//! quorum with each renewal interval, and lists everything now and then: a watch whose line was cut says nothing, for as
//! long as nobody asks.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use ha_core::agreement::Epoch;
use ha_store::{Listing, StoreError};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::{Agreement, RETRY};

/// Everything is listed so often, whether a watch tells anything or not.
const LIST: Duration = Duration::from_secs(5);
/// What is remembered of the store for the next life of this guard may be so old.
const REMEMBER: Duration = Duration::from_secs(60);

/// The revision of the last change that a watch told.
#[derive(Debug, Default)]
pub(super) struct Told(AtomicI64);

/// Lists and watches until cancelled.
pub(super) async fn watch(agreement: Arc<Agreement>, cancel: CancellationToken) {
    loop {
        let followed = tokio::select! {
            () = cancel.cancelled() => return,
            () = agreement.read_again.notified() => continue,
            followed = follow(&agreement) => followed,
        };
        if let Err(error) = followed {
            tracing::debug!(%error, "the store is read anew");
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = sleep(RETRY) => {}
        }
    }
}

async fn follow(agreement: &Agreement) -> Result<(), StoreError> {
    let listing = agreement.list().await?;
    let mut watch = agreement.cluster.watch(listing.revision).await?;
    loop {
        let change = watch.next().await?;
        agreement.told.0.fetch_max(change.revision.0, Ordering::Relaxed);
        let now = agreement.clocks.now();
        let promised = agreement.promise().epoch;
        let news = agreement.known().changed(&change, promised, now);
        agreement.news(news);
    }
}

/// Asks until cancelled.
pub(super) async fn check(agreement: Arc<Agreement>, cancel: CancellationToken) {
    let mut ticks = interval(agreement.timing.renew);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut listed = Instant::now();
    let mut remembered: Option<Instant> = None;
    let mut suspected = None;
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let asked = tokio::select! {
            () = cancel.cancelled() => return,
            asked = ask(&agreement, &mut listed, &mut suspected) => asked,
        };
        if let Err(error) = asked {
            tracing::debug!(%error, "the store does not answer");
        }
        if remembered.is_none_or(|at| at.elapsed() >= REMEMBER) && agreement.remember().await {
            remembered = Some(Instant::now());
        }
    }
}

async fn ask(agreement: &Agreement, listed: &mut Instant, suspected: &mut Option<i64>) -> Result<(), StoreError> {
    // A listing brought this much that the watch had not told; by now it has, or it is dead.
    if let Some(revision) = suspected.take()
        && agreement.told.0.load(Ordering::Relaxed) < revision
    {
        tracing::info!("the watch of the store tells nothing; watching anew");
        agreement.read_again();
    }
    if listed.elapsed() >= LIST || agreement.known().went_back().is_some() {
        let told = agreement.told.0.load(Ordering::Relaxed);
        let listing = agreement.list().await?;
        *listed = Instant::now();
        let newest = listing.entries.iter().map(|(_, entry)| entry.revision.0).max();
        *suspected = newest.filter(|newest| *newest > told);
        return Ok(());
    }
    let key = agreement.cluster.keys.term();
    let sent = agreement.clocks.now();
    match agreement.cluster.store.get(&key).await? {
        Some(entry) => agreement.learn(&key, Some(&entry), entry.revision, sent),
        None => {
            agreement.known().answered(sent);
            // Without its revision an absence cannot be put in order.
            if agreement.known().term().is_some() {
                agreement.read_again();
            }
        }
    }
    Ok(())
}

impl Agreement {
    /// All keys, taken in.
    pub(super) async fn list(&self) -> Result<Listing, StoreError> {
        let sent = self.clocks.now();
        // Both as of now: what is promised while the answer is on its way is no measure for it.
        let (mut least, promised) = (self.known().revision(), self.promise().epoch);
        let generation = self.known().generation;
        let listing = self.cluster.store.list(self.cluster.keys.prefix()).await?;
        if self.adopt(&listing, promised).await {
            least = listing.revision;
        } else if self.known().generation != generation {
            return Ok(listing);
        }
        let now = self.clocks.now();
        let news = {
            let mut known = self.known();
            known.answered(sent);
            known.listed(&listing, least, promised, now)
        };
        self.news(news);
        Ok(listing)
    }

    /// A store that went back in time is believed again if a person said so; that is on the disk first. True if it is.
    async fn adopt(&self, listing: &Listing, promised: Epoch) -> bool {
        let Some(adopted) = self.known().adopts(listing, promised) else {
            return false;
        };
        let (store, revision) = (listing.cluster.clone(), listing.revision);
        let kept = self.on_disk(move |file| file.adopt(&store, revision.0)).await;
        if let Err(error) = kept {
            tracing::error!(%error, "the store that was adopted is not believed yet");
            return false;
        }
        tracing::warn!(
            by = adopted.by,
            why = adopted.why,
            epoch = adopted.epoch,
            "this store is the one from now on"
        );
        let now = self.clocks.now();
        self.known().adopt(&listing.cluster, listing.revision, now);
        // The watch was of the store before.
        self.told.0.store(0, Ordering::Relaxed);
        self.read_again();
        true
    }

    /// False when there is nothing to remember yet, or it cannot be written.
    pub(super) async fn remember(&self) -> bool {
        let (cluster, revision) = {
            let known = self.known();
            let Some(cluster) = known.cluster().filter(|_| known.went_back().is_none()) else {
                return false;
            };
            (cluster.to_owned(), known.revision().0)
        };
        let remembered = self.on_disk(move |file| file.remember(&cluster, revision)).await;
        if let Err(error) = &remembered {
            tracing::warn!(%error, "the store's revision is not remembered");
        }
        remembered.is_ok()
    }
}
