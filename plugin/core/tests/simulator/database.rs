//! A database server as PostgreSQL behaves in what matters here: its folder, its log, its process.

use ha_core::{
    agent::parse_epoch_stream_name,
    agreement::{Ancestor, Epoch, FENCED_NAMES},
    lsn::{Lsn, Position},
};

use crate::world::{Id, NAMES, Time};

/// One record of the log. `id` is that of a client's write; zero for everything else.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    pub(crate) end: u64,
    pub(crate) timeline: u32,
    pub(crate) id: u32,
}

/// What survives the process.
#[derive(Clone)]
pub(crate) struct Disk {
    pub(crate) exists: bool,
    pub(crate) ruined: bool,
    pub(crate) log: Vec<Entry>,
    /// So many entries survive a crash.
    pub(crate) flushed: usize,
    pub(crate) history: Vec<Ancestor>,
    pub(crate) timeline: u32,
    pub(crate) standby: bool,
    pub(crate) upstream: Option<(Id, Epoch)>,
    pub(crate) credential: bool,
    pub(crate) names: String,
    pub(crate) control: u32,
    pub(crate) clean: bool,
}

impl Disk {
    pub(crate) fn absent() -> Self {
        Self {
            exists: false,
            ruined: false,
            log: Vec::new(),
            flushed: 0,
            history: Vec::new(),
            timeline: 0,
            standby: false,
            upstream: None,
            credential: false,
            names: FENCED_NAMES.to_owned(),
            control: 0,
            clean: false,
        }
    }

    /// As initdb makes it.
    pub(crate) fn made() -> Self {
        Self {
            exists: true,
            log: vec![Entry {
                end: 100,
                timeline: 1,
                id: 0,
            }],
            flushed: 1,
            timeline: 1,
            control: 1,
            ..Self::absent()
        }
    }

    pub(crate) fn end(&self) -> u64 {
        self.log.last().map_or(0, |it| it.end)
    }

    pub(crate) fn flushed_end(&self) -> u64 {
        self.flushed.checked_sub(1).map_or(0, |last| self.log[last].end)
    }

    pub(crate) fn position(&self) -> Position {
        let last = self.log.last();
        Position {
            timeline: last.map_or(0, |it| it.timeline),
            lsn: Lsn(last.map_or(0, |it| it.end)),
        }
    }

    /// Starts as a standby that follows nobody and acknowledges nothing.
    pub(crate) fn seal(&mut self) {
        self.standby = true;
        self.upstream = None;
        self.credential = false;
        FENCED_NAMES.clone_into(&mut self.names);
    }

    /// Whether a standby at `at` may stream from here: PostgreSQL compares numbers, never contents.
    pub(crate) fn accepts(&self, at: Position) -> bool {
        if at.timeline == self.timeline {
            return at.lsn.0 <= self.flushed_end();
        }
        let left = self.history.iter().find(|it| it.timeline == at.timeline);
        left.is_some_and(|left| at.lsn <= left.ended)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Proc {
    Down {
        since: Time,
    },
    Starting {
        since: Time,
    },
    Primary,
    /// Takes no more statements, sends what is left.
    Stopping,
    Replica,
}

/// `synchronous_standby_names`, read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Wait {
    pub(crate) count: usize,
    pub(crate) of: Vec<(Id, Epoch)>,
}

/// None waits for nobody.
pub(crate) fn read_names(names: &str) -> Option<Wait> {
    let rest = names.strip_prefix("ANY ")?;
    let (count, list) = rest.split_once(" (")?;
    let of = list.trim_end_matches(')').split(", ").filter_map(|name| {
        let (node, epoch) = parse_epoch_stream_name(name)?;
        let id = NAMES.iter().position(|it| node == format!("ha_{it}"))?;
        Some((id, epoch))
    });
    Some(Wait {
        count: count.parse().unwrap_or(usize::MAX),
        of: of.collect(),
    })
}

/// A commit that was written here and not answered yet.
#[derive(Clone, Copy)]
pub(crate) struct Waiting {
    pub(crate) id: u32,
    pub(crate) end: u64,
    pub(crate) began: Time,
}

pub(crate) struct Database {
    pub(crate) disk: Disk,
    pub(crate) proc: Proc,
    /// Grows with each start and end of the process: what was on its way for an earlier one is lost.
    pub(crate) life: u64,
    pub(crate) frozen: bool,
    /// In force, a moment after the reload.
    pub(crate) names: String,
    /// The flag that backends obey, set by the checkpointer: while it is down, commits wait for nobody.
    pub(crate) waits: bool,
    pub(crate) waiting: Vec<Waiting>,
    /// The line that it receives over, also while it is still connecting.
    pub(crate) receiver: Option<u64>,
    /// The process may be primary in this epoch, as its guard said when it started or promoted it.
    pub(crate) permit: Option<Epoch>,
    pub(crate) promoting: bool,
}

impl Database {
    pub(crate) fn new(disk: Disk) -> Self {
        Self {
            disk,
            proc: Proc::Down { since: 0 },
            life: 0,
            frozen: false,
            names: String::new(),
            waits: false,
            waiting: Vec::new(),
            receiver: None,
            permit: None,
            promoting: false,
        }
    }

    pub(crate) fn answers(&self) -> bool {
        !self.frozen && matches!(self.proc, Proc::Primary | Proc::Replica)
    }

    pub(crate) fn append(&mut self, id: u32, bytes: u64) -> u64 {
        let end = self.disk.end() + bytes;
        let timeline = self.disk.timeline;
        self.disk.log.push(Entry { end, timeline, id });
        self.disk.flushed = self.disk.log.len();
        self.disk.clean = false;
        end
    }
}
