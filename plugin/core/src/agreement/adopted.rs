use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Ancestor, Campaign, Epoch, Node, Term};
use crate::model::SyncMode;

/// `adopted`: the store went back in time, every guard stands still, and a person decided that this one is the store
/// from now on. It says so for one store and one epoch, so that it means nothing in the next copy that is restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adopted {
    /// The store's own identity.
    pub store: String,
    /// Beyond every epoch that a guard has promised; the term is at least there.
    pub epoch: Epoch,
    pub by: String,
    pub why: String,
    pub at: Timestamp,
}

impl Adopted {
    /// Whether a guard that has promised `promised` may believe the store `store` again, which holds `term`.
    pub fn holds(&self, store: &str, term: Epoch, promised: Epoch) -> bool {
        self.store == store && self.epoch > promised && term >= self.epoch
    }
}

/// What everybody else knows and an old copy of the store does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// The highest epoch that anybody knows of.
    pub epoch: Epoch,
    /// Of the last primary, and where it came from: whoever is on none of them is an orphan.
    pub timeline: u32,
    pub lineage: Vec<Ancestor>,
    /// All who may have acknowledged anything.
    pub voters: BTreeSet<Node>,
    /// What a commit waited for at least.
    pub acks: u32,
    pub mode: SyncMode,
}

impl Term {
    /// A term from an old copy, brought beyond all that has happened since: in a new epoch everybody seals, and the
    /// furthest becomes primary.
    #[must_use]
    pub fn adopt(&self, remembered: Remembered, campaign: Campaign) -> Self {
        let mut base = self.clone();
        base.epoch = remembered.epoch.max(self.epoch);
        base.timeline = remembered.timeline;
        base.lineage = remembered.lineage;
        base.voters = remembered.voters;
        base.acks = remembered.acks;
        base.mode = remembered.mode;
        base.campaign(campaign)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_for_one_store_and_beyond_all_promises() {
        let adopted = Adopted {
            store: "abc".into(),
            epoch: 8,
            by: "ann".into(),
            why: "the disks are gone".into(),
            at: Timestamp::UNIX_EPOCH,
        };
        assert!(adopted.holds("abc", 8, 7));
        assert!(adopted.holds("abc", 9, 7));
        assert!(!adopted.holds("abc", 7, 6), "the term is not there yet");
        assert!(!adopted.holds("abc", 8, 8), "of an adoption that is over");
        assert!(!adopted.holds("xyz", 8, 7), "a copy of that store, restored once more");
    }
}
