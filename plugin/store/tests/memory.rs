//! The store in memory keeps the promises that etcd keeps, and breaks them only when asked.

mod suite;

use std::sync::Arc;

use ha_store::{Fault, Memory, Revision, Store, StoreError, Swap, Write};

#[tokio::test]
async fn it_does_what_every_store_must() {
    suite::all(Arc::new(Memory::new())).await;
}

#[tokio::test]
async fn answers_are_lost_before_after_and_for_a_while() {
    let store = Memory::new();
    for (fault, before, after) in [
        (Fault::LostBefore, false, false),
        (Fault::LostAfter, true, true),
        (Fault::Late, false, true),
    ] {
        let key = format!("/{fault:?}");
        store.inject(fault);
        let lost = store.compare_and_swap(Write::create(&key, vec![1])).await;
        assert!(matches!(lost, Err(StoreError::OutcomeUnknown { .. })), "{lost:?}");
        assert_eq!(store.get(&key).await.expect("an answer").is_some(), before, "{fault:?}");
        store.arrive();
        assert_eq!(store.get(&key).await.expect("an answer").is_some(), after, "{fault:?}");
    }
    store.inject(Fault::Unreachable);
    let refused = store.compare_and_swap(Write::create("/x", vec![1])).await;
    assert!(matches!(refused, Err(StoreError::Unreachable { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_restored_store_shows_less_than_it_has_shown() {
    let store = Memory::new();
    let at = suite::done(store.compare_and_swap(Write::create("/a", vec![1]))).await;
    let copy = store.list("/").await.expect("an answer");
    suite::done(store.compare_and_swap(Write::replace("/a", vec![2], at))).await;
    let mut watch = store.watch("/a", Revision::ABSENT).await.expect("a watch");
    watch.next().await.expect("the first value");
    store.restore(copy.revision);
    assert_eq!(store.list("/").await.expect("an answer"), copy);
    while watch.next().await.is_ok() {}
    store.become_another();
    assert_ne!(store.list("/").await.expect("an answer").cluster, copy.cluster);
}

#[tokio::test]
async fn keys_go_with_the_presence_that_ended() {
    let store = Memory::new();
    let presence = store.presence(std::time::Duration::from_secs(1)).await.expect("one");
    let write = Write {
        presence: Some(&presence),
        ..Write::create("/a", vec![1])
    };
    suite::done(store.compare_and_swap(write)).await;
    assert_eq!(store.presence_of("/a").as_ref(), Some(&presence));
    store.expire(&presence);
    assert_eq!(store.get("/a").await.expect("an answer"), None);
    assert!(!store.keep_alive(&presence).await.expect("an answer"));
    let late = Write {
        presence: Some(&presence),
        ..Write::create("/a", vec![1])
    };
    assert!(matches!(
        store.compare_and_swap(late).await,
        Err(StoreError::Refused { .. })
    ));
    store.set_answers(false);
    assert!(store.get("/a").await.is_err());
    assert!(!matches!(store.remove("/a", Revision(1)).await, Ok(Swap::Done(_))));
}
