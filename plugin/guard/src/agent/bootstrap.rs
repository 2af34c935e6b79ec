//! How a node comes to a data folder: makes the cluster once, or copies whoever is primary now.
//!
//! Who makes it is agreed in the store: a key that can only be created once. It names the maker, then the cluster's
//! system identifier. Every step starts from what is there, so that any of them can be repeated.

use std::{future::Future, net::IpAddr, time::Duration};

use anyhow::Context as _;
use futures::future::join_all;
use ha_core::{
    agent::{GuardConfig, Peer},
    report::{DatabaseState, NodeRole},
};
use ha_data::{
    DataError,
    postgres::{self, DataDir, Session, Upstream},
};
use ha_store::{Entry, Etcd, Revision, Store, StoreError, Swap, Write};
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};

use super::state::{Phase, State};

/// Between two looks for a primary, and at whatever else tells nobody when it changes.
const RETRY: Duration = Duration::from_secs(1);
const PROBE: Duration = Duration::from_secs(2);

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

/// What to do next about the folder.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// It can be started as it is.
    Start,
    /// This node makes the cluster, if no other was faster.
    Claim,
    /// This node makes the cluster, as the store says; also again, after a crash in the middle.
    Make,
    /// The cluster exists elsewhere.
    Copy {
        system_identifier: String,
    },
    Wait(String),
    /// It belongs to another cluster.
    Refuse {
        found: String,
        expected: String,
    },
}

/// Pure. `init` is an error while the store does not answer.
fn decide(config: &GuardConfig, found: &DataDir, init: Result<Option<&Init>, String>) -> Step {
    match (found, init) {
        // A database that is there does not need the store to run.
        (DataDir::Present { .. }, Err(_) | Ok(None)) => Step::Start,
        (
            DataDir::Present {
                system_identifier: found,
                ..
            },
            Ok(Some(init)),
        ) => match &init.system_identifier {
            Some(expected) if expected != found => Step::Refuse {
                found: found.clone(),
                expected: expected.clone(),
            },
            None if init.node != config.node => Step::Wait(format!(
                "{} is making the cluster, yet this node has one already (system identifier {found})",
                init.node
            )),
            _ => Step::Start,
        },
        (DataDir::Absent, Err(error)) => Step::Wait(format!("there is no data here, and {error}")),
        (DataDir::Absent, Ok(None)) if config.declared_primary => Step::Claim,
        (DataDir::Absent, Ok(None)) => Step::Wait("the declared primary has not made the cluster yet".to_owned()),
        (DataDir::Absent, Ok(Some(init))) => match (&init.system_identifier, init.state) {
            (Some(system_identifier), InitState::Done) => Step::Copy {
                system_identifier: system_identifier.clone(),
            },
            _ if init.node == config.node => Step::Make,
            _ => Step::Wait(format!("{} is making the cluster", init.node)),
        },
    }
}

/// The data folder can be started. Waits for others as long as it takes, and says for what; errors are worth
/// another try. Dropping it ends what it had started.
pub(super) async fn prepare(state: &State, store: &Etcd) -> anyhow::Result<()> {
    let config = &state.config;
    let key = init_key(config);
    loop {
        let found = postgres::data_dir(&config.postgres).await?;
        let entry = match found {
            DataDir::Absent => store.get(&key).await.map_err(|error| error.to_string()),
            // Whether it is the right one is asked again while it runs; a store without quorum is not waited for.
            DataDir::Present { .. } => match timeout(PROBE, store.get(&key)).await {
                Ok(entry) => entry.map_err(|error| error.to_string()),
                Err(_) => Err("the store does not answer".to_owned()),
            },
        };
        let revision = match &entry {
            Ok(Some(entry)) => entry.revision,
            _ => Revision::ABSENT,
        };
        let init = match &entry {
            Ok(entry) => Ok(entry.as_ref().map(read_init).transpose()?),
            Err(error) => Err(error.clone()),
        };
        match decide(config, &found, init.as_ref().map(Option::as_ref).map_err(Clone::clone)) {
            Step::Start => return Ok(()),
            Step::Claim => claim(config, store, &key).await?,
            Step::Make => {
                state.set_phase(Phase::of(DatabaseState::Creating, "initdb makes a new cluster"));
                postgres::init(&config.postgres, &config.node).await?;
            }
            Step::Copy { system_identifier } => copy(state, &system_identifier).await?,
            Step::Wait(why) => {
                let has_data = found != DataDir::Absent;
                let now = if has_data {
                    DatabaseState::Stopped
                } else {
                    DatabaseState::Absent
                };
                state.set_phase(Phase::of(now, why));
                changed(store, &key, revision).await;
            }
            Step::Refuse { found, expected } => {
                let path = config.postgres.data_dir.clone();
                return Err(DataError::OtherCluster { path, found, expected }.into());
            }
        }
    }
}

