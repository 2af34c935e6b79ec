//! A wish, once nothing stands in its way any more: swapped into `term`, or found there already.

use std::time::{Duration, Instant};

use ha_core::{
    agreement::{AcceptLoss, Campaign, Phase, Reason, Switch},
    switch::{self, Choice, Kind, Proof, Refusal, Severity, World, explain_failover, explain_switchover},
};
use ha_store::Revision;
use jiff::{SignedDuration, Timestamp};

use super::{Agreement, Look, Operation, operation, swap};
use crate::error::Failed;

/// A switchover that is not done by then is undone by the guards.
const SWITCH_WITHIN: Duration = Duration::from_secs(10);
/// For them to say that it is.
const PATIENCE: Duration = Duration::from_secs(10);
const FAILOVER_WITHIN: Duration = Duration::from_secs(60);
/// Somebody else may change the term between a look and the swap; who loses looks again.
const ATTEMPTS: u32 = 3;

/// A replica that has just begun to stream is seen to within this time: its guard looks each second, and tells then.
const SHOWS_WITHIN: Duration = Duration::from_millis(2500);
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// A wish that lies in the store.
pub(crate) struct Begun {
    pub(crate) operation: Operation,
    pub(crate) warnings: Vec<Refusal>,
    /// Somebody had asked for the same before.
    pub(crate) joined: bool,
    pub(crate) detail: String,
    /// When nothing stood in its way.
    pub(crate) cleared: Instant,
}

/// What a failover was told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms {
    pub(crate) to: Option<String>,
    pub(crate) accept_loss: bool,
    pub(crate) fenced: Option<String>,
    /// As `fenced`, where no guard answers.
    pub(crate) witness: Option<String>,
}

/// The node that `--to` names: a node, or the best of a region's. None names the best of all.
///
/// # Errors
/// A name that is neither.
pub(crate) fn target(agreement: &Agreement, choices: &[Choice], to: Option<&str>) -> Result<Option<String>, Failed> {
    let Some(name) = to else {
        return Ok(choices.iter().find(|it| it.chosen).map(|it| it.node.clone()));
    };
    if agreement.node(name).is_some() {
        return Ok(Some(name.to_owned()));
    }
    let of_region = |it: &&Choice| it.region == name;
    // Ordered already: who could comes before who could not.
    if let Some(first) = choices.iter().find(of_region) {
        return Ok(Some(first.node.clone()));
    }
    let mut known: Vec<String> = agreement.nodes.iter().map(|it| it.region.clone()).collect();
    known.dedup();
    known.extend(agreement.nodes.iter().map(|it| it.name.clone()));
    let among = format!("workspace {}", agreement.workspace.name);
    Err(Failed::unknown(crate::error::What::Region, name, among, known))
}

/// Whom a switchover would make primary, and all that stands in its way.
pub(crate) fn plan_switchover(
    agreement: &Agreement,
    world: &World,
    to: Option<&str>,
) -> Result<(Option<String>, Vec<Refusal>), Failed> {
    let running = world.term.switch.as_ref().map(|it| it.to.clone());
    let choices = explain_switchover(world, None);
    let node = match (to, running) {
        // Who asks for nobody in particular joins what is under way.
        (None, Some(running)) => Some(running),
        (to, _) => target(agreement, &choices, to)?,
    };
    let refusals = match &node {
        Some(node) => switch::switchover(world, node),
        None => switch::nobody(world, &choices),
    };
    Ok((node, refusals))
}

