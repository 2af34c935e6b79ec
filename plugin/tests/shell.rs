//! The real `nu` with the real plugin: completions, help, carets, and what happens when the shell goes away.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// A `nu` that reads no configuration, in a folder with a copy of the example.
struct Nu {
    folder: TempDir,
    program: PathBuf,
}

impl Nu {
    /// None where there is no `nu`; on CI that is a failure.
    fn find() -> Option<Self> {
        // The `nu` of an npm package is a script that starts the real one; signals have to reach that.
        let Ok(output) = Command::new("nu").args(["-n", "-c", "$nu.current-exe"]).output() else {
            assert!(
                std::env::var_os("CI").is_none_or(|it| it != "1"),
                "CI=1 and nu is not installed"
            );
            eprintln!("skipped: nu is not installed");
            return None;
        };
        let program = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        let folder = tempfile::tempdir().expect("a folder");
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workspace.ncl");
        std::fs::copy(example, folder.path().join("workspace.ncl")).expect("the example");
        Some(Self { folder, program })
    }

    fn command(&self, code: &str) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(["-n", "--plugins", env!("CARGO_BIN_EXE_nu_plugin_ha"), "-c", code])
            .current_dir(self.folder.path())
            .env("HA_STATE_HOME", self.folder.path().join("state"))
            .env("HA_RUNTIME_DIR", self.folder.path().join("run"))
            .env("XDG_CACHE_HOME", self.folder.path().join("cache"))
            .stdin(Stdio::null());
        command
    }

    fn says(&self, code: &str) -> String {
        let output = self.command(code).output().expect("nu runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{code}: {errors}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn lines(&self, code: &str) -> Vec<String> {
        self.says(code).lines().map(str::to_owned).collect()
    }
}

#[test]
fn regions_and_kinds_complete() {
    let Some(nu) = Nu::find() else { return };
    let regions = nu.lines("'ha provision --region ' | commandline complete | to text");
    assert_eq!(regions, ["asia-southeast", "eu-central", "us-east"]);
    let kinds = nu.lines("'ha inventory ' | commandline complete | to text");
    assert!(kinds.iter().any(|it| it == "load_balancer"), "{kinds:?}");
    let servers = nu.lines("'ha power off ' | commandline complete | to text");
    assert!(servers.iter().any(|it| it == "us-app-1"), "{servers:?}");
}

#[test]
fn a_folder_without_a_workspace_completes_nothing_and_fails_nothing() {
    let Some(nu) = Nu::find() else { return };
    std::fs::remove_file(nu.folder.path().join("workspace.ncl")).expect("removed");
    nu.says("'ha provision --region ' | commandline complete | ignore");
}

#[test]
fn help_lists_every_command_and_each_shows_an_example() {
    let Some(nu) = Nu::find() else { return };
    let help = nu.says("ha");
    let names = nu.lines("scope commands | where name starts-with 'ha ' and type == plugin | get name | to text");
    assert!(names.len() > 15, "{names:?}");
    for name in &names {
        assert!(
            help.contains(&format!("  {name} (plugin) - ")),
            "{name} is missing in:\n{help}"
        );
    }
    let bare =
        "scope commands | where name starts-with 'ha ' and type == plugin and ($it.examples | is-empty) | length";
    assert_eq!(nu.says(bare), "0");
}

#[test]
fn examples_are_nushell_that_parses() {
    let Some(nu) = Nu::find() else { return };
    let examples = nu.says(
        "scope commands | where name starts-with 'ha' and type == plugin | get examples | flatten \
         | get example | each {|it| $it | nu-check } | all {|it| $it }",
    );
    assert_eq!(examples, "true");
}

#[test]
fn a_finding_is_drawn_under_its_line() {
    let Some(nu) = Nu::find() else { return };
    let file = nu.folder.path().join("workspace.ncl");
    let text = std::fs::read_to_string(&file).expect("the example");
    std::fs::write(&file, text.replacen("10.1.0.0/16", "10.0.0.0/16", 1)).expect("written");
    let drawn = nu.says(
        "let it = ha check | where severity == error | first
        try { error make {msg: $it.message help: $it.help labels: $it.labels src: $it.src} } catch {|err| $err.rendered }",
    );
    let line = nu.says("ha check | where severity == error | first | get line");
    assert!(drawn.contains("workspace.ncl:"), "{drawn}");
    assert!(drawn.contains("10.0.0.0/16"), "{drawn}");
    assert!(
        drawn.contains(&format!("{line} |")) || drawn.contains(&format!("{line} │")),
        "line {line}:\n{drawn}"
    );
}

#[test]
fn tables_compose_and_are_typed() {
    let Some(nu) = Nu::find() else { return };
    assert_eq!(nu.says("ha regions | where role == primary | get region.0"), "us-east");
    assert_eq!(
        nu.says("ha plan | where region == us-east | ha provision --dry-run | where action == none | length"),
        "0"
    );
    let types = nu.says("ha regions | get 0.servers | describe");
    assert_eq!(types, "int");
    let latency = nu.says("ha health --timeout 300ms | get latency | uniq | to nuon");
    assert_eq!(latency, "[null]");
    assert_eq!(nu.says("ha regions | first | columns | first"), "region");
    assert!(nu.says("ha regions | to md").starts_with("| region |"));
}

