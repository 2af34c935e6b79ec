//! What one guard knows of the store, and since when. Pure but for the moments it is given.

use std::collections::{BTreeMap, BTreeSet};

use ha_core::{
    agreement::{Adopted, Ask, Campaign, Epoch, Keys, Lease, Member, Node, Pause, Phase, Term},
    decide::{Seen, StoreView},
    model::Timing,
};
use ha_store::{Change, Entry, Listing, Revision};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, de::DeserializeOwned};

use super::{clocks::Moment, promise::Remembered};

/// A value, when it was written, and since when this guard knows it.
#[derive(Clone, Debug)]
pub(super) struct Kept<T> {
    pub(super) value: T,
    pub(super) revision: Revision,
    since: Moment,
}

/// Of `init`, what matters here.
#[derive(Clone, Debug, Deserialize)]
struct Init {
    node: Node,
}

pub(super) struct Known {
    me: Node,
    keys: Keys,
    /// Of the whole store; never goes down.
    revision: i64,
    cluster: Option<String>,
    went_back: Option<String>,
    /// How often another store was adopted: answers that were asked for before are of the one before.
    pub(super) generation: u64,
    /// When the last request was sent that needed the store's quorum and was answered; before one was, the beginning.
    answered: Moment,
    complete: bool,
    /// The store's revision that each key is known as of.
    as_of: BTreeMap<String, i64>,
    /// Keys whose content cannot be read.
    malformed: BTreeMap<String, String>,
    term: Option<Kept<Term>>,
    lease: Option<Kept<Lease>>,
    pause: Option<Kept<Pause>>,
    init: Option<Kept<Init>>,
    /// Of this node.
    ask: Option<Kept<Ask>>,
    members: BTreeMap<Node, Kept<Member>>,
    pub(super) histories: BTreeSet<Epoch>,
    active: Option<(Epoch, Moment)>,
    sealing: Option<(Epoch, Moment)>,
    switch: Option<(String, Moment)>,
    /// The last one seen, which is gone from the term once its epoch is active.
    campaign: Option<(Epoch, Campaign)>,
}

/// The revisions that a decision rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Basis {
    pub(super) term: Revision,
    pub(super) lease: Revision,
    pub(super) pause: Revision,
    pub(super) members: BTreeMap<Node, Revision>,
}

impl Known {
    pub(super) fn new(me: &str, keys: Keys, remembered: Remembered, now: Moment) -> Self {
        Self {
            me: me.to_owned(),
            keys,
            revision: remembered.revision,
            cluster: remembered.cluster,
            went_back: None,
            generation: 0,
            answered: now,
            complete: false,
            as_of: BTreeMap::new(),
            malformed: BTreeMap::new(),
            term: None,
            lease: None,
            pause: None,
            init: None,
            ask: None,
            members: BTreeMap::new(),
            histories: BTreeSet::new(),
            active: None,
            sealing: None,
            switch: None,
            campaign: None,
        }
    }

    pub(super) fn revision(&self) -> Revision {
        Revision(self.revision)
    }

    pub(super) fn cluster(&self) -> Option<&str> {
        self.cluster.as_deref()
    }

    pub(super) fn went_back(&self) -> Option<&str> {
        self.went_back.as_deref()
    }

    pub(super) fn term(&self) -> Option<&Kept<Term>> {
        self.term.as_ref()
    }

    pub(super) fn term_revision(&self) -> Revision {
        self.term.as_ref().map_or(Revision::ABSENT, |it| it.revision)
    }

    pub(super) fn lease(&self) -> Option<&Kept<Lease>> {
        self.lease.as_ref()
    }

    pub(super) fn ask(&self) -> Option<&Kept<Ask>> {
        self.ask.as_ref()
    }

