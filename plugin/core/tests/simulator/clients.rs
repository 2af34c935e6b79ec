//! Clients in every region, writing all the time: to whom the guards say, and stubbornly to whom they should not.

use crate::{
    network::Kind,
    world::{Id, MS, NODES, World},
};

impl World {
    pub(crate) fn start_clients(&mut self) {
        for region in 0..NODES {
            self.after(self.random_pause(), move |world| world.client(region));
        }
    }

    fn random_pause(&self) -> u64 {
        50 * MS
    }

    fn client(&mut self, region: Id) {
        let pause = self.random.range(60, 160) * MS;
        self.after(pause, move |world| world.client(region));
        if self.machines[region].halted {
            return;
        }
        let stubborn = self.random.percent(30);
        let reachable = |world: &Self, id: Id, kind: Kind| world.network.both(region, id, kind);
        let target = if stubborn {
            Some(self.random.below(NODES)).filter(|it| reachable(self, *it, Kind::Database))
        } else {
            (0..NODES).find(|id| {
                let guard = &self.guards[*id];
                guard.serves && guard.alive && !guard.frozen && reachable(self, *id, Kind::Database)
            })
        };
        let Some(target) = target else { return };
        self.oracle.written += 1;
        let write = self.oracle.written;
        self.send(region, target, Kind::Database, move |world| {
            let (life, began) = (world.databases[target].life, world.now);
            world.in_database(target, life, move |world| {
                world.write(target, write, began.max(world.now))
            });
        });
    }
}
