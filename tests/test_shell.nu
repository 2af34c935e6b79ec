# The scripts as a person starts them, and what the shell makes of them. Nothing has to be provisioned.

use std/assert
use std/testing *

const ROOT = path self ..

def scripts []: nothing -> list<path> {
    [($ROOT | path join deploy.nu) ...(glob ($ROOT | path join "{scripts,tests}/**/*.nu"))]
}

# A folder for one test.
def "with folder" [action: closure]: nothing -> any {
    let folder = mktemp --directory --tmpdir "ha test.XXXXXX" # with a space in it, on purpose
    let result = try { {value: (do $action $folder)} } catch {|err| {error: $err.raw} }
    rm --recursive --force $folder
    if $result.error? != null { return $result.error }
    $result.value
}

# The same, with the example workspace in it.
def "with workspace" [action: closure]: nothing -> any {
    with folder {|folder|
        cp ($ROOT | path join workspace.ncl) ($ROOT | path join config.toml) $folder
        cd $folder
        do $action $folder
    }
}

def completions [line: string]: nothing -> list<string> {
    $line | commandline complete
}

@test
def "every script is understood, and so are the flags of the plugin" [] {
    assert ((scripts | length) > 8)
    # Without the plugin `ha` would be taken for an external program, and every flag of it for right.
    assert ((scope commands | where name == "ha lag" and type == plugin | length) == 1)
    for script in (scripts) {
        assert (nu-check --debug $script) $script
    }
}

@test
def "a misspelt flag of the plugin is found before anything runs" [] {
    assert not ("ha lag --chekc" | nu-check)
}

@test
def "every script can be started and explains itself" [] {
    for script in (scripts | where {|it| (open --raw $it | str starts-with "#!") }) {
        let answer = ^$script --help | complete
        assert equal $answer.exit_code 0 $"($script): ($answer.stderr)"
        assert str contains $answer.stdout "Examples:"
    }
}

@test
def "deploy.nu is found through a link, from another folder, in a path with spaces" [] {
    with folder {|folder|
        let link = $folder | path join "my deploy"
        ^ln -s ($ROOT | path join deploy.nu) $link
        cd /
        let answer = ^$link --help | complete
        assert equal $answer.exit_code 0 $answer.stderr
        assert str contains $answer.stdout "--dry-run"
    }
}

@test
def "a plugin that is not built names the command that builds it" [] {
    let answer = with-env {HA_PLUGIN: /nonexistent/nu_plugin_ha} { ^($ROOT | path join deploy.nu) --dry-run | complete }
    assert equal $answer.exit_code 1
    assert str contains $answer.stderr "scripts/start.sh"
}

@test
def "a shell of another version is refused in words" [] {
    let answer = with-env {HA_NU: /bin/true} { ^($ROOT | path join scripts/nu.sh) -c "1" | complete }
    assert equal $answer.exit_code 1
    assert str contains $answer.stderr "Nushell 0.115.1 is not there"
}

@test
def "another nu on PATH is left alone" [] {
    with folder {|folder|
        let other = $folder | path join nu
        "#!/bin/sh\necho 0.99.0\n" | save $other
        ^chmod 755 $other
        let answer = with-env {PATH: [$folder ...$env.PATH]} {
            ^($ROOT | path join scripts/nu.sh) -c "version | get version" | complete
        }
        assert equal ($answer.stdout | str trim) "0.115.1" $answer.stderr
    }
}

@test
def "Tab knows the commands and the regions" [] {
    with workspace {|folder|
        let commands = completions "ha "
        for name in ["ha plan" "ha provision" "ha status" "ha lag"] { assert ($name in $commands) $"($name) in ($commands)" }
        let regions = completions "ha plan --region "
        for name in [us-east eu-central asia-southeast] { assert ($name in $regions) $"($name) in ($regions)" }
        let kinds = completions "ha inventory "
        assert ("database" in $kinds) $"($kinds)"
    }
}

@test
def "every command of the plugin has help and an example" [] {
    for command in (scope commands | where type == plugin and name =~ "^ha ") {
        assert ($command.description | is-not-empty) $command.name
        assert ($command.examples | is-not-empty) $command.name
    }
}

