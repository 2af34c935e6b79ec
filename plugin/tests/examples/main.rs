//! Commands in the process of the test: examples, error codes, shapes. Nothing here starts a process of a workspace.

mod cost;
mod dns;
mod existing;
mod looking;
mod moving;
mod oracle;
mod shell;

use nu_plugin::Plugin;
use nu_plugin_ha::HaPlugin;
use nu_protocol::{Value, record};

use shell::{Shell, code, columns, example, text};

#[test]
fn examples_with_a_result_give_that_result() {
    let mut shell = Shell::example();
    for command in HaPlugin::default().commands() {
        if let Err(error) = shell.test.test_examples(&command.examples()) {
            panic!("{}: {error}", command.name());
        }
    }
}

#[test]
fn every_command_has_an_example_and_a_category() {
    for command in HaPlugin::default().commands() {
        let name = command.name().to_owned();
        assert!(!command.examples().is_empty(), "{name} has no example");
        assert_eq!(command.signature().category.to_string(), "ha", "{name}");
        assert!(!command.description().ends_with('.'), "{name}");
    }
}

#[test]
fn whatever_changes_the_world_can_be_tried_dry() {
    for command in HaPlugin::default().commands() {
        let acts = [
            "provision",
            "destroy",
            "power on",
            "power off",
            "net set",
            "net cut",
            "net heal",
            "switchover",
            "failover",
            "failback",
            "rejoin",
            "pause",
            "resume",
            "ack",
            "db sync-mode",
            "db voters",
            "adopt",
        ];
        if acts.iter().any(|act| command.name() == format!("ha {act}")) {
            let dry = command.signature().get_long_flag("dry-run");
            assert_eq!(dry.and_then(|it| it.short), Some('n'), "{}", command.name());
        }
    }
}

#[test]
fn the_example_workspace_has_three_regions_and_nothing_wrong() {
    let mut shell = Shell::example();
    assert_eq!(shell.rows("ha check | [...$in]").len(), 0);
    let regions = shell.rows("ha regions");
    assert_eq!(
        columns(&regions),
        [
            "region",
            "provider",
            "location",
            "role",
            "servers",
            "network",
            "database",
            "load_balancer",
            "latitude",
            "longitude"
        ]
    );
    assert_eq!(text(&regions[0], "role"), "primary");
}

#[test]
fn before_the_first_provision_everything_is_absent_in_the_usual_columns() {
    let mut shell = Shell::example();
    let inventory = shell.rows("ha inventory server");
    assert_eq!(inventory.len(), 12);
    assert!(
        inventory
            .iter()
            .all(|row| text(row, "status") == "absent" && text(row, "kind") == "server")
    );
    assert!(
        inventory
            .iter()
            .all(|row| row.get_data_by_key("owned") == Some(Value::test_bool(false)))
    );

    let lag = shell.rows("ha lag");
    assert_eq!(lag.len(), 3);
    assert!(lag.iter().all(|row| text(row, "state") == "absent"));
    assert_eq!(
        columns(&lag),
        [
            "region",
            "node",
            "role",
            "state",
            "lag",
            "verdict",
            "error",
            "lag_bytes",
            "at_least",
            "upstream",
            "received",
            "replayed",
            "timeline",
            "sampled_at",
            "epoch",
            "voter"
        ]
    );
    let health = shell.rows("ha health --region us-east");
    assert!(!health.is_empty());
    assert!(
        health
            .iter()
            .all(|row| text(row, "status") == "absent" && text(row, "region") == "us-east")
    );
    assert_eq!(shell.rows("ha net").len(), 6);
    assert_eq!(shell.rows("ha events").len(), 0);
    let plan = shell.rows("ha plan");
    assert!(plan.iter().all(|row| text(row, "action") == "create"));
    assert_eq!(
        columns(&plan),
        [
            "action",
            "region",
            "kind",
            "name",
            "reason",
            "risk",
            "downtime",
            "monthly_cost",
            "calls"
        ]
    );
    assert_eq!(shell.rows("ha plan --destroy").len(), 0);
}

#[test]
fn looking_makes_nothing() {
    let mut shell = Shell::example();
    for command in [
        "ha plan",
        "ha inventory",
        "ha lag",
        "ha health",
        "ha status",
        "ha provision --dry-run",
        "ha events",
    ] {
        shell.rows(command);
    }
    assert!(!shell.folder.path().join("state").exists());
    assert!(!shell.folder.path().join("run").exists());
}

#[test]
fn a_dry_run_has_the_rows_of_the_plan_in_the_columns_of_the_work() {
    let mut shell = Shell::example();
    let planned = shell.rows("ha plan --region us-east").len();
    let dry = shell.rows("ha provision --dry-run --region us-east");
    assert_eq!(dry.len(), planned);
    assert_eq!(
        columns(&dry),
        [
            "region", "kind", "name", "action", "status", "error", "took", "code", "help", "step"
        ]
    );
    assert!(dry.iter().all(|row| text(row, "status") == "planned"));
}

#[test]
fn rows_of_a_plan_select_what_is_provisioned() {
    let mut shell = Shell::example();
    let networks = "[[region kind name]; [us-east network us-net]] | ha provision --dry-run";
    assert_eq!(shell.rows(networks).len(), 1);
    let nothing = shell.rows("[] | ha provision --dry-run");
    assert_eq!(nothing.len(), 1);
    assert_eq!(text(&nothing[0], "action"), "none");
    // What a selection stands on must be there or be selected, and that is said before anything is done.
    let error = shell.refused("[[region kind name]; [us-east server us-app-1]] | ha provision --dry-run");
    assert_eq!(code(&error), "ha::provision::blocked");
    let error = shell.refused("[[name]; [us-app-1]] | ha provision --dry-run");
    assert_eq!(code(&error), "ha::provision::not_a_plan");
}

