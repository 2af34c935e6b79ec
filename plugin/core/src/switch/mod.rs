//! A change of primary as whoever asks for it sees it: may it be done, who would take over and why, what will happen,
//! and how far it is. The guards do it; nothing here changes anything.

mod explain;
mod facts;
mod failover;
mod findings;
mod preflight;
mod progress;
mod steps;
#[cfg(test)]
mod tests;
pub mod witness;

pub use explain::{Choice, explain_failover, explain_switchover};
pub use facts::{NodeFacts, Vitals, World};
pub use failover::{Loss, PrimaryState, Proof, estimate, failover, primary_state, proof};
pub use findings::{AgreementFinding, age, findings};
pub use preflight::{NOT_STREAMING, Refusal, Severity, nobody, switchover};
pub use progress::{Ending, Kind, Milestone, Progress, Snapshot, Waits, standing};
pub use steps::{PlannedStep, failover_steps, outage, switchover_steps};
