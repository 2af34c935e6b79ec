//! What stands in the way of a failover that a person asks for, and what it would cost.

use super::{Refusal, World, explain_failover, preflight::cluster};
use crate::{
    agreement::{Phase, Standing, Verdict},
    report::{DatabaseState, NodeRole},
};

/// Whether the primary is there, as far as anybody can say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PrimaryState {
    /// It answers, and the observers do not say otherwise.
    Up(String),
    Gone(String),
}

/// By the observers first: whoever types may see a primary that nobody else does, or the other way round.
pub fn primary_state(world: &World) -> PrimaryState {
    let name = &world.term.leader;
    if world.term.phase == Phase::Sealing {
        return PrimaryState::Gone(format!("there is none: epoch {} is being decided", world.term.epoch));
    }
    let Some(leader) = world.leader() else {
        return PrimaryState::Gone(format!("{name} is no server of this workspace any more"));
    };
    if leader.off {
        return PrimaryState::Gone(format!("the server of {name} is switched off"));
    }
    let down: Vec<&str> = world
        .nodes
        .iter()
        .filter(|(_, it)| it.verdict(name) == Some(Verdict::Down))
        .map(|(node, _)| node.as_str())
        .collect();
    if down.len() * 2 > world.nodes.len() {
        return PrimaryState::Gone(format!(
            "{} of {} observers say that {name} is down: {}",
            down.len(),
            world.nodes.len(),
            down.join(", ")
        ));
    }
    match &leader.report {
        Err(why) => PrimaryState::Gone(format!("{name} cannot be asked: {why}")),
        Ok(_) if leader.is_running_primary() => PrimaryState::Up(format!(
            "{name} runs as primary, and {} of {} observers say that it is down",
            down.len(),
            world.nodes.len()
        )),
        Ok(report) => {
            let detail = report.database.detail.as_deref();
            let why = detail.map(|it| format!(": {it}")).unwrap_or_default();
            PrimaryState::Gone(format!("the database of {name} does not run as primary{why}"))
        }
    }
}

/// Log that the primary is known to have written and that nobody who can be asked has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    pub bytes: Option<u64>,
}

/// At least so much would be lost: the primary may have written more after its last sign of life.
pub fn estimate(world: &World) -> Loss {
    loss(world, &standings(world))
}

pub(super) fn loss(world: &World, standings: &[Standing]) -> Loss {
    let best = standings.iter().filter_map(|it| it.position.as_ref().ok()).max();
    let written = world.written();
    Loss {
        bytes: written
            .zip(best)
            .map(|(written, best)| written.lsn.bytes_since(best.lsn)),
    }
}

/// Everything that stands in the way of a failover to `to`, or to whoever has most. `fenced` is how the operator knows
/// that the old primary writes no more.
pub fn failover(world: &World, to: Option<&str>, accept_loss: bool, fenced: Option<&str>) -> Vec<Refusal> {
    let mut out = cluster(world);
    let leader = &world.term.leader;
    if let PrimaryState::Up(why) = primary_state(world) {
        let to = to.map(|to| format!(" --to {to}")).unwrap_or_default();
        out.push(
            Refusal::new(
                "ha::failover::primary_up",
                format!("the primary is there: {why}"),
                format!("hand over without losing anything: ha switchover{to}"),
            )
            .of(world.region_of(leader)),
        );
    }
    if let Some(to) = to {
        out.extend(target(world, &standings(world), to));
    }
    let choices = explain_failover(world, to, accept_loss);
    if choices.iter().all(|it| !it.chosen) {
        let help = format!(
            "bring another voter back, or, when {} certainly writes no more: ha failover --accept-loss --fenced \"how you know\"",
            world.term.leader
        );
        out.push(nobody(world, &standings(world), accept_loss, help));
    } else if accept_loss
        && !strict_choice(world)
        && let Some(refusal) = not_fenced(world, fenced)
    {
        out.push(refusal);
    }
    out
}

/// It could be done without losing anything.
fn strict_choice(world: &World) -> bool {
    explain_failover(world, None, false).iter().any(|it| it.chosen)
}

