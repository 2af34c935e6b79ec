# Findings of `ha check`, raised as errors that Nushell draws in the user's own file.

# More than this many are not drawn: the first ones are fixed first anyway.
const DRAWN = 8

# Stop unless `ha check` finds no error; warnings and notes are given back as a table.
@example "before anything is changed" { check workspace }
export def "check workspace" []: nothing -> table {
    ha check | raise findings
}

# The names of the declared regions; raises an error when `region` is given and not among them.
@example "a slip of the finger" { check region us-esat }
export def "check region" [
    region?: string  # As typed by somebody.
]: nothing -> list<string> {
    let declared = ha regions | get region
    if $region != null and $region not-in $declared {
        let near = $declared | sort-by {|name| $name | str distance $region } | first
        error make --unspanned {
            msg: $"no region ($region) in the workspace"
            code: "ha::region::unknown"
            help: $"did you mean ($near)? declared are: ($declared | str join ', ')"
        }
    }
    $declared
}

# What realises the workspace in the current folder: this machine (`local`) or its providers (`cloud`).
@example "do not wait for replication there" { if (workspace target) == local { wait streaming } }
export def "workspace target" []: nothing -> string {
    try { open config.toml | get target } catch { "local" }
}

# Raise the findings of severity `error`, each with a caret under the place it is about; give back the others.
@example "only what the networks are to blame for" { ha check | where code =~ overlap | raise findings }
export def "raise findings" []: table -> table {
    let findings = $in
    let errors = $findings | where severity == error
    if ($errors | is-not-empty) {
        let drawn = $errors | first $DRAWN | each {|finding| $finding | finding error }
        if ($errors | length) == 1 {
            error make --unspanned=($drawn.0.labels? | is-empty) $drawn.0
        }
        error make --unspanned {
            msg: $"($errors | length) errors in the workspace"
            code: "ha::check::failed"
            help: "correct what is drawn below; `ha check` shows all findings as a table"
            inner: $drawn
        }
    }
    $findings
}

# One finding as the record that `error make` takes. Its code goes into the message: an error with a source of
# its own is always `nu::shell::outside`.
export def "finding error" []: record -> record {
    let finding = $in
    let place = if $finding.file? == null { "" } else { $"($finding.file):($finding.line):($finding.column): " }
    let drawable = $finding.src? != null and ($finding.labels? | default [] | is-not-empty)
    {
        # Without a drawing the place has to be said.
        msg: $"(if $drawable { '' } else { $place })($finding.message) [($finding.code)]"
        code: $finding.code
    }
    | if $finding.help? == null { $in } else { insert help $finding.help }
    | if $drawable { insert labels $finding.labels | insert src $finding.src } else { $in }
}
