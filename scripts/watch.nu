#!/usr/bin/env -S sh -c 's=$(readlink -f "$0"); exec "${s%/*}/nu.sh" "$s" "$@"'

const HERE = path self .

# What counts as a change; a lag that moves by milliseconds is none.
const WATCHED = [verdict reason database epoch phase leader mode blocked]

# Watch the regions and give a row whenever one of them changes: who leads, in which epoch, how each region is and
# why nothing happens. Runs until Ctrl-C; pipe it into anything. The first look is all changes: how it is now.
#
#   ./scripts/watch.nu | each {|row| http post $hook ($row | to json) }
#   ./scripts/watch.nu --json >> changes.jsonl
@example "a quiet log of one region" { ./scripts/watch.nu --every 1sec --json | lines | where $it =~ eu-central }
def main [
    --every (-e): duration = 1sec  # Between two looks.
    --json (-j)                    # A line of JSON for each change, for programs that are no shell.
    --new (-n)                     # Leave the first look out.
    --workspace (-w): path         # workspace.ncl; default: the one beside the scripts.
]: nothing -> any {
    cd (workspace folder $workspace)
    # Never held in a variable: that would wait for its end.
    if $json {
        looks $every | changes $new | each {|row| print ($row | to json --raw) } | ignore
    } else {
        looks $every | changes $new
    }
}

# Rows of ha status, again and again. A look that fails is said and comes again.
def looks [every: duration]: nothing -> table {
    generate {|first = true|
        if not $first { sleep $every }
        let rows = try { ha status } catch {|err|
            if $err.msg == "Operation interrupted" { return $err.raw }
            print --stderr $"watch: ($err.msg)"
            []
        }
        {out: $rows next: false}
    } | flatten
}

# Those in which something is another than before, with what it was.
def changes [new: bool]: table -> table {
    generate {|row, known = {}|
        let now = $row | select ...$WATCHED
        let before = $known | get --optional $row.region
        let next = $known | upsert $row.region $now
        if $before == $now or ($before == null and $new) {
            {next: $next}
        } else {
            let changed = if $before == null { [] } else {
                $WATCHED | where {|column| ($before | get $column) != ($now | get $column) }
            }
            {out: {at: (date now) region: $row.region ...$now changed: $changed} next: $next}
        }
    }
}

def "workspace folder" [workspace?: path]: nothing -> path {
    match ($workspace | default null) {
        null => ($HERE | path dirname)
        $path if ($path | path type) == dir => $path
        $path => ($path | path dirname)
    }
}
