//! Plans against a world that does what it is told.

mod declared;
mod properties;

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Act, Action, Change, Goal, Made, NotThere, Plan, Policy, Record, Row, Seen, Target, Told, Wanted, Zone,
    leads::Leads,
    marker::{self, Marker},
    plan, wanted,
};
use crate::{
    config::Config,
    fixture,
    model::{Dns, Workspace},
};

const REGIONS: [&str; 3] = ["us-east", "eu-central", "asia-southeast"];
const ROUTINGS: [&str; 5] = ["simple", "failover", "weighted", "latency", "geolocation"];
const APEX: &str = "api.example.com";

fn workspace(change: impl FnOnce(&mut Dns)) -> Workspace {
    let mut workspace = fixture::workspace();
    change(workspace.dns.as_mut().expect("has one"));
    workspace
}

fn at(region: &str) -> Told {
    let address = match region {
        "us-east" => "192.0.2.1",
        "eu-central" => "192.0.2.2",
        _ => "asia-lb-1.ap-southeast-1.elb.amazonaws.com",
    };
    Told::At(Leads::parse(address).expect("an address"))
}

fn everywhere() -> BTreeMap<String, Told> {
    REGIONS.iter().map(|it| ((*it).to_owned(), at(it))).collect()
}

fn with(region: &str, told: Told) -> BTreeMap<String, Told> {
    let mut leads = everywhere();
    leads.insert(region.into(), told);
    leads
}

fn want(workspace: &Workspace, leads: &BTreeMap<String, Told>) -> Wanted {
    wanted(workspace, &Config::default(), leads).expect("names are declared")
}

fn example() -> Wanted {
    want(&workspace(|_| {}), &everywhere())
}

/// What Route 53 would make of an act.
fn carry(seen: &mut Seen, act: &Act) {
    let made = match act {
        Act::MakeZone {
            name,
            reference,
            generation,
            tags,
        } => Made::Zone(Zone {
            id: format!("Z{}", seen.zones.len()),
            name: name.clone(),
            reference: reference.with(*generation),
            name_servers: vec!["ns-1.example.net".into()],
            records: Vec::new(),
            tags: tags.clone(),
        }),
        Act::MakeCheck {
            spec,
            reference,
            generation,
            tags,
            ..
        } => Made::Check(super::Check {
            id: format!("check of {} {generation}", reference.with(0)),
            reference: reference.with(*generation),
            version: 1,
            spec: spec.clone(),
            tags: tags.clone(),
        }),
        Act::ChangeCheck { id, version, spec } => {
            let before = seen.checks.iter().find(|it| it.id == *id).expect("it is there");
            assert_eq!(before.version, *version);
            assert!(before.spec.becomes(spec), "{id} cannot become that");
            Made::Check(super::Check {
                version: version + 1,
                spec: spec.clone(),
                ..before.clone()
            })
        }
        Act::ChangeRecords { zone, changes } => {
            let zone = seen.zones.iter().find(|it| it.id == *zone).expect("it is there");
            judge(zone, changes, &seen.checks);
            Made::Nothing
        }
        Act::RemoveCheck { id } => {
            let mut named = seen.zones.iter().flat_map(|it| &it.records);
            assert!(named.all(|it| it.check.as_ref() != Some(id)), "{id} is still named");
            Made::Nothing
        }
        Act::TagZone { .. } | Act::TagCheck { .. } | Act::RemoveZone { .. } => Made::Nothing,
    };
    seen.after(act, made);
}

/// The rules of one batch, as Route 53 has them.
fn judge(zone: &Zone, changes: &[Change], checks: &[super::Check]) {
    let mut records = zone.records.clone();
    for change in changes {
        match change {
            Change::Delete(record) => {
                let at = records.iter().position(|it| it == record);
                records.remove(at.unwrap_or_else(|| panic!("{record} is not there")));
            }
            Change::Create(record) => {
                let mut beside = records.iter().filter(|it| it.name == record.name);
                assert!(
                    beside.all(|it| it.key() != record.key()
                        && it.kind != "CNAME"
                        && (it.kind != record.kind
                            || std::mem::discriminant(&it.policy) == std::mem::discriminant(&record.policy))),
                    "{record} has no place in {records:?}"
                );
                let known = |id: &String| checks.iter().any(|it| it.id == *id);
                assert!(
                    record.check.as_ref().is_none_or(known),
                    "{record} names a check that is not there"
                );
                records.push(record.clone());
            }
        }
    }
}

