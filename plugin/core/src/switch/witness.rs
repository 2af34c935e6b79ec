//! A failover where no guard answers (protocol §12): a person is the witness that the old primary writes no more, and the
//! shell does over SQL what guards do, in the same order and with the same rules. The store is still the one place where
//! it is agreed: without it nobody knows who has voted, which epoch comes next, or whether somebody else leads by now.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    Choice, PlannedStep, Refusal, World,
    failover::{loss, nobody, target},
    failover_steps,
    preflight::cluster,
};
use crate::{
    agreement::{Epoch, Node, Phase, Standing, Term, candidates},
    budget::Budget,
    lsn::Position,
};

/// Begins the reason of the pause that keeps guards still while this is done: they may come back in the middle.
pub const PAUSE: &str = "ha failover --witness";

/// What a database said of itself over SQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    pub replica: bool,
    /// Of all the log that it has.
    pub position: Position,
    /// The epoch in the name that it streams under, or tries to.
    pub follows: Option<Epoch>,
    /// Since it heard of its upstream, if it ever did.
    pub silence: Option<Duration>,
}

/// Or why it said nothing.
pub type Sights = BTreeMap<Node, Result<Sight, String>>;

/// What the person says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Words<'a> {
    /// How it is known that the old primary writes no more.
    pub witness: Option<&'a str>,
    pub accept_loss: bool,
    pub to: Option<&'a str>,
}

/// Nobody else can do it, as far as this machine sees.
pub fn is_alone(world: &World) -> bool {
    world.nodes.values().all(|it| !it.answers())
}

/// What comes next. Derived from what is there, so that whoever comes after a shell that died goes on with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// A new epoch, in which nobody may write yet.
    Campaign,
    /// Every database that answers.
    Seal,
    /// By [`choose`].
    Choose,
    Promote(Node),
    /// It is primary already.
    Publish(Node),
    /// An epoch of a witness has its primary; the others may not follow it yet, and writes may not be routed there.
    Finish(Node),
}

impl Next {
    /// Why this and nothing else.
    pub fn why(&self, term: &Term) -> String {
        let epoch = term.epoch;
        match self {
            Self::Campaign if term.phase == Phase::Sealing => {
                format!("epoch {epoch} came to nothing; the next one decides anew")
            }
            Self::Campaign => format!("{} led epoch {epoch} and is gone", term.leader),
            Self::Seal => format!("epoch {epoch} began, and nobody has sealed for it yet"),
            Self::Choose => format!("the furthest of those that sealed for epoch {epoch} is chosen"),
            Self::Promote(node) => format!("{node} was chosen in epoch {epoch} and is a replica still"),
            Self::Publish(node) => format!("{node} is primary on timeline {epoch}, and nobody was told"),
            Self::Finish(node) => format!("{node} leads epoch {epoch}"),
        }
    }
}

/// `sealed` once everybody who answers has sealed in this run; `sights` are as fresh as the term.
pub fn next(term: &Term, sights: &Sights, sealed: bool) -> Next {
    let primary = |node: &Node| matches!(sights.get(node), Some(Ok(it)) if made_over_sql(term, node, it));
    match term.phase {
        Phase::Active if primary(&term.leader) => Next::Finish(term.leader.clone()),
        Phase::Active | Phase::Switching => Next::Campaign,
        Phase::Sealing if !term.is_witnessed() => Next::Campaign,
        Phase::Sealing => match term.chosen() {
            Some(node) if primary(node) => Next::Publish(node.clone()),
            // A replica that does not answer, or one on another timeline, is not waited for.
            Some(node) if matches!(sights.get(node), Some(Ok(it)) if it.replica) => Next::Promote(node.clone()),
            Some(_) => Next::Campaign,
            None if sealed => Next::Choose,
            None => Next::Seal,
        },
    }
}

/// A primary on the timeline that the present epoch gave it.
fn made_over_sql(term: &Term, node: &str, sight: &Sight) -> bool {
    let timeline = sight.position.timeline;
    !sight.replica && timeline == term.own_timeline() && term.gave(timeline, node)
}

/// Each server with data as a candidate: where it would be sealed, or why it cannot be counted on.
pub fn standings(world: &World, sights: &Sights) -> Vec<Standing> {
    let data = world.nodes.iter().filter(|(_, it)| it.data);
    data.map(|(node, it)| Standing {
        node: node.clone(),
        region: it.region.clone(),
        priority: it.priority,
        forbidden: it.forbidden.clone(),
        position: position(world, node, sights),
    })
    .collect()
}

fn position(world: &World, node: &str, sights: &Sights) -> Result<Position, String> {
    let term = &world.term;
    let need = world.nodes.get(node).and_then(|it| it.member.as_ref()?.need.as_ref());
    if let Some(need) = need {
        return Err(format!("its data must be rebuilt: {}", need.why));
    }
    let sight = sights
        .get(node)
        .ok_or("it was not asked")?
        .as_ref()
        .map_err(Clone::clone)?;
    let timeline = sight.position.timeline;
    if !sight.replica && !made_over_sql(term, node, sight) {
        return Err(format!(
            "it runs as a primary on timeline {timeline}: only what is stopped can be sealed"
        ));
    }
    let known =
        timeline == term.timeline || term.lineage.iter().any(|it| it.timeline == timeline) || term.gave(timeline, node);
    if !known {
        return Err(format!("it is on timeline {timeline}, which no campaign made"));
    }
    Ok(sight.position)
}

