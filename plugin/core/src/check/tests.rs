use std::time::Duration;

use super::*;
use crate::{
    config::{self, Target},
    finding::Severity,
    fixture::{self, workspace},
    model::{Role, SyncMode, TimingProfile},
};

/// Codes, paths and helps of a workspace changed by `change`.
fn check(change: impl FnOnce(&mut Workspace)) -> Vec<Finding> {
    let mut workspace = workspace();
    change(&mut workspace);
    run(&workspace, &Config::default())
}

/// The only finding.
fn only(change: impl FnOnce(&mut Workspace)) -> (Severity, String, String, String) {
    let mut all = check(change);
    assert_eq!(all.len(), 1, "{all:#?}");
    let it = all.remove(0);
    assert!(!it.message.ends_with('.'), "{}", it.message);
    (
        it.severity,
        it.code,
        it.path.expect("has a path"),
        format!("{}; {}", it.message, it.help.expect("says what next")),
    )
}

/// Changes one thing and expects one finding: its code, its path, and words in message or help.
macro_rules! finds {
    ($($name:ident: $change:expr => $severity:ident $code:literal at $path:literal, $words:expr;)*) => {$(
        #[test]
        fn $name() {
            let (severity, code, path, text) = only($change);
            assert_eq!((code.as_str(), path.as_str(), severity), ($code, $path, Severity::$severity), "{text}");
            for words in $words {
                assert!(text.contains(words), "{words:?} is not in: {text}");
            }
        }
    )*};
}

#[test]
fn the_example_has_nothing_to_find() {
    assert_eq!(check(|_| {}), []);
}