/// Stage by stage, until nothing is left to do.
fn settle(goal: Goal<'_>, seen: &mut Seen) -> Plan {
    for _ in 0..8 {
        let now = plan(goal, seen);
        if now.is_done() {
            return now;
        }
        now.steps.iter().for_each(|step| carry(seen, &step.act));
    }
    panic!("it does not come to an end: {:#?}", plan(goal, seen));
}

fn settled(wanted: &Wanted) -> Seen {
    let mut seen = Seen::default();
    let last = settle(Goal::All(wanted), &mut seen);
    assert_eq!(actions(&last), BTreeSet::from(["none"]), "{last:#?}");
    seen
}

fn actions(plan: &Plan) -> BTreeSet<&'static str> {
    plan.rows.iter().map(|it| it.action.as_str()).collect()
}

fn changed(plan: &Plan) -> Vec<&Row> {
    plan.rows.iter().filter(|it| it.action != Action::None).collect()
}

fn row<'a>(plan: &'a Plan, kind: &str, name: &str, set: Option<&str>) -> &'a Row {
    let mut rows = plan.rows.iter();
    let found = rows.find(|it| it.kind == kind && it.name == name && it.set.as_deref() == set);
    found.unwrap_or_else(|| panic!("no {kind} {name} {set:?} in {:#?}", plan.rows))
}

fn records<'a>(seen: &'a mut Seen, name: &str) -> Vec<&'a mut Record> {
    let zone = seen.zones.first_mut().expect("a zone");
    zone.records
        .iter_mut()
        .filter(|it| it.name == name && it.kind == "A")
        .collect()
}

fn foreign(name: &str, kind: &str) -> Record {
    Record {
        name: name.into(),
        kind: kind.into(),
        set: None,
        policy: Policy::Simple,
        ttl: Some(3600),
        target: Target::Values(vec!["203.0.113.9".into()]),
        check: None,
    }
}

#[test]
fn the_example_has_a_name_for_each_region_and_one_for_all() {
    let plan = plan(Goal::All(&example()), &Seen::default());
    assert_eq!(actions(&plan), BTreeSet::from(["create"]));
    let lines: Vec<String> = plan
        .rows
        .iter()
        .filter(|it| it.kind == "A")
        .map(|it| {
            let word = |it: &Option<String>| it.clone().unwrap_or_else(|| "-".into());
            format!("{} {} {} {:?}", it.name, word(&it.set), it.value.join(" "), it.ttl)
        })
        .collect();
    assert_eq!(
        lines,
        [
            "api.example.com us-east:north-america 192.0.2.1 Some(60)",
            "api.example.com eu-central:europe 192.0.2.2 Some(60)",
            "api.example.com asia-southeast:asia asia-lb-1.ap-southeast-1.elb.amazonaws.com None",
            "api.example.com us-east:default 192.0.2.1 Some(60)",
            "asia.api.example.com - asia-lb-1.ap-southeast-1.elb.amazonaws.com None",
            "eu.api.example.com - 192.0.2.2 Some(60)",
            "us.api.example.com - 192.0.2.1 Some(60)",
        ]
    );
    let asked: Vec<_> = plan
        .rows
        .iter()
        .filter(|it| it.kind == "check")
        .flat_map(|it| &it.value)
        .collect();
    assert_eq!(
        asked,
        [
            "https://192.0.2.1:443/health",
            "https://192.0.2.2:443/health",
            "https://asia-lb-1.ap-southeast-1.elb.amazonaws.com:443/health"
        ]
    );
}