/// Afterwards the store says that the primary is to hand over to the best, or to `to`.
///
/// # Errors
/// Everything that stands in the way, at once; then nothing was changed.
pub(crate) async fn switchover(agreement: &Agreement, to: Option<&str>) -> Result<Begun, Failed> {
    for _ in 0..ATTEMPTS {
        let (look, world, node, warnings) = clear_to_switch(agreement, to).await?;
        let cleared = Instant::now();
        let begun = |op: String, joined: bool| {
            let expected = world.nodes.iter().filter(|(_, it)| it.data && it.answers());
            Begun {
                operation: Operation {
                    kind: Kind::Switchover,
                    id: op,
                    epoch: look.term.epoch,
                    from: look.term.leader.clone(),
                    expected: expected
                        .map(|(node, _)| node.clone())
                        .filter(|it| *it != node)
                        .collect(),
                    to: Some(node.clone()),
                    within: SWITCH_WITHIN + PATIENCE,
                },
                warnings: warnings.clone(),
                joined,
                cleared,
                detail: format!(
                    "{} hands over to {node}, or it is undone within {} s",
                    look.term.leader,
                    SWITCH_WITHIN.as_secs()
                ),
            }
        };
        if let Some(running) = look.term.switch.as_ref().filter(|it| it.to == node) {
            return Ok(begun(running.op.clone(), true));
        }
        let op = operation("switchover", &agreement.by);
        let now = Timestamp::now();
        let switch = Switch {
            op: op.clone(),
            to: node.clone(),
            by: agreement.by.clone(),
            started_at: now,
            until: later(now, SWITCH_WITHIN),
        };
        let Some(next) = look.term.begin_switch(switch) else {
            continue;
        };
        // A pause that came meanwhile is one to obey.
        let pause = agreement.cluster.keys.pause();
        if swap(agreement, &look, &next, &[(&pause, look.pause_seen)]).await? {
            return Ok(begun(op, false));
        }
    }
    Err(contended())
}

