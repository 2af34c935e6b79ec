//! What stands in the way of a switchover, all of it at once (protocol §8).

use std::time::Duration;

use super::{NodeFacts, World};
use crate::{
    agreement::Phase,
    report::{DatabaseState, NodeReport},
};

/// How silent a stream may be.
const FRESH: Duration = Duration::from_secs(2);
/// Of the log, to be sent while nobody can write.
const NEAR_BYTES: u64 = 16 << 20;
/// `until` is a moment: clocks further apart undo a switchover that is well, or not one that hangs.
const CLOCKS_APART: Duration = Duration::from_secs(2);
/// Files of the log; a primary archives what is left before it has stopped.
const UNARCHIVED: u64 = 16;
/// What a promotion and the log after it need at least.
const FREE_BYTES: u64 = 256 << 20;

/// The target does not stream as far as its guard has looked: of all that stands in the way, what may pass by itself.
pub const NOT_STREAMING: &str = "ha::switchover::not_streaming";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It is not done.
    Error,
    /// It is done; somebody should know.
    Warning,
}

impl Severity {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "refused",
            Self::Warning => "warning",
        }
    }
}

/// One thing that stands in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub severity: Severity,
    /// Stable; scripts match on it.
    pub code: &'static str,
    pub region: Option<String>,
    pub why: String,
    /// What to type next.
    pub help: String,
}

impl Refusal {
    pub fn new(code: &'static str, why: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code,
            region: None,
            why: why.into(),
            help: help.into(),
        }
    }

    #[must_use]
    pub fn of(mut self, region: &str) -> Self {
        self.region = Some(region.to_owned());
        self
    }

    #[must_use]
    pub fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }
}

/// Everything that stands in the way of making `to` the primary: the cluster's part first. Empty: nothing.
pub fn switchover(world: &World, to: &str) -> Vec<Refusal> {
    let mut out = cluster(world);
    if world.term.phase == Phase::Switching && world.term.switch.as_ref().is_some_and(|it| it.to == to) {
        // Under way already: whoever repeats a command that was cut off joins it, and the parts are in between.
        return out;
    }
    match world.phase_in_the_way() {
        Some(refusal) => out.push(refusal),
        None => out.extend(primary(world)),
    }
    out.extend(target(world, to));
    out.extend(worth_knowing(world));
    out
}

/// Why nobody at all can take over: the cluster's part, and a sentence about each server.
pub fn nobody(world: &World, choices: &[super::Choice]) -> Vec<Refusal> {
    let mut out = cluster(world);
    out.extend(world.phase_in_the_way());
    out.extend(choices.iter().filter(|it| it.node != world.term.leader).map(|it| {
        Refusal::new(
            "ha::switchover::nobody",
            format!("{} cannot take over: {}", it.node, it.reason),
            "see all of them: ha switchover --explain",
        )
        .of(&it.region)
    }));
    if out.is_empty() {
        out.push(Refusal::new(
            "ha::switchover::nobody",
            "there is no other database server to hand over to",
            "declare one in another region in workspace.ncl, then: ha provision",
        ));
    }
    out
}

/// What forbids any change of primary.
pub(super) fn cluster(world: &World) -> Vec<Refusal> {
    let mut out = Vec::new();
    if world.nodes.values().all(|it| !it.answers()) {
        out.push(Refusal::new(
            "ha::agreement::no_guards",
            "no guard answers, and they are the ones who do it",
            "see why: ha health; bring them back: ha provision",
        ));
    }
    let promised = world.nodes.iter().filter_map(|(node, it)| {
        let member = it.member.as_ref()?;
        (member.promised > world.term.epoch).then_some((node, member.promised))
    });
    let went_back = match promised.max_by_key(|(_, epoch)| *epoch) {
        Some((node, epoch)) => Some(format!("{node} has promised epoch {epoch}")),
        None if world.last_history > world.term.epoch => {
            Some(format!("its history knows epoch {}", world.last_history))
        }
        None => None,
    };
    if let Some(knows) = went_back {
        out.push(Refusal::new(
            "ha::agreement::went_back",
            format!(
                "the store went back in time: it says epoch {}, and {knows}",
                world.term.epoch
            ),
            "bring the right store back; or, if it was restored from the best copy there is: ha quorum adopt --why \"how it came\"",
        ));
    }
    if let Some(pause) = world.paused() {
        out.push(Refusal::new(
            "ha::agreement::paused",
            format!("{} paused the guards: {}", pause.by, pause.why),
            "when that is over: ha resume",
        ));
    }
    out.extend(world.broken_timing.iter().map(|why| {
        Refusal::new(
            "ha::agreement::timing",
            why.clone(),
            "correct the timing in workspace.ncl; ha check shows each rule with its figures",
        )
    }));
    out
}