pub(super) fn target(world: &World, standings: &[Standing], to: &str) -> Option<Refusal> {
    let leader = &world.term.leader;
    let Some(node) = world.nodes.get(to) else {
        let known: Vec<&str> = world.nodes.keys().map(String::as_str).collect();
        return Some(Refusal::new(
            "ha::failover::unknown",
            format!("no database server {to} in this workspace"),
            format!("one of: {}", known.join(", ")),
        ));
    };
    let standing = standings.iter().find(|it| it.node == to);
    let (code, why) = match standing {
        _ if to == leader => ("ha::failover::is_primary", format!("{to} is the primary that is gone")),
        None => (
            "ha::failover::witness",
            format!("{to} is a witness: it votes and has no data"),
        ),
        Some(Standing {
            forbidden: Some(why), ..
        }) => ("ha::failover::forbidden", format!("{to} may not be primary: {why}")),
        Some(Standing { position: Err(why), .. }) => {
            ("ha::failover::not_eligible", format!("{to} cannot take over: {why}"))
        }
        Some(_) => return None,
    };
    let help = "see who can: ha failover --explain; leave --to out to take the one that has most";
    Some(Refusal::new(code, why, help).of(&node.region))
}

pub(super) fn nobody(world: &World, standings: &[Standing], accept_loss: bool, help: String) -> Refusal {
    let needed = world.term.seals_needed();
    let can: Vec<&str> = standings
        .iter()
        .filter(|it| it.position.is_ok() && world.term.voters.contains(&it.node))
        .map(|it| it.node.as_str())
        .collect();
    let voters = world.term.voters.len();
    if accept_loss || can.len() >= needed {
        return Refusal::new(
            "ha::failover::nobody",
            "no server that may be primary can take over",
            "see why each cannot: ha failover --explain",
        );
    }
    let lost = match loss(world, standings).bytes {
        Some(0) => "nothing that is known of would be lost".to_owned(),
        Some(bytes) => format!("at least {bytes} bytes of the log would be lost"),
        None => "how much would be lost is not known".to_owned(),
    };
    Refusal::new(
        "ha::failover::no_quorum",
        format!(
            "{needed} of {voters} voters must seal to be sure of every acknowledged write, and {} can; {lost}",
            if can.is_empty() {
                "none".to_owned()
            } else {
                can.join(", ")
            }
        ),
        help,
    )
}

/// Fewer seals than a quorum do not keep the old primary from acknowledging: something else must.
fn not_fenced(world: &World, fenced: Option<&str>) -> Option<Refusal> {
    let leader = &world.term.leader;
    if fenced.is_some() || proof(world).is_some() {
        return None;
    }
    Some(
        Refusal::new(
            "ha::failover::not_fenced",
            format!("nothing proves that {leader} writes no more, and without a quorum nothing else would stop it"),
            format!(
                "switch it off: ha power off {leader}; or say how you know: --fenced \"power is off, seen in the rack\""
            ),
        )
        .of(world.region_of(leader)),
    )
}

/// How it is known that the old primary writes no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Its server is switched off.
    Off,
    /// Its guard says so, in the report with this beat. It may start the database at any moment, and tells so first: what
    /// rests on it holds only as long as no other report lies in the store.
    Told { beat: u64 },
}

impl Proof {
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Off => "its server is switched off",
            Self::Told { .. } => "its guard says that no process of it runs",
        }
    }
}

/// None where nothing but a person's word could be one.
pub fn proof(world: &World) -> Option<Proof> {
    let leader = world.leader()?;
    if leader.off {
        return Some(Proof::Off);
    }
    let member = leader.member.as_ref().filter(|it| leader.answers() && it.stopped)?;
    Some(Proof::Told { beat: member.beat })
}

/// Each server with data as a candidate: where it would be sealed, or why it cannot be counted on.
pub(super) fn standings(world: &World) -> Vec<Standing> {
    let data = world.nodes.iter().filter(|(_, it)| it.data);
    data.map(|(node, it)| Standing {
        node: node.clone(),
        region: it.region.clone(),
        priority: it.priority,
        forbidden: it.forbidden.clone(),
        position: position(world, node),
    })
    .collect()
}

fn position(world: &World, node: &str) -> Result<crate::lsn::Position, String> {
    let it = world.nodes.get(node).ok_or("it is not known")?;
    let member = it.member.as_ref();
    if let Some(need) = member.and_then(|it| it.need.as_ref()) {
        return Err(format!("its data must be rebuilt: {}", need.why));
    }
    if let Some(sealed) = member
        .filter(|_| it.answers() && world.term.phase == Phase::Sealing)
        .and_then(|it| it.sealed_for(world.term.epoch))
    {
        return Ok(sealed);
    }
    let report = it.report.as_ref().map_err(Clone::clone)?;
    if node == world.term.leader {
        return Err("it is the primary that is to be replaced; it counts again once it has sealed itself".to_owned());
    }
    if report.database.state != DatabaseState::Running || report.database.role != Some(NodeRole::Replica) {
        return Err(
            "its database does not run as a replica: its position is known once it was started sealed".to_owned(),
        );
    }
    let position = it.position().ok_or("it does not say how far its log goes")?;
    match world.diverged(position) {
        Some(why) => Err(why),
        None => Ok(position),
    }
}
