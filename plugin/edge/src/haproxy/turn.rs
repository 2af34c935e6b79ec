//! Writes turned to another node at once: the checks would do the same, a second later.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{Admin, AdminError, ServerRow, ServerState, WRITE};

/// For a guard to say whether its node is primary, as the checks allow it.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// What was turned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Turned {
    /// Takes writes now and did not before.
    pub up: Option<String>,
    /// Took writes before; their sessions are ended.
    pub down: Vec<String>,
    /// It takes writes without being checked, and its guard does not say yet that it may: see [`Admin::keep_writes`].
    pub unchecked: Option<String>,
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
        for row in rows.iter().filter(|row| row.backend == WRITE && !row.checked) {
            // The primary of a witness stays in until its guard is there to speak for it.
            if sure || primary != Some(row.server.as_str()) || says_yes(row).await {
                self.set_checked(WRITE, &row.server, true).await?;
            } else {
                turned.unchecked = Some(row.server.clone());
            }
        }
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

    /// As [`Admin::turn_writes`], where no guard answers the checks: `primary` is in and is not asked any more. The next
    /// guard that turns writes has it checked again.
    pub async fn keep_writes(&self, primary: &str) -> Result<Turned, AdminError> {
        let rows = self.servers().await?;
        let of = |row: &&ServerRow| row.backend == WRITE;
        if !rows.iter().filter(of).any(|row| row.server == primary) {
            return Err(AdminError::Refused {
                command: format!("show servers state {WRITE}"),
                answer: format!("it has no server {primary}"),
            });
        }
        let mut turned = Turned::default();
        for row in rows.iter().filter(of).filter(|row| row.server != primary) {
            if row.up {
                self.set_health(WRITE, &row.server, false).await?;
                self.shutdown_sessions(WRITE, &row.server).await?;
                turned.down.push(row.server.clone());
            }
            self.set_checked(WRITE, &row.server, true).await?;
        }
        // First, so that no check that is under way takes it out again.
        self.set_checked(WRITE, primary, false).await?;
        self.set_health(WRITE, primary, true).await?;
        turned.up = Some(primary.to_owned());
        turned.unchecked = turned.up.clone();
        Ok(turned)
    }
}

/// What its check would find now.
async fn says_yes(row: &ServerRow) -> bool {
    let Some(port) = row.check_port else { return false };
    let asked = async {
        let mut stream = TcpStream::connect((row.address.as_str(), port)).await?;
        let request = format!("GET /primary HTTP/1.0\r\nHost: {}\r\n\r\n", row.address);
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(64).read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    match timeout(ANSWER_WITHIN, asked).await {
        Ok(Ok(answer)) => answer.starts_with(b"HTTP/1.") && answer.get(8..12) == Some(b" 200"),
        _ => false,
    }
}
