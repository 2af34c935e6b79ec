#!/usr/bin/env -S sh -c 's=$(readlink -f "$0"); exec "${s%/*}/nu.sh" "$s" "$@"'

use ha *

const ROOT = path self ..

# Every fault by name, how likely it is, and whether it takes the primary away. Edit: a fault you fear belongs here.
const FAULTS = [
    [fault, weight];
    [kill_region 4] [kill_database 3] [kill_postmaster 2] [kill_guard 2] [kill_deadman 1] [kill_etcd 2] [kill_haproxy 1]
    [freeze_database 3] [freeze_guard 2] [freeze_both 2] [freeze_etcd 2]
    [cut_region 4] [cut_one_way 2] [cut_link 3] [flap 1]
    [kill_replica 2] [switchover 3] [two_faults 2]
]

# An outage longer than any of the budgets: what happened meanwhile is told.
const SLOW = 6sec

# Break the primary's region and others at random for a while, under load, and count what was lost.
#
# A workspace of its own comes up for it (a copy of the example, profile `near`, no cooldown), and is removed at the end.
# One row per fault, as it is judged: clients of every region wrote unique ids all the time, and every id is accounted
# for. The same seed gives the same faults in the same order. Exit code 1 when an acknowledged write was lost or one
# appeared that nobody wrote.
@example "the long run" { ./scripts/torture.nu --minutes 60 --seed 1 }
@example "what a release is asked" { ./scripts/torture.nu --minutes 5 --seed 7 | where lost > 0 }
def main [
    --minutes (-m): int = 60
    --seed (-s): int = 1
    --fault (-f): string     # Only this one, again and again.
    --keep (-k)              # Leave the workspace up when something was lost.
]: nothing -> table {
    let folder = mktemp --directory --tmpdir ha-torture.XXXXXX
    # As root, the databases run as another user, who has to pass through.
    ^chmod 755 $folder
    $env.HA_STATE_HOME = $folder | path join state
    $env.HA_RUNTIME_DIR = $folder | path join run
    cd (workspace in $folder)
    let name = open --raw workspace.ncl | parse --regex '(?m)^\s*workspace = "(?<name>[^"]+)"' | get 0.name
    let until = (date now) + ($minutes * 1min)
    ha provision | where error != null | each {|row| error make --unspanned {msg: $"($row.name): ($row.error)" code: "ha::torture::up"} } | ignore
    wait healthy
    wait streaming
    let rows = generate {|state|
        if (date now) >= $until { return {} }
        let drawn = draw $state.random $fault
        let row = round $state.number $drawn.plan
        let bad = $row.lost + $row.unexpected > 0
        print --stderr ($row | select number fault region took longest_outage acknowledged lost unexpected epoch whole error | to nuon)
        if $bad { {out: $row} } else { {out: $row next: {number: ($state.number + 1) random: $drawn.random}} }
    } {number: 1 random: (seeded $seed)}
    | collect
    let bad = $rows | where lost > 0 or unexpected > 0
    print --stderr (summary $rows | to nuon --indent 2)
    if ($bad | is-not-empty) and $keep {
        print --stderr $"left as it is: HA_STATE_HOME=($env.HA_STATE_HOME) HA_RUNTIME_DIR=($env.HA_RUNTIME_DIR) in (pwd)"
    } else {
        ha destroy $name | ignore
        cd /
        rm --recursive --force $folder
    }
    if ($bad | is-not-empty) { print $rows; exit 1 }
    $rows
}

# What the README shows.
export def summary [rows: table]: nothing -> record {
    {
        faults: ($rows | length)
        failovers: ($rows | get failovers | append 0 | math sum)
        acknowledged: ($rows | get acknowledged | append 0 | math sum)
        unknown: ($rows | get unknown | append 0 | math sum)
        lost: ($rows | get lost | append 0 | math sum)
        unexpected: ($rows | get unexpected | append 0 | math sum)
        longest_outage: ($rows | get longest_outage | append 0sec | math max)
        median_outage: ($rows | get longest_outage | append 0sec | math median)
        errors: ($rows | where error != null | length)
    }
}

# One fault: inject it under load, hold it for a while, undo it, wait until the cluster is whole, judge.
def round [number: int, plan: record]: nothing -> record {
    let started = date now
    let before = ha lease | get 0
    let primary = $before.region
    let others = ha regions | get region | where $it != $primary
    let target = $others | get ($plan.pick mod ($others | length))
    let answer = try {
        ha oracle --settle 90sec { begin fault $plan $primary $target; sleep $plan.hold; end fault $plan $primary $target }
    } catch {|error| {error: $error.msg} }
    let whole = try {
        let since = date now
        fault repair
        wait whole --timeout 3min
        {took: ((date now) - $since) error: null}
    } catch {|error| {took: null error: $error.msg} }
    let after = try { ha lease | get 0 }
    let row = {
        number: $number
        at: ((date now) - $started)
        fault: $plan.fault
        region: (if $plan.fault in [kill_replica] { $target } else { $primary })
        took: ((date now) - $started)
        longest_outage: ($answer | outage of $plan.fault $primary $target)
        acknowledged: ($answer.ok? | default 0)
        unknown: ($answer.unknown? | default 0)
        lost: ($answer.lost? | default 0)
        unexpected: ($answer.unexpected? | default 0)
        overlaps: ($answer.overlaps? | default [] | length)
        failovers: (($after.epoch? | default $before.epoch) - $before.epoch)
        epoch: $after.epoch?
        whole: $whole.took
        error: ([$answer.error? $whole.error] | compact | str join "; " | if ($in | is-empty) { null } else { $in })
    }
    if $row.longest_outage > $SLOW or $row.error != null or $row.lost + $row.unexpected > 0 { tell what happened $started }
    $row
}