    pub(super) fn basis(&self) -> Basis {
        fn at<T>(kept: Option<&Kept<T>>) -> Revision {
            kept.map_or(Revision::ABSENT, |it| it.revision)
        }
        Basis {
            term: at(self.term.as_ref()),
            lease: at(self.lease.as_ref()),
            pause: at(self.pause.as_ref()),
            members: self
                .members
                .iter()
                .map(|(node, kept)| (node.clone(), kept.revision))
                .collect(),
        }
    }

    /// The campaign that made the present epoch, if this guard saw it.
    pub(super) fn campaign_of(&self, epoch: Epoch) -> Option<&Campaign> {
        self.campaign.as_ref().filter(|it| it.0 == epoch).map(|it| &it.1)
    }

    pub(super) fn active_for(&self, now: Moment) -> std::time::Duration {
        self.active
            .map_or_else(Default::default, |(_, since)| now.smallest_since(since))
    }

    /// A pause in force, by the wall clock of this machine.
    pub(super) fn paused(&self, at: Timestamp) -> Option<&Pause> {
        let pause = &self.pause.as_ref()?.value;
        pause.until.is_none_or(|until| at < until).then_some(pause)
    }

    /// The store answered something that needs its quorum; asked at `sent`.
    pub(super) fn answered(&mut self, sent: Moment) {
        self.answered = self.answered.max(sent);
    }

    /// A listing that was asked for when the store was known to be at `least`. True when it brought anything new.
    pub(super) fn listed(&mut self, listing: &Listing, least: Revision, promised: Epoch, now: Moment) -> bool {
        let before = self.went_back.is_some();
        self.check(listing, least, promised);
        if self.went_back.is_some() {
            return !before;
        }
        self.revision = self.revision.max(listing.revision.0);
        self.cluster.get_or_insert_with(|| listing.cluster.clone());
        let listed: BTreeSet<&str> = listing.entries.iter().map(|(key, _)| key.as_str()).collect();
        let gone: Vec<String> = self
            .as_of
            .keys()
            .filter(|key| !listed.contains(key.as_str()))
            .cloned()
            .collect();
        let mut news = !self.complete;
        self.complete = true;
        for key in gone {
            news |= self.put(&key, None, listing.revision, now);
        }
        for (key, entry) in &listing.entries {
            news |= self.put(key, Some(entry), listing.revision, now);
        }
        news
    }

    pub(super) fn changed(&mut self, change: &Change, promised: Epoch, now: Moment) -> bool {
        let known = self.put(&change.key, change.entry.as_ref(), change.revision, now);
        if known {
            self.check_epoch(promised);
        }
        known
    }

    /// What the key holds, as of `as_of`. True when that is news; what is known as of later stays.
    pub(super) fn put(&mut self, key: &str, entry: Option<&Entry>, as_of: Revision, now: Moment) -> bool {
        let before = self.as_of.get(key).copied();
        if before.is_some_and(|before| as_of.0 < before) {
            return false;
        }
        self.revision = self.revision.max(as_of.0);
        self.as_of.insert(key.to_owned(), as_of.0);
        self.malformed.remove(key);
        let keys = self.keys.clone();
        if key == keys.term() {
            let fresh = self.keep(key, entry, now, |it| &mut it.term);
            if fresh {
                self.note_term(now);
            }
            fresh
        } else if key == keys.lease() {
            self.keep(key, entry, now, |it| &mut it.lease)
        } else if key == keys.pause() {
            self.keep(key, entry, now, |it| &mut it.pause)
        } else if key == keys.init() {
            self.keep(key, entry, now, |it| &mut it.init)
        } else if key == keys.ask(&self.me) {
            self.keep(key, entry, now, |it| &mut it.ask)
        } else if let Some(node) = key.strip_prefix(&keys.members()) {
            let mut kept = self.members.remove(node);
            let fresh = self.replace(key, entry, now, &mut kept);
            if let Some(kept) = kept {
                self.members.insert(node.to_owned(), kept);
            }
            fresh
        } else if let Some(epoch) = key.strip_prefix(&keys.histories()).and_then(|it| it.parse().ok()) {
            match entry {
                Some(_) => self.histories.insert(epoch),
                None => self.histories.remove(&epoch),
            }
        } else {
            false
        }
    }

