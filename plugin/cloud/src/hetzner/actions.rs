//! Waiting for what Hetzner is doing: one poller, shared by everybody who waits.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::future::join_all;
use serde::Deserialize;
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

use super::api::{Action, ActionError, ActionStatus};
use crate::rest::{Backoff, Rest, RestError};

/// As many as fit on one page of the answer, which cannot be asked for a larger one.
const IDS_PER_CALL: usize = 25;

/// There is no task of its own behind it: one of those who wait asks for all of them, and when it has its answer, or
/// is dropped, the next one does.
#[derive(Debug)]
pub(super) struct Actions {
    rest: Rest,
    /// Before the first question about an action.
    pause: Duration,
    waiting: Mutex<Waiting>,
    /// Whose turn it is to ask.
    turn: tokio::sync::Mutex<()>,
    /// Somebody joined; the next question may be due sooner.
    joined: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    last: u64,
    by_ticket: BTreeMap<u64, Waiter>,
}

#[derive(Debug)]
struct Waiter {
    action: u64,
    backoff: Backoff,
    due: Instant,
    tell: oneshot::Sender<Ended>,
}

/// Why an action did not end well.
#[derive(Clone, Debug)]
pub(super) enum Ended {
    Well,
    Failed(ActionError),
    /// Hetzner no longer knows it: how it ended cannot be found out.
    Vanished,
    /// The question itself failed.
    NotAsked(RestError),
}

impl Actions {
    pub(super) fn new(rest: Rest, pause: Duration) -> Self {
        Self {
            rest,
            pause,
            waiting: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            joined: Notify::new(),
        }
    }

    /// How the action ended. Waits for as long as it takes: the caller knows how long that may be.
    pub(super) async fn end(&self, action: &Action) -> Ended {
        if let Some(ended) = ended(action) {
            return ended;
        }
        let (ticket, mut told) = self.join(action.id);
        let _leave = Leave { actions: self, ticket };
        loop {
            tokio::select! {
                biased;
                ended = &mut told => return ended.unwrap_or(Ended::Vanished),
                _turn = self.turn.lock() => self.ask().await,
            }
        }
    }

    fn join(&self, action: u64) -> (u64, oneshot::Receiver<Ended>) {
        let (tell, told) = oneshot::channel();
        let mut backoff = Backoff::starting(self.pause);
        let due = Instant::now() + backoff.pause();
        let ticket = {
            let mut waiting = self.lock();
            waiting.last += 1;
            let ticket = waiting.last;
            waiting.by_ticket.insert(
                ticket,
                Waiter {
                    action,
                    backoff,
                    due,
                    tell,
                },
            );
            ticket
        };
        self.joined.notify_one();
        (ticket, told)
    }

    /// One round: waits until the first question is due and asks about everything at once.
    async fn ask(&self) {
        loop {
            let due = self.lock().by_ticket.values().map(|it| it.due).min();
            let Some(due) = due else { return };
            tokio::select! {
                () = tokio::time::sleep_until(due) => break,
                () = self.joined.notified() => {}
            }
        }
        let ids: BTreeSet<u64> = self.lock().by_ticket.values().map(|it| it.action).collect();
        let ids: Vec<u64> = ids.into_iter().collect();
        join_all(ids.chunks(IDS_PER_CALL).map(|ids| self.ask_about(ids))).await;
    }

    async fn ask_about(&self, ids: &[u64]) {
        #[derive(Deserialize)]
        struct Answer {
            actions: Vec<Action>,
        }
        let query: Vec<_> = ids.iter().map(|id| ("id", id.to_string())).collect();
        let answer = self.rest.get::<Answer>("/actions", &query).await;
        let ended = |id: u64| match &answer {
            Ok(answer) => match answer.actions.iter().find(|it| it.id == id) {
                Some(action) => ended(action),
                None => Some(Ended::Vanished),
            },
            Err(error) => Some(Ended::NotAsked(error.clone())),
        };
        let mut waiting = self.lock();
        let tickets: Vec<u64> = waiting.by_ticket.keys().copied().collect();
        for ticket in tickets {
            let Some(waiter) = waiting.by_ticket.get_mut(&ticket).filter(|it| ids.contains(&it.action)) else {
                continue;
            };
            match ended(waiter.action) {
                None => waiter.due = Instant::now() + waiter.backoff.pause(),
                Some(ended) => {
                    if let Some(waiter) = waiting.by_ticket.remove(&ticket) {
                        // Whoever asked may have left in the meantime.
                        drop(waiter.tell.send(ended));
                    }
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Whole entries are put in and taken out under it; a panic in between leaves nothing half.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// None while it is running.
fn ended(action: &Action) -> Option<Ended> {
    match action.status {
        ActionStatus::Running => None,
        ActionStatus::Success => Some(Ended::Well),
        ActionStatus::Error => Some(Ended::Failed(action.error.clone().unwrap_or_else(|| ActionError {
            code: "action_failed".into(),
            message: format!("{} failed and no reason was given", action.command),
        }))),
    }
}

/// Takes a waiter out when its future is dropped, so that nobody asks on its behalf.
struct Leave<'a> {
    actions: &'a Actions,
    ticket: u64,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.actions.lock().by_ticket.remove(&self.ticket);
    }
}

/// A moment after which it is no longer waited.
#[derive(Clone, Copy, Debug)]
pub(super) struct Until {
    pub(super) at: Instant,
    pub(super) after: Duration,
}

impl Until {
    pub(super) fn within(after: Duration) -> Self {
        Self {
            at: Instant::now() + after,
            after,
        }
    }

    /// Waits for `pause`, and no longer than there is time; false when there is none left.
    pub(super) async fn pause(&self, pause: Duration) -> bool {
        let now = Instant::now();
        if now >= self.at {
            return false;
        }
        tokio::time::sleep_until((now + pause).min(self.at)).await;
        true
    }
}
