#!/bin/sh
# Runs moto, an emulator of AWS that others wrote: moto.sh [arguments of moto_server]
# Installed once into a cache folder of its own; HA_JUDGES names another one. It ends when its standard input does.
set -eu

here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
version=$(sed -n 's/^moto.*==//p' "$here/requirements.txt")
cache=${HA_JUDGES:-${XDG_CACHE_HOME:-$HOME/.cache}/ha-judges}
room=$cache/moto-$version

if [ ! -e "$room/ready" ]; then
    mkdir -p "$cache"
    # Tests start side by side; one of them installs, the others wait.
    exec 9>"$cache/moto.lock"
    flock 9
    if [ ! -e "$room/ready" ]; then
        rm -rf "$room"
        python3 -m venv "$room" >&2
        "$room/bin/python" -m pip install --quiet --disable-pip-version-check -r "$here/requirements.txt" >&2
        touch "$room/ready"
    fi
    flock -u 9
    exec 9>&-
fi

# What AWS refuses, moto takes unless it is told otherwise.
MOTO_ENABLE_AMI_VALIDATION=true
MOTO_ENABLE_KEYPAIR_VALIDATION=true
MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION=true
export MOTO_ENABLE_AMI_VALIDATION MOTO_ENABLE_KEYPAIR_VALIDATION MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION
exec "$room/bin/python" "$here/serve.py" "$@"
