use std::collections::BTreeSet;

use jiff::civil::date;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::{
    config::{self, Config, Target},
    desired, fixture,
    model::{Database, Other},
    resource::Status,
};

/// Of the example, with the sizes that are written there.
fn workspace() -> Workspace {
    let mut workspace = fixture::workspace();
    let sizes = ["s-2vcpu-4gb", "cpx21", "t3.medium"];
    for (region, size) in workspace.regions.iter_mut().zip(sizes) {
        for group in &mut region.servers {
            group.size = size.to_owned();
        }
    }
    workspace
}

fn now() -> Timestamp {
    "2026-11-20T12:00:00Z".parse().expect("a time")
}

fn prices() -> Prices {
    Prices::new(&Config::default(), [])
}

fn written(text: &str) -> Prices {
    let (config, findings) = config::parse(text, "config.toml");
    assert_eq!(findings, []);
    Prices::new(&config, [])
}

fn bill(workspace: &Workspace, prices: &Prices) -> Vec<Row> {
    rows(workspace, prices, now()).expect("the file can be read")
}

fn row<'a>(rows: &'a [Row], name: &str, component: Component) -> &'a Row {
    let found = rows.iter().find(|it| it.name == name && it.component == component);
    found.unwrap_or_else(|| panic!("no {component:?} of {name} in {rows:#?}"))
}

fn fields(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        other => panic!("{other} has no fields"),
    }
}

#[test]
fn the_price_file_can_be_read_and_every_price_in_it_has_a_day_and_a_source() {
    let rate = rate().expect("the file can be read");
    assert!((0.5..2.0).contains(&rate.usd_per_eur));
    assert!(rate.source.starts_with("https://"));
    let mut seen = BTreeSet::new();
    for list in prices::lists() {
        assert!(!list.prices.is_empty(), "{list:?}");
        assert!(
            list.as_of > date(2020, 1, 1) && list.as_of < date(2026, 11, 21),
            "{list:?}"
        );
        let links = [Some(&list.source), list.seen.as_ref()];
        assert!(
            links.into_iter().flatten().all(|it| it.starts_with("https://")),
            "{list:?}"
        );
        for (word, price) in &list.prices {
            assert!(*price > 0.0, "{word}");
            let places = match list.locations.is_empty() {
                true => vec![""],
                false => list.locations.iter().map(String::as_str).collect(),
            };
            for place in places {
                // The key in config.toml is the type alone, so one type is one thing at a provider.
                assert!(
                    seen.insert((list.provider, word.clone(), place)),
                    "{word} in {place} is there twice"
                );
            }
        }
    }
    let mut components: std::collections::BTreeMap<(ProviderName, &str), Component> = std::collections::BTreeMap::new();
    for list in prices::lists() {
        for word in list.prices.keys() {
            let known = *components.entry((list.provider, word)).or_insert(list.component);
            assert_eq!(known, list.component, "{word}");
        }
    }
}

#[test]
fn each_line_is_counted_in_the_providers_units_and_shown_in_both_currencies() {
    let rows = bill(&workspace(), &prices());
    let us = row(&rows, "us-app", Component::Server);
    assert_eq!(
        (us.count, us.unit, us.monthly.expect("a price").usd),
        (3, Some(24.0), 72.0)
    );
    assert_eq!(us.monthly.expect("a price").eur, 64.37, "72 / 1.1186");
    // Its address is part of a Droplet, and a line of the bill elsewhere.
    assert!(
        rows.iter()
            .all(|it| it.name != "us-app" || it.component == Component::Server)
    );

    let eu = row(&rows, "eu-app", Component::Server);
    assert_eq!(eu.monthly, Some(Money { usd: 31.85, eur: 28.47 }), "3 × €9.49");
    assert_eq!(eu.price.as_ref().map(|it| it.currency), Ok(Currency::Eur));
    assert_eq!(
        row(&rows, "eu-app", Component::Address).monthly.expect("a price").eur,
        1.5
    );

    let asia = row(&rows, "asia-app", Component::Server);
    assert_eq!(asia.unit, Some(38.544), "730 hours of $0.0528");
    assert_eq!(asia.monthly.expect("a price").usd, 115.63);
    let balancer = row(&rows, "asia-lb", Component::LoadBalancer);
    assert_eq!(balancer.monthly.expect("a price").usd, 18.4);
    assert_eq!(row(&rows, "asia-lb", Component::Address).count, 2);

    let zone = row(&rows, "api.example.com", Component::DnsZone);
    assert_eq!((zone.region.as_ref(), zone.unit), (None, Some(0.5)));
    let check = row(&rows, "api.example.com", Component::HealthCheck);
    assert_eq!((check.count, check.monthly), (3, None));
}