    fn keep<T: DeserializeOwned>(
        &mut self,
        key: &str,
        entry: Option<&Entry>,
        now: Moment,
        place: impl Fn(&mut Self) -> &mut Option<Kept<T>>,
    ) -> bool {
        let mut kept = place(self).take();
        let fresh = self.replace(key, entry, now, &mut kept);
        *place(self) = kept;
        fresh
    }

    /// A value that cannot be read leaves the last one that could: nothing is decided from half a value, and no swap
    /// on the old revision can succeed.
    fn replace<T: DeserializeOwned>(
        &mut self,
        key: &str,
        entry: Option<&Entry>,
        now: Moment,
        kept: &mut Option<Kept<T>>,
    ) -> bool {
        match entry {
            None => kept.take().is_some(),
            Some(entry) if kept.as_ref().is_some_and(|it| it.revision == entry.revision) => false,
            Some(entry) => match serde_json::from_slice(&entry.value) {
                Ok(value) => {
                    *kept = Some(Kept {
                        value,
                        revision: entry.revision,
                        since: now,
                    });
                    true
                }
                Err(error) => {
                    tracing::error!(key, %error, "a value in the store cannot be read");
                    self.malformed.insert(key.to_owned(), error.to_string());
                    true
                }
            },
        }
    }

    fn note_term(&mut self, now: Moment) {
        let Some(term) = self.term.as_ref().map(|it| &it.value) else {
            return;
        };
        let epoch = term.epoch;
        let slot = match term.phase {
            Phase::Sealing => &mut self.sealing,
            Phase::Active | Phase::Switching => &mut self.active,
        };
        if slot.is_none_or(|(known, _)| known != epoch) {
            *slot = Some((epoch, now));
        }
        if let Some(campaign) = &term.campaign {
            self.campaign = Some((epoch, campaign.clone()));
        }
        match &term.switch {
            Some(switch) if self.switch.as_ref().is_none_or(|it| it.0 != switch.op) => {
                self.switch = Some((switch.op.clone(), now));
            }
            Some(_) => {}
            None => self.switch = None,
        }
    }

    /// The word of a person that this store, which went back in time, is the one from now on.
    pub(super) fn adopts(&self, listing: &Listing, promised: Epoch) -> Option<Adopted> {
        self.went_back.as_ref()?;
        let of = |key: &str| {
            listing
                .entries
                .iter()
                .find(|(it, _)| it == key)
                .map(|(_, it)| &it.value)
        };
        let adopted: Adopted = serde_json::from_slice(of(&self.keys.adopted())?).ok()?;
        let term: Term = serde_json::from_slice(of(&self.keys.term())?).ok()?;
        adopted.holds(&listing.cluster, term.epoch, promised).then_some(adopted)
    }

    /// All that was known is forgotten, and this store is believed from `revision` on.
    pub(super) fn adopt(&mut self, store: &str, revision: Revision, now: Moment) {
        let remembered = Remembered {
            cluster: Some(store.to_owned()),
            revision: revision.0,
        };
        let generation = self.generation + 1;
        *self = Self {
            generation,
            ..Self::new(&self.me, self.keys.clone(), remembered, now)
        };
    }

