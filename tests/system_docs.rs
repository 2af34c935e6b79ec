//! What the documents and the help texts show can be typed, and does what they say.

use std::{path::Path, time::Duration};

use ha_tests::{Cluster, eventually};

const README: &str = include_str!("../README.md");
const ARCHITECTURE: &str = include_str!("../ARCHITECTURE.md");
/// A node that is rewound or copied needs a while, and a switchover after it.
const SOON: Duration = Duration::from_secs(120);

/// Examples that are not run here, and why.
const SKIPPED: &[(&str, &str)] = &[
    ("ha destroy shop", "the last block of the README does it"),
    (
        "ha destroy shop --region asia-southeast",
        "the examples after it need the region",
    ),
    (
        "ha failover --accept-loss --fenced \"power is off, seen in the rack\"",
        "two of three regions would have to be lost first; a scenario of tests/failover does it",
    ),
    (
        "ha failover --to eu-central --witness \"us-db-1 is off, seen in the rack\"",
        "every guard would have to be gone first; scenarios of tests/failover do it",
    ),
    (
        "ha quorum adopt --why \"all three disks lost, restored from last night\"",
        "refused while the store has not gone back in time",
    ),
];

/// Of accounts and names, which this machine has none of: refused here, with the way to where they are. They run in
/// tests/clouds.
const AT_CLOUDS: &[&str] = &["ha adopt", "ha dns", "ha orphans"];

/// Not here: they would ask real accounts with whatever credentials there are where the tests run.
const ASK_ACCOUNTS: &[&str] = &["ha check --credentials", "ha check --offers", "ha import"];

/// Examples that run until Ctrl-C, and the same with an end.
const ENDLESS: &[(&str, &str)] = &[
    (
        "ha lag --follow --interval 5sec | where lag > 1sec",
        "ha lag --follow --interval 100ms | first 4 | where lag > 1sec",
    ),
    (
        "ha events --follow --last 0 | where source == guard",
        "ha events --follow --last 3 | first 3 | where source == guard",
    ),
];

/// Afterwards the world is as before: these have no example that undoes them.
const UNDONE_BY: &[(&str, &str)] = &[
    ("ha power off us-app-1", "ha power on us-app-1"),
    ("ha pause --why 'changing the switch in nyc3' --for 30min", "ha resume"),
];

/// What may have moved the primary, or have made a node fall behind: afterwards the cluster is made whole, and the
/// declared primary leads again.
const MOVES: &[&str] = &["ha oracle {", "ha oracle --check", "ha switchover --to", "ha net cut"];

#[test]
fn every_command_that_is_shown_works() {
    let cluster = Cluster::new("docs");
    cluster.like_a_checkout();
    let blocks = blocks(README);
    let end = blocks
        .iter()
        .position(|it| it.code.contains("ha destroy shop"))
        .expect("the README ends with nothing left");
    for block in &blocks[..end] {
        run(&cluster, block);
    }
    the_table_has_every_command(&cluster);
    the_table_has_the_columns_there_are(&cluster);
    the_examples_of_help_run(&cluster);
    for block in &blocks[end..] {
        run(&cluster, block);
    }
    assert!(!cluster.state().exists(), "the README ends with nothing left");
}

#[test]
fn what_the_architecture_names_is_there() {
    let names = in_backticks(ARCHITECTURE);
    let paths: Vec<_> = names.filter(|it| looks_like_a_path(it)).collect();
    assert!(paths.len() > 30, "{paths:?}");
    let missing: Vec<_> = paths.into_iter().filter(|it| !root().join(it).exists()).collect();
    assert!(
        missing.is_empty(),
        "ARCHITECTURE.md names what is not there: {missing:#?}"
    );
}

#[test]
fn links_within_the_readme_lead_somewhere() {
    let anchors: Vec<String> = README.lines().filter(|it| it.starts_with('#')).map(anchor).collect();
    for link in README.split("](#").skip(1).filter_map(|it| it.split(')').next()) {
        assert!(
            anchors.iter().any(|it| it == link),
            "no heading for #{link} in {anchors:?}"
        );
    }
}

// ---------------------------------------------------------------- the README

/// One fenced block of the README that is marked `nu`.
#[derive(Debug, Default)]
struct Block {
    line: usize,
    code: String,
    /// From `nu fails <code>`.
    fails: Option<String>,
    /// A pipeline that has to give rows first, from a comment above the block: `<!-- eventually: … -->`.
    eventually: Option<String>,
    /// The columns of the table that is shown below the block.
    columns: Option<Vec<String>>,
}

