//! The failure matrix: faults of machines, processes, lines, the store and operators on three real nodes, each under
//! load from every region, each judged by the oracle, each ending with a whole cluster.
//!
//! One cluster serves scenario after scenario, as one does in production. What is printed are figures; what decides are
//! promises: nothing acknowledged is lost, nothing is there that nobody wrote, no two nodes acknowledge at once, and
//! the history is one line. A failed scenario is named, the cluster's tables and logs are shown, and the rest goes on:
//! with the same cluster when it can be made whole again, else with a new one.
//!
//!     cargo test -p ha-tests --test failover              # all of it
//!     cargo test -p ha-tests --test failover -- freezes   # one room; a scenario's name or a part of it will do, too

mod again;
mod freezes;
mod hands;
mod kills;
mod lines;
mod operators;
mod points;
mod refusals;
mod replicas;
mod store;
mod switchover;
mod witness;
mod world;

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    time::Instant,
};

use world::{Room, Scenario, World};

/// In the order in which they run.
const ROOMS: &[Room] = &[
    kills::ROOM,
    freezes::ROOM,
    lines::ROOM,
    operators::ROOM,
    points::ROOM,
    refusals::ROOM,
    replicas::ROOM,
    store::ROOM,
    again::ROOM,
    switchover::ROOM,
    witness::ROOM,
];

fn main() -> ExitCode {
    let wanted = Wanted::from_args(std::env::args().skip(1));
    let chosen: Vec<_> = ROOMS
        .iter()
        .flat_map(|room| room.scenarios.iter().map(move |scenario| (room, scenario)))
        .filter(|(room, scenario)| wanted.has(&format!("{}::{}", room.name, scenario.name)))
        .collect();
    if wanted.list {
        for (room, scenario) in &chosen {
            say(&format!("{}::{}: test", room.name, scenario.name));
        }
        return ExitCode::SUCCESS;
    }
    let began = Instant::now();
    let mut stage = Stage::default();
    let mut failed = Vec::new();
    for (room, scenario) in &chosen {
        let name = format!("{}::{}", room.name, scenario.name);
        let started = Instant::now();
        let outcome = stage.play(room, scenario);
        let took = started.elapsed();
        match outcome {
            Ok(figures) => say(&format!("ok     {:>6.1} s  {name}  {figures}", took.as_secs_f64())),
            Err(why) => {
                // All of it was shown above.
                let why = why.lines().next().unwrap_or_default();
                say(&format!("FAILED {:>6.1} s  {name}: {why}", took.as_secs_f64()));
                failed.push(name);
            }
        }
    }
    if let Err(why) = stage.close() {
        failed.push(why);
    }
    say(&format!(
        "{} scenarios, {} failed, {:.0} s",
        chosen.len(),
        failed.len(),
        began.elapsed().as_secs_f64()
    ));
    for name in &failed {
        say(&format!("failed: {name}"));
    }
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The cluster of the room that is played in.
#[derive(Default)]
struct Stage {
    world: Option<World>,
    /// The room whose own settings it has; none is the common cluster.
    of: Option<&'static str>,
}

impl Stage {
    /// Plays a scenario on the right cluster, and leaves a whole one or none.
    fn play(&mut self, room: &Room, scenario: &Scenario) -> Result<String, String> {
        let of = room.own.map(|_| room.name);
        if self.world.is_some() && self.of != of {
            self.close()?;
        }
        if self.world.is_none() {
            let edit = room.own.unwrap_or(|_| {});
            self.world = Some(guarded(|| World::up_with("failover", edit)).map_err(|why| format!("bring-up: {why}"))?);
            self.of = of;
        }
        let Some(world) = &self.world else {
            return Err("no cluster".into());
        };
        let played = guarded(|| {
            let figures = (scenario.play)(world);
            world.wait_whole();
            world.one_lineage();
            figures
        });
        let Err(why) = played else { return played };
        say(&format!("\n== {}::{} failed: {why}", room.name, scenario.name));
        // Shown before anything is mended; a cluster that cannot be made whole is replaced.
        let mended = guarded(|| {
            world.cluster.report();
            world.mend();
        });
        if let Err(still) = mended {
            say(&format!("the cluster is replaced: {still}"));
            if let Err(left) = self.close() {
                return Err(format!("{why}; {left}"));
            }
        }
        Err(why)
    }

    /// Destroys what is there; an error when something was left behind.
    fn close(&mut self) -> Result<(), String> {
        let Some(world) = self.world.take() else { return Ok(()) };
        guarded(|| {
            // Frozen processes and cut lines must not hold up the end.
            world.undo();
            drop(world);
        })
        .map_err(|why| format!("the end of a cluster: {why}"))
    }
}

/// What a panic said, as an error.
fn guarded<T>(act: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(act)).map_err(|panic| text(&*panic))
}

fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|it| (*it).to_owned()))
        .unwrap_or_else(|| "a panic without text".into())
}

/// The line of a scenario is seen when it ends, not when all have.
fn say(line: &str) {
    eprintln!("{line}");
}

/// The arguments that `cargo test` passes on.
#[derive(Default)]
struct Wanted {
    parts: Vec<String>,
    list: bool,
}

impl Wanted {
    fn from_args(args: impl Iterator<Item = String>) -> Self {
        let mut wanted = Self::default();
        let mut args = args;
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--list" => wanted.list = true,
                // Of the usual harness, with a value of their own; scenarios run one after another in any case.
                "--test-threads" | "--format" | "--color" | "--skip" => drop(args.next()),
                flag if flag.starts_with('-') => {}
                part => wanted.parts.push(part.to_owned()),
            }
        }
        wanted
    }

    fn has(&self, name: &str) -> bool {
        self.parts.is_empty() || self.parts.iter().any(|part| name.contains(part.as_str()))
    }
}
