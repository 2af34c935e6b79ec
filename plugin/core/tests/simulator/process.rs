//! Processes of database servers: they start, recover, stop, are killed and promoted; settings take effect a moment
//! after a reload.

use ha_core::{
    agreement::{Ancestor, Epoch},
    lsn::Lsn,
};

use crate::{
    database::{Entry, Proc, read_names},
    world::{Id, MS, NAMES, SECOND, Time, World},
};

impl World {
    /// What is not on disk is lost, and whoever waited for a commit does not know.
    pub(crate) fn kill(&mut self, id: Id, why: &str) {
        if matches!(self.databases[id].proc, Proc::Down { .. }) {
            return;
        }
        self.note(format_args!("{} database ends: {why}", NAMES[id]));
        let now = self.now;
        let database = &mut self.databases[id];
        database.life += 1;
        database.proc = Proc::Down { since: now };
        database.waiting.clear();
        database.permit = None;
        (database.waits, database.promoting, database.frozen) = (false, false, false);
        database.names.clear();
        database.disk.log.truncate(database.disk.flushed);
        let timeline = database.disk.log.last().map_or(0, |it| it.timeline);
        database.disk.timeline = timeline;
        self.lines_end(id);
        if let Some(line) = self.databases[id].receiver.take() {
            self.receiver_ends(line);
        }
    }

    /// From the folder as it is. Recovery takes its time.
    pub(crate) fn start(&mut self, id: Id, permit: Option<Epoch>) {
        let now = self.now;
        let database = &mut self.databases[id];
        if !matches!(database.proc, Proc::Down { .. }) || !database.disk.exists || database.disk.ruined {
            return;
        }
        database.life += 1;
        database.proc = Proc::Starting { since: now };
        database.permit = permit;
        database.disk.clean = false;
        let slow = self.random.percent(10);
        let recovery = self.random.range(200, if slow { 8000 } else { 1500 }) * MS;
        self.database_after(id, recovery, move |world| {
            let database = &mut world.databases[id];
            let names = database.disk.names.clone();
            database.waits = read_names(&names).is_some();
            database.names = names;
            if database.disk.standby {
                database.proc = Proc::Replica;
                world.note(format_args!(
                    "{} database runs as a replica at {}",
                    NAMES[id],
                    world.position(id)
                ));
                world.receive(id);
            } else {
                database.proc = Proc::Primary;
                // The checkpoint at the end of recovery.
                database.append(0, 50);
                database.disk.control = database.disk.timeline;
                world.note(format_args!(
                    "{} database runs as a primary at {}",
                    NAMES[id],
                    world.position(id)
                ));
            }
        });
    }

    /// `pg_ctl stop -m fast`: sessions end, the shutdown checkpoint goes to whoever is connected, for a while.
    pub(crate) fn stop(&mut self, id: Id) {
        match self.databases[id].proc {
            Proc::Primary => {
                let database = &mut self.databases[id];
                database.proc = Proc::Stopping;
                database.waiting.clear();
                let end = database.append(0, 120);
                database.disk.control = database.disk.timeline;
                self.log_grew(id);
                let until = self.now + 2 * SECOND;
                self.database_after(id, 20 * MS, move |world| world.stopping(id, end, until));
            }
            Proc::Stopping => {}
            _ => self.kill(id, "stopped"),
        }
    }

    fn stopping(&mut self, id: Id, end: u64, until: Time) {
        if self.all_have(id, end) || self.now >= until {
            self.kill(id, "stopped cleanly");
            self.databases[id].disk.clean = true;
            return;
        }
        self.database_after(id, 20 * MS, move |world| world.stopping(id, end, until));
    }

    /// The setting is on disk now, and in force a moment later. The flag that backends obey comes later still.
    pub(crate) fn reload_names(&mut self, id: Id, names: &str) {
        names.clone_into(&mut self.databases[id].disk.names);
        let delay = self.random.range(1, 30) * MS;
        let names = names.to_owned();
        self.database_after(id, delay, move |world| {
            let wanted = read_names(&names).is_some();
            world.databases[id].names = names;
            world.check_published();
            world.release(id);
            if world.databases[id].waits != wanted {
                let delay = world.random.range(1, 400) * MS;
                world.database_after(id, delay, move |world| {
                    let database = &mut world.databases[id];
                    database.waits = read_names(&database.names).is_some();
                    world.check_published();
                    world.release(id);
                });
            }
        });
    }

    /// `pg_promote`, onto a reserved number. Goes on whatever becomes of whoever asked.
    pub(crate) fn promote(&mut self, id: Id, timeline: u32) {
        let database = &mut self.databases[id];
        if database.proc != Proc::Replica || database.promoting {
            return;
        }
        database.promoting = true;
        if let Some(line) = database.receiver.take() {
            self.receiver_ends(line);
        }
        let delay = self.random.range(23, 120) * MS;
        self.database_after(id, delay, move |world| {
            let database = &mut world.databases[id];
            database.promoting = false;
            database.proc = Proc::Primary;
            let disk = &mut database.disk;
            disk.standby = false;
            disk.upstream = None;
            disk.flushed = disk.log.len();
            let (from, ended) = (disk.log.last().map_or(0, |it| it.timeline), disk.end());
            disk.history.push(Ancestor {
                timeline: from,
                ended: Lsn(ended),
            });
            disk.timeline = timeline;
            let end = ended + 40;
            disk.log.push(Entry { end, timeline, id: 0 });
            disk.flushed = disk.log.len();
            world.note(format_args!(
                "{} is primary on timeline {timeline} from {ended}",
                NAMES[id]
            ));
            world.promoted(id, timeline);
            world.check_published();
        });
    }

    /// A statement of a client or a guard: written now, answered when enough have it.
    pub(crate) fn write(&mut self, id: Id, write: u32, began: Time) {
        let bytes = self.random.range(40, 300);
        let database = &mut self.databases[id];
        if database.proc != Proc::Primary {
            return;
        }
        let end = database.append(write, bytes);
        database
            .waiting
            .push(crate::database::Waiting { id: write, end, began });
        self.log_grew(id);
        self.release(id);
    }
}