#[test]
fn whatever_the_routing_a_second_run_has_nothing_to_do() {
    for routing in ROUTINGS {
        let wanted = want(&workspace(|dns| dns.routing = routing.into()), &everywhere());
        let mut seen = settled(&wanted);
        let sets: Vec<String> = records(&mut seen, APEX)
            .iter()
            .map(|it| it.policy.word().to_owned())
            .collect();
        let count = match routing {
            "simple" => 1,
            "failover" => 2,
            "geolocation" => 4,
            _ => 3,
        };
        assert_eq!(sets, vec![routing; count], "{routing}");
        let simple = routing == "simple";
        assert_eq!(seen.checks.is_empty(), simple, "{routing}");
        assert!(
            records(&mut seen, APEX).iter().all(|it| it.check.is_none() == simple),
            "{routing}"
        );
    }
}

#[test]
fn one_routing_becomes_another_without_a_trace() {
    for from in ROUTINGS {
        for to in ROUTINGS {
            let mut seen = settled(&want(&workspace(|dns| dns.routing = from.into()), &everywhere()));
            let wanted = want(&workspace(|dns| dns.routing = to.into()), &everywhere());
            settle(Goal::All(&wanted), &mut seen);
            let mut fresh = settled(&wanted);
            let sorted = |seen: &mut Seen| {
                let mut all: Vec<String> = seen.zones[0].records.iter().map(ToString::to_string).collect();
                all.sort();
                all
            };
            assert_eq!(sorted(&mut seen), sorted(&mut fresh), "{from} to {to}");
            assert_eq!(seen.checks.len(), fresh.checks.len(), "{from} to {to}");
        }
    }
}

#[test]
fn a_record_of_somebody_else_is_a_conflict_and_the_other_names_go_on() {
    for kind in ["A", "CNAME"] {
        let mut seen = settled(&want(
            &workspace(|_| {}),
            &with("us-east", Told::Nowhere("gone".into())),
        ));
        seen.zones[0].records.push(foreign("us.api.example.com", kind));
        let last = settle(Goal::All(&example()), &mut seen);
        let row = row(&last, "A", "us.api.example.com", None);
        assert_eq!(row.action, Action::Conflict);
        assert!(row.reason.contains(&format!("{kind} 203.0.113.9")), "{}", row.reason);
        assert_eq!(changed(&last).len(), 1, "{last:#?}");
        assert!(seen.zones[0].records.contains(&foreign("us.api.example.com", kind)));
    }
}

#[test]
fn what_was_changed_by_hand_is_put_back_and_what_both_changed_is_left_alone() {
    let seen = settled(&example());
    let mut drifted = seen.clone();
    records(&mut drifted, "us.api.example.com")[0].ttl = Some(300);
    let plan_ = plan(Goal::All(&example()), &drifted);
    let us = row(&plan_, "A", "us.api.example.com", None);
    assert_eq!(
        (us.action, us.reason.as_str()),
        (Action::Update, "changed at Route 53: ttl 300 → 60")
    );
    assert_eq!(changed(&plan_).len(), 1, "{plan_:#?}");
    settle(Goal::All(&example()), &mut drifted);
    assert_eq!(records(&mut drifted, "us.api.example.com")[0].ttl, Some(60));

    // Also declared otherwise since: neither wins, and the other sets of the name wait.
    let mut drifted = seen;
    records(&mut drifted, APEX)[0].ttl = Some(300);
    let before = drifted.zones[0].records.len();
    let wanted = want(&workspace(|dns| dns.ttl_seconds = 30), &everywhere());
    let last = settle(Goal::All(&wanted), &mut drifted);
    let apex: Vec<_> = last
        .rows
        .iter()
        .filter(|it| it.name == APEX && it.kind == "A" && it.ttl.is_some())
        .collect();
    assert!(apex.iter().all(|it| it.action == Action::Conflict), "{apex:#?}");
    assert!(
        apex.iter().any(|it| it.reason.contains("put one of them back")),
        "{apex:#?}"
    );
    assert_eq!(records(&mut drifted, "us.api.example.com")[0].ttl, Some(30));
    assert_eq!(drifted.zones[0].records.len(), before);
}

