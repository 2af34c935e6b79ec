# What the clouds cost in time and memory: against stand-ins for the providers on this machine, and moto for AWS.
# How fast a provider is plays no part; what is added to every answer where it says so does.

use measure.nu *

const ROOT = path self ../..

# Of moto's own images: it knows neither Canonical's nor their names in SSM.
const IMAGE = "ami-12c6146b"
const PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMqMHbp74budVgHFOVstkF9XA6wU8MQjwbdJxBOVh86K bench"

# What is at each provider when everything is read: the smallest workspace that asks it.
const PLACES = [
    [provider region field declared label];
    [
        digitalocean us-east region_us_east
        'network = digitalocean.VPC & { name = "us-net", region = "nyc3", ip_range = "10.0.0.0/16" },
        app_servers = digitalocean.Droplet & { name = "us-app", region = "nyc3" },'
        "ha:"
    ]
    [
        hetzner eu-central region_eu_central
        'network = hetzner.Network & { name = "eu-net", ip_range = "10.1.0.0/16" },
        app_servers = hetzner.Server & { name = "eu-app", location = "nbg1" },'
        "ha/"
    ]
    [
        aws asia-southeast region_asia_southeast
        'network = aws.VPC & { name = "asia-net", region = "ap-southeast-1", ip_range = "10.2.0.0/16" },
        app_servers = aws.EC2 & { name = "asia-app", region = "ap-southeast-1" },'
        "ha:"
    ]
]

# All figures of the clouds; medians of so many runs, and of three where something is made or removed.
export def figures [
    folder: path   # For workspaces and what is kept beside them.
    runs: int
    only?: string  # reading, memory, aws, instances or example
]: nothing -> table<what: string, measured: any, budget: any, more: bool> {
    $env.HA_STATE_HOME = $folder | path join state
    $env.HA_RUNTIME_DIR = $folder | path join run
    # What the providers' own tools read.
    $env.DIGITALOCEAN_TOKEN = "bench"
    $env.HCLOUD_TOKEN = "bench"
    $env.AWS_ACCESS_KEY_ID = "AKIAEXAMPLE"
    $env.AWS_SECRET_ACCESS_KEY = "bench"
    let program = stand-in
    let parts = {
        reading: {|| reading $folder $runs $program }
        memory: {|| memory $folder $program }
        aws: {|| aws $folder "the AWS region" 3 {plan: 600ms up: 8sec down: 8sec} }
        instances: {|| aws $folder "100 instances" 96 {plan: null up: 15sec down: null} }
        example: {|| example $folder $program }
    }
    $parts
    | items {|name, part| if $only in [null $name] { do $part } else { [] } }
    | flatten
    | default false more
}

# Everything that three clouds with a thousand servers each have, 80 ms before every answer; and the same with one
# request at a time, one provider after the other.
def reading [folder: path, runs: int, program: path]: nothing -> table {
    with-servers $folder $program 1000 80 {|endpoints, name|
        let all = workspace of $folder $name $PLACES $endpoints
        cd $all
        expect 3000
        let together = warm $runs { ha inventory }
        let alone = $PLACES | each {|place|
            cd (workspace of $folder $name [$place] $endpoints)
            $env.config.plugins.ha = {concurrency: 1}
            expect 1000
            warm 3 { ha inventory }
        }
        [
            {what: "inventory, 3 clouds, 1,000 servers each, 80 ms an answer" measured: $together budget: 500ms}
            {what: "the same, one request after another" measured: ($alone | math sum) budget: null}
            {what: "times faster side by side" measured: (($alone | math sum) / $together | math round --precision 1) budget: 5 more: true}
        ]
    }
}

# Of a plugin that has read ten thousand.
def memory [folder: path, program: path]: nothing -> table {
    with-servers $folder $program 3334 0 {|endpoints, name|
        cd (workspace of $folder $name $PLACES $endpoints)
        let used = (
            ^$env.HA_NU -n --plugins $env.HA_PLUGIN -c '
                let seen = ha inventory server | where owned | length
                let pid = plugin list | where name == ha | get 0.pid
                {seen: $seen status: (open --raw $"/proc/($pid)/status")} | to nuon
            '
            | from nuon
        )
        if $used.seen < 10_000 { error make --unspanned {msg: $"($used.seen) servers were seen" code: "ha::bench::failed"} }
        let peak = $used.status | parse --regex 'VmHWM:\s+(?<kb>\d+) kB' | get 0.kb | into int | $in * 1kib
        [{what: "plugin, memory at most, 10,000 resources" measured: $peak budget: 150mb}]
    }
}

