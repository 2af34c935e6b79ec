//! `term`: one value that says who may write, and the only ways it changes.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Epoch, FENCED_NAMES, Node, quorum};
use crate::{
    agent::epoch_stream_name,
    lsn::{Lsn, Position},
    model::SyncMode,
};

/// Where the cluster is in the life of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// `leader` may write.
    Active,
    /// Nobody may. Voters promise and seal, and the furthest of them is made primary.
    Sealing,
    /// `leader` is about to hand over to `switch.to`; until it has, everything can be undone.
    Switching,
}

impl Phase {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Sealing => "sealing",
            Self::Switching => "switching",
        }
    }
}

/// Why the primary changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The cluster was made.
    First,
    /// Enough observers say that the primary is down.
    PrimaryDown,
    /// The leader's own guard cannot bring its database back.
    DatabaseGone,
    /// `ha switchover`, `ha failback`.
    Switchover,
    /// `ha failover`.
    Operator,
    /// `ha failover --witness`: no guard answered, and a person does what guards do over SQL.
    Witness,
    /// The campaign before this one came to nothing.
    Retry,
}

impl Reason {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::PrimaryDown => "primary_down",
            Self::DatabaseGone => "database_gone",
            Self::Switchover => "switchover",
            Self::Operator => "operator",
            Self::Witness => "witness",
            Self::Retry => "retry",
        }
    }
}

