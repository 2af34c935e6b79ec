//! The admin socket of a running HAProxy: see servers, drain one, bring it back.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Serialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::{Instant, timeout},
};

/// HAProxy answers at once or not at all.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// HAProxy 2.6 has no way to be told when a server's last session ends, so it is asked.
const ASK_AGAIN: Duration = Duration::from_millis(50);

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    #[error("no HAProxy listens on {}: {source}", path.display())]
    Unreachable { path: PathBuf, source: std::io::Error },
    #[error("HAProxy on {} did not answer \"{command}\" within {after:?}", path.display())]
    Timeout {
        path: PathBuf,
        command: String,
        after: Duration,
    },
    /// HAProxy's own words: an unknown server, a state that does not fit.
    #[error("HAProxy refused \"{command}\": {answer}")]
    Refused { command: String, answer: String },
    #[error("HAProxy answered \"{command}\" in a form that is not understood: {detail}")]
    Unreadable { command: String, detail: String },
    #[error("\"{0}\" is not a name of a backend or server")]
    BadName(String),
}

/// What an operator asks of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerState {
    /// Takes traffic when its checks pass.
    Ready,
    /// Goes on with its sessions, takes no new ones.
    Drain,
    /// Takes nothing and is not checked.
    Maint,
}

impl ServerState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Drain => "drain",
            Self::Maint => "maint",
        }
    }
}

impl fmt::Display for ServerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One server as `show servers state` has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServerRow {
    pub backend: String,
    pub server: String,
    pub address: String,
    pub port: u16,
    /// The checks pass (or it is only starting to warm up).
    pub up: bool,
    /// What an operator, or the file, asked for.
    pub state: ServerState,
    /// Its checks run; when they do not, it stays up or down as it was told.
    pub checked: bool,
    /// What its checks ask.
    pub check_port: Option<u16>,
    pub weight: u32,
    /// Since its state changed last.
    pub since: Duration,
}

/// One server's counters, from `show stat`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServerCounters {
    pub backend: String,
    pub server: String,
    /// HAProxy's word: `UP`, `DOWN`, `DRAIN`, `MAINT`, `UP 1/2`, `no check`.
    pub status: String,
    /// Sessions now.
    pub sessions: u64,
    /// Waiting for this server now.
    pub queued: u64,
    pub sessions_total: u64,
    pub connection_errors: u64,
    pub response_errors: u64,
    /// How the last check ended: `L7OK`, `L4CON`.
    pub check: Option<String>,
    pub check_took: Option<Duration>,
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Still open when the time was up; zero is a clean drain.
    pub sessions_left: u64,
    pub took: Duration,
}

/// Speaks to one HAProxy. Holds no connection: each request opens its own, as the socket is made for.
#[derive(Clone, Debug)]
pub struct Admin {
    path: PathBuf,
}

impl Admin {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All servers of all backends, in the order of the file.
    pub async fn servers(&self) -> Result<Vec<ServerRow>, AdminError> {
        let command = "show servers state";
        parse_servers(&self.ask(command).await?).map_err(|detail| AdminError::Unreadable {
            command: command.into(),
            detail,
        })
    }

    /// The process that answers: another one after a reload.
    pub async fn pid(&self) -> Result<u32, AdminError> {
        let command = "show info";
        let answer = self.ask(command).await?;
        let pid = answer.lines().find_map(|line| line.strip_prefix("Pid:"));
        pid.and_then(|pid| pid.trim().parse().ok())
            .ok_or_else(|| AdminError::Unreadable {
                command: command.into(),
                detail: "it names no process".into(),
            })
    }

    /// The version of the file that the process has read; none when it was not rendered by us.
    pub async fn version(&self) -> Result<Option<String>, AdminError> {
        let answer = self.ask("show info").await?;
        let description = answer.lines().find_map(|line| line.strip_prefix("description: ha "));
        Ok(description.map(|version| version.trim().to_owned()))
    }

    /// Counters of all servers.
    pub async fn counters(&self) -> Result<Vec<ServerCounters>, AdminError> {
        // -1: all proxies, 4: servers only, -1: all servers.
        let command = "show stat -1 4 -1";
        parse_counters(&self.ask(command).await?).map_err(|detail| AdminError::Unreadable {
            command: command.into(),
            detail,
        })
    }

    /// Afterwards the server is in that state. Said twice: nothing more happens.
    pub async fn set_state(&self, backend: &str, server: &str, state: ServerState) -> Result<(), AdminError> {
        let server = server_path(backend, server)?;
        self.act(&format!("set server {server} state {state}")).await
    }

    /// Afterwards HAProxy takes the server for up (or down) until its next check says otherwise.
    pub async fn set_health(&self, backend: &str, server: &str, up: bool) -> Result<(), AdminError> {
        let server = server_path(backend, server)?;
        let health = if up { "up" } else { "down" };
        self.act(&format!("set server {server} health {health}")).await
    }

