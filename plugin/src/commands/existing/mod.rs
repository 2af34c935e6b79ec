//! What exists at the providers, whoever's it is: shown, labelled, written down.

mod adopt;
mod import;
mod orphans;

pub(super) use adopt::AdoptExisting;
pub(super) use import::Import;
pub(super) use orphans::Orphans;

use crate::error::Failed;

/// On this machine everything carries labels, and belongs to somebody.
fn only_at_the_clouds() -> Failed {
    Failed::BadArgument {
        what: "looking at accounts".to_owned(),
        why: "target is \"local\", where everything is labelled from the start".to_owned(),
        help: "set target = \"cloud\" in config.toml".to_owned(),
    }
}
