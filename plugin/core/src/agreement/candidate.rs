//! Who can be primary, and why not: what `--explain` shows and what the guards act on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Node, Term};
use crate::lsn::Position;

/// One node as a candidate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    pub node: Node,
    pub region: String,
    pub position: Option<Position>,
    pub eligible: bool,
    /// Why it is or is not chosen; a whole sentence.
    pub reason: String,
    /// The one that would be made primary now.
    pub chosen: bool,
}

/// What is known of a node that could be a candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub node: Node,
    pub region: String,
    /// Lower is preferred among equals.
    pub priority: u32,
    /// Why policy forbids it.
    pub forbidden: Option<String>,
    /// Sealed at, or would be if it sealed now; or why not.
    pub position: Result<Position, String>,
}

/// A row for each node, the chosen first, then by how far they are. `prefer` wins among equals. Where loss is accepted
/// everybody counts: what a voter lacks another may have.
pub fn candidates(term: &Term, standings: &[Standing], prefer: Option<&str>, accept_loss: bool) -> Vec<Candidate> {
    let known: BTreeMap<Node, Position> = standings
        .iter()
        .filter_map(|it| Some((it.node.clone(), *it.position.as_ref().ok()?)))
        .collect();
    let counts = |node: &Node| accept_loss || term.voters.contains(node);
    let voters = standings
        .iter()
        .filter(|it| counts(&it.node) && it.position.is_ok())
        .count();
    let needed = if accept_loss { 1 } else { term.seals_needed() };
    let most = known.iter().filter(|(node, _)| counts(node)).map(|(_, it)| *it).max();
    let first = standings
        .iter()
        .filter(|it| voters >= needed && it.forbidden.is_none() && counts(&it.node))
        .filter(|it| it.position.as_ref().ok().copied() == most && most.is_some())
        .min_by_key(|it| (prefer != Some(it.node.as_str()), it.priority, it.node.clone()))
        .map(|it| it.node.clone());
    let mut rows: Vec<Candidate> = standings
        .iter()
        .map(|it| {
            let position = it.position.as_ref().ok().copied();
            let chosen = first.as_ref() == Some(&it.node);
            let (eligible, reason) = verdict(term, it, counts(&it.node), most, (voters, needed), chosen);
            Candidate {
                node: it.node.clone(),
                region: it.region.clone(),
                position,
                eligible,
                reason,
                chosen,
            }
        })
        .collect();
    rows.sort_by(|a, b| (b.chosen, b.position, &a.node).cmp(&(a.chosen, a.position, &b.node)));
    rows
}

fn verdict(
    term: &Term,
    it: &Standing,
    counts: bool,
    most: Option<Position>,
    (voters, needed): (usize, usize),
    chosen: bool,
) -> (bool, String) {
    let position = match (&it.forbidden, &it.position) {
        (Some(why), _) => return (false, why.clone()),
        (None, Err(why)) => return (false, why.clone()),
        (None, Ok(position)) => *position,
    };
    if !counts {
        return (
            false,
            "it is no voter: commits did not wait for it, so it may lack some".to_owned(),
        );
    }
    if voters < needed {
        return (
            false,
            format!(
                "{needed} of {} voters must seal to be sure of every acknowledged write, and {voters} can",
                term.voters.len()
            ),
        );
    }
    match most {
        Some(most) if position < most => {
            let reason = if position.timeline == most.timeline {
                format!(
                    "another node has {} bytes more of the log",
                    most.lsn.bytes_since(position.lsn)
                )
            } else {
                format!(
                    "it is on timeline {}, another node on {}",
                    position.timeline, most.timeline
                )
            };
            (false, reason)
        }
        _ if chosen => (true, format!("no sealed voter has more than it has ({position})")),
        _ => (true, "it has as much as the chosen one, which is preferred".to_owned()),
    }
}
