//! Work on the database, step by step: a guard may die between any two, and a fence may end it.

use ha_core::{
    agreement::{Epoch, FENCED_NAMES, Need, Phase, Sealed},
    decide::{Action, Barrier, Facts},
    lsn::Lsn,
    lsn::Position,
};

use crate::{
    database::{Disk, Proc},
    network::Kind,
    store::{Answer, Key},
    world::{Id, MS, NAMES, SECOND, Time, World, id_of},
};

/// What one job knows of itself.
#[derive(Clone, Copy)]
struct Work {
    id: Id,
    ticket: u64,
    until: Time,
}

impl World {
    pub(crate) fn work(&mut self, id: Id, ticket: u64, action: Action, facts: &Facts) {
        let work = |seconds: Time| Work {
            id,
            ticket,
            until: self.now + seconds * SECOND,
        };
        let epoch = facts.store.term.as_ref().map_or(0, |it| it.epoch);
        match action {
            Action::Fence => self.fence(work(5), false),
            Action::Disown => self.fence(work(5), true),
            Action::Seal { epoch } => self.seal(work(20), epoch),
            Action::StartSealed => self.start_sealed(work(20)),
            Action::StartPrimary { names } => self.start_primary(work(20), names, epoch),
            Action::Promote { epoch, names } => self.begin_promotion(work(20), epoch, names),
            Action::SetNames { names } => self.set_names(work(10), names),
            Action::TakeBarrier { names } => self.take_barrier(work(5), names),
            Action::Checkpoint => self.checkpoint(work(20)),
            Action::Follow { node, epoch } => self.follow(work(10), &node, epoch),
            Action::Rebuild { from, copy } => self.rebuild(work(60), &from, copy),
            Action::Copy { from } => self.rebuild(work(60), &from, true),
            Action::HandOver { to } => self.hand_over(work(60), &to),
            _ => self.done(work(0), "nothing to do"),
        }
    }

    fn done(&mut self, work: Work, how: &str) {
        let id = work.id;
        if !self.guards[id].is_busy(work.ticket) {
            return;
        }
        self.note(format_args!("{} ended its work: {how}", NAMES[id]));
        self.guards[id].job = None;
        self.think(id);
    }

    /// The next step, unless the guard died or the work was given up.
    fn step(&mut self, work: Work, delay: Time, then: impl FnOnce(&mut Self) + 'static) {
        self.guard_after(work.id, delay, move |world| {
            if world.guards[work.id].is_busy(work.ticket) {
                then(world);
            }
        });
    }

    fn quick(&mut self, work: Work, then: impl FnOnce(&mut Self) + 'static) {
        let delay = self.random.range(2, 25) * MS;
        self.step(work, delay, then);
    }

    /// As soon as it is so; the work ends without success when it never is.
    fn when(&mut self, work: Work, is: impl Fn(&Self) -> bool + 'static, then: impl FnOnce(&mut Self) + 'static) {
        if is(self) {
            return then(self);
        }
        if self.now >= work.until {
            return self.done(work, "out of time");
        }
        self.step(work, 15 * MS, move |world| world.when(work, is, then));
    }

    fn fence(&mut self, work: Work, disown: bool) {
        let id = work.id;
        let budget = self.random.range(18, 60) * MS;
        self.step(work, budget, move |world| {
            world.kill(id, "fenced");
            let disk = &mut world.databases[id].disk;
            disk.seal();
            disk.ruined |= disown;
            world.guards[id].sealed = None;
            world.quick(work, move |world| world.done(work, "fenced"));
        });
    }

    fn start_sealed(&mut self, work: Work) {
        let id = work.id;
        self.guards[id].sealed = None;
        self.quick(work, move |world| {
            if matches!(world.databases[id].proc, Proc::Down { .. }) {
                world.databases[id].disk.seal();
                world.start(id, None);
            }
            world.when(
                work,
                move |world| world.databases[id].answers() || matches!(world.databases[id].proc, Proc::Down { .. }),
                move |world| world.done(work, "runs as a sealed standby"),
            );
        });
    }

