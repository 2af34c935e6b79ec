# Faults, as a machine, a process or a line has them: for rehearsals of the local target. Each says what it did, and
# `fault repair` undoes what does not undo itself.

use wait.nu *

# Kill every process of a region at once, as when its machines lose their power: database, guard, store, balancer, relay.
@example "then see who takes over" { fault kill region us-east; ha status }
export def "fault kill region" [
    region: string@"complete region"
]: nothing -> table<region: string, fault: string, processes: int> {
    let folder = region folder $region
    # The supervisor first: it would start the others again.
    let keeper = open ($folder | path join supervise.json) | get pid
    [$keeper] | signal 9
    mut killed = 1
    mut pids = processes below $folder
    # What was being started in that moment is found by the second look.
    while ($pids | is-not-empty) {
        $pids | signal 9
        $killed += ($pids | length)
        $pids = (processes below $folder)
    }
    [{region: $region fault: kill_region processes: $killed}]
}

# Bring a killed region back: its supervisor runs again, and starts everything that belongs there.
@example "power is back" { fault restore region us-east }
export def "fault restore region" [
    region: string@"complete region"
]: nothing -> nothing {
    # Any server of it will do: what is on comes back with the supervisor.
    let server = open (glob (region folder $region | path join "resources/database.*.json") | first) | get spec.server
    ha power on $server | where error != null | each {|row| error make --unspanned {msg: $row.error code: "ha::fault::restore"} } | ignore
}

# Kill the database of a region, every process of it; its guard stays.
@example "the guard starts it again" { fault kill database us-east }
export def "fault kill database" [
    region: string@"complete region"
    --postmaster-only  # Leave its children: a session in a loop goes on.
]: nothing -> table<region: string, fault: string, processes: int> {
    let data = data folder $region
    let postmaster = open --raw ($data | path join postmaster.pid) | lines | get 0 | into int
    let pids = if $postmaster_only { [$postmaster] } else { [$postmaster ...(processes below $data)] | uniq }
    $pids | signal 9
    [{region: $region fault: kill_database processes: ($pids | length)}]
}

# Kill one program of a region: guard, deadman, etcd, haproxy, relay, app.
@example "an agent dies" { fault kill unit us-east guard }
export def "fault kill unit" [
    region: string@"complete region"
    unit: string@[guard deadman etcd haproxy relay app]
]: nothing -> table<region: string, fault: string, processes: int> {
    let pids = units of $region $unit
    $pids | signal 9
    [{region: $region fault: $"kill_($unit)" processes: ($pids | length)}]
}

# Stop the processes of a database, its guard, or a member of the store in their tracks (SIGSTOP). `fault thaw` lets them
# go on.
@example "a disk that hangs" { fault freeze us-east database; sleep 5sec; fault thaw us-east database }
export def "fault freeze" [
    region: string@"complete region"
    ...what: string@[database guard deadman etcd haproxy]
]: nothing -> table<region: string, fault: string, processes: int> {
    let pids = $what | each {|it| pids of $region $it } | flatten
    $pids | signal 19
    [{region: $region fault: $"freeze_($what | str join '_')" processes: ($pids | length)}]
}

# Let frozen processes go on (SIGCONT).
@example "after a while" { fault thaw us-east database guard }
export def "fault thaw" [
    region: string@"complete region"
    ...what: string@[database guard deadman etcd haproxy]
]: nothing -> nothing {
    $what | each {|it| pids of $region $it } | flatten | signal 18
}

# Undo every fault that does not undo itself: lines are healed, frozen processes go on, killed regions come back.
@example "after a drill that was cut short" { fault repair }
export def "fault repair" []: nothing -> nothing {
    ha net heal | ignore
    for region in (complete region) {
        processes below (region folder $region) | signal 18
        let keeper = try { open (region folder $region | path join supervise.json) | get pid }
        if $keeper == null or not ($"/proc/($keeper)" | path exists) { fault restore region $region }
    }
}

# Where the processes of a region live.
export def "region folder" [region: string]: nothing -> path {
    let home = $env.HA_STATE_HOME? | default {
        if (is-admin) { "/var/lib/ha" } else { $env.XDG_STATE_HOME? | default ($nu.home-dir | path join .local state) | path join ha }
    }
    let workspace = ha inventory | where region == $region | get 0.labels.ws
    $home | path join $workspace regions $region
}

def "data folder" [region: string]: nothing -> path {
    glob (region folder $region | path join hosts/*/data/postgres) | first
}

def "units of" [region: string, unit: string]: nothing -> list<int> {
    glob (region folder $region | path join $"hosts/*/run/($unit).json") | each {|file| open $file | get pid }
}

def "pids of" [region: string, what: string]: nothing -> list<int> {
    if $what == database { processes below (data folder $region) } else { units of $region $what }
}

# Whoever works in the folder or below it.
def "processes below" [folder: path]: nothing -> list<int> {
    ^find /proc -maxdepth 2 -name cwd "(" -lname $folder -o -lname $"($folder)/*" ")" -printf '%h\n'
    | complete
    | get stdout
    | lines
    | each {|line| $line | path basename | into int }
}

def signal [number: int]: list<int> -> nothing {
    let pids = $in
    # One that is gone already is as good. The shell's own `kill`: a bare machine has no other.
    if ($pids | is-not-empty) { ^sh -c 'kill -"$0" "$@"' $"($number)" ...$pids | complete | ignore }
}
