//! Status changes, one line each in the region's events file.

use std::{
    fs::OpenOptions,
    io::Write as _,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use ha_core::{
    agent::GuardConfig,
    event::Event,
    report::{DatabaseReport, DatabaseState, NodeRole},
};
use jiff::Timestamp;

/// Appends; a file that cannot be written costs a warning in the log, never the database.
pub(super) struct Events {
    path: PathBuf,
    workspace: String,
    region: String,
    node: String,
    /// What was told last, so that only changes are.
    told: Mutex<Option<(DatabaseState, Option<NodeRole>)>>,
}

impl Events {
    pub(super) fn new(config: &GuardConfig) -> Self {
        Self {
            path: config.events.clone(),
            workspace: config.workspace.clone(),
            region: config.region.clone(),
            node: config.node.clone(),
            told: Mutex::default(),
        }
    }

    /// The database's status, if it is another than before.
    pub(super) fn database(&self, database: &DatabaseReport) {
        let now = (database.state, database.role);
        {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            if *told == Some(now) {
                return;
            }
            *told = Some(now);
        }
        let (detail, error) = match database.state {
            DatabaseState::Failed => (None, database.detail.clone()),
            _ => (database.detail.clone(), None),
        };
        self.write("database.status", &self.node, status(database), detail, error);
    }

    pub(super) fn write(
        &self,
        event: &str,
        subject: &str,
        status: &str,
        detail: Option<String>,
        error: Option<String>,
    ) {
        tracing::info!(event, subject, status, detail, error);
        let line = Event {
            at: Timestamp::now(),
            workspace: self.workspace.clone(),
            region: Some(self.region.clone()),
            source: "guard".to_owned(),
            event: event.to_owned(),
            subject: subject.to_owned(),
            status: status.to_owned(),
            detail,
            error,
            who: None,
        };
        let written = serde_json::to_string(&line)
            .map_err(std::io::Error::from)
            .and_then(|line| {
                // One write: others append to this file too.
                let mut file = OpenOptions::new().append(true).create(true).open(&self.path)?;
                file.write_all(format!("{line}\n").as_bytes())
            });
        if let Err(error) = written {
            tracing::warn!(%error, path = %self.path.display(), "cannot write an event");
        }
    }
}

/// `primary`, `replica`, or what it is doing instead.
pub(super) fn status(database: &DatabaseReport) -> &'static str {
    match (database.state, database.role) {
        (DatabaseState::Running, Some(NodeRole::Primary)) => "primary",
        (DatabaseState::Running, Some(NodeRole::Replica)) => "replica",
        (DatabaseState::Running, None) => "running",
        (DatabaseState::Absent, _) => "absent",
        (DatabaseState::Creating, _) => "creating",
        (DatabaseState::Starting, _) => "starting",
        (DatabaseState::Stopped, _) => "stopped",
        (DatabaseState::Failed, _) => "failed",
    }
}
