//! The steps of the guards, one after the other, until the epoch has its primary.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use ha_core::{
    agent::stream_name,
    agreement::{AcceptLoss, Ancestor, Campaign, FENCED_NAMES, History, Pause, Reason, StepTook, Term},
    lsn::Position,
    switch::{
        Refusal, World,
        witness::{self, Next, PAUSE, Sights},
    },
};
use ha_data::{DataError, postgres::by_sql::Node as Sql};
use ha_store::{Revision, Swap};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    super::{Agreement, Look, Row, Terms, operation, swap},
    Cleared, Scene,
};
use crate::{
    acts::{Act, Acts},
    error::Failed,
    nu::{Bytes, Count},
};

/// Guards that come back are kept still for so long; a shell that dies leaves them no longer than this.
const PAUSED_FOR: SignedDuration = SignedDuration::from_secs(120);
/// As guards have it.
const SEAL_WITHIN: Duration = Duration::from_secs(10);
const PROMOTE_WITHIN: Duration = Duration::from_secs(60);

/// A failover under way.
pub(crate) struct Run {
    pub(crate) agreement: Arc<Agreement>,
    pub(crate) terms: Terms,
    pub(crate) rows: mpsc::Sender<Row>,
    pub(crate) cancel: CancellationToken,
    pub(crate) acts: Acts,
    pub(crate) started: Instant,
}

/// Where it stopped, and why.
pub(super) struct Stuck {
    step: &'static str,
    region: Option<String>,
    failed: Failed,
}

/// What is known while it goes on.
pub(super) struct Going {
    pub(super) look: Look,
    world: World,
    pub(super) sights: Sights,
    pub(super) nodes: BTreeMap<String, Sql>,
    pub(super) to: Option<String>,
    op: String,
    pause: Revision,
    sealed: Option<BTreeMap<String, Result<Position, String>>>,
    steps: Vec<StepTook>,
    lost: Option<u64>,
}

impl Run {
    /// Until it is done, or cannot go on. What was begun is told either way, and guards are let go.
    pub(crate) async fn run(self, cleared: Cleared) {
        let detail = format!(
            "nothing stands in the way; nobody else changed the store for {:.1} s",
            cleared.watched.as_secs_f64()
        );
        let row = Row::new("preflight", None, "done")
            .took(self.started.elapsed())
            .detail(detail);
        self.send(row).await;
        let Scene {
            look,
            world,
            sights,
            nodes,
        } = cleared.scene;
        let op = match &look.term.campaign {
            Some(it) if look.term.is_witnessed() => it.op.clone().unwrap_or_default(),
            _ => operation("witness", &self.agreement.by),
        };
        let mut going = Going {
            pause: look.pause_seen,
            look,
            world,
            sights,
            nodes,
            to: cleared.to,
            op,
            sealed: None,
            steps: Vec::new(),
            lost: None,
        };
        let done = self.all(&mut going).await;
        self.let_go(&going).await;
        let row = match done {
            Ok(()) => self.measured(&going),
            Err(stuck) => Row {
                error: Some(stuck.failed.to_string()),
                code: Some(stuck.failed.code().to_owned()),
                help: Some(match stuck.failed.help() {
                    Some(help) => format!("{help}; the same command goes on from here, as do guards that come back"),
                    None => "the same command goes on from here, as do guards that come back".to_owned(),
                }),
                ..Row::new(stuck.step, stuck.region, "failed")
            },
        };
        self.acts.record(Act {
            region: row.region.clone(),
            event: format!("failover.{}", row.status),
            subject: format!("database {}", going.look.term.leader),
            status: row.status.clone(),
            detail: self.terms.witness.clone(),
            error: row.error.clone(),
        });
        self.send(row).await;
    }