/// A timeline that the present one came from, and where it was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ancestor {
    pub timeline: u32,
    pub ended: Lsn,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Campaign {
    pub by: String,
    pub reason: Reason,
    pub detail: String,
    /// Nobody asked for it; counts against the limits.
    pub automatic: bool,
    pub started_at: Timestamp,
    /// Fewer seals than a quorum will do, as somebody decided.
    pub accept_loss: Option<AcceptLoss>,
    /// Preferred among equals.
    pub wanted: Option<Node>,
    /// The seals that the choice was made from; empty before.
    pub sealed: BTreeMap<Node, Position>,
    pub chosen: Option<Node>,
    pub op: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptLoss {
    pub by: String,
    /// How it is known that the old primary writes no more.
    pub fenced: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    pub op: String,
    pub to: Node,
    pub by: String,
    pub started_at: Timestamp,
    /// If it is not done then, it is undone.
    pub until: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SwitchOutcome {
    Done,
    Undone,
}

/// How the last switchover ended: the answer to whoever asked for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchEnd {
    pub op: String,
    pub to: Node,
    pub outcome: SwitchOutcome,
    pub detail: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Term {
    pub epoch: Epoch,
    pub phase: Phase,
    /// Who may write in this epoch; while sealing, who could before.
    pub leader: Node,
    /// The timeline of the last active epoch.
    pub timeline: u32,
    /// Whose acknowledgements count, the leader included.
    pub voters: BTreeSet<Node>,
    /// Remote acknowledgements that a commit waits for.
    pub acks: u32,
    pub mode: SyncMode,
    /// Nodes that an operator left out of the voters (`ha db voters --drop`); they may stream all the same.
    #[serde(default)]
    pub excluded: BTreeSet<Node>,
    /// Where `timeline` came from, oldest first.
    pub lineage: Vec<Ancestor>,
    pub campaign: Option<Campaign>,
    pub switch: Option<Switch>,
    pub last_switch: Option<SwitchEnd>,
    /// Timelines that were given out with a person as the witness, and to whom: no guard wrote that down beside its data.
    #[serde(default)]
    pub witnessed: BTreeMap<u32, Node>,
    /// Failovers nobody asked for, since the last `ha ack`; newest last.
    pub automatic: Vec<Timestamp>,
    pub changed_by: String,
    pub changed_at: Timestamp,
}

impl Term {
    /// Of a cluster that was just made, or that knew no epochs before.
    pub fn first(
        leader: &str,
        timeline: u32,
        data: BTreeSet<Node>,
        mode: SyncMode,
        lineage: Vec<Ancestor>,
        at: Timestamp,
    ) -> Self {
        let (voters, acks) = Self::demanded(mode, leader, data);
        Self {
            epoch: Epoch::from(timeline),
            phase: Phase::Active,
            leader: leader.to_owned(),
            timeline,
            voters,
            acks,
            mode,
            excluded: BTreeSet::new(),
            lineage,
            campaign: None,
            switch: None,
            last_switch: None,
            witnessed: BTreeMap::new(),
            automatic: Vec::new(),
            changed_by: leader.to_owned(),
            changed_at: at,
        }
    }

    /// Voters and acknowledgements of a mode from the start, when nothing was acknowledged yet. A cluster of one node
    /// has nobody to wait for.
    fn demanded(mode: SyncMode, leader: &str, data: BTreeSet<Node>) -> (BTreeSet<Node>, u32) {
        if mode == SyncMode::Async || data.len() < 2 {
            return (BTreeSet::from([leader.to_owned()]), 0);
        }
        (data, 1)
    }

    /// Timeline numbers are given out by the store: it is the epoch's.
    pub fn own_timeline(&self) -> u32 {
        u32::try_from(self.epoch).unwrap_or(u32::MAX)
    }

    pub fn is_active(&self, node: &str) -> bool {
        self.phase == Phase::Active && self.leader == node
    }

    pub fn chosen(&self) -> Option<&Node> {
        self.campaign.as_ref()?.chosen.as_ref()
    }

    /// This epoch is decided over SQL.
    pub fn is_witnessed(&self) -> bool {
        self.campaign.as_ref().is_some_and(|it| it.reason == Reason::Witness)
    }

    /// The timeline was given to this node with a person as the witness.
    pub fn gave(&self, timeline: u32, node: &str) -> bool {
        self.witnessed.get(&timeline).is_some_and(|it| it == node)
    }

    /// `synchronous_standby_names` of `node` as primary of this epoch. Never empty unless nothing is to be waited for.
    pub fn names(&self, node: &str) -> String {
        names_of(&self.voters, self.acks, node, self.epoch)
    }

    /// Members of `voters` that must seal before another primary is made.
    pub fn seals_needed(&self) -> usize {
        quorum::seals_needed(self.voters.len(), self.acks as usize)
    }

    /// A new epoch, in which nobody may write until a sealed quorum has chosen. From any phase.
    pub fn campaign(&self, campaign: Campaign) -> Self {
        let mut next = self.clone();
        next.epoch += 1;
        next.phase = Phase::Sealing;
        next.changed_by.clone_from(&campaign.by);
        next.changed_at = campaign.started_at;
        if campaign.automatic {
            next.automatic.push(campaign.started_at);
        }
        if let Some(switch) = next.switch.take() {
            next.last_switch = Some(SwitchEnd {
                op: switch.op,
                to: switch.to,
                outcome: SwitchOutcome::Undone,
                detail: format!("a failover came between: {}", campaign.detail),
            });
        }
        next.campaign = Some(campaign);
        next
    }

    /// This node is made primary, from these seals. None outside a campaign or when one was chosen already.
    pub fn choose(&self, node: &str, sealed: BTreeMap<Node, Position>, at: Timestamp) -> Option<Self> {
        let mut next = self.clone();
        let campaign = next.campaign.as_mut().filter(|it| it.chosen.is_none())?;
        campaign.chosen = Some(node.to_owned());
        campaign.sealed = sealed;
        if campaign.reason == Reason::Witness {
            next.witnessed.insert(self.own_timeline(), node.to_owned());
        }
        node.clone_into(&mut next.changed_by);
        next.changed_at = at;
        Some(next)
    }

    /// The chosen is primary on the epoch's timeline, which began at `start`. None for anybody else.
    pub fn publish(
        &self,
        node: &str,
        start: Lsn,
        from: u32,
        lineage_before: &[Ancestor],
        at: Timestamp,
    ) -> Option<Self> {
        let chosen = self.phase == Phase::Sealing && self.chosen().is_some_and(|it| it == node);
        if !chosen {
            return None;
        }
        let mut next = self.clone();
        next.phase = Phase::Active;
        node.clone_into(&mut next.leader);
        next.timeline = self.own_timeline();
        next.lineage = lineage_before.to_vec();
        next.lineage.push(Ancestor {
            timeline: from,
            ended: start,
        });
        let campaign = next.campaign.take();
        if self.acks == 0 {
            next.voters.clear();
        }
        // A leader is one of its voters, also one that was handed the role or chosen at a loss while it was none: what is
        // acknowledged is on it, and one more has to seal for that.
        next.voters.insert(node.to_owned());
        if let Some((op, campaign)) = campaign.and_then(|it| Some((it.op.clone()?, it)))
            && campaign.reason == Reason::Switchover
        {
            let wanted = campaign.wanted.unwrap_or_default();
            let done = wanted == node;
            next.last_switch = Some(SwitchEnd {
                op,
                detail: if done {
                    String::new()
                } else {
                    format!("{node} was made primary instead")
                },
                outcome: if done {
                    SwitchOutcome::Done
                } else {
                    SwitchOutcome::Undone
                },
                to: wanted,
            });
        }
        node.clone_into(&mut next.changed_by);
        next.changed_at = at;
        Some(next)
    }

    /// The leader is to hand over. None unless it is active and `switch.to` is somebody else.
    pub fn begin_switch(&self, switch: Switch) -> Option<Self> {
        if self.phase != Phase::Active || switch.to == self.leader {
            return None;
        }
        let mut next = self.clone();
        next.phase = Phase::Switching;
        next.changed_by.clone_from(&switch.by);
        next.changed_at = switch.started_at;
        next.switch = Some(switch);
        Some(next)
    }

    /// The same epoch goes on with the same leader, which may start its database again after this was agreed and not
    /// before. None outside a switchover.
    pub fn undo_switch(&self, by: &str, why: &str, at: Timestamp) -> Option<Self> {
        let mut next = self.clone();
        let switch = next.switch.take().filter(|_| self.phase == Phase::Switching)?;
        next.phase = Phase::Active;
        next.last_switch = Some(SwitchEnd {
            op: switch.op,
            to: switch.to,
            outcome: SwitchOutcome::Undone,
            detail: why.to_owned(),
        });
        by.clone_into(&mut next.changed_by);
        next.changed_at = at;
        Some(next)
    }

    /// The leader has stopped at `stopped_at` and the target has all of it: the target is chosen in the same swap.
    pub fn hand_over(&self, stopped_at: Position, target: Position, at: Timestamp) -> Option<Self> {
        let switch = self.switch.as_ref().filter(|_| self.phase == Phase::Switching)?;
        let campaign = Campaign {
            by: self.leader.clone(),
            reason: Reason::Switchover,
            detail: format!("asked for by {}", switch.by),
            automatic: false,
            started_at: switch.started_at,
            accept_loss: None,
            wanted: Some(switch.to.clone()),
            sealed: BTreeMap::from([(self.leader.clone(), stopped_at), (switch.to.clone(), target)]),
            chosen: Some(switch.to.clone()),
            op: Some(switch.op.clone()),
        };
        let mut next = self.clone();
        next.switch = None;
        let mut next = next.campaign(campaign);
        next.changed_at = at;
        Some(next)
    }

    /// Published only in the order of protocol §4: stronger after it is enforced, weaker before.
    pub fn with_voters(&self, voters: BTreeSet<Node>, acks: u32, by: &str, at: Timestamp) -> Self {
        let mut next = self.clone();
        next.voters = voters;
        next.acks = acks;
        by.clone_into(&mut next.changed_by);
        next.changed_at = at;
        next
    }

    /// Who is to be left out of the voters; the leader then drops or adds them step by step.
    pub fn with_excluded(&self, excluded: BTreeSet<Node>, by: &str, at: Timestamp) -> Self {
        let mut next = self.clone();
        next.excluded = excluded;
        by.clone_into(&mut next.changed_by);
        next.changed_at = at;
        next
    }

    /// What is wanted from now on; the leader then changes voters and acknowledgements step by step.
    pub fn with_mode(&self, mode: SyncMode, by: &str, at: Timestamp) -> Self {
        let mut next = self.clone();
        next.mode = mode;
        by.clone_into(&mut next.changed_by);
        next.changed_at = at;
        next
    }
}

/// What PostgreSQL is told to wait for.
pub(crate) fn names_of(voters: &BTreeSet<Node>, acks: u32, leader: &str, epoch: Epoch) -> String {
    if acks == 0 {
        return String::new();
    }
    let others: Vec<String> = voters
        .iter()
        .filter(|node| *node != leader)
        .map(|node| epoch_stream_name(node, epoch))
        .collect();
    if others.is_empty() {
        return FENCED_NAMES.to_owned();
    }
    format!("ANY {acks} ({})", others.join(", "))
}

/// Why a node at `own` cannot simply follow the primary of `timeline`; none when all it has is the primary's, too.
pub fn diverged(own: Position, timeline: u32, lineage: &[Ancestor]) -> Option<String> {
    if own.timeline == timeline {
        return None;
    }
    let Some(left) = lineage.iter().find(|it| it.timeline == own.timeline) else {
        return Some(format!(
            "it is on timeline {}, which timeline {timeline} did not come from",
            own.timeline
        ));
    };
    (own.lsn > left.ended).then(|| {
        format!(
            "it wrote up to {} on timeline {}, which was left at {}",
            own.lsn, own.timeline, left.ended
        )
    })
}