    /// Afterwards HAProxy asks the server how it is, or takes it for what it was told last, until it is loaded anew.
    pub async fn set_checked(&self, backend: &str, server: &str, checked: bool) -> Result<(), AdminError> {
        let server = server_path(backend, server)?;
        let command = if checked { "enable" } else { "disable" };
        self.act(&format!("{command} health {server}")).await
    }

    /// Ends all sessions of the server; their clients see a lost connection.
    pub async fn shutdown_sessions(&self, backend: &str, server: &str) -> Result<(), AdminError> {
        let server = server_path(backend, server)?;
        self.act(&format!("shutdown sessions server {server}")).await
    }

    /// Sends the server nothing new and waits, for `within` at most, until its last session has ended.
    ///
    /// It stays in drain, whatever the answer; say [`ServerState::Ready`] to have it back. Sessions that an
    /// earlier process keeps since a reload are not seen.
    pub async fn drain(&self, backend: &str, server: &str, within: Duration) -> Result<Drained, AdminError> {
        let start = Instant::now();
        self.set_state(backend, server, ServerState::Drain).await?;
        let sessions_left = self.wait_idle(backend, server, within).await?;
        Ok(Drained {
            sessions_left,
            took: start.elapsed(),
        })
    }

    /// Waits, for `within` at most, until the server has no session; answers with how many are left.
    pub async fn wait_idle(&self, backend: &str, server: &str, within: Duration) -> Result<u64, AdminError> {
        let give_up = Instant::now() + within;
        loop {
            let rows = self.counters().await?;
            let row = rows.iter().find(|row| row.backend == backend && row.server == server);
            let left = row.map_or(0, |row| row.sessions + row.queued);
            if left == 0 || Instant::now() >= give_up {
                return Ok(left);
            }
            tokio::time::sleep_until((Instant::now() + ASK_AGAIN).min(give_up)).await;
        }
    }

    /// For commands that answer with nothing when they worked.
    async fn act(&self, command: &str) -> Result<(), AdminError> {
        let answer = self.ask(command).await?;
        match answer.trim() {
            "" => Ok(()),
            refusal => Err(AdminError::Refused {
                command: command.into(),
                answer: refusal.trim_end_matches('.').into(),
            }),
        }
    }

    async fn ask(&self, command: &str) -> Result<String, AdminError> {
        let unreachable = |source| AdminError::Unreachable {
            path: self.path.clone(),
            source,
        };
        let talk = async {
            let mut stream = UnixStream::connect(&self.path).await?;
            stream.write_all(format!("{command}\n").as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok(answer)
        };
        match timeout(ANSWER_WITHIN, talk).await {
            Ok(answer) => answer.map_err(unreachable),
            Err(_) => Err(AdminError::Timeout {
                path: self.path.clone(),
                command: command.into(),
                after: ANSWER_WITHIN,
            }),
        }
    }
}

/// `backend/server`, when both are names as HAProxy allows them: what is sent is one command, whatever the caller got
/// the names from.
fn server_path(backend: &str, server: &str) -> Result<String, AdminError> {
    for name in [backend, server] {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
        if name.is_empty() || !name.chars().all(plain) {
            return Err(AdminError::BadName(name.into()));
        }
    }
    Ok(format!("{backend}/{server}"))
}

/// Columns are found by name: later versions of HAProxy add some at the end.
struct Columns<'a>(Vec<&'a str>);

impl<'a> Columns<'a> {
    fn text<'r>(&self, row: &[&'r str], name: &str) -> Result<&'r str, String> {
        let place = self
            .0
            .iter()
            .position(|column| *column == name)
            .ok_or_else(|| format!("no column {name}"))?;
        row.get(place)
            .copied()
            .ok_or_else(|| format!("a row ends before column {name}"))
    }

    /// An empty cell is zero: HAProxy leaves out what does not apply.
    fn number(&self, row: &[&str], name: &str) -> Result<u64, String> {
        match self.text(row, name)? {
            "" | "-" => Ok(0),
            text => text
                .parse()
                .map_err(|_| format!("column {name} is \"{text}\", not a number")),
        }
    }

    fn small<N: TryFrom<u64>>(&self, row: &[&str], name: &str) -> Result<N, String> {
        N::try_from(self.number(row, name)?).map_err(|_| format!("column {name} is out of range"))
    }
}