# Before the workspace is gone: every decision of this round, the oldest first.
def "tell what happened" [since: datetime]: nothing -> nothing {
    try { ha events --last 500 } catch { [] }
    | where at >= $since
    | each {|it|
        let more = [$it.detail? $it.error?] | compact | str join "; "
        print --stderr $"    ($it.at | format date '%T%.3f') ($it.region?) ($it.event) ($it.subject) ($it.status) ($more)"
    }
    | ignore
}

# The longest gap between two acknowledged writes, of clients whose own region was neither gone nor cut from the primary.
def "outage of" [fault: string, primary: string, other: string]: record -> duration {
    let excused = match $fault {
        kill_region | cut_region | flap => [$primary]
        two_faults => [$primary $other]
        kill_replica | cut_link | cut_one_way => [$other]
        kill_haproxy => [$primary]
        _ => []
    }
    $in.regions? | default [] | where region not-in $excused | get longest_outage | append 0sec | math max
}

# Whatever a plan of one fault says, done.
def "begin fault" [plan: record, primary: string, other: string]: nothing -> nothing {
    match $plan.fault {
        kill_region => (fault kill region $primary)
        kill_database => (fault kill database $primary)
        kill_postmaster => (fault kill database $primary --postmaster-only)
        kill_guard => (fault kill unit $primary guard)
        kill_deadman => (fault kill unit $primary deadman)
        kill_etcd => (fault kill unit $primary etcd)
        kill_haproxy => (fault kill unit $primary haproxy)
        kill_replica => (fault kill region $other)
        freeze_database => (fault freeze $primary database)
        freeze_guard => (fault freeze $primary guard)
        freeze_both => (fault freeze $primary database guard)
        freeze_etcd => (fault freeze $primary etcd)
        cut_region => (ha net cut --region $primary)
        cut_one_way => (ha net cut --from $primary --to $other)
        cut_link => (cut both $primary $other)
        flap => (1..4 | each { ha net cut --region $primary; sleep 800ms; ha net heal; sleep 700ms })
        switchover => (ha switchover --to $other)
        two_faults => { fault kill unit $other haproxy; fault kill region $primary }
    } | ignore
}

# One link, both directions; the third region still sees both.
def "cut both" [one: string, other: string]: nothing -> nothing {
    ha net cut --from $one --to $other | ignore
    ha net cut --from $other --to $one | ignore
}

def "end fault" [plan: record, primary: string, other: string]: nothing -> nothing {
    match $plan.fault {
        freeze_database => (fault thaw $primary database)
        freeze_guard => (fault thaw $primary guard)
        freeze_both => (fault thaw $primary database guard)
        freeze_etcd => (fault thaw $primary etcd)
        cut_region | cut_one_way | cut_link | flap => (ha net heal)
        kill_region | two_faults => (fault restore region $primary)
        kill_replica => (fault restore region $other)
        _ => null
    } | ignore
}

# A small generator of its own: Nushell's has no seed. Numerical Recipes' constants.
def seeded [seed: int]: nothing -> int { ($seed * 1664525 + 1013904223) mod 4294967296 }

def draw [random: int, only?: string]: nothing -> record {
    let a = seeded $random
    let b = seeded $a
    let c = seeded $b
    let bag = $FAULTS | each {|it| 1..$it.weight | each { $it.fault } } | flatten
    let fault = $only | default ($bag | get ($a // 65536 mod ($bag | length)))
    {random: $c plan: {fault: $fault hold: ((2 + ($b // 65536 mod 9)) * 1sec) pick: ($c // 65536)}}
}

# A copy of the example under a name that nobody uses, for regions that are near each other.
def "workspace in" [folder: path]: nothing -> path {
    let copy = $folder | path join ws
    mkdir $copy
    cp ($ROOT | path join config.toml) $copy
    open --raw ($ROOT | path join workspace.ncl)
    | str replace --regex 'workspace = "[^"]+"' $'workspace = "torture-(random int 1000..9999)"'
    | str replace --regex 'timing = .\w+' "timing = 'Near"
    | str replace --regex 'failover = \{[^}]*\}' "failover = { cooldown_seconds = 0, daily_limit = 'Unlimited }"
    | save ($copy | path join workspace.ncl)
    $copy
}
