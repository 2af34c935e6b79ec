//! PostgreSQL 13 or newer, run by the workspace itself.

mod connect;
mod observe;
mod tls;

pub use connect::{ConnectOptions, Host, Notice, Session, connect};
pub use observe::{Observation, Observer};