fn parse_servers(answer: &str) -> Result<Vec<ServerRow>, String> {
    /// Bits of `srv_admin_state`: asked for, inherited from a tracked server, written in the file, by name resolution.
    const MAINT: u64 = 0x01 | 0x02 | 0x04 | 0x20;
    const DRAIN: u64 = 0x08 | 0x10;
    /// Bits of `srv_check_state`: there are checks, and they run.
    const CONFIGURED: u64 = 0x02;
    const ENABLED: u64 = 0x04;

    let mut lines = answer.lines().filter(|line| !line.trim().is_empty());
    match lines.next() {
        Some("1") => {}
        Some(other) => return Err(format!("version {other}, expected 1")),
        None => return Err("an empty answer".into()),
    }
    let header = lines
        .next()
        .and_then(|line| line.strip_prefix("# "))
        .ok_or("no line with the names of columns")?;
    let columns = Columns(header.split(' ').collect());
    lines
        .map(|line| {
            let row: Vec<&str> = line.split(' ').collect();
            let asked = columns.number(&row, "srv_admin_state")?;
            let checks = columns.number(&row, "srv_check_state")?;
            let check_port: u16 = columns.small(&row, "srv_check_port")?;
            Ok(ServerRow {
                backend: columns.text(&row, "be_name")?.into(),
                server: columns.text(&row, "srv_name")?.into(),
                address: columns.text(&row, "srv_addr")?.into(),
                port: columns.small(&row, "srv_port")?,
                up: columns.number(&row, "srv_op_state")? != 0,
                state: if asked & MAINT != 0 {
                    ServerState::Maint
                } else if asked & DRAIN != 0 {
                    ServerState::Drain
                } else {
                    ServerState::Ready
                },
                checked: checks & CONFIGURED == 0 || checks & ENABLED != 0,
                check_port: (check_port != 0).then_some(check_port),
                weight: columns.small(&row, "srv_uweight")?,
                since: Duration::from_secs(columns.number(&row, "srv_time_since_last_change")?),
            })
        })
        .collect()
}

fn parse_counters(answer: &str) -> Result<Vec<ServerCounters>, String> {
    let mut lines = answer.lines().filter(|line| !line.trim().is_empty());
    let header = lines
        .next()
        .and_then(|line| line.strip_prefix("# "))
        .ok_or("no line with the names of columns")?;
    let columns = Columns(header.split(',').collect());
    lines
        .map(|line| {
            // No column before the last ones of free text is ever quoted, and those are not read here.
            let row: Vec<&str> = line.split(',').collect();
            let check = columns.text(&row, "check_status")?.trim_start_matches("* ");
            let took = columns.text(&row, "check_duration")?;
            Ok(ServerCounters {
                backend: columns.text(&row, "pxname")?.into(),
                server: columns.text(&row, "svname")?.into(),
                status: columns.text(&row, "status")?.into(),
                sessions: columns.number(&row, "scur")?,
                queued: columns.number(&row, "qcur")?,
                sessions_total: columns.number(&row, "stot")?,
                connection_errors: columns.number(&row, "econ")?,
                response_errors: columns.number(&row, "eresp")?,
                check: (!check.is_empty()).then(|| check.into()),
                check_took: took.parse().ok().map(Duration::from_millis),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_state_is_what_was_asked_of_it() -> Result<(), String> {
        let answer = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight \
                      srv_time_since_last_change srv_check_state srv_port srv_check_port\n\
                      3 app 1 us-app-1 127.1.1.11 2 0 1 1 12 6 8080 0\n\
                      3 app 2 us-app-2 127.1.1.12 2 8 1 1 3 2 8080 8008\n\
                      3 app 3 us-app-3 127.1.1.13 0 1 1 1 0 0 8080 0\n\n";
        let rows = parse_servers(answer)?;
        let states: Vec<_> = rows
            .iter()
            .map(|row| (row.server.as_str(), row.up, row.state))
            .collect();
        assert_eq!(
            states,
            [
                ("us-app-1", true, ServerState::Ready),
                ("us-app-2", true, ServerState::Drain),
                ("us-app-3", false, ServerState::Maint),
            ]
        );
        assert_eq!(rows[0].since, Duration::from_secs(12));
        let checks: Vec<_> = rows.iter().map(|row| (row.checked, row.check_port)).collect();
        assert_eq!(checks, [(true, None), (false, Some(8008)), (true, None)]);
        Ok(())
    }

    #[test]
    fn an_answer_in_another_form_is_an_error_and_no_guess() {
        assert!(parse_servers("2\n# be_id\n").is_err());
        assert!(parse_servers("1\n# be_id be_name\n3 app\n").is_err());
        assert!(parse_counters("Permission denied\n").is_err());
        assert!(parse_counters("# pxname,svname,scur\napp,a,many\n").is_err());
    }

    #[test]
    fn a_name_cannot_smuggle_a_second_command() {
        assert!(server_path("app", "a; shutdown sessions server app/b").is_err());
        assert!(server_path("app", "a\nshow env").is_err());
        assert!(server_path("", "a").is_err());
        assert_eq!(
            server_path("pg_write", "us-db-1").ok().as_deref(),
            Some("pg_write/us-db-1")
        );
    }
}
