#!/bin/sh
# Everything that has to hold, from a bare checkout on a bare machine. CI calls this and nothing else.
#
#   ./scripts/test.sh                  all parts
#   ./scripts/test.sh format scripts   only these
#
# A part that fails prints what it printed; the others run all the same, so that one run shows everything.
set -eu
self=$(readlink -f "$0")
root=${self%/scripts/*}
# shellcheck source=scripts/lib.sh
. "$root/scripts/lib.sh"
# shellcheck source=scripts/install.sh
. "$root/scripts/install.sh"

all='format lint judges unit scripts system newcomer'
for argument; do
    case " $all " in
        *" $argument "*) ;;
        *) die "no such part: $argument" "the parts are: $all" ;;
    esac
done
wanted=${*:-$all}

# Measured from a bare clone, with a margin.
needed_gb=20

# One profile for everything that is compiled to run.
export HA_PROFILE="${HA_PROFILE:-dev}" CARGO_TERM_COLOR="${CARGO_TERM_COLOR:-never}"
cd "$root"

# What speeds up the second build of a person is gigabytes for nothing where everything is built once.
target=${CARGO_TARGET_DIR:-$root/target}
[ -e "$target/debug/incremental" ] || export CARGO_INCREMENTAL="${CARGO_INCREMENTAL:-0}"
free=$(df -Pk "$root" | awk 'NR == 2 { print int($4 / 1048576) }')
[ -d "$target/debug" ] || [ "$free" -ge "$needed_gb" ] ||
    say "only $free GB are free here, and everything built and installed takes about $needed_gb: this may end with a full disk"

head_line "set-up"
# What only the tests need is installed, too.
testing=yes
install_everything
if ! cargo fmt --version >/dev/null 2>&1 || ! cargo clippy --version >/dev/null 2>&1; then
    have rustup || die "cargo fmt or cargo clippy is missing" "install rustfmt and clippy for this toolchain"
    say "rustup adds rustfmt and clippy"
    rustup component add rustfmt clippy
fi

# Everything that is started or written during the tests is under here. Short: the path of a socket has 107
# bytes at most. Open to others: as root, the databases run as another user.
scratch_root=$(mktemp -d /tmp/ha.XXXXXX)
chmod 755 "$scratch_root"
export TMPDIR="$scratch_root" XDG_CACHE_HOME="$scratch_root/cache"
# Prism's proxy, as the judges install it; tests that want it say so when it is not there.
export HA_PRISM="${HA_PRISM:-$XDG_CACHE_HOME/ha-judges/npm/node_modules/.bin/prism}"
logs=$scratch_root/logs
mkdir "$logs"

# ---------------------------------------------------------------- what is left behind

# One line each: our processes, what listens on 127.0.0.0/8, our folders. From /proc, since neither ps nor ss
# need be installed.
world() {
    for folder in /proc/[0-9]*; do
        name=$(cat "$folder/comm" 2>/dev/null) || continue
        case "$name" in
            ha-guard* | nu_plugin_ha | postgres | etcd | haproxy)
                # Its start time too: a number is used again.
                printf 'process %s %s %s\n' "${folder#/proc/}" "$name" \
                    "$(sed 's/.*) //' "$folder/stat" 2>/dev/null | cut -d ' ' -f 20)"
                ;;
        esac
    done
    # State 0A is listening; addresses are written backwards, so 127.x.y.z ends in 7F.
    awk '$4 == "0A" && substr($2, 7, 2) == "7F" { print "port", $2 }' /proc/net/tcp | sort -u
    for folder in /var/lib/ha/* /run/ha/* "${XDG_STATE_HOME:-$HOME/.local/state}/ha"/* "${XDG_RUNTIME_DIR:-/nonexistent}/ha"/* "/tmp/ha-$(id -u)"/*; do
        [ -e "$folder" ] && printf 'folder %s\n' "$folder"
    done
    return 0
}

left_behind() {
    # A process that was just told to end may need a moment, and the plugin goes with its shell.
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        world | sort >"$logs/after"
        rest=$(comm -13 "$logs/before" "$logs/after")
        folders=$(find "$scratch_root" -mindepth 1 -maxdepth 1 ! -name logs ! -name cache ! -name 'rustc*' ! -name 'cargo-*' | sort)
        [ -z "$rest$folders" ] && return 0
        sleep 0.5
    done
    [ -z "$rest" ] || printf '%s\n' "$rest"
    [ -z "$folders" ] || printf 'folder %s\n' "$folders"
    return 1
}

# ---------------------------------------------------------------- parts

part_format() { cargo fmt --all --check -- --color never; }

part_lint() { cargo clippy --workspace --all-targets --locked -- -D warnings; }

# Others judge the stand-ins that our providers are tested against. What they install is found by the tests after them.
part_judges() {
    ./tests/judges/cloud-init.sh --install || return 1
    ./tests/judges/judges.sh || return 1
    build && ./tests/judges/ansible.sh
}

# One run shows everything that fails.
part_unit() { cargo test --workspace --exclude ha-tests --locked --no-fail-fast; }

part_scripts() {
    build && ./tests/run.nu
}

# One at a time: the clusters share two cores, and each measures something.
part_system() {
    build && HA_PLUGIN="$(profile_folder)/nu_plugin_ha" cargo test -p ha-tests --locked --no-fail-fast -- --test-threads=1
}

# As somebody does who has just cloned this: one command up, one command down.
part_newcomer() {
    newcomer_up && newcomer_down && return 0
    show_state
    newcomer_down || true
    return 1
}

newcomer_home() {
    HA_STATE_HOME=$scratch_root/state HA_RUNTIME_DIR=$scratch_root/run
    export HA_STATE_HOME HA_RUNTIME_DIR
}

newcomer_up() {
    newcomer_home
    ./scripts/start.sh || return 1
    again=$(date +%s)
    ./scripts/start.sh || return 1
    say "again, with nothing to do: $(($(date +%s) - again)) s"
}

# The name is typed out, as `ha destroy` wants it.
newcomer_down() {
    newcomer_home
    workspace=$(sed -n 's/^ *workspace *= *"\([^"]*\)".*/\1/p' workspace.ncl | head -n 1)
    ./scripts/nu.sh -c "let failed = ha destroy $workspace | where error != null; if (\$failed | is-not-empty) { print \$failed; exit 1 }
        let rest = ha inventory | where status != absent; if (\$rest | is-not-empty) { print \$rest; exit 1 }" || return 1
    # What is kept on purpose; whatever else is in the folders is found at the end.
    rm -rf "$scratch_root/state/events"
    find "$scratch_root/state" "$scratch_root/run" -type d -empty -delete 2>/dev/null || true
}

