//! Fail points: a guard ends, or stands still, in the middle of a change of primary. For tests of what others then make
//! of it.
//!
//! `HA_FAIL_AT=<step>` ends the guard at a step, as if it had been killed, each time it comes there. A running guard is
//! told by a file `fail_at` in its runtime folder, of any number of lines: `<step>` ends it there once, `<step> stop`
//! stops it in its tracks (SIGSTOP), so that nobody starts another in its place. A line is removed when its step is
//! reached, and the file with the last one: what is not there any more has happened.
//!
//! The steps are those of protocol §7 and §8, in their order: `campaign`, `seal.promised`, `seal.sealed`, `choose`,
//! `promote.before`, `promote.after`, `publish.before`, `publish.after`, `follow.before`, `rebuild.before`,
//! `rebuild.stopped`, `rebuild.done`, `hand_over.checkpointed`, `hand_over.stopped`, `hand_over.caught_up`,
//! `hand_over.swapped`.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{LazyLock, OnceLock},
};

use nix::sys::signal::{Signal, raise};

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
    let Some((stop, others)) = fs::read_to_string(file).ok().and_then(|told| asked(&told, step)) else {
        return;
    };
    let noted = if others.is_empty() {
        fs::remove_file(file)
    } else {
        fs::write(file, others)
    };
    if let Err(error) = noted {
        tracing::error!(step, %error, "the file that asks for a failure here cannot be changed; going on");
        return;
    }
    if stop {
        tracing::error!(step, "stopped here, as the file fail_at says");
        // Sent to this thread, which takes it before it goes on; one that is sent to the process may be taken by another.
        let stopped = raise(Signal::SIGSTOP);
        tracing::error!(step, ?stopped, "going on");
    } else {
        tracing::error!(step, "the file fail_at ends this guard here");
        std::process::abort();
    }
}

/// Whether to stop here, and what is asked for at other steps; none when nothing is asked for here.
fn asked(told: &str, step: &str) -> Option<(bool, String)> {
    let lines: Vec<&str> = told.lines().filter(|it| !it.trim().is_empty()).collect();
    let here = lines.iter().position(|it| it.split_whitespace().next() == Some(step))?;
    let stop = lines[here].split_whitespace().nth(1) == Some("stop");
    let others = lines.iter().enumerate().filter(|(at, _)| *at != here);
    Some((stop, others.map(|(_, line)| format!("{line}\n")).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_named_step_fails_and_only_once_for_a_line() {
        assert_eq!(asked("choose\n", "choose"), Some((false, String::new())));
        assert_eq!(asked("choose stop", "choose"), Some((true, String::new())));
        assert_eq!(
            asked("campaign\nchoose stop\nchoose\n", "choose"),
            Some((true, "campaign\nchoose\n".into()))
        );
        assert_eq!(asked("seal.promised", "seal.sealed"), None);
        assert_eq!(asked("", "choose"), None);
    }
}