#[test]
fn of_a_provider_that_is_silent_everything_stays_as_it_is() {
    for region in REGIONS {
        let mut seen = settled(&example());
        let before = seen.clone();
        let wanted = want(&workspace(|_| {}), &with(region, Told::Silent));
        let last = settle(Goal::All(&wanted), &mut seen);
        assert_eq!(seen, before, "{region}");
        assert_eq!(actions(&last), BTreeSet::from(["none", "unknown"]), "{region}");
    }
    // Nothing is there yet: the regions that are known get their names, and the domain waits for its default.
    let wanted = want(&workspace(|_| {}), &with("us-east", Told::Silent));
    let mut seen = Seen::default();
    let last = settle(Goal::All(&wanted), &mut seen);
    assert!(records(&mut seen, APEX).is_empty());
    assert_eq!(records(&mut seen, "eu.api.example.com").len(), 1);
    assert!(
        row(&last, "A", APEX, Some("eu-central:europe"))
            .reason
            .contains("us-east answers")
    );
    // Without another policy to keep, a region that is not the default is merely missing.
    let wanted = want(&workspace(|_| {}), &with("eu-central", Told::Silent));
    let mut seen = Seen::default();
    settle(Goal::All(&wanted), &mut seen);
    assert_eq!(records(&mut seen, APEX).len(), 3);
}

#[test]
fn a_region_without_a_balancer_leaves_no_record_and_the_next_is_the_default() {
    let mut seen = settled(&example());
    let gone = with("us-east", Told::Nowhere("us-lb does not exist".into()));
    let wanted = want(&workspace(|_| {}), &gone);
    let first = plan(Goal::All(&wanted), &seen);
    assert_eq!(
        row(&first, "A", "us.api.example.com", None).reason,
        "us-lb does not exist"
    );
    settle(Goal::All(&wanted), &mut seen);
    assert!(records(&mut seen, "us.api.example.com").is_empty());
    let policies: Vec<_> = records(&mut seen, APEX)
        .iter()
        .map(|it| it.set.clone().unwrap_or_default())
        .collect();
    assert_eq!(
        policies,
        ["eu-central:europe", "asia-southeast:asia", "eu-central:default"]
    );
    assert_eq!(seen.checks.len(), 2);
}

#[test]
fn an_interval_cannot_be_changed_so_another_check_takes_the_place_and_the_old_one_goes_last() {
    let mut seen = settled(&example());
    let old: Vec<String> = seen.checks.iter().map(|it| it.id.clone()).collect();
    let wanted = want(&workspace(|dns| dns.probe_interval_seconds = 10), &everywhere());
    let mut stages = Vec::new();
    loop {
        let now = plan(Goal::All(&wanted), &seen);
        if now.is_done() {
            break;
        }
        let check = row(&now, "check", "us-east", None);
        stages.push((check.action, now.steps.len()));
        now.steps.iter().for_each(|step| carry(&mut seen, &step.act));
    }
    // Three are made, one batch, three go.
    assert_eq!(stages, [(Action::Replace, 3), (Action::None, 1), (Action::None, 3)]);
    assert!(
        seen.checks
            .iter()
            .all(|it| !old.contains(&it.id) && it.reference.ends_with("/2")),
        "{:?}",
        seen.checks
    );

    // What can be changed is.
    let wanted = want(
        &workspace(|dns| (dns.probe_interval_seconds, dns.probe_failures) = (10, 5)),
        &everywhere(),
    );
    let now = plan(Goal::All(&wanted), &seen);
    let check = row(&now, "check", "us-east", None);
    assert_eq!(
        (check.action, check.reason.as_str()),
        (Action::Update, "failures 3 → 5")
    );
    settle(Goal::All(&wanted), &mut seen);
    assert!(seen.checks.iter().all(|it| it.version == 2 && !it.tags.is_empty()));
}

