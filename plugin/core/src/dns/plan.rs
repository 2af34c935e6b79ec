//! What differs, and what to do about it, in stages: the zone, health checks, records, and checks that nothing names any
//! more. Whoever carries a stage out asks again with what it made ([`Seen::after`]): no record can name a check before
//! the check has an id. Asking again after all of it gives rows that need nothing.

mod act;
mod names;

use super::{
    check::{self, Check, CheckSpec},
    reference::{self, Reference},
    seen::{self, Seen, Zone},
    wanted::Wanted,
};

pub use act::{Act, Change, Made};
use names::Names;

/// What is to be so.
#[derive(Clone, Copy, Debug)]
pub enum Goal<'a> {
    /// Everything as wanted.
    All(&'a Wanted),
    /// The domain itself as wanted, and nothing else touched.
    Apex(&'a Wanted),
    /// Nothing of this workspace is left.
    Nothing { ws: &'a str },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    None,
    Create,
    Update,
    /// A new one is made, and the old one removed once nothing names it.
    Replace,
    Delete,
    /// Left as it is until a person chose.
    Conflict,
    /// A provider did not say where it should lead: left as it is.
    Unknown,
}

/// A zone, a health check, or a record set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub action: Action,
    pub name: String,
    /// `zone`, `check`, `A`, `TXT`
    pub kind: String,
    pub policy: Option<String>,
    pub set: Option<String>,
    /// Of a zone its name servers, of a check what it asks.
    pub value: Vec<String>,
    /// Seconds.
    pub ttl: Option<u64>,
    /// The region whose check decides whether it is answered; its id where it is none of ours.
    pub check: Option<String>,
    pub reason: String,
}

/// Something to be done, and the rows that are then done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub act: Act,
    pub rows: Vec<Row>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub rows: Vec<Row>,
    /// What can be done now: one stage, in any order within it but for checks that are made before others go.
    pub steps: Vec<Step>,
}

impl Action {
    /// As in the column `action`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Create => "create",
            Self::Update => "update",
            Self::Replace => "replace",
            Self::Delete => "delete",
            Self::Conflict => "conflict",
            Self::Unknown => "unknown",
        }
    }

    /// Something would be done.
    pub const fn acts(self) -> bool {
        matches!(self, Self::Create | Self::Update | Self::Replace | Self::Delete)
    }
}

impl Plan {
    fn did(&mut self, row: Row, act: Option<Act>) {
        self.rows.push(row.clone());
        self.steps.extend(act.map(|act| Step { act, rows: vec![row] }));
    }

    /// The rows of another stage, and its steps where nothing comes before them.
    fn then(&mut self, stage: Self) {
        self.rows.extend(stage.rows);
        if self.steps.is_empty() {
            self.steps = stage.steps;
        }
    }

    /// Nothing needs to be done, or nothing can.
    pub fn is_done(&self) -> bool {
        self.steps.is_empty()
    }
}

/// Linear in what is wanted and in what is there. The same input gives the same plan.
pub fn plan(goal: Goal<'_>, seen: &Seen) -> Plan {
    match goal {
        Goal::All(wanted) => all(wanted, seen),
        Goal::Apex(wanted) => {
            let mut names = Names::new(&wanted.ws, &seen.checks, false);
            names.look_at(seen.zone(&wanted.zone), &wanted.domain, wanted);
            names.plan()
        }
        Goal::Nothing { ws } => nothing(ws, seen),
    }
}

fn all(wanted: &Wanted, seen: &Seen) -> Plan {
    let zone = seen.zone(&wanted.zone);
    let mut plan = zone_of(wanted, zone);
    let is_other = |it: &&Zone| zone.is_none_or(|zone| zone.id != it.id) && it.is_of(&wanted.ws);
    for other in seen.zones.iter().filter(is_other) {
        let reason = format!("no longer declared: ha destroy {} removes it", wanted.ws);
        plan.rows.push(Row::zone(other, Action::None, reason));
    }
    plan.then(checks(wanted, &seen.checks));

    let mut names = Names::new(&wanted.ws, &seen.checks, true);
    let mut wanted_names: Vec<String> = wanted.drafts.iter().map(|it| it.name.clone()).collect();
    wanted_names.extend(zone.into_iter().flat_map(|it| it.marked(&wanted.ws)));
    // The domain itself first.
    wanted_names.sort_by_key(|name| (*name != wanted.domain, name.clone()));
    wanted_names.dedup();
    for name in &wanted_names {
        names.look_at(zone, name, wanted);
    }
    plan.then(names.plan());
    for absent in &wanted.absent {
        let row = Row::plain("A", &absent.name, format!("{}: ha provision makes it", absent.why));
        let deleted = plan.rows.iter().any(|it| it.name == absent.name && it.kind == "A");
        plan.rows.extend((!deleted).then_some(row));
    }
    let last = plan.is_done();
    plan.then(unused(wanted, seen, last));
    plan
}

