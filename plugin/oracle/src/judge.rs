//! Notes and rows in, verdict out. No clock, no network, no database.

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use crate::{
    Attempt, By, Found, LostWrite, Notes, Outage, Outcome, Overlap, RegionVerdict, Reign, Rows, Unexpected, Verdict,
    Why,
};

/// Compares what the clients remember with what is there; `found` is none when nobody could be asked.
pub fn judge(notes: &Notes, found: Option<&Found>) -> Verdict {
    let spans = spans(&notes.attempts);
    let count = |is: fn(&Outcome) -> bool| notes.attempts.iter().filter(|it| is(&it.outcome)).count();
    let lineage = lineage(&spans);
    Verdict {
        run: notes.run.clone(),
        took: notes.took,
        acknowledged: count(|it| matches!(it, Outcome::Ok(_))),
        failed: count(|it| matches!(it, Outcome::Failed { .. })),
        unknown: count(|it| matches!(it, Outcome::Unknown { .. })),
        rows: found.map(|found| rows(notes, found)),
        overlaps: overlaps(&notes.attempts, &spans),
        lineage_broken: broken(&lineage, &spans, found),
        lineage,
        regions: regions(notes),
        marks: notes.marks.clone(),
        broken: notes.broken.clone(),
    }
}

fn rows(notes: &Notes, found: &Found) -> Rows {
    let mut there: BTreeMap<u64, usize> = BTreeMap::new();
    for id in &found.ids {
        *there.entry(*id).or_default() += 1;
    }
    let mut rows = Rows {
        ok: 0,
        lost: Vec::new(),
        recovered: Vec::new(),
        unexpected: Vec::new(),
        asked: found.by.clone(),
    };
    let duplicated = there.iter().filter(|(_, times)| **times > 1);
    rows.unexpected = duplicated
        .map(|(id, _)| Unexpected {
            id: *id,
            why: Why::Duplicated,
        })
        .collect();
    for attempt in &notes.attempts {
        let id = attempt.id;
        match (&attempt.outcome, there.remove(&id).is_some()) {
            (Outcome::Ok(_), true) => rows.ok += 1,
            (Outcome::Ok(by), false) => rows.lost.push(LostWrite {
                id,
                region: notes.regions.get(attempt.region).cloned().unwrap_or_default(),
                by: by.clone(),
                at: attempt.ended,
            }),
            (Outcome::Unknown { .. }, true) => rows.recovered.push(id),
            (Outcome::Failed { .. }, true) => rows.unexpected.push(Unexpected { id, why: Why::Failed }),
            (Outcome::Unknown { .. } | Outcome::Failed { .. }, false) => {}
        }
    }
    rows.unexpected.extend(there.into_keys().map(|id| Unexpected {
        id,
        why: Why::NeverAttempted,
    }));
    rows.lost.sort_by_key(|lost| lost.id);
    rows.recovered.sort_unstable();
    rows.unexpected.sort_by_key(|it| it.id);
    rows
}

/// When one acknowledged, as far as its answers prove it.
struct Span {
    /// Its first answer was there: it had acknowledged before.
    first_answer: Duration,
    /// The last of those that it acknowledged was sent: it acknowledged after.
    last_sent: Duration,
    last_answer: Duration,
    acknowledged: usize,
}

fn spans(attempts: &[Attempt]) -> HashMap<&By, Span> {
    let mut spans: HashMap<&By, Span> = HashMap::new();
    for attempt in attempts {
        let Some(by) = attempt.by() else { continue };
        let span = spans.entry(by).or_insert(Span {
            first_answer: attempt.ended,
            last_sent: attempt.began,
            last_answer: attempt.ended,
            acknowledged: 0,
        });
        span.first_answer = span.first_answer.min(attempt.ended);
        span.last_sent = span.last_sent.max(attempt.began);
        span.last_answer = span.last_answer.max(attempt.ended);
        span.acknowledged += 1;
    }
    spans
}

