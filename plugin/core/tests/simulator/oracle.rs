//! What must always hold, looked at whenever something happens that could break it.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fmt::Display,
};

use ha_core::{
    agreement::{Epoch, Phase, Reason, Term, furthest, is_quorum},
    model::SyncMode,
};

use crate::{
    database::{Proc, Waiting, read_names},
    guard::micros,
    network::Kind,
    store::{Key, Value},
    world::{Id, NAMES, NODES, SECOND, Time, World, id_of},
};

#[derive(Default)]
pub(crate) struct Oracle {
    /// The first rule that was broken, in words.
    pub(crate) broken: Option<String>,
    /// Acknowledged, and not known to be lost to a campaign that was allowed to lose.
    pub(crate) acked: Vec<u32>,
    pub(crate) lost: usize,
    pub(crate) written: u32,
    /// Who was published for an epoch, and when.
    pub(crate) published: BTreeMap<Epoch, (Id, Time)>,
    timelines: BTreeMap<u32, Id>,
    /// Its clocks stood still lately: what only clocks can promise is not asked of it.
    pub(crate) excused: [Time; NODES],
    pub(crate) campaigns: usize,
    pub(crate) switchovers: usize,
    pub(crate) faults: usize,
    pub(crate) by_hand: HashSet<u32>,
    /// The store was restored from an old copy: only what does not need it is asked.
    pub(crate) store_went_back: bool,
}

impl World {
    pub(crate) fn broken(&mut self, what: impl Display) {
        if self.oracle.broken.is_none() {
            self.note(format_args!("BROKEN {what}"));
            self.oracle.broken = Some(what.to_string());
        }
    }

    pub(crate) fn has(&self, id: Id) -> HashSet<u32> {
        self.databases[id].disk.log.iter().map(|it| it.id).collect()
    }

    /// A commit returns to its client, or would if that still listened.
    pub(crate) fn acknowledged(&mut self, id: Id, write: Waiting) {
        self.oracle.acked.push(write.id);
        let timeline = self.databases[id].disk.timeline;
        let epoch = Epoch::from(timeline);
        let later = self
            .oracle
            .published
            .range(epoch + 1..)
            .next()
            .map(|(epoch, it)| (*epoch, *it));
        let excused = self.setup.mode != SyncMode::Strict && self.now < self.oracle.excused[id];
        let published = self.oracle.published.get(&epoch).is_some_and(|(node, _)| *node == id);
        if !published && !excused {
            return self.broken(format_args!(
                "I7: {} acknowledged a write on timeline {timeline}, which was never published as its own",
                NAMES[id]
            ));
        }
        let Some((newer, (leader, since))) = later else { return };
        if excused {
            self.oracle.acked.pop();
            return;
        }
        if write.began > since {
            return self.broken(format_args!(
                "I1/I8: {} acknowledged in epoch {epoch} a write that began after epoch {newer} of {} was active",
                NAMES[id], NAMES[leader]
            ));
        }
        let (current, _) = self
            .oracle
            .published
            .values()
            .next_back()
            .copied()
            .unwrap_or((leader, since));
        if !self.has(current).contains(&write.id) {
            self.broken(format_args!(
                "I2/I8: {} acknowledged write {} in epoch {epoch} after epoch {newer} of {} was active, which lacks it",
                NAMES[id], write.id, NAMES[leader]
            ));
        }
    }

    /// I3.
    pub(crate) fn promise(&mut self, id: Id, epoch: Epoch) {
        let promised = self.guards[id].promise.epoch;
        if epoch < promised {
            self.broken(format_args!("I3: {} promised {promised}, then {epoch}", NAMES[id]));
        }
        self.guards[id].promise.epoch = epoch;
    }

    /// I6.
    pub(crate) fn promoted(&mut self, id: Id, timeline: u32) {
        if self.oracle.by_hand.contains(&timeline) {
            return;
        }
        if let Some(other) = self.oracle.timelines.insert(timeline, id) {
            self.broken(format_args!(
                "I6: timeline {timeline} was given to {} and {}",
                NAMES[other], NAMES[id]
            ));
        }
    }

