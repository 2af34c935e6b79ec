//! The pure heart of `ha`: what is wanted, what was seen, what is wrong and what to do.
//!
//! Nothing here opens a file or a socket, reads a clock or knows the shell; the crate has no
//! dependency that could. Times are arguments.
//!
//! Comments in all crates name chapters of the failover protocol: `protocol §7`. ARCHITECTURE.md has a table of them:
//! what each is about, and where it is done.

pub mod agent;
pub mod agreement;
pub mod budget;
pub mod check;
pub mod config;
pub mod cost;
pub mod decide;
pub mod desired;
pub mod dns;
pub mod event;
pub mod existing;
pub mod finding;
#[cfg(test)]
mod fixture;
pub mod geo;
pub mod health;
pub mod import;
pub mod labels;
pub mod lag;
pub mod lsn;
pub mod model;
pub mod names;
pub mod plan;
pub mod regions;
pub mod report;
pub mod resource;
pub mod status;
pub mod switch;
pub mod systemd;
pub mod unit;