#[test]
fn a_sum_is_the_sum_of_what_is_shown() {
    let rows = bill(&workspace(), &prices());
    let cents: f64 = rows
        .iter()
        .filter_map(|it| it.monthly)
        .map(|it| (it.usd * 100.0).round())
        .sum();
    let total = total(&rows);
    assert_eq!((total.money.usd * 100.0).round(), cents);
    assert_eq!(total.unpriced, 1);
    // Regions come in their order, and what stands before them comes last.
    let regions: Vec<Option<&str>> = rows
        .iter()
        .map(|it| it.region.as_ref().map(RegionName::as_str))
        .collect();
    let mut order = regions.clone();
    order.dedup();
    assert_eq!(
        order,
        [Some("us-east"), Some("eu-central"), Some("asia-southeast"), None]
    );
}

#[test]
fn the_operators_price_comes_before_the_providers_and_that_before_the_file() {
    let told = |location: Option<&str>, amount: f64| Told {
        provider: ProviderName::Hetzner,
        component: Component::Server,
        r#type: "cpx21".to_owned(),
        location: location.map(str::to_owned),
        amount,
        per: Per::Month,
        currency: Currency::Eur,
        on: date(2026, 11, 20),
    };
    let find = |prices: &Prices, place: &str| prices.find(ProviderName::Hetzner, "cpx21", place);
    let file = find(&prices(), "nbg1").expect("a price");
    assert_eq!((file.amount, file.as_of), (9.49, Some(date(2026, 9, 29))));
    assert!(file.source.starts_with("https://"));

    let by_place = [told(Some("ash"), 31.0), told(Some("nbg1"), 10.0)];
    let provider = Prices::new(&Config::default(), by_place.clone());
    let here = find(&provider, "nbg1").expect("a price");
    assert_eq!(
        (here.amount, here.source.as_str(), here.as_of),
        (10.0, "hetzner", Some(date(2026, 11, 20)))
    );
    // The provider has said where it sells it: the file knows nothing better.
    let elsewhere = find(&provider, "sin").expect_err("not sold there");
    assert_eq!(elsewhere.to_string(), "hetzner sells no cpx21 in sin");
    let everywhere = Prices::new(&Config::default(), [told(None, 12.0)]);
    assert_eq!(find(&everywhere, "sin").expect("a price").amount, 12.0);

    let (config, _) = config::parse("[prices.hetzner]\ncpx21 = 8.5", "config.toml");
    let operator = find(&Prices::new(&config, by_place), "nbg1").expect("a price");
    assert_eq!((operator.amount, operator.currency), (8.5, Currency::Usd));
    assert_eq!((operator.source.as_str(), operator.as_of), (CONFIG, None));
}

#[test]
fn an_hourly_price_that_is_told_is_for_a_month_of_730_hours() {
    let told = Told {
        provider: ProviderName::Aws,
        component: Component::Server,
        r#type: "m7g.large".to_owned(),
        location: None,
        amount: 0.1,
        per: Per::Hour,
        currency: Currency::Usd,
        on: date(2026, 11, 20),
    };
    let prices = Prices::new(&Config::default(), [told]);
    let price = prices
        .find(ProviderName::Aws, "m7g.large", "eu-west-1")
        .expect("a price");
    assert_eq!(price.amount, 73.0);
}

