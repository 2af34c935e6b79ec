use std::time::{Duration, Instant};

use ha_core::{
    agreement::Term,
    model::SyncMode,
    switch::{Excluded, Refusal, WantedVoters, voters_key},
};
use ha_store::{Revision, Swap, Write};
use jiff::Timestamp;
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{
    Completion, Example, Flag, IntoPipelineData, IntoValue, LabeledError, PipelineData, PositionalArg, Signature,
    Spanned, SyntaxShape, Type, Value,
};
use tokio::sync::mpsc;

use super::{
    complete_nodes,
    moving::failed_row,
    pause::{changed, record},
};
use crate::{
    HaPlugin,
    agreement::{Agreement, COLUMNS, Look, Row, Session, swap, until},
    error::Failed,
    nu::{At, Bytes, Count, MILLISECOND, args, channel, label, stream, table, to_the, word},
};

pub(super) struct Db;
pub(super) struct SyncModeCommand;
pub(super) struct Voters;

pub(super) const MODES: &[&str] = &["strict", "degrade", "async"];

/// The leader has to see it, change PostgreSQL and pass the barrier; each takes round trips only.
const IN_FORCE_WITHIN: Duration = Duration::from_secs(30);

impl PluginCommand for Db {
    type Plugin = HaPlugin;

    fn name(&self) -> &str {
        "ha db"
    }

    fn signature(&self) -> Signature {
        args::signature(self.name()).input_output_type(Type::Nothing, Type::String)
    }

    fn description(&self) -> &str {
        "What a commit waits for: mode and voters"
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![Example {
            example: "ha db voters",
            description: "Whose acknowledgement counts",
            result: None,
        }]
    }

    fn run(
        &self,
        _plugin: &HaPlugin,
        engine: &EngineInterface,
        call: &EvaluatedCall,
        _input: PipelineData,
    ) -> Result<PipelineData, LabeledError> {
        Ok(Value::string(engine.get_help()?, call.head).into_pipeline_data())
    }
}

pub(super) fn mode_named(name: Spanned<String>) -> Result<SyncMode, LabeledError> {
    SyncMode::parse(&name.item).ok_or_else(|| {
        let failed = Failed::BadArgument {
            what: format!("mode \"{}\"", name.item),
            why: "there are three".into(),
            help: "one of: strict, degrade, async; ha help db sync-mode says what each promises".into(),
        };
        label(failed, name.span)
    })
}

impl PluginCommand for SyncModeCommand {
    type Plugin = HaPlugin;

    fn name(&self) -> &str {
        "ha db sync-mode"
    }

    fn signature(&self) -> Signature {
        args::signature(self.name())
            .param(
                PositionalArg::new("mode", SyntaxShape::String)
                    .desc("strict, degrade or async; without it, the mode in force")
                    .completion(Completion::new_list(MODES))
                    .optional(),
            )
            .param(args::dry_run())
            .input_output_type(Type::Nothing, Type::table())
    }

    fn description(&self) -> &str {
        "What a commit waits for, and so what a failover can lose"
    }

    fn extra_description(&self) -> &str {
        "strict: a commit returns once another region has it on disk. No acknowledged write is lost with one region, without
any assumption about clocks, and two servers never acknowledge writes at once; writes stop while fewer than two voters live.
degrade: as strict, but after failover.degrade_after_seconds without any voter commits no longer wait, and from then on it
promises what async does; the fallback is published first, an alert and a row, never silent.
async: commits wait for nobody. A failover loses what the new primary had not received (shown before and counted after); two
servers never acknowledge at once if clocks run right and the guard, its deadman or the watchdog gets to run.
In no mode: a transaction whose client lost the connection may be there or not; a session that sets synchronous_commit to off
or local leaves strict mode (ha check looks for roles and databases that do).
Without a mode it is a look. With one, a row per part as it holds: published weaker before, stronger after it is enforced.
workspace.ncl declares what a new cluster begins with; this changes the one that runs."
    }

