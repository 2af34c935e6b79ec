//! How many, and which one.

use std::collections::{BTreeMap, BTreeSet};

use super::Node;
use crate::lsn::Position;

/// Of `voters` members so many must seal, if a commit needs `acks` remote acknowledgements: then every acknowledged
/// commit is on at least one of them (each is on `acks + 1`).
pub const fn seals_needed(voters: usize, acks: usize) -> usize {
    let needed = voters.saturating_sub(acks);
    if needed == 0 { 1 } else { needed }
}

/// The voters among `sealed` meet every acknowledged commit.
pub fn is_quorum<T>(voters: &BTreeSet<Node>, acks: u32, sealed: &BTreeMap<Node, T>) -> bool {
    let count = sealed.keys().filter(|node| voters.contains(*node)).count();
    count >= seals_needed(voters.len(), acks as usize)
}

/// The voters among `sealed` whose log goes furthest, by timeline first: on a lower one more bytes mean less. Equal
/// ones are all there, in the order of their names.
pub fn furthest<'a>(voters: &BTreeSet<Node>, sealed: &'a BTreeMap<Node, Position>) -> Vec<&'a Node> {
    let counted = || sealed.iter().filter(|(node, _)| voters.contains(*node));
    let Some(most) = counted().map(|(_, position)| *position).max() else {
        return Vec::new();
    };
    counted()
        .filter(|(_, position)| **position == most)
        .map(|(node, _)| node)
        .collect()
}
