//! What is to happen to one resource, before the order is known.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::{
    Action,
    differ::{self, Difference},
    rules::{self, Effect},
};
use crate::resource::{Kind, Live, Resource, ResourceId, Status, spec_hash};

pub(super) type Index<'a> = HashMap<&'a ResourceId, usize>;

pub(super) struct Draft<'a> {
    pub(super) id: &'a ResourceId,
    pub(super) action: Action,
    pub(super) effect: Effect,
    pub(super) reason: String,
    /// It should run and does not.
    pub(super) repair: bool,
    pub(super) desired: Option<&'a Resource>,
    pub(super) live: Option<&'a Live>,
}

impl Draft<'_> {
    /// The workspace says that this needs draft `below`.
    pub(super) fn wants(&self, drafts: &[Draft], below: usize) -> bool {
        let id = drafts[below].id;
        self.desired.is_some_and(|desired| desired.depends_on.contains(id))
    }
}

/// Servers of a group: live and wanted.
pub(super) type Counts<'a> = BTreeMap<(&'a str, &'a str), (usize, usize)>;

/// One draft per identity: the wanted ones in the order given, then those to go, dependents before what they need.
pub(super) fn drafts<'a>(desired: &'a [Resource], live: &'a [Live]) -> (Vec<Draft<'a>>, Counts<'a>) {
    let mut found: HashMap<&ResourceId, &Live> = HashMap::with_capacity(live.len());
    let mut counts = Counts::new();
    for it in live.iter().filter(|it| it.status != Status::Absent) {
        if found.insert(&it.id, it).is_none()
            && let Some(group) = group(&it.id, &it.spec)
        {
            counts.entry(group).or_default().0 += 1;
        }
    }
    for it in desired {
        if let Some(group) = group(&it.id, &it.spec) {
            counts.entry(group).or_default().1 += 1;
        }
    }
    let mut out = Vec::with_capacity(desired.len());
    for want in desired {
        out.push(match found.remove(&want.id) {
            Some(live) => compare(want, live),
            None => Draft {
                id: &want.id,
                action: Action::Create,
                effect: Effect::InPlace,
                reason: counted(&counts, &want.id, &want.spec).unwrap_or_else(|| "does not exist".to_owned()),
                repair: false,
                desired: Some(want),
                live: None,
            },
        });
    }
    let mut rest: Vec<&Live> = found.into_values().collect();
    rest.sort_by(|a, b| (b.id.kind, &a.id.region, &a.id.name).cmp(&(a.id.kind, &b.id.region, &b.id.name)));
    out.extend(rest.into_iter().map(|live| {
        let gone = counted(&counts, &live.id, &live.spec).unwrap_or_else(|| "no longer in the workspace".to_owned());
        let (action, reason) = if live.protect {
            let (ws, region) = (&live.labels.ws, &live.id.region);
            let help = format!("it is protected: `ha destroy {ws} --region {region}` removes it with its data");
            (Action::Conflict, format!("{gone}; {help}"))
        } else {
            (Action::Delete, gone)
        };
        Draft {
            id: &live.id,
            action,
            effect: Effect::InPlace,
            reason,
            repair: false,
            desired: None,
            live: Some(live),
        }
    }));
    (out, counts)
}

/// The group that a server counts in.
pub(super) fn group<'a>(id: &'a ResourceId, spec: &'a Value) -> Option<(&'a str, &'a str)> {
    let group = spec.get("group")?.as_str()?;
    (id.kind == Kind::Server).then_some((id.region.as_str(), group))
}

/// `count of us-app 3 → 5`, when the group is there already or stays.
fn counted(counts: &Counts, id: &ResourceId, spec: &Value) -> Option<String> {
    let (region, group) = group(id, spec)?;
    match counts.get(&(region, group))? {
        (0, _) | (_, 0) => None,
        (live, wanted) if live == wanted => None,
        (live, wanted) => Some(format!("count of {group} {live} → {wanted}")),
    }
}

