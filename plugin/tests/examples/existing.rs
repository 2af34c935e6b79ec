//! What exists at the providers, as far as it can be asked without any.

use crate::shell::{Shell, code};

#[test]
fn on_this_machine_everything_is_labelled_and_nothing_is_adopted() {
    let mut shell = Shell::example();
    assert_eq!(shell.rows("ha orphans"), []);
    let error = shell.refused("ha adopt --dry-run");
    assert_eq!(code(&error), "ha::argument::invalid");
    assert!(
        error
            .help
            .as_deref()
            .is_some_and(|it| it.contains("target = \"cloud\"")),
        "{error:?}"
    );
}

#[test]
fn an_import_names_what_it_lacks_and_what_was_misspelt() {
    let mut shell = Shell::with(|text| text);
    for (command, expected, help) in [
        ("ha import --provider [hetzer]", "ha::argument::invalid", "hetzner"),
        ("ha import --name Shop", "ha::argument::invalid", "--name shop"),
        (
            "ha import --save workspace.ncl",
            "ha::argument::invalid",
            "imported.ncl",
        ),
        (
            "ha import --provider [hetzner]",
            "ha::credential::missing",
            "HCLOUD_TOKEN",
        ),
    ] {
        let error = shell.refused(command);
        assert_eq!(code(&error), expected, "{command}: {error:?}");
        assert!(
            error.help.as_deref().is_some_and(|it| it.contains(help)),
            "{command}: {error:?}"
        );
    }
}