/// A row for each server, the chosen first, by the rules that guards choose by.
pub fn explain(world: &World, sights: &Sights, prefer: Option<&str>, accept_loss: bool) -> Vec<Choice> {
    let written = world.written().map(|it| it.lsn);
    let rows = candidates(&world.term, &standings(world, sights), prefer, accept_loss);
    let choice = rows.into_iter().map(|it| Choice {
        lag_bytes: it.position.zip(written).map(|(at, end)| end.bytes_since(at.lsn)),
        node: it.node,
        region: it.region,
        position: it.position,
        eligible: it.eligible,
        chosen: it.chosen,
        reason: it.reason,
    });
    choice.collect()
}

/// Who is made primary of those that sealed, or why nobody is.
///
/// # Errors
/// Too few sealed, or policy forbids the furthest.
pub fn choose(
    world: &World,
    sealed: &BTreeMap<Node, Result<Position, String>>,
    prefer: Option<&str>,
) -> Result<Node, Refusal> {
    let accept_loss = world.term.campaign.as_ref().is_some_and(|it| it.accept_loss.is_some());
    let mut standings = standings(world, &BTreeMap::new());
    for it in &mut standings {
        it.position = sealed
            .get(&it.node)
            .cloned()
            .unwrap_or_else(|| Err("it was not asked".to_owned()));
    }
    let rows = candidates(&world.term, &standings, prefer, accept_loss);
    let first = rows.into_iter().find(|it| it.chosen).map(|it| it.node);
    first.ok_or_else(|| nobody(world, &standings, accept_loss, loss_help(&world.term.leader)))
}

fn loss_help(leader: &str) -> String {
    format!(
        "bring another voter's database back; or go on with what there is: ha failover --accept-loss --witness \"how you know that {leader} is off\""
    )
}

/// Log that the old primary is known to have written and that nobody who answers has: at least so much would be lost.
pub fn estimate(world: &World, sights: &Sights) -> super::Loss {
    loss(world, &standings(world, sights))
}

/// Everything that stands in the way; empty when it may begin. `quiet` is how long the store was watched for a word of any
/// guard, and nothing came; none when it was not watched.
pub fn refusals(world: &World, sights: &Sights, words: Words<'_>, quiet: Option<Duration>) -> Vec<Refusal> {
    let leader = &world.term.leader;
    let next = next(&world.term, sights, false);
    let mut out: Vec<Refusal> = cluster(world)
        .into_iter()
        .filter(|it| it.code != "ha::agreement::no_guards")
        .filter(|it| it.code != "ha::agreement::paused" || !paused_by_us(world))
        .collect();
    if words.witness.is_none() {
        out.insert(
            0,
            Refusal::new(
                "ha::agreement::no_guards",
                format!(
                    "no guard answers, and they are the ones who do it; over SQL it can be done once {leader} certainly writes \
                     no more, and only a person can know that"
                ),
                format!(
                    "bring the guards back: ha provision; or fence {leader} (ha power off {leader}; or stop its database and see \
                     that no process of it is left), then say how you know: ha failover --witness \"power is off, seen in the \
                     rack\""
                ),
            ),
        );
    }
    out.extend(writers(world, sights, &next));
    if matches!(next, Next::Finish(_)) {
        return out;
    }
    out.extend(streams(world, sights, quiet));
    let standings = standings(world, sights);
    if let Some(to) = words.to {
        out.extend(target(world, &standings, to));
    }
    if explain(world, sights, words.to, words.accept_loss)
        .iter()
        .all(|it| !it.chosen)
    {
        out.push(nobody(world, &standings, words.accept_loss, loss_help(leader)));
    }
    out
}

/// The pause is that of a shell which began this and may have died: its steps are repeatable, so whoever comes joins it.
fn paused_by_us(world: &World) -> bool {
    world.paused().is_some_and(|it| it.why.starts_with(PAUSE))
}

/// Whoever runs as a primary could acknowledge something, but for the one that this campaign made.
fn writers(world: &World, sights: &Sights, next: &Next) -> Vec<Refusal> {
    let ours = match next {
        Next::Publish(node) | Next::Finish(node) => Some(node),
        _ => None,
    };
    let primaries = sights.iter().filter(|(node, it)| {
        let primary = matches!(it, Ok(it) if !it.replica);
        primary && ours != Some(*node)
    });
    let refusal = primaries.map(|(node, _)| {
        let (code, why) = match *node == world.term.leader {
            true => (
                "ha::failover::primary_up",
                format!("{node} answers, as a primary: it is not gone, and without its guard nobody fences it"),
            ),
            false => (
                "ha::failover::second_primary",
                format!("{node} answers as a primary, and {} led last", world.term.leader),
            ),
        };
        Refusal::new(
            code,
            why,
            format!(
                "stop it for good: ha power off {node}, or there: pg_ctl stop -m immediate; or bring the guards back, who hand \
                 over without losing anything: ha provision, then ha switchover"
            ),
        )
        .of(world.region_of(node))
    });
    refusal.collect()
}

