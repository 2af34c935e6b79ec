//! A run without a fault is passed; each kind of fault put into it is seen, and seen as what it is.

use proptest::prelude::*;

use super::*;

/// Reigns one after the other, each on a higher timeline and another node.
const NODES: [&str; 3] = ["us-db-1", "eu-db-1", "asia-db-1"];

#[derive(Clone, Debug)]
struct Write {
    region: usize,
    /// Since the one before.
    pause: u64,
    took: u64,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Ok,
    Failed,
    UnknownThere,
    UnknownGone,
}

fn write() -> impl Strategy<Value = Write> {
    let kind = prop_oneof![
        6 => Just(Kind::Ok),
        1 => Just(Kind::Failed),
        1 => Just(Kind::UnknownThere),
        1 => Just(Kind::UnknownGone),
    ];
    (0..3_usize, 0..30_u64, 0..50_u64, kind).prop_map(|(region, pause, took, kind)| Write {
        region,
        pause,
        took,
        kind,
    })
}

/// Notes and rows of a run in which nothing went wrong, however many primaries it had.
fn sound() -> impl Strategy<Value = (Notes, Found)> {
    prop::collection::vec(prop::collection::vec(write(), 1..20), 1..4).prop_map(|reigns| {
        let (mut attempts, mut ids, mut now, mut last) = (Vec::new(), Vec::new(), 0, 0);
        let mut asked = By {
            timeline: 1,
            node: NODES[0].to_owned(),
        };
        for (reign, writes) in reigns.into_iter().enumerate() {
            asked = By {
                timeline: u32::try_from(reign * 2 + 1).expect("small"),
                node: NODES[reign].to_owned(),
            };
            // Nobody acknowledges before the one before has ended.
            now = now.max(last) + 1;
            for write in writes {
                now += write.pause;
                let id = attempts.len() as u64 + 1;
                let why = "line".to_owned();
                let outcome = match write.kind {
                    Kind::Ok => Outcome::Ok(asked.clone()),
                    Kind::Failed => Outcome::Failed { why },
                    Kind::UnknownThere | Kind::UnknownGone => Outcome::Unknown { why },
                };
                if matches!(write.kind, Kind::Ok | Kind::UnknownThere) {
                    ids.push(id);
                }
                last = last.max(now + write.took);
                attempts.push(Attempt {
                    id,
                    region: write.region,
                    began: Duration::from_millis(now),
                    ended: Duration::from_millis(now + write.took),
                    outcome,
                });
            }
        }
        attempts.sort_by_key(|it| it.ended);
        let notes = Notes {
            run: "r".to_owned(),
            began: jiff::Timestamp::UNIX_EPOCH,
            took: Duration::from_millis(last + 1),
            regions: ["us-east", "eu-central", "asia-southeast"].map(str::to_owned).to_vec(),
            attempts,
            marks: Vec::new(),
            broken: Vec::new(),
        };
        (notes, Found { by: asked, ids })
    })
}

fn there(notes: &Notes, found: &Found) -> Rows {
    judge(notes, Some(found)).rows.expect("somebody was asked")
}

/// Positions in the notes of writes with this outcome.
fn places(notes: &Notes, is: impl Fn(&Outcome) -> bool) -> Vec<usize> {
    let places = notes.attempts.iter().enumerate().filter(|(_, it)| is(&it.outcome));
    places.map(|(place, _)| place).collect()
}

