//! Streaming: lines from primaries to standbys, what travels over them, and commits that wait for it.

use ha_core::{agreement::Epoch, lsn::Position};

use crate::{
    database::{Entry, Proc, read_names},
    network::Kind,
    world::{Id, MS, NAMES, SECOND, Time, World},
};

/// `wal_sender_timeout`, `wal_receiver_timeout`.
const TIMEOUT: Time = 5 * SECOND;

pub(crate) struct Line {
    pub(crate) standby: Id,
    pub(crate) primary: Id,
    /// In the name it streams under.
    pub(crate) epoch: Epoch,
    pub(crate) streaming: bool,
    /// Each side learns by itself that the other is gone.
    pub(crate) sender: bool,
    pub(crate) receiver: bool,
    sent: u64,
    arrives: Time,
    replies: Time,
    pub(crate) flushed: Option<u64>,
    pub(crate) replied_at: Time,
    pub(crate) heard_at: Time,
    pub(crate) grew_at: Time,
    pumping: bool,
}

impl World {
    /// The startup process asks for a walreceiver as long as there is none.
    pub(crate) fn receive(&mut self, id: Id) {
        let database = &self.databases[id];
        if database.proc != Proc::Replica {
            return;
        }
        let retry = self.random.range(100, 500) * MS;
        self.database_after(id, retry, move |world| world.receive(id));
        let database = &self.databases[id];
        let Some((primary, epoch)) = database.disk.upstream else {
            return;
        };
        // Whoever begins to connect has read the credential by then.
        if database.receiver.is_some() || !database.disk.credential || database.promoting {
            return;
        }
        self.next_line += 1;
        let number = self.next_line;
        let line = Line {
            standby: id,
            primary,
            epoch,
            streaming: false,
            sender: false,
            receiver: true,
            sent: 0,
            arrives: 0,
            replies: 0,
            flushed: None,
            replied_at: self.now,
            heard_at: self.now,
            grew_at: self.now,
            pumping: false,
        };
        self.lines.insert(number, line);
        self.databases[id].receiver = Some(number);
        let round =
            self.network.delay(id, primary, &mut self.random) + self.network.delay(primary, id, &mut self.random);
        let delay = round * 2 + self.random.range(0, 300 * MS);
        self.database_after(id, delay, move |world| world.connected(number));
        self.database_after(id, SECOND, move |world| world.keep_alive(number));
    }

    fn connected(&mut self, number: u64) {
        let Some(line) = self.lines.get(&number) else { return };
        let (standby, primary) = (line.standby, line.primary);
        let upstream = &self.databases[primary];
        let at = self.databases[standby].disk.position();
        let open = self.network.both(standby, primary, Kind::Database);
        let serves = upstream.proc == Proc::Primary && !upstream.frozen && !self.machines[primary].halted;
        let accepts = upstream.disk.accepts(at);
        if !(open && serves && accepts) {
            return self.receiver_ends(number);
        }
        // PostgreSQL would not notice this; nothing else may ever lead to it.
        let log = &upstream.disk.log;
        let same = log
            .binary_search_by_key(&at.lsn.0, |it| it.end)
            .is_ok_and(|index| log[index].timeline == at.timeline);
        let mine = self.databases[standby].disk.log.last().copied();
        let equal = mine.is_none_or(|mine| {
            log.binary_search_by_key(&mine.end, |it| it.end)
                .is_ok_and(|it| log[it] == mine)
        });
        if !(same && equal) {
            self.broken(format_args!(
                "I6: {} at {at} streams from {}, which has another record there",
                NAMES[standby], NAMES[primary]
            ));
        }
        let now = self.now;
        let Some(line) = self.lines.get_mut(&number) else {
            return;
        };
        (line.streaming, line.sender) = (true, true);
        (line.sent, line.replied_at, line.heard_at) = (at.lsn.0, now, now);
        let epoch = line.epoch;
        self.note(format_args!(
            "{} streams from {} as e{epoch}",
            NAMES[standby], NAMES[primary]
        ));
        self.pump(number);
        self.database_after(primary, SECOND, move |world| world.sender_looks(number));
    }