finds! {
    no_primary: |w| w.regions[0].role = Role::Secondary
        => Error "ha::check::primary" at "region_us_east.role", ["exactly one"];
    two_primaries: |w| w.regions[1].role = Role::Primary
        => Error "ha::check::primary" at "region_eu_central.role", ["second primary"];
    a_witness_with_data: |w| w.regions[2].role = Role::Witness
        => Error "ha::check::witness_data" at "region_asia_southeast.database", ["remove the database"];

    overlapping_ranges: |w| w.regions[1].networks[0].ip_range = "10.0.128.0/17".into()
        => Error "ha::check::overlap" at "region_eu_central.network.ip_range", ["us-east", "ip_range = \"10.1.0.0/16\""];
    a_range_that_is_none: |w| w.regions[1].networks[0].ip_range = "10.1/16".into()
        => Error "ha::check::range" at "region_eu_central.network.ip_range", ["10.0.0.0/16"];
    a_public_range: |w| w.regions[1].networks[0].ip_range = "8.8.0.0/16".into()
        => Error "ha::check::range" at "region_eu_central.network.ip_range", ["not private"];
    a_crooked_range: |w| w.regions[1].networks[0].ip_range = "10.1.2.3/16".into()
        => Warning "ha::check::range" at "region_eu_central.network.ip_range", ["\"10.1.0.0/16\""];

    a_zone_without_its_servers: |w| {
        let network = &mut w.regions[1].networks[0].declared;
        network.fields.insert("network_zone".into(), "us-west".into());
    } => Error "ha::check::location" at "region_eu_central.network.network_zone", ["nbg1", "network_zone = \"eu-central\""];
    a_network_elsewhere: |w| {
        let network = &mut w.regions[2].networks[0].declared;
        network.fields.insert("region".into(), "sgp1".into());
    } => Error "ha::check::location" at "region_asia_southeast.network.region", ["\"ap-southeast-1\""];

    neighbours: |w| w.regions[1].coordinates = w.regions[0].coordinates
        => Warning "ha::check::distance" at "region_eu_central.app_servers", ["0 km", "objectives.min_distance_km = 0"];
    an_unknown_place: |w| w.regions[1].coordinates = None
        => Warning "ha::check::coordinates" at "region_eu_central.app_servers", ["latitude"];
    slow_commits: |w| w.objectives.max_latency_ms = 50.0
        => Warning "ha::check::latency" at "region_us_east.app_servers", ["eu-central", "64 ms", "objectives.max_latency_ms = 64"];

    residency_broken: |w| w.regions[2].residency = vec!["SG".into()]
        => Warning "ha::check::residency" at "region_asia_southeast.residency", ["us-east (US) and eu-central (DE)"];
    residency_in_words: |w| w.regions[0].residency = ["US", "EU", "SG", "Europe"].map(String::from).to_vec()
        => Error "ha::check::residency" at "region_us_east.residency", ["Europe"];

    unknown_group: |w| w.regions[0].load_balancers[0].targets = Some("us-ap".into())
        => Error "ha::check::unknown_group" at "region_us_east.load_balancer.targets", ["did you mean \"us-app\""];
    group_of_another_region: |w| w.regions[0].load_balancers[0].targets = Some("eu-app".into())
        => Error "ha::check::other_region" at "region_us_east.load_balancer.targets", ["lives in eu-central"];
    ambiguous_targets: |w| {
        w.regions[0].load_balancers[0].targets = None;
        let mut group = w.regions[0].servers[0].clone();
        group.declared.name = "us-web".into();
        w.regions[0].servers.push(group);
    } => Error "ha::check::ambiguous_targets" at "region_us_east.load_balancer", ["targets ="];
    a_database_without_servers: |w| w.regions[2].databases[0].runs_on = None
        => Error "ha::check::unknown_group" at "region_asia_southeast.database", ["runs_on ="];
    an_unknown_source: |w| w.regions[1].databases[0].replicate_from = Some("us-pgg".into())
        => Error "ha::check::unknown_database" at "region_eu_central.database.replicate_from", ["did you mean \"us-pg\""];
    another_major: |w| w.regions[1].databases[0].version = "16".into()
        => Error "ha::check::engine" at "region_eu_central.database.version", ["version = \"15\""];

    two_databases_on_one_server: |w| {
        let mut twin = w.regions[1].databases[0].clone();
        (twin.declared.name, twin.declared.path) = ("eu-pg2".into(), "region_eu_central.other".into());
        w.regions[1].databases.push(twin);
    } => Error "ha::check::shared_group" at "region_eu_central.other.runs_on", ["eu-pg and eu-pg2 both run on eu-db"];
    two_members_on_one_server: |w| {
        let mut twin = w.regions[0].stores[0].clone();
        (twin.declared.name, twin.declared.path) = ("us-store2".into(), "region_us_east.other".into());
        w.regions[0].stores.push(twin);
        let mut more = w.regions[2].stores[0].clone();
        (more.declared.name, more.runs_on) = ("asia-store2".into(), "asia-app".into());
        w.regions[2].stores.push(more);
    } => Error "ha::check::shared_group" at "region_us_east.other.runs_on", ["a server holds one store member"];

    twins: |w| w.regions[0].load_balancers[0].declared.name = "us-app-2".into()
        => Error "ha::check::duplicate_name" at "region_us_east.load_balancer.name", ["twice"];
    the_relay: |w| w.regions[0].load_balancers[0].declared.name = "relay".into()
        => Error "ha::check::duplicate_name" at "region_us_east.load_balancer", ["relay"];

    no_store: |w| w.regions.iter_mut().for_each(|region| region.stores.clear())
        => Error "ha::check::store_missing" at "region_us_east", ["ha.Store"];
    an_even_store: |w| w.regions[2].stores.clear()
        => Warning "ha::check::store_even" at "region_eu_central.store", ["odd number"];

    a_store_in_one_place: |w| w.regions.iter_mut().skip(1).for_each(|region| region.stores.clear())
        => Warning "ha::check::store_majority" at "region_us_east.store", ["the only member", "store = ha.Store"];

    geographic_without_default: |w| w.dns.as_mut().expect("has one").default_region = None
        => Error "ha::check::dns_default" at "dns", ["default_region = \"us-east\""];
    unknown_default: |w| w.dns.as_mut().expect("has one").default_region = Some("us-esat".into())
        => Error "ha::check::dns_region" at "dns.default_region", ["did you mean \"us-east\""];

    a_budget_that_does_not_hold: |w| {
        w.objectives.monthly_budget_usd = Some(90.0);
        w.regions[0].servers[0].size = "s-4vcpu-8gb".into();
        w.regions[0].servers[1].size = "s-2vcpu-4gb".into();
    } => Warning "ha::check::budget" at "objectives.monthly_budget_usd", ["at least $", "above the budget of $90", "no known price", "--what-if count=2"];
    lag_above_rpo: |w| w.sync_mode = SyncMode::Async
        => Warning "ha::check::lag_above_rpo" at "objectives.lag_expected_seconds", ["300 s", "600 s", "60 s", "objectives.lag_expected_seconds = 60", "sync_mode = 'Strict"];
    lag_out_of_order: |w| w.objectives.lag_warn_seconds = 400
        => Error "ha::check::lag_order" at "objectives.lag_warn_seconds", ["above lag_expected_seconds"];
    rto_below_dns: |w| w.objectives.rto_seconds = 120
        => Warning "ha::check::rto" at "dns", ["3 probes at 30 s are 90.0 s", "156.0 s", "objectives.rto_seconds = 157", "dns.health_check.request_interval = 10"];
    rto_below_everything: |w| w.objectives.rto_seconds = 5
        => Warning "ha::check::rto" at "objectives.rto_seconds", ["detection 3.7 s", "objectives.rto_seconds = 7"];
    a_lease_taken_too_early: |w| w.timing.hold = Duration::from_millis(8000)
        => Error "ha::check::timing_watchdog" at "timing.watchdog_ms", ["C3", "9 s", "write timing.watchdog_ms = 9000, or up to 9899"];
    a_taker_who_is_too_quick: |w| {
        w.timing.take = Duration::from_millis(8080);
    } => Error "ha::check::timing_watchdog" at "timing.watchdog_ms", ["C3", "write timing.watchdog_ms = 7500, or up to 7999"];
    a_hold_shorter_than_an_election: |w| w.timing.hold = Duration::from_secs(5)
        => Error "ha::check::timing_hold" at "timing.hold_ms", ["C2", "hold 5 s", "timing.hold_ms = 6000"];
    votes_that_come_late: |w| w.timing.probe_failures = 10
        => Error "ha::check::timing_probes" at "timing.probe_failures", ["C4", "10.7 s", "timing.take_ms = 10701"];
    a_store_over_too_long_a_way: |w| w.objectives.max_latency_ms = 250.0
        => Warning "ha::check::timing_store" at "timing.store_election_ms", ["C6", "2 s", "250 ms", "store_election_ms = 2500", "to 200"];
    a_line_that_is_kept_too_long: |w| {
        w.regions[1].databases[0].settings.insert("tcp_user_timeout".into(), "1min".into());
    } => Warning "ha::check::timing_replication" at "region_eu_central.database.settings.tcp_user_timeout", ["C5", "1min", "10000 ms"];

    nobody_can_lead: |w| w.regions.iter_mut().for_each(|region| region.can_lead = false)
        => Error "ha::check::cannot_lead" at "region_us_east", ["no region", "us-east says can_lead = false", "eu-central says"];
    the_primary_cannot_lead: |w| w.regions[0].can_lead = false
        => Error "ha::check::cannot_lead" at "region_us_east.role", ["give eu-central role = 'Primary"];
    only_one_can_lead: |w| w.regions.iter_mut().skip(1).for_each(|region| region.can_lead = false)
        => Warning "ha::check::cannot_lead" at "region_us_east", ["nowhere to fail over to"];
    a_node_with_a_long_name: |w| {
        let name = "n".repeat(48);
        w.regions[1].servers[1].declared.name = name.clone();
        w.regions[1].databases[0].runs_on = Some(name.clone());
        w.regions[1].stores[0].runs_on = name;
    } => Error "ha::check::node_name" at "region_eu_central.db_servers.name", ["63 characters", "46 characters or fewer"];

    a_profile_for_neighbours: |w| (w.profile, w.timing) = (TimingProfile::Near, TimingProfile::Near.timing())
        => Warning "ha::check::timing" at "timing", ["up to 20 ms", "153 ms", "timing = 'Default"];
}

