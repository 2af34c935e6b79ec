//! What every store must do. Each check uses keys of its own, so that one store serves all of them.

use std::{future::Future, time::Duration};

use ha_core::{
    agreement::{Keys, Pause, Term},
    model::SyncMode,
};
use ha_store::{Change, Cluster, Revision, Store, StoreError, Swap, Watch, Write};
use std::sync::Arc;

pub(crate) async fn all(store: Arc<dyn Store>) {
    a_key_is_created_once_and_replaced_only_by_who_read_it_last(&*store).await;
    a_listing_is_of_one_moment(&*store).await;
    a_key_is_removed_only_as_it_was_seen(&*store).await;
    a_watch_tells_every_change_after_a_revision(&*store).await;
    a_watch_of_a_prefix_goes_on_from_a_listing(&*store).await;
    a_key_goes_away_with_its_presence_unless_it_is_kept(&*store).await;
    a_term_is_swapped_on_what_was_seen(store).await;
}

pub(crate) async fn done(swap: impl Future<Output = Result<Swap, StoreError>>) -> Revision {
    match swap.await {
        Ok(Swap::Done(revision)) => revision,
        other => panic!("nobody else writes: {other:?}"),
    }
}

async fn next(watch: &mut Box<dyn Watch>) -> Change {
    let change = tokio::time::timeout(Duration::from_secs(10), watch.next()).await;
    change.expect("in time").expect("a change")
}

async fn a_key_is_created_once_and_replaced_only_by_who_read_it_last(store: &dyn Store) {
    let first = done(store.compare_and_swap(Write::create("/swap/a", b"1".to_vec()))).await;
    let again = store.compare_and_swap(Write::create("/swap/a", b"2".to_vec())).await;
    let Ok(Swap::Changed(Some(now))) = again else {
        panic!("the key was there: {again:?}");
    };
    assert_eq!((now.value.as_slice(), now.revision), (b"1".as_slice(), first));

    let second = done(store.compare_and_swap(Write::replace("/swap/a", b"2".to_vec(), first))).await;
    assert!(second > first);
    let late = store
        .compare_and_swap(Write::replace("/swap/a", b"3".to_vec(), first))
        .await;
    assert!(matches!(late, Ok(Swap::Changed(Some(_)))), "{late:?}");

    // A lease holds only under its term.
    let (old, new) = ([("/swap/a", first)], [("/swap/a", second)]);
    let guarded = |unchanged| Write {
        unchanged,
        ..Write::create("/swap/lease", b"x".to_vec())
    };
    let refused = store.compare_and_swap(guarded(&old)).await.expect("an answer");
    assert_eq!(refused, Swap::Changed(None));
    done(store.compare_and_swap(guarded(&new))).await;
    assert_eq!(store.get("/swap/nothing").await.expect("an answer"), None);
}

async fn a_listing_is_of_one_moment(store: &dyn Store) {
    assert_eq!(store.list("/list/").await.expect("an answer").entries, []);
    let b = done(store.compare_and_swap(Write::create("/list/b", vec![2]))).await;
    let a = done(store.compare_and_swap(Write::create("/list/a", vec![1]))).await;
    done(store.compare_and_swap(Write::create("/listless", vec![3]))).await;
    let listing = store.list("/list/").await.expect("an answer");
    let seen: Vec<(&str, Revision)> = listing
        .entries
        .iter()
        .map(|(key, entry)| (key.as_str(), entry.revision))
        .collect();
    assert_eq!(seen, [("/list/a", a), ("/list/b", b)]);
    assert!(listing.revision > a && !listing.cluster.is_empty(), "{listing:?}");
    assert_eq!(store.list("/").await.expect("an answer").cluster, listing.cluster);
}

async fn a_key_is_removed_only_as_it_was_seen(store: &dyn Store) {
    let first = done(store.compare_and_swap(Write::create("/remove", vec![1]))).await;
    let second = done(store.compare_and_swap(Write::replace("/remove", vec![2], first))).await;
    let late = store.remove("/remove", first).await;
    assert!(matches!(late, Ok(Swap::Changed(Some(_)))), "{late:?}");
    let removed = done(store.remove("/remove", second)).await;
    assert!(removed > second);
    assert_eq!(
        store.remove("/remove", second).await.expect("an answer"),
        Swap::Changed(None)
    );
    // It can be made anew, from nothing.
    done(store.compare_and_swap(Write::create("/remove", vec![3]))).await;
}

