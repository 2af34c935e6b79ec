use std::time::Instant;

use ha_core::{agreement::Term, model::SyncMode};
use jiff::Timestamp;
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{
    Completion, Example, LabeledError, PipelineData, PositionalArg, Signature, Spanned, SyntaxShape, Type,
};

use super::{
    super::{
        moving::failed_row,
        pause::{changed, record},
    },
    IN_FORCE_WITHIN, steady,
};
use crate::{
    HaPlugin,
    agreement::{Agreement, COLUMNS, Look, Row, Session, swap, until},
    error::Failed,
    nu::{Count, args, channel, label, stream, table},
};

pub(crate) struct SyncModeCommand;

pub(crate) const MODES: &[&str] = &["strict", "degrade", "async"];

pub(crate) fn mode_named(name: Spanned<String>) -> Result<SyncMode, LabeledError> {
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
or local leaves strict mode (the guards look for roles and databases that do, and say so).
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
            steady(&look.term)?;
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
