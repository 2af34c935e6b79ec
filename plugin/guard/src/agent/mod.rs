//! The face `guard`: stands beside the database of one node, agrees with the others on who is primary, and sees to it
//! that this node is what was agreed.
//!
//! | task | what it owns |
//! |---|---|
//! | [`keep`] | the process: nobody else starts, stops or ends it |
//! | [`observe`], [`tend`], [`upstream`] | what is seen of the database |
//! | [`agreement`] | what is seen of the others, and the promises to them |
//! | [`cycle`] | puts both together, lets `ha_core` decide, and has it done: [`acts`] in the store, [`jobs`] here |
//! | [`routing`], [`http`] | what balancers and people are told |
//! | [`bootstrap`] | the beginning of a cluster |
//!
//! They share [`State`] and the agreement, and wake each other by events; none waits for another.

mod acts;
pub(crate) mod agreement;
mod bootstrap;
mod cycle;
mod events;
mod facts;
mod fail;
mod http;
mod jobs;
mod keep;
mod lag;
mod memory;
mod metrics;
mod news;
mod observe;
mod permit;
mod routing;
mod state;
mod tend;
mod upstream;

use std::{net::IpAddr, path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use ha_core::{agent::GuardConfig, agreement::Verdict, report::StoreReport};
use ha_data::postgres::Session;
use ha_store::{Etcd, Options, Store};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tokio_util::sync::CancellationToken;

use agreement::{
    Agreement,
    deadline::Deadline,
    placement,
    votes::{Stream, Votes},
};
use keep::Keeper;
use state::State;

/// What the tasks share.
struct Guard {
    state: Arc<State>,
    agreement: Arc<Agreement>,
    votes: Arc<Votes>,
    /// What the votes are told of this node's own database.
    own: watch::Sender<Verdict>,
    stream: watch::Sender<Option<Stream>>,
    keeper: Keeper,
    deadline: Deadline,
    /// Towards the other guards.
    http: reqwest::Client,
    /// The jobs' own, with the process that it leads to.
    session: tokio::sync::Mutex<Option<(Option<i32>, Arc<Session>)>>,
}

impl Guard {
    fn store_report(&self) -> StoreReport {
        let view = self.agreement.view();
        StoreReport {
            healthy: view.answers && view.went_back.is_none(),
            detail: match (view.went_back, view.answers) {
                (Some(why), _) => Some(why),
                (None, true) => None,
                (None, false) => Some(format!(
                    "the store has not answered for {} ms; it may have lost its quorum",
                    view.silence.as_millis()
                )),
            },
        }
    }
}

/// Runs until SIGTERM or SIGINT; the database is stopped then. Killed in any other way it leaves the database
/// running, and the next guard takes it over.
pub(crate) async fn run(path: &Path) -> anyhow::Result<()> {
    let config = read_config(path)?;
    // Also the lock: a second guard of this node ends here, before it touches anything.
    let listener = TcpListener::bind(&config.listen).await.with_context(|| {
        format!(
            "cannot listen at {}; another guard of this node may be running",
            config.listen
        )
    })?;
    let options = Options::new(
        config.store.endpoints.clone(),
        &config.store.tls.ca,
        &config.store.tls.cert,
        &config.store.tls.key,
    )
    .timeout(config.failover.timing.call_timeout);
    let etcd = Etcd::new(&options).await?;
    let cancel = CancellationToken::new();
    let (guard, orders) = assemble(config, &etcd, &cancel)?;
    let config = &guard.state.config;
    fail::listen(&config.failover.runtime_dir);
    tracing::info!(node = config.node, listen = config.listen, "guard started");

    // The cycle ends before the database does: nobody starts it again while it is being stopped.
    let deciding = cancel.child_token();
    let keeping = CancellationToken::new();
    let http = tokio::spawn(http::serve(listener, Arc::clone(&guard)));
    let observe = tokio::spawn(observe::run(Arc::clone(&guard.state), cancel.clone()));
    let tend = tokio::spawn(tend::run(Arc::clone(&guard), cancel.clone()));
    let upstream = tokio::spawn(upstream::run(Arc::clone(&guard), cancel.clone()));
    let routing = tokio::spawn(routing::run(Arc::clone(&guard), cancel.clone()));
    let placing = tokio::spawn(place(Arc::clone(&guard), etcd.clone(), cancel.clone()));
    let begin = tokio::spawn(begin(Arc::clone(&guard), etcd, deciding.clone()));
    let cycle = tokio::spawn(cycle::run(Arc::clone(&guard), deciding.clone()));
    let mut keep = tokio::spawn(keep::run(Arc::clone(&guard.state), orders, keeping.clone()));

    let mut term = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut int = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let ended = tokio::select! {
        _ = term.recv() => None,
        _ = int.recv() => None,
        ended = &mut keep => Some(ended),
    };
    deciding.cancel();
    let _ = tokio::join!(cycle, begin);
    keeping.cancel();
    // It stops the database; how long that may take is its own business.
    let ended = match ended {
        Some(ended) => ended,
        None => keep.await,
    };
    cancel.cancel();
    let _ = tokio::join!(observe, tend, upstream, routing, placing);
    http.abort();
    ended
        .context("the task that keeps the database ended unexpectedly")?
        .context("stopping the database")?;
    if let Err(error) = guard.deadline.disarm() {
        tracing::warn!(%error, "the deadman is not told that nothing runs");
    }
    guard.agreement.stand_down();
    tracing::info!("guard ended");
    Ok(())
}

fn assemble(
    config: GuardConfig,
    etcd: &Etcd,
    cancel: &CancellationToken,
) -> anyhow::Result<(Arc<Guard>, keep::Orders)> {
    let store: Arc<dyn Store> = Arc::new(etcd.clone());
    let agreement = Agreement::start(&config, store, cancel.clone())?;
    let (own, own_seen) = watch::channel(Verdict::Unknown);
    let (stream, stream_seen) = watch::channel(None);
    let votes = Votes::start(&config, stream_seen, own_seen, cancel.clone())?;
    let deadline = Deadline::open(&config.failover.runtime_dir).with_context(|| {
        let path = config.failover.runtime_dir.display();
        format!("{path}: the deadman's deadline cannot be kept there")
    })?;
    let http = http_client(&config)?;
    let state = Arc::new(State::new(config));
    let (keeper, orders) = Keeper::new(Arc::clone(&state));
    let guard = Guard {
        state,
        agreement,
        votes,
        own,
        stream,
        keeper,
        deadline,
        http,
        session: tokio::sync::Mutex::default(),
    };
    Ok((Arc::new(guard), orders))
}

async fn begin(guard: Arc<Guard>, etcd: Etcd, cancel: CancellationToken) {
    bootstrap::run(&guard, &etcd, cancel).await;
}

/// The store's leader stays out of the primary's region: losing that region does not cost an election, too.
async fn place(guard: Arc<Guard>, etcd: Etcd, cancel: CancellationToken) {
    let told = |moved: Result<String, String>| {
        let (status, detail, error) = match moved {
            Ok(what) => ("moved", Some(what), None),
            Err(why) => ("failed", None, Some(why)),
        };
        guard.state.events.write("store.leader", "store", status, detail, error);
    };
    placement::run(etcd, Arc::clone(&guard.agreement), told, cancel).await;
}

fn http_client(config: &GuardConfig) -> anyhow::Result<reqwest::Client> {
    let address: Option<IpAddr> = config.source_address.as_deref().map(str::parse).transpose()?;
    Ok(reqwest::Client::builder()
        .no_proxy()
        .local_address(address)
        .timeout(Duration::from_secs(2))
        .build()?)
}

fn read_config(path: &Path) -> anyhow::Result<GuardConfig> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let config: GuardConfig =
        serde_json::from_str(&text).with_context(|| format!("{} is no guard.json", path.display()))?;
    anyhow::ensure!(
        config.sample_interval_ms >= 10,
        "{}: sample_interval_ms must be 10 or more",
        path.display()
    );
    let knows_itself = config.failover.nodes.iter().any(|it| it.node == config.node);
    anyhow::ensure!(
        knows_itself,
        "{}: {} is not among failover.nodes",
        path.display(),
        config.node
    );
    Ok(config)
}

/// How long a normal stop of the database may take, before it is stopped as in a crash.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
