# Installs what is missing; sourced after lib.sh by start.sh and test.sh. Plain POSIX sh.
# shellcheck shell=sh
#
# install_everything says what it is about to do before it does it, asks apt for nothing that is there,
# and leaves no service of the packages running.

: "${nu_version:?source lib.sh first}"
# As in Cargo.toml; nu-plugin asks for it.
rust_version=1.95

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

check_rust() {
    if ! have cargo && [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
        PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
    fi
    if ! have cargo; then
        if [ -n "${SUDO_USER:-}" ]; then
            die "no cargo for the user $(id -un)" \
                "run this as $SUDO_USER, without sudo: it asks for sudo itself where it needs it"
        fi
        die "no Rust toolchain: cargo is not on PATH" \
            "Rust $rust_version or newer is needed; https://rustup.rs installs it:" \
            "  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh"
    fi
    found=$(cargo --version | cut -d ' ' -f 2)
    version_at_least "$found" "$rust_version" && return 0
    if have rustup; then
        die "cargo $found is too old: Rust $rust_version or newer is needed" "rustup update stable"
    fi
    die "cargo $found is too old: Rust $rust_version or newer is needed" \
        "distributions are often behind; https://rustup.rs installs the current one beside it"
}

# ---------------------------------------------------------------- what is there

# 13 is the oldest version whose replicas can change their primary without a restart.
have_postgres() {
    for binary in /usr/lib/postgresql/*/bin/postgres /usr/pgsql-*/bin/postgres; do
        [ -x "$binary" ] || continue
        version_at_least "$("$binary" --version | sed 's/[^0-9]*\([0-9.]*\).*/\1/')" 13 && return 0
    done
    have postgres && version_at_least "$(postgres --version | sed 's/[^0-9]*\([0-9.]*\).*/\1/')" 13
}

# Debian keeps haproxy in /usr/sbin, which is not on the PATH of ordinary users.
have_haproxy() { have haproxy || [ -x /usr/sbin/haproxy ]; }

have_protobuf_sources() {
    for folder in /usr/include /usr/local/include /opt/homebrew/include; do
        [ -e "$folder/google/protobuf/timestamp.proto" ] && return 0
    done
    return 1
}

# One line per missing thing: the Debian package, and what it is for.
missing_packages() {
    have cc || printf 'gcc|compiles the C parts of the cryptography that TLS needs\n'
    [ -e /usr/include/stdlib.h ] || printf 'libc6-dev|headers for the C compiler\n'
    have protoc || printf 'protobuf-compiler|the client of etcd is generated when it is built\n'
    have_protobuf_sources || printf 'libprotobuf-dev|descriptions that protobuf-compiler reads\n'
    have_postgres || printf 'postgresql|the databases, version 13 or newer; no cluster of its own is made\n'
    have etcd || printf 'etcd-server|the agreement store, one member per region\n'
    # Debian keeps it apart from the server.
    have etcdctl || printf 'etcd-client|etcdctl, to save and to restore the store\n'
    have_haproxy || printf 'haproxy|the load balancer of each region\n'
    # Node 18 and its npm are in Debian 12; only to fetch the package, the shell itself is a native binary.
    [ -z "${testing:-}" ] || have systemd-analyze || printf 'systemd|only for the tests: it checks the units that are shipped\n'
    # The shell has a `kill` of its own; programs need the one of the file system.
    [ -z "${testing:-}" ] || [ -x /bin/kill ] || [ -x /usr/bin/kill ] || printf 'procps|only for the tests: they send signals\n'
    # Judges of the tests come from PyPI and npm.
    [ -z "${testing:-}" ] || python3 -c 'import ensurepip, venv' 2>/dev/null || printf 'python3-venv|only for the tests: judges and emulators that others wrote\n'
    [ -z "${testing:-}" ] || have curl || printf 'curl|only for the tests: the judges ask with it\n'
    [ -z "${testing:-}" ] || have npm || printf 'npm|only for the tests: Prism is a judge of theirs\n'
    find_nu >/dev/null || have npm || printf 'npm|fetches Nushell %s from its npm package\n' "$nu_version"
}

# ---------------------------------------------------------------- installing

# Debian's packages start their services when they are installed. Nothing here needs them: ha starts its own
# processes on its own addresses.
apt_install() {
    scratch=$(mktemp -d)
    no_start=/usr/sbin/policy-rc.d
    no_cluster=/etc/postgresql-common/createcluster.d/ha.conf
    wrote_no_start='' wrote_no_cluster=''
    # A policy that the administrator wrote stays as it is, and so does a file of an earlier run.
    trap 'put_back' EXIT
    trap 'exit 130' INT TERM HUP
    if [ ! -e "$no_start" ] && [ ! -L "$no_start" ]; then
        wrote_no_start=yes
        printf '#!/bin/sh\n# For the time of an installation by ha: start no service.\nexit 101\n' >"$scratch/policy"
        as_root install -m 755 "$scratch/policy" "$no_start"
    fi
    if [ ! -e "$no_cluster" ]; then
        wrote_no_cluster=yes
        printf '# For the time of an installation by ha: make no cluster.\ncreate_main_cluster = false\n' >"$scratch/cluster"
        as_root mkdir -p "${no_cluster%/*}"
        as_root install -m 644 "$scratch/cluster" "$no_cluster"
    fi

    log=$scratch/apt.log
    as_root apt-get update -q >"$log" 2>&1 || say "apt-get update failed; going on with the package lists that are there"
    # shellcheck disable=SC2086 # a list of names
    if ! as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $1 >>"$log" 2>&1; then
        tail -n 30 "$log" >&2
        die "apt-get could not install: $1" "its last words are above; install them by hand and run this again"
    fi

    # Where the policy did not hold (an administrator's own), and for the next boot.
    if have systemctl; then
        for package in $1; do
            case "$package" in
                postgresql) unit=postgresql.service ;;
                etcd-server) unit=etcd.service ;;
                haproxy) unit=haproxy.service ;;
                *) continue ;;
            esac
            as_root systemctl stop "$unit" >>"$log" 2>&1 || true # without a running systemd nothing was started
            as_root systemctl disable "$unit" >>"$log" 2>&1 || say "could not disable $unit; it may start at the next boot"
        done
    fi
    put_back
    trap - EXIT INT TERM HUP
}

