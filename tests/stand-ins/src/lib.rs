//! Providers' APIs that answer on this machine, with faults on demand.
//!
//! A stand-in keeps a world in memory and answers as the provider documents it: the same states that take time,
//! the same refusals, the same paging. It is judged from outside (`tests/judges`): by the provider's own API
//! description and by the provider's own clients, so that it is no mirror of the code it is there to test.

mod agenda;
pub mod aws_replay;
mod cidr;
pub mod digitalocean;
mod fault;
mod form;
pub mod hetzner;
mod keys;
pub mod prism;
mod rate;
mod serve;
mod wire;

pub use cidr::Cidr;
pub use fault::{Fault, Faults, When};
pub use keys::fingerprint;
pub use rate::RateLimit;
pub use serve::Seen;

/// What the token of a stand-in is worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Token {
    #[default]
    Full,
    /// Reading is allowed, nothing else.
    ReadOnly,
    /// It was valid once: every request is refused as with a wrong one.
    Expired,
}
