//! What is on disk: whose it is, where it is, and how it is written.

pub(crate) mod addresses;
pub(crate) mod files;
pub(crate) mod hosts;
pub(crate) mod layout;
pub(crate) mod lock;
pub(crate) mod options;
pub(crate) mod record;
pub(crate) mod secrets;
pub(crate) mod user;
pub(crate) mod workspace;
