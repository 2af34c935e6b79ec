//! Whether a database node does its work, by its own word and, while that is too new to say, by its primary's.

use std::time::Duration;

use ha_core::{
    agent::stream_name,
    report::{DatabaseState, NodeReport, NodeRole},
    resource::ResourceId,
};
use tokio::time::Instant;

use crate::ProviderError;
use crate::local::{
    Local,
    kinds::{
        database::{CONFIG, DatabaseSpec, READY_WITHIN, UNIT},
        nodes,
    },
    process::{http, supervisor::tail, units::At},
    state::{hosts::Addresses, layout::port},
};

/// A replica that heard from its primary since then is streaming.
const STREAMING: Duration = Duration::from_secs(15);
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// A database without a primary for so long will have none by waiting: its guards would have made one.
const HEADLESS: Duration = Duration::from_secs(60);

/// One database node, and where it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node<'a> {
    pub(crate) id: &'a ResourceId,
    pub(crate) at: At<'a>,
    pub(crate) address: Addresses,
    pub(crate) spec: &'a DatabaseSpec,
}

impl Node<'_> {
    pub(crate) async fn report(&self) -> Result<NodeReport, String> {
        report(self.address).await
    }
}

/// Afterwards the node is a primary that can be written, or a replica that streams. `log` is how long the guard's log
/// was before.
///
/// # Errors
/// `NotReady` with what the guard says it waits for.
pub(crate) async fn wait(local: &Local, node: &Node<'_>, log: u64) -> Result<(), ProviderError> {
    let deadline = Instant::now() + READY_WITHIN;
    let path = local.layout.host(node.at.region, node.at.host).log(UNIT);
    let mut headless: Option<Instant> = None;
    loop {
        let detail = match node.report().await {
            Ok(report) => match lacks(local, node, &report).await {
                None => return Ok(()),
                Some(detail) => {
                    headless = match nobody_leads(local, node, &report).await {
                        true => Some(headless.unwrap_or_else(Instant::now)),
                        false => None,
                    };
                    detail
                }
            },
            Err(error) => format!("the guard does not answer ({error}); {}", tail(&path, log)),
        };
        if headless.is_some_and(|since| since.elapsed() >= HEADLESS) {
            return Err(ProviderError::Refused {
                what: format!(
                    "{}: no node of the database is primary, and there are replicas: {detail}",
                    node.id
                ),
                help:
                    "waiting changes nothing: ha quorum says why its guards make none, and ha failover does; then run \
                       the same command again"
                        .into(),
            });
        }
        if Instant::now() >= deadline {
            return Err(ProviderError::NotReady {
                id: node.id.clone(),
                detail,
            });
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// Why the node cannot be used; none when it can.
pub(crate) async fn lacks(local: &Local, node: &Node<'_>, report: &NodeReport) -> Option<String> {
    let lack = own_word(report)?;
    // A replica that has just begun to stream hears nothing from an idle primary for seconds.
    let fresh = report.database.role == Some(NodeRole::Replica) && report.database.upstream_silence.is_none();
    if fresh && primary_sends(local, node).await {
        None
    } else {
        Some(lack)
    }
}

fn own_word(report: &NodeReport) -> Option<String> {
    let database = &report.database;
    let why = |state: &str| {
        Some(
            database
                .detail
                .clone()
                .unwrap_or_else(|| format!("the database {state}")),
        )
    };
    match (database.state, database.role) {
        (DatabaseState::Running, Some(NodeRole::Primary)) => None,
        (DatabaseState::Running, Some(NodeRole::Replica)) => match database.upstream_silence {
            Some(silence) if silence < STREAMING => None,
            Some(silence) => Some(format!(
                "the replica heard nothing from its primary for {} s",
                silence.as_secs()
            )),
            None => why("runs as a replica and does not stream"),
        },
        (DatabaseState::Running, None) => why("does not answer"),
        (DatabaseState::Absent, _) => why("was not made yet"),
        (DatabaseState::Creating, _) => why("is being made"),
        (DatabaseState::Starting, _) => why("is starting"),
        (DatabaseState::Stopped, _) => why("is stopped"),
        (DatabaseState::Failed, _) => why("should run and does not"),
    }
}

/// Every node of the database says for itself that it is not primary, none is about to become one, and at least one
/// has the data. As long as one does not answer it may be the primary.
async fn nobody_leads(local: &Local, node: &Node<'_>, own: &NodeReport) -> bool {
    let (Ok(Some(file)), Ok(peers)) = (local.record.read(), nodes::read(&node.spec.peers)) else {
        return false;
    };
    let asked = peers.iter().map(async |peer| {
        // Nobody there: a node that was removed, or was not made yet.
        if !local.layout.host(&peer.region, &peer.server).etc(CONFIG).exists() {
            return Ok(None);
        }
        match file.address(&peer.region, &peer.server) {
            Some(address) => report(address).await.map(Some),
            None => Ok(None),
        }
    });
    let answers: Result<Vec<Option<NodeReport>>, String> = futures::future::join_all(asked).await.into_iter().collect();
    let Ok(answers) = answers else { return false };
    let mut all = answers.iter().flatten().chain([own]).map(|report| &report.database);
    let replica = |state, role| state == DatabaseState::Running && role == Some(NodeRole::Replica);
    all.clone().any(|it| replica(it.state, it.role))
        && all.all(|it| replica(it.state, it.role) || it.state == DatabaseState::Absent)
}

/// The primary says that it streams to this node, and that the node answered.
async fn primary_sends(local: &Local, node: &Node<'_>) -> bool {
    let places: Vec<String> = node
        .spec
        .peers
        .iter()
        .cloned()
        .chain([format!("{}/{}", node.at.region, node.at.host)])
        .collect();
    let (Ok(Some(file)), Ok(mut nodes)) = (local.record.read(), nodes::read(&places)) else {
        return false;
    };
    let Some(own) = nodes.pop().map(|own| stream_name(&own.name)) else {
        return false;
    };
    let peers = nodes.iter().filter_map(|peer| file.address(&peer.region, &peer.server));
    let reports = futures::future::join_all(peers.map(report)).await;
    reports.into_iter().flatten().any(|report| {
        let ours = |node: &str| stream_name(node) == own || node == own;
        let mut senders = report.database.senders.iter();
        report.database.role == Some(NodeRole::Primary)
            && senders.any(|it| ours(&it.node) && it.state == "streaming" && it.replayed.is_some())
    })
}

/// We are the operator, and ask every guard directly.
async fn report(address: Addresses) -> Result<NodeReport, String> {
    http::get(&format!("http://{}:{}/report", address.direct, port::GUARD)).await
}