    fn search_terms(&self) -> Vec<&str> {
        vec!["synchronous", "durability", "replication", "rpo", "commit"]
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "ha db sync-mode",
                description: "The mode in force",
                result: None,
            },
            Example {
                example: "ha db sync-mode async --dry-run",
                description: "What would change",
                result: None,
            },
            Example {
                example: "ha db sync-mode strict",
                description: "Commits wait for another region; returns when they do",
                result: None,
            },
        ]
    }

    fn run(
        &self,
        plugin: &HaPlugin,
        engine: &EngineInterface,
        call: &EvaluatedCall,
        _input: PipelineData,
    ) -> Result<PipelineData, LabeledError> {
        let named: Option<Spanned<String>> = call.opt(0)?;
        let mode = named.map(mode_named).transpose()?;
        let dry_run = call.has_flag("dry-run")?;
        let session = Session::open(plugin, engine, call)?;
        let agreement = session.agreement.clone();
        let look = session.wait(agreement.look())?;
        let Some(mode) = mode.filter(|it| *it != look.term.mode) else {
            let row = in_force(&agreement, &look.term, "unchanged");
            return Ok(table(vec![row], COLUMNS, call.head));
        };
        let step = |status: &str| {
            Row::new("mode", None, status).detail(format!("{} instead of {}", mode.as_str(), look.term.mode.as_str()))
        };
        if dry_run {
            return Ok(table(vec![step("planned"), promise(mode)], COLUMNS, call.head));
        }
        let started = Instant::now();
        session.wait(async {
            let next = look.term.with_mode(mode, &agreement.by, Timestamp::now());
            match swap(&agreement, &look, &next, &[]).await? {
                true => Ok(()),
                false => Err(changed("ha db sync-mode")),
            }
        })?;
        record(&session, "agreement.mode", mode.as_str(), None);
        let first = step("done").took(started.elapsed());
        let (rows, received) = channel();
        let cancel = session.wanted.token();
        session.runtime.spawn(async move {
            let _ = rows.send(first).await;
            let reached = until(
                &agreement,
                IN_FORCE_WITHIN,
                &cancel,
                |look| holds(&look.term),
                |look| waits(&agreement, look),
                &rows,
            )
            .await;
            let row = match reached {
                Ok(look) => in_force(&agreement, &look.term, "done").took(started.elapsed()),
                Err(failed) => failed_row("in_force", None, &failed),
            };
            let _ = rows.send(row).await;
        });
        Ok(stream(received, session.wanted, COLUMNS, call.head))
    }
}

/// Voters and acknowledgements are what the mode demands.
fn holds(term: &Term) -> bool {
    match term.mode {
        SyncMode::Async => term.acks == 0,
        SyncMode::Strict | SyncMode::Degrade => term.acks >= 1 && term.voters.len() > 1,
    }
}

fn waits(agreement: &Agreement, look: &Look) -> Row {
    let leader = &look.term.leader;
    let member = look.members.get(leader);
    let more = member.and_then(|it| it.blocked.clone().or_else(|| it.doing.clone()));
    let what = match look.term.mode {
        SyncMode::Async => "its commits still wait".to_owned(),
        _ => "a replica of this epoch must stream and pass the barrier".to_owned(),
    };
    let what = more.map_or(what.clone(), |it| format!("{what}: {it}"));
    Row::new("in_force", agreement.region_of(leader), "waiting").detail(what)
}

fn in_force(agreement: &Agreement, term: &Term, status: &str) -> Row {
    let others = term.voters.iter().filter(|it| **it != term.leader);
    let others: Vec<&str> = others.map(String::as_str).collect();
    let waits = match term.acks {
        0 => "a commit waits for nobody".to_owned(),
        acks => format!("a commit waits for {acks} of {}", others.join(", ")),
    };
    Row {
        epoch: Some(Count(term.epoch)),
        timeline: Some(term.timeline),
        ..Row::new("in_force", agreement.region_of(&term.leader), status)
            .detail(format!("{}: {waits}", term.mode.as_str()))
    }
}

fn promise(mode: SyncMode) -> Row {
    Row::new("promise", None, "planned").detail(match mode {
        SyncMode::Strict => {
            "no acknowledged write is lost with one region; writes stop while fewer than two voters live"
        }
        SyncMode::Degrade => "as strict, until no voter is left for failover.degrade_after_seconds; then as async",
        SyncMode::Async => "a failover loses what the new primary has not received yet",
    })
}

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
        "The leader keeps the voters by itself: a server that is silent for long is dropped, and one that streams again is
added. --drop is for one that is to be away (wanted is false then, until --add). It is dropped behind a barrier: nothing that
only it has acknowledged can be lost by it. The last two voters cannot be dropped in strict mode."
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
    let (world, wanted) = tokio::join!(agreement.world(), wanted(agreement));
    let ((_, world), (wanted, _)) = (world?, wanted?);
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
            wanted: !wanted.excluded.contains_key(name),
            error: node.report.as_ref().err().cloned(),
        }
    });
    Ok(rows.collect())
}

