//! Fail points: a guard ends, or stands still, in the middle of a change of primary. For tests of what others then make
//! of it.
//!
//! `HA_FAIL_AT=<step>` ends the guard at a step, as if it had been killed, each time it comes there. A running guard is
//! told by a file `fail_at` in its runtime folder: `<step>` ends it there once, `<step> stop` stops it in its tracks
//! (SIGSTOP), so that nobody starts another in its place. The file is removed when the step is reached; that it is gone
//! tells that it was.
//!
//! The steps are those of FAILOVER.md §7 and §8, in their order: `campaign`, `seal.promised`, `seal.sealed`, `choose`,
//! `promote.before`, `promote.after`, `publish.before`, `publish.after`, `follow.before`, `rebuild.before`,
//! `rebuild.stopped`, `rebuild.done`, `hand_over.checkpointed`, `hand_over.stopped`, `hand_over.caught_up`,
//! `hand_over.swapped`.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{LazyLock, OnceLock},
};

use rustix::process::{Signal, getpid, kill_process};

static AT: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("HA_FAIL_AT").ok().filter(|it| !it.is_empty()));
static FILE: OnceLock<PathBuf> = OnceLock::new();

/// From now on a file `fail_at` in `runtime_dir` is obeyed, too.
pub(super) fn listen(runtime_dir: &Path) {
    FILE.get_or_init(|| runtime_dir.join("fail_at"));
}

/// Does not return if the guard was told to end here; returns late if it was told to stand still.
pub(super) fn point(step: &str) {
    if AT.as_deref() == Some(step) {
        tracing::error!(step, "HA_FAIL_AT ends this guard here");
        std::process::abort();
    }
    let Some(file) = FILE.get() else { return };
    let Some(stop) = fs::read_to_string(file).ok().and_then(|told| stops(&told, step)) else {
        return;
    };
    if let Err(error) = fs::remove_file(file) {
        tracing::error!(step, %error, "the file that asks for a failure here cannot be removed; going on");
        return;
    }
    if stop {
        tracing::error!(step, "stopped here, as the file fail_at says");
        let stopped = kill_process(getpid(), Signal::STOP);
        tracing::error!(step, ?stopped, "going on");
    } else {
        tracing::error!(step, "the file fail_at ends this guard here");
        std::process::abort();
    }
}

/// Whether to stop, if `told` is about this step at all.
fn stops(told: &str, step: &str) -> Option<bool> {
    let mut words = told.split_whitespace();
    (words.next() == Some(step)).then(|| words.next() == Some("stop"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_step_fails_and_only_once_for_a_file() {
        assert_eq!(stops("choose\n", "choose"), Some(false));
        assert_eq!(stops("choose stop", "choose"), Some(true));
        assert_eq!(stops("seal.sealed", "seal.promised"), None);
        assert_eq!(stops("", "choose"), None);
    }
}