    /// I4: what is published is no stronger than what PostgreSQL enforces.
    pub(crate) fn check_published(&mut self) {
        let Some(term) = self.store.term() else { return };
        let Some(id) = id_of(&term.leader) else { return };
        let database = &self.databases[id];
        if term.phase == Phase::Sealing || database.proc != Proc::Primary || term.acks == 0 {
            return;
        }
        if database.disk.timeline != term.timeline {
            return;
        }
        let sound = database.waits
            && read_names(&database.names).is_some_and(|wait| {
                let counted = |(node, epoch): &(Id, Epoch)| term.voters.contains(NAMES[*node]) && *epoch == term.epoch;
                wait.count >= term.acks as usize && wait.of.iter().all(counted)
            });
        if !sound {
            let what = format!(
                "I4: voters {:?} with {} acknowledgements are published, and {} waits for \"{}\" (obeyed: {})",
                term.voters, term.acks, NAMES[id], database.names, database.waits
            );
            self.broken(what);
        }
    }

    /// Just before `next` replaces `before` in the store.
    pub(crate) fn term_changed(&mut self, before: Option<&Term>, next: &Term) {
        let sealed: Vec<String> = next
            .campaign
            .iter()
            .flat_map(|it| it.sealed.iter().map(|(node, at)| format!("{node}@{at}")))
            .collect();
        self.note(format_args!(
            "TERM epoch {} {} leader {} voters {:?}/{} chosen {:?} sealed {sealed:?}",
            next.epoch,
            next.phase.as_str(),
            next.leader,
            next.voters,
            next.acks,
            next.chosen(),
        ));
        let Some(before) = before else {
            self.oracle
                .published
                .insert(next.epoch, (id_of(&next.leader).unwrap_or_default(), self.now));
            return;
        };
        if self.oracle.store_went_back {
            return;
        }
        if next.epoch < before.epoch {
            self.broken("I1: the epoch went down");
        }
        if next.epoch > before.epoch {
            self.oracle.campaigns += 1;
            self.check_campaign(before, next);
        }
        if before.chosen().is_none() && next.chosen().is_some() {
            self.check_choice(next);
        }
        if next.epoch == before.epoch && next.acks > 0 && next.voters != before.voters {
            self.check_voters(next);
        }
        if next.phase == Phase::Active && before.phase == Phase::Sealing {
            self.check_publication(before, next);
        }
        let now = self.now;
        self.after(0, move |world| {
            if world.now == now {
                world.check_published();
            }
        });
    }

    /// Whoever of the new voters could decide a campaign has, together, everything that was acknowledged.
    fn check_voters(&mut self, next: &Term) {
        let able = |id: &Id| {
            let disk = &self.databases[*id].disk;
            disk.exists && !disk.ruined && self.guards[*id].told_need.is_none()
        };
        let voters: Vec<Id> = next.voters.iter().filter_map(|it| id_of(it)).filter(able).collect();
        let needed = next.seals_needed();
        for some in 0..1_u32 << voters.len() {
            let quorum: Vec<Id> = (0..voters.len())
                .filter(|it| some & 1 << it != 0)
                .map(|it| voters[it])
                .collect();
            if quorum.len() != needed {
                continue;
            }
            let mut has = HashSet::new();
            for id in &quorum {
                let disk = &self.databases[*id].disk;
                has.extend(disk.log[..disk.flushed].iter().map(|it| it.id));
            }
            let missing = self.oracle.acked.iter().filter(|it| !has.contains(it)).count();
            if missing > 0 {
                let names: Vec<&str> = quorum.iter().map(|it| NAMES[*it]).collect();
                let voters = &next.voters;
                return self.broken(format_args!(
                    "I2: of the voters {voters:?} {names:?} may decide, and lack {missing} acknowledged writes"
                ));
            }
        }
    }

    /// I9, by what the guards really said lately.
    fn check_campaign(&mut self, before: &Term, next: &Term) {
        let Some(campaign) = next.campaign.as_ref() else { return };
        if campaign.reason == Reason::Switchover {
            self.oracle.switchovers += 1;
        }
        if campaign.automatic && matches!(self.store.entries.get(&Key::Pause), Some((Value::Pause(_), _))) {
            self.broken("I9: an automatic campaign under pause");
        }
        let timing = self.guards[0].timing;
        let lately = micros(timing.renew * 4 + timing.call_timeout * 4) + 3 * SECOND;
        let Some(leader) = id_of(&before.leader) else { return };
        let said = self
            .guards
            .iter()
            .filter(|it| it.said_down[leader].is_some_and(|at| self.now - at <= lately));
        let said = said.count();
        if campaign.reason == Reason::PrimaryDown && said <= NODES / 2 {
            self.broken(format_args!(
                "I9: a campaign though only {said} said that {} is down",
                before.leader
            ));
        }
    }