fn zone_of(wanted: &Wanted, zone: Option<&Zone>) -> Plan {
    let mut plan = Plan::default();
    let tags = check::tags(&wanted.ws, None, &wanted.zone);
    let Some(zone) = zone else {
        let reason = "does not exist; the names answer once the domain above delegates to its name servers";
        let row = Row {
            action: Action::Create,
            ..Row::plain("zone", &wanted.zone, reason)
        };
        let act = Act::MakeZone {
            name: wanted.zone.clone(),
            reference: Reference::zone(&wanted.ws, &wanted.zone),
            generation: 1,
            tags,
        };
        plan.did(row, Some(act));
        return plan;
    };
    if !zone.is_of(&wanted.ws) {
        let reason = "made by somebody else: used, and never removed";
        plan.rows.push(Row::zone(zone, Action::None, reason));
    } else if tags.iter().any(|(key, value)| zone.tags.get(key) != Some(value)) {
        let row = Row::zone(zone, Action::Update, "its tags are missing");
        let id = zone.id.clone();
        plan.did(row, Some(Act::TagZone { id, tags }));
    } else {
        plan.rows.push(Row::zone(zone, Action::None, ""));
    }
    plan
}

fn checks(wanted: &Wanted, seen: &[Check]) -> Plan {
    let mut plan = Plan::default();
    for (region, spec) in &wanted.checks {
        let reference = Reference::check(&wanted.ws, region);
        let of_region = |it: &&Check| reference.generation(&it.reference).is_some();
        let Some(spec) = spec else {
            let existing = seen.iter().find(of_region);
            let reason = format!("the provider of {region} did not answer");
            plan.rows.push(Row {
                action: Action::Unknown,
                value: existing.iter().map(|it| it.spec.endpoint()).collect(),
                check: existing.map(|it| it.id.clone()),
                ..Row::plain("check", region, reason)
            });
            continue;
        };
        let tags = check::tags(&wanted.ws, Some(region), &format!("{} {region}", wanted.ws));
        let row = |action, reason: String| Row {
            action,
            value: vec![spec.endpoint()],
            ..Row::plain("check", region, reason)
        };
        let Some(found) = check::current(seen, &reference, spec) else {
            let latest = seen.iter().filter_map(|it| reference.generation(&it.reference)).max();
            let (action, reason) = match seen.iter().find(of_region) {
                Some(old) => (Action::Replace, replaced(&old.spec, spec)),
                None => (Action::Create, "does not exist".to_owned()),
            };
            let act = Act::MakeCheck {
                region: region.clone(),
                spec: spec.clone(),
                reference,
                generation: latest.unwrap_or_default() + 1,
                tags,
            };
            plan.did(row(action, reason), Some(act));
            continue;
        };
        let row = |action, reason| Row {
            check: Some(found.id.clone()),
            ..row(action, reason)
        };
        let untagged = tags.iter().any(|(key, value)| found.tags.get(key) != Some(value));
        if found.spec != *spec {
            let act = Act::ChangeCheck {
                id: found.id.clone(),
                version: found.version,
                spec: spec.clone(),
            };
            plan.did(row(Action::Update, found.spec.difference(spec)), Some(act));
        }
        if untagged {
            let id = found.id.clone();
            plan.did(
                row(Action::Update, "its tags are missing".into()),
                Some(Act::TagCheck { id, tags }),
            );
        } else if found.spec == *spec {
            plan.rows.push(row(Action::None, String::new()));
        }
    }
    plan
}

