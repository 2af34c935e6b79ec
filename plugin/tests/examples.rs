//! Commands in the process of the test: examples, error codes, shapes. Nothing here starts a process of a workspace.

use std::path::{Path, PathBuf};

use nu_plugin::Plugin;
use nu_plugin_ha::HaPlugin;
use nu_plugin_test_support::PluginTest;
use nu_protocol::{LabeledError, PipelineData, ShellError, Span, Value, record};
use tempfile::TempDir;

/// The project's own example, which the documents show.
fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

struct Shell {
    test: PluginTest,
    folder: TempDir,
}

impl Shell {
    /// A shell in `here`, with a state folder of its own.
    fn at(here: &Path) -> Self {
        let mut test = PluginTest::new("ha", HaPlugin::default().into()).expect("the plugin loads");
        let folder = tempfile::tempdir().expect("a folder");
        let state = test.engine_state_mut();
        let mut set = |name: &str, path: &Path| {
            state.add_env_var(name.into(), Value::test_string(path.display().to_string()));
        };
        set("PWD", here);
        set("HA_STATE_HOME", &folder.path().join("state"));
        set("HA_RUNTIME_DIR", &folder.path().join("run"));
        set("XDG_CACHE_HOME", &folder.path().join("cache"));
        Self { test, folder }
    }

    fn example() -> Self {
        Self::at(&example().canonicalize().expect("the project's folder"))
    }

    /// A workspace made of the example with changes.
    fn with(change: impl FnOnce(String) -> String) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let text = std::fs::read_to_string(example().join("workspace.ncl")).expect("the example");
        std::fs::write(folder.path().join("workspace.ncl"), change(text)).expect("a workspace");
        let mut shell = Self::at(folder.path());
        // Kept as long as the shell.
        std::fs::create_dir_all(shell.folder.path()).expect("a folder");
        let kept = std::mem::replace(&mut shell.folder, folder);
        drop(kept);
        let root = shell.folder.path().to_owned();
        let state = shell.test.engine_state_mut();
        for (name, below) in [("HA_STATE_HOME", "state"), ("XDG_CACHE_HOME", "cache")] {
            state.add_env_var(name.into(), Value::test_string(root.join(below).display().to_string()));
        }
        shell
    }

    fn settings(mut self, settings: Value) -> Self {
        let state = self.test.engine_state_mut();
        let mut config = (**state.get_config()).clone();
        config.plugins.insert("ha".into(), settings);
        state.set_config(config);
        self
    }

    fn rows(&mut self, code: &str) -> Vec<Value> {
        let value = self.test.eval(code).and_then(PipelineData::into_value_of_test);
        value.expect(code).into_list().expect("a table")
    }

    fn refused(&mut self, code: &str) -> LabeledError {
        match self.test.eval(code).and_then(PipelineData::into_value_of_test) {
            Err(ShellError::LabeledError(error)) => *error,
            other => panic!("{code}: expected an error of the plugin, got {other:?}"),
        }
    }
}

trait OfTest: Sized {
    fn into_value_of_test(self) -> Result<Value, ShellError>;
}

impl OfTest for PipelineData {
    fn into_value_of_test(self) -> Result<Value, ShellError> {
        self.into_value(Span::test_data())
    }
}

fn code(error: &LabeledError) -> &str {
    error.code.as_deref().unwrap_or_default()
}

fn columns(rows: &[Value]) -> Vec<String> {
    let record = rows.first().expect("a row").as_record().expect("a record");
    record.columns().cloned().collect()
}

fn text(row: &Value, column: &str) -> String {
    let value = row
        .get_data_by_key(column)
        .unwrap_or_else(|| panic!("no column {column}"));
    value.coerce_into_string().unwrap_or_default()
}

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
            "sampled_at"
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
            "monthly_cost"
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
    for command in [
        "ha power off us-app-1",
        "ha net cut --from us-east",
        "ha net heal",
        "ha render haproxy",
    ] {
        let error = shell.refused(command);
        assert_eq!(code(&error), "ha::workspace::not_provisioned", "{command}");
        assert_eq!(error.help.as_deref(), Some("run: ha provision"), "{command}");
    }
}