    fn start_primary(&mut self, work: Work, names: String, epoch: Epoch) {
        let id = work.id;
        self.quick(work, move |world| {
            if matches!(world.databases[id].proc, Proc::Down { .. }) {
                let disk = &mut world.databases[id].disk;
                (disk.standby, disk.upstream, disk.credential) = (false, None, false);
                disk.names = names;
                world.start(id, Some(epoch));
            }
            world.when(
                work,
                move |world| world.databases[id].answers() || matches!(world.databases[id].proc, Proc::Down { .. }),
                move |world| world.done(work, "the primary was started"),
            );
        });
    }

    fn seal(&mut self, work: Work, epoch: Epoch) {
        let id = work.id;
        if self.guards[id].promise.epoch > epoch {
            return self.quick(work, move |world| world.done(work, "promised more already"));
        }
        self.guards[id].sealed = None;
        self.quick(work, move |world| {
            if !world.setup.flaws.seal_without_promise {
                world.promise(id, epoch);
            }
            match world.databases[id].proc {
                Proc::Primary | Proc::Stopping => {
                    let hard = world.random.percent(50);
                    if hard {
                        world.kill(id, "sealed");
                    } else {
                        world.stop(id);
                    }
                    let is = move |world: &Self| matches!(world.databases[id].proc, Proc::Down { .. });
                    world.when(work, is, move |world| world.seal_stopped(work, epoch));
                }
                Proc::Down { .. } => world.seal_stopped(work, epoch),
                Proc::Starting { .. } => {
                    let is = move |world: &Self| !matches!(world.databases[id].proc, Proc::Starting { .. });
                    world.when(work, is, move |world| world.seal(work, epoch));
                }
                Proc::Replica => world.seal_replica(work, epoch),
            }
        });
    }

    fn seal_stopped(&mut self, work: Work, epoch: Epoch) {
        let id = work.id;
        self.databases[id].disk.seal();
        self.start(id, None);
        let is = move |world: &Self| !matches!(world.databases[id].proc, Proc::Starting { .. });
        self.when(work, is, move |world| {
            if world.databases[id].proc == Proc::Replica {
                world.seal_replica(work, epoch);
            } else {
                world.done(work, "it did not start");
            }
        });
    }

    /// Credential, setting, reload, every walreceiver ended, all read: in this order.
    fn seal_replica(&mut self, work: Work, epoch: Epoch) {
        let id = work.id;
        let is = move |world: &Self| world.databases[id].answers();
        self.when(work, is, move |world| {
            world.databases[id].disk.credential = false;
            world.quick(work, move |world| {
                if world.setup.flaws.seal_sees_streaming_only {
                    world.databases[id].disk.credential = true;
                }
                world.databases[id].disk.upstream = None;
                FENCED_NAMES.clone_into(&mut world.databases[id].disk.names);
                world.reload_names(id, FENCED_NAMES);
                world.quick(work, move |world| world.end_receivers(work, epoch));
            });
        });
    }

    fn end_receivers(&mut self, work: Work, epoch: Epoch) {
        let id = work.id;
        let is = move |world: &Self| world.databases[id].answers();
        self.when(work, is, move |world| {
            let receiver = world.databases[id].receiver;
            let seen = receiver.filter(|number| {
                let streams = world.lines.get(number).is_some_and(|it| it.streaming);
                streams || !world.setup.flaws.seal_sees_streaming_only
            });
            if let Some(number) = seen {
                world.receiver_ends(number);
            }
            let delay = world.random.range(5, 90) * MS;
            world.step(work, delay, move |world| {
                let database = &mut world.databases[id];
                if !database.answers() {
                    return world.when(
                        work,
                        move |world| world.databases[id].answers(),
                        move |world| world.end_receivers(work, epoch),
                    );
                }
                if database.proc != Proc::Replica {
                    return world.done(work, "it is no replica any more");
                }
                database.disk.flushed = database.disk.log.len();
                let position = world.position(id);
                world.guards[id].sealed = Some(Sealed { epoch, position });
                world.done(work, &format!("sealed for epoch {epoch} at {position}"));
            });
        });
    }