async fn a_watch_tells_every_change_after_a_revision(store: &dyn Store) {
    let mut from_nothing = store.watch("/watch", Revision::ABSENT).await.expect("a watch");
    let mut at = Revision::ABSENT;
    let mut revisions = Vec::new();
    for value in ["a", "b", "c"] {
        at = done(store.compare_and_swap(Write::replace("/watch", value.into(), at))).await;
        revisions.push(at);
    }
    let mut later = store.watch("/watch", revisions[0]).await.expect("a watch");
    for (watch, expected) in [(&mut from_nothing, "abc"), (&mut later, "bc")] {
        for value in expected.bytes() {
            let change = next(watch).await;
            assert_eq!(change.entry.expect("a value").value, [value]);
        }
    }
    let removed = done(store.remove("/watch", at)).await;
    let change = next(&mut later).await;
    assert_eq!((change.entry, change.revision), (None, removed));
}

async fn a_watch_of_a_prefix_goes_on_from_a_listing(store: &dyn Store) {
    done(store.compare_and_swap(Write::create("/prefix/before", vec![0]))).await;
    let listing = store.list("/prefix/").await.expect("an answer");
    let mut watch = store.watch_prefix("/prefix/", listing.revision).await.expect("a watch");
    let a = done(store.compare_and_swap(Write::create("/prefix/a", vec![1]))).await;
    done(store.compare_and_swap(Write::create("/prefixed", vec![9]))).await;
    let b = done(store.compare_and_swap(Write::create("/prefix/b", vec![2]))).await;
    let gone = done(store.remove("/prefix/a", a)).await;
    let told: Vec<(String, bool, Revision)> = {
        let mut told = Vec::new();
        for _ in 0..3 {
            let change = next(&mut watch).await;
            told.push((change.key, change.entry.is_some(), change.revision));
        }
        told
    };
    let expected = [
        ("/prefix/a", true, a),
        ("/prefix/b", true, b),
        ("/prefix/a", false, gone),
    ];
    assert_eq!(told, expected.map(|(key, there, at)| (key.to_owned(), there, at)));
}

async fn a_key_goes_away_with_its_presence_unless_it_is_kept(store: &dyn Store) {
    let presence = store.presence(Duration::from_secs(60)).await.expect("a presence");
    let write = Write {
        presence: Some(&presence),
        ..Write::create("/present", vec![1])
    };
    let at = done(store.compare_and_swap(write)).await;
    assert!(store.keep_alive(&presence).await.expect("an answer"));
    // Written without it, the key stays.
    done(store.compare_and_swap(Write::replace("/present", vec![2], at))).await;
    let unknown = ha_store::Presence("7fffffff".to_owned());
    assert!(!store.keep_alive(&unknown).await.expect("an answer"));
}

async fn a_term_is_swapped_on_what_was_seen(store: Arc<dyn Store>) {
    let cluster = Cluster::new(store, Keys::new("shop", "orders"));
    assert_eq!(cluster.term().await.expect("an answer"), None);
    let at = jiff::Timestamp::UNIX_EPOCH;
    let nodes = ["a", "b", "c"].map(str::to_owned).into();
    let first = Term::first("a", 1, nodes, SyncMode::Strict, Vec::new(), at);
    let seen = done(cluster.swap_term(&first, Revision::ABSENT, &[])).await;
    let (read, revision) = cluster.term().await.expect("an answer").expect("a term");
    assert_eq!((&read, revision), (&first, seen));

    // A pause that came between stops whoever compared it as absent.
    let pause = Pause {
        by: "somebody".to_owned(),
        why: "a disk is changed".to_owned(),
        since: at,
        until: None,
    };
    let paused = done(cluster.set_pause(Some(&pause), Revision::ABSENT)).await;
    let next = first.with_mode(SyncMode::Async, "a", at);
    let key = cluster.keys.pause();
    let unpaused = [(key.as_str(), Revision::ABSENT)];
    let swapped = cluster.swap_term(&next, seen, &unpaused).await.expect("an answer");
    assert!(matches!(swapped, Swap::Changed(Some(_))), "{swapped:?}");
    done(cluster.set_pause(None, paused)).await;
    assert_eq!(cluster.pause().await.expect("an answer"), None);
    done(cluster.swap_term(&next, seen, &unpaused)).await;

    let all = cluster.snapshot().await.expect("an answer");
    assert_eq!(all.term.map(|it| it.0), Some(next));
    assert!(all.members.is_empty() && all.histories.is_empty() && all.lease.is_none());

    // What is no term is told as such, with its key.
    let key = Keys::new("shop", "other").term();
    done(cluster.store.compare_and_swap(Write::create(&key, b"?".to_vec()))).await;
    let other = Cluster::new(cluster.store, Keys::new("shop", "other"));
    let error = other.term().await.expect_err("no term");
    assert!(
        matches!(error, StoreError::Malformed { .. }) && error.to_string().contains(&key),
        "{error}"
    );
}
