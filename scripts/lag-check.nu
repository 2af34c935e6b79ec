#!/usr/bin/env -S sh -c 's=$(readlink -f "$0"); exec "${s%/*}/nu.sh" "$s" "$@"'

use ha *

const HERE = path self .

# From harmless to not; what cannot be told is as bad as it gets.
const VERDICTS = [ok warn expected critical unknown]

# Check the lag of every database against the limits of the workspace: a row per breach.
#
# Exit code 0: all within limits. 3: at least one breach, shown as rows. 1: the check itself failed.
#
# As a cron job, each minute; cron mails what is printed, and nothing is printed while all is well:
#   * * * * * /opt/shop/scripts/lag-check.nu --quiet
#
# As a systemd timer; OnFailure= in the service names what shall happen on a breach:
#   # /etc/systemd/system/ha-lag.service
#   [Service]
#   Type=oneshot
#   User=deploy
#   ExecStart=/opt/shop/scripts/lag-check.nu
#   # /etc/systemd/system/ha-lag.timer
#   [Timer]
#   OnCalendar=minutely
#   AccuracySec=1s
#   [Install]
#   WantedBy=timers.target
#
# In a shell that stays open, as a job that tells you what changed:
#   use scripts/ha *
#   let watch = lag watch --every 30sec
#   job recv              # the next change of a verdict; job kill $watch ends it
@example "only what wakes people up" { ./scripts/lag-check.nu --from critical }
def main [
    --from (-f): string@[warn expected critical] = warn  # The mildest verdict that is a breach.
    --workspace (-w): path  # workspace.ncl; default: the one beside the scripts.
    --quiet (-q)            # Print nothing when there is no breach.
]: nothing -> nothing {
    let breaches = ha lag --check --workspace (workspace or $workspace) | breaches $from
    if ($breaches | is-empty) {
        if not $quiet { print "all databases are within their limits" }
        return
    }
    print $breaches
    exit 3
}

# Keep looking, and show a row whenever the verdict on a database changes. Ends with Ctrl-C.
@example "each half minute" { ./scripts/lag-check.nu watch --every 30sec }
def "main watch" [
    --every (-e): duration = 30sec  # Between two looks.
    --workspace (-w): path          # workspace.ncl; default: the one beside the scripts.
]: nothing -> nothing {
    ha lag --check --follow --interval $every --workspace (workspace or $workspace)
    | lag changes
    | each {|row| print ([$row] | summary) }
    | ignore
}

# The rows whose verdict is at least as bad as `from`.
def breaches [from: string]: table -> table {
    let bad = $VERDICTS | skip until {|verdict| $verdict == $from }
    $in | where {|row| $row.verdict in $bad } | summary
}

def summary []: table -> table {
    select region node role state lag lag_bytes verdict error
}

def "workspace or" [workspace?: path]: nothing -> path {
    $workspace | default ($HERE | path dirname)
}
