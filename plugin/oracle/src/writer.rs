//! One client: a session, one write after the other, and a new session whenever something is not as it should be.

use std::{sync::Arc, time::Duration};

use ha_data::postgres::ConnectOptions;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Options, Outcome,
    ledger::{self, Open, open, silent},
    run::Shared,
};

/// Between a session that could not be had and the next try, doubled up to the longest.
const SHORTEST_WAIT: Duration = Duration::from_millis(5);
const LONGEST_WAIT: Duration = Duration::from_millis(20);
/// A try that hears nothing does not keep the next one from beginning: over a dead line it hears nothing until its
/// own time is up, and what is measured would be that time and not the outage.
const BESIDE_AFTER: Duration = Duration::from_millis(500);
const TRIES_AT_ONCE: usize = 6;
/// Sessions given up whose commit still waits in the database. They cannot be ended from here, and each takes one of
/// the connections that everybody shares.
const SILENT_AT_ONCE: u32 = 8;

pub(crate) struct Writer {
    pub(crate) region: usize,
    pub(crate) name: String,
    pub(crate) listener: ConnectOptions,
    pub(crate) options: Arc<Options>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) stop: CancellationToken,
}

impl Writer {
    /// Until it is told to stop; the write under way then is waited for as every other one.
    pub(crate) async fn run(self) {
        let mut pace = Pace::new(&self.options);
        let mut given_up = JoinSet::new();
        let mut kept = None;
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = pace.next() => {}
            }
            let ready = match kept.take() {
                Some(ready) => ready,
                None => match self.session().await {
                    Some(ready) => ready,
                    None => return,
                },
            };
            kept = self.write(ready, &mut given_up).await;
            while given_up.try_join_next().is_some() {}
            if given_up.len() >= SILENT_AT_ONCE as usize {
                tokio::select! {
                    () = self.stop.cancelled() => return,
                    _ = given_up.join_next() => {}
                    () = tokio::time::sleep(self.options.patience * SILENT_AT_ONCE) => {}
                }
            }
        }
    }

    async fn write(&self, ready: Open, given_up: &mut JoinSet<()>) -> Option<Open> {
        let id = self.shared.next_id();
        let began = self.shared.now();
        let address = ready.session.address().to_owned();
        let (options, region) = (self.options.clone(), self.name.clone());
        // On its own, because giving up a commit does not end it.
        let mut writing = tokio::spawn(async move { ledger::write(ready, &options, &region, id).await });
        let (outcome, kept) = match timeout(self.options.patience, &mut writing).await {
            Ok(Ok(answered)) => answered,
            Ok(Err(error)) => {
                let why = format!("the write broke off: {error}");
                (Outcome::Unknown { why }, None)
            }
            Err(_) => {
                given_up.spawn(async move {
                    // Whatever it still says, the client has gone on.
                    let _ = writing.await;
                });
                let why = silent(&address, self.options.patience);
                (Outcome::Unknown { why }, None)
            }
        };
        self.shared.note(id, self.region, began, outcome);
        kept
    }

    /// The first session that opens; every try that fails is noted as a failed write. None when told to stop.
    async fn session(&self) -> Option<Open> {
        let mut tries = JoinSet::new();
        let (mut next, mut wait) = (Instant::now(), SHORTEST_WAIT);
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return None,
                Some(tried) = tries.join_next() => match tried {
                    Ok((_, Ok(open))) => return Some(open),
                    Ok((began, Err(error))) => {
                        self.note_failed(began, &error);
                        next = next.min(Instant::now() + wait);
                        wait = (wait * 2).min(LONGEST_WAIT);
                    }
                    Err(error) => self.note_failed(self.shared.now(), &error),
                },
                () = sleep_until(next), if tries.len() < TRIES_AT_ONCE => {
                    let (began, listener, within) = (self.shared.now(), self.listener.clone(), self.options.connect_within);
                    tries.spawn(async move { (began, open(&listener, within).await) });
                    next = Instant::now() + BESIDE_AFTER;
                }
            }
        }
    }

    fn note_failed(&self, began: Duration, error: &dyn std::fmt::Display) {
        let why = error.to_string();
        let id = self.shared.next_id();
        self.shared.note(id, self.region, began, Outcome::Failed { why });
    }
}

/// When the next write is due.
struct Pace {
    interval: Duration,
    burst: Option<crate::Burst>,
    next: Instant,
    next_burst: Instant,
    /// Writes of the burst under way that are still due, without any wait.
    left: u32,
}

impl Pace {
    fn new(options: &Options) -> Self {
        let now = Instant::now();
        Self {
            interval: options.interval,
            burst: options.burst,
            next: now,
            next_burst: now + options.burst.map_or(Duration::ZERO, |burst| burst.every),
            left: 0,
        }
    }

    /// A writer that is late does not make up for it.
    async fn next(&mut self) {
        if let Some(burst) = self.burst
            && Instant::now() >= self.next_burst
        {
            self.left = burst.writes;
            self.next_burst = Instant::now() + burst.every;
        }
        if self.left > 0 {
            self.left -= 1;
            return;
        }
        sleep_until(self.next).await;
        self.next = Instant::now() + self.interval;
    }
}
