use ha_core::agreement::{Pause, Phase, Term};
use ha_store::{Fault, Store};
use jiff::Timestamp;

use super::{super::Swapped, *};

#[tokio::test]
async fn a_cluster_is_founded_once_and_its_history_is_written() {
    let world = World::active().await;
    let look = world.a.look();
    assert_eq!(
        look.view.term.as_ref().map(|it| (it.epoch, it.phase)),
        Some((1, Phase::Active))
    );
    let (other, history) = first();
    assert_eq!(world.a.found(&look.basis, other, history).await, Swapped::Changed);
    let histories = world.a.cluster().histories().await.expect("an answer");
    assert_eq!(histories.iter().map(|it| it.epoch).collect::<Vec<_>>(), [1]);
}

#[tokio::test]
async fn a_swap_goes_only_on_what_was_decided_on() {
    let world = World::active().await;
    let old = world.a.look().basis;
    let voters = ["a", "b"].map(str::to_owned);
    let set = world.a.set_voters(&old, voters.clone().into(), 1, None).await;
    assert_eq!(set, Swapped::Done);
    // The value is in the next look, without waiting for a watch.
    assert_eq!(world.a.view().term.expect("there").voters, voters.clone().into());
    // Another decision on the same look is refused, though what is known now would allow it.
    assert_eq!(world.a.campaign(&old, campaign(), false).await, Swapped::Changed);
    assert_eq!(world.a.view().term.expect("there").epoch, 1);
}

#[tokio::test]
async fn a_campaign_loses_against_a_pause_and_against_a_renewal() {
    let world = World::active().await;
    assert_eq!(world.renew().await, Swapped::Done);
    let b = World {
        a: Agreement::new(
            &config(tempfile::tempdir().expect("a folder").path()),
            std::sync::Arc::new(world.store.clone()),
            world.hands.clocks(),
        )
        .expect("its promises"),
        folder: tempfile::tempdir().expect("a folder"),
        store: world.store.clone(),
        hands: world.hands.clone(),
    };
    b.a.list().await.expect("an answer");
    let seen = b.a.look().basis;
    // The leader renews, and `b` has not heard of it.
    assert_eq!(world.renew().await, Swapped::Done);
    assert_eq!(b.a.campaign(&seen, campaign(), true).await, Swapped::Changed);
    // Neither of a pause.
    let pause = |until| Pause {
        by: "somebody".to_owned(),
        why: "work".to_owned(),
        since: Timestamp::UNIX_EPOCH,
        until,
    };
    let cluster = world.a.cluster();
    let paused = cluster
        .set_pause(Some(&pause(None)), ha_store::Revision::ABSENT)
        .await
        .expect("an answer");
    let ha_store::Swap::Done(paused) = paused else {
        panic!("there was none");
    };
    assert_eq!(b.a.campaign(&seen, campaign(), false).await, Swapped::Changed);
    b.a.list().await.expect("an answer");
    assert!(b.a.view().pause.is_some());
    assert_eq!(
        b.a.campaign(&b.a.look().basis, campaign(), false).await,
        Swapped::Changed
    );
    // One whose end has passed stops nobody who has seen it.
    cluster
        .set_pause(Some(&pause(Some(Timestamp::UNIX_EPOCH))), paused)
        .await
        .expect("an answer");
    b.a.list().await.expect("an answer");
    assert!(b.a.view().pause.is_none());
    assert_eq!(b.a.campaign(&b.a.look().basis, campaign(), false).await, Swapped::Done);
    assert_eq!(
        b.a.view().term.map(|it| (it.epoch, it.phase)),
        Some((2, Phase::Sealing))
    );
    assert_eq!(b.a.view().automatic_today, 1);
}

