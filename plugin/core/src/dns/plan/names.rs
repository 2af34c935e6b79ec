//! The records of one name after the other, and the batches they change in.

use super::{
    Action, Plan, Row, Step,
    act::{Act, Change},
};
use crate::dns::{
    check::{self, Check},
    marker::{self, Marker},
    place::Place,
    record::{Policy, Record, Turn},
    reference::{self, Reference},
    seen::{self, Zone},
    wanted::{Draft, Wanted},
};

/// What one batch may hold: elements of record sets, and characters of values.
/// Source: <https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/DNSLimitations.html#limits-api-requests-changeresourcerecordsets>.
const MOST_VALUES: usize = 1_000;
const MOST_CHARACTERS: usize = 32_000;

/// Names, as far as they were looked at.
pub(super) struct Names<'a> {
    ws: &'a str,
    checks: &'a [Check],
    /// Health checks are made before; otherwise a record whose check is missing has to wait.
    checks_come: bool,
    rows: Vec<Row>,
    /// All changes of one name, which stay in one batch.
    changes: Vec<(String, Vec<Change>, Vec<Row>)>,
}

/// What is to become of one record set of ours.
struct Fate<'a> {
    action: Action,
    reason: String,
    live: Option<&'a Record>,
    wanted: Option<Record>,
}

impl<'a> Names<'a> {
    pub(super) fn new(ws: &'a str, checks: &'a [Check], checks_come: bool) -> Self {
        Self {
            ws,
            checks,
            checks_come,
            rows: Vec::new(),
            changes: Vec::new(),
        }
    }

    /// Rows of the name, and its changes where a zone is there to make them in.
    pub(super) fn look_at(&mut self, zone: Option<&Zone>, name: &str, wanted: &Wanted) {
        let drafts: Vec<&Draft> = wanted.drafts.iter().filter(|it| it.name == name).collect();
        let markers = zone.map(|it| it.markers(name, self.ws)).unwrap_or_default();
        let live: Vec<&Record> = zone
            .into_iter()
            .flat_map(|it| it.called(name))
            .filter(|it| seen::is_in_the_way(it))
            .collect();
        let (ours, foreign): (Vec<&Record>, Vec<&Record>) = live
            .into_iter()
            .partition(|record| markers.iter().any(|it| it.is_of(record)));
        if let Some(other) = foreign.first()
            && !drafts.is_empty()
        {
            let reason = format!(
                "a record of somebody else is called so: {} {}; remove it, or choose another domain in workspace.ncl",
                other.kind,
                other.values().join(" ")
            );
            self.leave(&drafts, &ours, Action::Conflict, &reason);
            return;
        }
        let pointed = wanted.pointed.as_deref().filter(|_| name == wanted.domain);
        let mut fates: Vec<Fate<'_>> = Vec::new();
        for draft in &drafts {
            let live = ours.iter().find(|it| it.key() == draft.key()).copied();
            let marker = markers.iter().find(|it| it.set == draft.set);
            fates.push(self.fate(draft, live, marker, wanted));
        }
        for record in ours
            .iter()
            .filter(|it| drafts.iter().all(|draft| draft.key() != it.key()))
        {
            let absent = wanted.absent.iter().find(|it| it.has(record));
            fates.push(Fate {
                action: Action::Delete,
                reason: absent.map_or_else(|| "no longer wanted".to_owned(), |it| it.why.clone()),
                live: Some(record),
                wanted: None,
            });
        }
        if let Some(region) = pointed {
            let note = format!("pointed at {region}; ha dns point --declared goes back");
            for fate in fates
                .iter_mut()
                .filter(|it| matches!(it.action, Action::None | Action::Create))
            {
                fate.reason.clone_from(&note);
            }
        }
        if let Some(reason) = held(&fates, &drafts, &ours) {
            for fate in fates.iter_mut().filter(|it| it.action.acts()) {
                fate.action = Action::Conflict;
                fate.reason.clone_from(&reason);
            }
        }
        self.settle(zone, name, fates, &markers, pointed);
    }

