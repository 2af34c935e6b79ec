//! A small writer that commits all the time, as an application would: the longest gap between two of its commits is
//! the outage.

use std::time::{Duration, Instant};

use ha_data::postgres::{ConnectOptions, connect};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::{CancellationToken, DropGuard};

const EVERY: Duration = Duration::from_millis(10);
/// A commit that has not returned by then is asked for again on a new session; it does not count.
const GIVE_UP: Duration = Duration::from_secs(1);
/// A line that must be refused at once when its server is down, and queued by the balancer otherwise.
const CONNECT: Duration = Duration::from_millis(500);
/// A commit that was cancelled while it waited for a replica returns with this warning: it was not acknowledged.
const WARNING: &str = "01000";

/// What it has seen so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) first: Option<Instant>,
    pub(crate) last: Option<Instant>,
    /// Between two commits that both returned.
    pub(crate) longest: Duration,
    /// When the longest gap ended.
    pub(crate) ended: Option<Instant>,
}

impl Seen {
    fn commit(&mut self, at: Instant) {
        self.first.get_or_insert(at);
        if let Some(last) = self.last {
            let gap = at.duration_since(last);
            if gap > self.longest {
                self.longest = gap;
                self.ended = Some(at);
            }
        }
        self.last = Some(at);
    }
}

/// Writes until it is dropped.
pub(crate) struct Writer {
    seen: watch::Receiver<Seen>,
    task: JoinHandle<()>,
    _stop: DropGuard,
}

impl Writer {
    /// Through a write listener, as the operator. It leaves nothing in any table.
    pub(crate) fn start(options: ConnectOptions) -> Self {
        let stop = CancellationToken::new();
        let (told, seen) = watch::channel(Seen::default());
        let options = options.application_name("ha outage").timeout(CONNECT);
        let ended = stop.clone();
        let task = tokio::spawn(async move {
            tokio::select! {
                () = ended.cancelled() => {}
                () = write(&options, &told) => {}
            }
        });
        Self {
            seen,
            task,
            _stop: stop.drop_guard(),
        }
    }

    /// Its first commit has returned, within `patience`.
    pub(crate) async fn ready(&mut self, patience: Duration) -> bool {
        let first = self.seen.wait_for(|seen| seen.first.is_some());
        matches!(tokio::time::timeout(patience, first).await, Ok(Ok(_)))
    }

    /// A commit that was begun after `moment` has returned, within `patience`.
    pub(crate) async fn after(&mut self, moment: Instant, patience: Duration) -> Option<Instant> {
        let later = self.seen.wait_for(|seen| seen.last.is_some_and(|it| it > moment));
        match tokio::time::timeout(patience, later).await {
            Ok(Ok(seen)) => seen.last,
            _ => None,
        }
    }

    pub(crate) fn seen(&self) -> Seen {
        *self.seen.borrow()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn write(options: &ConnectOptions, told: &watch::Sender<Seen>) {
    let mut next = tokio::time::interval(EVERY);
    next.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        next.tick().await;
        let Ok(mut session) = connect(options).await else {
            continue;
        };
        loop {
            next.tick().await;
            let commit = session.simple_query("select pg_logical_emit_message(true, 'ha', 'probe')");
            match tokio::time::timeout(GIVE_UP, commit).await {
                Ok(Ok(_)) => {}
                // The session is gone, or the commit hangs: dropping the session takes nothing back, and says nothing.
                _ => break,
            }
            if session.notices().iter().all(|it| it.code != WARNING) {
                told.send_modify(|seen| seen.commit(Instant::now()));
            }
        }
    }
}
