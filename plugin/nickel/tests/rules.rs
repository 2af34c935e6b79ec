//! Evaluation and the rules across regions together, as `ha check` runs them.

use std::path::{Path, PathBuf};

use ha_core::{
    check::{self, codes},
    config::{self, Config},
    finding::{Finding, Severity},
};
use ha_nickel::{EXAMPLE_CONFIG, evaluate};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn checked(path: &Path, config: &Config) -> Vec<Finding> {
    let cache = tempfile::tempdir().expect("a temporary folder");
    let evaluation = evaluate(path, cache.path()).expect("the file is there");
    let mut findings = evaluation.findings.clone();
    findings.extend(
        evaluation
            .to_check()
            .map(|it| check::run(it, config))
            .unwrap_or_default(),
    );
    evaluation.map.resolve(&mut findings);
    findings
}

#[test]
fn the_example_passes_every_rule() {
    let (config, findings) = config::parse(EXAMPLE_CONFIG, "config.toml");
    assert!(findings.is_empty(), "{findings:#?}");
    let findings = checked(&root().join("workspace.ncl"), &config);
    let worse: Vec<_> = findings.iter().filter(|it| it.severity < Severity::Note).collect();
    assert!(worse.is_empty(), "{worse:#?}");
}

#[test]
fn what_the_example_configuration_shows_in_comments_is_right() {
    // A comment that shows a setting: `# key = value # why`, or `# [table]`.
    let uncommented: String = EXAMPLE_CONFIG
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(shown) if shown.starts_with('[') || shown.split(' ').nth(1) == Some("=") => shown,
            _ => line,
        })
        .map(|line| format!("{line}\n"))
        .collect();
    assert!(uncommented.lines().filter(|line| !line.starts_with('#')).count() > 10);
    let (_, findings) = config::parse(&uncommented, "config.toml");
    assert!(findings.is_empty(), "{findings:#?}\n{uncommented}");
}

/// Every finding of every shape is one that a reader would agree with.
#[test]
fn other_shapes_have_nothing_false_said_about_them() {
    const OUTSIDE: &str = "ha::workspace::outside_region";
    for (name, expected) in [
        ("single-region.ncl", &[][..]),
        // Two members survive no more than one does.
        ("storefront.ncl", &[codes::STORE_EVEN]),
        ("aws-three.ncl", &[]),
        ("split.ncl", &[]),
        (
            "source-snippets.ncl",
            &[OUTSIDE, OUTSIDE, OUTSIDE, codes::MANAGED_LOCAL],
        ),
    ] {
        let findings = checked(&root().join("tests/workspaces").join(name), &Config::default());
        let found: Vec<_> = findings.iter().map(|it| it.code.as_str()).collect();
        assert_eq!(found, expected, "{name}: {findings:#?}");
        assert!(
            findings
                .iter()
                .all(|it| it.severity > Severity::Error && it.place.is_some()),
            "{name}"
        );
    }
}

/// Nobody wrote the limits: what is said about them is at the workspace, and its labels mark nothing else.
#[test]
fn a_finding_about_a_default_has_a_place() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("workspace.ncl");
    let text = std::fs::read_to_string(root().join("tests/workspaces/storefront.ncl")).expect("read");
    let text: String = text
        .lines()
        .filter(|line| !line.contains("objectives"))
        .map(|it| format!("{it}\n"))
        .collect();
    std::fs::write(&path, &text).expect("written");
    let findings = checked(&path, &Config::default());
    let finding = findings
        .iter()
        .find(|it| it.code == codes::LAG_ABOVE_RPO)
        .expect("300 s are above 60 s");
    let place = finding.place.as_ref().expect("a place");
    assert_eq!(&text[place.start..place.end], "\"storefront\"");
    assert!(finding.labels.iter().all(|label| label.place.is_none()));
}

#[test]
fn a_broken_rule_has_its_place_in_the_file() {
    for (name, code, line, column) in [
        ("two-primaries.ncl", codes::PRIMARY, 5, 12),
        ("overlap.ncl", codes::OVERLAP, 11, 63),
        ("foreign-location.ncl", codes::LOCATION, 7, 59),
        ("managed-replica.ncl", codes::REPLICATION, 13, 85),
        ("timing.ncl", codes::TIMING_TAKE, 11, 3),
        ("timing.ncl", codes::TIMING_WATCHDOG, 14, 19),
        ("timing.ncl", codes::TIMING_PROBES, 15, 22),
        ("timing.ncl", codes::CANNOT_LEAD, 18, 61),
    ] {
        let findings = checked(&root().join("tests/workspaces/broken").join(name), &Config::default());
        let found: Vec<_> = findings
            .iter()
            .filter(|it| it.code == code)
            .map(|it| it.place.as_ref().map(|it| (it.line, it.column)))
            .collect();
        assert_eq!(found, [Some((line, column))], "{name}: {findings:#?}");
    }
}

#[test]
fn a_mistake_in_one_field_does_not_hide_a_broken_rule() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("workspace.ncl");
    let overlap = std::fs::read_to_string(root().join("tests/workspaces/broken/overlap.ncl")).expect("read");
    std::fs::write(
        &path,
        overlap.replace("region = \"nyc3\" }", "region = \"nyc3\", sizee = \"x\" }"),
    )
    .expect("written");
    let found = checked(&path, &Config::default());
    let all: Vec<_> = found.iter().map(|it| it.code.as_str()).collect();
    assert!(all.contains(&"ha::workspace::unknown_field"), "{all:?}");
    assert!(all.contains(&codes::OVERLAP), "{all:?}");
}
