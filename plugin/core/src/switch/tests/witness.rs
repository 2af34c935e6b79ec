//! No guard answers; us-db-1 led epoch 7 and is gone, the others answer over SQL.

use super::{
    super::witness::{self, Next, Sight, Sights, Words, next},
    *,
};
use crate::agreement::{AcceptLoss, Campaign, Pause, Phase, Reason};

const SECOND: Duration = Duration::from_secs(1);

fn alone() -> World {
    let mut world = world();
    for node in world.nodes.values_mut() {
        node.report = Err("its guard did not answer: connection refused".into());
        node.member = None;
    }
    world
}

fn replica(lsn: u64) -> Result<Sight, String> {
    Ok(Sight {
        replica: true,
        position: at(lsn),
        follows: Some(7),
        silence: None,
    })
}

fn primary(timeline: u32) -> Result<Sight, String> {
    let position = Position {
        timeline,
        lsn: Lsn(END),
    };
    Ok(Sight {
        replica: false,
        position,
        follows: None,
        silence: None,
    })
}

fn sights() -> Sights {
    [
        ("us-db-1", Err("connection refused".to_owned())),
        ("eu-db-1", replica(END)),
        ("asia-db-1", replica(END - 0x100)),
    ]
    .map(|(node, sight)| (node.to_owned(), sight))
    .into()
}

fn with(change: impl FnOnce(&mut Sights)) -> Sights {
    let mut sights = sights();
    change(&mut sights);
    sights
}

fn put(sights: &mut Sights, node: &str, sight: Result<Sight, String>) {
    sights.insert(node.into(), sight);
}

fn said() -> Words<'static> {
    Words {
        witness: Some("seen in the rack"),
        ..Words::default()
    }
}

fn codes(refusals: &[Refusal]) -> Vec<&'static str> {
    for it in refusals {
        assert!(
            !it.why.ends_with('.') && !it.help.ends_with('.') && !it.help.is_empty(),
            "{it:?}"
        );
    }
    refusals.iter().map(|it| it.code).collect()
}

fn campaign(reason: Reason, lossy: bool) -> Campaign {
    Campaign {
        by: "ann".into(),
        reason,
        detail: String::new(),
        automatic: false,
        started_at: now(),
        accept_loss: lossy.then(|| AcceptLoss {
            by: "ann".into(),
            fenced: "seen in the rack".into(),
        }),
        wanted: None,
        sealed: BTreeMap::new(),
        chosen: None,
        op: None,
    }
}

fn deciding(reason: Reason) -> Term {
    term().campaign(campaign(reason, false))
}

fn chosen(reason: Reason) -> Term {
    deciding(reason)
        .choose("eu-db-1", BTreeMap::new(), now())
        .expect("chosen")
}

fn published() -> Term {
    let lsn = Lsn(END);
    chosen(Reason::Witness)
        .publish("eu-db-1", lsn, 7, &[], now())
        .expect("published")
}

#[test]
fn it_begins_when_a_person_says_that_the_primary_is_fenced() {
    assert_eq!(
        codes(&witness::refusals(&alone(), &sights(), said(), Some(SECOND))),
        [""; 0]
    );
    let refused = witness::refusals(&alone(), &sights(), Words::default(), None);
    assert_eq!(codes(&refused), ["ha::agreement::no_guards"]);
    assert!(refused[0].help.contains("ha power off us-db-1") && refused[0].help.contains("--witness"));
}

