//! The links between regions as `links.json` has them, and what passed on each.

use std::{
    collections::BTreeMap,
    fs, io,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ha_core::unit::Links;
use tokio::sync::watch;

use super::lane::Lane;

/// Links and counters, shared by all connections of the relay.
pub(super) struct Network {
    /// The region behind the fronts.
    pub(super) region: String,
    links: watch::Sender<Arc<Links>>,
    trouble: Mutex<Option<String>>,
    counters: Mutex<BTreeMap<(String, String), Arc<Counter>>>,
}

/// What passed in one direction.
#[derive(Default)]
pub(super) struct Counter {
    pub(super) connections: AtomicU64,
    pub(super) bytes: AtomicU64,
}

/// What holds in one direction now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) delay: Duration,
    pub(super) cut: bool,
}

impl Network {
    pub(super) fn new(region: &str) -> Self {
        Self {
            region: region.to_owned(),
            links: watch::channel(Arc::default()).0,
            trouble: Mutex::new(None),
            counters: Mutex::default(),
        }
    }

    /// Takes over `links.json`. A file that cannot be used changes nothing and is told in `GET /fronts`;
    /// a missing one means that there is no delay and no cut.
    pub(super) fn read(&self, path: &Path) {
        let links = match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| error.to_string()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Links::default()),
            Err(error) => Err(error.to_string()),
        };
        let trouble = match links {
            Ok(links) => {
                self.links.send_if_modified(|held| {
                    let changed = **held != links;
                    *held = Arc::new(links);
                    changed
                });
                None
            }
            Err(error) => {
                let error = format!("{}: {error}; the links stay as they were", path.display());
                tracing::error!("{error}");
                Some(error)
            }
        };
        *lock(&self.trouble) = trouble;
    }

    pub(super) fn trouble(&self) -> Option<String> {
        lock(&self.trouble).clone()
    }

    pub(super) fn links(&self) -> Arc<Links> {
        self.links.borrow().clone()
    }

    /// Whether anything is cut on its way to this region.
    pub(super) fn is_cut_off(&self) -> bool {
        self.links
            .borrow()
            .links
            .iter()
            .any(|it| it.to == self.region && it.cut)
    }

    /// The way from region to region. `None` stands for the outside: such a way is always free.
    pub(super) fn lane(&self, from: Option<&str>, to: Option<&str>) -> Lane {
        match (from, to) {
            (Some(from), Some(to)) => {
                let counter = lock(&self.counters)
                    .entry((from.to_owned(), to.to_owned()))
                    .or_default()
                    .clone();
                Lane::between(from, to, self.links.subscribe(), counter)
            }
            _ => Lane::free(),
        }
    }

    /// Open connections and bytes passed, by direction.
    pub(super) fn counted(&self) -> BTreeMap<(String, String), (u64, u64)> {
        lock(&self.counters)
            .iter()
            .map(|(key, it)| {
                let counted = (it.connections.load(Ordering::Relaxed), it.bytes.load(Ordering::Relaxed));
                (key.clone(), counted)
            })
            .collect()
    }
}

pub(super) fn condition(links: &Links, from: &str, to: &str) -> Condition {
    links.get(from, to).map_or_else(Condition::default, |it| Condition {
        delay: Duration::from_millis(it.delay_ms),
        cut: it.cut,
    })
}

/// Nothing here is left half changed by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
