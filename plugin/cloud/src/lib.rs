//! `trait Provider`, its contract suite, and the providers.

pub mod apply;
pub mod contract;
pub mod local;
pub mod memory;
pub mod provider;

pub use provider::{Account, Provider, ProviderError};