    /// I5.
    fn check_choice(&mut self, next: &Term) {
        let Some(campaign) = next.campaign.as_ref() else { return };
        let Some(chosen) = next.chosen() else { return };
        let lossy = campaign.accept_loss.is_some();
        let switch = campaign.reason == Reason::Switchover;
        let voters: BTreeSet<String> = if lossy || switch {
            campaign.sealed.keys().cloned().collect()
        } else {
            next.voters.clone()
        };
        if !lossy && !switch && !is_quorum(&next.voters, next.acks, &campaign.sealed) {
            self.broken(format_args!(
                "I5: {chosen} was chosen of {:?}, which is no quorum",
                campaign.sealed
            ));
        } else if !furthest(&voters, &campaign.sealed).contains(&chosen) {
            self.broken(format_args!(
                "I5: {chosen} is not the furthest of {:?}",
                campaign.sealed
            ));
        }
    }

    /// I2.
    fn check_publication(&mut self, before: &Term, next: &Term) {
        let Some(id) = id_of(&next.leader) else { return };
        let lossy = before.campaign.as_ref().is_some_and(|it| it.accept_loss.is_some());
        self.oracle.published.insert(next.epoch, (id, self.now));
        let has = self.has(id);
        let missing: Vec<u32> = self
            .oracle
            .acked
            .iter()
            .copied()
            .filter(|it| !has.contains(it))
            .collect();
        if lossy {
            self.oracle.lost += missing.len();
            self.oracle.acked.retain(|it| has.contains(it));
        } else if !missing.is_empty() {
            self.broken(format_args!(
                "I2: {} acknowledged writes are not on {}, published for epoch {}: {:?}",
                missing.len(),
                next.leader,
                next.epoch,
                &missing[..missing.len().min(5)]
            ));
        }
        if self.databases[id].disk.timeline != next.timeline {
            self.broken(format_args!(
                "I6: {} is published on timeline {}",
                next.leader, next.timeline
            ));
        }
    }

    /// I10: one writable primary, all stream, all that should vote do. None when it is so.
    pub(crate) fn not_whole(&self) -> Option<String> {
        let Some(term) = self.store.term() else {
            return Some("there is no term".to_owned());
        };
        if term.phase != Phase::Active {
            return Some(format!("epoch {} is {}", term.epoch, term.phase.as_str()));
        }
        let leader = id_of(&term.leader)?;
        if !self.guards[leader].serves
            || !self.databases[leader].answers()
            || self.databases[leader].proc != Proc::Primary
        {
            return Some(format!("{} does not serve", term.leader));
        }
        let data: Vec<Id> = (0..NODES).filter(|it| self.setup.has_data(*it)).collect();
        for id in data.iter().copied().filter(|it| *it != leader) {
            let streams = self.lines.values().any(|it| {
                it.standby == id
                    && it.primary == leader
                    && it.epoch == term.epoch
                    && it.streaming
                    && it.sender
                    && it.receiver
            });
            if !streams || !self.network.both(id, leader, Kind::Database) {
                let blocked = self.guards[id].blocked.as_ref().map(|it| it.why.clone());
                return Some(format!("{} does not stream: {blocked:?}", NAMES[id]));
            }
        }
        let wanted: BTreeSet<String> = if self.setup.mode == SyncMode::Async {
            BTreeSet::from([term.leader.clone()])
        } else {
            data.iter().map(|it| NAMES[*it].to_owned()).collect()
        };
        if term.voters != wanted {
            let blocked = self.guards[leader].blocked.as_ref().map(|it| it.why.clone());
            return Some(format!("voters are {:?}: {blocked:?}", term.voters));
        }
        if term.acks > 0 && self.databases[leader].names != term.names(&term.leader) {
            return Some(format!("names are {}", self.databases[leader].names));
        }
        None
    }

    /// At the end, everything acknowledged is on the primary and on all who stream.
    pub(crate) fn check_end(&mut self) {
        let Some(leader) = self.store.term().and_then(|it| id_of(&it.leader)) else {
            return;
        };
        let has = self.has(leader);
        let missing: Vec<u32> = self
            .oracle
            .acked
            .iter()
            .copied()
            .filter(|it| !has.contains(it))
            .collect();
        if !missing.is_empty() {
            self.broken(format_args!(
                "I2: at the end {} writes are missing: {missing:?}",
                missing.len()
            ));
        }
        let log = &self.databases[leader].disk.log;
        let spoiled = (0..NODES).find(|id| {
            let other = &self.databases[*id].disk.log;
            self.setup.has_data(*id) && other.iter().zip(log).any(|(one, two)| one != two)
        });
        if let Some(id) = spoiled {
            self.broken(format_args!(
                "I6: {} and {} hold different logs",
                NAMES[id], NAMES[leader]
            ));
        }
    }
}
