//! How a replica is told whom to follow: `primary_conninfo`, its slot and its password file.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use ha_core::agent::{PostgresConfig, stream_name};

use super::{
    REPLICATION_USER,
    connect::{Session, read_password},
    settings::quoted,
};
use crate::DataError;

/// Whom to copy and to follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    pub address: String,
    pub port: u16,
}

/// libpq's connection string of `node` towards its upstream. The password is in the passfile, the name is the one
/// the upstream counts on. A dead line is noticed within five seconds.
pub(super) fn conninfo(config: &PostgresConfig, node: &str, upstream: &Upstream) -> String {
    let passfile = passfile(config);
    let pairs: [(&str, &str); 16] = [
        ("host", &upstream.address),
        ("port", &upstream.port.to_string()),
        ("user", REPLICATION_USER),
        ("application_name", &stream_name(node)),
        ("passfile", &passfile.to_string_lossy()),
        ("sslmode", "verify-ca"),
        ("sslrootcert", &config.tls.ca.to_string_lossy()),
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

/// `postgresql.auto.conf` of a replica: the one file that `ALTER SYSTEM` changes too, so that a later change of
/// upstream needs no restart and survives one.
pub(super) fn auto_conf(config: &PostgresConfig, node: &str, upstream: &Upstream) -> String {
    format!(
        "# Written when this replica was made; ALTER SYSTEM changes it.\nprimary_conninfo = {}\nprimary_slot_name = {}\n",
        quoted(&conninfo(config, node, upstream)),
        quoted(&stream_name(node)),
    )
}

/// The replica behind `session` follows `upstream` from now on, also after a restart. No restart is needed.
pub async fn follow(
    session: &Session,
    config: &PostgresConfig,
    node: &str,
    upstream: &Upstream,
) -> Result<(), DataError> {
    write_passfile(config)?;
    // What a setting is set to cannot be a parameter. It holds no secret.
    let conninfo = conninfo(config, node, upstream).replace('\'', "''");
    let escape = if conninfo.contains('\\') { "E" } else { "" };
    let conninfo = conninfo.replace('\\', "\\\\");
    for statement in [
        format!("alter system set primary_conninfo = {escape}'{conninfo}'").as_str(),
        "select pg_reload_conf()",
    ] {
        session
            .batch_execute(statement)
            .await
            .map_err(|error| session.error(&error))?;
    }
    Ok(())
}

/// Address and port in a `primary_conninfo`; none when it follows nobody.
pub(super) fn upstream_of(conninfo: &str) -> Option<(String, u16)> {
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
    let port = value("port").and_then(|port| port.parse().ok()).unwrap_or(5432);
    Some((value("host")?, port))
}

/// Beside the data folder, not in it: a copy of the folder must not carry it along.
pub(super) fn passfile(config: &PostgresConfig) -> PathBuf {
    super::beside(&config.data_dir, ".passfile")
}

/// The passfile holds the replication password as the password file has it now.
pub fn write_passfile(config: &PostgresConfig) -> Result<(), DataError> {
    let password = read_password(&config.replication_password_file)?;
    let escaped = password.replace('\\', "\\\\").replace(':', "\\:");
    write_private(&passfile(config), &format!("*:*:*:{REPLICATION_USER}:{escaped}\n"))
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

    #[test]
    fn the_upstream_is_read_back_from_what_was_written() {
        let config = crate::postgres::settings::tests::config();
        let text = conninfo(
            &config,
            "us-db-1",
            &Upstream {
                address: "127.9.101.11".into(),
                port: 5433,
            },
        );
        assert_eq!(upstream_of(&text), Some(("127.9.101.11".into(), 5433)));
        assert_eq!(upstream_of("host=a user=b"), Some(("a".into(), 5432)));
        assert_eq!(upstream_of(""), None);
        assert_eq!(upstream_of("host=''"), None);
    }

    #[test]
    fn the_connection_string_holds_no_password_and_a_name_that_needs_no_quotes() {
        let config = crate::postgres::settings::tests::config();
        let text = conninfo(
            &config,
            "EU-db-1",
            &Upstream {
                address: "127.9.101.11".into(),
                port: 5432,
            },
        );
        assert!(!text.contains("password="), "{text}");
        assert!(text.contains("application_name='ha_eu_db_1'"), "{text}");
        assert!(text.contains("sslmode='verify-ca'"), "{text}");
    }
}