proptest! {
    #[test]
    fn a_run_without_a_fault_is_passed_and_every_write_is_counted_once((notes, found) in sound()) {
        let verdict = judge(&notes, Some(&found));
        prop_assert!(verdict.passed(), "{verdict}");
        prop_assert_eq!(verdict.acknowledged + verdict.failed + verdict.unknown, notes.attempts.len());
        let rows = verdict.rows.as_ref().expect("asked");
        prop_assert_eq!(rows.ok + rows.recovered.len(), found.ids.len());
        prop_assert_eq!(verdict.lineage.iter().map(|it| it.acknowledged).sum::<usize>(), verdict.acknowledged);
        prop_assert_eq!(verdict.regions.iter().map(|it| it.acknowledged).sum::<usize>(), verdict.acknowledged);
        for region in &verdict.regions {
            let outage = region.outage.as_ref().expect("the run did not end with an answer");
            prop_assert!(outage.from + outage.took <= notes.took);
            prop_assert!(region.p50 <= region.p99 && region.p99 <= region.slowest);
        }
    }

    #[test]
    fn the_order_of_the_notes_and_of_the_rows_says_nothing((notes, found) in sound()) {
        let (mut other, mut rows) = (notes.clone(), found.clone());
        other.attempts.reverse();
        rows.ids.reverse();
        prop_assert_eq!(judge(&notes, Some(&found)), judge(&other, Some(&rows)));
    }

    #[test]
    fn any_acknowledged_row_that_goes_is_lost((notes, mut found) in sound(), pick in any::<prop::sample::Index>()) {
        let acknowledged = places(&notes, |it| matches!(it, Outcome::Ok(_)));
        prop_assume!(!acknowledged.is_empty());
        let id = notes.attempts[*pick.get(&acknowledged)].id;
        found.ids.retain(|it| *it != id);
        let rows = there(&notes, &found);
        prop_assert_eq!(rows.lost.iter().map(|it| it.id).collect::<Vec<_>>(), [id]);
        prop_assert!(rows.unexpected.is_empty());
    }

    #[test]
    fn any_failed_row_that_is_there_is_unexpected((notes, mut found) in sound(), pick in any::<prop::sample::Index>()) {
        let failed = places(&notes, |it| matches!(it, Outcome::Failed { .. }));
        prop_assume!(!failed.is_empty());
        let id = notes.attempts[*pick.get(&failed)].id;
        found.ids.push(id);
        prop_assert_eq!(there(&notes, &found).unexpected, [Unexpected { id, why: Why::Failed }]);
        prop_assert!(!judge(&notes, Some(&found)).passed());
    }

    #[test]
    fn a_row_that_nobody_wrote_is_unexpected((notes, mut found) in sound(), beyond in 1..1000_u64) {
        let id = notes.attempts.len() as u64 + beyond;
        found.ids.push(id);
        prop_assert_eq!(there(&notes, &found).unexpected, [Unexpected { id, why: Why::NeverAttempted }]);
        prop_assert!(!judge(&notes, Some(&found)).passed());
    }

    #[test]
    fn a_row_that_is_there_twice_is_unexpected((notes, mut found) in sound(), pick in any::<prop::sample::Index>()) {
        prop_assume!(!found.ids.is_empty());
        let id = *pick.get(&found.ids);
        found.ids.push(id);
        prop_assert_eq!(there(&notes, &found).unexpected, [Unexpected { id, why: Why::Duplicated }]);
        prop_assert!(!judge(&notes, Some(&found)).passed());
    }

    #[test]
    fn an_old_primary_that_acknowledges_once_more_is_seen((mut notes, mut found) in sound(), late in 0..20_u64) {
        let before = judge(&notes, Some(&found));
        prop_assume!(before.lineage.len() > 1);
        let (old, new) = (before.lineage[0].by.clone(), &before.lineage[1]);
        // Sent after the new one had answered, and whatever the old one did before.
        let began = new.first + Duration::from_millis(1 + late);
        let id = notes.attempts.len() as u64 + 1;
        let ended = began + Duration::from_millis(5);
        notes.took = notes.took.max(ended);
        notes.attempts.push(Attempt { id, region: 0, began, ended, outcome: Outcome::Ok(old.clone()) });
        found.ids.push(id);
        let after = judge(&notes, Some(&found));
        let overlaps = after.overlaps.iter().any(|it| it.earlier == old);
        let sent_later = notes.attempts.iter().any(|it| it.by() == Some(&new.by) && it.began > before.lineage[0].first);
        prop_assert_eq!(overlaps, sent_later);
        prop_assert!(!after.passed(), "{after}");
    }

    #[test]
    fn a_primary_on_a_used_timeline_is_seen((mut notes, mut found) in sound()) {
        let Some(by) = notes.attempts.iter().find_map(|it| it.by().cloned()) else { return Ok(()) };
        let id = notes.attempts.len() as u64 + 1;
        let began = notes.took;
        notes.took += Duration::from_millis(9);
        let other = By { node: "other".to_owned(), ..by };
        notes.attempts.push(Attempt { id, region: 0, began, ended: notes.took, outcome: Outcome::Ok(other) });
        found.ids.push(id);
        prop_assert!(judge(&notes, Some(&found)).lineage_broken.is_some());
    }
}
