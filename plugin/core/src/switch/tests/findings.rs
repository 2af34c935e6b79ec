use jiff::SignedDuration;

use super::*;

/// Code and node of each finding after `change`.
fn after(change: impl FnOnce(&mut World)) -> Vec<(&'static str, Option<String>)> {
    let mut world = world();
    change(&mut world);
    let found = findings(&world);
    for it in &found {
        assert!(
            !it.why.ends_with('.') && !it.help.is_empty() && !it.help.ends_with('.'),
            "{it:?}"
        );
    }
    found.into_iter().map(|it| (it.code, it.node)).collect()
}

fn eu() -> Option<String> {
    Some("eu-db-1".to_owned())
}

#[test]
fn nothing_is_found_where_all_is_well() {
    assert_eq!(after(|_| {}), []);
}

#[test]
fn a_store_that_went_back_is_found_by_what_others_remember() {
    let promised = after(|world| world.member("eu-db-1").promised = 9);
    assert_eq!(promised, [("ha::agreement::went_back", eu())]);
    let history = after(|world| world.last_history = 8);
    assert_eq!(history, [("ha::agreement::went_back", None)]);
}

#[test]
fn clocks_are_compared_as_far_as_the_round_trip_allows() {
    let apart = |clock: i64, error: u64| {
        after(|world| {
            let vitals = world.vitals("eu-db-1");
            vitals.clock = SignedDuration::from_millis(clock);
            vitals.clock_error = Duration::from_millis(error);
        })
    };
    assert_eq!(apart(1500, 10), [("ha::agreement::clocks", eu())]);
    assert_eq!(apart(-1500, 10), [("ha::agreement::clocks", eu())]);
    assert_eq!(apart(1500, 600), [], "the answer was under way for long");
    let silent = |at: &str| {
        after(|world| {
            world.node("eu-db-1").vitals = Err("it does not answer".into());
            world.member("eu-db-1").at = at.parse().expect("a moment");
        })
    };
    assert_eq!(silent("2026-03-01T12:00:05Z"), [("ha::agreement::clocks", eu())]);
    assert_eq!(silent("2026-03-01T11:59:50Z"), [], "an old report is no clock");
}

#[test]
fn guards_that_were_told_different_things_are_found_while_they_answer() {
    let told = |answers: bool| {
        after(|world| {
            world.member("eu-db-1").settings = "other".into();
            if !answers {
                world.node("eu-db-1").report = Err("nobody listens".into());
            }
        })
    };
    assert_eq!(told(true), [("ha::agreement::settings", None)]);
    assert_eq!(told(false), []);
}
