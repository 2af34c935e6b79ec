//! The units that a server has beside those of guard and deadman, which are rendered in [`ha_core::systemd`].

use std::path::Path;

use ha_core::systemd::{HEAD, conditions};

use super::{
    APP_CONFIG, APP_ENV, APP_USER, ETCD, ETCD_CONFIG, GUARD_PROGRAM, HAPROXY, HAPROXY_CONFIG, HOSTS, HOSTS_SCRIPT, USER,
};

pub(super) const TARGET: &str = "ha.target";
pub(super) const HOSTS_UNIT: &str = "ha-hosts.service";
pub(super) const ETCD_UNIT: &str = "ha-etcd.service";
pub(super) const HAPROXY_UNIT: &str = "ha-haproxy.service";
pub(super) const APP_UNIT: &str = "ha-app.service";

/// Starts whatever of this server can be started: what waits for files that are not there yet is left alone.
pub(super) fn target(wants: &[&str]) -> String {
    format!(
        "{HEAD}\
[Unit]
Description=ha: all that this server is for
Wants={}

[Install]
WantedBy=multi-user.target
",
        wants.join(" ")
    )
}

/// `before` are the units that need the names.
pub(super) fn hosts(before: &[&str]) -> String {
    format!(
        "{HEAD}\
[Unit]
Description=ha: names of the workspace's servers
Before={}
{}
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={HOSTS_SCRIPT}
",
        before.join(" "),
        conditions(&[Path::new(HOSTS)]),
    )
}

pub(super) fn etcd(needs: &[&Path]) -> String {
    format!(
        "{HEAD}\
[Unit]
Description=ha: a member of the store
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0
{}
[Service]
# A member without a majority would never be ready; nobody waits for it here.
Type=exec
User={USER}
ExecStart={ETCD} --config-file {ETCD_CONFIG}
Restart=always
RestartSec=1s
TimeoutStopSec=10
OOMScoreAdjust=-900
LimitNOFILE=65536
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
ReadWritePaths=/var/lib/ha
",
        conditions(needs),
    )
}

pub(super) fn haproxy() -> String {
    format!(
        "{HEAD}\
[Unit]
Description=ha: the way to the databases
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0
{}
[Service]
Type=notify
User={USER}
ExecStartPre={HAPROXY} -c -q -f {HAPROXY_CONFIG}
ExecStart={HAPROXY} -Ws -f {HAPROXY_CONFIG}
# A file that it refuses never replaces the one that it runs with.
ExecReload={HAPROXY} -c -q -f {HAPROXY_CONFIG}
ExecReload=/bin/kill -USR2 $MAINPID
KillMode=mixed
SuccessExitStatus=143
Restart=always
RestartSec=1s
TimeoutStopSec=10
LimitNOFILE=65536
RuntimeDirectory=ha-haproxy
RuntimeDirectoryMode=0700
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
",
        conditions(&[Path::new(HOSTS)]),
    )
}

pub(super) fn app(needs: &[&Path]) -> String {
    format!(
        "{HEAD}\
[Unit]
Description=ha: the application
Wants=network-online.target
After=network-online.target {HAPROXY_UNIT}
StartLimitIntervalSec=0
{}
[Service]
Type=exec
User={APP_USER}
EnvironmentFile={APP_ENV}
ExecStart={GUARD_PROGRAM} app --config {APP_CONFIG}
Restart=always
RestartSec=1s
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
",
        conditions(needs),
    )
}
