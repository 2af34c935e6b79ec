//! What the commands that move the primary share.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ha_core::{
    budget::Budget,
    switch::{self, Choice, PlannedStep, Refusal, Severity, World},
};
use nu_plugin::EvaluatedCall;
use nu_protocol::{Flag, IntoValue, LabeledError, PipelineData, Signature, Spanned, SyntaxShape};
use tokio::sync::mpsc;

use crate::{
    acts::Acts,
    agreement::{self, Agreement, Begun, COLUMNS, Follow, Outcome, Row, Session, Terms, Writer, witness},
    error::Failed,
    nu::{At, Bytes, args, channel, stream, table},
};

/// For the first commit of the writer; without one the outage is not measured.
const WRITES_WITHIN: Duration = Duration::from_secs(2);

/// A row of `--explain`.
#[derive(IntoValue)]
struct Explained {
    node: String,
    region: String,
    chosen: bool,
    eligible: bool,
    reason: String,
    lag_bytes: Option<Bytes>,
    position: Option<String>,
    timeline: Option<u32>,
}

impl From<Choice> for Explained {
    fn from(it: Choice) -> Self {
        Self {
            node: it.node,
            region: it.region,
            chosen: it.chosen,
            eligible: it.eligible,
            reason: it.reason,
            lag_bytes: it.lag_bytes.map(Bytes),
            position: it.position.map(|at| at.lsn.to_string()),
            timeline: it.position.map(|at| at.timeline),
        }
    }
}

pub(super) fn signature(name: &str) -> Signature {
    args::signature(name)
        .param(
            Flag::new("explain")
                .short('e')
                .desc("show each server and why it would be taken or not, and change nothing"),
        )
        .param(args::dry_run())
}

pub(super) fn to(what: &'static str) -> Flag {
    Flag::new("to").short('t').arg(SyntaxShape::String).desc(what)
}

pub(super) fn explained(choices: Vec<Choice>, session: &Session<'_>) -> PipelineData {
    let rows: Vec<Explained> = choices.into_iter().map(Explained::from).collect();
    table(rows, &["node", "region", "chosen", "reason"], session.head)
}

/// `--dry-run`: all that stands in the way, then the steps, then how long writes would wait.
pub(super) fn planned(
    refusals: &[Refusal],
    steps: &[PlannedStep],
    world: &World,
    outage: Duration,
    session: &Session<'_>,
) -> PipelineData {
    let mut rows: Vec<Row> = refusals.iter().map(Row::refused).collect();
    if refusals.iter().all(|it| it.severity != Severity::Error) {
        rows.extend(steps.iter().map(Row::planned));
        let sum = Row::new("predicted", None, "planned").took(steps.iter().map(|it| it.predicted).sum());
        rows.push(Row {
            outage: Some(outage),
            epoch: Some(crate::nu::Count(world.term.epoch + 1)),
            timeline: u32::try_from(world.term.epoch + 1).ok(),
            ..sum.detail("outage is how long nobody can write")
        });
    }
    table(rows, COLUMNS, session.head)
}

/// `ha switchover` and `ha failback`.
pub(super) fn switchover(
    session: Session<'_>,
    call: &EvaluatedCall,
    to: Option<Spanned<String>>,
    command: &'static str,
) -> Result<PipelineData, LabeledError> {
    let agreement = session.agreement.clone();
    let span = to.as_ref().map_or(session.head, |it| it.span);
    let to = to.map(|it| it.item);
    if call.has_flag("explain")? || call.has_flag("dry-run")? {
        let (_, world) = session.wait(agreement.world())?;
        let (node, refusals) = agreement::plan_switchover(&agreement, &world, to.as_deref()).at(span)?;
        if call.has_flag("explain")? {
            let named = to.as_ref().and(node.as_deref());
            return Ok(explained(switch::explain_switchover(&world, named), &session));
        }
        let trip = agreement.round_trip();
        let budget = Budget::of_mode(&agreement.workspace, world.term.mode, trip, Duration::ZERO);
        let steps = node.map(|node| switch::switchover_steps(&world, &node, trip, &budget));
        let steps = steps.unwrap_or_default();
        return Ok(planned(&refusals, &steps, &world, switch::outage(&steps), &session));
    }
    let started = Instant::now();
    let work = async {
        let mut writer = writer(&agreement, None);
        if let Some(it) = &mut writer
            && !it.ready(WRITES_WITHIN).await
        {
            writer = None;
        }
        let begun = agreement::switchover(&agreement, to.as_deref()).await?;
        Ok((writer, begun))
    };
    let (writer, begun) = session.wanted.block_on(session.runtime, work).at(span)?;
    let (rows, received) = channel();
    let going = Going {
        agreement,
        rows,
        cancel: session.wanted.token(),
        acts: session.acts.clone(),
        command,
        started,
    };
    session.runtime.spawn(async move {
        going.follow(begun, writer).await;
    });
    Ok(stream(received, session.wanted, COLUMNS, session.head))
}

