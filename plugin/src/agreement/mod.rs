//! The shell's part in the agreement: what lies in the store and what the guards say, a wish swapped into `term`, and
//! then watching the guards fulfil it. Where no guard answers, the same over SQL (`witness`).

mod begin;
mod follow;
mod look;
mod open;
mod row;
mod session;
mod until;
mod vitals;
pub(crate) mod witness;
mod writer;

pub(crate) use begin::{Begun, Terms, failover, plan_failover, plan_switchover, switchover};
pub(crate) use follow::{Follow, Operation, Outcome, swap};
pub(crate) use look::Look;
pub(crate) use open::{Agreement, Node};
pub(crate) use row::{COLUMNS, Row};
pub(crate) use session::Session;
pub(crate) use until::until;
pub(crate) use writer::Writer;

use jiff::Timestamp;

/// What tells two wishes apart, also those of one second.
pub(crate) fn operation(command: &str, by: &str) -> String {
    let what = format!("{command} {by} {} {:?}", std::process::id(), Timestamp::now());
    blake3::hash(what.as_bytes()).to_hex().chars().take(12).collect()
}
