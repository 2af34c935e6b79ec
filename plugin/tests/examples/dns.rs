//! Names in front of the regions, as far as nobody has to be asked.

use std::fs;

use nu_protocol::Value;

use crate::shell::{Shell, code, text};

const COMMANDS: [&str; 4] = [
    "ha dns plan",
    "ha dns apply",
    "ha dns point eu-central",
    "ha dns checks",
];

/// The example with the cloud as its target; credentials as `config.toml` has them.
fn cloud(change: impl FnOnce(String) -> String, credentials: &str) -> Shell {
    let shell = Shell::with(change);
    let config = format!("target = \"cloud\"\n{credentials}");
    fs::write(shell.folder.path().join("config.toml"), config).expect("a configuration");
    shell
}

fn dns(text: &str, fields: &str) -> String {
    let from = text.find("  dns = aws.Route53").expect("names are declared");
    let length = text[from..].find("\n  },\n").expect("their end") + "\n  },\n".len();
    let dns = format!("  dns = aws.Route53 & {{ domain = \"api.example.com\", {fields} }},\n");
    [&text[..from], &dns, &text[from + length..]].concat()
}

fn findings(fields: &str) -> Vec<(String, String)> {
    let mut shell = Shell::with(|text| dns(&text, fields));
    let rows: Vec<Value> = shell.rows("ha check | [...$in]");
    rows.iter()
        .map(|row| (text(row, "code"), text(row, "message")))
        .collect()
}

#[test]
fn on_this_machine_there_are_no_names_and_it_says_what_to_do() {
    let mut shell = Shell::example();
    for command in COMMANDS {
        let error = shell.refused(command);
        assert_eq!(code(&error), "ha::dns::local", "{command}");
        assert!(
            error
                .help
                .as_deref()
                .is_some_and(|it| it.contains("target = \"cloud\"")),
            "{command}"
        );
    }
}

#[test]
fn without_declared_names_or_a_credential_nobody_is_asked() {
    let undeclared = |text: String| {
        let with_domain = dns(&text, "");
        with_domain
            .lines()
            .filter(|line| !line.contains("aws.Route53"))
            .map(|line| format!("{line}\n"))
            .collect()
    };
    let mut shell = cloud(undeclared, "");
    for command in COMMANDS {
        let error = shell.refused(command);
        assert_eq!(code(&error), "ha::dns::undeclared", "{command}");
        assert!(
            error.help.as_deref().is_some_and(|it| it.contains("aws.Route53")),
            "{command}"
        );
    }
    let mut shell = cloud(|text| text, "");
    for command in COMMANDS {
        assert_eq!(code(&shell.refused(command)), "ha::credential::missing", "{command}");
    }
}

#[test]
fn the_domain_is_pointed_at_a_region_or_given_back() {
    let credentials = "[providers.aws]\naccess_key_id = { command = [\"echo\", \"AKIAEXAMPLE\"] }\n\
                       secret_access_key = { command = [\"echo\", \"secret\"] }\nendpoint = \"http://127.0.0.1:9\"\n";
    let mut shell = cloud(|text| text, credentials);
    for command in ["ha dns point", "ha dns point us-east --declared"] {
        let error = shell.refused(command);
        assert_eq!(code(&error), "ha::argument::invalid", "{command}");
        assert!(
            error.help.as_deref().is_some_and(|it| it.contains("--declared")),
            "{command}"
        );
    }
    let error = shell.refused("ha dns point us-esat");
    assert_eq!(code(&error), "ha::region::unknown");
    assert_eq!(error.help.as_deref(), Some("did you mean \"us-east\"?"));
}

#[test]
fn what_changes_names_can_be_tried_dry() {
    use nu_plugin::Plugin as _;
    let commands = nu_plugin_ha::HaPlugin::default().commands();
    for name in ["ha dns apply", "ha dns point"] {
        let command = commands.iter().find(|it| it.name() == name).expect("a command");
        let dry = command.signature().get_long_flag("dry-run");
        assert_eq!(dry.and_then(|it| it.short), Some('n'), "{name}");
    }
}

#[test]
fn names_are_declared_with_places_weights_and_a_zone() {
    let all = "zone = \"example.com\", default_region = \"us-east\", locations = { us-east = [\"US-VA\", \"US-OR\"], \
               eu-central = [\"IE\", \"europe\"] }, names = { asia-southeast = \"sg\" }, \
               health_check = { enabled = true, protocol = \"HTTP\", port = 80 }";
    assert_eq!(findings(all), []);
    assert_eq!(
        findings("routing = \"weighted\", weights = { us-east = 3, eu-central = 1 }"),
        []
    );
    assert_eq!(findings("routing = \"simple\""), []);
    let table = [
        ("default_region = \"us-east\", ttl = 300", "ha::check::dns_ttl"),
        (
            "default_region = \"us-east\", zone = \"example.org\"",
            "ha::check::dns_zone",
        ),
        ("routing = \"failover\"", "ha::check::dns_pair"),
        (
            "routing = \"failover\", health_check = { enabled = false }",
            "ha::check::dns_probes",
        ),
        (
            "default_region = \"us-east\", locations = { us-east = [\"US-virginia\"] }",
            "ha::check::dns_place",
        ),
        (
            "default_region = \"us-east\", names = { eu-central = \"us\" }",
            "ha::check::dns_name",
        ),
        (
            "routing = \"weighted\", weights = { us-esat = 3 }",
            "ha::check::dns_region",
        ),
    ];
    for (fields, code) in table {
        let found = findings(fields);
        assert!(found.iter().any(|it| it.0 == code), "{fields}: {found:?}");
    }
    // What is no number is said by the contract, with its place.
    let found = findings("routing = \"weighted\", weights = { us-east = 300 }");
    assert!(found.iter().any(|it| it.1.contains("from 0 to 255")), "{found:?}");
}
