# Wait for the world to look as it should, and say what is still missing.

# Look again and again until nothing is missing. `look` gives the list of what is missing, one line of text
# each; the list is said whenever it changes. Raises `ha::wait::timeout` when the time is up.
@example "until a file is there" { wait until "the file" { if ("x.json" | path exists) { [] } else { [x.json] } } }
export def "wait until" [
    what: string            # What is waited for, in words.
    look: closure           # Gives the lines of what is missing; an empty list ends the wait.
    --timeout (-t): duration = 2min
    --every (-e): duration = 500ms
    --help-text: string     # What to type when the time is up.
]: nothing -> nothing {
    let started = date now
    mut missing = do $look
    mut said = []
    while ($missing | is-not-empty) {
        if $missing != $said {
            print --stderr $"  waiting for ($what): ($missing | first 3 | str join '; ')(more $missing)"
            $said = $missing
        }
        if (date now) - $started >= $timeout {
            error make --unspanned {
                msg: $"gave up on ($what) after ($timeout): ($missing | str join '; ')"
                code: "ha::wait::timeout"
                help: ($help_text | default "`ha status` and `ha events --last 20` say more")
            }
        }
        sleep $every
        $missing = do $look
    }
}

# Wait until every part of a region (or of all regions) answers as it should; gives back the last look.
# What was switched off on purpose is not waited for.
@example "one region" { wait healthy us-east --timeout 30sec }
export def "wait healthy" [
    region?: string@"complete region"  # Only this region.
    --timeout (-t): duration = 2min
]: nothing -> table {
    wait until $"the health of ($region | default 'all regions')" {
        health of $region
        | where status not-in [ok off]
        | each {|row| $"($row.check) ($row.target) in ($row.region) is ($row.status)(because $row.error)" }
    } --timeout $timeout --help-text "`ha health | where status != ok` shows what does not answer"
    health of $region
}

# Wait until every resource of a region (or of all regions) runs, as its provider says; gives back the last look.
# What was switched off on purpose is not waited for.
@example "servers that start" { wait running asia-southeast --timeout 5min }
export def "wait running" [
    region?: string@"complete region"  # Only this region.
    --timeout (-t): duration = 2min
]: nothing -> table {
    wait until $"what runs in ($region | default 'all regions')" {
        inventory of $region
        | where status not-in [running off]
        | each {|row| $"($row.kind) ($row.name) in ($row.region) is ($row.status)(because $row.error)" }
    } --timeout $timeout --help-text "`ha plan` shows what is missing, `ha inventory` what there is"
    inventory of $region
}

# Wait until every replica streams from its primary; gives back the last look.
@example "after a change" { wait streaming }
export def "wait streaming" [
    --timeout (-t): duration = 2min
]: nothing -> table {
    wait until "replication" {
        ha lag
        | where state not-in [primary streaming]
        | each {|row| $"($row.node) in ($row.region) is ($row.state)(because $row.error)" }
    } --timeout $timeout --help-text "`ha lag` shows each database and its upstream"
    ha lag
}

# Wait until the cluster can lose a region again: somebody leads, every replica streams, every database node votes.
@example "between two drills" { wait whole --timeout 1min }
export def "wait whole" [
    --timeout (-t): duration = 2min
]: nothing -> nothing {
    wait until "a whole cluster" {
        let lease = try { ha lease | get 0 } catch {|error| {phase: $error.msg} }
        let phase = if $lease.phase == active { [] } else { [$"the phase is ($lease.phase)"] }
        let lag = ha lag
            | where state not-in [primary streaming]
            | each {|row| $"($row.node) is ($row.state)(because $row.error)" }
        let voters = ha quorum
            | where part == voter and status not-in [leader ok]
            | each {|row| $"($row.name) does not vote: ($row.status)(because $row.error)" }
        [...$phase ...$lag ...$voters]
    } --timeout $timeout --every 250ms --help-text "`ha quorum` and `ha events --last 20` say more"
}

# The declared regions, for Tab.
export def "complete region" []: nothing -> list<string> {
    ha regions | get region
}

def "health of" [region?: string]: nothing -> table {
    ha health | where {|row| $region == null or $row.region == $region }
}

def "inventory of" [region?: string]: nothing -> table {
    ha inventory | where {|row| $region == null or $row.region == $region }
}

def because [error?: string]: nothing -> string {
    if $error == null { "" } else { $" \(($error))" }
}

def more [missing: list<string>]: nothing -> string {
    let others = ($missing | length) - 3
    if $others > 0 { $"; and ($others) more" } else { "" }
}
