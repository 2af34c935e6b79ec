//! A store in memory, for tests and the simulator: the same promises as etcd's, and ways to break them.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::watch;

use crate::{Change, Entry, Listing, Presence, Revision, Store, StoreError, Swap, Watch, Write};

/// What goes wrong with one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The answer is lost, and the write was never carried out.
    LostBefore,
    /// The answer is lost, and the write was carried out.
    LostAfter,
    /// The answer is lost, and the write is carried out later, by [`Memory::arrive`].
    Late,
    /// Nothing was sent.
    Unreachable,
}

/// Clones share what is stored. It has no clock: presences end when [`Memory::expire`] is called.
#[derive(Clone)]
pub struct Memory {
    inner: Arc<Mutex<Inner>>,
    /// Grows with whatever watches must look at.
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct Inner {
    cluster: u64,
    revision: i64,
    entries: BTreeMap<String, (Entry, Option<Presence>)>,
    log: Vec<Change>,
    presences: BTreeSet<String>,
    next_presence: u64,
    faults: VecDeque<Fault>,
    late: VecDeque<Owned>,
    silent: bool,
    /// Watches begun before the last [`Memory::end_watches`] are over.
    generation: u64,
    /// Watches tell nothing new.
    deaf: bool,
    stale: Option<i64>,
}

/// A write that nobody waits for any more.
struct Owned {
    key: String,
    value: Option<Vec<u8>>,
    compares: Vec<(String, Revision)>,
    presence: Option<Presence>,
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory")
            .field("revision", &self.lock().revision)
            .finish_non_exhaustive()
    }
}

impl Memory {
    pub fn new() -> Self {
        let inner = Inner {
            // As etcd counts: an empty store is at 1.
            revision: 1,
            cluster: 1,
            ..Inner::default()
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
            changed: watch::Sender::new(0),
        }
    }

    /// Happens to the next write that has no fault before it in the queue.
    pub fn inject(&self, fault: Fault) {
        self.lock().faults.push_back(fault);
    }

    /// The writes that were late are carried out now, if what they compare still holds.
    pub fn arrive(&self) {
        let mut inner = self.lock();
        while let Some(write) = inner.late.pop_front() {
            inner.apply(&write);
        }
        drop(inner);
        self.wake();
    }

    /// Without answers nothing is carried out, either; as a store without its quorum.
    pub fn set_answers(&self, answers: bool) {
        self.lock().silent = !answers;
        self.wake();
    }

    /// Watches end with an error, as when their member dies.
    pub fn end_watches(&self) {
        self.lock().generation += 1;
        self.wake();
    }

    /// Watches stay open and tell nothing: their line was cut without a word.
    pub fn set_watches_deaf(&self, deaf: bool) {
        self.lock().deaf = deaf;
        self.wake();
    }

    /// Reads answer as of this revision, which no store may do; none ends it.
    pub fn answer_as_of(&self, revision: Option<Revision>) {
        self.lock().stale = revision.map(|it| it.0);
    }

    /// The store is what it was at `revision`, as after a restore from a copy.
    pub fn restore(&self, revision: Revision) {
        let mut inner = self.lock();
        inner.entries = inner
            .as_of(revision.0)
            .into_iter()
            .map(|(key, entry)| (key, (entry, None)))
            .collect();
        inner.log.retain(|it| it.revision <= revision);
        inner.revision = revision.0;
        inner.generation += 1;
        drop(inner);
        self.wake();
    }

    /// Another store answers from now on, with the same content.
    pub fn become_another(&self) {
        self.lock().cluster += 1;
    }

    /// The presence was not kept alive for its time: it has ended, and its keys are gone.
    pub fn expire(&self, presence: &Presence) {
        let mut inner = self.lock();
        inner.presences.remove(&presence.0);
        let keys: Vec<String> = inner
            .entries
            .iter()
            .filter(|(_, (_, it))| it.as_ref() == Some(presence))
            .map(|(key, _)| key.clone())
            .collect();
        for key in keys {
            inner.write(&key, None, None);
        }
        drop(inner);
        self.wake();
    }

    /// What the key was written with.
    pub fn presence_of(&self, key: &str) -> Option<Presence> {
        self.lock().entries.get(key)?.1.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        self.changed.send_modify(|it| *it += 1);
    }

    fn carry_out(&self, write: Owned) -> Result<Swap, StoreError> {
        let unknown = |reason: &str| StoreError::OutcomeUnknown {
            endpoint: "memory".to_owned(),
            key: write.key.clone(),
            reason: reason.to_owned(),
        };
        let mut inner = self.lock();
        if inner.silent {
            return Err(unknown("it does not answer"));
        }
        let fault = inner.faults.pop_front();
        let outcome = match fault {
            Some(Fault::Unreachable) => Err(StoreError::Unreachable {
                endpoints: vec!["memory".to_owned()],
                reason: "injected".to_owned(),
            }),
            Some(Fault::LostBefore) => Err(unknown("lost before")),
            Some(Fault::LostAfter) => {
                inner.apply(&write);
                Err(unknown("lost after"))
            }
            Some(Fault::Late) => {
                let error = unknown("late");
                inner.late.push_back(write);
                Err(error)
            }
            None => Ok(inner.apply(&write)),
        };
        drop(inner);
        self.wake();
        outcome
    }

    fn begin_watch(&self, what: &str, prefix: bool, after: i64) -> Box<dyn Watch> {
        Box::new(MemoryWatch {
            store: self.clone(),
            changed: self.changed.subscribe(),
            what: what.to_owned(),
            prefix,
            after,
            generation: self.lock().generation,
        })
    }
}