#[test]
fn another_providers_location_is_named_and_translated() {
    let (severity, code, _, text) = only(|w| {
        w.regions[2].servers[0].location = "sgp1".into();
        w.regions[2].load_balancers.clear();
    });
    assert_eq!((code.as_str(), severity), ("ha::check::location", Severity::Error));
    assert!(
        text.contains("sgp1 is Singapore at digitalocean") && text.contains("\"ap-southeast-1\""),
        "{text}"
    );
    let (severity, .., text) = only(|w| w.regions[1].servers[1].location = "nbg2".into());
    assert_eq!(severity, Severity::Warning, "it may be new");
    assert!(text.contains("did you mean \"nbg1\""), "{text}");
    let (severity, .., text) = only(|w| w.regions[2].servers[1].location = "ap-southeast-1b".into());
    assert_eq!(severity, Severity::Error);
    assert!(text.contains("one zone"), "{text}");
}

#[test]
fn a_balancer_elsewhere_than_its_servers() {
    let (_, code, ..) = only(|w| w.regions[0].load_balancers[0].location = "nyc1".into());
    assert_eq!(code, "ha::check::other_region");
}

#[test]
fn data_outside_of_its_law_is_an_error() {
    let all = check(|w| w.regions[2].residency = vec!["EU".into()]);
    let severities: Vec<Severity> = all.iter().map(|it| it.severity).collect();
    assert_eq!(severities, [Severity::Error, Severity::Warning]);
    assert_eq!(
        check(|w| w.regions[1].residency = ["EU", "US", "SG"].map(String::from).to_vec()),
        []
    );
}

