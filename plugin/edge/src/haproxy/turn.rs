//! Writes turned to another node at once: the checks would do the same, a second later.

use super::{Admin, AdminError, ServerState, WRITE};

/// What was turned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Turned {
    /// Takes writes now and did not before.
    pub up: Option<String>,
    /// Took writes before; their sessions are ended.
    pub down: Vec<String>,
}

impl Turned {
    pub fn is_nothing(&self) -> bool {
        self.up.is_none() && self.down.is_empty()
    }
}

impl Admin {
    /// Nobody but `primary` takes writes; with none, nobody does. Others are out before it is in, since two that are
    /// in refuse each other.
    ///
    /// Nothing but health is set, which the next check confirms or takes back: a state of maintenance would outlive
    /// whoever set it, and keep the next primary out. With `sure` the primary is in without waiting for a check; only
    /// for a change that has just been agreed.
    ///
    /// After an error some of it may have been done; doing it again does the rest.
    pub async fn turn_writes(&self, primary: Option<&str>, sure: bool) -> Result<Turned, AdminError> {
        let rows = self.servers().await?;
        let mut turned = Turned::default();
        for row in rows.iter().filter(|row| row.backend == WRITE) {
            if primary == Some(row.server.as_str()) || !row.up {
                continue;
            }
            self.set_health(WRITE, &row.server, false).await?;
            // Marked down they end by themselves, but for those that a check had marked so before.
            self.shutdown_sessions(WRITE, &row.server).await?;
            turned.down.push(row.server.clone());
        }
        let wanted = rows
            .iter()
            .find(|row| row.backend == WRITE && primary == Some(row.server.as_str()));
        if let Some(row) = wanted
            && sure
            && !row.up
            && row.state == ServerState::Ready
        {
            self.set_health(WRITE, &row.server, true).await?;
            turned.up = Some(row.server.clone());
        }
        Ok(turned)
    }
}
