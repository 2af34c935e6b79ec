//! What was decided, carried out: each change of the store is one swap on what was seen.

use std::collections::BTreeMap;

use ha_core::{
    agreement::{AcceptLoss, Campaign, History, Lease, Reason, Term},
    decide::{Act, Action, Facts, Job},
    lsn::Lsn,
};

use crate::{
    store::{Answer, Ask, Key, Value},
    world::{Id, NAMES, World, id_of},
};

/// The revisions that a decision was made on.
struct Seen {
    term: u64,
    lease: u64,
}

impl World {
    pub(crate) fn perform(&mut self, id: Id, act: Act, facts: &Facts) {
        let view = &self.guards[id].view;
        let seen = Seen {
            term: view.term.as_ref().map_or(0, |it| it.revision),
            lease: view.lease.as_ref().map_or(0, |it| it.revision),
        };
        if act.action.is_job() {
            return self.begin(id, act.action, facts);
        }
        if act.action == Action::Renew {
            return self.renew(id, facts, &seen);
        }
        if self.guards[id].swapping {
            return;
        }
        let at = self.timestamp(id);
        let me = NAMES[id];
        let term = facts.store.term.as_ref();
        let mut expected = vec![(Key::Term, seen.term)];
        let mut write: Vec<(Key, Option<Value>)> = Vec::new();
        let next: Option<Term> = match act.action {
            Action::Found => {
                let data = facts.data_nodes();
                let timeline = self.databases[id].disk.timeline;
                Some(Term::first(me, timeline, data, facts.settings.mode, Vec::new(), at))
            }
            Action::Campaign {
                reason,
                detail,
                compare_lease,
                fenced,
            } => {
                expected.push((Key::Pause, 0));
                if compare_lease {
                    expected.push((Key::Lease, seen.lease));
                }
                let campaign = Campaign {
                    by: me.to_owned(),
                    reason,
                    detail,
                    automatic: matches!(reason, Reason::PrimaryDown | Reason::DatabaseGone),
                    started_at: at,
                    accept_loss: fenced.map(|fenced| AcceptLoss {
                        by: me.to_owned(),
                        fenced,
                    }),
                    wanted: None,
                    sealed: BTreeMap::new(),
                    chosen: None,
                    op: None,
                };
                term.map(|term| term.campaign(campaign))
            }
            Action::Choose { sealed } => term.and_then(|term| term.choose(me, sealed, at)),
            Action::Publish => term.and_then(|term| {
                let (before, last) = self.lineage(id)?;
                let next = term.publish(me, last.1, last.0, &before, at)?;
                write.push((
                    Key::History(term.epoch),
                    Some(Value::History(Box::new(history(term, me, last, at)))),
                ));
                Some(next)
            }),
            Action::SetVoters { voters, acks, joins } => {
                // As it was when it was decided on.
                if let Some(joins) = joins.as_deref().and_then(id_of) {
                    let revision = self.guards[id].view.members.get(&joins).map_or(0, |it| it.revision);
                    expected.push((Key::Member(joins), revision));
                }
                term.map(|term| term.with_voters(voters, acks, me, at))
            }
            Action::UndoSwitch => term.and_then(|term| term.undo_switch(me, &act.why, at)),
            _ => None,
        };
        let Some(next) = next else {
            return self.note(format_args!("{me} cannot do it: {}", act.why));
        };
        self.guards[id].swapping = true;
        self.swap_term(id, next, expected, write, move |world, answer| {
            world.guards[id].swapping = false;
            if !matches!(answer, Answer::Done(_)) {
                let how = if matches!(answer, Answer::Changed) {
                    "changed"
                } else {
                    "unknown"
                };
                world.note(format_args!("{me} swap: {how}"));
            }
            world.think(id);
        });
    }

    /// The timelines of the primary here: those it came from, and the last of them with where it was left.
    fn lineage(&self, id: Id) -> Option<(Vec<ha_core::agreement::Ancestor>, (u32, Lsn))> {
        let history = &self.databases[id].disk.history;
        let (last, before) = history.split_last()?;
        Some((before.to_vec(), (last.timeline, last.ended)))
    }

