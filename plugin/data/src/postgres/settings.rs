//! `postgresql.conf` and `pg_hba.conf`, rendered whole from what the guard was told. Pure: text in, text out.

use std::{collections::BTreeMap, fmt::Write as _, net::IpAddr};

use ha_core::agent::{PostgresConfig, stream_name};

use super::{ADMIN_USER, REPLICATION_USER};
use crate::DataError;

/// What the failover protocol rests on, or where the database is. A user's value would break one or the other.
const OWNED: &[&str] = &[
    "archive_cleanup_command",
    "cluster_name",
    "config_file",
    "data_directory",
    "external_pid_file",
    "fsync",
    "full_page_writes",
    "hba_file",
    "hot_standby",
    "ident_file",
    "lc_messages",
    "listen_addresses",
    "log_destination",
    "logging_collector",
    "max_standby_archive_delay",
    "max_standby_streaming_delay",
    "password_encryption",
    "port",
    "primary_conninfo",
    "primary_slot_name",
    "promote_trigger_file",
    "recovery_end_command",
    "recovery_min_apply_delay",
    "recovery_target",
    "recovery_target_action",
    "recovery_target_inclusive",
    "recovery_target_lsn",
    "recovery_target_name",
    "recovery_target_time",
    "recovery_target_timeline",
    "recovery_target_xid",
    "restore_command",
    "ssl",
    "ssl_ca_file",
    "ssl_cert_file",
    "ssl_crl_dir",
    "ssl_crl_file",
    "ssl_key_file",
    "synchronous_commit",
    "synchronous_standby_names",
    "unix_socket_directories",
    "wal_log_hints",
    "wal_receiver_status_interval",
    "wal_receiver_timeout",
    "wal_retrieve_retry_interval",
    "wal_sender_timeout",
];

/// A user may have more of these, not fewer.
const AT_LEAST: &[(&str, u32)] = &[("max_wal_senders", 10), ("max_replication_slots", 10)];

/// Commands that say "archived" and archive nothing: PostgreSQL then throws the log away.
const LYING_ARCHIVERS: &[&str] = &["true", "/bin/true", "/usr/bin/true", ":", "exit 0", "exit"];

/// The whole `postgresql.conf` of `node`; the user's settings come last, where PostgreSQL lets them win.
///
/// Errors name every setting that belongs to the guard, all at once.
pub fn postgresql_conf(config: &PostgresConfig, node: &str) -> Result<String, DataError> {
    check(&config.settings)?;
    let mut text = String::from(
        "# Written by ha-guard at every start. Change `settings` of the database in workspace.ncl, then `ha provision`.\n",
    );
    let mut section = |title: &str, settings: &[(&str, &str)]| {
        let _ = writeln!(text, "\n# {title}");
        for (name, value) in settings {
            let _ = writeln!(text, "{name} = {}", quoted(value));
        }
    };
    section(
        "Where it is",
        &[
            ("cluster_name", &stream_name(node)),
            ("listen_addresses", &config.address),
            ("port", &config.port.to_string()),
            ("unix_socket_directories", &config.socket_dir.to_string_lossy()),
            ("unix_socket_permissions", "0700"),
        ],
    );
    section(
        "Who may come in: TLS and a password, always",
        &[
            ("ssl", "on"),
            ("ssl_cert_file", &config.tls.cert.to_string_lossy()),
            ("ssl_key_file", &config.tls.key.to_string_lossy()),
            ("ssl_min_protocol_version", "TLSv1.2"),
            ("password_encryption", "scram-sha-256"),
        ],
    );
    section(
        "Replication",
        &[
            ("wal_level", "replica"),
            // With checksums hint bits are logged anyway; named because pg_rewind needs it.
            ("wal_log_hints", "on"),
            ("max_wal_senders", "10"),
            ("max_replication_slots", "10"),
            ("wal_keep_size", "64MB"),
            // A replica that stays away must not fill the primary's disk; beyond this it is copied again.
            ("max_slot_wal_keep_size", "1GB"),
            ("hot_standby", "on"),
            // A query on a replica must not hold up a seal, hence no more than a second.
            ("max_standby_streaming_delay", "1s"),
            ("max_standby_archive_delay", "1s"),
            ("wal_receiver_timeout", "5s"),
            ("wal_sender_timeout", "5s"),
            ("wal_receiver_status_interval", "1s"),
            // A sealed replica is known to have read all of its log once it was seen waiting this long for more.
            ("wal_retrieve_retry_interval", "100ms"),
            // Which replicas that means is the guard's to say (ALTER SYSTEM): they change with each epoch.
            ("synchronous_commit", "on"),
            ("recovery_target_timeline", "latest"),
        ],
    );
    section(
        "A client that went silent is noticed within seconds",
        &[
            ("tcp_keepalives_idle", "5"),
            ("tcp_keepalives_interval", "1"),
            ("tcp_keepalives_count", "3"),
            ("tcp_user_timeout", "5s"),
        ],
    );
    section(
        "Archiving is off until somebody names a command that really stores the files: one that only says so\n\
         # makes PostgreSQL throw the log away. Replicas get theirs by streaming and slots.",
        &[("archive_mode", "off")],
    );
    section(
        "Log",
        &[
            ("log_destination", "stderr"),
            ("logging_collector", "off"),
            ("log_line_prefix", "%m [%p] %q%u@%d %a "),
            ("log_timezone", "UTC"),
            ("log_checkpoints", "on"),
            ("log_lock_waits", "on"),
            ("log_statement", "none"),
            // The guard reads the reasons of a failed start.
            ("lc_messages", "C"),
        ],
    );
    section(
        "Modest, so that a laptop can run several",
        &[
            ("shared_buffers", "64MB"),
            ("timezone", "UTC"),
            ("default_text_search_config", "pg_catalog.english"),
        ],
    );
    if !config.settings.is_empty() {
        let own: Vec<(&str, &str)> = config.settings.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        section("From workspace.ncl", &own);
    }
    Ok(text)
}

