#!/usr/bin/env -S sh -c 's=$(readlink -f "$0"); exec "${s%/*}/nu.sh" "$s" "$@"'

use ha *

const HERE = path self .

# Hand the primary over to another region, with a look at the service before and after.
#
# Exit code 0: done, and all is well. 3: it was undone or refused, and the old primary goes on. 1: something else.
# What a maintenance window needs of your own belongs between the steps below: tell the team, stop a batch job,
# hold a deployment.
@example "who would take over" { ./scripts/switchover.nu --dry-run }
@example "to one region, with a longer patience afterwards" { ./scripts/switchover.nu eu-central --settle 5min }
def main [
    to?: string@"complete region"  # The region, or a database server of it (default: the nearest).
    --settle (-s): duration = 2min # How long everything may take to be well again afterwards.
    --max-outage: duration = 5sec  # Longer without a write is an error, though it is done.
    --dry-run (-n)                 # Show what stands in the way and the steps, and change nothing.
    --workspace (-w): path         # workspace.ncl; default: the one beside the scripts.
]: nothing -> nothing {
    cd (workspace folder $workspace)
    if $dry_run {
        print (if $to == null { ha switchover --dry-run } else { ha switchover --to $to --dry-run })
        return
    }
    let before = ha lease | first
    gate before

    let rows = moved $to
    let measured = $rows | last
    if $measured.step != measured or $measured.status != done {
        let why = $rows | where error != null | last
        print --stderr $"not done: ($why.error?)"
        if $why.help? != null { print --stderr $"  ($why.help)" }
        exit 3
    }

    gate after --settle $settle
    print ({
        from: $before.holder
        to: (ha lease | get 0.holder)
        outage: $measured.outage
        lost: $measured.lost
        epoch: $measured.epoch
        timeline: $measured.timeline
    })
    if $measured.outage != null and $measured.outage > $max_outage {
        error make --unspanned {
            msg: $"nobody could write for ($measured.outage)"
            code: "ha::switchover::slow"
            help: "`ha events --last 20` has the steps; `ha switchover --dry-run` what was predicted"
        }
    }
}

# Only what is well may be changed, and it must be well again afterwards.
def gate [when: string, --settle: duration = 10sec]: nothing -> nothing {
    print --stderr $"($when): is everything well?"
    wait healthy --timeout $settle | ignore
    wait streaming --timeout $settle | ignore
    let worried = ha status | where verdict != ok
    if ($worried | is-not-empty) and $when == "before" {
        let first = $worried | first
        error make --unspanned {
            msg: $"($first.region) is ($first.verdict): ($first.reason)"
            code: "ha::gate::status"
            help: "put that right first, or hand over without this gate: ha switchover"
        }
    }
}

# The rows of the switchover, each said as it comes. What is refused comes as one row.
def moved [to?: string]: nothing -> table {
    try {
        (if $to == null { ha switchover } else { ha switchover --to $to }) | each {|row|
            print --stderr $"  ($row | step line)"
            $row
        }
    } catch {|err|
        if $err.msg == "Operation interrupted" { return $err.raw }
        [{step: preflight status: refused error: $err.msg help: $err.details.help?}]
    }
}

def "step line" []: record -> string {
    let row = $in
    [$row.step $row.region? $row.status $row.took? $row.detail? $row.error?] | compact | each { into string } | str join " "
}

def "workspace folder" [workspace?: path]: nothing -> path {
    match ($workspace | default null) {
        null => ($HERE | path dirname)
        $path if ($path | path type) == dir => $path
        $path => ($path | path dirname)
    }
}
