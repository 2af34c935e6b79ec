//! How far each database is behind the primary, in bytes and in time (protocol §15).

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    agent::stream_name,
    lsn::Lsn,
    model::Objectives,
    names::RegionName,
    report::{DatabaseState, NodeReport, NodeRole, Sender, WalSample},
};

/// What came back when a node's guard was asked.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeView {
    pub region: RegionName,
    pub node: String,
    /// Why there is no report, otherwise.
    pub report: Result<NodeReport, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LagState {
    Primary,
    /// Receives, and replays what it receives within [`FRESH`].
    Streaming,
    /// Receives, and is further behind than that.
    CatchingUp,
    /// Replay was paused by hand.
    Paused,
    /// The information is too old to say anything small.
    Stale,
    /// Runs and receives nothing.
    Disconnected,
    /// Being made or started.
    Starting,
    /// Stopped or failed.
    Down,
    /// Not made yet.
    Absent,
    /// Its guard did not answer.
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LagVerdict {
    /// Below the limit `lag_warn_seconds`.
    Ok,
    /// Above `lag_warn_seconds`, or cut off for less than the limits below.
    Warn,
    /// Above `lag_expected_seconds`: more than was ever expected.
    Expected,
    /// Above `lag_critical_seconds`, or down, or two primaries, or a copy of something else.
    Critical,
    Unknown,
}

/// One row of `ha lag`.
#[derive(Clone, Debug, PartialEq)]
pub struct LagRow {
    pub region: RegionName,
    pub node: String,
    /// As observed.
    pub role: Option<NodeRole>,
    pub upstream: Option<String>,
    pub state: LagState,
    /// None where it is not known; never a small number out of old information.
    pub lag: Option<Duration>,
    pub lag_bytes: Option<u64>,
    /// `lag` and `lag_bytes` are lower bounds.
    pub at_least: bool,
    pub received: Option<Lsn>,
    pub replayed: Option<Lsn>,
    pub timeline: Option<u32>,
    pub sampled_at: Option<Timestamp>,
    pub verdict: LagVerdict,
    pub error: Option<String>,
    /// The present one, as its guard knows it: behind the others', it was cut off from the agreement.
    pub epoch: Option<u64>,
    /// Commits may wait for it (or it is the primary); none where its guard does not say.
    pub voter: Option<bool>,
}

/// Older than this, what is known about a node says nothing any more. A receiver asks its upstream for a sign of life
/// after half of `wal_receiver_timeout` (5 s), and guards look every second: whatever is whole stays well below.
pub const FRESH: Duration = Duration::from_secs(5);

/// One row per node, in the order given. `now` is the moment at which the answers were received.
///
/// Ages in a report were measured by its node's own clock up to the moment its answer was sent, so they are all
/// counted back from `now`: clocks need not agree, and an answer's way (milliseconds) is the error made.
///
/// A replica is compared with where the primary was when the replica was looked at. `lag` is the time since the
/// primary first was beyond what the replica has replayed: zero on an idle system, and growing while replay is
/// paused or the region is cut off.
pub fn table(nodes: &[NodeView], objectives: &Objectives, now: Timestamp) -> Vec<LagRow> {
    let primaries: Vec<&NodeReport> = reports(nodes).filter(|it| is_primary(it)).collect();
    nodes
        .iter()
        .map(|view| match &view.report {
            Ok(report) => known(view, report, nodes, &primaries, objectives, now),
            Err(error) => LagRow {
                error: Some(error.clone()),
                ..blank(view)
            },
        })
        .collect()
}

fn reports(nodes: &[NodeView]) -> impl Iterator<Item = &NodeReport> {
    nodes.iter().filter_map(|view| view.report.as_ref().ok())
}

fn is_primary(report: &NodeReport) -> bool {
    report.database.role == Some(NodeRole::Primary)
}

fn blank(view: &NodeView) -> LagRow {
    LagRow {
        region: view.region.clone(),
        node: view.node.clone(),
        role: None,
        upstream: None,
        state: LagState::Unknown,
        lag: None,
        lag_bytes: None,
        at_least: false,
        received: None,
        replayed: None,
        timeline: None,
        sampled_at: None,
        verdict: LagVerdict::Unknown,
        error: None,
        epoch: None,
        voter: None,
    }
}

fn known(
    view: &NodeView,
    report: &NodeReport,
    nodes: &[NodeView],
    primaries: &[&NodeReport],
    objectives: &Objectives,
    now: Timestamp,
) -> LagRow {
    let (database, agreement) = (&report.database, report.agreement.as_ref());
    let row = LagRow {
        role: database.role,
        upstream: database.upstream.clone(),
        received: database.received,
        replayed: database.replayed,
        timeline: database.timeline,
        sampled_at: now.checked_sub(report.age).ok(),
        error: database
            .detail
            .clone()
            .or_else(|| Some(agreement?.blocked.as_ref()?.why.clone())),
        epoch: agreement.map(|it| it.epoch),
        voter: agreement.map(|it| it.voters.contains(&report.node)),
        ..blank(view)
    };
    let ended = |state, verdict| LagRow {
        state,
        verdict,
        ..row.clone()
    };
    match (database.state, database.role) {
        (DatabaseState::Absent, _) => ended(LagState::Absent, LagVerdict::Unknown),
        (DatabaseState::Creating | DatabaseState::Starting, _) => ended(LagState::Starting, LagVerdict::Unknown),
        (DatabaseState::Stopped | DatabaseState::Failed, _) => ended(LagState::Down, LagVerdict::Critical),
        (DatabaseState::Running, None) => ended(LagState::Unknown, LagVerdict::Unknown),
        (DatabaseState::Running, Some(NodeRole::Primary)) => primary(row, report, primaries),
        (DatabaseState::Running, Some(NodeRole::Replica)) => {
            let source = Source::of(report, nodes, primaries);
            replica(row, report, &source, objectives)
        }
    }
}

fn primary(row: LagRow, report: &NodeReport, primaries: &[&NodeReport]) -> LagRow {
    let others: Vec<String> = primaries
        .iter()
        .filter(|it| (&it.region, &it.node) != (&report.region, &report.node))
        .map(|it| match it.age > FRESH {
            true => format!("{} in {}, {} ago,", it.node, it.region, seconds(it.age)),
            false => format!("{} in {}", it.node, it.region),
        })
        .collect();
    let old = report.age > FRESH;
    let state = if old { LagState::Stale } else { LagState::Primary };
    if !others.is_empty() {
        let others = others.join(" and ");
        return LagRow {
            state,
            verdict: LagVerdict::Critical,
            error: Some(format!(
                "two primaries: {others} took writes too; stop one before anything else"
            )),
            ..row
        };
    }
    match old {
        true => LagRow {
            state,
            verdict: LagVerdict::Unknown,
            error: row.error.clone().or_else(|| Some(looked(report.age))),
            ..row
        },
        false => LagRow {
            state,
            verdict: LagVerdict::Ok,
            ..row
        },
    }
}

fn looked(age: Duration) -> String {
    format!("last looked at {} ago", seconds(age))
}

/// What a replica is measured against.
struct Source<'a> {
    /// The furthest position known.
    position: Option<Lsn>,
    /// Where the log was at which age, oldest first.
    samples: Vec<WalSample>,
    report: Option<&'a NodeReport>,
    /// The primary answers, and its answer is not old: otherwise it may be further by now.
    current: bool,
}

