#!/usr/bin/env -S sh -c 's=$(readlink -f "$0"); HA_PROFILE="${HA_PROFILE:-dev}" exec "${s%/*}/../scripts/nu.sh" "$s" "$@"'

const HERE = path self .

# Run the tests of the scripts: every command marked @test in tests/test_*.nu, each in a Nushell of its own with
# the plugin loaded. Shows a row per test, and exits with 1 when one failed.
@example "all of them" { ./tests/run.nu }
@example "while working on one" { ./tests/run.nu --filter caret }
def main [
    --filter (-f): string = ""  # Only tests whose name has this in it.
]: nothing -> nothing {
    let tests = glob ($HERE | path join test_*.nu)
        | sort
        | each {|file| $file | tests of }
        | flatten
        | where {|test| $filter in $test.test }
    if ($tests | is-empty) { error make --unspanned {msg: $"no test has ($filter) in its name" code: "ha::test::none"} }

    # Two at a time: most of a test is the start of a shell and of the plugin.
    let rows = $tests | par-each --threads 2 --keep-order {|test| $test | outcome }
    for row in $rows { print $"($row.status | fill --width 7)($row.took | into string | fill --alignment right --width 10)  ($row.file): ($row.test)" }
    let failed = $rows | where status == failed
    for row in $failed {
        print $"\n== ($row.file): ($row.test)\n($row.output)"
    }
    print $"($rows | length) tests, ($failed | length) failed"
    if ($failed | is-not-empty) { exit 1 }
}

# The tests of one file.
def "tests of" []: path -> table<file: string, test: string> {
    let file = $in
    let answer = shell $"source ($file | to nuon)
        scope commands | where {|it| 'test' in $it.attributes.name } | get name | to nuon"
    if $answer.exit_code != 0 {
        error make --unspanned {msg: $"($file) cannot be read:\n($answer.stderr)" code: "ha::test::unreadable"}
    }
    $answer.stdout | from nuon | each {|name| {file: $file test: $name} }
}

def outcome []: record<file: string, test: string> -> record {
    let test = $in
    let started = date now
    let answer = shell $"source ($test.file | to nuon)\n($test.test)"
    {
        file: ($test.file | path basename)
        test: $test.test
        status: (if $answer.exit_code == 0 { "ok" } else { "failed" })
        took: (((date now) - $started) // 1ms * 1ms)
        output: ($answer.stdout + $answer.stderr)
    }
}

def shell [code: string]: nothing -> record {
    ^$nu.current-exe -n --plugins $env.HA_PLUGIN -c $code | complete
}
