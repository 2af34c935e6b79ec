use std::collections::BTreeSet;

use futures::future::join_all;
use ha_core::{
    agreement::{Adopted, Ancestor, Campaign, Reason, Remembered, seals_needed},
    report::AgreementReport,
    switch::{Refusal, World},
};
use ha_data::postgres::connect;
use ha_store::{Revision, Swap, Write};
use jiff::Timestamp;
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{Example, Flag, IntoValue, LabeledError, PipelineData, Signature, SyntaxShape, Type};

use super::pause::{changed, record};
use crate::{
    HaPlugin,
    agreement::{Agreement, Look, Node, Session, operation, swap},
    error::Failed,
    nu::{Count, args, table},
};

pub(super) struct Adopt;

#[derive(IntoValue)]
struct Row {
    status: String,
    /// The one in which the primary is chosen anew.
    epoch: Count,
    /// What the store said.
    epoch_before: Count,
    voters: Vec<String>,
    acks: u32,
    mode: String,
    why: String,
}

impl PluginCommand for Adopt {
    type Plugin = HaPlugin;

    fn name(&self) -> &str {
        "ha quorum adopt"
    }

    fn signature(&self) -> Signature {
        args::signature(self.name())
            .param(
                Flag::new("why")
                    .arg(SyntaxShape::String)
                    .desc("where this store came from; kept in the store and in the history")
                    .required(),
            )
            .param(args::dry_run())
            .input_output_type(Type::Nothing, Type::table())
    }

    fn description(&self) -> &str {
        "Go on with a store that was restored from an old copy"
    }

    fn extra_description(&self) -> &str {
        "A store that went back in time has forgotten who is primary and what was promised, so every guard stands still: the
primary goes on (in strict mode while a replica streams from it), and nobody takes over. If the right store can be brought
back, do that. If not, this says that the one there is is the store from now on: an epoch beyond every promise begins, every
node that answers seals, and the one with most of the log becomes primary, as in a failover; writes wait for about as long.
In strict mode nothing acknowledged is lost. It is refused while fewer guards answer than must seal, and while no guard says
that the store went back."
    }

    fn search_terms(&self) -> Vec<&str> {
        vec!["restore", "backup", "etcd", "went back", "recover", "disaster"]
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![Example {
            example: "ha quorum adopt --why \"all three disks lost, restored from last night\"",
            description: "After etcdctl snapshot restore on every member",
            result: None,
        }]
    }

    fn run(
        &self,
        plugin: &HaPlugin,
        engine: &EngineInterface,
        call: &EvaluatedCall,
        _input: PipelineData,
    ) -> Result<PipelineData, LabeledError> {
        let why: Option<String> = call.get_flag("why")?;
        let why = why.unwrap_or_default();
        let dry_run = call.has_flag("dry-run")?;
        let session = Session::open(plugin, engine, call)?;
        let agreement = session.agreement.clone();
        let row = session.wait(async {
            let (look, world) = agreement.world().await?;
            let mut plan = plan(&world)?;
            (plan.timeline, plan.lineage) = lineage(&agreement, plan.epoch).await?;
            if !dry_run {
                adopt(&agreement, &look, &plan, &why).await?;
            }
            Ok(Row {
                status: if dry_run { "planned" } else { "adopted" }.into(),
                epoch: Count(plan.epoch + 1),
                epoch_before: Count(look.term.epoch),
                voters: plan.voters.into_iter().collect(),
                acks: plan.acks,
                mode: plan.mode.as_str().to_owned(),
                why: why.clone(),
            })
        })?;
        if !dry_run {
            record(&session, "agreement.adopt", &row.status, Some(why));
        }
        Ok(table(vec![row], &["status", "epoch", "epoch_before"], call.head))
    }
}

/// By what the guards remember: the store is the one thing that cannot be asked.
fn plan(world: &World) -> Result<Remembered, Failed> {
    let answers = || world.nodes.values().filter_map(|it| it.report.as_ref().ok());
    let frozen = answers().any(|it| !it.store.healthy);
    let told: Vec<&AgreementReport> = answers().filter_map(|it| it.agreement.as_ref()).collect();
    let promised = world.nodes.values().filter_map(|it| Some(it.member.as_ref()?.promised));
    let epoch = told
        .iter()
        .flat_map(|it| [it.promised, it.epoch])
        .chain(promised)
        .chain([world.term.epoch, world.last_history])
        .max()
        .unwrap_or_default();
    if !frozen {
        return Err(Failed::refused(Refusal::new(
            "ha::agreement::not_gone_back",
            "no guard says that the store went back in time: there is nothing to adopt",
            "see what they say: ha quorum, ha status",
        )));
    }
    let voters: BTreeSet<String> = world
        .nodes
        .iter()
        .filter(|(_, it)| it.data)
        .map(|(node, _)| node.clone())
        .collect();
    // A guard that was started since knows only what the store says now.
    let newest = told
        .iter()
        .map(|it| it.epoch)
        .max()
        .filter(|it| *it >= world.term.epoch);
    let newest: Vec<_> = told.iter().filter(|it| Some(it.epoch) == newest).collect();
    let mode = newest.first().map_or(world.term.mode, |it| it.mode);
    let at_least = newest.iter().map(|it| it.acks).min().unwrap_or(world.term.acks);
    let most = u32::try_from(voters.len().saturating_sub(1)).unwrap_or_default();
    let acks = at_least.min(most);
    let needed = seals_needed(voters.len(), acks as usize);
    let able: Vec<&String> = world
        .nodes
        .iter()
        .filter(|(_, it)| it.data && it.answers())
        .map(|(node, _)| node)
        .collect();
    if able.len() < needed {
        let missing: Vec<&str> = voters
            .iter()
            .filter(|it| !able.contains(it))
            .map(String::as_str)
            .collect();
        return Err(Failed::refused(Refusal::new(
            "ha::agreement::too_few",
            format!(
                "{needed} of {} servers must seal to be sure of every acknowledged write, and {} do not answer",
                voters.len(),
                missing.join(", ")
            ),
            "bring them back: ha health, ha power on; then the same command again",
        )));
    }
    Ok(Remembered {
        epoch,
        timeline: world.term.timeline,
        lineage: world.term.lineage.clone(),
        voters,
        acks,
        mode,
    })
}

