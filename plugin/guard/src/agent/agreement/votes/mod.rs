//! What this guard says of the others, from its own place (protocol §6).

mod probe;
mod standing;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::Context as _;
use futures::future::join_all;
use ha_core::{
    agent::{GuardConfig, Peer, stream_name},
    agreement::{Epoch, Node, Verdict},
};
use ha_data::postgres::{ADMIN_DATABASE, ADMIN_USER, ConnectOptions, Host};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::{Clocks, lock};
use probe::Sql;
use standing::{Line, Round, Rules, Standing};

/// What the own replica hears from its upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stream {
    pub(crate) node: Node,
    pub(crate) epoch: Epoch,
    /// Since the last message; none when nothing streams.
    pub(crate) silence: Option<Duration>,
    /// The last message is no older than there ever is between two of a primary that lives.
    pub(crate) progressing: bool,
}

#[derive(Debug, Default)]
struct Said {
    verdicts: BTreeMap<Node, Verdict>,
    stable: BTreeMap<Node, Duration>,
    why: BTreeMap<Node, String>,
}

pub(crate) struct Votes {
    said: Mutex<Said>,
    changed: watch::Sender<u64>,
}

/// One node that is looked at.
struct Subject {
    node: Node,
    guard: String,
    /// None for a witness.
    sql: Option<Sql>,
    standing: Standing,
}

/// How it is looked at.
struct Manner {
    client: reqwest::Client,
    interval: Duration,
    limit: Duration,
    /// A guard's sample that is older does not speak for the database.
    fresh: Duration,
    rules: Rules,
}

impl Votes {
    /// Looks at each peer with every probe interval, until cancelled. `own` is what this guard says of its own node: it
    /// alone may know, and it needs no probe.
    pub(crate) fn start(
        config: &GuardConfig,
        stream: watch::Receiver<Option<Stream>>,
        own: watch::Receiver<Verdict>,
        cancel: CancellationToken,
    ) -> anyhow::Result<Arc<Self>> {
        let manner = Manner::new(config)?;
        let subjects = config.peers.iter().map(|peer| Subject::new(config, peer)).collect();
        let nodes = config.failover.nodes.iter().map(|it| it.node.clone());
        let unknown = nodes.chain(config.peers.iter().map(|it| it.node.clone()));
        let votes = Arc::new(Self {
            said: Mutex::new(Said {
                verdicts: unknown.map(|node| (node, Verdict::Unknown)).collect(),
                ..Said::default()
            }),
            changed: watch::Sender::new(0),
        });
        tokio::spawn(look(Arc::clone(&votes), subjects, manner, stream, cancel.clone()));
        tokio::spawn(own_vote(Arc::clone(&votes), config.node.clone(), own, cancel));
        Ok(votes)
    }

    pub(crate) fn current(&self) -> BTreeMap<Node, Verdict> {
        lock(&self.said).verdicts.clone()
    }

    /// Grows with each change of a verdict.
    pub(crate) fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// How long the node has answered without a failure; none while it does not.
    pub(crate) fn stable_for(&self, node: &str) -> Option<Duration> {
        lock(&self.said).stable.get(node).copied()
    }

    /// What did not work in the last round, by node.
    pub(crate) fn troubles(&self) -> BTreeMap<Node, String> {
        lock(&self.said).why.clone()
    }

    fn say(&self, node: &str, verdict: Verdict, stable: Option<Duration>, why: Option<String>) {
        let before = {
            let mut said = lock(&self.said);
            put(&mut said.stable, node, stable);
            put(&mut said.why, node, why.clone());
            said.verdicts.insert(node.to_owned(), verdict)
        };
        if before != Some(verdict) {
            tracing::info!(
                node,
                verdict = verdict.as_str(),
                why,
                "this observer's word has changed"
            );
            self.changed.send_modify(|it| *it = it.wrapping_add(1));
        }
    }
}

fn put<T>(map: &mut BTreeMap<Node, T>, node: &str, value: Option<T>) {
    match value {
        Some(value) => map.insert(node.to_owned(), value),
        None => map.remove(node),
    };
}

