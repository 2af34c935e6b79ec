//! Any plan, any luck.

use std::{collections::BTreeMap, sync::atomic::Ordering};

use proptest::prelude::*;

use super::{tests::*, *};
use crate::memory::{Call, Fault};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Luck {
    Good,
    AnswerLost,
    Refused,
    Panics,
    Slow,
}

#[derive(Clone, Debug)]
struct Case {
    steps: Vec<(Action, Vec<usize>, Luck)>,
    concurrency: usize,
    /// Interrupt after so many rows.
    interrupt: Option<usize>,
}

fn case() -> impl Strategy<Value = Case> {
    let action = prop_oneof![
        5 => Just(Action::Create), 2 => Just(Action::Update), 1 => Just(Action::Replace),
        2 => Just(Action::Delete), 2 => Just(Action::None), 1 => Just(Action::Conflict),
    ];
    let luck = prop_oneof![
        8 => Just(Luck::Good), 2 => Just(Luck::AnswerLost), 1 => Just(Luck::Refused),
        1 => Just(Luck::Panics), 2 => Just(Luck::Slow),
    ];
    let step = (
        action,
        proptest::collection::vec(any::<prop::sample::Index>(), 0..4),
        luck,
    );
    let steps = proptest::collection::vec(step, 0..24).prop_map(|steps| {
        let earlier = |place: usize, picks: Vec<prop::sample::Index>| {
            picks
                .into_iter()
                .filter(|_| place > 0)
                .map(|pick| pick.index(place))
                .collect()
        };
        let steps = steps.into_iter().enumerate();
        steps
            .map(|(place, (action, picks, luck))| (action, earlier(place, picks), luck))
            .collect()
    });
    (steps, 1..9_usize, proptest::option::weighted(0.3, 0..10_usize)).prop_map(|(steps, concurrency, interrupt)| Case {
        steps,
        concurrency,
        interrupt,
    })
}

async fn play(case: &Case) -> (Vec<StepRow>, Arc<Watched>) {
    let watched = Arc::new(Watched::new(memory()));
    let mut steps = Vec::new();
    for (place, (action, after, luck)) in case.steps.iter().enumerate() {
        let call = if *action == Action::Delete {
            Call::Remove
        } else {
            Call::Ensure
        };
        let fault = match luck {
            Luck::Good => None,
            Luck::AnswerLost => Some(Fault::LoseAnswer),
            Luck::Refused => Some(Fault::Refuse(refused())),
            Luck::Panics => Some(Fault::Panic),
            Luck::Slow => Some(Fault::Slow(Duration::from_millis(2))),
        };
        if let Some(fault) = fault {
            watched.memory.inject(call, Some(&id(place)), fault);
        }
        steps.push(step(place, *action, after));
    }
    let cancel = CancellationToken::new();
    let options = ApplyOptions {
        concurrency: case.concurrency,
        ..quick()
    };
    let mut all = apply(steps, Arc::<Watched>::clone(&watched), options, cancel.clone());
    let mut rows = Vec::new();
    if case.interrupt == Some(0) {
        cancel.cancel();
    }
    while let Some(row) = all.recv().await {
        rows.push(row);
        if case.interrupt == Some(rows.len()) {
            cancel.cancel();
        }
    }
    (rows, watched)
}

fn judge(case: &Case, rows: &[StepRow], watched: &Watched) -> Result<(), TestCaseError> {
    let numbered: Vec<usize> = (0..case.steps.len())
        .filter(|&place| case.steps[place].0 != Action::None)
        .collect();
    let mut status = BTreeMap::new();
    for row in rows {
        let place = numbered[row.step as usize - 1];
        prop_assert_eq!(&row.name, &id(place).name);
        prop_assert!(
            status.insert(place, row.status).is_none(),
            "step {} has two rows",
            row.step
        );
        prop_assert_eq!(row.error.is_some(), !row.status.is_good());
    }
    prop_assert_eq!(status.len(), numbered.len(), "every step that does something has a row");
    prop_assert_eq!(watched.running.load(Ordering::SeqCst), 0, "something still runs");
    prop_assert!(watched.most.load(Ordering::SeqCst) <= case.concurrency);

    // A step with nothing to do is as good as what it waits for.
    let mut good = Vec::new();
    for (place, (action, after, luck)) in case.steps.iter().enumerate() {
        let may_start = after.iter().all(|&before| good[before]);
        good.push(may_start && status.get(&place).is_none_or(|status| status.is_good()));
        let Some(&status) = status.get(&place) else { continue };
        let wanted = match (action, may_start, luck) {
            (Action::Conflict, _, _) => StepStatus::Conflict,
            (_, false, _) => StepStatus::Skipped,
            (_, true, Luck::Refused | Luck::Panics) => StepStatus::Failed,
            (_, true, _) => StepStatus::Done,
        };
        let interrupted = case.interrupt.is_some() && status == StepStatus::Interrupted;
        prop_assert!(
            status == wanted || interrupted,
            "step {place}: {status} instead of {wanted}"
        );
    }

    let log = watched.log.lock().expect("nobody panics with it");
    let began = |place: usize| log.iter().position(|(of, begin)| *begin && *of == id(place));
    let ended = |place: usize| log.iter().rposition(|(of, begin)| !*begin && *of == id(place));
    for (place, (_, after, _)) in case.steps.iter().enumerate() {
        let Some(begin) = began(place) else { continue };
        for &before in after {
            prop_assert!(good[before], "step {place} began though {before} was not done");
            prop_assert!(
                ended(before).is_none_or(|end| end < begin),
                "step {place} began before {before} was done"
            );
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// The order is kept, everything is reported once, what depends on a failure is skipped, whatever happens.
    #[test]
    fn any_plan_is_carried_out_in_order_and_told_completely(case in case()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let (rows, watched) = runtime.block_on(play(&case));
        judge(&case, &rows, &watched)?;
    }
}
