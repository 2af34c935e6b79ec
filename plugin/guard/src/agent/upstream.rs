//! A replica and the one it follows: whether it still can, and what to do when it cannot.
//!
//! No role is changed here, and nothing is thrown away that somebody else might lack. A node that moved is followed to
//! its new address; a replica whose primary no longer has the log it needs is copied anew, after all of its own log
//! was seen to be part of the primary's. Everything else is told in the report and left to a person.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use ha_core::{agent::Peer, lsn::Lsn, report::NodeRole};
use ha_data::postgres::{self, Offer, Upstream};
use ha_store::Etcd;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{bootstrap, observe, state::State};

/// Between looks at a replica that may receive nothing.
const LOOK: Duration = Duration::from_secs(3);
/// So many looks in a row must find that the log is gone.
const SURE: u32 = 3;
/// For asking the primary, line and all.
const PATIENCE: Duration = Duration::from_secs(8);
const ABOUT: &str = "replica.upstream";

/// When this node was copied anew: one that falls behind each time has another problem.
#[derive(Debug, Default)]
pub(super) struct Copies(VecDeque<Instant>);

impl Copies {
    const MOST: usize = 3;
    const WITHIN: Duration = Duration::from_secs(3600);

    /// Counts one more, unless there were too many already.
    fn allow(&mut self, now: Instant) -> bool {
        self.0.retain(|at| now.duration_since(*at) < Self::WITHIN);
        let allowed = self.0.len() < Self::MOST;
        if allowed {
            self.0.push_back(now);
        }
        allowed
    }
}

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
    /// The primary stands elsewhere than the replica was told.
    Follow,
    /// All that it has is the primary's too, and what comes next is gone.
    Lost,
    /// A person must decide.
    Stuck(String),
}

/// Pure. `followed` is the node the replica was told to follow; none when no node of the configuration is there.
fn judge(followed: Option<&Peer>, primary: &Peer, offer: &Offer, own: &Own) -> Verdict {
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
        None => {
            return Verdict::Stuck(format!(
                "{name} is on timeline {} and never was on timeline {}, which this replica is on: what it holds may be \
                 nowhere else",
                offer.timeline, own.timeline
            ));
        }
        Some(end) if own.received > end => {
            return Verdict::Stuck(format!(
                "it has the log of timeline {} up to {}, and {name} only up to {end}: what is between may be nowhere \
                 else",
                own.timeline, own.received
            ));
        }
        Some(_) => {}
    }
    match followed {
        Some(followed) if followed.node != primary.node => {
            Verdict::Stuck(format!("it follows {}, and {name} is primary now", followed.node))
        }
        _ if !offer.has_log => Verdict::Lost,
        None => Verdict::Follow,
        Some(_) => Verdict::Wait,
    }
}

/// Looks at a replica until it must be copied anew, and answers with why. The data folder can then be set aside: the
/// store and a primary that has all of its log were there a moment ago.
pub(super) async fn watch(state: &State, store: &Etcd, copies: &mut Copies) -> String {
    state.note(ABOUT, None);
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut lost: (u32, Option<Lsn>) = (0, None);
    let mut quiet = 0;
    loop {
        ticks.tick().await;
        let Some((own, followed)) = in_need(state) else {
            (lost, quiet) = ((0, None), 0);
            state.note(ABOUT, None);
            continue;
        };
        // A replica that has just started, or whose primary has, needs a moment.
        quiet += 1;
        if quiet < 2 {
            continue;
        }
        let note = match look(state, followed, &own).await {
            Err(why) => {
                lost = (0, None);
                Some(why)
            }
            Ok((_, Verdict::Wait)) => {
                lost = (0, None);
                None
            }
            Ok((peer, Verdict::Follow)) => {
                lost = (0, None);
                turn_to(state, peer).await.err()
            }
            Ok((_, Verdict::Stuck(why))) => {
                lost = (0, None);
                Some(format!("{why}; {}", by_hand(state)))
            }
            Ok((peer, Verdict::Lost)) => {
                let times = if lost.1 == Some(own.received) { lost.0 + 1 } else { 1 };
                lost = (times, Some(own.received));
                let why = format!("{} no longer has the log from {} on", peer.node, own.received);
                if times < SURE {
                    Some(format!("{why}; it is copied anew in a moment"))
                } else {
                    match may_copy(state, store, copies, &own).await {
                        Ok(()) => return format!("{why}: copied anew"),
                        Err(but) => Some(format!("{why}, and {but}")),
                    }
                }
            }
        };
        state.note(ABOUT, note);
    }
}

