//! `trait Provider`, its contract suite, the providers, and the one way to carry a plan out.

pub mod apply;
pub mod aws;
pub mod clouds;
pub mod contract;
pub mod digitalocean;
pub mod hetzner;
pub mod labels;
pub mod limits;
pub mod local;
pub mod memory;
pub mod provider;
pub mod rest;
pub mod secret;
pub mod user_data;

pub use apply::{ApplyOptions, StepRow, StepStatus, apply};
pub use clouds::Clouds;
pub use provider::{Account, Provider, ProviderError, UserDataOf};