@test
def "the example workspace has no errors" [] {
    with workspace {|folder| assert equal (ha check | where severity == error) [] }
}

@test
def "a mistake in the workspace is drawn with a caret" [] {
    with workspace {|folder|
        open --raw workspace.ncl | str replace "10.1.0.0/16" "10.0.0.0/16" | save --force --raw workspace.ncl
        let finding = ha check | where severity == error | first
        assert equal $finding.file ($folder | path join workspace.ncl)
        # The place is the text it is about.
        let text = open --raw workspace.ncl
        let span = $finding.labels.0.span
        assert str contains ($text | str substring $span.start..<$span.end) "10.0.0.0/16"

        let answer = ^$nu.current-exe -n --plugins $env.HA_PLUGIN -c $"use ($ROOT | path join scripts/ha | to nuon) *; check workspace" | complete
        assert equal $answer.exit_code 1
        assert str contains $answer.stderr "workspace.ncl:"
        assert str contains $answer.stderr $finding.message
    }
}

@test
def "without a workspace the error says what to type" [] {
    with folder {|folder|
        cd $folder
        let error = try { ha regions; null } catch {|err| $err }
        assert equal $error.details.code "ha::workspace::missing"
        assert str contains $error.details.help "ha init"
    }
}

@test
def "ha init makes a workspace that passes its own check, once" [] {
    with folder {|folder|
        cd $folder
        ha init
        assert equal (ha check | where severity == error) []
        assert equal (ha regions | length) 3
        let before = open --raw workspace.ncl
        let error = try { ha init; null } catch {|err| $err }
        assert equal $error.details.code "ha::init::exists"
        assert equal (open --raw workspace.ncl) $before
    }
}

@test
def "the order of a deployment is that of its dry run" [] {
    let state = mktemp --directory --tmpdir ha-state.XXXXXX
    let answer = with-env {HA_STATE_HOME: $state} {
        ^($ROOT | path join deploy.nu) --dry-run | complete
    }
    rm --recursive --force $state
    assert equal $answer.exit_code 0 $answer.stderr
    assert str contains $answer.stdout "create"
    let wrong = with-env {HA_STATE_HOME: $state} { ^($ROOT | path join deploy.nu) --dry-run --region us-esat | complete }
    assert equal $wrong.exit_code 1
    assert str contains $wrong.stderr "us-east"
}

@test
def "the inventory script of Ansible prints JSON before anything is there, and knows which servers there are" [] {
    let script = $ROOT | path join scripts ansible-inventory.nu
    with folder {|folder|
        $env.HA_STATE_HOME = $folder | path join state
        $env.HA_RUNTIME_DIR = $folder | path join run
        # Ansible calls it from anywhere.
        cd $folder
        let answer = ^$script --list | complete
        assert equal $answer.exit_code 0 $answer.stderr
        let inventory = $answer.stdout | from json
        assert equal $inventory._meta.hostvars {}
        assert equal $inventory.db_servers.hosts []
        assert equal $inventory.all.vars.target local
        let nobody = ^$script --host us-db-1 | complete
        assert equal $nobody.exit_code 1
        assert str contains $nobody.stderr "ha::server::unknown"
        assert str contains $nobody.stderr "ha provision"
    }
}

@test
def "a bill adds up in pipelines, and a hole in it is no zero" [] {
    cd $ROOT
    let bill = ha cost
    let by_region = $bill
        | where monthly_cost != null
        | group-by { $in.region | default "all regions" } --to-table
        | insert monthly_cost {|it| $it.items.monthly_cost | math sum }
    let whole = $bill.monthly_cost | compact | math sum
    assert equal ($by_region.monthly_cost | math sum | math round --precision 2) ($whole | math round --precision 2)
    let error = try { $bill.monthly_cost | math sum; null } catch {|err| $err }
    assert ($error != null) "a line without a price was added up"
    # Two servers fewer in each region cost less, and nothing else has changed.
    let changed = ha cost --what-if count=1 | where difference != 0
    assert equal ($changed.name | uniq | sort) [asia-app eu-app us-app]
    assert ($changed | all {|it| $it.difference < 0 and $it.monthly_cost < $it.before })
}
