//! An epoch has its primary, and no guard is there: the others are told to follow it, the balancers to send writes there.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use futures::future::join_all;
use ha_core::{
    agent::epoch_stream_name,
    switch::{Refusal, witness},
};
use ha_data::{
    DataError,
    postgres::{self, Upstream, by_sql::Node as Sql},
};
use ha_edge::haproxy::Admin;

use super::{
    super::{Row, Writer},
    run::{Going, Run, Stuck, data_row, stuck},
};
use crate::error::Failed;

const STREAMS_WITHIN: Duration = Duration::from_secs(30);
/// For the first commit through a balancer.
const WRITES_WITHIN: Duration = Duration::from_secs(15);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

impl Run {
    /// There is a primary: the others follow it, writes go there.
    pub(super) async fn finish(&self, going: &mut Going, leader: &str) -> Result<(), Stuck> {
        let sql = self.sql(going, "follow", leader)?;
        let term = &going.look.term;
        if term.acks == 0 {
            let set = postgres::set_names(sql.session(), "").await;
            set.map_err(|error| self.data("promote", leader, error))?;
        }
        let (follow, wait) = witness::followers(term, &going.sights);
        let upstream = self.agreement.node(leader).and_then(|it| {
            let (_, port) = it.postgres.as_deref()?.rsplit_once(':')?;
            Some(Upstream {
                address: it.reached.clone()?,
                port: port.parse().ok()?,
            })
        });
        let Some(upstream) = upstream else {
            let why = format!("nobody knows where replicas reach {leader}");
            let refusal = Refusal::new("ha::agreement::no_address", why, "see its address: ha inventory");
            return Err(stuck("follow", None, Failed::refused(refusal)));
        };
        tokio::join!(
            join_all(follow.iter().map(|node| self.follow(going, node, sql, &upstream))),
            join_all(
                self.agreement
                    .balancers
                    .iter()
                    .map(|(region, socket)| self.route(region, socket, leader))
            ),
        );
        for (node, why) in wait {
            let row = Row::new("follow", self.agreement.region_of(&node), "left");
            self.send(row.detail(format!("{node} waits for its guard: {why}")))
                .await;
        }
        self.write(leader).await;
        if let Some(to) = going.to.as_ref().filter(|it| *it != leader) {
            let row = Row::new("switchover", self.agreement.region_of(to), "left");
            let detail =
                format!("{leader} had most of the log and came first; when guards are back: ha switchover --to {to}");
            self.send(row.detail(detail)).await;
        }
        let detail = format!(
            "no guard runs: nobody lets the others rejoin, fences {leader} or fails over again, and balancers keep writes there \
             without asking; bring them back: ha provision"
        );
        self.send(Row::new("guards", None, "left").detail(detail)).await;
        Ok(())
    }

    /// It streams as a replica of this epoch.
    async fn follow(&self, going: &Going, node: &str, leader: &Sql, upstream: &Upstream) {
        let began = Instant::now();
        let epoch = going.look.term.epoch;
        let work = async {
            let sql = going
                .nodes
                .get(node)
                .ok_or_else(|| DataError::Unexpected("it was not asked".to_owned()))?;
            sql.follow(node, upstream, epoch).await?;
            let name = epoch_stream_name(node, epoch);
            let streams = async {
                loop {
                    let row = leader
                        .session()
                        .query_one(
                            "select exists (select from pg_stat_replication where application_name = $1 and state = 'streaming')",
                            &[&name],
                        )
                        .await
                        .map_err(|error| leader.session().error(&error))?;
                    if row.get::<_, bool>(0) {
                        return Ok(());
                    }
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
            };
            let late = DataError::Timeout {
                what: format!("{node} was told whom to follow, and streaming"),
                after: STREAMS_WITHIN,
            };
            tokio::time::timeout(STREAMS_WITHIN, streams).await.unwrap_or(Err(late))
        };
        let done = work.await;
        let row = Row::new(
            "follow",
            self.agreement.region_of(node),
            if done.is_ok() { "done" } else { "failed" },
        );
        let row = row.took(began.elapsed());
        self.send(match done {
            Ok(()) => row.detail(format!("{node} in epoch {epoch}")),
            Err(error) => data_row(row, &error),
        })
        .await;
    }

    /// Nobody answers this balancer's checks: it is told, and asks no more until a guard is there.
    async fn route(&self, region: &str, socket: &Path, leader: &str) {
        let began = Instant::now();
        let turned = Admin::new(socket).keep_writes(leader).await;
        let row = Row::new(
            "route",
            Some(region.to_owned()),
            if turned.is_ok() { "done" } else { "failed" },
        );
        let row = row.took(began.elapsed());
        self.send(match turned {
            Ok(_) => row.detail(format!(
                "writes go to {leader}, whose checks are off until its guard answers them"
            )),
            Err(error) => Row {
                error: Some(error.to_string()),
                code: Some("ha::failover::balancer".to_owned()),
                help: Some(format!(
                    "clients of {region} cannot write until it is told, or {leader}'s guard is back: the same command again, or \
                     ha provision"
                )),
                ..row
            },
        })
        .await;
    }

    /// A commit through a balancer, as a client sees it.
    async fn write(&self, leader: &str) {
        let began = Instant::now();
        let region = self.agreement.region_of(leader);
        let listeners = &self.agreement.listeners;
        let own = listeners.iter().find(|(it, _)| region.as_ref() == Some(it));
        let Some((region, address)) = own.or(listeners.first()) else {
            return;
        };
        let Some(options) = self.agreement.session(address, "ha outage") else {
            return;
        };
        let mut writer = Writer::start(options);
        let row = |status| Row::new("write", Some(region.clone()), status);
        let row = match writer.ready(WRITES_WITHIN).await {
            true => row("done").took(began.elapsed()).detail("a write through the balancer returned"),
            false => Row {
                error: Some(format!("no write has returned for {} s", WRITES_WITHIN.as_secs())),
                code: Some("ha::agreement::no_writes".into()),
                help: Some(
                    "in strict mode a commit waits for a replica: see the rows `follow`; another database that is brought back, \
                     and the same command again, lets them return"
                        .into(),
                ),
                ..row("failed").took(began.elapsed())
            },
        };
        self.send(row).await;
    }
}
