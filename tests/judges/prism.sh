# shellcheck shell=sh disable=SC2154 # what it is sourced with is set there
# Functions for scripts of sh: a stand-in with Prism's proxy in front of it, and what Prism found wrong.
#
# Sourced, with these set: `stand_in_program` (ha-stand-in), `prism_program` (prism), `specs` (the folder of the
# descriptions), `scratch` (a folder for logs). Prism and the stand-in are ended by `judge_close` or `judge_abandon`.

# The path that is asked for at the end: when its line is in the log, all that came before is.
judge_last=/ha-judge-is-done

# judge_open PROVIDER [OPTION ...]: afterwards a stand-in with these options runs, and Prism in front of it.
# Sets `judge_stand_in` and `judge_prism`, the two addresses to call, and `judge_log`.
judge_open() {
    judge_provider=$1
    shift
    case $judge_provider in
        hetzner) judge_description=hetzner.cloud.v1.openapi31.json ;;
        digitalocean) judge_description=digitalocean.v2.strict.openapi.json ;;
        *) echo "no such provider: $judge_provider" >&2; return 2 ;;
    esac
    judge_log=$scratch/prism-$judge_provider.log
    judge_out=$scratch/stand-in-$judge_provider.out
    : >"$judge_log"
    : >"$judge_out"
    "$stand_in_program" "$judge_provider" "$@" >"$judge_out" 2>&1 &
    judge_pids=$!
    judge_wait "$judge_out" 'http://' || { judge_abandon; return 1; }
    judge_stand_in=$(head -n 1 "$judge_out")
    judge_port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    "$prism_program" proxy --host 127.0.0.1 --port "$judge_port" \
        "$specs/$judge_description" "$judge_stand_in" >"$judge_log" 2>&1 &
    judge_pids="$judge_pids $!"
    judge_wait "$judge_log" 'Prism is listening' || { judge_abandon; return 1; }
    judge_prism=http://127.0.0.1:$judge_port
}

# judge_wait FILE TEXT: waits until the text is in the file, a minute at most.
judge_wait() {
    judge_tries=0
    until grep -aq -- "$2" "$1"; do
        judge_tries=$((judge_tries + 1))
        if [ "$judge_tries" -gt 600 ]; then
            echo "\"$2\" did not appear in $1 within a minute; it says:" >&2
            cat "$1" >&2
            return 1
        fi
        sleep 0.1
    done
}

# What Prism found wrong with requests and with answers, one line each with how often; nothing when nothing was.
judge_violations() {
    curl --silent --output /dev/null "$judge_prism$judge_last" || {
        echo "Prism is gone; nothing can be said"
        return
    }
    judge_wait "$judge_log" "$judge_last" || {
        echo "Prism does not answer; nothing can be said"
        return
    }
    sed "\\|$judge_last|,\$d" "$judge_log" | grep -a 'Violation: ' \
        | sed 's/^.*Violation: //' | sort | uniq -c
}

# Ends both; fails when Prism found anything wrong, and says what.
judge_close() {
    judge_found=$(judge_violations)
    judge_abandon
    if [ -n "$judge_found" ]; then
        echo "$judge_provider: Prism found violations of $judge_description:" >&2
        echo "$judge_found" >&2
        return 1
    fi
    echo "$judge_provider: no violation of $judge_description in $(grep -ac 'Request received' "$judge_log") requests"
}

# Ends what judge_open started.
judge_abandon() {
    for judge_pid in $judge_pids; do
        kill "$judge_pid" 2>/dev/null
        wait "$judge_pid" 2>/dev/null
    done
    judge_pids=
    return 0
}
