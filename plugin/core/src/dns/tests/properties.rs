//! Whatever is wanted, and wherever a run was stopped.

use proptest::prelude::*;

use super::{APEX, Goal, REGIONS, ROUTINGS, carry, foreign, settle, want, workspace};
use crate::dns::{Policy, Record, Seen, Told, Turn, Wanted, leads::Leads, place::Place, plan};

fn told() -> impl Strategy<Value = Told> {
    prop_oneof![
        4 => (1_u8..250).prop_map(|last| Told::At(Leads::To([192, 0, 2, last].into()))),
        1 => Just(Told::At(Leads::parse("lb-1.eu-west-1.elb.amazonaws.com").expect("a balancer"))),
        1 => Just(Told::Nowhere("it does not exist".into())),
        1 => Just(Told::Silent),
    ]
}

prop_compose! {
    fn any_wanted()(
        routing in proptest::sample::select(&ROUTINGS[..]),
        told in proptest::collection::vec(told(), 3),
        interval in proptest::sample::select(&[10_u64, 30][..]),
        ttl in proptest::sample::select(&[30_u64, 60][..]),
        probes in any::<bool>(),
    ) -> Wanted {
        let workspace = workspace(|dns| {
            dns.routing = routing.into();
            dns.probe_interval_seconds = interval;
            dns.ttl_seconds = ttl;
            dns.probes = probes;
        });
        want(&workspace, &REGIONS.iter().map(|it| (*it).to_owned()).zip(told).collect())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whoever stops anywhere, and wants something else next time: it comes to an end, others keep what is theirs, and
    /// geographic answers never lose their default once they have it.
    #[test]
    fn from_wherever_a_run_was_stopped_the_next_one_comes_to_an_end(
        wishes in proptest::collection::vec((any_wanted(), 0_usize..12), 1..4),
        planted in proptest::sample::subsequence(
            vec![APEX, "us.api.example.com", "eu.api.example.com", "mail.api.example.com", "_ha.eu.api.example.com"], 0..3),
        from in 0_usize..3,
    ) {
        let mut seen = Seen::default();
        let theirs: Vec<Record> = planted
            .iter()
            .map(|name| foreign(name, if name.starts_with('_') { "TXT" } else { "A" }))
            .collect();
        let plant = |seen: &mut Seen| {
            let Some(zone) = seen.zones.first_mut() else { return };
            for record in &theirs {
                if zone.records.iter().all(|it| it.name != record.name) {
                    zone.records.push(record.clone());
                }
            }
        };
        for (at, (wanted, stop)) in wishes.iter().enumerate() {
            let mut left = *stop;
            'run: loop {
                let now = plan(Goal::All(wanted), &seen);
                if now.is_done() {
                    break;
                }
                for step in &now.steps {
                    if left == 0 {
                        break 'run;
                    }
                    left -= 1;
                    carry(&mut seen, &step.act);
                    if at == from {
                        plant(&mut seen);
                    }
                    let zone = seen.zones.first();
                    let apex: Vec<&Record> = zone.into_iter().flat_map(|it| it.called(APEX)).collect();
                    let geographic = apex.iter().any(|it| matches!(it.policy, Policy::Geolocation(_)));
                    let default = apex.iter().any(|it| it.policy == Policy::Geolocation(Place::Default));
                    prop_assert!(!geographic || default, "{:?}", apex);
                    let second = apex.iter().any(|it| it.policy == Policy::Failover(Turn::Secondary));
                    let first = apex.iter().any(|it| it.policy == Policy::Failover(Turn::Primary));
                    prop_assert!(!second || first, "{:?}", apex);
                }
            }
        }
        let there: Vec<Record> = seen.zones.iter().flat_map(|it| it.records.clone()).collect();
        let (wanted, _) = wishes.last().expect("one at least");
        let last = settle(Goal::All(wanted), &mut seen);
        prop_assert!(last.rows.iter().all(|it| !it.action.acts()), "{:#?}", last);
        settle(Goal::Nothing { ws: "shop" }, &mut seen);
        prop_assert!(seen.checks.is_empty());
        let left: Vec<Record> = seen.zones.iter().flat_map(|it| it.records.clone()).collect();
        for record in theirs.iter().filter(|it| there.contains(it)) {
            // A TXT record under our marker's name may have our lines added and taken away again.
            let kept = left.iter().any(|it| it.name == record.name && it.values() == record.values());
            prop_assert!(kept, "{record} is gone");
        }
        prop_assert_eq!(left.len(), theirs.iter().filter(|it| there.contains(it) || it.kind == "TXT" && left.contains(it)).count());
    }
}