    /// Everything of ours under that name goes.
    pub(super) fn let_go(&mut self, zone: &Zone, name: &str) {
        let markers = zone.markers(name, self.ws);
        let ours = zone
            .called(name)
            .filter(|record| markers.iter().any(|it| it.is_of(record)));
        let fates = ours.map(|record| Fate {
            action: Action::Delete,
            reason: "the workspace goes".to_owned(),
            live: Some(record),
            wanted: None,
        });
        let fates = fates.collect();
        self.settle(Some(zone), name, fates, &[], None);
    }

    /// The check of a region as a record names it, and whether there is one.
    fn check_of(&self, region: &str, wanted: &Wanted) -> Option<String> {
        let reference = Reference::check(self.ws, region);
        let (_, spec) = wanted.checks.iter().find(|(of, _)| of == region)?;
        check::current(self.checks, &reference, spec.as_ref()?).map(|it| it.id.clone())
    }

    fn named(&self, id: &str) -> String {
        let check = self.checks.iter().find(|it| it.id == id);
        let region = check.and_then(|it| reference::region(self.ws, &it.reference));
        region.unwrap_or_else(|| id.to_owned())
    }

    fn fate<'r>(&self, draft: &Draft, live: Option<&'r Record>, marker: Option<&Marker>, wanted: &Wanted) -> Fate<'r> {
        let check = self.check_of(&draft.region, wanted);
        // Made in the stage before, or not at all.
        let unchecked = draft.checked && check.is_none();
        let Some(record) = draft.record(check) else {
            return Fate {
                action: Action::Unknown,
                reason: format!("the provider of {} did not answer: left as it is", draft.region),
                wanted: live.cloned(),
                live,
            };
        };
        let (action, reason) = match (live, marker) {
            _ if unchecked && !self.checks_come => (
                Action::Conflict,
                format!(
                    "the health check of {} does not exist: ha dns apply makes it",
                    draft.region
                ),
            ),
            (None, None) => (Action::Create, "does not exist".to_owned()),
            (None, Some(_)) => (Action::Create, "somebody removed it".to_owned()),
            (Some(live), _) if *live == record => (Action::None, String::new()),
            (Some(live), marker) => {
                let words = live.difference(&record, |id| self.named(id));
                let words = match unchecked {
                    true if words.is_empty() => format!("gets the health check of {}", draft.region),
                    _ => words,
                };
                let written = marker.map(|it| it.spec.as_str());
                let drift = written != Some(live.hash().as_str());
                let ours = written != Some(record.hash().as_str());
                match (drift, ours) {
                    (true, true) => (
                        Action::Conflict,
                        format!("{words}: changed in workspace.ncl and at Route 53; put one of them back"),
                    ),
                    (true, false) => (Action::Update, format!("changed at Route 53: {words}")),
                    (false, _) => (Action::Update, words),
                }
            }
        };
        Fate {
            action,
            reason,
            live,
            wanted: Some(record),
        }
    }

    /// Rows of a name that nothing is done about.
    fn leave(&mut self, drafts: &[&Draft], ours: &[&Record], action: Action, reason: &str) {
        for draft in drafts {
            let record = draft.record(None);
            let live = ours.iter().find(|it| it.key() == draft.key()).copied();
            if let Some(record) = record.as_ref().or(live) {
                let row = self.row(action, record, reason.to_owned());
                self.rows.push(row);
            }
        }
    }

    fn row(&self, action: Action, record: &Record, reason: String) -> Row {
        Row {
            action,
            name: record.name.clone(),
            kind: record.kind.clone(),
            policy: (record.kind != "TXT").then(|| record.policy.word().to_owned()),
            set: record.set.clone(),
            value: record.values(),
            ttl: record.ttl,
            check: record.check.as_deref().map(|id| self.named(id)),
            reason,
        }
    }

    /// Rows, and the changes of the name together with what says whose it is.
    fn settle(
        &mut self,
        zone: Option<&Zone>,
        name: &str,
        fates: Vec<Fate<'_>>,
        markers: &[Marker],
        pointed: Option<&str>,
    ) {
        let (mut gone, mut come, mut rows, mut lines) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for fate in &fates {
            let shown = fate.wanted.as_ref().or(fate.live);
            rows.extend(shown.map(|record| self.row(fate.action, record, fate.reason.clone())));
            if fate.action.acts() {
                gone.extend(fate.live.map(|it| Change::Delete(it.clone())));
                come.extend(fate.wanted.clone().map(Change::Create));
            }
            // What is left as it is keeps its line.
            lines.extend(match (fate.action, &fate.wanted) {
                (Action::Delete, _) | (_, None) => None,
                (Action::Conflict | Action::Unknown, Some(record)) => {
                    markers.iter().find(|it| it.set == record.set).cloned()
                }
                (_, Some(record)) => Some(Marker::of(self.ws, record, pointed)),
            });
        }
        let before = zone.and_then(|it| it.marker_record(name));
        let after = marker::record(name, &lines, before, self.ws);
        let held = fates.iter().any(|it| it.action == Action::Conflict);
        if before != after.as_ref() && !held {
            let (action, reason) = match (before, &after) {
                (None, _) => (Action::Create, "says whose the records beside it are"),
                (_, None) => (Action::Delete, "no record of ours is beside it"),
                _ => (Action::Update, "says whose the records beside it are"),
            };
            let shown = after.as_ref().or(before);
            rows.extend(shown.map(|record| self.row(action, record, reason.to_owned())));
            gone.extend(before.map(|it| Change::Delete(it.clone())));
            come.extend(after.map(Change::Create));
        } else if let Some(before) = before {
            rows.push(self.row(Action::None, before, String::new()));
        }
        self.rows.extend(rows.iter().cloned());
        gone.extend(come);
        if let Some(zone) = zone.filter(|_| !gone.is_empty()) {
            rows.retain(|it| it.action.acts());
            self.changes.push((zone.id.clone(), gone, rows));
        }
    }

    /// All rows, and as few batches as Route 53 takes.
    pub(super) fn plan(self) -> Plan {
        let mut steps: Vec<Step> = Vec::new();
        for (id, of_name, of_rows) in self.changes {
            let full = |changes: &[Change]| {
                let (values, characters) = size(changes.iter().chain(&of_name));
                values > MOST_VALUES || characters > MOST_CHARACTERS
            };
            match steps.last_mut() {
                Some(Step {
                    act: Act::ChangeRecords { zone, changes },
                    rows,
                }) if *zone == id && !full(changes) => {
                    changes.extend(of_name);
                    rows.extend(of_rows);
                }
                _ => steps.push(Step {
                    act: Act::ChangeRecords {
                        zone: id,
                        changes: of_name,
                    },
                    rows: of_rows,
                }),
            }
        }
        Plan { rows: self.rows, steps }
    }
}