#[test]
fn what_has_no_price_has_a_reason_and_no_guess() {
    let mut workspace = workspace();
    workspace.regions[2].servers[0].location = "eu-west-1".to_owned();
    workspace.regions[0].servers[0].size = "s-64vcpu".to_owned();
    let rows = bill(&workspace, &prices());
    let said = |name| {
        let row = row(&rows, name, Component::Server);
        assert_eq!((row.unit, row.monthly, row.stale), (None, None, false));
        row.price.clone().expect_err("no price").to_string()
    };
    let elsewhere = said("asia-app");
    assert!(
        elsewhere.starts_with("no price of t3.medium in eu-west-1 at aws is known"),
        "{elsewhere}"
    );
    assert!(elsewhere.ends_with("\"t3.medium\" = …"), "{elsewhere}");
    assert!(said("us-app").starts_with("no price of s-64vcpu at digitalocean is known; below [prices.digitalocean]"));
    assert_eq!(total(&rows).unpriced, 4, "the address in eu-west-1 and the probes, too");

    let told = written(
        "[prices.aws]\n\"t3.medium\" = 40\nipv4 = 4\nhealth-check = 0.75\n[prices.digitalocean]\ns-64vcpu = 1000.5",
    );
    let rows = bill(&workspace, &told);
    assert_eq!(total(&rows).unpriced, 0);
    assert_eq!(
        row(&rows, "asia-app", Component::Server).monthly.expect("a price").usd,
        120.0
    );
}

