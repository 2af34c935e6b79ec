//! One look at a database.

use std::time::Duration;

use ha_core::{lsn::Lsn, report::DatabaseReport};

use crate::{DataError, postgres::Session};

/// What was seen, and what only a guard needs of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    pub report: DatabaseReport,
    /// Replica: where the upstream's log ended when its last message was sent.
    pub upstream_end: Option<Lsn>,
    /// Replica: address and port it was told to follow.
    pub follows: Option<(String, u16)>,
}

/// Looks at one database again and again; remembers what it needs to measure silence by its own clock.
#[derive(Debug, Default)]
pub struct Observer {}

impl Observer {
    pub fn new() -> Self {
        Self::default()
    }

    /// What the database says now. Ends with [`DataError::Timeout`] rather than hang.
    pub async fn look(&mut self, session: &Session, timeout: Duration) -> Result<Observation, DataError> {
        let _ = (session, timeout);
        Err(DataError::Unexpected("not written yet".to_owned()))
    }
}