/// Values and their characters, as Route 53 counts them.
fn size<'a>(changes: impl Iterator<Item = &'a Change>) -> (usize, usize) {
    changes.fold((0, 0), |(values, characters), change| {
        let of_record = change.record().values();
        let of_record_characters: usize = of_record.iter().map(|it| it.chars().count()).sum();
        (values + of_record.len(), characters + of_record_characters)
    })
}

/// Why nothing of a name may change yet: its sets only make sense together.
fn held(fates: &[Fate<'_>], drafts: &[&Draft], ours: &[&Record]) -> Option<String> {
    if fates.iter().any(|it| it.action == Action::Conflict) {
        return Some("waits until the conflict beside it is settled".to_owned());
    }
    // Route 53 keeps no two policies under one name, and without the first of them the others leave users unanswered.
    let waits_for = |silent: &&&Draft| {
        let kind = std::mem::discriminant(&silent.policy);
        let other_policy = ours.iter().any(|it| std::mem::discriminant(&it.policy) != kind);
        let is_there = ours.iter().any(|it| it.key() == silent.key());
        let first = matches!(
            silent.policy,
            Policy::Simple | Policy::Geolocation(Place::Default) | Policy::Failover(Turn::Primary)
        );
        other_policy || (first && !is_there)
    };
    let silent = drafts.iter().filter(|it| it.leads.is_none()).find(waits_for)?;
    Some(format!("waits until the provider of {} answers", silent.region))
}
