//! How far a change of primary is, told from what lies in the store: a milestone each time it is another one.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    agreement::{Epoch, History, Member, Node, Phase, Reason, SwitchOutcome, Term},
    report::{DatabaseState, NodeRole},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Switchover,
    Failover,
}

/// One look at what the guards have written.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot<'a> {
    pub term: &'a Term,
    pub members: &'a BTreeMap<Node, Member>,
    /// Of the newest epoch.
    pub history: Option<&'a History>,
    /// Since the beginning, by the clock of whoever looks.
    pub at: Duration,
}

/// A step that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Milestone {
    pub step: &'static str,
    pub node: Option<Node>,
    pub took: Duration,
    pub detail: Option<String>,
}

/// How it came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// `leader` is primary of `epoch`.
    Active { epoch: Epoch, leader: Node, timeline: u32 },
    /// As before, unless somebody was made primary all the same: `standing` says it.
    Undone { why: String },
}

/// What is waited for, and who could say more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waits {
    pub step: &'static str,
    pub node: Option<Node>,
    pub what: String,
}

/// Remembers what was told already.
#[derive(Clone, Debug)]
pub struct Progress {
    kind: Kind,
    op: String,
    /// Present when it began.
    epoch: Epoch,
    from: Node,
    to: Option<Node>,
    told: BTreeSet<(&'static str, Node)>,
    last: Duration,
    active_at: Option<Duration>,
    ending: Option<Ending>,
    /// Nodes that should stream from the new primary; the others are told of when they do, and not waited for.
    expected: BTreeSet<Node>,
    /// Those of them that do not yet.
    left: BTreeSet<Node>,
}

impl Progress {
    /// `term` is the one that the operation was agreed on in: its epoch is still the old one in a switchover, and the
    /// new one in a failover.
    pub fn new(kind: Kind, op: &str, epoch: Epoch, from: &str, to: Option<&str>) -> Self {
        Self {
            kind,
            op: op.to_owned(),
            epoch,
            from: from.to_owned(),
            to: to.map(str::to_owned),
            told: BTreeSet::new(),
            last: Duration::ZERO,
            active_at: None,
            ending: None,
            expected: BTreeSet::new(),
            left: BTreeSet::new(),
        }
    }

    /// It is over when these stream from the new primary.
    #[must_use]
    pub fn expecting(mut self, nodes: BTreeSet<Node>) -> Self {
        self.expected = nodes;
        self
    }

    pub fn ending(&self) -> Option<&Ending> {
        self.ending.as_ref()
    }

    /// There is a primary again, or as before, and everybody who was expected to follows it.
    pub fn is_over(&self) -> bool {
        match self.ending {
            Some(Ending::Undone { .. }) => true,
            Some(Ending::Active { .. }) => self.left.is_empty(),
            None => false,
        }
    }

    /// Steps that ended since the last look, in their order.
    pub fn look(&mut self, now: Snapshot<'_>) -> Vec<Milestone> {
        let mut out = Vec::new();
        let term = now.term;
        if let Some(why) = self.undone(term) {
            if self.ending.is_none() {
                self.ending = Some(Ending::Undone { why });
            }
            return out;
        }
        let changed = term.epoch > self.epoch;
        if self.kind == Kind::Switchover {
            let stopped = now
                .members
                .get(&self.from)
                .is_some_and(|it| it.stopped || it.state == DatabaseState::Stopped);
            if changed || stopped {
                self.tell(&mut out, "stop", Some(self.from.clone()), None, now.at);
            }
        }
        if changed {
            self.campaign(&mut out, now);
        }
        if changed && term.phase == Phase::Active {
            self.active(&mut out, now);
        }
        out
    }

    /// What is missing now.
    pub fn waits(&self, now: Snapshot<'_>) -> Option<Waits> {
        let doing = |node: &Node| {
            let member = now.members.get(node)?;
            member.blocked.clone().or_else(|| member.doing.clone())
        };
        let waits = |step, node: Option<&Node>, what: String| {
            let more = node.and_then(doing).map(|it| format!(": {it}")).unwrap_or_default();
            Some(Waits {
                step,
                node: node.cloned(),
                what: format!("{what}{more}"),
            })
        };
        let term = now.term;
        match &self.ending {
            Some(Ending::Undone { .. }) => None,
            Some(Ending::Active { leader, .. }) => {
                let node = self.left.first()?;
                waits(
                    "follow",
                    Some(node),
                    format!("{node} does not stream from {leader} yet"),
                )
            }
            None if self.kind == Kind::Switchover && term.epoch <= self.epoch => {
                let to = self.to.as_deref().unwrap_or("the target");
                if self.told.iter().any(|(step, _)| *step == "stop") {
                    waits("hand over", Some(&self.from), format!("{to} must have all of the log"))
                } else {
                    waits("stop", Some(&self.from), format!("{} is about to stop", self.from))
                }
            }
            None => match term.chosen() {
                Some(node) => waits("promote", Some(node), format!("{node} is being made primary")),
                None => {
                    let sealed = sealed(term, now.members);
                    let missing = term.voters.iter().find(|node| !sealed.contains(*node));
                    let needed = term.seals_needed();
                    let have = format!("{} of {needed} seals that are needed", sealed.len());
                    waits("seal", missing, have)
                }
            },
        }
    }