#[test]
fn an_error_can_be_told_by_its_code() {
    let Some(nu) = Nu::find() else { return };
    let code = nu.says("try { ha health --region mars } catch {|err| $err.details.code }");
    assert_eq!(code, "ha::region::unknown");
}

#[test]
fn a_stream_ends_with_its_reader() {
    let Some(nu) = Nu::find() else { return };
    assert_eq!(nu.says("ha lag --follow --interval 20ms | first 4 | length"), "4");
}

/// The plugin that this shell started.
fn plugin_of(shell: u32) -> Option<u32> {
    let threads = std::fs::read_dir(format!("/proc/{shell}/task")).ok()?;
    let children = threads
        .flatten()
        .filter_map(|it| std::fs::read_to_string(it.path().join("children")).ok());
    let children: Vec<u32> = children
        .flat_map(|it| it.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|it| it.parse().ok())
        .collect();
    children.into_iter().find(|pid| {
        let program = std::fs::read_link(format!("/proc/{pid}/exe"));
        program.is_ok_and(|it| it == Path::new(env!("CARGO_BIN_EXE_nu_plugin_ha")))
    })
}

/// Gone, or only a name that nobody has asked for yet.
fn ended(pid: u32) -> bool {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')),
        Err(_) => true,
    }
}

fn ends_within(pid: u32, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        if ended(pid) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

/// Follows the lag without anybody reading on: a look takes a minute, so that no write tells the plugin anything.
fn follow(nu: &Nu) -> (std::process::Child, u32) {
    let mut shell = nu
        .command("ha lag --follow --interval 1min | each {|row| print $row.node }")
        .stdout(Stdio::piped())
        .spawn()
        .expect("nu starts");
    let mut lines = BufReader::new(shell.stdout.take().expect("piped")).lines();
    let first = lines.next().expect("a line").expect("text");
    assert_eq!(first, "us-db-1");
    let plugin = plugin_of(shell.id()).expect("the plugin runs");
    (shell, plugin)
}

#[test]
fn ctrl_c_ends_a_wait_at_once() {
    let Some(nu) = Nu::find() else { return };
    let (mut shell, plugin) = follow(&nu);
    let started = Instant::now();
    let sent = Command::new("kill").args(["-INT", &shell.id().to_string()]).status();
    assert!(sent.expect("kill runs").success());
    shell.wait().expect("it ends");
    assert!(ends_within(plugin, Duration::from_secs(5)));
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[test]
fn a_killed_shell_leaves_no_plugin_behind() {
    let Some(nu) = Nu::find() else { return };
    let (mut shell, plugin) = follow(&nu);
    shell.kill().expect("killed");
    shell.wait().expect("it ends");
    assert!(
        ends_within(plugin, Duration::from_secs(5)),
        "the plugin outlived its shell"
    );
}

/// A shell that waits for the writer's lock, which this process holds as another shell would.
fn waiting(nu: &Nu) -> (std::process::Child, u32, std::fs::File) {
    let folder = nu.folder.path().join("state/shop");
    std::fs::create_dir_all(&folder).expect("a folder");
    let mut lock = std::fs::File::create(folder.join("lock")).expect("a file");
    lock.lock().expect("held");
    let holder = r#"{"pid": 1, "command": "ha provision", "since": "2026-03-01T12:00:00Z"}"#;
    lock.write_all(holder.as_bytes()).expect("written");
    let mut shell = nu
        .command("ha provision --wait 1min")
        .stderr(Stdio::piped())
        .spawn()
        .expect("nu starts");
    let mut lines = BufReader::new(shell.stderr.take().expect("piped")).lines();
    let first = lines.next().expect("a line").expect("text");
    assert!(first.starts_with("ha: waiting for"), "{first}");
    let plugin = plugin_of(shell.id()).expect("the plugin runs");
    (shell, plugin, lock)
}

#[test]
fn ctrl_c_ends_the_wait_for_another_shell_and_nothing_is_made() {
    let Some(nu) = Nu::find() else { return };
    let (mut shell, plugin, lock) = waiting(&nu);
    let sent = Command::new("kill").args(["-INT", &shell.id().to_string()]).status();
    assert!(sent.expect("kill runs").success());
    shell.wait().expect("it ends");
    assert!(ends_within(plugin, Duration::from_secs(5)));
    drop(lock);
    assert!(!nu.folder.path().join("state/shop/regions").exists());
}

#[test]
fn a_shell_that_is_killed_while_it_waits_leaves_nobody_waiting() {
    let Some(nu) = Nu::find() else { return };
    let (mut shell, plugin, _lock) = waiting(&nu);
    shell.kill().expect("killed");
    shell.wait().expect("it ends");
    assert!(ends_within(plugin, Duration::from_secs(5)), "the plugin waits on");
}
