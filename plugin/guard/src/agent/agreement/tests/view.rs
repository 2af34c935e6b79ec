use std::collections::BTreeMap;

use ha_core::{
    agreement::{Switch, Verdict},
    report::DatabaseState,
};
use ha_store::Revision;
use tokio_util::sync::CancellationToken;

use super::{
    super::{MemberDraft, follow, member},
    *,
};

fn draft(position: u64) -> MemberDraft {
    MemberDraft {
        state: DatabaseState::Running,
        detail: None,
        role: None,
        position: Some(at(1, position)),
        replayed: None,
        sealed: None,
        follows: None,
        checkpointed: None,
        need: None,
        stopped: false,
        restarting: false,
        votes: BTreeMap::from([("b".to_owned(), Verdict::Up)]),
        doing: None,
        blocked: None,
    }
}

#[tokio::test]
async fn what_is_known_never_goes_back() {
    let world = World::active().await;
    let before = world.a.cluster().snapshot().await.expect("an answer").revision;
    // A listing that was under way while a newer term was learned is not taken in.
    let old = world.a.cluster().store.list("/ha/").await.expect("an answer");
    let voters = ["a", "b"].map(str::to_owned);
    world
        .a
        .set_voters(&world.a.look().basis, voters.clone().into(), 1, None)
        .await;
    let now = world.a.clocks.now();
    let news = world.a.known().listed(&old, before, 0, now);
    assert!(!news && world.a.view().went_back.is_none());
    assert_eq!(world.a.view().term.expect("there").voters, voters.into());
}

#[tokio::test]
async fn a_store_that_shows_less_was_restored_and_nothing_is_done_any_more() {
    let world = World::active().await;
    let copy = world.a.cluster().snapshot().await.expect("an answer").revision;
    world.renew().await;
    world.store.restore(copy);
    world.a.list().await.expect("an answer");
    let why = world.a.view().went_back.expect("seen");
    assert!(why.contains("restored from an old copy"), "{why}");
    assert!(matches!(world.renew().await, Swapped::Failed(_)));
    let campaign = world.a.campaign(&world.a.look().basis, campaign(), false).await;
    assert!(matches!(campaign, Swapped::Failed(_)));
    // Its revision grows past what was seen; it is still the wrong store.
    let stranger = {
        let folder = tempfile::tempdir().expect("a folder");
        guard(folder.path(), &world.store, world.hands.clocks())
    };
    stranger.list().await.expect("an answer");
    for _ in 0..5 {
        stranger.renew(&stranger.look().basis, None).await;
    }
    world.a.list().await.expect("an answer");
    assert!(world.a.view().went_back.is_some());
}

#[tokio::test]
async fn the_next_life_remembers_the_store_and_the_epoch() {
    let world = World::active().await;
    world.a.remember().await;
    world.a.keep_promise(1).await.expect("kept");
    assert!(world.restarted().await.view().went_back.is_none());
    let copy = world.a.cluster().snapshot().await.expect("an answer").revision;
    world.a.campaign(&world.a.look().basis, campaign(), false).await;
    world.a.keep_promise(2).await.expect("kept");
    world.store.restore(copy);
    let again = world.restarted().await;
    let why = again.view().went_back.expect("seen");
    assert!(why.contains("epoch 1") && why.contains("promised epoch 2"), "{why}");

    world.store.become_another();
    let why = world.restarted().await.view().went_back.expect("seen");
    assert!(why.contains("the one this guard knows"), "{why}");
}

#[tokio::test]
async fn ages_are_by_the_slowest_clock_and_silence_by_the_fastest() {
    let world = World::active().await;
    world.renew().await;
    world.hands.with(|it| {
        it.boottime += 9 * SECOND;
        it.realtime += 9 * SECOND;
        it.monotonic += SECOND;
    });
    let view = world.a.view();
    assert_eq!(
        (view.lease_age, view.term_age, view.active_for),
        (SECOND, SECOND, SECOND)
    );
    assert_eq!(view.silence, 9 * SECOND);
    assert!(!view.answers);
    world.renew().await;
    let view = world.a.view();
    assert!(view.answers && view.silence.is_zero() && view.lease_age.is_zero());
    assert_eq!(view.term_age, SECOND);
}

#[tokio::test]
async fn a_switchover_has_its_own_length_by_the_own_clock() {
    let world = World::active().await;
    assert_eq!(world.a.view().switch_left, None);
    // Asked for by somebody whose clock is an hour behind.
    let started_at = Timestamp::now() - 3600 * SECOND;
    let switch = Switch {
        op: "1".to_owned(),
        to: "b".to_owned(),
        by: "somebody".to_owned(),
        started_at,
        until: started_at + 10 * SECOND,
    };
    let next = world
        .a
        .view()
        .term
        .and_then(|it| it.begin_switch(switch))
        .expect("active");
    world.a.swap(&world.a.look().basis, &next, &[]).await;
    assert_eq!(world.a.view().switch_left, Some(10 * SECOND));
    world.hands.pass(4 * SECOND);
    assert_eq!(world.a.view().switch_left, Some(6 * SECOND));
    world.hands.pass(40 * SECOND);
    assert_eq!(world.a.view().switch_left, Some(Duration::ZERO));
    world.a.undo_switch(&world.a.look().basis, "late").await;
    assert_eq!(world.a.view().switch_left, None);
}

