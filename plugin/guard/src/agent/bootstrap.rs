//! How a cluster begins: the declared primary makes it, once, and the store remembers which one it is.
//!
//! Who makes it is agreed in the store: a key that can only be created once. It names the maker, then the cluster's
//! system identifier. Every step starts from what is there, so that any of them can be repeated. Everybody else copies
//! whoever leads; that is decided like everything else.

use std::{future::Future, time::Duration};

use anyhow::Context as _;
use ha_core::{
    agent::GuardConfig,
    report::{DatabaseState, NodeRole},
};
use ha_data::{
    DataError,
    postgres::{self, DataDir, Session},
};
use ha_store::{Entry, Revision, Store, StoreError, Swap, Write};
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Guard,
    state::{Phase, Rest, State},
};

/// Between two tries, and at whatever tells nobody when it changes.
const RETRY: Duration = Duration::from_secs(1);

/// `/ha/<workspace>/<cluster>/init`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Init {
    node: String,
    state: InitState,
    system_identifier: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum InitState {
    /// `node` makes the cluster; whatever it has is worth nothing yet.
    Claimed,
    /// It exists, users and all.
    Done,
}

pub(super) fn init_key(config: &GuardConfig) -> String {
    format!("/ha/{}/{}/init", config.workspace, config.cluster)
}

/// What to do about the cluster as a whole.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// This node makes the cluster, if no other was faster.
    Claim,
    /// This node makes the cluster, as the store says; also again, after a crash in the middle.
    Make,
    /// The database that runs here is the cluster, and the store does not know that yet.
    Settle,
    /// What lies here is what this node made; its guard ended before the store knew.
    Resume,
    /// Nothing yet.
    Wait(String),
    /// It is known which cluster this is, and nothing is left to do.
    Known(String),
}

/// Pure. `running` is the identifier of a complete primary that runs here.
fn decide(config: &GuardConfig, absent: bool, running: Option<&str>, init: Option<&Init>) -> Step {
    match init {
        Some(Init {
            state: InitState::Done,
            system_identifier: Some(id),
            ..
        }) => Step::Known(id.clone()),
        Some(init) if init.node != config.node => Step::Wait(format!("{} is making the cluster", init.node)),
        // Claimed by this node.
        Some(_) if absent => Step::Make,
        None if absent && config.declared_primary => Step::Claim,
        None if absent => Step::Wait("the declared primary has not made the cluster yet".to_owned()),
        // A primary that runs: the one that was just made, or the store lost what it knew.
        claimed => match running {
            Some(_) => Step::Settle,
            None if claimed.is_some() => Step::Resume,
            None => Step::Wait("the database does not answer yet".to_owned()),
        },
    }
}

/// Until it is known which cluster this node is part of, and its database is that one; then until cancelled.
pub(super) async fn run(guard: &Guard, store: &dyn Store, cancel: CancellationToken) {
    let work = async {
        loop {
            match step(guard, store).await {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) => tracing::debug!(error = format!("{error:#}"), "the cluster is not complete yet"),
            }
            let mut phase = guard.state.phase();
            // A look that ends, a process that starts or ends; or a while, for the store tells nobody here.
            let _ = timeout(RETRY, phase.changed()).await;
        }
        guard_identity(guard).await;
    };
    tokio::select! {
        () = cancel.cancelled() => {}
        () = work => {}
    }
}

/// Whether all is known.
async fn step(guard: &Guard, store: &dyn Store) -> anyhow::Result<bool> {
    let (state, config) = (&guard.state, &guard.state.config);
    let rest = state.rest();
    let up = state.phase().borrow().is_up();
    if rest == Rest::Unknown && !up {
        return Ok(false);
    }
    let key = init_key(config);
    let entry = store.get(&key).await?;
    let init = entry.as_ref().map(read_init).transpose()?;
    let database = state.view().report.database;
    let primary = database.role == Some(NodeRole::Primary);
    let running = database.system_identifier.filter(|_| primary);
    match decide(config, !up && rest == Rest::Absent, running.as_deref(), init.as_ref()) {
        Step::Known(id) => {
            state.expect(id.clone());
            guard.keeper.look().await?;
            guard
                .agreement
                .belongs_to(&id)
                .await
                .context("this guard's promise is of another cluster")?;
            return Ok(true);
        }
        Step::Claim => claim(config, store, &key).await?,
        Step::Make => {
            state.set_phase(Phase::of(DatabaseState::Creating, "initdb makes a new cluster"));
            postgres::init(&config.postgres, &config.node).await?;
            guard.keeper.look().await?;
        }
        Step::Resume => {
            // The first term may be agreed on already, and then nobody starts a folder of which that is not known.
            if !up && let DataDir::Present { system_identifier, .. } = postgres::data_dir(&config.postgres).await? {
                state.expect(system_identifier);
            }
        }
        Step::Settle => settle(state, store, &key, entry, running.unwrap_or_default()).await?,
        Step::Wait(why) => {
            if !up && rest == Rest::Absent {
                state.set_phase(Phase::of(DatabaseState::Absent, why));
            }
        }
    }
    Ok(false)
}

