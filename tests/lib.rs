//! What the whole-system tests share: a workspace of their own, the real `nu` with the real plugin, and the
//! processes and files of the local target as the operating system sees them.
//!
//! A [`Cluster`] holds a lock for as long as it lives: two of them at once would measure each other. Dropping it
//! destroys everything and fails the test if a process, a port or a folder is left.

mod harness;

pub use harness::{
    cluster::{Cluster, Place},
    http::{self, Answer},
    process::{self, Process},
    shell::{Refused, Shell},
    value::{self, Row},
    world,
};

pub const REGIONS: [&str; 3] = ["us-east", "eu-central", "asia-southeast"];

/// Looks until `look` is true. Fails with `what` and the last thing `look` had to say when the time is up.
pub fn eventually(what: &str, timeout: std::time::Duration, mut look: impl FnMut() -> Result<(), String>) {
    let started = std::time::Instant::now();
    loop {
        let Err(why) = look() else { return };
        assert!(started.elapsed() < timeout, "{what}: not within {timeout:?}: {why}");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}
