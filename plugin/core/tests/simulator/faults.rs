//! What goes wrong, at random: each fault begins, lasts, and is undone.

use ha_core::agreement::{Campaign, Pause, Phase, Reason, Switch};

use crate::{
    database::{Disk, Proc},
    network::Kind,
    store::{Key, Value},
    world::{Id, MS, NAMES, NODES, SECOND, Time, World, id_of},
};

impl World {
    /// Faults of all kinds until `end`, some at the same time.
    pub(crate) fn trouble(&mut self, end: Time) {
        if self.now >= end || self.quiet {
            return;
        }
        let pause = if self.random.percent(35) {
            self.random.range(0, 1500) * MS
        } else {
            self.random.range(2, 25) * SECOND
        };
        self.after(pause, move |world| {
            if world.now < end && !world.quiet {
                world.fault();
                world.trouble(end);
            }
        });
    }

    fn fault(&mut self) {
        self.oracle.faults += 1;
        let id = self.random.below(NODES);
        let id = if self.random.percent(50) {
            self.leader().unwrap_or(id)
        } else {
            id
        };
        let other = (id + 1 + self.random.below(NODES - 1)) % NODES;
        let long = match self.random.below(3) {
            0 => self.random.range(100, 1500) * MS,
            1 => self.random.range(1, 8) * SECOND,
            _ => self.random.range(8, 40) * SECOND,
        };
        let kind = [None, None, Some(Kind::Database), Some(Kind::Guard), Some(Kind::Store)][self.random.below(5)];
        match self.random.below(23) {
            0 | 1 => self.database_crashes(id),
            2 => self.freeze_database(id, long),
            3 => self.guard_crashes(id, long.min(15 * SECOND)),
            4 => self.freeze_guard(id, long),
            5 => self.machine_crashes(id, long),
            6 => self.region_cut(id, long),
            7 | 8 => self.cut(id, other, kind, long),
            9 => self.cut_both(id, other, kind, long),
            10 => self.spoil(id, other, long),
            11 => self.store_member_down(id, long),
            12 => self.store_leader_down(long),
            13 => self.store_forgets(long),
            14 => self.clock_jumps(id),
            15 => self.suspend(id, long),
            16 => drop(self.switchover(other)),
            17 => self.operator_campaign(),
            18 => self.paused(long.min(20 * SECOND)),
            // Data given up on two nodes at once is more than any quorum survives.
            19 if self.not_whole().is_none() => self.promote_by_hand(id),
            19 => self.database_crashes(id),
            20 => self.wipe(id),
            21 => self.left_out(other, long),
            _ => self.database_and_guard_crash(id, long.min(10 * SECOND)),
        }
    }

    pub(crate) fn leader(&self) -> Option<Id> {
        self.store.term().and_then(|it| id_of(&it.leader))
    }

    /// Everything that was cut, stopped or slowed down is not any more.
    pub(crate) fn heal(&mut self) {
        self.note("all faults end");
        self.quiet = true;
        self.network.heal();
        self.store.down = [false; NODES];
        (self.store.late, self.store.forgets) = (0, 0);
        for id in 0..NODES {
            self.thaw_database(id);
            self.guards[id].frozen = false;
            self.wake(id);
            self.resume(id);
            if !self.guards[id].alive {
                self.start_guard(id);
            }
        }
        self.set_pause(None);
        self.exclude(None);
    }

    pub(crate) fn database_crashes(&mut self, id: Id) {
        self.kill(id, "crashed");
    }

    pub(crate) fn freeze_database(&mut self, id: Id, long: Time) {
        if matches!(self.databases[id].proc, Proc::Down { .. }) {
            return;
        }
        self.note(format_args!("{} database freezes for {} ms", NAMES[id], long / MS));
        self.databases[id].frozen = true;
        let life = self.databases[id].life;
        self.after(long, move |world| {
            if world.databases[id].life == life {
                world.thaw_database(id);
            }
        });
    }

    fn thaw_database(&mut self, id: Id) {
        if self.databases[id].frozen {
            self.note(format_args!("{} database goes on", NAMES[id]));
            self.databases[id].frozen = false;
            self.resume(id);
        }
    }

    pub(crate) fn guard_crashes(&mut self, id: Id, long: Time) {
        if !self.guards[id].alive {
            return;
        }
        self.crash_guard(id);
        self.after(long, move |world| world.guard_comes(id));
    }

    fn guard_comes(&mut self, id: Id) {
        if !self.guards[id].alive && !self.machines[id].halted {
            self.note(format_args!("{} guard starts", NAMES[id]));
            self.start_guard(id);
        }
    }

