//! One look at everything that a change of primary is decided on, asked side by side.

use std::collections::BTreeMap;

use futures::future::join_all;
use ha_core::{
    agreement::{History, Lease, Member, Pause, Term},
    switch::{NodeFacts, Refusal, World},
};
use ha_store::Revision;
use jiff::Timestamp;

use super::{Agreement, vitals};
use crate::{ask, error::Failed};

/// What the store says, with the revisions to swap against.
pub(crate) struct Look {
    pub(crate) term: Term,
    pub(crate) seen: Revision,
    pub(crate) lease: Option<Lease>,
    pub(crate) pause: Option<Pause>,
    /// [`Revision::ABSENT`] without one.
    pub(crate) pause_seen: Revision,
    pub(crate) members: BTreeMap<String, Member>,
    pub(crate) members_seen: BTreeMap<String, Revision>,
    pub(crate) histories: Vec<History>,
    /// Of the whole look: watching goes on from here.
    pub(crate) revision: Revision,
}

impl Look {
    pub(crate) fn newest(&self) -> Option<&History> {
        self.histories.iter().max_by_key(|it| it.epoch)
    }
}

impl Agreement {
    /// # Errors
    /// A store that does not answer; a cluster whose guards have not agreed on anything yet.
    pub(crate) async fn look(&self) -> Result<Look, Failed> {
        let snapshot = self.cluster.snapshot().await?;
        let Some((term, seen)) = snapshot.term else {
            return Err(Failed::refused(Refusal::new(
                "ha::agreement::none",
                "the guards have not agreed on a primary yet: the store has no term",
                "see whether they run: ha health; and what they say: ha status",
            )));
        };
        let (pause, pause_seen) = snapshot
            .pause
            .map_or((None, Revision::ABSENT), |(it, seen)| (Some(it), seen));
        let seen_at = snapshot.members.iter().map(|(node, (_, seen))| (node.clone(), *seen));
        Ok(Look {
            members_seen: seen_at.collect(),
            term,
            seen,
            lease: snapshot.lease.map(|(it, _)| it),
            pause,
            pause_seen,
            members: snapshot.members.into_iter().map(|(node, (it, _))| (node, it)).collect(),
            histories: snapshot.histories,
            revision: snapshot.revision,
        })
    }

    /// The same beside what each guard and each database says now.
    pub(crate) async fn world(&self) -> Result<(Look, World), Failed> {
        let client = ask::client(self.timeout)?;
        let asked = self.nodes.iter().map(|node| {
            let client = &client;
            async move {
                let report = async {
                    match &node.guard {
                        _ if node.off => Err("it is switched off".to_owned()),
                        None => Err("its guard has no address".to_owned()),
                        Some(guard) => ask::report_at(client, guard).await,
                    }
                };
                tokio::join!(report, vitals::of(self, node))
            }
        });
        let (look, answers) = tokio::join!(self.look(), join_all(asked));
        let look = look?;
        let nodes = self.nodes.iter().zip(answers).map(|(node, (report, vitals))| {
            let facts = NodeFacts {
                region: node.region.clone(),
                data: node.data,
                priority: node.priority,
                forbidden: node.forbidden.clone(),
                member: look.members.get(&node.name).cloned(),
                report,
                vitals,
                off: node.off,
            };
            (node.name.clone(), facts)
        });
        let broken = self.workspace.timing.violations(self.round_trip());
        let world = World {
            now: Timestamp::now(),
            term: look.term.clone(),
            lease: look.lease.clone(),
            pause: look.pause.clone(),
            nodes: nodes.collect(),
            timing: self.workspace.timing,
            policy: self.workspace.failover,
            broken_timing: broken.into_iter().map(|(rule, why)| format!("{rule}: {why}")).collect(),
            last_history: look.histories.iter().map(|it| it.epoch).max().unwrap_or_default(),
        };
        Ok((look, world))
    }
}
