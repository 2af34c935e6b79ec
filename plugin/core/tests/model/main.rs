//! A model check of failover (protocol §4, §7, §8, §10, §12): every state that three servers, one value
//! in a store and any order of steps can get into, within bounds, and the rules of protocol §17 in each.
//!
//! - [`state`] what there is, [`steps`] what can happen, [`epochs`] how the primary changes, [`changes`] how a leader changes V and W,
//! - [`properties`] what must hold: I1–I6 and the continuity rule of protocol §12,
//! - [`mutants`] the same protocol with one mistake, each of which must be found,
//! - [`liveness`] I10, [`lease`] I8 with clocks, [`admission`] I9.
//!
//! A step may always be left out, so pauses, crashes and partitions need no steps of their own. A guard may act on an old
//! copy of `term`: local steps look at what `term` said about any epoch at some time ([`state::Past`]), swaps compare. A
//! change of V and W is sent in one step and arrives in another, or never, and its answer may be lost.
//!
//! Abstract here: logs are lists of whole records, flushed when they arrive; a reply that was under way when its sender
//! sealed is one that came before; reading member records and swapping on them is one step where a seal cannot change
//! in between; promise and seal are one step, since in between a node does less than before. Left to other tests: I7
//! (here clients write to any database that runs as a primary, so nothing rests on routing), a store restored from an old
//! copy, a promotion by hand, accepted loss.
//!
//! ```text
//! cargo test -p ha-core --test model                                                # seconds
//! cargo test -p ha-core --release --test model -- --ignored --nocapture deep        # minutes, gigabytes
//! ```

mod admission;
mod changes;
mod epochs;
mod lease;
mod liveness;
mod mutants;
mod properties;
mod state;
mod steps;

use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model};

use crate::{
    liveness::{I10, Recovery},
    state::{Quorum, Set},
    steps::{Bounds, Protocol},
};

const PLAIN: Bounds = Bounds {
    writes: 2,
    epochs: 3,
    changes: 0,
    rogue: 0,
    restarts: 0,
    rebuilds: 0,
    switches: 0,
};
const CHANGES: Bounds = Bounds {
    epochs: 2,
    changes: 2,
    ..PLAIN
};
const STARTING_OVER: Bounds = Bounds {
    writes: 1,
    restarts: 1,
    rebuilds: 1,
    ..CHANGES
};

/// Looks at every state within the bounds; shows the trace that breaks a rule.
fn holds(what: &str, protocol: Protocol) {
    let start = Instant::now();
    let checker = protocol.checker().threads(2).spawn_bfs().join();
    eprintln!(
        "{what}: {} states, {} steps, depth {}, {:.1?}",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        start.elapsed()
    );
    checker.assert_properties();
}

#[test]
fn failover() {
    holds("failover", Protocol::new(PLAIN));
}

#[test]
fn standbys_that_attach_before_the_chosen_is_published() {
    let early = Protocol {
        early_followers: true,
        ..Protocol::new(PLAIN)
    };
    holds("early followers", early);
}

#[test]
fn a_standby_that_follows_an_old_primary() {
    holds("rogue", Protocol::new(Bounds { rogue: 1, ..PLAIN }));
}

#[test]
fn changes_of_voters() {
    holds("changes", Protocol::new(CHANGES));
}

#[test]
fn changes_of_voters_from_w0() {
    let alone = Protocol {
        start: Quorum {
            voters: Set::of(0),
            acks: 0,
        },
        ..Protocol::new(CHANGES)
    };
    holds("from W = 0", alone);
}

#[test]
fn guards_and_copies_that_start_over() {
    holds("starting over", Protocol::new(STARTING_OVER));
}

#[test]
fn a_planned_switchover() {
    holds("switchover", Protocol::new(Bounds { switches: 1, ..PLAIN }));
}

/// A voter that left the lineage has acknowledged nothing in this epoch; that it counts while it is rebuilt costs nothing,
/// as long as what is half-way does not seal.
#[test]
fn diverged_voters_that_are_rebuilt_without_being_dropped() {
    let rebuilding = |bounds| Protocol {
        diverged_voters_rebuild: true,
        ..Protocol::new(bounds)
    };
    holds("diverged", rebuilding(Bounds { rebuilds: 1, ..PLAIN }));
    holds("diverged, changes", rebuilding(STARTING_OVER));
}

/// Without a state in which guards have nothing left to do and no commit is acknowledged.
fn recovers(storm: Protocol) -> Result<(), String> {
    let start = Instant::now();
    let checker = Recovery::new(storm)
        .checker()
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    eprintln!(
        "recovery: {} states, {:.1?}",
        checker.unique_state_count(),
        start.elapsed()
    );
    match checker.discovery(I10) {
        None => {
            checker.assert_properties();
            Ok(())
        }
        Some(path) => Err(format!("{:?}", path.into_actions())),
    }
}

#[test]
fn a_writable_primary_returns() {
    let storms = [
        Bounds { epochs: 2, ..PLAIN },
        Bounds {
            epochs: 2,
            switches: 1,
            ..PLAIN
        },
        Bounds {
            changes: 1,
            ..STARTING_OVER
        },
    ];
    for bounds in storms {
        let storm = Protocol {
            diverged_voters_rebuild: true,
            ..Protocol::new(bounds)
        };
        assert_eq!(recovers(storm), Ok(()));
    }
}

/// B leads, C left its lineage and waits to be dropped, A is gone: to drop C, B needs A beyond the barrier.
#[test]
fn two_voters_of_three_wait_for_each_other_if_a_diverged_one_waits_to_be_dropped() {
    assert!(recovers(Protocol::new(Bounds { epochs: 2, ..PLAIN })).is_err());
}

/// As far as memory goes. `HA_MODEL` takes other bounds: writes, epochs, changes, rogue, restarts, rebuilds, switches.
#[test]
#[ignore = "minutes and gigabytes"]
fn deep() {
    let given = std::env::var("HA_MODEL").unwrap_or_default();
    let numbers: Vec<u8> = given.split(',').filter_map(|it| it.parse().ok()).collect();
    let all = match numbers[..] {
        [writes, epochs, changes, rogue, restarts, rebuilds, switches] => vec![Bounds {
            writes,
            epochs,
            changes,
            rogue,
            restarts,
            rebuilds,
            switches,
        }],
        _ => vec![
            Bounds { writes: 3, ..PLAIN },
            Bounds { epochs: 4, ..PLAIN },
            Bounds { changes: 1, ..PLAIN },
            Bounds { changes: 3, ..CHANGES },
            Bounds {
                rogue: 1,
                switches: 1,
                ..PLAIN
            },
            Bounds {
                epochs: 3,
                changes: 1,
                ..STARTING_OVER
            },
        ],
    };
    for bounds in all {
        for diverged_voters_rebuild in [false, true] {
            let protocol = Protocol {
                diverged_voters_rebuild,
                ..Protocol::new(bounds)
            };
            holds(&format!("{bounds:?}, {diverged_voters_rebuild}"), protocol);
        }
    }
}