fn blocks(text: &str) -> Vec<Block> {
    let mut found: Vec<Block> = Vec::new();
    let mut waits = None;
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if let Some(pipeline) = line.strip_prefix("<!-- eventually: ") {
            waits = Some(pipeline.trim_end_matches(" -->").to_owned());
        }
        let Some(language) = line.strip_prefix("```") else {
            continue;
        };
        let body: Vec<&str> = lines
            .by_ref()
            .map(|(_, line)| line)
            .take_while(|line| *line != "```")
            .collect();
        match language.split_once(' ').unwrap_or((language, "")) {
            ("nu", flags) => found.push(Block {
                line: number + 1,
                code: body.join("\n"),
                fails: flags.strip_prefix("fails ").map(str::to_owned),
                eventually: waits.take(),
                columns: None,
            }),
            ("text", _) => {
                if let Some(block) = found.last_mut().filter(|it| it.columns.is_none()) {
                    block.columns = columns(&body);
                }
            }
            _ => {}
        }
    }
    assert!(found.len() > 15, "the README has a tour");
    found
}

/// Of a table as Nushell draws it; none when it is something else.
fn columns(drawn: &[&str]) -> Option<Vec<String>> {
    let [top, head, line, ..] = drawn else { return None };
    if !top.starts_with('╭') || !line.starts_with('├') {
        return None;
    }
    let cells = head.split('│').map(str::trim).filter(|it| !it.is_empty());
    Some(cells.map(str::to_owned).collect())
}

fn run(cluster: &Cluster, block: &Block) {
    let place = format!("README.md:{}", block.line);
    let code = named(cluster, &block.code);
    if let Some(pipeline) = &block.eventually {
        eventually(&format!("{place}: {pipeline}"), SOON, || {
            match cluster.rows(pipeline).is_empty() {
                true => Err("no rows".into()),
                false => Ok(()),
            }
        });
    }
    // Once only: most blocks change something. Wide enough for every column.
    let drawn = cluster.nu(&format!(
        "do {{\n{code}\n}} | collect | table --width 500 | default \"\" | ansi strip"
    ));
    match (drawn, &block.fails) {
        (Ok(drawn), None) => {
            if let Some(columns_shown) = &block.columns {
                let drawn: Vec<&str> = drawn.as_str().unwrap_or_default().lines().collect();
                let found = columns(&drawn).unwrap_or_default();
                assert_eq!(*columns_shown, found, "{place}: other columns than shown\n{code}");
            }
        }
        (Err(refused), Some(code)) => assert_eq!(refused.code, *code, "{place}: {refused}"),
        (Ok(drawn), Some(code)) => panic!("{place} did not fail with {code}: {drawn}"),
        (Err(refused), None) => panic!("{place}\n{code}\n{refused}"),
    }
}

/// The example is called `shop`, and the cluster of a test has a name of its own.
fn named(cluster: &Cluster, code: &str) -> String {
    code.replace("ha destroy shop", &format!("ha destroy {}", cluster.name))
}

/// Rows of the table of commands, and what gives rows with their columns without changing anything.
const COLUMNS: &[(&str, &str)] = &[
    ("ha doctor", "ha doctor"),
    ("ha regions", "ha regions"),
    ("ha plan", "ha plan"),
    ("ha provision", "ha provision --dry-run"),
    ("ha destroy", "ha destroy shop --dry-run"),
    ("ha inventory", "ha inventory"),
    ("ha cost", "ha cost"),
    ("ha upgrade", "ha upgrade --dry-run"),
    ("ha power", "ha power off us-app-1 --dry-run"),
    ("ha health", "ha health"),
    ("ha lag", "ha lag"),
    ("ha status", "ha status"),
    ("ha events", "ha events"),
    ("ha net", "ha net"),
    ("ha render", "ha render hba"),
    ("ha switchover", "ha switchover --dry-run"),
    ("ha failover", "ha failover --dry-run"),
    ("ha failback", "ha failback --dry-run"),
    ("ha … --explain", "ha switchover --explain"),
    ("ha rejoin", "ha rejoin asia-db-1 --dry-run"),
    ("ha lease", "ha lease"),
    ("ha quorum", "ha quorum"),
    ("ha pause", "ha pause --why 'a look' --dry-run"),
    ("ha resume", "ha resume --dry-run"),
    ("ha ack", "ha ack --dry-run"),
    ("ha db voters", "ha db voters"),
    ("ha db sync-mode", "ha db sync-mode"),
    ("ha budget", "ha budget"),
    ("ha oracle", "ha oracle --for 500ms"),
];