#[tokio::test]
async fn an_answer_that_was_lost_is_looked_up_at_once() {
    let world = World::active().await;
    let set = async |node: &str| {
        let voters = ["a", node].map(str::to_owned).into();
        world.a.set_voters(&world.a.look().basis, voters, 1, None).await
    };
    world.store.inject(Fault::LostAfter);
    assert_eq!(set("b").await, Swapped::Done);
    assert!(world.a.in_doubt().is_none() && world.a.view().affirmed);

    // It may still arrive: both terms count until the one in the store has moved on.
    world.store.inject(Fault::Late);
    assert!(matches!(set("c").await, Swapped::Unknown(_)));
    let doubtful = world.a.in_doubt().expect("on its way");
    assert!(doubtful.voters.contains("c") && world.a.view().term.expect("there").voters.contains("b"));
    assert!(!world.a.view().affirmed);
    // The next change that succeeds makes sure that it never does.
    assert_eq!(set("b").await, Swapped::Done);
    assert!(world.a.in_doubt().is_none() && world.a.view().affirmed);
    world.store.arrive();
    world.a.list().await.expect("an answer");
    assert!(world.a.view().term.expect("there").voters.contains("b"));

    world.store.inject(Fault::Late);
    assert!(matches!(set("c").await, Swapped::Unknown(_)));
    world.store.arrive();
    world.a.list().await.expect("an answer");
    assert!(world.a.view().term.expect("there").voters.contains("c"));
    assert!(world.a.in_doubt().is_none());

    world.store.inject(Fault::Unreachable);
    assert!(matches!(set("b").await, Swapped::Failed(_)));
    assert!(world.a.in_doubt().is_none());
}

#[tokio::test]
async fn who_joins_must_not_have_reported_anything_new() {
    let world = World::active().await;
    let looked = world.a.look().basis;
    let key = world.a.cluster().keys.member("c");
    let joined = async |basis: &super::super::Basis| {
        let voters = ["a", "b", "c"].map(str::to_owned).into();
        world.a.set_voters(basis, voters, 1, Some(&"c".to_owned())).await
    };
    world
        .store
        .compare_and_swap(ha_store::Write::create(&key, b"{}".to_vec()))
        .await
        .expect("written");
    assert_eq!(joined(&looked).await, Swapped::Changed);
}

#[tokio::test]
async fn a_failover_goes_through_all_its_terms() {
    let world = World::active().await;
    let a = &world.a;
    assert_eq!(a.campaign(&a.look().basis, campaign(), false).await, Swapped::Done);
    let sealed = || {
        [("a", at(1, 100)), ("b", at(1, 90))]
            .map(|(node, it)| (node.to_owned(), it))
            .into()
    };
    assert_eq!(a.choose(&a.look().basis, sealed()).await, Swapped::Done);
    // Twice is nothing: it was chosen already.
    assert_eq!(a.choose(&a.look().basis, sealed()).await, Swapped::Changed);
    let published = a.publish(&a.look().basis, Lsn(100), 1, &[], history(2, "a")).await;
    assert_eq!(published, Swapped::Done);
    let term = a.view().term.expect("there");
    assert_eq!((term.epoch, term.phase, term.timeline), (2, Phase::Active, 2));
    let histories = a.cluster().histories().await.expect("an answer");
    assert_eq!(histories.iter().map(|it| it.epoch).collect::<Vec<_>>(), [1, 2]);
}

#[tokio::test]
async fn a_history_that_was_not_written_is_mended() {
    let world = World::active().await;
    let a = &world.a;
    a.campaign(&a.look().basis, campaign(), false).await;
    a.choose(&a.look().basis, [("a".to_owned(), at(1, 100))].into()).await;
    // The guard ends between the term and its history.
    let basis = a.look().basis;
    let next = a
        .view()
        .term
        .and_then(|it| it.publish("a", Lsn(100), 1, &[], Timestamp::now()))
        .expect("chosen");
    assert_eq!(a.swap(&basis, &next, &[]).await, Swapped::Done);
    a.write_history().await;
    assert_eq!(a.cluster().histories().await.expect("an answer").len(), 1);

    let again = world.restarted().await;
    again.find_gap();
    again.write_history().await;
    assert_eq!(again.cluster().histories().await.expect("an answer").len(), 1);
    world.hands.pass(11 * SECOND);
    again.find_gap();
    again.write_history().await;
    let histories = again.cluster().histories().await.expect("an answer");
    let mended = histories.last().expect("mended");
    assert_eq!(
        (mended.epoch, mended.node.as_str(), mended.start, mended.parent),
        (2, "a", Lsn(100), Some(1))
    );
    // The one who saw the campaign knows its reason, and finds that it is there.
    a.list().await.expect("an answer");
    a.find_gap();
    a.write_history().await;
    assert_eq!(a.cluster().histories().await.expect("an answer"), histories);
}

