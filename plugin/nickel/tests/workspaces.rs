//! Every example workspace is evaluated; every broken one is answered at the right line and column.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use ha_core::{
    finding::Severity,
    model::{FailoverPolicy, Role, SyncMode, Timing, TimingProfile},
    names::ProviderName,
};
use ha_nickel::{EXAMPLE, Evaluation, evaluate, example};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn workspace(name: &str) -> PathBuf {
    root().join("tests/workspaces").join(name)
}

fn evaluated(path: &Path) -> Evaluation {
    let cache = tempfile::tempdir().expect("a temporary folder");
    evaluate(path, cache.path()).expect("the file is there")
}

/// A workspace without a single error.
fn good(path: &Path) -> ha_core::model::Workspace {
    let evaluation = evaluated(path);
    let errors: Vec<_> = evaluation
        .findings
        .iter()
        .filter(|it| it.severity == Severity::Error)
        .collect();
    assert!(errors.is_empty(), "{}: {errors:#?}", path.display());
    evaluation.workspace.expect("no error, so there is a workspace")
}

/// Code, line and column of every finding, in order.
fn assert_findings(name: &str, expected: &[(&str, usize, usize)]) {
    let evaluation = evaluated(&workspace("broken").join(name));
    let found: Vec<(&str, usize, usize)> = evaluation
        .findings
        .iter()
        .map(|finding| {
            let place = finding.place.as_ref();
            let code = finding.code.strip_prefix("ha::workspace::").unwrap_or(&finding.code);
            (code, place.map_or(0, |it| it.line), place.map_or(0, |it| it.column))
        })
        .collect();
    assert_eq!(found, expected, "{name}: {:#?}", evaluation.findings);
    assert!(
        evaluation.workspace.is_none(),
        "{name} must not be taken for a good workspace"
    );
}

fn help_of(name: &str) -> Vec<String> {
    let evaluation = evaluated(&workspace("broken").join(name));
    evaluation.findings.into_iter().filter_map(|it| it.help).collect()
}

#[test]
fn the_example_has_three_regions_at_three_providers() {
    let shop = good(&root().join("workspace.ncl"));
    assert_eq!(shop.name, "shop");
    assert_eq!(
        (shop.profile, shop.timing, shop.sync_mode),
        (
            TimingProfile::Default,
            TimingProfile::Default.timing(),
            SyncMode::Strict
        )
    );
    assert_eq!(shop.failover, FailoverPolicy::default());
    let led: Vec<_> = shop
        .regions
        .iter()
        .map(|it| (it.failover_priority, it.can_lead))
        .collect();
    assert_eq!(led, [(0, true), (10, true), (20, true)]);
    let regions: Vec<_> = shop
        .regions
        .iter()
        .map(|it| (it.name.as_str(), it.provider, it.location.as_str(), it.role))
        .collect();
    assert_eq!(
        regions,
        [
            ("us-east", ProviderName::Digitalocean, "nyc3", Role::Primary),
            ("eu-central", ProviderName::Hetzner, "nbg1", Role::Secondary),
            ("asia-southeast", ProviderName::Aws, "ap-southeast-1", Role::Tertiary),
        ]
    );
    for region in &shop.regions {
        let groups: Vec<_> = region.servers.iter().map(|it| it.count).collect();
        assert_eq!(groups, [3, 1], "{}", region.name);
        let database = region.databases.first().expect("a database in every region");
        assert_eq!((database.managed, database.version.as_str()), (false, "15"));
        assert_eq!(database.location, region.location);
        assert_eq!(
            database.settings.get("max_connections").map(String::as_str),
            Some("100")
        );
        assert_eq!(region.stores.len(), 1);
        assert_eq!(region.networks.len(), 1);
        assert_eq!(region.load_balancers.len(), 1);
    }
    let balancer = &shop.regions[0].load_balancers[0];
    let ports: Vec<_> = balancer
        .rules
        .iter()
        .map(|rule| (rule.entry_protocol.as_str(), rule.entry_port, rule.target_port))
        .collect();
    assert_eq!(ports, [("http", 80, 8080), ("https", 443, 8080)]);
    assert_eq!(balancer.health_check.fall, 3);
    let dns = shop.dns.expect("names in front of the regions");
    assert_eq!(dns.default_region.as_deref(), Some("us-east"));
}

#[test]
fn constants_and_policy_may_be_written_one_by_one() {
    let shop = good(&workspace("broken/timing.ncl"));
    let default = TimingProfile::Default.timing();
    let wanted = Timing {
        hold: Duration::from_millis(9500),
        watchdog: Duration::from_millis(9800),
        probe_failures: 12,
        ..default
    };
    assert_eq!((shop.profile, shop.timing), (TimingProfile::Default, wanted));
    assert_eq!(
        (shop.failover.daily_limit, shop.failover.cooldown),
        (None, Duration::from_secs(60))
    );
    assert_eq!(shop.failover.restart_budget, FailoverPolicy::default().restart_budget);
    let led: Vec<_> = shop
        .regions
        .iter()
        .map(|it| (it.failover_priority, it.can_lead))
        .collect();
    assert_eq!(led, [(0, false), (7, true), (20, true)]);
}

