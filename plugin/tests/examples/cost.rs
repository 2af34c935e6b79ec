//! What it costs, and the same servers for Ansible.

use nu_protocol::Value;

use crate::shell::{Shell, code, columns, text};

fn number(row: &Value, column: &str) -> Option<f64> {
    row.get_data_by_key(column).and_then(|it| it.as_float().ok())
}

fn named<'a>(rows: &'a [Value], name: &str, component: &str) -> &'a Value {
    let found = rows
        .iter()
        .find(|it| text(it, "name") == name && text(it, "component") == component);
    found.unwrap_or_else(|| panic!("no {component} of {name}"))
}

#[test]
fn a_bill_is_typed_rows_in_two_currencies_with_a_reason_where_there_is_no_price() {
    let mut shell = Shell::example();
    let rows = shell.rows("ha cost");
    assert_eq!(
        columns(&rows),
        [
            "region",
            "component",
            "name",
            "type",
            "count",
            "unit_cost",
            "monthly_cost",
            "monthly_cost_eur",
            "before",
            "difference",
            "error",
            "provider",
            "currency",
            "rate",
            "origin",
            "as_of",
            "stale",
            "source",
            "note"
        ]
    );
    let servers = named(&rows, "us-app", "server");
    assert_eq!(text(servers, "type"), "s-2vcpu-4gb");
    assert_eq!(number(servers, "monthly_cost"), Some(72.0));
    assert_eq!(text(servers, "currency"), "USD");
    assert!(matches!(servers.get_data_by_key("as_of"), Some(Value::Date { .. })));
    let (usd, eur) = (number(servers, "monthly_cost"), number(servers, "monthly_cost_eur"));
    let rate = number(servers, "rate").expect("a rate");
    assert!((usd.expect("dollars") / eur.expect("euros") - rate).abs() < 0.001);

    let probes = named(&rows, "api.example.com", "health_check");
    assert_eq!(number(probes, "monthly_cost"), None);
    assert!(text(probes, "error").contains("[prices.aws]"), "{probes:?}");
    // Nothing is compared with anything.
    assert!(
        rows.iter()
            .all(|it| matches!(it.get_data_by_key("before"), Some(Value::Nothing { .. })))
    );

    let here = shell.rows("ha cost --region eu-central");
    assert!(!here.is_empty() && here.iter().all(|it| text(it, "region") == "eu-central"));
}

#[test]
fn what_if_compares_in_the_same_shape_and_may_be_repeated() {
    let mut shell = Shell::example();
    let plain = columns(&shell.rows("ha cost"));
    for command in [
        "ha cost --what-if [count=2 us-db.size=s-4vcpu-8gb]",
        "ha cost --what-if count=2 --what-if us-db.size=s-4vcpu-8gb",
    ] {
        let rows = shell.rows(command);
        assert_eq!(columns(&rows), plain, "{command}");
        let fewer = named(&rows, "us-app", "server");
        let of = |column| number(fewer, column);
        assert_eq!(
            (of("monthly_cost"), of("before"), of("difference")),
            (Some(48.0), Some(72.0), Some(-24.0)),
            "{command}"
        );
        let larger = named(&rows, "us-db", "server");
        assert_eq!(
            (text(larger, "type").as_str(), number(larger, "difference")),
            ("s-4vcpu-8gb", Some(24.0))
        );
        assert_eq!(number(named(&rows, "eu-lb", "load_balancer"), "difference"), Some(0.0));
        // Nobody knows what the probes cost; as much as before.
        let probes = named(&rows, "api.example.com", "health_check");
        assert_eq!(
            (number(probes, "before"), number(probes, "difference")),
            (None, Some(0.0))
        );
    }
    // Only where it was asked for.
    let rows = shell.rows("ha cost --region us-east --what-if count=2");
    assert_eq!(number(named(&rows, "us-app", "server"), "difference"), Some(-24.0));
    // What is saved of an unknown cost is unknown.
    let mut unknown = Shell::with(|text| text.replace("s-2vcpu-4gb", "s-3vcpu-5gb"));
    let rows = unknown.rows("ha cost --what-if count=2");
    assert_eq!(number(named(&rows, "us-app", "server"), "difference"), None);
}