    fn undone(&self, term: &Term) -> Option<String> {
        if self.kind != Kind::Switchover {
            return None;
        }
        let end = term.last_switch.as_ref().filter(|it| it.op == self.op)?;
        (end.outcome == SwitchOutcome::Undone).then(|| end.detail.clone())
    }

    fn campaign(&mut self, out: &mut Vec<Milestone>, now: Snapshot<'_>) {
        let Some(campaign) = &now.term.campaign else { return };
        if self.kind == Kind::Switchover {
            let detail = campaign.sealed.get(&self.from).map(|at| {
                format!(
                    "{} stopped at {at}, and {} has all of it",
                    self.from,
                    campaign.chosen.as_deref().unwrap_or("the target")
                )
            });
            self.tell(out, "hand over", Some(self.from.clone()), detail, now.at);
            return;
        }
        for (node, member) in now.members {
            if let Some(position) = member.sealed_for(now.term.epoch) {
                self.tell(out, "seal", Some(node.clone()), Some(position.to_string()), now.at);
            }
        }
        if let Some(chosen) = &campaign.chosen {
            let detail = format!("{chosen} has most of {} sealed", campaign.sealed.len());
            self.tell(out, "choose", Some(chosen.clone()), Some(detail), now.at);
        }
        let promoted = |node: &Node| {
            now.members
                .get(node)
                .is_some_and(|it| it.role == Some(NodeRole::Primary))
        };
        if let Some(chosen) = campaign.chosen.clone().filter(|it| promoted(it)) {
            self.tell(out, "promote", Some(chosen), None, now.at);
        }
    }

    fn active(&mut self, out: &mut Vec<Milestone>, now: Snapshot<'_>) {
        let term = now.term;
        let leader = term.leader.clone();
        if self.kind == Kind::Switchover {
            self.tell(out, "hand over", Some(self.from.clone()), None, now.at);
        }
        self.tell(
            out,
            "promote",
            Some(leader.clone()),
            Some(format!("timeline {}", term.timeline)),
            now.at,
        );
        let took = now.history.filter(|it| it.epoch == term.epoch).map(|it| {
            let steps: Vec<String> = it
                .steps
                .iter()
                .map(|step| format!("{} {} ms", step.step, step.took.as_millis()))
                .collect();
            steps.join(", ")
        });
        let detail = took.filter(|it| !it.is_empty()).map_or_else(
            || format!("epoch {}", term.epoch),
            |took| format!("epoch {}; by its guard: {took}", term.epoch),
        );
        self.tell(out, "publish", Some(leader.clone()), Some(detail), now.at);
        let since = *self.active_at.get_or_insert(now.at);
        self.ending = Some(Ending::Active {
            epoch: term.epoch,
            leader: leader.clone(),
            timeline: term.timeline,
        });
        self.left = self.expected.clone();
        self.left.remove(&leader);
        for (node, member) in now.members {
            let follows = member
                .follows
                .as_ref()
                .is_some_and(|it| it.node == leader && it.epoch == term.epoch && it.streaming);
            if follows && *node != leader {
                self.left.remove(node);
                let detail = (*node == self.from).then(|| "the old primary".to_owned());
                if self.told.insert(("follow", node.clone())) {
                    out.push(Milestone {
                        step: "follow",
                        node: Some(node.clone()),
                        took: now.at.saturating_sub(since),
                        detail,
                    });
                }
            }
        }
    }

    /// Once each; it took as long as nothing else had ended.
    fn tell(
        &mut self,
        out: &mut Vec<Milestone>,
        step: &'static str,
        node: Option<Node>,
        detail: Option<String>,
        at: Duration,
    ) {
        if !self.told.insert((step, node.clone().unwrap_or_default())) {
            return;
        }
        out.push(Milestone {
            step,
            node,
            took: at.saturating_sub(self.last),
            detail,
        });
        self.last = at;
    }
}

/// Who is primary after a switchover of `epoch` was undone. `newest` is the history of the newest epoch.
pub fn standing(epoch: Epoch, term: &Term, newest: Option<&History>) -> String {
    if term.epoch <= epoch {
        return format!("{} is primary as before", term.leader);
    }
    let campaign = term.campaign.as_ref().map(|it| it.reason);
    let reason = campaign.or_else(|| newest.filter(|it| it.epoch == term.epoch).map(|it| it.reason));
    let between = match reason {
        // One that went to another node than was asked for is told as its own error.
        None | Some(Reason::First | Reason::Switchover) => "",
        Some(Reason::PrimaryDown | Reason::DatabaseGone | Reason::Operator | Reason::Witness | Reason::Retry) => {
            "a failover came between: "
        }
    };
    match term.phase {
        Phase::Sealing => format!("{between}nobody leads epoch {} yet", term.epoch),
        Phase::Active | Phase::Switching => format!("{between}{} leads epoch {} now", term.leader, term.epoch),
    }
}

fn sealed(term: &Term, members: &BTreeMap<Node, Member>) -> BTreeSet<Node> {
    let of_term = |member: &Member| member.sealed_for(term.epoch).is_some();
    let sealed = members
        .iter()
        .filter(|(node, it)| term.voters.contains(*node) && of_term(it));
    sealed.map(|(node, _)| node.clone()).collect()
}