impl<'a> Source<'a> {
    fn of(replica: &NodeReport, nodes: &'a [NodeView], primaries: &[&'a NodeReport]) -> Self {
        // With two primaries, the one it follows, else the younger line.
        let followed = replica.database.upstream.as_deref();
        let by_line = primaries
            .iter()
            .max_by_key(|it| (Some(it.node.as_str()) == followed, it.database.timeline));
        match by_line.copied() {
            Some(primary) => Self {
                position: primary.database.written.into_iter().chain(furthest(primary)).max(),
                samples: ring(primary),
                report: Some(primary),
                current: primary.age <= FRESH,
            },
            None => {
                // The primary is away: its guard may still know where it was, and a replica may have received more.
                let last = reports(nodes)
                    .filter(|it| !it.samples.is_empty())
                    .max_by_key(|it| furthest(it));
                Self {
                    position: reports(nodes).filter_map(furthest).max(),
                    samples: last.map(ring).unwrap_or_default(),
                    report: None,
                    current: false,
                }
            }
        }
    }

    /// How long ago `node` answered its primary. A replica that has just begun to stream hears nothing from an idle
    /// primary for seconds, while its own first answer is there at once, and then one each second. None when the last
    /// one is older than that by far: a line that was cut leaves its sender behind for a while.
    fn hears(&self, node: &str) -> Option<Duration> {
        let primary = self.report.filter(|_| self.current)?;
        let name = stream_name(node);
        let ours = |it: &&Sender| (it.node == name || it.node == node) && it.state == "streaming";
        let sender = primary.database.senders.iter().find(ours)?;
        let silence = sender.replayed.and(sender.silence).map(|silence| silence + primary.age);
        silence.filter(|silence| *silence <= FRESH / 2)
    }

    /// How long before the replica was looked at the log first went beyond `replayed`, and whether it may be longer.
    fn behind(&self, replayed: Lsn, looked: Duration) -> Option<(Duration, bool)> {
        let seen: Vec<&WalSample> = self.samples.iter().filter(|sample| sample.age >= looked).collect();
        let newest = seen.last()?;
        if replayed >= newest.lsn {
            return Some((Duration::ZERO, false));
        }
        let first = seen.iter().position(|sample| sample.lsn > replayed)?;
        // Nothing was sampled while it was still level: that moment is older than the ring.
        Some((seen.get(first)?.age.saturating_sub(looked), first == 0))
    }
}

