//! PostgreSQL's own programs: run to their end, and their complaints understood.

use std::{fs, net::Ipv4Addr, path::Path, process::Stdio};

use ha_core::agent::PostgresConfig;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Command;

use crate::DataError;

/// A program of the engine with an environment that is the same everywhere: messages in English, no `PG…` variables.
pub(super) fn command(config: &PostgresConfig, program: &str) -> Command {
    let mut command = Command::new(config.bin_dir.join(program));
    command
        .env_clear()
        .env(
            "PATH",
            format!("{}:/usr/local/bin:/usr/bin:/bin", config.bin_dir.display()),
        )
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        .stdin(Stdio::null())
        .process_group(0);
    command
}

/// Tells a supervisor whose work a process does, also after the guard that started it was killed. A database is
/// known by its folder instead: it outlives its guard on purpose.
const MARK: &str = "HA_UNIT";

/// Ends a program with everything it started, if it is dropped before the program ended.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            // Already gone is as good.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

/// What the program printed, once it ended well. Dropping the future ends the program. `about` is the folder it
/// works on, for messages.
pub(super) async fn run(
    config: &PostgresConfig,
    program: &str,
    args: &[String],
    about: &Path,
) -> Result<String, DataError> {
    let (printed, _) = run_aloud(config, program, args, about).await?;
    Ok(printed)
}

/// As [`run`], and what it said beside.
pub(super) async fn run_aloud(
    config: &PostgresConfig,
    program: &str,
    args: &[String],
    about: &Path,
) -> Result<(String, String), DataError> {
    let path = config.bin_dir.join(program);
    let mut command = command(config, program);
    if let Some(unit) = std::env::var_os(MARK) {
        command.env(MARK, unit);
    }
    let child = command
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| not_started(&path, error))?;
    let mut group = Group(child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())));
    let output = child.wait_with_output().await.map_err(DataError::file(&path))?;
    group.0 = None;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        return Ok((String::from_utf8_lossy(&output.stdout).into_owned(), said.into_owned()));
    }
    Err(complaint(&said, config, about).unwrap_or_else(|| DataError::Program {
        program: program.to_owned(),
        reason: last_words(&said).unwrap_or_else(|| output.status.to_string()),
    }))
}

pub(super) fn not_started(program: &Path, error: std::io::Error) -> DataError {
    if error.kind() == std::io::ErrorKind::NotFound {
        return DataError::NotInstalled {
            program: program.to_owned(),
        };
    }
    DataError::file(program)(error)
}

/// The outcome behind what a program of the engine wrote, when it is one that a person can act on.
pub(super) fn complaint(said: &str, config: &PostgresConfig, about: &Path) -> Option<DataError> {
    let line = |needles: &[&str]| {
        said.lines()
            .rev()
            .find(|line| needles.iter().any(|it| line.contains(it)))
            .map(|line| message(line).to_owned())
    };
    if line(&["No space left on device", "Disk quota exceeded"]).is_some() {
        return Some(DataError::DiskFull { path: about.to_owned() });
    }
    if line(&["Address already in use", "could not create any TCP/IP sockets"]).is_some() {
        return Some(DataError::PortInUse {
            address: format!("{}:{}", config.address, config.port),
            holder: config
                .address
                .parse()
                .ok()
                .and_then(|address| listener(address, config.port)),
        });
    }
    let owner = line(&[
        "wrong ownership",
        "invalid permissions",
        "cannot be run as root",
        "execution of the PostgreSQL server",
    ]);
    owner.map(|reason| DataError::WrongOwner {
        path: about.to_owned(),
        reason,
    })
}

/// The last things it complained about, without time stamps.
pub(super) fn last_words(said: &str) -> Option<String> {
    let grave = |line: &&str| {
        ["FATAL:", "PANIC:", "error:", "ERROR:", "LOG:  could not"]
            .iter()
            .any(|it| line.contains(it))
    };
    let mut lines: Vec<&str> = said.lines().rev().filter(grave).take(3).collect();
    if lines.is_empty() {
        lines = said
            .lines()
            .rev()
            .filter(|line| !line.trim().is_empty())
            .take(1)
            .collect();
    }
    lines.reverse();
    (!lines.is_empty()).then(|| lines.into_iter().map(message).collect::<Vec<_>>().join("; "))
}

/// A line of a log without what stands before its message.
fn message(line: &str) -> &str {
    ["FATAL:", "PANIC:", "ERROR:", "LOG:", "error:"]
        .iter()
        .find_map(|mark| line.split_once(mark))
        .map_or(line, |(_, message)| message)
        .trim()
}

/// Name and number of the process that listens at an address, as far as this user may see it.
fn listener(address: Ipv4Addr, port: u16) -> Option<String> {
    let inode = fs::read_to_string("/proc/net/tcp")
        .ok()?
        .lines()
        .skip(1)
        .find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
            let (ip, at) = local.split_once(':')?;
            // In the byte order of the machine.
            let ip = Ipv4Addr::from(u32::from_str_radix(ip, 16).ok()?.to_ne_bytes());
            let listens = *state == "0A" && u16::from_str_radix(at, 16).ok()? == port;
            (listens && (ip == address || ip.is_unspecified())).then(|| format!("socket:[{inode}]"))
        })?;
    for process in fs::read_dir("/proc").ok()?.flatten() {
        // Also in there: `self`, and much that is no process.
        if !process.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        let Ok(files) = fs::read_dir(process.path().join("fd")) else {
            continue;
        };
        if files
            .flatten()
            .any(|file| fs::read_link(file.path()).is_ok_and(|to| to.as_os_str() == inode.as_str()))
        {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!(
                "{} (process {})",
                name.trim(),
                process.file_name().to_string_lossy()
            ));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::settings::tests::config;

    #[test]
    fn complaints_become_outcomes() {
        let about = Path::new("/ha/data");
        let of = |said: &str| complaint(said, &config(), about);
        let full = "2026-01-01 [7] FATAL:  could not write to file \"pg_wal/xlogtemp.7\": No space left on device";
        assert!(matches!(of(full), Some(DataError::DiskFull { .. })));
        let port = "LOG:  could not bind IPv4 address \"127.9.1.11\": Address already in use\nFATAL:  could not create any TCP/IP sockets";
        assert!(matches!(of(port), Some(DataError::PortInUse { .. })));
        let owner = "FATAL:  data directory \"/ha/data\" has wrong ownership\nHINT:  The server must be started by …";
        assert!(matches!(of(owner), Some(DataError::WrongOwner { .. })));
        assert!(of("LOG:  database system is ready").is_none());
    }

    #[test]
    fn the_last_words_are_messages_without_their_prefix() {
        let said = "2026-01-01 00:00:00 UTC [7] LOG:  starting\n2026-01-01 00:00:00 UTC [7] FATAL:  could not access file \"x\"\n";
        assert_eq!(last_words(said).as_deref(), Some("could not access file \"x\""));
        assert_eq!(last_words("\n"), None);
    }

    #[test]
    fn the_process_that_listens_is_named() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = socket.local_addr().expect("its address").port();
        let holder = listener(Ipv4Addr::LOCALHOST, port).expect("this process");
        assert!(
            holder.contains(&format!("(process {})", std::process::id())),
            "{holder}"
        );
    }
}
