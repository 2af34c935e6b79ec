#!/usr/bin/env -S sh -c 's=$(readlink -f "$0"); exec "${s%/*}/scripts/nu.sh" "$s" "$@"'

# Yours to edit: the plugin holds the hard parts, the order of things is here.
use scripts/ha *

const HERE = path self .

# Bring the workspace beside this script up, or up to date: one region after another, the primary first.
#
# Safe to stop anywhere and to run again: what is there already is left alone.
@example "everything" { ./deploy.nu }
@example "what would be done to one region" { ./deploy.nu --region us-east --dry-run }
def main [
    --region (-r): string@"complete region"  # Only this region.
    --dry-run (-n)                           # Show the plan and change nothing.
    --debug (-d)                             # Say every step, every probe, and every request to a provider.
    --timeout (-t): duration = 2min          # For a region to become healthy.
]: nothing -> table {
    cd $HERE
    if $debug { $env.HA_LOG = "debug" }
    let rehearsed = (workspace target) == local
    let notes = check workspace
    if ($notes | is-not-empty) { print --stderr ($notes | select severity message help) }
    let declared = check region $region

    let plan = ha plan | where {|row| $region == null or $row.region == $region }
    if $dry_run { return $plan }

    for name in ($plan | rollout order) {
        print --stderr $"($name):"
        $plan | where region == $name | rollout run --debug=$debug
        if $name in $declared {
            let seen = if $rehearsed { wait healthy $name --timeout $timeout } else { wait running $name --timeout $timeout }
            if $debug { print --stderr $seen }
        }
    }
    # At the clouds the programs on the servers are not asked from here.
    if not $rehearsed {
        return (ha inventory | where {|row| $region == null or $row.region == $region } | select region kind name status address private_address error)
    }
    if $region == null { wait streaming --timeout $timeout }
    ha lag --check | select region node role state lag verdict lag_bytes error
}
