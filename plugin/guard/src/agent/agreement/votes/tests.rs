//! A round against real sockets: what is refused, what hangs, and what a guard says.

use std::time::Duration;

use ha_core::agreement::Verdict;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::watch,
};
use tokio_util::sync::CancellationToken;

use super::{super::tests::config, *};

/// A guard that answers every request with this report, and tells where it was asked from.
async fn guard(state: &'static str, age: u64) -> (String, watch::Receiver<Option<std::net::IpAddr>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("its address"));
    let (caller, callers) = watch::channel(None);
    tokio::spawn(async move {
        while let Ok((mut stream, from)) = listener.accept().await {
            caller.send_replace(Some(from.ip()));
            tokio::spawn(async move {
                let mut request = [0; 1024];
                while stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                    let body = report(state, age);
                    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (url, callers)
}

fn report(state: &str, age: u64) -> String {
    serde_json::json!({
        "workspace": "shop", "region": "b", "node": "b", "sampled_at": "2026-01-01T00:00:00Z",
        "age": {"secs": age, "nanos": 0},
        "database": {
            "state": state, "detail": null, "role": null, "system_identifier": null, "timeline": null,
            "written": null, "received": null, "replayed": null, "upstream_silence": null, "upstream": null,
            "replay_paused": false, "senders": [], "slots": [], "started_at": null, "connections": null,
        },
        "samples": [], "store": {"healthy": true, "detail": null}, "guard_version": "1",
    })
    .to_string()
}

/// The word on `b`, whose SQL port is closed, once there is one; and why.
async fn word(guard: &str, data: bool, stream: Option<Stream>) -> (Verdict, Option<String>) {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("admin"), "secret").expect("written");
    let mut config = config(folder.path());
    config.source_address = Some("127.0.0.9".to_owned());
    config.failover.timing.probe_interval = Duration::from_millis(30);
    config.failover.timing.probe_timeout = Duration::from_millis(300);
    config.failover.nodes[1].data = data;
    config.peers = vec![Peer {
        region: "b".to_owned(),
        node: "b".to_owned(),
        address: "127.0.0.1".to_owned(),
        port: 1,
        guard: guard.to_owned(),
    }];
    let cancel = CancellationToken::new();
    let (_stream, stream) = watch::channel(stream);
    let (_own, own) = watch::channel(Verdict::Up);
    let votes = Votes::start(&config, stream, own, cancel.clone()).expect("good settings");
    let mut changed = votes.changed();
    while votes.current()["b"] == Verdict::Unknown {
        let waited = tokio::time::timeout(Duration::from_secs(30), changed.changed()).await;
        waited.expect("in time").expect("it looks");
    }
    cancel.cancel();
    (votes.current()["b"], votes.troubles().remove("b"))
}

#[tokio::test]
async fn a_node_of_which_nothing_is_heard_is_down() {
    let (verdict, why) = word("http://127.0.0.1:1", true, None).await;
    assert_eq!(verdict, Verdict::Down);
    let why = why.expect("a reason");
    assert!(why.contains("its guard does not answer"), "{why}");
}

#[tokio::test]
async fn a_guard_that_speaks_for_its_database_makes_it_suspect_only() {
    let (url, mut callers) = guard("running", 0).await;
    assert_eq!(word(&url, true, None).await.0, Verdict::Suspect);
    let from = *callers.borrow_and_update();
    assert_eq!(from, "127.0.0.9".parse().ok(), "relays must know who asks");
}

#[tokio::test]
async fn a_guard_whose_database_hangs_or_stopped_does_not_help_it() {
    let (hangs, _) = guard("running", 60).await;
    let (verdict, why) = word(&hangs, true, None).await;
    assert_eq!(verdict, Verdict::Down, "{why:?}");
    assert!(why.expect("a reason").contains("last heard from it"));
    let (stopped, _) = guard("stopped", 0).await;
    assert_eq!(word(&stopped, true, None).await.0, Verdict::Down);
    // A witness has no database.
    assert_eq!(word(&stopped, false, None).await.0, Verdict::Up);
}

#[tokio::test]
async fn a_replica_that_still_receives_makes_it_suspect_only() {
    let stream = |node: &str, progressing| {
        Some(Stream {
            node: node.to_owned(),
            epoch: 1,
            silence: Some(Duration::from_secs(60)),
            progressing,
        })
    };
    let nobody = "http://127.0.0.1:1";
    assert_eq!(word(nobody, true, stream("b", true)).await.0, Verdict::Suspect);
    assert_eq!(word(nobody, true, stream("b", false)).await.0, Verdict::Down);
    assert_eq!(word(nobody, true, stream("c", true)).await.0, Verdict::Down);
}