/// `ha failover`, its terms checked already where they are only words.
pub(super) fn failover(
    session: Session<'_>,
    call: &EvaluatedCall,
    terms: Terms,
    span: nu_protocol::Span,
) -> Result<PipelineData, LabeledError> {
    let agreement = session.agreement.clone();
    if session.wait(witness::is_alone(&agreement))? {
        return witnessed(session, call, terms, span);
    }
    if terms.witness.is_some() {
        return Err(crate::nu::label(session.wait(witness::not_needed(&agreement))?, span));
    }
    if call.has_flag("explain")? || call.has_flag("dry-run")? {
        let (_, world) = session.wait(agreement.world())?;
        let (to, refusals) = agreement::plan_failover(&agreement, &world, &terms).at(span)?;
        let choices = switch::explain_failover(&world, to.as_deref(), terms.accept_loss);
        if call.has_flag("explain")? {
            return Ok(explained(choices, &session));
        }
        let budget = Budget::of_mode(
            &agreement.workspace,
            world.term.mode,
            agreement.round_trip(),
            Duration::ZERO,
        );
        let chosen = choices.iter().find(|it| it.chosen).map(|it| it.node.as_str());
        let steps = switch::failover_steps(&world, chosen, &budget);
        return Ok(planned(&refusals, &steps, &world, switch::outage(&steps), &session));
    }
    let started = Instant::now();
    let work = async { agreement::failover(&agreement, &terms).await };
    let begun = session.wanted.block_on(session.runtime, work).at(span)?;
    let (rows, received) = channel();
    let going = Going {
        agreement,
        rows,
        cancel: session.wanted.token(),
        acts: session.acts.clone(),
        command: "ha failover",
        started,
    };
    session.runtime.spawn(async move {
        // Where the old primary was, its balancer may be gone, too.
        let from = going.agreement.region_of(&begun.operation.from);
        let writer = writer(&going.agreement, from.as_deref());
        let to = begun.operation.to.clone();
        let outcome = going.follow(begun, writer).await;
        if let (Outcome::Active { leader }, Some(to)) = (outcome, to)
            && leader != to
        {
            going.on_to(&leader, &to).await;
        }
    });
    Ok(stream(received, session.wanted, COLUMNS, session.head))
}

/// `ha failover` where no guard answers.
fn witnessed(
    session: Session<'_>,
    call: &EvaluatedCall,
    terms: Terms,
    span: nu_protocol::Span,
) -> Result<PipelineData, LabeledError> {
    let agreement = session.agreement.clone();
    let explain = call.has_flag("explain")?;
    if explain || call.has_flag("dry-run")? {
        let work = witness::plan(&agreement, &terms);
        let plan = session.wanted.block_on(session.runtime, work).at(span)?;
        if explain {
            return Ok(explained(plan.choices, &session));
        }
        let outage = switch::outage(&plan.steps);
        return Ok(planned(&plan.refusals, &plan.steps, &plan.world, outage, &session));
    }
    let started = Instant::now();
    let work = witness::clear(&agreement, &terms);
    let cleared = session.wanted.block_on(session.runtime, work).at(span)?;
    let (rows, received) = channel();
    let run = witness::Run {
        agreement,
        terms,
        rows,
        cancel: session.wanted.token(),
        acts: session.acts.clone(),
        started,
    };
    session.runtime.spawn(run.run(cleared));
    Ok(stream(received, session.wanted, COLUMNS, session.head))
}

/// A writer through a write listener, not of the region `avoid` if there is another.
fn writer(agreement: &Agreement, avoid: Option<&str>) -> Option<Writer> {
    let listeners = &agreement.listeners;
    let other = listeners.iter().find(|(region, _)| avoid != Some(region.as_str()));
    let (_, address) = other.or(listeners.first())?;
    Some(Writer::start(agreement.session(address, "ha outage")?))
}

/// A stream of rows under way.
struct Going {
    agreement: Arc<Agreement>,
    rows: mpsc::Sender<Row>,
    cancel: tokio_util::sync::CancellationToken,
    acts: Acts,
    command: &'static str,
    started: Instant,
}

impl Going {
    async fn follow(&self, begun: Begun, writer: Option<Writer>) -> Outcome {
        self.begun(&begun).await;
        let follow = Follow {
            agreement: self.agreement.clone(),
            operation: begun.operation,
            rows: self.rows.clone(),
            writer,
            cancel: self.cancel.clone(),
            acts: self.acts.clone(),
            command: self.command,
            started: self.started,
        };
        follow.run().await
    }

    /// What was known before, and that it is agreed.
    async fn begun(&self, begun: &Begun) {
        for warning in &begun.warnings {
            let _ = self.rows.send(Row::refused(warning)).await;
        }
        let region = self.agreement.region_of(&begun.operation.from);
        let looked = Row::new("preflight", None, "done").took(begun.cleared.duration_since(self.started));
        let _ = self.rows.send(looked.detail("nothing stands in the way")).await;
        let row = Row::new("agree", region, if begun.joined { "joined" } else { "done" });
        let row = row.took(begun.cleared.elapsed()).detail(begun.detail.clone());
        // The reader may be gone; the guards have begun.
        let _ = self.rows.send(row).await;
    }

    /// The furthest had to come first; now the one that was named.
    async fn on_to(&self, leader: &str, to: &str) {
        let region = self.agreement.region_of(to);
        let detail = format!("{leader} had most of the log and came first; it now hands over to {to}");
        let _ = self
            .rows
            .send(Row::new("switchover", region.clone(), "done").detail(detail))
            .await;
        let started = Instant::now();
        match agreement::switchover(&self.agreement, Some(to)).await {
            Ok(begun) => {
                let mut writer = writer(&self.agreement, None);
                if let Some(it) = &mut writer {
                    // Not ready is not measured.
                    it.ready(WRITES_WITHIN).await;
                }
                let again = Self {
                    agreement: self.agreement.clone(),
                    rows: self.rows.clone(),
                    cancel: self.cancel.clone(),
                    acts: self.acts.clone(),
                    command: "ha switchover",
                    started,
                };
                again.follow(begun, writer).await;
            }
            Err(failed) => {
                let _ = self.rows.send(failed_row("switchover", region, &failed)).await;
            }
        }
    }
}

/// A failure of one part, where others went well.
pub(super) fn failed_row(step: &str, region: Option<String>, failed: &Failed) -> Row {
    Row {
        error: Some(failed.to_string()),
        code: Some(failed.code().to_owned()),
        help: failed.help(),
        ..Row::new(step, region, "failed")
    }
}