#[test]
fn what_failover_is_told_is_checked_where_it_is_written() {
    assert_findings(
        "failover.ncl",
        &[
            ("unknown_value", 4, 24),
            ("unknown_field", 4, 31),
            ("wrong_value", 4, 54),
            ("unknown_field", 5, 16),
            ("wrong_value", 5, 45),
            ("wrong_value", 5, 60),
            ("wrong_value", 5, 83),
            ("wrong_value", 8, 16),
            ("unknown_field", 9, 5),
        ],
    );
    let help = help_of("failover.ncl").join("\n");
    for meant in ["'Near", "hold_ms", "cooldown_seconds", "failover_priority"] {
        assert!(help.contains(&format!("did you mean `{meant}`?")), "{meant}: {help}");
    }
    assert!(help.contains("write automatic = false"), "{help}");
}

#[test]
fn one_region_is_enough() {
    let single = good(&workspace("single-region.ncl"));
    assert_eq!(single.regions.len(), 1);
    assert_eq!(single.sync_mode, SyncMode::Async);
    assert!(single.dns.is_none());
}

#[test]
fn two_regions_at_one_provider_are_built_by_one_function() {
    let storefront = good(&workspace("storefront.ncl"));
    let regions: Vec<_> = storefront
        .regions
        .iter()
        .map(|it| (it.name.as_str(), it.location.as_str()))
        .collect();
    assert_eq!(regions, [("nyc", "nyc1"), ("ams", "ams3")]);
    for region in &storefront.regions {
        let groups: Vec<_> = region.servers.iter().map(|it| (it.count, it.size.as_str())).collect();
        assert_eq!(groups, [(2, "s-2vcpu-4gb"), (3, "s-4vcpu-8gb")]);
    }
}

#[test]
fn three_regions_at_aws() {
    let aws = good(&workspace("aws-three.ncl"));
    let locations: Vec<_> = aws.regions.iter().map(|it| it.location.as_str()).collect();
    assert_eq!(locations, ["us-east-1", "us-west-2", "eu-west-1"]);
    assert!(aws.regions.iter().all(|it| it.others.len() == 1));
}

#[test]
fn the_forms_of_the_source_documents_are_understood() {
    let path = workspace("source-snippets.ncl");
    let seed = good(&path);
    let counts: Vec<_> = seed
        .regions
        .iter()
        .map(|it| it.servers.iter().map(|it| it.count).sum::<u32>())
        .collect();
    assert_eq!(counts, [5, 5, 5]);
    let warned: Vec<_> = evaluated(&path).findings.into_iter().filter_map(|it| it.path).collect();
    assert_eq!(warned, ["droplets", "app_servers", "load_balancer"]);
}

#[test]
fn a_workspace_may_be_split_over_files() {
    let path = workspace("split.ncl");
    let split = good(&path);
    assert!(split.regions.iter().all(|it| it.servers[0].count == 2));
    let place = evaluated(&path)
        .map
        .place("region_us_east.role")
        .expect("a place in the imported file");
    assert!(place.file.ends_with("split/us-east.ncl"), "{place:?}");
    assert_eq!((place.line, place.column), (4, 10));
}

#[test]
fn the_text_for_a_new_workspace_takes_any_folder_name() {
    for (folder, name) in [
        ("shop2", "shop2"),
        ("My Shop!", "my-shop"),
        ("---", "shop"),
        ("läden", "l-den"),
    ] {
        assert!(example(folder).contains(&format!("workspace = \"{name}\"")), "{folder}");
    }
    assert_eq!(example("shop"), EXAMPLE);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("workspace.ncl");
    std::fs::write(&path, example("My Shop!")).expect("written");
    assert_eq!(good(&path).name, "my-shop");
}

#[test]
fn a_syntax_error_has_its_place() {
    assert_findings("syntax.ncl", &[("syntax", 9, 1)]);
    assert_findings("split-syntax.ncl", &[("syntax", 3, 15)]);
}

#[test]
fn an_unknown_field_is_answered_with_the_one_meant() {
    assert_findings("unknown-field.ncl", &[("unknown_field", 6, 78)]);
    let help = help_of("unknown-field.ncl").concat();
    assert!(help.starts_with("did you mean `size`?\n"), "{help}");
    assert!(!help.contains("kind"), "nobody sets the kind: {help}");
}

#[test]
fn a_wrong_type_points_at_the_value() {
    assert_findings("wrong-type.ncl", &[("wrong_value", 9, 15), ("wrong_value", 10, 17)]);
}

#[test]
fn a_missing_field_points_at_the_resource() {
    assert_findings(
        "missing-field.ncl",
        &[
            ("missing_field", 6, 5),
            ("missing_field", 7, 5),
            ("missing_field", 7, 5),
        ],
    );
}

#[test]
fn an_unknown_kind_and_a_record_without_one() {
    assert_findings(
        "unknown-kind.ncl",
        &[("unknown_name", 6, 19), ("not_a_resource", 7, 13)],
    );
    assert_eq!(help_of("unknown-kind.ncl")[0], "did you mean `Droplet`?");
}

