//! A run: its clients, and what can be asked while they write.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ha_data::postgres::{ConnectOptions, Host};
use jiff::Timestamp;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{Attempt, Ledger, Mark, Notes, OracleError, Outcome, writer::Writer};

/// Where the clients of a region write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    pub region: String,
    /// `address:port` of the load balancer's listener that leads to the primary.
    pub address: String,
}

/// So many writes without any wait between them, again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Burst {
    pub every: Duration,
    pub writes: u32,
}

#[derive(Clone, Debug)]
pub struct Options {
    pub regions: Vec<Listener>,
    pub user: String,
    pub database: String,
    /// The user's password and nothing else.
    pub password_file: PathBuf,
    /// The workspace's CA, as PEM.
    pub ca: PathBuf,
    /// What nodes call themselves (`cluster_name`) to what they are called in notes; others keep their own name.
    pub nodes: BTreeMap<String, String>,
    /// Key of this run's rows; unique.
    pub run: String,
    /// In each region.
    pub writers: usize,
    /// From one write of a client to its next.
    pub interval: Duration,
    pub burst: Option<Burst>,
    /// For one answer; then the write is unknown, and its client goes on in a new session.
    pub patience: Duration,
    /// For TCP, TLS, password and preparation: eight round trips.
    pub connect_within: Duration,
}

impl Options {
    /// The application's user and database, one client per region that writes every 10 ms, has two seconds of patience
    /// and three to connect.
    pub fn new(regions: Vec<Listener>, password_file: impl Into<PathBuf>, ca: impl Into<PathBuf>) -> Self {
        static RUNS: AtomicU64 = AtomicU64::new(1);
        let number = RUNS.fetch_add(1, Ordering::Relaxed);
        let began = Timestamp::now().as_nanosecond();
        Self {
            regions,
            user: "app".to_owned(),
            database: "app".to_owned(),
            password_file: password_file.into(),
            ca: ca.into(),
            nodes: BTreeMap::new(),
            run: format!("{began:x}-{}-{number}", std::process::id()),
            writers: 1,
            interval: Duration::from_millis(10),
            burst: None,
            patience: Duration::from_secs(2),
            connect_within: Duration::from_secs(3),
        }
    }

    /// How to reach each region's listener, in their order.
    pub(crate) fn listeners(&self) -> Result<Vec<ConnectOptions>, OracleError> {
        if self.regions.is_empty() {
            return Err(OracleError::NoListener);
        }
        let each = self.regions.iter().map(|listener| {
            let place = listener.address.rsplit_once(':');
            let (host, port) = place
                .and_then(|(host, port)| Some((host, port.parse().ok()?)))
                .ok_or_else(|| OracleError::BadListener {
                    region: listener.region.clone(),
                    address: listener.address.clone(),
                })?;
            let options = ConnectOptions::new(Host::tcp(host, port), &self.user, &self.database, &self.password_file);
            Ok(options
                .ca(&self.ca)
                .timeout(self.connect_within)
                .application_name(format!("ha_oracle {}", listener.region)))
        });
        each.collect()
    }
}

/// Starts runs.
#[derive(Debug)]
pub struct Oracle;

impl Oracle {
    /// The clients of every region write from now on, until [`Running::stop`], or until what is returned is dropped.
    /// The table is made by whoever writes first.
    ///
    /// Needs a Tokio runtime. Whether writes arrive anywhere is not waited for: [`Running::flowing`] does that.
    ///
    /// # Errors
    /// `NoListener` and `BadListener`.
    pub fn start(options: Options) -> Result<Running, OracleError> {
        let options = Arc::new(options);
        let ledger = Ledger::new(options.clone())?;
        let shared = Arc::new(Shared::new(options.regions.len()));
        let stop = CancellationToken::new();
        let mut writers = JoinSet::new();
        for (region, listener) in options.regions.iter().enumerate() {
            for _ in 0..options.writers.max(1) {
                let Some(to) = ledger.listener(region) else { continue };
                let writer = Writer {
                    region,
                    name: listener.region.clone(),
                    listener: to.clone(),
                    options: options.clone(),
                    shared: shared.clone(),
                    stop: stop.clone(),
                };
                writers.spawn(writer.run());
            }
        }
        Ok(Running {
            options,
            ledger,
            shared,
            writers,
            _on_drop: stop.clone().drop_guard(),
            stop,
        })
    }
}

/// A run under way.
#[derive(Debug)]
pub struct Running {
    options: Arc<Options>,
    ledger: Ledger,
    shared: Arc<Shared>,
    writers: JoinSet<()>,
    stop: CancellationToken,
    _on_drop: DropGuard,
}

/// How a run stands at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Since the start.
    pub at: Duration,
    /// In the order of [`Options::regions`].
    pub regions: Vec<Pulse>,
}

/// How the clients of one region fare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulse {
    pub region: String,
    pub acknowledged: u64,
    pub failed: u64,
    pub unknown: u64,
    /// Age of the last acknowledgement.
    pub last_ack: Option<Duration>,
    /// Why the last write that was not acknowledged was not.
    pub last_why: Option<String>,
}

