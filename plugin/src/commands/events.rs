mod log;

use std::time::Duration;

use ha_cloud::local::LocalProvider;
use ha_core::event::Event;
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{Example, Flag, IntoValue, LabeledError, PipelineData, Signature, SyntaxShape, Type};

use self::log::{Line, Log};
use super::complete_regions;
use crate::{
    HaPlugin,
    context::Context,
    error::Failed,
    nu::{At, Time, Wanted, args, channel, stream, table},
};

pub(super) struct Events;

/// Between two looks of `--follow`: a line is there when it is written, and nobody is told.
const LOOK_EVERY: Duration = Duration::from_millis(250);

const PRIORITY: &[&str] = &["at", "event", "subject", "status", "error"];

#[derive(IntoValue)]
struct Row {
    at: Option<Time>,
    event: String,
    subject: String,
    status: String,
    region: Option<String>,
    error: Option<String>,
    detail: Option<String>,
    who: Option<String>,
    source: Option<String>,
}

impl PluginCommand for Events {
    type Plugin = HaPlugin;

    fn name(&self) -> &str {
        "ha events"
    }

    fn signature(&self) -> Signature {
        args::signature(self.name())
            .param(args::region())
            .param(
                Flag::new("last")
                    .short('l')
                    .arg(SyntaxShape::Int)
                    .desc("only so many, the newest; with --follow, before what comes"),
            )
            .param(
                Flag::new("follow")
                    .short('f')
                    .desc("go on with what happens from now, until Ctrl-C"),
            )
            .input_output_type(Type::Nothing, Type::table())
    }

    fn description(&self) -> &str {
        "List what was done and what changed by itself, oldest first"
    }

    fn extra_description(&self) -> &str {
        "Acts of every shell on this machine, with who typed them, and what guards and supervisors noticed. Files that are
only appended to and safe to delete; nothing is decided by them. Acts are kept after ha destroy. A line that is no event
is a row with error, wherever --region points."
    }

    fn search_terms(&self) -> Vec<&str> {
        vec!["log", "history", "audit", "journal"]
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "ha events --last 20",
                description: "What happened last",
                result: None,
            },
            Example {
                example: "ha events | where error != null",
                description: "What went wrong",
                result: None,
            },
            Example {
                example: "ha events --follow --last 0 | where source == guard",
                description: "Watch what guards notice",
                result: None,
            },
        ]
    }

    args::complete! { "region" => complete_regions }

    fn run(
        &self,
        plugin: &HaPlugin,
        engine: &EngineInterface,
        call: &EvaluatedCall,
        _input: PipelineData,
    ) -> Result<PipelineData, LabeledError> {
        let head = call.head;
        let last: Option<usize> = call.get_flag("last")?;
        let context = Context::open(plugin, engine, call)?;
        let region = context.region(call)?;
        let provider = context.provider(context.workspace()?).at(head)?;
        let follow = call.has_flag("follow")?;
        let mut look = Look {
            provider,
            region,
            log: Log::default(),
        };
        let mut rows = look.rows(follow).at(head)?;
        let skipped = last.map_or(0, |last| rows.len().saturating_sub(last));
        rows.drain(..skipped);
        if !follow {
            return Ok(table(rows, PRIORITY, head));
        }
        let runtime = plugin.runtime().at(head)?;
        let wanted = Wanted::new(engine, runtime)?;
        let (sender, received) = channel();
        let cancel = wanted.token();
        runtime.spawn(async move {
            let mut next = tokio::time::interval(LOOK_EVERY);
            loop {
                for row in rows {
                    if sender.send(row).await.is_err() {
                        return;
                    }
                }
                tokio::select! {
                    () = cancel.cancelled() => return,
                    _ = next.tick() => {}
                }
                rows = look.rows(true).unwrap_or_else(|failed| {
                    // What comes later may be readable again.
                    eprintln!("ha events: {failed}");
                    Vec::new()
                });
            }
        });
        Ok(stream(received, wanted, PRIORITY, head))
    }
}

struct Look {
    provider: LocalProvider,
    region: Option<String>,
    log: Log,
}

impl Look {
    /// What is new since the last look.
    fn rows(&mut self, growing: bool) -> Result<Vec<Row>, Failed> {
        // Asked each time: regions come and go.
        let lines = self.log.look(&self.provider.event_files(), growing)?;
        let of_region = |line: &Line| match line {
            Line::Event(event) => self.region.is_none() || event.region == self.region,
            Line::Unreadable { .. } => true,
        };
        Ok(lines.into_iter().filter(of_region).map(Row::from).collect())
    }
}

impl From<Line> for Row {
    fn from(line: Line) -> Self {
        match line {
            Line::Event(event) => event.into(),
            Line::Unreadable { file, line, why } => Self {
                at: None,
                event: "events.unreadable".into(),
                subject: format!("{}:{line}", file.display()),
                status: "unreadable".into(),
                region: None,
                error: Some(format!("not an event: {why}")),
                detail: None,
                who: None,
                source: None,
            },
        }
    }
}

impl From<Event> for Row {
    fn from(event: Event) -> Self {
        Self {
            at: Some(Time(event.at)),
            event: event.event,
            subject: event.subject,
            status: event.status,
            region: event.region,
            error: event.error,
            detail: event.detail,
            who: event.who,
            source: Some(event.source),
        }
    }
}