    pub(crate) fn freeze_guard(&mut self, id: Id, long: Time) {
        if !self.guards[id].alive {
            return;
        }
        self.note(format_args!("{} guard freezes for {} ms", NAMES[id], long / MS));
        self.guards[id].frozen = true;
        let life = self.guards[id].life;
        self.after(long, move |world| {
            if world.guards[id].life == life && world.guards[id].frozen {
                world.note(format_args!("{} guard goes on", NAMES[id]));
                world.guards[id].frozen = false;
                world.resume(id);
            }
        });
    }

    /// Power: the database, the guard, the deadman, the member of the store.
    pub(crate) fn machine_crashes(&mut self, id: Id, long: Time) {
        self.note(format_args!("{} loses power for {} ms", NAMES[id], long / MS));
        self.kill(id, "power");
        self.guards[id].alive = false;
        self.guards[id].life += 1;
        self.guards[id].serves = false;
        self.guards[id].deadline = None;
        self.store.down[id] = true;
        self.after(long, move |world| {
            world.store.down[id] = false;
            world.guard_comes(id);
        });
    }

    pub(crate) fn database_and_guard_crash(&mut self, id: Id, long: Time) {
        self.kill(id, "crashed");
        self.guard_crashes(id, long);
    }

    pub(crate) fn region_cut(&mut self, id: Id, long: Time) {
        self.note(format_args!("{} is cut off for {} ms", NAMES[id], long / MS));
        self.network.isolate(id, true);
        self.after(long, move |world| world.network.isolate(id, false));
    }

    pub(crate) fn cut(&mut self, from: Id, to: Id, kind: Option<Kind>, long: Time) {
        self.note(format_args!(
            "{} to {} cut, {kind:?}, for {} ms",
            NAMES[from],
            NAMES[to],
            long / MS
        ));
        self.network.cut(from, to, kind, true);
        self.after(long, move |world| world.network.cut(from, to, kind, false));
    }

    pub(crate) fn cut_both(&mut self, one: Id, other: Id, kind: Option<Kind>, long: Time) {
        self.cut(one, other, kind, long);
        self.cut(other, one, kind, long);
    }

    fn spoil(&mut self, from: Id, to: Id, long: Time) {
        let (extra, lossy) = (self.random.range(10, 900) * MS, self.random.range(0, 40));
        self.note(format_args!(
            "{} to {} slow and lossy for {} ms",
            NAMES[from],
            NAMES[to],
            long / MS
        ));
        self.network.spoil(from, to, extra, lossy);
        self.after(long, move |world| world.network.spoil(from, to, 0, 0));
    }

    pub(crate) fn store_member_down(&mut self, id: Id, long: Time) {
        self.note(format_args!("store member {} down for {} ms", NAMES[id], long / MS));
        self.store.down[id] = true;
        self.after(long, move |world| world.store.down[id] = false);
    }

    pub(crate) fn store_leader_down(&mut self, long: Time) {
        if let Some(id) = self.store.leader {
            self.store_member_down(id, long);
        }
    }

    pub(crate) fn store_forgets(&mut self, long: Time) {
        self.note(format_args!("answers of the store get lost for {} ms", long / MS));
        (self.store.forgets, self.store.late) = (self.random.range(10, 70), self.random.range(0, 2000) * MS);
        self.after(long, |world| (world.store.forgets, world.store.late) = (0, 0));
    }

    fn clock_jumps(&mut self, id: Id) {
        let by = if self.random.percent(50) { 3600 } else { -3600 };
        self.note(format_args!("{} clock jumps {by} s", NAMES[id]));
        let now = self.now;
        self.machines[id].clocks.jump(now, by);
    }

    /// Asleep, or put aside by its hypervisor: then no clock of it moves.
    pub(crate) fn suspend(&mut self, id: Id, long: Time) {
        let hypervisor = self.random.percent(50);
        self.note(format_args!(
            "{} sleeps for {} ms, all clocks: {hypervisor}",
            NAMES[id],
            long / MS
        ));
        let now = self.now;
        self.machines[id].clocks.sleep(now, hypervisor);
        self.machines[id].halted = true;
        self.oracle.excused[id] = Time::MAX;
        self.after(long, move |world| world.wake(id));
    }

    fn wake(&mut self, id: Id) {
        if !self.machines[id].halted {
            return;
        }
        self.note(format_args!("{} wakes", NAMES[id]));
        let now = self.now;
        self.machines[id].clocks.wake(now);
        self.machines[id].halted = false;
        let timing = self.guards[id].timing;
        self.oracle.excused[id] = now + crate::guard::micros(timing.hold + timing.fence_budget);
        self.resume(id);
        // What waited may have been a guard that is no more.
        self.guard_comes(id);
    }

