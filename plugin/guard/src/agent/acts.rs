//! What is decided about the store: each a single compare-and-swap on exactly what was looked at.

use std::time::Duration;

use anyhow::Context as _;
use ha_core::{
    agreement::{AcceptLoss, Ancestor, Campaign, History, Reason, Term},
    decide::Action,
    lsn::Lsn,
    report::NodeRole,
};
use ha_data::postgres;
use jiff::Timestamp;

use super::{
    Guard,
    agreement::{Look, Swapped},
    facts, fail,
};

/// Carries out one action on the store; `why` is told to whoever asked for what it ends.
pub(super) async fn act(guard: &Guard, look: &Look, action: &Action, why: &str) -> Swapped {
    let agreement = &guard.agreement;
    let basis = &look.basis;
    match action {
        Action::Found => match found(guard).await {
            Ok((first, history)) => agreement.found(basis, first, history).await,
            Err(error) => Swapped::Failed(format!("{error:#}")),
        },
        Action::Renew => agreement.renew(basis, written(guard)).await,
        Action::Campaign {
            reason,
            detail,
            compare_lease,
            fenced,
        } => {
            fail::point("campaign");
            let campaign = campaign(guard, look, *reason, detail, fenced.as_deref());
            agreement.campaign(basis, campaign, *compare_lease).await
        }
        Action::Choose { sealed } => {
            fail::point("choose");
            agreement.choose(basis, sealed.clone()).await
        }
        Action::Publish => match published(guard, look).await {
            Ok(made) => {
                fail::point("publish.before");
                let Published {
                    start,
                    from,
                    before,
                    history,
                } = made;
                let swapped = agreement.publish(basis, start, from, &before, history).await;
                fail::point("publish.after");
                swapped
            }
            Err(error) => Swapped::Failed(format!("{error:#}")),
        },
        Action::SetVoters { voters, acks, joins } => {
            agreement.set_voters(basis, voters.clone(), *acks, joins.as_ref()).await
        }
        Action::UndoSwitch => {
            let swapped = agreement.undo_switch(basis, why).await;
            if swapped == Swapped::Done {
                guard.state.may_come_back();
            }
            swapped
        }
        _ => Swapped::Failed("it is no change of the store".to_owned()),
    }
}

/// The yardstick of lag when this leader is away.
fn written(guard: &Guard) -> Option<ha_core::lsn::Position> {
    let database = guard.state.view().report.database;
    facts::position(&database).filter(|_| database.role == Some(NodeRole::Primary))
}

fn campaign(guard: &Guard, look: &Look, reason: Reason, detail: &str, fenced: Option<&str>) -> Campaign {
    let node = &guard.state.config.node;
    let before = look.view.term.as_ref().and_then(|term| term.campaign.as_ref());
    // What somebody asked for is still asked for when a campaign came to nothing.
    let again = before.filter(|_| reason == Reason::Retry);
    Campaign {
        by: node.clone(),
        reason,
        detail: detail.to_owned(),
        automatic: matches!(reason, Reason::PrimaryDown | Reason::DatabaseGone),
        started_at: Timestamp::now(),
        accept_loss: fenced.map(|fenced| AcceptLoss {
            by: again
                .and_then(|it| Some(it.accept_loss.as_ref()?.by.clone()))
                .unwrap_or_else(|| node.clone()),
            fenced: fenced.to_owned(),
        }),
        wanted: again.and_then(|it| it.wanted.clone()),
        sealed: Default::default(),
        chosen: None,
        op: again.and_then(|it| it.op.clone()),
    }
}

/// The first term of a cluster whose primary runs here.
async fn found(guard: &Guard) -> anyhow::Result<(Term, History)> {
    let config = &guard.state.config;
    let database = guard.state.view().report.database;
    let timeline = database.timeline.context("the database does not answer")?;
    let nodes = config.failover.nodes.iter().filter(|it| it.data);
    let data = nodes.map(|it| it.node.clone()).collect();
    let now = Timestamp::now();
    let lineage = lineage(guard, timeline).await?;
    let start = lineage.last().map_or(Lsn(0), |it| it.ended);
    let history = History {
        epoch: timeline.into(),
        node: config.node.clone(),
        timeline,
        start,
        parent: lineage.last().map(|it| it.timeline),
        reason: Reason::First,
        detail: "the cluster was made".to_owned(),
        by: config.node.clone(),
        sealed: Default::default(),
        lost_bytes: None,
        accept_loss: false,
        op: None,
        at: now,
        steps: Vec::new(),
    };
    let first = Term::first(&config.node, timeline, data, config.failover.sync_mode, lineage, now);
    Ok((first, history))
}

struct Published {
    start: Lsn,
    from: u32,
    before: Vec<Ancestor>,
    history: History,
}

/// The epoch whose primary runs here, as its own files tell how it came to be: the guard that promoted it may be gone.
async fn published(guard: &Guard, look: &Look) -> anyhow::Result<Published> {
    let config = &guard.state.config;
    let term = look.view.term.as_ref().context("no term is known")?;
    let campaign = term.campaign.as_ref().context("nobody campaigned")?;
    let mut before = lineage(guard, term.own_timeline()).await?;
    let last = before.pop().context("the history of its timeline is empty")?;
    let now = Timestamp::now();
    let mut steps = guard.state.memory.steps(term.epoch);
    let all = now.duration_since(campaign.started_at);
    steps.push(ha_core::agreement::StepTook {
        step: "campaign to primary".to_owned(),
        took: Duration::try_from(all).unwrap_or_default(),
    });
    let lossy = campaign.accept_loss.is_some() || term.acks == 0;
    let lost = look.view.lease.as_ref().and_then(|lease| {
        let written = lease.written?;
        (written.timeline == last.timeline).then(|| written.lsn.bytes_since(last.ended))
    });
    let history = History {
        epoch: term.epoch,
        node: config.node.clone(),
        timeline: term.own_timeline(),
        start: last.ended,
        parent: Some(last.timeline),
        reason: campaign.reason,
        detail: campaign.detail.clone(),
        by: campaign.by.clone(),
        sealed: campaign.sealed.clone(),
        lost_bytes: if lossy { lost } else { Some(0) },
        accept_loss: campaign.accept_loss.is_some(),
        op: campaign.op.clone(),
        at: now,
        steps,
    };
    Ok(Published {
        start: last.ended,
        from: last.timeline,
        before,
        history,
    })
}

async fn lineage(guard: &Guard, timeline: u32) -> anyhow::Result<Vec<Ancestor>> {
    let config = guard.state.config.postgres.clone();
    let read = tokio::task::spawn_blocking(move || postgres::history(&config, timeline)).await;
    let entries = read.context("reading the timeline's history")??;
    let ancestors = entries.into_iter();
    Ok(ancestors
        .map(|(timeline, ended)| Ancestor { timeline, ended })
        .collect())
}
