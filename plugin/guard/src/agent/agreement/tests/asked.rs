use ha_core::agreement::Ask;
use ha_store::{Revision, Write};
use tokio_util::sync::CancellationToken;

use super::{
    super::{Answer, asked},
    *,
};

fn ask(op: &str) -> Ask {
    Ask {
        op: op.into(),
        by: "ann".into(),
        at: Timestamp::now(),
        copy: true,
        refused: None,
    }
}

async fn put(world: &World, ask: &Ask) {
    let key = world.a.cluster().keys.ask("a");
    let store = &world.a.cluster().store;
    let seen = store.get(&key).await.expect("an answer");
    let seen = seen.map_or(Revision::ABSENT, |it| it.revision);
    let value = serde_json::to_vec(ask).expect("text");
    let put = store.compare_and_swap(Write::replace(&key, value, seen)).await;
    put.expect("an answer");
    world.a.list().await.expect("an answer");
}

/// What lies in the store once the guard has had the time to answer.
async fn after(world: World) -> Option<Ask> {
    let (key, store) = (world.a.cluster().keys.ask("a"), world.a.cluster().store.clone());
    let cancel = CancellationToken::new();
    let a = std::sync::Arc::new(world.a);
    let task = tokio::spawn(asked::keep(a, cancel.clone()));
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    cancel.cancel();
    task.await.expect("ended");
    let found = store.get(&key).await.expect("an answer");
    found.map(|it| serde_json::from_slice(&it.value).expect("an ask"))
}

#[tokio::test]
async fn what_is_asked_is_a_need_until_it_is_done() {
    let world = World::active().await;
    assert_eq!(world.a.asked(), None);
    put(&world, &ask("first")).await;
    let need = world.a.asked().and_then(|it| it.need()).expect("asked");
    assert!(need.copy && need.why == "asked for by ann", "{need:?}");
    world.a.answer(&ask("first"), Answer::Done);
    assert_eq!(world.a.asked(), None, "before the store knows it, too");
    assert_eq!(after(world).await, None);
}

#[tokio::test]
async fn a_refusal_lies_there_until_it_was_read_and_asks_for_nothing() {
    let world = World::active().await;
    put(&world, &ask("first")).await;
    world
        .a
        .answer(&ask("first"), Answer::Refused("three times is enough".into()));
    let told = after(world).await.expect("it is read by whoever asked");
    assert_eq!(told.refused.as_deref(), Some("three times is enough"));
    let world = World::active().await;
    put(&world, &told).await;
    assert_eq!((world.a.asked(), told.need()), (None, None));
}

#[tokio::test]
async fn an_answer_is_to_one_wish_only() {
    let world = World::active().await;
    put(&world, &ask("first")).await;
    world.a.answer(&ask("first"), Answer::Done);
    put(&world, &ask("second")).await;
    assert_eq!(world.a.asked().map(|it| it.op).as_deref(), Some("second"));
    assert_eq!(after(world).await.map(|it| it.op).as_deref(), Some("second"));
}