#[test]
fn a_change_that_means_nothing_is_marked_and_answered() {
    let mut shell = Shell::example();
    let error = shell.refused("ha cost --what-if us-ap.count=2");
    assert_eq!(code(&error), "ha::group::unknown");
    assert_eq!(error.help.as_deref(), Some("did you mean \"us-app\"?"));
    for (change, help) in [
        ("us-app.size=s-4vcpu-8bg", "did you mean \"s-4vcpu-8gb\"?"),
        ("us-app.conut=2", "did you mean \"count\"?"),
        ("count=many", "a whole number"),
    ] {
        let error = shell.refused(&format!("ha cost --what-if [count=2 {change}]"));
        assert_eq!(code(&error), "ha::argument::invalid", "{change}");
        assert!(
            error.help.as_deref().is_some_and(|it| it.contains(help)),
            "{change}: {:?}",
            error.help
        );
        assert_eq!(error.labels.len(), 1, "{change}");
    }
    assert_eq!(code(&shell.refused("ha cost --region us-esat")), "ha::region::unknown");
}

#[test]
fn the_operators_price_is_taken_and_named() {
    let mut shell = Shell::with(|text| text);
    let config = "[prices.digitalocean]\n\"s-2vcpu-4gb\" = 20\n[prices.aws]\nhealth-check = 0.75\n";
    std::fs::write(shell.folder.path().join("config.toml"), config).expect("a file");
    let rows = shell.rows("ha cost");
    let servers = named(&rows, "us-app", "server");
    assert_eq!(number(servers, "monthly_cost"), Some(60.0));
    assert_eq!(text(servers, "source"), "config.toml");
    assert!(matches!(servers.get_data_by_key("as_of"), Some(Value::Nothing { .. })));
    assert!(rows.iter().all(|it| number(it, "monthly_cost").is_some()));
}

#[test]
fn plan_and_inventory_say_what_each_thing_costs() {
    let mut shell = Shell::example();
    for command in ["ha plan", "ha inventory"] {
        let rows = shell.rows(command);
        let cost = |name: &str, kind: &str| {
            let row = rows
                .iter()
                .find(|it| text(it, "name") == name && text(it, "kind") == kind);
            number(row.unwrap_or_else(|| panic!("{command} has no {name}")), "monthly_cost")
        };
        assert_eq!(cost("us-app-1", "server"), Some(24.0), "{command}");
        // €9.49 and €0.50 for its address, at $1.1186.
        assert_eq!(cost("eu-app-1", "server"), Some(11.17), "{command}");
        assert_eq!(cost("us-net", "network"), Some(0.0), "{command}");
        assert_eq!(cost("us-pg-1", "database"), Some(0.0), "{command}");
        assert_eq!(cost("us-lb", "load_balancer"), Some(12.0), "{command}");
    }
    let mut unknown = Shell::with(|text| text.replace("s-2vcpu-4gb", "s-3vcpu-5gb"));
    let rows = unknown.rows("ha plan");
    let row = rows.iter().find(|it| text(it, "name") == "us-app-1").expect("a row");
    assert_eq!(number(row, "monthly_cost"), None);
}

#[test]
fn a_budget_that_does_not_hold_is_a_warning_at_its_place() {
    let mut shell = Shell::with(|text| {
        text.replacen(
            "min_distance_km = 500,",
            "min_distance_km = 500, monthly_budget_usd = 100,",
            1,
        )
    });
    let findings = shell.rows("ha check");
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(text(&findings[0], "code"), "ha::check::budget");
    assert_eq!(text(&findings[0], "severity"), "warning");
    assert!(matches!(findings[0].get_data_by_key("line"), Some(Value::Int { val, .. }) if val > 0));
}

#[test]
fn for_ansible_the_inventory_is_a_record_of_groups() {
    let mut shell = Shell::example();
    let value = shell.test.eval("ha inventory --ansible").expect("a record");
    let value = value.into_value(nu_protocol::Span::test_data()).expect("a value");
    let record = value.as_record().expect("a record");
    for group in [
        "all",
        "_meta",
        "app_servers",
        "db_servers",
        "region_us_east",
        "group_us_app",
        "provider_aws",
    ] {
        assert!(record.get(group).is_some(), "no {group}");
    }
    // Nothing is there yet, and nothing is said to be.
    let hosts = record
        .get("db_servers")
        .and_then(|it| it.get_data_by_key("hosts"))
        .expect("hosts");
    assert_eq!(hosts.as_list().expect("a list").len(), 0);
    let error = shell.refused("ha inventory server --ansible");
    assert_eq!(code(&error), "ha::argument::invalid");
}
