//! The agreement store: what the failover protocol needs of it, and etcd as the one engine that provides it.
//!
//! [`Store`] asks for very little (read, list, compare-and-swap, watch) so that another store with compare-and-swap,
//! such as Consul's, can stand in. [`Cluster`] is the failover protocol's typed view of it. Administration of members
//! is etcd's own and lives on [`Etcd`]. [`Memory`] is for tests: it keeps the same promises, and breaks them on request.

mod cluster;
mod etcd;
mod members;
mod memory;

use std::time::Duration;

use async_trait::async_trait;

pub use cluster::{Cluster, Snapshot};
pub use etcd::{Etcd, Options};
pub use members::{Member, MemberStatus, Moved};
pub use memory::{Fault, Memory};

/// When a key was changed last; grows with every change in the whole store. [`Revision::ABSENT`] is "no such key",
/// so that creating is swapping from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub i64);

impl Revision {
    pub const ABSENT: Self = Self(0);
}

/// A key that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub value: Vec<u8>,
    pub revision: Revision,
}

/// All keys that begin with a prefix, as they were at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// In the order of their keys.
    pub entries: Vec<(String, Entry)>,
    /// Of the whole store, at that moment. A later listing never shows a lower one, unless the store was restored from
    /// a copy.
    pub revision: Revision,
    /// Which store answered: another identity is another store, whatever its revision.
    pub cluster: String,
}

/// What happened to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub key: String,
    /// None when it was removed.
    pub entry: Option<Entry>,
    /// When; of the removal, too.
    pub revision: Revision,
}

/// Keys written with it go away once it has not been kept alive for its time. Nothing may rest on when exactly: it is
/// the store's clock, and a new leader of the store begins to count anew.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Presence(pub String);

/// How a compare-and-swap that was answered came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Swap {
    /// The value is in the store, at this revision.
    Done(Revision),
    /// Something compared had changed; nothing was written. This is what the key holds now.
    Changed(Option<Entry>),
}

/// A write that takes effect only while everything it was decided on still holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write<'a> {
    pub key: &'a str,
    pub value: Vec<u8>,
    /// What `key` must be at; [`Revision::ABSENT`] creates.
    pub expected: Revision,
    /// Other keys that must not have changed either (a lease is renewed only under its term).
    pub unchanged: &'a [(&'a str, Revision)],
    /// The key goes away with it; without one it stays until it is removed.
    pub presence: Option<&'a Presence>,
}

impl<'a> Write<'a> {
    /// Makes `key`, or finds that somebody else did.
    pub fn create(key: &'a str, value: Vec<u8>) -> Self {
        Self::replace(key, value, Revision::ABSENT)
    }

    pub fn replace(key: &'a str, value: Vec<u8>, expected: Revision) -> Self {
        Self {
            key,
            value,
            expected,
            unchanged: &[],
            presence: None,
        }
    }
}

/// Changes in the order they happened. A value that was replaced before it could be told may be left out; the last one
/// of each key never is.
#[async_trait]
pub trait Watch: Send {
    /// The next change. After an error the watch is over: read again and watch from there. A watch can die without an
    /// error (its line was cut, and nothing more is sent): whoever must know reads now and then.
    async fn next(&mut self) -> Result<Change, StoreError>;
}

/// What agreement needs.
#[async_trait]
pub trait Store: Send + Sync {
    /// The value as a majority knows it. Never an old one: a member without quorum gives an error instead.
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError>;

    /// Everything below `prefix` at one moment, as a majority knows it.
    async fn list(&self, prefix: &str) -> Result<Listing, StoreError>;

    /// Writes if nothing compared has changed. After [`StoreError::OutcomeUnknown`] the write may have happened, or
    /// may still happen: read the key before deciding anything; doing the same swap again is harmless.
    async fn compare_and_swap(&self, write: Write<'_>) -> Result<Swap, StoreError>;

    /// The key is gone if it was still at `expected`, which [`Swap::Done`] says; outcomes as for a write. A key that
    /// was not there any more is [`Swap::Changed`] with nothing in it.
    async fn remove(&self, key: &str, expected: Revision) -> Result<Swap, StoreError>;

    /// Every change of `key` after `after`.
    async fn watch(&self, key: &str, after: Revision) -> Result<Box<dyn Watch>, StoreError>;

    /// Every change below `prefix` after `after`, which is the revision of a listing.
    async fn watch_prefix(&self, prefix: &str, after: Revision) -> Result<Box<dyn Watch>, StoreError>;

    /// A presence that lasts `time` without being kept alive, or a little longer. After an error with an unknown
    /// outcome there may be one that nobody uses; it ends by itself.
    async fn presence(&self, time: Duration) -> Result<Presence, StoreError>;

    /// Its time begins anew. False when it has ended already, and what was written with it is gone.
    async fn keep_alive(&self, presence: &Presence) -> Result<bool, StoreError>;
}

/// What a caller can act on.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nothing was sent: no member could be reached. Trying again is safe.
    #[error("no member of the store can be reached ({}): {reason}; `ha health` shows which are down", .endpoints.join(", "))]
    Unreachable { endpoints: Vec<String>, reason: String },
    /// Members answer, but not a majority of them, or not in time. For a read: nothing is known.
    #[error("the store at {endpoint} did not answer within {} ms: {reason}; it may have lost its quorum, `ha health` shows its members", .timeout.as_millis())]
    NoAnswer {
        endpoint: String,
        timeout: Duration,
        reason: String,
    },
    /// A write was sent and its answer was lost. It is not known to have failed.
    #[error(
        "the answer of {endpoint} to a write of {key} was lost, so its outcome is unknown: {reason}; read the key before going on"
    )]
    OutcomeUnknown {
        endpoint: String,
        key: String,
        reason: String,
    },
    /// The store answered no: it would answer the same again.
    #[error("the store at {endpoint} refused: {reason}")]
    Refused { endpoint: String, reason: String },
    /// The watch is over: the connection went, or the store forgot the revision it was to start from.
    #[error("the watch of {key} ended: {reason}")]
    WatchEnded { key: String, reason: String },
    /// What lies there was written by something else, or by another version.
    #[error("{key} in the store cannot be read: {reason}; look at it with `etcdctl get {key}`")]
    Malformed { key: String, reason: String },
    /// Certificates or addresses that cannot be used.
    #[error("cannot talk to the store: {0}")]
    Options(String),
}
