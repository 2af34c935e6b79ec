//! The guard's cycle: facts in, actions out, each with the sentence that says why (protocol §11).
//!
//! Pure: no clock, no I/O. The same function runs in the guard and in the simulator. It may be asked at any moment and
//! any number of times: whatever it answers follows from what is, never from what it answered before.
//!
//! | room | what it decides |
//! |---|---|
//! | [`cycle`] | which of the rooms below has the word |
//! | [`leader`] | the primary of the active epoch: lease, restart, fence |
//! | [`voters`] | whose acknowledgements count, and the order of changing that |
//! | [`replica`] | everybody else: follow, rebuild, fence a second primary |
//! | [`sealing`] | promise, seal, choose, promote, publish |
//! | [`down`] | whether the primary is gone, and whether anybody may act on it |

mod action;
mod cycle;
mod down;
mod facts;
mod leader;
mod replica;
mod sealing;
#[cfg(test)]
mod tests;
mod voters;

pub use action::{Act, Action, Blocked, Decision, Serve};
pub use cycle::decide;
pub use facts::{
    Barrier, Database, Facts, Holding, Job, NodeSettings, Process, Promise, Seen, SenderView, Settings, StoreView,
};
