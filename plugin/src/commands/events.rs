use std::path::Path;

use ha_core::event::Event;
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{Example, Flag, IntoValue, LabeledError, PipelineData, Signature, SyntaxShape, Type};

use super::complete_regions;
use crate::{
    HaPlugin,
    context::Context,
    error::Failed,
    nu::{At, Time, args, table},
};

pub(super) struct Events;

#[derive(IntoValue)]
struct Row {
    at: Time,
    region: Option<String>,
    source: String,
    event: String,
    subject: String,
    status: String,
    detail: Option<String>,
    error: Option<String>,
    who: Option<String>,
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
                    .desc("only so many, the newest"),
            )
            .input_output_type(Type::Nothing, Type::table())
    }

    fn description(&self) -> &str {
        "List what was done and what changed by itself, oldest first"
    }

    fn extra_description(&self) -> &str {
        "Acts of every shell on this machine, with who typed them, and what guards and supervisors noticed. Files that are
only appended to and safe to delete; nothing is decided by them. Acts are kept after ha destroy."
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
        let last: Option<usize> = call.get_flag("last")?;
        let context = Context::open(plugin, engine, call)?;
        let region = context.region(call)?;
        let provider = context.provider(context.workspace()?).at(call.head)?;
        let mut events = Vec::new();
        for file in provider.event_files() {
            events.extend(read(&file).at(call.head)?);
        }
        events.retain(|it| region.is_none() || it.region == region);
        // Stable: what happened in the same instant stays in the order of its file.
        events.sort_by_key(|it| it.at);
        let skipped = last.map_or(0, |last| events.len().saturating_sub(last));
        let rows = events.into_iter().skip(skipped).map(Row::from).collect();
        Ok(table::<Row>(rows, &["at", "event", "subject", "status"], call.head))
    }
}

impl From<Event> for Row {
    fn from(event: Event) -> Self {
        Self {
            at: Time(event.at),
            region: event.region,
            source: event.source,
            event: event.event,
            subject: event.subject,
            status: event.status,
            detail: event.detail,
            error: event.error,
            who: event.who,
        }
    }
}

/// A line that is no event (the end of a file on a full disk) hides none of the others.
fn read(file: &Path) -> Result<Vec<Event>, Failed> {
    match std::fs::read(file) {
        Ok(bytes) => Ok(bytes
            .split(|byte| *byte == b'\n')
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Failed::io(format!("cannot read {}", file.display()))(error)),
    }
}
