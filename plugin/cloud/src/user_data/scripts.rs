//! The scripts of a server: what it does at its first start, and how names get into `/etc/hosts`.

use ha_core::config::GuardSource;

use super::{GUARD_PROGRAM, HAPROXY, HAPROXY_CONFIG, HOSTS, PGDG, units::TARGET};

/// What the first start is for, beyond users and folders.
pub(super) struct FirstBoot<'a> {
    /// Major version of PostgreSQL.
    pub(super) postgres: Option<u32>,
    pub(super) etcd: bool,
    pub(super) haproxy: bool,
    /// The server has units of the guard's program.
    pub(super) guard: Option<Option<&'a GuardSource>>,
}

/// Ends with an error at the first thing that is wrong, which `cloud-init status` then says; run again it goes on.
pub(super) fn first_boot(of: &FirstBoot) -> String {
    let mut out = String::from(
        "#!/bin/sh
# Run once by cloud-init, at the server's first start; it may be run again. What it says is in
# /var/log/cloud-init-output.log.
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
wrong() { echo \"ha: $*\" >&2; exit 1; }

command -v apt-get >/dev/null || wrong 'this image has no apt: choose Debian 12, Ubuntu 24.04 or later in workspace.ncl'
systemd-sysusers /etc/sysusers.d/ha.conf
systemd-tmpfiles --create /etc/tmpfiles.d/ha.conf
",
    );
    if let Some(major) = of.postgres {
        out += &format!(
            "
# The image's own PostgreSQL where that is version {major}, else the one of PostgreSQL's own archive: the package that
# is here already knows it, and its key.
if ! apt-cache policy postgresql-{major} | grep -q 'Candidate: [0-9]'; then
    {PGDG} -y
fi
apt-get -q -y -o DPkg::Lock::Timeout=600 install --no-install-recommends postgresql-{major}
"
        );
    }
    if of.etcd {
        out += "
etcd --version | grep -Eq '^etcd Version: (3\\.([4-9]|[1-9][0-9])|[4-9])' || wrong 'etcd 3.4 or later is needed'
";
    }
    if of.haproxy {
        out += &format!(
            "
{HAPROXY} -c -q -f {HAPROXY_CONFIG} || wrong 'this HAProxy does not take {HAPROXY_CONFIG}: 2.4 or later is needed'
"
        );
    }
    out += &format!("\nsystemctl daemon-reload\nsystemctl enable {TARGET}\n");
    match of.guard {
        Some(Some(fetch)) => out += &guard(fetch),
        Some(None) => {
            out += &format!(
                "
# config.toml names no guard: [cloud] guard = {{ url = \"https://...\", sha256 = \"...\" }}
echo 'ha: no guard was fetched: put ha-guard at {GUARD_PROGRAM}, then: systemctl start {TARGET}'
"
            );
        }
        None => {}
    }
    out += &format!("\n# What still waits for its files is left alone.\nsystemctl start --no-block {TARGET}\n");
    out
}

/// Another program than the one that was meant is never put in place.
fn guard(fetch: &GuardSource) -> String {
    format!(
        "
fetched=$(mktemp /var/tmp/ha-guard.XXXXXX)
trap 'rm -f \"$fetched\"' EXIT
curl --fail --silent --show-error --location --globoff --proto '=http,https' --retry 8 --retry-connrefused \\
    --output \"$fetched\" {}
echo \"{}  $fetched\" | sha256sum --check --status || wrong 'what was fetched as the guard has another SHA-256'
install -m 755 \"$fetched\" {GUARD_PROGRAM}
",
        shell_word(&fetch.url),
        fetch.sha256,
    )
}

/// One word of a shell, whatever is in it.
fn shell_word(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Replaces what it wrote before, and nothing else; whoever reads the file meanwhile reads a whole one.
pub(super) fn hosts() -> String {
    format!(
        "#!/bin/sh
# The names in {HOSTS} take the place of those it held last time. After a change of that file:
#   systemctl restart ha-hosts && systemctl try-reload-or-restart ha-haproxy
set -eu
whole=$(mktemp /etc/hosts.XXXXXX)
trap 'rm -f \"$whole\"' EXIT
{{
    sed '/^# ha: begin$/,/^# ha: end$/d' /etc/hosts
    echo '# ha: begin'
    # With a line end after the last line, if it has none.
    sed -e '$a\\' {HOSTS}
    echo '# ha: end'
}} >\"$whole\"
chmod 644 \"$whole\"
mv -f \"$whole\" /etc/hosts
trap - EXIT
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_cannot_leave_its_quotes() {
        assert_eq!(shell_word("https://a/$(b)'c"), r"'https://a/$(b)'\''c'");
    }
}