    /// The store shows no less than it has shown. Once it did, nothing is believed any more: its numbers grow again, and
    /// would soon look right.
    fn check(&mut self, listing: &Listing, least: Revision, promised: Epoch) {
        const HELP: &str = "bring the right store back, or say that this is the one from now on: ha quorum adopt";
        if self.went_back.is_some() {
            return;
        }
        if let Some(known) = self.cluster.as_ref().filter(|it| **it != listing.cluster) {
            let found = &listing.cluster;
            self.went_back = Some(format!(
                "the store that answers is {found}, and the one this guard knows is {known}; {HELP}"
            ));
        } else if listing.revision < least {
            self.went_back = Some(format!(
                "the store is at revision {}, and was at {} before: it was restored from an old copy; {HELP}",
                listing.revision.0, least.0
            ));
        } else if promised > 0 {
            let key = self.keys.term();
            let term = listing.entries.iter().find(|(it, _)| *it == key);
            let epoch = term.and_then(|(_, it)| serde_json::from_slice::<Term>(&it.value).ok());
            match epoch.map(|it| it.epoch) {
                None if term.is_none() => {
                    self.went_back = Some(format!(
                        "the store knows no epoch, and this node has promised epoch {promised}: the store has lost what \
                         it held; {HELP}"
                    ));
                }
                Some(epoch) => self.below(epoch, promised),
                None => {}
            }
        }
    }

    fn check_epoch(&mut self, promised: Epoch) {
        if let Some(epoch) = self.term.as_ref().map(|it| it.value.epoch) {
            self.below(epoch, promised);
        }
    }

    fn below(&mut self, epoch: Epoch, promised: Epoch) {
        if epoch < promised && self.went_back.is_none() {
            self.went_back = Some(format!(
                "the store is in epoch {epoch}, and this node has promised epoch {promised}: the store was restored from \
                 an old copy; bring the right one back, or say that this is the one from now on: ha quorum adopt"
            ));
        }
    }

    pub(super) fn view(&self, timing: &Timing, affirmed: bool, now: Moment, at: Timestamp) -> StoreView {
        let silence = now.largest_since(self.answered);
        let zero = std::time::Duration::ZERO;
        let term = self.term.as_ref().map(|it| &it.value);
        let epoch = term.map(|it| it.epoch);
        let age = |kept: Option<Moment>| kept.map_or(zero, |since| now.smallest_since(since));
        let of_epoch = |slot: Option<(Epoch, Moment)>| slot.filter(|it| Some(it.0) == epoch).map(|it| it.1);
        let sealing = term.is_some_and(|it| it.phase == Phase::Sealing);
        StoreView {
            answers: self.complete && silence <= timing.renew + timing.call_timeout,
            silence,
            went_back: self.went_back.clone(),
            term: term.cloned(),
            affirmed,
            term_age: age(self.term.as_ref().map(|it| it.since)),
            active_for: if sealing { zero } else { age(of_epoch(self.active)) },
            sealing_for: if sealing { age(of_epoch(self.sealing)) } else { zero },
            lease: self.lease.as_ref().map(|it| it.value.clone()),
            lease_age: age(self.lease.as_ref().map(|it| it.since)),
            pause: self.paused(at).cloned(),
            members: self
                .members
                .iter()
                .map(|(node, kept)| {
                    let seen = Seen {
                        member: kept.value.clone(),
                        age: now.smallest_since(kept.since),
                    };
                    (node.clone(), seen)
                })
                .collect(),
            automatic_today: term.map_or(0, |it| within_a_day(&it.automatic, at)),
            founder: self.complete && term.is_none() && self.init.as_ref().is_some_and(|it| it.value.node == self.me),
            switch_left: term.and_then(|it| it.switch.as_ref()).map(|switch| {
                // Of whoever asked, only the length: clocks of two machines need not agree.
                let length = std::time::Duration::try_from(switch.until.duration_since(switch.started_at));
                let begun = self
                    .switch
                    .as_ref()
                    .map_or(zero, |(_, since)| now.largest_since(*since));
                length.unwrap_or_default().saturating_sub(begun)
            }),
        }
    }
}

fn within_a_day(times: &[Timestamp], now: Timestamp) -> u32 {
    let recent = times
        .iter()
        .filter(|it| now.duration_since(**it) < SignedDuration::from_hours(24));
    u32::try_from(recent.count()).unwrap_or(u32::MAX)
}
