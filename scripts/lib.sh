# Shared by start.sh, test.sh and nu.sh; sourced, never run. Plain POSIX sh.
# shellcheck shell=sh
#
# The caller sets `root` to the folder of the checkout before sourcing this.

: "${root:?set root to the folder of the checkout}"

# Shell and plugin move in step: Nushell refuses a plugin of another minor version.
nu_version=0.115.1

say() { printf '%s\n' "$*" >&2; }
head_line() { printf '\n== %s\n' "$*" >&2; }
die() {
    printf 'error: %s\n' "$1" >&2
    shift
    for line in "$@"; do printf '       %s\n' "$line" >&2; done
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# version_at_least 1.96.0 1.95
version_at_least() {
    [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

# ---------------------------------------------------------------- profiles and what they build

# `release` is what people run, `dev` is what the tests build anyway.
profile() { printf '%s\n' "${HA_PROFILE:-release}"; }

profile_folder() {
    case "$(profile)" in
        dev | test) folder=debug ;;
        *) folder=$(profile) ;;
    esac
    printf '%s/%s\n' "${CARGO_TARGET_DIR:-$root/target}" "$folder"
}

build() {
    (cd "$root" && cargo build --profile "$(profile)" --locked -p nu_plugin_ha -p ha-guard)
}

# ---------------------------------------------------------------- Nushell

# Where our own copy lives: named by its version, so that it never stands in the way of another.
nu_home() {
    if [ "$(id -u)" -eq 0 ]; then
        printf '/usr/local/lib/ha/nushell-%s\n' "$nu_version"
    else
        printf '%s/ha/nushell-%s\n' "${XDG_DATA_HOME:-$HOME/.local/share}" "$nu_version"
    fi
}

is_our_nu() { [ -x "$1" ] && [ "$("$1" --version 2>/dev/null)" = "$nu_version" ]; }

# The npm package puts a Node script on PATH that starts the real binary as a child. We want the binary:
# it starts ten times faster, and signals reach it.
native_nu() {
    real=$(readlink -f "$1") || return 1
    if [ "$(head -c 2 "$real")" != '#!' ]; then
        printf '%s\n' "$real"
        return 0
    fi
    for binary in "${real%/lib/*}"/node_modules/@nushell/linux-*/bin/nu \
        "${real%/nushell/lib/*}"/@nushell/linux-*/bin/nu; do
        [ -x "$binary" ] && { printf '%s\n' "$binary"; return 0; }
    done
    return 1
}

# Prints the path of a native Nushell of the right version: HA_NU, our own copy, then PATH.
find_nu() {
    if [ -n "${HA_NU:-}" ]; then
        is_our_nu "$HA_NU" || return 1
        printf '%s\n' "$HA_NU"
        return 0
    fi
    # Named by its version and written by us: no need to start it to know it.
    for binary in "$(nu_home)/nu" "/usr/local/lib/ha/nushell-$nu_version/nu"; do
        [ -x "$binary" ] && { printf '%s\n' "$binary"; return 0; }
    done
    on_path=$(command -v nu 2>/dev/null) || return 1
    native=$(native_nu "$on_path") || return 1
    is_our_nu "$native" || return 1
    printf '%s\n' "$native"
}