fn the_table_has_the_columns_there_are(cluster: &Cluster) {
    for (command, pipeline) in COLUMNS {
        let row = README.lines().find(|it| it.starts_with(&format!("| `{command}")));
        let row = row.unwrap_or_else(|| panic!("the README has no row for {command}"));
        let cell = row.trim_end_matches(" |").rsplit(" | ").next().unwrap_or_default();
        let shown: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
        let found = cluster
            .nu(&format!("{} | columns", named(cluster, pipeline)))
            .expect("columns");
        assert_eq!(serde_json::json!(shown), found, "columns of {command} in the README");
    }
}

fn the_table_has_every_command(cluster: &Cluster) {
    for command in cluster.rows("scope commands | where type == plugin | select name") {
        let name = command.text("name");
        // `ha net cut` stands in the row of `ha net`.
        let row = match name.split(' ').collect::<Vec<_>>()[..] {
            [_] => continue,
            [ha, noun, ..] => format!("| `{ha} {noun}"),
            [] => unreachable!("a command has a name"),
        };
        assert!(
            README.lines().any(|it| it.starts_with(&row)),
            "the README has no row for {name}"
        );
    }
}

// ---------------------------------------------------------------- help

fn the_examples_of_help_run(cluster: &Cluster) {
    let examples = cluster
        .rows("scope commands | where type == plugin | each {|it| $it.examples | insert command $it.name } | flatten");
    assert!(examples.len() > 25, "{examples:#?}");
    for (skipped, _) in SKIPPED {
        let known = examples.iter().any(|it| it.is("example", skipped));
        assert!(known, "{skipped} is skipped and is no example any more");
    }
    for row in &examples {
        let example = row.text("example");
        let elsewhere = ASK_ACCOUNTS.iter().any(|it| example.starts_with(it));
        if elsewhere || SKIPPED.iter().any(|(skipped, _)| *skipped == example) {
            continue;
        }
        let code = match row.text("command") {
            // Writes into the folder it is called in.
            "ha init" => format!(
                "cd (mktemp --directory --tmpdir-path {})\n{example}",
                cluster.folder().display()
            ),
            _ if example.contains("--follow") => {
                let ended = ENDLESS.iter().find(|(endless, _)| *endless == example);
                let (_, ended) = ended.unwrap_or_else(|| panic!("{example} has no end: say in ENDLESS how to run it"));
                (*ended).to_owned()
            }
            _ => named(cluster, example),
        };
        if let Err(refused) = cluster.nu(&format!("do {{\n{code}\n}} | collect")) {
            let at_clouds = AT_CLOUDS.iter().any(|it| example.starts_with(it));
            assert!(
                at_clouds && refused.help.contains("target = \"cloud\""),
                "help {}\n{code}\n{refused}",
                row.text("command")
            );
        }
        for (_, undo) in UNDONE_BY.iter().filter(|(done, _)| *done == example) {
            cluster.rows(undo);
        }
        // What is shown without being done changes nothing.
        let dry = example.contains("--dry-run") || example.contains("--explain");
        if !dry && MOVES.iter().any(|moves| example.starts_with(moves)) {
            at_home(cluster);
        }
    }
    at_home(cluster);
    cluster.wait_healthy(SOON);
}

/// Every line is healed, every database server votes, and the declared primary leads.
fn at_home(cluster: &Cluster) {
    cluster.rows("ha net heal");
    let declared = cluster.nu("ha regions | where role == primary | get 0.region");
    let voters = "ha db voters | where voter and state in [leader streaming] | length";
    eventually("the declared primary leads a whole cluster", SOON, || {
        let votes = cluster.nu(voters);
        if votes != Ok(serde_json::json!(3)) {
            return Err(format!("three must vote, not {votes:?}"));
        }
        let leads = cluster.nu("ha lease | where phase == active | get 0.region");
        if leads != declared {
            // Refused or undone while a node is still coming back: then again.
            let moved = cluster.nu("ha failback | last");
            return Err(format!("{leads:?} leads; ha failback: {moved:?}"));
        }
        Ok(())
    });
}

// ---------------------------------------------------------------- files

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a checkout")
}

// ---------------------------------------------------------------- Markdown

/// What stands between backticks, outside of fenced blocks.
fn in_backticks(text: &str) -> impl Iterator<Item = &str> {
    text.split("```")
        .step_by(2)
        .flat_map(|prose| prose.split('`').skip(1).step_by(2))
}

fn looks_like_a_path(name: &str) -> bool {
    const ROOTS: [&str; 3] = ["plugin/", "scripts/", "tests/"];
    ROOTS.iter().any(|it| name.starts_with(it)) && !name.contains(['*', '<', ' ', '{'])
}

/// As GitHub makes it of a heading.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text
        .chars()
        .filter(|it| it.is_alphanumeric() || matches!(it, ' ' | '-' | '_'));
    kept.map(|it| if it == ' ' { '-' } else { it }).collect()
}
