#!/bin/sh
# Runs the Route 53 of ministack, an emulator of AWS that others wrote. It says on standard error where it listens.
# Installed once into a cache folder of its own; HA_JUDGES names another one. It ends when its standard input does.
set -eu

here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
version=$(sed -n 's/^ministack==//p' "$here/ministack.txt")
cache=${HA_JUDGES:-${XDG_CACHE_HOME:-$HOME/.cache}/ha-judges}
room=$cache/ministack-$version

if [ ! -e "$room/ready" ]; then
    mkdir -p "$cache"
    # Tests start side by side; one of them installs, the others wait.
    exec 9>"$cache/ministack.lock"
    flock 9
    if [ ! -e "$room/ready" ]; then
        rm -rf "$room"
        python3 -m venv "$room" >&2
        "$room/bin/python" -m pip install --quiet --disable-pip-version-check -r "$here/ministack.txt" >&2
        touch "$room/ready"
    fi
    flock -u 9
    exec 9>&-
fi

exec "$room/bin/python" "$here/serve_ministack.py"
