//! The agreement over a store in memory whose answers get lost, and over a real one.

mod asked;
mod etcd;
mod swaps;
mod view;

use std::{path::Path, time::Duration};

use ha_core::{
    agent::GuardConfig,
    agreement::{Campaign, History, Reason, Term},
    lsn::{Lsn, Position},
    model::SyncMode,
};
use ha_store::Memory;
use jiff::Timestamp;

use super::{
    Agreement, Swapped,
    clocks::{Clocks, Hands},
};

const SECOND: Duration = Duration::from_secs(1);

/// As a provider writes it, of the node `a` of three.
pub(super) fn config(folder: &Path) -> GuardConfig {
    let tls = serde_json::json!({"ca": "ca.pem", "cert": "cert.pem", "key": "key.pem"});
    let nodes: Vec<_> = ["a", "b", "c"]
        .map(|node| serde_json::json!({"node": node, "region": node, "data": true, "priority": 1, "forbidden": null}))
        .into();
    let timing = ha_core::model::TimingProfile::Near.timing();
    serde_json::from_value(serde_json::json!({
        "workspace": "shop", "cluster": "orders", "region": "a", "node": "a", "declared_primary": true,
        "listen": "127.0.0.1:1", "source_address": "127.0.0.1",
        "postgres": {
            "bin_dir": "/", "data_dir": folder.join("data"), "log_file": folder.join("log"), "address": "127.0.0.1",
            "public_address": "127.0.0.1", "port": 1, "socket_dir": folder, "settings": {}, "allow": [], "tls": tls,
            "admin_password_file": folder.join("admin"), "replication_password_file": folder.join("replication"),
            "app_password_file": folder.join("app"), "app_user": "app", "app_database": "app",
        },
        "store": {"endpoints": ["https://127.0.0.1:1"], "tls": tls},
        "peers": [], "sample_interval_ms": 100, "events": folder.join("events"),
        "failover": {
            "sync_mode": "strict", "timing": timing, "policy": ha_core::model::FailoverPolicy::default(),
            "nodes": nodes, "balancers": [], "promise": folder.join("promise.json"),
            "runtime_dir": folder.join("run"), "watchdog": folder.join("watchdog"),
        },
    }))
    .expect("a guard.json")
}

/// A guard without its tasks: nothing happens between two steps of a test. The clocks stand.
struct World {
    folder: tempfile::TempDir,
    store: Memory,
    hands: Hands,
    a: Agreement,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (store, hands) = (Memory::new(), Hands::new());
        let a = guard(folder.path(), &store, hands.clocks());
        a.list().await.expect("an answer");
        Self {
            folder,
            store,
            hands,
            a,
        }
    }

    /// In epoch 1, led by `a`.
    async fn active() -> Self {
        let world = Self::new().await;
        let (first, history) = first();
        let found = world.a.found(&world.a.look().basis, first, history).await;
        assert_eq!(found, Swapped::Done);
        world
    }

    /// The same node after its guard was started anew.
    async fn restarted(&self) -> Agreement {
        let again = guard(self.folder.path(), &self.store, self.hands.clocks());
        again.list().await.expect("an answer");
        again
    }

    async fn renew(&self) -> Swapped {
        self.a.renew(&self.a.look().basis, None).await
    }
}

fn guard(folder: &Path, store: &Memory, clocks: Clocks) -> Agreement {
    Agreement::new(&config(folder), std::sync::Arc::new(store.clone()), clocks).expect("its promises")
}

fn first() -> (Term, History) {
    let at = Timestamp::now();
    let nodes = ["a", "b", "c"].map(str::to_owned).into();
    let term = Term::first("a", 1, nodes, SyncMode::Strict, Vec::new(), at);
    (term, history(1, "a"))
}

fn history(epoch: u64, node: &str) -> History {
    History {
        epoch,
        node: node.to_owned(),
        timeline: u32::try_from(epoch).expect("small"),
        start: Lsn(100),
        parent: (epoch > 1).then_some(1),
        reason: Reason::First,
        detail: String::new(),
        by: node.to_owned(),
        sealed: [].into(),
        lost_bytes: Some(0),
        accept_loss: false,
        op: None,
        at: Timestamp::now(),
        steps: Vec::new(),
    }
}

fn campaign() -> Campaign {
    Campaign {
        by: "a".to_owned(),
        reason: Reason::PrimaryDown,
        detail: "2 of 3 observers say so".to_owned(),
        automatic: true,
        started_at: Timestamp::now(),
        accept_loss: None,
        wanted: None,
        sealed: [].into(),
        chosen: None,
        op: None,
    }
}

fn at(timeline: u32, lsn: u64) -> Position {
    Position {
        timeline,
        lsn: Lsn(lsn),
    }
}
