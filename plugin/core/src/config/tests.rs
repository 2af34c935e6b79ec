use proptest::prelude::*;

use super::*;
use crate::finding::Severity;

fn findings(text: &str) -> Vec<Finding> {
    parse(text, "/w/config.toml").1
}

/// Code, marked text and help of the only finding.
fn only(text: &str) -> (String, &str, String) {
    let mut all = findings(text);
    assert_eq!(all.len(), 1, "{all:#?}");
    let finding = all.remove(0);
    let place = finding.place.expect("placed");
    (
        finding.code,
        &text[place.start..place.end],
        finding.help.expect("says what next"),
    )
}

#[test]
fn everything_it_can_say() {
    let text = r#"
target = "cloud"
[providers.digitalocean]
region_name = { nyc3 = "us-east", sfo3 = "us-west" }
token = { env = "DIGITALOCEAN_TOKEN" }
[providers.hetzner]
region_name = "eu-central"
token = { file = "hetzner.token" }
[providers.aws]
region_name = ["asia-southeast"]
access_key_id = { command = ["pass", "show", "aws"] }
secret_access_key = { env = "AWS_SECRET_ACCESS_KEY" }
endpoint = "http://127.0.0.1:4566"
[dns]
domain = "api.example.com"
[local]
app_command = ["/usr/bin/app", "--flag"]
[cloud]
ssh_public_key = "~/.ssh/id_ed25519.pub"
guard = { url = "https://example.com/ha-guard", sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789ABCDEF" }
[prices.aws]
"t3.medium" = 30.37
[prices.hetzner]
cpx21 = 8
"#;
    let (config, findings) = parse(text, "/w/config.toml");
    assert_eq!(findings, []);
    assert_eq!(config.target, Target::Cloud);
    let digitalocean = &config.providers[&ProviderName::Digitalocean];
    let claims: Vec<_> = digitalocean
        .regions
        .iter()
        .map(|it| (it.location.as_deref(), it.region.as_str()))
        .collect();
    assert_eq!(claims, [(Some("nyc3"), "us-east"), (Some("sfo3"), "us-west")]);
    assert_eq!(
        digitalocean.credentials["token"],
        Reference::Env("DIGITALOCEAN_TOKEN".into())
    );
    assert_eq!(
        config.providers[&ProviderName::Hetzner].regions[0]
            .place
            .as_ref()
            .map(|it| it.line),
        Some(7)
    );
    assert_eq!(
        config.providers[&ProviderName::Aws].endpoint.as_deref(),
        Some("http://127.0.0.1:4566")
    );
    assert_eq!(config.dns_domain.as_deref(), Some("api.example.com"));
    assert_eq!(config.local.app_command.map(|it| it.len()), Some(2));
    assert_eq!(config.cloud.ssh_public_key, Some("~/.ssh/id_ed25519.pub".into()));
    let guard = config.cloud.guard.expect("where the guard is");
    assert_eq!(
        (guard.url.as_str(), guard.sha256.len()),
        ("https://example.com/ha-guard", 64)
    );
    assert_eq!(config.prices[&ProviderName::Aws]["t3.medium"], 30.37);
    assert_eq!(config.prices[&ProviderName::Hetzner]["cpx21"], 8.0);
}

#[test]
fn nothing_is_the_default() {
    assert_eq!(parse("", "f"), (Config::default(), Vec::new()));
}

#[test]
fn unknown_keys_at_any_depth_have_a_near_one() {
    for (text, marked, near) in [
        ("tagret = \"local\"", "tagret", "target"),
        ("[provider.aws]", "provider", "providers"),
        ("[providers.hetzer]", "hetzer", "hetzner"),
        ("[providers.aws]\nregion_nmae = \"a\"", "region_nmae", "region_name"),
        ("[providers.hetzner]\ntoken = { enf = \"A\" }", "enf", "env"),
        ("[dns]\ndomian = \"a.b\"", "domian", "domain"),
        ("[local]\napp_comand = [\"a\"]", "app_comand", "app_command"),
    ] {
        let (code, found, help) = only(text);
        assert_eq!((code.as_str(), found), ("ha::config::unknown_key", marked));
        assert!(help.contains(near), "{help}");
    }
}

#[test]
fn a_secret_written_out_is_refused_and_not_repeated() {
    for secret in ["\"dop_v1_0123456789\"", "\"${DIGITALOCEAN_TOKEN}\"", "17"] {
        let text = format!("[providers.digitalocean]\ntoken = {secret}\nregion_name = \"us-east\"");
        let (config, findings) = parse(&text, "f");
        let [finding] = &findings[..] else {
            panic!("{findings:?}")
        };
        assert_eq!(
            (finding.code.as_str(), finding.severity),
            ("ha::config::literal_secret", Severity::Error)
        );
        assert!(
            finding
                .help
                .as_deref()
                .is_some_and(|it| it.contains("{ env = \"DIGITALOCEAN_TOKEN\" }"))
        );
        assert!(!format!("{config:?}{findings:?}").contains(secret.trim_matches('"')) || secret.contains('$'));
        assert_eq!(
            config.providers[&ProviderName::Digitalocean].regions.len(),
            1,
            "the rest is used"
        );
    }
}

#[test]
fn wrong_values_are_placed() {
    for (text, code, marked) in [
        ("target = \"clowd\"", "ha::config::value", "\"clowd\""),
        ("target = 3", "ha::config::type", "3"),
        ("providers = 3", "ha::config::type", "3"),
        ("[local]\napp_command = \"app\"", "ha::config::type", "\"app\""),
        ("[local]\napp_command = []", "ha::config::value", "[]"),
        ("[cloud]\nguard = 1", "ha::config::type", "1"),
        (
            "[cloud]\nguard = { url = \"https://a\" }",
            "ha::config::value",
            "{ url = \"https://a\" }",
        ),
        (
            "[cloud]\nguard = { url = \"ftp://a\", sha256 = \"00\" }",
            "ha::config::value",
            "\"ftp://a\"",
        ),
        (
            "[cloud]\nguard = { url = \"https://a\", sha256 = \"00\" }",
            "ha::config::value",
            "\"00\"",
        ),
        (
            "[providers.aws]\nendpoint = \"localhost\"",
            "ha::config::value",
            "\"localhost\"",
        ),
        ("[providers.aws]\nregion_name = 3", "ha::config::type", "3"),
        (
            "[providers.aws]\nsession_token = { env = \"$A\" }",
            "ha::config::value",
            "\"$A\"",
        ),
        ("[providers.aws]\nsession_token = {}", "ha::config::value", "{}"),
        ("[prices.aws]\nt3.medium = 3", "ha::config::type", "t3"),
        ("[prices.aws]\nt3 = -1", "ha::config::value", "-1"),
        ("[dns]\ndomain = \"\"", "ha::config::value", "\"\""),
    ] {
        let (found, place, _) = only(text);
        assert_eq!((found.as_str(), place), (code, marked), "{text}");
    }
}

#[test]
fn a_syntax_error_has_a_line_and_the_rest_is_read() {
    let (config, findings) = parse(
        "# ä\n[dns\ndomain = \"a.b\"\n[local]\napp_command = [\"x\"]\n",
        "/w/config.toml",
    );
    let finding = findings.first().expect("says so");
    assert_eq!(finding.code, "ha::config::syntax");
    assert_eq!(finding.place.as_ref().map(|it| it.line), Some(2), "{finding:?}");
    assert_eq!(config.local.app_command, Some(vec!["x".to_owned()]));
}

#[test]
fn a_word_without_quotes_is_one_finding() {
    let (code, marked, _) = only("target = local\n");
    assert_eq!((code.as_str(), marked), ("ha::config::syntax", "local"));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic_and_every_finding_has_a_place(text in "[a-z=\\[\\]{}\"'.,#\n\t 0-9äτ\\\\]{0,80}") {
        for finding in parse(&text, "f").1 {
            let place = finding.place.expect("placed");
            prop_assert!(text.get(place.start..place.end).is_some());
        }
    }
}

#[test]
fn a_line_that_is_not_toml_is_told_once() {
    let (_, findings) = parse("target = \n[dns]\ndomain = 7\n", "config.toml");
    let told: Vec<_> = findings
        .iter()
        .map(|it| (it.code.as_str(), it.place.as_ref().map(|it| it.line)))
        .collect();
    assert_eq!(told, [("ha::config::syntax", Some(1)), ("ha::config::type", Some(3))]);
}
