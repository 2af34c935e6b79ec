//! The guard's cycle: facts in, actions out, each with the sentence that says why (FAILOVER.md §11).
//!
//! Pure: no clock, no I/O. The same function runs in the guard and in the simulator.

mod action;
mod facts;

pub use action::{Act, Action, Blocked, Decision, Serve};
pub use facts::{
    Barrier, Database, Facts, Holding, Job, NodeSettings, Process, Promise, Seen, SenderView, Settings, StoreView,
};