async fn claim(config: &GuardConfig, store: &dyn Store, key: &str) -> anyhow::Result<()> {
    let claim = Init {
        node: config.node.clone(),
        state: InitState::Claimed,
        system_identifier: None,
    };
    match store
        .compare_and_swap(Write::create(key, serde_json::to_vec(&claim)?))
        .await
    {
        // Whoever has it now is read anew, also after an answer that was lost.
        Ok(Swap::Done(_) | Swap::Changed(_)) | Err(StoreError::OutcomeUnknown { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn settle(
    state: &State,
    store: &dyn Store,
    key: &str,
    entry: Option<Entry>,
    system_identifier: String,
) -> anyhow::Result<()> {
    let done = Init {
        node: state.config.node.clone(),
        state: InitState::Done,
        system_identifier: Some(system_identifier),
    };
    let expected = entry.map_or(Revision::ABSENT, |entry| entry.revision);
    match store
        .compare_and_swap(Write::replace(key, serde_json::to_vec(&done)?, expected))
        .await?
    {
        Swap::Done(_) => {
            state
                .events
                .write("cluster.created", &state.config.cluster, "created", None, None);
            Ok(())
        }
        Swap::Changed(_) => anyhow::bail!("somebody else changed {key}"),
    }
}

/// Stops a database that turns out to be of another cluster, for ever: a process that somebody else started in our
/// folder, or a folder that was exchanged.
async fn guard_identity(guard: &Guard) {
    let state = &guard.state;
    let mut phase = state.phase();
    loop {
        let found = state.view().report.database.system_identifier;
        let up = phase.borrow_and_update().is_up();
        if let (true, Some(found), Some(expected)) = (up, found, state.expected())
            && found != expected
        {
            let path = state.config.postgres.data_dir.clone();
            let why = DataError::OtherCluster { path, found, expected }.to_string();
            state
                .events
                .write("database.stranger", &state.config.node, "failed", None, Some(why));
            if let Err(error) = guard.keeper.stop(super::STOP_PATIENCE).await {
                tracing::error!(%error, "the database of another cluster cannot be stopped");
                sleep(RETRY).await;
            }
        }
        let _ = timeout(5 * RETRY, phase.changed()).await;
    }
}

/// The users and the application's database exist; of a primary, before anybody is told that it runs. Through the
/// session that looks: a guard that was killed must be back before its silence counts as the database's.
pub(super) async fn complete(config: &GuardConfig, session: &Session) -> anyhow::Result<()> {
    bounded("making the users", postgres::ensure_roles(session, &config.postgres)).await
}

async fn bounded<T>(what: &str, work: impl Future<Output = Result<T, DataError>>) -> anyhow::Result<T> {
    const LONG: Duration = Duration::from_secs(30);
    timeout(LONG, work)
        .await
        .with_context(|| format!("{what} takes too long"))?
        .with_context(|| what.to_owned())
}

fn read_init(entry: &Entry) -> anyhow::Result<Init> {
    serde_json::from_slice(&entry.value).context("the store's record of the cluster cannot be read")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::agent) fn config(declared_primary: bool) -> GuardConfig {
        let tls = serde_json::json!({"ca": "/ca", "cert": "/cert", "key": "/key"});
        let config = serde_json::json!({
            "workspace": "shop", "cluster": "orders", "region": "us-east", "node": "us-db-1",
            "declared_primary": declared_primary, "listen": "127.0.0.1:1", "source_address": null,
            "postgres": {
                "bin_dir": "/bin", "data_dir": "/data", "log_file": "/log", "address": "127.0.0.1",
                "public_address": "127.0.0.1", "port": 1, "socket_dir": "/run", "settings": {}, "allow": [], "tls": tls,
                "admin_password_file": "/a", "replication_password_file": "/r", "app_password_file": "/p",
                "app_user": "app", "app_database": "app",
            },
            "store": {"endpoints": [], "tls": tls}, "peers": [], "sample_interval_ms": 1000, "events": "/events",
            "failover": {
                "sync_mode": "strict", "timing": ha_core::model::TimingProfile::Near.timing(),
                "policy": ha_core::model::FailoverPolicy::default(), "nodes": [], "balancers": [],
                "promise": "/promise.json", "runtime_dir": "/run",
            },
        });
        serde_json::from_value(config).expect("a complete configuration")
    }

    fn claimed(node: &str) -> Init {
        Init {
            node: node.into(),
            state: InitState::Claimed,
            system_identifier: None,
        }
    }

    fn done(id: &str) -> Init {
        Init {
            node: "us-db-1".into(),
            state: InitState::Done,
            system_identifier: Some(id.into()),
        }
    }

    #[test]
    fn only_the_declared_primary_makes_a_cluster_and_only_once() {
        assert_eq!(decide(&config(true), true, None, None), Step::Claim);
        assert!(matches!(decide(&config(false), true, None, None), Step::Wait(_)));
        assert_eq!(decide(&config(true), true, None, Some(&claimed("us-db-1"))), Step::Make);
        let other = claimed("eu-db-1");
        assert!(matches!(decide(&config(true), true, None, Some(&other)), Step::Wait(_)));
        let known = Step::Known("7".into());
        assert_eq!(decide(&config(true), true, None, Some(&done("7"))), known);
        assert_eq!(decide(&config(false), false, Some("8"), Some(&done("7"))), known);
    }

    #[test]
    fn a_cluster_is_known_once_its_primary_is_complete() {
        let claimed = claimed("us-db-1");
        assert_eq!(
            decide(&config(true), false, None, Some(&claimed)),
            Step::Resume,
            "its guard was killed in between"
        );
        assert!(matches!(decide(&config(true), false, None, None), Step::Wait(_)));
        assert_eq!(decide(&config(true), false, Some("7"), Some(&claimed)), Step::Settle);
        assert_eq!(
            decide(&config(true), false, Some("7"), None),
            Step::Settle,
            "the store lost it"
        );
    }
}