/// A replica that hears of the old primary proves that it lives, whatever this machine sees.
fn streams(world: &World, sights: &Sights, quiet: Option<Duration>) -> Vec<Refusal> {
    let heard = |silence: Duration| match quiet {
        // A word from before the watch says nothing about now.
        Some(quiet) => silence < quiet,
        None => false,
    };
    let hears = sights.iter().filter_map(|(node, it)| {
        let silence = it.as_ref().ok()?.silence.filter(|it| heard(*it))?;
        Some((node, silence))
    });
    let refusal = hears.map(|(node, silence)| {
        Refusal::new(
            "ha::failover::primary_up",
            format!(
                "{node} heard of {} {:.1} s ago: it lives, and is only out of this machine's reach",
                world.term.leader,
                silence.as_secs_f64()
            ),
            format!("switch it off first: ha power off {}", world.term.leader),
        )
        .of(world.region_of(node))
    });
    refusal.collect()
}

/// Somebody wrote to the store while it was watched: a guard lives, out of this machine's reach.
pub fn guards_live(who: &str) -> Refusal {
    Refusal::new(
        "ha::failover::guards_live",
        format!(
            "{who} in the store changed while it was watched: a guard is at work that does not answer this machine"
        ),
        "from a machine that reaches it: ha failover; or stop that guard first, so that two do not decide at once",
    )
}

/// Guards answer, and whoever says something as a witness may not know that.
pub fn guards_answer(world: &World) -> Refusal {
    let answering: Vec<&str> = world
        .nodes
        .iter()
        .filter(|(_, it)| it.answers())
        .map(|(node, _)| node.as_str())
        .collect();
    Refusal::new(
        "ha::failover::guards_answer",
        format!(
            "guards answer ({}), and they do it: no witness is needed",
            answering.join(", ")
        ),
        "leave it to them: ha failover",
    )
}

/// What can be told without the store, and why it is not enough.
pub fn no_store(sights: &Sights) -> Refusal {
    let seen: Vec<String> = sights
        .iter()
        .map(|(node, it)| match it {
            Ok(it) => {
                let role = if it.replica { "replica" } else { "primary" };
                let epoch = it.follows.map(|it| format!(", of epoch {it}")).unwrap_or_default();
                format!("{node} is a {role} at {}{epoch}", it.position)
            }
            Err(_) => format!("{node} does not answer"),
        })
        .collect();
    Refusal::new(
        "ha::store::no_witness",
        format!(
            "neither guards nor store answer; the databases say: {}. Whose acknowledgements counted last, and that nobody leads a \
             later epoch, only the store can say",
            seen.join("; ")
        ),
        "bring a majority of the store's members back first: ha quorum; from a snapshot where the disks are lost (etcdctl snapshot \
         restore), and if it is older than the last change of primary, once guards run: ha quorum adopt",
    )
}

/// Rows of `--dry-run`.
pub fn steps(world: &World, chosen: Option<&str>, watch: Duration, budget: &Budget) -> Vec<PlannedStep> {
    let step = |step, region: Option<String>, predicted, outage, detail: String| PlannedStep {
        step,
        region,
        predicted,
        outage,
        detail,
    };
    let mut out = vec![step(
        "watch",
        None,
        watch,
        true,
        "nobody but this command changes the store, and no replica hears of the old primary".to_owned(),
    )];
    for mut it in failover_steps(world, chosen, budget) {
        match it.step {
            "campaign" => it.detail = format!("{}; guards that come back meanwhile are paused", it.detail),
            "promote" => it.detail = format!("{}, over SQL", it.detail),
            "route" => {
                it.detail =
                    "the balancers that this machine reaches, which stop asking guards until those are back".to_owned();
            }
            _ => {}
        }
        out.push(it);
    }
    out
}

/// Who follows the new primary: all that sealed, but those whose log is not a part of its own; they wait for their guards.
pub fn followers(term: &Term, sights: &Sights) -> (BTreeSet<Node>, BTreeMap<Node, String>) {
    let (mut follow, mut wait) = (BTreeSet::new(), BTreeMap::new());
    for (node, sight) in sights.iter().filter(|(node, _)| **node != term.leader) {
        match sight {
            Ok(it) if it.replica => match crate::agreement::diverged(it.position, term.timeline, &term.lineage) {
                None => drop(follow.insert(node.clone())),
                Some(why) => drop(wait.insert(node.clone(), why)),
            },
            Ok(_) => drop(wait.insert(node.clone(), "it runs as a primary".to_owned())),
            Err(why) => drop(wait.insert(node.clone(), why.clone())),
        }
    }
    (follow, wait)
}
