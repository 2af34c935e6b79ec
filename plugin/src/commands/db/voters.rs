use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use ha_core::{agreement::Term, model::SyncMode, switch::Refusal};
use jiff::Timestamp;
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{Example, Flag, IntoValue, LabeledError, PipelineData, Signature, Spanned, SyntaxShape, Type};
use tokio::sync::mpsc;

use super::{
    super::{
        complete_nodes,
        moving::failed_row,
        pause::{changed, record},
    },
    IN_FORCE_WITHIN, steady,
};
use crate::{
    HaPlugin,
    agreement::{Agreement, COLUMNS, Look, Row, Session, swap, until},
    error::Failed,
    nu::{At, Bytes, MILLISECOND, args, channel, label, stream, table, to_the, word},
};

pub(crate) struct Voters;

/// One row of `ha db voters`.
#[derive(IntoValue)]
struct Voter {
    node: String,
    region: String,
    voter: bool,
    role: Option<String>,
    state: String,
    acknowledged: Option<String>,
    behind: Option<Bytes>,
    silence: Option<Duration>,
    wanted: bool,
    error: Option<String>,
}

impl PluginCommand for Voters {
    type Plugin = HaPlugin;

    fn name(&self) -> &str {
        "ha db voters"
    }

    fn signature(&self) -> Signature {
        args::signature(self.name())
            .param(
                Flag::new("drop")
                    .arg(SyntaxShape::String)
                    .desc("this server's acknowledgement counts no longer, until --add"),
            )
            .param(Flag::new("add").arg(SyntaxShape::String).desc("undo --drop"))
            .param(args::dry_run())
            .input_output_type(Type::Nothing, Type::table())
    }

    fn description(&self) -> &str {
        "Whose acknowledgement a commit waits for, and how far each is"
    }

    fn extra_description(&self) -> &str {
        "The leader keeps the voters by itself: one whose data must be rebuilt is dropped first, and one that streams again is
added. --drop is for one that is to be away (wanted is false then, until --add); it goes on streaming. It is dropped behind a
barrier: nothing that only it has acknowledged can be lost by it. As long as commits wait, one voter beside the primary is
left."
    }

    fn search_terms(&self) -> Vec<&str> {
        vec!["synchronous_standby_names", "acknowledge", "quorum commit", "members"]
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "ha db voters",
                description: "Whose acknowledgement counts",
                result: None,
            },
            Example {
                example: "ha db voters --drop asia-db-1 --dry-run",
                description: "Before its server is away for long",
                result: None,
            },
        ]
    }

    args::complete! { "drop" => complete_nodes, "add" => complete_nodes }

    fn run(
        &self,
        plugin: &HaPlugin,
        engine: &EngineInterface,
        call: &EvaluatedCall,
        _input: PipelineData,
    ) -> Result<PipelineData, LabeledError> {
        let drop: Option<Spanned<String>> = call.get_flag("drop")?;
        let add: Option<Spanned<String>> = call.get_flag("add")?;
        if let (Some(_), Some(add)) = (&drop, &add) {
            let failed = Failed::BadArgument {
                what: "--drop beside --add".into(),
                why: "one change at a time".into(),
                help: "ha db voters --drop asia-db-1".into(),
            };
            return Err(label(failed, add.span));
        }
        let dry_run = call.has_flag("dry-run")?;
        let session = Session::open(plugin, engine, call)?;
        match drop.map(|it| (it, true)).or(add.map(|it| (it, false))) {
            Some((node, away)) => change(session, node, away, dry_run),
            None => {
                let rows = session.wait(voters(&session.agreement))?;
                Ok(table(rows, &["node", "region", "voter", "state", "error"], call.head))
            }
        }
    }
}

async fn voters(agreement: &Agreement) -> Result<Vec<Voter>, Failed> {
    let (_, world) = agreement.world().await?;
    let written = world.written().map(|it| it.lsn);
    let senders = world
        .leader()
        .and_then(|it| Some(&it.report.as_ref().ok()?.database.senders));
    let rows = world.nodes.iter().filter(|(_, it)| it.data).map(|(name, node)| {
        let sender = senders.and_then(|all| {
            let own = ha_core::agent::epoch_stream_name(name, world.term.epoch);
            all.iter().find(|it| it.application_name == own)
        });
        let leader = *name == world.term.leader;
        Voter {
            node: name.clone(),
            region: node.region.clone(),
            voter: world.term.voters.contains(name),
            role: node.role().and_then(word),
            state: match (leader, sender) {
                (true, _) => "leader".to_owned(),
                (false, Some(sender)) => sender.state.clone(),
                (false, None) => "away".to_owned(),
            },
            acknowledged: sender.and_then(|it| it.flushed).map(|it| it.to_string()),
            behind: written
                .zip(sender.and_then(|it| it.flushed))
                .map(|(end, at)| Bytes(end.bytes_since(at))),
            silence: sender.and_then(|it| it.silence).map(|it| to_the(MILLISECOND, it)),
            wanted: !world.term.excluded.contains(name),
            error: node.report.as_ref().err().cloned(),
        }
    });
    Ok(rows.collect())
}