# The AWS region of the example with so many application servers, made, planned again and removed; each time at an
# emulator that has seen nothing yet.
def aws [folder: path, title: string, servers: int, budget: record]: nothing -> table {
    let seen = 1..3 | each {
        with-moto $folder {|endpoint|
            let name = workspace name
            cd (aws workspace $folder $name $servers $endpoint)
            let up = timeit { ha provision | rollout check }
            idle
            let plan = cold 3 "ha plan"
            let down = timeit { ha destroy $name | rollout check }
            {up: $up plan: $plan down: $down}
        }
    }
    [
        {what: $"($title): provision from nothing" measured: ($seen.up | math median) budget: $budget.up}
        {what: $"($title): plan with nothing to do, cold shell" measured: ($seen.plan | math median) budget: $budget.plan}
        {what: $"($title): destroy" measured: ($seen.down | math median) budget: $budget.down}
    ]
}

# The whole example on three providers, and how many requests one look at all of it takes.
def example [folder: path, program: path]: nothing -> table {
    with-moto $folder {|aws|
        let key = ["--ssh-key" "provisioning-key" "--token" "bench"]
        with-server $folder [$program hetzner ...$key] {|hetzner|
            with-server $folder [$program digitalocean ...$key] {|digitalocean|
                let name = workspace name
                let text = open --raw ($ROOT | path join workspace.ncl) | with image
                | str replace --regex '\n *\{ entry_protocol = "https".*\},' ""
                cd (written $folder $name $text {digitalocean: $digitalocean hetzner: $hetzner aws: $aws})
                let up = timeit { ha provision | rollout check }
                idle
                # Whoever asks for the limits asks each provider once more.
                let calls = ^$env.HA_NU -n --plugins $env.HA_PLUGIN -c 'ha inventory | ignore; ha limits | to nuon' | from nuon
                let down = timeit { ha destroy $name | rollout check }
                [
                    {what: "the example on three providers: provision from nothing" measured: $up budget: null}
                    {what: "the example on three providers: destroy" measured: $down budget: null}
                    {what: "calls for a full read of the example" measured: (($calls.used | math sum) - ($calls | length)) budget: 40}
                ]
            }
        }
    }
}

# Fails unless so many servers are seen, all of them this workspace's: whoever reads less is faster.
def expect [count: int]: nothing -> nothing {
    let rows = ha inventory
    let seen = $rows | where {|it| $it.kind == server and $it.owned } | length
    if $seen != $count {
        let silent = $rows | where error != null | get error | str join "; "
        error make --unspanned {msg: $"($seen) of ($count) servers were seen; ($silent)" code: "ha::bench::failed"}
    }
}

# Fails unless there is nothing to do.
def idle []: nothing -> nothing {
    let left = ha plan | where action != none
    if ($left | is-not-empty) {
        error make --unspanned {msg: $"still to do:\n($left | to nuon --indent 2)" code: "ha::bench::failed"}
    }
}

# Three providers with so many servers of one workspace each, for as long as `act` takes.
def with-servers [folder: path, program: path, count: int, latency: int, act: closure]: nothing -> any {
    let name = workspace name
    let command = {|provider, region, label|
        let labels = [$"ws=($name)" $"region=($region)" "name={name}" "kind=server" "spec=0123456789abcdef" "group=us-app" "index=1" "image=ubuntu" ]
        let labels = $labels | each {|it| [--label $"($label)($it)"] } | flatten
        let token = if $provider == aws-replay { [] } else { [--token bench --rate-limit "1000000"] }
        [$program $provider --servers $"($count)" --latency-ms $"($latency)" ...$token ...$labels]
    }
    with-server $folder (do $command digitalocean us-east "ha:") {|digitalocean|
        with-server $folder (do $command hetzner eu-central "ha/") {|hetzner|
            with-server $folder (do $command aws-replay asia-southeast "ha:") {|aws|
                do $act {digitalocean: $digitalocean hetzner: $hetzner aws: $aws} $name
            }
        }
    }
}