async fn wanted(agreement: &Agreement) -> Result<(WantedVoters, Revision), Failed> {
    let key = voters_key(&agreement.cluster.keys);
    match agreement.cluster.store.get(&key).await? {
        None => Ok((WantedVoters::default(), Revision::ABSENT)),
        Some(entry) => {
            let read = serde_json::from_slice(&entry.value);
            let read = read.map_err(|error| Failed::io(format!("cannot read {key} in the store"))(error.into()))?;
            Ok((read, entry.revision))
        }
    }
}

async fn write(agreement: &Agreement, wanted: &WantedVoters, seen: Revision) -> Result<(), Failed> {
    let key = voters_key(&agreement.cluster.keys);
    let value = serde_json::to_vec(wanted).map_err(|error| Failed::io("cannot write what is wanted")(error.into()))?;
    match agreement
        .cluster
        .store
        .compare_and_swap(Write::replace(&key, value, seen))
        .await?
    {
        Swap::Done(_) => Ok(()),
        Swap::Changed(_) => Err(changed("ha db voters")),
    }
}

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
        let (wanted, seen) = wanted(&agreement).await?;
        refuse(&agreement, &look.term, &wanted, &name, away)?;
        Ok((look, wanted, seen))
    };
    let found = session.wanted.block_on(session.runtime, work);
    let (look, mut wanted, seen) = found.at(node.span)?;
    let before = wanted.clone();
    let done = wanted.excluded.contains_key(&name) == away && look.term.voters.contains(&name) != away;
    let region = agreement.region_of(&name);
    let (step, what) = if away {
        ("drop", format!("{name} is no voter"))
    } else {
        ("add", format!("{name} may be a voter"))
    };
    if dry_run || done {
        let row = Row::new(step, region, if done { "unchanged" } else { "planned" }).detail(what);
        return Ok(table(vec![row], COLUMNS, head));
    }
    if away {
        let by = agreement.by.clone();
        wanted.excluded.insert(
            name.clone(),
            Excluded {
                by,
                at: Timestamp::now(),
            },
        );
    } else {
        wanted.excluded.remove(&name);
    }
    session.wait(write(&agreement, &wanted, seen))?;
    record(&session, "agreement.voters", step, Some(name.clone()));
    let (rows, received) = channel::<Row>();
    let cancel = session.wanted.token();
    session.runtime.spawn(async move {
        let started = Instant::now();
        let first = Row::new("wanted", region.clone(), "done").detail(what.clone());
        let _ = rows.send(first).await;
        let reached = {
            let holds = |look: &Look| look.term.voters.contains(&name) != away;
            let waits = |look: &Look| {
                let leader = look.members.get(&look.term.leader);
                let more = leader.and_then(|it| it.blocked.clone().or_else(|| it.doing.clone()));
                let why = more.map(|it| format!(": {it}")).unwrap_or_default();
                Row::new(step, region.clone(), "waiting")
                    .detail(format!("{} changes the voters{why}", look.term.leader))
            };
            until(&agreement, IN_FORCE_WITHIN, &cancel, holds, waits, &rows).await
        };
        let row = match reached {
            Ok(_) => Row::new(step, region, "done").took(started.elapsed()).detail(what),
            Err(failed) => {
                take_back(&agreement, &before, &rows).await;
                failed_row(step, region, &failed)
            }
        };
        let _ = rows.send(row).await;
    });
    Ok(stream(received, session.wanted, COLUMNS, head))
}

/// A wish that was not fulfilled must not be fulfilled unseen later.
async fn take_back(agreement: &Agreement, before: &WantedVoters, rows: &mpsc::Sender<Row>) {
    let undone = async {
        let (_, seen) = wanted(agreement).await?;
        write(agreement, before, seen).await
    };
    let row = match undone.await {
        Ok(()) => Row::new("wanted", None, "undone").detail("the wish was taken back"),
        Err(failed) => failed_row("wanted", None, &failed),
    };
    let _ = rows.send(row).await;
}

fn refuse(agreement: &Agreement, term: &Term, wanted: &WantedVoters, name: &str, away: bool) -> Result<(), Failed> {
    if agreement.node(name).is_none_or(|it| !it.data) {
        let known = agreement
            .nodes
            .iter()
            .filter(|it| it.data)
            .map(|it| it.name.clone())
            .collect();
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
    let left = term
        .voters
        .iter()
        .filter(|it| *it != name && !wanted.excluded.contains_key(*it))
        .count();
    if away && term.mode == SyncMode::Strict && left < 2 {
        return Err(Failed::refused(Refusal::new(
            "ha::voters::last",
            format!("without {name} fewer than two voters are left, and in strict mode no commit would return"),
            "add another one first (ha db voters --add), or say what may be lost: ha db sync-mode degrade",
        )));
    }
    Ok(())
}
