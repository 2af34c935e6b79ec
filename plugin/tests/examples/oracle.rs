//! What `ha oracle` refuses before it writes anything. Runs of it need a database: see `ha-oracle` and the
//! whole-system tests.

use crate::shell::{Shell, code};

#[test]
fn without_anything_provisioned_nobody_writes_and_nothing_is_made() {
    let mut shell = Shell::example();
    let refused = shell.refused("ha oracle { 1 }");
    assert_eq!(code(&refused), "ha::workspace::not_provisioned");
    assert!(!shell.folder.path().join("state").exists());
}

#[test]
fn a_closure_and_a_time_contradict_each_other() {
    let refused = Shell::example().refused("ha oracle --for 1sec { 1 }");
    assert_eq!(code(&refused), "ha::argument::invalid");
    assert!(refused.help.is_some_and(|help| help.contains("sleep 30sec")));
}

#[test]
fn the_number_of_writers_is_bounded() {
    for writers in ["0", "21", "-1"] {
        let refused = Shell::example().refused(&format!("ha oracle --writers {writers}"));
        assert_eq!(code(&refused), "ha::argument::invalid", "{writers}");
    }
}

#[test]
fn only_regions_of_the_workspace_have_clients() {
    let refused = Shell::example().refused("ha oracle --region us-esat --for 1sec");
    assert_eq!(code(&refused), "ha::region::unknown");
    assert!(refused.help.is_some_and(|help| help.contains("us-east")));
}