/// The newest timeline that any server's own files tell of, and where it came from. One beyond the last epoch is nobody's
/// whom the guards made primary.
async fn lineage(agreement: &Agreement, epoch: u64) -> Result<(u32, Vec<Ancestor>), Failed> {
    let asked = agreement.nodes.iter().filter(|node| node.data && !node.off);
    let answers = join_all(asked.map(|node| histories(agreement, node))).await;
    let known = answers.into_iter().flatten().flatten();
    let newest = known
        .filter(|(timeline, _)| u64::from(*timeline) <= epoch)
        .max_by_key(|it| it.0);
    match newest {
        Some(newest) => Ok(newest),
        None if epoch <= 1 => Ok((1, Vec::new())),
        None => Err(Failed::refused(Refusal::new(
            "ha::agreement::no_lineage",
            format!("no database tells where the timelines up to {epoch} came from"),
            "bring the databases back first: ha health, ha lag; then the same command again",
        ))),
    }
}

/// Each timeline that this server knows the origin of; none of one that does not answer.
async fn histories(agreement: &Agreement, node: &Node) -> Option<Vec<(u32, Vec<Ancestor>)>> {
    let options = agreement.session(node.postgres.as_deref()?, "ha adopt")?;
    let asked = async {
        let session = connect(&options).await.ok()?;
        session
            .query(
                "select name, pg_read_file('pg_wal/' || name) from pg_ls_waldir() where name like '%.history'",
                &[],
            )
            .await
            .ok()
    };
    let rows = tokio::time::timeout(agreement.timeout, asked).await.ok()??;
    let read = |(name, text): (String, String)| {
        let timeline = u32::from_str_radix(name.strip_suffix(".history")?, 16).ok()?;
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let ancestors = lines.filter_map(|line| {
            let mut words = line.split_whitespace();
            Some(Ancestor {
                timeline: words.next()?.parse().ok()?,
                ended: words.next()?.parse().ok()?,
            })
        });
        let ancestors: Vec<Ancestor> = ancestors.collect();
        // A placeholder only keeps its number from being given twice.
        (!ancestors.is_empty()).then_some((timeline, ancestors))
    };
    Some(rows.iter().filter_map(|row| read((row.get(0), row.get(1)))).collect())
}

/// The word first, which means nothing before the term is where it says.
async fn adopt(agreement: &Agreement, look: &Look, plan: &Remembered, why: &str) -> Result<(), Failed> {
    let store = &agreement.cluster.store;
    let key = agreement.cluster.keys.adopted();
    let now = Timestamp::now();
    let adopted = Adopted {
        store: store.list(agreement.cluster.keys.prefix()).await?.cluster,
        epoch: plan.epoch + 1,
        by: agreement.by.clone(),
        why: why.to_owned(),
        at: now,
    };
    let before = store.get(&key).await?.map_or(Revision::ABSENT, |it| it.revision);
    let value = serde_json::to_vec(&adopted).map_err(|error| {
        Failed::from(ha_store::StoreError::Malformed {
            key: key.clone(),
            reason: error.to_string(),
        })
    })?;
    let Swap::Done(seen) = store.compare_and_swap(Write::replace(&key, value, before)).await? else {
        return Err(changed("ha quorum adopt"));
    };
    let campaign = Campaign {
        by: agreement.by.clone(),
        reason: Reason::Operator,
        detail: format!("the store was adopted: {why}"),
        automatic: false,
        started_at: now,
        accept_loss: None,
        wanted: None,
        sealed: Default::default(),
        chosen: None,
        op: Some(operation("adopt", &agreement.by)),
    };
    let next = look.term.adopt(plan.clone(), campaign);
    if swap(agreement, look, &next, &[(&key, seen)]).await? {
        Ok(())
    } else {
        Err(changed("ha quorum adopt"))
    }
}
