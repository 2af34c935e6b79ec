use super::*;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn by(node: &str, timeline: u32) -> By {
    By {
        timeline,
        node: node.to_owned(),
    }
}

fn attempt(id: u64, region: usize, began: u64, ended: u64, outcome: Outcome) -> Attempt {
    Attempt {
        id,
        region,
        began: ms(began),
        ended: ms(ended),
        outcome,
    }
}

/// Acknowledged by `us` on timeline 1, 2 ms after it was sent.
fn ok(id: u64, region: usize, began: u64) -> Attempt {
    acknowledged(id, region, began, by("us", 1))
}

fn acknowledged(id: u64, region: usize, began: u64, by: By) -> Attempt {
    attempt(id, region, began, began + 2, Outcome::Ok(by))
}

fn failed() -> Outcome {
    Outcome::Failed {
        why: "refused".to_owned(),
    }
}

fn unknown() -> Outcome {
    Outcome::Unknown {
        why: "silent".to_owned(),
    }
}

fn notes(took: u64, attempts: Vec<Attempt>) -> Notes {
    Notes {
        run: "r".to_owned(),
        began: jiff::Timestamp::UNIX_EPOCH,
        took: ms(took),
        regions: vec!["us-east".to_owned(), "eu-central".to_owned()],
        attempts,
        marks: Vec::new(),
        broken: Vec::new(),
    }
}

fn found(by: By, ids: &[u64]) -> Found {
    Found { by, ids: ids.to_vec() }
}

fn rows(attempts: Vec<Attempt>, ids: &[u64]) -> Rows {
    let verdict = judge(&notes(100, attempts), Some(&found(by("us", 1), ids)));
    verdict.rows.expect("somebody was asked")
}

#[test]
fn a_run_in_which_all_that_was_acknowledged_is_there_is_passed() {
    let attempts = vec![
        ok(1, 0, 0),
        ok(2, 1, 5),
        attempt(3, 0, 8, 9, failed()),
        attempt(4, 1, 9, 19, unknown()),
    ];
    let verdict = judge(&notes(20, attempts), Some(&found(by("us", 1), &[1, 2])));
    assert!(verdict.passed(), "{verdict}");
    assert_eq!((verdict.acknowledged, verdict.failed, verdict.unknown), (2, 1, 1));
    assert_eq!(verdict.to_string(), "2 acknowledged, 0 lost, 0 unexpected");
}

#[test]
fn an_acknowledged_write_that_is_gone_is_lost_and_told_with_whose_word_it_was() {
    let rows = rows(vec![ok(1, 0, 0), ok(2, 1, 5)], &[1]);
    let lost = LostWrite {
        id: 2,
        region: "eu-central".to_owned(),
        by: by("us", 1),
        at: ms(7),
    };
    assert_eq!((rows.ok, rows.lost), (1, vec![lost]));
}

#[test]
fn an_unknown_write_that_is_there_is_recovered_and_no_fault() {
    let verdict = judge(
        &notes(20, vec![ok(1, 0, 0), attempt(2, 0, 2, 9, unknown())]),
        Some(&found(by("us", 1), &[1, 2])),
    );
    assert!(verdict.passed(), "{verdict}");
    assert_eq!(verdict.rows.map(|it| it.recovered), Some(vec![2]));
}

#[test]
fn what_must_not_be_there_is_unexpected() {
    let attempts = vec![ok(1, 0, 0), attempt(2, 0, 2, 3, failed()), ok(3, 0, 4)];
    let why = |rows: Rows| rows.unexpected.iter().map(|it| (it.id, it.why)).collect::<Vec<_>>();
    assert_eq!(why(rows(attempts.clone(), &[1, 2, 3])), [(2, Why::Failed)]);
    assert_eq!(why(rows(attempts.clone(), &[1, 3, 9])), [(9, Why::NeverAttempted)]);
    assert_eq!(why(rows(attempts, &[1, 3, 3])), [(3, Why::Duplicated)]);
}

#[test]
fn nobody_to_ask_is_no_pass() {
    let verdict = judge(&notes(10, vec![ok(1, 0, 0)]), None);
    assert!(!verdict.passed());
    assert!(verdict.to_string().contains("nobody could be asked"), "{verdict}");
}

#[test]
fn a_client_that_broke_off_is_no_pass() {
    let mut notes = notes(10, vec![ok(1, 0, 0)]);
    notes.broken.push("panicked".to_owned());
    assert!(!judge(&notes, Some(&found(by("us", 1), &[1]))).passed());
}

#[test]
fn two_that_acknowledge_in_turns_overlap_and_how_long_is_told() {
    let (us, eu) = (by("us", 1), by("eu", 2));
    let attempts = vec![
        acknowledged(1, 0, 0, us.clone()),
        acknowledged(2, 1, 10, eu.clone()),
        acknowledged(3, 0, 20, us.clone()),
        acknowledged(4, 0, 30, us.clone()),
        acknowledged(5, 1, 40, eu.clone()),
    ];
    let verdict = judge(&notes(50, attempts), Some(&found(eu.clone(), &[1, 2, 3, 4, 5])));
    let overlap = Overlap {
        earlier: us,
        later: eu,
        from: ms(12),
        at_least: ms(18),
        writes: 2,
    };
    assert_eq!(verdict.overlaps, [overlap]);
    assert!(!verdict.passed());
    assert_eq!(verdict.lineage_broken, None, "that is another finding");
}

