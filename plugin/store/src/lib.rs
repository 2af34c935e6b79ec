//! The agreement store: what the failover protocol needs of it, and etcd as the one engine that provides it.
//!
//! [`Store`] asks for very little (read, compare-and-swap, watch) so that another store with compare-and-swap can
//! stand in. Administration of members is etcd's own and lives on [`Etcd`].

mod etcd;
mod members;

use std::time::Duration;

use async_trait::async_trait;

pub use etcd::{Etcd, Options};
pub use members::{Member, MemberStatus};

/// When a key was changed last; grows with every change in the whole store. [`Revision::ABSENT`] is "no such key",
/// so that creating is swapping from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
        }
    }
}

/// Changes of one key, in order, none left out.
#[async_trait]
pub trait Watch: Send {
    /// The next change; `None` in it means that the key was removed. After an error the watch is over: read the key
    /// and watch again from there.
    async fn next(&mut self) -> Result<Option<Entry>, StoreError>;
}

/// What agreement needs.
#[async_trait]
pub trait Store: Send + Sync {
    /// The value as a majority knows it. Never an old one: a member without quorum gives an error instead.
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError>;

    /// Writes if nothing compared has changed. After [`StoreError::OutcomeUnknown`] the write may have happened, or
    /// may still happen: read the key before deciding anything; doing the same swap again is harmless.
    async fn compare_and_swap(&self, write: Write<'_>) -> Result<Swap, StoreError>;

    /// Every change of `key` after `after`.
    async fn watch(&self, key: &str, after: Revision) -> Result<Box<dyn Watch>, StoreError>;
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
    /// Certificates or addresses that cannot be used.
    #[error("cannot talk to the store: {0}")]
    Options(String),
}