#[test]
fn an_empty_group_is_seen_by_everything_on_it() {
    let all = check(|w| w.regions[1].servers[1].count = 0);
    assert!(
        all.iter().filter(|it| it.code == codes::EMPTY_GROUP).count() == 2,
        "{all:#?}"
    );
}

#[test]
fn equal_node_names_in_two_regions() {
    let all = check(|w| {
        w.regions[1].servers[1].declared.name = "us-db".into();
        w.regions[1].databases[0].runs_on = Some("us-db".into());
        w.regions[1].stores[0].runs_on = "us-db".into();
    });
    let codes: Vec<&str> = all.iter().map(|it| it.code.as_str()).collect();
    assert_eq!(codes, [codes::DUPLICATE_NAME]);
}

#[test]
fn two_regions_in_strict_mode_are_told_their_price() {
    let all = check(|w| w.regions.truncate(2));
    let codes: Vec<&str> = all.iter().map(|it| it.code.as_str()).collect();
    assert_eq!(codes, [codes::STORE_EVEN, codes::TWO_REGIONS], "{all:#?}");
}

#[test]
fn a_witness_does_not_spare_strict_mode_its_second_copy() {
    let witness = |w: &mut Workspace| {
        w.regions[2].role = Role::Witness;
        w.regions[2].databases.clear();
    };
    let (severity, code, path, text) = only(witness);
    assert_eq!(
        (code.as_str(), path.as_str(), severity),
        (codes::TWO_REGIONS, "sync_mode", Severity::Warning)
    );
    assert!(text.contains("both us-east and eu-central"), "{text}");
    let all = check(|w| {
        witness(w);
        w.sync_mode = SyncMode::Degrade;
        w.objectives.rpo_seconds = 600;
    });
    assert_eq!(all, []);
    let all = check(|w| {
        witness(w);
        (w.sync_mode, w.objectives.rpo_seconds) = (SyncMode::Degrade, 600);
        w.regions[2].stores.clear();
    });
    assert!(all.iter().any(|it| it.code == codes::WITNESS_STORE), "{all:#?}");
}