    pub(crate) fn swap_term(
        &mut self,
        id: Id,
        next: Term,
        expected: Vec<(Key, u64)>,
        mut write: Vec<(Key, Option<Value>)>,
        then: impl FnOnce(&mut Self, Answer) + 'static,
    ) {
        let value = Value::Term(Box::new(next));
        write.push((Key::Term, Some(value.clone())));
        let sent = self.moment(id);
        // Until it is answered, both what is there and what was sent count.
        let affirmed = std::mem::replace(&mut self.guards[id].affirmed, false);
        self.ask(id, Ask::Swap { expected, write }, move |world, answer| {
            match answer {
                Answer::Done(revision) => {
                    world.answered(id, sent);
                    let now = world.moment(id);
                    let guard = &mut world.guards[id];
                    guard.remembered = guard.remembered.max(revision);
                    guard.affirmed = true;
                    guard.view.own(Key::Term, &value, revision, now);
                }
                Answer::Changed => {
                    world.guards[id].affirmed = affirmed;
                    world.answered(id, sent);
                }
                Answer::Unknown => world.guards[id].view.answers = false,
                Answer::Entries(..) => {}
            }
            then(world, answer);
        });
    }

    /// On success the right to write lasts until `hold` after this was sent.
    fn renew(&mut self, id: Id, facts: &Facts, seen: &Seen) {
        let Some(term) = facts.store.term.as_ref() else { return };
        let sent = self.moment(id);
        let busy = self.guards[id].sent.is_some_and(|it| {
            let timing = self.guards[id].timing;
            self.guards[id].view.answered.is_some() && sent.largest_since(it) < timing.renew.min(timing.call_timeout)
        });
        if busy && facts.lease.epoch != 0 {
            return;
        }
        let lease = Lease {
            epoch: term.epoch,
            node: NAMES[id].to_owned(),
            counter: facts.store.lease.as_ref().map_or(0, |it| it.counter) + 1,
            written: facts.database.position,
            sent_at: self.timestamp(id),
        };
        self.guards[id].sent = Some(sent);
        let value = Value::Lease(lease);
        let ask = Ask::Swap {
            expected: vec![(Key::Term, seen.term), (Key::Lease, seen.lease)],
            write: vec![(Key::Lease, Some(value.clone()))],
        };
        let epoch = term.epoch;
        self.ask(id, ask, move |world, answer| match answer {
            Answer::Done(revision) => {
                world.answered(id, sent);
                let now = world.moment(id);
                let guard = &mut world.guards[id];
                guard.holding = Some((epoch, sent));
                guard.view.own(Key::Lease, &value, revision, now);
            }
            Answer::Changed => world.answered(id, sent),
            _ => world.guards[id].view.answers = false,
        });
    }

    /// In a task of its own; a fence ends whatever is under way.
    fn begin(&mut self, id: Id, action: Action, facts: &Facts) {
        let job = match &action {
            Action::Seal { .. } => Job::Seal,
            Action::StartSealed | Action::StartPrimary { .. } => Job::Start,
            Action::Fence | Action::Disown => Job::Stop,
            Action::Promote { .. } => Job::Promote,
            Action::SetNames { .. } | Action::TakeBarrier { .. } | Action::Checkpoint => Job::Names,
            Action::Follow { .. } => Job::Follow,
            Action::Rebuild { .. } | Action::Copy { .. } => Job::Rebuild,
            Action::HandOver { .. } => Job::HandOver,
            _ => return,
        };
        let fence = job == Job::Stop;
        if self.guards[id].job.is_some() && !fence {
            return;
        }
        let guard = &mut self.guards[id];
        guard.jobs += 1;
        let ticket = guard.jobs;
        guard.job = Some((job, ticket));
        self.note(format_args!("{} begins {action:?}", NAMES[id]));
        self.work(id, ticket, action, facts);
    }
}

fn history(term: &Term, me: &str, last: (u32, Lsn), at: jiff::Timestamp) -> History {
    let campaign = term.campaign.as_ref();
    History {
        epoch: term.epoch,
        node: me.to_owned(),
        timeline: term.own_timeline(),
        start: last.1,
        parent: Some(last.0),
        reason: campaign.map_or(Reason::Retry, |it| it.reason),
        detail: String::new(),
        by: me.to_owned(),
        sealed: campaign.map(|it| it.sealed.clone()).unwrap_or_default(),
        lost_bytes: None,
        accept_loss: campaign.is_some_and(|it| it.accept_loss.is_some()),
        op: None,
        at,
        steps: Vec::new(),
    }
}