#[test]
fn a_name_that_was_not_taken_from_the_library() {
    assert_findings("unbound.ncl", &[("unbound", 6, 19)]);
    assert!(help_of("unbound.ncl")[0].contains("let { hetzner, .. } = import \"ha.ncl\""));
}

#[test]
fn mistakes_do_not_hide_each_other_and_columns_count_characters() {
    assert_findings(
        "several.ncl",
        &[
            ("wrong_value", 4, 15),
            ("unknown_field", 5, 3),
            ("wrong_value", 6, 32),
            ("unknown_value", 9, 12),
            ("wrong_value", 10, 81),
            ("unknown_field", 11, 78),
            ("wrong_value", 11, 99),
            ("unknown_value", 15, 19),
            ("wrong_value", 16, 63),
            ("conflict", 22, 45),
        ],
    );
}

#[test]
fn a_region_is_at_one_provider_and_has_one_name() {
    assert_findings("mixed-providers.ncl", &[("mixed_providers", 4, 3)]);
    assert_findings("region-name.ncl", &[("region_name", 5, 19)]);
}

#[test]
fn a_workspace_without_its_contract_is_not_trusted() {
    assert_findings("no-contract.ncl", &[("no_contract", 8, 1)]);
    assert_findings("not-a-record.ncl", &[("not_a_record", 1, 10)]);
}

#[test]
fn data_within_data_without_end_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("workspace.ncl");
    std::fs::write(&path, format!("{}{}", "[".repeat(200), "]".repeat(200))).expect("written");
    let evaluation = evaluated(&path);
    assert!(evaluation.workspace.is_none());
    assert!(
        evaluation
            .findings
            .iter()
            .any(|it| it.message.starts_with("data within data"))
    );
}

#[test]
fn imports_are_followed_and_missed() {
    assert_findings("split.ncl", &[("unknown_field", 4, 76), ("wrong_value", 4, 103)]);
    assert_findings("missing-import.ncl", &[("import", 4, 20)]);
}

/// Their shape is right; `ha_core::check` says what is wrong, and gets its places here.
#[test]
fn what_only_breaks_rules_across_regions_is_a_workspace_with_places() {
    for (name, path, line, column, text) in [
        ("two-primaries.ncl", "region_eu_central.role", 9, 12, "'Primary"),
        (
            "overlap.ncl",
            "region_eu_central.network.ip_range",
            11,
            63,
            "\"10.1.0.0/16\"",
        ),
        (
            "foreign-location.ncl",
            "region_asia_southeast.app_servers.region",
            7,
            59,
            "\"sgp1\"",
        ),
        (
            "managed-replica.ncl",
            "region_eu_central.database.replicate_from",
            13,
            85,
            "\"us-db-primary\"",
        ),
    ] {
        let file = workspace("broken").join(name);
        good(&file);
        let map = evaluated(&file).map;
        let place = map
            .place(path)
            .unwrap_or_else(|| panic!("{name} has no place for {path}"));
        assert_eq!((place.line, place.column), (line, column), "{name}");
        assert_eq!(
            &map.text(&place.file).expect("the file's text")[place.start..place.end],
            text
        );
    }
}

#[test]
fn a_field_that_was_not_written_has_the_place_of_what_is_around_it() {
    let map = evaluated(&root().join("workspace.ncl")).map;
    let around = map.place("region_us_east.load_balancer").expect("a place");
    assert_eq!(
        map.place("region_us_east.load_balancer.health_check.port"),
        Some(around)
    );
    let rule = map
        .place("region_us_east.load_balancer.forwarding_rules[1].entry_port")
        .expect("a place");
    assert_eq!(
        map.place("region_us_east.load_balancer.forwarding_rules.1.entry_port"),
        Some(rule)
    );
    assert_eq!(map.place("region_mars.role"), None);
}

#[test]
fn an_error_beside_a_readable_workspace_leaves_a_draft_to_check() {
    let evaluation = evaluated(&workspace("broken/unknown-field.ncl"));
    assert!(evaluation.workspace.is_none());
    assert_eq!(evaluation.to_check().map(|it| it.regions.len()), Some(1));
    let evaluation = evaluated(&workspace("broken/several.ncl"));
    assert!(
        evaluation.to_check().is_none(),
        "without a role no rule about roles is fair"
    );
}

/// `Checked` is for the bare nickel command: it stops at the first mistake instead of finding all.
#[test]
fn the_stricter_contract_refuses_two_primaries() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("workspace.ncl");
    for (file, refused) in [
        ("workspace.ncl", false),
        ("tests/workspaces/broken/two-primaries.ncl", true),
    ] {
        let text = std::fs::read_to_string(root().join(file)).expect("read");
        std::fs::write(&path, text.replace("Workspace", "Checked")).expect("written");
        let evaluation = evaluated(&path);
        let told = evaluation
            .findings
            .iter()
            .any(|it| it.message.contains("exactly one region"));
        assert_eq!(told, refused, "{file}: {:#?}", evaluation.findings);
    }
}
