//! One node, looked at from here: a session that stays open, a new one now and then, and its guard.

use std::time::Duration;

use ha_core::report::{DatabaseState, NodeReport};
use ha_data::{
    DataError,
    postgres::{ConnectOptions, Session, connect},
};
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout},
};

use super::standing::Line;

/// A session that is open says nothing about whether others can come in.
const KNOCK: Duration = Duration::from_secs(10);
/// To open one takes seven round trips, and more than a round may last: it goes on beside the rounds.
const CONNECT: Duration = Duration::from_secs(5);

pub(super) struct Sql {
    options: ConnectOptions,
    session: Option<Session>,
    opening: Option<JoinHandle<Result<Session, DataError>>>,
    opened: Option<Instant>,
    /// Why the last try to open one failed.
    pub(super) closed: Option<String>,
}

impl Sql {
    pub(super) fn new(options: ConnectOptions) -> Self {
        Self {
            options: options.timeout(CONNECT),
            session: None,
            opening: None,
            opened: None,
            closed: None,
        }
    }

    /// How asking and opening came out within `limit`, and why not.
    pub(super) async fn look(&mut self, limit: Duration) -> (Line, Line, Option<String>) {
        let began = Instant::now();
        let knock = self.collect().await;
        let mut why = None;
        if let Some(session) = &self.session {
            match ask(session, limit).await {
                Ok(()) => {
                    if self.opened.is_none_or(|at| at.elapsed() >= KNOCK) {
                        self.open();
                    }
                    return (Line::Works, knock, None);
                }
                Err(error) => {
                    why = Some(error);
                    // The one that is being opened may be as stale as this one.
                    self.session = None;
                    self.end();
                }
            }
        }
        self.open();
        // Near by, a new one is there and asked before the round is over.
        let left = limit.saturating_sub(began.elapsed());
        if let Some(opening) = &mut self.opening {
            let _ = timeout(left, &mut *opening).await.map(|opened| self.take(opened));
        }
        let left = limit.saturating_sub(began.elapsed());
        match &self.session {
            Some(session) => match ask(session, left.max(limit / 4)).await {
                Ok(()) => (Line::Works, Line::Works, None),
                Err(error) => {
                    self.session = None;
                    (Line::Fails, knock, Some(error))
                }
            },
            None => {
                let why = self.closed.clone().or(why);
                let why = why.unwrap_or_else(|| format!("no session could be opened within {} ms", limit.as_millis()));
                (Line::Fails, knock, Some(why))
            }
        }
    }

    /// What came of a session that was being opened.
    async fn collect(&mut self) -> Line {
        match self.opening.take_if(|it| it.is_finished()) {
            Some(opening) => {
                let opened = opening.await;
                self.take(opened)
            }
            None => Line::Absent,
        }
    }

    fn take(&mut self, opened: Result<Result<Session, DataError>, tokio::task::JoinError>) -> Line {
        self.opening = None;
        match opened {
            Ok(Ok(session)) => {
                self.session = Some(session);
                self.closed = None;
                Line::Works
            }
            Ok(Err(error)) => {
                self.closed = Some(error.to_string());
                Line::Fails
            }
            Err(_) => Line::Absent,
        }
    }

    fn open(&mut self) {
        if self.opening.is_none() {
            let options = self.options.clone();
            self.opening = Some(tokio::spawn(async move { connect(&options).await }));
            self.opened = Some(Instant::now());
        }
    }

    fn end(&mut self) {
        if let Some(opening) = self.opening.take() {
            opening.abort();
        }
    }
}

impl Drop for Sql {
    fn drop(&mut self) {
        self.end();
    }
}

async fn ask(session: &Session, limit: Duration) -> Result<(), String> {
    if session.is_closed() {
        return Err("the session ended".to_owned());
    }
    match timeout(limit, session.simple_query("select 1")).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(session.error(&error).to_string()),
        Err(_) => Err(format!("no answer to `select 1` within {} ms", limit.as_millis())),
    }
}

/// A guard is heard, and it speaks for its database: one whose sample is older than `fresh` only speaks for itself.
pub(super) async fn ask_guard(
    client: &reqwest::Client,
    guard: &str,
    data: bool,
    fresh: Duration,
    limit: Duration,
) -> (Line, Option<String>) {
    let asked = async {
        let answer = client.get(format!("{guard}/report")).send().await?;
        answer.error_for_status()?.json::<NodeReport>().await
    };
    match timeout(limit, asked).await {
        Ok(Ok(_)) if !data => (Line::Works, None),
        Ok(Ok(report)) if report.database.state != DatabaseState::Running => {
            let detail = report.database.detail.unwrap_or_default();
            (
                Line::Fails,
                Some(format!("its guard says {:?}: {detail}", report.database.state)),
            )
        }
        Ok(Ok(report)) if report.age > fresh => (
            Line::Silent,
            Some(format!(
                "its guard last heard from it {} ms ago",
                report.age.as_millis()
            )),
        ),
        Ok(Ok(_)) => (Line::Works, None),
        Ok(Err(error)) => (Line::Fails, Some(format!("its guard does not answer: {error}"))),
        Err(_) => (
            Line::Fails,
            Some(format!("its guard does not answer within {} ms", limit.as_millis())),
        ),
    }
}
