//! What lies in the agreement store, and the only ways it may change (protocol §3, §4).
//!
//! `term` is one value behind one compare: who may write, in which epoch, and what a commit needs. Everything else is
//! either derived from it or a report. The changes here are pure, so that the guards, the shell and the simulator
//! make the same ones.

mod adopted;
mod ask;
mod candidate;
mod history;
mod keys;
mod member;
mod quorum;
mod term;
#[cfg(test)]
mod tests;

pub use adopted::{Adopted, Remembered};
pub use ask::Ask;
pub use candidate::{Candidate, Standing, candidates};
pub use history::{History, StepTook};
pub use keys::Keys;
pub use member::{Follows, Lease, Member, Need, Pause, Sealed, Verdict};
pub use quorum::{furthest, is_quorum, seals_needed};
pub(crate) use term::names_of;
pub use term::{AcceptLoss, Ancestor, Campaign, Phase, Reason, Switch, SwitchEnd, SwitchOutcome, Term, diverged};

/// The name of a database server; unique in the workspace.
pub type Node = String;

/// Grows at each change of primary; the number of the primary's timeline, too.
pub type Epoch = u64;

/// What no node streams under: a commit that waits for it waits for ever.
pub const FENCED_NAMES: &str = "ANY 1 (ha_fenced)";
