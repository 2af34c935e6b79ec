//! What whoever decides should know before it trusts what it sees.

use std::{collections::BTreeMap, time::Duration};

use jiff::SignedDuration;

use super::{NodeFacts, World};

/// One thing that is wrong with the agreement itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgreementFinding {
    /// Stable; scripts match on it.
    pub code: &'static str,
    pub node: Option<String>,
    pub why: String,
    pub help: &'static str,
}

/// Clocks that are further apart mislead people; the lease itself rests on no clock but each guard's own.
const CLOCKS_APART: SignedDuration = SignedDuration::from_secs(1);

/// A store that went back, clocks that disagree, guards that were told different things.
pub fn findings(world: &World) -> Vec<AgreementFinding> {
    let mut out = went_back(world);
    out.extend(world.nodes.iter().filter_map(|(name, node)| clock(world, name, node)));
    out.extend(settings(world));
    out
}

/// By what guards promised, by what the history knows, and by what guards remember of the store itself.
fn went_back(world: &World) -> Vec<AgreementFinding> {
    let finding = |node: Option<&String>, why: String| AgreementFinding {
        code: "ha::agreement::went_back",
        node: node.cloned(),
        why,
        help: "it was restored from an old copy, or is another one: the guards act on nothing until a person has decided",
    };
    let epoch = world.term.epoch;
    let mut out = Vec::new();
    for (name, node) in &world.nodes {
        let report = node.report.as_ref().ok().and_then(|it| it.agreement.as_ref());
        let told = node.member.as_ref().map_or(0, |it| it.promised);
        let promised = report.map_or(0, |it| it.promised).max(told);
        let alert = report.and_then(|it| it.alerts.iter().find(|(alert, _)| alert == "StoreWentBack"));
        if promised > epoch {
            let why = format!("the store says epoch {epoch}, and {name} has promised epoch {promised}");
            out.push(finding(Some(name), why));
        } else if let Some((_, why)) = alert {
            out.push(finding(Some(name), why.clone()));
        }
    }
    if world.last_history > epoch {
        let why = format!(
            "the store says epoch {epoch}, and its own history knows epoch {}",
            world.last_history
        );
        out.push(finding(None, why));
    }
    out
}

/// The database tells best, within half of the round trip. A guard's report tells only what cannot be: one from the future.
fn clock(world: &World, name: &str, node: &NodeFacts) -> Option<AgreementFinding> {
    let measured = node.vitals.as_ref().ok().map(|vitals| {
        let error = SignedDuration::try_from(vitals.clock_error).unwrap_or_default();
        (vitals.clock, error)
    });
    let reported = node
        .member
        .as_ref()
        .map(|it| (it.at.duration_since(world.now), SignedDuration::ZERO));
    let (apart, error) = measured.or(reported.filter(|(apart, _)| *apart > SignedDuration::ZERO))?;
    if apart.abs() - error <= CLOCKS_APART {
        return None;
    }
    let way = if apart.is_negative() { "behind" } else { "ahead of" };
    Some(AgreementFinding {
        code: "ha::agreement::clocks",
        node: Some(name.to_owned()),
        why: format!(
            "the clock of {name} is {:.1} s {way} this machine's",
            apart.abs().as_secs_f64()
        ),
        help: "set the clocks right (chronyc tracking, timedatectl): times in rows and the end of a pause are read by them",
    })
}

/// All guards should have been told the same. A guard that was not told yet is one that answers and says otherwise.
fn settings(world: &World) -> Option<AgreementFinding> {
    let mut told: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, node) in world.nodes.iter().filter(|(_, it)| it.answers()) {
        if let Some(member) = &node.member {
            told.entry(member.settings.as_str()).or_default().push(name);
        }
    }
    if told.len() < 2 {
        return None;
    }
    let groups: Vec<String> = told.values().map(|nodes| nodes.join(" and ")).collect();
    Some(AgreementFinding {
        code: "ha::agreement::settings",
        node: None,
        why: format!(
            "guards were told different timing or rules: {}, each otherwise",
            groups.join("; ")
        ),
        help: "tell all of them the same: ha provision",
    })
}

/// How old a guard's report is, by the clock of whoever looks; as wrong as the clocks are.
pub fn age(world: &World, node: &NodeFacts) -> Option<Duration> {
    let at = node.member.as_ref()?.at;
    Duration::try_from(world.now.duration_since(at)).ok()
}