    /// The receiver's own watch over its line.
    fn keep_alive(&mut self, number: u64) {
        let Some(line) = self.lines.get(&number).filter(|it| it.receiver) else {
            return;
        };
        let (standby, primary) = (line.standby, line.primary);
        let reset = line.streaming && !line.sender && self.network.both(standby, primary, Kind::Database);
        if reset || self.now - line.heard_at > TIMEOUT {
            return self.receiver_ends(number);
        }
        self.reply(number);
        self.database_after(standby, SECOND, move |world| world.keep_alive(number));
    }

    fn sender_looks(&mut self, number: u64) {
        let Some(line) = self.lines.get(&number).filter(|it| it.sender) else {
            return;
        };
        let (standby, primary) = (line.standby, line.primary);
        let reset = !line.receiver && self.network.both(standby, primary, Kind::Database);
        if reset || self.now - line.replied_at > TIMEOUT {
            return self.sender_ends(number);
        }
        self.pump(number);
        self.database_after(primary, SECOND, move |world| world.sender_looks(number));
    }

    pub(crate) fn receiver_ends(&mut self, number: u64) {
        let Some(line) = self.lines.get_mut(&number) else {
            return;
        };
        line.receiver = false;
        let (standby, gone) = (line.standby, !line.sender);
        if self.databases[standby].receiver == Some(number) {
            self.databases[standby].receiver = None;
        }
        if gone {
            self.lines.remove(&number);
        }
    }

    fn sender_ends(&mut self, number: u64) {
        let Some(line) = self.lines.get_mut(&number) else {
            return;
        };
        line.sender = false;
        if !line.receiver {
            self.lines.remove(&number);
        }
    }

    /// All lines of a process that ended.
    pub(crate) fn lines_end(&mut self, id: Id) {
        let numbers: Vec<u64> = self.lines.keys().copied().collect();
        for number in numbers {
            let Some(line) = self.lines.get(&number) else { continue };
            let (standby, primary) = (line.standby, line.primary);
            if primary == id {
                self.sender_ends(number);
            }
            if standby == id {
                self.receiver_ends(number);
            }
        }
    }

    /// Something is there to be sent.
    pub(crate) fn log_grew(&mut self, primary: Id) {
        let numbers: Vec<u64> = self
            .lines
            .iter_mut()
            .filter(|(_, line)| line.primary == primary && line.sender && !line.pumping)
            .map(|(number, line)| {
                line.pumping = true;
                *number
            })
            .collect();
        for number in numbers {
            let delay = self.random.range(100, 2000);
            self.database_after(primary, delay, move |world| {
                if let Some(line) = world.lines.get_mut(&number) {
                    line.pumping = false;
                }
                world.pump(number);
            });
        }
    }

    fn pump(&mut self, number: u64) {
        let Some(line) = self.lines.get(&number).filter(|it| it.sender && it.streaming) else {
            return;
        };
        let (standby, primary, sent) = (line.standby, line.primary, line.sent);
        if !self.network.open(primary, standby, Kind::Database) {
            // Sent again as TCP does, until one side gives up.
            return self.database_after(primary, 300 * MS, move |world| world.pump(number));
        }
        let log = &self.databases[primary].disk.log;
        let from = log.partition_point(|it| it.end <= sent);
        let entries: Vec<Entry> = log[from..].to_vec();
        let end = self.databases[primary].disk.end();
        let delay = self.network.delay(primary, standby, &mut self.random);
        let at = (self.now + delay).max(self.lines.get(&number).map_or(0, |it| it.arrives) + 1);
        if let Some(line) = self.lines.get_mut(&number) {
            (line.sent, line.arrives) = (end, at);
        }
        self.database_after(standby, at - self.now, move |world| {
            world.arrived(number, sent, &entries)
        });
    }

