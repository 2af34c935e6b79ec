#!/usr/bin/env -S sh -c 's=$(readlink -f "$0"); exec "${s%/*}/nu.sh" "$s" "$@"'

use ha *
use bench/clouds.nu
use bench/measure.nu *

const ROOT = path self ..

# Measure what has a budget, on a copy of the example under a name of its own: what runs already is not touched.
# Medians of several runs: what is slow or changes the world has three.
#
# A ratio above 1 is over budget. Numbers of one machine compare with numbers of the same machine only.
@example "the table of the README" { ./scripts/bench.nu }
@example "without bringing anything up" { ./scripts/bench.nu --only shell }
@example "how long nobody can write" { ./scripts/bench.nu failover --runs 10 }
def main [
    --runs (-r): int = 9                 # How often the fast ones are measured.
    --only (-o): string@[shell plan local]  # Only this part.
]: nothing -> table<what: string, measured: any, budget: any, ratio: float> {
    let folder = mktemp --directory --tmpdir ha-bench.XXXXXX
    # As root, the databases run as another user, who has to pass through.
    ^chmod 755 $folder
    let rows = try {
        [
            ...(if ($only | default shell) == shell { shell $folder $runs } else { [] })
            ...(if ($only | default plan) == plan { plan $runs } else { [] })
            ...(if ($only | default local) == local { local $folder $runs } else { [] })
        ]
    } finally {
        rm --recursive --force $folder
    }
    $rows | rated
}

# Measure what the clouds cost: reading three of them, plan, provision and destroy at AWS, calls, memory. The providers
# are stand-ins on this machine, which tests/stand-ins has, and moto. HA_STAND_IN names a built stand-in; cargo builds it
# otherwise.
@example "one of them" { ./scripts/bench.nu clouds --only reading }
def "main clouds" [
    --runs (-r): int = 9  # How often the fast ones are measured; three times where something is made.
    --only (-o): string@[reading memory aws instances example]  # Only this one.
]: nothing -> table<what: string, measured: any, budget: any, ratio: float> {
    let folder = mktemp --directory --tmpdir ha-bench.XXXXXX
    ^chmod 755 $folder
    try {
        clouds figures $folder $runs $only | rated
    } finally {
        rm --recursive --force $folder
    }
}

# Measure how long nobody can write when the primary's region is lost, frozen, cut off or handed over: clients of every
# region write all the time, and the longest gap of those whose own region stands is taken. Medians of several runs, each
# on a whole cluster. The last rows are for regions far apart, against what `ha budget` promises.
@example "one of them" { ./scripts/bench.nu failover --only switchover --runs 3 }
def "main failover" [
    --runs (-r): int = 10
    --only (-o): string@[kill_region freeze_database cut_region kill_database switchover rejoin far]  # Only this one.
]: nothing -> table<what: string, measured: duration, lost: int, budget: duration, ratio: float, worst: duration, runs: int> {
    let near = [kill_region freeze_database cut_region kill_database switchover]
    let wanted = if $only == null { $near } else if $only == rejoin { [kill_region] } else { $near | where $it == $only }
    let rows = if ($wanted | is-empty) { [] } else {
        failover world Near 0ms {|| $wanted | each {|fault| outages $fault $runs (budget of $fault) "" } | flatten }
    }
    let far = if $only not-in [null far] { [] } else {
        failover world Default 80ms {||
            let promised = ha budget | where step == writes | get 0.promised
            [kill_region freeze_database cut_region] | each {|fault| outages $fault $runs $promised ", 80 ms between regions" } | flatten
        }
    }
    [...$rows ...$far]
    | where {|row| $only in [null far] or $row.fault == $only }
    | each {|row|
        reject fault
        | insert ratio ($row.measured / $row.budget | math round --precision 2)
        | move ratio --after budget
        | update measured { readable }
        | update worst { readable }
    }
}