impl World {
    fn phase_in_the_way(&self) -> Option<Refusal> {
        match (self.term.phase, &self.term.switch) {
            (Phase::Active, _) => None,
            (Phase::Switching, switch) => {
                let other = switch.as_ref().map_or("another node", |it| it.to.as_str());
                let by = switch.as_ref().map_or("somebody", |it| it.by.as_str());
                Some(Refusal::new(
                    "ha::switchover::running",
                    format!("a switchover to {other} is under way, asked for by {by}"),
                    format!("join it: ha switchover --to {other}; or wait until it is done or undone: ha lease"),
                ))
            }
            (Phase::Sealing, _) => Some(Refusal::new(
                "ha::switchover::no_primary",
                format!("there is no primary: epoch {} is being decided", self.term.epoch),
                "watch it, or help it along: ha failover",
            )),
        }
    }
}

/// Whoever hands over must be there to do it.
fn primary(world: &World) -> Vec<Refusal> {
    let name = &world.term.leader;
    let Some(leader) = world.leader() else {
        return vec![Refusal::new(
            "ha::switchover::primary_gone",
            format!("the primary {name} is no server of this workspace any more"),
            "ha failover",
        )];
    };
    let mut out = Vec::new();
    let mut refuse = |code, why: String, help: &str| out.push(Refusal::new(code, why, help).of(&leader.region));
    let report = match &leader.report {
        Ok(report) => report,
        Err(why) => {
            let why = format!("the primary {name} cannot hand over: {why}");
            refuse("ha::switchover::primary_gone", why, "if it is gone: ha failover");
            return out;
        }
    };
    if !leader.is_running_primary() && world.term.phase == Phase::Active {
        let state = state(report);
        let why = format!("the primary {name} cannot hand over: its database is {state}");
        refuse(
            "ha::switchover::primary_gone",
            why,
            "if it does not come back: ha failover",
        );
    }
    for sender in &report.database.senders {
        let silence = sender.silence.unwrap_or_default();
        if sender.state == "streaming" && silence > world.timing.sender_patience() {
            let why = format!(
                "{} has not answered the primary for {:.0} s and would hold its stop",
                sender.node,
                silence.as_secs_f64()
            );
            refuse(
                "ha::switchover::stalled",
                why,
                "see what it does: ha lag; ha switchover again when it streams or is gone",
            );
        }
    }
    if let Ok(vitals) = &leader.vitals
        && vitals.unarchived.is_some_and(|files| files > UNARCHIVED)
    {
        let files = vitals.unarchived.unwrap_or_default();
        let why = format!("{files} files of the log on {name} wait to be archived, which holds its stop");
        refuse(
            "ha::switchover::archive",
            why,
            "see pg_stat_archiver there; try again when it has caught up",
        );
    }
    out
}