/// Swapped into `term`, which the leader then follows step by step.
fn change(
    session: Session<'_>,
    node: Spanned<String>,
    away: bool,
    dry_run: bool,
) -> Result<PipelineData, LabeledError> {
    let agreement = session.agreement.clone();
    let head = session.head;
    let name = node.item.clone();
    let work = async {
        let look = agreement.look().await?;
        refuse(&agreement, &look.term, &name, away)?;
        Ok(look)
    };
    let look = session.wanted.block_on(session.runtime, work).at(node.span)?;
    let region = agreement.region_of(&name);
    let (step, what) = if away {
        ("drop", format!("{name} is no voter, and streams on"))
    } else {
        ("add", format!("{name} may be a voter"))
    };
    let told = look.term.excluded.contains(&name) == away;
    if dry_run || (told && holds(&look.term, &name, away)) {
        let row = Row::new(step, region, if dry_run { "planned" } else { "unchanged" }).detail(what);
        return Ok(table(vec![row], COLUMNS, head));
    }
    let before = look.term.excluded.clone();
    if !told {
        let mut excluded = before.clone();
        if away {
            excluded.insert(name.clone());
        } else {
            excluded.remove(&name);
        }
        session.wait(exclude(&agreement, &look, excluded))?;
        record(&session, "agreement.voters", step, Some(name.clone()));
    }
    let (rows, received) = channel::<Row>();
    let cancel = session.wanted.token();
    session.runtime.spawn(async move {
        let started = Instant::now();
        let first = Row::new("agree", region.clone(), if told { "joined" } else { "done" });
        let _ = rows.send(first.detail(what.clone())).await;
        let reached = {
            let holds = |look: &Look| holds(&look.term, &name, away);
            let waits = |look: &Look| {
                let leader = look.members.get(&look.term.leader);
                let more = leader.and_then(|it| it.blocked.clone().or_else(|| it.doing.clone()));
                let why = more.map(|it| format!(": {it}")).unwrap_or_default();
                let what = if away {
                    format!("{} changes the voters{why}", look.term.leader)
                } else {
                    format!("{name} is a voter as soon as it streams{why}")
                };
                Row::new(step, region.clone(), "waiting").detail(what)
            };
            until(&agreement, IN_FORCE_WITHIN, &cancel, holds, waits, &rows).await
        };
        let row = match reached {
            Ok(look) => Row::new(step, region, "done")
                .took(started.elapsed())
                .detail(says(&look.term)),
            Err(failed) => {
                // One that is away becomes a voter when it streams again; that may take as long as it takes.
                if away && !told {
                    take_back(&agreement, before, &rows).await;
                }
                failed_row(step, region, &failed)
            }
        };
        let _ = rows.send(row).await;
    });
    Ok(stream(received, session.wanted, COLUMNS, head))
}

/// The leader has done it.
fn holds(term: &Term, name: &str, away: bool) -> bool {
    // Where commits wait for nobody, nobody but the leader votes.
    term.voters.contains(name) != away || (!away && term.mode == SyncMode::Async)
}

fn says(term: &Term) -> String {
    let voters: Vec<&str> = term.voters.iter().map(String::as_str).collect();
    match term.acks {
        0 => format!("voters: {}; a commit waits for nobody", voters.join(", ")),
        acks => format!(
            "voters: {}; a commit waits for {acks} beside {}",
            voters.join(", "),
            term.leader
        ),
    }
}

async fn exclude(agreement: &Agreement, look: &Look, excluded: BTreeSet<String>) -> Result<(), Failed> {
    let next = look.term.with_excluded(excluded, &agreement.by, Timestamp::now());
    match swap(agreement, look, &next, &[]).await? {
        true => Ok(()),
        false => Err(changed("ha db voters")),
    }
}

/// What was not done while somebody watched must not be done unseen later.
async fn take_back(agreement: &Agreement, before: BTreeSet<String>, rows: &mpsc::Sender<Row>) {
    let undone = async {
        let look = agreement.look().await?;
        exclude(agreement, &look, before).await
    };
    let row = match undone.await {
        Ok(()) => Row::new("agree", None, "undone").detail("it was taken back"),
        Err(failed) => failed_row("agree", None, &failed),
    };
    let _ = rows.send(row).await;
}

fn refuse(agreement: &Agreement, term: &Term, name: &str, away: bool) -> Result<(), Failed> {
    if agreement.node(name).is_none_or(|it| !it.data) {
        let known = agreement.nodes.iter().filter(|it| it.data);
        let known = known.map(|it| it.name.clone()).collect();
        let among = format!("the database servers of {}", agreement.workspace.name);
        return Err(Failed::unknown(crate::error::What::Server, name, among, known));
    }
    if away && name == term.leader {
        return Err(Failed::refused(Refusal::new(
            "ha::voters::leader",
            format!("{name} is the primary: what it has counts always"),
            "move the primary first: ha switchover",
        )));
    }
    steady(term)?;
    let left = term
        .voters
        .iter()
        .filter(|it| *it != name && !term.excluded.contains(*it));
    if away && term.acks > 0 && left.count() <= term.acks as usize {
        return Err(Failed::refused(Refusal::new(
            "ha::voters::last",
            format!(
                "without {name} no voter beside {} is left, and no commit would return",
                term.leader
            ),
            "add another one first (ha db voters --add), or say what may be lost: ha db sync-mode async",
        )));
    }
    Ok(())
}