#[test]
fn a_single_acknowledgement_amid_those_of_another_is_an_overlap() {
    let attempts = vec![ok(1, 0, 0), acknowledged(2, 1, 10, by("eu", 2)), ok(3, 0, 20)];
    let verdict = judge(&notes(50, attempts), Some(&found(by("eu", 2), &[1, 2, 3])));
    let seen: Vec<_> = verdict.overlaps.iter().map(|it| (it.writes, it.at_least)).collect();
    assert_eq!(seen, [(1, ms(0))]);
}

/// The old primary acknowledged before the new one; only the answer came later, over a slow line.
#[test]
fn an_answer_that_travelled_long_is_no_overlap() {
    let attempts = vec![
        ok(1, 0, 0),
        attempt(2, 1, 10, 40, Outcome::Ok(by("us", 1))),
        acknowledged(3, 0, 20, by("eu", 2)),
        acknowledged(4, 0, 60, by("eu", 2)),
    ];
    let verdict = judge(&notes(70, attempts), Some(&found(by("eu", 2), &[1, 2, 3, 4])));
    assert!(verdict.passed(), "{verdict}");
    let timelines: Vec<_> = verdict.lineage.iter().map(|it| it.by.timeline).collect();
    assert_eq!(timelines, [1, 2]);
}

#[test]
fn timelines_only_grow_and_each_has_one_node() {
    let broken = |attempts: Vec<Attempt>, asked: By| {
        let ids: Vec<u64> = attempts.iter().map(|it| it.id).collect();
        let verdict = judge(&notes(100, attempts), Some(&found(asked, &ids)));
        assert_eq!(verdict.lineage_broken.is_none(), verdict.passed(), "{verdict}");
        verdict.lineage_broken
    };
    let (us, eu) = (by("us", 1), by("eu", 2));
    let both = |first: &By, second: &By| {
        let (first, second) = (first.clone(), second.clone());
        vec![acknowledged(1, 0, 0, first), acknowledged(2, 0, 20, second)]
    };
    assert_eq!(broken(both(&us, &eu), eu.clone()), None);
    assert_eq!(broken(both(&us, &eu), by("asia", 3)), None, "a later one was asked");
    assert_eq!(
        broken(both(&eu, &us), eu.clone()).as_deref(),
        Some("us on timeline 1 came after eu on timeline 2")
    );
    assert_eq!(
        broken(both(&us, &by("eu", 1)), us.clone()).as_deref(),
        Some("eu on timeline 1 is also us")
    );
    assert_eq!(
        broken(both(&us, &eu), us).as_deref(),
        Some("us on timeline 1 came after eu on timeline 2")
    );
}

#[test]
fn an_outage_is_the_longest_time_between_two_acknowledgements_of_a_region() {
    let attempts = vec![ok(1, 0, 0), ok(2, 1, 10), ok(3, 1, 20), ok(4, 0, 300), ok(5, 1, 310)];
    let verdict = judge(&notes(320, attempts), None);
    let outage = |from, took, over| Outage {
        from: ms(from),
        took: ms(took),
        over,
    };
    assert_eq!(verdict.regions[0].outage, Some(outage(2, 300, true)));
    assert_eq!(verdict.regions[1].outage, Some(outage(22, 290, true)));
    assert_eq!(verdict.longest_outage(), Some(&outage(2, 300, true)));
}

#[test]
fn an_outage_that_the_end_of_the_run_cuts_short_says_so() {
    let attempts = vec![ok(1, 0, 0), ok(2, 0, 10), attempt(3, 0, 20, 21, failed())];
    let verdict = judge(&notes(500, attempts), None);
    let outage = verdict.regions[0].outage.as_ref().expect("an outage");
    assert_eq!((outage.from, outage.took, outage.over), (ms(12), ms(488), false));
    let silent = verdict.regions[1].outage.as_ref().expect("out all the time");
    assert_eq!((silent.from, silent.took, silent.over), (ms(0), ms(500), false));
}

#[test]
fn percentiles_are_of_acknowledged_writes_and_are_times_that_were_measured() {
    let mut attempts: Vec<_> = (1..=100)
        .map(|n| attempt(n, 0, n * 1000, n * 1000 + n, Outcome::Ok(by("us", 1))))
        .collect();
    attempts.push(attempt(101, 0, 0, 90_000, unknown()));
    let region = judge(&notes(200_000, attempts), None).regions.remove(0);
    assert_eq!((region.p50, region.p99), (Some(ms(50)), Some(ms(99))));
    assert_eq!(region.slowest, Some(ms(100)));
    assert_eq!(percentile(&[], 50), None);
    assert_eq!(percentile(&[ms(7)], 99), Some(ms(7)));
}
