//! A model check of the failover protocol.

mod changes;
mod mutants;
mod properties;
mod state;
mod steps;

use std::time::Instant;

use stateright::{Checker, Model};

use crate::steps::{Bounds, Protocol};

/// Every state within the bounds, or the shortest of the traces that break a rule.
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

const PLAIN: Bounds = Bounds {
    writes: 2,
    epochs: 3,
    changes: 0,
    rogue: 0,
    restarts: 0,
    rebuilds: 0,
    switches: 0,
};

#[test]
fn failover() {
    holds("failover", Protocol::new(PLAIN));
}

#[test]
fn a_standby_that_follows_an_old_primary() {
    holds("rogue", Protocol::new(Bounds { rogue: 1, ..PLAIN }));
}

#[test]
fn changes_of_voters() {
    let bounds = Bounds {
        epochs: 2,
        changes: 2,
        ..PLAIN
    };
    holds("changes", Protocol::new(bounds));
}

#[test]
fn changes_of_voters_with_guards_and_copies_that_start_over() {
    let bounds = Bounds {
        writes: 1,
        epochs: 2,
        changes: 2,
        restarts: 1,
        rebuilds: 1,
        ..PLAIN
    };
    holds("starting over", Protocol::new(bounds));
}

#[test]
fn a_planned_switchover() {
    holds("switchover", Protocol::new(Bounds { switches: 1, ..PLAIN }));
}

fn bounds(env: &str) -> Bounds {
    let n: Vec<u8> = env.split(',').map(|it| it.parse().expect("a number")).collect();
    Bounds {
        writes: n[0],
        epochs: n[1],
        changes: n[2],
        rogue: n[3],
        restarts: n[4],
        rebuilds: n[5],
        switches: n[6],
    }
}

/// writes, epochs, changes, rogue, restarts, rebuilds, switches
#[test]
#[ignore = "by hand"]
fn probe() {
    let env = std::env::var("HA_MODEL").expect("HA_MODEL");
    holds(&env, Protocol::new(bounds(&env)));
}
