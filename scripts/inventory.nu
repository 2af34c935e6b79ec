#!/usr/bin/env -S sh -c 's=$(readlink -f "$0"); exec "${s%/*}/nu.sh" "$s" "$@"'

# Three questions to what exists, worked out; copy one and change it.
# `ha inventory` asks the providers themselves: there is no state file that could be wrong.

const HERE = path self .

# How many of each kind exist in each region, and how many of them run.
@example "at a glance" { ./scripts/inventory.nu }
def main []: nothing -> table {
    cd ($HERE | path dirname)
    ha inventory
    | group-by region kind --to-table
    | each {|group| {
        region: $group.region
        kind: $group.kind
        count: ($group.items | length)
        running: ($group.items | where status == running | length)
    } }
    | sort-by region kind
}

# Where to reach each server, in the form of /etc/hosts.
@example "a file for another tool" { ./scripts/inventory.nu addresses | save servers.txt }
@example "one region" { ./scripts/inventory.nu addresses us-east }
def "main addresses" [
    region?: string  # Only this region.
]: nothing -> string {
    cd ($HERE | path dirname)
    ha inventory server
    | where {|row| $row.address != null and ($region == null or $row.region == $region) }
    | sort-by region name
    | each {|row| $"($row.address)\t($row.name).($row.region)" }
    | to text
}

# What exists and does not run, the longest-lived first: what somebody forgot, or what just broke.
@example "each morning" { ./scripts/inventory.nu unwell }
def "main unwell" []: nothing -> table {
    cd ($HERE | path dirname)
    ha inventory
    | where status not-in [running absent]
    | sort-by --reverse age
    | select region kind name status age
}
