//! Unit files for a server whose processes systemd keeps running: the guard, and the deadman beside it.
//!
//! There is none for PostgreSQL: only the guard starts it, after it has looked who leads. After a reboot nothing that
//! can be written to comes up by itself.

use std::path::{Path, PathBuf};

use crate::agent::{GuardConfig, TlsFiles};

/// Where things are on the server, and whose processes they are.
#[derive(Clone, Copy, Debug)]
pub struct Install<'a> {
    /// `ha-guard`
    pub program: &'a Path,
    /// `guard.json`
    pub config: &'a Path,
    /// PostgreSQL's own user: guard, deadman and database must be able to signal each other.
    pub user: &'a str,
    /// Files that come to the server later than the units do: without one of them neither is started, and a boot
    /// leaves both alone.
    pub needs: &'a [&'a Path],
}

/// `ha-guard.service` and what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    pub name: &'static str,
    pub text: String,
}

pub const GUARD: &str = "ha-guard.service";
pub const DEADMAN: &str = "ha-deadman.service";

impl Default for Install<'static> {
    /// Beside the folders of [`on_server`]; the packages of PostgreSQL make this user.
    fn default() -> Self {
        Self {
            program: Path::new("/usr/local/bin/ha-guard"),
            config: Path::new("/etc/ha/guard.json"),
            user: "postgres",
            needs: &[],
        }
    }
}

/// Where units are looked for.
pub const FOLDER: &str = "/etc/systemd/system";

/// Certificates on a server of its own: `ca.pem`, `cert.pem`, `key.pem`.
pub const TLS: &str = "/etc/ha/tls";
/// Passwords on a server of its own, a file each: `admin`, `replication`, `app`.
pub const SECRETS: &str = "/etc/ha/secrets";

/// The same node on a server of its own, where nobody else's files are: what it is told in `/etc/ha`, what lasts in
/// `/var/lib/ha`, what is read by people in `/var/log/ha`, what a reboot removes in `/run/ha`.
pub fn on_server(config: &GuardConfig) -> GuardConfig {
    let mut config = config.clone();
    let run = Path::new("/run/ha").join(&config.workspace);
    config.postgres.data_dir = PathBuf::from("/var/lib/ha/postgres");
    config.postgres.log_file = PathBuf::from("/var/log/ha/postgres.log");
    config.postgres.socket_dir.clone_from(&run);
    config.events = PathBuf::from("/var/log/ha/events.jsonl");
    config.failover.promise = PathBuf::from("/var/lib/ha/promise.json");
    config.failover.runtime_dir = run;
    let secrets = Path::new(SECRETS);
    config.postgres.tls = tls();
    config.store.tls = tls();
    config.postgres.admin_password_file = secrets.join("admin");
    config.postgres.replication_password_file = secrets.join("replication");
    config.postgres.app_password_file = secrets.join("app");
    config
}

/// Of every program on a server of its own.
pub fn tls() -> TlsFiles {
    let folder = Path::new(TLS);
    TlsFiles {
        ca: folder.join("ca.pem"),
        cert: folder.join("cert.pem"),
        key: folder.join("key.pem"),
    }
}

/// The deadman first: it is there before the guard is.
pub fn units(config: &GuardConfig, install: &Install) -> [Unit; 2] {
    [
        Unit {
            name: DEADMAN,
            text: deadman(config, install),
        },
        Unit {
            name: GUARD,
            text: guard(config, install),
        },
    ]
}

fn guard(config: &GuardConfig, install: &Install) -> String {
    let postgres = &config.postgres;
    let failover = &config.failover;
    let parent = |path: &'_ Path| path.parent().unwrap_or(path).to_owned();
    let mut written = vec![
        parent(&postgres.data_dir),
        parent(&postgres.log_file),
        parent(&config.events),
        parent(&failover.promise),
        postgres.socket_dir.clone(),
        failover.runtime_dir.clone(),
    ];
    written.sort();
    written.dedup();
    // What systemd makes itself cannot be named here: it is not there yet.
    written.retain(|path| path.strip_prefix("/run").is_err());
    let written: Vec<String> = written.iter().map(|path| word(path)).collect();
    let device = match &failover.watchdog {
        Some(device) => format!("DeviceAllow={} rw\n", word(device)),
        None => String::new(),
    };
    format!(
        "{}\
[Unit]
Description=ha guard of {} in {}, workspace {}
Wants=network-online.target {DEADMAN}
After=network-online.target {DEADMAN}
# However often it ends: without it nobody renews the lease, and the deadman stops the database.
StartLimitIntervalSec=0
{needs}
[Service]
Type=exec
User={user}
ExecStart={program} guard --config {file}
Restart=always
RestartSec=200ms
# A guard that died leaves its database running, and the next one takes it over. Told to stop, it stops the database.
KillMode=process
TimeoutStopSec=120
{runtime}{device}\
OOMScoreAdjust=-900
LimitNOFILE=65536
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
ReadWritePaths={written}

[Install]
WantedBy=multi-user.target
",
        HEAD,
        config.node,
        config.region,
        config.workspace,
        user = install.user,
        program = word(install.program),
        file = word(install.config),
        runtime = runtime(&failover.runtime_dir),
        needs = conditions(install.needs),
        written = written.join(" "),
    )
}

