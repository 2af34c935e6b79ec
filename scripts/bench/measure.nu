# What every part of the bench measures with.

# A new shell and a new plugin each time.
export def cold [runs: int, code: string]: nothing -> duration {
    1..$runs | each { timeit { ^$env.HA_NU -n --plugins $env.HA_PLUGIN -c $"($code) | ignore" } } | math median
}

# The same shell; the first time, which starts the plugin, does not count.
export def warm [runs: int, action: closure]: nothing -> duration {
    null | do $action | ignore
    1..$runs | each { timeit { null | do $action | ignore } } | math median
}

export def "memory of" [pid: int]: nothing -> filesize { "VmRSS" | of-process $pid }

# The most that it ever had.
export def "peak of" [pid: int]: nothing -> filesize { "VmHWM" | of-process $pid }

def of-process [pid: int]: string -> filesize {
    let field = $in
    open --raw $"/proc/($pid)/status" | parse --regex $"($field):\\s+\(?<kb>\\d+\) kB" | get 0.kb | into int | $in * 1kib
}

# Fails when a step was not done.
export def "rollout check" []: table -> nothing {
    let failed = $in | where status not-in [done unchanged]
    if ($failed | is-not-empty) {
        error make --unspanned {msg: $"not done:\n($failed | to nuon --indent 2)" code: "ha::bench::failed"}
    }
}

# Rows with their ratio to the budget: above 1 is over it. Of a row with `more` true, more is better.
export def rated []: table -> table {
    each {|row|
        let ratio = match [$row.budget ($row.more? | default false)] {
            [null _] => null
            [_ true] => ($row.budget / $row.measured)
            _ => ($row.measured / $row.budget)
        }
        {
            what: $row.what
            measured: ($row.measured | readable)
            budget: $row.budget
            ratio: (if $ratio == null { null } else { $ratio | math round --precision 2 })
        }
    }
}

# Nanoseconds say nothing here.
export def readable []: any -> any {
    let measured = $in
    match ($measured | describe) {
        duration => (if $measured < 1sec { $measured // 10us * 10us } else { $measured // 10ms * 10ms })
        _ => $measured
    }
}