/// Whether this node could take over now.
pub(super) fn target(world: &World, to: &str) -> Vec<Refusal> {
    let Some(node) = world.nodes.get(to) else {
        let known: Vec<&str> = world.nodes.keys().map(String::as_str).collect();
        return vec![Refusal::new(
            "ha::switchover::unknown",
            format!("no database server {to} in this workspace"),
            format!("one of: {}", known.join(", ")),
        )];
    };
    let region = node.region.as_str();
    let refuse = |code, why: String, help: String| Refusal::new(code, why, help).of(region);
    let other = || "see who could: ha switchover --explain".to_owned();
    if to == world.term.leader {
        return vec![refuse(
            "ha::switchover::is_primary",
            format!("{to} is the primary already"),
            other(),
        )];
    }
    if !node.data {
        return vec![refuse(
            "ha::switchover::witness",
            format!("{to} is a witness: it votes and has no data"),
            other(),
        )];
    }
    let mut out = Vec::new();
    if let Some(why) = &node.forbidden {
        out.push(refuse(
            "ha::switchover::forbidden",
            format!("{to} may not be primary: {why}"),
            "choose another region, or change the rule in workspace.ncl: ha switchover --explain".to_owned(),
        ));
    }
    match &node.report {
        Err(why) => out.push(refuse(
            "ha::switchover::unreachable",
            format!("nothing is known of {to}: {why}"),
            format!("see why: ha health --region {region}"),
        )),
        Ok(report) => out.extend(replica(world, to, node, report)),
    }
    if world.term.acks > 0 && !world.term.voters.contains(to) {
        let why = if world.term.excluded.contains(to) {
            (
                format!("{to} was left out of the voters by an operator"),
                format!("let it back in: ha db voters --add {to}"),
            )
        } else {
            (
                format!("{to} is no voter yet: commits do not wait for it, so it may lack some"),
                "the leader adds it by itself once it streams: ha db voters".to_owned(),
            )
        };
        out.push(refuse("ha::switchover::no_voter", why.0, why.1));
    }
    out.extend(equal(world, to, node));
    out
}

fn replica(world: &World, to: &str, node: &NodeFacts, report: &NodeReport) -> Vec<Refusal> {
    let region = node.region.as_str();
    let refuse = |code, why: String, help: String| Refusal::new(code, why, help).of(region);
    let wait = || format!("try again when it streams: ha lag --region {region}");
    let need = node.member.as_ref().and_then(|it| it.need.as_ref());
    let sealed = node.member.as_ref().and_then(|it| it.sealed);
    let left = node.position().and_then(|it| world.diverged(it));
    if let Some(why) = need.map(|it| it.why.clone()).or(left) {
        return vec![refuse(
            "ha::switchover::sealed_out",
            format!("the data of {to} must be rebuilt first: {why}"),
            format!("ha rejoin {to}"),
        )];
    }
    if report.database.state != DatabaseState::Running {
        let state = state(report);
        return vec![refuse(
            NOT_STREAMING,
            format!("the database of {to} is {state}"),
            wait(),
        )];
    }
    let mut out = Vec::new();
    let silence = report.database.upstream_silence;
    let follows = node.member.as_ref().and_then(|it| it.follows.as_ref());
    // While the next one is being decided everybody is sealed, and follows nobody of the new epoch.
    let active = world.term.phase == Phase::Active;
    let elsewhere = follows.filter(|it| active && (it.node != world.term.leader || it.epoch != world.term.epoch));
    if let Some(sealed) = sealed.filter(|it| active && it.epoch >= world.term.epoch && follows.is_none()) {
        out.push(refuse(
            "ha::switchover::sealed_out",
            format!(
                "{to} is sealed for epoch {} and follows nobody: its guard has not let it back in",
                sealed.epoch
            ),
            format!("ha rejoin {to}"),
        ));
    } else if silence.is_none_or(|silence| silence > FRESH) {
        let since = silence.map_or_else(
            || "it receives nothing".to_owned(),
            |it| format!("it heard nothing for {:.1} s", it.as_secs_f64()),
        );
        out.push(refuse(
            NOT_STREAMING,
            format!("{to} does not stream from the primary: {since}"),
            wait(),
        ));
    } else if let Some(follows) = elsewhere {
        out.push(refuse(
            NOT_STREAMING,
            format!(
                "{to} still follows {} of epoch {}, and epoch {} is the present one",
                follows.node, follows.epoch, world.term.epoch
            ),
            wait(),
        ));
    }
    if report.database.replay_paused {
        out.push(refuse(
            "ha::switchover::replay_paused",
            format!("{to} receives the log and does not replay it: somebody paused it"),
            format!("on {to}: select pg_wal_replay_resume()"),
        ));
    }
    let written = world.written().map(|it| it.lsn);
    let behind = written
        .zip(report.database.replayed)
        .map(|(written, replayed)| written.bytes_since(replayed));
    if let Some(behind) = behind.filter(|it| *it > NEAR_BYTES) {
        out.push(refuse(
            "ha::switchover::lagging",
            format!(
                "{to} is {} MB behind, which nobody could write until it has them",
                behind >> 20
            ),
            format!("wait until it is near: ha lag --follow --region {region}"),
        ));
    }
    out
}