def "budget of" [fault: string]: nothing -> duration {
    match $fault {
        kill_region => 3sec
        freeze_database | cut_region => 4sec
        kill_database => 2sec
        switchover => 700ms
    }
}

# One kind of fault, several times, each on a whole cluster.
def outages [fault: string, runs: int, budget: duration, where: string]: nothing -> table {
    let seen = 1..$runs | each {|run|
        wait whole
        let primary = ha lease | get 0.region
        let others = ha regions | get region | where $it != $primary
        let verdict = ha oracle --settle 90sec { suffer $fault $primary ($others | get ($run mod 2)) }
        if $verdict.lost == null { error make --unspanned {msg: $"($fault): ($verdict.error)" code: "ha::bench::oracle"} }
        let alone = $fault in [switchover kill_database]
        {
            outage: ($verdict.regions | where {|it| $alone or $it.region != $primary } | get longest_outage | math max)
            lost: ($verdict.lost + $verdict.unexpected)
            rejoin: $verdict.answer
        }
    }
    let row = {
        what: $"write outage, ($fault)($where)"
        measured: ($seen.outage | math median)
        lost: ($seen.lost | math sum)
        budget: $budget
        worst: ($seen.outage | math max)
        runs: $runs
        fault: $fault
    }
    if $fault != kill_region { return [$row] }
    let back = {
        what: $"the old primary streams again($where)"
        measured: ($seen.rejoin | math median)
        lost: 0
        budget: 15sec
        worst: ($seen.rejoin | math max)
        runs: $runs
        fault: rejoin
    }
    [$row $back]
}

# The fault and its end; gives back how long it took from the end of the fault until every replica streamed.
def suffer [fault: string, primary: string, other: string]: nothing -> duration {
    sleep 1sec
    match $fault {
        kill_region => (fault kill region $primary)
        freeze_database => (fault freeze $primary database)
        cut_region => (ha net cut --region $primary)
        kill_database => (fault kill database $primary)
        switchover => (ha switchover --to $other)
    } | ignore
    sleep (if $fault in [switchover kill_database] { 2sec } else { 8sec })
    timeit {
        match $fault {
            kill_region => (fault restore region $primary)
            freeze_database => (fault thaw $primary database)
            cut_region => (heal $primary)
            _ => null
        } | ignore
        wait streaming | ignore
    }
}

# What the cut changed, without the delay that was there before.
def heal [region: string]: nothing -> nothing { ha net set --region $region --no-cut | ignore }

# A copy of the example with these clocks and this way between its regions, for as long as `measure` takes.
def "failover world" [timing: string, delay: duration, measure: closure]: nothing -> table {
    let folder = mktemp --directory --tmpdir ha-bench.XXXXXX
    ^chmod 755 $folder
    $env.HA_STATE_HOME = $folder | path join state
    $env.HA_RUNTIME_DIR = $folder | path join run
    cd (workspace in $folder)
    open --raw workspace.ncl
    | str replace --regex 'timing = .\w+' $"timing = '($timing)"
    | str replace --regex 'failover = \{[^}]*\}' "failover = { cooldown_seconds = 0, daily_limit = 'Unlimited }"
    | str replace 'rto_seconds' $"max_latency_ms = (if $delay == 0ms { 20 } else { 160 }),\n    rto_seconds"
    | save --force workspace.ncl
    let name = workspace name
    try {
        ha provision | rollout check
        if $delay != 0ms { ha net set --delay $delay | ignore }
        wait whole
        do $measure
    } finally {
        ha destroy $name | ignore
        cd /
        rm --recursive --force $folder
    }
}

# What a person waits for at the prompt.
def shell [folder: path, runs: int]: nothing -> table {
    cd (workspace in $folder)
    [
        {what: "ha regions, cold shell" measured: (cold $runs "ha regions") budget: 200ms}
        {what: "ha regions, running shell" measured: (warm $runs { ha regions }) budget: 20ms}
        {what: "ha check, cold shell" measured: (cold $runs "ha check") budget: 250ms}
        {what: "ha check, running shell" measured: (warm $runs { ha check }) budget: 50ms}
        {what: "ha check, cold shell, after an edit" measured: (edited $runs "ha check") budget: 250ms}
    ]
}