impl Inner {
    fn revision_of(&self, key: &str) -> Revision {
        self.entries.get(key).map_or(Revision::ABSENT, |(it, _)| it.revision)
    }

    fn apply(&mut self, write: &Owned) -> Swap {
        let holds = write.compares.iter().all(|(key, seen)| self.revision_of(key) == *seen);
        if !holds || (write.value.is_none() && !self.entries.contains_key(&write.key)) {
            return Swap::Changed(self.entries.get(&write.key).map(|(it, _)| it.clone()));
        }
        Swap::Done(self.write(&write.key, write.value.clone(), write.presence.clone()))
    }

    fn write(&mut self, key: &str, value: Option<Vec<u8>>, presence: Option<Presence>) -> Revision {
        self.revision += 1;
        let revision = Revision(self.revision);
        let entry = value.map(|value| Entry { value, revision });
        match &entry {
            Some(entry) => {
                self.entries.insert(key.to_owned(), (entry.clone(), presence));
            }
            None => {
                self.entries.remove(key);
            }
        }
        self.log.push(Change {
            key: key.to_owned(),
            entry,
            revision,
        });
        revision
    }

    fn as_of(&self, revision: i64) -> BTreeMap<String, Entry> {
        let mut entries = BTreeMap::new();
        for change in self.log.iter().filter(|it| it.revision.0 <= revision) {
            match &change.entry {
                Some(entry) => entries.insert(change.key.clone(), entry.clone()),
                None => entries.remove(&change.key),
            };
        }
        entries
    }

    /// What a read shows.
    fn shown(&self) -> Result<(BTreeMap<String, Entry>, Revision), StoreError> {
        if self.silent {
            return Err(StoreError::NoAnswer {
                endpoint: "memory".to_owned(),
                timeout: Duration::ZERO,
                reason: "it does not answer".to_owned(),
            });
        }
        let revision = self.stale.unwrap_or(self.revision);
        Ok((self.as_of(revision), Revision(revision)))
    }
}

#[async_trait]
impl Store for Memory {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        Ok(self.lock().shown()?.0.remove(key))
    }

    async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        let inner = self.lock();
        let (entries, revision) = inner.shown()?;
        Ok(Listing {
            entries: entries.into_iter().filter(|(key, _)| key.starts_with(prefix)).collect(),
            revision,
            cluster: inner.cluster.to_string(),
        })
    }

    async fn compare_and_swap(&self, write: Write<'_>) -> Result<Swap, StoreError> {
        if let Some(presence) = write.presence
            && !self.lock().presences.contains(&presence.0)
        {
            return Err(StoreError::Refused {
                endpoint: "memory".to_owned(),
                reason: "requested lease not found".to_owned(),
            });
        }
        let own = (write.key, write.expected);
        let compares = std::iter::once(&own).chain(write.unchanged);
        self.carry_out(Owned {
            key: write.key.to_owned(),
            value: Some(write.value.clone()),
            compares: compares.map(|(key, revision)| ((*key).to_owned(), *revision)).collect(),
            presence: write.presence.cloned(),
        })
    }

    async fn remove(&self, key: &str, expected: Revision) -> Result<Swap, StoreError> {
        self.carry_out(Owned {
            key: key.to_owned(),
            value: None,
            compares: vec![(key.to_owned(), expected)],
            presence: None,
        })
    }

    async fn watch(&self, key: &str, after: Revision) -> Result<Box<dyn Watch>, StoreError> {
        self.lock().shown()?;
        Ok(self.begin_watch(key, false, after.0))
    }

    async fn watch_prefix(&self, prefix: &str, after: Revision) -> Result<Box<dyn Watch>, StoreError> {
        self.lock().shown()?;
        Ok(self.begin_watch(prefix, true, after.0))
    }

    async fn presence(&self, _time: Duration) -> Result<Presence, StoreError> {
        let mut inner = self.lock();
        inner.shown()?;
        inner.next_presence += 1;
        let presence = Presence(format!("{:x}", inner.next_presence));
        inner.presences.insert(presence.0.clone());
        Ok(presence)
    }

    async fn keep_alive(&self, presence: &Presence) -> Result<bool, StoreError> {
        let inner = self.lock();
        inner.shown()?;
        Ok(inner.presences.contains(&presence.0))
    }
}

struct MemoryWatch {
    store: Memory,
    changed: watch::Receiver<u64>,
    what: String,
    prefix: bool,
    after: i64,
    generation: u64,
}

impl MemoryWatch {
    fn look(&self) -> Result<Option<Change>, StoreError> {
        let inner = self.store.lock();
        if inner.generation != self.generation {
            return Err(StoreError::WatchEnded {
                key: self.what.clone(),
                reason: "the member closed it".to_owned(),
            });
        }
        if inner.deaf || inner.silent {
            return Ok(None);
        }
        let mut later = inner.log.iter().filter(|it| it.revision.0 > self.after);
        let found = later.find(|it| {
            if self.prefix {
                it.key.starts_with(&self.what)
            } else {
                it.key == self.what
            }
        });
        Ok(found.cloned())
    }
}

#[async_trait]
impl Watch for MemoryWatch {
    async fn next(&mut self) -> Result<Change, StoreError> {
        loop {
            self.changed.borrow_and_update();
            if let Some(change) = self.look()? {
                self.after = change.revision.0;
                return Ok(change);
            }
            if self.changed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}