    async fn all(&self, going: &mut Going) -> Result<(), Stuck> {
        self.pause(going).await?;
        let mut campaigns = 0;
        loop {
            if self.cancel.is_cancelled() {
                return Err(stuck("agree", None, Failed::Interrupted));
            }
            let term = &going.look.term;
            let next = witness::next(term, &going.sights, going.sealed.is_some());
            let why = next.why(term);
            let began = Instant::now();
            match next {
                Next::Campaign if campaigns > 0 => {
                    let why = format!("{why}; once is enough for one command");
                    let help = "see what is there now: ha failover --explain";
                    let refusal = Refusal::new("ha::agreement::unfinished", why, help);
                    return Err(stuck("campaign", None, Failed::refused(refusal)));
                }
                Next::Campaign => {
                    campaigns += 1;
                    self.campaign(going, why, began).await?;
                }
                Next::Seal => self.seal(going).await,
                Next::Choose => self.choose(going, began).await?,
                Next::Promote(node) => self.promote(going, &node, began).await?,
                Next::Publish(node) => self.publish(going, &node, began).await?,
                Next::Finish(leader) => return self.finish(going, &leader).await,
            }
        }
    }

    async fn pause(&self, going: &mut Going) -> Result<(), Stuck> {
        let since = Timestamp::now();
        let why = self.terms.witness.as_deref().unwrap_or_default();
        let pause = Pause {
            by: self.agreement.by.clone(),
            why: format!("{PAUSE}: {why}"),
            since,
            until: since.checked_add(PAUSED_FOR).ok(),
        };
        match self.agreement.cluster.set_pause(Some(&pause), going.pause).await {
            Ok(Swap::Done(seen)) => going.pause = seen,
            Ok(Swap::Changed(_)) => return Err(stuck("pause", None, contended())),
            Err(error) => return Err(stuck("pause", None, error.into())),
        }
        let detail = format!(
            "guards that come back wait until this is over, and {} s at most",
            PAUSED_FOR.as_secs()
        );
        self.send(Row::new("pause", None, "done").detail(detail)).await;
        Ok(())
    }

    /// Guards go on with whatever is there. After an error the pause ends by itself.
    async fn let_go(&self, going: &Going) {
        match self.agreement.cluster.set_pause(None, going.pause).await {
            Ok(_) => {}
            Err(error) => {
                let row = Row {
                    error: Some(format!("guards stay paused until that ends by itself: {error}")),
                    code: Some(Failed::from(error).code().to_owned()),
                    help: Some("when the store answers: ha resume".to_owned()),
                    ..Row::new("resume", None, "failed")
                };
                self.send(row).await;
            }
        }
    }

    /// The term is `next`, and this look is of it; only while the pause is ours.
    async fn swap(&self, going: &mut Going, step: &'static str, next: Term) -> Result<(), Stuck> {
        let key = self.agreement.cluster.keys.pause();
        let swapped = swap(&self.agreement, &going.look, &next, &[(&key, going.pause)]).await;
        match swapped {
            Ok(true) => {}
            Ok(false) => return Err(stuck(step, None, contended())),
            Err(failed) => return Err(stuck(step, None, failed)),
        }
        going.look = self
            .agreement
            .look()
            .await
            .map_err(|failed| stuck(step, None, failed))?;
        going.world.term = going.look.term.clone();
        if going.look.term == next {
            return Ok(());
        }
        Err(stuck(step, None, contended()))
    }

    async fn campaign(&self, going: &mut Going, why: String, began: Instant) -> Result<(), Stuck> {
        let statement = self.terms.witness.clone().unwrap_or_default();
        // With a quorum nothing is lost, whatever was allowed.
        let lossless = witness::explain(&going.world, &going.sights, None, false)
            .iter()
            .any(|it| it.chosen);
        let lossy = self.terms.accept_loss && !lossless;
        let next = going.look.term.campaign(Campaign {
            by: self.agreement.by.clone(),
            reason: Reason::Witness,
            detail: format!("{} is the witness: {statement}", self.agreement.by),
            automatic: false,
            started_at: Timestamp::now(),
            accept_loss: lossy.then(|| AcceptLoss {
                by: self.agreement.by.clone(),
                fenced: statement.clone(),
            }),
            wanted: going.to.clone(),
            sealed: BTreeMap::new(),
            chosen: None,
            op: Some(going.op.clone()),
        });
        let (epoch, needed, voters) = (next.epoch, next.seals_needed(), next.voters.len());
        self.swap(going, "campaign", next).await?;
        let needed = if lossy { 1 } else { needed };
        let detail = format!("epoch {epoch}: {needed} of {voters} voters must seal; {why}");
        self.done(going, "campaign", None, began, detail).await;
        Ok(())
    }

