//! The shell's part of the events: what was done, by whom, and how it ended.

use std::{io::Write, path::PathBuf};

use ha_core::event::Event;
use jiff::Timestamp;

use crate::error::Failed;

/// Appends to one events file. Safe to lose: nothing is decided by it.
#[derive(Clone, Debug)]
pub(crate) struct Acts {
    pub(crate) file: PathBuf,
    pub(crate) workspace: String,
    pub(crate) who: Option<String>,
}

/// One act, as the caller knows it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Act {
    pub(crate) region: Option<String>,
    /// `provision.create`
    pub(crate) event: String,
    /// `server us-app-1`
    pub(crate) subject: String,
    pub(crate) status: String,
    pub(crate) detail: Option<String>,
    pub(crate) error: Option<String>,
}

impl Acts {
    /// Remembers the act. A log that cannot be written is said once on stderr and stops nothing: the act has happened.
    pub(crate) fn record(&self, act: Act) {
        if let Err(error) = self.append(act) {
            static SAID: std::sync::Once = std::sync::Once::new();
            SAID.call_once(|| eprintln!("ha: acts are not remembered: {error}"));
        }
    }

    fn append(&self, act: Act) -> Result<(), Failed> {
        let event = Event {
            at: Timestamp::now(),
            workspace: self.workspace.clone(),
            region: act.region,
            source: "shell".into(),
            event: act.event,
            subject: act.subject,
            status: act.status,
            detail: act.detail,
            error: act.error,
            who: self.who.clone(),
        };
        let what = || format!("cannot append to {}", self.file.display());
        let mut line = serde_json::to_vec(&event).map_err(|error| Failed::io(what())(error.into()))?;
        line.push(b'\n');
        if let Some(folder) = self.file.parent() {
            std::fs::create_dir_all(folder).map_err(Failed::io(what()))?;
        }
        let mut options = std::fs::OpenOptions::new();
        // One write in append mode: lines of two shells do not mix.
        let mut file = options
            .append(true)
            .create(true)
            .open(&self.file)
            .map_err(Failed::io(what()))?;
        file.write_all(&line).map_err(Failed::io(what()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acts_are_appended_as_one_line_each() {
        let folder = tempfile::tempdir().expect("a folder");
        let acts = Acts {
            file: folder.path().join("events/shop.jsonl"),
            workspace: "shop".into(),
            who: Some("ann".into()),
        };
        for status in ["done", "failed"] {
            acts.append(Act {
                event: "provision.create".into(),
                status: status.into(),
                ..Act::default()
            })
            .expect("appended");
        }
        let text = std::fs::read_to_string(&acts.file).expect("a file");
        let events: Vec<Event> = text
            .lines()
            .map(|it| serde_json::from_str(it).expect("an event"))
            .collect();
        assert_eq!(
            events.iter().map(|it| it.status.as_str()).collect::<Vec<_>>(),
            ["done", "failed"]
        );
        assert_eq!(events[0].who.as_deref(), Some("ann"));
    }
}