/// A look in which nothing stands in the way, whom it makes primary, and what should be known all the same.
async fn clear_to_switch(
    agreement: &Agreement,
    to: Option<&str>,
) -> Result<(Look, World, String, Vec<Refusal>), Failed> {
    let began = Instant::now();
    let mut said = false;
    loop {
        let (look, world) = agreement.world().await?;
        let (node, refusals) = plan_switchover(agreement, &world, to)?;
        let (errors, warnings): (Vec<_>, Vec<_>) = refusals.into_iter().partition(|it| it.severity == Severity::Error);
        match node {
            Some(node) if errors.is_empty() => return Ok((look, world, node, warnings)),
            _ => {}
        }
        let passes = !errors.is_empty() && errors.iter().all(|it| it.code == switch::NOT_STREAMING);
        if !passes || began.elapsed() >= SHOWS_WITHIN {
            return Err(Failed::Refused(errors));
        }
        if let Some(first) = errors.first().filter(|_| !std::mem::replace(&mut said, true)) {
            eprintln!("ha: waiting: {}", first.why);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Afterwards an epoch is being decided in which the furthest of a sealed quorum becomes primary.
///
/// # Errors
/// Everything that stands in the way, at once; then nothing was changed.
pub(crate) async fn failover(agreement: &Agreement, terms: &Terms) -> Result<Begun, Failed> {
    for _ in 0..ATTEMPTS {
        let (look, world) = agreement.world().await?;
        let (to, refusals) = plan_failover(agreement, &world, terms)?;
        if !refusals.is_empty() {
            return Err(Failed::Refused(refusals));
        }
        let cleared = Instant::now();
        // With a quorum nothing is lost, whatever was allowed.
        let lossless = explain_failover(&world, to.as_deref(), false)
            .iter()
            .any(|it| it.chosen);
        let deciding = look.term.phase == Phase::Sealing;
        let allowed = look.term.campaign.as_ref().is_some_and(|it| it.accept_loss.is_some());
        if deciding && (lossless || allowed || look.term.chosen().is_some()) {
            let op = look
                .term
                .campaign
                .as_ref()
                .and_then(|it| it.op.clone())
                .unwrap_or_default();
            return Ok(begun_failover(
                &look,
                &world,
                look.term.epoch.saturating_sub(1),
                op,
                to,
                (true, cleared),
            ));
        }
        let op = operation("failover", &agreement.by);
        let leader = agreement.cluster.keys.member(&look.term.leader);
        let mut unchanged = vec![(agreement.cluster.keys.pause(), look.pause_seen)];
        let fenced = match (&terms.fenced, switch::proof(&world)) {
            _ if lossless || !terms.accept_loss => None,
            (Some(told), _) => Some(told.clone()),
            (None, Some(proof)) => {
                if let Proof::Told { beat } = proof {
                    let Some(seen) = still_stopped(agreement, &look, beat).await? else {
                        continue;
                    };
                    unchanged.push((leader, seen));
                }
                Some(proof.as_str().to_owned())
            }
            (None, None) => None,
        };
        let accept_loss = fenced.map(|fenced| AcceptLoss {
            by: agreement.by.clone(),
            fenced,
        });
        let next = look.term.campaign(Campaign {
            by: agreement.by.clone(),
            reason: Reason::Operator,
            detail: format!("asked for by {}", agreement.by),
            automatic: false,
            started_at: Timestamp::now(),
            accept_loss,
            wanted: to.clone(),
            sealed: Default::default(),
            chosen: None,
            op: Some(op.clone()),
        });
        let unchanged: Vec<(&str, Revision)> = unchanged.iter().map(|(key, seen)| (key.as_str(), *seen)).collect();
        if swap(agreement, &look, &next, &unchanged).await? {
            let begun = begun_failover(&look, &world, look.term.epoch, op, to, (false, cleared));
            let allowed = next.campaign.is_some_and(|it| it.accept_loss.is_some());
            return Ok(match allowed {
                true => Begun {
                    detail: format!("epoch {}: the furthest of those that can seal, as allowed", next.epoch),
                    ..begun
                },
                false => begun,
            });
        }
    }
    Err(contended())
}

/// The leader's guard has said once more that nothing of its database runs: the first word may have been old. Answers with
/// the revision of that report; none when it says something else now, or the term changed.
///
/// # Errors
/// `ha::failover::not_fenced` when it says nothing new.
async fn still_stopped(agreement: &Agreement, look: &Look, beat: u64) -> Result<Option<Revision>, Failed> {
    let leader = &look.term.leader;
    let timing = agreement.workspace.timing;
    // A guard reports every two renewals, changed or not.
    let patience = timing.renew * 2 + timing.call_timeout * 2;
    let newer = async {
        let mut seen = look.revision;
        loop {
            let mut watch = agreement.cluster.watch(seen).await?;
            seen = watch.next().await?.revision;
            let now = agreement.look().await?;
            let member = now.members.get(leader);
            if now.seen != look.seen || member.is_none_or(|it| !it.stopped) {
                return Ok::<_, Failed>(None);
            }
            if member.is_some_and(|it| it.beat > beat) {
                return Ok(now.members_seen.get(leader).copied());
            }
        }
    };
    tokio::time::timeout(patience, newer).await.unwrap_or_else(|_| {
        Err(Failed::refused(
            Refusal::new(
                "ha::failover::not_fenced",
                format!(
                    "the guard of {leader} said that nothing of it runs, and has said nothing since: that proves nothing now"
                ),
                format!("switch it off: ha power off {leader}; or say how you know: --fenced \"power is off, seen in the rack\""),
            )
            .of(agreement.region_of(leader).as_deref().unwrap_or_default()),
        ))
    })
}

/// Whom a failover is to prefer, and all that stands in its way.
pub(crate) fn plan_failover(
    agreement: &Agreement,
    world: &World,
    terms: &Terms,
) -> Result<(Option<String>, Vec<Refusal>), Failed> {
    let choices = explain_failover(world, None, terms.accept_loss);
    let to = match &terms.to {
        Some(to) => target(agreement, &choices, Some(to))?,
        None => None,
    };
    let refusals = switch::failover(world, to.as_deref(), terms.accept_loss, terms.fenced.as_deref());
    Ok((to, refusals))
}

fn begun_failover(
    look: &Look,
    world: &World,
    epoch: u64,
    op: String,
    to: Option<String>,
    (joined, cleared): (bool, Instant),
) -> Begun {
    let from = &look.term.leader;
    let expected = world
        .nodes
        .iter()
        .filter(|(node, it)| it.data && it.answers() && *node != from);
    Begun {
        operation: Operation {
            kind: Kind::Failover,
            id: op,
            epoch,
            from: from.clone(),
            expected: expected.map(|(node, _)| node.clone()).collect(),
            to,
            within: FAILOVER_WITHIN,
        },
        warnings: Vec::new(),
        joined,
        cleared,
        detail: format!(
            "epoch {}: {} of {} voters must seal",
            epoch + 1,
            look.term.seals_needed(),
            look.term.voters.len()
        ),
    }
}

fn later(now: Timestamp, after: Duration) -> Timestamp {
    let after = SignedDuration::try_from(after).unwrap_or_default();
    now.checked_add(after).unwrap_or(Timestamp::MAX)
}

fn contended() -> Failed {
    Failed::refused(Refusal::new(
        "ha::agreement::contended",
        "the term changed each time it was about to be swapped: guards or another operator are changing it",
        "see what they do: ha lease, ha events --last 10; then try again",
    ))
}
