//! Links, events, this machine, and arguments that make no sense.

use nu_protocol::Value;

use crate::shell::{Shell, code, text};

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
fn configurations_can_be_reviewed_before_anything_is_made() {
    let mut shell = Shell::example();
    for what in ["haproxy", "postgres", "hba", "etcd", "guard"] {
        let rows = shell.rows(&format!("ha render {what}"));
        assert_eq!(rows.len(), 3, "{what}");
        for row in &rows {
            assert_eq!(text(row, "error"), "", "{what}");
            assert!(!text(row, "text").is_empty(), "{what}");
        }
    }
    let units = shell.rows("ha render unit us-east");
    let files: Vec<_> = units.iter().map(|it| text(it, "path")).collect();
    let folder = "/etc/systemd/system";
    assert_eq!(
        files,
        [
            format!("{folder}/ha-deadman.service"),
            format!("{folder}/ha-guard.service")
        ]
    );
    for row in &units {
        assert_eq!(text(row, "error"), "");
        let own = shell.folder.path().display().to_string();
        assert!(!text(row, "text").contains(&own), "a server has files of its own");
    }
    let rows = shell.rows("ha render haproxy us-east");
    assert_eq!(rows.len(), 1);
    assert!(text(&rows[0], "text").contains("option httpchk GET /health"));
    assert!(!shell.folder.path().join("state").exists());
}
