//! What the region tells a unit's task, and what the task tells the region.

use std::sync::Arc;

use ha_core::unit::{Unit, UnitStatus};
use tokio::sync::{mpsc, oneshot, watch};

use super::{events::Events, files::Place, unit::Task};

/// What the region's files ask of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    Run(Arc<Unit>),
    /// The unit's file cannot be used: what runs goes on, and nothing new starts from it.
    Unreadable(String),
    /// The host is off.
    Off,
    /// The whole region is being stopped.
    Closing,
    /// The unit is no longer wanted: stops, and is forgotten.
    Gone,
}

#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) goal: Goal,
    /// Grows with each sync, so that its caller can tell when this unit has acted on it.
    pub(super) turn: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Restart,
    Reload,
}

pub(super) struct Command {
    pub(super) act: Act,
    pub(super) answer: oneshot::Sender<Result<(), String>>,
}

#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) turn: u64,
    pub(super) status: UnitStatus,
}

/// What all units of a region share.
pub(super) struct Shared {
    pub(super) events: Events,
    pub(super) boot_id: String,
    pub(super) client: reqwest::Client,
}

/// A unit's task, seen from outside.
pub(super) struct Handle {
    pub(super) wanted: watch::Sender<Wanted>,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) view: watch::Receiver<View>,
}

impl Handle {
    /// Finds the unit's process if there is one; then acts on the goal.
    pub(super) fn spawn(place: Place, wanted: Wanted, shared: Arc<Shared>) -> Self {
        let (wanted_tx, wanted_rx) = watch::channel(wanted);
        let (commands_tx, commands_rx) = mpsc::channel(8);
        let (task, view) = Task::new(place, wanted_rx, commands_rx, shared);
        tokio::spawn(task.run());
        Self {
            wanted: wanted_tx,
            commands: commands_tx,
            view,
        }
    }
}
