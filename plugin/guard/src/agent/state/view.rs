//! What is known, taken in one moment: for a decision, and for an answer.

use std::time::{Duration, Instant};

use ha_core::{
    agreement::{Epoch, Node},
    decide::Process,
    report::{DatabaseReport, DatabaseState, NodeReport, NodeRole, StoreReport, WalSample},
};
use ha_data::postgres::Observation;

use super::{Good, Phase, Rest, State, lock};
use crate::agent::facts::Snapshot;

/// Everything an answer is made of; taken in one moment.
#[derive(Clone, Debug)]
pub(in crate::agent) struct View {
    pub(in crate::agent) report: NodeReport,
    /// How far the replica is behind what its upstream last said, in bytes and in time.
    pub(in crate::agent) behind_bytes: Option<u64>,
    pub(in crate::agent) behind: Option<Duration>,
    /// The look is recent enough to act on.
    pub(in crate::agent) fresh: bool,
}

impl State {
    /// What decisions about the database rest on, taken in one moment.
    pub(in crate::agent) fn snapshot(&self) -> Snapshot {
        let now = Instant::now();
        let phase = self.phase.borrow().clone();
        let good = lock(&self.looks)
            .good
            .clone()
            .filter(|good| phase.pid == Some(good.pid));
        let fresh = good
            .as_ref()
            .is_some_and(|good| now.duration_since(good.at) <= self.patience());
        let rest = self.rest();
        let down = lock(&self.down_since).map_or(Duration::ZERO, |since| now.duration_since(since));
        let (process, at_rest) = match (phase.pid, &rest) {
            (Some(_), _) if good.is_some() => (Some(Process::Running), None),
            (Some(_), _) => (Some(Process::Starting { since: down }), None),
            (None, Rest::Absent) => (Some(Process::Absent), None),
            (None, Rest::Ruined) => (Some(Process::Ruined), None),
            (
                None,
                Rest::Stopped {
                    clean,
                    standby,
                    position,
                },
            ) => {
                let stopped = Process::Stopped {
                    since: down,
                    clean: *clean,
                    standby: *standby,
                };
                (Some(stopped), *position)
            }
            (None, Rest::Unknown | Rest::Unusable(_)) => (None, None),
        };
        Snapshot {
            process,
            pid: phase.pid,
            fresh,
            follows: good.as_ref().and_then(|good| self.followed(&good.observation)),
            age: good
                .as_ref()
                .map(|good| now.duration_since(good.at))
                .unwrap_or_default(),
            report: good.map(|good| good.observation.report),
            at_rest,
            sealed: self.memory.sealed(),
            need: self.memory.need(),
            barrier: self.memory.barrier(),
            permit: *lock(&self.permit),
            canary: lock(&self.canary).map(|sent| now.duration_since(sent)),
            state: phase.state,
            detail: phase.detail,
        }
    }

    /// The node that a replica was told to follow, and in which epoch; none when no node is there.
    fn followed(&self, observation: &Observation) -> Option<(Node, Epoch)> {
        let (address, port) = observation.follows.as_ref()?;
        let mut peers = self.config.peers.iter();
        let peer = peers.find(|peer| peer.address == *address && peer.port == *port)?;
        Some((peer.node.clone(), observation.follows_epoch.unwrap_or_default()))
    }

    pub(in crate::agent) fn view(&self) -> View {
        let now = Instant::now();
        let phase = self.phase.borrow().clone();
        let (good, error) = {
            let looks = lock(&self.looks);
            (looks.good.clone(), looks.error.clone())
        };
        let (at, sampled_at) = good
            .as_ref()
            .map_or((self.started, self.started_at), |it| (it.at, it.sampled_at));
        let age = now.duration_since(at);
        let stale = age > self.patience();
        let mut database = database(&phase, good.as_ref(), error, stale);
        let running = database.state == DatabaseState::Running;
        if running {
            database.weak_roles = self.weak();
            let notes = lock(&self.notes).values().cloned().collect::<Vec<_>>();
            let told = database.detail.take().into_iter().chain(notes).collect::<Vec<_>>();
            database.detail = (!told.is_empty()).then(|| told.join("; "));
        }
        let (samples, behind) = {
            let progress = lock(&self.progress);
            let samples = match database.role {
                Some(NodeRole::Primary) => progress.samples(now),
                _ => Vec::new(),
            };
            (
                samples,
                database.replayed.and_then(|replayed| progress.behind(replayed, now)),
            )
        };
        let upstream_end = good.and_then(|it| it.observation.upstream_end);
        let behind_bytes = upstream_end
            .zip(database.replayed)
            .map(|(end, replayed)| end.bytes_since(replayed));
        let report = NodeReport {
            workspace: self.config.workspace.clone(),
            region: self.config.region.clone(),
            node: self.config.node.clone(),
            sampled_at,
            age,
            database,
            samples: samples.into_iter().map(|(lsn, age)| WalSample { lsn, age }).collect(),
            store: StoreReport::default(),
            guard_version: env!("CARGO_PKG_VERSION").to_owned(),
            agreement: None,
        };
        View {
            report,
            behind_bytes,
            behind,
            fresh: running && !stale,
        }
    }
}

