//! Commands about the primary, before anything runs: what is refused, what is promised, what can be tried dry.

use nu_plugin::Plugin;
use nu_plugin_ha::HaPlugin;
use nu_protocol::Value;

use crate::shell::{Shell, code, columns, text};

#[test]
fn what_moves_the_primary_needs_something_that_runs() {
    let mut shell = Shell::example();
    for command in [
        "ha switchover",
        "ha switchover --explain",
        "ha switchover --to eu-central --dry-run",
        "ha failover --explain",
        "ha failover --accept-loss --fenced rack",
        "ha failover --witness rack",
        "ha failback --dry-run",
        "ha rejoin us-east",
        "ha lease",
        "ha quorum",
        "ha pause --why window --for 1min",
        "ha resume",
        "ha ack",
        "ha db sync-mode",
        "ha db sync-mode async --dry-run",
        "ha db voters",
        "ha db voters --drop asia-db-1 --dry-run",
    ] {
        let error = shell.refused(command);
        assert_eq!(code(&error), "ha::workspace::not_provisioned", "{command}");
        assert_eq!(error.help.as_deref(), Some("run: ha provision"), "{command}");
    }
    assert!(!shell.folder.path().join("state").exists(), "and makes nothing");
}

#[test]
fn words_that_make_no_sense_are_refused_before_anything_is_asked() {
    let mut shell = Shell::example();
    for command in [
        "ha pause",
        "ha pause --why ''",
        "ha pause --why window --for 0sec",
        "ha pause --why window --for 1min --until 2030-01-01",
        "ha pause --why window --until 2001-01-01",
        "ha failover --fenced rack",
        "ha failover --accept-loss --fenced ''",
        "ha failover --witness ' '",
        "ha db sync-mode sync",
        "ha db voters --drop a --add b",
        "ha budget --mode sync",
    ] {
        let error = shell.refused(command);
        assert_eq!(code(&error), "ha::argument::invalid", "{command}");
        assert!(error.help.is_some(), "{command}");
        assert_eq!(error.labels.len(), 1, "{command}");
    }
}

#[test]
fn the_budget_is_known_before_the_first_provision_and_adds_up() {
    let mut shell = Shell::example();
    let rows = shell.rows("ha budget");
    assert_eq!(columns(&rows), ["step", "promised", "objective", "kept", "rpo", "what"]);
    let nanos = |row: &Value| match row.get_data_by_key("promised") {
        Some(Value::Duration { val, .. }) => val,
        other => panic!("{other:?}"),
    };
    let writes = rows.iter().position(|it| text(it, "step") == "writes").expect("a sum");
    let sum: i64 = rows[..writes].iter().map(nanos).sum();
    assert_eq!(sum, nanos(&rows[writes]));
    assert_eq!(rows[writes].get_data_by_key("kept"), Some(Value::test_bool(true)));
    assert_eq!(rows[writes].get_data_by_key("rpo"), Some(Value::test_duration(0)));
    let slower = shell.rows("ha budget --round-trip 200ms | [...$in]");
    let at = slower
        .iter()
        .position(|it| text(it, "step") == "writes")
        .expect("a sum");
    assert!(nanos(&slower[at]) > sum, "distance costs");
    let lossy = shell.rows("ha budget --mode async");
    let at = lossy.iter().position(|it| text(it, "step") == "writes").expect("a sum");
    assert_ne!(lossy[at].get_data_by_key("rpo"), Some(Value::test_duration(0)));
}

#[test]
fn help_promises_what_each_mode_holds() {
    let commands = HaPlugin::default().commands();
    let mode = commands
        .iter()
        .find(|it| it.name() == "ha db sync-mode")
        .expect("is there");
    let help = mode.extra_description();
    for promise in [
        "No acknowledged write is lost with one region",
        "fewer than two voters live",
        "degrade_after_seconds",
        "never silent",
        "loses what the new primary had not received",
        "lost the connection may be there or not",
        "synchronous_commit",
    ] {
        assert!(help.contains(promise), "{promise}");
    }
}