    fn arrived(&mut self, number: u64, after: u64, entries: &[Entry]) {
        let now = self.now;
        let Some(line) = self.lines.get_mut(&number).filter(|it| it.receiver) else {
            return;
        };
        line.heard_at = now;
        let standby = line.standby;
        if entries.is_empty() {
            return;
        }
        line.grew_at = now;
        if self.databases[standby].disk.end() < after {
            // What came before was overtaken while this machine stood still: over such a line nothing more is taken.
            return self.receiver_ends(number);
        }
        let disk = &mut self.databases[standby].disk;
        let end = disk.end();
        for entry in entries.iter().filter(|it| it.end > end) {
            disk.log.push(*entry);
            disk.timeline = entry.timeline;
        }
        // Where the timelines on the way were left is in the history files that come along.
        let primary = self.lines.get(&number).map(|it| it.primary);
        if let Some(primary) = primary {
            let timeline = self.databases[standby].disk.timeline;
            let known = self.databases[primary]
                .disk
                .history
                .iter()
                .filter(|it| it.timeline < timeline);
            let known = known.copied().collect();
            self.databases[standby].disk.history = known;
        }
        let delay = self.random.range(200, 3000);
        self.database_after(standby, delay, move |world| {
            let disk = &mut world.databases[standby].disk;
            disk.flushed = disk.log.len();
            world.reply(number);
        });
    }

    fn reply(&mut self, number: u64) {
        let Some(line) = self.lines.get(&number).filter(|it| it.receiver && it.streaming) else {
            return;
        };
        let (standby, primary) = (line.standby, line.primary);
        if !self.network.open(standby, primary, Kind::Database) {
            return;
        }
        let flushed = self.databases[standby].disk.flushed_end();
        let delay = self.network.delay(standby, primary, &mut self.random);
        let at = (self.now + delay).max(line.replies + 1);
        if let Some(line) = self.lines.get_mut(&number) {
            line.replies = at;
        }
        self.database_after(primary, at - self.now, move |world| {
            let now = world.now;
            let Some(line) = world.lines.get_mut(&number).filter(|it| it.sender) else {
                return;
            };
            line.replied_at = now;
            line.flushed = Some(flushed);
            world.release(primary);
        });
    }

    /// Commits whose wait is over return to their clients.
    pub(crate) fn release(&mut self, primary: Id) {
        let database = &self.databases[primary];
        if database.waiting.is_empty() || database.frozen || self.machines[primary].halted {
            return;
        }
        let over = if database.waits {
            let Some(wait) = read_names(&database.names) else {
                return;
            };
            let mut flushed: Vec<u64> = wait
                .of
                .iter()
                .filter_map(|(node, epoch)| {
                    let lines = self.lines.values().filter(|it| {
                        it.primary == primary && it.standby == *node && it.epoch == *epoch && it.sender && it.streaming
                    });
                    lines.filter_map(|it| it.flushed).max()
                })
                .collect();
            flushed.sort_unstable_by(|a, b| b.cmp(a));
            match wait.count.checked_sub(1).and_then(|index| flushed.get(index)) {
                Some(end) => *end,
                None => return,
            }
        } else {
            u64::MAX
        };
        let (done, waiting) = std::mem::take(&mut self.databases[primary].waiting)
            .into_iter()
            .partition::<Vec<_>, _>(|it| it.end <= over);
        self.databases[primary].waiting = waiting;
        for write in done.into_iter().filter(|it| it.id != 0) {
            self.acknowledged(primary, write);
        }
    }

    /// All standbys that stream have everything up to there.
    pub(crate) fn all_have(&self, primary: Id, end: u64) -> bool {
        self.lines
            .values()
            .filter(|it| it.primary == primary && it.sender && it.streaming)
            .all(|it| it.flushed.is_some_and(|flushed| flushed >= end))
    }

    pub(crate) fn position(&self, id: Id) -> Position {
        self.databases[id].disk.position()
    }
}
