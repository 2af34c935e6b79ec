//! The keys of the agreement (protocol §3), typed.

use std::{collections::BTreeMap, fmt, sync::Arc};

use ha_core::agreement::{History, Keys, Lease, Member, Node, Pause, Term};
use serde::{Serialize, de::DeserializeOwned};

use crate::{Entry, Revision, Store, StoreError, Swap, Watch, Write};

/// One cluster's part of the store. Cheap to clone.
///
/// Reads are as a majority knows them. Every change compares what was seen, so that two that did not see each other
/// cannot both take effect; after [`StoreError::OutcomeUnknown`] read before deciding anything.
#[derive(Clone)]
pub struct Cluster {
    pub store: Arc<dyn Store>,
    pub keys: Keys,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("prefix", &self.keys.prefix())
            .finish_non_exhaustive()
    }
}

/// Everything of a cluster at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    pub term: Option<(Term, Revision)>,
    pub lease: Option<(Lease, Revision)>,
    pub pause: Option<(Pause, Revision)>,
    pub members: BTreeMap<Node, (Member, Revision)>,
    /// By epoch.
    pub histories: Vec<History>,
    /// Of the whole store: a watch from here misses nothing.
    pub revision: Revision,
}

impl Cluster {
    pub fn new(store: Arc<dyn Store>, keys: Keys) -> Self {
        Self { store, keys }
    }

    pub async fn term(&self) -> Result<Option<(Term, Revision)>, StoreError> {
        self.read(&self.keys.term()).await
    }

    /// `next` is the term if it was still as seen at `seen` ([`Revision::ABSENT`]: there was none), and all of
    /// `unchanged` too.
    pub async fn swap_term(
        &self,
        next: &Term,
        seen: Revision,
        unchanged: &[(&str, Revision)],
    ) -> Result<Swap, StoreError> {
        let key = self.keys.term();
        let write = Write {
            unchanged,
            ..Write::replace(&key, encode(&key, next)?, seen)
        };
        self.store.compare_and_swap(write).await
    }

    pub async fn lease(&self) -> Result<Option<(Lease, Revision)>, StoreError> {
        self.read(&self.keys.lease()).await
    }

    pub async fn pause(&self) -> Result<Option<(Pause, Revision)>, StoreError> {
        self.read(&self.keys.pause()).await
    }

    /// The pause is this, or there is none.
    pub async fn set_pause(&self, pause: Option<&Pause>, seen: Revision) -> Result<Swap, StoreError> {
        let key = self.keys.pause();
        match pause {
            Some(pause) => {
                let write = Write::replace(&key, encode(&key, pause)?, seen);
                self.store.compare_and_swap(write).await
            }
            None => self.store.remove(&key, seen).await,
        }
    }

    pub async fn members(&self) -> Result<BTreeMap<Node, (Member, Revision)>, StoreError> {
        let prefix = self.keys.members();
        let listing = self.store.list(&prefix).await?;
        listing
            .entries
            .iter()
            .map(|(key, entry)| Ok((name(key, &prefix), (decode(key, entry)?, entry.revision))))
            .collect()
    }

    /// By epoch.
    pub async fn histories(&self) -> Result<Vec<History>, StoreError> {
        let listing = self.store.list(&self.keys.histories()).await?;
        listing.entries.iter().map(|(key, entry)| decode(key, entry)).collect()
    }

    /// How the epoch came to be, if nobody has told yet: what was told once is never changed.
    pub async fn add_history(&self, history: &History) -> Result<Swap, StoreError> {
        let key = self.keys.history(history.epoch);
        let write = Write::create(&key, encode(&key, history)?);
        self.store.compare_and_swap(write).await
    }

    pub async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let (members, histories) = (self.keys.members(), self.keys.histories());
        let listing = self.store.list(self.keys.prefix()).await?;
        let mut all = Snapshot {
            revision: listing.revision,
            ..Snapshot::default()
        };
        for (key, entry) in &listing.entries {
            if *key == self.keys.term() {
                all.term = Some((decode(key, entry)?, entry.revision));
            } else if *key == self.keys.lease() {
                all.lease = Some((decode(key, entry)?, entry.revision));
            } else if *key == self.keys.pause() {
                all.pause = Some((decode(key, entry)?, entry.revision));
            } else if key.starts_with(&members) {
                let member = (decode(key, entry)?, entry.revision);
                all.members.insert(name(key, &members), member);
            } else if key.starts_with(&histories) {
                all.histories.push(decode(key, entry)?);
            }
        }
        Ok(all)
    }

    /// Every change of the cluster's keys after a snapshot.
    pub async fn watch(&self, after: Revision) -> Result<Box<dyn Watch>, StoreError> {
        self.store.watch_prefix(self.keys.prefix(), after).await
    }

    async fn read<T: DeserializeOwned>(&self, key: &str) -> Result<Option<(T, Revision)>, StoreError> {
        let entry = self.store.get(key).await?;
        entry
            .map(|entry| Ok((decode(key, &entry)?, entry.revision)))
            .transpose()
    }
}

fn name(key: &str, prefix: &str) -> Node {
    key.strip_prefix(prefix).unwrap_or(key).to_owned()
}

fn decode<T: DeserializeOwned>(key: &str, entry: &Entry) -> Result<T, StoreError> {
    serde_json::from_slice(&entry.value).map_err(|error| malformed(key, &error))
}

fn encode<T: Serialize>(key: &str, value: &T) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|error| malformed(key, &error))
}

fn malformed(key: &str, error: &serde_json::Error) -> StoreError {
    StoreError::Malformed {
        key: key.to_owned(),
        reason: error.to_string(),
    }
}
