//! A replica and the one it follows: whether it still can.
//!
//! Nothing is done here. What is found out by asking is a fact for the cycle: a replica whose primary no longer has the
//! log it needs must be copied, once all of its own log was seen to be part of the primary's. Everything else is told
//! in the report.

use std::{sync::Arc, time::Duration};

use ha_core::{
    agent::Peer,
    agreement::{Need, Phase},
    lsn::Lsn,
    report::NodeRole,
};
use ha_data::postgres::{self, Offer, Upstream};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::Guard;

/// Between looks at a replica that may receive nothing.
const LOOK: Duration = Duration::from_secs(3);
/// So many looks in a row must find that the log is gone.
const SURE: u32 = 3;
/// For asking the primary, line and all.
const PATIENCE: Duration = Duration::from_secs(8);
const ABOUT: &str = "replica.upstream";

/// How far the replica's own log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Own {
    system_identifier: String,
    timeline: u32,
    received: Lsn,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It can go on; that it does not yet is a matter of time or of the line.
    Wait,
    /// All that it has is the primary's too, and what comes next is gone.
    Lost,
    /// Something is not as the agreement says.
    Stuck(String),
}

/// Pure.
fn judge(primary: &Peer, offer: &Offer, own: &Own) -> Verdict {
    let name = &primary.node;
    if offer.system_identifier != own.system_identifier {
        return Verdict::Stuck(format!(
            "{name} serves another cluster (system identifier {}, here it is {})",
            offer.system_identifier, own.system_identifier
        ));
    }
    if offer.replica {
        return Verdict::Wait;
    }
    let common = if offer.timeline == own.timeline {
        Some(offer.written)
    } else {
        offer
            .history
            .iter()
            .find(|(timeline, _)| *timeline == own.timeline)
            .map(|(_, end)| *end)
    };
    match common {
        None => Verdict::Stuck(format!(
            "{name} is on timeline {} and never was on timeline {}, which this replica is on",
            offer.timeline, own.timeline
        )),
        Some(end) if own.received > end => Verdict::Stuck(format!(
            "it has the log of timeline {} up to {}, and {name} only up to {end}",
            own.timeline, own.received
        )),
        Some(_) if !offer.has_log => Verdict::Lost,
        Some(_) => Verdict::Wait,
    }
}

/// Looks at a replica that receives nothing, until cancelled.
pub(super) async fn run(guard: Arc<Guard>, cancel: CancellationToken) {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut lost: (u32, Option<Lsn>) = (0, None);
    let mut quiet = 0;
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let Some((own, peer)) = in_need(&guard) else {
            (lost, quiet) = ((0, None), 0);
            guard.state.note(ABOUT, None);
            continue;
        };
        // A replica that has just started, or whose primary has, needs a moment.
        quiet += 1;
        if quiet < 2 {
            continue;
        }
        let note = match look(&guard, peer, &own).await {
            Ok(Verdict::Lost) => {
                let times = if lost.1 == Some(own.received) { lost.0 + 1 } else { 1 };
                lost = (times, Some(own.received));
                let why = format!("{} no longer has the log from {} on", peer.node, own.received);
                if times >= SURE && guard.state.memory.need().is_none() {
                    let (events, node) = (&guard.state.events, &guard.state.config.node);
                    events.write("replica.outdated", node, "outdated", Some(why.clone()), None);
                    let need = Need {
                        copy: true,
                        why: why.clone(),
                    };
                    guard.state.memory.set_need(Some(need));
                    guard.state.wake.notify_one();
                }
                Some(format!("{why}; it is copied anew"))
            }
            Ok(verdict) => {
                lost = (0, None);
                match verdict {
                    Verdict::Stuck(why) => Some(why),
                    Verdict::Wait | Verdict::Lost => None,
                }
            }
            Err(why) => {
                lost = (0, None);
                Some(why)
            }
        };
        guard.state.note(ABOUT, note);
    }
}

/// What is known of a replica that follows the leader and receives nothing; none for any other database.
fn in_need(guard: &Guard) -> Option<(Own, &Peer)> {
    let snapshot = guard.state.snapshot();
    let database = snapshot.report.filter(|_| snapshot.fresh)?;
    if database.role != Some(NodeRole::Replica) || database.upstream_silence.is_some() {
        return None;
    }
    let term = guard.agreement.view().term.filter(|term| term.phase == Phase::Active)?;
    let (node, epoch) = snapshot.follows?;
    if (&node, epoch) != (&term.leader, term.epoch) {
        return None;
    }
    let peer = guard.state.config.peers.iter().find(|peer| peer.node == node)?;
    let own = Own {
        system_identifier: database.system_identifier?,
        timeline: database.timeline?,
        received: database.received?,
    };
    Some((own, peer))
}

async fn look(guard: &Guard, peer: &Peer, own: &Own) -> Result<Verdict, String> {
    let config = &guard.state.config;
    let there = Upstream {
        address: peer.address.clone(),
        port: peer.port,
    };
    let asked = postgres::ask_upstream(&config.postgres, &config.node, &there, own.received);
    match timeout(PATIENCE, asked).await {
        Ok(Ok(offer)) => Ok(judge(peer, &offer, own)),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("{} does not answer", peer.node)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(node: &str) -> Peer {
        Peer {
            region: "us-east".into(),
            node: node.into(),
            address: "127.0.0.1".into(),
            port: 5432,
            guard: String::new(),
        }
    }

    fn own(timeline: u32, received: u64) -> Own {
        Own {
            system_identifier: "7".into(),
            timeline,
            received: Lsn(received),
        }
    }

    fn offer() -> Offer {
        Offer {
            system_identifier: "7".into(),
            replica: false,
            timeline: 3,
            written: Lsn(900),
            history: vec![(1, Lsn(300)), (2, Lsn(600))],
            has_log: false,
        }
    }

    fn stuck(verdict: &Verdict) -> bool {
        matches!(verdict, Verdict::Stuck(_))
    }

    #[test]
    fn only_a_replica_whose_whole_log_is_the_primarys_is_copied_anew() {
        let us = peer("us-db-1");
        let of = |own: &Own| judge(&us, &offer(), own);
        assert_eq!(of(&own(3, 900)), Verdict::Lost);
        assert_eq!(of(&own(2, 600)), Verdict::Lost);
        assert_eq!(of(&own(1, 10)), Verdict::Lost);
        assert!(stuck(&of(&own(3, 901))));
        assert!(stuck(&of(&own(2, 601))));
        assert!(stuck(&of(&own(4, 10))));
        let mut other = own(1, 10);
        other.system_identifier = "8".into();
        assert!(stuck(&of(&other)));
    }

    #[test]
    fn a_replica_whose_log_is_there_waits_for_the_line() {
        let us = peer("us-db-1");
        let has_log = Offer {
            has_log: true,
            ..offer()
        };
        assert_eq!(judge(&us, &has_log, &own(3, 10)), Verdict::Wait);
        let replica = Offer {
            replica: true,
            ..offer()
        };
        assert_eq!(judge(&us, &replica, &own(3, 10)), Verdict::Wait);
    }
}