fn deadman(config: &GuardConfig, install: &Install) -> String {
    format!(
        "{}\
[Unit]
Description=ha deadman of {} in {}, workspace {}
Before={GUARD}
StartLimitIntervalSec=0
{needs}
[Service]
Type=exec
User={user}
ExecStart={program} deadman --config {file}
Restart=always
RestartSec=100ms
KillMode=process
{runtime}\
# It has to get its turn when nothing else does.
CPUSchedulingPolicy=rr
CPUSchedulingPriority=1
OOMScoreAdjust=-1000
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes

[Install]
WantedBy=multi-user.target
",
        HEAD,
        config.node,
        config.region,
        config.workspace,
        user = install.user,
        program = word(install.program),
        file = word(install.config),
        runtime = runtime(&config.failover.runtime_dir),
        needs = conditions(install.needs),
    )
}

/// The first line of every unit that is rendered.
pub const HEAD: &str = "# Rendered by ha from workspace.ncl: changes belong there, or into a drop-in.\n";

/// Lines of `[Unit]` that keep it from being started before these files are there; that is no failure.
pub fn conditions(needs: &[&Path]) -> String {
    needs
        .iter()
        .map(|path| format!("ConditionPathExists={}\n", escaped(path)))
        .collect()
}

/// The folder for what must not survive a reboot. Both units use it, and it outlives each of them.
fn runtime(dir: &Path) -> String {
    match dir.strip_prefix("/run") {
        Ok(below) => format!(
            "RuntimeDirectory={}\nRuntimeDirectoryMode=0700\nRuntimeDirectoryPreserve=yes\n",
            word(below)
        ),
        Err(_) => format!("ReadWritePaths={}\n", word(dir)),
    }
}

/// A path that is the whole of a setting's value: conditions take it without quotes.
fn escaped(path: &Path) -> String {
    path.to_string_lossy().replace('%', "%%")
}

