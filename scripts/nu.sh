#!/bin/sh
# Starts the right Nushell with the plugin of this checkout and hands it all arguments:
#
#   scripts/nu.sh                       a shell in which `ha` works
#   scripts/nu.sh -c 'ha lag'           one pipeline
#   scripts/nu.sh scripts/bench.nu      a script; the first line of every script here comes this way
#
# Nothing is registered and nothing of the user's is read: `-n` matters, because an older `ha` in the
# user's plugin registry would win over --plugins. Another `nu` on PATH is left alone.
#
#   HA_NU       another binary of the same version
#   HA_PLUGIN   another build of the plugin; default: target/release/nu_plugin_ha
#   HA_PROFILE  `dev` takes target/debug instead
set -eu
self=$(readlink -f "$0")
root=${self%/scripts/*}
# shellcheck source=scripts/lib.sh
. "$root/scripts/lib.sh"

HA_PLUGIN=${HA_PLUGIN:-$(profile_folder)/nu_plugin_ha}
[ -x "$HA_PLUGIN" ] || die "the plugin is not there: $HA_PLUGIN" "build it, and what it needs: $root/scripts/start.sh"

if ! HA_NU=$(find_nu); then
    found=$(command -v nu 2>/dev/null && nu --version 2>/dev/null) || found='none on PATH'
    die "Nushell $nu_version is not there (found: $(printf '%s' "$found" | tr '\n' ' '))" \
        "the plugin speaks the protocol of exactly this version; $root/scripts/start.sh installs it beside yours"
fi

# For scripts that start a shell of their own.
export HA_NU HA_PLUGIN
exec "$HA_NU" -n --plugins "$HA_PLUGIN" "$@"
