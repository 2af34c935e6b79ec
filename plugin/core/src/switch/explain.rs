//! Who would be made primary, and why each of the others would not.

use super::{
    NodeFacts, Severity, World,
    failover::standings,
    preflight::{Refusal, target},
};
use crate::{
    agreement::{Node, candidates},
    lsn::Position,
};

/// One row of `--explain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    pub node: Node,
    pub region: String,
    pub position: Option<Position>,
    pub lag_bytes: Option<u64>,
    pub eligible: bool,
    pub chosen: bool,
    /// A whole sentence.
    pub reason: String,
}

/// Closer than this two replicas are equally near: the order of the workspace decides, not a few bytes under way.
const EQUAL_BYTES: u64 = 1 << 20;

/// A row for each server, the chosen first. The primary stops and sends all it has, so the nearest that policy prefers
/// is taken; `to` is taken if it can be.
pub fn explain_switchover(world: &World, to: Option<&str>) -> Vec<Choice> {
    let written = world.written().map(|it| it.lsn);
    let mut rows: Vec<(u32, Choice)> = world
        .nodes
        .iter()
        .map(|(node, facts)| {
            let refusals = target(world, node);
            let first = refusals.into_iter().find(|it| it.severity == Severity::Error);
            (facts.priority, choice(world, node, facts, first))
        })
        .collect();
    rows.sort_by_key(|(priority, it)| {
        let behind = it.lag_bytes.unwrap_or(u64::MAX) / EQUAL_BYTES;
        let wanted = to == Some(it.node.as_str());
        (!it.eligible, !wanted, behind, *priority, it.node.clone())
    });
    let mut rows: Vec<Choice> = rows.into_iter().map(|(_, it)| it).collect();
    // Somebody else instead of the one that was named is nobody's wish.
    if let Some(first) = rows
        .first_mut()
        .filter(|it| it.eligible && to.is_none_or(|to| to == it.node))
    {
        first.chosen = true;
        let behind = match (first.lag_bytes, written) {
            (Some(0), _) => "has all of the primary's log".to_owned(),
            (Some(bytes), _) => format!("is {bytes} bytes behind, which it gets before it takes over"),
            (None, _) => "streams from the primary".to_owned(),
        };
        let why = if to.is_some() {
            "it was named"
        } else {
            "of the nearest, it comes first in the workspace"
        };
        first.reason = format!("it {behind}; {why}");
    }
    rows
}

fn choice(world: &World, node: &str, facts: &NodeFacts, refusal: Option<Refusal>) -> Choice {
    let lag_bytes = facts.lag_bytes(world.written().map(|it| it.lsn));
    Choice {
        node: node.to_owned(),
        region: facts.region.clone(),
        position: facts.position(),
        lag_bytes: (node != world.term.leader).then_some(lag_bytes).flatten(),
        eligible: refusal.is_none(),
        chosen: false,
        reason: refusal.map_or_else(
            || "it could take over, and another one is nearer or comes first in the workspace".to_owned(),
            |it| it.why,
        ),
    }
}

/// A row for each server, the chosen first: of those that can seal, who has most of the log. That is not a matter of
/// wishes; `prefer` decides among equals only.
pub fn explain_failover(world: &World, prefer: Option<&str>, accept_loss: bool) -> Vec<Choice> {
    let written = world.written().map(|it| it.lsn);
    let rows = candidates(&world.term, &standings(world), prefer, accept_loss);
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