#[test]
fn another_address_changes_the_check_and_the_records_of_that_region_alone() {
    let mut seen = settled(&example());
    let moved = Told::At(Leads::parse("192.0.2.77").expect("an address"));
    let wanted = want(&workspace(|_| {}), &with("us-east", moved));
    let now = plan(Goal::All(&wanted), &seen);
    let names: BTreeSet<_> = changed(&now)
        .iter()
        .filter(|it| it.kind != "TXT")
        .map(|it| (it.name.clone(), it.set.clone()))
        .collect();
    let set = |it: &str| Some(it.to_owned());
    let expected = BTreeSet::from([
        (APEX.to_owned(), set("us-east:default")),
        (APEX.to_owned(), set("us-east:north-america")),
        ("us-east".to_owned(), None),
        ("us.api.example.com".to_owned(), None),
    ]);
    assert_eq!(names, expected);
    settle(Goal::All(&wanted), &mut seen);
    assert_eq!(records(&mut seen, "us.api.example.com")[0].values(), ["192.0.2.77"]);
}

#[test]
fn a_domain_that_a_person_pointed_stays_there_until_it_is_given_back() {
    let mut seen = settled(&example());
    let before = seen.clone();
    let pointed = example().point_at("eu-central").expect("it leads somewhere");
    settle(Goal::Apex(&pointed), &mut seen);
    let apex: Vec<Record> = records(&mut seen, APEX).into_iter().map(|it| it.clone()).collect();
    assert_eq!(apex.len(), 1);
    assert_eq!(
        (apex[0].values(), &apex[0].policy),
        (vec!["192.0.2.2".to_owned()], &Policy::Simple)
    );
    // Only the domain was touched.
    let other = |seen: &Seen| -> Vec<Record> {
        let records = seen.zones[0].records.iter();
        records
            .filter(|it| it.name != APEX && it.name != marker::name_of(APEX))
            .cloned()
            .collect()
    };
    assert_eq!(other(&seen), other(&before));

    // An apply afterwards follows it, to another address as well.
    let follow = |leads: &BTreeMap<String, Told>, seen: &Seen| {
        want(&workspace(|_| {}), leads).following(seen.pointed(APEX, APEX, "shop"))
    };
    let last = settle(Goal::All(&follow(&everywhere(), &seen)), &mut seen);
    assert!(row(&last, "A", APEX, None).reason.contains("pointed at eu-central"));
    assert_eq!(seen.checks.len(), 3);
    let moved = with("eu-central", Told::At(Leads::parse("192.0.2.22").expect("an address")));
    settle(Goal::All(&follow(&moved, &seen)), &mut seen);
    assert_eq!(records(&mut seen, APEX)[0].values(), ["192.0.2.22"]);
    // Nor is it left at an address that may be somebody else's by now.
    let mut gone = seen.clone();
    settle(
        Goal::All(&follow(&with("eu-central", Told::Nowhere("gone".into())), &seen)),
        &mut gone,
    );
    assert_eq!(records(&mut gone, APEX).len(), 3);
    let mut silent = seen.clone();
    settle(
        Goal::All(&follow(&with("eu-central", Told::Silent), &seen)),
        &mut silent,
    );
    assert_eq!(records(&mut silent, APEX)[0].values(), ["192.0.2.22"]);

    settle(Goal::Apex(&example()), &mut seen);
    assert_eq!(seen.pointed(APEX, APEX, "shop"), None);
    assert_eq!(records(&mut seen, APEX).len(), 4);
}

#[test]
fn nobody_is_pointed_at_a_region_that_is_not_there() {
    let wanted = want(
        &workspace(|_| {}),
        &with("us-east", Told::Nowhere("us-lb has no address yet".into())),
    );
    assert_eq!(
        wanted.clone().point_at("us-east"),
        Err(NotThere::Nowhere("us-lb has no address yet".into()))
    );
    assert!(matches!(wanted.clone().point_at("mars"), Err(NotThere::Unknown { known }) if known.len() == 3));
    let wanted = want(&workspace(|_| {}), &with("us-east", Told::Silent));
    assert_eq!(wanted.point_at("us-east"), Err(NotThere::Silent));
}