# A server for as long as `act` takes, which is given the address that the server says first.
def with-server [folder: path, command: list<string>, act: closure]: nothing -> any {
    let said = mktemp --tmpdir-path $folder said.XXXXXX
    let job = job spawn { ^($command | first) ...($command | skip 1) o+e> $said }
    act with $job $said $act
}

# moto ends when its input does, and whatever becomes of us that is in an hour.
def with-moto [folder: path, act: closure]: nothing -> any {
    let said = mktemp --tmpdir-path $folder said.XXXXXX
    let moto = $ROOT | path join tests judges aws moto.sh
    let job = job spawn { ^sleep 3600 | ^$moto -H 127.0.0.1 -p 0 o+e> $said }
    act with $job $said $act
}

def "act with" [job: int, said: path, act: closure]: nothing -> any {
    try {
        do $act (address in $said)
    } finally {
        job kill $job
    }
}

# What a server says that begins like an address; the first start of moto installs it.
def "address in" [said: path]: nothing -> string {
    let started = date now
    mut found = []
    while ($found | is-empty) {
        if (date now) - $started > 5min {
            error make --unspanned {msg: $"no server came up; it said: (open --raw $said)" code: "ha::bench::failed"}
        }
        sleep 20ms
        $found = open --raw $said | parse --regex '(?<address>http://127\.0\.0\.1:\d+\S*)' | get address
    }
    $found | first
}

# A name that nobody uses.
def "workspace name" []: nothing -> string { $"bench-(random int 1000..9999)" }

# A workspace with these places and nothing else.
def "workspace of" [folder: path, name: string, places: table, endpoints: record]: nothing -> path {
    let roles = ["'Primary" "'Secondary" "'Tertiary"]
    let regions = $places | enumerate | each {|it|
        $"  ($it.item.field) = {\n    role = ($roles | get $it.index),\n    ($it.item.declared)\n  },"
    }
    let text = [
        'let { digitalocean, hetzner, aws, Workspace, .. } = import "ha.ncl" in'
        "{"
        '  workspace = "shop",'
        ...$regions
        "} | Workspace"
        ""
    ]
    written $folder $name ($text | str join "\n") $endpoints
}

# The example without the other two regions and what is between regions.
def "aws workspace" [folder: path, name: string, servers: int, endpoint: string]: nothing -> path {
    let text = open --raw ($ROOT | path join workspace.ncl) | with image
    | str replace --regex '(?s)\n  region_us_east = .*?(?=\n  region_asia_southeast)' ""
    | str replace --regex '(?s)\n  dns = .*?\n  \},' ""
    | str replace "role = 'Tertiary" "role = 'Primary"
    | str replace --regex "sync_mode = '\\w+" "sync_mode = 'Async"
    | str replace "count = 3" $"count = ($servers)"
    written $folder $name $text {aws: $endpoint}
}

def "with image" []: string -> string {
    str replace --all 'instance_type = "t3.medium",' $'instance_type = "t3.medium", image_id = "($IMAGE)",'
}

# A folder with this workspace under this name, at these endpoints.
def written [folder: path, name: string, text: string, endpoints: record]: nothing -> path {
    let made = mktemp --directory --tmpdir-path $folder ws.XXXXXX
    $text | str replace --regex 'workspace = "[^"]+"' $'workspace = "($name)"' | save ($made | path join workspace.ncl)
    $PUBLIC_KEY | save ($made | path join key.pub)
    let providers = $endpoints | items {|provider, endpoint| $"[providers.($provider)]\nendpoint = \"($endpoint)\"\n" }
    ['target = "cloud"' "[cloud]" 'ssh_public_key = "key.pub"' ...$providers]
    | str join "\n"
    | save ($made | path join config.toml)
    $made
}

# HA_STAND_IN names a built one.
def stand-in []: nothing -> path {
    if $env.HA_STAND_IN? != null { return $env.HA_STAND_IN }
    ^cargo build --quiet --release --locked --manifest-path ($ROOT | path join Cargo.toml) --package ha-stand-ins
    $env.CARGO_TARGET_DIR? | default ($ROOT | path join target) | path join release ha-stand-in
}