/// The whole `pg_hba.conf`: TLS and SCRAM for everybody, a line for each address that may come in, and only the
/// admin through the socket.
pub fn pg_hba_conf(config: &PostgresConfig) -> Result<String, DataError> {
    let mut text = format!(
        "# Written by ha-guard at every start.\n\
         # type    database     user            address             method\n\
         local     all          {ADMIN_USER:<15}                     scram-sha-256\n"
    );
    for allowed in &config.allow {
        let address = network(allowed)?;
        let _ = writeln!(text, "hostssl   all          {:<15} {address:<19} scram-sha-256", "all");
        let _ = writeln!(
            text,
            "hostssl   replication  {REPLICATION_USER:<15} {address:<19} scram-sha-256"
        );
    }
    Ok(text)
}

/// `127.0.0.1` is `127.0.0.1/32`; anything but an address, a network or the whole name of a host is refused (`all`
/// would let everybody in). PostgreSQL takes a name for whoever's address leads to it and back again:
/// <https://www.postgresql.org/docs/current/auth-pg-hba-conf.html>.
fn network(allowed: &str) -> Result<String, DataError> {
    if is_host_name(allowed) {
        return Ok(allowed.to_owned());
    }
    let bad = || DataError::BadSetting {
        name: "allow".to_owned(),
        reason: format!("\"{allowed}\" is neither an address nor a host's name nor a network such as 10.0.0.0/16"),
    };
    let (address, bits) = match allowed.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (allowed, None),
    };
    let address: IpAddr = address.parse().map_err(|_| bad())?;
    let most: u8 = if address.is_ipv4() { 32 } else { 128 };
    let bits = match bits {
        Some(bits) => bits.parse().ok().filter(|bits| *bits <= most).ok_or_else(bad)?,
        None => most,
    };
    Ok(format!("{address}/{bits}"))
}

/// Of two parts at least, and none empty: a word alone may be a keyword of the file, and a dot in front would mean all
/// hosts of a domain.
fn is_host_name(text: &str) -> bool {
    let inner = |part: &str| part.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'-');
    let is_part = |part: &str| !part.is_empty() && !part.starts_with('-') && !part.ends_with('-') && inner(part);
    let last = text.rsplit('.').next().unwrap_or_default();
    text.contains('.') && text.split('.').all(is_part) && last.starts_with(|it: char| it.is_ascii_alphabetic())
}

fn check(settings: &BTreeMap<String, String>) -> Result<(), DataError> {
    let owned: Vec<String> = settings
        .keys()
        .filter(|name| OWNED.contains(&name.to_ascii_lowercase().as_str()))
        .cloned()
        .collect();
    if !owned.is_empty() {
        return Err(DataError::GuardOwned(owned));
    }
    for (name, value) in settings {
        let bad = |reason: String| DataError::BadSetting {
            name: name.clone(),
            reason,
        };
        let plain = name.to_ascii_lowercase();
        let starts_well = plain.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
        let is_word = plain
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '.');
        if !starts_well || !is_word || plain.starts_with("include") {
            return Err(bad("it is not the name of a setting".to_owned()));
        }
        if value.contains(['\n', '\r', '\0']) {
            return Err(bad("its value has more than one line".to_owned()));
        }
        if let Some((_, least)) = AT_LEAST.iter().find(|(it, _)| *it == plain)
            && value.trim().parse::<u32>().is_ok_and(|number| number < *least)
        {
            return Err(bad(format!("replication needs {least} or more")));
        }
        if plain == "wal_level" && !["replica", "logical"].contains(&value.trim()) {
            return Err(bad("replication needs replica or logical".to_owned()));
        }
        if plain == "archive_command" && LYING_ARCHIVERS.contains(&value.trim()) {
            return Err(bad(
                "it would report files as archived without storing them; leave archive_mode off instead".to_owned(),
            ));
        }
    }
    Ok(())
}

