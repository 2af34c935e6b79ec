//! `trait Provider`, its contract suite, the providers, and the one way to carry a plan out.

pub mod apply;
pub mod aws;
pub mod clouds;
pub mod contract;
pub mod digitalocean;
pub mod dns;
pub mod hetzner;
pub mod limits;
pub mod local;
pub mod memory;
pub mod offers;
pub mod price_list;
pub mod provider;
pub mod rest;
pub mod rights;
pub mod secret;
pub mod survey;
pub mod user_data;

pub use apply::{ApplyOptions, StepRow, StepStatus, apply};
pub use clouds::Clouds;
pub use ha_core::labels;
pub use provider::{Account, Provider, ProviderError, UserDataOf};
