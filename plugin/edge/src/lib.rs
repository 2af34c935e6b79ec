//! What stands between users and servers: HAProxy, and the probes that say whether users are served.

pub mod haproxy;
pub mod probe;
