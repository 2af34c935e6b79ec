//! Lines between machines: each direction and each kind of traffic can be cut, slow or lossy by itself.

use crate::{
    random::Random,
    world::{Id, MS, NODES, Time},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Replication, probes by SQL, clients.
    Database,
    /// The guards' own endpoints.
    Guard,
    Store,
}

#[derive(Clone, Copy, Default)]
struct Way {
    cut: [bool; 3],
    extra: Time,
    lossy: u64,
}

pub(crate) struct Network {
    ways: [[Way; NODES]; NODES],
    /// One way, between regions.
    latency: Time,
}

impl Network {
    pub(crate) fn new(latency: Time) -> Self {
        Self {
            ways: [[Way::default(); NODES]; NODES],
            latency,
        }
    }

    pub(crate) fn open(&self, from: Id, to: Id, kind: Kind) -> bool {
        from == to || !self.ways[from][to].cut[kind as usize]
    }

    pub(crate) fn both(&self, one: Id, other: Id, kind: Kind) -> bool {
        self.open(one, other, kind) && self.open(other, one, kind)
    }

    pub(crate) fn delay(&self, from: Id, to: Id, random: &mut Random) -> Time {
        if from == to {
            return random.range(50, 400);
        }
        let way = &self.ways[from][to];
        self.latency + random.range(0, self.latency / 2 + MS) + random.range(0, way.extra + 1)
    }

    pub(crate) fn lost(&self, from: Id, to: Id, random: &mut Random) -> bool {
        from != to && self.ways[from][to].lossy > 0 && random.percent(self.ways[from][to].lossy)
    }

    /// All kinds without one.
    pub(crate) fn cut(&mut self, from: Id, to: Id, kind: Option<Kind>, cut: bool) {
        let way = &mut self.ways[from][to].cut;
        match kind {
            Some(kind) => way[kind as usize] = cut,
            None => *way = [cut; 3],
        }
    }

    pub(crate) fn cut_both(&mut self, one: Id, other: Id, kind: Option<Kind>, cut: bool) {
        self.cut(one, other, kind, cut);
        self.cut(other, one, kind, cut);
    }

    pub(crate) fn isolate(&mut self, region: Id, cut: bool) {
        for other in (0..NODES).filter(|it| *it != region) {
            self.cut_both(region, other, None, cut);
        }
    }

    pub(crate) fn spoil(&mut self, from: Id, to: Id, extra: Time, lossy: u64) {
        let way = &mut self.ways[from][to];
        (way.extra, way.lossy) = (extra, lossy);
    }

    pub(crate) fn heal(&mut self) {
        self.ways = [[Way::default(); NODES]; NODES];
    }
}