#[test]
fn a_domain_whose_checks_are_missing_is_not_given_back_without_them() {
    let mut seen = settled(&example());
    let pointed = example().point_at("eu-central").expect("it leads somewhere");
    settle(Goal::Apex(&pointed), &mut seen);
    seen.checks.clear();
    let last = settle(Goal::Apex(&example()), &mut seen);
    assert!(
        changed(&last)
            .iter()
            .any(|it| it.reason.contains("ha dns apply makes it")),
        "{last:#?}"
    );
    assert_eq!(records(&mut seen, APEX).len(), 1);
}

#[test]
fn at_the_end_nothing_of_ours_is_left_and_nothing_of_others_is_gone() {
    let ours = settled(&example());
    // Alone in our zone: all of it goes.
    let mut seen = ours.clone();
    settle(Goal::Nothing { ws: "shop" }, &mut seen);
    assert_eq!(seen, Seen::default());

    // Lookalikes: the same name without a line, a line of another workspace, a check of another workspace.
    let mut seen = ours;
    let mail = foreign("mail.api.example.com", "A");
    let theirs = foreign("us2.api.example.com", "A");
    let line = Marker::of("shop2", &theirs, None);
    let txt = marker::record("us2.api.example.com", &[line], None, "shop2").expect("a line");
    let check = super::Check {
        id: "theirs".into(),
        reference: "ha/shop2/us-east/1".into(),
        ..seen.checks[0].clone()
    };
    seen.zones[0]
        .records
        .extend([mail.clone(), theirs.clone(), txt.clone()]);
    seen.checks.push(check.clone());
    let last = settle(Goal::Nothing { ws: "shop" }, &mut seen);
    assert_eq!(seen.zones[0].records, [mail, theirs, txt]);
    assert_eq!(seen.checks, [check]);
    let zone = row(&last, "zone", APEX, None);
    assert_eq!(zone.action, Action::Conflict);
    assert!(zone.reason.contains("mail.api.example.com"), "{}", zone.reason);
}

#[test]
fn a_zone_of_somebody_else_is_used_and_kept() {
    let workspace = workspace(|dns| dns.zone = Some("example.com".into()));
    let wanted = want(&workspace, &everywhere());
    let theirs = foreign("www.example.com", "A");
    let zone = Zone {
        id: "Z".into(),
        name: "example.com".into(),
        reference: "console".into(),
        name_servers: Vec::new(),
        records: vec![theirs.clone()],
        tags: BTreeMap::new(),
    };
    let mut seen = Seen {
        zones: vec![zone],
        checks: Vec::new(),
    };
    let last = settle(Goal::All(&wanted), &mut seen);
    assert!(row(&last, "zone", "example.com", None).reason.contains("never removed"));
    assert_eq!(records(&mut seen, APEX).len(), 4);
    settle(Goal::Nothing { ws: "shop" }, &mut seen);
    assert_eq!(seen.zones[0].records, [theirs]);
}

#[test]
fn batches_stay_within_what_route_53_takes_and_names_stay_whole() {
    let mut seen = settled(&example());
    let zone = &mut seen.zones[0];
    for at in 0..700 {
        let record = foreign(&format!("n{at}.api.example.com"), "A");
        let line = Marker::of("shop", &record, None);
        zone.records.extend(marker::record(&record.name, &[line], None, "shop"));
        zone.records.push(record);
    }
    let plan = plan(Goal::Nothing { ws: "shop" }, &seen);
    assert_eq!(plan.steps.len(), 2);
    for step in &plan.steps {
        let Act::ChangeRecords { changes, .. } = &step.act else {
            panic!("{:?}", step.act)
        };
        assert!(changes.len() <= 1_000);
        let names: BTreeSet<&str> = changes.iter().map(|it| it.record().name.as_str()).collect();
        let whole = |it: &&str| marker::about(it).is_some() || names.contains(marker::name_of(it).as_str());
        assert!(names.iter().all(whole));
    }
}
