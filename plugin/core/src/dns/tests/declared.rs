//! What is declared, before anybody is asked.

use std::collections::{BTreeMap, BTreeSet};

use super::{APEX, at, everywhere, want, workspace};
use crate::{
    check::codes,
    config::Config,
    dns::{check, findings},
    model::{Dns, Workspace},
};

type Change = fn(&mut Dns);

#[test]
fn what_is_declared_wrongly_is_found() {
    let found = |change: Change| -> Vec<(String, String)> {
        let all = findings::findings(&workspace(change), &Config::default());
        assert!(all.iter().all(|it| it.help.is_some() && it.path.is_some()), "{all:?}");
        all.into_iter().map(|it| (it.code, it.message)).collect()
    };
    assert_eq!(found(|_| {}), []);
    let table: [(&str, Change); 9] = [
        (codes::DNS_TTL, |dns| dns.ttl_seconds = 61),
        (codes::DNS_ZONE, |dns| dns.zone = Some("example.org".into())),
        (codes::DNS_ZONE, |dns| dns.zone = Some("i.example.com".into())),
        (codes::DNS_PAIR, |dns| dns.routing = "failover".into()),
        (codes::DNS_PROBES, |dns| {
            (dns.routing, dns.probes) = ("failover".into(), false)
        }),
        (codes::DNS_REGION, |dns| {
            drop(dns.names.insert("us-esat".into(), "us".into()))
        }),
        (codes::DNS_NAME, |dns| {
            drop(dns.names.insert("eu-central".into(), "us".into()))
        }),
        (codes::DNS_PLACE, |dns| {
            drop(dns.locations.insert("eu-central".into(), vec!["EUROPE".into()]))
        }),
        (codes::DNS_PLACE, |dns| {
            for region in ["us-east", "eu-central"] {
                dns.locations.insert(region.into(), vec!["IE".into()]);
            }
        }),
    ];
    for (code, change) in table {
        let found = found(change);
        assert!(found.iter().any(|it| it.0 == code), "{code}: {found:?}");
    }
}

#[test]
fn a_check_of_a_port_that_nobody_listens_on_is_told() {
    let balancers = |change: fn(&mut Workspace)| {
        let mut workspace = workspace(|_| {});
        change(&mut workspace);
        findings::unheard(&workspace).len()
    };
    assert_eq!(balancers(|_| {}), 3);
    assert_eq!(
        balancers(|it| it.regions[0].load_balancers[0].rules[0].entry_port = 443),
        2
    );
    assert_eq!(balancers(|it| it.dns.as_mut().expect("has one").probe_port = 80), 0);
    assert_eq!(balancers(|it| it.dns.as_mut().expect("has one").probes = false), 0);
}

#[test]
fn the_place_of_a_region_is_declared_or_its_continent_or_its_country() {
    let places = |change: fn(&mut Workspace)| {
        let mut workspace = workspace(|_| {});
        change(&mut workspace);
        let wanted = want(&workspace, &everywhere());
        let mut all: Vec<String> = wanted.drafts.iter().filter_map(|it| it.policy.selects()).collect();
        all.sort();
        all
    };
    assert_eq!(places(|_| {}), ["asia", "default", "europe", "north-america"]);
    // Two in Europe: the first has the continent, the other its country.
    assert_eq!(
        places(|it| it.regions[2].country = Some("IE".into())),
        ["IE", "default", "europe", "north-america"]
    );
    let declared: fn(&mut Workspace) = |it| {
        let dns = it.dns.as_mut().expect("has one");
        dns.locations
            .insert("us-east".into(), vec!["US-VA".into(), "US-OR".into()]);
    };
    assert_eq!(places(declared), ["US-OR", "US-VA", "asia", "default", "europe"]);
}

#[test]
fn regions_of_the_same_beginning_are_called_by_all_of_their_name() {
    let mut workspace = workspace(|_| {});
    workspace.regions[1].name = crate::names::RegionName::new("us-west");
    let leads = BTreeMap::from([
        ("us-east".to_owned(), at("us-east")),
        ("us-west".to_owned(), at("eu-central")),
    ]);
    let wanted = want(&workspace, &leads);
    let names: BTreeSet<&str> = wanted.drafts.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(
        names,
        BTreeSet::from([APEX, "us-east.api.example.com", "us-west.api.example.com"])
    );
}

#[test]
fn one_checker_in_five_is_enough_to_be_well() {
    use check::{Health, health};
    assert_eq!(health(0, 0), Health::Unknown);
    assert_eq!(health(16, 2), Health::Unhealthy);
    assert_eq!(health(16, 3), Health::Healthy);
}
