//! The region's `events.jsonl`. That a line cannot be written is told, and stops nothing.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Mutex,
};

use ha_core::event::Event;
use jiff::Timestamp;

pub(super) struct Events {
    path: PathBuf,
    workspace: String,
    region: String,
    trouble: Mutex<Option<String>>,
}

impl Events {
    pub(super) fn new(region_dir: &Path, workspace: String, region: String) -> Self {
        Self {
            path: region_dir.join("events.jsonl"),
            workspace,
            region,
            trouble: Mutex::new(None),
        }
    }

    /// Appends one line: `event` happened to `subject`, and `status` holds now.
    pub(super) fn tell(&self, event: &str, subject: &str, status: &str, detail: Option<String>, error: Option<String>) {
        tracing::info!(event, subject, status, detail, error);
        let event = Event {
            at: Timestamp::now(),
            workspace: self.workspace.clone(),
            region: Some(self.region.clone()),
            source: "supervisor".to_owned(),
            event: event.to_owned(),
            subject: subject.to_owned(),
            status: status.to_owned(),
            detail,
            error,
            who: None,
        };
        let trouble = self
            .append(&event)
            .err()
            .map(|error| format!("{}: {error}", self.path.display()));
        match self.trouble.lock() {
            Ok(mut held) => *held = trouble,
            Err(poisoned) => *poisoned.into_inner() = trouble,
        }
    }

    fn append(&self, event: &Event) -> io::Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        // One write of a whole line to a file opened for appending: lines of several writers do not mix.
        fs::OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&self.path)?
            .write_all(&line)
    }

    /// Why the last line could not be written.
    pub(super) fn trouble(&self) -> Option<String> {
        match self.trouble.lock() {
            Ok(held) => held.clone(),
            Err(poisoned) => poisoned.into_inner().clone(),
        }
    }
}