# What a person needs to find the cause, when the newcomer's cluster did not come up.
show_state() {
    find "$scratch_root/state" -name '*.log' -size +0 2>/dev/null | sort | while read -r file; do
        printf '\n-- %s\n' "${file#"$scratch_root"/state/}"
        tail -n 15 "$file"
    done
    ./scripts/nu.sh -c 'ha status | print; ha health | where status != ok | print; ha events --last 20 | print' || true
}

# ---------------------------------------------------------------- running them

passed=0 failed=0 summary=''
stopped() {
    # Interrupted in the middle of the newcomer's part; the tests clean up after themselves.
    [ ! -d "$scratch_root/state" ] || newcomer_down || say "could not remove what runs under $scratch_root/state"
    rm -rf "$scratch_root"
}
trap stopped EXIT
trap 'exit 130' INT TERM HUP

finish() { # name seconds outcome
    summary="$summary$(printf '  %-10s %4s s  %s' "$1" "$2" "$3")
"
    case "$3" in
        ok) passed=$((passed + 1)) ;;
        *) failed=$((failed + 1)) ;;
    esac
}

world | sort >"$logs/before"
began=$(date +%s)
for name in $all; do
    case " $wanted " in *" $name "*) ;; *) continue ;; esac
    head_line "$name"
    started=$(date +%s)
    outcome=FAILED
    # The pipe hides how the part ended; a file tells.
    { "part_$name" 2>&1 && : >"$logs/$name.ok"; } | tee "$logs/$name"
    [ ! -e "$logs/$name.ok" ] || outcome=ok
    finish "$name" "$(($(date +%s) - started))" "$outcome"
done

head_line "what is left behind"
started=$(date +%s)
if left_behind; then outcome=ok; else outcome=FAILED; fi
finish left "$(($(date +%s) - started))" "$outcome"

head_line "summary"
# Once more, and last, since a long output is read from its end.
for name in $all; do
    [ -e "$logs/$name" ] && [ ! -e "$logs/$name.ok" ] || continue
    say "of $name:"
    grep -A 3 -E '^(FAILED|failed:|test .* FAILED|error(\[|:)|Diff in )|panicked at' "$logs/$name" |
        cut -c 1-400 | tail -n 40 || say "nothing in its output says why"
done
printf '%s' "$summary"
printf '%s passed, %s failed in %s s\n' "$passed" "$failed" "$(($(date +%s) - began))"
[ "$failed" -eq 0 ]