    /// Everybody who answers, side by side; one that cannot be sealed does not count.
    async fn seal(&self, going: &mut Going) {
        let replicas = going.nodes.iter().filter(|(node, _)| {
            let sight = going.sights.get(*node);
            matches!(sight, Some(Ok(it)) if it.replica)
        });
        let sealed = join_all(replicas.map(|(node, sql)| async move {
            let began = Instant::now();
            let at = sql.seal(SEAL_WITHIN).await;
            let region = self.agreement.region_of(node);
            let row = Row::new("seal", region, if at.is_ok() { "done" } else { "failed" }).took(began.elapsed());
            let row = match &at {
                Ok(at) => row.detail(format!("{node} at {at}")),
                Err(error) => data_row(row, error),
            };
            self.send(row).await;
            (node.clone(), at.map_err(|error| error.to_string()))
        }))
        .await;
        for (node, at) in &sealed {
            match (going.sights.get_mut(node), at) {
                (Some(Ok(sight)), Ok(at)) => sight.position = *at,
                (Some(sight), Err(why)) => *sight = Err(why.clone()),
                _ => {}
            }
        }
        let unasked = going.sights.iter().filter(|(node, _)| !going.nodes.contains_key(*node));
        let unasked = unasked.map(|(node, it)| {
            let why = it.as_ref().err().cloned().unwrap_or_default();
            (node.clone(), Err(why))
        });
        going.sealed = Some(unasked.chain(sealed).collect());
    }

    async fn choose(&self, going: &mut Going, began: Instant) -> Result<(), Stuck> {
        let sealed = going.sealed.clone().unwrap_or_default();
        let chosen = witness::choose(&going.world, &sealed, going.to.as_deref())
            .map_err(|refusal| stuck("choose", None, Failed::refused(refusal)))?;
        let positions: BTreeMap<String, Position> = sealed
            .into_iter()
            .filter_map(|(node, at)| Some((node, at.ok()?)))
            .collect();
        let count = positions.len();
        let Some(next) = going.look.term.choose(&chosen, positions, Timestamp::now()) else {
            return Err(stuck("choose", None, contended()));
        };
        self.swap(going, "choose", next).await?;
        let detail = format!("{chosen} has most of {count} sealed");
        self.done(going, "choose", Some(&chosen), began, detail).await;
        Ok(())
    }

    async fn promote(&self, going: &mut Going, node: &str, began: Instant) -> Result<(), Stuck> {
        let term = going.look.term.clone();
        // Where nothing is to be waited for, that is not agreed for this epoch before it is published.
        let names = match term.acks {
            0 => FENCED_NAMES.to_owned(),
            _ => term.names(node),
        };
        let others = self.agreement.nodes.iter().filter(|it| it.data && it.name != node);
        let slots: Vec<String> = others.map(|it| stream_name(&it.name)).collect();
        let timeline = term.own_timeline();
        let sql = self.sql(going, "promote", node)?;
        let promoted = sql.promote(timeline, &names, &slots, PROMOTE_WITHIN).await;
        promoted.map_err(|error| self.data("promote", node, error))?;
        if let Some(Ok(sight)) = going.sights.get_mut(node) {
            sight.replica = false;
            sight.position.timeline = timeline;
        }
        self.done(
            going,
            "promote",
            Some(node),
            began,
            format!("{node} on timeline {timeline}"),
        )
        .await;
        Ok(())
    }