#[test]
fn a_slip_of_the_finger_is_answered_with_the_right_name() {
    let mut shell = Shell::example();
    for command in [
        "ha health --region us-esat",
        "ha plan --region us-esat",
        "ha net set --from us-esat --cut",
    ] {
        let error = shell.refused(command);
        assert_eq!(code(&error), "ha::region::unknown", "{command}");
        assert_eq!(error.help.as_deref(), Some("did you mean \"us-east\"?"), "{command}");
        assert_eq!(error.labels.len(), 1, "{command}");
    }
    let error = shell.refused("ha inventory serve");
    assert_eq!(code(&error), "ha::kind::unknown");
    let error = shell.refused("ha render haproxi");
    assert_eq!(code(&error), "ha::render::unknown");
}

#[test]
fn what_needs_something_that_runs_names_provision() {
    let mut shell = Shell::example();
    for command in ["ha power off us-app-1", "ha net cut --from us-east", "ha net heal"] {
        let error = shell.refused(command);
        assert_eq!(code(&error), "ha::workspace::not_provisioned", "{command}");
        assert_eq!(error.help.as_deref(), Some("run: ha provision"), "{command}");
    }
}

#[test]
fn destroy_wants_the_name_typed_out() {
    let mut shell = Shell::example();
    let error = shell.refused("ha destroy sohp");
    assert_eq!(code(&error), "ha::destroy::wrong_name");
    let rows = shell.rows("ha destroy shop");
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].get_data_by_key("left"), Some(Value::test_int(0)));
}

#[test]
fn without_a_workspace_the_next_command_is_init() {
    let empty = tempfile::tempdir().expect("a folder");
    let mut shell = Shell::at(empty.path());
    let error = shell.refused("ha regions");
    assert_eq!(code(&error), "ha::workspace::missing");
    assert!(error.help.is_some_and(|help| help.contains("ha init")));
    let error = shell.refused("ha check --workspace nowhere.ncl");
    assert_eq!(code(&error), "ha::workspace::missing");
}

#[test]
fn a_broken_workspace_has_findings_and_is_not_provisioned() {
    let mut shell = Shell::with(|text| text.replacen("10.1.0.0/16", "10.0.0.0/16", 1));
    let findings = shell.rows("ha check");
    assert!(!findings.is_empty());
    assert_eq!(
        columns(&findings),
        [
            "severity", "code", "message", "path", "file", "line", "column", "help", "labels", "src"
        ]
    );
    let error = findings
        .iter()
        .find(|row| text(row, "severity") == "error")
        .expect("an error");
    assert!(matches!(error.get_data_by_key("line"), Some(Value::Int { val, .. }) if val > 0));
    let refused = shell.refused("ha provision --dry-run");
    assert_eq!(code(&refused), "ha::workspace::invalid");
    assert!(refused.help.is_some_and(|help| help.contains("ha check")));
    // Looking at what is declared goes on.
    assert_eq!(shell.rows("ha regions").len(), 3);
}

#[test]
fn the_clouds_ask_for_credentials_and_the_guards_there_are_out_of_reach() {
    let mut shell = Shell::with(|text| text);
    std::fs::write(shell.folder.path().join("config.toml"), "target = \"cloud\"\n").expect("a file");
    let error = shell.refused("ha inventory");
    assert_eq!(code(&error), "ha::credential::missing");
    assert!(error.help.is_some_and(|help| help.contains("DIGITALOCEAN_TOKEN")));
    let error = shell.refused("ha lag");
    assert_eq!(code(&error), "ha::target::cloud");
    assert!(error.help.is_some_and(|help| help.contains("target = \"local\"")));
}

#[test]
fn an_unknown_setting_is_an_error() {
    let settings = Value::test_record(record! { "timeuot" => Value::test_duration(1_000_000_000) });
    let error = Shell::example().settings(settings).refused("ha regions");
    assert_eq!(code(&error), "ha::setting::unknown");
    assert!(error.help.is_some_and(|help| help.contains("timeout")));
}

#[test]
fn the_setting_names_the_workspace_and_the_flag_wins() {
    let empty = tempfile::tempdir().expect("a folder");
    let path = example().canonicalize().expect("the project's folder");
    let settings = Value::test_record(record! { "workspace" => Value::test_string(path.display().to_string()) });
    let mut shell = Shell::at(empty.path()).settings(settings);
    assert_eq!(shell.rows("ha regions").len(), 3);
    assert_eq!(
        code(&shell.refused("ha regions --workspace .")),
        "ha::workspace::missing"
    );
}

#[test]
fn init_writes_a_workspace_that_is_right_and_overwrites_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut shell = Shell::at(folder.path());
    assert_eq!(shell.rows("ha init store").len(), 3);
    assert!(folder.path().join("store/.ha/ha.ncl").is_file());
    assert_eq!(shell.rows("ha check --workspace store").len(), 0);
    assert_eq!(shell.rows("ha regions --workspace store").len(), 3);
    let error = shell.refused("ha init store");
    assert_eq!(code(&error), "ha::init::exists");
}

#[test]
fn following_is_lazy_and_typed() {
    let mut shell = Shell::example();
    let rows = shell.test.eval("ha lag --follow --interval 10ms").expect("a stream");
    let rows: Vec<Value> = rows.into_iter().take(7).collect();
    assert_eq!(rows.len(), 7);
    assert_eq!(text(&rows[6], "state"), "absent");
}