/// One word of a unit file, whatever is in it.
fn word(path: &Path) -> String {
    let text = escaped(path);
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-%+@=:,".contains(c);
    if text.chars().all(plain) {
        return text;
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::model::{FailoverPolicy, TimingProfile};

    fn config(runtime_dir: &str) -> GuardConfig {
        let tls = serde_json::json!({"ca": "/ca", "cert": "/cert", "key": "/key"});
        let config = serde_json::json!({
            "workspace": "shop", "cluster": "postgres", "region": "us-east", "node": "us-db-1",
            "declared_primary": true, "listen": "10.0.0.4:8008", "source_address": null,
            "postgres": {
                "bin_dir": "/usr/lib/postgresql/15/bin", "data_dir": "/var/lib/ha/postgres",
                "log_file": "/var/log/ha/postgres.log", "address": "10.0.0.4", "public_address": "10.0.0.4",
                "port": 5432, "socket_dir": runtime_dir, "settings": {}, "allow": [], "tls": tls,
                "admin_password_file": "/etc/ha/admin", "replication_password_file": "/etc/ha/replication",
                "app_password_file": "/etc/ha/app", "app_user": "app", "app_database": "app",
            },
            "store": {"endpoints": [], "tls": tls}, "peers": [], "sample_interval_ms": 1000,
            "events": "/var/log/ha/events.jsonl",
            "failover": {
                "sync_mode": "strict", "timing": TimingProfile::Near.timing(),
                "policy": FailoverPolicy::default(), "nodes": [], "balancers": [],
                "promise": "/var/lib/ha/promise.json", "runtime_dir": runtime_dir,
            },
        });
        serde_json::from_value(config).expect("a complete configuration")
    }

    fn install<'a>() -> Install<'a> {
        Install {
            program: Path::new("/bin/sh"),
            config: Path::new("/etc/ha/guard.json"),
            user: "root",
            needs: &[],
        }
    }

    #[test]
    fn a_restarted_guard_ends_neither_database_nor_deadman() {
        let [deadman, guard] = units(&config("/run/ha/shop"), &install());
        assert_eq!((deadman.name, guard.name), (DEADMAN, GUARD));
        for unit in [&deadman, &guard] {
            for line in [
                "KillMode=process",
                "Restart=always",
                "RuntimeDirectory=ha/shop",
                "RuntimeDirectoryPreserve=yes",
            ] {
                assert!(unit.text.lines().any(|it| it == line), "{line} is not in {}", unit.text);
            }
            for word in ["PartOf=", "BindsTo=", "Requires="] {
                assert!(!unit.text.contains(word), "{word} would end one with the other");
            }
        }
        assert!(
            guard
                .text
                .contains("ExecStart=/bin/sh guard --config /etc/ha/guard.json\n")
        );
        assert!(guard.text.contains("ReadWritePaths=/var/lib/ha /var/log/ha\n"));
        assert!(deadman.text.contains("Before=ha-guard.service\n"));
    }

    #[test]
    fn on_a_server_of_its_own_nothing_lies_in_a_home_folder() {
        let units = units(&on_server(&config("/root/run")), &Install::default());
        for unit in &units {
            assert!(!unit.text.contains("/root"), "{}", unit.text);
            assert!(unit.text.contains("RuntimeDirectory=ha/shop\n"), "{}", unit.text);
        }
        let written = "ReadWritePaths=/var/lib/ha /var/log/ha\n";
        assert!(units[1].text.contains(written), "{}", units[1].text);
    }

    #[test]
    fn what_comes_later_is_waited_for_by_both() {
        let needs = [Path::new("/etc/ha/tls/key.pem"), Path::new("/etc/ha/50%")];
        let install = Install {
            needs: &needs,
            ..install()
        };
        for unit in units(&config("/run/ha/shop"), &install) {
            let wanted = "ConditionPathExists=/etc/ha/tls/key.pem\nConditionPathExists=/etc/ha/50%%\n\n[Service]";
            assert!(unit.text.contains(wanted), "{}", unit.text);
        }
        let plain = units(&config("/run/ha/shop"), &self::install());
        assert!(plain.iter().all(|unit| !unit.text.contains("Condition")));
    }

    #[test]
    fn on_a_server_of_its_own_secrets_have_a_folder_of_their_own() {
        let config = on_server(&config("/root/run"));
        let text = serde_json::to_string(&config).expect("JSON");
        assert_eq!(config.store.tls.key, Path::new("/etc/ha/tls/key.pem"));
        assert_eq!(config.postgres.app_password_file, Path::new("/etc/ha/secrets/app"));
        assert!(!text.contains("\"/key\"") && !text.contains("/etc/ha/admin"), "{text}");
    }

    #[test]
    fn paths_are_quoted_and_no_specifier_is_expanded() {
        assert_eq!(word(Path::new("/var/lib/ha")), "/var/lib/ha");
        assert_eq!(word(Path::new("/var/my data/50%")), "\"/var/my data/50%%\"");
        let [deadman, _] = units(&config("/srv/ha run"), &install());
        assert!(deadman.text.contains("ReadWritePaths=\"/srv/ha run\"\n"));
    }

    /// Where systemd is installed (`apt-get install systemd`), it has nothing to say about them.
    #[test]
    fn systemd_takes_them_without_a_warning() {
        let version = Command::new("systemd-analyze").arg("--version").output();
        if version.is_err() {
            eprintln!("systemd-analyze is not installed: skipped");
            return;
        }
        let folder = std::env::temp_dir().join(format!("ha-systemd-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let mut files = Vec::new();
        for unit in units(&config("/run/ha/shop"), &install()) {
            let file = folder.join(unit.name);
            std::fs::write(&file, unit.text).expect("written");
            files.push(file);
        }
        let out = Command::new("systemd-analyze")
            .args(["verify", "--man=no"])
            .args(&files)
            .output();
        std::fs::remove_dir_all(&folder).expect("removed");
        let out = out.expect("it was there a moment ago");
        let said = String::from_utf8_lossy(&out.stderr);
        let ours: Vec<&str> = said.lines().filter(|line| line.contains("ha-")).collect();
        assert!(out.status.success() && ours.is_empty(), "{said}");
    }
}