fn replaced(old: &CheckSpec, new: &CheckSpec) -> String {
    format!(
        "{}: that cannot be changed, so a new check takes its place",
        old.difference(new)
    )
}

const UNWANTED: &str = "nothing wants it any more";

/// Checks of ours that nothing wants, once no record names them. `last`: all records are as they will be.
fn unused(wanted: &Wanted, seen: &Seen, last: bool) -> Plan {
    let kept = |it: &&Check| {
        wanted.checks.iter().any(|(region, spec)| {
            let reference = Reference::check(&wanted.ws, region);
            match spec {
                // Whatever it is: nobody knows what is wanted.
                None => reference.generation(&it.reference).is_some(),
                Some(spec) => check::current(&seen.checks, &reference, spec).is_some_and(|current| current.id == it.id),
            }
        })
    };
    let ours = seen
        .checks
        .iter()
        .filter(|it| reference::is_of(&wanted.ws, &it.reference));
    let mut plan = Plan::default();
    for check in ours.filter(|it| !kept(it)) {
        let mut used = seen.zones.iter().flat_map(|it| &it.records);
        match used.find(|it| it.check.as_ref() == Some(&check.id)) {
            Some(record) if last => {
                let reason = format!("nothing wants it any more but {}, which is left as it is", record.name);
                plan.rows.push(Row::check(&wanted.ws, check, Action::Conflict, &reason));
            }
            Some(_) => plan.rows.push(Row::check(&wanted.ws, check, Action::Delete, UNWANTED)),
            None => plan.did(
                Row::check(&wanted.ws, check, Action::Delete, UNWANTED),
                Some(Act::RemoveCheck { id: check.id.clone() }),
            ),
        }
    }
    plan
}

fn nothing(ws: &str, seen: &Seen) -> Plan {
    let mut names = Names::new(ws, &seen.checks, true);
    for zone in &seen.zones {
        for name in zone.marked(ws) {
            names.let_go(zone, &name);
        }
    }
    let mut plan = names.plan();
    let mut checks = Plan::default();
    for check in seen.checks.iter().filter(|it| reference::is_of(ws, &it.reference)) {
        let act = Act::RemoveCheck { id: check.id.clone() };
        checks.did(Row::check(ws, check, Action::Delete, "the workspace goes"), Some(act));
    }
    plan.then(checks);
    let mut zones = Plan::default();
    for zone in seen.zones.iter().filter(|it| it.is_of(ws)) {
        let names_of_ours = zone.marked(ws);
        let foreign = zone.records.iter().find(|it| {
            let about = super::marker::about(&it.name).unwrap_or(&it.name);
            !seen::belongs_to_the_zone(it, &zone.name) && !names_of_ours.iter().any(|name| name == about)
        });
        match foreign {
            Some(record) => {
                let reason = format!(
                    "{} {} in it is somebody else's: remove that first, and then run it again",
                    record.kind, record.name
                );
                zones.rows.push(Row::zone(zone, Action::Conflict, reason));
            }
            None => zones.did(
                Row::zone(zone, Action::Delete, "the workspace goes"),
                Some(Act::RemoveZone {
                    id: zone.id.clone(),
                    name: zone.name.clone(),
                }),
            ),
        }
    }
    plan.then(zones);
    plan
}

impl Row {
    fn plain(kind: &str, name: &str, reason: impl Into<String>) -> Self {
        Self {
            action: Action::None,
            name: name.to_owned(),
            kind: kind.to_owned(),
            policy: None,
            set: None,
            value: Vec::new(),
            ttl: None,
            check: None,
            reason: reason.into(),
        }
    }

    fn zone(zone: &Zone, action: Action, reason: impl Into<String>) -> Self {
        Self {
            action,
            value: zone.name_servers.clone(),
            ..Self::plain("zone", &zone.name, reason)
        }
    }

    fn check(ws: &str, check: &Check, action: Action, reason: &str) -> Self {
        let region = reference::region(ws, &check.reference).unwrap_or_else(|| check.reference.clone());
        Self {
            action,
            value: vec![check.spec.endpoint()],
            check: Some(check.id.clone()),
            ..Self::plain("check", &region, reason)
        }
    }
}
