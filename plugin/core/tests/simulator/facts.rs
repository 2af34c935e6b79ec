//! What one guard knows, as the real one fills it in.

use std::{collections::BTreeMap, time::Duration};

use ha_core::{
    agreement::Phase,
    decide::{Database, Facts, NodeSettings, Process, Seen, SenderView, Settings, StoreView},
    lsn::{Lsn, Position},
    report::NodeRole,
};

use crate::{
    database::Proc,
    world::{Id, NAMES, NODES, Setup, Time, World},
};

impl Setup {
    pub(crate) fn has_data(&self, id: Id) -> bool {
        !(self.witness && id == NODES - 1)
    }

    fn settings(&self, id: Id) -> Settings {
        let node = |id: Id| {
            let settings = NodeSettings {
                region: format!("region-{}", NAMES[id]),
                data: self.has_data(id),
                priority: u32::try_from(id).unwrap_or_default() * 10,
                forbidden: None,
            };
            (NAMES[id].to_owned(), settings)
        };
        Settings {
            me: NAMES[id].to_owned(),
            nodes: (0..NODES).map(node).collect(),
            timing: self.profile.timing(),
            policy: self.policy,
            mode: self.mode,
        }
    }
}

fn passed(now: Time, since: Time) -> Duration {
    Duration::from_micros(now.saturating_sub(since))
}

impl World {
    pub(crate) fn facts(&mut self, id: Id) -> Facts {
        let store = self.store_view(id);
        let database = self.look(id);
        let lease = self.holding(id);
        let guard = &self.guards[id];
        Facts {
            settings: self.setup.settings(id),
            store,
            promise: guard.promise,
            database,
            lease,
            votes: guard.votes.clone(),
            barrier: guard.barrier.clone(),
            busy: guard.job.map(|(job, _)| job),
        }
    }

    fn store_view(&mut self, id: Id) -> StoreView {
        let now = self.moment(id);
        let real = self.timestamp(id);
        let guard = &self.guards[id];
        let view = &guard.view;
        let timing = &guard.timing;
        let silence = now.largest_since(view.answered.unwrap_or(guard.started));
        let fresh = silence <= timing.renew + timing.call_timeout * 2;
        let age = |since: Option<crate::clocks::Moment>| since.map_or(Duration::ZERO, |it| now.smallest_since(it));
        let term = view.term.as_ref();
        let members: BTreeMap<String, Seen> = view
            .members
            .iter()
            .map(|(id, known)| {
                let seen = Seen {
                    member: known.value.clone(),
                    age: now.smallest_since(known.since),
                };
                (NAMES[*id].to_owned(), seen)
            })
            .collect();
        let today = term.map_or(0, |term| {
            let day = |at: &&jiff::Timestamp| (real.as_second() - at.as_second()).abs() < 86_400;
            term.value.automatic.iter().filter(day).count()
        });
        let switch_left = term.and_then(|term| {
            let switch = term.value.switch.as_ref()?;
            let whole = switch.until.as_microsecond() - switch.started_at.as_microsecond();
            let whole = Duration::from_micros(whole.max(0).cast_unsigned());
            let since = view.switching_since?;
            Some(whole.saturating_sub(now.largest_since(since)))
        });
        StoreView {
            answers: view.answers && view.answered.is_some() && fresh,
            silence,
            went_back: view.went_back.clone(),
            term: term.map(|it| it.value.clone()),
            affirmed: guard.affirmed,
            term_age: age(term.map(|it| it.since)),
            active_for: age(view.active_since),
            sealing_for: age(view.sealing_since),
            lease: view.lease.as_ref().map(|it| it.value.clone()),
            lease_age: age(view.lease.as_ref().map(|it| it.since)),
            pause: view.pause.as_ref().map(|it| it.value.clone()),
            members,
            automatic_today: u32::try_from(today).unwrap_or(u32::MAX),
            founder: id == 0,
            switch_left: switch_left.filter(|_| term.is_some_and(|it| it.value.phase == Phase::Switching)),
        }
    }

    fn look(&mut self, id: Id) -> Database {
        let clock = self.moment(id);
        let waiting = !self.databases[id].waiting.is_empty() && self.databases[id].answers();
        let guard = &mut self.guards[id];
        guard.waiting_since = if waiting {
            guard.waiting_since.or(Some(clock))
        } else {
            None
        };
        let waiting_for = guard.waiting_since.map(|it| clock.smallest_since(it));
        let guard = &self.guards[id];
        let database = &self.databases[id];
        let disk = &database.disk;
        let now = self.now;
        let process = match database.proc {
            _ if disk.ruined => Process::Ruined,
            _ if !disk.exists => Process::Absent,
            Proc::Down { since } => Process::Stopped {
                since: passed(now, since),
                clean: disk.clean,
                standby: disk.standby,
            },
            Proc::Starting { since } => Process::Starting {
                since: passed(now, since),
            },
            Proc::Primary | Proc::Stopping | Proc::Replica => Process::Running,
        };
        let answers = database.answers();
        let primary = database.proc == Proc::Primary;
        let position = Position {
            timeline: disk.timeline,
            lsn: Lsn(disk.end()),
        };
        let receives = database.receiver.and_then(|it| self.lines.get(&it));
        let heard = receives.is_some_and(|it| it.streaming && passed(now, it.heard_at) <= Duration::from_secs(3));
        let senders = self
            .lines
            .values()
            .filter(|it| answers && it.primary == id && it.sender)
            .map(|it| SenderView {
                node: NAMES[it.standby].to_owned(),
                epoch: Some(it.epoch),
                streaming: it.streaming,
                counted: true,
                flushed: it.flushed.map(Lsn),
                silence: Some(passed(now, it.replied_at)),
            });
        let stopped = matches!(process, Process::Stopped { clean: true, .. });
        Database {
            process,
            role: answers.then_some(if primary { NodeRole::Primary } else { NodeRole::Replica }),
            position: (answers || stopped).then_some(position),
            replayed: answers.then_some(position.lsn),
            sealed: guard.sealed.filter(|_| answers && !primary),
            follows: disk
                .upstream
                .filter(|_| answers)
                .map(|(node, epoch)| (NAMES[node].to_owned(), epoch)),
            streaming: answers && heard,
            names: answers.then(|| database.names.clone()),
            senders: senders.collect(),
            waiting_for,
            checkpointed: answers.then_some(disk.control),
            need: guard.need.clone(),
            permit: database.permit,
        }
    }
}
