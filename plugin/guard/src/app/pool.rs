//! Sessions that are kept for the next request. To open one takes seven round trips, and a process at the server.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context;
use ha_data::{
    DataError,
    postgres::{ConnectOptions, Row, Session, ToSql, connect},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

use super::database::STATEMENT_TIMEOUT;

/// Sessions at once; those included that still wait for a commit nobody asks about any more.
const SESSIONS: usize = 8;
/// How long a request waits for one of them.
const TURN_TIMEOUT: Duration = Duration::from_secs(2);
/// Kept while nobody needs them: there are many applications, and a database has few places.
const KEPT: usize = 2;
/// After that the way is chosen anew: a replica near by may be back.
const AGE: Duration = Duration::from_secs(60);
const IDLE: Duration = Duration::from_secs(20);

pub(super) struct Pool {
    options: ConnectOptions,
    turns: Arc<Semaphore>,
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    session: Session,
    since: Instant,
}

impl Pool {
    pub(super) fn new(options: ConnectOptions) -> Self {
        Self {
            options,
            turns: Arc::new(Semaphore::new(SESSIONS)),
            idle: Mutex::default(),
        }
    }

    /// The right to use one session.
    pub(super) async fn turn(&self) -> anyhow::Result<OwnedSemaphorePermit> {
        timeout(TURN_TIMEOUT, self.turns.clone().acquire_owned())
            .await
            .with_context(|| format!("all {SESSIONS} sessions wait for the database; nothing was sent"))?
            .context("the application is ending")
    }

    /// A session, and whether it was kept from before: such a one may have gone stale without a word.
    pub(super) async fn session(&self) -> Result<(Session, bool), DataError> {
        while let Some(Idle { session, since }) = {
            let mut idle = self.lock();
            idle.pop()
        } {
            if !session.is_closed() && since.elapsed() < IDLE && session.age() < AGE {
                return Ok((session, true));
            }
        }
        connect(&self.options).await.map(|session| (session, false))
    }

    /// For a session whose last answer was complete.
    pub(super) fn give_back(&self, session: Session) {
        let mut idle = self.lock();
        idle.retain(|it| !it.session.is_closed() && it.since.elapsed() < IDLE);
        if idle.len() < KEPT {
            idle.push(Idle {
                session,
                since: Instant::now(),
            });
        }
    }

    /// One that was kept did not work: the others lead the same way.
    pub(super) fn forget(&self) {
        self.lock().clear();
    }

    /// Asks for one row, which changes nothing; a second time, on a new session, if one that was kept had gone stale.
    pub(super) async fn ask(&self, question: &str, about: &[&(dyn ToSql + Sync)]) -> anyhow::Result<Option<Row>> {
        let _turn = self.turn().await?;
        loop {
            let (session, kept) = self.session().await?;
            match timeout(STATEMENT_TIMEOUT, session.query_opt(question, about)).await {
                Ok(Ok(answer)) => {
                    self.give_back(session);
                    return Ok(answer);
                }
                Ok(Err(_)) if kept => self.forget(),
                Ok(Err(error)) => return Err(session.error(&error).into()),
                Err(_) => {
                    self.forget();
                    anyhow::bail!(
                        "{} gave no answer within {} s",
                        session.address(),
                        STATEMENT_TIMEOUT.as_secs()
                    );
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