/// The furthest a node knows of.
fn furthest(report: &NodeReport) -> Option<Lsn> {
    let database = &report.database;
    let positions = [database.written, database.received, database.replayed];
    let samples = report.samples.iter().map(|sample| sample.lsn);
    positions.into_iter().flatten().chain(samples).max()
}

fn ring(report: &NodeReport) -> Vec<WalSample> {
    let mut samples = report.samples.clone();
    let latest = report.database.written.map(|lsn| WalSample { lsn, age: report.age });
    samples.extend(latest.filter(|_| is_primary(report)));
    samples.sort_by_key(|sample| (std::cmp::Reverse(sample.age), sample.lsn));
    samples
}

fn replica(row: LagRow, report: &NodeReport, source: &Source, objectives: &Objectives) -> LagRow {
    let database = &report.database;
    if report.age > FRESH {
        return LagRow {
            state: LagState::Stale,
            verdict: LagVerdict::Unknown,
            error: row.error.or_else(|| Some(looked(report.age))),
            ..row
        };
    }
    if let Some(error) = foreign(report, source) {
        return LagRow {
            state: LagState::Disconnected,
            verdict: LagVerdict::Critical,
            error: Some(error),
            ..row
        };
    }
    let behind = database
        .replayed
        .and_then(|replayed| source.behind(replayed, report.age));
    let lag_bytes = source
        .position
        .zip(database.replayed)
        .map(|(at, replayed)| at.bytes_since(replayed));
    let at_least = !source.current || behind.is_some_and(|(_, longer)| longer);
    let lag = behind.map(|(lag, _)| lag);
    // Samples are the only clock here: behind, and nothing sampled beyond, is unknown and not zero.
    let lag = lag.filter(|lag| !lag.is_zero() || source.current);
    let silence = database.upstream_silence.map(|silence| silence + report.age);
    let silence = silence.or_else(|| source.hears(&report.node));
    let (state, lag, error) = match silence {
        None => (
            LagState::Disconnected,
            large(lag),
            Some("nothing streams to it".to_owned()),
        ),
        Some(silence) if silence > FRESH => {
            let error = format!("heard nothing from its upstream for {}", seconds(silence));
            (LagState::Stale, large(lag), Some(error))
        }
        Some(_) if database.replay_paused => (LagState::Paused, lag, Some("replay is paused".to_owned())),
        Some(_) if lag.is_some_and(|lag| lag > FRESH) => (LagState::CatchingUp, lag, None),
        Some(_) => (LagState::Streaming, lag, None),
    };
    let verdict = match state {
        LagState::Stale | LagState::Disconnected => {
            let exposed = lag.max(silence).unwrap_or_default();
            by_limits(exposed, objectives).max(LagVerdict::Warn)
        }
        _ => match lag.map(|lag| by_limits(lag, objectives)) {
            Some(LagVerdict::Ok) if at_least => LagVerdict::Unknown,
            Some(verdict) => verdict,
            None => LagVerdict::Unknown,
        },
    };
    LagRow {
        state,
        lag,
        lag_bytes,
        at_least,
        verdict,
        error: row.error.or(error),
        ..row
    }
}

/// Cut off, a small number would soothe where nothing is known to arrive: only what is large by itself is said.
fn large(lag: Option<Duration>) -> Option<Duration> {
    lag.filter(|lag| *lag > FRESH)
}

/// Positions compare only within one database and one line of history.
fn foreign(report: &NodeReport, source: &Source) -> Option<String> {
    let primary = source.report?;
    let identifiers = report
        .database
        .system_identifier
        .as_ref()
        .zip(primary.database.system_identifier.as_ref());
    if identifiers.is_some_and(|(own, other)| own != other) {
        return Some(format!("is a copy of another database than {}", primary.node));
    }
    match report.database.timeline.zip(primary.database.timeline) {
        Some((own, other)) if own > other => {
            Some(format!("is on timeline {own}, its primary {} on {other}", primary.node))
        }
        _ => None,
    }
}

fn by_limits(lag: Duration, objectives: &Objectives) -> LagVerdict {
    let above = |limit: u64| lag > Duration::from_secs(limit);
    if above(objectives.lag_critical_seconds) {
        LagVerdict::Critical
    } else if above(objectives.lag_expected_seconds) {
        LagVerdict::Expected
    } else if above(objectives.lag_warn_seconds) {
        LagVerdict::Warn
    } else {
        LagVerdict::Ok
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