#[tokio::test]
async fn the_maker_of_a_cluster_without_a_term_is_its_founder() {
    let world = World::new().await;
    assert!(!world.a.view().founder);
    let key = world.a.cluster().keys.init();
    let init = br#"{"node": "a", "state": "done", "system_identifier": "7"}"#;
    let write = ha_store::Write::create(&key, init.to_vec());
    world.a.cluster().store.compare_and_swap(write).await.expect("written");
    world.a.list().await.expect("an answer");
    assert!(world.a.view().founder);
    let (term, history) = first();
    world.a.found(&world.a.look().basis, term, history).await;
    assert!(!world.a.view().founder);
}

/// With its tasks and the machine's clocks.
async fn running(folder: &std::path::Path, store: &Memory) -> (std::sync::Arc<Agreement>, CancellationToken) {
    let cancel = CancellationToken::new();
    let store = std::sync::Arc::new(store.clone());
    let a = Agreement::start(&config(folder), store, cancel.clone()).expect("its promises");
    (a, cancel)
}

/// Until it holds; it is looked at with each change.
pub(super) async fn until(a: &Agreement, what: &str, holds: impl Fn(&Agreement) -> bool) {
    let mut changed = a.changed();
    let wait = async {
        while !holds(a) {
            let _ = tokio::time::timeout(SECOND / 5, changed.changed()).await;
        }
    };
    assert!(tokio::time::timeout(30 * SECOND, wait).await.is_ok(), "{what}");
}

#[tokio::test]
async fn changes_of_others_are_seen_and_lost_watches_are_begun_anew() {
    let world = World::active().await;
    let folder = tempfile::tempdir().expect("a folder");
    let (b, cancel) = running(folder.path(), &world.store).await;
    until(&b, "the term", |b| b.view().term.is_some()).await;
    let mut counter = 0;
    let mut renewed = async |what: &str| {
        assert_eq!(world.renew().await, Swapped::Done);
        counter += 1;
        let counter = counter;
        until(&b, what, |b| b.view().lease.is_some_and(|it| it.counter == counter)).await;
    };
    renewed("by the watch").await;
    world.store.end_watches();
    renewed("after the watch has ended").await;
    world.store.set_watches_deaf(true);
    renewed("by a listing, as the watch says nothing").await;
    world.store.set_watches_deaf(false);
    world.store.set_answers(false);
    until(&b, "the silence", |b| !b.view().answers).await;
    world.store.set_answers(true);
    until(&b, "an answer", |b| b.view().answers).await;
    renewed("after the store was away").await;
    cancel.cancel();
}

#[tokio::test]
async fn a_report_is_written_at_once_when_it_means_something_and_positions_with_the_beat() {
    let store = Memory::new();
    let folder = tempfile::tempdir().expect("a folder");
    let (a, cancel) = running(folder.path(), &store).await;
    let own = |a: &Agreement| a.view().members.get("a").map(|it| it.member.clone());
    a.report(draft(1));
    until(&a, "the first", |a| own(a).is_some()).await;
    let first = own(&a).expect("there");
    assert_eq!((first.promised, first.votes.len(), first.region.as_str()), (0, 1, "a"));
    // More log alone waits for the beat; a word changes it at once.
    a.report(draft(2));
    let began = tokio::time::Instant::now();
    a.report(MemberDraft {
        blocked: Some("cooldown".to_owned()),
        ..draft(3)
    });
    until(&a, "the word", |a| own(a).is_some_and(|it| it.blocked.is_some())).await;
    assert!(began.elapsed() < a.timing.renew, "{:?}", began.elapsed());
    let beat = own(&a).expect("there").beat;
    until(&a, "a beat", |a| own(a).is_some_and(|it| it.beat > beat)).await;
    // A promise is told at once, too, without a new draft.
    a.keep_promise(4).await.expect("kept");
    a.report(draft(4));
    until(&a, "the promise", |a| own(a).is_some_and(|it| it.promised == 4)).await;
    cancel.cancel();
}

#[tokio::test]
async fn a_report_that_went_away_is_written_again_under_a_new_presence() {
    let world = World::new().await;
    let key = world.a.cluster().keys.member("a");
    let mut own = member::Own::default();
    own.write(&world.a, draft(1)).await.expect("written");
    let before = world.store.presence_of(&key).expect("with a presence");
    world.store.expire(&before);
    assert!(own.write(&world.a, draft(2)).await.is_err());
    own.write(&world.a, draft(2)).await.expect("written");
    assert_ne!(world.store.presence_of(&key), Some(before));
    // The next life goes on from what is there.
    let beat = world.a.view().members["a"].member.beat;
    member::Own::default().write(&world.a, draft(3)).await.expect("written");
    assert!(world.a.view().members["a"].member.beat > beat);
    assert!(world.a.look().basis.members["a"] > Revision::ABSENT);
    let _ = follow::Told::default();
}