#[test]
fn one_region_alone_is_fine() {
    let all = check(|w| w.regions.truncate(1));
    let found: Vec<_> = all.iter().map(|it| (it.severity, it.code.as_str())).collect();
    assert_eq!(found, [(Severity::Note, codes::ONE_COPY)]);
    let all = check(|w| w.regions.clear());
    assert!(all.iter().any(|it| it.code == codes::NO_REGION), "{all:#?}");
}

#[test]
fn managed_databases_copy_only_their_own_kind() {
    let managed = |kinds: [&'static str; 2]| {
        check(move |w| {
            for (region, kind) in w.regions.iter_mut().zip(kinds) {
                let database = &mut region.databases[0];
                database.declared.kind = kind.into();
                database.managed = kind != "ha.Postgres";
            }
            w.regions[1].databases[0].replicate_from = Some("us-pg".into());
        })
    };
    let refused = |kinds| {
        let mut all = managed(kinds).into_iter();
        all.find(|it| it.code == codes::REPLICATION && it.severity == Severity::Error)
    };
    for kinds in [
        ["digitalocean.Database", "ha.Postgres"],
        ["digitalocean.Database", "aws.RDS"],
        ["aws.RDS", "digitalocean.Database"],
        ["aws.RDS", "ha.Postgres"],
        ["ha.Postgres", "aws.RDS"],
        ["ha.Postgres", "digitalocean.Database"],
    ] {
        let finding = refused(kinds).expect("cannot replicate");
        assert_eq!(
            finding.path.as_deref(),
            Some("region_eu_central.database.replicate_from")
        );
        let help = finding.help.expect("says what instead");
        assert!(help.contains("ha.Postgres") && help.contains("subscription"), "{help}");
    }
    for kinds in [["ha.Postgres"; 2], ["aws.RDS"; 2], ["digitalocean.Database"; 2]] {
        assert_eq!(refused(kinds), None);
    }
}

#[test]
fn a_pair_that_cannot_replicate_is_told_though_nobody_asked_for_a_copy() {
    let all = check(|w| {
        for (region, kind) in w
            .regions
            .iter_mut()
            .zip(["digitalocean.Database", "ha.Postgres", "aws.RDS"])
        {
            let database = &mut region.databases[0];
            (database.declared.kind, database.managed) = (kind.into(), kind != "ha.Postgres");
        }
    });
    let pairs: Vec<_> = all.iter().filter(|it| it.code == codes::REPLICATION).collect();
    let paths: Vec<_> = pairs.iter().filter_map(|it| it.path.as_deref()).collect();
    assert_eq!(paths, ["region_asia_southeast.database", "region_eu_central.database"]);
    for pair in pairs {
        assert_eq!(pair.severity, Severity::Warning);
        assert_eq!(pair.labels[0].path.as_deref(), Some("region_us_east.database"));
        assert!(
            pair.help
                .as_deref()
                .is_some_and(|help| help.contains("ha.Postgres & {"))
        );
    }
}

/// Findings about a pair point at both.
#[test]
fn pairs_have_two_places() {
    let labels = |change: fn(&mut Workspace)| {
        let all = check(change);
        let paths: Vec<_> = all
            .iter()
            .flat_map(|it| it.labels.iter().filter_map(|it| it.path.clone()))
            .collect();
        paths.join(" ")
    };
    assert_eq!(labels(|w| w.regions[1].role = Role::Primary), "region_us_east.role");
    assert_eq!(
        labels(|w| w.regions[1].networks[0].ip_range = "10.0.0.0/8".into()),
        "region_eu_central.network.ip_range region_us_east.network.ip_range"
    );
    assert_eq!(
        labels(|w| w.regions[1].coordinates = w.regions[0].coordinates),
        "region_us_east.app_servers"
    );
}

