# The steps of scripts/ha, against a plugin that is played by a few lines: nothing has to be provisioned.

use std/assert
use std/testing *

def "ha regions" []: nothing -> table {
    [[region role]; [us-east primary] [eu-central secondary]]
}

# One step cannot be done when the test says so.
def "ha provision" []: table -> table {
    insert status {|step| if $step.name == $env.BROKEN? { "failed" } else { "done" } }
    | insert took 12_345_678ns
    | insert error {|step| if $step.name == $env.BROKEN? { "no space left" } }
    | insert code null
    | insert help null
}

def "ha check" []: nothing -> table { $env.FINDINGS? | default [] }

# Becomes well at the third look.
def "ha health" []: nothing -> table {
    let looks = (try { open --raw $env.LOOKS | into int } catch { 0 }) + 1
    $looks | save --force --raw $env.LOOKS
    let status = if $looks < 3 { "failed" } else { "ok" }
    [[region target check status latency error]; [us-east us-lb load_balancer $status 1ms null] [eu-central eu-lb load_balancer failed 1ms "refused"]]
}

use ../scripts/ha *

const PLAN = [
    [region kind name action];
    [asia-southeast server old delete]
    [eu-central server eu-app-1 create]
    [us-east network us-net none]
    [us-east server us-app-1 create]
]

const TEXT = "{\n  role = 'Primry,\n  count = 0,\n}\n"

def finding [code: string message: string start: int end: int]: nothing -> record {
    {
        severity: error code: $code message: $message path: role file: /shop/workspace.ncl line: 2 column: 3
        help: "did you mean 'Primary?" labels: [{text: "here" span: {start: $start end: $end}}]
        src: {name: workspace.ncl text: $TEXT}
    }
}

@test
def "the primary goes first and a region that is only removed goes last" [] {
    assert equal ($PLAN | rollout order) [us-east eu-central asia-southeast]
}

@test
def "a rollout gives back every step" [] {
    let steps = $PLAN | rollout run
    assert equal ($steps | get name) [old eu-app-1 us-net us-app-1]
    assert equal ($steps | get took | uniq) [12_345_678ns]
}

@test
def "a failed step is an error after the others were done" [] {
    $env.BROKEN = "eu-app-1"
    let error = try { $PLAN | rollout run; null } catch {|err| $err }
    assert equal $error.details.code "ha::rollout::failed"
    assert str contains $error.rendered "create server eu-app-1 in eu-central failed: no space left"
}

@test
def "findings that are no errors are given back" [] {
    let warning = finding ha::check::distance "close" 4 8 | update severity warning
    $env.FINDINGS = [$warning]
    assert equal (check workspace) [$warning]
}

@test
def "one error is drawn with a caret in the file of the user" [] {
    $env.FINDINGS = [(finding ha::check::role "no such role" 11 18)]
    let error = try { check workspace; null } catch {|err| $err }
    for part in ["no such role [ha::check::role]" "workspace.ncl:2:10" "role = 'Primry" "did you mean 'Primary?"] {
        assert str contains $error.rendered $part
    }
}

@test
def "all errors are drawn at once" [] {
    $env.FINDINGS = [(finding ha::check::role "no such role" 11 18) (finding ha::check::count "at least one" 30 31)]
    let error = try { check workspace; null } catch {|err| $err }
    for part in ["2 errors in the workspace" "no such role" "at least one" "count = 0"] {
        assert str contains $error.rendered $part
    }
    assert equal $error.details.code "ha::check::failed"
}

@test
def "a finding without a place says the place in words" [] {
    let bare = finding ha::check::primary "no primary" 0 0 | update labels [] | update src null
    assert equal ($bare | finding error | get msg) "/shop/workspace.ncl:2:3: no primary [ha::check::primary]"
    let nowhere = $bare | update file null | update help null
    assert equal ($nowhere | finding error) {msg: "no primary [ha::check::primary]" code: "ha::check::primary"}
}

@test
def "a misspelt region is an error that names the near one" [] {
    assert equal (check region) [us-east eu-central]
    assert equal (check region us-east) [us-east eu-central]
    let error = try { check region us-esat; null } catch {|err| $err }
    assert equal $error.details.code "ha::region::unknown"
    assert str contains $error.details.help "did you mean us-east?"
}

@test
def "waiting ends when nothing is missing" [] {
    $env.LOOKS = mktemp --tmpdir
    "0" | save --force --raw $env.LOOKS
    let health = wait healthy us-east --timeout 30sec
    rm $env.LOOKS
    assert equal ($health | get status) [ok]
}

@test
def "waiting in vain says what is missing" [] {
    $env.LOOKS = mktemp --tmpdir
    "0" | save --force --raw $env.LOOKS
    let error = try { wait healthy eu-central --timeout 10ms; null } catch {|err| $err }
    rm $env.LOOKS
    assert equal $error.details.code "ha::wait::timeout"
    assert str contains $error.msg "load_balancer eu-lb in eu-central is failed (refused)"
}

@test
def "a retry stops at the first success" [] {
    let file = mktemp --tmpdir
    let result = retry --pause 1ms { "x" | save --append $file; if (open --raw $file) != xx { error make {msg: "not yet"} }; "done" }
    let attempts = open --raw $file
    rm $file
    assert equal [$result $attempts] [done xx]
}

@test
def "a retry in vain raises the last error as it was" [] {
    let error = try { retry --times 2 --pause 1ms { error make {msg: "never" code: "test::never"} }; null } catch {|err| $err }
    assert equal $error.details.code "test::never"
}

@test
def "only changes of a verdict are passed on" [] {
    let rows = [[node verdict]; [a ok] [b ok] [a ok] [a warn] [b ok] [a ok]]
    assert equal ($rows | lag changes) [[node verdict]; [a ok] [b ok] [a warn] [a ok]]
}
