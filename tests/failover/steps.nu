# What the scenarios say in the shell beyond `use ha *`.

use ../../scripts/ha *

# The region that leads.
export def primary []: nothing -> string { ha lease | get 0.region }

# The regions that do not, the next one in the workspace's order first.
export def others []: nothing -> list<string> {
    let primary = primary
    ha regions | get region | where $it != $primary
}

export def epoch []: nothing -> int { ha lease | get 0.epoch }

# Another primary than that of an epoch leads and writes.
export def "wait failover" [
    from: int  # The epoch before.
    --timeout (-t): duration = 1min
]: nothing -> nothing {
    wait until $"an epoch after ($from)" {
        let lease = try { ha lease | get 0 } catch {|error| {phase: $error.msg epoch: 0} }
        if $lease.phase == active and $lease.epoch > $from { [] } else { [$"epoch ($lease.epoch) is ($lease.phase)"] }
    } --timeout $timeout --every 100ms
}

# The store says this about a voter, or about a member of it.
export def "wait quorum" [
    what: string
    check: closure   # Gets a row of `ha quorum`.
    --timeout (-t): duration = 1min
]: nothing -> nothing {
    wait until $what {
        let rows = try { ha quorum } catch {|error| [{part: error name: $error.msg}] }
        if ($rows | any $check) { [] } else { [($rows | select -o part name status error | to nuon)] }
    } --timeout $timeout --every 200ms
}

# A region cut off from the others in one direction or both.
export def "cut link" [one: string, other: string]: nothing -> nothing {
    ha net cut --from $one --to $other | ignore
    ha net cut --from $other --to $one | ignore
}

# None of these processes runs any more. One that is dead and not collected by its parent, which may be frozen, is gone.
export def "wait gone" [...pids: int]: nothing -> nothing {
    wait until "processes to end" {
        $pids | where {|pid| runs $pid } | each {|pid| $"process ($pid) runs" }
    } --timeout 1min --every 100ms
}

def runs [pid: int]: nothing -> bool {
    # The state is the first field after the name, which stands in brackets.
    let stat = try { open --raw $"/proc/($pid)/stat" } catch { "" }
    $stat != "" and ($stat | split row ") " | last | split row " " | first) not-in [Z X]
}