#[test]
fn arguments_that_make_no_sense_say_what_would() {
    let mut shell = Shell::example();
    for command in [
        "ha net set",
        "ha net set --cut --no-cut",
        "ha net set --delay=-1ms",
        "ha net cut --from us-east --to us-east",
        "ha net cut --region us-east --to eu-central",
        "ha lag --interval 1ms",
        "ha health --timeout 0ms",
    ] {
        let error = shell.refused(command);
        assert_eq!(code(&error), "ha::argument::invalid", "{command}");
        assert!(error.help.is_some(), "{command}");
        assert_eq!(error.labels.len(), 1, "{command}");
    }
}

#[test]
fn the_links_of_one_region_are_both_ways() {
    let mut shell = Shell::example();
    let links = shell.rows("ha net --region us-east");
    assert_eq!(links.len(), 4);
    assert!(
        links
            .iter()
            .all(|row| matches!(row.get_data_by_key("cut"), Some(Value::Nothing { .. })))
    );
}

/// An events file of the workspace, as acts of a shell leave it.
fn acts(shell: &Shell, text: &str) {
    let folder = shell.folder.path().join("state/events");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("shop.jsonl"), text).expect("a file");
}

const ACT: &str = r#"{"at":"2026-03-01T12:00:00Z","workspace":"shop","region":"us-east","source":"shell","event":"power.off","subject":"server us-app-1","status":"off","detail":null,"error":null,"who":"ann"}"#;

#[test]
fn an_event_that_cannot_be_read_is_a_row_with_error() {
    let mut shell = Shell::example();
    acts(&shell, &format!("{ACT}\n{{\"at\":\n{ACT}\n"));
    let rows = shell.rows("ha events");
    assert_eq!(rows.len(), 3);
    assert_eq!(text(&rows[1], "status"), "unreadable");
    assert!(text(&rows[1], "subject").ends_with("shop.jsonl:2"));
    assert!(text(&rows[1], "error").starts_with("not an event"));
    assert_eq!(text(&rows[2], "event"), "power.off");
    // A region has none of these, and the log has a hole all the same.
    assert_eq!(shell.rows("ha events --region eu-central").len(), 1);
    assert_eq!(shell.rows("ha events --last 1").len(), 1);
}

#[test]
fn events_are_followed_as_they_come() {
    let mut shell = Shell::example();
    acts(&shell, &format!("{ACT}\n"));
    let rows = shell.test.eval("ha events --follow").expect("a stream");
    let mut rows = rows.into_iter();
    assert_eq!(text(&rows.next().expect("what was there"), "event"), "power.off");
    acts(&shell, &format!("{ACT}\n{}\n", ACT.replace("power.off", "power.on")));
    assert_eq!(text(&rows.next().expect("what came"), "event"), "power.on");
}

#[test]
fn the_doctor_looks_at_programs_folders_and_addresses() {
    let mut shell = Shell::example();
    let rows = shell.rows("ha doctor");
    let subjects: Vec<String> = rows.iter().map(|row| text(row, "subject")).collect();
    for subject in [
        "postgres",
        "ha-guard",
        "nu on PATH",
        "state folder",
        "workspace",
        "addresses 127.0.0.0/8",
    ] {
        assert!(
            subjects.iter().any(|it| it == subject),
            "{subject} is not in {subjects:?}"
        );
    }
    let state = rows
        .iter()
        .find(|row| text(row, "subject") == "state folder")
        .expect("a row");
    assert!(matches!(state.get_data_by_key("free"), Some(Value::Filesize { .. })));
    for row in rows.iter().filter(|row| text(row, "status") != "ok") {
        assert!(!text(row, "help").is_empty(), "{row:?}");
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
fn the_cloud_is_said_plainly_to_be_missing() {
    let mut shell = Shell::with(|text| text);
    std::fs::write(shell.folder.path().join("config.toml"), "target = \"cloud\"\n").expect("a file");
    let error = shell.refused("ha inventory");
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
