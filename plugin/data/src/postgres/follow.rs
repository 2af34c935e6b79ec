//! How a replica is told whom to follow: `primary_conninfo`, its slot and its password file.
//!
//! A replica that may follow has the password; one that is sealed has not (see [`super::seal`]).

use std::{
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use ha_core::{
    agent::{PostgresConfig, epoch_stream_name, parse_epoch_stream_name, stream_name},
    agreement::{Epoch, FENCED_NAMES},
};

use super::{
    REPLICATION_USER,
    connect::{Session, read_password},
    names::{self, PROMPT, within},
    place::Place,
};
use crate::DataError;

/// Whom to copy and to follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    pub address: String,
    pub port: u16,
}

/// libpq's connection string towards an upstream, as `user` under `name`. The password is in the passfile. A dead line
/// is noticed within five seconds.
pub(super) fn conninfo(
    config: &PostgresConfig,
    upstream: &Upstream,
    user: &str,
    name: &str,
    passfile: &Path,
) -> String {
    conninfo_with(&config.tls.ca, upstream, user, name, passfile)
}

pub(super) fn conninfo_with(ca: &Path, upstream: &Upstream, user: &str, name: &str, passfile: &Path) -> String {
    let pairs: [(&str, &str); 16] = [
        ("host", &upstream.address),
        ("port", &upstream.port.to_string()),
        ("user", user),
        ("application_name", name),
        ("passfile", &passfile.to_string_lossy()),
        ("sslmode", "verify-ca"),
        ("sslrootcert", &ca.to_string_lossy()),
        // Neither certificates nor tickets of the user this runs as.
        ("sslcert", "/nonexistent"),
        ("sslcrl", "/nonexistent"),
        ("gssencmode", "disable"),
        ("connect_timeout", "2"),
        ("keepalives", "1"),
        ("keepalives_idle", "2"),
        ("keepalives_interval", "1"),
        ("keepalives_count", "3"),
        ("tcp_user_timeout", "5000"),
    ];
    let words: Vec<String> = pairs
        .iter()
        .map(|(name, value)| format!("{name}='{}'", value.replace('\\', "\\\\").replace('\'', "\\'")))
        .collect();
    words.join(" ")
}

/// The replica behind `session` follows `upstream` as the primary of `epoch`, also after a restart; no restart is
/// needed. Commits for other epochs are not acknowledged by it: it streams under this one's name.
///
/// After an error it may follow or not; sealing undoes either, and repeating it ends the same.
pub async fn follow(
    session: &Session,
    config: &PostgresConfig,
    node: &str,
    upstream: &Upstream,
    epoch: Epoch,
) -> Result<(), DataError> {
    follow_at(session, config, node, upstream, epoch).await
}

pub(super) async fn follow_at(
    session: &Session,
    place: &impl Place,
    node: &str,
    upstream: &Upstream,
    epoch: Epoch,
) -> Result<(), DataError> {
    let name = epoch_stream_name(node, epoch);
    let conninfo = conninfo_with(place.ca(), upstream, REPLICATION_USER, &name, &place.passfile());
    let settings = [
        names::alter("synchronous_standby_names", FENCED_NAMES),
        names::alter("primary_slot_name", &stream_name(node)),
        names::alter("primary_conninfo", &conninfo),
    ];
    let work = async {
        let statements: Vec<&str> = settings.iter().map(String::as_str).collect();
        names::run(session, &statements).await?;
        place.give_credential(session).await?;
        names::run(session, &["select pg_reload_conf()"]).await
    };
    within(PROMPT, &format!("telling {} whom to follow", session.address()), work).await
}

/// What a `primary_conninfo` says.
pub(super) struct Follows {
    pub(super) address: String,
    pub(super) port: u16,
    pub(super) epoch: Option<Epoch>,
}

/// None when it follows nobody.
pub(super) fn upstream_of(conninfo: &str) -> Option<Follows> {
    let value = |name: &str| {
        let start = conninfo
            .find(&format!("{name}='"))
            .or_else(|| conninfo.find(&format!("{name}=")))?;
        let rest = &conninfo[start + name.len() + 1..];
        let word = match rest.strip_prefix('\'') {
            Some(quoted) => quoted.split('\'').next()?,
            None => rest.split_whitespace().next()?,
        };
        (!word.is_empty()).then(|| word.to_owned())
    };
    let name = value("application_name");
    Some(Follows {
        address: value("host")?,
        port: value("port").and_then(|port| port.parse().ok()).unwrap_or(5432),
        epoch: name.and_then(|name| parse_epoch_stream_name(&name).map(|(_, epoch)| epoch)),
    })
}

/// Beside the data folder, not in it: a copy of the folder must not carry it along.
pub(super) fn passfile(config: &PostgresConfig) -> PathBuf {
    super::beside(&config.data_dir, ".passfile")
}

/// The passfile holds the replication password as the password file has it now: a walreceiver of this node can log in.
pub fn write_passfile(config: &PostgresConfig) -> Result<(), DataError> {
    let line = password_line(REPLICATION_USER, &config.replication_password_file)?;
    write_private(&passfile(config), &line)
}

/// A line of a passfile.
pub(super) fn password_line(user: &str, password_file: &Path) -> Result<String, DataError> {
    let password = read_password(password_file)?;
    let escaped = password.replace('\\', "\\\\").replace(':', "\\:");
    Ok(format!("*:*:*:{user}:{escaped}\n"))
}

/// The file holds `text` and only its owner reads it; seen whole or not at all.
pub(super) fn write_private(path: &Path, text: &str) -> Result<(), DataError> {
    let new = super::beside(path, ".new");
    let written = (|| {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)
    })();
    written.map_err(DataError::file(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(node: &str, epoch: Epoch) -> String {
        let config = crate::postgres::settings::tests::config();
        let upstream = Upstream {
            address: "127.9.101.11".into(),
            port: 5433,
        };
        let name = epoch_stream_name(node, epoch);
        conninfo(&config, &upstream, REPLICATION_USER, &name, &passfile(&config))
    }

    #[test]
    fn the_upstream_is_read_back_from_what_was_written() {
        let read = |text: &str| upstream_of(text).map(|it| (it.address, it.port, it.epoch));
        assert_eq!(
            read(&written("us-db-1", 7)),
            Some(("127.9.101.11".into(), 5433, Some(7)))
        );
        assert_eq!(read("host=a user=b"), Some(("a".into(), 5432, None)));
        assert_eq!(read(""), None);
        assert_eq!(read("host=''"), None);
    }

    #[test]
    fn the_connection_string_holds_no_password_and_a_name_that_needs_no_quotes() {
        let text = written("EU-db-1", 12);
        assert!(!text.contains("password="), "{text}");
        assert!(text.contains("application_name='ha_eu_db_1_e12'"), "{text}");
        assert!(text.contains("sslmode='verify-ca'"), "{text}");
    }
}
