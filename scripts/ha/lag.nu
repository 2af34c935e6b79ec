# Lag over time.

# Of rows of `ha lag --follow`, those in which the verdict on a database is another than before. Passes them on
# as they come.
@example "a quiet log" { ha lag --check --follow --interval 5sec | lag changes | each { to json --raw } }
@example "one change" { [[node verdict]; [a ok] [a ok] [a warn]] | lag changes | get verdict } --result [ok warn]
export def "lag changes" []: table -> table {
    generate {|row, known = {}|
        if ($known | get --optional $row.node) == $row.verdict {
            {next: $known}
        } else {
            {out: $row next: ($known | upsert $row.node $row.verdict)}
        }
    }
}

# Watch the lag from the background of this shell, and get back the number of the job: `job recv` waits for the
# next change of a verdict, `job kill` ends the watch.
@example "tell me in this shell" { let watch = lag watch; job recv --timeout 10min }
export def "lag watch" [
    --every (-e): duration = 30sec  # Between two looks.
]: nothing -> int {
    job spawn --description "ha lag" {
        ha lag --check --follow --interval $every | lag changes | each {|row| $row | job send 0 } | ignore
    }
}
