//! The order in which steps can be carried out.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashSet},
};

use serde_json::Value;

use super::{Action, draft::Draft, draft::Index, rules::Effect};
use crate::{
    report::NodeRole,
    resource::{FOUNDER, Kind, ResourceId},
};

/// For each draft, the drafts that must be finished before it.
pub(super) fn edges(drafts: &[Draft], index: &Index) -> Vec<Vec<usize>> {
    let mut before: Vec<Vec<usize>> = vec![Vec::new(); drafts.len()];
    for (at, draft) in drafts.iter().enumerate() {
        follow_dependencies(at, draft, drafts, index, &mut before);
        let Some(live) = draft.live else { continue };
        if !draft.action.acts() {
            continue;
        }
        // A set, so that a balancer over thousands stays linear.
        let desired = draft.desired.iter().flat_map(|desired| &desired.depends_on);
        let wanted: HashSet<&ResourceId> = desired.collect();
        for below in live.depends_on.iter().filter_map(|id| index.get(id).copied()) {
            let waits = match drafts[below].action {
                Action::Delete => true,
                Action::Replace => !wanted.contains(drafts[below].id),
                _ => false,
            };
            if waits && below != at {
                before[below].push(at);
            }
        }
    }
    chain(drafts, &mut before);
    for list in &mut before {
        list.sort_unstable();
        list.dedup();
    }
    before
}

/// What is made or repaired below comes first. Two restarts of one kind are ordered by [`chain`] alone.
fn follow_dependencies(at: usize, draft: &Draft, drafts: &[Draft], index: &Index, before: &mut [Vec<usize>]) {
    let Some(desired) = draft.desired.filter(|_| draft.action.acts()) else {
        return;
    };
    for id in &desired.depends_on {
        let Some(below) = index.get(id).copied().filter(|below| *below != at) else {
            continue;
        };
        let first = match drafts[below].action {
            Action::Create | Action::Replace => true,
            Action::Update => draft.action == Action::Create || id.kind < draft.id.kind || drafts[below].repair,
            Action::Delete | Action::None | Action::Conflict => false,
        };
        if first {
            before[at].push(below);
        }
    }
}

/// Broken, replaced or whole; then whether it is its turn late within those; then the draft.
type Turn = (u8, bool, usize);

/// Who restarts one after another: servers of a group, nodes of a database, members of the store.
type Group<'a> = (Kind, &'a str, &'a str);

/// Restarts within a group, a database or the store happen one after another, so that most of it stays up:
/// what is broken first, then replaced members, then replicas, the primary last. Of a database that is whoever its guard says;
/// where nobody says so, and of the store, the founder.
fn chain(drafts: &[Draft], before: &mut [Vec<usize>]) {
    let mut groups: BTreeMap<Group, Vec<Turn>> = BTreeMap::new();
    let primaries = primaries(drafts);
    for (at, draft) in drafts.iter().enumerate() {
        let interrupts = match draft.action {
            Action::Update => draft.effect == Effect::Restart,
            Action::Replace => true,
            _ => false,
        };
        let Some(desired) = draft.desired.filter(|_| interrupts) else {
            continue;
        };
        let text = |field: &str| desired.spec.get(field).and_then(Value::as_str).unwrap_or_default();
        let key = match draft.id.kind {
            Kind::Server => (Kind::Server, draft.id.region.as_str(), text("group")),
            Kind::Database => (Kind::Database, "", text("cluster")),
            Kind::Store => (Kind::Store, "", ""),
            _ => continue,
        };
        let founder = desired.spec.get(FOUNDER) == Some(&Value::Bool(true));
        let leads = match primaries
            .get(text("cluster"))
            .filter(|_| draft.id.kind == Kind::Database)
        {
            Some(primary) => *primary == draft.id,
            None => founder,
        };
        let turn = match (draft.repair, draft.action) {
            (true, _) => (0, !leads),
            (_, Action::Replace) => (1, !leads),
            _ => (2, leads),
        };
        groups.entry(key).or_default().push((turn.0, turn.1, at));
    }
    for members in groups.values_mut() {
        members.sort_unstable();
        for pair in members.windows(2) {
            if let [(.., first), (.., second)] = pair {
                before[*second].push(*first);
            }
        }
    }
}

/// Of each database, as observed. Two that both say so are left to the founder's rule: neither can be relied on.
fn primaries<'a>(drafts: &[Draft<'a>]) -> BTreeMap<&'a str, &'a ResourceId> {
    let mut found: BTreeMap<&str, Option<&ResourceId>> = BTreeMap::new();
    for draft in drafts {
        let live = draft.live.filter(|live| live.role == Some(NodeRole::Primary));
        if let Some(cluster) = live.and_then(|live| live.spec.get("cluster")?.as_str()) {
            found
                .entry(cluster)
                .and_modify(|it| *it = None)
                .or_insert(Some(draft.id));
        }
    }
    found
        .into_iter()
        .filter_map(|(cluster, id)| Some((cluster, id?)))
        .collect()
}

/// Indices so that everything comes after what it waits for; otherwise as given. Edges that would close a circle
/// are dropped from `before`, so that whoever follows it always ends.
pub(super) fn sort(before: &mut [Vec<usize>]) -> Vec<usize> {
    let mut waiting: Vec<usize> = before.iter().map(Vec::len).collect();
    let mut next: Vec<Vec<usize>> = vec![Vec::new(); before.len()];
    for (at, list) in before.iter().enumerate() {
        for below in list {
            next[*below].push(at);
        }
    }
    let mut position = vec![None; before.len()];
    let mut out = Vec::with_capacity(before.len());
    let mut ready: BinaryHeap<Reverse<usize>> = (0..before.len()).filter(|at| waiting[*at] == 0).map(Reverse).collect();
    let mut forced = 0;
    while out.len() < before.len() {
        let at = match ready.pop() {
            Some(Reverse(at)) => at,
            None => {
                // A circle: the first of what is left goes.
                while position[forced].is_some() {
                    forced += 1;
                }
                forced
            }
        };
        if position[at].is_some() {
            continue;
        }
        position[at] = Some(out.len());
        out.push(at);
        for above in &next[at] {
            waiting[*above] = waiting[*above].saturating_sub(1);
            if waiting[*above] == 0 {
                ready.push(Reverse(*above));
            }
        }
    }
    for (at, list) in before.iter_mut().enumerate() {
        list.retain(|below| position[*below] < position[at]);
    }
    out
}
