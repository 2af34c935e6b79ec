#!/bin/sh
# Outside judges for the stand-ins: the providers' own API descriptions (Prism, Schemathesis) and the providers' own
# clients (hcloud, pydo). Fails when one of them finds anything wrong with a stand-in.
#
#   tests/judges/judges.sh              # both providers
#   tests/judges/judges.sh hetzner      # one
#
# HA_SPECS      folder of the descriptions; ../shared/specs beside the project by default
# HA_JUDGES     where the judges are installed and their logs go; kept between runs
# HA_STAND_IN   a built ha-stand-in; built by cargo otherwise
#
# Where the descriptions are absent this says so and succeeds: a plain clone cannot be judged.

set -u

here=$(cd "$(dirname "$0")" && pwd)
project=$(cd "$here/../.." && pwd)
specs=${HA_SPECS:-$project/../shared/specs}
scratch=${HA_JUDGES:-${XDG_CACHE_HOME:-$HOME/.cache}/ha-judges}

for file in hetzner.cloud.v1.openapi31.json digitalocean.v2.openapi.json digitalocean.v2.strict.openapi.json; do
    if [ ! -f "$specs/$file" ]; then
        echo "SKIPPED: the judges have nothing to judge by, there is no $specs/$file (set HA_SPECS)" >&2
        exit 0
    fi
done
specs=$(cd "$specs" && pwd)

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# What a judge is, is fixed: a newer one judges by a newer API. hcloud 2.27 reads an action from every deletion,
# which the description of July 2026 does not have; 2.26 is the last that does not.
prism_version=5.14.2
requirements="hcloud==2.26.0 pydo==0.44.0 schemathesis==4.32.5"

mkdir -p "$scratch" || fail "cannot make $scratch"
prism_program=$scratch/npm/node_modules/.bin/prism
if [ "$(cat "$scratch/prism.version" 2>/dev/null)" != "$prism_version" ]; then
    npm install --prefix "$scratch/npm" --no-audit --no-fund "@stoplight/prism-cli@$prism_version" \
        >"$scratch/npm.log" 2>&1 || fail "npm could not install Prism: $(tail -n 5 "$scratch/npm.log")"
    echo "$prism_version" >"$scratch/prism.version"
fi
if [ "$(cat "$scratch/python.version" 2>/dev/null)" != "$requirements" ]; then
    python3 -m venv "$scratch/venv" || fail "python3 -m venv does not work"
    # shellcheck disable=SC2086 # one word each
    "$scratch/venv/bin/pip" install --quiet $requirements >"$scratch/pip.log" 2>&1 \
        || fail "pip could not install the clients: $(tail -n 5 "$scratch/pip.log")"
    echo "$requirements" >"$scratch/python.version"
fi

stand_in_program=${HA_STAND_IN:-}
if [ -z "$stand_in_program" ]; then
    (cd "$project" && cargo build --quiet --package ha-stand-ins) || fail "the stand-ins do not build"
    stand_in_program=${CARGO_TARGET_DIR:-$project/target}/debug/ha-stand-in
fi
[ -x "$stand_in_program" ] || fail "$stand_in_program is not there"

# shellcheck source=tests/judges/prism.sh
. "$here/prism.sh"
judge_pids=
trap 'judge_abandon' EXIT
trap 'exit 130' INT TERM

token=judges
failed=

# The provider's own client creates, lists, changes and deletes one of each kind, through Prism.
client() {
    echo "== $1: the official client, through Prism"
    judge_open "$1" --token "$token" --rate-limit 1000000 --state-ms 250 || { failed="$failed $1-start"; return; }
    timeout 300 "$scratch/venv/bin/python" "$here/client_$1.py" "$judge_prism" "$token" || failed="$failed $1-client"
    judge_close || failed="$failed $1-prism"
}

# Schemathesis makes requests from the description, right ones and wrong ones, and holds the answers against it.
# Not asked: whether everything the description allows is accepted (a name that is taken is not).
# The third argument says which paths the stand-in has, the fourth which operations of these it has not.
fuzz() {
    echo "== $1: Schemathesis"
    judge_out=$scratch/stand-in-$1.out
    : >"$judge_out"
    "$stand_in_program" "$1" --token "$token" --rate-limit 100000000 >"$judge_out" 2>&1 &
    judge_pids=$!
    judge_wait "$judge_out" 'http://' || { failed="$failed $1-start"; judge_abandon; return; }
    # It writes into the folder that it runs in.
    (cd "$scratch" && timeout 600 "$scratch/venv/bin/schemathesis" run "$specs/$2" --url "$(head -n 1 "$judge_out")" \
        --header "Authorization: Bearer $token" --exclude-checks positive_data_acceptance \
        --include-path-regex "$3" --exclude-operation-id-regex "$4" \
        --phases examples,coverage,fuzzing --max-examples 5 --seed 1 --no-shrink --generation-database none \
        --suppress-health-check all --warnings off --no-color >"$scratch/schemathesis-$1.log" 2>&1)
    code=$?
    judge_abandon
    if [ "$code" -ne 0 ]; then
        cat "$scratch/schemathesis-$1.log" >&2
        failed="$failed $1-schemathesis"
        return
    fi
    grep -E '^ +(Tested|[0-9]+ generated)|generated' "$scratch/schemathesis-$1.log"
}

hetzner() {
    client hetzner
    fuzz hetzner hetzner.cloud.v1.openapi31.json \
        '^/(servers|networks|load_balancers|load_balancer_types|firewalls|volumes|primary_ips|placement_groups|ssh_keys|certificates|actions|locations|server_types|images|pricing)(/|$)' \
        '_iso$|_rescue$|_console$|_password$|_dns_ptr$|_metrics$|certificates?_actions?$|images?_actions?$|^(create|update|delete|retry)_certificate$|^(update|delete)_image$|^create_server_image$|^change_image_protection$'
}

digitalocean() {
    client digitalocean
    # The strict description has a keyword that is not of OpenAPI 3.0; here it is the provider's own.
    fuzz digitalocean digitalocean.v2.openapi.json \
        '^/v2/(account($|/keys)|actions|regions|sizes$|images($|/\{image_id\}$)|tags|vpcs($|/\{vpc_id\}($|/members))|droplets($|/\{droplet_id\}($|/actions|/firewalls))|load_balancers($|/\{lb_id\}($|/droplets|/forwarding))|firewalls|volumes($|/actions|/\{volume_id\}($|/actions))|reserved_ips|domains|databases($|/\{database_cluster_uuid\}($|/resize|/upgrade|/firewall$|/replicas))|certificates)' \
        '^(certificates_(create|delete)|images_(create_custom|update|delete))$'
}

case ${1:-all} in
    all) hetzner; digitalocean ;;
    hetzner) hetzner ;;
    digitalocean) digitalocean ;;
    *) fail "no such provider: $1 (hetzner, digitalocean)" ;;
esac

if [ -n "$failed" ]; then
    fail "$failed (logs in $scratch)"
fi
echo "The judges found nothing wrong."
