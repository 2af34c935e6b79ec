use std::time::Duration;

use ha_core::{agreement::Pause as Paused, switch::Refusal};
use ha_store::Swap;
use jiff::{SignedDuration, Timestamp};
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{Example, Flag, IntoValue, LabeledError, PipelineData, Signature, Spanned, SyntaxShape, Type};

use crate::{
    HaPlugin,
    acts::Act,
    agreement::{Session, swap},
    error::Failed,
    nu::{Count, Time, args, label, table},
};

pub(super) struct Pause;
pub(super) struct Resume;
pub(super) struct Ack;

/// What holds afterwards.
#[derive(Default, IntoValue)]
struct Row {
    status: String,
    by: Option<String>,
    why: Option<String>,
    until: Option<Time>,
    since: Option<Time>,
}

const PRIORITY: &[&str] = &["status", "by", "why", "until"];

impl Row {
    fn new(status: &str, pause: Option<&Paused>) -> Self {
        Self {
            status: status.to_owned(),
            by: pause.map(|it| it.by.clone()),
            why: pause.map(|it| it.why.clone()),
            until: pause.and_then(|it| it.until).map(Time),
            since: pause.map(|it| Time(it.since)),
        }
    }
}

impl PluginCommand for Pause {
    type Plugin = HaPlugin;

    fn name(&self) -> &str {
        "ha pause"
    }

    fn signature(&self) -> Signature {
        args::signature(self.name())
            .param(
                Flag::new("why")
                    .arg(SyntaxShape::String)
                    .desc("the reason, for whoever finds it paused"),
            )
            .param(
                Flag::new("for")
                    .arg(SyntaxShape::Duration)
                    .desc("ends by itself after so long"),
            )
            .param(
                Flag::new("until")
                    .arg(SyntaxShape::DateTime)
                    .desc("ends by itself at this moment"),
            )
            .param(args::dry_run())
            .input_output_type(Type::Nothing, Type::table())
    }

    fn description(&self) -> &str {
        "Let the guards do nothing by themselves: no failover, no restart, until ha resume"
    }

    fn extra_description(&self) -> &str {
        "The primary goes on and keeps its lease, all guards report, and nobody is promoted, also not by ha switchover or
ha failover. In strict mode a primary that is cut off from the store goes on, too: nothing it would acknowledge could be
lost, since a failover needs the pause to be over. In the other modes it still fences itself when its lease runs out.
ha status says that it is paused, by whom and why."
    }

    fn search_terms(&self) -> Vec<&str> {
        vec!["maintenance", "freeze", "hold", "disable failover"]
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "ha pause --why 'changing the switch in nyc3' --for 30min",
                description: "For a maintenance window",
                result: None,
            },
            Example {
                example: "ha pause --why 'until somebody has looked' --dry-run",
                description: "What it would be",
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
        let why: Option<Spanned<String>> = call.get_flag("why")?;
        let why = why.filter(|it| !it.item.trim().is_empty());
        let Some(why) = why else {
            let failed = Failed::BadArgument {
                what: "a pause without a reason".into(),
                why: "whoever finds it paused must know what it waits for".into(),
                help: "ha pause --why 'changing the switch in nyc3' --for 30min".into(),
            };
            return Err(label(failed, call.head));
        };
        let until = until(call)?;
        let dry_run = call.has_flag("dry-run")?;
        let session = Session::open(plugin, engine, call)?;
        let agreement = session.agreement.clone();
        let now = Timestamp::now();
        let pause = Paused {
            by: agreement.by.clone(),
            why: why.item,
            since: now,
            until,
        };
        if dry_run {
            return Ok(table(vec![Row::new("planned", Some(&pause))], PRIORITY, call.head));
        }
        session.wait(async {
            let look = agreement.look().await?;
            match agreement.cluster.set_pause(Some(&pause), look.pause_seen).await? {
                Swap::Done(_) => Ok(()),
                Swap::Changed(_) => Err(changed("ha pause")),
            }
        })?;
        record(&session, "agreement.pause", "paused", Some(pause.why.clone()));
        Ok(table(vec![Row::new("paused", Some(&pause))], PRIORITY, call.head))
    }
}

/// `--for` or `--until`; neither lasts until `ha resume`.
fn until(call: &EvaluatedCall) -> Result<Option<Timestamp>, LabeledError> {
    let lasts: Option<Spanned<Duration>> = call.get_flag("for")?;
    let until: Option<nu_protocol::Value> = call.get_flag("until")?;
    let now = Timestamp::now();
    let bad = |what: &str, why: &str, span| {
        let failed = Failed::BadArgument {
            what: what.to_owned(),
            why: why.to_owned(),
            help: "ha pause --why 'changing the switch in nyc3' --for 30min".into(),
        };
        label(failed, span)
    };
    match (lasts, until) {
        (Some(lasts), Some(_)) => Err(bad("--for beside --until", "one of them is enough", lasts.span)),
        (Some(lasts), None) if lasts.item.is_zero() => {
            Err(bad("a pause of no time", "it would be over already", lasts.span))
        }
        (Some(lasts), None) => Ok(SignedDuration::try_from(lasts.item)
            .ok()
            .and_then(|it| now.checked_add(it).ok())),
        (None, Some(value)) => {
            let span = value.span();
            let at: Option<Timestamp> = value.as_date().ok().and_then(|it| it.to_rfc3339().parse().ok());
            match at {
                Some(at) if at > now => Ok(Some(at)),
                _ => Err(bad("a pause until then", "that moment has passed", span)),
            }
        }
        (None, None) => Ok(None),
    }
}