    fn begin_promotion(&mut self, work: Work, epoch: Epoch, names: String) {
        let id = work.id;
        if self.guards[id].promise.epoch > epoch {
            return self.quick(work, move |world| world.done(work, "promised more already"));
        }
        self.quick(work, move |world| {
            if !world.databases[id].answers() {
                return world.done(work, "the database does not answer");
            }
            world.promise(id, epoch);
            world.guards[id].promise.promoted = epoch;
            world.databases[id].permit = Some(epoch);
            if world.databases[id].proc == Proc::Primary {
                return world.done(work, "it is primary already");
            }
            if world.databases[id].disk.upstream.is_some() {
                return world.done(work, "it follows somebody");
            }
            if Epoch::from(world.databases[id].disk.timeline) >= epoch {
                // PostgreSQL would take the next number: the reservation is refused.
                return world.done(work, "it is on that timeline already");
            }
            world.reload_names(id, &names);
            let is = move |world: &Self| {
                let database = &world.databases[id];
                database.names == names && database.waits == crate::database::read_names(&names).is_some()
            };
            world.when(work, is, move |world| {
                world.promote(id, u32::try_from(epoch).unwrap_or(u32::MAX));
                let is = move |world: &Self| {
                    let proc = world.databases[id].proc;
                    proc == Proc::Primary || matches!(proc, Proc::Down { .. })
                };
                world.when(work, is, move |world| world.done(work, "promoted"));
            });
        });
    }

    fn set_names(&mut self, work: Work, names: String) {
        let id = work.id;
        self.guards[id].barrier = None;
        if !self.databases[id].answers() {
            return self.quick(work, move |world| world.done(work, "the database does not answer"));
        }
        let from_empty = !self.databases[id].waits || self.databases[id].names.is_empty();
        if from_empty && !names.is_empty() && !self.setup.flaws.no_canary {
            // Only a commit that is seen waiting shows that sessions obey.
            self.reload_names(id, FENCED_NAMES);
            let is = move |world: &Self| world.databases[id].waits && world.databases[id].names == FENCED_NAMES;
            return self.when(work, is, move |world| world.names_in_force(work, names));
        }
        self.names_in_force(work, names);
    }

    fn names_in_force(&mut self, work: Work, names: String) {
        let id = work.id;
        self.reload_names(id, &names);
        let is = move |world: &Self| world.databases[id].names == names || !world.databases[id].answers();
        self.when(work, is, move |world| world.done(work, "the names are in force"));
    }

    fn take_barrier(&mut self, work: Work, names: String) {
        let id = work.id;
        self.quick(work, move |world| {
            let database = &world.databases[id];
            if database.answers() && database.names == names {
                let lsn = Lsn(database.disk.end());
                world.guards[id].barrier = Some(Barrier { names, lsn });
            }
            world.done(work, "barrier taken");
        });
    }

    fn checkpoint(&mut self, work: Work) {
        let id = work.id;
        let delay = self.random.range(50, 1500) * MS;
        let life = self.databases[id].life;
        self.step(work, delay, move |world| {
            let database = &mut world.databases[id];
            if database.life == life && database.answers() {
                database.disk.control = database.disk.timeline;
            }
            world.done(work, "checkpoint");
        });
    }

    fn follow(&mut self, work: Work, node: &str, epoch: Epoch) {
        let id = work.id;
        let Some(node) = id_of(node).filter(|_| self.guards[id].promise.epoch <= epoch) else {
            return self.quick(work, move |world| world.done(work, "promised more already"));
        };
        self.quick(work, move |world| {
            if world.databases[id].proc != Proc::Replica || !world.databases[id].answers() {
                return world.done(work, "it is no replica that answers");
            }
            world.guards[id].sealed = None;
            let disk = &mut world.databases[id].disk;
            disk.credential = true;
            disk.upstream = Some((node, epoch));
            world.quick(work, move |world| {
                // The receiver of another upstream is ended by the reload.
                if let Some(number) = world.databases[id].receiver
                    && world
                        .lines
                        .get(&number)
                        .is_none_or(|it| (it.primary, it.epoch) != (node, epoch))
                {
                    world.receiver_ends(number);
                }
                world.done(work, "told to follow");
            });
        });
    }

