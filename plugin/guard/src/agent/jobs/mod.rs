//! Work on the database, one job at a time. Each begins by looking at what is there and can be repeated; each can be
//! dropped at any point, and whoever decides next sees how far it came.

mod follow;
mod hand_over;
mod names;
mod promote;
mod rebuild;
mod seal;
mod start;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use ha_core::{
    agent::Peer,
    agreement::Term,
    decide::{Action, Job},
};
use ha_data::postgres::{self, Session, Upstream};

use super::{Guard, agreement::Look, observe};

/// What a decision was made on.
pub(super) struct Task<'a> {
    pub(super) guard: &'a Guard,
    pub(super) look: Look,
}

impl Task<'_> {
    /// An error is a reason to look again, and to try again after a moment if the same is decided.
    pub(super) async fn run(&self, action: &Action) -> anyhow::Result<()> {
        let done = self.work(action).await;
        if done.is_err() {
            // It may still be busy with what was given up.
            *self.guard.session.lock().await = None;
        }
        done
    }

    async fn work(&self, action: &Action) -> anyhow::Result<()> {
        match action {
            Action::Seal { epoch } => seal::seal(self, *epoch).await,
            Action::StartSealed => start::sealed(self).await,
            Action::StartPrimary { names } => start::primary(self, names).await,
            Action::Fence => start::fence(self).await,
            Action::Disown => start::disown(self).await,
            Action::Promote { epoch, names } => promote::promote(self, *epoch, names).await,
            Action::SetNames { names } => names::set(self, names).await,
            Action::TakeBarrier { names } => names::barrier(self, names).await,
            Action::Checkpoint => names::checkpoint(self).await,
            Action::Follow { node, epoch } => follow::follow(self, node, *epoch).await,
            Action::Rebuild { from, copy } => rebuild::rebuild(self, from, *copy).await,
            Action::Copy { from } => rebuild::copy_first(self, from).await,
            Action::HandOver { to } => hand_over::hand_over(self, to).await,
            // Not on the database.
            Action::Found
            | Action::Renew
            | Action::Campaign { .. }
            | Action::Choose { .. }
            | Action::Publish
            | Action::SetVoters { .. }
            | Action::UndoSwitch => Ok(()),
        }
    }

    fn term(&self) -> anyhow::Result<&Term> {
        self.look.view.term.as_ref().context("no term is known")
    }

    /// One for all jobs, since there is one job at a time: in the middle of an outage nobody logs in anew.
    async fn session(&self) -> anyhow::Result<Arc<Session>> {
        let pid = self.guard.state.phase().borrow().pid;
        let mut kept = self.guard.session.lock().await;
        if let Some((of, open)) = kept.as_ref()
            && *of == pid
            && !open.is_closed()
        {
            return Ok(Arc::clone(open));
        }
        let options = observe::admin(&self.guard.state.config);
        let open = Arc::new(postgres::connect(&options).await?);
        *kept = Some((pid, Arc::clone(&open)));
        Ok(open)
    }

    fn peer(&self, node: &str) -> anyhow::Result<&Peer> {
        let mut peers = self.guard.state.config.peers.iter();
        peers
            .find(|peer| peer.node == node)
            .with_context(|| format!("{node} is not among this guard's peers; `ha provision` tells them"))
    }

    fn upstream(&self, node: &str) -> anyhow::Result<Upstream> {
        let peer = self.peer(node)?;
        Ok(Upstream {
            address: peer.address.clone(),
            port: peer.port,
        })
    }

    /// The guard is told how long a step of a change of primary took.
    fn step(&self, epoch: ha_core::agreement::Epoch, step: &str, began: Instant) {
        self.guard.state.memory.step(epoch, step, began.elapsed());
    }
}

/// What others are told of a job while it runs.
pub(super) fn kind(action: &Action) -> Job {
    match action {
        Action::StartSealed | Action::StartPrimary { .. } => Job::Start,
        Action::Fence | Action::Disown => Job::Stop,
        Action::Seal { .. } => Job::Seal,
        Action::Promote { .. } => Job::Promote,
        Action::Follow { .. } => Job::Follow,
        Action::Rebuild { .. } | Action::Copy { .. } => Job::Rebuild,
        Action::HandOver { .. } => Job::HandOver,
        _ => Job::Names,
    }
}

/// In words, for the report and for events.
pub(super) fn name(action: &Action) -> String {
    match action {
        Action::Found => "found".to_owned(),
        Action::Renew => "renew".to_owned(),
        Action::Campaign { reason, .. } => format!("campaign ({})", reason.as_str()),
        Action::Choose { .. } => "choose".to_owned(),
        Action::Publish => "publish".to_owned(),
        Action::SetVoters { voters, acks, .. } => {
            let voters: Vec<&str> = voters.iter().map(String::as_str).collect();
            format!("set voters: {acks} of {}", voters.join(", "))
        }
        Action::UndoSwitch => "undo switchover".to_owned(),
        Action::Seal { epoch } => format!("seal for epoch {epoch}"),
        Action::StartSealed => "start as a sealed standby".to_owned(),
        Action::StartPrimary { .. } => "start as primary".to_owned(),
        Action::Fence => "fence".to_owned(),
        Action::Disown => "disown".to_owned(),
        Action::Promote { epoch, .. } => format!("promote for epoch {epoch}"),
        Action::SetNames { names } if names.is_empty() => "wait for nobody".to_owned(),
        Action::SetNames { names } => format!("wait for {names}"),
        Action::TakeBarrier { .. } => "take a barrier".to_owned(),
        Action::Checkpoint => "checkpoint".to_owned(),
        Action::Follow { node, epoch } => format!("follow {node} in epoch {epoch}"),
        Action::Rebuild { from, copy: false } => format!("rewind to {from}"),
        Action::Rebuild { from, copy: true } | Action::Copy { from } => format!("copy {from}"),
        Action::HandOver { to } => format!("hand over to {to}"),
    }
}

/// For work that may take as long as the data is large.
const HOURS: Duration = Duration::from_secs(12 * 3600);
