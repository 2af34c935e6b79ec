use std::time::Duration;

use ha_core::health::HealthRow;
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{Example, Flag, IntoValue, LabeledError, PipelineData, Signature, SyntaxShape, Type};

use super::complete_regions;
use crate::{
    HaPlugin,
    ask::Asker,
    context::Context,
    error::Failed,
    nu::{At, MICROSECOND, Wanted, args, label, table, to_the, word},
};

pub(super) struct Health;

#[derive(IntoValue)]
struct Row {
    region: String,
    check: Option<String>,
    target: String,
    status: Option<String>,
    error: Option<String>,
    latency: Option<Duration>,
}

impl From<HealthRow> for Row {
    fn from(row: HealthRow) -> Self {
        Self {
            region: row.region.to_string(),
            check: word(row.check),
            target: row.target,
            status: word(row.status),
            error: row.error,
            latency: row.latency.map(|it| to_the(MICROSECOND, it)),
        }
    }
}

impl PluginCommand for Health {
    type Plugin = HaPlugin;

    fn name(&self) -> &str {
        "ha health"
    }

    fn signature(&self) -> Signature {
        args::signature(self.name())
            .param(args::region())
            .param(
                Flag::new("timeout").short('t').arg(SyntaxShape::Duration).desc(
                    "of each question; all are asked at once (default: $env.config.plugins.ha.timeout, else 2sec)",
                ),
            )
            .input_output_type(Type::Nothing, Type::table())
    }

    fn description(&self) -> &str {
        "Ask every part of every region whether it works"
    }

    fn extra_description(&self) -> &str {
        "endpoint asks as users do, through the balancer; load_balancer asks the balancer itself, and whether a server behind
it is up; server asks one application server; database runs a statement and asks the guard beside it; store asks a
member whether it reaches a majority of the others. off was switched off on purpose, absent is declared and not there:
neither is asked."
    }

    fn search_terms(&self) -> Vec<&str> {
        vec!["probe", "up", "monitor", "ping"]
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "ha health | where status != ok",
                description: "What does not work",
                result: None,
            },
            Example {
                example: "ha health --region us-east --timeout 500ms",
                description: "One region, and quickly",
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
        let context = Context::open(plugin, engine, call)?;
        let region = context.region(call)?;
        let workspace = context.workspace()?;
        let provider = context.provider(workspace).at(head)?;
        let timeout = call.get_flag("timeout")?.unwrap_or(context.settings.timeout);
        if timeout.is_zero() {
            let failed = Failed::BadArgument {
                what: "a timeout of 0sec".into(),
                why: "nobody answers in no time".into(),
                help: "give them a moment: ha health --timeout 500ms".into(),
            };
            return Err(label(failed, call.get_flag_span("timeout").unwrap_or(head)));
        }
        let runtime = plugin.runtime().at(head)?;
        let wanted = Wanted::new(engine, runtime)?;
        let rows = wanted.block_on(runtime, async {
            let mut world = context.known(workspace, &provider)?;
            if let Some(region) = &region {
                world.keep_region(region);
            }
            let asker = Asker {
                provider: &provider,
                timeout,
            };
            asker.health(&world.things()).await
        });
        let rows = rows.at(head)?.into_iter().map(Row::from).collect::<Vec<_>>();
        Ok(table(rows, &["region", "target", "status", "error"], head))
    }
}
