//! `trait Provider`, its contract suite, and the providers.

pub mod provider;

pub use provider::{Account, Provider, ProviderError};
