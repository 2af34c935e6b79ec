//! The real decisions of three guards over random schedules in virtual time: lying clocks, cut lines, a store that forgets
//! to answer, databases that freeze, crash, diverge (protocol §17, §18).
//!
//! `HA_SEED=7 cargo test -p ha-core --test simulator seeds -- --nocapture` replays one schedule and prints what happened;
//! `HA_SEEDS=5000` runs that many, `HA_FROM=…` begins elsewhere.

mod acts;
mod clients;
mod clocks;
mod database;
mod facts;
mod faults;
mod guard;
mod jobs;
mod mutants;
mod network;
mod oracle;
mod process;
mod random;
mod replication;
mod scenarios;
mod store;
mod world;

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use ha_core::{
    decide::decide,
    model::{FailoverPolicy, SyncMode, TimingProfile},
};

use crate::{
    random::Random,
    world::{Flaws, SECOND, Setup, World},
};

/// Faults happen for so long,
const TROUBLE: u64 = 180 * SECOND;
/// and so long after the last one all is well again.
const RECOVERY: u64 = 240 * SECOND;

/// What a seed stands for.
fn setup(seed: u64) -> Setup {
    let mut random = Random::new(seed.wrapping_mul(77));
    let mode = [SyncMode::Strict, SyncMode::Strict, SyncMode::Degrade, SyncMode::Async][random.below(4)];
    Setup {
        seed,
        mode: std::env::var("HA_MODE")
            .ok()
            .and_then(|it| SyncMode::parse(&it))
            .unwrap_or(mode),
        profile: if random.percent(60) {
            TimingProfile::Near
        } else {
            TimingProfile::Default
        },
        witness: random.percent(20),
        young: random.percent(10),
        policy: FailoverPolicy {
            cooldown: Duration::from_secs(if random.percent(50) { 1 } else { 5 }),
            daily_limit: None,
            ..FailoverPolicy::default()
        },
        decide,
        flaws: Flaws::default(),
        print: false,
    }
}

/// One schedule, to its end: what broke, if anything.
fn simulate(setup: Setup) -> (World, Option<String>) {
    let mut world = World::new(setup);
    world.run_while(60 * SECOND, |world| world.not_whole().is_none());
    let end = world.now + TROUBLE;
    world.trouble(end);
    world.run_until(end);
    let broken = simulate_quietly(&mut world, RECOVERY);
    (world, broken)
}

/// All faults end: within the time all is well again, and stays so. What broke, if anything.
fn simulate_quietly(world: &mut World, limit: u64) -> Option<String> {
    world.heal();
    let mut calm = 0;
    let whole = world.run_while(limit, |world| {
        calm = if world.not_whole().is_none() { calm + 1 } else { 0 };
        calm > 30
    });
    if !whole && world.oracle.broken.is_none() {
        let why = world.not_whole().unwrap_or_else(|| "it comes and goes".to_owned());
        world.broken(format_args!("I10: {why}"));
    }
    if world.oracle.broken.is_none() {
        world.check_end();
    }
    world.oracle.broken.clone()
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn seeds() {
    if let Some(seed) = number("HA_SEED") {
        let (world, broken) = simulate(Setup {
            print: true,
            ..setup(seed)
        });
        eprintln!(
            "{:?} {:?} ended at {} s",
            world.setup.mode,
            world.setup.profile,
            world.now / SECOND
        );
        assert_eq!(broken, None);
        return;
    }
    let many = number("HA_SEEDS").unwrap_or(300);
    let from = number("HA_FROM").unwrap_or(0);
    let begun = Instant::now();
    let next = AtomicU64::new(from);
    let (virtual_seconds, campaigns, switchovers, faults, writes, lost) = <(
        AtomicU64,
        AtomicUsize,
        AtomicUsize,
        AtomicUsize,
        AtomicUsize,
        AtomicUsize,
    )>::default();
    let failures = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + many {
                        return;
                    }
                    let (world, broken) = simulate(setup(seed));
                    virtual_seconds.fetch_add(world.now / SECOND, Ordering::Relaxed);
                    campaigns.fetch_add(world.oracle.campaigns, Ordering::Relaxed);
                    switchovers.fetch_add(world.oracle.switchovers, Ordering::Relaxed);
                    faults.fetch_add(world.oracle.faults, Ordering::Relaxed);
                    writes.fetch_add(world.oracle.acked.len(), Ordering::Relaxed);
                    lost.fetch_add(world.oracle.lost, Ordering::Relaxed);
                    if let Some(broken) = broken {
                        let line = format!(
                            "HA_SEED={seed} ({} {:?}{}{}): {broken}",
                            world.setup.mode.as_str(),
                            world.setup.profile,
                            if world.setup.witness { " witness" } else { "" },
                            if world.setup.young { " young" } else { "" }
                        );
                        eprintln!("{line}");
                        failures.lock().expect("no panic").push(line);
                    }
                }
            });
        }
    });
    eprintln!(
        "{many} seeds, {:.1} virtual hours, {campaigns:?} campaigns of which {switchovers:?} switchovers, {faults:?} faults, {writes:?} writes acknowledged, {lost:?} lost where that was allowed, {:.1?}",
        virtual_seconds.load(Ordering::Relaxed) as f64 / 3600.0,
        begun.elapsed()
    );
    let failures = failures.into_inner().expect("no panic");
    assert!(
        failures.is_empty(),
        "{} of {many} seeds broke a rule; replay one with HA_SEED=… cargo test -p ha-core --test simulator seeds -- --nocapture\n{}",
        failures.len(),
        failures.join("\n")
    );
}
