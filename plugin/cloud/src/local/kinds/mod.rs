//! One room for each kind of resource, and what several of them do.

pub(crate) mod balancing;
pub(crate) mod database;
pub(crate) mod load_balancer;
pub(crate) mod network;
pub(crate) mod nodes;
pub(crate) mod renew;
pub(crate) mod server;
pub(crate) mod store;
pub(crate) mod usable;