#[test]
fn without_replicas_there_is_no_lag_and_no_failover_to_judge() {
    let all = check(|w| {
        w.regions.iter_mut().for_each(|region| region.databases.clear());
        (w.sync_mode, w.objectives.rto_seconds) = (SyncMode::Async, 151);
    });
    assert_eq!(all, []);
    let all = check(|w| {
        w.regions.iter_mut().for_each(|region| region.databases.clear());
        w.objectives.rto_seconds = 149;
    });
    assert_eq!(all.iter().map(|it| it.code.as_str()).collect::<Vec<_>>(), [codes::RTO]);
}

#[test]
fn managed_databases_are_noted_on_the_local_target_only() {
    let mut workspace = workspace();
    workspace.regions[2].databases[0].managed = true;
    let mut config = Config::default();
    let noted = |config: &Config| run(&workspace, config).iter().any(|it| it.code == codes::MANAGED_LOCAL);
    assert!(noted(&config));
    config.target = Target::Cloud;
    assert!(!noted(&config));
}

#[test]
fn a_region_name_only_repeats() {
    let agree = |text: &str| {
        let (config, findings) = config::parse(text, "/w/config.toml");
        assert_eq!(findings, []);
        run(&workspace(), &config)
    };
    assert_eq!(agree("[providers.hetzner]\nregion_name = \"eu-central\""), []);
    assert_eq!(
        agree("[providers.digitalocean]\nregion_name = { nyc3 = \"us-east\" }"),
        []
    );
    for (text, words) in [
        (
            "[providers.hetzner]\nregion_name = \"eu-centrl\"",
            "did you mean \"eu-central\"",
        ),
        (
            "[providers.hetzner]\nregion_name = \"us-east\"",
            "us-east is at digitalocean",
        ),
        (
            "[providers.digitalocean]\nregion_name = { sfo3 = \"us-east\" }",
            "us-east is in nyc3",
        ),
        (
            "[providers.aws]\nregion_name = [\"mars\"]",
            "at aws there is asia-southeast",
        ),
    ] {
        let findings = agree(text);
        let [finding] = &findings[..] else {
            panic!("{findings:#?}")
        };
        assert_eq!(finding.code, codes::CONFIG_REGION);
        assert_eq!(
            finding.place.as_ref().map(|it| (it.file.as_str(), it.line)),
            Some(("/w/config.toml", 2))
        );
        let said = format!("{} {}", finding.message, finding.help.as_deref().unwrap_or_default());
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn a_budget_holds_up_to_its_last_cent() {
    let with = |budget: f64, text: &str| {
        let mut workspace = workspace();
        workspace.dns = None;
        workspace.regions.truncate(1);
        workspace.objectives.monthly_budget_usd = Some(budget);
        let (config, findings) = config::parse(text, "/w/config.toml");
        assert_eq!(findings, []);
        let findings = run(&workspace, &config);
        findings
            .into_iter()
            .filter(|it| it.code == codes::BUDGET)
            .collect::<Vec<_>>()
    };
    // Four servers and a balancer.
    let text = "[prices.digitalocean]\nsmall = 22.5\nlb-node = 10";
    assert_eq!(with(100.0, text), []);
    let [finding] = &with(99.99, text)[..] else {
        panic!("a finding")
    };
    assert_eq!(
        finding.message,
        "what is declared costs $100.00 a month, $0.01 above the budget of $99.99"
    );
    assert!(
        finding
            .help
            .as_ref()
            .is_some_and(|it| it.ends_with("monthly_budget_usd = 100"))
    );
}

#[test]
fn all_findings_come_at_once_and_in_the_same_order() {
    let broken = |w: &mut Workspace| {
        w.regions[0].role = Role::Witness;
        w.regions[1].networks[0].ip_range = "nonsense".into();
        w.dns.as_mut().expect("has one").default_region = Some("mars".into());
        w.regions.push(fixture::region(
            "eu-west",
            Role::Secondary,
            ProviderName::Hetzner,
            "fsn1",
            "euw",
            2,
        ));
    };
    let first = check(broken);
    assert!(first.len() >= 6, "{first:#?}");
    assert_eq!(first, check(broken));
    assert!(first.is_sorted_by_key(|it| it.severity));
}