/// As a value in `postgresql.conf`.
pub(super) fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
pub(super) mod tests {
    use ha_core::agent::TlsFiles;

    use super::*;

    pub(in crate::postgres) fn config() -> PostgresConfig {
        PostgresConfig {
            bin_dir: "/usr/lib/postgresql/15/bin".into(),
            data_dir: "/ha/data/postgres".into(),
            log_file: "/ha/log/postgres.log".into(),
            address: "127.9.1.11".into(),
            public_address: "127.9.101.11".into(),
            port: 5432,
            socket_dir: "/run/ha/9/us-db-1".into(),
            settings: BTreeMap::new(),
            allow: vec!["127.0.0.1".into(), "10.0.0.0/16".into()],
            tls: TlsFiles {
                ca: "/ha/ca.pem".into(),
                cert: "/ha/cert.pem".into(),
                key: "/ha/key.pem".into(),
            },
            admin_password_file: "/ha/admin".into(),
            replication_password_file: "/ha/replication".into(),
            app_password_file: "/ha/app".into(),
            app_user: "app".into(),
            app_database: "app".into(),
        }
    }

    fn with(settings: &[(&str, &str)]) -> PostgresConfig {
        let settings = settings
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        PostgresConfig { settings, ..config() }
    }

    #[test]
    fn settings_of_the_user_come_last_and_cannot_leave_their_quotes() {
        let text = postgresql_conf(&with(&[("shared_buffers", "1GB"), ("my.note", r"it's \n")]), "us-db-1")
            .expect("good settings");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[lines.len() - 2], r"my.note = 'it''s \\n'");
        assert_eq!(lines[lines.len() - 1], "shared_buffers = '1GB'");
        assert!(text.contains("cluster_name = 'ha_us_db_1'"));
        assert!(text.contains("archive_mode = 'off'"));
    }

    #[test]
    fn every_setting_of_the_guard_is_named_at_once() {
        let error = postgresql_conf(&with(&[("Port", "1"), ("fsync", "off"), ("work_mem", "8MB")]), "a")
            .expect_err("two of them belong to the guard");
        assert!(error.to_string().contains("Port, fsync belong to the guard"), "{error}");
    }

    #[test]
    fn what_replication_needs_can_be_raised_and_not_lowered() {
        for (name, value) in [
            ("max_wal_senders", "3"),
            ("wal_level", "minimal"),
            ("archive_command", "/bin/true"),
        ] {
            assert!(
                postgresql_conf(&with(&[(name, value)]), "a").is_err(),
                "{name} = {value}"
            );
        }
        for (name, value) in [
            ("max_wal_senders", "30"),
            ("wal_level", "logical"),
            ("archive_mode", "on"),
        ] {
            assert!(
                postgresql_conf(&with(&[(name, value)]), "a").is_ok(),
                "{name} = {value}"
            );
        }
        for name in ["include", "include_dir", "a b", "x'y", ""] {
            assert!(postgresql_conf(&with(&[(name, "1")]), "a").is_err(), "{name}");
        }
        assert!(postgresql_conf(&with(&[("work_mem", "1\nfsync=off")]), "a").is_err());
    }

    #[test]
    fn nobody_comes_in_without_tls_and_a_password() {
        let text = pg_hba_conf(&config()).expect("good addresses");
        let lines: Vec<Vec<&str>> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(
            lines,
            [
                vec!["local", "all", "ha_admin", "scram-sha-256"],
                vec!["hostssl", "all", "all", "127.0.0.1/32", "scram-sha-256"],
                vec![
                    "hostssl",
                    "replication",
                    "ha_replication",
                    "127.0.0.1/32",
                    "scram-sha-256"
                ],
                vec!["hostssl", "all", "all", "10.0.0.0/16", "scram-sha-256"],
                vec![
                    "hostssl",
                    "replication",
                    "ha_replication",
                    "10.0.0.0/16",
                    "scram-sha-256"
                ],
            ]
        );
    }

    #[test]
    fn an_address_is_an_address() {
        let names = [
            "us_db.shop",
            "-a.shop",
            "a..shop",
            ".shop.internal",
            "a.shop. trust",
            "a.1",
            "a.shop/24",
            "1.2.3",
        ];
        for bad in ["all", "samenet", "10.0.0.0/33", "10.0.0/8", "0.0.0.0/0 trust", ""]
            .into_iter()
            .chain(names)
        {
            let config = PostgresConfig {
                allow: vec![bad.into()],
                ..config()
            };
            assert!(pg_hba_conf(&config).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_host_may_be_named() {
        let config = PostgresConfig {
            allow: vec!["us-db-1.us-east.shop.internal".into()],
            ..config()
        };
        let text = pg_hba_conf(&config).expect("a good name");
        let line = text
            .lines()
            .find(|line| line.contains("replication  "))
            .expect("a line for replicas");
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(
            words[2..],
            ["ha_replication", "us-db-1.us-east.shop.internal", "scram-sha-256"]
        );
    }
}