async fn claim(config: &GuardConfig, store: &Etcd, key: &str) -> anyhow::Result<()> {
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

async fn copy(state: &State, system_identifier: &str) -> anyhow::Result<()> {
    let config = &state.config;
    let peer = match primary(config).await {
        Ok(peer) => peer,
        Err(why) => {
            state.set_phase(Phase::of(
                DatabaseState::Absent,
                format!("{why}; waiting for one to copy"),
            ));
            sleep(RETRY).await;
            return Ok(());
        }
    };
    state.set_phase(Phase::of(DatabaseState::Creating, format!("copying {}", peer.node)));
    let upstream = Upstream {
        address: peer.address.clone(),
        port: peer.port,
    };
    postgres::prepare_upstream(&config.postgres, &config.node, &upstream, system_identifier).await?;
    postgres::copy(&config.postgres, &config.node, &upstream)
        .await
        .with_context(|| format!("copying {}", peer.node))
}

/// The one peer whose guard says that it is primary; why there is none while none or more than one says so.
pub(super) async fn primary(config: &GuardConfig) -> Result<&Peer, String> {
    let client = http_client(config).map_err(|error| format!("cannot ask the other guards: {error:#}"))?;
    let answers = join_all(config.peers.iter().map(|peer| {
        let asked = client.get(format!("{}/primary", peer.guard)).send();
        async move {
            asked
                .await
                .is_ok_and(|answer| answer.status().is_success())
                .then_some(peer)
        }
    }));
    let mut primaries = answers.await.into_iter().flatten();
    match (primaries.next(), primaries.next()) {
        (Some(one), None) => Ok(one),
        (Some(one), Some(other)) => Err(format!(
            "{} and {} both say that they are primary",
            one.node, other.node
        )),
        _ => Err(format!("none of {} says that it is primary", names(&config.peers))),
    }
}

/// The store says that the cluster exists, under this identifier: a node without data would be given a copy of it.
pub(super) async fn is_settled(config: &GuardConfig, store: &Etcd, system_identifier: &str) -> anyhow::Result<bool> {
    let entry = store.get(&init_key(config)).await?;
    let init = entry.as_ref().map(read_init).transpose()?;
    Ok(init.is_some_and(|init| {
        init.state == InitState::Done && init.system_identifier.as_deref() == Some(system_identifier)
    }))
}

fn http_client(config: &GuardConfig) -> anyhow::Result<reqwest::Client> {
    let address: Option<IpAddr> = config.source_address.as_deref().map(str::parse).transpose()?;
    Ok(reqwest::Client::builder()
        .no_proxy()
        .local_address(address)
        .timeout(PROBE)
        .build()?)
}

/// Until the key has changed, or a while has passed: a watch on a dead line would wait for ever.
async fn changed(store: &Etcd, key: &str, revision: Revision) {
    let change = async {
        match store.watch(key, revision).await {
            Ok(mut watch) => watch.next().await.map(drop),
            Err(error) => Err(error),
        }
    };
    match timeout(5 * RETRY, change).await {
        Ok(Ok(())) | Err(_) => {}
        Ok(Err(_)) => sleep(RETRY).await,
    }
}

/// What the store should know of a database that runs: the maker says that its cluster is complete. Answers with
/// an error when this is not the workspace's cluster; everything else is tried again until it is settled.
pub(super) async fn settle(state: &State, store: &Etcd) -> DataError {
    loop {
        match try_settle(state, store).await {
            Ok(Some(error)) => return error,
            // Nothing left to do.
            Ok(None) => std::future::pending::<()>().await,
            Err(error) => {
                tracing::debug!(error = format!("{error:#}"), "the cluster is not complete yet");
                sleep(RETRY).await;
            }
        }
    }
}

async fn try_settle(state: &State, store: &Etcd) -> anyhow::Result<Option<DataError>> {
    let config = &state.config;
    let key = init_key(config);
    let report = state.view().report.database;
    // A primary has a role here only once it is complete.
    let (Some(role), Some(found)) = (report.role, report.system_identifier) else {
        anyhow::bail!("the database does not answer yet");
    };
    let entry = store.get(&key).await?;
    let init = entry.as_ref().map(read_init).transpose()?;
    if let Some(expected) = init.as_ref().and_then(|init| init.system_identifier.clone())
        && expected != found
    {
        let path = config.postgres.data_dir.clone();
        return Ok(Some(DataError::OtherCluster { path, found, expected }));
    }
    if role == NodeRole::Replica {
        return Ok(None);
    }
    match init {
        Some(Init {
            state: InitState::Done, ..
        }) => Ok(None),
        Some(init) if init.node != config.node => {
            anyhow::bail!(
                "{} says that it is making the cluster, and this node is primary of one",
                init.node
            )
        }
        // Claimed by this node; or the store lost what it knew, and learns it again.
        _ => {
            let expected = entry.map_or(Revision::ABSENT, |entry| entry.revision);
            let done = Init {
                node: config.node.clone(),
                state: InitState::Done,
                system_identifier: Some(found),
            };
            match store
                .compare_and_swap(Write::replace(&key, serde_json::to_vec(&done)?, expected))
                .await?
            {
                Swap::Done(_) => {
                    state
                        .events
                        .write("cluster.created", &config.cluster, "created", None, None);
                    Ok(None)
                }
                Swap::Changed(_) => anyhow::bail!("somebody else changed {key}"),
            }
        }
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

fn names(peers: &[Peer]) -> String {
    match peers {
        [] => "no other nodes".to_owned(),
        peers => peers
            .iter()
            .map(|peer| peer.node.as_str())
            .collect::<Vec<_>>()
            .join(", "),
    }
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

    fn present(id: &str) -> DataDir {
        DataDir::Present {
            system_identifier: id.into(),
            standby: false,
        }
    }

    #[test]
    fn only_the_declared_primary_makes_a_cluster_and_only_once() {
        let absent = DataDir::Absent;
        assert_eq!(decide(&config(true), &absent, Ok(None)), Step::Claim);
        assert!(matches!(decide(&config(false), &absent, Ok(None)), Step::Wait(_)));
        assert_eq!(
            decide(&config(true), &absent, Ok(Some(&claimed("us-db-1")))),
            Step::Make
        );
        assert!(matches!(
            decide(&config(true), &absent, Ok(Some(&claimed("eu-db-1")))),
            Step::Wait(_)
        ));
    }

    #[test]
    fn a_cluster_that_exists_is_copied_also_by_the_declared_primary() {
        let copy = Step::Copy {
            system_identifier: "7".into(),
        };
        assert_eq!(decide(&config(true), &DataDir::Absent, Ok(Some(&done("7")))), copy);
        assert_eq!(decide(&config(false), &DataDir::Absent, Ok(Some(&done("7")))), copy);
    }

    #[test]
    fn without_the_store_data_is_served_and_none_is_made() {
        let away = || Err("the store is away".to_owned());
        assert_eq!(decide(&config(true), &present("7"), away()), Step::Start);
        assert!(matches!(decide(&config(true), &DataDir::Absent, away()), Step::Wait(_)));
    }

    #[test]
    fn the_folder_of_another_cluster_is_refused() {
        let refused = decide(&config(false), &present("8"), Ok(Some(&done("7"))));
        assert_eq!(
            refused,
            Step::Refuse {
                found: "8".into(),
                expected: "7".into()
            }
        );
        assert_eq!(decide(&config(false), &present("7"), Ok(Some(&done("7")))), Step::Start);
        assert_eq!(
            decide(&config(true), &present("7"), Ok(Some(&claimed("us-db-1")))),
            Step::Start
        );
        assert!(matches!(
            decide(&config(true), &present("7"), Ok(Some(&claimed("eu-db-1")))),
            Step::Wait(_)
        ));
    }
}