impl PluginCommand for Resume {
    type Plugin = HaPlugin;

    fn name(&self) -> &str {
        "ha resume"
    }

    fn signature(&self) -> Signature {
        args::signature(self.name())
            .param(args::dry_run())
            .input_output_type(Type::Nothing, Type::table())
    }

    fn description(&self) -> &str {
        "End a pause: the guards act by themselves again"
    }

    fn extra_description(&self) -> &str {
        "What was due meanwhile is done at once: a primary that went away during the pause is replaced as soon as enough
guards say that it is down. ha status shows what they see before you resume."
    }

    fn search_terms(&self) -> Vec<&str> {
        vec!["unpause", "maintenance", "continue"]
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![Example {
            example: "ha resume",
            description: "The maintenance is over",
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
        let dry_run = call.has_flag("dry-run")?;
        let session = Session::open(plugin, engine, call)?;
        let agreement = session.agreement.clone();
        let pause = session.wait(async {
            let look = agreement.look().await?;
            if look.pause.is_some() && !dry_run {
                match agreement.cluster.set_pause(None, look.pause_seen).await? {
                    Swap::Done(_) => {}
                    Swap::Changed(_) => return Err(changed("ha resume")),
                }
            }
            Ok(look.pause)
        })?;
        let status = match (&pause, dry_run) {
            (None, _) => "unchanged",
            (Some(_), true) => "planned",
            (Some(_), false) => "resumed",
        };
        if status == "resumed" {
            record(
                &session,
                "agreement.resume",
                status,
                pause.as_ref().map(|it| it.why.clone()),
            );
        }
        Ok(table(vec![Row::new(status, pause.as_ref())], PRIORITY, call.head))
    }
}

/// What was acknowledged.
#[derive(IntoValue)]
struct Acknowledged {
    status: String,
    failovers: Count,
    last: Option<Time>,
}

impl PluginCommand for Ack {
    type Plugin = HaPlugin;

    fn name(&self) -> &str {
        "ha ack"
    }

    fn signature(&self) -> Signature {
        args::signature(self.name())
            .param(args::dry_run())
            .input_output_type(Type::Nothing, Type::table())
    }

    fn description(&self) -> &str {
        "Say that you have seen the automatic failovers: their cooldown and daily limit begin anew"
    }

    fn extra_description(&self) -> &str {
        "After an automatic failover there is none for failover.cooldown_seconds, doubled for each further one within a day,
and after failover.daily_limit of them none until a person says ha ack. The cooldown counts from when the present primary
took over, so a planned switchover begins it anew. ha status tells when this is why nothing happens."
    }

    fn search_terms(&self) -> Vec<&str> {
        vec!["acknowledge", "flapping", "cooldown", "unblock"]
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![Example {
            example: "ha ack",
            description: "I have looked; go on by yourselves",
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
        let dry_run = call.has_flag("dry-run")?;
        let session = Session::open(plugin, engine, call)?;
        let agreement = session.agreement.clone();
        let automatic = session.wait(async {
            let look = agreement.look().await?;
            let mut next = look.term.clone();
            let automatic = std::mem::take(&mut next.automatic);
            if !automatic.is_empty() && !dry_run {
                next.changed_by.clone_from(&agreement.by);
                next.changed_at = Timestamp::now();
                if !swap(&agreement, &look, &next, &[]).await? {
                    return Err(changed("ha ack"));
                }
            }
            Ok(automatic)
        })?;
        let status = match (automatic.is_empty(), dry_run) {
            (true, _) => "unchanged",
            (false, true) => "planned",
            (false, false) => "acknowledged",
        };
        if status == "acknowledged" {
            record(
                &session,
                "agreement.ack",
                status,
                Some(format!("{} automatic failovers", automatic.len())),
            );
        }
        let row = Acknowledged {
            status: status.to_owned(),
            failovers: automatic.len().into(),
            last: automatic.last().copied().map(Time),
        };
        Ok(table(vec![row], &["status"], call.head))
    }
}

/// Somebody was faster.
pub(super) fn changed(command: &str) -> Failed {
    Failed::refused(Refusal::new(
        "ha::agreement::changed",
        "somebody else changed it in the same moment; nothing was done",
        format!("look at what holds now (ha lease), then try again: {command}"),
    ))
}

pub(super) fn record(session: &Session<'_>, event: &str, status: &str, detail: Option<String>) {
    session.acts.record(Act {
        event: event.to_owned(),
        subject: format!("cluster of {}", session.agreement.workspace.name),
        status: status.to_owned(),
        detail,
        ..Act::default()
    });
}