# The pure core at scale. A thousand fit into the processor's cache; above that twice as much takes twice as long.
def plan [runs: int]: nothing -> table {
    let measured = ^cargo bench --quiet --locked --manifest-path ($ROOT | path join Cargo.toml) -p ha-tests --bench plan -- --runs $runs
        | lines
        | each { from json }
    $measured | each {|row| {
        what: $"ha plan, ($row.resources) against ($row.resources)"
        measured: ($row.nanoseconds * 1ns)
        budget: (500ms * $row.resources / 10_000)
    } }
}

# The whole example on this machine, real programs and all.
def local [folder: path, runs: int]: nothing -> table {
    cd (workspace in $folder)
    $env.HA_STATE_HOME = $folder | path join state
    $env.HA_RUNTIME_DIR = $folder | path join run
    let name = workspace name
    let up = { timeit { ha provision | rollout check; wait healthy; wait streaming } }
    let down = { timeit { ha destroy $name | rollout check } }
    try {
        let before = 1..2 | each { {up: (do $up) down: (do $down)} }
        let nothing = $before.up | append (do $up) | math median
        let again = warm $runs { ha provision | rollout check }
        # The first look starts connections.
        let lag = warm $runs { ha lag }
        let health = warm $runs { ha health }
        let guards = guards of $folder
        let ticks = $guards | each {|pid| cpu of $pid }
        sleep 30sec
        let used = $guards | zip $ticks | each {|it| (cpu of $it.0) - $it.1 } | math max
        let memory = $guards | each {|pid| memory of $pid } | math max
        let gone = $before.down | append (do $down) | math median
        [
            {what: "the whole example, from nothing" measured: $nothing budget: 20sec}
            {what: "the whole example, nothing to do" measured: $again budget: 1sec}
            {what: "ha lag, three databases" measured: $lag budget: 100ms}
            {what: "ha health, everything" measured: $health budget: null}
            {what: "guard, memory" measured: $memory budget: 30mb}
            # A hundred ticks are one second.
            {what: "guard, share of a core while idle" measured: ($used / 100 / 30 | math round --precision 4) budget: 0.01}
            {what: "ha destroy, everything" measured: $gone budget: null}
        ]
    } finally {
        # After an error something may be left; nothing is, otherwise.
        ha destroy $name | ignore
    }
}

# A copy of the example under a name that nobody uses.
def "workspace in" [folder: path]: nothing -> path {
    let copy = $folder | path join ws
    if not ($copy | path exists) {
        mkdir $copy
        cp ($ROOT | path join config.toml) $copy
        open --raw ($ROOT | path join workspace.ncl)
        | str replace --regex 'workspace = "[^"]+"' $'workspace = "bench-(random int 1000..9999)"'
        | save ($copy | path join workspace.ncl)
    }
    $copy
}

# Of the workspace in the current folder.
def "workspace name" []: nothing -> string {
    open --raw workspace.ncl | parse --regex '(?m)^\s*workspace = "(?<name>[^"]+)"' | get 0.name
}

# As `cold`, and the workspace is another one each time, so that nothing remembered helps.
def edited [runs: int, code: string]: nothing -> duration {
    1..$runs
    | each {|run|
        $"\n# ($run) (random uuid)\n" | save --append workspace.ncl
        cold 1 $code
    }
    | math median
}

def "guards of" [folder: path]: nothing -> list<int> {
    glob ($folder | path join "state/*/regions/*/hosts/*/run/guard.json") | each {|file| open $file | get pid }
}

# Ticks of processor time so far.
def "cpu of" [pid: int]: nothing -> int {
    let fields = open --raw $"/proc/($pid)/stat" | str replace --regex '.*\) ' '' | split row ' '
    ($fields | get 11 | into int) + ($fields | get 12 | into int)
}