put_back() {
    [ -z "$wrote_no_start" ] || as_root rm -f "$no_start"
    [ -z "$wrote_no_cluster" ] || as_root rm -f "$no_cluster"
    rm -rf "$scratch"
}

# Nushell from its npm package, into a folder of its own; npm checks the package against its checksum.
install_nu() {
    home=$(nu_home)
    mkdir -p "${home%/*}"
    staging=$(mktemp -d "${home%/*}/.nushell.XXXXXX")
    trap 'rm -rf "$staging"' EXIT
    trap 'exit 130' INT TERM HUP
    if ! npm install --prefix "$staging" --no-save --no-audit --no-fund --ignore-scripts --loglevel=error \
        "nushell@$nu_version" >"$staging/npm.log" 2>&1; then
        tail -n 20 "$staging/npm.log" >&2
        die "npm could not fetch nushell@$nu_version" "its last words are above; or set HA_NU to a Nushell $nu_version of yours"
    fi
    native=$(find "$staging/node_modules/@nushell" -path '*/bin/nu' -type f 2>/dev/null | head -n 1)
    [ -n "$native" ] || die "the npm package nushell has no binary for $(uname -sm)" \
        "build it (cargo install nu --version $nu_version --locked) and set HA_NU to it"
    chmod 755 "$native"
    mkdir -p "$home"
    # Renamed into place: whoever runs the old file keeps it, and a half-written one is never seen.
    mv -f "$native" "$home/nu"
    rm -rf "$staging"
    trap - EXIT INT TERM HUP
    is_our_nu "$home/nu" || die "$home/nu does not run, or is not $nu_version"
}

# `nu` for the person who types it, when that name is free. Ours is found without it.
link_nu() {
    if [ "$(id -u)" -eq 0 ]; then bin=/usr/local/bin; else bin=$HOME/.local/bin; fi
    taken=$(command -v nu 2>/dev/null || true)
    if [ -n "$taken" ] || [ -e "$bin/nu" ] || [ -L "$bin/nu" ]; then
        return 0
    fi
    mkdir -p "$bin"
    ln -s "$1" "$bin/nu"
    say "linked $bin/nu"
}

install_everything() {
    check_rust
    missing=$(missing_packages)
    wanted_nu=''
    find_nu >/dev/null || wanted_nu=yes
    if [ -n "${HA_NU:-}" ] && [ -n "$wanted_nu" ]; then
        die "HA_NU is not a Nushell $nu_version: $HA_NU" "unset it to let this script install one"
    fi
    if [ -z "$missing$wanted_nu" ]; then
        say "everything is installed already"
        HA_NU=$(find_nu)
        export HA_NU
        return 0
    fi

    say "about to install:"
    [ -z "$missing" ] || printf '%s\n' "$missing" | while IFS='|' read -r package why; do
        printf '  %-18s %s\n' "$package" "$why" >&2
    done
    [ -z "$wanted_nu" ] || printf '  %-18s %s\n' "nushell $nu_version" "the shell, into $(nu_home)" >&2

    if [ -n "$missing" ]; then
        names=$(printf '%s\n' "$missing" | cut -d '|' -f 1 | tr '\n' ' ' | sed 's/ $//')
        have apt-get || die "no apt-get here, and this script knows only Debian's packages" \
            "install what the list above names (on Debian: $names) by this system's means, and run this again" \
            "PostgreSQL 13 or newer and HAProxy 2.4 or newer are needed; etcd 3.4 or newer"
        if [ "$(id -u)" -ne 0 ] && ! have sudo; then
            die "installing packages needs root, and there is no sudo" \
                "as root: apt-get install --no-install-recommends $names" \
                "then run this again as $(id -un)"
        fi
        say "by apt; the packages' own services stay stopped"
        apt_install "$names"
    fi
    if [ -n "$wanted_nu" ]; then
        install_nu
        link_nu "$(nu_home)/nu"
    fi
    HA_NU=$(find_nu) || die "Nushell $nu_version was installed and is not found" "set HA_NU to its path"
    export HA_NU
}