/// It must be able to do what the primary does.
fn equal(world: &World, to: &str, node: &NodeFacts) -> Vec<Refusal> {
    let region = node.region.as_str();
    let mut out = Vec::new();
    let mut refuse = |code, why: String, help: &str| out.push(Refusal::new(code, why, help).of(region));
    let Ok(own) = &node.vitals else { return out };
    if let Some(free) = own.free_bytes.filter(|it| *it < FREE_BYTES) {
        refuse(
            "ha::switchover::disk",
            format!("{to} has {} MB of disk left", free >> 20),
            "free some space there first; ha doctor shows the folders of this machine",
        );
    }
    let apart = own.clock.unsigned_abs().saturating_sub(own.clock_error);
    if apart > CLOCKS_APART {
        refuse(
            "ha::switchover::clocks",
            format!(
                "the clock of {to} and of this machine are {:.1} s apart",
                apart.as_secs_f64()
            ),
            "set the clocks right (chronyc tracking, timedatectl), then try again",
        );
    }
    let Some(Ok(primary)) = world.leader().map(|it| &it.vitals) else {
        return out;
    };
    if own.major != primary.major {
        refuse(
            "ha::switchover::version",
            format!("{to} runs PostgreSQL {}, the primary {}", own.major, primary.major),
            "one major version everywhere: ha check",
        );
    }
    for (name, needed) in &primary.settings {
        if let Some(has) = own.settings.get(name).filter(|has| *has < needed) {
            refuse(
                "ha::switchover::settings",
                format!("{name} is {has} on {to} and {needed} on the primary"),
                "declare the same settings for every region in workspace.ncl, then: ha provision",
            );
        }
    }
    out
}

/// What does not stand in the way, and somebody should know.
fn worth_knowing(world: &World) -> Vec<Refusal> {
    let Some((leader, Ok(vitals))) = world.leader().map(|it| (it, &it.vitals)) else {
        return Vec::new();
    };
    let mut out = Vec::new();
    let mut note = |code, why: String, help: &str| {
        out.push(Refusal::new(code, why, help).of(&leader.region).warning());
    };
    if vitals.prepared > 0 {
        note(
            "ha::switchover::prepared",
            format!(
                "{} prepared transactions stay open across the change and keep their locks",
                vitals.prepared
            ),
            "end them if nobody will: select * from pg_prepared_xacts",
        );
    }
    if vitals.major < 17 && !vitals.logical_slots.is_empty() {
        note(
            "ha::switchover::logical_slots",
            format!(
                "logical slots are not on the other servers and must be made anew: {}",
                vitals.logical_slots.join(", ")
            ),
            "PostgreSQL carries them over from version 17 on",
        );
    }
    out
}

fn state(report: &NodeReport) -> String {
    let state = match report.database.state {
        DatabaseState::Absent => "not made yet",
        DatabaseState::Creating => "being made",
        DatabaseState::Starting => "starting",
        DatabaseState::Running => "running, and no primary",
        DatabaseState::Stopped => "stopped",
        DatabaseState::Failed => "failed",
    };
    match &report.database.detail {
        Some(detail) => format!("{state} ({detail})"),
        None => state.to_owned(),
    }
}
