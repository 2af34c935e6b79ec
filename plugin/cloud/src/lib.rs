//! `trait Provider`, its contract suite, the providers, and the one way to carry a plan out.

pub mod apply;
pub mod contract;
pub mod local;
pub mod memory;
pub mod provider;

pub use apply::{ApplyOptions, StepRow, StepStatus, apply};
pub use provider::{Account, Provider, ProviderError};
