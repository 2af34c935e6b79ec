#!/bin/sh
# From a bare checkout to three regions on this machine: installs what is missing, builds, deploys, shows.
# Run it again at any time: it does what is left to do, which mostly is nothing.
set -eu
self=$(readlink -f "$0")
root=${self%/scripts/*}
# shellcheck source=scripts/lib.sh
. "$root/scripts/lib.sh"
# shellcheck source=scripts/install.sh
. "$root/scripts/install.sh"

usage() {
    cat <<'END'
usage: ./scripts/start.sh [--install-only | --no-deploy]

  --install-only  install what is missing, and stop
  --no-deploy     install and build, and stop

  HA_PROFILE      `dev` builds without optimisation (default: release)
  HA_STATE_HOME   where the local target keeps its folders (default: ~/.local/state/ha, or /var/lib/ha as root)
END
}

until=deploy
for argument; do
    case "$argument" in
        --install-only) until=install ;;
        --no-deploy) until=build ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; die "unknown argument: $argument" ;;
    esac
done

[ "$(uname -s)" = Linux ] || die "the local target needs Linux: it reads /proc and uses the addresses of 127.0.0.0/8" \
    "in a virtual machine or a container with Debian this script does the rest"

head_line "install"
install_everything
[ "$until" = install ] && exit 0

head_line "build ($(profile); minutes the first time, a second afterwards)"
build
[ "$until" = build ] && exit 0

head_line "deploy"
export HA_PLUGIN="${HA_PLUGIN:-$(profile_folder)/nu_plugin_ha}"
"$root/deploy.nu"

head_line "what is there now"
# From the checkout, so that `ha` finds its workspace.
cd "$root"
"$root/scripts/nu.sh" -c 'ha regions | select region provider location role servers database load_balancer | print; ha status | print; ha lag | print'

cat <<'END'

Try next:
  ./scripts/nu.sh -c 'ha health | where status != ok'   what is not well; empty when all is
  ./scripts/nu.sh -c 'ha inventory | group-by kind'     everything that exists
  ./scripts/nu.sh                                       a shell with `ha` in it: type ha and press Tab

Everything goes away again with: ./scripts/nu.sh -c 'ha destroy shop'
END