fn compare<'a>(want: &'a Resource, live: &'a Live) -> Draft<'a> {
    // What runs on a server at a cloud says its hash and not its fields: then the hash alone decides.
    let told = !live.spec.is_null();
    let differences = if told {
        differ::differences(want.id.kind, &live.spec, &want.spec)
    } else {
        Vec::new()
    };
    let ours = want.spec_hash() != live.labels.spec;
    let drift = if differences.is_empty() {
        ours
    } else {
        spec_hash(&live.spec) != live.labels.spec
    };
    let worst = differences.iter().map(|it| it.effect).max();
    let mut draft = Draft {
        id: &want.id,
        action: Action::None,
        effect: worst.unwrap_or(Effect::InPlace),
        reason: String::new(),
        repair: matches!(live.status, Status::Failed | Status::Pending),
        desired: Some(want),
        live: Some(live),
    };
    let mut reasons = Vec::new();
    if draft.repair {
        draft.action = Action::Update;
        reasons.push(match (&live.detail, live.status) {
            (Some(detail), _) => format!("not running: {detail}"),
            (None, Status::Pending) => "not running: was not finished".to_owned(),
            (None, _) => "not running".to_owned(),
        });
    }
    if want.protect != live.protect {
        draft.action = Action::Update;
        reasons.push(format!("protect {} → {}", live.protect, want.protect));
    }
    let words = differ::sentence(&differences);
    match (differences.is_empty(), ours, drift) {
        (true, false, _) => {}
        (true, true, _) if !told => {
            draft.action = Action::Update;
            reasons.push("what is wanted has changed; its server does not tell in what".to_owned());
        }
        // Already so, by hand or by an act that died before it wrote the label.
        (true, true, _) => {
            draft.action = Action::Update;
            reasons.push("is as wanted, its label is not".to_owned());
        }
        (false, true, true) => {
            draft.action = Action::Conflict;
            let help =
                "changed by hand and in the workspace; write the live value into the workspace, or undo it there";
            reasons.push(format!("{words}: {help}"));
        }
        (false, _, drifted) => {
            let words = if drifted {
                format!("changed by hand, put back: {words}")
            } else {
                words
            };
            let (action, words) = act(want, &differences, words);
            draft.action = action;
            reasons.push(words);
        }
    }
    draft.reason = reasons.join("; ");
    draft
}

fn act(want: &Resource, differences: &[Difference], words: String) -> (Action, String) {
    match differences.iter().map(|it| it.effect).max() {
        Some(Effect::Refuse(why)) => (Action::Conflict, format!("{words}: {why}")),
        Some(Effect::Replace) if want.protect => {
            let help = "it would be replaced, and is protected: set protect = false first";
            (Action::Conflict, format!("{words}: {help}"))
        }
        Some(Effect::Replace) => (Action::Replace, words),
        _ => (Action::Update, words),
    }
}

/// Nothing is taken from under something that stays: such a removal becomes a conflict, and so does whatever is
/// below it in turn.
pub(super) fn hold_what_is_needed(drafts: &mut [Draft], index: &Index) {
    for at in 0..drafts.len() {
        let Some(live) = drafts[at].live else { continue };
        let stays = !matches!(drafts[at].action, Action::Delete);
        for id in &live.depends_on {
            let Some(below) = index.get(id).copied() else { continue };
            let taken = drafts[below].action == Action::Replace && rules::contains(id.kind, drafts[at].id.kind);
            if taken && stays && drafts[at].wants(drafts, below) {
                let (kind, name) = (drafts[at].id.kind, &drafts[at].id.name);
                let why = format!("{}: {kind} {name} lives in it and would be lost", drafts[below].reason);
                drafts[below].action = Action::Conflict;
                drafts[below].reason = why;
            }
        }
    }
    let mut held: Vec<usize> = (0..drafts.len())
        .filter(|at| drafts[*at].action == Action::Conflict)
        .collect();
    while let Some(at) = held.pop() {
        let Some(live) = drafts[at].live else { continue };
        for below in live.depends_on.iter().filter_map(|id| index.get(id).copied()) {
            if drafts[below].action == Action::Delete {
                let why = format!(
                    "{}; still needed by {}, which stays",
                    drafts[below].reason, drafts[at].id
                );
                drafts[below].action = Action::Conflict;
                drafts[below].reason = why;
                held.push(below);
            }
        }
    }
}