impl Manner {
    fn new(config: &GuardConfig) -> anyhow::Result<Self> {
        let timing = &config.failover.timing;
        let address: Option<IpAddr> = config
            .source_address
            .as_deref()
            .map(|it| {
                it.parse()
                    .with_context(|| format!("source_address `{it}` is no address"))
            })
            .transpose()?;
        let client = reqwest::Client::builder()
            .no_proxy()
            // So that relays, which add delays and cuts, know who asks.
            .local_address(address)
            .timeout(timing.probe_timeout)
            .build()?;
        let sample = Duration::from_millis(config.sample_interval_ms);
        Ok(Self {
            client,
            interval: timing.probe_interval,
            limit: timing.probe_timeout,
            // It may be on its way for as long as a look lasts.
            fresh: (sample + timing.probe_timeout).max(timing.probe_interval + timing.probe_timeout),
            rules: Rules {
                failures: timing.probe_failures,
                stall_limit: config.failover.policy.stall_limit,
                gap: 4 * timing.probe_interval + 2 * timing.probe_timeout,
            },
        })
    }

    /// The own replica hears from `node`; absent when it does not follow it.
    fn stream(stream: Option<&Stream>, node: &str) -> Line {
        match stream.filter(|it| it.node == node) {
            None => Line::Absent,
            Some(it) if it.progressing => Line::Works,
            // Since when nothing streams is not known.
            Some(it) => it.silence.map_or(Line::Fails, |_| Line::Silent),
        }
    }
}

impl Subject {
    fn new(config: &GuardConfig, peer: &Peer) -> Self {
        let witness = config.failover.nodes.iter().any(|it| it.node == peer.node && !it.data);
        let sql = (!witness).then(|| {
            let postgres = &config.postgres;
            let host = Host::tcp(&peer.address, peer.port);
            Sql::new(
                ConnectOptions::new(host, ADMIN_USER, ADMIN_DATABASE, &postgres.admin_password_file)
                    .ca(&postgres.tls.ca)
                    .application_name(format!("{}_probe", stream_name(&config.node))),
            )
        });
        Self {
            node: peer.node.clone(),
            guard: peer.guard.clone(),
            sql,
            standing: Standing::new(),
        }
    }

    async fn round(&mut self, manner: &Manner, stream: Line, passed: Duration) -> (Verdict, Option<String>) {
        let data = self.sql.is_some();
        let guard = probe::ask_guard(&manner.client, &self.guard, data, manner.fresh, manner.limit);
        let sql = async {
            match &mut self.sql {
                Some(sql) => sql.look(manner.limit).await,
                None => (Line::Absent, Line::Absent, None),
            }
        };
        let ((sql, knock, no_sql), (guard, no_guard)) = tokio::join!(sql, guard);
        let round = Round {
            sql,
            knock,
            guard,
            stream,
        };
        let verdict = self.standing.add(round, &manner.rules, passed);
        let no_stream =
            matches!(stream, Line::Fails | Line::Silent).then(|| "the own replica hears nothing from it".to_owned());
        let knock = self.sql.as_ref().and_then(|it| it.closed.clone());
        let mut reasons: Vec<String> = [no_sql.or(knock), no_guard, no_stream].into_iter().flatten().collect();
        reasons.dedup();
        (verdict, (!reasons.is_empty()).then(|| reasons.join("; ")))
    }
}

async fn look(
    votes: Arc<Votes>,
    mut subjects: Vec<Subject>,
    manner: Manner,
    stream: watch::Receiver<Option<Stream>>,
    cancel: CancellationToken,
) {
    let clocks = Clocks::system();
    let mut before = clocks.now();
    let mut ticks = interval(manner.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let now = clocks.now();
        let passed = now.largest_since(before);
        before = now;
        let heard = stream.borrow().clone();
        // Side by side: a node that does not answer takes no time from the others.
        let round = join_all(subjects.iter_mut().map(|subject| {
            let line = Manner::stream(heard.as_ref(), &subject.node);
            let (votes, manner) = (&votes, &manner);
            async move {
                let (verdict, why) = subject.round(manner, line, passed).await;
                votes.say(&subject.node, verdict, subject.standing.stable_for(), why);
            }
        }));
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = round => {}
        }
    }
}

async fn own_vote(votes: Arc<Votes>, me: Node, mut own: watch::Receiver<Verdict>, cancel: CancellationToken) {
    let clocks = Clocks::system();
    let mut since = None;
    loop {
        let verdict = *own.borrow_and_update();
        let now = clocks.now();
        since = (verdict == Verdict::Up).then(|| since.unwrap_or(now));
        votes.say(&me, verdict, since.map(|it| now.smallest_since(it)), None);
        tokio::select! {
            () = cancel.cancelled() => return,
            changed = own.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
}
