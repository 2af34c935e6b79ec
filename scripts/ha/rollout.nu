# A plan carried out, region by region, with a line per finished step.

# The regions of a plan in the order to work on them: the primary, the others as declared, then those that are
# only being removed.
@example "who comes first" { ha plan | rollout order }
export def "rollout order" []: table -> list<string> {
    let planned = $in | get region | uniq
    let declared = ha regions
    let first = $declared | where role == primary | get region
    [...$first ...$declared.region ...$planned] | uniq | where {|region| $region in $planned }
}

# Carry out a plan, or the part of it that is piped in. Says each step as it finishes, gives all of them back,
# and raises an error at the end when one of them failed: what could be done was done, and a second run does
# the rest.
@example "one region" { ha plan | where region == us-east | rollout run }
@example "what took longest" { ha plan | rollout run | sort-by took | last 3 }
export def "rollout run" [
    --debug (-d)  # Say the steps with nothing to do, too.
]: table -> table {
    let steps = $in | ha provision | each {|step|
        if $debug or $step.action != none or $step.name == null { print --stderr ($step | step line) }
        $step
    }
    let failed = $steps | where status not-in [done unchanged]
    if ($failed | is-not-empty) {
        error make --unspanned {
            msg: $"($failed | length) of ($steps | length) steps failed"
            code: "ha::rollout::failed"
            help: "correct the cause and run this again: it goes on where it stopped; `ha events --last 20` shows what happened"
            inner: ($failed | each {|step| $step | step error })
        }
    }
    $steps
}

# A finished step as one line. The only row of a plan with nothing to do has no name.
def "step line" []: record -> string {
    let step = $in
    let took = if $step.took? == null { "" } else { $" (round took $step.took)" }
    if $step.name == null { return "  nothing to do" }
    let what = [$step.region $step.action $step.kind $step.name] | str join " "
    if $step.status == done { $"  ($what)($took)" } else { $"  ($what) ($step.status)($took)(because $step.error)" }
}

# A step that was not done, as the record that `error make` takes.
def "step error" []: record -> record {
    let step = $in
    {
        msg: $"($step.action) ($step.kind) ($step.name) in ($step.region) ($step.status)(because $step.error)"
        code: ($step.code | default "ha::rollout::step")
    }
    | if $step.help == null { $in } else { insert help $step.help }
}

def because [error?: string]: nothing -> string {
    if $error == null { "" } else { $": ($error)" }
}

# Nanoseconds help nobody.
def "round took" [took: duration]: nothing -> duration {
    if $took < 1ms { $took } else { ($took // 1ms) * 1ms }
}