/// What is known of a replica that receives nothing, or from a place that is no node's; none for any other database.
fn in_need(state: &State) -> Option<(Own, Option<&Peer>)> {
    let view = state.view();
    let database = view.report.database;
    if !view.fresh || database.role != Some(NodeRole::Replica) {
        return None;
    }
    let follows = state.follows();
    let followed = follows.and_then(|(address, port)| {
        let mut peers = state.config.peers.iter();
        peers.find(|peer| peer.address == address && peer.port == port)
    });
    if database.upstream_silence.is_some() && followed.is_some() {
        return None;
    }
    let own = Own {
        system_identifier: database.system_identifier?,
        timeline: database.timeline?,
        received: database.received?,
    };
    Some((own, followed))
}

async fn look<'a>(state: &'a State, followed: Option<&Peer>, own: &Own) -> Result<(&'a Peer, Verdict), String> {
    let config = &state.config;
    let peer = bootstrap::primary(config).await?;
    let there = upstream(peer);
    let asked = postgres::ask_upstream(&config.postgres, &config.node, &there, own.received);
    let offer = match timeout(PATIENCE, asked).await {
        Ok(offer) => offer.map_err(|error| error.to_string())?,
        Err(_) => return Err(format!("{} does not answer", peer.node)),
    };
    Ok((peer, judge(followed, peer, &offer, own)))
}

fn upstream(peer: &Peer) -> Upstream {
    Upstream {
        address: peer.address.clone(),
        port: peer.port,
    }
}

async fn turn_to(state: &State, peer: &Peer) -> Result<(), String> {
    let config = &state.config;
    let work = async {
        let session = postgres::connect(&observe::admin(config)).await?;
        postgres::follow(&session, &config.postgres, &config.node, &upstream(peer)).await
    };
    match timeout(PATIENCE, work).await {
        Ok(Ok(())) => {
            let where_to = format!("at {}:{}", peer.address, peer.port);
            state
                .events
                .write("replica.follows", &config.node, &peer.node, Some(where_to), None);
            Ok(())
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("it cannot be told to follow another address".to_owned()),
    }
}

async fn may_copy(state: &State, store: &Etcd, copies: &mut Copies, own: &Own) -> Result<(), String> {
    // Without the store's word a node that has no data waits, or even makes a new cluster.
    let settled = bootstrap::is_settled(&state.config, store, &own.system_identifier);
    match timeout(PATIENCE, settled).await {
        Ok(Ok(true)) => {}
        Ok(Ok(false)) => return Err("the store knows nothing of this cluster yet".to_owned()),
        Ok(Err(error)) => return Err(format!("it is copied anew when the store answers: {error:#}")),
        Err(_) => return Err("it is copied anew when the store answers".to_owned()),
    }
    if copies.allow(Instant::now()) {
        return Ok(());
    }
    Err(format!(
        "it was copied anew {} times within an hour: raise max_slot_wal_keep_size in `settings`, or slow the writers down",
        Copies::MOST
    ))
}

fn by_hand(state: &State) -> String {
    let (node, data) = (&state.config.node, state.config.postgres.data_dir.display());
    format!("to have it copied anew: `ha power off {node}`, move {data} away, `ha power on {node}`")
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
        let of = |own: &Own| judge(Some(&us), &us, &offer(), own);
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
    fn a_replica_stays_with_whom_it_was_told_to_follow() {
        let (us, eu) = (peer("us-db-1"), peer("eu-db-1"));
        let has_log = Offer {
            has_log: true,
            ..offer()
        };
        assert_eq!(judge(Some(&us), &us, &has_log, &own(3, 10)), Verdict::Wait);
        assert_eq!(judge(None, &us, &has_log, &own(3, 10)), Verdict::Follow);
        assert!(stuck(&judge(Some(&eu), &us, &has_log, &own(3, 10))));
        assert!(stuck(&judge(Some(&eu), &us, &offer(), &own(3, 10))));
        assert!(stuck(&judge(None, &us, &has_log, &own(3, 901))));
        let replica = Offer {
            replica: true,
            ..offer()
        };
        assert_eq!(judge(Some(&us), &us, &replica, &own(3, 10)), Verdict::Wait);
    }

    #[test]
    fn copies_are_bounded_within_the_hour() {
        let (mut copies, start) = (Copies::default(), Instant::now());
        assert!((0..3).all(|_| copies.allow(start)));
        assert!(!copies.allow(start + Copies::WITHIN / 2));
        assert!(copies.allow(start + Copies::WITHIN));
    }
}