    fn rebuild(&mut self, work: Work, from: &str, copy: bool) {
        let id = work.id;
        let Some(from) = id_of(from) else {
            return self.done(work, "nobody to copy");
        };
        self.guards[id].sealed = None;
        self.stop(id);
        let is = move |world: &Self| matches!(world.databases[id].proc, Proc::Down { .. });
        self.when(work, is, move |world| {
            if copy {
                world.erase(id);
            }
            let disk = &mut world.databases[id].disk;
            (disk.exists, disk.ruined) = (true, true);
            let time = if copy {
                world.random.range(3, 12)
            } else {
                world.random.range(1, 5)
            } * SECOND;
            let source = world.databases[from].life;
            let broken = world.random.percent(if copy { 2 } else { 15 });
            world.step(work, time, move |world| {
                let upstream = &world.databases[from];
                let reached = world.network.both(id, from, Kind::Database) && upstream.answers();
                let same = upstream.life == source && upstream.proc == Proc::Primary;
                if !(reached && same) || broken {
                    return world.rebuild_failed(work, copy);
                }
                if !copy && upstream.disk.control != upstream.disk.timeline {
                    return world.rebuild_failed(work, copy);
                }
                // A placeholder for each number below goes with it, so that the next promotion takes the right one.
                let mut disk = Disk {
                    ruined: false,
                    ..upstream.disk.clone()
                };
                disk.seal();
                disk.flushed = disk.log.len();
                world.databases[id].disk = disk;
                world.guards[id].need = None;
                world.start(id, None);
                world.when(
                    work,
                    move |world| !matches!(world.databases[id].proc, Proc::Starting { .. }),
                    move |world| world.done(work, "rebuilt"),
                );
            });
        });
    }

    fn rebuild_failed(&mut self, work: Work, copy: bool) {
        let why = "an earlier rebuild failed".to_owned();
        self.guards[work.id].need = Some(Need { copy: true, why });
        self.done(work, if copy { "the copy failed" } else { "the rewind failed" });
    }

    /// Checkpoint, stop, wait until the target has all, one swap.
    fn hand_over(&mut self, work: Work, to: &str) {
        let id = work.id;
        let Some(to) = id_of(to) else {
            return self.done(work, "no such target");
        };
        let delay = self.random.range(50, 600) * MS;
        let Some(term) = self.guards[id].view.term.clone() else {
            return;
        };
        self.step(work, delay, move |world| {
            let current = world.guards[id].view.term.as_ref().map(|it| it.revision);
            if current != Some(term.revision) || !world.databases[id].answers() {
                return world.done(work, "the switchover is over already");
            }
            world.stop(id);
            let is = move |world: &Self| matches!(world.databases[id].proc, Proc::Down { .. });
            world.when(work, is, move |world| {
                if !world.databases[id].disk.clean {
                    return world.done(work, "it did not stop cleanly");
                }
                let end = world.position(id);
                // The rest of the switchover's time, and no more of it than is good for clients.
                let until = world.now + 3 * SECOND;
                world.hand_over_when(work, to, end, until);
            });
        });
    }

    fn hand_over_when(&mut self, work: Work, to: Id, end: Position, until: Time) {
        let id = work.id;
        let has = self.databases[to].answers()
            && self.network.both(id, to, Kind::Database)
            && self.position(to) == end
            && self.databases[to].disk.flushed_end() == end.lsn.0;
        let at = self.timestamp(id);
        let Some(term) = self.guards[id].view.term.clone() else {
            return;
        };
        if term.value.phase != Phase::Switching {
            return self.done(work, "something came between");
        }
        let next = if has {
            term.value.hand_over(end, end, at)
        } else if self.now >= until {
            term.value.undo_switch(NAMES[id], "the target did not get it all", at)
        } else {
            return self.step(work, 20 * MS, move |world| world.hand_over_when(work, to, end, until));
        };
        let Some(next) = next else {
            return self.done(work, "something came between");
        };
        let expected = vec![(Key::Term, term.revision)];
        self.swap_term(id, next, expected, Vec::new(), move |world, answer| {
            let how = match answer {
                Answer::Done(_) => "handed over, or undone",
                Answer::Changed => "something came between",
                _ => "handed over or not, nobody said",
            };
            world.done(work, how);
        });
    }
}