#[test]
fn a_price_is_old_after_180_days_and_so_is_the_rate() {
    let stale = |time: &str| {
        let time = time.parse().expect("a time");
        let rows = rows(&workspace(), &prices(), time).expect("the file can be read");
        let stale = rows
            .iter()
            .filter(|it| it.stale)
            .map(|it| (it.name.clone(), it.r#type.clone()));
        stale.collect::<Vec<_>>()
    };
    // The balancer's page is of February 2025.
    assert_eq!(
        stale("2026-11-20T12:00:00Z"),
        [("us-lb".to_owned(), "lb-node".to_owned())]
    );
    // 2026-09-23 and 180 days, and a day more.
    let droplets = |found: &[(String, String)]| found.iter().any(|(_, word)| word == "s-2vcpu-4gb");
    assert!(!droplets(&stale("2027-03-22T23:59:59Z")));
    assert!(droplets(&stale("2027-03-23T00:00:00Z")));
    // The rate is of 2026-10-08: with it everything in two currencies is old.
    assert_eq!(
        stale("2027-04-07T00:00:00Z").len(),
        bill(&workspace(), &prices()).len() - 1
    );
    // A clock that was set back.
    assert_eq!(stale("1970-01-01T00:00:00Z"), []);
}

#[test]
fn volumes_managed_databases_and_larger_balancers_are_counted_by_their_size() {
    let mut workspace = workspace();
    workspace.regions[0].load_balancers[0].declared.fields = fields(json!({ "size_unit": 3 }));
    let mut volume = workspace.regions[1].networks[0].declared.clone();
    (volume.kind, volume.name) = ("hetzner.Volume".into(), "eu-data".into());
    volume.fields = fields(json!({ "location": "nbg1", "size_gb": 100.0 }));
    workspace.regions[1].others.push(Other { declared: volume });
    let managed = |kind: &str, name: &str, it: Value| {
        let mut database: Database = fixture::workspace().regions[0].databases[0].clone();
        (database.managed, database.runs_on, database.location) = (true, None, "ap-southeast-1".into());
        (database.declared.kind, database.declared.name) = (kind.into(), name.into());
        database.declared.fields = fields(it);
        database
    };
    let rds = json!({ "instance_class": "db.t4g.small", "allocated_storage_gb": 20, "multi_az": true });
    workspace.regions[2].databases.push(managed("aws.RDS", "asia-rds", rds));
    let cluster = json!({ "size": "db-s-2vcpu-4gb", "num_nodes": 3 });
    workspace.regions[0]
        .databases
        .push(managed("digitalocean.Database", "us-do", cluster));

    let rows = bill(&workspace, &prices());
    let usd = |name: &str, component| row(&rows, name, component).monthly.map(|it| it.usd);
    assert_eq!(usd("us-lb", Component::LoadBalancer), Some(36.0));
    assert_eq!(
        row(&rows, "eu-data", Component::Volume).monthly.expect("a price").eur,
        5.72
    );
    assert_eq!(usd("asia-rds", Component::Database), Some(74.46));
    assert_eq!(usd("asia-rds", Component::Storage), Some(5.52));
    let unknown = row(&rows, "us-do", Component::Database);
    assert_eq!((unknown.count, unknown.monthly), (3, None));
    // What the workspace runs itself is on no bill.
    assert!(
        rows.iter()
            .all(|it| !it.name.ends_with("-pg") && !it.name.ends_with("-store"))
    );
}

#[test]
fn resources_cost_what_their_lines_cost_and_the_whole_adds_up() {
    let workspace = workspace();
    let config = Config {
        target: Target::Cloud,
        ..Config::default()
    };
    let wanted = desired::resources(&workspace, &config);
    let mut sum = 0.0;
    for resource in &wanted {
        let cost = of_resource(&workspace, resource, &prices());
        let cost = cost.unwrap_or_else(|| panic!("{} has no cost", resource.id));
        let free = matches!(resource.id.kind, Kind::Network | Kind::Store | Kind::Database);
        assert_eq!(cost == 0.0, free, "{}", resource.id);
        // What is there is billed as what was wanted.
        let live = fixture::applied(resource);
        assert_eq!(of_live(&workspace, &live, &prices()), Some(cost), "{}", resource.id);
        sum += cost;
    }
    let rows = bill(&workspace, &prices());
    let zone = row(&rows, "api.example.com", Component::DnsZone)
        .monthly
        .expect("a price")
        .usd;
    let lines = total(&rows).money.usd - zone;
    // Each is rounded by itself, one of them by group and the other by server.
    assert!((lines - sum).abs() < 0.01 * rows.len() as f64, "{lines} and {sum}");
}

#[test]
fn what_exists_costs_by_the_size_it_has_now() {
    let workspace = workspace();
    let config = Config {
        target: Target::Cloud,
        ..Config::default()
    };
    let wanted = desired::resources(&workspace, &config);
    let named = |name: &str| fixture::applied(wanted.iter().find(|it| it.id.name == name).expect(name));
    let mut server = named("eu-app-1");
    server.size = Some("cpx32".to_owned());
    server.status = Status::Off;
    // Billed while it is there, also when it is off: €35.49 and its address.
    assert_eq!(of_live(&workspace, &server, &prices()), Some(40.26));
    server.size = Some("cpx99".to_owned());
    assert_eq!(of_live(&workspace, &server, &prices()), None);

    // One that nobody declares any more: by what the provider tells of it, or not at all.
    let mut balancer = named("eu-lb");
    balancer.id.name = "old-lb".to_owned();
    assert_eq!(of_live(&workspace, &balancer, &prices()), None);
    balancer.size = Some("lb11".to_owned());
    assert_eq!(of_live(&workspace, &balancer, &prices()), Some(8.38));

    // At the clouds nobody tells the spec of what runs on a server.
    let mut database = named("us-pg-1");
    database.spec = Value::Null;
    assert_eq!(of_live(&workspace, &database, &prices()), Some(0.0));
}

fn what_if(changes: &[&str], region: Option<&str>) -> Result<Workspace, Wrong> {
    let mut workspace = workspace();
    for change in changes {
        Change::parse(change)?.apply(&mut workspace, region, &prices())?;
    }
    Ok(workspace)
}

fn counts(workspace: &Workspace) -> Vec<(u32, u32)> {
    let of = |it: &Region| (it.servers[0].count, it.servers[1].count);
    workspace.regions.iter().map(of).collect()
}

#[test]
fn a_count_alone_is_for_the_servers_of_the_application() {
    let changed = what_if(&["count=2"], None).expect("a change");
    assert_eq!(counts(&changed), [(2, 1), (2, 1), (2, 1)]);
    let here = what_if(&["count=2"], Some("eu-central")).expect("a change");
    assert_eq!(counts(&here), [(3, 1), (2, 1), (3, 1)]);
    let named = what_if(&["us-db.count=3", " eu-app.count = 0 "], None).expect("two changes");
    assert_eq!(counts(&named), [(3, 3), (0, 1), (3, 1)]);
    let before = total(&bill(&workspace(), &prices())).money.usd;
    let after = total(&bill(&changed, &prices())).money.usd;
    assert!(after < before - 60.0, "{before} → {after}");
}

#[test]
fn a_size_alone_is_for_the_groups_of_the_provider_that_has_it() {
    let changed = what_if(&["size=cpx32"], None).expect("a change");
    let sizes: Vec<&str> = changed.regions.iter().map(|it| it.servers[0].size.as_str()).collect();
    assert_eq!(sizes, ["s-2vcpu-4gb", "cpx32", "t3.medium"]);
    let changed = what_if(&["us-app.size=s-4vcpu-8gb"], None).expect("a change");
    assert_eq!(changed.regions[0].servers[0].size, "s-4vcpu-8gb");
    assert_eq!(changed.regions[0].servers[1].size, "s-2vcpu-4gb");
}

#[test]
fn a_change_that_means_nothing_is_answered_with_what_would() {
    for (change, said, help) in [
        ("count", "\"count\" is not a change", "write count=2"),
        ("count=", "\"count=\" is not a change", "write count=2"),
        (".count=2", "\".count=2\" is not a change", "us-app.count=2"),
        ("count=two", "\"two\" is not a number of servers", "from 0 to 100"),
        ("count=101", "\"101\" is not a number", "from 0 to 100"),
        ("conut=2", "a server group has no conut", "did you mean \"count\"?"),
        (
            "us-ap.count=2",
            "no server group is called \"us-ap\"",
            "did you mean \"us-app\"?",
        ),
        (
            "mars.count=2",
            "no server group is called \"mars\"",
            "one of: asia-app, asia-db, eu-app",
        ),
        (
            "us-app.size=s-4vcpu-8bg",
            "no price of s-4vcpu-8bg is known",
            "did you mean \"s-4vcpu-8gb\"?",
        ),
        (
            "us-app.size=cpx21",
            "no price of cpx21 is known",
            "[prices.<provider>] \"cpx21\"",
        ),
        (
            "size=t3.meduim",
            "no price of t3.meduim is known",
            "did you mean \"t3.medium\"?",
        ),
    ] {
        let wrong = what_if(&[change], None).expect_err(change);
        assert!(wrong.to_string().starts_with(said), "{change}: {wrong}");
        assert!(wrong.help().contains(help), "{change}: {}", wrong.help());
    }
    let mut busy = workspace();
    busy.regions.iter_mut().for_each(|it| drop(it.servers.remove(0)));
    let change = Change::parse("count=2").expect("a change");
    let wrong = change.apply(&mut busy, None, &prices()).expect_err("no group fits");
    assert_eq!(wrong, Wrong::NoApplication);
}

proptest! {
    /// Whatever is written, nothing panics, and what is refused changes nothing.
    #[test]
    fn any_text_is_a_change_or_refused(text in "[a-z.=0-9 -]{0,24}") {
        let mut changed = workspace();
        let prices = prices();
        let refused = Change::parse(&text).and_then(|it| it.apply(&mut changed, None, &prices));
        if refused.is_err() {
            prop_assert_eq!(changed, workspace());
        }
    }

    /// The bill is linear in the number of servers, but for the cent.
    #[test]
    fn twice_as_many_cost_twice_as_much(count in 1u32..50) {
        let of = |count: u32| {
            let mut workspace = workspace();
            workspace.regions[1].servers[0].count = count;
            let rows = bill(&workspace, &prices());
            row(&rows, "eu-app", Component::Server).monthly.expect("a price")
        };
        let (one, two) = (of(count), of(2 * count));
        prop_assert!((two.usd - 2.0 * one.usd).abs() < 0.021);
        prop_assert!((two.eur - 2.0 * one.eur).abs() < 0.021);
    }
}