#[tokio::test]
async fn the_lease_is_held_from_the_moment_it_was_sent() {
    let world = World::active().await;
    assert_eq!(world.a.holding().left, None);
    assert_eq!(world.renew().await, Swapped::Done);
    let holding = world.a.holding();
    assert_eq!((holding.epoch, holding.left), (1, Some(world.a.timing.hold)));
    // A suspended machine: MONOTONIC does not see it, the deadline does.
    world.hands.with(|it| it.boottime += 2 * SECOND);
    assert_eq!(world.a.holding().left, Some(world.a.timing.hold - 2 * SECOND));
    world.hands.pass(world.a.timing.hold);
    assert_eq!(world.a.holding().left, None);
    assert!(world.a.holding().sent > Some(world.a.timing.hold));
    let lease = world.a.view().lease.expect("there");
    assert_eq!((lease.counter, lease.node.as_str()), (1, "a"));
    assert_eq!(world.renew().await, Swapped::Done);
    assert_eq!(world.a.view().lease.expect("there").counter, 2);
}

#[tokio::test]
async fn a_renewal_without_an_answer_is_neither_success_nor_failure() {
    let world = World::active().await;
    world.renew().await;
    world.hands.pass(SECOND);
    // Lost and never carried out: the deadline stays, the next one succeeds.
    world.store.inject(Fault::LostBefore);
    assert!(matches!(world.renew().await, Swapped::Unknown(_)));
    assert_eq!(world.a.holding().left, Some(world.a.timing.hold - SECOND));
    world.hands.pass(SECOND);
    assert_eq!(world.renew().await, Swapped::Done);
    assert_eq!(world.a.holding().left, Some(world.a.timing.hold));

    // Lost and carried out: the next one finds it, and counts from when that one was sent.
    world.store.inject(Fault::LostAfter);
    assert!(matches!(world.renew().await, Swapped::Unknown(_)));
    world.hands.pass(SECOND);
    world.store.inject(Fault::LostBefore);
    assert!(matches!(world.renew().await, Swapped::Unknown(_)));
    assert_eq!(world.a.holding().left, Some(world.a.timing.hold - SECOND));

    // Carried out only after the next one was: it cannot be.
    world.store.inject(Fault::Late);
    assert!(matches!(world.renew().await, Swapped::Unknown(_)));
    assert_eq!(world.renew().await, Swapped::Done);
    world.store.arrive();
    world.a.list().await.expect("an answer");
    assert_eq!(world.renew().await, Swapped::Done);
}

#[tokio::test]
async fn nobody_renews_under_another_term_than_was_looked_at() {
    let world = World::active().await;
    let old = world.a.look().basis;
    let stranger = world.restarted().await;
    assert_eq!(
        stranger.campaign(&stranger.look().basis, campaign(), false).await,
        Swapped::Done
    );
    // The old leader has not heard of it; the store has.
    assert_eq!(world.a.renew(&old, None).await, Swapped::Changed);
    assert_eq!(world.a.holding().left, None);
    world.a.list().await.expect("an answer");
    assert_eq!(world.renew().await, Swapped::Changed);
}

#[tokio::test]
async fn the_watchdog_is_fed_by_renewals_only() {
    let world = World::active().await;
    let device = world.folder.path().join("watchdog");
    std::fs::write(&device, "").expect("a stand-in");
    let fed = || std::fs::read(&device).expect("read");
    world.store.inject(Fault::LostBefore);
    world.renew().await;
    assert_eq!(fed(), b"");
    world.renew().await;
    world.renew().await;
    assert_eq!(fed(), b"..");
    world.a.stand_down();
    assert_eq!(fed(), b"..V");
}

#[test]
fn a_term_says_what_a_mended_history_needs() {
    let (term, _) = first();
    let json = serde_json::to_vec(&term).expect("json");
    let again: Term = serde_json::from_slice(&json).expect("a term");
    assert_eq!(again, term);
}