impl Running {
    /// Gives this moment a name in the notes.
    pub fn mark(&self, name: impl Into<String>) {
        let mark = Mark {
            name: name.into(),
            at: self.shared.now(),
        };
        self.shared.state().marks.push(mark);
    }

    pub fn so_far(&self) -> Snapshot {
        let at = self.shared.now();
        let state = self.shared.state();
        let pulse = |(listener, tally): (&Listener, &Tally)| Pulse {
            region: listener.region.clone(),
            acknowledged: tally.acknowledged,
            failed: tally.failed,
            unknown: tally.unknown,
            last_ack: tally.last_answer.map(|answer| at.saturating_sub(answer)),
            last_why: tally.last_why.clone(),
        };
        Snapshot {
            at,
            regions: self.options.regions.iter().zip(&state.tallies).map(pulse).collect(),
        }
    }

    /// Every region has acknowledged a write that was sent after this was called.
    ///
    /// # Errors
    /// `NotFlowing` names the regions that have not, `patience` after the call.
    pub async fn flowing(&self, patience: Duration) -> Result<(), OracleError> {
        let since = self.shared.now();
        let mut news = self.shared.acknowledged.subscribe();
        let all = async {
            while !self.silent(since).is_empty() {
                // The sender is in `self`.
                if news.changed().await.is_err() {
                    return;
                }
            }
        };
        if timeout(patience, all).await.is_ok() {
            return Ok(());
        }
        let state = self.so_far();
        let silent = self.silent(since);
        let whys = state.regions.iter().filter(|it| silent.contains(&it.region));
        let why = whys.filter_map(|it| it.last_why.clone()).next_back();
        Err(OracleError::NotFlowing {
            within: patience,
            regions: silent,
            why: why.unwrap_or_else(|| "none".to_owned()),
        })
    }

    fn silent(&self, since: Duration) -> Vec<String> {
        let state = self.shared.state();
        let silent = self.options.regions.iter().zip(&state.tallies);
        let silent = silent.filter(|(_, tally)| tally.last_sent.is_none_or(|sent| sent < since));
        silent.map(|(listener, _)| listener.region.clone()).collect()
    }

    /// For what is to be read and removed after the end.
    pub fn ledger(&self) -> Ledger {
        self.ledger.clone()
    }

    /// No client writes any more, and each write has its note: those under way were waited for, up to the patience
    /// of the options.
    pub async fn stop(mut self) -> Notes {
        self.stop.cancel();
        let mut broken = Vec::new();
        while let Some(ended) = self.writers.join_next().await {
            broken.extend(ended.err().map(|error| error.to_string()));
        }
        let mut state = self.shared.state();
        let took = self.shared.now();
        Notes {
            run: self.options.run.clone(),
            began: self.shared.began_at,
            took,
            regions: self.options.regions.iter().map(|it| it.region.clone()).collect(),
            attempts: std::mem::take(&mut state.attempts),
            marks: std::mem::take(&mut state.marks),
            broken,
        }
    }
}

/// What the clients of one run have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    began: Instant,
    began_at: Timestamp,
    next: AtomicU64,
    state: Mutex<State>,
    acknowledged: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    attempts: Vec<Attempt>,
    marks: Vec<Mark>,
    /// By region.
    tallies: Vec<Tally>,
}

#[derive(Clone, Debug, Default)]
struct Tally {
    acknowledged: u64,
    failed: u64,
    unknown: u64,
    /// Of acknowledged writes.
    last_sent: Option<Duration>,
    last_answer: Option<Duration>,
    last_why: Option<String>,
}

impl Shared {
    fn new(regions: usize) -> Self {
        Self {
            began: Instant::now(),
            began_at: Timestamp::now(),
            next: AtomicU64::new(1),
            state: Mutex::new(State {
                tallies: vec![Tally::default(); regions],
                ..State::default()
            }),
            acknowledged: watch::Sender::new(()),
        }
    }

    pub(crate) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    pub(crate) fn next_id(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// The write ended now.
    pub(crate) fn note(&self, id: u64, region: usize, began: Duration, outcome: Outcome) {
        let ended = self.now();
        let mut state = self.state();
        if let Some(tally) = state.tallies.get_mut(region) {
            match &outcome {
                Outcome::Ok(_) => {
                    tally.acknowledged += 1;
                    tally.last_sent = tally.last_sent.max(Some(began));
                    tally.last_answer = tally.last_answer.max(Some(ended));
                }
                Outcome::Failed { why } => {
                    tally.failed += 1;
                    tally.last_why = Some(why.clone());
                }
                Outcome::Unknown { why } => {
                    tally.unknown += 1;
                    tally.last_why = Some(why.clone());
                }
            }
        }
        let acknowledged = matches!(outcome, Outcome::Ok(_));
        state.attempts.push(Attempt {
            id,
            region,
            began,
            ended,
            outcome,
        });
        drop(state);
        if acknowledged {
            self.acknowledged.send_replace(());
        }
    }

    /// Each change is whole before anything can panic.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