    // What people do.

    pub(crate) fn switchover(&mut self, to: Id) -> bool {
        let Some(term) = self.store.term().filter(|it| it.phase == Phase::Active).cloned() else {
            return false;
        };
        let at = self.timestamp(to);
        let until = jiff::Timestamp::from_microsecond(at.as_microsecond() + 10_000_000).unwrap_or(at);
        let switch = Switch {
            op: "op".to_owned(),
            to: NAMES[to].to_owned(),
            by: "ops".to_owned(),
            started_at: at,
            until,
        };
        if !self.setup.has_data(to) || self.store.leader.is_none() {
            return false;
        }
        let Some(next) = term.begin_switch(switch) else {
            return false;
        };
        self.note(format_args!("a switchover to {} is asked for", NAMES[to]));
        self.apply(vec![(Key::Term, Some(Value::Term(Box::new(next))))]);
        true
    }

    /// `ha failover`: a campaign that nobody voted for.
    pub(crate) fn operator_campaign(&mut self) {
        let Some(term) = self
            .store
            .term()
            .filter(|it| it.phase == Phase::Active && it.acks > 0)
            .cloned()
        else {
            return;
        };
        if self.store.leader.is_none() {
            return;
        }
        let campaign = Campaign {
            by: "ops".to_owned(),
            reason: Reason::Operator,
            detail: "ha failover".to_owned(),
            automatic: false,
            started_at: self.timestamp(0),
            accept_loss: None,
            wanted: None,
            sealed: std::collections::BTreeMap::new(),
            chosen: None,
            op: None,
        };
        self.note("a failover is asked for");
        self.apply(vec![(Key::Term, Some(Value::Term(Box::new(term.campaign(campaign)))))]);
    }

    /// `ha db voters --drop`, and `--add` later.
    pub(crate) fn left_out(&mut self, id: Id, long: Time) {
        self.exclude(Some(id));
        self.after(long, |world| world.exclude(None));
    }

    fn exclude(&mut self, id: Option<Id>) {
        let wanted = id.map(|it| NAMES[it].to_owned()).into_iter().collect();
        let at = self.timestamp(0);
        if let Some(term) = self.store.term().filter(|it| it.excluded != wanted) {
            let next = term.with_excluded(wanted, "ops", at);
            self.note(format_args!("left out of the voters: {id:?}"));
            self.apply(vec![(Key::Term, Some(Value::Term(Box::new(next))))]);
        }
    }

    pub(crate) fn paused(&mut self, long: Time) {
        let pause = Pause {
            by: "ops".to_owned(),
            why: "maintenance".to_owned(),
            since: self.timestamp(0),
            until: None,
        };
        self.set_pause(Some(pause));
        self.after(long, |world| world.set_pause(None));
    }

    fn set_pause(&mut self, pause: Option<Pause>) {
        if pause.is_none() && !self.store.entries.contains_key(&Key::Pause) {
            return;
        }
        self.note(format_args!("paused: {}", pause.is_some()));
        self.apply(vec![(Key::Pause, pause.map(Value::Pause))]);
    }

    /// Somebody promotes a replica, past all rules: PostgreSQL takes the next number it sees.
    pub(crate) fn promote_by_hand(&mut self, id: Id) {
        if self.databases[id].proc != Proc::Replica {
            return;
        }
        let timeline = self.databases[id].disk.timeline + 1;
        self.note(format_args!("{} is promoted by hand", NAMES[id]));
        self.oracle.by_hand.insert(timeline);
        self.promote(id, timeline);
    }

    /// Folder and promise file lost together, as the message of the promise file demands.
    pub(crate) fn wipe(&mut self, id: Id) {
        // A voter that comes back empty is what only the quorum can survive; one of two is too many.
        let whole = self.not_whole().is_none();
        if !whole || self.leader() == Some(id) || !self.setup.has_data(id) || self.guards[id].job.is_some() {
            return;
        }
        self.note(format_args!("{} loses its disk", NAMES[id]));
        self.kill(id, "the disk is gone");
        self.databases[id].disk = Disk::absent();
    }

    /// For a copy: nothing is left of what was there.
    pub(crate) fn erase(&mut self, id: Id) {
        self.databases[id].disk = Disk::absent();
    }

    /// From a backup: everybody has seen more than this.
    pub(crate) fn restore_store(&mut self, entries: crate::store::Entries, revision: u64) {
        self.note("the store is restored from an old copy");
        self.oracle.store_went_back = true;
        (self.store.entries, self.store.revision) = (entries, revision);
    }
}
