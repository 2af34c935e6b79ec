#!/bin/sh
# Whether the real Ansible takes `ha inventory --ansible` for what it is: its own program reads the inventory script of
# this checkout, with every warning an error, and says which hosts it found in which groups.
#
#   tests/judges/ansible.sh
#
# The workspace is the one of the checkout, on the local target. One that is there already is left as it is; otherwise
# one is brought up in folders of its own and removed again.
#
#   HA_ANSIBLE   the folder with ansible-inventory in it; default: the one on PATH, else ansible-core from PyPI in a
#                virtual environment that is removed afterwards
set -eu
self=$(readlink -f "$0")
root=${self%/tests/*}
# shellcheck source=scripts/lib.sh
. "$root/scripts/lib.sh"
export HA_PROFILE="${HA_PROFILE:-dev}"

# The last one for Python 3.11; what it accepts, later ones do.
ansible_version=2.19.14

# Short: the path of a socket has 107 bytes at most. Open to others: as root, the databases run as another user.
scratch=$(mktemp -d /tmp/ha.XXXXXX)
chmod 755 "$scratch"
ours=no

ha() { "$root/scripts/nu.sh" -c "cd '$root'; $1"; }

leave() {
    status=$?
    trap - EXIT
    if [ "$ours" = yes ]; then
        ha 'ha destroy (ha inventory | where labels != null | get 0.labels.ws) | ignore' || status=1
    fi
    rm -rf "$scratch"
    exit "$status"
}
trap leave EXIT
trap 'exit 130' INT TERM

# ---------------------------------------------------------------- the judge

folder=${HA_ANSIBLE:-}
if [ -z "$folder" ] && have ansible-inventory; then
    folder=$(dirname "$(command -v ansible-inventory)")
fi
if [ -z "$folder" ]; then
    say "ansible-core $ansible_version from PyPI"
    folder=$scratch/venv/bin
    python3 -m venv "$scratch/venv"
    if ! "$folder/pip" --quiet --disable-pip-version-check install "ansible-core==$ansible_version"; then
        die "ansible-core could not be installed" "name the folder of an ansible-inventory that is there: HA_ANSIBLE=…"
    fi
fi
[ -x "$folder/ansible-inventory" ] || die "no ansible-inventory in $folder" "set HA_ANSIBLE to the folder it is in"

# Nothing of the user's is read, and nothing is forgiven.
: >"$scratch/ansible.cfg"
export HOME="$scratch" ANSIBLE_CONFIG="$scratch/ansible.cfg" ANSIBLE_HOME="$scratch/ansible" ANSIBLE_LOCALHOST_WARNING=False
export ANSIBLE_INVENTORY_ENABLED=script ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED=True
export ANSIBLE_TRANSFORM_INVALID_GROUP_CHARS=never

judge() {
    "$folder/ansible-inventory" -i "$root/scripts/ansible-inventory.nu" "$@" 2>"$scratch/said" || {
        cat "$scratch/said" >&2
        die "ansible-inventory $* refused the inventory"
    }
    if [ -s "$scratch/said" ]; then
        cat "$scratch/said" >&2
        die "ansible-inventory $* has something to say against the inventory"
    fi
}

# ---------------------------------------------------------------- something to look at

running() { ha 'ha inventory server | where status == running | length'; }

if [ "$(running)" = 0 ]; then
    export HA_STATE_HOME="$scratch/state" HA_RUNTIME_DIR="$scratch/run"
    judge --list >"$scratch/empty.json"
    python3 - "$scratch/empty.json" <<'PYTHON'
import json, sys

empty = json.load(open(sys.argv[1]))
assert empty["_meta"]["hostvars"] == {}, "nothing is there, and hosts are"
PYTHON
    say "nothing was provisioned, and Ansible sees nothing; bringing the workspace up"
    ours=yes
    ha 'ha provision | where error != null' >"$scratch/failed"
    [ "$(running)" != 0 ] || { cat "$scratch/failed" >&2; die "ha provision brought nothing up"; }
fi

# Who leads is agreed on after the databases run.
settled() {
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do
        [ "$(ha 'ha lag | where state not-in [primary streaming] | length')" = 0 ] && return 0
        sleep 1
    done
    ha 'ha lag' >&2
    die "the databases do not settle"
}

# ---------------------------------------------------------------- the judgement

judgement() {
    settled
    judge --list >"$scratch/list.json"
    judge --graph >"$scratch/graph.txt"
    ha 'ha inventory | to json' >"$scratch/inventory.json"
    ha 'ha lag | to json' >"$scratch/lag.json"
    python3 - "$scratch" <<'PYTHON'
"""What Ansible understood, beside what `ha inventory` and `ha lag` say."""
import json
import sys

folder = sys.argv[1]
read = lambda name: json.load(open(f"{folder}/{name}.json"))
understood, inventory, lag = read("list"), read("inventory"), read("lag")
variables = understood["_meta"]["hostvars"]
hosts = lambda group: understood.get(group, {}).get("hosts", [])

servers = {row["name"]: row for row in inventory if row["kind"] == "server" and row["address"]}
assert servers, "no server is there to look at"
assert set(variables) == set(servers), (sorted(variables), sorted(servers))
for name, row in servers.items():
    seen = variables[name]
    assert seen["ansible_host"] == row["address"], (name, seen)
    assert seen["private_address"] == row["private_address"], (name, seen)
    assert (seen["region"], seen["provider"]) == (row["region"], row["provider"]), (name, seen)
    assert name in hosts("region_" + row["region"].replace("-", "_")), name
    assert name in hosts("provider_" + row["provider"]), name
    # Of group variables, every host has a copy.
    assert seen["target"] == "local" and seen["workspace"], (name, seen)

leads = [row["node"] for row in lag if row["role"] == "primary"]
assert leads == hosts("db_servers")[:1], (leads, hosts("db_servers"))
assert [variables[name]["role"] for name in hosts("db_servers")[:1]] == ["primary"]
assert {variables[name]["role"] for name in hosts("db_servers")[1:]} <= {"replica"}
databases = {row["node"] for row in lag}
assert set(hosts("db_servers")) == databases, (hosts("db_servers"), databases)
assert set(hosts("app_servers")) == set(servers) - databases, hosts("app_servers")
assert hosts("store_servers"), "the store's members have servers"
print(f"Ansible found {len(variables)} hosts, {leads[0]} the first of db_servers")
PYTHON
}

judgement
if [ "$ours" = yes ]; then
    # Another leads now, whom nobody declared: it is the first, and by what is observed.
    to=$(ha 'ha lag | where role == replica | get 0.region')
    ha "ha switchover --to $to | where error != null" >"$scratch/failed"
    judgement
fi
