//! What runs: units, the supervisors that keep them, and the programs behind them.

pub(crate) mod http;
pub(crate) mod listeners;
pub(crate) mod processes;
pub(crate) mod programs;
pub(crate) mod supervisor;
pub(crate) mod units;