/// What holds for the database: the process first, then what it said. One look that failed proves nothing; none
/// for a while does.
fn database(phase: &Phase, good: Option<&Good>, error: Option<String>, stale: bool) -> DatabaseReport {
    let mut report = good.map_or_else(unknown, |good| good.observation.report.clone());
    let answered = good.is_some_and(|good| phase.pid == Some(good.pid));
    (report.state, report.detail) = match (phase.pid, answered, error) {
        (None, ..) => (phase.state, phase.detail.clone()),
        (Some(_), true, error) if !stale => {
            report.detail = error;
            return report;
        }
        (Some(_), true, error) => {
            let why = error.map(|it| format!(": {it}")).unwrap_or_default();
            (DatabaseState::Failed, Some(format!("does not answer{why}")))
        }
        (Some(_), false, error) => (DatabaseState::Starting, error),
    };
    // Positions may be told although they are old, with their age. Who it was is not.
    DatabaseReport {
        role: None,
        upstream_silence: None,
        senders: Vec::new(),
        slots: Vec::new(),
        connections: None,
        ..report
    }
}

fn unknown() -> DatabaseReport {
    DatabaseReport {
        state: DatabaseState::Absent,
        detail: None,
        role: None,
        system_identifier: None,
        timeline: None,
        written: None,
        received: None,
        replayed: None,
        upstream_silence: None,
        upstream: None,
        replay_paused: false,
        senders: Vec::new(),
        slots: Vec::new(),
        started_at: None,
        connections: None,
        names: None,
        control_timeline: None,
        waiting: 0,
        weak_roles: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn good(pid: i32, role: NodeRole) -> Good {
        let report = DatabaseReport {
            state: DatabaseState::Running,
            role: Some(role),
            timeline: Some(3),
            ..unknown()
        };
        Good {
            at: Instant::now(),
            sampled_at: Timestamp::UNIX_EPOCH,
            pid,
            observation: Observation {
                report,
                upstream_end: None,
                follows: None,
                follows_epoch: None,
                receivers: 0,
            },
        }
    }

    #[test]
    fn a_role_is_only_told_by_the_process_that_runs_now() {
        let look = good(7, NodeRole::Primary);
        assert_eq!(
            database(&Phase::up(7), Some(&look), None, false).role,
            Some(NodeRole::Primary)
        );
        let next = database(&Phase::up(8), Some(&look), None, false);
        assert_eq!((next.state, next.role), (DatabaseState::Starting, None));
        let down = database(&Phase::of(DatabaseState::Failed, "killed"), Some(&look), None, true);
        assert_eq!(
            (down.state, down.role, down.timeline),
            (DatabaseState::Failed, None, Some(3))
        );
    }

    #[test]
    fn a_database_that_stops_answering_has_failed_and_one_that_never_did_is_starting() {
        let look = good(7, NodeRole::Replica);
        let hung = database(&Phase::up(7), Some(&look), Some("timed out".into()), true);
        assert_eq!((hung.state, hung.role), (DatabaseState::Failed, None));
        let slow = database(&Phase::up(7), Some(&look), Some("timed out".into()), false);
        assert_eq!(
            (slow.state, slow.role),
            (DatabaseState::Running, Some(NodeRole::Replica))
        );
        let starting = database(&Phase::up(7), None, Some("starting up".into()), true);
        assert_eq!(
            (starting.state, starting.detail.as_deref()),
            (DatabaseState::Starting, Some("starting up"))
        );
    }
}