/// Every pair of which each acknowledged after the other had. An answer that travelled long proves nothing, so
/// sending times are compared with answers.
fn overlaps(attempts: &[Attempt], spans: &HashMap<&By, Span>) -> Vec<Overlap> {
    let mut in_order: Vec<(&By, &Span)> = spans.iter().map(|(by, span)| (*by, span)).collect();
    in_order.sort_by_key(|(by, span)| (span.first_answer, *by));
    let mut overlaps = Vec::new();
    for (place, (earlier, a)) in in_order.iter().enumerate() {
        for (later, b) in in_order.iter().skip(place + 1) {
            if b.first_answer < a.last_sent && a.first_answer < b.last_sent {
                let of_earlier = attempts.iter().filter(|it| it.by() == Some(earlier));
                overlaps.push(Overlap {
                    earlier: (*earlier).clone(),
                    later: (*later).clone(),
                    from: b.first_answer,
                    at_least: a.last_sent.min(b.last_sent).saturating_sub(b.first_answer),
                    writes: of_earlier.filter(|it| it.began > b.first_answer).count(),
                });
            }
        }
    }
    overlaps
}

/// By timeline, which is the order in which they reign unless something is wrong. Not by their first answers: those
/// that crossed on the way prove nothing.
fn lineage(spans: &HashMap<&By, Span>) -> Vec<Reign> {
    let mut lineage: Vec<Reign> = spans
        .iter()
        .map(|(by, span)| Reign {
            by: (*by).clone(),
            first: span.first_answer,
            last: span.last_answer,
            acknowledged: span.acknowledged,
        })
        .collect();
    lineage.sort_by(|a, b| a.by.cmp(&b.by));
    lineage
}

/// One node for each timeline, none that began after a higher one, and who was asked in the end is the last of them
/// or a later one. Two at once are told as overlaps.
fn broken(lineage: &[Reign], spans: &HashMap<&By, Span>, found: Option<&Found>) -> Option<String> {
    let pairs = lineage.iter().enumerate().flat_map(|(place, low)| {
        let higher = lineage.iter().skip(place + 1);
        higher.map(move |high| (&low.by, &high.by))
    });
    for (low, high) in pairs {
        if low.timeline == high.timeline {
            return Some(format!("{low} is also {}", high.node));
        }
        let (Some(before), Some(after)) = (spans.get(low), spans.get(high)) else {
            continue;
        };
        if after.first_answer < before.last_sent && after.last_sent <= before.first_answer {
            return Some(format!("{low} came after {high}"));
        }
    }
    let (last, asked) = (&lineage.last()?.by, &found?.by);
    let follows = asked.timeline > last.timeline || asked == last;
    (!follows).then(|| format!("{asked} came after {last}"))
}

fn regions(notes: &Notes) -> Vec<RegionVerdict> {
    let of = |(place, region): (usize, &String)| {
        let mut verdict = RegionVerdict {
            region: region.clone(),
            acknowledged: 0,
            failed: 0,
            unknown: 0,
            outage: None,
            p50: None,
            p99: None,
            slowest: None,
        };
        let (mut answers, mut times) = (Vec::new(), Vec::new());
        for attempt in notes.attempts.iter().filter(|it| it.region == place) {
            match attempt.outcome {
                Outcome::Ok(_) => {
                    verdict.acknowledged += 1;
                    answers.push(attempt.ended);
                    times.push(attempt.took());
                }
                Outcome::Failed { .. } => verdict.failed += 1,
                Outcome::Unknown { .. } => verdict.unknown += 1,
            }
        }
        answers.sort_unstable();
        times.sort_unstable();
        verdict.outage = outage(&answers, notes.took);
        verdict.p50 = percentile(&times, 50);
        verdict.p99 = percentile(&times, 99);
        verdict.slowest = times.last().copied();
        verdict
    };
    notes.regions.iter().enumerate().map(of).collect()
}

/// The longest time between two answers, or from the last one to the end of the run. The time before the first is
/// that of getting started; a region without any answer was out all the time.
fn outage(answers: &[Duration], end: Duration) -> Option<Outage> {
    let last = answers.last().copied().unwrap_or_default();
    let unfinished = Outage {
        from: last,
        took: end.saturating_sub(last),
        over: false,
    };
    let between = answers.windows(2).filter_map(|pair| match pair {
        [from, until] => Some(Outage {
            from: *from,
            took: until.saturating_sub(*from),
            over: true,
        }),
        _ => None,
    });
    between
        .chain([unfinished])
        .max_by_key(|outage| outage.took)
        .filter(|outage| !outage.took.is_zero())
}

/// Nearest rank: the smallest of the sorted times that `percent` of them do not exceed.
fn percentile(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}