#[test]
fn what_stands_in_the_way_is_told() {
    type Change = fn(&mut World, &mut Sights, &mut Words<'static>);
    let cases: [(&str, Change); 13] = [
        ("ha::failover::primary_up", |_, sights, _| {
            put(sights, "us-db-1", primary(7))
        }),
        ("ha::failover::second_primary", |_, sights, _| {
            put(sights, "eu-db-1", primary(8))
        }),
        ("ha::failover::primary_up", |_, sights, _| {
            if let Some(Ok(it)) = sights.get_mut("asia-db-1") {
                it.silence = Some(SECOND / 2);
            }
        }),
        ("ha::failover::no_quorum", |_, sights, _| {
            put(sights, "asia-db-1", Err("timeout".into()));
        }),
        ("ha::failover::no_quorum", |_, sights, _| {
            if let Some(Ok(it)) = sights.get_mut("asia-db-1") {
                // An orphan: nobody gave that number out.
                it.position.timeline = 8;
            }
        }),
        ("ha::failover::no_quorum", |world, _, _| {
            world.term.voters.remove("asia-db-1");
            world.term.voters.insert("gone-db-1".into());
        }),
        ("ha::failover::nobody", |world, _, _| {
            world.node("eu-db-1").forbidden = Some("no".into());
        }),
        ("ha::failover::unknown", |_, _, words| words.to = Some("mars-db-1")),
        ("ha::failover::is_primary", |_, _, words| words.to = Some("us-db-1")),
        ("ha::failover::forbidden", |world, _, words| {
            world.node("asia-db-1").forbidden = Some("no".into());
            words.to = Some("asia-db-1");
        }),
        ("ha::agreement::paused", |world, _, _| {
            world.pause = Some(pause("a switch is changed"));
        }),
        ("ha::agreement::went_back", |world, _, _| world.last_history = 9),
        ("ha::agreement::timing", |world, _, _| {
            world.broken_timing.push("C1: no".into())
        }),
    ];
    for (code, change) in cases {
        let (mut world, mut sights, mut words) = (alone(), sights(), said());
        change(&mut world, &mut sights, &mut words);
        let refused = codes(&witness::refusals(&world, &sights, words, Some(SECOND)));
        // What follows from it is told, too.
        assert_eq!(refused[0], code, "{refused:?}");
    }
}

fn pause(why: &str) -> Pause {
    Pause {
        by: "ann".into(),
        why: why.into(),
        since: now(),
        until: None,
    }
}

/// What was heard before the watch began says nothing, and neither does the pause of a shell that began this and died.
#[test]
fn what_does_not_stand_in_the_way() {
    let heard = with(|it| {
        if let Some(Ok(it)) = it.get_mut("asia-db-1") {
            it.silence = Some(SECOND * 2);
        }
    });
    let mut world = alone();
    world.pause = Some(pause("ha failover --witness: seen in the rack"));
    assert_eq!(codes(&witness::refusals(&world, &heard, said(), Some(SECOND))), [""; 0]);
    // The old primary is back as a replica: it seals like the others.
    let back = with(|it| put(it, "us-db-1", replica(END + 0x100)));
    assert_eq!(codes(&witness::refusals(&world, &back, said(), Some(SECOND))), [""; 0]);
    let rows = witness::explain(&world, &back, None, false);
    assert!(rows[0].chosen && rows[0].node == "us-db-1", "{rows:#?}");
}

#[test]
fn the_next_step_follows_from_what_is_there() {
    let promoted = || with(|it| put(it, "eu-db-1", primary(8)));
    let gone = || with(|it| put(it, "eu-db-1", Err("timeout".into())));
    let eu = || "eu-db-1".to_owned();
    let mut switching = term();
    switching.phase = Phase::Switching;
    for (term, sights, sealed, expected) in [
        (term(), sights(), false, Next::Campaign),
        (switching, sights(), false, Next::Campaign),
        // A campaign of guards that are gone.
        (deciding(Reason::PrimaryDown), sights(), false, Next::Campaign),
        (chosen(Reason::PrimaryDown), sights(), false, Next::Campaign),
        (deciding(Reason::Witness), sights(), false, Next::Seal),
        (deciding(Reason::Witness), sights(), true, Next::Choose),
        (chosen(Reason::Witness), sights(), true, Next::Promote(eu())),
        // After a shell that died: a seal is on the database's disk.
        (chosen(Reason::Witness), sights(), false, Next::Promote(eu())),
        (chosen(Reason::Witness), promoted(), false, Next::Publish(eu())),
        (chosen(Reason::Witness), gone(), true, Next::Campaign),
        // By hand, and on another number: it is nobody's.
        (
            chosen(Reason::Witness),
            with(|it| put(it, "eu-db-1", primary(9))),
            true,
            Next::Campaign,
        ),
        (published(), promoted(), false, Next::Finish(eu())),
        (published(), gone(), false, Next::Campaign),
    ] {
        let found = next(&term, &sights, sealed);
        assert_eq!(found, expected, "{:?} {:?}", term.phase, term.chosen());
        assert!(!found.why(&term).is_empty());
    }
}

#[test]
fn the_choice_is_the_guards() {
    let sealed = |eu: Option<u64>, asia: Option<u64>| -> BTreeMap<String, Result<Position, String>> {
        let told = |lsn: Option<u64>| lsn.map(at).ok_or_else(|| "timeout".to_owned());
        [("eu-db-1", told(eu)), ("asia-db-1", told(asia))]
            .map(|(node, at)| (node.to_owned(), at))
            .into()
    };
    let mut world = alone();
    world.term = deciding(Reason::Witness);
    for (eu, asia, prefer, expected) in [
        (Some(END), Some(END), None, Ok("eu-db-1")),
        (Some(END), Some(END), Some("asia-db-1"), Ok("asia-db-1")),
        (Some(END), Some(END + 8), Some("eu-db-1"), Ok("asia-db-1")),
        (Some(END), None, None, Err("ha::failover::no_quorum")),
        (None, None, None, Err("ha::failover::no_quorum")),
    ] {
        let found = witness::choose(&world, &sealed(eu, asia), prefer).map_err(|it| it.code);
        assert_eq!(found.as_deref(), expected.as_deref(), "{eu:?} {asia:?} {prefer:?}");
    }
    world.term = term().campaign(campaign(Reason::Witness, true));
    assert_eq!(
        witness::choose(&world, &sealed(Some(END), None), None).as_deref(),
        Ok("eu-db-1")
    );
    // Nobody waits for a replica in asynchronous mode, so that none of them votes.
    (world.term.acks, world.term.voters) = (0, ["us-db-1".to_owned()].into());
    assert_eq!(
        witness::choose(&world, &sealed(Some(END), Some(END + 8)), None).as_deref(),
        Ok("asia-db-1")
    );
}

#[test]
fn whoever_has_more_than_the_new_primary_waits_for_its_guard() {
    let sights = with(|it| {
        put(it, "us-db-1", replica(END + 0x100));
        put(it, "eu-db-1", primary(8));
    });
    let (follow, wait) = witness::followers(&published(), &sights);
    assert!(follow.into_iter().eq(["asia-db-1".to_owned()]));
    assert!(wait["us-db-1"].contains("timeline 7"), "{wait:?}");
}

#[test]
fn without_the_store_it_is_refused_with_what_is_known() {
    let refusal = witness::no_store(&sights());
    assert!(refusal.code.starts_with("ha::store::"));
    for part in [
        "eu-db-1 is a replica at 0/5000000",
        "of epoch 7",
        "us-db-1 does not answer",
    ] {
        assert!(refusal.why.contains(part), "{part}: {}", refusal.why);
    }
    assert!(refusal.help.contains("ha quorum adopt"));
}