    async fn publish(&self, going: &mut Going, node: &str, began: Instant) -> Result<(), Stuck> {
        let term = going.look.term.clone();
        let sql = self.sql(going, "publish", node)?;
        let ancestors = sql.history(term.own_timeline()).await;
        let ancestors = ancestors.map_err(|error| self.data("publish", node, error))?;
        let ancestors = ancestors
            .into_iter()
            .map(|(timeline, ended)| Ancestor { timeline, ended });
        let mut before: Vec<Ancestor> = ancestors.collect();
        let (Some(last), Some(campaign)) = (before.pop(), term.campaign.clone()) else {
            return Err(stuck("publish", self.agreement.region_of(node), contended()));
        };
        let now = Timestamp::now();
        let Some(next) = term.publish(node, last.ended, last.timeline, &before, now) else {
            return Err(stuck("publish", self.agreement.region_of(node), contended()));
        };
        self.swap(going, "publish", next).await?;
        let lossy = campaign.accept_loss.is_some() || term.acks == 0;
        let lost = going.look.lease.as_ref().and_then(|lease| {
            let written = lease.written?;
            (written.timeline == last.timeline).then(|| written.lsn.bytes_since(last.ended))
        });
        going.lost = if lossy { lost } else { Some(0) };
        let history = History {
            epoch: term.epoch,
            node: node.to_owned(),
            timeline: term.own_timeline(),
            start: last.ended,
            parent: Some(last.timeline),
            reason: campaign.reason,
            detail: campaign.detail,
            by: campaign.by,
            sealed: campaign.sealed,
            lost_bytes: going.lost,
            accept_loss: campaign.accept_loss.is_some(),
            op: campaign.op,
            at: now,
            steps: going.steps.clone(),
        };
        // What is not written now is put together by the guard of whoever leads.
        let detail = match self.agreement.cluster.add_history(&history).await {
            Ok(_) => format!("epoch {}", term.epoch),
            Err(error) => format!("epoch {}; its history is written by a guard later: {error}", term.epoch),
        };
        self.done(going, "publish", Some(node), began, detail).await;
        Ok(())
    }

    fn measured(&self, going: &Going) -> Row {
        let term = &going.look.term;
        let newest = going.look.histories.iter().find(|it| it.epoch == term.epoch);
        let lost = going.lost.or_else(|| newest.and_then(|it| it.lost_bytes));
        Row {
            lost: lost.map(Bytes),
            epoch: Some(Count(term.epoch)),
            timeline: Some(term.timeline),
            ..Row::new("measured", self.agreement.region_of(&term.leader), "done")
                .took(self.started.elapsed())
                .detail(format!("{} leads epoch {}, by SQL", term.leader, term.epoch))
        }
    }

    pub(super) fn sql<'a>(&self, going: &'a Going, step: &'static str, node: &str) -> Result<&'a Sql, Stuck> {
        going.nodes.get(node).ok_or_else(|| {
            let why = format!("{node} does not answer any more");
            let refusal = Refusal::new("ha::failover::not_eligible", why, "see why: ha failover --explain");
            stuck(step, self.agreement.region_of(node), Failed::refused(refusal))
        })
    }

    pub(super) fn data(&self, step: &'static str, node: &str, error: DataError) -> Stuck {
        stuck(step, self.agreement.region_of(node), of_data(&error))
    }

    async fn done(&self, going: &mut Going, step: &'static str, node: Option<&str>, began: Instant, detail: String) {
        let took = began.elapsed();
        going.steps.push(StepTook {
            step: step.to_owned(),
            took,
        });
        let region = node.and_then(|it| self.agreement.region_of(it));
        self.send(Row::new(step, region, "done").took(took).detail(detail))
            .await;
    }

    pub(super) async fn send(&self, row: Row) {
        // The reader may be gone; what was begun is brought to its end.
        let _ = self.rows.send(row).await;
    }
}

pub(super) fn stuck(step: &'static str, region: Option<String>, failed: Failed) -> Stuck {
    Stuck { step, region, failed }
}

fn of_data(error: &DataError) -> Failed {
    let (code, help) = match error {
        DataError::WrongTimeline { address, .. } => (
            "ha::failover::wrong_timeline",
            format!("end the database at {address} at once: what it would write belongs to no epoch"),
        ),
        DataError::TimelineTaken { .. } => (
            "ha::failover::timeline_taken",
            "bring its guard back, which copies it anew: ha provision".to_owned(),
        ),
        _ => ("ha::failover::sql", "see whether it answers: ha health".to_owned()),
    };
    Failed::refused(Refusal::new(code, error.to_string(), help))
}

pub(super) fn data_row(row: Row, error: &DataError) -> Row {
    let failed = of_data(error);
    Row {
        error: Some(failed.to_string()),
        code: Some(failed.code().to_owned()),
        help: failed.help(),
        ..row
    }
}

fn contended() -> Failed {
    Failed::refused(Refusal::new(
        "ha::agreement::contended",
        "the store changed meanwhile: a guard is back, or somebody else is at it",
        "see what is there now: ha lease, ha events --last 10",
    ))
}
