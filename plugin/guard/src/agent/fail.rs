//! Fail points: `HA_FAIL_AT=<step>` ends this guard in the middle of a change of primary, as if it had been killed.
//!
//! For tests of what others then make of it. The steps are those of FAILOVER.md §7 and §8, in their order:
//! `campaign`, `seal.promised`, `seal.sealed`, `choose`, `promote.before`, `promote.after`, `publish.before`,
//! `publish.after`, `follow.before`, `rebuild.before`, `rebuild.stopped`, `rebuild.done`, `hand_over.checkpointed`,
//! `hand_over.stopped`, `hand_over.caught_up`, `hand_over.swapped`.

use std::sync::LazyLock;

static AT: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("HA_FAIL_AT").ok().filter(|it| !it.is_empty()));

/// Does not return if the guard was told to end here.
pub(super) fn point(step: &str) {
    if AT.as_deref() == Some(step) {
        tracing::error!(step, "HA_FAIL_AT ends this guard here");
        std::process::abort();
    }
}
